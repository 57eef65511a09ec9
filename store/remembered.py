"""What a process remembers of blobs it has read, bounded: small ones whole, others by segment.

Keys hold the generation, so what is remembered of a file is never believed of its successor. Nobody
tells a process that another one has collected a blob; `Rounds` says whom to ask the index about.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from store.descriptors import Key
from store.digest import Digest
from store.segments import Segments, segment_count

_SMALL_TOTAL_BYTES: Final = 16 << 20
_ENTRY_BYTES: Final = 512
"""What an entry takes besides its bytes; without it half a million tiny ones would fit."""

_CAME: Final = 64

_KNOWN_TOTAL_BYTES: Final = 16 << 20
_KNOWN_ENTRY_BYTES: Final = 640
"""What an entry takes with its key and its place, besides its marks and digests."""


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

    def keys(self) -> list[Key]:
        return list(self._contents)

    def drop(self, key: Key) -> None:
        """Let go of the bytes, if they are here."""
        content = self._contents.pop(key, None)
        if content is not None:
            self._bytes -= len(content) + _ENTRY_BYTES

    def forget(self, digest: Digest) -> None:
        """Drop every generation of a blob."""
        for key in [key for key in self._contents if key[0] == digest]:
            self.drop(key)


class Known:
    """Which segments of one blob were found good, and the digests to find out about the others."""

    __slots__ = ("_lock", "counted_bytes", "good", "is_whole", "missing", "segments", "since")

    def __init__(self, size_bytes: int, *, is_whole: bool, since: int) -> None:
        self.is_whole = is_whole
        self.missing = 0 if is_whole else segment_count(size_bytes)
        self.good = bytearray(0 if is_whole else self.missing)
        self.segments: Segments | None = None
        self.since = since
        self.counted_bytes = 0
        """What `KnownBlobs` counts it for; 0 when it is not there."""
        self._lock: asyncio.Lock | None = None

    @property
    def lock(self) -> asyncio.Lock:
        """Held while the segment digests are loaded or rebuilt, so that this happens once."""
        if self._lock is None:
            self._lock = asyncio.Lock()
        return self._lock

    @property
    def cost_bytes(self) -> int:
        digests = 0 if self.segments is None else len(self.segments.digests)
        return _KNOWN_ENTRY_BYTES + len(self.good) + digests

    def mark(self, index: int) -> None:
        if not self.is_whole and not self.good[index]:
            self.good[index] = 1
            self.missing -= 1
            if not self.missing:
                self.is_whole = True
                self.good = bytearray()
                self.segments = None
                self._lock = None


class KnownBlobs:
    """`Known` by blob, the least lately asked ones leaving first."""

    def __init__(self) -> None:
        self._known: OrderedDict[Key, Known] = OrderedDict()
        self._bytes = 0

    def get(self, key: Key, *, after: int) -> Known | None:
        """What is known since a time later than `after`; what is older is dropped."""
        known = self._known.get(key)
        if known is None:
            return None
        if known.since <= after:
            self.drop(key)
            return None
        self._known.move_to_end(key)
        return known

    def keep(self, key: Key, known: Known) -> None:
        """Remember what is known of a blob."""
        self.drop(key)
        self._known[key] = known
        known.counted_bytes = known.cost_bytes
        self._bytes += known.counted_bytes
        self._fit()

    def resized(self, known: Known) -> None:
        """Count anew what is known of a blob: its digests were loaded, or are needed no more."""
        if known.counted_bytes:
            self._bytes += known.cost_bytes - known.counted_bytes
            known.counted_bytes = known.cost_bytes
            self._fit()

    def keys(self) -> list[Key]:
        return list(self._known)

    def drop(self, key: Key) -> None:
        """Let go of what is known, if anything is."""
        known = self._known.pop(key, None)
        if known is not None:
            self._bytes -= known.counted_bytes
            known.counted_bytes = 0

    def forget(self, digest: Digest) -> None:
        """Drop every generation of a blob."""
        for key in [key for key in self._known if key[0] == digest]:
            self.drop(key)

    def _fit(self) -> None:
        while self._bytes > _KNOWN_TOTAL_BYTES and len(self._known) > 1:
            self.drop(next(iter(self._known)))


class Rounds:
    """Goes round all that is remembered, some of it whenever so much was remembered anew.

    Four are looked at for each that comes, so of all there is at most a third is gone for good.
    """

    def __init__(self, small: SmallBlobs, known: KnownBlobs) -> None:
        self._small = small
        self._known = known
        self._came = 0
        self._left: list[Key] = []

    def came(self) -> list[Key]:
        """Count one more; whom it is time to ask about, nobody most times."""
        self._came += 1
        if self._came % _CAME:
            return []
        if not self._left:
            self._left = [*self._small.keys(), *self._known.keys()]
        asked = self._left[-4 * _CAME :]
        del self._left[-4 * _CAME :]
        return asked

    def drop(self, gone: Iterable[Key]) -> None:
        for key in gone:
            self._small.drop(key)
            self._known.drop(key)
