"""Blobs as files in a sharded directory. Moves bytes; knows no rules beyond `store.blobs`.

Locks are advisory locks on the staging file itself, held by an open file description: they vanish
with the process, and only processes of one machine share a data directory.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import secrets
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import aiofiles

from store import layout
from store.backends import walking
from store.backends.shards import Shards
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
from store.errors import (
    BlobNotFound,
    Corrupt,
    OffsetConflict,
    Unavailable,
    UploadLocked,
    UploadNotFound,
)
from store.threads import Threads, hop

LOCK_POLL_SECONDS: Final = 0.005
WRITTEN_BEHIND_BYTES: Final = 32 << 20
"""So much of a large file is written while the rest arrives, and its sync is left little."""

LISTED_AHEAD: Final = 2
"""Shards that are listed while the caller looks at one."""

READ_ONLY: Final = 0o444
REPLACEABLE: Final = 0o644


class LocalBlobStore:
    """A blob store below one existing directory, whose folders lie on one file system."""

    traits = Traits(name="local", survives_restart=True, shared_between_processes=True)

    def __init__(self, root: Path, threads: Threads, disk: Disk | None = None) -> None:
        self.root = str(root)
        self._threads = threads
        self._disk = disk or Disk()
        self.shards = Shards()

    def path_of(self, digest: Digest) -> Path:
        return Path(self._blob(digest))

    async def stat(self, digest: Digest) -> BlobInfo:
        return await hop(self._threads.files, self.stat_blocking, digest)

    def stat_blocking(self, digest: Digest) -> BlobInfo:
        try:
            with translated("stat"):
                found = os.stat(self._blob(digest))
        except FileNotFoundError:
            raise BlobNotFound(digest) from None
        return BlobInfo(digest, found.st_size, found.st_mtime_ns // 1000)

    async def open(
        self, digest: Digest, within: ByteRange | None = None
    ) -> AsyncGenerator[bytes, None]:
        pool = self._threads.reading
        try:
            with translated("open"):
                file = await aiofiles.open(self._blob(digest), "rb", buffering=0, executor=pool)
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
            firsts = await hop(pool, walking.directories, f"{self.root}/{layout.BLOBS}")
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
        return LocalStagedWriter(self, session, is_new=True)

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
            target = self._blob(one.digest)
            # A stranger asks for what is new, too.
            is_asked = stranger is not None or one.known_bytes is not None
            size = _size_of(target) if is_asked else None
            is_there = one.known_bytes is not None and size == one.known_bytes
            placed.append(is_there or one.known_bytes is None)
            if placed[-1] and (stranger is not None or not is_there):
                placings.append((one.writer, one.digest, target, is_there))
        if not placings:
            return placed
        fresh: set[str] = set()
        with translated("promote"), self._disk.watching(self.root) as watch:
            for writer, _, _, _ in placings:
                writer.write_whole_blocking()
            self._disk.sync_everything(watch)
            for writer, digest, target, is_there in placings:
                writer.place_blocking(digest, target, stranger, fresh, is_there=is_there)
            self._disk.sync_everything(watch)
        self._disk.trust_directories(fresh)
        return placed

    async def reopen(self, session: str) -> StagedWriter:
        writer = LocalStagedWriter(self, session, is_new=False)
        await hop(self._threads.files, writer.open_blocking)
        return writer

    async def seize(self, session: str) -> StagedWriter | None:
        writer = LocalStagedWriter(self, session, is_new=False)
        return writer if await hop(self._threads.files, writer.seize_blocking) else None

    async def list_staged(self) -> AsyncIterator[StagedInfo]:
        for info in await hop(self._threads.files, self._list_staged):
            yield info

    async def set_aside(self, digest: Digest, generation: int) -> bool:
        return await hop(self._threads.files, self.set_aside_blocking, digest, generation)

    def set_aside_blocking(self, digest: Digest, generation: int) -> bool:
        with translated("quarantine"):
            try:
                self._disk.move(self._blob(digest), self._aside(digest, generation))
            except FileNotFoundError:
                return False
        return True

    async def put_back(self, digest: Digest, generation: int) -> None:
        await hop(self._threads.files, self._put_back, digest, generation)

    async def secure(self, digest: Digest) -> None:
        def sync() -> None:
            with translated("sync"):
                try:
                    self._disk.make_directory(os.path.dirname(self._blob(digest)), below=self.root)
                    self._disk.sync_file(self._blob(digest))
                except FileNotFoundError:
                    raise BlobNotFound(digest) from None

        await hop(self._threads.sync, sync)

    async def secure_all(self) -> None:
        def sync() -> None:
            with translated("sync"), self._disk.watching(self.root) as watch:
                self._disk.sync_everything(watch)

        await hop(self._threads.sync, sync)

    async def remove(self, digest: Digest) -> None:
        await hop(self._threads.files, self._remove, self._blob(digest))

    async def discard_aside(self, digest: Digest, generation: int) -> None:
        await hop(self._threads.files, self._remove, self._aside(digest, generation))

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
                descriptor = os.open(self._blob(digest), os.O_RDONLY | os.O_CLOEXEC)
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
                return Path(self._segments(digest)).read_bytes()
            return None

        return await hop(self._threads.files, read)

    async def write_segments(self, digest: Digest, content: bytes) -> None:
        def write() -> None:
            path = self._segments(digest)
            # Where a crash leaves it to the sweeper of staging files.
            writer = LocalStagedWriter(self, f"seg_{secrets.token_hex(16)}", is_new=True)
            try:
                writer.append_blocking(0, [content])
                with translated("write segments"):
                    self._disk.make_derived_directory(os.path.dirname(path), below=self.root)
                    writer.replace_blocking(path)
            finally:
                writer.discard_blocking()

        await hop(self._threads.files, write)

    async def discard_segments(self, digest: Digest) -> None:
        def unlink() -> None:
            with translated("remove segments"):
                self._disk.unlink_if_there(self._segments(digest))

        await hop(self._threads.files, unlink)

    async def free_bytes(self) -> tuple[int, int]:
        def ask() -> os.statvfs_result:
            with translated("asking for free space"):
                return os.statvfs(self.root)

        found = await hop(self._threads.files, ask)
        return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize

    async def close(self) -> None:
        """Nothing is held open between calls."""

    # Paths and blocking halves.

    def _blob(self, digest: Digest) -> str:
        return f"{self.root}/{layout.blob_key(digest)}"

    def _segments(self, digest: Digest) -> str:
        return f"{self.root}/{layout.segments_key(digest)}"

    def _aside(self, digest: Digest, generation: int) -> str:
        return f"{self.root}/{layout.quarantine_key(digest, generation)}"

    def _put_back(self, digest: Digest, generation: int) -> None:
        target = self._blob(digest)
        with translated("put back"):
            self._disk.make_directory(os.path.dirname(target), below=self.root)
            source = self._aside(digest, generation)
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
            listing = walking.listed(f"{self.root}/{layout.BLOBS}", first)
        return [
            BlobInfo(Digest(name), size_bytes, modified_at)
            for (name, size_bytes), modified_at in zip(
                walking.parsed(listing.lines), listing.modified, strict=True
            )
        ]

    def _list_staged(self) -> Sequence[StagedInfo]:
        found = []
        for entry in _entries(f"{self.root}/{layout.UPLOADS}"):
            if layout.is_session(entry.name) and entry.is_file(follow_symlinks=False):
                with suppress(FileNotFoundError):
                    stat = entry.stat(follow_symlinks=False)
                    found.append(StagedInfo(entry.name, stat.st_size, stat.st_mtime_ns // 1000))
        return found

    def _list_aside(self) -> Sequence[AsideInfo]:
        found = []
        for entry in _entries(f"{self.root}/{layout.QUARANTINE}"):
            name = layout.parse_aside_name(entry.name)
            if name is not None:
                with suppress(FileNotFoundError):
                    found.append(AsideInfo(*name, entry.stat(follow_symlinks=False).st_size))
        return found


class LocalStagedWriter:
    """A staging file. A new one is locked as long as it is open, a reopened one batch by batch.

    A lock that is held is what tells `seize` that somebody is at work, however old the file is.
    """

    def __init__(self, store: LocalBlobStore, session: str, *, is_new: bool) -> None:
        self.session = session
        self._store = store
        self._disk = store._disk
        self._threads = store._threads
        self._path = f"{store.root}/{layout.upload_key(session)}"
        self._is_new = is_new
        self._is_locked = False
        self._descriptor: int | None = None
        self._likenesses: list[str] = []
        self._end = 0
        self._held: Sequence[bytes] | None = None
        self._is_named = not is_new

    @property
    def size_bytes(self) -> int:
        return self._end

    def open_blocking(self) -> int:
        """The descriptor, opened at first use so that opening costs no thread hop of its own."""
        if self._descriptor is None:
            try:
                with translated("stage"):
                    if self._is_new:
                        self._create_blocking()
                    else:
                        self._descriptor = self._disk.open(self._path)
                        self._end = os.fstat(self._descriptor).st_size
            except FileNotFoundError:
                raise UploadNotFound(self.session) from None
        assert self._descriptor is not None
        return self._descriptor

    def _create_blocking(self) -> None:
        """Make the file and lock it; again, if somebody took it for nobody's in between."""
        while not self._is_locked:
            self.close_blocking()
            self._descriptor = self._disk.create(self._path)
            self._is_named = True
            self._lock_blocking(self._descriptor)
            self._is_locked = os.fstat(self._descriptor).st_nlink > 0

    def seize_blocking(self) -> bool:
        """Lock the file as long as it is open, unless somebody else has; say whether it is so."""
        try:
            descriptor = self.open_blocking()
        except UploadNotFound:
            return False
        try:
            with translated("locking a staging file"):
                # Its blob name may have outlived the one it was opened by.
                self._is_locked = _try_lock(descriptor) and os.path.samestat(
                    os.stat(self._path), os.fstat(descriptor)
                )
        except FileNotFoundError:
            return False
        finally:
            if not self._is_locked:
                self.close_blocking()
        return self._is_locked

    def replace_blocking(self, path: str) -> None:
        """Give the file this name instead of its own, over whatever has it; not durably."""
        os.fchmod(self.open_blocking(), REPLACEABLE)
        self._disk.rename(self._path, path)

    def append_blocking(
        self,
        offset: int,
        pieces: Sequence[bytes | memoryview],
        fence: Callable[[], None] | None = None,
    ) -> int:
        descriptor = self.open_blocking()
        with self._locked(descriptor), translated("append"):
            if fence is not None:
                fence()
            self._end = os.fstat(descriptor).st_size if not self._is_new else self._end
            if self._end != offset:
                raise OffsetConflict(self.session, offset, self._end)
            try:
                self._end += self._disk.write(descriptor, self._path, pieces, offset)
            except OSError:
                self._disk.truncate(descriptor, self._path, offset)
                raise
        begun = offset - offset % WRITTEN_BEHIND_BYTES
        if self._end - begun >= WRITTEN_BEHIND_BYTES:
            self._disk.begin_writing(descriptor, begun, self._end - begun)
        return self._end

    def hold(self, pieces: Sequence[bytes]) -> None:
        self._held = pieces

    def write_held_blocking(self) -> bool:
        held, self._held = self._held, None
        if held is None:
            return False
        self.append_blocking(self.size_bytes, held)
        return True

    async def truncate(self, size_bytes: int, fence: Callable[[], None] | None = None) -> None:
        def cut() -> None:
            descriptor = self.open_blocking()
            with self._locked(descriptor), translated("truncate"):
                if fence is not None:
                    fence()
                if os.fstat(descriptor).st_size > size_bytes:
                    self._disk.truncate(descriptor, self._path, size_bytes)
                    self._disk.sync_data(descriptor, self._path)
                self._end = os.fstat(descriptor).st_size

        await hop(self._threads.sync, cut)

    async def sync(self) -> int:
        return await hop(self._threads.sync, self.sync_blocking)

    def sync_blocking(self) -> int:
        descriptor = self.open_blocking()
        self.write_held_blocking()
        end = self._end
        with translated("sync"):
            self._disk.sync_data(descriptor, self._path)
        return end

    async def sync_locked(self, fence: Callable[[], None]) -> int:
        return await hop(self._threads.sync, self._sync_locked_blocking, fence)

    def _sync_locked_blocking(self, fence: Callable[[], None]) -> int:
        descriptor = self.open_blocking()
        self._lock_blocking(descriptor)
        try:
            fence()
        except BaseException:
            self._unlock_blocking()
            raise
        self._is_locked = True
        end = self.sync_blocking()
        self._unlock_blocking()
        return end

    async def unlock(self) -> None:
        if self._is_locked:
            await hop(self._threads.files, self._unlock_blocking)

    def _unlock_blocking(self) -> None:
        self._is_locked = False
        if self._descriptor is not None:
            with translated("unlocking a staging file"):
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    async def sync_name(self) -> None:
        def sync() -> None:
            self.open_blocking()
            with translated("sync"):
                self._disk.sync_directory(os.path.dirname(self._path))

        await hop(self._threads.sync, sync)

    async def promote(self, digest: Digest, stranger: str | None = None) -> bool:
        return await hop(self._threads.sync, self.promote_blocking, digest, stranger)

    def promote_blocking(self, digest: Digest, stranger: str | None = None) -> bool:
        target = self._store._blob(digest)
        descriptor = self.open_blocking()
        if self.write_held_blocking():
            with translated("sync"):
                self._disk.sync_data(descriptor, self._path)
        # Promoting over a file makes a name that no session has.
        with self._locked(descriptor), translated("promote"):
            os.fchmod(descriptor, READ_ONLY)
            synced = self._disk.make_directory(os.path.dirname(target), below=self._store.root)
            if stranger is not None:
                _size_of(target)  # as `imitate` asks
                self._imitate_names(self._store.shards.enter(stranger, digest) - synced)
            return self._disk.promote(self._path, target)

    async def imitate(self, digest: Digest, size_bytes: int, stranger: str) -> bool:
        return await hop(self._threads.sync, self.imitate_blocking, digest, size_bytes, stranger)

    def imitate_blocking(self, digest: Digest, size_bytes: int, stranger: str) -> bool:
        target = self._store._blob(digest)
        descriptor = self.open_blocking()
        if self.write_held_blocking():
            with translated("sync"):
                self._disk.sync_data(descriptor, self._path)
        with self._locked(descriptor), translated("promote"):
            os.fchmod(descriptor, READ_ONLY)
            if _size_of(target) != size_bytes:
                return False
            # It is durable since a blob of it has a row.
            self._disk.trust_directory(os.path.dirname(target), below=self._store.root)
            self._imitate_names(self._store.shards.enter(stranger, digest) + 1)
        return True

    def write_whole_blocking(self) -> None:
        """Write what is held to a file that is whole then, and closed; without a sync.

        Nobody locks it. It has its staging name for as long as its batch takes, and whoever sweeps
        waits far longer; were it swept all the same, `place_blocking` would fail and nothing else.
        What is held stays until `discard`, so that it can be written and placed again.
        """
        assert self._held is not None, "a batch is of what is held"
        self._is_named = True
        try:
            descriptor = self._disk.create(self._path)
        except FileExistsError:  # written before, and not placed
            self._disk.unlink(self._path)
            descriptor = self._disk.create(self._path)
        try:
            os.fchmod(descriptor, READ_ONLY)
            self._disk.write(descriptor, self._path, self._held, 0)
        finally:
            os.close(descriptor)

    def place_blocking(
        self, digest: Digest, target: str, stranger: str | None, fresh: set[str], *, is_there: bool
    ) -> None:
        """Let a whole file have its blob's name instead of its own, or, where the blob's file is
        there, another that nobody looks at; without a sync.

        `fresh` gathers directories that were made.
        """
        made, root = 0, self._store.root
        if not is_there:
            made = self._disk.make_unsynced_directory(os.path.dirname(target), fresh, below=root)
        if stranger is not None:
            entered = self._store.shards.enter(stranger, digest)
            self._imitate_names(entered - made, sync=False)
        if is_there:
            target = f"{self._path}_like{len(self._likenesses)}"
            self._likenesses.append(target)
        try:
            self._disk.rename(self._path, target)
        except FileNotFoundError:
            raise Unavailable("promoting a file that was swept") from None
        self._is_named = False

    def _imitate_names(self, count: int, *, sync: bool = True) -> None:
        """Make names, and sync their directory for each, without any use but the time it takes."""
        for _ in range(count):
            name = f"{self._path}_like{len(self._likenesses)}"
            self._likenesses.append(name)
            try:
                self._disk.link(self._path, name)
            except FileExistsError:  # of a process that died here
                self._disk.unlink(name)
                self._disk.link(self._path, name)
            if sync:
                self._disk.sync_directory(os.path.dirname(name))

    def read_blocking(self, offset: int, size_bytes: int) -> bytes:
        with translated("read"):
            return os.pread(self.open_blocking(), size_bytes, offset)

    async def discard(self) -> None:
        await hop(self._threads.files, self.discard_blocking)

    def discard_blocking(self) -> None:
        try:
            with translated("discard"):
                for name in [*self._likenesses, self._path] if self._is_named else self._likenesses:
                    self._disk.unlink_if_there(name)
        finally:
            self._held = None
            self.close_blocking()  # whatever stays must be left to be swept

    async def close(self) -> None:
        await hop(self._threads.files, self.close_blocking)

    def close_blocking(self) -> None:
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            self._is_locked = False
            os.close(descriptor)

    @contextmanager
    def _locked(self, descriptor: int) -> Iterator[None]:
        """Hold the file against other writers; they hold it for one batch at a time."""
        if self._is_locked:
            yield
            return
        self._lock_blocking(descriptor)
        try:
            yield
        finally:
            self._unlock_blocking()

    def _lock_blocking(self, descriptor: int) -> None:
        deadline = time.monotonic() + 2.0
        with translated("locking a staging file"):
            while not _try_lock(descriptor):
                if time.monotonic() > deadline:
                    raise UploadLocked(self.session)
                time.sleep(LOCK_POLL_SECONDS)


def prepare(root: Path, disk: Disk) -> None:
    """Make the folders of a local store below an existing directory, durably; blocking."""
    with translated("prepare the data directory"):
        for folder in (layout.BLOBS, layout.SEGMENTS, layout.UPLOADS, layout.QUARANTINE):
            disk.make_directory(f"{root}/{folder}", below=str(root))


def _size_of(path: str) -> int | None:
    """How long a file is; None if it is not there."""
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return None


def _entries(path: str) -> list[os.DirEntry[str]]:
    try:
        with translated("list"), os.scandir(path) as entries:
            return list(entries)
    except FileNotFoundError:
        return []


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise
        return False
    return True
