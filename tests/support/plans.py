"""How SQLite would answer a statement: which indexes it would search, what it would scan."""

from __future__ import annotations

import re

from sqlalchemy import text

from store.index.transactions import Index, Statement, Tx

_NAME = re.compile(r"(?<![:\w]):([A-Za-z_]\w*)")


async def plan_of(index: Index, statement: Statement) -> list[str]:
    """The steps of the plan, as ``EXPLAIN QUERY PLAN`` words them."""
    sql = statement.sqlite
    explain = Statement(text(f"EXPLAIN QUERY PLAN {sql}"))
    values = dict.fromkeys(_NAME.findall(sql))

    async def unit(tx: Tx) -> list[str]:
        return [row[3] for row in await tx.all(explain, **values)]

    return await index.read(unit)
