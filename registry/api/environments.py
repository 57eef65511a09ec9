"""Environments: made, found, described, deleted and brought back.

One is named by its ``env_`` id or its name in any case; a deleted one is found by its id only.
"""

from __future__ import annotations

from typing import Final

from aiohttp import hdrs, web

from registry.api.errors import ADAPTER
from registry.api.wire_environments import (
    EnvironmentAnswer,
    EnvironmentBody,
    EnvironmentPatchBody,
    EnvironmentsQuery,
    environment_answer,
)
from registry.domain.environments import Environment, EnvironmentReference, parse_environment
from registry.http.answers import json_answer
from registry.http.bodies import read_json
from registry.http.conditional import etag_of_row, expected_rows, revalidated
from registry.http.cursors import Page, cursor, page_answer, place_after, total_of
from registry.http.lists import is_unmodified
from registry.http.once import answer_once
from registry.http.queries import read_query
from registry.http.routing import Route
from registry.http.targets import decoded, raw_segments
from registry.keys import PRINCIPAL, STORE
from registry.services.environments import (
    change_environment,
    create_environment,
    delete_environment,
    get_environment,
    list_environments,
    restore_environment,
)


async def post_environment(request: web.Request) -> web.StreamResponse:
    """Make an environment; its name is unique, whatever the case.

    In `config` nothing may stand under the name of a secret but a reference: 422
    `secret_in_config` names each place.
    """
    wish = (await read_json(request, EnvironmentBody)).wish()
    store, principal = request.app[STORE], request[PRINCIPAL]

    def render(made: Environment) -> web.Response:
        answer = _present(made, status=201)
        answer.headers[hdrs.LOCATION] = f"{_ENVIRONMENTS}/{made.id}"
        return answer

    return await answer_once(request, lambda: create_environment(store, principal, wish), render)


async def get_environments(request: web.Request) -> web.StreamResponse:
    """Environments in order of their names; of deleted ones the last deleted first."""
    query = read_query(request, EnvironmentsQuery)
    after: str | tuple[int, str] | None
    if query.deleted:
        after = place_after(query, tuple[int, str])
    else:
        place = place_after(query, tuple[str])
        after = None if place is None else place[0]
    page = await list_environments(
        request.app[STORE],
        query.filters(),
        after=after,
        limit=query.limit,
        is_counted=query.total,
    )
    next = None
    if page.has_more:
        last = page.items[-1]
        next = (
            cursor(query, last.deleted_at, last.id) if query.deleted else cursor(query, last.folded)
        )
    return page_answer(
        request, [environment_answer(one) for one in page.items], next, total_of(page.count)
    )


async def get_one_environment(request: web.Request) -> web.StreamResponse:
    """One environment; a deleted one by its id."""
    found = await get_environment(request.app[STORE], _target(request))
    if is_unmodified(request, _tag(found)):
        return web.Response(status=304, headers=revalidated(_tag(found)))
    return _present(found)


async def patch_environment(request: web.Request) -> web.StreamResponse:
    """Rename or describe an environment, or change whether it takes versions.

    What runs there goes on, whatever is changed. `config` is merged; the whole of it must hold no
    secret.
    """
    patch = (await read_json(request, EnvironmentPatchBody)).patch()
    return _present(
        await change_environment(
            request.app[STORE], request[PRINCIPAL], _target(request), patch, expected_rows(request)
        )
    )


async def delete_one_environment(request: web.Request) -> web.StreamResponse:
    """Delete an environment; it can be restored, and its name is free.

    While anything runs there it is 409 `environment_in_use`, which names it.
    """
    await delete_environment(
        request.app[STORE], request[PRINCIPAL], _target(request), expected_rows(request)
    )
    return web.Response(status=204)


async def post_restore(request: web.Request) -> web.StreamResponse:
    """Bring a deleted environment back, by its id; one that lives is as it is."""
    store, principal, id = request.app[STORE], request[PRINCIPAL], _name(request)
    return await answer_once(request, lambda: restore_environment(store, principal, id), _present)


def _name(request: web.Request) -> str:
    return decoded(raw_segments(request, 5)[3], field="environment")


def _target(request: web.Request) -> EnvironmentReference:
    return parse_environment(_name(request))


def _tag(one: Environment) -> str:
    return etag_of_row(one.id, one.changes)


def _present(one: Environment, *, status: int = 200) -> web.Response:
    return json_answer(environment_answer(one), status=status, headers=revalidated(_tag(one)))


_ENVIRONMENTS: Final = "/api/v1/environments"
_ENVIRONMENT: Final = _ENVIRONMENTS + "/{environment:[^/]+}"

ROUTES: Final = [
    Route(
        method="POST",
        path=_ENVIRONMENTS,
        handler=post_environment,
        permission="deploy",
        adapter=ADAPTER,
        body="json",
        summary="Make an environment",
        tag="environments",
        accepts=EnvironmentBody,
        answers={201: EnvironmentAnswer},
        problems=(409, 422),
    ),
    Route(
        method="GET",
        path=_ENVIRONMENTS,
        handler=get_environments,
        permission="model.read",
        adapter=ADAPTER,
        summary="List environments",
        tag="environments",
        query=EnvironmentsQuery,
        answers={200: Page[EnvironmentAnswer]},
    ),
    Route(
        method="GET",
        path=_ENVIRONMENT,
        handler=get_one_environment,
        permission="model.read",
        adapter=ADAPTER,
        summary="One environment",
        tag="environments",
        answers={200: EnvironmentAnswer, 304: None},
        problems=(412,),
    ),
    Route(
        method="PATCH",
        path=_ENVIRONMENT,
        handler=patch_environment,
        permission="deploy",
        adapter=ADAPTER,
        body="json",
        summary="Change an environment",
        tag="environments",
        accepts=EnvironmentPatchBody,
        answers={200: EnvironmentAnswer},
        problems=(409, 422),
        takes_if_match=True,
    ),
    Route(
        method="DELETE",
        path=_ENVIRONMENT,
        handler=delete_one_environment,
        permission="deploy",
        adapter=ADAPTER,
        summary="Delete an environment",
        tag="environments",
        answers={204: None},
        problems=(409,),
        takes_if_match=True,
    ),
    Route(
        method="POST",
        path=_ENVIRONMENT + "/restore",
        handler=post_restore,
        permission="deploy",
        adapter=ADAPTER,
        summary="Bring a deleted environment back",
        tag="environments",
        answers={200: EnvironmentAnswer},
        problems=(409,),
    ),
]
