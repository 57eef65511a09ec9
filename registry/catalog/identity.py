"""What the index says of somebody who shows a token or a session: who it is, and what they hold.

`touch` *must* be called in the transaction of every change of what somebody may do: workers believe
what they remember only while `state` is what it was.
"""

from __future__ import annotations

import msgspec
from sqlalchemy import bindparam, or_, select, update
from sqlalchemy import literal_column as literal

from registry.catalog.schema import (
    grants,
    identity_state,
    memberships,
    namespaces,
    sessions,
    teams,
    tokens,
    users,
)
from store.index.transactions import Statement, Tx


class Account(msgspec.Struct, frozen=True):
    """A user or service account that may act."""

    id: str
    username: str
    folded: str
    kind: str
    is_admin: bool


class Shown(msgspec.Struct, frozen=True):
    """A token or session that holds, and whose it is. Times are microseconds since the epoch."""

    id: str
    account: Account
    expires_at: int | None
    scopes: frozenset[str] | None = None


class Given(msgspec.Struct, frozen=True):
    """A role on a resource."""

    resource_kind: str
    resource: str
    role: str


class Owned(msgspec.Struct, frozen=True):
    """A namespace that the account, or a team of it with this member's role, owns."""

    namespace: str
    role: str


class Named(msgspec.Struct, frozen=True):
    """A namespace by its id and folded slug."""

    id: str
    folded: str


_STATE = Statement(
    lambda: select(identity_state.c.changes).where(identity_state.c.one == literal("1"))
)
_TOUCH = Statement(
    lambda: (
        update(identity_state)
        .where(identity_state.c.one == literal("1"))
        .values(changes=identity_state.c.changes + literal("1"))
    )
)
_ACCOUNT = (users.c.id, users.c.username, users.c.folded, users.c.kind, users.c.is_admin)
_ACTS = (users.c.active == literal("1"), users.c.deleted_at.is_(None))
_BY_ID = Statement(lambda: select(*_ACCOUNT).where(users.c.id == bindparam("id"), *_ACTS))
_BY_TOKEN = Statement(
    lambda: (
        select(tokens.c.id, tokens.c.expires_at, tokens.c.scopes, *_ACCOUNT)
        .join(users, users.c.id == tokens.c.user)
        .where(
            tokens.c.secret_hash == bindparam("secret_hash"),
            tokens.c.revoked_at.is_(None),
            or_(tokens.c.expires_at.is_(None), tokens.c.expires_at > bindparam("now")),
            *_ACTS,
        )
    )
)
_BY_SESSION = Statement(
    lambda: (
        select(sessions.c.id, sessions.c.expires_at, *_ACCOUNT)
        .join(users, users.c.id == sessions.c.user)
        .where(
            sessions.c.id == bindparam("id"),
            sessions.c.revoked_at.is_(None),
            sessions.c.expires_at > bindparam("now"),
            *_ACTS,
        )
    )
)
_TEAMS_OF = (
    select(memberships.c.team)
    .join(teams, teams.c.id == memberships.c.team)
    .where(memberships.c.user == bindparam("user"), teams.c.deleted_at.is_(None))
)
_GIVEN = Statement(
    lambda: select(grants.c.resource_kind, grants.c.resource, grants.c.role).where(
        or_(
            (grants.c.subject_kind == literal("'user'")) & (grants.c.subject == bindparam("user")),
            (grants.c.subject_kind == literal("'team'")) & grants.c.subject.in_(_TEAMS_OF),
            grants.c.subject_kind == literal("'everyone'"),
        )
    )
)
_OWNED_ALONE = Statement(
    lambda: select(namespaces.c.id).where(
        namespaces.c.owner_kind == literal("'user'"), namespaces.c.owner == bindparam("user")
    )
)
_OWNED_BY_TEAMS = Statement(
    lambda: (
        select(namespaces.c.id, memberships.c.role)
        .join(memberships, memberships.c.team == namespaces.c.owner)
        .join(teams, teams.c.id == memberships.c.team)
        .where(
            namespaces.c.owner_kind == literal("'team'"),
            memberships.c.user == bindparam("user"),
            teams.c.deleted_at.is_(None),
        )
    )
)
_NAMESPACES = Statement(lambda: select(namespaces.c.id, namespaces.c.folded))
_ANY_ADMIN = Statement(
    lambda: select(users.c.id).where(users.c.is_admin == literal("1"), *_ACTS).limit(literal("1"))
)


async def state(tx: Tx) -> int:
    """A number that differs from before if anybody may do anything else than before."""
    row = await tx.one(_STATE)
    assert row is not None, "the migration put it there"
    return int(row[0])


async def touch(tx: Tx) -> None:
    """Make every worker forget what it remembers of who may do what."""
    await tx.run(_TOUCH)


async def find_account(tx: Tx, id: str) -> Account | None:
    """Somebody who may act, by the id."""
    row = await tx.one(_BY_ID, id=id)
    return None if row is None else _account(*row)


async def find_token(tx: Tx, secret_hash: bytes) -> Shown | None:
    """The token with this hash, if it holds now."""
    row = await tx.one(_BY_TOKEN, secret_hash=secret_hash, now=tx.now)
    if row is None:
        return None
    id, expires_at, scopes, *account = row
    words = None if scopes is None else msgspec.json.decode(scopes, type=frozenset[str])
    return Shown(id, _account(*account), expires_at, words)


async def find_session(tx: Tx, id: str) -> Shown | None:
    """The session with this id, if it holds now."""
    row = await tx.one(_BY_SESSION, id=id, now=tx.now)
    return None if row is None else Shown(row[0], _account(*row[2:]), row[1])


async def given_to(tx: Tx, user: str) -> list[Given]:
    """Grants that reach a user: its own, those of its living teams, and everyone's."""
    return [Given(*row) for row in await tx.all(_GIVEN, user=user)]


async def owned_by(tx: Tx, user: str) -> list[Owned]:
    """Namespaces that a user owns, or that a team of theirs does."""
    alone = [Owned(row[0], "admin") for row in await tx.all(_OWNED_ALONE, user=user)]
    return alone + [Owned(*row) for row in await tx.all(_OWNED_BY_TEAMS, user=user)]


async def all_namespaces(tx: Tx) -> list[Named]:
    """Every namespace, to be held against patterns."""
    return [Named(*row) for row in await tx.all(_NAMESPACES)]


async def is_administered(tx: Tx) -> bool:
    """Whether there is an administrator who may act."""
    return await tx.one(_ANY_ADMIN) is not None


def _account(id: str, username: str, folded: str, kind: str, is_admin: int) -> Account:
    return Account(id, username, folded, kind, bool(is_admin))
