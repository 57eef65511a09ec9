"""What every answer carries, set at the last moment before its headers leave.

It is a signal rather than a middleware, because a streamed answer has left before its handler ends.
Here lies the rule that no handler can forget: an answer to a request whose body has not arrived
completely ends the connection. aiohttp would keep it and take the next request for that body, and
the client would read the answer to something it never asked.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import hdrs, web
from multidict import istr

from registry.http.draining import Drain
from registry.http.repeating import Repeats
from registry.http.taking import METHODS, Takes
from registry.keys import ORIGIN, REQUEST_ID, SPENT, STANDING
from registry.middlewares.request_id import HEADER

_TYPE_OPTIONS: Final = istr("X-Content-Type-Options")

EXPOSED: Final = ", ".join(
    (
        "Accept-Ranges",
        "Content-Disposition",
        "Content-Location",
        "Content-Range",
        "ETag",
        "Idempotency-Replayed",
        "Link",
        "Location",
        "RateLimit",
        "RateLimit-Policy",
        "Repr-Digest",
        "Retry-After",
        "Tus-Checksum-Algorithm",
        "Tus-Extension",
        "Tus-Max-Size",
        "Tus-Resumable",
        "Tus-Version",
        "Upload-Defer-Length",
        "Upload-Expires",
        "Upload-Length",
        "Upload-Metadata",
        "Upload-Offset",
        "X-Request-Id",
    )
)
"""Headers that a page of a CORS-listed origin may read."""


def response_headers(
    drain: Drain, repeats: Repeats | None = None, takes: Takes | None = None
) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """The signal handler for ``app.on_response_prepare``."""

    async def finish(request: web.Request, response: web.StreamResponse) -> None:
        headers = response.headers
        headers[HEADER] = request.get(REQUEST_ID, "")
        headers[hdrs.SERVER] = "Digestry"
        headers[_TYPE_OPTIONS] = "nosniff"
        if drain.is_draining or SPENT in request or not request.content.is_eof():
            response.force_close()
            headers[hdrs.CONNECTION] = "close"
        if STANDING in request:
            headers.update(request[STANDING].headers)
        if ORIGIN in request:
            allow_reading(request[ORIGIN], response)
        if repeats is not None:
            repeats.consider(request, response)
        if takes is not None and request.method in METHODS:
            takes.consider(request, response)

    return finish


def allow_reading(origin: str, response: web.StreamResponse) -> None:
    response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
    response.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = EXPOSED
    response.headers.add(hdrs.VARY, "Origin")
