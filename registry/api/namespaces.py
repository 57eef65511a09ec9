"""Namespaces as JSON: the first segments of models' names, and what new models in them get."""

from __future__ import annotations

from functools import partial
from typing import Final

import msgspec
from aiohttp import hdrs, web
from msgspec import UNSET

from registry.api.errors import ADAPTER
from registry.api.wire import Urls
from registry.api.wire_namespaces import (
    NamespaceAnswer,
    NamespaceCreate,
    NamespaceUpdate,
    namespace_answer,
)
from registry.domain.models import Namespace
from registry.http.answers import json_answer
from registry.http.bodies import read_json
from registry.http.conditional import etag_of_row, expected_rows, revalidated
from registry.http.cursors import Page, PageQuery, cursor, page_answer, place_after
from registry.http.lists import is_unmodified
from registry.http.once import answer_once
from registry.http.queries import read_query
from registry.http.routing import Route
from registry.http.targets import decoded, raw_segments
from registry.keys import PRINCIPAL, STORE
from registry.services.namespaces import (
    NamespacePatch,
    NamespaceWish,
    NewOwner,
    change_namespace,
    create_namespace,
    get_namespace,
    list_namespaces,
    remove_namespace,
)


async def get_namespaces(request: web.Request) -> web.StreamResponse:
    """All namespaces in order of their slugs."""
    query = read_query(request, PageQuery)
    after = place_after(query, tuple[str])
    found = await list_namespaces(
        request.app[STORE],
        request[PRINCIPAL],
        after="" if after is None else after[0],
        limit=query.limit + 1,
    )
    page = found[: query.limit]
    following = cursor(query, page[-1].folded) if len(found) > query.limit else None
    return page_answer(request, [namespace_answer(namespace) for namespace in page], following)


async def post_namespace(request: web.Request) -> web.StreamResponse:
    """Make a namespace before its first model does; whoever makes it owns it."""
    wish = await read_json(request, NamespaceCreate)
    owner = None if wish.owner is None else NewOwner(wish.owner.kind, wish.owner.name)
    made = NamespaceWish(**{**msgspec.structs.asdict(wish), "owner": owner})
    call = partial(create_namespace, request.app[STORE], request[PRINCIPAL], made)
    return await answer_once(request, call, partial(_answer, request, status=201))


async def get_one_namespace(request: web.Request) -> web.StreamResponse:
    """A namespace by slug or id."""
    found = await get_namespace(request.app[STORE], request[PRINCIPAL], _target(request))
    etag = etag_of_row(found.id, found.changes)
    if is_unmodified(request, etag):
        return web.Response(status=304, headers=revalidated(etag))
    return _answer(request, found)


async def patch_namespace(request: web.Request) -> web.StreamResponse:
    """Change what new models get, the description, the quota or the owner.

    A new owner is its admin at once, and the one before no longer is by owning it.
    """
    patch = await read_json(request, NamespaceUpdate)
    owner = UNSET if patch.owner is UNSET else NewOwner(patch.owner.kind, patch.owner.name)
    changed = await change_namespace(
        request.app[STORE],
        request[PRINCIPAL],
        _target(request),
        NamespacePatch(**{**msgspec.structs.asdict(patch), "owner": owner}),
        expected_rows(request),
    )
    return _answer(request, changed)


async def delete_namespace(request: web.Request) -> web.StreamResponse:
    """Delete a namespace that holds no model, experiment or webhook, deleted ones included."""
    store, principal = request.app[STORE], request[PRINCIPAL]
    await remove_namespace(store, principal, _target(request), expected_rows(request))
    return web.Response(status=204)


def _target(request: web.Request) -> str:
    return decoded(raw_segments(request, 4)[3], field="namespace")


def _answer(request: web.Request, found: Namespace, *, status: int = 200) -> web.Response:
    headers = revalidated(etag_of_row(found.id, found.changes))
    if status == 201:
        headers[hdrs.LOCATION] = Urls(request).resource("namespaces", found.slug)
    return json_answer(namespace_answer(found), status=status, headers=headers)


_NAMESPACES: Final = "/api/v1/namespaces"
_NAMESPACE: Final = _NAMESPACES + "/{namespace:[^/]+}"

ROUTES: Final = [
    Route(
        method="GET",
        path=_NAMESPACES,
        handler=get_namespaces,
        permission="model.read",
        adapter=ADAPTER,
        summary="List namespaces",
        tag="namespaces",
        query=PageQuery,
        answers={200: Page[NamespaceAnswer]},
    ),
    Route(
        method="POST",
        path=_NAMESPACES,
        handler=post_namespace,
        permission="model.create",
        adapter=ADAPTER,
        body="json",
        summary="Make a namespace",
        tag="namespaces",
        accepts=NamespaceCreate,
        answers={201: NamespaceAnswer},
        problems=(404, 409),
    ),
    Route(
        method="GET",
        path=_NAMESPACE,
        handler=get_one_namespace,
        permission="model.read",
        adapter=ADAPTER,
        summary="Get a namespace",
        tag="namespaces",
        answers={200: NamespaceAnswer, 304: None},
        problems=(404, 412),
    ),
    Route(
        method="PATCH",
        path=_NAMESPACE,
        handler=patch_namespace,
        permission="namespace.admin",
        adapter=ADAPTER,
        body="json",
        summary="Change a namespace",
        tag="namespaces",
        accepts=NamespaceUpdate,
        answers={200: NamespaceAnswer},
        problems=(404,),
        takes_if_match=True,
    ),
    Route(
        method="DELETE",
        path=_NAMESPACE,
        handler=delete_namespace,
        permission="namespace.admin",
        adapter=ADAPTER,
        summary="Delete an empty namespace",
        tag="namespaces",
        answers={204: None},
        problems=(404, 409),
        takes_if_match=True,
    ),
]
