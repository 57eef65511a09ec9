"""Rows of teams. A deleted team keeps its row: its models still show it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import bindparam, insert, select, update

from registry.catalog.schema import teams
from registry.domain.models import Team
from store.index.transactions import Row, Statement, Tx

_FIELDS = {
    "id": teams.c.id,
    "name": teams.c.name,
    "folded": teams.c.folded,
    "department": teams.c.department,
    "cost_center": teams.c.cost_center,
    "description": teams.c.description,
    "is_active": teams.c.active,
    "created_at": teams.c.created_at,
    "created_by": teams.c.created_by,
    "updated_at": teams.c.updated_at,
    "changes": teams.c.changes,
    "deleted_at": teams.c.deleted_at,
    "deleted_by": teams.c.deleted_by,
}
_WRITTEN: dict[str, Any] = {column.name: bindparam(name) for name, column in _FIELDS.items()}
_SELECT = select(*_FIELDS.values())
_LIVE = teams.c.deleted_at.is_(None)
_BY_NAME = Statement(lambda: _SELECT.where(teams.c.folded == bindparam("folded"), _LIVE))
_BY_ID = Statement(lambda: _SELECT.where(teams.c.id == bindparam("id")))
_PAGE = Statement(
    lambda: (
        _SELECT.where(_LIVE, teams.c.folded > bindparam("after"))
        .order_by(teams.c.folded)
        .limit(bindparam("limit"))
    )
)
_PAGE_BY_ACTIVITY = Statement(
    lambda: (
        _SELECT.where(
            _LIVE, teams.c.folded > bindparam("after"), teams.c.active == bindparam("active")
        )
        .order_by(teams.c.folded)
        .limit(bindparam("limit"))
    )
)
_PAGE_DELETED = Statement(
    lambda: (
        _SELECT.where(teams.c.id > bindparam("after"), teams.c.deleted_at.is_not(None))
        .order_by(teams.c.id)
        .limit(bindparam("limit"))
    )
)
_INSERT = Statement(lambda: insert(teams).values(_WRITTEN))
_UPDATE = Statement(
    lambda: (
        update(teams)
        .where(teams.c.id == bindparam("id_"))
        .values({name: value for name, value in _WRITTEN.items() if name != "id"})
    )
)


def _team(row: Row) -> Team:
    values = dict(zip(_FIELDS, row, strict=True))
    values["is_active"] = bool(values["is_active"])
    return Team(**values)


def _values(team: Team) -> dict[str, Any]:
    return {name: getattr(team, name) for name in _FIELDS}


async def find_team(tx: Tx, folded: str) -> Team | None:
    """The living team of that folded name."""
    row = await tx.one(_BY_NAME, folded=folded)
    return None if row is None else _team(row)


async def find_team_by_id(tx: Tx, id: str) -> Team | None:
    """The team, deleted or not."""
    row = await tx.one(_BY_ID, id=id)
    return None if row is None else _team(row)


async def teams_after(tx: Tx, after: str, limit: int, *, active: bool | None) -> list[Team]:
    """A page of living teams in order of folded name; start with ``""``."""
    if active is None:
        rows = await tx.all(_PAGE, after=after, limit=limit)
    else:
        rows = await tx.all(_PAGE_BY_ACTIVITY, after=after, limit=limit, active=int(active))
    return [_team(row) for row in rows]


async def deleted_teams_after(tx: Tx, after: str, limit: int) -> list[Team]:
    """A page of deleted teams in order of id; start with ``""``."""
    return [_team(row) for row in await tx.all(_PAGE_DELETED, after=after, limit=limit)]


async def insert_team(tx: Tx, team: Team) -> None:
    await tx.run(_INSERT, **_values(team))


async def update_team(tx: Tx, team: Team) -> None:
    values = _values(team)
    await tx.run(_UPDATE, id_=values.pop("id"), **values)
