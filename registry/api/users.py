"""Users and service accounts as JSON, for administrators; what people do for themselves is in
`registry.api.account`."""

from __future__ import annotations

from functools import partial
from typing import Final

import msgspec
from aiohttp import hdrs, web

from registry.api.errors import ADAPTER
from registry.api.wire import Urls
from registry.api.wire_accounts import (
    PasswordBody,
    RevokedAnswer,
    UserAnswer,
    UserCreate,
    UsersQuery,
    UserUpdate,
    user_answer,
)
from registry.domain.accounts import User
from registry.domain.principals import Principal
from registry.http.answers import json_answer
from registry.http.bodies import read_json
from registry.http.conditional import etag_of_row, expected_rows, revalidated
from registry.http.cursors import Page, cursor, page_answer, place_after
from registry.http.lists import is_unmodified
from registry.http.once import answer_once
from registry.http.queries import read_query
from registry.http.routing import Route
from registry.http.targets import decoded, raw_segments
from registry.keys import PASSWORDS, PRINCIPAL, STORE
from registry.services import users
from registry.services.change import fingerprint
from registry.services.users import Revoked, UserPatch, UserWish


async def get_users(request: web.Request) -> web.StreamResponse:
    """Users and service accounts in order of their names; ``deleted=true``: the deleted ones."""
    query = read_query(request, UsersQuery)
    place = place_after(query, tuple[str])
    after, store, principal = "" if place is None else place[0], request.app[STORE], _who(request)
    if query.deleted:
        found = await users.list_deleted_users(store, principal, after=after, limit=query.limit + 1)
    else:
        found = await users.list_users(
            store, principal, after=after, limit=query.limit + 1, kind=query.kind
        )
    page, following = found[: query.limit], None
    if len(found) > query.limit:
        following = cursor(query, page[-1].id if query.deleted else page[-1].folded)
    return page_answer(request, [user_answer(user) for user in page], following)


async def post_user(request: web.Request) -> web.StreamResponse:
    """Make a user or a service account.

    The password is no part of what an ``Idempotency-Key`` remembers of the request.
    """
    body = await read_json(request, UserCreate)
    wish = UserWish(**msgspec.structs.asdict(body))

    async def call() -> User:
        fingerprint(msgspec.json.encode(msgspec.structs.replace(body, password=None)))
        return await users.create_user(
            request.app[STORE], _who(request), request.app[PASSWORDS], wish
        )

    render = partial(_answer, request, status=201)
    return await answer_once(request, call, render, is_streamed=True)


async def get_one_user(request: web.Request) -> web.StreamResponse:
    """A user by name or id; a deleted one by its id."""
    found = await users.get_user(request.app[STORE], _who(request), _target(request))
    etag = etag_of_row(found.id, found.changes)
    if is_unmodified(request, etag):
        return web.Response(status=304, headers=revalidated(etag))
    return _answer(request, found)


async def patch_user(request: web.Request) -> web.StreamResponse:
    """Change what is said of a user, make an administrator, or take the power to act.

    The last administrator who may act stays one: 409 ``last_administrator``.
    """
    patch = await read_json(request, UserUpdate)
    changed = await users.change_user(
        request.app[STORE],
        _who(request),
        _target(request),
        UserPatch(**msgspec.structs.asdict(patch)),
        expected_rows(request),
    )
    return _answer(request, changed)


async def delete_user(request: web.Request) -> web.StreamResponse:
    """Delete a user: tokens, sessions, memberships and grants end at once; what they made stays."""
    store, principal = request.app[STORE], _who(request)
    await users.delete_user(store, principal, _target(request), expected_rows(request))
    return web.Response(status=204)


async def post_password(request: web.Request) -> web.StreamResponse:
    """Give a user another password; every session of theirs ends, tokens stay."""
    body, reference = await read_json(request, PasswordBody), _target(request)

    async def call() -> User:
        return await users.set_password(
            request.app[STORE], _who(request), request.app[PASSWORDS], reference, body.password
        )

    return await answer_once(request, call, partial(_answer, request), is_streamed=True)


async def post_revoke(request: web.Request) -> web.StreamResponse:
    """End every token and session of a user, at once and in every process."""
    store, reference = request.app[STORE], _target(request)

    def render(revoked: Revoked) -> web.Response:
        return json_answer(RevokedAnswer(revoked.tokens, revoked.sessions))

    call = partial(users.revoke_everything, store, _who(request), reference)
    return await answer_once(request, call, render)


def _who(request: web.Request) -> Principal:
    return request[PRINCIPAL]


def _target(request: web.Request) -> str:
    return decoded(raw_segments(request, 5)[3], field="user")


def _answer(request: web.Request, found: User, *, status: int = 200) -> web.Response:
    headers = revalidated(etag_of_row(found.id, found.changes))
    if status == 201:
        headers[hdrs.LOCATION] = Urls(request).resource("users", found.username)
    return json_answer(user_answer(found), status=status, headers=headers)


_USERS: Final = "/api/v1/users"
_USER: Final = _USERS + "/{user:[^/]+}"

ROUTES: Final = [
    Route(
        method="GET",
        path=_USERS,
        handler=get_users,
        permission="admin",
        adapter=ADAPTER,
        summary="List users",
        tag="users",
        query=UsersQuery,
        answers={200: Page[UserAnswer]},
    ),
    Route(
        method="POST",
        path=_USERS,
        handler=post_user,
        permission="admin",
        adapter=ADAPTER,
        body="json",
        summary="Make a user or a service account",
        tag="users",
        accepts=UserCreate,
        answers={201: UserAnswer},
        problems=(404, 409, 429),
    ),
    Route(
        method="GET",
        path=_USER,
        handler=get_one_user,
        permission="admin",
        adapter=ADAPTER,
        summary="Get a user",
        tag="users",
        answers={200: UserAnswer, 304: None},
        problems=(404, 412),
    ),
    Route(
        method="PATCH",
        path=_USER,
        handler=patch_user,
        permission="admin",
        adapter=ADAPTER,
        body="json",
        summary="Change a user",
        tag="users",
        accepts=UserUpdate,
        answers={200: UserAnswer},
        problems=(404, 409),
        takes_if_match=True,
    ),
    Route(
        method="DELETE",
        path=_USER,
        handler=delete_user,
        permission="admin",
        adapter=ADAPTER,
        summary="Delete a user",
        tag="users",
        answers={204: None},
        problems=(404, 409),
        takes_if_match=True,
    ),
    Route(
        method="POST",
        path=_USER + "/password",
        handler=post_password,
        permission="admin",
        adapter=ADAPTER,
        body="json",
        summary="Give a user another password",
        tag="users",
        accepts=PasswordBody,
        answers={200: UserAnswer},
        problems=(404, 409, 429),
    ),
    Route(
        method="POST",
        path=_USER + "/revoke",
        handler=post_revoke,
        permission="admin",
        adapter=ADAPTER,
        summary="End a user's tokens and sessions",
        tag="users",
        answers={200: RevokedAnswer},
        problems=(404,),
    ),
]
