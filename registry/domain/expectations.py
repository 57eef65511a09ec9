"""What a caller believes a row to be that they ask to change: the states they have seen.

Every row that may change counts its changes. A caller who read it can say so (``If-Match``), and is
refused if it changed since; the comparison is made inside the transaction of the change.
"""

from __future__ import annotations

from typing import Final

import msgspec

from registry.errors import PreconditionFailed


class Expected(msgspec.Struct, frozen=True):
    """States that would do, each an id and a number of changes; None where any will."""

    states: frozenset[tuple[str, int]] | None = None

    def require(self, id: str, changes: int) -> None:
        """Raise `PreconditionFailed` unless the row is as expected."""
        if self.states is not None and (id, changes) not in self.states:
            raise PreconditionFailed("If-Match")

    def changes_of(self, id: str) -> int | None:
        """The number of changes expected of one row: None if any will do, 0 if none will."""
        if self.states is None:
            return None
        return max((changes for found, changes in self.states if found == id), default=0)


ANYTHING: Final = Expected()
"""Nothing was said of the state."""
