"""Who reads blobs, as far as the index knows readers: `store.index.readable` says what they get."""

from __future__ import annotations

import msgspec


class Reader(msgspec.Struct, frozen=True):
    """Somebody who reads. Every field is a JSON list of words, as it is bound in statements."""

    owners: str
    realms: str
    """Where claims of closed levels are open too."""
    open_levels: str
    closed_levels: str
    """All levels that are not open."""

    def bound(self) -> dict[str, str]:
        """What a statement with `readable` takes."""
        return {
            "reader_owners": self.owners,
            "reader_realms": self.realms,
            "reader_open": self.open_levels,
            "reader_closed": self.closed_levels,
        }
