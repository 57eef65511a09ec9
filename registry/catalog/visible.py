"""Which models a reader sees, as a condition of the statements that read them and what is theirs.

What somebody sees is bound as ``seen``, a JSON list of words: ids of models, ids of namespaces, and
levels (`registry.domain.principals.Visibility.seen`). A model is seen if its id, its namespace or
its visibility is among them; what belongs to it is seen with it. Who sees everything binds nothing
and asks without a condition: statements come in two forms.

**No condition chooses an index.** They are worded so that the planner cannot take one for them:
which index a list runs along follows from what else is asked. A reader who sees few models among
many would pass over most rows that way, so lists ask `few_seen` first and run along those few.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from typing import Any, Final

import msgspec
from sqlalchemy import Column, Text, bindparam, func, or_, select
from sqlalchemy import literal_column as literal
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.selectable import FromClause, Select

from registry.catalog.schema import models, namespaces
from store.index.transactions import Statement, Tx

FEW: Final = 1_000
"""So many models are looked up one by one rather than found among all; it takes 3 ms."""


def sees_model(model: FromClause = models) -> ColumnElement[bool]:
    """Whether a row of models is seen."""
    columns = (model.c.id, model.c.namespace, model.c.visibility)
    return or_(*(_tested(column).in_(_seen()) for column in columns))


def sees_owner(owner: ColumnElement[Any]) -> ColumnElement[bool]:
    """Whether a column names something seen: a model's id, or a namespace's."""
    model = models.alias("owning_model")
    of_model = _is(owner, model.c.id, model.c.namespace, model.c.visibility)
    namespace = namespaces.alias("owning_namespace")
    return or_(
        _tested(owner).in_(_seen()), of_model, _is(owner, namespace.c.id, namespace.c.visibility)
    )


def sees_model_of(id: ColumnElement[Any]) -> ColumnElement[bool]:
    """Whether a column names a model that is seen."""
    model = models.alias("its_model")
    of_model = _is(id, model.c.id, model.c.namespace, model.c.visibility)
    return or_(_tested(id).in_(_seen()), of_model)


def sees_namespace(id: ColumnElement[Any]) -> ColumnElement[bool]:
    """Whether a column names a namespace that is open itself, and with it what belongs to it."""
    namespace = namespaces.alias("its_namespace")
    return or_(_tested(id).in_(_seen()), _is(id, namespace.c.id, namespace.c.visibility))


def shows_namespace() -> ColumnElement[bool]:
    """Whether a row of namespaces is open itself, or holds a living model that is seen.

    A model of it that is seen by its level is one seek, however many others it holds.
    """
    namespace, model, named = namespaces, models.alias("held_model"), models.alias("named_model")
    of_named = select(named.c.namespace).where(
        named.c.id.in_(_seen()), named.c.deleted_at.is_(None)
    )
    holds: Select[Any] = select(literal("1")).where(
        model.c.namespace == namespace.c.id,
        model.c.visibility.in_(_seen()),
        model.c.deleted_at.is_(None),
    )
    return or_(
        *(_tested(column).in_(_seen()) for column in (namespace.c.id, namespace.c.visibility)),
        _tested(namespace.c.id).in_(of_named),
        holds.exists(),
    )


def _is(
    id: ColumnElement[Any], own_id: ColumnElement[Any], *said: ColumnElement[Any]
) -> ColumnElement[bool]:
    """Whether there is a row with this id that says something seen."""
    is_seen = or_(*(column.in_(_seen()) for column in said))
    return select(literal("1")).where(own_id == id, is_seen).exists()


def _seen() -> Select[Any]:
    listed = func.json_each(bindparam("seen", type_=Text)).table_valued("value", name="word")
    return select(listed.c.value)


def _tested(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """The same value, in words for which no index can be taken."""
    return func.coalesce(column, literal("NULL"))


_ids = func.json_each(bindparam("ids", type_=Text)).table_valued("value", name="asked")
_SEEN_OF = Statement(select(models.c.id).where(models.c.id.in_(select(_ids.c.value)), sees_model()))


async def seen_of(tx: Tx, seen: str | None, ids: Collection[str]) -> frozenset[str]:
    """Which of these models are seen, in whatever state."""
    if seen is None:
        return frozenset(ids)
    rows = await tx.all(_SEEN_OF, seen=seen, ids=msgspec.json.encode(sorted(ids)).decode())
    return frozenset(row[0] for row in rows)


def _some(column: ColumnElement[Any]) -> Select[Any]:
    found = select(models.c.id).where(column.in_(_seen()), models.c.deleted_at.is_(None))
    return select(found.limit(bindparam("limit")).subquery("some").c.id)


_FEW = Statement(_some(models.c.id).union(_some(models.c.namespace), _some(models.c.visibility)))


FEW_ROWS: Final = 10_000
"""So many rows of the few models are sorted rather than found among those of all."""


def of_few(model: ColumnElement[Any]) -> ColumnElement[bool]:
    """Whether a column names one of the few models that `few_of` found; it leads."""
    listed = func.json_each(bindparam("few", type_=Text)).table_valued("value", name="few_models")
    return model.in_(select(listed.c.value))


async def few_of(tx: Tx, seen: str, model: Column[str]) -> str | None:
    """What `few_seen` finds, if not too many rows name those models in a column."""
    few = await few_seen(tx, seen)
    if few is None:
        return None
    row = await tx.one(_rows_of(model), few=few, most=FEW_ROWS + 1)
    assert row is not None, "a count"
    return few if row[0] <= FEW_ROWS else None


@cache
def _rows_of(model: Column[str]) -> Statement:
    some = select(literal("1")).where(of_few(model)).limit(bindparam("most")).subquery("some")
    return Statement(select(func.count()).select_from(some))


async def few_seen(tx: Tx, seen: str) -> str | None:
    """JSON of the ids of all living models that are seen; None where they are more than `FEW`."""
    rows = await tx.all(_FEW, seen=seen, limit=FEW + 1)
    if len(rows) > FEW:
        return None
    return msgspec.json.encode([row[0] for row in rows]).decode()
