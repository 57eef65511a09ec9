"""Cookies of a login, for the web pages: taken and given back."""

from __future__ import annotations

from typing import Final

from aiohttp import hdrs, web

from registry.api.errors import ADAPTER
from registry.domain.principals import Principal
from registry.http.cookies import CSRF, TICKET
from registry.http.routing import Route
from registry.keys import ADDRESSES, BROWSERS, PRINCIPAL, STORE

_PATH: Final = "/api/v1/session-cookie"


async def put_cookie(request: web.Request) -> web.Response:
    """Keep the session that this request came by in cookies, for a browser.

    `digestry_session` is for the server alone. `digestry_csrf` is for scripts of its pages: what
    changes something must repeat it as `X-CSRF-Token`, else it is 403 `csrf_token_missing`.
    """
    answer = web.Response(status=204, headers={hdrs.CACHE_CONTROL: "no-store"})
    await keep_login(request, request[PRINCIPAL], answer)
    return answer


async def keep_login(request: web.Request, principal: Principal, answer: web.Response) -> None:
    """Let the browser that gets an answer keep the session by which the principal came."""
    kept = await request.app[BROWSERS].keep(principal, request.app[STORE].clock())
    is_secure = request.app[ADDRESSES].scheme(request) == "https"
    for name, value in ((TICKET, kept.ticket), (CSRF, kept.csrf)):
        answer.set_cookie(
            name,
            value,
            max_age=kept.seconds,
            path="/",
            secure=is_secure,
            httponly=name == TICKET,
            samesite="Lax",
        )


async def delete_cookie(request: web.Request) -> web.Response:
    """Forget the cookies; `POST /api/v1/logout` ends the session as well."""
    answer = web.Response(status=204)
    for name in (TICKET, CSRF):
        answer.del_cookie(name, path="/")
    return answer


ROUTES: Final = [
    Route(
        method="PUT",
        path=_PATH,
        handler=put_cookie,
        permission="public",
        adapter=ADAPTER,
        summary="Keep a login in a browser",
        tag="account",
        answers={204: None},
    ),
    Route(
        method="DELETE",
        path=_PATH,
        handler=delete_cookie,
        permission="public",
        adapter=ADAPTER,
        summary="Let a browser forget its login",
        tag="account",
        answers={204: None},
    ),
]
