"""How much the registry holds in all, now and from day to day.

**Now** is counted when somebody asks: a page of blobs at a time with pauses, so that no read lasts
and no writer waits. Where that took long, the answer serves everybody for a hundred times as long
as it took: counting costs at most a hundredth of one thread, at whatever size. The answer says when
it was counted.

**From day to day** the leader counts each hour and keeps the last count of each day, for good: a
row a day. A day on which no server ran has none. Of the day that goes on the present count is told.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

import msgspec

from registry.catalog.growth import Held, count_everything, held_after
from registry.catalog.health_samples import GROWTH, Sample, growth_before, put_samples
from store.clock import SECOND
from store.index.transactions import Tx
from store.opening import Store

DAY: Final = 86400 * SECOND
EVERY_SECONDS: Final = 3600.0

PAGE_BLOBS: Final = 20_000
"""A page took 12 ms."""

PAUSE_SECONDS: Final = 0.02
QUICK_SECONDS: Final = 0.1
"""What took less is counted for everybody who asks."""

FACTOR: Final = 100
LONGEST_SECONDS: Final = 3600.0

Sleep = Callable[[float], Awaitable[Any]]


class Standing(msgspec.Struct, frozen=True):
    """Counts of everything by kind or status, bytes, and when they were counted."""

    counts: dict[str, dict[str, int]]
    held: Held
    at: int

    def total(self, what: str) -> int:
        return sum(self.counts.get(what, {}).values())


class DaySample(msgspec.Struct, frozen=True):
    """What there was at the end of a day, or until now; `day` is when it began."""

    day: int
    numbers: dict[str, int]


class Growth:
    """Counts what a store holds; one for each process."""

    def __init__(
        self,
        store: Store,
        *,
        sleep: Sleep = asyncio.sleep,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._sleep = sleep
        self._seconds = seconds
        self._last: Standing | None = None
        self._good_until = 0.0
        self._counting = asyncio.Lock()

    async def standing(self) -> Standing:
        """What there is, counted now or not long ago."""
        async with self._counting:
            if self._last is None or self._seconds() >= self._good_until:
                begun = self._seconds()
                self._last = await self._count()
                took = self._seconds() - begun
                kept = 0.0 if took < QUICK_SECONDS else min(FACTOR * took, LONGEST_SECONDS)
                self._good_until = self._seconds() + kept
            return self._last

    async def _count(self) -> Standing:
        index = self._store.index
        counts, at = await index.read(_counts)
        held, last = Held(), b""
        while True:
            page_last, page = await index.read(partial(held_after, after=last, limit=PAGE_BLOBS))
            if page_last is None:
                return Standing(counts, held, at)
            held, last = held.plus(page), page_last
            if page.blobs >= PAGE_BLOBS // 2:
                await self._sleep(PAUSE_SECONDS)

    async def sample(self) -> None:
        """Keep what there is as today's sample. For the leader."""
        today = _of_today(await self.standing())
        made = Sample(today.day, GROWTH, "ok", "", today.numbers)
        await self._store.index.run(lambda tx: put_samples(tx, [made]))

    async def days(
        self, *, since: int, until: int, before: int | None, limit: int
    ) -> list[DaySample]:
        """Days from `since` on and before `until` and the day `before`, the newest first."""
        bound = until if before is None else min(before, until)
        unit = partial(growth_before, since=since, before=bound, limit=limit)
        found = [
            DaySample(one.time, {name: int(value) for name, value in one.numbers.items()})
            for one in await self._store.index.read(unit)
        ]
        today = self._store.clock()
        today -= today % DAY
        if not since <= today < bound:
            return found
        now = _of_today(await self.standing())
        return [now, *(one for one in found if one.day < now.day)][:limit]


def _of_today(standing: Standing) -> DaySample:
    return DaySample(
        standing.at - standing.at % DAY,
        {
            "models": standing.total("models"),
            "versions": standing.total("versions"),
            "runs": standing.total("runs"),
            "deployments": standing.total("deployments"),
            "blobs": standing.held.blobs,
            "stored": standing.held.stored,
            "named": standing.held.named,
            "referenced": standing.held.referenced,
            "at": standing.at,
        },
    )


async def _counts(tx: Tx) -> tuple[dict[str, dict[str, int]], int]:
    return await count_everything(tx), tx.now
