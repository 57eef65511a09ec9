"""Servers of these tests are on the disk that everybody has."""

from tests.support.folders import tmp_path

__all__ = ["tmp_path"]
