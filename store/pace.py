"""Keep an average rate, so that work in the background leaves the disk to those who wait."""

from __future__ import annotations

import asyncio


class SteadyPace:
    """Waits after each piece as long as an average rate asks for; None or 0 is no rate."""

    def __init__(self, bytes_per_second: int | None) -> None:
        self._rate = bytes_per_second
        self._due = asyncio.get_running_loop().time()

    async def wait(self, size_bytes: int) -> None:
        if not self._rate:
            return
        now = asyncio.get_running_loop().time()
        self._due = max(self._due, now - 1.0) + size_bytes / self._rate
        if self._due > now:
            await asyncio.sleep(self._due - now)
