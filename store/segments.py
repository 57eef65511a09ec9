"""BLAKE3 digests of a blob's segments of one MiB, so that a part can be verified without the whole.

Segments are hashed independently of each other; this is neither Bao nor the BLAKE3 of the blob.
A blob of at most one segment keeps that one digest in its row.
A larger one has a **segments file**::

    "digestry-segments-1\\n"            20 bytes
    blob size                          8 bytes, big-endian
    segment size                       8 bytes, big-endian
    BLAKE3 of each segment in order    32 bytes each

and its row keeps the BLAKE3 of that file, so a torn or foreign file is never believed.
The file is derived: it is written before the row, not synced, and rebuilt when missing or wrong.
A segment that does not match makes a blob *suspect*; SHA-256 alone convicts.
"""

from __future__ import annotations

from typing import Final

import msgspec
from blake3 import blake3

SEGMENT_BYTES: Final = 1 << 20

_MAGIC: Final = b"digestry-segments-1\n"
_HEADER: Final = len(_MAGIC) + 16


class Segments(msgspec.Struct, frozen=True, gc=False):
    """The segment digests of one blob, 32 bytes each, in order; an empty blob has one."""

    size_bytes: int
    digests: bytes

    @property
    def count(self) -> int:
        return len(self.digests) // 32

    @property
    def needs_file(self) -> bool:
        """Whether the digests do not fit into the row."""
        return self.size_bytes > SEGMENT_BYTES

    @property
    def own(self) -> bytes:
        """The 32 bytes that the blob's row keeps."""
        return blake3(self.encode()).digest() if self.needs_file else self.digests

    def encode(self) -> bytes:
        """The content of the segments file."""
        sizes = self.size_bytes.to_bytes(8, "big") + SEGMENT_BYTES.to_bytes(8, "big")
        return _MAGIC + sizes + self.digests

    def matches(self, index: int, piece: bytes | memoryview) -> bool:
        """Whether `piece` is the whole segment number `index`."""
        return blake3(piece).digest() == self.digests[32 * index : 32 * index + 32]


def own_of(content: bytes) -> bytes:
    """What the row of a blob keeps that is no larger than one segment."""
    return blake3(content).digest()


def segment_count(size_bytes: int) -> int:
    return max(1, -(-size_bytes // SEGMENT_BYTES))


def decode(content: bytes, own: bytes, size_bytes: int) -> Segments | None:
    """Read a segments file; None unless it is whole, of this blob and of our segment size."""
    if blake3(content).digest() != own:
        return None
    segments = Segments(size_bytes, content[_HEADER:])
    whole = segments.encode() == content and segments.count == segment_count(size_bytes)
    return segments if whole else None


def from_row(own: bytes, size_bytes: int) -> Segments | None:
    """The segments of a blob small enough to keep them in its row; None for a larger one."""
    return Segments(size_bytes, own) if size_bytes <= SEGMENT_BYTES else None


class SegmentHasher:
    """Collects segment digests from bytes in order, in pieces of any size."""

    def __init__(self) -> None:
        self._digests = bytearray()
        self._size_bytes = 0
        self._current = blake3()
        self._filled = 0

    def update(self, piece: bytes | memoryview) -> None:
        view = memoryview(piece)
        self._size_bytes += len(view)
        while len(view):
            if self._filled == SEGMENT_BYTES:
                self._close()
            taken = min(SEGMENT_BYTES - self._filled, len(view))
            if taken == SEGMENT_BYTES:
                self._digests += blake3(view[:taken]).digest()
            else:
                self._current.update(view[:taken])
                self._filled += taken
            view = view[taken:]

    def finish(self) -> Segments:
        """The digests of everything so far; more may follow."""
        digests = bytes(self._digests)
        if self._filled or not digests:
            digests += self._current.digest()
        return Segments(self._size_bytes, digests)

    def _close(self) -> None:
        self._digests += self._current.digest()
        self._current = blake3()
        self._filled = 0
