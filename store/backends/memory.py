"""Blobs in a dictionary: one process, gone with it. For tests and demonstrations, same contract."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence

from store import layout
from store.blobs import (
    CHUNK_BYTES,
    AsideInfo,
    BlobInfo,
    ByteRange,
    StagedInfo,
    StagedWriter,
    Traits,
)
from store.clock import Clock, system_clock
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

    async def list(self) -> AsyncIterator[BlobInfo]:
        for digest in sorted(self.blobs):
            if digest in self.blobs:
                yield await self.stat(digest)

    async def stage(self, session: str) -> StagedWriter:
        layout.upload_key(session)
        if session in self.staged:
            raise Unavailable(f"stage {session}")
        self.staged[session] = Staging(self.clock())
        return MemoryStagedWriter(self, session, self.staged[session])

    async def reopen(self, session: str) -> StagedWriter:
        staging = self.staged.get(session)
        if staging is None:
            raise UploadNotFound(session)
        return MemoryStagedWriter(self, session, staging)

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

    async def discard_aside(self, digest: Digest, generation: int) -> None:
        self.aside.pop((digest, generation), None)

    async def list_aside(self) -> AsyncIterator[AsideInfo]:
        for (digest, generation), content in list(self.aside.items()):
            yield AsideInfo(digest, generation, len(content))

    def read_blocking(self, digest: Digest, offset: int, size_bytes: int) -> bytes:
        return self._find(digest)[0][offset : offset + size_bytes]

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


class MemoryStagedWriter:
    """A staging buffer."""

    def __init__(self, store: MemoryBlobStore, session: str, staging: Staging) -> None:
        self.session = session
        self._store = store
        self._staging = staging

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

    async def promote(self, digest: Digest) -> bool:
        replaced = digest in self._store.blobs
        self._store.blobs[digest] = (bytes(self._staging.content), self._store.clock())
        return replaced

    def read_blocking(self, offset: int, size_bytes: int) -> bytes:
        return bytes(self._staging.content[offset : offset + size_bytes])

    async def discard(self) -> None:
        self.discard_blocking()

    def discard_blocking(self) -> None:
        self._store.staged.pop(self.session, None)

    async def close(self) -> None:
        """Nothing is held."""
