"""Teams as JSON. The models of a team are listed by ``/api/v1/models?team=``."""

from __future__ import annotations

from functools import partial
from typing import Final

import msgspec
from aiohttp import hdrs, web

from registry.api.errors import ADAPTER
from registry.api.wire import Urls
from registry.api.wire_teams import TeamAnswer, TeamCreate, TeamsQuery, TeamUpdate, team_answer
from registry.domain.models import Team
from registry.http.answers import json_answer
from registry.http.bodies import read_json
from registry.http.conditional import etag_of_row, expected_rows, revalidated
from registry.http.cursors import Page, cursor, page_answer, place_after
from registry.http.lists import is_unmodified
from registry.http.once import answer_once
from registry.http.queries import read_query
from registry.http.routing import Route
from registry.http.targets import decoded, raw_segments
from registry.keys import PRINCIPAL, STORE
from registry.services import teams
from registry.services.teams import TeamPatch, TeamWish


async def get_teams(request: web.Request) -> web.StreamResponse:
    """Teams in order of their names; with ``deleted=true`` the deleted ones."""
    query = read_query(request, TeamsQuery)
    place = place_after(query, tuple[str])
    after, store = "" if place is None else place[0], request.app[STORE]
    if query.deleted:
        found = await teams.list_deleted_teams(store, after=after, limit=query.limit + 1)
    else:
        found = await teams.list_teams(
            store, after=after, limit=query.limit + 1, active=query.active
        )
    page, following = found[: query.limit], None
    if len(found) > query.limit:
        following = cursor(query, page[-1].id if query.deleted else page[-1].folded)
    return page_answer(request, [team_answer(team) for team in page], following)


async def post_team(request: web.Request) -> web.StreamResponse:
    """Make a team."""
    wish = await read_json(request, TeamCreate)
    made = TeamWish(**msgspec.structs.asdict(wish))
    call = partial(teams.create_team, request.app[STORE], request[PRINCIPAL], made)
    return await answer_once(request, call, partial(_answer, request, status=201))


async def get_one_team(request: web.Request) -> web.StreamResponse:
    """A team by name or id; a deleted one by its id."""
    found = await teams.get_team(request.app[STORE], _target(request))
    etag = etag_of_row(found.id, found.changes)
    if is_unmodified(request, etag):
        return web.Response(status=304, headers=revalidated(etag))
    return _answer(request, found)


async def patch_team(request: web.Request) -> web.StreamResponse:
    """Change what is said of a team, its name too."""
    patch = await read_json(request, TeamUpdate)
    changed = await teams.change_team(
        request.app[STORE],
        request[PRINCIPAL],
        _target(request),
        TeamPatch(**msgspec.structs.asdict(patch)),
        expected_rows(request),
    )
    return _answer(request, changed)


async def delete_team(request: web.Request) -> web.StreamResponse:
    """Delete a team; its models stay, and show it as deleted. Its name is free at once."""
    store, principal = request.app[STORE], request[PRINCIPAL]
    await teams.delete_team(store, principal, _target(request), expected_rows(request))
    return web.Response(status=204)


async def restore_team(request: web.Request) -> web.StreamResponse:
    """Bring a deleted team back by its id."""
    call = partial(teams.restore_team, request.app[STORE], request[PRINCIPAL], _target(request))
    return await answer_once(request, call, partial(_answer, request))


def _target(request: web.Request) -> str:
    return decoded(raw_segments(request, 5)[3], field="team")


def _answer(request: web.Request, found: Team, *, status: int = 200) -> web.Response:
    headers = revalidated(etag_of_row(found.id, found.changes))
    if status == 201:
        headers[hdrs.LOCATION] = Urls(request).resource("teams", found.name)
    return json_answer(team_answer(found), status=status, headers=headers)


_TEAMS: Final = "/api/v1/teams"
_TEAM: Final = _TEAMS + "/{team:[^/]+}"

ROUTES: Final = [
    Route(
        method="GET",
        path=_TEAMS,
        handler=get_teams,
        permission="model.read",
        adapter=ADAPTER,
        summary="List teams",
        tag="teams",
        query=TeamsQuery,
        answers={200: Page[TeamAnswer]},
    ),
    Route(
        method="POST",
        path=_TEAMS,
        handler=post_team,
        permission="namespace.admin",
        adapter=ADAPTER,
        body="json",
        summary="Make a team",
        tag="teams",
        accepts=TeamCreate,
        answers={201: TeamAnswer},
        problems=(409,),
    ),
    Route(
        method="GET",
        path=_TEAM,
        handler=get_one_team,
        permission="model.read",
        adapter=ADAPTER,
        summary="Get a team",
        tag="teams",
        answers={200: TeamAnswer, 304: None},
        problems=(404, 412),
    ),
    Route(
        method="PATCH",
        path=_TEAM,
        handler=patch_team,
        permission="namespace.admin",
        adapter=ADAPTER,
        body="json",
        summary="Change a team",
        tag="teams",
        accepts=TeamUpdate,
        answers={200: TeamAnswer},
        problems=(404, 409),
        takes_if_match=True,
    ),
    Route(
        method="DELETE",
        path=_TEAM,
        handler=delete_team,
        permission="namespace.admin",
        adapter=ADAPTER,
        summary="Delete a team",
        tag="teams",
        answers={204: None},
        problems=(404,),
        takes_if_match=True,
    ),
    Route(
        method="POST",
        path=_TEAM + "/restore",
        handler=restore_team,
        permission="namespace.admin",
        adapter=ADAPTER,
        summary="Bring a deleted team back",
        tag="teams",
        answers={200: TeamAnswer},
        problems=(404, 409),
    ),
]
