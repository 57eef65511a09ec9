"""Turns what a handler raised into an answer in the words of the protocol the request spoke.

- The matched route names the adapter, so every protocol gets its own envelope; what no route
  declared is answered natively.
- An answer that has started is never replaced: the connection is cut, so that a short body cannot
  be taken for a whole one, and the fact is logged.
- A client that left is no error: it is noted at debug level and nobody is answered.
- A refusal, 401 or 403, is noted for the audit log (`registry.services.accesses`), and a login
  that came too early, 429.
- Anything unknown is logged with its traceback and the request's id, and answered with a bare 500.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import Final

import msgspec
import structlog
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from registry.auth.tokens import without_tokens
from registry.errors import ClientGone, Denied, LoginFailed, Throttled, Unauthenticated
from registry.http.adapters import Adapter
from registry.http.problems import problem
from registry.http.routing import route_of
from registry.keys import ACCESSES, ADDRESSES, IDENTITIES, PRINCIPAL, REQUEST_ID
from registry.middlewares.access_log import CLIENT_GONE, canonical, printable
from registry.services.accesses import Refusal

_CUT: Final = struct.pack("ii", 1, 0)

SCHEMES: Final = ("basic", "bearer")
"""Ways to say who one is that the audit log names."""

MOST_METHOD: Final = 20
"""Characters of a method, which is whatever a client sends."""

log = structlog.get_logger("registry.errors")


def errors_middleware(native: Adapter) -> Middleware:
    """Answer every exception; `native` speaks where no route does."""

    @web.middleware
    async def errors(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except Exception as error:
            refusals = Unauthenticated | Denied | Throttled
            if isinstance(error, refusals) and _is_told(request, error):
                note_refusal(request, error)
            return answer(request, error, native)

    return errors


def _is_told(request: web.Request, error: Unauthenticated | Denied | Throttled) -> bool:
    """Whether a refusal is for the audit log: of what comes too early only logins are."""
    if not isinstance(error, Throttled):
        return True
    route = route_of(request.match_info.handler)
    return bool(error.account) or (route is not None and route.is_login)


def note_refusal(request: web.Request, error: Unauthenticated | Denied | Throttled) -> None:
    """Have the audit log say of a refusal whatever is no secret of whoever was refused."""
    principal = request.get(PRINCIPAL) or request.app[IDENTITIES].nobody
    route = route_of(request.match_info.handler)
    login = error if isinstance(error, LoginFailed | Throttled) else None
    scheme = request.headers.get(hdrs.AUTHORIZATION, "").strip().partition(" ")[0].lower()
    request.app[ACCESSES].refused(
        Refusal(
            principal=msgspec.structs.replace(principal, request_id=request.get(REQUEST_ID, "")),
            address=request.app[ADDRESSES].client(request),
            shown="nothing" if not scheme else scheme if scheme in SCHEMES else "other",
            code=error.code,
            status=_status_of(error),
            route=f"{printable(request.method[:MOST_METHOD])} {canonical(request)}",
            word="" if route is None else route.permission,
            account="" if login is None else login.account,
            name="" if login is None else login.name,
            is_login=login is not None,
        )
    )


def _status_of(error: Unauthenticated | Denied | Throttled) -> int:
    if isinstance(error, Throttled):
        return 429
    return 401 if isinstance(error, Unauthenticated) else 403


def answer(request: web.Request, error: Exception, native: Adapter) -> web.StreamResponse:
    """The answer for `error`; where nobody can be answered, one that goes nowhere."""
    if isinstance(error, ClientGone | ConnectionError) or has_left(request):
        log.debug("client gone", request_id=request.get(REQUEST_ID), reason=str(error))
        return _to_nobody(request)
    if request.writer.output_size > 0:
        log.error(
            "answer cut short",
            request_id=request.get(REQUEST_ID),
            path=without_tokens(request.path),
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
            "request failed",
            request_id=request.get(REQUEST_ID),
            path=without_tokens(request.path),
            exc_info=error,
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
