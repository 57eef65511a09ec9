"""The index as a database that runs units of work: group commit, readers, look-ups.

**Writing.** Units queue while the database thread is busy; everything that queued goes into the
next batch: one hop, one file lock, one transaction, one sync for all. Each unit runs in a savepoint
and answers only after the commit. A unit that raises is rolled back alone. If SQLite gives up the
whole transaction (the disk is full), the units are replayed one by one, so that those that fit
(deletes) still succeed. If a commit fails otherwise, all units of the batch fail with `Unavailable`
and nobody knows whether they are kept: a crash right then may bring them back. Hence retries must
be safe.

**Locks.** ``writer.lock`` is held from before BEGIN until after COMMIT, in the database thread
only. It exists because SQLite's own busy handler starved one of two processes 28 to 1. No other
lock is taken under it and nothing there waits for the network.

**Reading.** `Database.read` and `Database.read_blocking` borrow a connection and hold one snapshot
for a bounded time: an endless reader would keep the WAL from restarting. `Database.look` runs on
the calling thread, which is the event loop's: key look-ups only, 6 µs instead of the 36 to 85 of a
thread hop. It never waits; a busy database sends it to a reader thread.

**Memory.** Without a path there is one connection and all goes through its one thread.

**PostgreSQL** (to come) awaits units on a connection instead of driving them in a thread; that is
why units may await nothing but their transaction, and may run more than once.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from store.clock import Clock, system_clock
from store.errors import IndexConflict, StorageFull, StoreError, Unavailable
from store.index import driver
from store.index.driver import TimeLimit, Transaction, drive, sqlite, translated
from store.index.transactions import Unit
from store.index.upgrade import STORE, Chain, create_blocking, require_current_blocking

if TYPE_CHECKING:
    import aiosqlite

T = TypeVar("T")

Observer = Callable[[str, "sqlite.Connection"], None]
"""Called with "commit" in the database thread, under the lock, after each durable commit."""

BATCH_UNITS: Final = 256
"""At most so many units share one commit; more would make the first of them wait too long."""

WAL_LIMIT_BYTES: Final = 256 << 20
"""From here on writers checkpoint themselves, which slows them: back-pressure for a lost leader."""

_LONG_WAL_FRAMES: Final = 4096
_WRITER_BUSY_SECONDS: Final = 10.0
_READER_BUSY_SECONDS: Final = 5.0


class Stats(msgspec.Struct):
    """Counts since the database was opened."""

    units: int = 0
    commits: int = 0
    largest_batch: int = 0
    failed_commits: int = 0
    looks: int = 0
    looks_that_waited: int = 0
    reads: int = 0
    checkpoints: int = 0
    emergency_checkpoints: int = 0


class Checkpoint(msgspec.Struct, frozen=True):
    """What a checkpoint left: frames in the WAL, how many are in the database file, file size."""

    frames: int
    copied: int
    wal_bytes: int

    @property
    def is_complete(self) -> bool:
        return self.frames == self.copied


class _Work:
    """A queued unit and what became of it; written by the database thread, settled by the loop."""

    __slots__ = ("error", "future", "result", "unit")

    def __init__(self, unit: Unit[Any], future: asyncio.Future[Any]) -> None:
        self.unit = unit
        self.future = future
        self.result: Any = None
        self.error: BaseException | None = None

    def settle(self) -> None:
        if self.future.done():  # the caller was cancelled; the unit is committed all the same
            return
        if self.error is None:
            self.future.set_result(self.result)
        else:
            self.future.set_exception(self.error)


class _Reader:
    """A connection used for reading, by one thread at a time."""

    def __init__(self, connection: sqlite.Connection, path: Path | None) -> None:
        self.connection = connection
        self.transaction = Transaction(connection, path, is_reader=True)

    @classmethod
    def open(cls, path: Path, *, busy_seconds: float, cache_kib: int = 2048) -> _Reader:
        connection = driver.connect(
            path, busy_seconds=busy_seconds, cache_kib=cache_kib, is_reader=True
        )
        return cls(connection, path)

    def run(self, unit: Unit[T], now: int) -> T:
        """Run a unit on one snapshot."""
        transaction = self.transaction
        transaction.control("BEGIN")
        transaction.now = now
        try:
            return drive(unit, transaction)
        finally:
            if transaction.is_active:
                transaction.control("ROLLBACK")


class Database:
    """The index; implements `store.index.transactions.Index`. Make one with `open`."""

    stats: Stats

    def __init__(
        self,
        path: Path | None,
        writer: aiosqlite.Connection,
        lock: int | None,
        *,
        clock: Clock,
        readers: int,
        read_seconds: float,
        observer: Observer | None,
    ) -> None:
        self.path = path
        self.stats = Stats()
        self._clock = clock
        self._read_seconds = read_seconds
        self._observer = observer
        self._loop = asyncio.get_running_loop()
        self._closing = False
        self._writer = writer
        self._connection = driver.raw(writer)
        self._transaction = Transaction(self._connection, path, is_reader=False)
        self._lock = lock
        self._wal = None if path is None else f"{path}-wal"
        self._loop_thread = threading.get_ident()
        self._queue: deque[_Work] = deque()
        self._drainer: asyncio.Task[None] | None = None
        self._readers_lock = threading.Lock()  # guards the two below; held for moments only
        self._idle: list[_Reader] = []
        self._busy: set[_Reader] = set()
        self._looker: _Reader | None = None
        self._threads: ThreadPoolExecutor | None = None
        if path is None:
            self._memory = _Reader(self._connection, None)
            driver.bound_time(self._connection, self._memory.transaction)
        else:
            self._looker = _Reader.open(path, busy_seconds=0, cache_kib=8192)
            self._threads = ThreadPoolExecutor(readers, thread_name_prefix="index-reader")

    @classmethod
    async def open(
        cls,
        path: Path | None,
        *,
        writer_lock: Path | None = None,
        clock: Clock = system_clock,
        readers: int = 2,
        read_seconds: float = 30.0,
        chains: Sequence[Chain] = (STORE,),
        is_relaxed: bool = False,
        observer: Observer | None = None,
    ) -> Database:
        """Open the index at `path`, which `store.index.upgrade` has brought up to date.

        None opens an empty memory database with the tables of `chains`. A file that several
        processes write needs the one `writer_lock` they share.
        Raises `StoreRefused` for a file without tables and for a SQLite that is too old.
        """
        writer = await driver.connect_thread(
            partial(_connect_writer_blocking, path, chains, is_relaxed)
        )
        lock = None
        try:
            if writer_lock is not None:
                lock = os.open(writer_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            return cls(
                path,
                writer,
                lock,
                clock=clock,
                readers=readers,
                read_seconds=read_seconds,
                observer=observer,
            )
        except BaseException:
            if lock is not None:
                os.close(lock)
            await writer.close()
            raise

    # Writing

    async def run(self, unit: Unit[T]) -> T:
        if self._closing:
            raise Unavailable("a write to the index that is closing")
        future: asyncio.Future[T] = self._loop.create_future()
        self._queue.append(_Work(unit, future))
        if self._drainer is None:
            self._drainer = self._loop.create_task(self._drain())
        return await future

    async def _drain(self) -> None:
        """Commit batch after batch until nothing is queued."""
        try:
            while self._queue:
                count = min(len(self._queue), BATCH_UNITS)
                batch = [self._queue.popleft() for _ in range(count)]
                batch = [work for work in batch if not work.future.done()]
                if batch:
                    await self._commit(batch)
        finally:
            self._drainer = None
            for work in self._queue:  # only when this task was cancelled, as the loop ends
                work.error = Unavailable("a write to the index that is closing")
                work.settle()
            self._queue.clear()

    async def _commit(self, batch: list[_Work]) -> None:
        try:
            await driver.hop(self._writer, partial(self._commit_blocking, batch))
        except BaseException as error:
            for work in batch:
                work.error = Unavailable("a write to the index")
                work.error.__cause__ = error
            raise
        finally:
            for work in batch:
                work.settle()

    def _commit_blocking(self, batch: list[_Work]) -> None:
        """Run a batch under the lock; every work has its result or its error afterwards."""
        try:
            with self._locked():
                self._relieve_blocking()
                failure = self._transact_blocking(batch)
                if isinstance(failure, StorageFull):
                    self._make_room_blocking()
                elif failure is None or len(batch) == 1:
                    return
                for work in batch:
                    self._transact_blocking([work])
        except OSError as error:
            for work in batch:
                work.error = Unavailable("locking the index")
                work.error.__cause__ = error

    def _transact_blocking(self, batch: list[_Work]) -> StoreError | None:
        """Run units in one transaction.

        Returns why it was lost if each of them alone may do better, else None. Every work has its
        result or its error in either case.
        """
        transaction = self._transaction
        try:
            transaction.control("BEGIN IMMEDIATE")
            transaction.now = self._clock()
            for work in batch:
                self._apply_blocking(work)
                if not transaction.is_active:
                    return self._lost(batch, work.error)
            if all(work.error is not None for work in batch):
                transaction.control("ROLLBACK")
                return None
            transaction.control("COMMIT")
        except sqlite.Error as error:
            failure = translated(error, "a write to the index", self.path)
            return self._lost(batch, failure)
        self._count(batch)
        return None

    def _apply_blocking(self, work: _Work) -> None:
        """Run one unit in its savepoint."""
        transaction = self._transaction
        work.error = None
        transaction.control("SAVEPOINT unit")
        try:
            work.result = drive(work.unit, transaction)
        except BaseException as error:  # whatever it is, it belongs to whoever awaits the unit
            work.error = error
            if not transaction.is_active:
                return
            transaction.control("ROLLBACK TO unit")
        if transaction.is_active:
            transaction.control("RELEASE unit")

    def _lost(self, batch: list[_Work], failure: BaseException | None) -> StoreError | None:
        """Fail every unit of a transaction that is lost; see `_transact_blocking`."""
        if self._transaction.is_active:
            with suppress(sqlite.Error):  # the transaction is lost either way
                self._transaction.control("ROLLBACK")
        self.stats.failed_commits += 1
        if failure is None:  # a unit swallowed the error that ended the transaction
            failure = Unavailable("a write to the index")
        for work in batch:
            work.error = failure
        return failure if isinstance(failure, (StorageFull, IndexConflict)) else None

    def _count(self, batch: list[_Work]) -> None:
        self.stats.units += len(batch)
        self.stats.commits += 1
        self.stats.largest_batch = max(self.stats.largest_batch, len(batch))
        if self._observer is not None:
            self._observer("commit", self._connection)

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

    # Reading

    async def look(self, unit: Unit[T]) -> T:
        reader = self._looker
        if reader is None:
            return await self.read(unit)
        self.stats.looks += 1
        try:
            return reader.run(unit, self._clock())
        except sqlite.Error as error:
            if driver.primary_code(error) not in driver.WAITING:
                raise translated(error, "a look-up in the index", self.path) from error
        except Unavailable:
            pass
        self.stats.looks_that_waited += 1
        return await self.read(unit)

    async def read(self, unit: Unit[T]) -> T:
        if self._closing:
            raise Unavailable("a read of the index that is closing")
        limit = TimeLimit(self._read_seconds)
        try:
            if self._threads is None:
                return await driver.hop(
                    self._writer, partial(self._read_memory_blocking, unit, limit)
                )
            return await self._loop.run_in_executor(self._threads, self._read_blocking, unit, limit)
        except asyncio.CancelledError:
            limit.give_up()  # nobody waits for the rest of a long statement
            raise

    def read_blocking(self, unit: Unit[T]) -> T:
        if self.path is not None:
            return self._read_blocking(unit, TimeLimit(self._read_seconds))
        if threading.get_ident() == self._loop_thread:
            raise RuntimeError("read_blocking on the event loop's thread would wait for itself")
        return asyncio.run_coroutine_threadsafe(self.read(unit), self._loop).result()

    def change_counter(self) -> int:
        """A number that differs from before if anything was committed since, by any process.

        For the event loop's thread; 3 µs.
        """
        if self._looker is None:
            return self.stats.commits
        row = self._looker.transaction.query("PRAGMA data_version")
        return int(row[0])

    def _read_memory_blocking(self, unit: Unit[T], limit: TimeLimit) -> T:
        transaction = self._memory.transaction
        transaction.limit = limit
        transaction.control("PRAGMA query_only=ON")
        try:
            return self._memory.run(unit, self._clock())
        except sqlite.Error as error:
            raise translated(error, "a read of the index", None) from error
        finally:
            transaction.limit = None
            transaction.control("PRAGMA query_only=OFF")

    def _read_blocking(self, unit: Unit[T], limit: TimeLimit) -> T:
        reader = self._borrow_blocking(limit)
        try:
            return reader.run(unit, self._clock())
        except sqlite.Error as error:
            raise translated(error, "a read of the index", self.path) from error
        finally:
            self._give_back(reader)

    def _borrow_blocking(self, limit: TimeLimit) -> _Reader:
        with self._readers_lock:
            reader = self._idle.pop() if self._idle else None
        if reader is None:
            assert self.path is not None
            reader = _Reader.open(self.path, busy_seconds=_READER_BUSY_SECONDS)
            driver.bound_time(reader.connection, reader.transaction)
        reader.transaction.limit = limit
        with self._readers_lock:
            is_closing = self._closing
            if not is_closing:
                self._busy.add(reader)
                self.stats.reads += 1
        if is_closing:
            reader.connection.close()
            raise Unavailable("a read of the index that is closing")
        return reader

    def _give_back(self, reader: _Reader) -> None:
        with self._readers_lock:
            self._busy.discard(reader)
            is_closing = self._closing
            if not is_closing:
                self._idle.append(reader)
        if is_closing:
            reader.connection.close()

    # Housekeeping

    async def checkpoint(self) -> Checkpoint:
        """Copy committed frames into the database file, so that the WAL can start over.

        For the leader. It runs beside the writers; only if a long WAL is still not copied whole
        does it finish the rest under the writer's lock, where no new frames appear meanwhile.
        """
        if self._threads is None:
            return Checkpoint(frames=0, copied=0, wal_bytes=0)
        if self._closing:
            raise Unavailable("a checkpoint of the index that is closing")
        self.stats.checkpoints += 1
        done = await self._loop.run_in_executor(self._threads, self._checkpoint_beside_blocking)
        if not done.is_complete and done.frames > _LONG_WAL_FRAMES:
            done = await driver.hop(self._writer, self._checkpoint_locked_blocking)
        return done

    def wal_bytes(self) -> int:
        """Size of the WAL file: the metric that says whether checkpoints keep up."""
        try:
            return os.stat(self._wal).st_size if self._wal else 0
        except FileNotFoundError:
            return 0

    def statement_count(self) -> int:
        """How many statements units have run since the database was opened."""
        with self._readers_lock:
            readers = [*self._idle, *self._busy]
        if self._looker is not None:
            readers.append(self._looker)
        return self._transaction.statements + sum(r.transaction.statements for r in readers)

    def _checkpoint_beside_blocking(self) -> Checkpoint:
        reader = self._borrow_blocking(TimeLimit(self._read_seconds))
        try:
            return self._checkpoint_blocking(reader.transaction)
        finally:
            self._give_back(reader)

    def _checkpoint_locked_blocking(self) -> Checkpoint:
        with self._locked():
            return self._checkpoint_blocking(self._transaction)

    def _checkpoint_blocking(self, transaction: Transaction) -> Checkpoint:
        try:
            _, frames, copied = transaction.query("PRAGMA wal_checkpoint(PASSIVE)")
        except sqlite.Error as error:
            raise translated(error, "a checkpoint of the index", self.path) from error
        return Checkpoint(frames=frames, copied=copied, wal_bytes=self.wal_bytes())

    def _relieve_blocking(self) -> None:
        if self.wal_bytes() > WAL_LIMIT_BYTES:
            self._make_room_blocking()

    def _make_room_blocking(self) -> None:
        """Checkpoint under the lock: the next frames then overwrite the WAL from its beginning,
        in blocks the file already has."""
        if self._wal is None:
            return
        self.stats.emergency_checkpoints += 1
        with suppress(StoreError):  # what is not copied now stays in the WAL, safely
            self._checkpoint_blocking(self._transaction)

    async def close(self) -> None:
        """Commit what is queued, interrupt reads, close every connection.

        Must be called: the database thread is not a daemon, and the process would never exit.
        """
        if self._closing:
            return
        self._closing = True
        try:
            if self._drainer is not None:
                await asyncio.wait([self._drainer])
            with self._readers_lock:
                for reader in self._busy:
                    if reader.transaction.limit is not None:
                        reader.transaction.limit.give_up()
            if self._threads is not None:
                await asyncio.to_thread(self._threads.shutdown)
        finally:
            with self._readers_lock:
                readers, self._idle = self._idle, []
            if self._looker is not None:
                readers.append(self._looker)
                self._looker = None
            for reader in readers:
                reader.connection.close()
            # The last to close checkpoints what is left; that may take long, and has its thread.
            await self._writer.close()
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None


def _connect_writer_blocking(
    path: Path | None, chains: Sequence[Chain], is_relaxed: bool
) -> sqlite.Connection:
    connection = driver.connect(
        path, busy_seconds=_WRITER_BUSY_SECONDS, cache_kib=8192, is_relaxed=is_relaxed
    )
    try:
        if path is None:
            create_blocking(connection, chains)
        else:
            require_current_blocking(connection, chains)
    except BaseException:
        connection.close()
        raise
    return connection
