"""Send a large part of a file from a worker thread, past the event loop.

On the loop each slice of a body is half a millisecond in which nobody else is served, and a turn of
the loop behind it. A thread needs no turns, and ``sendfile`` holds no lock of the interpreter. The
thread waits for the socket by itself, on a duplicate of its descriptor that stays valid whatever
becomes of the transport; the loop goes on reading from the connection and has nothing to write.

A thread is for readers that are worth one: whoever lets `SLOW_SECONDS` pass over `WINDOW_BYTES`
goes back to the loop, which also keeps the limits on idle and slow readers. A transport that is
closing and a cancellation end it as soon.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
import sys
import time
from typing import Final

from store.threads import Threads, settled

WORTHWHILE_BYTES: Final = 8 << 20
"""A smaller part is not worth the way to a thread and back."""

CALL_BYTES: Final = 2 << 20
"""The most that one call may move, so that a thread never sends for long without looking up."""

WINDOW_BYTES: Final = 4 << 20
SLOW_SECONDS: Final = 0.2


class DirectSending:
    """Sends parts of one file to one connection, in a thread of a bounded pool, until `close`."""

    def __init__(self, transport: asyncio.Transport, out: socket.socket, threads: Threads) -> None:
        self._transport = transport
        self._out = out.fileno()
        self._threads = threads
        threads.sending_free -= 1
        self._poll = select.poll()
        self._poll.register(self._out, select.POLLOUT)
        self.sent = 0
        self._is_fast = True

    async def send(self, source: int, start: int, stop: int) -> None:
        """Send that part of a file, or less of it; `sent` tells.

        It ends early for a reader that is not fast, a transport that is closing and a file that is
        shorter: whoever goes on finds out. Raises `ConnectionError` if the client left.
        """
        sending = asyncio.wrap_future(
            self._threads.sending.submit(self._send_blocking, source, start, stop)
        )
        try:
            await asyncio.shield(sending)
        except asyncio.CancelledError:
            self._is_fast = False
            await settled(sending)
            raise

    def close(self) -> None:
        """Leave the thread to others; call it once, when nothing is being sent."""
        self._threads.sending_free += 1

    def _send_blocking(self, source: int, start: int, stop: int) -> None:
        window, deadline = start + WINDOW_BYTES, time.monotonic() + SLOW_SECONDS
        while start < stop and self._is_fast and not self._transport.is_closing():
            try:
                count = os.sendfile(self._out, source, start, min(CALL_BYTES, stop - start))
            except BlockingIOError:
                self._wait_blocking(deadline)
                continue
            if not count:
                return
            start += count
            self.sent += count
            if start >= window:
                window, deadline = start + WINDOW_BYTES, time.monotonic() + SLOW_SECONDS

    def _wait_blocking(self, deadline: float) -> None:
        """Wait for room in the socket; without any in time the reader is slow."""
        left = deadline - time.monotonic()
        if left <= 0 or not self._poll.poll(left * 1000):
            self._is_fast = False


def begin(
    transport: asyncio.Transport, out: socket.socket, threads: Threads, size_bytes: int
) -> DirectSending | None:
    """A thread for a part of that size; None if it is too small or all threads are in use.

    `out` is a duplicate of the transport's socket that outlives the sending, with nothing left to
    be written before it. Elsewhere than on Linux ``sendfile`` counts differently when it stops.
    """
    if size_bytes < WORTHWHILE_BYTES or not threads.sending_free or sys.platform != "linux":
        return None
    return DirectSending(transport, out, threads)
