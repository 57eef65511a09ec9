"""Signing in through a provider of identities: the way there, and the way back.

Both are addresses that a browser is sent to. What comes back is answered as a login is, as JSON;
the cookie in between holds a ticket that is worth nothing to anybody else.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from aiohttp import hdrs, web
from msgspec import Meta

from registry.api.errors import ADAPTER
from registry.api.logins import origin_of
from registry.api.wire_logins import LoginAnswer, login_answer
from registry.errors import RouteNotFound
from registry.http.answers import json_answer
from registry.http.queries import parse_query
from registry.http.routing import Route
from registry.keys import ADDRESSES, OIDC, PRINCIPAL
from registry.services.oidc import AWAY_SECONDS, OidcLogins, Returned

COOKIE: Final = "digestry_oidc"

_OIDC: Final = "/api/v1/login/oidc"
_CALLBACK: Final = _OIDC + "/callback"


class CallbackQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the provider sends somebody back with; what else it adds is ignored."""

    state: Annotated[str, Meta(max_length=1024)] = ""
    code: Annotated[str, Meta(max_length=4096)] = ""
    error: Annotated[str, Meta(max_length=1024)] = ""
    iss: Annotated[str, Meta(max_length=2048)] | None = None


async def get_oidc(request: web.Request) -> web.StreamResponse:
    """Go to the provider of identities to sign in; 404 where none is configured."""
    departure = await _logins(request).depart(_way_back(request))
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
    """Come back from the provider of identities; answered as `POST /api/v1/login` is."""
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
    signed_in = await logins.arrive(
        request[PRINCIPAL], returned, _way_back(request), origin_of(request)
    )
    answer = json_answer(login_answer(signed_in))
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
        answers={200: LoginAnswer},
        problems=(404,),
    ),
]
