"""Rows of redirects: the former names of models.

A redirect leads to a model only while that lives. Those of a deleted model are asleep: they hold no
name, go when somebody takes it, and lead on again if the model is restored before.
"""

from __future__ import annotations

from sqlalchemy import bindparam, delete, insert, select

from registry.catalog.schema import models, redirects
from registry.domain.models import Redirect
from store.index.transactions import Row, Statement, Tx

_SELECT = select(
    redirects.c.name, redirects.c.model, redirects.c.created_at, redirects.c.created_by
)
_FIND = Statement(
    lambda: _SELECT.join(models, models.c.id == redirects.c.model).where(
        redirects.c.folded == bindparam("folded"), models.c.deleted_at.is_(None)
    )
)
_PAGE = Statement(
    lambda: (
        _SELECT.where(
            redirects.c.model == bindparam("model"), redirects.c.folded > bindparam("after")
        )
        .order_by(redirects.c.folded)
        .limit(bindparam("limit"))
    )
)
_INSERT = Statement(
    lambda: insert(redirects).values(
        folded=bindparam("folded"),
        name=bindparam("name"),
        model=bindparam("model"),
        created_at=bindparam("now"),
        created_by=bindparam("actor"),
    )
)
_DELETE = Statement(lambda: delete(redirects).where(redirects.c.folded == bindparam("folded_")))


def _redirect(row: Row) -> Redirect:
    return Redirect(*row)


async def find_redirect(tx: Tx, folded: str) -> Redirect | None:
    """Where a former name leads, if to a model that lives."""
    row = await tx.one(_FIND, folded=folded)
    return None if row is None else _redirect(row)


async def redirects_to(tx: Tx, model_id: str, after: str, limit: int) -> list[Redirect]:
    """A page of the former names of a model, in their order; start with ``""``."""
    rows = await tx.all(_PAGE, model=model_id, after=after, limit=limit)
    return [_redirect(row) for row in rows]


async def insert_redirect(tx: Tx, folded: str, name: str, model_id: str, actor: str) -> None:
    await tx.run(_INSERT, folded=folded, name=name, model=model_id, now=tx.now, actor=actor)


async def delete_redirect(tx: Tx, folded: str) -> bool:
    """Remove a redirect, also one that is asleep; says whether there was one."""
    return await tx.run(_DELETE, folded_=folded) > 0
