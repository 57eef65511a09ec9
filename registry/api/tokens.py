"""API tokens as JSON: one's own, and for administrators those of others.

Every route is ``public`` to the guard, because a token of whatever scopes may be asked about and
ended by itself; the service asks who is signed in. A token does not change, so there is nothing to
guard by ``If-Match``.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from aiohttp import hdrs, web

from registry.api.errors import ADAPTER
from registry.api.wire_accounts import (
    TokenAnswer,
    TokenCreate,
    TokenMade,
    TokensQuery,
    token_answer,
    token_made,
)
from registry.api.wire_runs import moment
from registry.http.answers import json_answer
from registry.http.bodies import read_json
from registry.http.cursors import Page, cursor, page_answer, place_after
from registry.http.once import answer_once
from registry.http.queries import read_query
from registry.http.routing import Route
from registry.keys import PRINCIPAL, STORE
from registry.services import tokens
from registry.services.tokens import NEWEST, MadeToken, TokenWish


async def get_tokens(request: web.Request) -> web.StreamResponse:
    """The caller's tokens, the latest made first; for administrators those of ``user``."""
    query, store = read_query(request, TokensQuery), request.app[STORE]
    place = place_after(query, tuple[str])
    found = await tokens.list_tokens(
        store,
        request[PRINCIPAL],
        user=query.user,
        before=NEWEST if place is None else place[0],
        limit=query.limit + 1,
        only_active=not query.ended,
    )
    page, now = found[: query.limit], store.clock()
    following = cursor(query, page[-1].token.id) if len(found) > query.limit else None
    return page_answer(request, [token_answer(owned, now) for owned in page], following)


async def post_token(request: web.Request) -> web.StreamResponse:
    """Make a token. Its `secret` is in this answer and in none after it.

    Not even under an `Idempotency-Key`: a repeat makes no second token and is 409
    `idempotency_answer_secret`; whoever lost the answer finds the token in the list, ends it and
    makes another.
    """
    body, store = await read_json(request, TokenCreate), request.app[STORE]
    wish = TokenWish(
        name=body.name,
        scopes=None if body.scopes is None else tuple(body.scopes),
        expires_at=None if body.expires_at is None else moment(body.expires_at, "expires_at"),
        user=body.user,
    )

    def render(made: MadeToken) -> web.Response:
        location = f"{_TOKENS}/{made.owned.token.id}"
        answer = token_made(made, store.clock())
        return json_answer(answer, status=201, headers={hdrs.LOCATION: location})

    call = partial(tokens.create_token, store, request[PRINCIPAL], wish)
    return await answer_once(request, call, render, is_secret=True)


async def get_one_token(request: web.Request) -> web.StreamResponse:
    """One token, without its secret."""
    store = request.app[STORE]
    found = await tokens.get_token(store, request[PRINCIPAL], _target(request))
    return json_answer(token_answer(found, store.clock()))


async def delete_token(request: web.Request) -> web.StreamResponse:
    """End a token, at once and in every process: 204, repeated too."""
    await tokens.end_token(request.app[STORE], request[PRINCIPAL], _target(request))
    return web.Response(status=204)


def _target(request: web.Request) -> str:
    return request.match_info["token"]


_TOKENS: Final = "/api/v1/tokens"
_TOKEN: Final = _TOKENS + "/{token}"

ROUTES: Final = [
    Route(
        method="GET",
        path=_TOKENS,
        handler=get_tokens,
        permission="public",
        adapter=ADAPTER,
        summary="List tokens",
        tag="account",
        query=TokensQuery,
        answers={200: Page[TokenAnswer]},
        problems=(404,),
    ),
    Route(
        method="POST",
        path=_TOKENS,
        handler=post_token,
        permission="public",
        adapter=ADAPTER,
        body="json",
        summary="Make a token",
        tag="account",
        accepts=TokenCreate,
        answers={201: TokenMade},
        problems=(404, 409),
    ),
    Route(
        method="GET",
        path=_TOKEN,
        handler=get_one_token,
        permission="public",
        adapter=ADAPTER,
        summary="Get a token",
        tag="account",
        answers={200: TokenAnswer},
        problems=(404,),
    ),
    Route(
        method="DELETE",
        path=_TOKEN,
        handler=delete_token,
        permission="public",
        adapter=ADAPTER,
        summary="End a token",
        tag="account",
        answers={204: None},
        problems=(404,),
    ),
]
