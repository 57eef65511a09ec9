"""Teams: whom models belong to, organisationally. Nothing is allowed or forbidden by a team.

A deleted team frees its name and keeps its row, so that its models still say whose they were;
models outlive their team. What a model shows of its team is part of the model's entity tag, so that
a change of the team changes no row of its models.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from registry.catalog import identity
from registry.catalog.audit import Entry, record
from registry.catalog.teams import (
    deleted_teams_after,
    find_team,
    find_team_by_id,
    insert_team,
    teams_after,
    update_team,
)
from registry.domain.expectations import ANYTHING, Expected
from registry.domain.ids import TEAM, is_id, new_id
from registry.domain.models import Team
from registry.domain.names import fold, parse_team_name
from registry.domain.principals import Principal
from registry.errors import Conflict, NotFound
from registry.services.authority import require_everywhere
from registry.services.change import change
from store.index.transactions import Tx
from store.opening import Store


class TeamWish(msgspec.Struct, frozen=True, kw_only=True):
    """A team to make."""

    name: str
    department: str = ""
    cost_center: str = ""
    description: str = ""
    active: bool = True


class TeamPatch(msgspec.Struct, frozen=True, kw_only=True):
    """What shall be different; UNSET stays as it is."""

    name: str | UnsetType = UNSET
    department: str | UnsetType = UNSET
    cost_center: str | UnsetType = UNSET
    description: str | UnsetType = UNSET
    active: bool | UnsetType = UNSET

    def given(self) -> dict[str, Any]:
        return {
            "is_active" if name == "active" else name: value
            for name in self.__struct_fields__
            if (value := getattr(self, name)) is not UNSET
        }


async def require_team(tx: Tx, reference: str) -> Team:
    """The living team with this name or id; raises `NotFound`."""
    if is_id(reference, TEAM):
        found = await find_team_by_id(tx, reference)
    else:
        found = await find_team(tx, fold(reference))
    if found is None or found.deleted_at is not None:
        raise NotFound("team", reference, code="team_not_found")
    return found


async def team_of(tx: Tx, id: str | None) -> Team | None:
    """The team of a model, which may have been deleted since."""
    return None if id is None else await find_team_by_id(tx, id)


async def create_team(store: Store, principal: Principal, wish: TeamWish) -> Team:
    """Make a team; raises `Conflict`, code ``team_exists``."""
    name = parse_team_name(wish.name, field="name")
    id = new_id(TEAM, store.clock())

    async def unit(tx: Tx) -> Team:
        require_everywhere(principal, principal.word, name)
        await _refuse_taken(tx, name)
        team = Team(
            id=id,
            name=name,
            folded=fold(name),
            department=wish.department,
            cost_center=wish.cost_center,
            description=wish.description,
            is_active=wish.active,
            created_at=tx.now,
            created_by=principal.id,
            updated_at=tx.now,
        )
        await insert_team(tx, team)
        await record(tx, principal, _entry("create", team, after=_said(team)))
        return team

    return await change(store, principal, unit)


async def _refuse_taken(tx: Tx, name: str) -> None:
    existing = await find_team(tx, fold(name))
    if existing is not None:
        raise Conflict(
            "team",
            name,
            "is there already",
            code="team_exists",
            details={"existing": existing.name, "id": existing.id},
        )


async def get_team(store: Store, reference: str) -> Team:
    """A living team by name or id, a deleted one by its id."""

    async def unit(tx: Tx) -> Team:
        if is_id(reference, TEAM):
            found = await find_team_by_id(tx, reference)
            if found is not None:
                return found
        return await require_team(tx, reference)

    return await store.index.look(unit)


async def list_teams(
    store: Store, *, after: str = "", limit: int = 100, active: bool | None = None
) -> list[Team]:
    """A page of living teams in order of folded name."""

    async def unit(tx: Tx) -> list[Team]:
        return await teams_after(tx, after, limit, active=active)

    return await store.index.read(unit)


async def list_deleted_teams(store: Store, *, after: str = "", limit: int = 100) -> list[Team]:
    """A page of deleted teams in order of id."""

    async def unit(tx: Tx) -> list[Team]:
        return await deleted_teams_after(tx, after, limit)

    return await store.index.read(unit)


async def change_team(
    store: Store,
    principal: Principal,
    reference: str,
    patch: TeamPatch,
    expected: Expected = ANYTHING,
) -> Team:
    """Change what is said of a team; what changes nothing leaves no trace."""
    given = patch.given()
    if "name" in given:
        given["name"] = parse_team_name(given["name"], field="name")
        given["folded"] = fold(given["name"])

    async def unit(tx: Tx) -> Team:
        require_everywhere(principal, principal.word, reference)
        before = await require_team(tx, reference)
        expected.require(before.id, before.changes)
        after = msgspec.structs.replace(before, **given)
        if after == before:
            return before
        if after.folded != before.folded:
            await _refuse_taken(tx, after.name)
        action = "update" if after.name == before.name else "rename"
        return await _write(tx, principal, action, before, after)

    return await change(store, principal, unit)


async def delete_team(
    store: Store, principal: Principal, reference: str, expected: Expected = ANYTHING
) -> None:
    """Delete a team softly."""

    async def unit(tx: Tx) -> None:
        require_everywhere(principal, principal.word, reference)
        before = await require_team(tx, reference)
        expected.require(before.id, before.changes)
        after = msgspec.structs.replace(before, deleted_at=tx.now, deleted_by=principal.id)
        await _write(tx, principal, "delete", before, after)

    await change(store, principal, unit)


async def restore_team(store: Store, principal: Principal, id: str) -> Team:
    """Bring a deleted team back, by its id; raises `Conflict` if its name is taken meanwhile."""

    async def unit(tx: Tx) -> Team:
        require_everywhere(principal, principal.word, id)
        before = await find_team_by_id(tx, id) if is_id(id, TEAM) else None
        if before is None:
            raise NotFound("team", id, code="team_not_found")
        if before.deleted_at is None:
            return before
        await _refuse_taken(tx, before.name)
        after = msgspec.structs.replace(before, deleted_at=None, deleted_by=None)
        return await _write(tx, principal, "restore", before, after)

    return await change(store, principal, unit)


async def _write(tx: Tx, principal: Principal, action: str, before: Team, after: Team) -> Team:
    after = msgspec.structs.replace(after, updated_at=tx.now, changes=before.changes + 1)
    await update_team(tx, after)
    await identity.touch(tx)
    said = None if action == "delete" else _said(after)
    was = None if action == "restore" else _said(before)
    await record(tx, principal, _entry(action, after, before=was, after=said))
    return after


def _said(team: Team) -> dict[str, Any]:
    return {
        "name": team.name,
        "department": team.department,
        "cost_center": team.cost_center,
        "description": team.description,
        "active": team.is_active,
    }


def _entry(action: str, team: Team, *, before: Any = None, after: Any = None) -> Entry:
    return Entry(action=action, kind="team", id=team.id, name=team.name, before=before, after=after)
