"""Turns what a handler raised into an answer in the words of the protocol the request spoke.

- The matched route names the adapter, so every protocol gets its own envelope; what no route
  declared is answered natively.
- An answer that has started is never replaced: the connection is cut, so that a short body cannot
  be taken for a whole one, and the fact is logged.
- A client that left is no error: it is noted at debug level and nobody is answered.
- Anything unknown is logged with its traceback and the request's id, and answered with a bare 500.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import Final

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from registry.errors import ClientGone
from registry.http.adapters import Adapter
from registry.http.problems import problem
from registry.http.routing import route_of
from registry.keys import REQUEST_ID
from registry.middlewares.access_log import CLIENT_GONE

_CUT: Final = struct.pack("ii", 1, 0)

log = structlog.get_logger("registry.errors")


def errors_middleware(native: Adapter) -> Middleware:
    """Answer every exception; `native` speaks where no route does."""

    @web.middleware
    async def errors(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except Exception as error:
            return answer(request, error, native)

    return errors


def answer(request: web.Request, error: Exception, native: Adapter) -> web.StreamResponse:
    """The answer for `error`; where nobody can be answered, one that goes nowhere."""
    if isinstance(error, ClientGone | ConnectionError) or has_left(request):
        log.debug("client gone", request_id=request.get(REQUEST_ID), reason=str(error))
        return _to_nobody(request)
    if request.writer.output_size > 0:
        log.error(
            "answer cut short",
            request_id=request.get(REQUEST_ID),
            path=request.path,
            exc_info=error,
        )
        cut(request)
        return _to_nobody(request)
    if isinstance(error, web.HTTPException):
        return of_http_exception(request, error)
    route = route_of(request.match_info.handler)
    adapter = native if route is None else route.adapter
    rule = adapter.rule_for(error)
    if rule is None or (rule.status >= 500 and rule.status not in (503, 507)):
        log.error(
            "request failed", request_id=request.get(REQUEST_ID), path=request.path, exc_info=error
        )
    return adapter.render(request, error, rule)


def has_left(request: web.Request) -> bool:
    return request.transport is None or request.transport.is_closing()


def cut(request: web.Request) -> None:
    """Reset the connection: a mere close looks like the end of an HTTP/1.0 answer."""
    transport = request.transport
    if not isinstance(transport, asyncio.Transport):
        return
    connection = transport.get_extra_info("socket")
    with contextlib.suppress(OSError, AttributeError):  # already gone: nothing left to reset
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _CUT)
    transport.abort()


def of_http_exception(request: web.Request, error: web.HTTPException) -> web.StreamResponse:
    """What aiohttp itself raises: redirects stay as they are, its errors become problems."""
    if error.status < 400:
        raise error
    kept = {
        name: value for name, value in error.headers.items() if name in ("Allow", "Content-Range")
    }
    return problem(
        error.status,
        "http_error",
        error.reason,
        request_id=request.get(REQUEST_ID, ""),
        headers=kept,
    )


def _to_nobody(request: web.Request) -> web.StreamResponse:
    """What a handler must return although the connection is gone.

    Raising instead would make aiohttp log a traceback for every client that leaves.
    """
    cut(request)
    response = web.Response(status=CLIENT_GONE)
    response.force_close()
    return response
