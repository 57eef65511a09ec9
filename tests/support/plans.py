"""How SQLite would answer a statement: which indexes it would search, what it would scan."""

from __future__ import annotations

import re
from collections.abc import Iterable

from sqlalchemy import text

from store.index.transactions import Index, Statement, Tx

_NAME = re.compile(r"(?<![:\w]):([A-Za-z_]\w*)")


async def plan_of(index: Index, statement: Statement) -> list[str]:
    """The steps of the plan, as ``EXPLAIN QUERY PLAN`` words them."""
    [plan] = await plans_of(index, [statement])
    return plan


async def plans_of(index: Index, statements: Iterable[Statement]) -> list[list[str]]:
    """The plan of each."""
    asked = [
        (Statement(text(f"EXPLAIN QUERY PLAN {sql}")), dict.fromkeys(_NAME.findall(sql)))
        for sql in (statement.sqlite for statement in statements)
    ]

    async def unit(tx: Tx) -> list[list[str]]:
        return [[row[3] for row in await tx.all(explain, **values)] for explain, values in asked]

    return await index.read(unit)
