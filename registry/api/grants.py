"""Grants as JSON: who has which role on what."""

from __future__ import annotations

from functools import partial
from typing import Final

from aiohttp import hdrs, web

from registry.api.errors import ADAPTER
from registry.api.wire_accounts import GrantAnswer, GrantCreate, GrantsQuery, grant_answer
from registry.http.answers import json_answer
from registry.http.bodies import read_json
from registry.http.cursors import Page, cursor, page_answer, place_after
from registry.http.once import answer_once
from registry.http.queries import read_query
from registry.http.routing import Route
from registry.keys import PRINCIPAL, STORE
from registry.services import grants
from registry.services.grants import Given, GrantsAsked, GrantWish


async def get_grants(request: web.Request) -> web.StreamResponse:
    """Grants on what the caller administers, in order of their making."""
    query = read_query(request, GrantsQuery)
    place = place_after(query, tuple[str])
    found = await grants.list_grants(
        request.app[STORE],
        request[PRINCIPAL],
        GrantsAsked(user=query.user, team=query.team, model=query.model, namespace=query.namespace),
        after="" if place is None else place[0],
        limit=query.limit + 1,
    )
    page = found[: query.limit]
    following = cursor(query, page[-1].grant.id) if len(found) > query.limit else None
    return page_answer(request, [grant_answer(named) for named in page], following)


async def post_grant(request: web.Request) -> web.StreamResponse:
    """Give a role, 201; where the subject had one on the resource, it is changed, 200.

    Nobody gives more than they hold there: 403 `more_than_held`.
    """
    body = await read_json(request, GrantCreate)
    wish = GrantWish(
        subject_kind=body.subject.kind,
        subject=body.subject.name or "",
        resource_kind=body.resource.kind,
        resource=body.resource.name or "",
        role=body.role,
    )
    call = partial(grants.give, request.app[STORE], request[PRINCIPAL], wish)
    return await answer_once(request, call, _given)


def _given(given: Given) -> web.Response:
    answer = grant_answer(given.named)
    if not given.is_new:
        return json_answer(answer)
    return json_answer(answer, status=201, headers={hdrs.LOCATION: f"{_GRANTS}/{answer.id}"})


async def get_one_grant(request: web.Request) -> web.StreamResponse:
    """One grant on what the caller administers."""
    found = await grants.get_grant(request.app[STORE], request[PRINCIPAL], _target(request))
    return json_answer(grant_answer(found))


async def delete_grant(request: web.Request) -> web.StreamResponse:
    """Take a role back, at once and in every process."""
    await grants.take_back(request.app[STORE], request[PRINCIPAL], _target(request))
    return web.Response(status=204)


def _target(request: web.Request) -> str:
    return request.match_info["grant"]


_GRANTS: Final = "/api/v1/grants"
_GRANT: Final = _GRANTS + "/{grant}"

ROUTES: Final = [
    Route(
        method="GET",
        path=_GRANTS,
        handler=get_grants,
        permission="namespace.admin",
        adapter=ADAPTER,
        summary="List grants",
        tag="grants",
        query=GrantsQuery,
        answers={200: Page[GrantAnswer]},
        problems=(404,),
    ),
    Route(
        method="POST",
        path=_GRANTS,
        handler=post_grant,
        permission="namespace.admin",
        adapter=ADAPTER,
        body="json",
        summary="Give a role",
        tag="grants",
        accepts=GrantCreate,
        answers={200: GrantAnswer, 201: GrantAnswer},
        problems=(404,),
    ),
    Route(
        method="GET",
        path=_GRANT,
        handler=get_one_grant,
        permission="namespace.admin",
        adapter=ADAPTER,
        summary="Get a grant",
        tag="grants",
        answers={200: GrantAnswer},
        problems=(404,),
    ),
    Route(
        method="DELETE",
        path=_GRANT,
        handler=delete_grant,
        permission="namespace.admin",
        adapter=ADAPTER,
        summary="Take a role back",
        tag="grants",
        answers={204: None},
        problems=(404,),
    ),
]
