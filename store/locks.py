"""A lock that keeps apart who moves files and who settles the moves of the dead.

``moving`` rows alone cannot: to whoever finds one, a move under way and a move that a crash cut off
look the same, and settling the first kind takes the file from under its mover. So movers share
`MoveLock` from before a row says ``moving`` until after it no longer does, and `settle` wants it
alone. It is an advisory lock on an open file and ends with its process.

Nothing is awaited for it while a transaction is open, and whoever holds it takes no other lock.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from store.durable import translated

POLL_SECONDS: Final = 0.01


class MoveLock:
    """Shared by movers, exclusive for settling; a path None is for one process."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._sharers = 0
        self._is_alone = False

    @asynccontextmanager
    async def shared(self) -> AsyncIterator[None]:
        """Hold it beside other movers; waits while somebody settles, which is short."""
        held = self._try(fcntl.LOCK_SH)
        while held is None:
            await asyncio.sleep(POLL_SECONDS)
            held = self._try(fcntl.LOCK_SH)
        try:
            yield
        finally:
            self._release(held, fcntl.LOCK_SH)

    @asynccontextmanager
    async def alone(self, wait_seconds: float) -> AsyncIterator[bool]:
        """Hold it with nobody else; yields False if movers did not let go in time."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_seconds
        while (held := self._try(fcntl.LOCK_EX)) is None:
            if loop.time() >= deadline:
                yield False
                return
            await asyncio.sleep(POLL_SECONDS)
        try:
            yield True
        finally:
            self._release(held, fcntl.LOCK_EX)

    def _try(self, mode: int) -> int | None:
        """A descriptor that holds the lock, -1 in memory, None if others hold it."""
        if self._path is None:
            return self._try_in_memory(mode)
        # A descriptor for each holder: two on one would be one holder.
        with translated("locking moves"):
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if error.errno in (errno.EAGAIN, errno.EACCES):
                return None
            with translated("locking moves"):
                raise
        return descriptor

    def _try_in_memory(self, mode: int) -> int | None:
        if self._is_alone or (mode == fcntl.LOCK_EX and self._sharers):
            return None
        if mode == fcntl.LOCK_EX:
            self._is_alone = True
        else:
            self._sharers += 1
        return -1

    def _release(self, held: int, mode: int) -> None:
        if held >= 0:
            os.close(held)
        elif mode == fcntl.LOCK_EX:
            self._is_alone = False
        else:
            self._sharers -= 1
