"""Take a request's body in, decide when it may travel, and leave it unread without confusion.

**Limits.** A body is given up when nothing arrives for a while or when too little arrives over a
while; there is no limit on the total time. Only time spent waiting for the client counts: a slow
disk is not the client's fault. One timer for each body looks now and then; no timeout is armed for
each piece.

**Expect.** aiohttp would answer ``100 Continue`` before a handler runs. Here the handler decides
first, so a digest that is stored, or a body that is too large, costs no transfer; `body` says
``100 Continue`` when somebody starts to read.

**A body left unread** would be taken for the next request. So any final answer that is sent before
the body has arrived carries ``Connection: close`` (`registry.middlewares.response_headers`), then
the rest is read and thrown away within bounds, so that the client sees the answer and not a reset,
and the connection is closed (`settle_unread`, called by `registry.middlewares.unread`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from typing import Final

import msgspec
from aiohttp import StreamReader, hdrs, web

from registry.config import ServerConfig
from registry.errors import BodyMalformed, ClientGone, Stalled
from registry.http import chunked
from registry.http.direct import DirectBody, begin
from registry.keys import CONFIG, DRAIN

DISCARD_BYTES: Final = 8 << 20
"""How much of an unwanted body is read before the connection is closed on it."""

CROWD_BUFFER_BYTES: Final = 128 << 10
"""What every body may leave unread in memory, half of what may gather; aiohttp's runner is told."""

FEW_REQUESTS: Final = 8
"""With no more requests than this in hand, a body may use the larger buffer of the configuration.

Small buffers make aiohttp stop and start the socket all the time, a fifth of its work for an
upload; large ones for everybody were 40 MiB more with 32 uploads at once.
"""

DISCARD_SECONDS: Final = 2.0

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_SENT_CONTINUE: Final = web.RequestKey("sent_continue", bool)
_SAMPLES: Final = 6


class Pace(msgspec.Struct, frozen=True):
    """How slow a client may be before it is given up."""

    idle_seconds: float
    bytes_per_second: int
    grace_seconds: float

    @classmethod
    def of(cls, config: ServerConfig) -> Pace:
        return cls(
            config.idle_timeout_seconds,
            config.minimum_rate_bytes_per_second,
            config.minimum_rate_grace_seconds,
        )

    @property
    def tick_seconds(self) -> float:
        """How often to look: often enough to notice either limit within a fraction of it."""
        return min(self.idle_seconds / 4, self.grace_seconds / _SAMPLES)


class Progress:
    """Judges one transfer by when bytes moved and how long was spent waiting for the other side.

    No timer and no clock of its own: it is told the time, and `verdict` says what is wrong.
    """

    __slots__ = ("_moved", "_pace", "_samples", "_waited", "_waiting_since")

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._moved = 0
        self._waited = 0.0
        self._waiting_since: float | None = None
        self._samples: deque[tuple[int, float]] = deque([(0, 0.0)])

    def waits(self, now: float) -> None:
        """From `now` on it is the other side's turn."""
        self._waiting_since = now

    def moved(self, count: int, now: float) -> None:
        """The other side did something worth `count` bytes; the waiting is over."""
        self._moved += count
        if self._waiting_since is not None:
            self._waited += now - self._waiting_since
            self._waiting_since = None

    def verdict(self, now: float) -> str | None:
        """Why the transfer must end, if it must; called about once in `Pace.tick_seconds`."""
        pace = self._pace
        waiting = 0.0 if self._waiting_since is None else now - self._waiting_since
        if waiting >= pace.idle_seconds:
            return f"nothing moved for {waiting:.0f} s"
        waited = self._waited + waiting
        moved_before, waited_before = self._samples[0]
        span = waited - waited_before
        if span >= pace.grace_seconds:
            rate = (self._moved - moved_before) / span
            if rate < pace.bytes_per_second:
                return (
                    f"{rate:.0f} bytes a second over {span:.0f} s "
                    f"are below the minimum of {pace.bytes_per_second}"
                )
        self._sample(waited)
        return None

    def _sample(self, waited: float) -> None:
        """Remember a point of the sliding window, and forget those older than the window."""
        step = self._pace.grace_seconds / _SAMPLES
        if waited - self._samples[-1][1] >= step:
            self._samples.append((self._moved, waited))
        while len(self._samples) > 1 and waited - self._samples[1][1] >= self._pace.grace_seconds:
            self._samples.popleft()


class Watch:
    """Asks a `Progress` for its verdict now and then, and calls `give_up` once with the reason."""

    __slots__ = ("_give_up", "_handle", "_loop", "_tick", "progress")

    def __init__(self, pace: Pace, give_up: Callable[[str], None]) -> None:
        self.progress = Progress(pace)
        self._give_up = give_up
        self._tick = pace.tick_seconds
        self._loop = asyncio.get_running_loop()
        self._handle: asyncio.TimerHandle | None = self._loop.call_later(self._tick, self._look)

    def close(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _look(self) -> None:
        reason = self.progress.verdict(self._loop.time())
        if reason is None:
            self._handle = self._loop.call_later(self._tick, self._look)
        else:
            self._handle = None
            self._give_up(reason)


def expects_continue(request: web.Request) -> bool:
    """Whether the client holds its body back until it is told to send it."""
    return (
        request.version >= (1, 1)
        and request.headers.get(hdrs.EXPECT, "").strip().lower() == "100-continue"
    )


def send_continue(request: web.Request) -> None:
    """Tell a waiting client to send its body; does nothing where nobody waits."""
    if not expects_continue(request) or request.get(_SENT_CONTINUE, False):
        return
    request[_SENT_CONTINUE] = True
    transport = request.transport
    if transport is not None and not request.content.is_eof():
        transport.write(_CONTINUE)


def body(request: web.Request) -> Body:
    """The request's body as a source for `store.ingest`; see `Body`."""
    return Body(request)


class Body:
    """The pieces of a body as they come in, after telling the client to send it.

    All that arrived is handed out before an error is raised: a resumable upload keeps it.
    Raises `Stalled` for a client below the limits, `ClientGone` for one that left before the end,
    `BodyMalformed` for chunks that make no sense.
    """

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self._direct: DirectBody | None = None
        self._is_iterated = False
        self._watch: chunked.Watch | None = None
        self._ahead: list[bytes] = []

    def begin_direct(self) -> tuple[bytes, DirectBody] | None:
        """What has arrived and a reader for threads, if this body is worth one and can have it.

        Asked before the first piece and between pieces: a chunked body shows its worth on the way.
        What that reader leaves over is still to be had by iterating.
        """
        if self._direct is not None:
            return None
        if self._is_iterated:
            return self._begin_chunked()
        send_continue(self._request)
        begun = begin(self._request)
        if begun is not None:
            self._direct = begun[1]
        return begun

    def _begin_chunked(self) -> tuple[bytes, DirectBody] | None:
        if self._watch is None:
            self._watch = chunked.follow(self._request)
            return None
        taken, reader = chunked.begin(self._request, self._watch)
        if reader is None:
            self._ahead = taken
            return None
        self._direct = reader
        return b"".join(taken), reader

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        if self._direct is None:
            self._is_iterated = True
            try:
                async for piece in _pieces(self._request):
                    yield piece
                    while self._ahead:
                        yield self._ahead.pop(0)
            finally:
                if self._watch is not None:
                    self._watch.close()
            return
        left = self._direct.left
        if left:
            async for piece in _pieces(self._request):
                yield piece[:left]
                left -= len(piece)
                if left <= 0:
                    break
            # The parser has not seen what the reader took and still waits for as much.
            self._request.content.feed_eof()


async def _pieces(request: web.Request) -> AsyncGenerator[bytes, None]:
    send_continue(request)
    content = request.content
    if content.at_eof():
        return
    if request.app[DRAIN].in_flight <= FEW_REQUESTS:
        content.set_read_chunk_size(request.app[CONFIG].server.read_buffer_bytes)
    watch = Watch(
        Pace.of(request.app[CONFIG].server), lambda why: content.set_exception(Stalled(why))
    )
    progress, time, read = watch.progress, asyncio.get_running_loop().time, content.readchunk
    try:
        while True:
            progress.waits(time())
            piece, ends_chunk = await read()
            progress.moved(len(piece), time())
            if piece:
                yield piece
            elif not ends_chunk:
                return
    except ConnectionError as error:
        if arrived := _behind_the_error(content):
            yield arrived
        raise ClientGone from error
    except (web.RequestPayloadError, RuntimeError) as error:
        if request.transport is None:
            if arrived := _behind_the_error(content):
                yield arrived
            raise ClientGone from error
        if isinstance(error, RuntimeError):
            raise
        raise BodyMalformed(str(error) or "the transfer encoding is broken") from error
    finally:
        watch.close()


def _behind_the_error(content: StreamReader) -> bytes:
    """What was received but not read yet when the body broke.

    aiohttp raises as soon as it knows of the error and has no public way to read the rest.
    """
    return content._read_nowait(-1)


def arrived(request: web.Request) -> bytes | None:
    """All of a body of announced length if it is there; None, and nothing taken, if it is not."""
    content = request.content
    if not content.is_eof() or content.exception() is not None:
        return None
    return content.read_nowait() if content.total_bytes == request.content_length else None


def is_unread(request: web.BaseRequest) -> bool:
    """Whether bytes of the body have not arrived yet, or never will."""
    return not request.content.is_eof()


async def settle_unread(
    request: web.Request,
    response: web.StreamResponse,
    *,
    limit_bytes: int = DISCARD_BYTES,
    seconds: float = DISCARD_SECONDS,
) -> None:
    """Send `response`, throw away what still comes within the bounds, close the connection.

    Does nothing when the body has arrived. The answer leaves first and the sending direction is
    closed behind it: a socket closed over unread bytes would reset the connection, and the client
    might never see the answer.
    """
    if not is_unread(request):
        return
    try:
        response.force_close()
        await response.prepare(request)
        await response.write_eof()
        transport = request.transport
        if transport is None:
            return
        if transport.can_write_eof():
            transport.write_eof()
        async with asyncio.timeout(seconds):
            await _discard(request, limit_bytes)
    except (OSError, TimeoutError, web.RequestPayloadError, Stalled, RuntimeError):
        # Whatever ended the body, it was not wanted; the connection closes in any case. A socket
        # that the client has reset says ENOTCONN, which is no ConnectionError.
        return
    finally:
        request.protocol.force_close()


async def _discard(request: web.Request, limit_bytes: int) -> None:
    left = limit_bytes
    while left > 0 and not request.content.at_eof():
        left -= len(await request.content.readany())
