"""Copies files one by one: verified as they are in the copy, synced, and only then named.

The bytes that count are those of the copy, so it is the copy that is hashed, piece by piece behind
the copying; they are in memory then. Memory stays at one buffer for each thread, whatever a blob's
size. Names are made durable in the end, all at once, by `Copier.sync_names`.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

from blake3 import blake3

from store.backups.sources import Source, forget
from store.digest import Digest
from store.durable import Disk, translated
from store.errors import Unavailable

COPY_BYTES: Final = 8 << 20
HASH_BYTES: Final = 1 << 20
_READ_ONLY: Final = 0o444

Tick = Callable[[int], None]
"""Told of each piece, by any thread; raises to stop the work."""


T = TypeVar("T")
R = TypeVar("R")


def in_threads(
    threads: ThreadPoolExecutor, function: Callable[[T], R], items: Iterable[T]
) -> Iterator[tuple[T, R]]:
    """What a function makes of each item, in their order; the first failure ends it."""
    begun = [(item, threads.submit(function, item)) for item in items]
    try:
        for item, future in begun:
            yield item, future.result()
    finally:
        for _, future in begun:
            future.cancel()


class Copier:
    """Puts files below `root`, by way of the directory `partial` on the same file system."""

    def __init__(self, root: Path, partial: str, disk: Disk, tick: Tick) -> None:
        self._root = str(root)
        self._partial = partial
        self._disk = disk
        self._tick = tick
        # Where a file system does not keep locks, two runs must not write to one file.
        self._token = secrets.token_hex(4)
        self._folders: set[str] = set()
        self._lock = threading.Lock()

    def blob(
        self, sources: Iterator[Source], digest: Digest, size_bytes: int, target: str
    ) -> str | None:
        """Copy the first of `sources` that has the right bytes; say what was wrong.

        None means that the copy has its name.
        """
        problem = "the file is missing"
        for source in sources:
            try:
                found = self._copy(source, digest, size_bytes, target)
            finally:
                source.close()
            if found is None:
                return None
            problem = found
        return problem

    def link(self, source: str, target: str) -> bool:
        """Give a stored file a second name; False if it has gone from its own."""
        with translated("linking"):
            self._disk.make_directory(os.path.dirname(target), below=self._root)
            try:
                self._disk.link(source, target)
            except FileNotFoundError:
                return False
            except FileExistsError:
                self._disk.unlink(target)
                self._disk.link(source, target)
        self.named(target)
        return True

    def segments(self, source: str, own: bytes | None, target: str) -> None:
        """Copy a segments file if there is none and it is the one its row speaks of.

        Where it is not, nothing is lost: they are made anew when they are needed.
        """
        if own is None or is_segments(target, own):
            return
        with suppress(OSError):
            content = Path(source).read_bytes()
            if blake3(content).digest() == own:
                self.small(content, target)

    def small(self, content: bytes, target: str, *, mode: int = 0o644) -> None:
        """Write a small file as a whole, synced."""
        with translated("copying"):
            self._disk.make_directory(os.path.dirname(target), below=self._root)
            fresh = f"{self._partial}/{os.path.basename(target)}.small.{self._token}"
            self._disk.write_file(target, content, fresh=fresh, mode=mode)

    def named(self, target: str) -> None:
        """A file has got this name, now or in a run before, and it must be made durable."""
        with self._lock:
            self._folders.add(os.path.dirname(target))

    def sync_names(self) -> None:
        """Make all names durable."""
        for folder in sorted(self._folders):
            with translated("sync"):
                self._disk.sync_directory(folder)
            self._tick(0)
        self._folders.clear()

    def _copy(self, source: Source, digest: Digest, size_bytes: int, target: str) -> str | None:
        if source.size_bytes != size_bytes:
            return f"the file has {source.size_bytes} bytes instead of {size_bytes}"
        part = f"{self._partial}/{digest.hex}.{self._token}"
        with translated("copying"):
            copy = self._disk.create(part)
            try:
                if self._fill(copy, part, source, size_bytes) != digest:
                    self._disk.unlink(part)
                    return "the bytes do not match"
                os.fchmod(copy, _READ_ONLY)
                self._disk.sync_data(copy, part)
                source.forget_pages()
                forget(copy)
            except OSError as error:
                with suppress(OSError):  # what makes room on a full disk
                    self._disk.unlink(part)
                if source.explains(error):
                    return "the file cannot be read"
                raise
            finally:
                os.close(copy)
            self._disk.make_directory(os.path.dirname(target), below=self._root)
            self._disk.rename(part, target)
        self.named(target)
        return None

    def _fill(self, copy: int, part: str, source: Source, size_bytes: int) -> Digest:
        """Copy and hash what was copied."""
        running = hashlib.sha256()
        buffer = memoryview(bytearray(min(HASH_BYTES, size_bytes)))
        copied = hashed = 0
        while copied < size_bytes:
            wanted = min(COPY_BYTES, size_bytes - copied)
            done = source.copy(self._disk, copy, part, wanted, copied)
            if not done:
                break
            copied += done
            while hashed < copied:
                got = os.preadv(copy, [buffer[: copied - hashed]], hashed)
                if not got:
                    raise Unavailable("reading back what was copied")
                running.update(buffer[:got])
                hashed += got
            self._tick(done)
        return Digest(running.hexdigest())


def hash_file(path: str, tick: Tick) -> Digest:
    """The digest of a file as the disk holds it, not the page cache. Raises `FileNotFoundError`."""
    with translated("reading"):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    running = hashlib.sha256()
    buffer = memoryview(bytearray(HASH_BYTES))
    try:
        forget(descriptor)
        with translated("reading"):
            while got := os.readv(descriptor, [buffer]):
                running.update(buffer[:got])
                tick(got)
        forget(descriptor)
    finally:
        os.close(descriptor)
    return Digest(running.hexdigest())


def is_segments(path: str, own: bytes) -> bool:
    """Whether a file is the segments file that a row speaks of."""
    try:
        return blake3(Path(path).read_bytes()).digest() == own
    except OSError:
        return False


def has_size(path: str, size_bytes: int) -> bool:
    try:
        with translated("stat"):
            return os.lstat(path).st_size == size_bytes
    except FileNotFoundError:
        return False
