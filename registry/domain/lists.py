"""What all lists share: how far totals are counted, and how a prefix becomes a range."""

from __future__ import annotations

from typing import Final

MOST_COUNTED: Final = 10_000
"""Totals are exact up to here."""

LAST_CHARACTER: Final = "\U0010ffff"
"""Every text that begins with a prefix lies before the prefix with this behind it."""
