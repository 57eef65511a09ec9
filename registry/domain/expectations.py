"""What a caller believes a row to be that they ask to change: the states they have seen.

Every row that may change counts its changes. A caller who read it can say so (``If-Match``), and is
refused if it changed since; the comparison is made inside the transaction of the change.

What is said of some rows holds the name of what they belong to, as a version's holds its model's.
Renaming that one changes no row of theirs, however many there are, and yet what is said of them.
Such a row's state is told by a mark of that name too.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final

import msgspec

from registry.errors import PreconditionFailed


class Expected(msgspec.Struct, frozen=True):
    """States that would do: id, number of changes, mark of a name; None where any will."""

    states: frozenset[tuple[str, int, str]] | None = None

    def require(self, id: str, changes: int, *, under: str = "") -> None:
        """Raise `PreconditionFailed` unless the row is as expected, `under` the name it shows."""
        if self.states is not None and (id, changes, mark_of(under)) not in self.states:
            raise PreconditionFailed("If-Match")


def mark_of(name: str) -> str:
    """Tells one name from another; none for no name."""
    return sha256(name.encode()).hexdigest()[:8] if name else ""


ANYTHING: Final = Expected()
"""Nothing was said of the state."""
