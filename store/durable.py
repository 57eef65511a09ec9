"""Filesystem operations that have reached the disk when they return; the only user of fsync.

The happy path of storing a blob, as the kernel sees it::

    openat(uploads/<session>, O_CREAT|O_EXCL)  pwritev ...  fdatasync
    [mkdir ab, fsync parent, mkdir ab/cd, fsync ab]         once per shard and process
    linkat(uploads/<session>, blobs/.../<digest>)           fails if a file is there: then
    linkat(uploads/<session>, uploads/<session>_again) renameat     the new one replaces it
    fsync(blobs/sha256/ab/cd)
    ... the index commits ...
    unlinkat(uploads/<session>)

Many small blobs of one commit are written first and then renamed from their staging names to those
of their blobs, with one ``syncfs`` after each of the two: a name never stands for bytes that a
crash can take, there as here.

**Why the directory is synced after the rename.** The name is data of the directory; without the
sync a crash may bring back the time before the name, with the index already saying otherwise.

**Why parents are synced even when the directory existed.** Another process may have made it a
moment ago and not have synced its parent yet, or have died before. Once per process is enough.

**What a failed sync means.** The kernel drops dirty pages and forgets the error, so reading back or
syncing again proves nothing (Rebello et al., "Can Applications Recover from fsync Failures?",
USENIX ATC 2020). Whatever was being written is thrown away and the caller starts over.

**The hole that remains.** A sync that the drive acknowledges from a volatile cache and loses at a
power cut. No system call tells; scrub finds it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from store.errors import StorageFull, StorageReadOnly, StoreError, TooManyOpenFiles, Unavailable
from store.folders import Folders

IOV_MAX = 1024
COPY_BYTES = 1 << 20

_libc = ctypes.CDLL(None, use_errno=True)


def _release() -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", os.uname().release)[:2]))


_SYNC_FILE_RANGE_WRITE = 2

TELLS_FAILED_WRITES = sys.platform == "linux" and _release() >= (5, 8)
"""Whether ``syncfs`` fails for a write that failed earlier (syncfs(2), "Versions")."""

_CANNOT_COPY = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ETXTBSY)
"""What file systems say that do not copy by themselves, or not to that other one."""

_KINDS: dict[int, type[StoreError]] = {
    errno.EROFS: StorageReadOnly,
    errno.EACCES: StorageReadOnly,
    errno.EPERM: StorageReadOnly,
    errno.EMFILE: TooManyOpenFiles,
    errno.ENFILE: TooManyOpenFiles,
}


@contextmanager
def translated(operation: str) -> Iterator[None]:
    """Turn an `OSError` inside into the store's kind of failure; a missing file passes through."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull from error
        kind = _KINDS.get(error.errno or 0)
        if kind is None:
            raise Unavailable(f"{operation} ({error.strerror})") from error
        raise kind(operation) from error


class Disk:
    """Primitive calls, one method each so that a test can record or refuse them, and their sums.

    Paths are absolute. `relaxed` leaves out every sync: a named choice of the operator, for data
    that can be made again.
    """

    def __init__(self, *, relaxed: bool = False) -> None:
        self._relaxed = relaxed
        self._made = Folders()

    # Primitives.

    def create(self, path: str) -> int:
        """Open a new file for reading and writing; it must not exist."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def open(self, path: str) -> int:
        """Open an existing file for reading and writing, or, if it was promoted, for reading."""
        try:
            return os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except PermissionError:
            # A promoted file is read-only. Its session goes on if nobody recorded the blob: the
            # bytes are hashed again and promoted again, and none is written any more.
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def write(
        self, descriptor: int, path: str, pieces: Sequence[bytes | memoryview], at: int
    ) -> int:
        """Write all `pieces` at an offset; return the number of bytes."""
        total = 0
        pending = list(pieces)
        while pending:
            some, pending = pending[:IOV_MAX], pending[IOV_MAX:]
            wanted = sum(map(len, some))
            done = os.pwritev(descriptor, some, at + total)
            total += done
            if done < wanted:
                pending = _rest(some, done) + pending
        return total

    def copy(self, source: int, target: int, path: str, size_bytes: int, at: int) -> int:
        """Copy up to so many bytes between open files, at one offset; return how many.

        0 means that the source ends. The file system does it where it can, without the bytes
        passing through here.
        """
        if hasattr(os, "copy_file_range"):
            try:
                return os.copy_file_range(source, target, size_bytes, at, at)
            except OSError as error:
                if error.errno not in _CANNOT_COPY:
                    raise
        piece = os.pread(source, min(size_bytes, COPY_BYTES), at)
        return self.write(target, path, [piece], at) if piece else 0

    def truncate(self, descriptor: int, path: str, size_bytes: int) -> None:
        os.ftruncate(descriptor, size_bytes)

    def sync_data(self, descriptor: int, path: str) -> None:
        """Make the content of an open file durable."""
        if not self._relaxed:
            os.fdatasync(descriptor)

    def begin_writing(self, descriptor: int, at: int, size_bytes: int) -> None:
        """Have the kernel begin to write bytes that a sync will want; a hint, and no promise.

        A sync that finds a gigabyte to write keeps the small ones of others waiting behind it.
        """
        if not self._relaxed and hasattr(_libc, "sync_file_range"):
            offsets = ctypes.c_int64(at), ctypes.c_int64(size_bytes)
            _libc.sync_file_range(descriptor, *offsets, _SYNC_FILE_RANGE_WRITE)

    def sync_directory(self, path: str) -> None:
        """Make the names in a directory durable."""
        if self._relaxed:
            return
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    @contextmanager
    def watching(self, path: str) -> Iterator[int]:
        """A descriptor for `sync_everything`, to be opened before anything is written.

        The kernel tells each descriptor once of every write that failed since it was opened. One
        opened afterwards hears nothing of what another sync was told already, and would call lost
        bytes durable.
        """
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def sync_everything(self, watch: int) -> None:
        """Make all content and all names on the file system of `watch` durable, whoever wrote them.

        Beside thousands of files it is one call where each would take four, and on most file
        systems a flush of the drive for each. Where `TELLS_FAILED_WRITES` is false, success does
        not mean that what was written before is there.
        """
        if not self._relaxed:
            _syncfs(watch)

    def link(self, source: str, target: str) -> None:
        """Give a file a second name; raises `FileExistsError`."""
        os.link(source, target)

    def rename(self, source: str, target: str) -> None:
        os.rename(source, target)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def mkdir(self, path: str) -> bool:
        """Make one directory; say whether it was missing."""
        try:
            os.mkdir(path, 0o755)
        except FileExistsError:
            return False
        return True

    # Sums.

    def make_directory(self, path: str, *, below: str) -> int:
        """Make `path` and its parents down from `below`, and sync every parent; say how many.

        Done once per directory and process; `below` must exist.
        """
        if path in self._made or path == below:
            return 0
        parent = os.path.dirname(path)
        synced = self.make_directory(parent, below=below)
        self.mkdir(path)
        self.sync_directory(parent)
        self._made.add(path)
        return synced + 1

    def make_derived_directory(self, path: str, *, below: str) -> None:
        """Make `path` and its parents for files that can be made again: nothing is synced.

        Asked each time, so that the time it takes does not tell what was stored there before.
        """
        if path != below:
            self.make_derived_directory(os.path.dirname(path), below=below)
            self.mkdir(path)

    def trust_directory(self, path: str, *, below: str) -> None:
        """Remember a directory, and its parents down from `below`, as made and durable."""
        while path != below:
            self._made.add(path)
            path = os.path.dirname(path)

    def make_unsynced_directory(self, path: str, fresh: set[str], *, below: str) -> int:
        """Make `path` and its parents, unless known; say how many.

        They are added to `fresh`, for the caller to sync and to trust then.
        """
        if path in fresh or path in self._made or path == below:
            return 0
        made = self.make_unsynced_directory(os.path.dirname(path), fresh, below=below)
        self.mkdir(path)
        fresh.add(path)
        return made + 1

    def trust_directories(self, paths: Iterable[str]) -> None:
        """Remember directories as made and durable."""
        for path in paths:
            self._made.add(path)

    def promote(self, source: str, target: str, *, sync: bool = True) -> bool:
        """Give synced bytes their final name, replacing what is there; say whether that was so.

        The source keeps its name, so the call can be repeated until somebody recorded its success.
        """
        try:
            self.link(source, target)
            replaced = False
        except FileExistsError:
            # Beside the source, where a crash leaves it to the sweeper of staging files.
            fresh = f"{source}_again"
            self.unlink_if_there(fresh)
            self.link(source, fresh)
            # Renaming between two names of one inode does nothing and leaves both.
            self.rename(fresh, target)
            self.unlink_if_there(fresh)
            replaced = True
        if sync:
            self.sync_directory(os.path.dirname(target))
        return replaced

    def move(self, source: str, target: str) -> None:
        """Rename across directories; both are synced."""
        self.rename(source, target)
        self.sync_move(source, target)

    def sync_move(self, source: str, target: str) -> None:
        """Make a rename across directories durable, whoever did it."""
        self.sync_directory(os.path.dirname(target))
        self.sync_directory(os.path.dirname(source))

    def sync_file(self, path: str) -> None:
        """Make a file and its name durable, whoever wrote it."""
        descriptor = self.open(path)
        try:
            self.sync_data(descriptor, path)
        finally:
            os.close(descriptor)
        self.sync_directory(os.path.dirname(path))

    def remove(self, path: str) -> None:
        """Remove a name, durably; nothing to remove is no error."""
        if self.unlink_if_there(path):
            self.sync_directory(os.path.dirname(path))

    def unlink_if_there(self, path: str) -> bool:
        try:
            self.unlink(path)
        except FileNotFoundError:
            return False
        return True

    def write_file(
        self,
        path: str,
        content: bytes,
        *,
        fresh: str | None = None,
        mode: int = 0o644,
    ) -> None:
        """Replace a small file as a whole, durably.

        It is written as `fresh` and renamed. Two writers of one file need two fresh names.
        """
        fresh = fresh or f"{path}.new.{os.getpid()}"
        self.unlink_if_there(fresh)
        descriptor = self.create(fresh)
        try:
            os.fchmod(descriptor, mode)
            self.write(descriptor, fresh, [content], 0)
            self.sync_data(descriptor, fresh)
        finally:
            os.close(descriptor)
        self.rename(fresh, path)
        self.sync_directory(os.path.dirname(path))


def _syncfs(descriptor: int) -> None:
    if not hasattr(_libc, "syncfs"):  # elsewhere than on Linux
        os.sync()
    elif _libc.syncfs(descriptor):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _rest(pieces: Sequence[bytes | memoryview], done: int) -> list[bytes | memoryview]:
    """What a short write left over."""
    rest: list[bytes | memoryview] = []
    for piece in pieces:
        if done >= len(piece):
            done -= len(piece)
        elif done:
            rest.append(memoryview(piece)[done:])
            done = 0
        else:
            rest.append(piece)
    return rest
