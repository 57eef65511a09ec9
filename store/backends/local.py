"""Blobs as files in a sharded directory. Moves bytes; knows no rules beyond `store.blobs`."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import aiofiles

from store import layout
from store.backends import walking
from store.backends.directory import Directory, size_of
from store.backends.shards import Shards
from store.backends.staging import LocalStagedWriter
from store.blobs import (
    CHUNK_BYTES,
    AsideInfo,
    BlobInfo,
    ByteRange,
    Promotion,
    StagedInfo,
    StagedWriter,
    Traits,
)
from store.digest import Digest
from store.durable import TELLS_FAILED_WRITES, Disk, translated
from store.errors import BlobNotFound, Corrupt
from store.threads import Threads, hop

LISTED_AHEAD: Final = 2
"""Shards that are listed while the caller looks at one."""


class LocalBlobStore:
    """A blob store below one existing directory, whose folders lie on one file system."""

    traits = Traits(name="local", survives_restart=True, shared_between_processes=True)

    def __init__(self, root: Path, threads: Threads, disk: Disk | None = None) -> None:
        self._directory = Directory(str(root), disk or Disk(), threads, Shards())
        self._root, self._disk, self._threads = str(root), self._directory.disk, threads

    def path_of(self, digest: Digest) -> Path:
        return Path(self._directory.blob(digest))

    async def stat(self, digest: Digest) -> BlobInfo:
        return await hop(self._threads.files, self.stat_blocking, digest)

    def stat_blocking(self, digest: Digest) -> BlobInfo:
        try:
            with translated("stat"):
                found = os.stat(self._directory.blob(digest))
        except FileNotFoundError:
            raise BlobNotFound(digest) from None
        return BlobInfo(digest, found.st_size, found.st_mtime_ns // 1000)

    async def open(
        self, digest: Digest, within: ByteRange | None = None
    ) -> AsyncGenerator[bytes, None]:
        pool = self._threads.reading
        try:
            with translated("open"):
                path = self._directory.blob(digest)
                file = await aiofiles.open(path, "rb", buffering=0, executor=pool)
        except FileNotFoundError:
            raise BlobNotFound(digest) from None
        try:
            start = within.start if within else 0
            left = within.size_bytes if within else os.fstat(file.fileno()).st_size
            await file.seek(start)
            while left:
                with translated("read"):
                    piece = await file.read(min(CHUNK_BYTES, left))
                if not piece:
                    raise Corrupt(digest)
                left -= len(piece)
                yield piece
        finally:
            await file.close()

    async def list(self) -> AsyncIterator[Sequence[BlobInfo]]:
        pool = self._threads.files
        with translated("list"):
            firsts = await hop(pool, walking.directories, f"{self._root}/{layout.BLOBS}")
        waiting = deque(firsts)
        coming: deque[asyncio.Task[Sequence[BlobInfo]]] = deque()
        try:
            while waiting or coming:
                while waiting and len(coming) < LISTED_AHEAD:
                    listing = hop(pool, self._list_shards, waiting.popleft())
                    coming.append(asyncio.create_task(listing))
                if found := await coming.popleft():
                    yield found
        finally:
            for task in coming:
                task.cancel()
            await asyncio.gather(*coming, return_exceptions=True)

    async def stage(self, session: str) -> StagedWriter:
        return LocalStagedWriter(self._directory, session, is_new=True)

    async def promote_all(
        self, wanted: Sequence[Promotion], stranger: str | None = None
    ) -> Sequence[bool]:
        return await hop(self._threads.sync, self.promote_all_blocking, wanted, stranger)

    def promote_all_blocking(
        self, wanted: Sequence[Promotion], stranger: str | None = None
    ) -> Sequence[bool]:
        """Bytes before names, and one sync for all bytes and one for all names."""
        if not TELLS_FAILED_WRITES:
            return [False] * len(wanted)
        placed, placings = [], []
        for one in wanted:
            assert isinstance(one.writer, LocalStagedWriter)
            target = self._directory.blob(one.digest)
            # A stranger asks for what is new, too.
            is_asked = stranger is not None or one.known_bytes is not None
            size = size_of(target) if is_asked else None
            is_there = one.known_bytes is not None and size == one.known_bytes
            placed.append(is_there or one.known_bytes is None)
            if placed[-1] and (stranger is not None or not is_there):
                placings.append((one.writer, one.digest, target, is_there))
        if not placings:
            return placed
        fresh: set[str] = set()
        with translated("promote"), self._disk.watching(self._root) as watch:
            for writer, _, _, _ in placings:
                writer.write_whole_blocking()
            self._disk.sync_everything(watch)
            for writer, digest, target, is_there in placings:
                writer.place_blocking(digest, target, stranger, fresh, is_there=is_there)
            self._disk.sync_everything(watch)
        self._disk.trust_directories(fresh)
        return placed

    async def reopen(self, session: str) -> StagedWriter:
        writer = LocalStagedWriter(self._directory, session, is_new=False)
        await hop(self._threads.files, writer.open_blocking)
        return writer

    async def seize(self, session: str) -> StagedWriter | None:
        writer = LocalStagedWriter(self._directory, session, is_new=False)
        return writer if await hop(self._threads.files, writer.seize_blocking) else None

    async def list_staged(self) -> AsyncIterator[StagedInfo]:
        for info in await hop(self._threads.files, self._list_staged):
            yield info

    async def set_aside(self, digest: Digest, generation: int) -> bool:
        return await hop(self._threads.files, self.set_aside_blocking, digest, generation)

    def set_aside_blocking(self, digest: Digest, generation: int) -> bool:
        aside = self._directory.aside(digest, generation)
        with translated("quarantine"):
            try:
                self._disk.move(self._directory.blob(digest), aside)
            except FileNotFoundError:
                return False
        return True

    async def put_back(self, digest: Digest, generation: int) -> None:
        await hop(self._threads.files, self._put_back, digest, generation)

    async def secure(self, digest: Digest) -> None:
        def sync() -> None:
            path = self._directory.blob(digest)
            with translated("sync"):
                try:
                    self._disk.make_directory(os.path.dirname(path), below=self._root)
                    self._disk.sync_file(path)
                except FileNotFoundError:
                    raise BlobNotFound(digest) from None

        await hop(self._threads.sync, sync)

    async def secure_all(self) -> None:
        def sync() -> None:
            with translated("sync"), self._disk.watching(self._root) as watch:
                self._disk.sync_everything(watch)

        await hop(self._threads.sync, sync)

    async def remove(self, digest: Digest) -> None:
        await hop(self._threads.files, self._remove, self._directory.blob(digest))

    async def discard_aside(self, digest: Digest, generation: int) -> None:
        await hop(self._threads.files, self._remove, self._directory.aside(digest, generation))

    async def list_aside(self) -> AsyncIterator[AsideInfo]:
        for info in await hop(self._threads.files, self._list_aside):
            yield info

    def read_blocking(self, digest: Digest, offset: int, size_bytes: int) -> bytes:
        with self._opened(digest) as descriptor:
            return os.pread(descriptor, size_bytes, offset)

    def read_into_blocking(self, digest: Digest, into: memoryview, offset: int) -> int:
        with self._opened(digest) as descriptor:
            return os.preadv(descriptor, [into], offset)

    @contextmanager
    def _opened(self, digest: Digest) -> Iterator[int]:
        try:
            with translated("read"):
                descriptor = os.open(self._directory.blob(digest), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise BlobNotFound(digest) from None
        try:
            with translated("read"):
                yield descriptor
        finally:
            os.close(descriptor)

    async def read_segments(self, digest: Digest) -> bytes | None:
        def read() -> bytes | None:
            with suppress(FileNotFoundError), translated("read segments"):
                return Path(self._directory.segments(digest)).read_bytes()
            return None

        return await hop(self._threads.files, read)

    async def write_segments(self, digest: Digest, content: bytes) -> None:
        def write() -> None:
            path = self._directory.segments(digest)
            # Where a crash leaves it to the sweeper of staging files.
            writer = LocalStagedWriter(self._directory, f"seg_{secrets.token_hex(16)}", is_new=True)
            try:
                writer.append_blocking(0, [content])
                with translated("write segments"):
                    self._disk.make_derived_directory(os.path.dirname(path), below=self._root)
                    writer.replace_blocking(path)
            finally:
                writer.discard_blocking()

        await hop(self._threads.files, write)

    async def discard_segments(self, digest: Digest) -> None:
        def unlink() -> None:
            with translated("remove segments"):
                self._disk.unlink_if_there(self._directory.segments(digest))

        await hop(self._threads.files, unlink)

    async def free_bytes(self) -> tuple[int, int]:
        def ask() -> os.statvfs_result:
            with translated("asking for free space"):
                return os.statvfs(self._root)

        found = await hop(self._threads.files, ask)
        return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize

    async def close(self) -> None:
        """Nothing is held open between calls."""

    # Blocking halves.

    def _put_back(self, digest: Digest, generation: int) -> None:
        target = self._directory.blob(digest)
        with translated("put back"):
            self._disk.make_directory(os.path.dirname(target), below=self._root)
            source = self._directory.aside(digest, generation)
            try:
                self._disk.move(source, target)
            except FileNotFoundError:
                self.stat_blocking(digest)
                # Somebody moved it before, and may have died before the syncs.
                self._disk.sync_move(source, target)

    def _remove(self, path: str) -> None:
        with translated("remove"):
            self._disk.remove(path)

    def _list_shards(self, first: str) -> Sequence[BlobInfo]:
        with translated("list"):
            listing = walking.listed(f"{self._root}/{layout.BLOBS}", first)
        return [
            BlobInfo(Digest(name), size_bytes, modified_at)
            for (name, size_bytes), modified_at in zip(
                walking.parsed(listing.lines), listing.modified, strict=True
            )
        ]

    def _list_staged(self) -> Sequence[StagedInfo]:
        found = []
        for entry in _entries(f"{self._root}/{layout.UPLOADS}"):
            if layout.is_session(entry.name) and entry.is_file(follow_symlinks=False):
                with suppress(FileNotFoundError):
                    stat = entry.stat(follow_symlinks=False)
                    found.append(StagedInfo(entry.name, stat.st_size, stat.st_mtime_ns // 1000))
        return found

    def _list_aside(self) -> Sequence[AsideInfo]:
        found = []
        for entry in _entries(f"{self._root}/{layout.QUARANTINE}"):
            name = layout.parse_aside_name(entry.name)
            if name is not None:
                with suppress(FileNotFoundError):
                    found.append(AsideInfo(*name, entry.stat(follow_symlinks=False).st_size))
        return found


def _entries(path: str) -> list[os.DirEntry[str]]:
    try:
        with translated("list"), os.scandir(path) as entries:
            return list(entries)
    except FileNotFoundError:
        return []
