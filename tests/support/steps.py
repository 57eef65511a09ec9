"""A transaction that counts the steps SQLite takes: what a list costs, whatever else runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from sqlalchemy import Table, Text

from registry.catalog.migrations import CHAINS
from store.index.driver import sqlite
from store.index.transactions import Row, Statement
from store.index.upgrade import create_blocking


class CountedTx:
    """Runs statements on a connection of its own to an index in memory; a `Tx`.

    Its rows need not be sound: nothing checks what they refer to, or what they say.
    """

    now = 0

    def __init__(self) -> None:
        self.connection = sqlite.connect(":memory:", isolation_level=None)
        create_blocking(self.connection, CHAINS)
        for name in ("foreign_keys = OFF", "ignore_check_constraints = ON"):
            self.connection.execute(f"PRAGMA {name}")
        self.steps = 0

    def __enter__(self) -> CountedTx:
        return self

    def __exit__(self, *raised: object) -> None:
        self.connection.close()

    def _step(self) -> int:
        self.steps += 1
        return 0

    async def all(self, statement: Statement, /, **values: Any) -> list[Row]:
        self.connection.set_progress_handler(self._step, 1)
        try:
            return list(self.connection.execute(statement.sqlite, values))
        finally:
            self.connection.set_progress_handler(None, 0)

    async def one(self, statement: Statement, /, **values: Any) -> Row | None:
        rows = await self.all(statement, **values)
        return rows[0] if rows else None

    async def run(self, statement: Statement, /, **values: Any) -> int:
        return self.connection.execute(statement.sqlite, values).rowcount

    async def run_many(self, statement: Statement, rows: Iterable[Mapping[str, Any]], /) -> None:
        self.connection.executemany(statement.sqlite, rows)


_FIXED: Final[dict[str, Any]] = {
    "kind": "model",
    "visibility": "private",
    "owner_kind": "user",
    "status": "registered",
    "risk_level": "medium",
    "tier": "hot",
    "type": "production",
    "aliases": "[]",
    "statuses": '["production"]',
    "rules": "{}",
    "tags": "{}",
    "config": "{}",
    "events": "[]",
    "protect_statuses": "[]",
    "protect_tags": "[]",
    "active": 1,
}


def put(tx: CountedTx, table: Table, **said: Any) -> None:
    """A row with what is said; the rest is as little as the table takes."""
    values: dict[str, Any] = {}
    for column in table.c:
        if column.name in said:
            values[column.name] = said[column.name]
        elif column.name in _FIXED and not column.nullable:
            values[column.name] = _FIXED[column.name]
        elif not column.nullable and column.server_default is None:
            values[column.name] = "x" if isinstance(column.type, Text) else 0
    names = ", ".join(f'"{name}"' for name in values)
    marks = ", ".join("?" * len(values))
    tx.connection.execute(
        f"INSERT INTO {table.name} ({names}) VALUES ({marks})", tuple(values.values())
    )
