"""Names that models had before, as JSON: listed, and released for others to take."""

from __future__ import annotations

from typing import Final

import msgspec
from aiohttp import web

from registry.api.errors import ADAPTER
from registry.api.models import model_in_path
from registry.domain.models import Redirect
from registry.domain.names import fold, parse_model_name
from registry.http.cursors import Page, PageQuery, cursor, page_answer, place_after
from registry.http.queries import read_query
from registry.http.routing import Route
from registry.http.targets import decoded, raw_segments
from registry.http.times import rfc3339
from registry.keys import PRINCIPAL, STORE
from registry.services.renames import list_former_names, release_name


class FormerName(msgspec.Struct, frozen=True):
    """A name that leads to a model because it had it once."""

    name: str
    created_at: str
    created_by: str


def _former_name(redirect: Redirect) -> FormerName:
    return FormerName(redirect.name, rfc3339(redirect.created_at), redirect.created_by)


async def get_former_names(request: web.Request) -> web.StreamResponse:
    """The former names that lead to a model."""
    query = read_query(request, PageQuery)
    reference = model_in_path(request)
    after = place_after(query, tuple[str], scope=str(reference))
    found = await list_former_names(
        request.app[STORE],
        request[PRINCIPAL],
        reference,
        after="" if after is None else after[0],
        limit=query.limit + 1,
    )
    page = found[: query.limit]
    following = None
    if len(found) > query.limit:
        following = cursor(query, fold(page[-1].name), scope=str(reference))
    return page_answer(request, [_former_name(redirect) for redirect in page], following)


async def delete_former_name(request: web.Request) -> web.StreamResponse:
    """Let a former name lead to its model no more, so that anybody may take it."""
    name = parse_model_name(decoded(raw_segments(request, 6)[5], field="name"), field="name")
    store, principal = request.app[STORE], request[PRINCIPAL]
    await release_name(store, principal, model_in_path(request), name)
    return web.Response(status=204)


_FORMER_NAMES: Final = "/api/v1/models/{model:[^/]+}/former-names"

ROUTES: Final = [
    Route(
        method="GET",
        path=_FORMER_NAMES,
        handler=get_former_names,
        permission="model.read",
        adapter=ADAPTER,
        summary="List the former names of a model",
        tag="models",
        query=PageQuery,
        answers={200: Page[FormerName]},
        problems=(404,),
    ),
    Route(
        method="DELETE",
        path=_FORMER_NAMES + "/{name:[^/]+}",
        handler=delete_former_name,
        permission="model.write",
        adapter=ADAPTER,
        summary="Release a former name",
        tag="models",
        answers={204: None},
        problems=(404,),
    ),
]
