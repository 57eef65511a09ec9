"""Migrations of the store's tables, one module each in ``versions``, numbered from 0001."""
