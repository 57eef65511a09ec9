"""Lists of versions as JSON, of one model and over all, and the latest one."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from aiohttp import web

from registry.api.errors import ADAPTER
from registry.api.registering import model_of
from registry.api.versions import full_answer, get_version
from registry.api.wire import Urls, VersionAnswer, version_answer
from registry.api.wire_versions import (
    DetailedAnswer,
    LatestQuery,
    ModelVersionsQuery,
    VersionsQuery,
    filter_of,
)
from registry.catalog.version_lists import COUNTED, ListedVersion
from registry.domain.ranges import parse_range
from registry.errors import Invalid, NotFound
from registry.http.cursors import Page, Total, cursor, page_answer, place_after, total_of
from registry.http.queries import read_query
from registry.http.routing import Route
from registry.keys import PRINCIPAL, STORE
from registry.services.versions import (
    FIRST,
    VersionPage,
    latest_version,
    list_versions,
    list_versions_in_range,
    list_versions_of_model,
)


async def get_versions(request: web.Request) -> web.StreamResponse:
    """The living versions of all models, newest first.

    ``min_eval_score`` lists the best first, ``max_cost_per_1k`` the cheapest; asked for both, the
    best. ``status=production`` lists everything that is in production.
    """
    query = read_query(request, VersionsQuery)
    page = await list_versions(
        request.app[STORE],
        request[PRINCIPAL],
        filter_of(query),
        after=place_after(query, tuple[float, str]),
        limit=query.limit,
        is_counted=query.total,
    )
    return _answer(request, page, None if page.next is None else cursor(query, *page.next))


async def get_model_versions(request: web.Request) -> web.StreamResponse:
    """The versions of a model, newest number first; in a ``range`` the highest label first.

    ``deleted=true`` lists those that are deleted instead, which can be restored until purged.
    """
    query = read_query(request, ModelVersionsQuery)
    if query.deleted and (query.range is not None or query.latest_by is not None):
        name = "range" if query.range is not None else "latest_by"
        raise Invalid(name, "is about versions that live; it cannot be beside deleted")
    model = model_of(request)
    store, principal, wanted = request.app[STORE], request[PRINCIPAL], filter_of(query)
    if query.latest_by is not None:
        return await _only_latest(request, query)
    scope = str(model)
    if query.range is not None:
        page = await list_versions_in_range(
            store,
            principal,
            model,
            wanted,
            parse_range(query.range),
            after=place_after(query, tuple[str, int], scope=scope),
            limit=query.limit,
            is_counted=query.total,
        )
    else:
        after = place_after(query, tuple[str, int], scope=scope)
        page = await list_versions_of_model(
            store,
            principal,
            model,
            wanted,
            before=FIRST if after is None else after[1],
            limit=query.limit,
            is_deleted=query.deleted,
            is_counted=query.total,
        )
    following = None if page.next is None else cursor(query, *page.next, scope=scope)
    return _answer(request, page, following)


async def _only_latest(request: web.Request, query: ModelVersionsQuery) -> web.StreamResponse:
    assert query.latest_by is not None
    if query.after is not None:
        raise Invalid("after", "leads nowhere: the latest is one version", code="invalid_cursor")
    try:
        full = await latest_version(
            request.app[STORE],
            request[PRINCIPAL],
            model_of(request),
            filter_of(query),
            by=query.latest_by,
            within=None if query.range is None else parse_range(query.range),
        )
    except NotFound as error:
        if error.code != "version_not_found":
            raise
        return page_answer(request, [], None, Total(0, True) if query.total else None)
    items = [version_answer(Urls(request), full.model, full.version)]
    return page_answer(request, items, None, Total(1, True) if query.total else None)


async def get_latest(request: web.Request) -> web.StreamResponse:
    """The last version of a model, by number, by creation or by SemVer, among those asked for.

    By SemVer that is the highest release, or the highest pre-release if there is no release.
    Without parameters it is what the alias ``latest`` points at.
    """
    query = read_query(request, LatestQuery)
    if not any(value is not None for value in msgspec.structs.astuple(query)):
        return await get_version(request)
    full = await latest_version(
        request.app[STORE],
        request[PRINCIPAL],
        model_of(request),
        filter_of(query),
        by=query.by or "number",
        within=None if query.range is None else parse_range(query.range),
    )
    return full_answer(request, full)


def _answer(request: web.Request, page: VersionPage, following: str | None) -> web.Response:
    total = total_of(page.count, COUNTED)
    urls = Urls(request)

    def told(listed: ListedVersion) -> VersionAnswer:
        return version_answer(urls, listed.model, listed.version)

    return page_answer(request, [told(listed) for listed in page.items], following, total)


_PAGE: Final[Any] = Page[VersionAnswer]
_OF_MODEL: Final = "/api/v1/models/{model:[^/]+}/versions"

ROUTES: Final = [
    Route(
        method="GET",
        path="/api/v1/versions",
        handler=get_versions,
        permission="model.read",
        adapter=ADAPTER,
        summary="List versions of all models",
        tag="versions",
        query=VersionsQuery,
        answers={200: _PAGE},
    ),
    Route(
        method="GET",
        path=_OF_MODEL,
        handler=get_model_versions,
        permission="model.read",
        adapter=ADAPTER,
        summary="List the versions of a model",
        tag="versions",
        query=ModelVersionsQuery,
        answers={200: _PAGE},
        problems=(404,),
    ),
    Route(
        method="GET",
        path=_OF_MODEL + "/latest",
        handler=get_latest,
        permission="model.read",
        adapter=ADAPTER,
        summary="Get the latest version of a model",
        tag="versions",
        query=LatestQuery,
        answers={200: DetailedAnswer, 304: None},
        problems=(404,),
        headers={"If-None-Match": "Answer 304 if it still has this `ETag`."},
    ),
]
