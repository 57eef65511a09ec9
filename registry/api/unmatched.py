"""What no route wanted: 404, or 405 with the methods that the address does take.

These are the last routes of the application. aiohttp's own answer to an unknown address would say
``100 Continue`` first and have the client send its whole body for nothing.
"""

from __future__ import annotations

from typing import Final, NoReturn

from aiohttp import hdrs, web

from registry.api.errors import ADAPTER
from registry.errors import MethodNotAllowed, RouteNotFound
from registry.http.routing import Route

PATTERN: Final = "/{unmatched:.*}"


async def answer_unmatched(request: web.Request) -> NoReturn:
    """Say what is wrong with the address or the method."""
    allowed: set[str] = set()
    for resource in request.app.router.resources():
        if resource.canonical != "/{unmatched}":
            allowed |= (await resource.resolve(request))[1]
    if allowed:
        raise MethodNotAllowed(request.method, allowed)
    raise RouteNotFound(request.path)


ROUTES: Final = [
    Route(
        method=hdrs.METH_ANY,
        path=PATTERN,
        handler=answer_unmatched,
        permission="public",
        adapter=ADAPTER,
        summary="What no other route wanted",
        tag="server",
        problems=(404, 405),
        is_hidden=True,
    )
]
