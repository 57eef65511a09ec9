"""Blobs in a dictionary: one process, gone with it. For tests and demonstrations, same contract."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence

from store import layout
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
from store.clock import Clock, system_clock
from store.cold import ColdInfo, ColdMarker
from store.digest import Digest
from store.errors import BlobNotFound, Corrupt, OffsetConflict, Unavailable, UploadNotFound

UNBOUNDED = 2**63


class MemoryBlobStore:
    """A blob store in memory. `reopen` works within the process."""

    traits = Traits(name="memory", survives_restart=False, shared_between_processes=False)

    def __init__(self, clock: Clock = system_clock) -> None:
        self.clock = clock
        self.blobs: dict[Digest, tuple[bytes, int]] = {}
        self.staged: dict[str, Staging] = {}
        self.aside: dict[tuple[Digest, int], bytes] = {}
        self.segments: dict[Digest, bytes] = {}

    async def stat(self, digest: Digest) -> BlobInfo:
        content, modified_at = self._find(digest)
        return BlobInfo(digest, len(content), modified_at)

    async def open(
        self, digest: Digest, within: ByteRange | None = None
    ) -> AsyncGenerator[bytes, None]:
        content, _ = self._find(digest)
        start, stop = (within.start, within.stop) if within else (0, len(content))
        if stop > len(content):
            raise Corrupt(digest)
        for offset in range(start, stop, CHUNK_BYTES):
            yield content[offset : min(offset + CHUNK_BYTES, stop)]
            await asyncio.sleep(0)

    async def list(self) -> AsyncIterator[Sequence[BlobInfo]]:
        for digest in sorted(self.blobs):
            if digest in self.blobs:
                yield [await self.stat(digest)]

    async def stage(self, session: str) -> StagedWriter:
        layout.upload_key(session)
        if session in self.staged:
            raise Unavailable(f"stage {session}")
        self.staged[session] = Staging(self.clock())
        self.staged[session].is_held = True
        return MemoryStagedWriter(self, session, self.staged[session], is_holder=True)

    async def promote_all(
        self, wanted: Sequence[Promotion], stranger: str | None = None
    ) -> Sequence[bool]:
        placed = []
        for one in wanted:
            found = self.blobs.get(one.digest)
            is_there = found is not None and len(found[0]) == one.known_bytes
            if one.known_bytes is None:
                await one.writer.promote(one.digest, stranger)
            placed.append(is_there or one.known_bytes is None)
        return placed

    async def reopen(self, session: str) -> StagedWriter:
        staging = self.staged.get(session)
        if staging is None:
            raise UploadNotFound(session)
        return MemoryStagedWriter(self, session, staging)

    async def seize(self, session: str) -> StagedWriter | None:
        staging = self.staged.get(session)
        if staging is None or staging.is_held or staging.lock.locked():
            return None
        staging.is_held = True
        return MemoryStagedWriter(self, session, staging, is_holder=True)

    async def list_staged(self) -> AsyncIterator[StagedInfo]:
        for session, staging in list(self.staged.items()):
            yield StagedInfo(session, len(staging.content), staging.modified_at)

    async def set_aside(self, digest: Digest, generation: int) -> bool:
        found = self.blobs.pop(digest, None)
        if found is None:
            return False
        self.aside[digest, generation] = found[0]
        return True

    async def put_back(self, digest: Digest, generation: int) -> None:
        content = self.aside.pop((digest, generation), None)
        if content is not None:
            self.blobs[digest] = (content, self.clock())
        elif digest not in self.blobs:
            raise BlobNotFound(digest)

    async def secure(self, digest: Digest) -> None:
        self._find(digest)

    async def secure_all(self) -> None:
        """Nothing outlives this process."""

    async def remove(self, digest: Digest) -> None:
        self.blobs.pop(digest, None)

    async def discard_aside(self, digest: Digest, generation: int) -> None:
        self.aside.pop((digest, generation), None)

    async def list_aside(self) -> AsyncIterator[AsideInfo]:
        for (digest, generation), content in list(self.aside.items()):
            yield AsideInfo(digest, generation, len(content))

    def read_blocking(self, digest: Digest, offset: int, size_bytes: int) -> bytes:
        return self._find(digest)[0][offset : offset + size_bytes]

    def read_into_blocking(self, digest: Digest, into: memoryview, offset: int) -> int:
        piece = self.read_blocking(digest, offset, len(into))
        into[: len(piece)] = piece
        return len(piece)

    async def read_segments(self, digest: Digest) -> bytes | None:
        return self.segments.get(digest)

    async def write_segments(self, digest: Digest, content: bytes) -> None:
        self.segments[digest] = content

    async def discard_segments(self, digest: Digest) -> None:
        self.segments.pop(digest, None)

    async def free_bytes(self) -> tuple[int, int]:
        return UNBOUNDED, UNBOUNDED

    async def close(self) -> None:
        """Memory is freed with the object."""

    def _find(self, digest: Digest) -> tuple[bytes, int]:
        try:
            return self.blobs[digest]
        except KeyError:
            raise BlobNotFound(digest) from None


class Staging:
    """The bytes of one session and the lock that its writers share."""

    def __init__(self, now: int) -> None:
        self.content = bytearray()
        self.modified_at = now
        self.lock = threading.Lock()
        self.is_held = False
        """Whether somebody began or seized it and has not closed it yet."""


class MemoryStagedWriter:
    """A staging buffer."""

    def __init__(
        self, store: MemoryBlobStore, session: str, staging: Staging, *, is_holder: bool = False
    ) -> None:
        self.session = session
        self._store = store
        self._staging = staging
        self._is_holder = is_holder

    @property
    def size_bytes(self) -> int:
        return len(self._staging.content)

    def append_blocking(
        self,
        offset: int,
        pieces: Sequence[bytes | memoryview],
        fence: Callable[[], None] | None = None,
    ) -> int:
        with self._staging.lock:
            if fence is not None:
                fence()
            if offset != self.size_bytes:
                raise OffsetConflict(self.session, offset, self.size_bytes)
            for piece in pieces:
                self._staging.content += piece
            self._staging.modified_at = self._store.clock()
            return self.size_bytes

    def hold(self, pieces: Sequence[bytes]) -> None:
        self.append_blocking(self.size_bytes, pieces)

    async def truncate(self, size_bytes: int, fence: Callable[[], None] | None = None) -> None:
        def cut() -> None:
            with self._staging.lock:
                if fence is not None:
                    fence()
                del self._staging.content[size_bytes:]

        # A fence may ask the index, which a thread may and the event loop must not wait for.
        await asyncio.to_thread(cut)

    async def sync_name(self) -> None:
        """Nothing outlives this process."""

    async def sync(self) -> int:
        return self.size_bytes

    async def sync_locked(self, fence: Callable[[], None]) -> int:
        await asyncio.to_thread(self.append_blocking, self.size_bytes, [], fence)
        return self.size_bytes

    async def unlock(self) -> None:
        """What cannot fail leaves nothing locked."""

    async def promote(self, digest: Digest, stranger: str | None = None) -> bool:
        replaced = digest in self._store.blobs
        self._store.blobs[digest] = (bytes(self._staging.content), self._store.clock())
        return replaced

    async def imitate(self, digest: Digest, size_bytes: int, stranger: str) -> bool:
        found = self._store.blobs.get(digest)
        return found is not None and len(found[0]) == size_bytes

    def read_blocking(self, offset: int, size_bytes: int) -> bytes:
        return bytes(self._staging.content[offset : offset + size_bytes])

    async def discard(self) -> None:
        self.discard_blocking()

    def discard_blocking(self) -> None:
        self._store.staged.pop(self.session, None)
        self.close_blocking()

    async def close(self) -> None:
        self.close_blocking()

    def close_blocking(self) -> None:
        if self._is_holder:
            self._is_holder = self._staging.is_held = False


class MemoryColdStore:
    """An archive in memory; nothing is compressed."""

    is_own_place = True
    where = "memory"

    def __init__(self) -> None:
        self.files: dict[tuple[Digest, int], bytes] = {}
        self.held: ColdMarker | None = None

    def marker(self) -> ColdMarker | None:
        return self.held

    def prepare(self, marker: ColdMarker) -> None:
        self.held = marker

    def open(self, digest: Digest, number: int) -> MemoryColdFile:
        content = self.files.get((digest, number))
        if content is None or self.held is None:
            raise BlobNotFound(digest)
        return MemoryColdFile(digest, content)

    def begin(self, digest: Digest, number: int, size_bytes: int) -> MemoryColdWriter:
        return MemoryColdWriter(self, digest, number)

    def remove(self, digest: Digest, number: int) -> None:
        self.files.pop((digest, number), None)

    def files_of(self, digest: Digest) -> list[ColdInfo]:
        return [info for info in self.all_files() if info.digest == digest]

    def all_files(self) -> Iterator[ColdInfo]:
        for (digest, number), content in sorted(self.files.items()):
            yield ColdInfo(digest, number, len(content), 0)

    def free_bytes(self) -> tuple[int, int]:
        return UNBOUNDED, UNBOUNDED


class MemoryColdFile:
    """A file of the archive in memory."""

    def __init__(self, digest: Digest, content: bytes) -> None:
        self.digest = digest
        self.size_bytes = self.stored_bytes = len(content)
        self._content = content

    def read_into(self, view: memoryview, offset: int) -> int:
        piece = self._content[offset : offset + len(view)]
        view[: len(piece)] = piece
        return len(piece)

    def forget_pages(self) -> None:
        """There is no disk to read from."""

    def close(self) -> None:
        """Nothing is held."""


class MemoryColdWriter:
    """A file of the archive in memory, on its way."""

    def __init__(self, store: MemoryColdStore, digest: Digest, number: int) -> None:
        self._store = store
        self._key = (digest, number)
        self._content = bytearray()

    def append(self, piece: bytes) -> None:
        self._content += piece

    def finish(self) -> int:
        return len(self._content)

    def reread(self) -> MemoryColdFile:
        return MemoryColdFile(self._key[0], bytes(self._content))

    def promote(self) -> None:
        self._store.files[self._key] = bytes(self._content)

    def discard(self) -> None:
        """Nothing is found before it is promoted."""
