"""Rows of namespaces: the first segments of models' names."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Table, bindparam, delete, func, insert, select, update
from sqlalchemy import literal_column as literal

from registry.catalog.schema import models, namespaces
from registry.catalog.visible import few_shown_namespaces, of_few, shows_namespace
from registry.domain.models import Namespace
from store.index.transactions import Row, Statement, Tx

MOST_COUNTED: Final = 1_000
"""What a namespace holds is counted up to here: that it holds something is what matters."""

_FIELDS = {
    "id": namespaces.c.id,
    "slug": namespaces.c.slug,
    "folded": namespaces.c.folded,
    "owner_kind": namespaces.c.owner_kind,
    "owner": namespaces.c.owner,
    "visibility": namespaces.c.visibility,
    "description": namespaces.c.description,
    "quota_bytes": namespaces.c.quota_bytes,
    "quota_versions": namespaces.c.quota_versions,
    "quota_pins": namespaces.c.quota_pins,
    "created_at": namespaces.c.created_at,
    "created_by": namespaces.c.created_by,
    "updated_at": namespaces.c.updated_at,
    "changes": namespaces.c.changes,
}
_SELECT = select(*_FIELDS.values())
_BY_FOLDED = Statement(lambda: _SELECT.where(namespaces.c.folded == bindparam("folded")))
_BY_ID = Statement(lambda: _SELECT.where(namespaces.c.id == bindparam("id")))
_AFTER = (
    _SELECT.where(namespaces.c.folded > bindparam("after"))
    .order_by(namespaces.c.folded)
    .limit(bindparam("limit"))
)
_PAGE = Statement(_AFTER)
_PAGE_SEEN = Statement(lambda: _AFTER.where(shows_namespace()))
_PAGE_OF_FEW = Statement(lambda: _AFTER.where(of_few(namespaces.c.id)))
_SHOWN = Statement(
    lambda: select(namespaces.c.id).where(namespaces.c.id == bindparam("id"), shows_namespace())
)
_INSERT = Statement(
    lambda: insert(namespaces).values(
        {column.name: bindparam(name) for name, column in _FIELDS.items()}
    )
)
_UPDATE = Statement(
    lambda: (
        update(namespaces)
        .where(namespaces.c.id == bindparam("id_"))
        .values(
            owner_kind=bindparam("owner_kind"),
            owner=bindparam("owner"),
            visibility=bindparam("visibility"),
            description=bindparam("description"),
            quota_bytes=bindparam("quota_bytes"),
            quota_versions=bindparam("quota_versions"),
            quota_pins=bindparam("quota_pins"),
            updated_at=bindparam("updated_at"),
            changes=bindparam("changes"),
        )
    )
)
_DELETE = Statement(lambda: delete(namespaces).where(namespaces.c.id == bindparam("id_")))


def held(table: Table) -> tuple[Statement, Statement]:
    """How many rows of a namespace live, and how many are deleted, up to `MOST_COUNTED`."""
    at = table.c.deleted_at
    of_it = table.c.namespace == bindparam("namespace")
    found = [
        select(literal("1")).where(of_it, state).limit(literal(str(MOST_COUNTED))).subquery("held")
        for state in (at.is_(None), at.is_not(None))
    ]
    living, deleted = (Statement(select(func.count()).select_from(one)) for one in found)
    return living, deleted


_HELD = held(models)


def _namespace(row: Row) -> Namespace:
    return Namespace(**dict(zip(_FIELDS, row, strict=True)))


async def find_namespace(tx: Tx, folded: str) -> Namespace | None:
    row = await tx.one(_BY_FOLDED, folded=folded)
    return None if row is None else _namespace(row)


async def find_namespace_by_id(tx: Tx, id: str) -> Namespace | None:
    row = await tx.one(_BY_ID, id=id)
    return None if row is None else _namespace(row)


async def namespaces_after(tx: Tx, after: str, limit: int, *, seen: str | None) -> list[Namespace]:
    """A page in order of folded slug; `seen`: `registry.catalog.visible`."""
    if seen is None:
        rows = await tx.all(_PAGE, after=after, limit=limit)
    elif (few := await few_shown_namespaces(tx, seen)) is not None:
        rows = await tx.all(_PAGE_OF_FEW, after=after, limit=limit, few=few)
    else:
        rows = await tx.all(_PAGE_SEEN, after=after, limit=limit, seen=seen)
    return [_namespace(row) for row in rows]


async def is_namespace_shown(tx: Tx, id: str, seen: str) -> bool:
    """Whether a namespace is open itself, or holds a model that is."""
    return await tx.one(_SHOWN, id=id, seen=seen) is not None


async def insert_namespace(tx: Tx, namespace: Namespace) -> None:
    values: dict[str, Any] = {name: getattr(namespace, name) for name in _FIELDS}
    await tx.run(_INSERT, **values)


async def update_namespace(tx: Tx, namespace: Namespace) -> None:
    await tx.run(
        _UPDATE,
        id_=namespace.id,
        owner_kind=namespace.owner_kind,
        owner=namespace.owner,
        visibility=namespace.visibility,
        description=namespace.description,
        quota_bytes=namespace.quota_bytes,
        quota_versions=namespace.quota_versions,
        quota_pins=namespace.quota_pins,
        updated_at=namespace.updated_at,
        changes=namespace.changes,
    )


async def delete_namespace(tx: Tx, id: str) -> None:
    """The caller made sure that it holds nothing."""
    await tx.run(_DELETE, id_=id)


async def models_held(tx: Tx, id: str) -> tuple[int, int]:
    """How many models a namespace holds: living ones, deleted ones, each up to `MOST_COUNTED`."""
    return await count_held(tx, _HELD, id)


async def count_held(tx: Tx, statements: tuple[Statement, Statement], id: str) -> tuple[int, int]:
    """The answers to what `held` asks."""
    living, deleted = [await tx.one(statement, namespace=id) for statement in statements]
    assert living is not None, "a count"
    assert deleted is not None, "a count"
    return int(living[0]), int(deleted[0])
