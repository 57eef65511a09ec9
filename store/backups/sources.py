"""Where a stored blob's bytes can be had from: every file that may hold them, open to be copied.

A blob is at its name, in the archive, in quarantine, or on its way between two of them. So all
places are looked at several times; a file that is missed must change places, by two transactions,
within each round. Cold bytes are decompressed while they are copied.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from store import layout
from store.cold import ColdFile, ColdStore
from store.digest import Digest
from store.durable import Disk, translated
from store.errors import BlobNotFound, StoreError, Unavailable

ROUNDS: Final = 5
"""How often a digest is looked for in all places."""

READ_BYTES: Final = 1 << 20


class Source(Protocol):
    """An open file. Whoever takes it closes it."""

    size_bytes: int

    def copy(self, disk: Disk, target: int, path: str, size_bytes: int, at: int) -> int:
        """Copy up to so many bytes to an open file, at one offset; 0 means that there are none."""
        ...

    def explains(self, error: OSError) -> bool:
        """Whether an error of copying was that of reading this."""
        ...

    def forget_pages(self) -> None: ...

    def close(self) -> None: ...


class PlainSource:
    """A file that holds the bytes as they are."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.size_bytes = os.fstat(descriptor).st_size

    def copy(self, disk: Disk, target: int, path: str, size_bytes: int, at: int) -> int:
        return disk.copy(self._descriptor, target, path, size_bytes, at)

    def explains(self, error: OSError) -> bool:
        if error.errno != errno.EIO:
            return False
        at = 0
        try:
            while piece := os.pread(self._descriptor, READ_BYTES, at):
                at += len(piece)
        except OSError:
            return True
        return False

    def forget_pages(self) -> None:
        forget(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)


class ColdSource:
    """A file of the archive. What cannot be read of it ends it, as damage does."""

    def __init__(self, file: ColdFile) -> None:
        self._file = file
        self.size_bytes = file.size_bytes

    def copy(self, disk: Disk, target: int, path: str, size_bytes: int, at: int) -> int:
        buffer = memoryview(bytearray(min(size_bytes, READ_BYTES, self.size_bytes - at)))
        try:
            got = self._file.read_into(buffer, at)
        except StoreError:
            return 0
        return disk.write(target, path, [buffer[:got]], at) if got else 0

    def explains(self, error: OSError) -> bool:
        return False

    def forget_pages(self) -> None:
        self._file.forget_pages()

    def close(self) -> None:
        self._file.close()


def stored_files(
    root: Path, archive: ColdStore, digest: Digest, generation: int
) -> Iterator[Source]:
    """Open every file that could hold a stored blob's bytes, wherever it is; each file once."""
    seen: set[tuple[int, int]] = set()
    seen_cold: set[int] = set()
    name = f"{root}/{layout.blob_key(digest)}"
    for _ in range(ROUNDS):
        yield from _unseen([name, f"{root}/{layout.quarantine_key(digest, generation)}"], seen)
        yield from _cold_files(archive, digest, seen_cold)
        yield from _unseen(
            [f"{root}/{layout.QUARANTINE}/{one}" for one in _asides(root, digest)], seen
        )


def plain_file(path: str) -> Iterator[Source]:
    """Open one file, if it is there."""
    yield from _unseen([path], set())


def forget(descriptor: int) -> None:
    """Leave the page cache to those who are served; what is not synced stays."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def _asides(root: Path, digest: Digest) -> list[str]:
    with translated("quarantine"):
        return [
            name
            for name in os.listdir(f"{root}/{layout.QUARANTINE}")
            if name.startswith(f"{digest.hex}.")
        ]


def _unseen(paths: list[str], seen: set[tuple[int, int]]) -> Iterator[Source]:
    for path in paths:
        with translated("open"):
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            except FileNotFoundError:
                continue
        found = os.fstat(descriptor)
        if (found.st_dev, found.st_ino) in seen:
            os.close(descriptor)
            continue
        seen.add((found.st_dev, found.st_ino))
        yield PlainSource(descriptor)


def _cold_files(archive: ColdStore, digest: Digest, seen: set[int]) -> Iterator[Source]:
    for info in archive.files_of(digest):
        if info.number not in seen:
            seen.add(info.number)
            with suppress(BlobNotFound, Unavailable):
                yield ColdSource(archive.open(digest, info.number))
