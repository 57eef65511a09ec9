"""Bounded thread pools, one for each kind of blocking work.

They are apart because they must not wait for each other: a look at a small file waited more than a
second behind large writes when both shared a pool.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


BULK_NICENESS: Final = 10
"""Small requests beside large transfers gained, and an upload alone lost nothing."""

DIRECT_BODIES: Final = 4
"""Each way. More at once would only take each other's time, and cost three buffers each upload."""


class Threads:
    """The pools of one process. Close them after everything that uses them."""

    def __init__(
        self,
        *,
        ingest: int = 4,
        hashing: int = 4,
        sync: int = 8,
        reading: int = 4,
        files: int = 4,
    ) -> None:
        self.ingest = _patient(ingest, "ingest")
        """Writing what arrives, a batch at a time."""
        self.hashing = _patient(hashing, "hashing")
        """Hashing what arrives, while it is written."""
        self.direct = _patient(2 * DIRECT_BODIES, "direct")
        """Two threads for each large body that is read past the event loop."""
        self.direct_free = DIRECT_BODIES
        """How many more may be; counted on the event loop's thread."""
        self.sending = _patient(DIRECT_BODIES, "sending")
        """One thread for each large part that leaves past the event loop."""
        self.sending_free = DIRECT_BODIES
        """How many more may; counted on the event loop's thread."""
        self.sync = ThreadPoolExecutor(sync, "sync")
        """Waiting for the disk."""
        self.reading = _patient(reading, "reading")
        """Reading and verifying what leaves, and scrubbing."""
        self.files = ThreadPoolExecutor(files, "files")
        """Short calls: stat, open, close, unlink."""

    def close(self) -> None:
        bulk = (self.ingest, self.hashing, self.direct, self.sending, self.reading)
        for pool in (*bulk, self.sync, self.files):
            pool.shutdown(wait=True)


def _patient(workers: int, name: str) -> ThreadPoolExecutor:
    """A pool for bulk work, which lets the event loop and other short work go first.

    Priorities are of threads on Linux alone; elsewhere this would slow the whole process.
    """

    def step_back() -> None:
        if sys.platform == "linux":
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), BULK_NICENESS)

    return ThreadPoolExecutor(workers, name, initializer=step_back)


async def hop(
    pool: ThreadPoolExecutor, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> T:
    """Run a blocking function in `pool` and wait for it, to its end even when cancelled.

    A thread cannot be interrupted, so a cancelled caller must not free what the thread still uses:
    the cancellation is delivered once the thread is done.
    """
    future = asyncio.wrap_future(pool.submit(function, *args, **kwargs))
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await settled(future)
        raise


async def settled(future: asyncio.Future[T]) -> None:
    """Wait until `future` is done, whatever its outcome, through any number of cancellations."""
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError:
            continue
    if not future.cancelled():
        future.exception()
