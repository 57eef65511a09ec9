"""The status in a version's row. Only `registry.services.moves` may write it."""

from __future__ import annotations

from sqlalchemy import bindparam, update

from registry.catalog.schema import versions
from store.index.transactions import Statement, Tx

_SET = Statement(
    lambda: (
        update(versions)
        .where(versions.c.id == bindparam("id_"))
        .values(
            status=bindparam("status"),
            updated_at=bindparam("now"),
            changes=versions.c.changes + 1,
        )
    )
)


async def write_status(tx: Tx, version_id: str, status: str) -> None:
    await tx.run(_SET, id_=version_id, status=status, now=tx.now)
