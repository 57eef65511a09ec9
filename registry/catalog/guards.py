"""Rows of promotion guards."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import msgspec
from sqlalchemy import bindparam, delete, func, insert, or_, select, union_all, update
from sqlalchemy import literal_column as literal

from registry.catalog.schema import guards, models, namespaces
from registry.catalog.visible import few_owners, newest_of_few, sees_model_of, sees_namespace
from registry.domain.guards import Guard, Rules
from store.index.transactions import Row, Statement, Tx

_FIELDS: Final = {
    "id": guards.c.id,
    "model_id": guards.c.model,
    "namespace_id": guards.c.namespace,
    "aliases": guards.c.aliases,
    "statuses": guards.c.statuses,
    "rules": guards.c.rules,
    "description": guards.c.description,
    "is_active": guards.c.active,
    "created_at": guards.c.created_at,
    "created_by": guards.c.created_by,
    "updated_at": guards.c.updated_at,
    "changes": guards.c.changes,
}
_WRITTEN: Final[dict[str, Any]] = {column.name: bindparam(name) for name, column in _FIELDS.items()}
_SELECT: Final = select(*_FIELDS.values())
_FIND = Statement(lambda: _SELECT.where(guards.c.id == bindparam("id")))
_ACTIVE = _SELECT.where(guards.c.active == literal("1"))
_COVERING = Statement(
    lambda: union_all(  # without an order, which would be a table to sort each time
        _ACTIVE.where(guards.c.model == bindparam("model")),
        _ACTIVE.where(guards.c.namespace == bindparam("namespace")),
    )
)
_COUNT = Statement(
    lambda: select(func.count()).where(
        or_(guards.c.model == bindparam("model"), guards.c.namespace == bindparam("namespace"))
    )
)
_INSERT = Statement(lambda: insert(guards).values(_WRITTEN))
_UPDATE = Statement(
    lambda: (
        update(guards)
        .where(guards.c.id == bindparam("id_"))
        .values({name: value for name, value in _WRITTEN.items() if name != "id"})
    )
)
_DELETE = Statement(lambda: delete(guards).where(guards.c.id == bindparam("id_")))
_DELETE_OF_NAMESPACE = Statement(
    lambda: delete(guards).where(guards.c.namespace == bindparam("namespace"))
)
_NAME_OF_MODEL = Statement(lambda: select(models.c.name).where(models.c.id == bindparam("id")))
_NAME_OF_NAMESPACE = Statement(
    lambda: select(namespaces.c.slug).where(namespaces.c.id == bindparam("id"))
)


class ListedGuard(msgspec.Struct, frozen=True):
    """A guard with the name of what it covers."""

    guard: Guard
    covers: str


def _guard(row: Row) -> Guard:
    values = dict(zip(_FIELDS, row, strict=True))
    for name in ("aliases", "statuses"):
        values[name] = msgspec.json.decode(values[name], type=tuple[str, ...])
    values["rules"] = msgspec.json.decode(values["rules"], type=Rules)
    values["is_active"] = bool(values["is_active"])
    return Guard(**values)


def _values(guard: Guard) -> dict[str, Any]:
    values = {name: getattr(guard, name) for name in _FIELDS}
    for name in ("aliases", "statuses", "rules"):
        values[name] = msgspec.json.encode(values[name]).decode()
    values["is_active"] = int(guard.is_active)
    return values


async def find_guard(tx: Tx, id: str) -> Guard | None:
    """The guard, whatever it covers."""
    row = await tx.one(_FIND, id=id)
    return None if row is None else _guard(row)


async def covering(tx: Tx, model_id: str, namespace_id: str) -> list[Guard]:
    """Active guards of a model and of its namespace, in the order of making."""
    found = await tx.all(_COVERING, model=model_id, namespace=namespace_id)
    return [_guard(row) for row in sorted(found)]


async def count_guards(tx: Tx, *, model_id: str | None, namespace_id: str | None) -> int:
    """How many guards of a model or of a namespace there are."""
    row = await tx.one(_COUNT, model=model_id, namespace=namespace_id)
    assert row is not None, "a count"
    return int(row[0])


async def covered_name(tx: Tx, guard: Guard) -> str:
    """What the covered model or namespace is called; a deleted model still is."""
    if guard.model_id is not None:
        row = await tx.one(_NAME_OF_MODEL, id=guard.model_id)
    else:
        row = await tx.one(_NAME_OF_NAMESPACE, id=guard.namespace_id)
    return "" if row is None else str(row[0])


async def guards_before(
    tx: Tx,
    *,
    model_id: str | None,
    namespace_id: str | None,
    seen: str | None,
    before: str | None,
    limit: int,
) -> list[ListedGuard]:
    """A page, the latest made first, behind the id `before`; `seen`: `catalog.visible`."""
    given = {"model": model_id, "namespace": namespace_id, "seen": seen, "before": before}
    values = {name: value for name, value in given.items() if value is not None}
    if seen is not None and model_id is None and namespace_id is None:
        few = await few_owners(tx, seen)
        if few is not None:
            del values["seen"]
            values["few"] = few
    rows = await tx.all(_page(tuple(values)), limit=limit, **values)
    return [ListedGuard(_guard(row[:-1]), row[-1] or "") for row in rows]


@cache
def _page(given: tuple[str, ...]) -> Statement:
    """Ids sort by time of making, so they are the order."""
    question = select(
        *_FIELDS.values(), func.coalesce(models.c.name, namespaces.c.slug)
    ).select_from(
        guards.outerjoin(models, models.c.id == guards.c.model).outerjoin(
            namespaces, namespaces.c.id == guards.c.namespace
        )
    )
    conditions = {
        "model": guards.c.model == bindparam("model"),
        "namespace": guards.c.namespace == bindparam("namespace"),
        "seen": or_(sees_namespace(guards.c.namespace), sees_model_of(guards.c.model)),
        "before": guards.c.id < bindparam("before"),
    }
    asked = [conditions[name] for name in given if name != "few"]
    if "few" in given:
        asked = [newest_of_few(dict.fromkeys((guards.c.model, guards.c.namespace), asked))]
    return Statement(question.where(*asked).order_by(guards.c.id.desc()).limit(bindparam("limit")))


async def insert_guard(tx: Tx, guard: Guard) -> None:
    await tx.run(_INSERT, **_values(guard))


async def update_guard(tx: Tx, guard: Guard) -> None:
    values = _values(guard)
    await tx.run(_UPDATE, id_=values.pop("id"), **values)


async def delete_guard_row(tx: Tx, id: str) -> None:
    await tx.run(_DELETE, id_=id)


async def delete_guards_of_namespace(tx: Tx, namespace_id: str) -> int:
    """Remove the guards of a namespace that goes; how many."""
    return await tx.run(_DELETE_OF_NAMESPACE, namespace=namespace_id)
