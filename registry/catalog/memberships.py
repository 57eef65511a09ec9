"""Rows of memberships: who is in which team, with which role."""

from __future__ import annotations

from typing import Final

import msgspec
from sqlalchemy import bindparam, delete, insert, select, update

from registry.catalog.schema import memberships, teams, users
from registry.domain.accounts import Membership
from store.index.transactions import Row, Statement, Tx

_FIELDS: Final = {
    "team": memberships.c.team,
    "user": memberships.c.user,
    "role": memberships.c.role,
    "created_at": memberships.c.created_at,
    "created_by": memberships.c.created_by,
}
_ONE: Final = (memberships.c.team == bindparam("team_"), memberships.c.user == bindparam("user_"))
_FIND = Statement(lambda: select(*_FIELDS.values()).where(*_ONE))
_OF_TEAM = Statement(
    lambda: (
        select(*_FIELDS.values(), users.c.username, users.c.kind, users.c.active)
        .join(users, users.c.id == memberships.c.user)
        .where(memberships.c.team == bindparam("team"), memberships.c.user > bindparam("after"))
        .order_by(memberships.c.user)
        .limit(bindparam("limit"))
    )
)
_OF_USER = Statement(
    lambda: (
        select(*_FIELDS.values(), teams.c.name)
        .join(teams, teams.c.id == memberships.c.team)
        .where(
            memberships.c.user == bindparam("user"),
            memberships.c.team > bindparam("after"),
            teams.c.deleted_at.is_(None),
        )
        .order_by(memberships.c.team)
        .limit(bindparam("limit"))
    )
)
_TEAM_IDS = Statement(
    lambda: (
        select(memberships.c.team)
        .join(teams, teams.c.id == memberships.c.team)
        .where(memberships.c.user == bindparam("user"), teams.c.deleted_at.is_(None))
    )
)
_INSERT = Statement(
    lambda: insert(memberships).values(
        {column.name: bindparam(name) for name, column in _FIELDS.items()}
    )
)
_UPDATE = Statement(lambda: update(memberships).where(*_ONE).values(role=bindparam("role")))
_DELETE = Statement(lambda: delete(memberships).where(*_ONE))
_DELETE_ALL = Statement(lambda: delete(memberships).where(memberships.c.user == bindparam("user_")))


class Member(msgspec.Struct, frozen=True):
    """A membership, and who the member is."""

    membership: Membership
    username: str
    kind: str
    is_active: bool


class TeamOfUser(msgspec.Struct, frozen=True):
    """A membership, and what the team is called."""

    membership: Membership
    team_name: str


def _membership(row: Row) -> Membership:
    return Membership(**dict(zip(_FIELDS, row, strict=True)))


async def find_membership(tx: Tx, team: str, user: str) -> Membership | None:
    row = await tx.one(_FIND, team_=team, user_=user)
    return None if row is None else _membership(row)


async def members_after(tx: Tx, team: str, after: str, limit: int) -> list[Member]:
    """A page of a team's members in order of their ids; start with ``""``."""
    rows = await tx.all(_OF_TEAM, team=team, after=after, limit=limit)
    return [Member(_membership(row[:-3]), row[-3], row[-2], bool(row[-1])) for row in rows]


async def teams_of_user(tx: Tx, user: str, after: str, limit: int) -> list[TeamOfUser]:
    """A page of the living teams that a user is in, in order of their ids; start with ``""``."""
    rows = await tx.all(_OF_USER, user=user, after=after, limit=limit)
    return [TeamOfUser(_membership(row[:-1]), row[-1]) for row in rows]


async def team_ids_of(tx: Tx, user: str) -> list[str]:
    """Ids of the living teams that a user is in."""
    return [row[0] for row in await tx.all(_TEAM_IDS, user=user)]


async def insert_membership(tx: Tx, membership: Membership) -> None:
    await tx.run(_INSERT, **{name: getattr(membership, name) for name in _FIELDS})


async def change_role(tx: Tx, team: str, user: str, role: str) -> None:
    await tx.run(_UPDATE, team_=team, user_=user, role=role)


async def delete_membership(tx: Tx, team: str, user: str) -> bool:
    """Whether there was one."""
    return bool(await tx.run(_DELETE, team_=team, user_=user))


async def delete_memberships_of(tx: Tx, user: str) -> int:
    """Take a user out of every team; returns out of how many."""
    return await tx.run(_DELETE_ALL, user_=user)
