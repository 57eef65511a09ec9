"""The only path by which bytes become a visible blob.

The order is **receive, verify, sync, promote, record**:

1. Bytes are staged and hashed, a batch at a time. Nothing is visible. A crash leaves a staging
   file that no row names; the sweeper removes it.
2. Digest and size are compared with what was declared. A difference discards the staging file.
3. The staging file is synced, then given its blob name, then the directory is synced. A crash
   leaves a file without a row: an orphan, which later uploads of that digest replace and `fsck`
   adopts.
4. One transaction inserts the row and runs the caller's record, which adds the reference or lease.
   **Its commit is the point of no return**: from there the blob is visible and kept.
5. The staging name is removed. A failure here is logged, not raised: the sweeper comes later.

The row must come after the file, or a crash would show a blob that is not there; the reference
must come with the row, or a collection could take the blob before anybody claims it.

**Racing the collector.** What was true when the file was promoted must still be true when the row
is recorded. A row carries its generation. For a digest without a row the store's counter of moves
is compared: if any blob was marked moving meanwhile, this digest may have been inserted, collected
and removed, file and all. The transaction then records nothing but leases on the digests, which no
collection passes, and the promotion is repeated from the staging file, whose name is still there.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Sequence
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Final, Generic, Protocol, TypeAlias, TypeVar, runtime_checkable

import msgspec

from store.blobs import BlobStore, StagedWriter
from store.clock import SECOND, boot_id
from store.digest import Digest
from store.errors import (
    BlobNotFound,
    DigestMismatch,
    SizeMismatch,
    StorageFull,
    StoreError,
    Unavailable,
)
from store.hashing import RunningHash
from store.index import blobs as rows
from store.index.transactions import Index, Tx
from store.segments import Segments
from store.threads import Threads, settled

log = logging.getLogger(__name__)

T = TypeVar("T")

Source: TypeAlias = AsyncIterable[bytes]
"""Pieces of a body in order, of any size. It raises to abort; nothing stays behind then."""


class BlockingReader(Protocol):
    """The rest of a body, read in a worker thread; made, asked and closed on the event loop."""

    left: int
    """How many bytes are still to come."""
    is_fast: bool
    """Whether it is worth the thread that reads it."""

    def read_blocking(self, into: memoryview) -> int:
        """Fill `into` or a part of it; 0 if nothing came in time. Raises to abort."""
        ...

    def close(self) -> None:
        """Stop reading; what is left can be had by iterating the source."""
        ...


@runtime_checkable
class SupportsDirect(Protocol):
    """A source whose bytes a thread can read by itself."""

    def begin_direct(self) -> tuple[bytes, BlockingReader] | None:
        """What has arrived already and a reader for the rest, or None if it is not worth it."""
        ...


BATCH_BYTES: Final = 1 << 20
"""How much is hashed and written in one hop to a worker thread."""

DIRECT_BUFFERS: Final = 3
"""Of `BATCH_BYTES` each: one is filled and written while another is hashed."""

ONE_THREAD_BYTES: Final = 128 << 10
"""Below this a batch is written and hashed in one hop; above, in two threads at once."""

MOVING_WAIT_SECONDS: Final = 2.0
MOVING_POLL_SECONDS: Final = 0.02
LEASE_SECONDS: Final = 600
RECHECK_BATCHES: Final = 64


class StoredBlob(msgspec.Struct, frozen=True):
    """A visible blob."""

    digest: Digest
    size_bytes: int
    generation: int


Record: TypeAlias = Callable[[Tx, StoredBlob], Awaitable[T]]
"""Runs inside the transaction that makes the blob visible; adds a reference or a lease.

It keeps the rules of a unit of work: it may run more than once.
"""

RecordAll: TypeAlias = Callable[[Tx, Sequence[StoredBlob]], Awaitable[T]]


class Staged(msgspec.Struct, frozen=True):
    """Bytes that are whole and verified, durable or not, and not yet visible."""

    digest: Digest
    size_bytes: int
    segments: Segments
    writer: StagedWriter


class Reserve(msgspec.Struct, frozen=True):
    """Free space that uploads leave alone, so that the index can always delete."""

    bytes: int = 1 << 30
    share: float = 0.01


class _Seen(msgspec.Struct, frozen=True):
    """What the index said of some digests before their files were touched."""

    found: dict[Digest, rows.BlobRow | None]
    moves: int


class _Retry(msgspec.Struct, frozen=True):
    """The transaction found another state than `_Seen`; it recorded nothing but leases."""

    is_moving: bool


class _Done(msgspec.Struct, Generic[T], frozen=True):
    result: T


class Ingest:
    """Receives bytes and makes blobs of them."""

    def __init__(
        self, blobs: BlobStore, index: Index, threads: Threads, *, reserve: Reserve
    ) -> None:
        self._blobs = blobs
        self._index = index
        self.threads = threads
        self._reserve = reserve
        self._cleanups: set[asyncio.Task[None]] = set()
        self.bytes_received = 0
        self.blobs_stored = 0
        self.blobs_deduplicated = 0

    async def receive(
        self,
        source: Source,
        record: Record[T],
        *,
        expected: Digest | None = None,
        size_bytes: int | None = None,
        limit_bytes: int | None = None,
    ) -> tuple[StoredBlob, T]:
        """Store one blob and run `record` in the transaction that makes it visible.

        Raises what `stage` and `commit` raise; nothing is stored then.
        """
        staged = await self.stage(
            source, expected=expected, size_bytes=size_bytes, limit_bytes=limit_bytes
        )

        async def record_one(tx: Tx, stored: Sequence[StoredBlob]) -> tuple[StoredBlob, T]:
            return stored[0], await record(tx, stored[0])

        return await self.commit([staged], record_one)

    async def stage(
        self,
        source: Source,
        *,
        expected: Digest | None = None,
        size_bytes: int | None = None,
        limit_bytes: int | None = None,
    ) -> Staged:
        """Write and hash a body; the caller commits or discards what it gets.

        Raises `DigestMismatch`, `SizeMismatch` (also for more than `limit_bytes`), `StorageFull`
        and whatever `source` raises; nothing stays staged then.
        """
        await self.admit(size_bytes)
        writer = await self._blobs.stage(f"put_{secrets.token_hex(16)}")
        stream = BatchStream(self, writer, RunningHash(), 0)
        bound = min((n for n in (size_bytes, limit_bytes) if n is not None), default=None)
        try:
            await stream.drain(source, bound=bound)
            running = stream.hash
            if size_bytes is not None and running.size_bytes != size_bytes:
                raise SizeMismatch(size_bytes, running.size_bytes)
            digest = running.digest()
            if expected is not None and digest != expected:
                raise DigestMismatch(expected, digest)
        except BaseException:
            self.later(_discard(stream, writer))
            raise
        return Staged(digest, running.size_bytes, running.segments(), writer)

    async def commit(self, staged: Sequence[Staged], record: RecordAll[T]) -> T:
        """Sync, promote and record staged blobs in one transaction; `record` gets them in order.

        Whatever happens, the staging files are gone afterwards. Raises `Unavailable` if a digest
        stays in motion, `StorageFull` and what `record` raises.
        """
        try:
            await _all(one.writer.sync() for one in staged)
            await self._write_segments(staged)
            result = await self.record(staged, record)
        finally:
            self.later(self.discard(staged))
        self.blobs_stored += len(staged)
        return result

    async def record(self, staged: Sequence[Staged], record: RecordAll[T]) -> T:
        """The promoting and recording half of `commit`; the staging files stay.

        `store.uploads` calls it for a session, whose staging file outlives a failure.
        """
        digests = {one.digest: one for one in staged}
        holder = f"ingest_{secrets.token_hex(8)}"
        deadline = asyncio.get_running_loop().time() + MOVING_WAIT_SECONDS
        is_leased = False
        while True:
            seen = await self._look(list(digests))
            if not any(_moves(row) for row in seen.found.values()):
                await self._promote_missing(digests, seen)

                async def unit(tx: Tx, seen: _Seen = seen, drop: bool = is_leased) -> _Outcome[T]:
                    return await _record(tx, staged, seen, record, holder, drop)

                outcome = await self._index.run(unit)
                if isinstance(outcome, _Done):
                    return outcome.result
                is_leased = True
                if not outcome.is_moving:
                    continue
            if asyncio.get_running_loop().time() > deadline:
                raise Unavailable("storing a blob that is being moved")
            await asyncio.sleep(MOVING_POLL_SECONDS)

    async def claim(self, digest: Digest, record: Record[T]) -> tuple[StoredBlob, T] | None:
        """Record a claim on a blob that is stored already; None if it is not, or not whole.

        The file is looked at before the transaction and the transaction insists on the same
        generation: a blob whose file was there then and whose row did not change was not moved.
        """

        async def look(tx: Tx) -> rows.BlobRow | None:
            return await rows.find_blob(tx, digest)

        row = await self._index.look(look)
        if row is None or not row.is_present or not await self._is_whole(row):
            return None
        stored = StoredBlob(digest, row.size_bytes, row.generation)

        async def unit(tx: Tx) -> _Done[T] | None:
            found = await rows.find_blob(tx, digest)
            if found is None or not found.is_present or found.generation != row.generation:
                return None
            await rows.touch(tx, digest)
            return _Done(await record(tx, stored))

        done = await self._index.run(unit)
        if done is None:
            return None
        self.blobs_deduplicated += 1
        return stored, done.result

    async def discard(self, staged: Sequence[Staged]) -> None:
        """Remove staging files, whether or not their blobs were promoted."""
        for one in staged:
            await _logged_discard(one.writer)

    async def admit(self, size_bytes: int | None) -> None:
        """Refuse with `StorageFull` what would eat into the reserve of free space."""
        free, total = await self._blobs.free_bytes()
        reserve = max(self._reserve.bytes, int(total * self._reserve.share))
        if free - (size_bytes or 0) < reserve:
            raise StorageFull(size_bytes)

    def later(self, cleanup: Awaitable[None]) -> None:
        """Clean up off the request's path; `close` waits for it."""

        async def run() -> None:
            await cleanup

        task = asyncio.get_running_loop().create_task(run())
        self._cleanups.add(task)
        task.add_done_callback(self._cleanups.discard)

    async def close(self) -> None:
        """Wait for the cleanups under way."""
        while self._cleanups:
            await asyncio.gather(*self._cleanups, return_exceptions=True)

    def submit(self, stream: BatchStream, pieces: list[bytes]) -> list[Future[None]]:
        """Write one batch and hash it, in two threads at once if it is worth a second one."""
        size_bytes = sum(map(len, pieces))
        self.bytes_received += size_bytes
        if size_bytes < ONE_THREAD_BYTES:
            return [self.threads.ingest.submit(stream.take_blocking, pieces)]
        return [
            self.threads.ingest.submit(stream.write_blocking, pieces),
            self.threads.hashing.submit(stream.hash.update, pieces),
        ]

    async def _look(self, digests: Sequence[Digest]) -> _Seen:
        async def unit(tx: Tx) -> _Seen:
            found = {digest: await rows.find_blob(tx, digest) for digest in digests}
            return _Seen(found, await rows.counter(tx, "moves"))

        return await (self._index.look(unit) if len(digests) <= 4 else self._index.read(unit))

    async def _promote_missing(self, digests: dict[Digest, Staged], seen: _Seen) -> None:
        """Give a file to every digest that has none in the index, or none on disk after all."""

        async def promote(one: Staged, row: rows.BlobRow | None) -> None:
            if row is not None and row.is_present and await self._is_whole(row):
                self.blobs_deduplicated += 1
                return
            await one.writer.promote(one.digest)

        await _all(promote(digests[digest], row) for digest, row in seen.found.items())

    async def _is_whole(self, row: rows.BlobRow) -> bool:
        """Whether a present row's file is there with its size; if not, the row says damaged."""
        try:
            info = await self._blobs.stat(row.digest)
        except BlobNotFound:
            info = None
        if info is not None and info.size_bytes == row.size_bytes:
            return True
        log.error("blob %s has no whole file; marked damaged", row.digest)

        async def unit(tx: Tx) -> bool:
            return await rows.change_state(
                tx, row.digest, row.generation, rows.PRESENT, rows.DAMAGED
            )

        await self._index.run(unit)
        return False

    async def _write_segments(self, staged: Sequence[Staged]) -> None:
        for one in staged:
            if one.segments.needs_file:
                await self._blobs.write_segments(one.digest, one.segments.encode())


_Outcome: TypeAlias = _Done[T] | _Retry


async def _record(
    tx: Tx,
    staged: Sequence[Staged],
    seen: _Seen,
    record: RecordAll[T],
    holder: str,
    drop_leases: bool,
) -> _Outcome[T]:
    """The transaction of `Ingest.record`: all rows and the caller's record, or leases alone."""
    digests = {one.digest: one for one in staged}
    found = {digest: await rows.find_blob(tx, digest) for digest in digests}
    moves = await rows.counter(tx, "moves")
    surprises = [row for digest, row in found.items() if not _still_true(row, seen, digest, moves)]
    if surprises:
        expires_at = tx.now + LEASE_SECONDS * SECOND
        await rows.add_leases(tx, digests, holder, expires_at)
        return _Retry(any(_moves(row) for row in surprises))
    stored: dict[Digest, StoredBlob] = {}
    for digest, row in found.items():
        one = digests[digest]
        if row is not None and row.is_present:
            await rows.touch(tx, digest)
        else:
            row = await rows.insert_present(tx, digest, one.size_bytes, one.segments.own, boot_id())
        stored[digest] = StoredBlob(digest, one.size_bytes, row.generation)
    result = await record(tx, [stored[one.digest] for one in staged])
    if drop_leases:
        await rows.drop_leases(tx, holder)
    return _Done(result)


def _still_true(row: rows.BlobRow | None, seen: _Seen, digest: Digest, moves: int) -> bool:
    """Whether the file that was promoted, or found whole, is there for certain."""
    before = seen.found[digest]
    if row is None:
        return before is None and moves == seen.moves
    if row.is_present:
        return before is None or not before.is_present or before.generation == row.generation
    return row.state == rows.DAMAGED and before == row


def _moves(row: rows.BlobRow | None) -> bool:
    return row is not None and row.state == rows.MOVING


class BatchStream:
    """Feeds a source to a staging file in batches, reading the next while one is written."""

    def __init__(
        self,
        ingest: Ingest,
        writer: StagedWriter,
        running: RunningHash,
        offset: int,
        fence: Callable[[], None] | None = None,
    ) -> None:
        self.hash = running
        self.offset = offset
        self._ingest = ingest
        self._writer = writer
        self._fence = fence
        self._pending: list[Future[None]] = []
        self._batches = 0

    def write_blocking(self, pieces: list[bytes]) -> None:
        self.offset = self._writer.append_blocking(self.offset, pieces, self._fence)

    def take_blocking(self, pieces: list[bytes]) -> None:
        self.write_blocking(pieces)
        self.hash.update(pieces)

    async def drain(self, source: Source, *, bound: int | None = None) -> None:
        """Write all of `source`; raises `SizeMismatch` as soon as more than `bound` bytes came."""
        batch: list[bytes] = []
        filled = 0
        total = await self._drain_directly(source, bound)
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

    async def _drain_directly(self, source: Source, bound: int | None) -> int:
        """Let threads read, write and hash as long as that is possible; return how much they did.

        The rest, if any, is for the caller to iterate. `bound` must not be below what is left.
        """
        threads = self._ingest.threads
        if not isinstance(source, SupportsDirect) or not threads.direct_free:
            return 0
        begun = source.begin_direct()
        if begun is None:
            return 0
        prefix, reader = begun
        start = self.offset
        threads.direct_free -= 1
        try:
            if bound is not None and len(prefix) + reader.left > bound:
                raise SizeMismatch(bound, len(prefix) + reader.left)
            await self._write([prefix])
            await self.settle()
            await self._pump(reader)
        finally:
            threads.direct_free += 1
            reader.close()
        return self.offset - start

    async def _pump(self, reader: BlockingReader) -> None:
        """Wait for the threads; a cancellation tells them to stop and waits until they have."""
        start, loop = self.offset, asyncio.get_running_loop()
        pumping = asyncio.wrap_future(
            self._ingest.threads.direct.submit(self._pump_blocking, reader, loop)
        )
        try:
            await asyncio.shield(pumping)
        except asyncio.CancelledError:
            reader.is_fast = False
            await settled(pumping)
            raise
        finally:
            self._ingest.bytes_received += self.offset - start

    def _pump_blocking(self, reader: BlockingReader, loop: asyncio.AbstractEventLoop) -> None:
        """Read and write here what comes, and hash it in a second thread."""
        free: SimpleQueue[memoryview] = SimpleQueue()
        full: SimpleQueue[tuple[memoryview, int] | None] = SimpleQueue()
        for _ in range(DIRECT_BUFFERS):
            free.put(memoryview(bytearray(BATCH_BYTES)))

        def hash_blocking() -> None:
            while (piece := full.get()) is not None:
                buffer, size_bytes = piece
                try:
                    self.hash.update([buffer[:size_bytes]])
                except BaseException:
                    # Whoever fills the buffers would wait for ever for those that stay here.
                    reader.is_fast = False
                    raise
                finally:
                    free.put(buffer)

        hashing = self._ingest.threads.direct.submit(hash_blocking)
        try:
            while reader.left and reader.is_fast:
                self._batches += 1
                if self._batches % RECHECK_BATCHES == 0:
                    asyncio.run_coroutine_threadsafe(self._ingest.admit(None), loop).result()
                buffer = free.get()
                size_bytes = reader.read_blocking(buffer)
                if size_bytes:
                    pieces = [buffer[:size_bytes]]
                    self.offset = self._writer.append_blocking(self.offset, pieces, self._fence)
                    full.put((buffer, size_bytes))
                else:
                    free.put(buffer)
        finally:
            full.put(None)
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
            await self._ingest.admit(None)
        self._pending = self._ingest.submit(self, batch)


async def _all(works: Iterable[Awaitable[object]]) -> None:
    """Run side by side and wait for every one, then raise the first failure.

    `asyncio.gather` alone would return while others still use what the caller then frees.
    """
    outcomes = await asyncio.gather(*works, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome


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


async def _discard(stream: BatchStream, writer: StagedWriter) -> None:
    try:
        await stream.settle()
    except (StoreError, OSError) as error:
        log.debug("a batch failed while its upload was given up: %s", error)
    await _logged_discard(writer)


async def _logged_discard(writer: StagedWriter) -> None:
    """Remove a staging name; a failure is the sweeper's business."""
    try:
        await writer.discard()
    except StoreError as error:
        log.warning("staging file %s stays until it is swept: %s", writer.session, error)
