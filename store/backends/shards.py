"""Which shards strangers have written to, so that making one tells nobody who else has.

The first file of a shard makes its directory, and syncs its parent. That a process has made it
before says that somebody stored a blob of that shard, which in a store of a few thousand blobs
nearly names it. So each stranger pays for each shard once, whoever made it.

Memory is bounded: whose marks were forgotten pays again.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from store.digest import Digest

SHARDS: Final = 1 << 16
STRANGERS_KEPT: Final = 256
"""8 KiB each."""


class Shards:
    """A bit for each shard and stranger; threads may use it beside each other."""

    def __init__(self) -> None:
        self._marks: OrderedDict[str, bytearray] = OrderedDict()

    def enter(self, stranger: str, digest: Digest) -> int:
        """Mark a digest's shard; say how many of its two directories are new to the stranger."""
        marks = self._marks.setdefault(stranger, bytearray(SHARDS // 8))
        while len(self._marks) > STRANGERS_KEPT:
            self._marks.popitem(last=False)
        first, second = digest.raw[0], digest.raw[1]
        row = first * 32
        is_first = not any(marks[row : row + 32])
        bit = 1 << (second & 7)
        is_second = not marks[row + (second >> 3)] & bit
        marks[row + (second >> 3)] |= bit
        return is_first + is_second
