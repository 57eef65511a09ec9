"""Values of metrics: finite numbers, and the three that JSON has no numbers for.

A training that diverges logs NaN and infinities, and hiding them would hide that. They travel as
the words ``"NaN"``, ``"Infinity"`` and ``"-Infinity"``, here and nowhere else, and are kept by
those words too, because SQLite keeps NaN as NULL.
"""

from __future__ import annotations

import math
from typing import Final, Literal, TypeAlias, get_args

Special: TypeAlias = Literal["NaN", "Infinity", "-Infinity"]

Number: TypeAlias = float | Special
"""A finite number, or the word for one that is not."""

SPECIALS: Final[tuple[Special, ...]] = get_args(Special)


def columns_of(number: Number) -> tuple[float | None, Special | None]:
    """How a number is kept: a value, or a word; never both."""
    if isinstance(number, str):
        return None, number
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"{value} travels as a word")
    return value, None


def number_of(value: float | None, special: str | None) -> Number:
    """The number that two columns hold."""
    if value is not None:
        return float(value)
    if special not in SPECIALS:
        raise ValueError(f"neither a value nor a word for one: {special!r}")
    return special
