"""A route says what it needs before it exists: method, path, permission, and who words its errors.

`register` is the only way a handler reaches the application. It puts the handler behind `guard`,
which checks the permission of the request's principal first; a test walks the router and fails on
anything that did not come this way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import msgspec
from aiohttp import hdrs, web
from multidict import istr

from registry.auth.policy import allows
from registry.domain.permissions import PERMISSIONS, Permission
from registry.domain.principals import Principal
from registry.errors import (
    Denied,
    ExpectationFailed,
    Gone,
    NotFound,
    RouteNotFound,
    Throttled,
    Unauthenticated,
    UnsupportedEncoding,
    UnsupportedMedia,
)
from registry.http.adapters import Adapter
from registry.http.rates import RateClass
from registry.keys import ADDRESSES, PRINCIPAL, RATES, REQUEST_ID, STANDING
from store.errors import BlobNotFound, UploadNotFound

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]
Body: TypeAlias = Literal["none", "json", "bytes", "json or multipart"]

OVERRIDE: Final = istr("Digestry-Override")
"""Says why promotion guards shall not hold for this request (`registry.services.guarding`)."""

MOST_REASON: Final = 1000

_ROUTE = "digestry_route"


class Media(msgspec.Struct, frozen=True):
    """Content that is not JSON; the media type is ``*/*`` for whatever was stored.

    ``headers`` are those of an answer that a client should know of, each with what it says.
    ``also`` is what the same status carries as JSON, where ``Accept`` chooses between the two.
    """

    media_type: str
    description: str
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    also: type[Any] | None = None


Content: TypeAlias = type[Any] | Media | None
"""What travels: a type that msgspec encodes, other content, or nothing at all."""

ANYTHING: Final = Media("*/*", "The bytes.")


class Taken(NamedTuple):
    """What is answered where no handler ran: JSON, not to be kept."""

    status: int
    fields: str
    """Header lines of its own, each ended."""
    content: bytes


class Taker(NamedTuple):
    """How a route carries out what a small body asks, all of it there, without its handler."""

    begin: Callable[[web.Application, str, Principal, bytes], asyncio.Future[Any] | None]
    """Given the address as it was sent; None declines, and raises nothing."""
    render: Callable[[Any, str], Taken]
    """What is said of what was done, the same as the handler says, and where the server is."""


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One method on one path, and what the documentation says about it.

    ``body`` says what the handler reads. ``json`` routes refuse other media types, because a web
    page of another site can send ``text/plain`` without asking first. ``bytes`` routes take any
    type and refuse a content encoding: what is stored is what was sent.

    ``summary`` is one line, the handler's docstring is the description, ``tag`` is the section of
    the documentation. ``query`` is the struct for `read_query`, ``accepts`` the one for
    `read_json` or a `Media`. ``answers`` maps every status of success (and 304) to its content.
    ``problems`` are statuses of problem documents beside those that any route may answer.
    ``headers`` are request headers with a meaning of their own here, each with what it says.
    ``is_login`` counts it with those that look at passwords (`registry.http.rates`).
    ``repeats`` says that 200 of a plain GET depends on the index, the address and who asks alone,
    and does nothing besides (`registry.http.repeating`).
    ``takes`` carries out plain requests with small bodies without it (`registry.http.taking`).
    ``is_hidden`` keeps a route out of the documentation of the API: pages, and what takes the rest.
    """

    method: str
    path: str
    handler: Handler
    permission: Permission
    adapter: Adapter
    body: Body = "none"
    summary: str = ""
    tag: str = ""
    query: type[msgspec.Struct] | None = None
    accepts: Content = None
    is_body_optional: bool = False
    answers: Mapping[int, Content] = msgspec.field(default_factory=dict)
    problems: tuple[int, ...] = ()
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    takes_if_match: bool = False
    is_hidden: bool = False
    is_login: bool = False
    repeats: bool = False
    takes: Taker | None = None


def rate_class(route: Route) -> RateClass:
    """Which of the limits of `registry.http.rates` counts requests of this route."""
    if route.method in (hdrs.METH_GET, hdrs.METH_HEAD, hdrs.METH_OPTIONS):
        return "read"
    return "login" if route.is_login else "write"


def guard(route: Route, *, is_counted: bool = False) -> Handler:
    """The handler of `route` behind the check of its permission and of its body's headers.

    The principal that the handler finds acts by this request and by the word of this route.
    """
    if route.permission not in PERMISSIONS:
        raise ValueError(f"{route.method} {route.path} needs a word of registry.domain.permissions")
    handler, word, reads = route.handler, route.permission, route.body
    rate = rate_class(route)

    async def guarded(request: web.Request) -> web.StreamResponse:
        principal = request[PRINCIPAL]
        if is_counted:
            check_rate(request, rate)
        is_nobody = principal.kind == "anonymous"
        if not allows(principal, word):
            raise Unauthenticated if is_nobody else _denied(principal, word, request.path)
        override = request.headers.get(OVERRIDE, "")
        request[PRINCIPAL] = msgspec.structs.replace(
            principal, request_id=request[REQUEST_ID], word=word, override=override[:MOST_REASON]
        )
        if is_nobody:
            return await answer_nobody(request, handler, reads)
        if reads != "none":
            check_body_headers(request, reads)
        return await handler(request)

    setattr(guarded, _ROUTE, route)  # a function, because aiohttp warns about callable objects
    return guarded


def _denied(principal: Principal, word: str, path: str) -> Denied:
    limit = principal.rights.limit
    if limit is None or word in limit:
        return Denied(word, path)
    return Denied(
        word, path, sentence=f"this needs {word}, which the scopes of this token leave out"
    )


def check_rate(request: web.Request, rate: RateClass) -> None:
    """Count a request; raise `Throttled` for one too many."""
    principal = request[PRINCIPAL]
    by_address = rate == "login" or principal.kind in ("local", "anonymous")
    _count(request, request.app[ADDRESSES].client(request) if by_address else principal.id, rate)


def check_rate_of_unknown(request: web.Request) -> None:
    """Count a request by what does not hold, as one of its address; raise `Throttled`."""
    route = route_of(request.match_info.handler)
    if route is not None and request.app[RATES].counts(rate_class(route)):
        _count(request, request.app[ADDRESSES].client(request), rate_class(route))


def _count(request: web.Request, who: str, rate: RateClass) -> None:
    standing = request[STANDING] = request.app[RATES].take(who, rate)
    if standing.retry_seconds:
        raise Throttled(standing.retry_seconds)


async def answer_nobody(request: web.Request, handler: Handler, reads: Body) -> web.StreamResponse:
    """Answer whoever showed nothing: what is missing, hidden or forbidden is 401, all alike."""
    try:
        if reads != "none":
            check_body_headers(request, reads)
        return await handler(request)
    except RouteNotFound:
        raise
    except (NotFound, Gone, Denied, BlobNotFound, UploadNotFound) as error:
        raise Unauthenticated from error


def check_body_headers(request: web.Request, reads: Body) -> None:
    """Refuse, before a byte of the body is read, a body that this route would misread."""
    expected = request.headers.get(hdrs.EXPECT, "").strip().lower()
    if expected and expected != "100-continue":
        raise ExpectationFailed(expected)
    encoding = request.headers.get(hdrs.CONTENT_ENCODING)
    if encoding is not None and encoding.strip().lower() not in ("", "identity"):
        raise UnsupportedEncoding(encoding)
    if reads.startswith("json") and request.body_exists:
        received = request.headers.get(hdrs.CONTENT_TYPE, "")
        media = received.partition(";")[0].strip().lower()
        if reads == "json or multipart" and media in ("multipart/form-data", "multipart/mixed"):
            return
        if media != "application/json" and not media.endswith("+json"):
            raise UnsupportedMedia("application/json", received)


def register(app: web.Application, routes: Iterable[Route]) -> None:
    """Add routes in order; among paths that both match, the first one added wins."""
    rates = app.get(RATES)
    for route in routes:
        is_counted = rates is not None and rates.counts(rate_class(route))
        app.router.add_route(
            route.method,
            route.path,
            guard(route, is_counted=is_counted),
            expect_handler=_leave_expect_to_handler,
        )


def areas(app: web.Application) -> dict[str, str]:
    """The section of the documentation of each address, by its pattern; few words in all."""
    return {
        resource.canonical: found.tag
        for resource in app.router.resources()
        for route in resource
        if (found := route_of(route.handler)) is not None
    }


def route_of(handler: object) -> Route | None:
    """The declaration behind a registered handler; None for what `register` did not add."""
    route = getattr(handler, _ROUTE, None)
    return route if isinstance(route, Route) else None


async def _leave_expect_to_handler(request: web.Request) -> None:
    """Say nothing yet: whether the body may travel is the handler's to decide.

    aiohttp would answer 100 here, before we know whether the bytes are wanted at all.
    """
