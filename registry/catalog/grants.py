"""Rows of grants: which role whom on what."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import msgspec
from sqlalchemy import Text, bindparam, delete, func, insert, or_, select, update

from registry.catalog.schema import grants, models, namespaces, teams, users
from registry.domain.accounts import Grant
from store.index.transactions import Row, Statement, Tx

_FIELDS: Final = {
    "id": grants.c.id,
    "subject_kind": grants.c.subject_kind,
    "subject": grants.c.subject,
    "resource_kind": grants.c.resource_kind,
    "resource": grants.c.resource,
    "role": grants.c.role,
    "created_at": grants.c.created_at,
    "created_by": grants.c.created_by,
}
# Ids of users, teams and models differ by their prefixes, and no pattern begins like one.
_NAMED: Final = (
    select(*_FIELDS.values(), users.c.username, teams.c.name, models.c.name)
    .outerjoin(users, users.c.id == grants.c.subject)
    .outerjoin(teams, teams.c.id == grants.c.subject)
    .outerjoin(models, models.c.id == grants.c.resource)
)
_BY_ID = Statement(lambda: _NAMED.where(grants.c.id == bindparam("id")))
_SAME = Statement(
    lambda: select(*_FIELDS.values()).where(
        grants.c.subject_kind == bindparam("subject_kind"),
        grants.c.subject == bindparam("subject"),
        grants.c.resource_kind == bindparam("resource_kind"),
        grants.c.resource == bindparam("resource"),
    )
)
_INSERT = Statement(
    lambda: insert(grants).values(
        {column.name: bindparam(name) for name, column in _FIELDS.items()}
    )
)
_UPDATE = Statement(
    lambda: update(grants).where(grants.c.id == bindparam("id_")).values(role=bindparam("role"))
)
_DELETE = Statement(lambda: delete(grants).where(grants.c.id == bindparam("id_")))
_DELETE_TO = Statement(
    lambda: delete(grants).where(
        grants.c.subject_kind == bindparam("kind"), grants.c.subject == bindparam("subject_")
    )
)
_DELETE_ON = Statement(
    lambda: delete(grants).where(
        grants.c.resource_kind == bindparam("kind"), grants.c.resource == bindparam("resource_")
    )
)


class NamedGrant(msgspec.Struct, frozen=True):
    """A grant, and what its subject and its resource are called now."""

    grant: Grant
    subject_name: str
    resource_name: str


class Administered(msgspec.Struct, frozen=True):
    """Where somebody administers: ids of namespaces, and of models besides."""

    namespaces: tuple[str, ...]
    models: tuple[str, ...]


def _grant(row: Row) -> Grant:
    return Grant(**dict(zip(_FIELDS, row, strict=True)))


def _named(row: Row) -> NamedGrant:
    grant = _grant(row[:-3])
    username, team, model = row[-3:]
    return NamedGrant(grant, username or team or "", model or grant.resource)


async def find_grant(tx: Tx, id: str) -> NamedGrant | None:
    row = await tx.one(_BY_ID, id=id)
    return None if row is None else _named(row)


async def find_same_grant(tx: Tx, grant: Grant) -> Grant | None:
    """What its subject was given on its resource before, whichever role."""
    row = await tx.one(
        _SAME,
        subject_kind=grant.subject_kind,
        subject=grant.subject,
        resource_kind=grant.resource_kind,
        resource=grant.resource,
    )
    return None if row is None else _grant(row)


async def grants_after(
    tx: Tx, after: str, limit: int, *, within: Administered | None, **filters: str | None
) -> list[NamedGrant]:
    """A page in order of ids; start with ``""``.

    `within` leaves those on what somebody administers, None leaves all; `filters` are values of
    ``subject``, ``resource_kind`` and ``resource``.
    """
    values = {name: value for name, value in filters.items() if value is not None}
    bound: dict[str, Any] = dict(values)
    if within is not None:
        bound["spaces"] = msgspec.json.encode(within.namespaces).decode()
        bound["models"] = msgspec.json.encode(within.models).decode()
    rows = await tx.all(_page(tuple(values), within is None), after=after, limit=limit, **bound)
    return [_named(row) for row in rows]


@cache
def _page(filters: tuple[str, ...], is_all: bool) -> Statement:
    question = _NAMED.where(grants.c.id > bindparam("after"))
    for name in filters:
        question = question.where(_FIELDS[name] == bindparam(name))
    if not is_all:
        spaces = select(_listed("spaces"))
        question = question.where(
            or_(
                (grants.c.resource_kind == "namespace")
                & grants.c.resource.in_(
                    select(namespaces.c.folded).where(namespaces.c.id.in_(spaces))
                ),
                (grants.c.resource_kind == "model")
                & or_(
                    grants.c.resource.in_(select(_listed("models"))),
                    models.c.namespace.in_(spaces),
                ),
            )
        )
    return Statement(question.order_by(grants.c.id).limit(bindparam("limit")))


def _listed(name: str) -> Any:
    return func.json_each(bindparam(name, type_=Text)).table_valued("value", name=name).c.value


async def insert_grant(tx: Tx, grant: Grant) -> None:
    await tx.run(_INSERT, **{name: getattr(grant, name) for name in _FIELDS})


async def change_grant(tx: Tx, id: str, role: str) -> None:
    await tx.run(_UPDATE, id_=id, role=role)


async def delete_grant(tx: Tx, id: str) -> None:
    await tx.run(_DELETE, id_=id)


async def delete_grants_to(tx: Tx, kind: str, subject: str) -> int:
    """Take back what a user or team was given; returns how many grants that were."""
    return await tx.run(_DELETE_TO, kind=kind, subject_=subject)


async def delete_grants_on(tx: Tx, kind: str, resource: str) -> int:
    """Take back what was given on a model or an exact pattern; returns how many grants."""
    return await tx.run(_DELETE_ON, kind=kind, resource_=resource)
