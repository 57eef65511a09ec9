"""From a body to a staging file: batches of about 1 MiB, written and hashed off the event loop.

Two ways lead there. The loop gathers pieces into a batch and hands it to threads, which write and
hash it while the loop reads the next. Or, where the source can be read by a thread, one thread
reads the socket and writes while a second one hashes, and the loop sees none of it.

The bytes are staged, not yet a blob: `store.ingest` and `store.uploads` decide about them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterable, Callable, Sequence
from concurrent.futures import Future
from typing import Final, Protocol, TypeAlias, runtime_checkable

import msgspec

from store.blobs import BlobStore
from store.buffers import Buffers
from store.errors import SizeMismatch, StorageFull
from store.hashing import RunningHash
from store.threads import Threads, settled

Source: TypeAlias = AsyncIterable[bytes]
"""Pieces of a body in order, of any size. It raises to abort; nothing stays behind then."""


class BlockingReader(Protocol):
    """The rest of a body, read in a worker thread; made, asked and closed on the event loop."""

    is_fast: bool
    """Whether it is worth the thread that reads it."""

    @property
    def left(self) -> int:
        """How many bytes are still to come, at least."""
        ...

    @property
    def is_done(self) -> bool:
        """Whether none is."""
        ...

    def read_blocking(self, into: memoryview) -> Sequence[memoryview]:
        """The next bytes, as parts of `into`; none if nothing came in time. Raises to abort."""
        ...

    def close(self) -> None:
        """Stop reading; what is left can be had by iterating the source."""
        ...


@runtime_checkable
class SupportsDirect(Protocol):
    """A source whose bytes a thread can read by itself."""

    def begin_direct(self) -> tuple[bytes, BlockingReader] | None:
        """What has arrived already and a reader for the rest, or None if it is not worth it.

        It is asked before the first piece and now and then between pieces.
        """
        ...


BATCH_BYTES: Final = 1 << 20
"""How much is hashed and written in one hop to a worker thread."""

ONE_THREAD_BYTES: Final = 128 << 10
"""Below this a batch is written and hashed in one hop; above, in two threads at once."""

RECHECK_BATCHES: Final = 64

MOST_RESERVED: Final = 10
"""The reserve's bytes are at most this part of the disk."""

UNASKED_BYTES: Final = 64 << 10
SPARE_BYTES: Final = 4 << 20
ASK_AGAIN_SECONDS: Final = 0.1
"""Bodies of so few bytes are admitted without asking the disk, so many bytes and seconds long."""


class Reserve(msgspec.Struct, frozen=True):
    """Free space that uploads leave alone, so that the index can always delete."""

    bytes: int = 1 << 30
    share: float = 0.01

    def of(self, disk_bytes: int) -> int:
        """How much that is of a disk: of a small one the bytes might be more than there is."""
        return max(min(self.bytes, disk_bytes // MOST_RESERVED), int(disk_bytes * self.share))


class Intake:
    """What all bodies being received share: threads, and room on the disk."""

    def __init__(self, blobs: BlobStore, threads: Threads, *, reserve: Reserve) -> None:
        self._blobs = blobs
        self._reserve = reserve
        self._spare_bytes = 0
        self._spare_until = 0.0
        self.threads = threads

    async def admit(self, size_bytes: int | None) -> None:
        """Refuse with `StorageFull` what would eat into the reserve of free space.

        The disk is asked, but for small bodies that come within `ASK_AGAIN_SECONDS` of an answer
        which left plenty: then asking would take longer than what it is asked for.
        """
        now = time.monotonic()
        is_small = size_bytes is not None and size_bytes <= UNASKED_BYTES
        if is_small and now < self._spare_until and (size_bytes or 0) <= self._spare_bytes:
            self._spare_bytes -= size_bytes or 0
            return
        free, total = await self._blobs.free_bytes()
        left = free - (size_bytes or 0) - self._reserve.of(total)
        if left < 0:
            raise StorageFull(size_bytes)
        self._spare_bytes = min(left // 8, SPARE_BYTES)
        self._spare_until = now + ASK_AGAIN_SECONDS

    def submit(self, stream: BatchStream, pieces: list[bytes]) -> list[Future[None]]:
        """Write one batch and hash it, in two threads at once if it is worth a second one."""
        size_bytes = sum(map(len, pieces))
        if size_bytes < ONE_THREAD_BYTES:
            return [self.threads.ingest.submit(stream.take_blocking, pieces)]
        return [
            self.threads.ingest.submit(stream.write_blocking, pieces),
            self.threads.hashing.submit(stream.hash.update, pieces),
        ]


class _Room:
    """Asks for room on the disk from a thread, which goes on while the answer is on its way.

    Waiting for each answer made a gibibyte stand still sixteen times, until the loop and a thread
    had had their turns. What is refused is refused `RECHECK_BATCHES` later at the most; the reserve
    is larger.
    """

    def __init__(self, intake: Intake, loop: asyncio.AbstractEventLoop) -> None:
        self._intake = intake
        self._loop = loop
        self._asked: Future[None] | None = None

    def look(self, is_due: bool) -> None:
        """Raise what an answer said that is there; ask once more if that is due."""
        if self._asked is not None and (is_due or self._asked.done()):
            self.wait()
        if is_due:
            self._asked = asyncio.run_coroutine_threadsafe(self._intake.admit(None), self._loop)

    def wait(self) -> None:
        """Raise what the answer says that is still to come, if any is."""
        asked, self._asked = self._asked, None
        if asked is not None:
            asked.result()


class Appending(Protocol):
    """Where the bytes of a body go, as `store.blobs.StagedWriter` takes them."""

    def append_blocking(
        self,
        offset: int,
        pieces: Sequence[bytes | memoryview],
        fence: Callable[[], None] | None = None,
    ) -> int: ...

    def hold(self, pieces: Sequence[bytes]) -> None: ...


class Nowhere:
    """Takes a body that is only hashed, and keeps nothing."""

    def append_blocking(
        self,
        offset: int,
        pieces: Sequence[bytes | memoryview],
        fence: Callable[[], None] | None = None,
    ) -> int:
        return offset + sum(map(len, pieces))

    def hold(self, pieces: Sequence[bytes]) -> None:
        """Let go of them."""


class BatchStream:
    """Feeds a source to a staging file in batches, reading the next while one is written."""

    def __init__(
        self,
        intake: Intake,
        writer: Appending,
        running: RunningHash,
        offset: int,
        fence: Callable[[], None] | None = None,
    ) -> None:
        self.hash = running
        self.offset = offset
        self._intake = intake
        self._writer = writer
        self._fence = fence
        self._pending: list[Future[None]] = []
        self._batches = 0
        self._begun = offset
        self._bound: int | None = None

    def write_blocking(self, pieces: list[bytes]) -> None:
        self.offset = self._writer.append_blocking(self.offset, pieces, self._fence)

    def take_blocking(self, pieces: list[bytes]) -> None:
        self.write_blocking(pieces)
        self.hash.update(pieces)

    async def hold(self, source: Source, *, bound: int | None = None) -> None:
        """Hash here all of a body so small that a thread would cost more; the writer keeps it."""
        pieces: list[bytes] = []
        async for piece in source:
            pieces.append(piece)
            self.hash.update([piece])
            if bound is not None and self.hash.size_bytes > bound:
                raise SizeMismatch(bound, self.hash.size_bytes)
        self._writer.hold(pieces)

    async def drain(self, source: Source, *, bound: int | None = None) -> None:
        """Write all of `source`; raises `SizeMismatch` as soon as more than `bound` bytes came."""
        batch: list[bytes] = []
        filled = 0
        direct = source if isinstance(source, SupportsDirect) else None
        self._begun, self._bound = self.offset, bound
        total = await self._drain_directly(direct)
        try:
            async for piece in source:
                batch.append(piece)
                filled += len(piece)
                if filled >= BATCH_BYTES:
                    total += filled
                    if bound is not None and total > bound:
                        raise SizeMismatch(bound, total)
                    await self._write(batch)
                    batch, filled = [], 0
                    total += await self._drain_directly(direct)
            total += filled
            if bound is not None and total > bound:
                raise SizeMismatch(bound, total)
        except BaseException:
            # What arrived before the end of a broken body still counts for a session.
            if batch and (bound is None or total + filled <= bound):
                await self._write(batch)
            await self.settle()
            raise
        if batch or not total:
            await self._write(batch)
        await self.settle()

    async def _drain_directly(self, source: SupportsDirect | None) -> int:
        """Let threads read, write and hash as long as that is possible; return how much they did.

        The rest, if any, is for the caller to iterate.
        """
        threads = self._intake.threads
        if source is None or not threads.direct_free:
            return 0
        await self.settle()
        # Others may have taken the last ones meanwhile. With more bodies than pairs of threads all
        # of them would read, and wait for ever for one to hash.
        begun = source.begin_direct() if threads.direct_free else None
        if begun is None:
            return 0
        prefix, reader = begun
        start = self.offset
        threads.direct_free -= 1
        try:
            self._check_bound(len(prefix) + reader.left)
            await self._write([prefix])
            await self.settle()
            await self._pump(reader)
        finally:
            threads.direct_free += 1
            reader.close()
        return self.offset - start

    def _check_bound(self, more_bytes: int) -> None:
        size_bytes = self.offset - self._begun + more_bytes
        if self._bound is not None and size_bytes > self._bound:
            raise SizeMismatch(self._bound, size_bytes)

    async def _pump(self, reader: BlockingReader) -> None:
        """Wait for the threads; a cancellation tells them to stop and waits until they have."""
        loop = asyncio.get_running_loop()
        pumping = asyncio.wrap_future(
            self._intake.threads.direct.submit(self._pump_blocking, reader, loop)
        )
        try:
            await asyncio.shield(pumping)
        except asyncio.CancelledError:
            reader.is_fast = False
            await settled(pumping)
            raise

    def _pump_blocking(self, reader: BlockingReader, loop: asyncio.AbstractEventLoop) -> None:
        """Read and write here what comes, and hash it in a second thread."""
        buffers = Buffers(self.hash)

        def hash_blocking() -> None:
            try:
                buffers.hash_blocking()
            except BaseException:
                reader.is_fast = False
                raise

        room = _Room(self._intake, loop)
        hashing = self._intake.threads.direct.submit(hash_blocking)
        try:
            while not reader.is_done and reader.is_fast:
                self._batches += 1
                room.look(self._batches % RECHECK_BATCHES == 0)
                buffer = buffers.take_blocking()
                pieces = reader.read_blocking(buffer)
                if pieces:
                    self._check_bound(sum(map(len, pieces)))
                    self.offset = self._writer.append_blocking(self.offset, pieces, self._fence)
                buffers.put(buffer, pieces)
            room.wait()
        finally:
            buffers.end()
            hashing.result()

    async def settle(self) -> None:
        """Wait for the batch under way; raises what writing it raised.

        After a failure the hash may be ahead of the file; whoever goes on compares their sizes.
        """
        pending, self._pending = self._pending, []
        if pending:
            await _uncancelled([asyncio.wrap_future(future) for future in pending])

    async def _write(self, batch: list[bytes]) -> None:
        await self.settle()
        self._batches += 1
        if self._batches % RECHECK_BATCHES == 0:
            await self._intake.admit(None)
        self._pending = self._intake.submit(self, batch)


async def _uncancelled(futures: Sequence[asyncio.Future[None]]) -> None:
    """Wait for threads to end their work, then deliver a cancellation that came meanwhile."""
    cancelled: asyncio.CancelledError | None = None
    while not all(future.done() for future in futures):
        try:
            await asyncio.wait(futures)
        except asyncio.CancelledError as error:
            cancelled = error
    failures = [failure for future in futures if (failure := future.exception()) is not None]
    if cancelled is not None:
        raise cancelled
    if failures:
        raise failures[0]
