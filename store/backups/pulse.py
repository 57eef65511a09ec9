"""What goes along with a long copy: the hold is renewed, progress is told, a wish to stop heard."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final

from store.errors import Unavailable
from store.holds import Hold

RENEW_SECONDS: Final = 60.0
"""How old a hold may get before it is renewed; far less than it lasts."""

Report = Callable[[str, int, int], None]
"""Told of a stage, and how much of how much of it is done, in bytes."""


class Pulse:
    """Called by all threads of one piece of work."""

    def __init__(
        self,
        *,
        hold: Hold | None = None,
        report: Report | None = None,
        stop: threading.Event | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._hold = hold
        self._report = report
        self._stop = stop
        self._monotonic = monotonic
        self._due = monotonic() + RENEW_SECONDS
        self._lock = threading.Lock()
        self._stage = ""
        self._is_over = False
        self._done = self._total = 0

    def begin(self, stage: str, total: int = 0) -> None:
        with self._lock:
            self._stage, self._done, self._total = stage, 0, total
        self.tick(0)

    def tick(self, size_bytes: int) -> None:
        """Another piece is done. Raises `Unavailable` if there is no going on."""
        if self._is_over or (self._stop is not None and self._stop.is_set()):
            raise Unavailable("going on after an interruption")
        with self._lock:
            self._done += size_bytes
            if self._report is not None:
                self._report(self._stage, self._done, self._total)
            if self._hold is not None and self._monotonic() >= self._due:
                self._renew(self._hold)

    def require_hold(self) -> None:
        """Make sure that the hold has lasted until now."""
        if self._hold is not None:
            with self._lock:
                self._renew(self._hold)

    @contextmanager
    def crew(self, at_once: int, name: str) -> Iterator[ThreadPoolExecutor]:
        """So many threads; a failure, or Ctrl-C, ends what all of them are at."""
        with ThreadPoolExecutor(at_once, name) as threads:
            try:
                yield threads
            except BaseException:
                self._is_over = True
                raise

    def _renew(self, hold: Hold) -> None:
        hold.renew()
        self._due = self._monotonic() + RENEW_SECONDS
