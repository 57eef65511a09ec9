"""The shapes in which teams travel as JSON."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, UnsetType

from registry.api.wire_words import Line, Name, Text, about
from registry.domain.models import Team
from registry.http.cursors import PageQuery
from registry.http.times import rfc3339


class TeamCreate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A team to make."""

    name: Name
    department: Line = ""
    cost_center: Line = ""
    description: Text = ""
    active: bool = True


class TeamUpdate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What shall be different; what is absent stays."""

    name: Name | UnsetType = UNSET
    department: Line | UnsetType = UNSET
    cost_center: Line | UnsetType = UNSET
    description: Text | UnsetType = UNSET
    active: bool | UnsetType = UNSET


class TeamsQuery(PageQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which teams are listed."""

    active: Annotated[bool | None, about("Active, or not.")] = None
    deleted: Annotated[bool, about("Deleted teams instead, in order of their ids.")] = False


class TeamAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A team; a deleted one keeps its id and frees its name."""

    id: str
    name: str
    department: str
    cost_center: str
    description: str
    active: bool
    created_at: str
    created_by: str
    updated_at: str
    deleted_at: str | None
    deleted_by: str | None


def team_answer(team: Team) -> TeamAnswer:
    return TeamAnswer(
        id=team.id,
        name=team.name,
        department=team.department,
        cost_center=team.cost_center,
        description=team.description,
        active=team.is_active,
        created_at=rfc3339(team.created_at),
        created_by=team.created_by,
        updated_at=rfc3339(team.updated_at),
        deleted_at=None if team.deleted_at is None else rfc3339(team.deleted_at),
        deleted_by=team.deleted_by,
    )
