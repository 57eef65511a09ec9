"""Signing in and out, one's sessions and password, and who one is.

Nobody is asked for a permission here: these routes are how permissions are come by, and what
whoever has the fewest may still do for themselves.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

import msgspec
from aiohttp import hdrs, web

from registry.api.errors import ADAPTER
from registry.api.wire_accounts import (
    SessionAnswer,
    SessionsQuery,
    UserAnswer,
    my_team,
    session_answer,
    user_answer,
)
from registry.api.wire_logins import (
    LoginAnswer,
    LoginBody,
    Me,
    MyRights,
    PasswordChange,
    RefreshBody,
    Registration,
    RightsAt,
    login_answer,
)
from registry.domain.accounts import User
from registry.domain.ids import SESSION, TOKEN
from registry.domain.principals import Principal
from registry.domain.roles import ALL_WORDS, Words
from registry.http.answers import json_answer
from registry.http.bodies import read_json
from registry.http.cursors import Page, cursor, page_answer, place_after
from registry.http.once import answer_once
from registry.http.queries import read_query
from registry.http.routing import Route
from registry.keys import ADDRESSES, LOGINS, PRINCIPAL, STORE
from registry.services.account import Account, describe
from registry.services.change import fingerprint
from registry.services.logins import Origin, SignedIn
from registry.services.tokens import NEWEST


async def post_login(request: web.Request) -> web.StreamResponse:
    """Sign in with a name and a password.

    `access_token` opens the API as `Authorization: Bearer`; git, curl and container tools take an
    API token instead. Who fails is not told why. After five tries in vain for one name from one
    address each further one has to wait longer: 429 with `Retry-After`.
    """
    body = await read_json(request, LoginBody)

    async def call() -> SignedIn:
        fingerprint(body.username.encode())
        return await request.app[LOGINS].sign_in(
            request[PRINCIPAL], body.username, body.password, origin_of(request)
        )

    return await _answer_secretly(request, call)


async def post_refresh(request: web.Request) -> web.StreamResponse:
    """Renew a login: another `access_token` of the same session, as long as that holds."""
    body = await read_json(request, RefreshBody)
    call = partial(request.app[LOGINS].renew, body.refresh_token)
    return await _answer_secretly(request, call)


async def _answer_secretly(request: web.Request, call: Any) -> web.StreamResponse:
    """What a password or ticket brings; a key keeps neither what was sent nor what is answered."""

    def render(signed_in: SignedIn) -> web.Response:
        return json_answer(login_answer(signed_in))

    return await answer_once(request, call, render, is_secret=True, is_streamed=True)


async def post_logout(request: web.Request) -> web.StreamResponse:
    """End what this request came by, the session or the token, at once and in every process."""

    async def call() -> None:
        await request.app[LOGINS].sign_out(request[PRINCIPAL])

    return await answer_once(request, call, lambda _: web.Response(status=204))


async def post_register(request: web.Request) -> web.StreamResponse:
    """Make oneself a user, where `auth.self_registration` allows it; 404 where it does not."""
    body = await read_json(request, Registration)

    async def call() -> User:
        fingerprint(msgspec.json.encode((body.username, body.email)))
        return await request.app[LOGINS].register(
            request[PRINCIPAL], body.username, body.email, body.password, request.path
        )

    return await answer_once(
        request, call, lambda user: json_answer(user_answer(user), status=201), is_streamed=True
    )


async def get_me(request: web.Request) -> web.StreamResponse:
    """Who the caller is here, what they came by, and what they may do where."""
    principal = request[PRINCIPAL]
    account = await describe(request.app[STORE], principal)
    return json_answer(_me(principal, account))


def _me(principal: Principal, account: Account) -> Me:
    rights, limit = principal.rights, principal.rights.limit
    return Me(
        id=principal.id,
        username=principal.name,
        kind=principal.kind,
        is_admin=principal.may_everywhere("admin"),
        came_by=_came_by(principal),
        credential=principal.session or None,
        scopes=None if limit is None else sorted(limit & ALL_WORDS),
        teams=[my_team(team) for team in account.teams],
        rights=MyRights(
            everywhere=sorted(rights.everywhere),
            everything_visible=sorted(rights.levels),
            namespaces=_places(account.namespaces),
            models=_places(account.models),
            is_complete=account.is_complete,
        ),
    )


def _came_by(principal: Principal) -> Any:
    if principal.session.startswith(TOKEN):
        return "token"
    if principal.session.startswith(SESSION):
        return "session"
    return {"local": "local", "anonymous": "nothing"}.get(principal.kind, "other")


def _places(found: list[tuple[str, Words]]) -> list[RightsAt]:
    return [RightsAt(name=name, permissions=sorted(words)) for name, words in found]


async def post_my_password(request: web.Request) -> web.StreamResponse:
    """Change one's password. Every other session of one's own ends; API tokens stay."""
    body = await read_json(request, PasswordChange)

    async def call() -> User:
        return await request.app[LOGINS].change_password(
            request[PRINCIPAL], body.old, body.new, origin_of(request)
        )

    return await answer_once(
        request, call, lambda user: json_answer(user_answer(user)), is_streamed=True
    )


async def get_sessions(request: web.Request) -> web.StreamResponse:
    """The caller's sessions that hold, the latest first; for administrators those of ``user``."""
    query, principal = read_query(request, SessionsQuery), request[PRINCIPAL]
    place = place_after(query, tuple[str])
    found = await request.app[LOGINS].list_sessions(
        principal,
        user=query.user,
        before=NEWEST if place is None else place[0],
        limit=query.limit + 1,
    )
    page = found[: query.limit]
    following = cursor(query, page[-1].id) if len(found) > query.limit else None
    items = [session_answer(session, principal.session) for session in page]
    return page_answer(request, items, following)


async def delete_session(request: web.Request) -> web.StreamResponse:
    """End a session, at once and in every process: 204, repeated too."""
    await request.app[LOGINS].end_session(request[PRINCIPAL], request.match_info["login"])
    return web.Response(status=204)


def origin_of(request: web.Request) -> Origin:
    """Where a request comes from, as sessions keep it."""
    said = request.headers.get(hdrs.USER_AGENT, "")
    printable = "".join(character for character in said if character.isprintable())
    return Origin(request.app[ADDRESSES].client(request), printable)


_LOGIN: Final = "/api/v1/login"
_SESSIONS: Final = "/api/v1/sessions"

ROUTES: Final = [
    Route(
        method="POST",
        path=_LOGIN,
        handler=post_login,
        permission="public",
        adapter=ADAPTER,
        body="json",
        summary="Sign in",
        tag="account",
        accepts=LoginBody,
        answers={200: LoginAnswer},
        problems=(429,),
        is_login=True,
    ),
    Route(
        method="POST",
        path=_LOGIN + "/refresh",
        handler=post_refresh,
        permission="public",
        adapter=ADAPTER,
        body="json",
        summary="Renew a login",
        tag="account",
        accepts=RefreshBody,
        answers={200: LoginAnswer},
    ),
    Route(
        method="POST",
        path="/api/v1/logout",
        handler=post_logout,
        permission="public",
        adapter=ADAPTER,
        summary="Sign out",
        tag="account",
        answers={204: None},
    ),
    Route(
        method="POST",
        path="/api/v1/register",
        handler=post_register,
        permission="public",
        adapter=ADAPTER,
        body="json",
        summary="Make oneself a user",
        tag="account",
        accepts=Registration,
        answers={201: UserAnswer},
        problems=(404, 409, 429),
        is_login=True,
    ),
    Route(
        method="GET",
        path="/api/v1/me",
        handler=get_me,
        permission="public",
        adapter=ADAPTER,
        summary="Who am I",
        tag="account",
        answers={200: Me},
    ),
    Route(
        method="POST",
        path="/api/v1/me/password",
        handler=post_my_password,
        permission="public",
        adapter=ADAPTER,
        body="json",
        summary="Change one's password",
        tag="account",
        accepts=PasswordChange,
        answers={200: UserAnswer},
        problems=(429,),
        is_login=True,
    ),
    Route(
        method="GET",
        path=_SESSIONS,
        handler=get_sessions,
        permission="public",
        adapter=ADAPTER,
        summary="List sessions",
        tag="account",
        query=SessionsQuery,
        answers={200: Page[SessionAnswer]},
        problems=(404,),
    ),
    Route(
        method="DELETE",
        path=_SESSIONS + "/{login}",
        handler=delete_session,
        permission="public",
        adapter=ADAPTER,
        summary="End a session",
        tag="account",
        answers={204: None},
        problems=(404,),
    ),
]
