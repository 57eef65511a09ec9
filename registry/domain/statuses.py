"""Where a version stands on its way to production and out of it, and which steps are allowed.

::

    registered  -> validated, production, archived, deprecated
    validated   -> registered, production, archived, deprecated
    production  -> validated, archived, deprecated
    deprecated  -> validated, production, archived
    archived    -> registered

``archived`` is a word like the others: it moves no bytes. Staying where one is needs no permission.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias, get_args

Status: TypeAlias = Literal["registered", "validated", "production", "archived", "deprecated"]

STATUSES: Final[tuple[Status, ...]] = get_args(Status)

FIRST: Final[Status] = "registered"
"""What every version starts as; whoever wants it to start elsewhere moves it there."""

_NEXT: Final[Mapping[str, tuple[Status, ...]]] = {
    "registered": ("validated", "production", "archived", "deprecated"),
    "validated": ("registered", "production", "archived", "deprecated"),
    "production": ("validated", "archived", "deprecated"),
    "deprecated": ("validated", "production", "archived"),
    "archived": ("registered",),
}


def allowed_after(status: str) -> tuple[Status, ...]:
    """The statuses that a version may take next."""
    return _NEXT[status]
