"""Wrappers change one behaviour of any blob store."""
