"""Promotion guards: what must hold of a version before an alias or a status moves to it."""

from __future__ import annotations

from typing import Final

from aiohttp import hdrs, web

from registry.api.errors import ADAPTER
from registry.api.versions import target_of
from registry.api.wire_guards import (
    CheckAnswer,
    CheckQuery,
    GuardAnswer,
    GuardBody,
    GuardPatchBody,
    GuardsQuery,
    failure_answer,
    guard_answer,
)
from registry.api.wire_retention import model_in
from registry.catalog.guards import ListedGuard
from registry.http.answers import json_answer
from registry.http.bodies import read_json
from registry.http.conditional import ETAG, etag_of_row, expected_rows
from registry.http.cursors import Page, cursor, page_answer, place_after
from registry.http.lists import is_unmodified
from registry.http.once import answer_once
from registry.http.queries import read_query
from registry.http.routing import Route
from registry.keys import PRINCIPAL, STORE
from registry.services.guarding import check_version
from registry.services.guards import (
    change_guard,
    create_guard,
    get_guard,
    list_guards,
    remove_guard,
)

_GUARDS: Final = "/api/v1/guards"
_GUARD: Final = _GUARDS + "/{guard}"


async def post_guard(request: web.Request) -> web.StreamResponse:
    """Guard a model, or a namespace and all its models.

    From then on the aliases and statuses that it names move only to versions of which its rules
    hold; what moved before stays. All guards that cover a move must hold. A `*` in the name of an
    alias is anything but `latest` and `main`, which are covered where they are named: publishing
    passes over what may not follow.
    """
    body = await read_json(request, GuardBody)
    store, principal = request.app[STORE], request[PRINCIPAL]
    model, terms = model_in(body.model), body.terms()

    def render(listed: ListedGuard) -> web.Response:
        answer = _present(listed, status=201)
        answer.headers[hdrs.LOCATION] = f"{_GUARDS}/{listed.guard.id}"
        return answer

    return await answer_once(
        request,
        lambda: create_guard(store, principal, terms, model=model, namespace=body.namespace),
        render,
    )


async def get_guards(request: web.Request) -> web.StreamResponse:
    """Guards of what the caller may see, the latest made first."""
    query = read_query(request, GuardsQuery)
    place = place_after(query, tuple[str])
    page = await list_guards(
        request.app[STORE],
        request[PRINCIPAL],
        model=model_in(query.model),
        namespace=query.namespace,
        before=None if place is None else place[0],
        limit=query.limit,
    )
    next = None if page.next is None else cursor(query, page.next)
    return page_answer(request, [guard_answer(one) for one in page.items], next)


async def get_one_guard(request: web.Request) -> web.StreamResponse:
    """One guard, with what it covers and what it asks for."""
    listed = await get_guard(request.app[STORE], request[PRINCIPAL], _guard(request))
    if is_unmodified(request, _tag(listed)):
        return web.Response(status=304, headers={ETAG: _tag(listed)})
    return _present(listed)


async def patch_guard(request: web.Request) -> web.StreamResponse:
    """Change a guard; what moved before stays where it is."""
    body = await read_json(request, GuardPatchBody)
    store, principal = request.app[STORE], request[PRINCIPAL]
    return _present(
        await change_guard(store, principal, _guard(request), body.terms(), expected_rows(request))
    )


async def delete_guard(request: web.Request) -> web.StreamResponse:
    """Remove a guard."""
    store, principal = request.app[STORE], request[PRINCIPAL]
    await remove_guard(store, principal, _guard(request), expected_rows(request))
    return web.Response(status=204)


async def get_check(request: web.Request) -> web.StreamResponse:
    """What a version lacks to be where an alias or a status would take it, if the caller asked."""
    query = read_query(request, CheckQuery)
    model, version = target_of(request)
    asked, failed = await check_version(
        request.app[STORE],
        request[PRINCIPAL],
        model,
        version,
        alias=query.alias,
        status=query.status,
    )
    return json_answer(
        CheckAnswer(not failed, [one.id for one in asked], [failure_answer(one) for one in failed])
    )


def _present(listed: ListedGuard, *, status: int = 200) -> web.Response:
    return json_answer(guard_answer(listed), status=status, headers={ETAG: _tag(listed)})


def _tag(listed: ListedGuard) -> str:
    return etag_of_row(listed.guard.id, listed.guard.changes, under=listed.covers)


def _guard(request: web.Request) -> str:
    return request.match_info["guard"]


ROUTES: Final = [
    Route(
        method="POST",
        path=_GUARDS,
        handler=post_guard,
        permission="namespace.admin",
        adapter=ADAPTER,
        body="json",
        summary="Make a guard",
        tag="guards",
        accepts=GuardBody,
        answers={201: GuardAnswer},
        problems=(404, 409),
    ),
    Route(
        method="GET",
        path=_GUARDS,
        handler=get_guards,
        permission="model.read",
        adapter=ADAPTER,
        summary="List guards",
        tag="guards",
        query=GuardsQuery,
        answers={200: Page[GuardAnswer]},
        problems=(404,),
    ),
    Route(
        method="GET",
        path=_GUARD,
        handler=get_one_guard,
        permission="model.read",
        adapter=ADAPTER,
        summary="One guard",
        tag="guards",
        answers={200: GuardAnswer, 304: None},
        problems=(412,),
    ),
    Route(
        method="PATCH",
        path=_GUARD,
        handler=patch_guard,
        permission="namespace.admin",
        adapter=ADAPTER,
        body="json",
        summary="Change a guard",
        tag="guards",
        accepts=GuardPatchBody,
        answers={200: GuardAnswer},
        takes_if_match=True,
    ),
    Route(
        method="DELETE",
        path=_GUARD,
        handler=delete_guard,
        permission="namespace.admin",
        adapter=ADAPTER,
        summary="Remove a guard",
        tag="guards",
        answers={204: None},
        takes_if_match=True,
    ),
    Route(
        method="GET",
        path="/api/v1/models/{model:[^/]+}/versions/{version:[^/]+}/guards",
        handler=get_check,
        permission="model.read",
        adapter=ADAPTER,
        summary="What a version lacks to be promoted",
        tag="guards",
        query=CheckQuery,
        answers={200: CheckAnswer},
    ),
]
