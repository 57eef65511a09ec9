"""Answers that repeat are given again, before any handler wakes, while nothing was committed since.

Most requests of a busy registry ask what was asked a moment ago: the same small blob, the same
model. Half of the time of such a request went into waking a task and making objects for it, most of
the rest into finding the same rows and writing the same headers. So the connection itself answers
what it has the answer of.

**What an answer may depend on**: the index, the address asked, who asks, and the name by which they
call the server, with which program. Routes of whose answers this is true say so (`Route.repeats`),
as do handlers whose answers are counted, with how to count another one (`AGAIN`). They are kept
under these, with the counter of commits as it was before anything else of the request was looked
at, the rights of who asks among them. It is given again only while the counter stands. Whatever
anybody changes, be it a model, a pin or a grant, and in whichever process, is effective at the
next request, as it was without this.

**Which requests may be answered so**: plain ones. A method GET, no query, no body, and no header
beyond those that change nothing (`PLAIN`); one that names a range, a condition, a cookie, an origin
or a proxy goes the whole way.

**What happens all the same**: the request gets its id, is counted, measured and logged, and the use
of its token is noted, once a second for each connection. Limits of requests and tracing need the
whole way: with them nothing is kept.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

import msgspec
from aiohttp import hdrs, web
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http import HttpVersion11
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import RequestHandler
from multidict import istr

from registry.domain.ids import TOKEN
from registry.domain.principals import Principal
from registry.http.draining import Drain
from registry.http.routing import route_of
from registry.keys import AGAIN, IDENTITIES, ORIGIN, PRINCIPAL, REPEATS, STANDING
from store.clock import Clock

PLAIN: Final = frozenset(
    (
        b"accept",
        b"accept-encoding",
        b"accept-language",
        b"authorization",
        b"connection",
        b"host",
        b"traceparent",
        b"tracestate",
        b"user-agent",
        b"x-request-id",
    )
)
"""Headers that no such answer depends on, but for who asks and what they call the server."""

PLACES: Final = ("/blobs/", "/models/", "/api/v1/models/", "/api/v1/versions/")
"""Where such routes lie; what is asked elsewhere need not be looked up."""

MOST_KEPT: Final = 4096
MOST_KEPT_BYTES: Final = 32 << 20
"""So many answers are kept, and so many bytes of them; then all are forgotten."""

MOST_BYTES: Final = 64 << 10
"""A longer answer is not kept: sending it costs more than making it."""

_TOKEN_SHOWN: Final = b"Bearer dgt_"
_LOCAL_SHOWN: Final = b"digestry-local"
_REQUEST_ID: Final = istr("X-Request-Id")
_EACH_ANEW: Final = frozenset((_REQUEST_ID.lower(), hdrs.DATE.lower()))

Headers: TypeAlias = tuple[tuple[bytes, bytes], ...]
Tell: TypeAlias = Callable[[str, float], None]
"""Counts, measures and logs a request, given its id and the seconds it took."""
NoteUse: TypeAlias = Callable[[Principal, str, str], None]
"""Notes that a principal's token was used, given the peer's address and the request's id."""


class Circumstances(NamedTuple):
    """What an answer depends on besides the index and the address asked."""

    credential: bytes
    """The hash of the token shown; empty where nothing is, or all are the same."""
    host: bytes
    program: bytes
    """Downloads are counted by it."""
    is_secure: bool


class Asked(NamedTuple):
    """A request that an answer is kept for, once there is one."""

    path: str
    circumstances: Circumstances


class Kept(msgspec.Struct, frozen=True):
    """An answer, whole but for what each request has its own of."""

    head: bytes
    content: bytes
    tell: Tell
    also: Callable[[], None] | None
    principal: Principal
    shows_token: bool
    expires_at: int | None
    """When what was shown ends."""


class Teller(Protocol):
    """Makes what tells of an answer that is given again."""

    def __call__(
        self, request: web.Request, response: web.Response, principal: Principal
    ) -> Tell: ...


class Repeats:
    """The answers that one process keeps; for the event loop's thread."""

    def __init__(
        self,
        change_counter: Callable[[], int],
        clock: Clock,
        drain: Drain,
        take_id: Callable[[str | None], str],
        teller: Teller,
        note_use: NoteUse,
        *,
        is_open: bool,
    ) -> None:
        self._change_counter = change_counter
        self._clock = clock
        self._drain = drain
        self._teller = teller
        self._kept: dict[Asked, Kept] = {}
        self._kept_bytes = 0
        self._counter = -1
        self._is_open = is_open
        self.take_id = take_id
        self.note_use = note_use
        self.repeated = 0
        """How many answers were given again."""

    def circumstances(
        self, headers: Headers, *, is_secure: bool
    ) -> tuple[Circumstances | None, str | None]:
        """What these headers mean, if they are plain, and the id that the client gave."""
        found: dict[bytes, bytes] = {}
        for name, value in headers:
            lowered = name.lower()
            if lowered not in PLAIN or lowered in found:
                return None, None
            found[lowered] = value
        shown, host = found.get(b"authorization"), found.get(b"host")
        if not host:
            return None, None
        credential = b""
        if shown is not None:
            if shown.lower().startswith(_LOCAL_SHOWN):
                return None, None
            if not self._is_open:
                if not shown.startswith(_TOKEN_SHOWN):
                    return None, None
                credential = hashlib.sha256(shown).digest()
        given = found.get(b"x-request-id")
        id = None if given is None else given.decode("utf-8", "surrogateescape")
        return Circumstances(credential, host, found.get(b"user-agent", b""), is_secure), id

    def find(self, asked: Asked) -> Kept | None:
        """The answer of a moment ago, if it would be the same now."""
        counter = self._change_counter()
        if counter != self._counter:
            self._forget()
            self._counter = counter
            return None
        kept = self._kept.get(asked)
        if kept is None or self._drain.is_draining:
            return None
        if kept.expires_at is not None and kept.expires_at <= self._clock():
            return None
        return kept

    @property
    def counter(self) -> int:
        """As `find` read it last."""
        return self._counter

    def consider(self, request: web.Request, response: web.StreamResponse) -> None:
        """Keep an answer that is about to leave, if it is one that repeats."""
        protocol = request.protocol
        if not isinstance(protocol, RepeatingHandler) or protocol.missed is None:
            return
        asked, counter = protocol.missed
        protocol.missed = None
        # What committed anything, such as the audit entry before a download, is not done by giving
        # its answer again.
        if counter != self._change_counter() or counter != self._counter or response.status != 200:
            return
        route, also = route_of(request.match_info.handler), request.get(AGAIN)
        if route is None or not (route.repeats or also) or STANDING in request or ORIGIN in request:
            return
        if not isinstance(response, web.Response) or not isinstance(response.body, bytes):
            return
        headers = response.headers
        if (
            len(response.body) > MOST_BYTES
            or hdrs.CONNECTION in headers
            or hdrs.SET_COOKIE in headers
            or headers.get(hdrs.CONTENT_LENGTH) != str(len(response.body))
        ):
            return
        principal, expires_at = request[PRINCIPAL], None
        if asked.circumstances.credential:
            known = request.app[IDENTITIES].known_token(request.headers[hdrs.AUTHORIZATION][7:])
            if known is None:
                return
            expires_at = known.expires_at
        self._keep(
            asked,
            Kept(
                head=_head_of(response),
                content=response.body,
                tell=self._teller(request, response, principal),
                also=also,
                principal=principal,
                shows_token=principal.session.startswith(TOKEN),
                expires_at=expires_at,
            ),
        )

    def _keep(self, asked: Asked, kept: Kept) -> None:
        self._kept_bytes += len(kept.head) + len(kept.content)
        if len(self._kept) >= MOST_KEPT or self._kept_bytes > MOST_KEPT_BYTES:
            self._forget()
            self._kept_bytes = len(kept.head) + len(kept.content)
        self._kept[asked] = kept

    def _forget(self) -> None:
        self._kept.clear()
        self._kept_bytes = 0


def _head_of(response: web.Response) -> bytes:
    """Everything before the id of the request, which the date and the content follow."""
    lines = [f"HTTP/1.1 {response.status} {response.reason}"]
    lines += [
        f"{name}: {value}"
        for name, value in response.headers.items()
        if name.lower() not in _EACH_ANEW
    ]
    return "\r\n".join((*lines, f"{_REQUEST_ID}: ")).encode()


class RepeatingHandler(RequestHandler):
    """A connection that answers by itself what it has the answer of.

    aiohttp parses each request as ever. Only then, if the connection was idle and one whole request
    has come, the answer may be written here, while the task of the connection sleeps on.
    """

    __slots__ = (
        "_circumstances",
        "_given_id",
        "_headers",
        "_noted",
        "_noted_at",
        "_peer",
        "_repeats",
        "missed",
    )

    def __init__(self, repeats: Repeats, manager: web.Server, **settings: Any) -> None:
        super().__init__(manager, **settings)
        self._repeats = repeats
        self._headers: Headers = ()
        self._circumstances: Circumstances | None = None
        self._given_id: str | None = None
        self._peer: str | None = None
        self._noted: Principal | None = None
        self._noted_at = ""
        self.missed: tuple[Asked, int] | None = None
        """What was asked and not found last, and the counter of commits before that."""

    def data_received(self, data: bytes) -> None:
        waiter = self._waiter
        if waiter is None or waiter.done() or not self._keepalive:
            super().data_received(data)
            return
        # aiohttp shall read what came, and not begin with it before we had a look.
        self._waiter = None
        try:
            super().data_received(data)
        finally:
            self._waiter = waiter
        messages = self._messages
        if not messages:
            return
        if len(messages) == 1 and self._repeat(*messages[0]):
            messages.clear()
            if self._parser is not None:
                self._parser.message_consumed()
        else:
            waiter.set_result(None)

    def _repeat(self, message: Any, payload: StreamReader) -> bool:
        """Answer a request by what was answered before; False if that cannot be."""
        self.missed = None
        if (
            type(message) is not RawRequestMessage
            or message.method != "GET"
            or message.should_close
            or message.upgrade
            or payload is not EMPTY_PAYLOAD
            or message.version != HttpVersion11
            or not message.path.startswith(PLACES)
            or "?" in message.path
        ):
            return False
        transport = self.transport
        if transport is None or transport.is_closing() or self._paused:
            return False
        started, repeats = self._loop.time(), self._repeats
        if message.raw_headers != self._headers:
            self._read_headers(message.raw_headers, transport)
        if self._circumstances is None:
            return False
        asked = Asked(message.path, self._circumstances)
        kept = repeats.find(asked)
        if kept is None:
            self.missed = asked, repeats.counter
            return False
        id = repeats.take_id(self._given_id)
        date = rfc822_formatted_time()  # the same object for a second
        if kept.shows_token and (date is not self._noted_at or kept.principal is not self._noted):
            self._noted_at, self._noted = date, kept.principal
            repeats.note_use(kept.principal, self._peer or "", id)
        transport.write(
            b"".join((kept.head, f"{id}\r\nDate: {date}\r\n\r\n".encode(), kept.content))
        )
        repeats.repeated += 1
        self._next_keepalive_close_time = started + self._keepalive_timeout
        if kept.also is not None:
            kept.also()
        kept.tell(id, self._loop.time() - started)
        return True

    def _read_headers(self, headers: Headers, transport: asyncio.Transport) -> None:
        """Most requests of a connection have the headers of the one before."""
        is_secure = transport.get_extra_info("sslcontext") is not None
        self._circumstances, self._given_id = self._repeats.circumstances(
            headers, is_secure=is_secure
        )
        self._headers = headers
        if self._peer is None:
            peer = transport.get_extra_info("peername")
            self._peer = str(peer[0]) if isinstance(peer, tuple) else ""


class RepeatingServer(web.Server):
    """Makes connections that know of the answers that repeat."""

    def __init__(self, repeats: Repeats, made: web.Server) -> None:
        super().__init__(
            made.request_handler,
            request_factory=made.request_factory,
            handler_cancellation=made.handler_cancellation,
            loop=made._loop,
            **made._kwargs,
        )
        self._repeats = repeats

    def __call__(self) -> RequestHandler:
        return RepeatingHandler(self._repeats, self, loop=self._loop, **self._kwargs)


class RepeatingRunner(web.AppRunner):
    """Runs an application whose connections give answers again, if it has `REPEATS`."""

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        repeats = self.app.get(REPEATS)
        return made if repeats is None else RepeatingServer(repeats, made)
