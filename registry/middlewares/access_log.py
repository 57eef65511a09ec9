"""One JSON line and one set of measurements per request, written off the hot path.

A line is encoded at once (a microsecond) and kept; every tenth of a second a thread writes what has
gathered, so a slow terminal or a full pipe never holds a request up. If the reader of the log stops
altogether, lines beyond a bound are dropped and their number is written when it goes on.

The query is never logged, because it may hold signatures, and of what looks like a token in a path
the beginning alone; the path is written in printable ASCII, so nobody can colour an operator's
terminal. `structlog` writes every other line; this one bypasses
it, because it would cost six times as much.

Small answers are logged before their last byte is handed to the kernel; streamed ones after. A
client that left is status 499.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import IO, Final

import msgspec
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from registry.auth.tokens import without_tokens
from registry.domain.principals import Principal
from registry.http.draining import Drain
from registry.http.repeating import Tell, Teller
from registry.http.taking import Tell as TellTaken
from registry.keys import BYTES_OUT, PRINCIPAL, REQUEST_ID
from registry.metrics import Metrics

FLUSH_SECONDS: Final = 0.1
MOST_LINES: Final = 50_000
CLIENT_GONE: Final = 499

NO_TRACE: Final[Mapping[str, str]] = {}

_encode = msgspec.json.Encoder().encode


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line of the access log."""

    event: str
    level: str
    timestamp: str
    pid: int
    request_id: str
    method: str
    path: str
    route: str
    status: int
    bytes_in: int
    bytes_out: int
    milliseconds: float
    principal: str | None
    trace_id: str = ""
    span_id: str = ""


class AccessLog:
    """Gathers lines of one worker and has a thread write them."""

    def __init__(self, stream: IO[bytes] | None = None) -> None:
        self._stream = sys.stderr.buffer if stream is None else stream
        self._lines: list[bytes] = []
        self._dropped = 0
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Future[None] | None = None
        self._second = 0
        self._stamp = ""
        self._pid = os.getpid()

    def add(self, line: bytes) -> None:
        if len(self._lines) >= MOST_LINES:
            self._dropped += 1
            return
        self._lines.append(line)
        if self._timer is None and self._writing is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self._flush)

    def stamp(self) -> str:
        """The present time as RFC 3339; the seconds are formatted once each."""
        now = time.time()
        second = int(now)
        if second != self._second:
            self._second = second
            self._stamp = time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(second))
        return f"{self._stamp}{int((now - second) * 1_000_000):06d}Z"

    async def close(self) -> None:
        """Write what is left; called after the last request."""
        if self._timer is not None:
            self._timer.cancel()
        while self._lines or self._writing is not None:
            if self._writing is None:
                self._flush()
            elif not self._writing.done():
                await asyncio.wait([self._writing])
            else:
                await asyncio.sleep(0)

    @property
    def pid(self) -> int:
        return self._pid

    def _flush(self) -> None:
        self._timer = None
        lines, self._lines = self._lines, []
        if self._dropped:
            lines.append(_encode({"event": "access log lines dropped", "count": self._dropped}))
            self._dropped = 0
        if not lines:
            return
        loop = asyncio.get_running_loop()
        self._writing = loop.run_in_executor(None, self._write_blocking, lines)
        self._writing.add_done_callback(self._written)

    def _write_blocking(self, lines: list[bytes]) -> None:
        self._stream.write(b"\n".join(lines) + b"\n")
        self._stream.flush()

    def _written(self, done: asyncio.Future[None]) -> None:
        self._writing = None
        done.exception()  # a log that cannot be written must not stop the server
        if self._lines and not asyncio.get_running_loop().is_closed():
            self._timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self._flush)


def access_log_middleware(
    access_log: AccessLog | None,
    metrics: Metrics,
    drain: Drain,
    trace_ids: Callable[[], Mapping[str, str]] | None = None,
) -> Middleware:
    """Measure each request and log it; with no log, only measure.

    `trace_ids` tells `Line.trace_id` and `Line.span_id` where requests are traced.
    """

    @web.middleware
    async def log(request: web.Request, handler: Handler) -> web.StreamResponse:
        started = time.monotonic()
        drain.in_flight += 1
        status, sent = CLIENT_GONE, 0
        try:
            response = await handler(request)
            status = response.status
            gone = status == CLIENT_GONE
            sent = request.get(BYTES_OUT, 0) if gone else bytes_out(request, response)
            return response
        except BaseException:
            sent = request.get(BYTES_OUT, 0)
            raise
        finally:
            drain.in_flight -= 1
            seconds = time.monotonic() - started
            route = canonical(request)
            received = request.content.total_bytes
            metrics.request(route, request.method, status, seconds, received, sent)
            if access_log is not None:
                principal = request.get(PRINCIPAL)
                line = Line(
                    "request",
                    "info",
                    access_log.stamp(),
                    access_log.pid,
                    request.get(REQUEST_ID, ""),
                    printable(request.method),
                    without_tokens(printable(request.rel_url.raw_path)),
                    route,
                    status,
                    received,
                    sent,
                    round(seconds * 1000, 3),
                    None if principal is None else principal.id,
                    **(NO_TRACE if trace_ids is None else trace_ids()),
                )
                access_log.add(_encode(line))

    return log


def telling_again(access_log: AccessLog | None, metrics: Metrics) -> Teller:
    """Makes what counts, measures and logs answers that are given again without a handler."""

    def teller(request: web.Request, response: web.Response, principal: Principal) -> Tell:
        route, sent = canonical(request), int(response.content_length or 0)
        counted = metrics.counted(route, request.method, response.status)
        if access_log is None:

            def tell(id: str, seconds: float) -> None:
                counted.add(seconds)
                metrics.sent += sent

            return tell
        log = access_log
        line = Line(
            "request",
            "info",
            "",
            log.pid,
            "",
            printable(request.method),
            without_tokens(printable(request.rel_url.raw_path)),
            route,
            response.status,
            0,
            sent,
            0.0,
            principal.id,
        )
        # A quotation mark inside a value is escaped, so these are found where they are names.
        before, _, rest = _encode(line).decode().partition('"timestamp":""')
        between, _, rest = rest.partition('"request_id":""')
        then, _, after = rest.partition('"milliseconds":0.0')

        def tell_and_log(id: str, seconds: float) -> None:
            counted.add(seconds)
            metrics.sent += sent
            log.add(
                f'{before}"timestamp":"{log.stamp()}"{between}"request_id":"{id}"{then}'
                f'"milliseconds":{seconds * 1000:.3f}{after}'.encode()
            )

        return tell_and_log

    return teller


def telling_taken(access_log: AccessLog | None, metrics: Metrics) -> TellTaken:
    """Counts, measures and logs requests that were carried out without a handler."""

    def tell(
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
    ) -> None:
        metrics.request(route, method, status, seconds, received, sent)
        if access_log is not None:
            line = Line(
                "request",
                "info",
                access_log.stamp(),
                access_log.pid,
                id,
                method,
                without_tokens(printable(path)),
                route,
                status,
                received,
                sent,
                round(seconds * 1000, 3),
                principal.id,
            )
            access_log.add(_encode(line))

    return tell


def canonical(request: web.Request) -> str:
    """The pattern of the matched route: few in number, whatever clients ask for."""
    resource = request.match_info.route.resource
    return "unmatched" if resource is None else resource.canonical


def bytes_out(request: web.Request, response: web.StreamResponse) -> int:
    """Bytes handed out: of content where the answer is small, with its headers where it streams."""
    counted: int | None = request.get(BYTES_OUT)
    if counted is not None:
        return counted
    if response.prepared:
        return request.writer.output_size
    if request.method == hdrs.METH_HEAD or not isinstance(response, web.Response):
        return 0
    return int(response.content_length or 0)


def printable(text: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    return text.encode("ascii", "backslashreplace").decode().translate(_ESCAPES)


_ESCAPES: Final = {code: f"\\x{code:02x}" for code in (*range(32), 127)}
