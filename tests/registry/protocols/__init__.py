"""Tests of the foreign protocols, one table each."""
