"""Find out where in its framing a chunked body stands, so that a thread can go on with it.

aiohttp's parser keeps to itself how much of a chunk is still to come, but it tells the bytes of the
body that it has passed on, and where among them chunks ended. A `Watch` stands between the
transport and aiohttp for a while and passes on what comes, its first byte alone. If that byte was
body, and a chunk ended in what followed, then its end is known to the byte; from there on `Chunked`
follows. Both must agree about every byte that was passed on, or the body stays where it is.

What a client sends in chunks of a few hundred bytes stays there too: no thread could be faster.

A slow client comes back to the loop. aiohttp's parser stands then where it was left, so `Rest`
takes its place for the rest of this connection.
"""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import StreamReader, web

from registry.http.direct import WORTHWHILE_BYTES, DirectBody, is_plain
from registry.http.framing import Chunked
from registry.keys import SPENT

LEAST_CHUNK_BYTES: Final = 1024
"""Of a body in smaller chunks, on average, each costs more than its bytes do."""


class Watch(asyncio.Protocol):
    """Passes on what comes to aiohttp, and follows the framing once it knows where it stands."""

    def __init__(self, request: web.Request) -> None:
        transport = request.transport
        assert transport is not None
        protocol = transport.get_protocol()
        assert isinstance(protocol, asyncio.Protocol)
        self._content: StreamReader = request.content
        self._transport = transport
        self._protocol = protocol
        self._since = 0
        self.framing: Chunked | None = None
        transport.set_protocol(self)

    @property
    def is_current(self) -> bool:
        """Whether every byte that was followed has been parsed too, and no other."""
        framing = self.framing
        return (
            framing is not None
            and self._since + framing.body_bytes == self._content.total_bytes
            and not framing.is_done
        )

    def take(self) -> list[bytes]:
        """What of the body was not read yet, after which both are current if they can be.

        aiohttp leaves off parsing where much is unread, and goes on as it is read.
        """
        taken = []
        while self._content.exception() is None and (piece := self._content.read_nowait()):
            taken.append(piece)
        return taken

    def close(self) -> None:
        if self._transport.get_protocol() is self:
            self._transport.set_protocol(self._protocol)

    def data_received(self, data: bytes) -> None:
        if self.framing is not None:
            self.framing.spans(memoryview(data))
            self._protocol.data_received(data)
        else:
            self._locate(data)

    def _locate(self, data: bytes) -> None:
        content = self._content
        before, ends = content.total_bytes, content._http_chunk_splits
        self._protocol.data_received(data[:1])
        is_body = content.total_bytes == before + 1
        known = len(ends) if ends else 0
        self._protocol.data_received(data[1:])
        if not is_body or not ends or len(ends) <= known:
            return
        framing = Chunked(is_fresh=False)
        chunks = framing.spans(memoryview(data)[ends[known] - before :])
        if framing.body_bytes < len(chunks) * LEAST_CHUNK_BYTES:
            self.close()
            return
        self._since = ends[known]
        self.framing = framing

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocol.connection_lost(exc)

    def eof_received(self) -> bool | None:
        return self._protocol.eof_received()

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()


class Rest:
    """Parses, in the place of aiohttp's parser, what a thread has left of a body."""

    def __init__(self, content: StreamReader, framing: Chunked) -> None:
        self._content = content
        self._framing = framing

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Pass on what is body; whether that was the end of it."""
        content, framing = self._content, self._framing
        for start, stop in framing.spans(memoryview(data)):
            content.feed_data(data[start:stop])
        if framing.broken:
            content.set_exception(web.RequestPayloadError(framing.broken))
        elif framing.is_done:
            content.feed_eof()
        return framing.is_done or bool(framing.broken), b""

    def feed_eof(self) -> None:
        """The connection is gone; aiohttp tells whoever reads."""


class DirectChunks(DirectBody):
    """The rest of a chunked body, read by a thread."""

    def __init__(self, request: web.Request, framing: Chunked) -> None:
        super().__init__(request, framing)
        self._rest = Rest(request.content, framing)

    def close(self) -> None:
        if not (self.is_done or self._framing.broken):
            # What aiohttp calls so takes all that comes from now on, as it would for a WebSocket.
            self._request.protocol.set_parser(self._rest)  # type: ignore[arg-type]  # of its shape
        super().close()


def follow(request: web.Request) -> Watch | None:
    """Begin to follow a chunked body that has become large; None for any other."""
    if (
        not request._message.chunked
        or request.content.total_bytes < WORTHWHILE_BYTES
        or not is_plain(request)
    ):
        return None
    return Watch(request)


def begin(request: web.Request, watch: Watch) -> tuple[list[bytes], DirectChunks | None]:
    """What has arrived of the body, and a reader for the rest if it is known where it stands."""
    framing = watch.framing
    if framing is None or framing.is_done or framing.broken or not is_plain(request):
        return [], None
    taken = watch.take()
    if not watch.is_current or request.content.exception() is not None:
        return taken, None
    watch.close()
    request[SPENT] = True
    return taken, DirectChunks(request, framing)
