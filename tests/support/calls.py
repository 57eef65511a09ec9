"""Every call that the store makes to the kernel or to SQLite, numbered, and failing on demand.

`Calls` stands in for the `os` and `fcntl` of the store's modules and for the cursors of its index.
A call fails as its `Fault` says: before it is applied, after it was, or torn: a write of which half
arrived, a transaction that SQLite rolled back when the statement failed, as it may on a full disk.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final, Literal, TypeAlias
from unittest import mock

import msgspec
import pysqlite3.dbapi2 as sqlite

from store.opening import Store

When: TypeAlias = Literal["before", "after", "torn"]

SYSTEM_CALLS: Final = (
    "open",
    "pwritev",
    "copy_file_range",
    "pread",
    "preadv",
    "fstat",
    "stat",
    "statvfs",
    "scandir",
    "listdir",
    "fchmod",
    "ftruncate",
    "fdatasync",
    "fsync",
    "link",
    "rename",
    "unlink",
    "mkdir",
    "flock",
)
"""All that are made to fail; closing is not, since a descriptor is gone whatever it answers."""

READING: Final = frozenset(("pread", "preadv", "fstat", "stat", "statvfs", "scandir", "listdir"))
"""It makes no difference whether these fail before or after they were applied."""

OPENING: Final = frozenset(("open", "scandir"))
GROWING: Final = frozenset(("pwritev", "copy_file_range", "link", "rename", "mkdir", "open"))


class Fault(msgspec.Struct, frozen=True):
    """Which call fails, when, and with what: an `errno`, or a result code of SQLite."""

    at: int
    when: When = "before"
    number: int = errno.EIO
    code: int = sqlite.SQLITE_IOERR


class Calls:
    """Counts calls while it `watches`, and fails the one that is due."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.failed: str | None = None
        self._fault: Fault | None = None
        self._lock = threading.Lock()
        self._watching = False

    @contextmanager
    def watching(self, fault: Fault | None = None) -> Iterator[None]:
        """Calls inside are counted, from 0 on, and the fault's fails."""
        self.seen, self.failed, self._fault, self._watching = [], None, fault, True
        try:
            yield
        finally:
            self._watching = False

    def due(self, name: str) -> Fault | None:
        """Count a call; the fault if it is this one's turn."""
        with self._lock:
            if not self._watching:
                return None
            number = len(self.seen)
            self.seen.append(name)
            if self._fault is None or number != self._fault.at:
                return None
            self.failed = name
            return self._fault

    @contextmanager
    def patched(self) -> Iterator[None]:
        """The modules of the store make their calls here."""
        with ExitStack() as patches:
            for name, module in sys.modules.copy().items():
                if not name.startswith("store."):
                    continue
                for real in (os, fcntl):
                    if getattr(module, real.__name__, None) is real:
                        stand_in = _Module(real, self)
                        patches.enter_context(mock.patch.object(module, real.__name__, stand_in))
            yield

    def attach(self, store: Store) -> None:
        """Put the cursors of its writer and of its look-ups behind the faults."""
        index: Any = store.index
        transactions = [index._writer.transaction]
        if index._files is not None:
            transactions.append(index._files.looker.transaction)
        for transaction in transactions:
            transaction._cursor = _Cursor(transaction._cursor, self)


class _Module:
    """`os` or `fcntl`, some of whose functions may fail."""

    def __init__(self, real: Any, calls: Calls) -> None:
        self._real = real
        for name in SYSTEM_CALLS:
            if hasattr(real, name):
                setattr(self, name, _failing(name, getattr(real, name), calls))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def _failing(name: str, real: Callable[..., Any], calls: Calls) -> Callable[..., Any]:
    def call(*args: Any, **named: Any) -> Any:
        fault = calls.due(name)
        if fault is None:
            return real(*args, **named)
        error = OSError(fault.number, os.strerror(fault.number))
        if fault.when == "after":
            result = real(*args, **named)
            if name == "open":
                os.close(result)  # whose number nobody ever learns
        elif fault.when == "torn" and name == "pwritev":
            descriptor, pieces, at = args
            real(descriptor, _half(pieces), at)
        raise error

    return call


def _half(pieces: Sequence[bytes | memoryview]) -> list[bytes]:
    content = b"".join(pieces)
    return [content[: len(content) // 2]]


class _Cursor:
    """A cursor some of whose statements fail."""

    def __init__(self, real: Any, calls: Calls) -> None:
        self._real = real
        self._calls = calls

    def execute(self, sql: str, *values: Any) -> Any:
        return self._around(sql, self._real.execute, sql, *values)

    def executemany(self, sql: str, rows: Any) -> Any:
        return self._around(sql, self._real.executemany, sql, list(rows))

    def _around(self, sql: str, run: Callable[..., Any], *args: Any) -> Any:
        fault = self._calls.due(f"sql {' '.join(sql.split()[:3])}")
        if fault is None:
            return run(*args)
        if fault.when == "after":
            run(*args)
        elif fault.when == "torn" and self._real.connection.in_transaction:
            self._real.execute("ROLLBACK")
        error = sqlite.OperationalError("made to fail")
        error.sqlite_errorcode = fault.code
        raise error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)
