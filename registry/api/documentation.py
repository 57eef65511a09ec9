"""The API's description at ``/openapi.json``, and two readers of it: ``/docs`` and ``/redoc``.

Swagger UI and ReDoc come from the installed package ``offapi``, so both work without a network.
What they would fetch from elsewhere is off: Swagger's validator badge by its setting, ReDoc's
telemetry by its attribute, and ReDoc's logo, which has no setting, by taking its address out of the
script as it is served. The policy forbids the rest: scripts, styles and requests of this server
only, nothing inline. Swagger UI needs no exception: it sets styles through the DOM. ReDoc adds
``<style>`` elements that are empty and fills them through the DOM, so its page allows one inline
style by its hash, the empty one. ``data:`` are Swagger's icons, ReDoc's font and its missing logo.

The document is made when it is first asked for, from the routes that this very application serves;
it takes some milliseconds and stays the same until the process ends.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
from importlib import resources
from typing import Final

import msgspec
from aiohttp import hdrs, web

from registry import __version__
from registry.api.errors import ADAPTER
from registry.api.parameters import (
    BODIES,
    DESCRIPTION,
    EXAMPLES,
    HEADERS,
    PATH,
    QUERY,
    SECURITY,
    TAGS,
)
from registry.errors import RouteNotFound
from registry.http.conditional import ETAG
from registry.http.lists import is_unmodified
from registry.http.openapi import Words, describe
from registry.http.routing import Handler, Media, Route, route_of

_EMPTY_STYLE: Final = "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"


def policy(styles: str) -> str:
    return (
        f"default-src 'none'; script-src 'self'; style-src {styles}; img-src 'self' data:; "
        "font-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )


WORDS: Final = Words(
    title="Digestry",
    version=__version__,
    description=DESCRIPTION,
    tags=TAGS,
    path=PATH,
    query=QUERY,
    headers=HEADERS,
    examples=EXAMPLES,
    bodies=BODIES,
    security=SECURITY,
)

_FOREIGN_LOGOS: Final = (
    b"https://cdn.redoc.ly/redoc/logo-mini-full.svg",
    b"https://cdn.redoc.ly/redoc/logo-mini.svg",
)
_NOTHING: Final = b"data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"

_JS: Final = "text/javascript; charset=utf-8"
_CSS: Final = "text/css; charset=utf-8"
_ASSETS: Final = {
    "swagger-ui.css": ("offapi", "swagger_style.css", _CSS),
    "swagger-ui.js": ("offapi", "swagger_bundle.js", _JS),
    "redoc.js": ("offapi", "redoc.js", _JS),
    "redoc-start.js": ("registry.api", "assets/redoc-start.js", _JS),
    "docs.css": ("registry.api", "assets/docs.css", _CSS),
    "docs.js": ("registry.api", "assets/docs.js", _JS),
}

_HEAD: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Digestry API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="{docs_css}">
"""
_DOCS: Final = (
    _HEAD
    + """<link rel="stylesheet" href="{swagger_ui_css}">
<div id="swagger-ui"></div>
<script src="{swagger_ui_js}"></script>
<script src="{docs_js}"></script>
</html>
"""
)
_REDOC: Final = (
    _HEAD
    + """<script src="{redoc_start_js}"></script>
<redoc spec-url="/openapi.json" disable-telemetry="true"></redoc>
<script type="module" src="{redoc_js}"></script>
</html>
"""
)


class Asset(msgspec.Struct, frozen=True):
    """A file of a page; its address holds its tag, so it may be kept for good."""

    content: bytes
    media_type: str
    tag: str


class Document:
    """The encoded description of one application, made once."""

    def __init__(self) -> None:
        self._made: Asset | None = None

    def of(self, app: web.Application) -> Asset:
        if self._made is None:
            self._made = _encoded(routes_of(app))
        return self._made


DOCUMENT: Final = web.AppKey("document", Document)
"""Here and not in `registry.keys`: what everything imports may import no part of the API."""


def routes_of(app: web.Application) -> list[Route]:
    """The declarations of every route that the application serves, in its order."""
    found = (route_of(route.handler) for route in app.router.routes())
    return [route for route in found if route is not None]


def _encoded(routes: list[Route]) -> Asset:
    content = msgspec.json.encode(describe(routes, WORDS))
    return Asset(content, "application/json", _tag(content))


async def get_openapi(request: web.Request) -> web.Response:
    """This document: OpenAPI 3.1, generated from what the server validates requests with."""
    return _revalidated(request, request.app[DOCUMENT].of(request.app))


async def get_docs(request: web.Request) -> web.Response:
    """Swagger UI."""
    return await _page(_DOCS, policy("'self'"))


async def get_redoc(request: web.Request) -> web.Response:
    """ReDoc."""
    return await _page(_REDOC, policy(f"'self' {_EMPTY_STYLE}"))


async def get_asset(request: web.Request) -> web.Response:
    """A script or a style sheet of the two pages."""
    name = request.match_info["asset"]
    if name not in _ASSETS:
        raise RouteNotFound(request.path)
    found = await asyncio.to_thread(asset, name)
    answer = _revalidated(request, found)
    if request.query.get("v") == found.tag:
        answer.headers[hdrs.CACHE_CONTROL] = "public, max-age=31536000, immutable"
    return answer


@functools.cache
def asset(name: str) -> Asset:
    """A file of the pages as it is served; blocks where it was not read before."""
    package, path, media_type = _ASSETS[name]
    content = resources.files(package).joinpath(path).read_bytes()
    for address in _FOREIGN_LOGOS:
        content = content.replace(address, _NOTHING)
    return Asset(content, media_type, _tag(content))


async def _page(text: str, allowed: str) -> web.Response:
    return web.Response(
        text=await asyncio.to_thread(_linked, text),
        content_type="text/html",
        charset="utf-8",
        headers={
            "Content-Security-Policy": allowed,
            "Referrer-Policy": "no-referrer",
            hdrs.CACHE_CONTROL: "no-cache",
        },
    )


def _linked(text: str) -> str:
    links = {
        name.replace("-", "_").replace(".", "_"): f"/docs/assets/{name}?v={asset(name).tag}"
        for name in _ASSETS
        if name.replace("-", "_").replace(".", "_") in text
    }
    return text.format(**links)


def _revalidated(request: web.Request, found: Asset) -> web.Response:
    headers = {
        ETAG: f'"{found.tag}"',
        hdrs.CACHE_CONTROL: "no-cache",
        hdrs.CONTENT_TYPE: found.media_type,
        "Cross-Origin-Resource-Policy": "same-origin",
    }
    if is_unmodified(request, headers[ETAG]):
        del headers[hdrs.CONTENT_TYPE]
        return web.Response(status=304, headers=headers)
    return web.Response(body=found.content, headers=headers)


def _tag(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


def _route(
    method: str, path: str, handler: Handler, summary: str, *, is_page: bool = True
) -> Route:
    return Route(
        method=method,
        path=path,
        handler=handler,
        permission="public",
        adapter=ADAPTER,
        summary=summary,
        tag="server",
        answers={
            200: Media("text/html", summary) if is_page else Media("application/json", summary),
            304: None,
        },
        problems=(412,),
        is_hidden=is_page,
    )


ROUTES: Final = [
    _route(method, path, handler, summary, is_page=is_page)
    for path, handler, summary, is_page in (
        ("/openapi.json", get_openapi, "The API in OpenAPI 3.1", False),
        ("/docs", get_docs, "Swagger UI", True),
        ("/redoc", get_redoc, "ReDoc", True),
        ("/docs/assets/{asset}", get_asset, "Scripts and styles of the pages", True),
    )
    for method in ("GET", "HEAD")
]
