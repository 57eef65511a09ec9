"""What a process remembers of blobs it has read, bounded: small ones whole, others by segment.

Keys hold the generation, so what is remembered of a file is never believed of its successor.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Final

from store.descriptors import Key
from store.digest import Digest
from store.segments import Segments, segment_count

_SMALL_TOTAL_BYTES: Final = 16 << 20
_ENTRY_BYTES: Final = 512
"""What an entry takes besides its bytes; without it half a million tiny ones would fit."""

_KNOWN_TOTAL_BYTES: Final = 16 << 20


class SmallBlobs:
    """Bytes of small blobs, the least lately read ones leaving first."""

    def __init__(self) -> None:
        self._contents: OrderedDict[Key, bytes] = OrderedDict()
        self._bytes = 0

    def get(self, key: Key) -> bytes | None:
        """The bytes if they are here."""
        content = self._contents.get(key)
        if content is not None:
            self._contents.move_to_end(key)
        return content

    def keep(self, key: Key, content: bytes) -> None:
        """Remember bytes that were found good."""
        if key in self._contents:
            return
        self._contents[key] = content
        self._bytes += len(content) + _ENTRY_BYTES
        while self._bytes > _SMALL_TOTAL_BYTES:
            self._bytes -= len(self._contents.popitem(last=False)[1]) + _ENTRY_BYTES

    def forget(self, digest: Digest) -> None:
        """Drop every generation of a blob."""
        for key in [key for key in self._contents if key[0] == digest]:
            self._bytes -= len(self._contents.pop(key)) + _ENTRY_BYTES


class Known:
    """Which segments of one blob were found good, and the digests to find out about the others."""

    __slots__ = ("good", "is_whole", "lock", "missing", "segments", "since")

    def __init__(self, size_bytes: int, *, is_whole: bool, since: int) -> None:
        self.is_whole = is_whole
        self.missing = 0 if is_whole else segment_count(size_bytes)
        self.good = bytearray(0 if is_whole else self.missing)
        self.segments: Segments | None = None
        self.since = since
        self.lock = asyncio.Lock()
        """Held while the segment digests are loaded or rebuilt, so that this happens once."""

    @property
    def cost_bytes(self) -> int:
        return 256 + len(self.good) + (0 if self.segments is None else len(self.segments.digests))

    def mark(self, index: int) -> None:
        if not self.is_whole and not self.good[index]:
            self.good[index] = 1
            self.missing -= 1
            if not self.missing:
                self.is_whole = True
                self.good = bytearray()
                self.segments = None


class KnownBlobs:
    """`Known` by blob, the least lately asked ones leaving first."""

    def __init__(self) -> None:
        self._known: OrderedDict[Key, Known] = OrderedDict()

    def get(self, key: Key, *, after: int) -> Known | None:
        """What is known since a time later than `after`; what is older is dropped."""
        known = self._known.get(key)
        if known is None:
            return None
        if known.since <= after:
            del self._known[key]
            return None
        self._known.move_to_end(key)
        return known

    def keep(self, key: Key, known: Known) -> None:
        """Remember what is known of a blob."""
        self._known[key] = known
        self.fit()

    def fit(self) -> None:
        """Keep within the bound; few entries change size, so count afresh."""
        total = sum(known.cost_bytes for known in self._known.values())
        while total > _KNOWN_TOTAL_BYTES and len(self._known) > 1:
            total -= self._known.popitem(last=False)[1].cost_bytes

    def forget(self, digest: Digest) -> None:
        """Drop every generation of a blob."""
        for key in [key for key in self._known if key[0] == digest]:
            del self._known[key]
