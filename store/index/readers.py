"""Connections that read, one snapshot at a time, for a bounded time.

A read transaction that stays open keeps the WAL from starting over, so every one has a time limit,
and whoever stops waiting for it gives it up.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from store.clock import Clock
from store.errors import Unavailable
from store.index import driver
from store.index.driver import TimeLimit, Transaction, drive, sqlite, translated
from store.index.stats import Checkpoint
from store.index.transactions import Unit

T = TypeVar("T")

_BUSY_SECONDS = 5.0


class Reader:
    """A connection used for reading, by one thread at a time."""

    def __init__(self, connection: sqlite.Connection, path: Path | None) -> None:
        self.connection = connection
        self.transaction = Transaction(connection, path, is_reader=True)

    @classmethod
    def open(cls, path: Path, *, cache_kib: int = 2048) -> Reader:
        connection = driver.connect(
            path, busy_seconds=_BUSY_SECONDS, cache_kib=cache_kib, is_reader=True
        )
        return cls(connection, path)

    def run(self, unit: Unit[T], clock: Clock) -> T:
        """Run a unit on one snapshot; errors of the driver around it pass."""
        transaction = self.transaction
        if transaction.is_active:  # ending the one before failed
            transaction.control("ROLLBACK")
        transaction.control("BEGIN")
        transaction.now = clock()
        try:
            return drive(unit, transaction)
        finally:
            if transaction.is_active:
                transaction.control("ROLLBACK")


class Readers:
    """As many readers as threads read at once, of which `most_idle` are kept until `close`.

    Each knows all tables by itself and keeps its statements: half a megabyte, in the end a whole
    one. So those that a crowd needed for a moment are closed when it has gone.
    """

    def __init__(self, path: Path, clock: Clock, *, most_idle: int) -> None:
        self._path = path
        self._clock = clock
        self._lock = threading.Lock()  # guards what follows; held for moments only
        self._idle: list[Reader] = []
        self._busy: set[Reader] = set()
        self._most_idle = most_idle
        self._statements_of_closed = 0
        self._closing = False

    def run_blocking(self, unit: Unit[T], limit: TimeLimit) -> T:
        return self._with_reader(lambda reader: reader.run(unit, self._clock), limit)

    def checkpoint_blocking(self, limit: TimeLimit) -> Checkpoint:
        """Checkpoint beside the writers: they go on appending frames meanwhile."""
        return self._with_reader(
            lambda reader: driver.checkpoint_blocking(reader.transaction, self._path), limit
        )

    def statement_count(self) -> int:
        with self._lock:
            kept = sum(reader.transaction.statements for reader in (*self._idle, *self._busy))
            return kept + self._statements_of_closed

    def give_up(self) -> None:
        """Refuse new reads and interrupt those that run."""
        with self._lock:
            self._closing = True
            for reader in self._busy:
                if reader.transaction.limit is not None:
                    reader.transaction.limit.give_up()

    def close(self) -> None:
        """Close what is idle; a reader still borrowed closes when it comes back."""
        self.give_up()
        with self._lock:
            idle, self._idle = self._idle, []
        for reader in idle:
            reader.connection.close()

    def _with_reader(self, function: Callable[[Reader], T], limit: TimeLimit) -> T:
        reader = self._borrow(limit)
        try:
            return function(reader)
        except sqlite.Error as error:
            raise translated(error, "a read of the index", self._path) from error
        finally:
            self._give_back(reader)

    def _borrow(self, limit: TimeLimit) -> Reader:
        with self._lock:
            if self._closing:
                raise Unavailable("a read of an index that is closing")
            reader = self._idle.pop() if self._idle else None
            if reader is not None:
                reader.transaction.limit = limit
                self._busy.add(reader)
                return reader
        reader = Reader.open(self._path)
        driver.bound_time(reader.connection, reader.transaction)
        reader.transaction.limit = limit
        with self._lock:
            self._busy.add(reader)
            if self._closing:
                limit.give_up()
        return reader

    def _give_back(self, reader: Reader) -> None:
        with self._lock:
            self._busy.discard(reader)
            if not self._closing and len(self._idle) < self._most_idle:
                self._idle.append(reader)
                return
            self._statements_of_closed += reader.transaction.statements
        with suppress(sqlite.Error):  # it has been asked for nothing any more
            reader.connection.close()
