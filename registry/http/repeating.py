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
next request, as it was without this. Counts of downloads, which no such answer tells, leave the
counter where it was (`store.index.database.Database.run_unnoticed`).

**Which requests may be answered so**: plain ones. A method GET, no query, no body, and no header
beyond those that change nothing (`registry.http.circumstances`); one that names a range, a
condition, a cookie, an origin or a proxy goes the whole way.

**A request is read once.** Parsing took longer than all else of an answer that is given again. What
comes behind a whole request of a connection, and has the bytes of that request but for its path, is
what aiohttp would make of it: the same with another path. So such bytes are not parsed; where no
answer is kept for that path, aiohttp reads them as ever.

**What happens all the same**: the request gets its id, is counted, measured and logged, and the use
of its token is noted, once a second for each connection. Limits of requests and tracing need the
whole way: with them nothing is kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, Protocol, TypeAlias

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
from registry.http.circumstances import Circumstances, Headers, circumstances_of
from registry.http.draining import Drain
from registry.http.routing import route_of
from registry.keys import AGAIN, IDENTITIES, ORIGIN, PRINCIPAL, REPEATS, STANDING
from store.clock import Clock

PLACES: Final = ("/blobs/", "/models/", "/api/v1/models/", "/api/v1/versions/")
"""Where such routes lie; what is asked elsewhere need not be looked up."""

MOST_KEPT: Final = 4096
MOST_KEPT_BYTES: Final = 32 << 20
"""So many answers are kept, and so many bytes of them; then all are forgotten."""

MOST_BYTES: Final = 64 << 10
"""A longer answer is not kept: sending it costs more than making it."""

_REQUEST_ID: Final = istr("X-Request-Id")
_BEFORE_PATH: Final = b"GET "
_AFTER_PATH: Final = b" HTTP/1.1\r\n"
_END: Final = b"\r\n\r\n"
_MOST_ALIKE: Final = 2048
"""Longer requests are parsed each time: each connection keeps the last one."""

_EACH_ANEW: Final = frozenset((_REQUEST_ID.lower(), hdrs.DATE.lower()))

Tell: TypeAlias = Callable[[str, float], None]
"""Counts, measures and logs a request, given its id and the seconds it took."""
NoteUse: TypeAlias = Callable[[Principal, str, str], None]
"""Notes that a principal's token was used, given the peer's address and the request's id."""


Asked: TypeAlias = tuple[str, Circumstances]
"""The path of a request that an answer is kept for, once there is one, and the rest of it."""


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
        return circumstances_of(headers, is_secure=is_secure, is_open=self._is_open)

    def find(self, asked: Asked) -> Kept | None:
        """The answer of a moment ago, if it would be the same now."""
        counter = self._change_counter()
        if counter < 0:
            return None  # it may turn out that nothing has changed
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
        _, circumstances = asked
        if circumstances.credential:
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
        "_alike",
        "_circumstances",
        "_given_id",
        "_headers",
        "_is_between",
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
        self._is_between = False
        """What aiohttp was given ended with a request, so that the next one begins."""
        self._alike = b""
        """What followed the path of the last plain request, to which the circumstances belong."""
        self._peer: str | None = None
        self._noted: Principal | None = None
        self._noted_at = ""
        self.missed: tuple[Asked, int] | None = None
        """What was asked and not found last, and the counter of commits before that."""

    def data_received(self, data: bytes) -> None:
        waiter = self._waiter
        if waiter is None or waiter.done() or not self._keepalive:
            self._parse(data)
            return
        was_between = self._is_between
        if was_between and self._repeat_alike(data):
            return
        # aiohttp shall read what came, and not begin with it before we had a look.
        self._waiter = None
        try:
            self._parse(data)
        finally:
            self._waiter = waiter
        messages = self._messages
        if not messages:
            return
        if len(messages) == 1 and self._repeat(*messages[0]):
            messages.clear()
            if self._parser is not None:
                self._parser.message_consumed()
            if was_between and self._is_between and len(data) <= _MOST_ALIKE:
                self._remember(data)
        elif len(messages) > 1 or not self._take(*messages[0]):
            waiter.set_result(None)

    def _parse(self, data: bytes) -> None:
        """Have aiohttp read what came, and see whether a request without content ends with it.

        It made one, and has the end of one block of headers, which is its own: so that is the end
        of this request, whatever of it or of another one's content had come before.
        """
        super().data_received(data)
        messages = self._messages
        self._is_between = (
            len(messages) == 1
            and messages[0][1] is EMPTY_PAYLOAD
            and data.find(_END) == len(data) - len(_END)
            and type(messages[0][0]) is RawRequestMessage
            and not messages[0][0].upgrade
        )

    def _take(self, message: Any, payload: StreamReader) -> bool:
        """Take a request in hand, which stays the first of all until it is answered; or do not."""
        return False

    def _remember(self, data: bytes) -> None:
        """Keep the bytes of a request that an answer was given to, but for its path."""
        end = data.find(_AFTER_PATH)
        if data.startswith(_BEFORE_PATH) and 0 < end < data.find(b"\r\n"):
            self._alike = data[end:]

    def _repeat_alike(self, data: bytes) -> bool:
        """Answer a request that is the last one but for its path; False if it has to be parsed."""
        alike = self._alike
        if not (alike and data.endswith(alike) and data.startswith(_BEFORE_PATH)):
            return False
        transport, circumstances = self.transport, self._circumstances
        if circumstances is None or transport is None or transport.is_closing() or self._paused:
            return False
        started = self._loop.time()
        # As aiohttp decodes it. What is no path has no answer kept under it.
        path = data[len(_BEFORE_PATH) : -len(alike)].decode("utf-8", "surrogateescape")
        kept = self._repeats.find((path, circumstances))
        if kept is None:
            return False
        self._answer(kept, transport, started)
        return True

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
        asked = message.path, self._circumstances
        kept = repeats.find(asked)
        if kept is None:
            self.missed = asked, repeats.counter
            return False
        self._answer(kept, transport, started)
        return True

    def _answer(self, kept: Kept, transport: asyncio.Transport, started: float) -> None:
        repeats = self._repeats
        id = repeats.take_id(self._given_id)
        date = rfc822_formatted_time()
        if kept.shows_token:
            self._note_use(kept.principal, id, date)
        transport.write(
            b"".join((kept.head, f"{id}\r\nDate: {date}\r\n\r\n".encode(), kept.content))
        )
        repeats.repeated += 1
        self._next_keepalive_close_time = started + self._keepalive_timeout
        if kept.also is not None:
            kept.also()
        kept.tell(id, self._loop.time() - started)

    def _note_use(self, principal: Principal, id: str, date: str) -> None:
        """Note that a token was used, once for each `date`, which is one object for a second."""
        if date is self._noted_at and principal is self._noted:
            return
        self._noted_at, self._noted = date, principal
        if self._peer is None:
            peer = None if self.transport is None else self.transport.get_extra_info("peername")
            self._peer = str(peer[0]) if isinstance(peer, tuple) else ""
        self._repeats.note_use(principal, self._peer, id)

    def _read_headers(self, headers: Headers, transport: asyncio.Transport) -> None:
        """Most requests of a connection have the headers of the one before."""
        is_secure = transport.get_extra_info("sslcontext") is not None
        self._alike = b""
        self._circumstances, self._given_id = self._repeats.circumstances(
            headers, is_secure=is_secure
        )
        self._headers = headers


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
