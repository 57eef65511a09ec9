"""Tests of the shared HTTP mechanics."""
