"""Group commit: units queue while the database thread is busy and share the next commit.

Everything that queued goes into the next batch: one hop, one file lock, one transaction, one sync
for all. Each unit answers only after the commit. A unit that raises is rolled back alone.
A batch is taken by the thread when it has the lock, not by the loop when it asks for the hop: what
comes while the thread waits for the lock, or for the interpreter, goes with it.

**Savepoints.** A savepoint for each unit would cost each the copying of all pages it changes, and
those that raise mostly do so before they changed anything. So there are none, until a unit raises
after it changed something: then the whole batch is rolled back and runs again with savepoints, as
do the next `GUARDED_BATCHES`, so that whoever provokes that slows the others down little.

**When a transaction is lost.** On a full disk SQLite may give up the whole transaction, at a
statement or at the commit. The `store.index.reserve` is then released, a checkpoint lets the WAL
start over in blocks it already has, and the units are replayed one by one: those that fit in the
pages there are (deletes) succeed, the others fail with `StorageFull`. The units are replayed too
when a constraint is only checked at the commit. If a commit fails in any other way, all units of
the batch fail with `Unavailable`, and nobody knows whether they are kept: frames written before a
failed sync may come back after a crash. Hence retries must be safe.

**The lock.** ``writer.lock`` is held from before BEGIN until after COMMIT, in the database thread
only. It exists because SQLite's own busy handler starved one of two processes 28 to 1. No other
lock is taken under it and nothing there waits for the network.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from sys import maxsize
from typing import TYPE_CHECKING, Any, Final, TypeVar

from store.clock import Clock
from store.errors import IndexConflict, StorageFull, StoreError, Unavailable
from store.index import driver
from store.index.driver import Transaction, drive, sqlite, translated
from store.index.reserve import ROOM_BYTES, Reserve
from store.index.stats import Checkpoint, Committed, Stats
from store.index.transactions import MakesRoom, Unit

if TYPE_CHECKING:
    import aiosqlite

T = TypeVar("T")

Observer = Callable[[str, "sqlite.Connection"], None]
"""Called with "commit" in the database thread, still under the lock, after each durable commit."""

BATCH_UNITS: Final = 256
"""At most so many units share one commit; more would make the first of them wait too long."""

GUARDED_BATCHES: Final = 32
"""So many batches have savepoints after one that had to be run again for want of them."""

WAL_LIMIT_BYTES: Final = 16 << 20
"""From here on writers checkpoint themselves, which slows them: back-pressure for a slow leader.

Earlier where the reserve is small: with its blocks the checkpoint on a full disk must finish."""

_MOST_PAGES: Final = 0xFFFFFFFE


class _Work:
    """A queued unit and what became of it; written by the database thread, settled by the loop."""

    __slots__ = ("error", "future", "result", "unit")

    def __init__(self, unit: Unit[Any], future: asyncio.Future[Any]) -> None:
        self.unit = unit
        self.future = future
        self.result: Any = None
        self.error: BaseException | None = None

    def settle(self) -> None:
        if self.error is not None:
            self.fail(self.error)
        elif not self.future.done():  # a cancelled caller's unit is committed all the same
            self.future.set_result(self.result)

    def fail(self, error: BaseException) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class Writer:
    """The only connection of this process that changes the index, and the queue in front of it."""

    def __init__(
        self,
        thread: aiosqlite.Connection,
        path: Path | None,
        lock: int | None,
        reserve: Reserve | None,
        *,
        clock: Clock,
        stats: Stats,
        observer: Observer | None,
    ) -> None:
        self.connection = driver.raw(thread)
        self.transaction = Transaction(self.connection, path, is_reader=False)
        self._thread = thread
        self._path = path
        self._lock = lock
        self._reserve = reserve
        self._is_frozen = False
        self._guarded = 0
        self._pages_with_room = _MOST_PAGES
        self._clock = clock
        self._stats = stats
        self._observer = observer
        self._loop = asyncio.get_running_loop()
        self._queue: deque[_Work] = deque()
        self._drainer: asyncio.Task[None] | None = None
        self._closing = False

    @property
    def queued(self) -> int:
        """Units that wait for the next batch."""
        return len(self._queue)

    def begin(self, unit: Unit[T]) -> asyncio.Future[T]:
        if self._closing:
            raise _closing()
        future: asyncio.Future[T] = self._loop.create_future()
        self._queue.append(_Work(unit, future))
        if self._drainer is None:
            self._drainer = self._loop.create_task(self._drain())
        return future

    async def hop(self, function: Callable[[], T]) -> T:
        """Run a function in the database thread, between two batches."""
        return await driver.hop(self._thread, function)

    def committed_blocking(self) -> Committed:
        """What was committed up to now; between two batches."""
        others = self.transaction.query("PRAGMA data_version")[0]
        return Committed(self._stats.units, self._stats.commits, others)

    async def checkpoint(self) -> Checkpoint:
        """Checkpoint under the lock, where no new frames appear meanwhile."""
        return await self.hop(self._checkpoint_blocking)

    async def close(self) -> None:
        """Commit what is queued, then close; the last connection of all checkpoints on closing."""
        self._closing = True
        try:
            if self._drainer is not None:
                await asyncio.wait([self._drainer])
        finally:
            await self._thread.close()
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None

    # On the event loop

    async def _drain(self) -> None:
        """Commit batch after batch until nothing is queued."""
        try:
            while self._queue:
                await self._commit()
        finally:
            self._drainer = None
            for work in self._take(maxsize):  # left only if this task was cancelled: the loop ends
                work.fail(_closing())

    async def _commit(self) -> None:
        batch: list[_Work] = []
        try:
            await self.hop(partial(self._commit_blocking, batch))
        except BaseException as error:
            # The thread may still be at work on the batch: what becomes of it is unknown.
            for work in batch or self._take(BATCH_UNITS):
                failure = Unavailable("a write to the index")
                failure.__cause__ = error
                work.fail(failure)
            if not isinstance(error, Exception):
                raise
        else:
            for work in batch:
                work.settle()

    # On either

    def _take(self, most: int) -> list[_Work]:
        """The units that waited longest, without those that nobody waits for any more."""
        taken: list[_Work] = []
        with suppress(IndexError):
            while len(taken) < most:
                work = self._queue.popleft()
                if not work.future.done():
                    taken.append(work)
        return taken

    # In the database thread

    def _commit_blocking(self, batch: list[_Work]) -> None:
        """Take a batch and run it under the lock; every work has its result or its error then."""
        begun = time.perf_counter()
        try:
            with self._locked():
                self._adapt()
                batch += self._take(BATCH_UNITS)
                if not batch:
                    return
                failure = self._transact(batch)
                if isinstance(failure, StorageFull):
                    self._make_room()
                elif failure is None or len(batch) == 1:
                    return
                for work in batch:
                    self._transact([work])
        except OSError as error:
            batch += self._take(BATCH_UNITS - len(batch))
            for work in batch:
                work.error = Unavailable("locking the index")
                work.error.__cause__ = error
        finally:
            self._stats.writing_seconds += time.perf_counter() - begun

    def _transact(self, batch: list[_Work]) -> StoreError | None:
        """Run units in one transaction.

        Returns why it was lost if each of them alone may do better, else None. Every work has its
        result or its error in either case.
        """
        transaction = self.transaction
        is_guarded = self._guarded > 0
        self._guarded -= is_guarded
        try:
            if transaction.is_active:  # ending the one before failed
                transaction.control("ROLLBACK")
            transaction.control("BEGIN IMMEDIATE")
            transaction.now = self._clock()
            for work in batch:
                before = transaction.changes
                self._apply(work, is_guarded=is_guarded)
                if not transaction.is_active:
                    return self._lose(batch, work.error)
                if work.error is None or is_guarded or len(batch) == 1:
                    continue
                if transaction.changed() != before:
                    self._guarded = GUARDED_BATCHES
                    return self._transact(batch)
            if all(work.error is not None for work in batch):
                transaction.control("ROLLBACK")
                return None
            transaction.control("COMMIT")
        except sqlite.Error as error:
            failure = translated(error, "a write to the index", self._path)
            failure.__cause__ = error
            return self._lose(batch, failure)
        self._count(batch)
        return None

    def _apply(self, work: _Work, *, is_guarded: bool) -> None:
        """Run one unit, in a savepoint of its own where batches are guarded."""
        transaction = self.transaction
        work.error = None
        if is_guarded:
            transaction.control("SAVEPOINT unit")
        try:
            if self._is_frozen:
                with self._room_for(work.unit):
                    work.result = drive(work.unit, transaction)
            else:
                work.result = drive(work.unit, transaction)
        except BaseException as error:  # whatever it is, it belongs to whoever awaits the unit
            work.error = error
            if is_guarded and transaction.is_active:
                transaction.control("ROLLBACK TO unit")
        if is_guarded and transaction.is_active:
            transaction.control("RELEASE unit")

    def _lose(self, batch: list[_Work], failure: BaseException | None) -> StoreError | None:
        """Fail every unit of a lost transaction; returns what `_transact` does."""
        if self.transaction.is_active:
            with suppress(sqlite.Error):  # lost either way
                self.transaction.control("ROLLBACK")
        self._stats.lost_transactions += 1
        if failure is None:  # a unit swallowed the error that ended the transaction
            failure = StorageFull()
        for work in batch:
            work.error = failure
        return failure if isinstance(failure, (StorageFull, IndexConflict)) else None

    def _count(self, batch: list[_Work]) -> None:
        self._stats.units += len(batch)
        self._stats.commits += 1
        self._stats.largest_batch = max(self._stats.largest_batch, len(batch))
        if self._observer is not None:
            self._observer("commit", self.connection)

    def _checkpoint_blocking(self) -> Checkpoint:
        with self._locked():
            return driver.checkpoint_blocking(self.transaction, self._path)

    def _adapt(self) -> None:
        """Do what the length of the WAL and the state of the reserve ask for, before a batch."""
        wal_bytes = driver.wal_bytes(self._path)
        if wal_bytes > min(WAL_LIMIT_BYTES, self._reserve.wal_bytes if self._reserve else maxsize):
            self._force_checkpoint()
        if self._reserve is not None:
            self._freeze(is_frozen=not self._reserve.hold(wal_bytes=wal_bytes))

    def _make_room(self) -> None:
        """Let deletes through although the disk is full."""
        if self._reserve is not None:
            self._reserve.release()
        self._force_checkpoint()
        if self._reserve is not None:
            self._freeze(is_frozen=True)

    def _freeze(self, *, is_frozen: bool) -> None:
        """Stop the database file from growing, or let it grow again."""
        if is_frozen == self._is_frozen:
            return
        # SQLite raises a limit below the present size to that size.
        self.transaction.control(f"PRAGMA max_page_count={1 if is_frozen else _MOST_PAGES}")
        if is_frozen:
            pages = self.transaction.query("PRAGMA page_count")[0]
            page_bytes = self.transaction.query("PRAGMA page_size")[0]
            self._pages_with_room = pages + ROOM_BYTES // page_bytes
        self._is_frozen = is_frozen

    @contextmanager
    def _room_for(self, unit: Unit[Any]) -> Iterator[None]:
        """Let the file grow a little for what makes room, where nothing else may let it grow."""
        if not isinstance(unit, MakesRoom):
            yield
            return
        self.transaction.control(f"PRAGMA max_page_count={self._pages_with_room}")
        try:
            yield
        finally:
            self.transaction.control("PRAGMA max_page_count=1")

    def _force_checkpoint(self) -> None:
        """Checkpoint, so that the next frames overwrite the WAL from its beginning."""
        self._stats.forced_checkpoints += 1
        with suppress(StoreError):  # what is not copied now stays in the WAL, safely
            driver.checkpoint_blocking(self.transaction, self._path)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        if self._lock is None:
            yield
            return
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)


def _closing() -> Unavailable:
    return Unavailable("a write to an index that is closing")
