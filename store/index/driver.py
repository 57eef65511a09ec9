"""The one SQLite of this process: connections with their pragmas, a transaction to drive units in,
and the translation of its errors.

The module used is `pysqlite3`, which carries a current SQLite; the interpreter's own may be older
than 3.51.3, where several connections can corrupt a WAL. Nothing else in the project may open the
index: two copies of SQLite in one process would drop each other's POSIX locks.

What each pragma buys:

- ``journal_mode=WAL``: readers never wait for a writer, nor it for them.
- ``synchronous=FULL``: a commit has reached the disk when it returns. Relaxed, it is NORMAL: a host
  crash takes the last commits away and leaves the rest whole.
- ``foreign_keys``: the catalog's keys are checked.
- ``wal_autocheckpoint=0``: no commit pays for a checkpoint; only `Database.checkpoint` does.
- ``journal_size_limit``: a WAL that grew is cut back when it restarts, but keeps enough allocated
  blocks for deletes to work on a full disk.
- ``query_only`` on readers: a unit that only reads cannot change anything by mistake.
"""

from __future__ import annotations

import asyncio
import errno
import os
import time
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast
from weakref import ref

from store.errors import (
    IndexConflict,
    StorageFull,
    StorageReadOnly,
    StoreError,
    StoreRefused,
    TooManyOpenFiles,
    Unavailable,
)
from store.index.stats import Checkpoint

if TYPE_CHECKING:
    import sqlite3

    import aiosqlite

    from store.index.transactions import Row, Rows, Statement, Unit

    sqlite = sqlite3  # pysqlite3 has the same interface and no annotations
else:
    import pysqlite3.dbapi2 as sqlite

T = TypeVar("T")

# The driver asks each value that is no number and no text whether it adapts itself, which takes it
# longer than all else about the value; these two it asks here, in C, and they stay what they are.
sqlite.register_adapter(bytes, bytes)
sqlite.register_adapter(type(None), cast("Callable[[None], None]", {}.get))

SAFE_VERSION: Final = (3, 51, 3)
"""The first SQLite in which several connections cannot corrupt a WAL."""

WAL_KEPT_BYTES: Final = 8 << 20
"""How much of a WAL stays allocated after it restarts."""

WAITING: Final = frozenset({sqlite.SQLITE_BUSY, sqlite.SQLITE_LOCKED, sqlite.SQLITE_PROTOCOL})
"""Result codes that mean: somebody else is at it right now."""

_PROGRESS_STEPS: Final = 20_000
_STATEMENTS: Final = 512
_ROWS_AT_ONCE: Final = 8
"""Of appended ones; each number of rows is a statement of its own."""


def connect(
    path: Path | None,
    *,
    busy_seconds: float,
    cache_kib: int = 2048,
    is_reader: bool = False,
    is_relaxed: bool = False,
) -> sqlite.Connection:
    """Open a connection that any one thread at a time may use; None opens a new memory database."""
    if path is not None and sqlite.sqlite_version_info < SAFE_VERSION:
        raise StoreRefused(
            f"SQLite {sqlite.sqlite_version} can corrupt an index that several connections write; "
            f"install pysqlite3 with SQLite {'.'.join(map(str, SAFE_VERSION))} or newer"
        )
    try:
        connection = sqlite.connect(
            ":memory:" if path is None else str(path),
            timeout=busy_seconds,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=_STATEMENTS,
        )
    except sqlite.Error as error:
        raise translated(error, "opening the index", path) from error
    try:
        if path is not None and not is_reader:
            _require_wal(connection, path)
        for pragma in (
            f"synchronous={'NORMAL' if is_relaxed else 'FULL'}",
            "foreign_keys=ON",
            "wal_autocheckpoint=0",
            f"journal_size_limit={WAL_KEPT_BYTES}",
            f"cache_size=-{cache_kib}",
            f"query_only={'ON' if is_reader else 'OFF'}",
        ):
            connection.execute(f"PRAGMA {pragma}").fetchall()
    except BaseException as error:
        connection.close()
        if isinstance(error, sqlite.Error):
            raise translated(error, "opening the index", path) from error
        raise
    return connection


def _require_wal(connection: sqlite.Connection, path: Path) -> None:
    mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
    if mode != "wal":
        raise StoreRefused(
            f"the file system of {path.parent} cannot hold an index: SQLite stays in "
            f"{mode!r} mode there, as it does on network file systems"
        )


async def connect_thread(connector: Callable[[], sqlite.Connection]) -> aiosqlite.Connection:
    """Open a connection and give it a thread of its own.

    aiosqlite takes the connector that makes its connection, so it works on our SQLite although it
    was imported with the interpreter's; `sys.modules` stays as it is. Connecting happens before,
    because a connector that fails inside aiosqlite leaves its thread behind for a while.
    """
    import aiosqlite

    connection = await asyncio.to_thread(connector)
    return await aiosqlite.Connection(lambda: connection, iter_chunk_size=64)


async def hop(connection: aiosqlite.Connection, function: Callable[[], T]) -> T:
    """Run a function in the connection's thread: one hop, however many statements it runs.

    The public methods of aiosqlite cost one hop a statement, 36 to 85 µs each. This is the only
    place that knows its private way in; the version is pinned for it.
    """
    return await connection._execute(function)  # type: ignore[no-any-return, no-untyped-call]  # private


def raw(connection: aiosqlite.Connection) -> sqlite.Connection:
    """The driver's connection, to be touched only inside `hop`."""
    return connection._conn


class TimeLimit:
    """Until when one read may go on, by the monotonic clock; whoever gives up on it sets 0."""

    __slots__ = ("deadline",)

    def __init__(self, seconds: float) -> None:
        self.deadline = time.monotonic() + seconds

    def is_over(self) -> bool:
        return time.monotonic() > self.deadline

    def give_up(self) -> None:
        self.deadline = 0.0


class Transaction:
    """A `store.index.transactions.Tx` on one connection; its methods never suspend.

    Everything runs on one cursor, so that starting a statement resets the one before: a statement
    left half read would keep its snapshot and stop the WAL from restarting.
    """

    __slots__ = (
        "__weakref__",
        "_appended",
        "_connection",
        "_cursor",
        "_path",
        "is_reader",
        "limit",
        "now",
        "statements",
    )

    def __init__(
        self, connection: sqlite.Connection, path: Path | None, *, is_reader: bool
    ) -> None:
        self._connection = connection
        self._cursor = connection.cursor()
        self._path = path
        self._appended: dict[Rows, list[Row]] = {}
        self.is_reader = is_reader
        self.now = 0
        self.statements = 0
        self.limit: TimeLimit | None = None

    async def one(self, statement: Statement, /, **values: Any) -> Row | None:
        self.statements += 1
        if self.limit is not None:
            self._check_time(self.limit)
        if self._appended:
            self._write_before(statement.numbered)
        try:
            found = self._cursor.execute(statement.numbered, statement.bound(values))
            row: Row | None = found.fetchone()
        except sqlite.Error as error:
            raise self._translated(error) from error
        return row

    async def all(self, statement: Statement, /, **values: Any) -> list[Row]:
        self.statements += 1
        if self.limit is not None:
            self._check_time(self.limit)
        if self._appended:
            self._write_before(statement.numbered)
        try:
            found = self._cursor.execute(statement.numbered, statement.bound(values))
            return found.fetchall()
        except sqlite.Error as error:
            raise self._translated(error) from error

    async def run(self, statement: Statement, /, **values: Any) -> int:
        self._check_alive()
        self.statements += 1
        if self._appended:
            self._write_before(statement.numbered)
        try:
            count = self._cursor.execute(statement.numbered, statement.bound(values)).rowcount
            if count < 0:  # the driver does not count for statements that begin with WITH
                count = self._cursor.execute("SELECT changes()").fetchone()[0]
        except sqlite.Error as error:
            raise self._translated(error) from error
        return count

    async def run_many(self, statement: Statement, rows: Iterable[Mapping[str, Any]], /) -> None:
        self._check_alive()
        self.statements += 1
        if self._appended:
            self._write_before(statement.numbered)
        try:
            self._cursor.executemany(statement.numbered, map(statement.bound, rows))
        except sqlite.Error as error:
            raise self._translated(error) from error

    async def append(self, rows: Rows, values: Row, /) -> None:
        self._appended.setdefault(rows, []).append(values)

    def forget_appended(self) -> None:
        """Begin a unit: what one that raised had appended is not written."""
        if self._appended:
            self._appended = {}

    def write_appended(self) -> None:
        """End a unit: write what it appended."""
        appended, self._appended = self._appended, {}
        for rows, values in appended.items():
            for start in range(0, len(values), _ROWS_AT_ONCE):
                self._write(rows, values[start : start + _ROWS_AT_ONCE])

    def _write_before(self, sql: str) -> None:
        for rows in self._appended:
            if rows.table in sql:
                self.write_appended()
                return

    def _write(self, rows: Rows, values: list[Row]) -> None:
        self._check_alive()
        self.statements += 1
        try:
            self._cursor.execute(rows.sqlite(len(values)), list(chain.from_iterable(values)))
        except sqlite.Error as error:
            raise self._translated(error) from error

    def control(self, sql: str) -> None:
        """Run a statement that begins or ends something; errors of the driver pass."""
        self._cursor.execute(sql)

    def query(self, sql: str) -> Row:
        """The one row of a pragma; errors of the driver pass."""
        row: Row = self._cursor.execute(sql).fetchone()
        return row

    @property
    def changes(self) -> int:
        """How many rows this connection has changed since it was opened, taken back or not.

        Those of a statement that was left half read are missing; `changed` ends it first.
        """
        return self._connection.total_changes

    def changed(self) -> int:
        """The same, exactly; errors of the driver pass."""
        return int(self.query("SELECT total_changes()")[0])

    @property
    def is_active(self) -> bool:
        return self._connection.in_transaction

    def _check_alive(self) -> None:
        # On a full disk SQLite may give up the whole transaction; a unit that swallowed that error
        # would go on outside of one.
        if not self._connection.in_transaction:
            raise Unavailable("a write in a transaction that was given up")

    def _check_time(self, limit: TimeLimit) -> None:
        if limit.is_over():
            raise Unavailable("a read of the index that takes so long")

    def _translated(self, error: sqlite.Error) -> Exception:
        if self.is_reader and primary_code(error) == sqlite.SQLITE_READONLY:
            return RuntimeError("a unit that may only read tried to write")
        return translated(error, "a statement of the index", self._path)


def bound_time(connection: sqlite.Connection, transaction: Transaction) -> None:
    """Interrupt statements of this connection once its transaction's time limit is over.

    Its handler does not keep the transaction, which keeps the connection: no collection of garbage
    looks into connections, so neither would ever be freed.
    """
    kept_elsewhere = ref(transaction)

    def is_over() -> bool:  # anything but 0 interrupts
        now = kept_elsewhere()
        return now is not None and now.limit is not None and now.limit.is_over()

    connection.set_progress_handler(is_over, _PROGRESS_STEPS)


def drive(unit: Unit[T], transaction: Transaction) -> T:
    """Run a unit to its end on the calling thread.

    The methods of `Transaction` never suspend, so one step must reach the end; a unit that awaited
    anything else would hold the database for as long as that takes, and is refused.
    """
    transaction.forget_appended()
    steps = unit(transaction).__await__()
    try:
        next(steps)
    except StopIteration as end:
        transaction.write_appended()
        result: T = end.value
        return result
    close = getattr(steps, "close", None)
    if close is not None:
        close()
    raise RuntimeError(f"{unit!r} awaited something other than its transaction")


def wal_bytes(path: Path | None) -> int:
    """Size of the WAL of the database at `path`; 0 if it has none."""
    if path is None:
        return 0
    try:
        return os.stat(f"{path}-wal").st_size
    except FileNotFoundError:
        return 0


def checkpoint_blocking(transaction: Transaction, path: Path | None) -> Checkpoint:
    """Copy what can be copied without waiting for anybody."""
    try:
        _, frames, copied = transaction.query("PRAGMA wal_checkpoint(PASSIVE)")
    except sqlite.Error as error:
        raise translated(error, "a checkpoint of the index", path) from error
    return Checkpoint(frames=frames, copied=copied, wal_bytes=wal_bytes(path))


def primary_code(error: sqlite.Error) -> int:
    """SQLite's result code without its extension; 0 if SQLite did not raise this."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def translated(error: sqlite.Error, operation: str, path: Path | None) -> Exception:
    """The store's word for an error of the driver; a programming error is returned as it is."""
    code = primary_code(error)
    if code == sqlite.SQLITE_CONSTRAINT:
        return IndexConflict(str(error))
    if code == sqlite.SQLITE_READONLY:
        return StorageReadOnly(operation)
    if code in (sqlite.SQLITE_CORRUPT, sqlite.SQLITE_NOTADB):
        return StoreRefused(f"the index is damaged ({error}); rebuild it from the blobs with fsck")
    if code in (sqlite.SQLITE_FULL, sqlite.SQLITE_IOERR, sqlite.SQLITE_CANTOPEN):
        return _of_the_medium(code, operation, path)
    if code in (
        sqlite.SQLITE_BUSY,
        sqlite.SQLITE_LOCKED,
        sqlite.SQLITE_INTERRUPT,
        sqlite.SQLITE_PROTOCOL,
        sqlite.SQLITE_NOMEM,
        sqlite.SQLITE_PERM,
    ):
        return Unavailable(operation)
    return error


def _of_the_medium(code: int, operation: str, path: Path | None) -> StoreError:
    if code == sqlite.SQLITE_FULL or (path is not None and _is_full(path.parent)):
        return StorageFull()
    if _is_out_of_descriptors():
        return TooManyOpenFiles(operation)
    return Unavailable(operation)


def _is_full(directory: Path) -> bool:
    # SQLite says "I/O error", not "full", when its shared memory or a sync meets a full disk.
    try:
        room = os.statvfs(directory)
    except OSError:
        return False
    return room.f_bavail * room.f_frsize < 1 << 20


def _is_out_of_descriptors() -> bool:
    # SQLite does not pass errno on; asking for one more descriptor tells.
    try:
        os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        return error.errno in (errno.EMFILE, errno.ENFILE)
    return False
