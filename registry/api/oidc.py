"""Signing in through a provider of identities: the way there, and the way back.

Both are addresses that a browser is sent to. One that comes back keeps the login in cookies and is
sent to where it began; who asks for JSON is answered as by a login with a password. The cookie in
between holds a ticket that is worth nothing to anybody else.

**Where it began** is a path of this server. What could be taken for another one's address is
refused before anybody is sent anywhere: nobody shall lead from here to a page that looks like ours.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from aiohttp import hdrs, web
from msgspec import Meta

from registry.api.browser_sessions import keep_login
from registry.api.errors import ADAPTER
from registry.api.logins import origin_of
from registry.api.wire_logins import LoginAnswer, login_answer
from registry.errors import RouteNotFound
from registry.http.answers import json_answer
from registry.http.lists import prefers_page
from registry.http.queries import parse_query, read_query
from registry.http.routing import Route
from registry.keys import ADDRESSES, OIDC, PRINCIPAL
from registry.services.oidc import AWAY_SECONDS, OidcLogins, Returned

COOKIE: Final = "digestry_oidc"

_PATH: Final = r"^/(?:[!-.0-\[\]-~][!-\[\]-~]*)?(?![\s\S])"

_OIDC: Final = "/api/v1/login/oidc"
_CALLBACK: Final = _OIDC + "/callback"


class DepartureQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`to` is where here to go after signing in: a path, what is not ASCII in it percent-encoded.

    No second slash and no backslash, which browsers take for a slash, may follow the first; spaces
    and control characters, which they leave out, may be nowhere.
    """

    to: Annotated[
        str,
        Meta(
            max_length=1024,
            pattern=_PATH,
            description="The path of this server to go to after signing in, percent-encoded.",
        ),
    ] = "/"


class CallbackQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the provider sends somebody back with; what else it adds is ignored."""

    state: Annotated[str, Meta(max_length=1024)] = ""
    code: Annotated[str, Meta(max_length=4096)] = ""
    error: Annotated[str, Meta(max_length=1024)] = ""
    iss: Annotated[str, Meta(max_length=2048)] | None = None


async def get_oidc(request: web.Request) -> web.StreamResponse:
    """Go to the provider of identities to sign in; 404 where none is configured."""
    logins = _logins(request)
    query = read_query(request, DepartureQuery)
    departure = await logins.depart(_way_back(request), began_at=query.to)
    answer = web.Response(
        status=303, headers={hdrs.LOCATION: departure.url, hdrs.CACHE_CONTROL: "no-store"}
    )
    answer.set_cookie(
        COOKIE,
        departure.ticket,
        max_age=AWAY_SECONDS,
        path=_OIDC,
        httponly=True,
        # Not Strict: the way back begins at the provider.
        samesite="Lax",
        secure=request.app[ADDRESSES].scheme(request) == "https",
    )
    return answer


async def get_callback(request: web.Request) -> web.StreamResponse:
    """Come back from the provider of identities.

    A browser, which prefers `text/html`, keeps the login in the cookies of `/api/v1/session-cookie`
    and is sent to where it began; anybody else is answered as by `POST /api/v1/login`.
    """
    logins = _logins(request)
    names = (name for name in CallbackQuery.__struct_fields__ if name in request.query)
    query = parse_query({name: request.query.getall(name) for name in names}, CallbackQuery)
    returned = Returned(
        ticket=request.cookies.get(COOKIE, ""),
        code=query.code,
        state=query.state,
        error=query.error,
        issuer=query.iss,
    )
    principal = request[PRINCIPAL]
    arrived = await logins.arrive(principal, returned, _way_back(request), origin_of(request))
    session = arrived.signed_in.session
    answer = json_answer(login_answer(arrived.signed_in))
    if prefers_page(request):
        headers = {hdrs.LOCATION: arrived.began_at, hdrs.CACHE_CONTROL: "no-store"}
        answer = web.Response(status=303, headers=headers)
        them = msgspec.structs.replace(principal, id=session.user, session=session.id)
        await keep_login(request, them, answer)
    answer.del_cookie(COOKIE, path=_OIDC)
    return answer


def _logins(request: web.Request) -> OidcLogins:
    found = request.app.get(OIDC)
    if found is None:
        raise RouteNotFound(request.path)
    return found


def _way_back(request: web.Request) -> str:
    return request.app[ADDRESSES].base_url(request) + _CALLBACK


ROUTES: Final = [
    Route(
        method="GET",
        path=_OIDC,
        handler=get_oidc,
        permission="public",
        adapter=ADAPTER,
        summary="Sign in through the provider of identities",
        tag="account",
        query=DepartureQuery,
        answers={303: None},
        problems=(404,),
    ),
    Route(
        method="GET",
        path=_CALLBACK,
        handler=get_callback,
        permission="public",
        adapter=ADAPTER,
        summary="Come back from the provider of identities",
        tag="account",
        query=CallbackQuery,
        answers={200: LoginAnswer, 303: None},
        problems=(404,),
        headers={"Accept": "`text/html` for cookies and the way to where it began."},
    ),
]
