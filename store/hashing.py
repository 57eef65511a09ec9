"""Hash while streaming: SHA-256, which names the bytes, and segment digests, which verify parts.

Both run in the thread that also writes the batch, or in two of them (`store.buffers`). SHA-256 does
1.1 to 1.7 GiB/s a core where the processor has instructions for it and BLAKE3 4.3 to 5; both
release the interpreter lock for pieces above 2 KiB. The state of a running SHA-256 cannot be saved:
it lives in the worker that has hashed every byte so far, and anyone else hashes the prefix again
with `catch_up`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from store.digest import Digest
from store.segments import SegmentHasher, Segments

CATCH_UP_BYTES = 4 << 20


class RunningHash:
    """Digest and segment digests of bytes that arrive in order."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self._segments = SegmentHasher()
        self.size_bytes = 0
        self._segmented_bytes = 0

    def update(self, pieces: Sequence[bytes | memoryview]) -> None:
        self.update_sha256(pieces)
        self.update_segments(pieces)

    def update_sha256(self, pieces: Sequence[bytes | memoryview]) -> None:
        """One half of `update`; the other may be done at the same time by another thread."""
        for piece in pieces:
            self._sha256.update(piece)
            self.size_bytes += len(piece)

    def update_segments(self, pieces: Sequence[bytes | memoryview]) -> None:
        """The other half."""
        for piece in pieces:
            self._segments.update(piece)
            self._segmented_bytes += len(piece)

    def is_at(self, offset: int) -> bool:
        """Whether it has had the first `offset` bytes, both halves of it, and no more."""
        return self.size_bytes == self._segmented_bytes == offset

    def digest(self) -> Digest:
        return Digest(self._sha256.hexdigest())

    def segments(self) -> Segments:
        return self._segments.finish()

    def catch_up(self, read: Callable[[int, int], bytes], until: int) -> None:
        """Hash what `read(offset, size)` gives from here to `until`; blocking.

        Raises `EOFError` if the bytes end early.
        """
        while self.size_bytes < until:
            piece = read(self.size_bytes, min(CATCH_UP_BYTES, until - self.size_bytes))
            if not piece:
                raise EOFError(f"bytes end at {self.size_bytes}, before {until}")
            self.update([piece])
