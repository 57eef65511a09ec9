"""The index as a database that runs units of work.

**Writing** is group commit, see `store.index.writer`.

**Reading.** `Database.read` and `Database.read_blocking` hold one snapshot for a bounded time, see
`store.index.readers`. `Database.look` runs on the calling thread, which is the event loop's: key
look-ups only, 5 µs instead of the 70 to 100 of a thread hop and back. It never waits; a busy
database sends it to a reader thread.

**Memory.** Without a path there is one connection and everything goes through its one thread.

**PostgreSQL** (to come) awaits units on a connection instead of driving them in a thread; that is
why units may await nothing but their transaction, and may run more than once.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from store.clock import Clock, system_clock
from store.errors import StoreError, Unavailable
from store.index import driver
from store.index.driver import TimeLimit, sqlite, translated
from store.index.readers import Reader, Readers
from store.index.reserve import Reserve
from store.index.stats import Checkpoint, Committed, Stats
from store.index.transactions import Unit
from store.index.upgrade import STORE, Chain, create_blocking, require_current_blocking
from store.index.writer import Observer, Writer
from store.spans import Around
from store.turns import turn_of

T = TypeVar("T")

_LONG_WAL_FRAMES: Final = 4096
_WRITER_BUSY_SECONDS: Final = 10.0


class Database:
    """The index; implements `store.index.transactions.Index`. Make one with `open`."""

    def __init__(
        self,
        path: Path | None,
        writer: Writer,
        *,
        clock: Clock,
        stats: Stats,
        readers: int,
        read_seconds: float,
    ) -> None:
        self.path = path
        self.stats = stats
        self.around: Around | None = None
        """Told of each write and read, with its unit."""
        self._clock = clock
        self._read_seconds = read_seconds
        self._loop = asyncio.get_running_loop()
        self._turn: int | None = None
        """In which the counters were read last."""
        self._counted = 0
        """As SQLite tells it, which tells of every commit."""
        self._told = 0
        """As `change_counter` does."""
        self._settled: int | None = None
        """What was counted before a commit that may go unnoticed, while that is not decided."""
        self._unnoticed = (0, 0)
        """What was counted after the last that did, and what that is told as."""
        self._loop_thread = threading.get_ident()
        self._closing = False
        self._limits: set[TimeLimit] = set()
        self._writer = writer
        self._files: _Files | None = None
        self._memory: Reader | None = None
        if path is None:
            self._memory = Reader(writer.connection, None)
            driver.bound_time(writer.connection, self._memory.transaction)
        else:
            self._files = _Files(path, clock, readers)

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
        processes write needs the one `writer_lock` they share. Relaxed, a host crash takes the last
        commits away.
        Raises `StoreRefused` for a file that is not up to date and for a SQLite that is too old.
        """
        stats = Stats()
        thread = await driver.connect_thread(
            partial(_connect_writer_blocking, path, chains, is_relaxed)
        )
        lock = None
        try:
            if writer_lock is not None:
                lock = os.open(writer_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            reserve = None if path is None else Reserve(path)
            writer = Writer(
                thread, path, lock, reserve, clock=clock, stats=stats, observer=observer
            )
            return cls(
                path,
                writer,
                clock=clock,
                stats=stats,
                readers=readers,
                read_seconds=read_seconds,
            )
        except BaseException:
            await thread.close()
            if lock is not None:
                os.close(lock)
            raise

    async def run(self, unit: Unit[T]) -> T:
        if self._closing:
            raise Unavailable("a write to an index that is closing")
        if self.around is not None:
            with self.around("index write", unit):
                return await self._writer.begin(unit)
        return await self._writer.begin(unit)

    def begin(self, unit: Unit[T]) -> asyncio.Future[T]:
        if self._closing:
            raise Unavailable("a write to an index that is closing")
        return self._writer.begin(unit)

    async def run_unnoticed(self, unit: Unit[T]) -> T:
        if self._closing or self._settled is not None:  # one at a time
            return await self.run(unit)
        try:
            before = await self._writer.hop(self._writer.committed_blocking)
        except sqlite.Error as error:
            raise translated(error, "a write to the index", self.path) from error
        self._count()
        self._settled, told_as = self._counted, self._told
        try:
            result = await self.run(unit)
            # It is committed; where it cannot be shown to have been alone it is noticed.
            with suppress(StoreError, sqlite.Error):
                await self._hide(before, told_as)
            return result
        finally:
            self._settled = None

    async def _hide(self, before: Committed, told_as: int) -> None:
        """Let one unit go unnoticed if nothing else was committed since.

        The writer's connection counts its own commits and sees that others committed. The reader's
        counter was read after the first look at the writer's and before the last, so what lies
        between its two values is that unit, or somebody is found out.
        """
        self._count()
        counted = self._counted
        after = await self._writer.hop(self._writer.committed_blocking)
        if after == Committed(before.units + 1, before.commits + 1, before.others):
            self._unnoticed = (counted, told_as)

    async def look(self, unit: Unit[T]) -> T:
        files = self._files
        if files is None or self._closing:
            return await self.read(unit)
        self.stats.looks += 1
        try:
            return files.looker.run(unit, self._clock)
        except sqlite.Error as error:
            if driver.primary_code(error) not in driver.WAITING:
                raise translated(error, "a look-up in the index", self.path) from error
        except Unavailable:
            pass  # a statement met a lock; the reader thread may wait for it
        self.stats.looks_that_waited += 1
        return await self.read(unit)

    async def read(self, unit: Unit[T]) -> T:
        if self._closing:
            raise Unavailable("a read of an index that is closing")
        if self.around is not None:
            with self.around("index read", unit):
                return await self._read(unit)
        return await self._read(unit)

    async def _read(self, unit: Unit[T]) -> T:
        self.stats.reads += 1
        limit = TimeLimit(self._read_seconds)
        self._limits.add(limit)
        try:
            if self._files is None:
                return await self._writer.hop(partial(self._read_memory_blocking, unit, limit))
            return await self._loop.run_in_executor(
                self._files.threads, self._files.readers.run_blocking, unit, limit
            )
        except asyncio.CancelledError:
            limit.give_up()  # nobody waits for the rest of a long statement
            raise
        finally:
            self._limits.discard(limit)

    def read_blocking(self, unit: Unit[T]) -> T:
        if self._files is not None:
            return self._files.readers.run_blocking(unit, TimeLimit(self._read_seconds))
        if threading.get_ident() == self._loop_thread:
            raise RuntimeError("read_blocking on the event loop's thread would wait for itself")
        return asyncio.run_coroutine_threadsafe(self.read(unit), self._loop).result()

    def change_counter(self) -> int:
        """A number that differs from before if anything was committed since, by any process.

        Apart from what `run_unnoticed` committed; until that is known to have been alone the number
        is negative, and stands for itself only. For the event loop's thread; it is read once in a
        turn of a loop that counts them (`store.turns`), for 3 µs. Only numbers from one `Database`
        compare.
        """
        if self._closing:
            raise Unavailable("a read of an index that is closing")
        turn = turn_of(self._loop)
        if turn is None or turn != self._turn:
            self._count()
            self._turn = turn
        return self._told

    def _count(self) -> None:
        """Read the counters anew."""
        if self._files is None:
            counted = self.stats.commits
        else:
            try:
                counted = int(self._files.looker.transaction.query("PRAGMA data_version")[0])
            except sqlite.Error as error:
                raise translated(error, "a read of the index", self.path) from error
        after, told_as = self._unnoticed
        if counted == after:
            self._told = told_as
        else:
            self._told = counted if self._settled in (None, counted) else -counted
        self._counted = counted

    async def checkpoint(self) -> Checkpoint:
        """Copy committed frames into the database file, so that the WAL can start over.

        For the leader. It runs beside the writers; only if a long WAL is still not copied whole
        does it finish the rest under the writer's lock.
        """
        if self._closing:
            raise Unavailable("a checkpoint of an index that is closing")
        if self._files is None:
            return Checkpoint(frames=0, copied=0, wal_bytes=0)
        done = await self._loop.run_in_executor(
            self._files.threads,
            self._files.readers.checkpoint_blocking,
            TimeLimit(self._read_seconds),
        )
        if not done.is_complete and done.frames > _LONG_WAL_FRAMES:
            done = await self._writer.checkpoint()
        return done

    def wal_bytes(self) -> int:
        """Size of the WAL file: the metric that says whether checkpoints keep up."""
        return driver.wal_bytes(self.path)

    def queued(self) -> int:
        """Units of this process that wait for the next commit."""
        return self._writer.queued

    def statement_count(self) -> int:
        """How many statements units have run since the database was opened."""
        count = self._writer.transaction.statements
        if self._memory is not None:
            count += self._memory.transaction.statements
        if self._files is not None:
            count += self._files.looker.transaction.statements
            count += self._files.readers.statement_count()
        return count

    async def close(self) -> None:
        """Commit what is queued, interrupt reads, close every connection.

        Must be called: the database thread is not a daemon, and the process would never exit.
        """
        if self._closing:
            return
        self._closing = True
        for limit in self._limits:
            limit.give_up()
        try:
            if self._files is not None:
                await self._files.close()
        finally:
            await self._writer.close()

    def _read_memory_blocking(self, unit: Unit[T], limit: TimeLimit) -> T:
        assert self._memory is not None
        transaction = self._memory.transaction
        transaction.limit = limit
        transaction.control("PRAGMA query_only=ON")
        try:
            return self._memory.run(unit, self._clock)
        except sqlite.Error as error:
            raise translated(error, "a read of the index", None) from error
        finally:
            transaction.limit = None
            transaction.control("PRAGMA query_only=OFF")


class _Files:
    """What only a database in a file has: a connection for look-ups, readers and their threads."""

    def __init__(self, path: Path, clock: Clock, threads: int) -> None:
        self.looker = Reader.open(path, cache_kib=8192)
        self.looker.transaction.control("PRAGMA busy_timeout=0")  # it is used on the event loop
        # One for each of the threads that follow, and one for those who block on a read.
        self.readers = Readers(path, clock, most_idle=threads + 1)
        self.threads = ThreadPoolExecutor(threads, thread_name_prefix="index-reader")

    async def close(self) -> None:
        try:
            self.readers.give_up()
            await asyncio.to_thread(self.threads.shutdown)
        finally:
            self.readers.close()
            self.looker.connection.close()


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
