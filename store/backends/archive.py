"""The archive as a directory, inside the data directory or on a disk of its own.

::

    archive.json               whose it is; a directory without it is not the archive
    zstd/ab/cd/<64 hex>.<n>    finished files, in the form of `store.frames`, read-only
    partial/<64 hex>.<n>       files being written

A file is written under ``partial``, synced, read back by whoever asked for it, renamed; then both
directories are synced. Partial files of the dead have rows without a stored size, by which they are
found again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec

from store import layout
from store.cold import ColdInfo, ColdMarker
from store.digest import Digest
from store.durable import Disk, translated
from store.errors import ArchiveUnavailable, BlobNotFound
from store.frames import Frames, Unreadable, frame, head, table

READ_ONLY: Final = 0o444
NO_SIZE: Final = -1


class ColdDirectory:
    """A cold store below one directory, which lies in the data directory `within` or elsewhere."""

    def __init__(self, root: Path, within: Path, disk: Disk | None = None) -> None:
        self.root = str(root)
        self.where = self.root
        self.is_own_place = within in root.parents
        # An unmounted disk leaves its empty mount point, which must not be filled instead.
        self._below = str(within) if self.is_own_place else self.root
        self._disk = disk or Disk()

    def marker(self) -> ColdMarker | None:
        try:
            content = Path(self.root, layout.ARCHIVE_FILE).read_bytes()
            return msgspec.json.decode(content, type=ColdMarker)
        except (OSError, msgspec.DecodeError):
            return None

    def prepare(self, marker: ColdMarker) -> None:
        try:
            with translated("making the archive"):
                for folder in (layout.COLD, layout.PARTIAL):
                    self._disk.make_directory(f"{self.root}/{folder}", below=self._below)
                content = msgspec.json.format(msgspec.json.encode(marker)) + b"\n"
                self._disk.write_file(f"{self.root}/{layout.ARCHIVE_FILE}", content)
        except FileNotFoundError:
            raise ArchiveUnavailable(
                "its directory does not exist; make it, or mount its disk"
            ) from None

    def open(self, digest: Digest, number: int) -> ColdFileOnDisk:
        return ColdFileOnDisk.opened(self._path(digest, number), digest)

    def begin(self, digest: Digest, number: int, size_bytes: int) -> ColdFileBeingWritten:
        partial = f"{self.root}/{layout.partial_key(digest, number)}"
        return ColdFileBeingWritten(self, partial, digest, number, size_bytes)

    def remove(self, digest: Digest, number: int) -> None:
        with translated("removing from the archive"):
            self._disk.unlink_if_there(f"{self.root}/{layout.partial_key(digest, number)}")
            self._disk.remove(self._path(digest, number))

    def files_of(self, digest: Digest) -> list[ColdInfo]:
        shard = os.path.dirname(self._path(digest, 0))
        return [info for info in self._shard(shard) if info.digest == digest]

    def all_files(self) -> Iterator[ColdInfo]:
        top = f"{self.root}/{layout.COLD}"
        for first in _names(top):
            for second in _names(f"{top}/{first}"):
                yield from self._shard(f"{top}/{first}/{second}")

    def free_bytes(self) -> tuple[int, int]:
        with translated("asking for free space"):
            found = os.statvfs(self.root)
        return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize

    def _path(self, digest: Digest, number: int) -> str:
        return f"{self.root}/{layout.cold_key(digest, number)}"

    def _shard(self, folder: str) -> list[ColdInfo]:
        shard = "/".join(folder.rsplit("/", 2)[1:])
        found = []
        for name in _names(folder):
            parsed = layout.parse_cold_name(shard, name)
            if parsed is not None:
                with suppress(FileNotFoundError), translated("listing the archive"):
                    stat = os.stat(f"{folder}/{name}", follow_symlinks=False)
                    found.append(ColdInfo(*parsed, stat.st_size, stat.st_mtime_ns // 1000))
        return sorted(found, key=lambda info: (info.digest, info.number))


class ColdFileOnDisk:
    """An open file; its table is in memory, 8 bytes for each MiB."""

    def __init__(self, descriptor: int, digest: Digest, stored_bytes: int) -> None:
        self.digest = digest
        self.stored_bytes = stored_bytes
        self.size_bytes = NO_SIZE
        self._descriptor = descriptor
        self._frames: Frames | None = None

    @classmethod
    def opened(cls, path: str, digest: Digest) -> ColdFileOnDisk:
        try:
            with translated("opening a file of the archive"):
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            raise BlobNotFound(digest) from None
        try:
            with translated("opening a file of the archive"):
                stored_bytes = os.fstat(descriptor).st_size
        except BaseException:
            os.close(descriptor)
            raise
        file = cls(descriptor, digest, stored_bytes)
        try:
            with suppress(Unreadable), translated("reading the archive"):
                frames = Frames.of(file._read, file.stored_bytes)
                if frames.digest == digest:
                    file._frames, file.size_bytes = frames, frames.size_bytes
        except BaseException:
            file.close()
            raise
        return file

    def read_into(self, view: memoryview, offset: int) -> int:
        if self._frames is None:
            return 0
        try:
            with translated("reading the archive"):
                return self._frames.read_into(self._read, view, offset)
        except Unreadable:
            return 0

    def forget_pages(self) -> None:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_DONTNEED)

    def close(self) -> None:
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)

    def _read(self, offset: int, size_bytes: int) -> bytes:
        return os.pread(self._descriptor, size_bytes, offset)


class ColdFileBeingWritten:
    """A file under ``partial``; made at the first piece."""

    def __init__(
        self, store: ColdDirectory, path: str, digest: Digest, number: int, size_bytes: int
    ) -> None:
        self._store = store
        self._disk = store._disk
        self._path = path
        self._digest = digest
        self._target = store._path(digest, number)
        self._head = head(digest, size_bytes)
        self._sizes: list[tuple[int, int]] = []
        self._end = 0
        self._descriptor: int | None = None

    def append(self, piece: bytes) -> None:
        packed = frame(piece)
        self._write(packed)
        self._sizes.append((len(packed), len(piece)))

    def finish(self) -> int:
        self._write(table(self._sizes))
        assert self._descriptor is not None
        with translated("writing to the archive"):
            os.fchmod(self._descriptor, READ_ONLY)
            self._disk.sync_data(self._descriptor, self._path)
        return self._end

    def reread(self) -> ColdFileOnDisk:
        file = ColdFileOnDisk.opened(self._path, self._digest)
        file.forget_pages()
        return file

    def promote(self) -> None:
        with _writing(self._store.where):
            folder = os.path.dirname(self._target)
            self._disk.make_directory(folder, below=self._store._below)
            self._disk.move(self._path, self._target)
        self._close()

    def discard(self) -> None:
        self._close()
        with translated("removing from the archive"):
            self._disk.unlink_if_there(self._path)

    def _write(self, content: bytes) -> None:
        with _writing(self._store.where):
            if self._descriptor is None:
                self._disk.unlink_if_there(self._path)
                self._descriptor = self._disk.create(self._path)
                self._end = self._disk.write(self._descriptor, self._path, [self._head], 0)
            self._end += self._disk.write(self._descriptor, self._path, [content], self._end)

    def _close(self) -> None:
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)


@contextmanager
def _writing(where: str) -> Iterator[None]:
    """A folder of the archive that is gone means that its disk is."""
    try:
        with translated("writing to the archive"):
            yield
    except FileNotFoundError as error:
        raise ArchiveUnavailable("it went away while it was written to; mount its disk") from error


def _names(path: str) -> list[str]:
    try:
        return sorted(os.listdir(path))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError:
        with translated("listing the archive"):
            raise
