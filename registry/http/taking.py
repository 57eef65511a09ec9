"""Small writes that a connection takes in by itself, without waking its task.

Of what a small upload costs the event loop, storing it is the smaller part: most went into a task,
a request, its way through what stands before every handler, and an answer, all made for bytes that
were there already. So the connection hands them to where they are stored together with others, and
writes the answer when that is done. Registrations of versions are the same: a small body that is
all there, and a transaction shared with others.

**Who may.** Nobody is let in here. A request that went the whole way and was let in leaves a `Pass`
for whoever comes later under the same circumstances (address called, name of the server, program,
what is shown, what the content is said to be) to the same kind of address: all but its last part,
of a file of a draft model and version, of a registration what addresses of all models begin with.
It is of the principal of that request and of the permission of its route, and holds while nobody's
rights changed; where that would have to be looked up, the next one goes the whole way. Rights on
one model are not its business: the service asks for them in its transaction, as ever.

**Which requests.** Plain ones: a PUT or POST whose body is all there, no query, and no header
beyond those that change nothing. The route says how (`registry.http.routing.Route.takes`), and may
decline.

**What fails goes the whole way**, with the same bytes, and is answered there. So all answers here
are of one kind, and refusals are worded, noted and counted in one place.

**What happens all the same**: the request gets its id, is counted as one in hand while it lasts,
measured and logged, and the use of its token is noted. Where requests are limited or traced, or the
server drains, nothing is taken.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol

import msgspec
from aiohttp import StreamReader, hdrs, web
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http import HttpVersion11
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.web_protocol import RequestHandler

from registry.auth.policy import allows
from registry.domain.ids import TOKEN
from registry.domain.principals import LOCAL, Principal
from registry.http.circumstances import PLAIN, Circumstances, Headers, circumstances_of
from registry.http.draining import Drain
from registry.http.repeating import RepeatingHandler, RepeatingRunner, RepeatingServer, Repeats
from registry.http.routing import Taken, Taker, route_of
from registry.keys import ADDRESSES, IDENTITIES, ORIGIN, PRINCIPAL, REPEATS, STANDING, TAKES
from store.clock import Clock

MOST_PASSES: Final = 1024
"""So many are kept; then all are forgotten."""

MOST_BYTES: Final = 64 << 10
"""Of a body that is taken."""

PLAIN_WITH_BODY: Final = PLAIN | {b"content-length", b"content-type"}

METHODS: Final = frozenset((hdrs.METH_PUT, hdrs.METH_POST))
"""Of requests that may be taken."""

POSTED: Final = "/versions"
"""What the address of a POST ends with that some route takes; no other is looked at."""

_MEDIA: Final = b"content-type"
_REASONS: Final = {200: "OK", 201: "Created"}
_CLIENT_GONE: Final = 499


class Tell(Protocol):
    """Counts, measures and logs a request that was taken."""

    def __call__(
        self,
        route: str,
        method: str,
        path: str,
        principal: Principal,
        id: str,
        *,
        status: int,
        seconds: float,
        received: int,
        sent: int,
    ) -> None: ...


class Kind(NamedTuple):
    """Whose and which requests are alike enough for one pass."""

    method: str
    place: str
    """What the address begins with: a resource of blobs, a version of a model, or all models."""
    media: bytes
    """What the content is said to be; empty if nothing."""
    circumstances: Circumstances


class Pass(msgspec.Struct, frozen=True):
    """Says that such a request was let in, and how it is carried out."""

    app: web.Application
    principal: Principal
    taker: Taker
    route: str
    base: str
    """Where the server is, as the client calls it."""
    rights: int | None
    """Which state of everybody's rights it holds in; None for every one."""
    expires_at: int | None
    shows_token: bool


class Takes:
    """The passes of one process; for the event loop's thread."""

    def __init__(
        self,
        rights: Callable[[], int | None],
        clock: Clock,
        drain: Drain,
        tell: Tell,
        *,
        is_open: bool,
    ) -> None:
        self._rights = rights
        self._clock = clock
        self._passes: dict[Kind, Pass] = {}
        self.drain = drain
        self.tell = tell
        self.is_open = is_open
        self.taken = 0
        """How many requests were taken so."""

    def find(self, kind: Kind) -> Pass | None:
        """The pass of such a request, if it holds."""
        found = self._passes.get(kind)
        if found is None or self.drain.is_draining:
            return None
        if found.rights is not None and found.rights != self._rights():
            return None
        if found.expires_at is not None and found.expires_at <= self._clock():
            return None
        return found

    def consider(self, request: web.Request, response: web.StreamResponse) -> None:
        """Leave a pass behind a request that went the whole way, if it was let in."""
        protocol = request.protocol
        if not isinstance(protocol, TakingHandler) or protocol.untaken is None:
            return
        kind, protocol.untaken = protocol.untaken, None
        route = route_of(request.match_info.handler)
        if route is None or route.takes is None or response.status not in _REASONS:
            return
        principal, expires_at, rights = request[PRINCIPAL], None, None
        if STANDING in request or ORIGIN in request or principal.is_anonymous:
            return
        if kind.circumstances.credential:
            identities = request.app[IDENTITIES]
            known = identities.known_token(request.headers[hdrs.AUTHORIZATION][7:])
            if known is None or not allows(known.principal, route.permission):
                return
            # Not the request's: that may have been let in under rights that have changed since.
            principal, expires_at, rights = known.principal, known.expires_at, identities.state
        elif principal.id != LOCAL.id:
            return
        if len(self._passes) >= MOST_PASSES:
            self._passes.clear()
        resource = request.match_info.route.resource
        self._passes[kind] = Pass(
            app=request.app,
            principal=msgspec.structs.replace(principal, word=route.permission, request_id=""),
            taker=route.takes,
            route="unmatched" if resource is None else resource.canonical,
            base=request.app[ADDRESSES].base_url(request),
            rights=rights,
            expires_at=expires_at,
            shows_token=principal.session.startswith(TOKEN),
        )


def place_of(path: str) -> str:
    """The first three segments of an address, or all but the last where there are no more."""
    return "/".join(path.split("/", 4)[:-1])


def answer_bytes(taken: Taken, id: str, *, is_last: bool) -> bytes:
    """A whole answer as it goes over the wire."""
    closing = "Connection: close\r\n" if is_last else ""
    head = (
        f"HTTP/1.1 {taken.status} {_REASONS[taken.status]}\r\n{taken.fields}"
        "Content-Type: application/json\r\nCache-Control: no-store\r\n"
        f"X-Request-Id: {id}\r\nServer: Digestry\r\nX-Content-Type-Options: nosniff\r\n{closing}"
        f"Content-Length: {len(taken.content)}\r\nDate: {rfc822_formatted_time()}\r\n\r\n"
    )
    return head.encode() + taken.content


class _InHand(NamedTuple):
    """A request that is being carried out."""

    message: RawRequestMessage
    content: bytes
    found: Pass
    id: str
    started: float


class TakingHandler(RepeatingHandler):
    """A connection that takes small writes in by itself.

    What is being stored stays the first of the messages of the connection, whose task sleeps on:
    what comes behind it waits, as it would while a handler runs. Should storing fail, the task is
    woken and finds the request as if it had just come.
    """

    __slots__ = (
        "_in_hand",
        "_is_taking",
        "_put_circumstances",
        "_put_headers",
        "_put_id",
        "_put_media",
        "_takes",
        "untaken",
    )

    def __init__(
        self, takes: Takes, repeats: Repeats, manager: web.Server, **settings: Any
    ) -> None:
        super().__init__(repeats, manager, **settings)
        self._takes = takes
        self._in_hand: _InHand | None = None
        self._is_taking = False
        self._put_headers: Headers = ()
        self._put_media = b""
        self._put_circumstances: Circumstances | None = None
        self._put_id: str | None = None
        self.untaken: Kind | None = None
        """What was asked last, if only a pass was missing."""

    def data_received(self, data: bytes) -> None:
        if not self._is_taking:
            super().data_received(data)
            return
        waiter, self._waiter = self._waiter, None  # nobody is woken for what waits behind another
        try:
            super().data_received(data)
        finally:
            self._waiter = waiter

    def _process_keepalive(self) -> None:
        if self._is_taking:  # the connection is not idle
            self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        super()._process_keepalive()

    def _take(self, message: Any, payload: StreamReader) -> bool:
        self.untaken = None
        if (
            type(message) is not RawRequestMessage
            or message.method not in METHODS
            or (message.method == "POST" and not message.path.endswith(POSTED))
            or message.should_close
            or message.upgrade
            or message.version != HttpVersion11
            or payload is EMPTY_PAYLOAD
            or not payload.is_eof()
            or payload.exception() is not None
            or payload.total_bytes > MOST_BYTES
            or "?" in message.path
        ):
            return False
        transport, takes = self.transport, self._takes
        if transport is None or transport.is_closing() or self._paused:
            return False
        started = self._loop.time()
        if message.raw_headers != self._put_headers:
            self._read_put_headers(message.raw_headers, transport)
        if self._put_circumstances is None:
            return False
        path = message.path
        kind = Kind(message.method, place_of(path), self._put_media, self._put_circumstances)
        found = takes.find(kind)
        if found is None:
            self.untaken = kind
            return False
        id = self._repeats.take_id(self._put_id)
        self._is_taking = True  # reading has the connection look for more, which must wait
        content = payload.read_nowait()
        principal = msgspec.structs.replace(found.principal, request_id=id)
        begun = found.taker.begin(found.app, path, principal, content)
        if begun is None:
            self._is_taking = False
            self._put_back(message, content)
            return False
        if found.shows_token:
            self._note_use(found.principal, id, rfc822_formatted_time())
        self._in_hand = _InHand(message, content, found, id, started)
        takes.drain.in_flight += 1
        begun.add_done_callback(self._stored)
        return True

    def _stored(self, begun: asyncio.Future[Any]) -> None:
        """Answer what was taken, or let it go the whole way."""
        in_hand, self._in_hand, self._is_taking = self._in_hand, None, False
        assert in_hand is not None
        takes, transport = self._takes, self.transport
        takes.drain.in_flight -= 1
        error = begun.cancelled() or begun.exception()
        if transport is None or transport.is_closing():
            self._tell(in_hand, _CLIENT_GONE, 0)
            return
        if error:  # an exception is never false
            self._put_back(in_hand.message, in_hand.content)
            self._wake()
            return
        taken = in_hand.found.taker.render(begun.result(), in_hand.found.base)
        is_last = takes.drain.is_draining or self._close
        transport.write(answer_bytes(taken, in_hand.id, is_last=is_last))
        takes.taken += 1
        self._messages.popleft()
        if self._parser is not None:
            self._parser.message_consumed()
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        self._tell(in_hand, taken.status, len(taken.content))
        if is_last:
            self.force_close()
        elif self._messages:
            self._wake()

    def _put_back(self, message: RawRequestMessage, content: bytes) -> None:
        """Let a request be as it came."""
        payload = StreamReader(self, self._read_bufsize, loop=self._loop)
        payload.feed_data(content)
        payload.feed_eof()
        self._messages[0] = (message, payload)

    def _wake(self) -> None:
        """Have the task go on with what is first."""
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
        else:  # it has ended, because the server ends
            self.force_close()

    def _tell(self, in_hand: _InHand, status: int, sent: int) -> None:
        self._takes.tell(
            in_hand.found.route,
            in_hand.message.method,
            in_hand.message.path,
            in_hand.found.principal,
            in_hand.id,
            status=status,
            seconds=self._loop.time() - in_hand.started,
            received=len(in_hand.content),
            sent=sent,
        )

    def _read_put_headers(self, headers: Headers, transport: asyncio.Transport) -> None:
        self._put_circumstances, self._put_id = circumstances_of(
            headers,
            plain=PLAIN_WITH_BODY,
            is_secure=transport.get_extra_info("sslcontext") is not None,
            is_open=self._takes.is_open,
        )
        self._put_media = next((said for name, said in headers if name.lower() == _MEDIA), b"")
        self._put_headers = headers


class TakingServer(RepeatingServer):
    """Makes connections that take small writes in by themselves."""

    def __init__(self, takes: Takes, repeats: Repeats, made: web.Server) -> None:
        super().__init__(repeats, made)
        self._takes = takes

    def __call__(self) -> RequestHandler:
        return TakingHandler(self._takes, self._repeats, self, loop=self._loop, **self._kwargs)


class TakingRunner(RepeatingRunner):
    """Runs an application whose connections take small writes in, if it has `TAKES`."""

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        takes, repeats = self.app.get(TAKES), self.app.get(REPEATS)
        return made if takes is None or repeats is None else TakingServer(takes, repeats, made)
