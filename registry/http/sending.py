"""One body of stored bytes on its way out: by the kernel where it can, in verified spans.

**By the kernel.** Bytes leave by ``sendfile``: a large part from a thread (`direct_sending`), all
else in slices of half a MiB with a turn of the event loop after each: a single call to a fast
reader stayed in the kernel for a third of a second, with every other request behind it. What leaves
next is verified in a thread while this leaves; for the loop it is read into the page cache, too.
Few unsent bytes are kept in the socket: the kernel took a twelfth less time for a body whose pages
were still in the processor's caches when they were let go.

**By buffers** go TLS, stores without files and the strict mode, written in pieces.

A body that cannot be sent whole ends with an exception, never cleanly.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from typing import Final

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from registry.errors import Stalled
from registry.http import direct_sending
from registry.http.receiving import Pace, Watch
from registry.keys import CONFIG, STORE
from store.blobs import ByteRange
from store.reading import OpenBlob

SLICE_BYTES: Final = 512 << 10
"""The most that one ``sendfile`` call may move; the loop gets a turn after each."""

SPAN_BYTES: Final = 8 << 20
"""How much is verified at a time for a thread that sends; what is known to be good is no span."""

PIECE_BYTES: Final = 256 << 10
"""How much is handed to the transport at a time where the kernel cannot send by itself."""

UNSENT_BYTES: Final = 256 << 10
"""How much may wait in a socket before it leaves; what is on its way is not counted."""


class Sending:
    """Sends parts of an open blob into an answer that has begun."""

    def __init__(self, request: web.Request, writer: AbstractStreamWriter, blob: OpenBlob) -> None:
        self._request = request
        self._writer = writer
        self._blob = blob
        self._loop = asyncio.get_running_loop()
        self._watch = Watch(Pace.of(request.app[CONFIG].server), self._give_up)
        self.sent = 0
        self._deadline = asyncio.timeout(None)
        self._given_up: str | None = None

    async def run(self, part: ByteRange) -> None:
        """Send it all; raises `Stalled` for a client below the limits, and what reading raises."""
        try:
            async with self._deadline:
                around = self._request.app[STORE].around
                if around is None:
                    await self._send(part)
                else:
                    with around("blob send", part.size_bytes):
                        await self._send(part)
        except TimeoutError as error:
            if self._given_up is None:
                raise
            raise Stalled(self._given_up) from error
        finally:
            self._watch.close()

    def _give_up(self, reason: str) -> None:
        self._given_up = reason
        self._deadline.reschedule(self._loop.time())

    async def _send(self, part: ByteRange) -> None:
        transport = self._request.transport
        if transport is None:
            raise ConnectionResetError("the client left")
        source = self._blob.fileno
        out = None if source is None else _duplicate(transport)
        if source is None or out is None:
            await self._write(part)
            return
        with out:
            _keep_little_unsent(out)
            await self._flush(transport)
            start = await self._send_directly(transport, out, source, part)
            await self._send_slices(transport, out.fileno(), source, ByteRange(start, part.stop))

    async def _write(self, part: ByteRange) -> None:
        """Hand verified buffers to the transport, waiting whenever it has enough."""
        progress, time = self._watch.progress, self._loop.time
        async for buffer in self._blob.stream(part.start, part.stop):
            view = memoryview(buffer)
            for start in range(0, len(view), PIECE_BYTES):
                piece = view[start : start + PIECE_BYTES]
                progress.waits(time())
                await self._writer.write(piece)
                progress.moved(len(piece), time())
                self.sent += len(piece)
        self._watch.progress.waits(time())
        await self._writer.drain()

    async def _flush(self, transport: asyncio.Transport) -> None:
        """Wait until the headers have left the transport's own buffer."""
        if not transport.get_write_buffer_size():
            return
        self._watch.progress.waits(self._loop.time())
        transport.set_write_buffer_limits(high=0)
        try:
            while transport.get_write_buffer_size():
                await self._writer.drain()
                await asyncio.sleep(0)
                _require_open(transport)
        finally:
            transport.set_write_buffer_limits()
        self._watch.progress.moved(0, self._loop.time())

    async def _send_directly(
        self, transport: asyncio.Transport, out: socket.socket, source: int, part: ByteRange
    ) -> int:
        """Have a thread send, if one is free and the part is worth it; return how far it came."""
        blob, threads = self._blob, self._request.app[STORE].threads
        direct = direct_sending.begin(transport, out, threads, part.size_bytes)
        if direct is None:
            return part.start

        def span_end(start: int) -> int:
            return max(min(part.stop, start + SPAN_BYTES), blob.verified_until(start, part.stop))

        try:
            spans = _ready_spans(part, span_end, blob.is_verified, blob.verify)
            async with aclosing(spans):
                async for start, stop in spans:
                    await direct.send(source, start, stop)
                    if part.start + direct.sent < stop:
                        break
        finally:
            direct.close()
            self.sent += direct.sent
        return part.start + direct.sent

    async def _send_slices(
        self, transport: asyncio.Transport, out: int, source: int, part: ByteRange
    ) -> None:
        blob = self._blob

        def slice_end(start: int) -> int:
            return end_of_slice(start, part.stop)

        spans = _ready_spans(part, slice_end, blob.is_ready, blob.make_ready)
        async with aclosing(spans):
            async for start, stop in spans:
                await self._send_slice(transport, out, source, start, stop)

    async def _send_slice(
        self, transport: asyncio.Transport, out: int, source: int, start: int, stop: int
    ) -> None:
        while start < stop:
            _require_open(transport)
            try:
                sent = os.sendfile(out, source, start, stop - start)
            except BlockingIOError:
                await self._writable(out)
                continue
            if not sent:
                raise self._blob.damaged()
            start += sent
            self.sent += sent
            self._watch.progress.moved(sent, self._loop.time())
        await asyncio.sleep(0)

    async def _writable(self, out: int) -> None:
        waiter = self._loop.create_future()
        self._watch.progress.waits(self._loop.time())
        self._loop.add_writer(out, _wake, waiter)
        try:
            await waiter
        finally:
            self._loop.remove_writer(out)


def end_of_slice(start: int, stop: int) -> int:
    """Slices end where segments end, so that each segment is verified with one slice."""
    return min(stop, (start // SLICE_BYTES + 1) * SLICE_BYTES)


async def _ready_spans(
    part: ByteRange,
    end_of: Callable[[int], int],
    is_ready: Callable[[int, int], bool],
    make_ready: Callable[[int, int], Awaitable[None]],
) -> AsyncGenerator[tuple[int, int], None]:
    """Cut a part into spans and give each out when it is ready; the next becomes so meanwhile."""
    if not part.size_bytes:
        return
    start, stop = part.start, end_of(part.start)
    await make_ready(start, stop)
    while start < part.stop:
        after, ahead = stop, None
        if stop < part.stop:
            after = end_of(stop)
            if not is_ready(stop, after):
                ahead = asyncio.ensure_future(make_ready(stop, after))
        try:
            yield start, stop
            if ahead is not None:
                await ahead
        finally:
            if ahead is not None and not ahead.done():
                ahead.cancel()
            if ahead is not None:
                await asyncio.gather(ahead, return_exceptions=True)
        start, stop = stop, after


def _duplicate(transport: asyncio.Transport) -> socket.socket | None:
    """A descriptor of our own for the connection; None where the kernel cannot send by itself.

    The loop refuses to watch a descriptor that a transport owns. A duplicate may be watched, and
    its number stays ours if the connection is lost under our hands. With TLS, or without a
    descriptor to spare, buffers must do.
    """
    connection = transport.get_extra_info("socket")
    if connection is None or transport.get_extra_info("sslcontext") is not None:
        return None
    try:
        return socket.socket(fileno=os.dup(connection.fileno()))
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            return None
        raise ConnectionResetError("the client left") from error


def _keep_little_unsent(out: socket.socket) -> None:
    option = getattr(socket, "TCP_NOTSENT_LOWAT", None)
    if option is not None:
        # A hint: what is no TCP socket, or a system without it, sends as well.
        with suppress(OSError):
            out.setsockopt(socket.IPPROTO_TCP, option, UNSENT_BYTES)


def _require_open(transport: asyncio.Transport) -> None:
    if transport.is_closing():
        raise ConnectionResetError("the client left")


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
