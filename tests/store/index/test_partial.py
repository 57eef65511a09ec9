"""Indexes of some rows have their condition on each database, and load none that is not used."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, Index, Integer, MetaData, Table, create_mock_engine
from sqlalchemy.schema import CreateIndex, SchemaItem

from store.index.partial import only


def test_a_partial_index_has_its_condition_on_both_databases() -> None:
    statements: list[str] = []

    def note(sql: SchemaItem, *_: Any, **__: Any) -> None:
        if isinstance(sql, CreateIndex):
            statements.append(str(sql.compile(dialect=engine.dialect)))

    for name in ("sqlite", "postgresql"):
        metadata = MetaData()
        table = Table("things", metadata, Column("id", Integer), Column("gone_at", Integer))
        Index("things_gone", table.c.id, **only(table.c.gone_at.is_not(None)))
        engine = create_mock_engine(f"{name}://", note)
        metadata.create_all(engine, checkfirst=False)

    wanted = "CREATE INDEX things_gone ON things (id) WHERE gone_at IS NOT NULL"
    assert statements == [wanted, wanted]
