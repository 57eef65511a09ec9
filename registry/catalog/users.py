"""Rows of users and service accounts. A deleted one keeps its row: what they made shows it."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import bindparam, insert, select, update
from sqlalchemy import literal_column as literal

from registry.catalog.schema import users
from registry.domain.accounts import User
from store.index.transactions import Row, Statement, Tx

_FIELDS: Final = {
    "id": users.c.id,
    "kind": users.c.kind,
    "username": users.c.username,
    "folded": users.c.folded,
    "email": users.c.email,
    "description": users.c.description,
    "password_hash": users.c.password_hash,
    "password_set_at": users.c.password_set_at,
    "is_admin": users.c.is_admin,
    "is_active": users.c.active,
    "owner": users.c.owner,
    "issuer": users.c.issuer,
    "subject": users.c.subject,
    "created_at": users.c.created_at,
    "created_by": users.c.created_by,
    "updated_at": users.c.updated_at,
    "changes": users.c.changes,
    "deleted_at": users.c.deleted_at,
    "deleted_by": users.c.deleted_by,
}
_WRITTEN: Final[dict[str, Any]] = {column.name: bindparam(name) for name, column in _FIELDS.items()}
_SELECT: Final = select(*_FIELDS.values())
_LIVE: Final = users.c.deleted_at.is_(None)
_ADMIN: Final = (users.c.is_admin == literal("1"), users.c.active == literal("1"), _LIVE)
_BY_NAME = Statement(lambda: _SELECT.where(users.c.folded == bindparam("folded"), _LIVE))
_BY_ID = Statement(lambda: _SELECT.where(users.c.id == bindparam("id")))
_BY_SUBJECT = Statement(
    lambda: _SELECT.where(
        users.c.issuer == bindparam("issuer"), users.c.subject == bindparam("subject")
    )
)
_PAGE = Statement(
    lambda: (
        _SELECT.where(_LIVE, users.c.folded > bindparam("after"))
        .order_by(users.c.folded)
        .limit(bindparam("limit"))
    )
)
_PAGE_OF_KIND = Statement(
    lambda: (
        _SELECT.where(_LIVE, users.c.folded > bindparam("after"), users.c.kind == bindparam("kind"))
        .order_by(users.c.folded)
        .limit(bindparam("limit"))
    )
)
_PAGE_DELETED = Statement(
    lambda: (
        _SELECT.where(users.c.id > bindparam("after"), users.c.deleted_at.is_not(None))
        .order_by(users.c.id)
        .limit(bindparam("limit"))
    )
)
_OTHER_ADMIN = Statement(
    lambda: select(users.c.id).where(*_ADMIN, users.c.id != bindparam("id")).limit(literal("1"))
)
_INSERT = Statement(lambda: insert(users).values(_WRITTEN))
_UPDATE = Statement(
    lambda: (
        update(users)
        .where(users.c.id == bindparam("id_"))
        .values({name: value for name, value in _WRITTEN.items() if name != "id"})
    )
)


def _user(row: Row) -> User:
    values = dict(zip(_FIELDS, row, strict=True))
    values["is_admin"], values["is_active"] = bool(values["is_admin"]), bool(values["is_active"])
    return User(**values)


def _values(user: User) -> dict[str, Any]:
    values = {name: getattr(user, name) for name in _FIELDS}
    values["is_admin"], values["is_active"] = int(user.is_admin), int(user.is_active)
    return values


async def find_user(tx: Tx, folded: str) -> User | None:
    """The living user of that folded name."""
    row = await tx.one(_BY_NAME, folded=folded)
    return None if row is None else _user(row)


async def find_user_by_id(tx: Tx, id: str) -> User | None:
    """The user, deleted or not."""
    row = await tx.one(_BY_ID, id=id)
    return None if row is None else _user(row)


async def find_user_by_subject(tx: Tx, issuer: str, subject: str) -> User | None:
    """Whom a provider of identities means by a name of its own, deleted or not."""
    row = await tx.one(_BY_SUBJECT, issuer=issuer, subject=subject)
    return None if row is None else _user(row)


async def users_after(tx: Tx, after: str, limit: int, *, kind: str | None) -> list[User]:
    """A page of living users in order of folded name; start with ``""``."""
    if kind is None:
        rows = await tx.all(_PAGE, after=after, limit=limit)
    else:
        rows = await tx.all(_PAGE_OF_KIND, after=after, limit=limit, kind=kind)
    return [_user(row) for row in rows]


async def deleted_users_after(tx: Tx, after: str, limit: int) -> list[User]:
    """A page of deleted users in order of id; start with ``""``."""
    return [_user(row) for row in await tx.all(_PAGE_DELETED, after=after, limit=limit)]


async def has_other_admin(tx: Tx, id: str) -> bool:
    """Whether somebody else than the user with this id administers the registry."""
    return await tx.one(_OTHER_ADMIN, id=id) is not None


async def insert_user(tx: Tx, user: User) -> None:
    await tx.run(_INSERT, **_values(user))


async def update_user(tx: Tx, user: User) -> None:
    values = _values(user)
    await tx.run(_UPDATE, id_=values.pop("id"), **values)
