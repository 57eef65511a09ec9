"""Work that is put off, so that what many requests noted is written once.

It is for the event loop's thread. Whoever notes something wants the work; it begins when the first
of them said, and never twice at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

logger = structlog.get_logger()


class Later:
    """Has `work` begin some time after it was wanted; what it raises is logged and ends nothing."""

    def __init__(self, work: Callable[[], Awaitable[None]]) -> None:
        self._work = work
        self._timer: asyncio.TimerHandle | None = None
        self._running: asyncio.Task[None] | None = None
        self._is_due = False
        """It is to begin again as soon as it has come to its end."""
        self._is_put_off = False
        self._has_ended = False

    def want(self, seconds: float) -> None:
        """Have it begin in so many seconds, unless it is to begin by itself already."""
        if self._timer is None and not self._is_due and not self._has_ended:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._fire)

    def hurry(self) -> None:
        """Have it begin now, or as soon as it has come to its end, if it was not put off."""
        if not self._is_put_off:
            self._forget_timer()
            self._begin()

    def put_off(self, seconds: float) -> None:
        """Have it begin in so many seconds and not before, whoever hurries it."""
        self._forget_timer()
        self._is_due = False
        self.want(seconds)
        self._is_put_off = True

    async def settle(self) -> None:
        """Wait until it does not run."""
        while self._running is not None:
            await asyncio.wait({self._running})
            await asyncio.sleep(0)  # a turn of the loop for what follows a task that is done

    async def end(self) -> None:
        """Let what runs come to its end; it never begins again."""
        self._has_ended = True
        self._forget_timer()
        self._is_due = False
        await self.settle()

    def _fire(self) -> None:
        self._timer = None
        self._is_put_off = False
        self._begin()

    def _begin(self) -> None:
        if self._has_ended:
            return
        if self._running is not None:
            self._is_due = True
            return
        self._running = asyncio.get_running_loop().create_task(self._run())
        self._running.add_done_callback(self._ended)

    async def _run(self) -> None:
        try:
            await self._work()
        except Exception:
            logger.exception("what was put off failed")

    def _ended(self, _: asyncio.Task[None]) -> None:
        self._running = None
        is_due, self._is_due = self._is_due, False
        if is_due:
            self._begin()

    def _forget_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
