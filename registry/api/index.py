"""The index at ``/``: models, their versions and files, with lines to copy, until there are pages.

``/`` lists models, ``/?model=NAME`` its versions and ``/?model=NAME&version=REFERENCE`` its files;
questions and not paths, so that no name of a model can collide with an address of the server.
No script, no form, nothing fetched from anywhere: the policy forbids all but the page's own few
lines of style, by their hash.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Awaitable, Callable
from typing import Annotated, Final, Literal

from aiohttp import hdrs, web
from msgspec import Meta
from msgspec.structs import replace

from registry.api.errors import ADAPTER
from registry.api.index_pages import STYLE, Links, address, home_page, model_page, version_page
from registry.auth.policy import allows
from registry.catalog.version_lists import ANY
from registry.domain.references import parse_model, parse_reference
from registry.errors import NotFound
from registry.http.cursors import PageQuery, cursor, place_after
from registry.http.queries import read_query
from registry.http.routing import Media, Route
from registry.keys import ADDRESSES, PRINCIPAL, STORE
from registry.services.files import list_files
from registry.services.model_lists import ModelsAsked, list_models
from registry.services.models import get_model
from registry.services.resolve import DraftFiles, resolve_version
from registry.services.versions import FIRST, list_versions_of_model

_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()

POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)


class IndexQuery(PageQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which page: models in an order, the versions of a model, or the files of a version."""

    model: Annotated[str, Meta(min_length=1, max_length=400)] | None = None
    version: Annotated[str, Meta(min_length=1, max_length=160)] | None = None
    order: Literal["name", "created"] = "created"


async def get_index(request: web.Request) -> web.StreamResponse:
    """What this is and how to use it, with the address under which the reader reached it."""
    query = read_query(request, IndexQuery)
    if query.model is None and query.version is None:
        page: Callable[[web.Request, IndexQuery, str], Awaitable[str]] = _home
    elif not allows(request[PRINCIPAL], "model.read"):
        raise NotFound("model", query.model or "", code="model_not_found")
    else:
        page = _model if query.version is None else _version
    text = await page(request, query, request.app[ADDRESSES].base_url(request))
    return web.Response(
        text=text,
        content_type="text/html",
        headers={
            "Content-Security-Policy": POLICY,
            "Referrer-Policy": "no-referrer",
            hdrs.CACHE_CONTROL: "private, no-cache",
            hdrs.VARY: "Host, Authorization, Cookie",
        },
    )


async def _home(request: web.Request, query: IndexQuery, url: str) -> str:
    store, principal = request.app[STORE], request[PRINCIPAL]
    is_open = principal.kind == "local"
    if not allows(principal, "model.read"):
        return home_page(url, None, query.order, Links(), is_open=is_open)
    place = place_after(query, tuple[str] if query.order == "name" else tuple[int, str])
    found = await list_models(
        store, principal, ModelsAsked(order=query.order), place=place, limit=query.limit
    )
    order = "name" if query.order == "name" else None
    links = Links(
        None
        if found.place is None
        else address(order=order, after=cursor(query, *found.place), limit=_limit(query)),
        None if place is None else address(order=order, limit=_limit(query)),
    )
    models = [full.model for full in found.items]
    return home_page(url, models, query.order, links, is_open=is_open)


async def _model(request: web.Request, query: IndexQuery, url: str) -> str:
    assert query.model is not None
    store, principal = request.app[STORE], request[PRINCIPAL]
    reference = parse_model(query.model)
    model = (await get_model(store, principal, reference)).model
    place = place_after(query, tuple[int])
    page = await list_versions_of_model(
        store,
        principal,
        reference,
        ANY,
        before=FIRST if place is None else place[0],
        limit=query.limit,
    )
    named = replace(query, model=model.name)  # as the link to the next page calls it
    links = Links(
        None
        if page.next is None
        else address(model=model.name, after=cursor(named, page.next[1]), limit=_limit(query)),
        None if place is None else address(model=model.name, limit=_limit(query)),
    )
    return model_page(url, model, [listed.version for listed in page.items], links)


async def _version(request: web.Request, query: IndexQuery, url: str) -> str:
    store, principal = request.app[STORE], request[PRINCIPAL]
    reference = parse_reference(query.version or "")
    place = await resolve_version(store, principal, parse_model(query.model or ""), reference)
    if isinstance(place, DraftFiles) or place.version is None:
        raise NotFound("version", query.version or "", code="version_not_found")
    after = place_after(query, tuple[str])
    listing = await list_files(
        store, place, after="" if after is None else after[0], limit=query.limit
    )
    model, version = place.model, place.version
    named = replace(query, model=model.name, version=version.name)
    links = Links(
        None
        if listing.next is None
        else address(
            model=model.name,
            version=version.name,
            after=cursor(named, listing.next),
            limit=_limit(query),
        ),
        None
        if after is None
        else address(model=model.name, version=version.name, limit=_limit(query)),
    )
    return version_page(url, model, version, listing.items, links)


def _limit(query: IndexQuery) -> str | None:
    """What a link must say so that the next page is as long as this one."""
    return None if query.limit == IndexQuery().limit else str(query.limit)


ROUTES: Final = [
    Route(
        method=method,
        path="/",
        handler=get_index,
        permission="public",
        adapter=ADAPTER,
        summary="Pages that list models, versions and files",
        tag="server",
        query=IndexQuery,
        answers={200: Media("text/html", "The page.")},
        problems=(400, 404),
        is_hidden=True,
    )
    for method in ("GET", "HEAD")
]
