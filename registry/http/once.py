"""``Idempotency-Key``: a POST that is repeated is answered as it was, and done once.

A key is its principal's, on one route with its parameters. What it is used for is known by the
SHA-256 of query and body. The rules, each with a test of its name:

- The answer is kept in the transaction of the change, see `registry.services.change`; a request
  that changed nothing keeps its answer in a transaction of its own afterwards.
- A repeat is answered with the kept status, headers and body and ``Idempotency-Replayed: true``.
- Another query or body under the same key is 422 ``idempotency_key_reused``.
- While the first is in hand in this process, a repeat is 409 ``idempotency_in_flight``; in another
  process the index lets one of the two be first and the other finds its answer.
- Errors are not kept: nothing happened, and the same request may succeed later.
- What an answer with a secret said is not kept, only that it was given: a repeat is 409
  ``idempotency_answer_secret``.
- Answers are kept for 24 hours.
- Whoever shows nothing has no keys: they would be everybody's.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import msgspec
from aiohttp import hdrs, web
from multidict import CIMultiDict, istr

from registry.catalog.once import NOT_KEPT, Kept, Scope, find_answer
from registry.errors import Conflict, Invalid, KeyInFlight
from registry.http.bodies import read_all
from registry.keys import BODY, CONFIG, PRINCIPAL, RUNNING_KEYS, STORE
from registry.services.change import PENDING, Answered, Pending
from store.index.transactions import Tx
from store.opening import Store

T = TypeVar("T")

HEADER: Final = istr("Idempotency-Key")
REPLAYED: Final = istr("Idempotency-Replayed")

_KEY: Final = re.compile(r"[!-~]{1,255}\Z")
_OF_THE_CONNECTION: Final = frozenset(
    name.lower()
    for name in (hdrs.CONNECTION, hdrs.CONTENT_LENGTH, hdrs.DATE, hdrs.SERVER, hdrs.SET_COOKIE)
)
"""Headers that every answer gets anew, and one that is a secret."""


async def answer_once(
    request: web.Request,
    call: Callable[[], Awaitable[T]],
    render: Callable[[T], web.Response],
    *,
    is_secret: bool = False,
    is_streamed: bool = False,
) -> web.Response:
    """The answer that `render` makes of what `call` returns, or the one that was given before.

    `render` *must* be pure: it runs inside the transaction, perhaps twice, and once more after it.
    `is_secret` says that the answer holds something that must not be kept. With `is_streamed` the
    body is left to `call`, which tells `registry.services.change.fingerprint` what it held.
    """
    key = idempotency_key(request)
    if key is None or request[PRINCIPAL].is_anonymous:
        return render(await call())
    scope = Scope(request[PRINCIPAL].id, route_of(request), key)
    query = request.rel_url.raw_query_string.encode()
    pending = Pending(scope, query, _keeper(render, is_secret=is_secret))
    if not is_streamed:
        pending.add(await _content(request))
    running = request.app[RUNNING_KEYS]
    if scope in running:
        raise KeyInFlight(key)
    running.add(scope)
    token = PENDING.set(pending)
    try:
        return await _answer(request.app[STORE], pending, call, render, is_streamed=is_streamed)
    except Answered as answered:
        return replay(answered.kept)
    finally:
        pending.is_over = True
        PENDING.reset(token)
        running.discard(scope)


async def _answer(
    store: Store,
    pending: Pending,
    call: Callable[[], Awaitable[T]],
    render: Callable[[T], web.Response],
    *,
    is_streamed: bool,
) -> web.Response:
    async def find(tx: Tx) -> None:
        pending.match(await find_answer(tx, pending.scope))

    if not is_streamed:  # what a stream holds is known when it has been read
        await store.index.look(find)
    result = await call()
    if not pending.is_kept:
        await store.index.run(lambda tx: _keep_alone(tx, pending, result))
    return render(result)


async def _keep_alone(tx: Tx, pending: Pending, result: object) -> None:
    """Keep an answer that no change kept; raises `Answered` if another process was first."""
    found = await find_answer(tx, pending.scope)
    if found is None:
        await pending.keep(tx, result)
    elif not pending.is_recorded:
        pending.match(found)


def idempotency_key(request: web.Request) -> str | None:
    """The key of a request, if it has one; raises `Invalid` for one that cannot be meant."""
    values = request.headers.getall(HEADER, [])
    if not values:
        return None
    if len(values) > 1 or _KEY.match(values[0]) is None:
        raise Invalid(
            str(HEADER),
            "must come once, with 1 to 255 visible ASCII characters",
            code="idempotency_key_invalid",
        )
    return values[0]


def route_of(request: web.Request) -> str:
    """Method, pattern and parameters: what a key is bound to besides its principal."""
    resource = request.match_info.route.resource
    pattern = request.path if resource is None else resource.canonical
    parameters = msgspec.json.encode(dict(sorted(request.match_info.items()))).decode()
    return f"{request.method} {pattern} {parameters}"


def replay(kept: Kept) -> web.Response:
    """An answer that was kept, marked as given again; raises `Conflict` if it was not kept."""
    if kept.status == NOT_KEPT:
        raise Conflict(
            "request",
            "with this Idempotency-Key",
            "was carried out; its answer held a secret and is not given twice",
            code="idempotency_answer_secret",
        )
    headers = CIMultiDict(msgspec.json.decode(kept.headers, type=dict[str, str]))
    headers[REPLAYED] = "true"
    return web.Response(status=kept.status, headers=headers, body=kept.body or None)


async def _content(request: web.Request) -> bytes:
    if BODY in request:
        return request[BODY]
    return await read_all(request, limit_bytes=request.app[CONFIG].limits.json_bytes)


def _keeper(render: Callable[[T], web.Response], *, is_secret: bool) -> Callable[[T], Kept]:
    def keep(result: T) -> Kept:
        answer = render(result)
        if is_secret:
            return Kept(NOT_KEPT, "{}", b"")
        body = answer.body
        if body is not None and not isinstance(body, bytes):
            raise TypeError(f"an answer of {type(body).__name__} cannot be kept")
        headers: dict[str, str] = {}
        for name, value in answer.headers.items():
            if name.lower() not in _OF_THE_CONNECTION:
                headers[name] = f"{headers[name]}, {value}" if name in headers else value
        return Kept(answer.status, msgspec.json.encode(headers).decode(), body or b"")

    return keep
