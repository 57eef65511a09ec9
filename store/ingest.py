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

**Bytes that are there already.** The file that has them stays: it was verified before, others may
hold it open or share it with a backup, and removing a large one takes time. Whoever sends them may
be a *stranger*, who must not learn that somebody has them. So the same is done as for new bytes,
to a name that nobody looks at (`StagedWriter.imitate`), and the transaction runs as many
statements. Only for whoever may know everything (``stranger=None``) the file is just looked at.

**Racing the collector.** What was true when the file was promoted must still be true when the row
is recorded; `store.recording` says what that is. If it is not, the promotion is repeated from the
staging file, whose name is still there.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Iterable, Sequence
from functools import partial
from typing import Final, TypeVar

from store.batches import BatchStream, Intake, Nowhere, Reserve, Source
from store.blobs import BlobStore, Promotion, StagedWriter
from store.cold import Cold
from store.digest import Digest
from store.errors import (
    BlobNotFound,
    DigestMismatch,
    SizeMismatch,
    StoreError,
    Unavailable,
)
from store.hashing import RunningHash
from store.index import blobs as rows
from store.index.archived import lose
from store.index.transactions import Index, Tx, Unit
from store.recording import (
    Done,
    Outcome,
    Record,
    RecordAll,
    Seen,
    Staged,
    StoredBlob,
    is_moving,
    record_staged,
    see,
)
from store.segments import Segments, own_of
from store.spans import Around
from store.threads import Threads, hop

log = logging.getLogger(__name__)

T = TypeVar("T")

HELD_BYTES: Final = 64 << 10
"""A body of up to so many bytes, declared beforehand, stays in memory until it is promoted."""

SOMEBODY: Final = ""
"""The stranger that callers act for who do not say for whom; see the module docstring."""

TOGETHER: Final = 4
"""So many small blobs of one commit are worth a sync of the whole file system."""

LOOKED_UP_HERE: Final = 16
HASHED_HERE_BYTES: Final = 256 << 10
"""So many small bodies of so many bytes are hashed and looked up on the event loop, where a hop
would take longer; for more the others would wait."""

MOVING_WAIT_SECONDS: Final = 2.0
MOVING_POLL_SECONDS: Final = 0.02


class Ingest:
    """Receives bytes and makes blobs of them."""

    def __init__(
        self, blobs: BlobStore, cold: Cold, index: Index, threads: Threads, *, reserve: Reserve
    ) -> None:
        self._blobs = blobs
        self._cold = cold
        self._index = index
        self.intake = Intake(blobs, threads, reserve=reserve)
        self._threads = threads
        self._cleanups: set[asyncio.Task[None]] = set()
        self._unwanted: list[StagedWriter] = []
        self.blobs_stored = 0
        self.blobs_deduplicated = 0
        self.around: Around | None = None
        """Told of each body received, and of each sync before it is acknowledged."""

    async def receive(
        self,
        source: Source,
        record: Record[T],
        *,
        expected: Digest | None = None,
        size_bytes: int | None = None,
        limit_bytes: int | None = None,
        stranger: str | None = SOMEBODY,
    ) -> tuple[StoredBlob, T]:
        """Store one blob and run `record` in the transaction that makes it visible.

        Raises what `stage` and `commit` raise; nothing is stored then.
        """
        staged = await self.stage(
            source, expected=expected, size_bytes=size_bytes, limit_bytes=limit_bytes, hold=True
        )

        async def record_one(tx: Tx, stored: Sequence[StoredBlob]) -> tuple[StoredBlob, T]:
            return stored[0], await record(tx, stored[0])

        return await self.commit([staged], record_one, stranger=stranger)

    async def stage(
        self,
        source: Source,
        *,
        expected: Digest | None = None,
        size_bytes: int | None = None,
        limit_bytes: int | None = None,
        hold: bool = False,
    ) -> Staged:
        """Write and hash a body; the caller commits or discards what it gets.

        With `hold` a small one stays in memory until it is committed, which saves hops to threads;
        for callers that commit it next, not for those that gather many.

        Raises `DigestMismatch`, `SizeMismatch` (also for more than `limit_bytes`), `StorageFull`
        and whatever `source` raises; nothing stays staged then.
        """
        await self.intake.admit(size_bytes)
        bound = min((n for n in (size_bytes, limit_bytes) if n is not None), default=None)
        is_held = hold and size_bytes is not None and size_bytes <= HELD_BYTES
        writer = await self._blobs.stage(f"put_{secrets.token_hex(16)}")
        stream = BatchStream(self.intake, writer, RunningHash(), 0)
        try:
            drain = stream.hold if is_held else stream.drain
            if self.around is None:
                await drain(source, bound=bound)
            else:
                with self.around("blob receive", size_bytes):
                    await drain(source, bound=bound)
            running = stream.hash
            if size_bytes is not None and running.size_bytes != size_bytes:
                raise SizeMismatch(size_bytes, running.size_bytes)
            digest = running.digest()
            if expected is not None and digest != expected:
                raise DigestMismatch(expected, digest)
        except BaseException:
            self.later(_discard(stream, writer))
            raise
        return Staged(digest, running.size_bytes, running.segments(), writer, is_held)

    async def hold_all(self, contents: Sequence[tuple[bytes, Digest | None]]) -> list[Staged]:
        """Hash small bodies that are all there, each with the digest expected of it, in one hop.

        They stay in memory until they are committed. For callers that gather many: none has a name
        before they are committed together. Raises `DigestMismatch` and `StorageFull`.
        """
        await self.intake.admit(sum(len(content) for content, _ in contents))
        hashed = await hop(self._threads.hashing, _hash_all, contents)
        return await self._hold(contents, hashed)

    async def store(
        self,
        contents: Sequence[tuple[bytes, Digest | None]],
        record: RecordAll[T],
        *,
        admit: Unit[object] | None = None,
        stranger: str | None = SOMEBODY,
    ) -> T:
        """Store small bodies that are all there, each with the digest expected of it.

        They are looked up and hashed at once, written in one hop and recorded in one transaction.
        `admit` runs before anything is written, if it is given, and refuses by raising. Raises
        `DigestMismatch`, and what `commit` does.
        """
        for content, _ in contents:  # each by itself is small enough not to ask the disk
            await self.intake.admit(len(content))

        async def look(tx: Tx) -> tuple[list[tuple[Digest, Segments]], Seen]:
            if admit is not None:
                await admit(tx)
            hashed = [_hash(content, expected) for content, expected in contents]
            return hashed, await see(tx, list({digest: None for digest, _ in hashed}))

        size_bytes = sum(len(content) for content, _ in contents)
        is_many = len(contents) > LOOKED_UP_HERE or size_bytes > HASHED_HERE_BYTES
        hashed, seen = await (self._index.read(look) if is_many else self._index.look(look))
        staged = await self._hold(contents, hashed)
        return await self.commit(staged, record, stranger=stranger, seen=seen)

    async def _hold(
        self,
        contents: Sequence[tuple[bytes, Digest | None]],
        hashed: Sequence[tuple[Digest, Segments]],
    ) -> list[Staged]:
        batch, staged = secrets.token_hex(16), []
        for number, ((content, _), (digest, segments)) in enumerate(
            zip(contents, hashed, strict=True)
        ):
            writer = await self._blobs.stage(f"put_{batch}_{number}")
            writer.hold([content])
            staged.append(Staged(digest, len(content), segments, writer, is_held=True))
        return staged

    async def hash(self, source: Source) -> tuple[Digest, int]:
        """Digest and size of a body of which nothing is kept."""
        stream = BatchStream(self.intake, Nowhere(), RunningHash(), 0)
        await stream.drain(source)
        return stream.hash.digest(), stream.hash.size_bytes

    async def commit(
        self,
        staged: Sequence[Staged],
        record: RecordAll[T],
        *,
        stranger: str | None = SOMEBODY,
        seen: Seen | None = None,
    ) -> T:
        """Sync, promote and record staged blobs in one transaction; `record` gets them in order.

        Whatever happens, the staging files are gone afterwards. Raises `Unavailable` if a digest
        stays in motion, `StorageFull` and what `record` raises.
        """
        try:
            syncs = (one.writer.sync() for one in staged if not one.is_held)
            if self.around is None:
                await _all(syncs)
            else:
                with self.around("blob sync", sum(one.size_bytes for one in staged)):
                    await _all(syncs)
            await self._write_segments(staged)
            result = await self.record(staged, record, stranger=stranger, seen=seen)
        finally:
            self.remove_later(staged)
        self.blobs_stored += len(staged)
        return result

    async def record(
        self,
        staged: Sequence[Staged],
        record: RecordAll[T],
        *,
        stranger: str | None = SOMEBODY,
        seen: Seen | None = None,
    ) -> T:
        """The promoting and recording half of `commit`; the staging files stay.

        `store.uploads` calls it for a session, whose staging file outlives a failure. `seen` is
        what the index said before, for whoever has asked already.
        """
        digests = {one.digest: one for one in staged}
        holder = f"ingest_{secrets.token_hex(8)}"
        deadline = asyncio.get_running_loop().time() + MOVING_WAIT_SECONDS
        is_leased = False
        while True:
            looked = seen or await self._look(list(digests))
            seen = None
            if not any(is_moving(row) for row in looked.found.values()):
                await self._promote_missing(digests, looked, stranger)

                async def unit(tx: Tx, seen: Seen = looked, drop: bool = is_leased) -> Outcome[T]:
                    renew = rows.touch if stranger is None else rows.renew_present
                    return await record_staged(tx, staged, seen, record, holder, drop, renew)

                outcome = await self._index.run(unit)
                if isinstance(outcome, Done):
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
        if row is None or not row.is_present or not await self.has_file(row):
            return None
        stored = StoredBlob(digest, row.size_bytes, row.generation)

        async def unit(tx: Tx) -> Done[T] | None:
            found = await rows.find_blob(tx, digest)
            if found is None or not found.is_present or found.generation != row.generation:
                return None
            await rows.touch(tx, digest)
            return Done(await record(tx, stored))

        done = await self._index.run(unit)
        if done is None:
            return None
        self.blobs_deduplicated += 1
        return stored, done.result

    async def discard(self, staged: Sequence[Staged]) -> None:
        """Remove staging files, whether or not their blobs were promoted."""
        for one in staged:
            await _logged_discard(one.writer)

    def remove_later(self, staged: Sequence[Staged]) -> None:
        """Discard off the request's path, together with what others leave meanwhile."""
        if not self._unwanted:
            self.later(self._remove_unwanted())
        self._unwanted += (one.writer for one in staged)

    async def _remove_unwanted(self) -> None:
        while some := list(self._unwanted):
            await hop(self._threads.files, _discard_blocking, some)
            del self._unwanted[: len(some)]

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

    async def _look(self, digests: Sequence[Digest]) -> Seen:
        look = partial(see, digests=digests)
        return await (self._index.look(look) if len(digests) <= 4 else self._index.read(look))

    async def _promote_missing(
        self, digests: dict[Digest, Staged], seen: Seen, stranger: str | None
    ) -> None:
        """Give a file to every digest that has none in the index, or none on disk after all."""

        async def promote(one: Staged, row: rows.BlobRow | None) -> None:
            # A cold blob becomes hot: here are its bytes, whether or not the archive is readable.
            has_own_file = row is not None and row.is_present and not row.is_cold
            if row is not None and has_own_file and await self._is_there(one, row, stranger):
                self.blobs_deduplicated += 1
                return
            await one.writer.promote(one.digest, stranger)

        placed = await self._promote_together(digests, seen, stranger)
        await _all(
            promote(digests[digest], row)
            for digest, row in seen.found.items()
            if digest not in placed
        )

    async def _promote_together(
        self, digests: dict[Digest, Staged], seen: Seen, stranger: str | None
    ) -> set[Digest]:
        """Promote those that are in memory in one hop, if they are many; which of them are done."""
        held = [one for one in digests.values() if one.is_held]
        if len(held) < TOGETHER:
            return set()
        rows_of = [seen.found[one.digest] for one in held]
        known = [
            row.size_bytes if row is not None and row.is_present and not row.is_cold else None
            for row in rows_of
        ]
        wanted = [
            Promotion(one.writer, one.digest, size_bytes)
            for one, size_bytes in zip(held, known, strict=True)
        ]
        placed = await self._blobs.promote_all(wanted, stranger)
        done = [one for one, is_placed in zip(wanted, placed, strict=True) if is_placed]
        self.blobs_deduplicated += sum(one.known_bytes is not None for one in done)
        return {one.digest for one in done}

    async def _is_there(self, one: Staged, row: rows.BlobRow, stranger: str | None) -> bool:
        """Whether a present row's file is whole; a stranger cannot tell by the time it takes."""
        if stranger is not None and await one.writer.imitate(row.digest, row.size_bytes, stranger):
            return True
        return await self.has_file(row)

    async def has_file(self, row: rows.BlobRow) -> bool:
        """Whether a present row's file is there with its size; if not, the row says damaged.

        Of a cold blob whose archive is not readable now nothing is known: no, and no damage.
        """
        if row.archived is not None:
            try:
                is_whole = await self._cold.has(row.digest, row.archived, row.size_bytes)
            except Unavailable:
                return False
            if not is_whole:
                log.error("blob %s has no whole file in the archive; marked damaged", row.digest)
                await self._index.run(partial(lose, row=row))
            return is_whole
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


def _hash(content: bytes, expected: Digest | None) -> tuple[Digest, Segments]:
    """Digest and segments of a body of at most one segment."""
    digest = Digest.of(content)
    if expected is not None and digest != expected:
        raise DigestMismatch(expected, digest)
    return digest, Segments(len(content), own_of(content))


def _hash_all(contents: Sequence[tuple[bytes, Digest | None]]) -> list[tuple[Digest, Segments]]:
    return [_hash(content, expected) for content, expected in contents]


async def _all(works: Iterable[Awaitable[object]]) -> None:
    """Run side by side and wait for every one, then raise the first failure.

    `asyncio.gather` alone would return while others still use what the caller then frees.
    """
    outcomes = await asyncio.gather(*works, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome


async def _discard(stream: BatchStream, writer: StagedWriter) -> None:
    try:
        await stream.settle()
    except (StoreError, OSError) as error:
        log.debug("a batch failed while its upload was given up: %s", error)
    await _logged_discard(writer)


def _discard_blocking(writers: Sequence[StagedWriter]) -> None:
    for writer in writers:
        try:
            writer.discard_blocking()
        except StoreError as error:
            _log_left_over(writer, error)


async def _logged_discard(writer: StagedWriter) -> None:
    try:
        await writer.discard()
    except StoreError as error:
        _log_left_over(writer, error)


def _log_left_over(writer: StagedWriter, error: StoreError) -> None:
    """A staging name that cannot be removed is the sweeper's business."""
    log.warning("staging file %s stays until it is swept: %s", writer.session, error)
