"""Members of teams as JSON."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from registry.api.errors import ADAPTER
from registry.api.wire_accounts import MemberAnswer, MemberPut, member_answer
from registry.http.answers import json_answer
from registry.http.bodies import read_json
from registry.http.cursors import Page, PageQuery, cursor, page_answer, place_after
from registry.http.queries import read_query
from registry.http.routing import Route
from registry.http.targets import decoded, raw_segments
from registry.keys import PRINCIPAL, STORE
from registry.services import memberships


async def get_members(request: web.Request) -> web.StreamResponse:
    """The members of a team, for its members and for administrators."""
    query, team = read_query(request, PageQuery), _team(request)
    place = place_after(query, tuple[str], scope=team)
    found = await memberships.list_members(
        request.app[STORE],
        request[PRINCIPAL],
        team,
        after="" if place is None else place[0],
        limit=query.limit + 1,
    )
    page, following = found[: query.limit], None
    if len(found) > query.limit:
        following = cursor(query, page[-1].membership.user, scope=team)
    return page_answer(request, [member_answer(member) for member in page], following)


async def put_member(request: web.Request) -> web.StreamResponse:
    """Take a user into a team, 201, or give a member another role, 200.

    For admins of the team and administrators; nobody gives a role above their own.
    """
    body = await read_json(request, MemberPut)
    put = await memberships.put_member(
        request.app[STORE], request[PRINCIPAL], _team(request), _user(request), body.role
    )
    return json_answer(member_answer(put.member), status=201 if put.is_new else 200)


async def delete_member(request: web.Request) -> web.StreamResponse:
    """Take a user out of a team; everybody may leave."""
    await memberships.remove_member(
        request.app[STORE], request[PRINCIPAL], _team(request), _user(request)
    )
    return web.Response(status=204)


def _team(request: web.Request) -> str:
    return decoded(raw_segments(request, 6)[3], field="team")


def _user(request: web.Request) -> str:
    return decoded(raw_segments(request, 6)[5], field="user")


_MEMBERS: Final = "/api/v1/teams/{team:[^/]+}/members"
_MEMBER: Final = _MEMBERS + "/{user:[^/]+}"

ROUTES: Final = [
    Route(
        method="GET",
        path=_MEMBERS,
        handler=get_members,
        permission="model.read",
        adapter=ADAPTER,
        summary="List a team's members",
        tag="teams",
        query=PageQuery,
        answers={200: Page[MemberAnswer]},
        problems=(404,),
    ),
    Route(
        method="PUT",
        path=_MEMBER,
        handler=put_member,
        permission="namespace.admin",
        adapter=ADAPTER,
        body="json",
        summary="Take somebody into a team",
        tag="teams",
        accepts=MemberPut,
        answers={200: MemberAnswer, 201: MemberAnswer},
        problems=(404,),
    ),
    Route(
        method="DELETE",
        path=_MEMBER,
        handler=delete_member,
        permission="model.read",
        adapter=ADAPTER,
        summary="Take somebody out of a team",
        tag="teams",
        answers={204: None},
        problems=(404,),
    ),
]
