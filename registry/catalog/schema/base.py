"""What the tables of the catalog share: one list of them, and how words and numbers are checked.

Times are microseconds since the epoch in UTC, digests are 32 raw bytes, facts are 0 or 1, JSON is
text; all as in `store.index.schema`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from sqlalchemy import (
    DDL,
    BigInteger,
    CheckConstraint,
    Column,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    event,
)

from store.index.partial import only

metadata = MetaData()

SCHEMA_NUMBER: Final = 14
"""The newest migration of this chain; part of ``PRAGMA user_version``."""

COUNTER: Final = Integer().with_variant(BigInteger(), "postgresql")
"""The type of a primary key that the database gives out."""


def one_of(column: str, words: Iterable[str], name: str) -> CheckConstraint:
    """`column` holds one of `words`."""
    listed = ", ".join(f"'{word}'" for word in words)
    return CheckConstraint(f"{column} IN ({listed})", name=name)


def compared(column: str, words: Iterable[str], name: str) -> CheckConstraint:
    """As `one_of`, for what is written often: SQLite makes a table of three words, for each row."""
    return CheckConstraint(" OR ".join(f"{column} = '{word}'" for word in words), name=name)


def within(column: str, most: int, name: str, *, least: int = 0) -> CheckConstraint:
    """`column` is text of so many characters, or NULL."""
    return CheckConstraint(f"length({column}) BETWEEN {least} AND {most}", name=name)


def fact(column: str, name: str) -> CheckConstraint:
    """`column` says yes or no."""
    return CheckConstraint(f"{column} IN (0, 1)", name=name)


def made() -> tuple[Column[Any], Column[Any]]:
    """When a row was made, and by whom."""
    return (
        Column("created_at", BigInteger, nullable=False),
        Column("created_by", Text, nullable=False),
    )


def changed() -> tuple[Column[Any], Column[Any]]:
    """When a row changed last, and how often: that number is in its entity tag."""
    return (
        Column("updated_at", BigInteger, nullable=False),
        Column("changes", BigInteger, nullable=False, server_default="1"),
    )


def deleted() -> tuple[Column[Any], Column[Any]]:
    """When a row was deleted softly, and by whom; NULL while it lives."""
    return Column("deleted_at", BigInteger), Column("deleted_by", Text)


def live_index(name: str, *columns: Any, unique: bool = False, told: Any = None) -> Index:
    """An index of the rows that are not deleted, and where `told` is given say it.

    SQLite tests the condition of a partial index once more on each row that it finds there. With
    `deleted_at` as the last column it need not read the row for that, so counting stays in the
    index: 10,000 entries in 0.5 ms instead of 38. A unique index cannot have it.
    """
    deletion = columns[0].table.c.deleted_at
    lives = deletion.is_(None) if told is None else deletion.is_(None) & told.is_not(None)
    kept = columns if unique else (*columns, deletion)
    return Index(name, *kept, unique=unique, **only(lives))


def after_making(table: Table, statement: str, *, dialect: str | None = None) -> None:
    """Run `statement` when `table` is created outright; migrations have their own."""
    ddl = DDL(statement)  # type: ignore[no-untyped-call]  # SQLAlchemy left this one without types
    event.listen(table, "after_create", ddl if dialect is None else ddl.execute_if(dialect=dialect))
