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

from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import Any, Final

import msgspec
from sqlalchemy import Column, Text, bindparam, func, or_, select, text, union
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
_SEEN_OF = Statement(
    lambda: select(models.c.id).where(models.c.id.in_(select(_ids.c.value)), sees_model())
)


async def seen_of(tx: Tx, seen: str | None, ids: Collection[str]) -> frozenset[str]:
    """Which of these models are seen, in whatever state."""
    if seen is None:
        return frozenset(ids)
    rows = await tx.all(_SEEN_OF, seen=seen, ids=_listed(ids))
    return frozenset(row[0] for row in rows)


def _some(column: ColumnElement[Any], *state: ColumnElement[bool]) -> Select[Any]:
    assert isinstance(column, Column)
    found = select(column.table.c.id).where(column.in_(_seen()), *state)
    return select(found.limit(bindparam("limit")).subquery("some").c.id)


_LIVES: Final = models.c.deleted_at.is_(None)
_WORDS: Final = func.json_each(bindparam("seen", type_=Text)).table_valued("value", name="word")
_MODEL_COLUMNS: Final = (models.c.id, models.c.namespace, models.c.visibility)
_FEW = Statement(lambda: union(*(_some(column, _LIVES) for column in _MODEL_COLUMNS)))
_FEW_EVER = Statement(lambda: union(*(_some(column) for column in _MODEL_COLUMNS)))
_FEW_NAMESPACES = Statement(
    lambda: union(*(_some(column) for column in (namespaces.c.id, namespaces.c.visibility)))
)
_FEW_OWNERS = Statement(
    lambda: union(
        select(_WORDS.c.value),
        _some(models.c.namespace),
        _some(models.c.visibility),
        _some(namespaces.c.visibility),
    )
)


async def few_seen(tx: Tx, seen: str) -> str | None:
    """JSON of the ids of all living models that are seen; None where they are more than `FEW`."""
    return await _few(tx, _FEW, seen)


async def few_ever(tx: Tx, seen: str) -> str | None:
    """The same of all models, deleted ones too."""
    return await _few(tx, _FEW_EVER, seen)


async def few_namespaces(tx: Tx, seen: str) -> str | None:
    """The same of namespaces that are open themselves (`sees_namespace`)."""
    return await _few(tx, _FEW_NAMESPACES, seen)


_SHOWN: Final = (
    select(namespaces.c.id, namespaces.c.id).where(namespaces.c.id.in_(_seen())),
    select(namespaces.c.id, namespaces.c.id).where(namespaces.c.visibility.in_(_seen())),
    select(models.c.id, models.c.namespace).where(models.c.id.in_(_seen()), _LIVES),
    select(models.c.id, models.c.namespace).where(models.c.visibility.in_(_seen()), _LIVES),
)
_FEW_SHOWN = Statement(
    lambda: union(
        *(
            select(text("*")).select_from(one.limit(bindparam("limit")).subquery("some"))
            for one in _SHOWN
        )
    )
)


async def few_shown_namespaces(tx: Tx, seen: str) -> str | None:
    """JSON of the ids of the namespaces of `shows_namespace`; None where too much shows them."""
    rows = await tx.all(_FEW_SHOWN, seen=seen, limit=FEW + 1)
    return None if len(rows) > FEW else _listed({row[1] for row in rows})


def _listed(ids: Collection[str]) -> str:
    return msgspec.json.encode(sorted(ids)).decode()


async def few_owners(tx: Tx, seen: str) -> str | None:
    """The same of whatever a column of `sees_owner` may name."""
    return await _few(tx, _FEW_OWNERS, seen)


async def _few(tx: Tx, statement: Statement, seen: str) -> str | None:
    rows = await tx.all(statement, seen=seen, limit=FEW + 1)
    return None if len(rows) > FEW else _listed([row[0] for row in rows])


FEW_ROWS: Final = 10_000
"""So many rows are looked at one by one, whoever may see them, to find those that are seen."""


def of_few(owner: ColumnElement[Any]) -> ColumnElement[bool]:
    """Whether a column names one of the few that are bound; it leads."""
    listed = func.json_each(bindparam("few", type_=Text)).table_valued("value", name="few_owners")
    return owner.in_(select(listed.c.value))


def page_of_few(
    owner: Column[str],
    order: Sequence[Column[Any]],
    tests: Sequence[ColumnElement[bool]],
    *,
    source: FromClause | None = None,
    is_rising: bool = False,
) -> ColumnElement[bool]:
    """Whether a row is of the first page of what the few own, merged from the lists of each.

    `order` ends with the id; `tests` are all that is asked of a row, its place too, and `source` is
    what they need beside its table. Only so many owners are listed as the page has rows: those
    whose first row comes first. So it costs a search for each of the few, and what the page holds.
    """
    page = _page_of_few(owner, order, tests, source, is_rising=is_rising)
    return owner.table.c.id.in_(page.correlate(None))


def newest_of_few(
    tests: Mapping[Column[str], Sequence[ColumnElement[bool]]],
) -> ColumnElement[bool]:
    """The same of what is in the order of ids backwards and may be owned by several columns."""
    pages = [
        _page_of_few(owner, (owner.table.c.id,), asked).correlate(None).subquery()
        for owner, asked in tests.items()
    ]
    [table] = {owner.table for owner in tests}
    return table.c.id.in_(union(*(select(page.c.id) for page in pages)))


def _page_of_few(
    owner: Column[str],
    order: Sequence[Column[Any]],
    tests: Sequence[ColumnElement[bool]],
    source: FromClause | None = None,
    *,
    is_rising: bool = False,
) -> Select[Any]:
    table = owner.table
    ordered = [column.asc() if is_rising else column.desc() for column in order]
    few = func.json_each(bindparam("few", type_=Text)).table_valued("value", name="few_owners")

    def listed(of: ColumnElement[Any]) -> Select[Any]:
        rows = select(table.c.id).select_from(table if source is None else source)
        return rows.where(owner == of, *tests).order_by(*ordered)

    first = listed(few.c.value).limit(literal("1")).correlate(few).scalar_subquery()
    firsts = select(first.label("id")).select_from(few).subquery("firsts")
    leaders = (
        select(owner.label("id"))
        .where(table.c.id.in_(select(firsts.c.id)))
        .order_by(*ordered)
        .limit(bindparam("limit"))
        .subquery("leaders")
    )
    theirs = listed(leaders.c.id).limit(bindparam("limit")).correlate(leaders)
    found = select(table.c.id).select_from(leaders.join(table, table.c.id.in_(theirs)))
    return found.order_by(*ordered).limit(bindparam("limit"))


async def few_lead(
    tx: Tx, few: str, owner: Column[str], others: Statement | None = None, **bound: Any
) -> bool:
    """Whether a list runs along what the few own, rather than along another index.

    `others` counts up to `most` the entries of that index: where what they own is much and those
    are not, the index leads.
    """
    if others is None or await own_little(tx, few, owner):
        return True
    return await _count(tx, others, **bound) > FEW_ROWS


async def own_little(tx: Tx, few: str, owner: Column[str]) -> bool:
    """Whether the few own no more than `FEW_ROWS`."""
    return await _count(tx, _rows_of(owner), few=few) <= FEW_ROWS


async def _count(tx: Tx, statement: Statement, **bound: Any) -> int:
    row = await tx.one(statement, most=FEW_ROWS + 1, **bound)
    assert row is not None, "a count"
    return int(row[0])


def counted(*conditions: ColumnElement[bool]) -> Statement:
    """How many rows there are, up to `most`."""
    some = select(literal("1")).where(*conditions).limit(bindparam("most")).subquery("some")
    return Statement(select(func.count()).select_from(some))


@cache
def _rows_of(owner: Column[str]) -> Statement:
    return counted(of_few(owner))
