"""The staging file of an upload session: bytes before they are a blob.

Locks are advisory locks on the staging file itself, held by an open file description: they vanish
with the process, and only processes of one machine share a data directory.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from store.backends.directory import Directory, size_of
from store.digest import Digest
from store.durable import translated
from store.errors import OffsetConflict, Unavailable, UploadLocked, UploadNotFound
from store.threads import hop

LOCK_SECONDS: Final = 2.0
"""How long a writer waits for another to finish its batch."""

LOCK_POLL_SECONDS: Final = 0.005
WRITTEN_BEHIND_BYTES: Final = 32 << 20
"""So much of a large file is written while the rest arrives, and its sync is left little."""

READ_ONLY: Final = 0o444
REPLACEABLE: Final = 0o644


class LocalStagedWriter:
    """A staging file. A new one is locked as long as it is open, a reopened one batch by batch.

    A lock that is held is what tells `seize` that somebody is at work, however old the file is.
    """

    def __init__(self, directory: Directory, session: str, *, is_new: bool) -> None:
        self.session = session
        self._directory = directory
        self._disk = directory.disk
        self._threads = directory.threads
        self._path = directory.upload(session)
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
        target = self._directory.blob(digest)
        descriptor = self._synced_blocking()
        # Promoting over a file makes a name that no session has.
        with self._locked(descriptor), translated("promote"):
            os.fchmod(descriptor, READ_ONLY)
            synced = self._disk.make_directory(os.path.dirname(target), below=self._directory.root)
            if stranger is not None:
                size_of(target)  # as `imitate` asks
                self._imitate_names(self._directory.shards.enter(stranger, digest) - synced)
            return self._disk.promote(self._path, target)

    def _synced_blocking(self) -> int:
        """The descriptor of a file that is whole and durable: what is held is written and synced.

        All else the caller has synced.
        """
        descriptor = self.open_blocking()
        if self.write_held_blocking():
            with translated("sync"):
                self._disk.sync_data(descriptor, self._path)
        return descriptor

    async def imitate(self, digest: Digest, size_bytes: int, stranger: str) -> bool:
        return await hop(self._threads.sync, self.imitate_blocking, digest, size_bytes, stranger)

    def imitate_blocking(self, digest: Digest, size_bytes: int, stranger: str) -> bool:
        target = self._directory.blob(digest)
        descriptor = self._synced_blocking()
        with self._locked(descriptor), translated("promote"):
            os.fchmod(descriptor, READ_ONLY)
            if size_of(target) != size_bytes:
                return False
            # It is durable since a blob of it has a row.
            self._disk.trust_directory(os.path.dirname(target), below=self._directory.root)
            self._imitate_names(self._directory.shards.enter(stranger, digest) + 1)
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
        made, root = 0, self._directory.root
        if not is_there:
            made = self._disk.make_unsynced_directory(os.path.dirname(target), fresh, below=root)
        if stranger is not None:
            entered = self._directory.shards.enter(stranger, digest)
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
        deadline = time.monotonic() + LOCK_SECONDS
        with translated("locking a staging file"):
            while not _try_lock(descriptor):
                if time.monotonic() > deadline:
                    raise UploadLocked(self.session)
                time.sleep(LOCK_POLL_SECONDS)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise
        return False
    return True
