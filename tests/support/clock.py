"""Time that passes only when a test says so."""

from __future__ import annotations

from store.clock import SECOND


class ManualClock:
    """Microseconds since the epoch, as `store.clock.Clock` wants them."""

    def __init__(self, now: int = 1_800_000_000 * SECOND) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += int(seconds * SECOND)
