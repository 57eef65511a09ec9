"""What a unit of work sees of the database: statements compiled once, and a transaction.

A **unit of work** is ``async def unit(tx)``.
It *must* await only methods of its `Tx`, *must not* change anything outside it, and *must* bear
being run more than once: a batch that fails is replayed unit by unit, and the contract suite runs
each unit twice, the first time rolled back.
Arguments (who acts, for which request, a freshly made id) are bound before, with a lambda or
`functools.partial`, never read from the surroundings inside.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from operator import itemgetter
from typing import Any, Final, Generic, Protocol, TypeAlias, TypeVar

from sqlalchemy import Column, bindparam, insert
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql import ClauseElement

T = TypeVar("T")

Row: TypeAlias = tuple[Any, ...]
"""One row as the driver gives it; the modules of rows turn it into a struct at once."""


class Statement:
    """A SQLAlchemy Core construct, compiled for a dialect when it is first run there.

    Those of modules are given as functions: what nobody asks for is not even made, and hundreds of
    them would be a fifth of the time a server takes to start.
    """

    __slots__ = ("_given", "bound", "numbered", "sqlite")

    sqlite: str
    """The SQL text for SQLite, with ``:name`` parameters."""

    numbered: str
    """The same with ``?1`` for the first of them: what runs, since the driver lets go of the
    interpreter's lock to ask for each name."""

    bound: Callable[[Mapping[str, Any]], Row]
    """From values by name to those of the numbers."""

    def __init__(self, construct: ClauseElement | Callable[[], ClauseElement]) -> None:
        self._given = construct

    @property
    def construct(self) -> ClauseElement:
        """The construct itself; where it was given as a function, made anew."""
        given = self._given
        return given if isinstance(given, ClauseElement) else given()

    def __getattr__(self, name: str) -> Any:
        """Compile, where that was not asked for before; afterwards all three are attributes."""
        if name not in ("bound", "numbered", "sqlite"):
            raise AttributeError(name)
        dialect = sqlite.dialect(paramstyle="named")
        compiled = self.construct.compile(dialect=dialect)
        text = str(compiled)
        for key, value in (compiled.params or {}).items():
            if value is not None:
                text = re.sub(rf":{re.escape(key)}\b", _literal(value), text)
        self.sqlite = text
        self.numbered, self.bound = _numbered(text)
        return getattr(self, name)

    def __repr__(self) -> str:
        return f"Statement({self.construct})"


class Rows:
    """Rows of one table for `Tx.append`: their columns, in the order in which values are given."""

    __slots__ = ("_columns", "_sqlite", "table")

    def __init__(self, *columns: Column[Any]) -> None:
        [table] = {column.table for column in columns}
        self.table = table.name
        self._columns = columns
        self._sqlite: dict[int, str] = {}

    def sqlite(self, count: int) -> str:
        """The SQL text that inserts so many rows, with their values one behind the other."""
        text = self._sqlite.get(count)
        if text is None:
            table = self._columns[0].table
            rows: list[dict[Any, Any]] = [
                {column: bindparam(f"{column.name}_{row}") for column in self._columns}
                for row in range(count)
            ]
            dialect = sqlite.dialect(paramstyle="qmark")
            # With ABORT each page would be copied before it is changed, lest one row be refused.
            compiled = insert(table).prefix_with("OR FAIL").values(rows).compile(dialect=dialect)
            given = [f"{column.name}_{row}" for row in range(count) for column in self._columns]
            assert getattr(compiled, "positiontup", None) == given, "in their order"
            text = self._sqlite[count] = str(compiled)
        return text


_PARAMETER: Final = re.compile(r"""'[^']*'|"[^"]*"|:(\w+)""")
"""One, or a quoted text or name, which has none."""


def _numbered(text: str) -> tuple[str, Callable[[Mapping[str, Any]], Row]]:
    """A statement's text with numbers for names, and what puts values in the order of numbers."""
    numbers: dict[str, int] = {}

    def number(found: re.Match[str]) -> str:
        name = found[1]
        return found[0] if name is None else f"?{numbers.setdefault(name, len(numbers) + 1)}"

    numbered = _PARAMETER.sub(number, text)
    match list(numbers):
        case []:
            return numbered, lambda _: ()
        case [name]:
            return numbered, lambda values: (values[name],)
        case names:
            return numbered, itemgetter(*names)


def _literal(value: object) -> str:
    """SQL text of a constant that the statement's author wrote, never a caller's value."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise TypeError(f"constant {value!r} in a statement; use bindparam")
    if isinstance(value, int):
        return str(value)
    if not value.isidentifier():
        raise ValueError(f"constant {value!r} in a statement is no plain word; use bindparam")
    return f"'{value}'"


class Tx(Protocol):
    """One transaction. `now` is the clock at its start, in microseconds since the epoch."""

    now: int

    async def one(self, statement: Statement, /, **values: Any) -> Row | None:
        """The first row, or None."""
        ...

    async def all(self, statement: Statement, /, **values: Any) -> list[Row]:
        """Every row; the statement carries its own LIMIT."""
        ...

    async def run(self, statement: Statement, /, **values: Any) -> int:
        """Change rows; return how many were changed."""
        ...

    async def run_many(self, statement: Statement, rows: Iterable[Mapping[str, Any]], /) -> None:
        """Run one statement for many rows."""
        ...

    async def append(self, rows: Rows, values: Row, /) -> None:
        """Insert a row before the unit ends, together with what is appended to the same table.

        Rows of a table stay in their order, and are there before any statement that names it.
        Constraints are those of the moment in which they are written; where one refuses a row, some
        before it may stay until the unit ends, which it does by what that raises.
        """
        ...


Unit: TypeAlias = Callable[[Tx], Awaitable[T]]


class MakesRoom(Generic[T]):
    """A unit that lets go of something large: on a full disk it may use room kept for such."""

    def __init__(self, unit: Unit[T]) -> None:
        self.unit = unit

    def __call__(self, tx: Tx) -> Awaitable[T]:
        return self.unit(tx)


class Index(Protocol):
    """The database as everything above it uses it; `store.index.database.Database` is the one."""

    async def run(self, unit: Unit[T]) -> T:
        """Run a unit that writes; return its result after the commit is durable.

        An exception from the unit rolls back that unit alone and is raised here.
        Raises `store.errors.Unavailable` if the commit failed or the database is closing,
        `store.errors.StorageFull` if the disk is.
        """
        ...

    def begin(self, unit: Unit[T]) -> asyncio.Future[T]:
        """As `run`, for whoever is told later; nobody measures how long it takes."""
        ...

    async def run_unnoticed(self, unit: Unit[T]) -> T:
        """As `run`, for what changes nothing that was found before: `change_counter` stays.

        Where anything else is committed at the same time, by any process, it moves as ever.
        """
        ...

    async def read(self, unit: Unit[T]) -> T:
        """Run a unit that only reads, on one consistent snapshot, in a reader thread."""
        ...

    async def look(self, unit: Unit[T]) -> T:
        """Run key look-ups on the calling thread where that is possible, else as `read` does."""
        ...

    def read_blocking(self, unit: Unit[T]) -> T:
        """Run a unit that only reads, from a worker thread."""
        ...
