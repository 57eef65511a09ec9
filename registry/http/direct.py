"""Read a large body from the socket itself, in a worker thread, past the event loop.

On its usual way a body is copied by the transport, by the parser and by whoever joins the pieces,
and the loop wakes for every one of them. Half of an upload's time went there. For the rest of a
large body the transport is told to stop reading, and a thread reads from a second descriptor of the
same socket straight into the buffers that are hashed and written.

aiohttp's parser never sees those bytes and would wait for them, so the connection cannot serve
another request: `begin` marks it spent, and the answer closes it.

This is for plain TCP, and for clients that are fast enough to be worth a thread: one that takes
longer than `SLOW_SECONDS` for a buffer goes back to the loop, which also keeps the limits on idle
and slow clients. A body of declared length can begin at once; where a chunked one stands must be
found out first, see `registry.http.chunked`.
"""

from __future__ import annotations

import os
import select
import socket
import time
from typing import Final

from aiohttp import hdrs, web

from registry.errors import BodyMalformed, ClientGone
from registry.http.framing import Framing, Plain, joined
from registry.keys import SPENT

WORTHWHILE_BYTES: Final = 8 << 20
"""A smaller rest of a body is not worth the connection that it costs."""

SLOW_SECONDS: Final = 0.1
LOW_WATER_BYTES: Final = 256 << 10
"""How much should be there before the thread is woken; less is taken at the end of the body."""


class DirectBody:
    """The rest of one body, read by a thread; the methods but `read_blocking` are the loop's."""

    def __init__(self, request: web.Request, framing: Framing) -> None:
        self._framing = framing
        self._received = 0
        self._request = request
        transport = request.transport
        assert transport is not None
        self._transport = transport
        descriptor = transport.get_extra_info("socket").fileno()
        self._socket = socket.socket(fileno=os.dup(descriptor))
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)
        self._low_water = 1
        self.is_fast = True
        """Whether the client has filled every buffer in time."""
        transport.pause_reading()

    @property
    def left(self) -> int:
        """How many bytes of the body are still to come, as far as that is known."""
        return self._framing.left

    @property
    def is_done(self) -> bool:
        return self._framing.is_done

    def read_blocking(self, into: memoryview) -> list[memoryview]:
        """Bytes of the body in `into`, as many as come within `SLOW_SECONDS`; none only at the end.

        Raises `ClientGone` if the client left before the end and `BodyMalformed` where the framing
        breaks, once all that came before has been given out.
        """
        framing, spans = self._framing, list[tuple[int, int]]()
        wanted = framing.room(len(into))
        filled = 0
        deadline = time.monotonic() + SLOW_SECONDS
        while filled < wanted and not framing.is_done and not framing.broken:
            try:
                count = self._socket.recv_into(into[filled:wanted])
            except BlockingIOError:
                if not self._wait_blocking(wanted - filled, deadline):
                    break
                continue
            except ConnectionError as error:
                if spans:
                    break
                raise ClientGone from error
            if not count:
                if spans:
                    break
                raise ClientGone
            found = framing.spans(into[filled : filled + count])
            spans += [(start + filled, stop + filled) for start, stop in found]
            filled += count
        if framing.broken and not spans:
            raise BodyMalformed(framing.broken)
        pieces = [into[start:stop] for start, stop in joined(into, spans)]
        self._received += sum(map(len, pieces))
        return pieces

    def close(self) -> None:
        """Give the socket back to the loop; if the body is complete, the connection is spent."""
        self._set_low_water(1)
        self._socket.close()
        content = self._request.content
        # What aiohttp counts as received, the access log among those who ask.
        content.total_bytes += self._received
        if self.is_done:
            content.feed_eof()
        elif self._framing.broken:
            content.set_exception(web.RequestPayloadError(self._framing.broken))
        else:
            self._transport.resume_reading()

    def _wait_blocking(self, room: int, deadline: float) -> bool:
        """Wait for bytes; False if the time is over."""
        self._set_low_water(min(LOW_WATER_BYTES, room, self._framing.least_bytes))
        left = deadline - time.monotonic()
        if left > 0 and self._poll.poll(left * 1000):
            return True
        # Fewer bytes than the low water may be there; they are the loop's to read.
        self.is_fast = False
        return False

    def _set_low_water(self, size_bytes: int) -> None:
        if size_bytes != self._low_water:
            self._low_water = size_bytes
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size_bytes)


def begin(request: web.Request) -> tuple[bytes, DirectBody] | None:
    """What has arrived of the body and a reader for the rest; None where that is not possible.

    Call it between two reads of ``request.content``, on the event loop's thread.
    """
    content, length = request.content, request.content_length
    if (
        length is None
        or hdrs.TRANSFER_ENCODING in request.headers
        or length - content.total_bytes < WORTHWHILE_BYTES
        or not is_plain(request)
    ):
        return None
    prefix = content.read_nowait()
    request[SPENT] = True
    return prefix, DirectBody(request, Plain(length - content.total_bytes))


def is_plain(request: web.Request) -> bool:
    """Whether what a socket of this connection holds are its very bytes, and it is whole so far."""
    transport = request.transport
    return (
        transport is not None
        and transport.get_extra_info("sslcontext") is None
        and request.content.exception() is None
    )
