"""Rows of environments. A deleted one keeps its row, which its former deployments name."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import msgspec
from sqlalchemy import bindparam, func, insert, select, tuple_, update
from sqlalchemy import literal_column as literal
from sqlalchemy.sql.elements import ColumnElement

from registry.catalog.schema import environments
from registry.domain.environments import Environment
from store.index.transactions import Row, Statement, Tx

_FIELDS: Final = {
    "id": environments.c.id,
    "name": environments.c.name,
    "folded": environments.c.folded,
    "type": environments.c.type,
    "region": environments.c.region,
    "kubernetes_namespace": environments.c.kubernetes_namespace,
    "description": environments.c.description,
    "config": environments.c.config,
    "is_active": environments.c.active,
    "created_at": environments.c.created_at,
    "created_by": environments.c.created_by,
    "updated_at": environments.c.updated_at,
    "changes": environments.c.changes,
    "deleted_at": environments.c.deleted_at,
    "deleted_by": environments.c.deleted_by,
}
_WRITTEN: Final[dict[str, Any]] = {column.name: bindparam(name) for name, column in _FIELDS.items()}
_SELECT: Final = select(*_FIELDS.values())
_BY_ID = Statement(lambda: _SELECT.where(environments.c.id == bindparam("id")))
_BY_NAME = Statement(
    lambda: _SELECT.where(
        environments.c.folded == bindparam("folded"), environments.c.deleted_at.is_(None)
    )
)
_INSERT = Statement(lambda: insert(environments).values(_WRITTEN))
_UPDATE = Statement(
    lambda: (
        update(environments)
        .where(environments.c.id == bindparam("id_"))
        .values({name: value for name, value in _WRITTEN.items() if name != "id"})
    )
)


class EnvironmentFilters(msgspec.Struct, frozen=True, kw_only=True):
    """Which environments are listed; None where it does not matter."""

    type: str | None = None
    active: bool | None = None
    is_deleted: bool = False

    def bound(self) -> dict[str, str | int]:
        """The values of what is asked, by name."""
        found: dict[str, str | int] = {}
        if self.type is not None:
            found["type"] = self.type
        if self.active is not None:
            found["active"] = int(self.active)
        return found


def _environment(row: Row) -> Environment:
    values = dict(zip(_FIELDS, row, strict=True))
    values["is_active"] = bool(values["is_active"])
    return Environment(**values)


def _values(environment: Environment) -> dict[str, Any]:
    return {name: getattr(environment, name) for name in _FIELDS}


async def find_environment(tx: Tx, id: str) -> Environment | None:
    """The environment, deleted or not."""
    row = await tx.one(_BY_ID, id=id)
    return None if row is None else _environment(row)


async def find_environment_by_name(tx: Tx, folded: str) -> Environment | None:
    """The living environment of that folded name."""
    row = await tx.one(_BY_NAME, folded=folded)
    return None if row is None else _environment(row)


async def insert_environment(tx: Tx, environment: Environment) -> None:
    await tx.run(_INSERT, **_values(environment))


async def update_environment(tx: Tx, environment: Environment) -> None:
    values = _values(environment)
    await tx.run(_UPDATE, id_=values.pop("id"), **values)


async def environments_after(
    tx: Tx, filters: EnvironmentFilters, place: str | tuple[int, str] | None, limit: int
) -> list[Environment]:
    """A page behind a place: in order of folded name, or of deletion, the latest first.

    The place is the folded name; of deleted ones the time and the id.
    """
    values: dict[str, Any] = dict(filters.bound())
    statement = _page(tuple(values), is_deleted=filters.is_deleted, has_place=place is not None)
    if isinstance(place, str):
        values["after"] = place
    elif place is not None:
        values["after"], values["id"] = place
    return [_environment(row) for row in await tx.all(statement, limit=limit, **values)]


async def count_environments(tx: Tx, filters: EnvironmentFilters, most: int) -> int:
    """How many there are, up to `most`."""
    values = filters.bound()
    statement = _count(tuple(values), is_deleted=filters.is_deleted)
    row = await tx.one(statement, limit=most, **values)
    assert row is not None, "a count"
    return int(row[0])


@cache
def _page(given: tuple[str, ...], *, is_deleted: bool, has_place: bool) -> Statement:
    question = _SELECT.where(*_tests(given, is_deleted=is_deleted))
    if is_deleted:
        place = tuple_(environments.c.deleted_at, environments.c.id)
        if has_place:
            question = question.where(place < tuple_(bindparam("after"), bindparam("id")))
        order = (environments.c.deleted_at.desc(), environments.c.id.desc())
        return Statement(question.order_by(*order).limit(bindparam("limit")))
    if has_place:
        question = question.where(environments.c.folded > bindparam("after"))
    return Statement(question.order_by(environments.c.folded).limit(bindparam("limit")))


@cache
def _count(given: tuple[str, ...], *, is_deleted: bool) -> Statement:
    counted = (
        select(literal("1"))
        .select_from(environments)
        .where(*_tests(given, is_deleted=is_deleted))
        .limit(bindparam("limit"))
        .subquery("counted")
    )
    return Statement(select(func.count()).select_from(counted))


def _tests(given: tuple[str, ...], *, is_deleted: bool) -> list[ColumnElement[bool]]:
    deletion = environments.c.deleted_at
    found = [deletion.is_not(None) if is_deleted else deletion.is_(None)]
    return found + [environments.c[name] == bindparam(name) for name in given]
