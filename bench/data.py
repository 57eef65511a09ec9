"""Seeded bodies to move: large ones that share one file, and many small ones.

A large body is a shared file but for its last 64 bytes, so any number of different blobs of
1 GiB costs one gibibyte of source and one hash: the running hash of the shared part is copied and
finished with each tail. The shared file is mapped, so sending costs one copy and no read.
Nothing here compresses or repeats within a window that matters.
"""

from __future__ import annotations

import hashlib
import mmap
import random
import struct
from dataclasses import dataclass
from pathlib import Path

TAIL_BYTES = 64
MIB = 1024 * 1024
GIB = 1024 * MIB
_SEED = 20261120


@dataclass(frozen=True)
class Body:
    """All of a file but its end, followed by a tail of its own."""

    path: Path
    shared: memoryview
    tail: bytes
    sha256: str

    @property
    def size_bytes(self) -> int:
        return len(self.shared) + len(self.tail)

    @property
    def digest(self) -> str:
        return f"sha256:{self.sha256}"


@dataclass(frozen=True)
class _Shared:
    path: Path
    content: memoryview
    hasher: hashlib._Hash

    def body(self, serial: int) -> Body:
        tail = _tail(serial)
        whole = self.hasher.copy()
        whole.update(tail)
        return Body(self.path, self.content, tail, whole.hexdigest())


class Data:
    """Makes bodies below `directory` and keeps them for the length of a run."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._shared: dict[int, _Shared] = {}
        self._serial = 0

    def file(self, size_bytes: int) -> Body:
        """The body that is a whole file as it stands, for clients that can only send files."""
        return self._of_size(size_bytes).body(0)

    def fresh(self, size_bytes: int) -> Body:
        """A body of that size that nobody was sent before in this run."""
        self._serial += 1
        return self._of_size(size_bytes).body(self._serial)

    def small_template(self, size_bytes: int) -> str:
        """Printable filler that a counter of 16 digits completes to one small body."""
        rng = random.Random(_SEED)
        return "".join(rng.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=size_bytes - 16))

    def small_digests(self, size_bytes: int, count: int) -> list[str]:
        """SHA-256 of the template completed with each number below `count`."""
        prefix = hashlib.sha256(self.small_template(size_bytes).encode())
        digests = []
        for number in range(count):
            each = prefix.copy()
            each.update(b"%016d" % number)
            digests.append(each.hexdigest())
        return digests

    def _of_size(self, size_bytes: int) -> _Shared:
        if size_bytes <= TAIL_BYTES:
            raise ValueError(f"a large body needs more than {TAIL_BYTES} bytes")
        if size_bytes not in self._shared:
            path = self._directory / f"{size_bytes}.bin"
            self._shared[size_bytes] = _make_shared(path, size_bytes)
        return self._shared[size_bytes]


def _tail(serial: int) -> bytes:
    return b"%0*d" % (TAIL_BYTES, serial)


def _make_shared(path: Path, size_bytes: int) -> _Shared:
    """Write the file and map it, every page at once: faults would be the client's slowness."""
    hasher = _write(path, size_bytes - TAIL_BYTES)
    flags = mmap.MAP_SHARED | mmap.MAP_POPULATE
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), size_bytes, flags=flags, prot=mmap.PROT_READ)
    return _Shared(path, memoryview(mapped)[: size_bytes - TAIL_BYTES], hasher)


def _write(path: Path, shared_bytes: int) -> hashlib._Hash:
    block = bytearray(random.Random(_SEED).randbytes(min(16 * MIB, shared_bytes)))
    hasher = hashlib.sha256()
    written = 0
    with path.open("wb") as file:
        while written < shared_bytes:
            block[:8] = struct.pack("<Q", written)
            piece = memoryview(block)[: shared_bytes - written]
            file.write(piece)
            hasher.update(piece)
            written += len(piece)
        file.write(_tail(0))
    return hasher
