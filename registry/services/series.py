"""Metric series of runs: points logged in thousands, read back whole or as a chart.

**Writing** a call's points takes as many transactions as it takes: each holds the writer for at
most `POINTS_AT_ONCE` points, and a `Turnstile` lets one of them at a time into the queue, so that
whoever else writes waits for one and not for all that are being logged. A call that fails may thus
have logged a part; the same call again completes it, because a point that is there is replaced by
the very same. Of two with one key, step and time the later counts.

**Not audited**: points are what a run says of itself, by the thousand; who made the run is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

import msgspec

from registry.catalog.series import (
    EVERYTHING,
    NewPoint,
    Point,
    Series,
    Span,
    count_series,
    find_series,
    insert_series,
    last_point,
    points_after,
    put_points,
    sampled_points,
    series_after,
)
from registry.domain.principals import Principal
from registry.errors import Conflict
from registry.services.change import change
from registry.services.runs import require_run
from store.index.transactions import Tx
from store.opening import Store

POINTS_AT_ONCE: Final = 500
"""In one transaction: some 2 ms of the writer's time, for which everybody else who writes waits."""

BREATH_SECONDS: Final = 0.001
"""Between two such transactions: threads that only read need the interpreter for a moment, too."""

MOST_POINTS: Final = 10_000
"""In one call."""

MOST_SERIES: Final = 10_000
"""Of one run: a key made of a step would otherwise make a series for each point."""

FEWEST_SAMPLED: Final = 10
MOST_SAMPLED: Final = 2_000
MOST_CHARTED: Final = 20


class Turnstile:
    """One bulk transaction of this process at a time; whoever waits goes in order.

    `decoding` is the same for the bodies that such transactions come from.
    """

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self.decoding = asyncio.Lock()

    async def __aenter__(self) -> None:
        await self._lock.acquire()

    async def __aexit__(self, *_: object) -> None:
        try:
            await asyncio.sleep(BREATH_SECONDS)
        finally:
            self._lock.release()


class Logged(msgspec.Struct, frozen=True):
    """How many points a call held, and how many of them were not there before."""

    points: int
    new: int


class PlacedPoint(msgspec.Struct, frozen=True):
    """A point and the key of its series."""

    key: str
    point: Point


class PointPage(msgspec.Struct, frozen=True):
    items: list[PlacedPoint]
    next: tuple[str, int, int] | None


class Chart(msgspec.Struct, frozen=True):
    """A series, or of a long one what shows its shape; `total` is of the whole series."""

    key: str
    total: int
    is_sampled: bool
    points: list[Point]


Points = Mapping[str, Sequence[NewPoint]]
"""Points by key; no step and time comes twice in a key."""


async def log_points(
    store: Store, principal: Principal, turnstile: Turnstile, run_id: str, points: Points
) -> Logged:
    """Write points; raises `NotFound`, and `Conflict`, code ``too_many_series``."""
    parts = _cut(points)
    new = 0
    for part in parts[:-1]:
        async with turnstile:
            new += await store.index.run(partial(_write, principal, run_id, part))
    total = sum(len(members) for members in points.values())
    before = new

    async def unit(tx: Tx) -> Logged:
        return Logged(total, before + await _write(principal, run_id, parts[-1], tx))

    async with turnstile:
        return await change(store, principal, unit)


def _cut(points: Points) -> list[Points]:
    """The same points in parts of at most `POINTS_AT_ONCE`."""
    parts: list[dict[str, Sequence[NewPoint]]] = [{}]
    room = POINTS_AT_ONCE
    for key, members in points.items():
        start = 0
        while start < len(members):
            if room == 0:
                parts.append({})
                room = POINTS_AT_ONCE
            some = members[start : start + room]
            parts[-1][key] = some
            start += len(some)
            room -= len(some)
    return list(parts)


async def _write(principal: Principal, run_id: str, points: Points, tx: Tx) -> int:
    run = await require_run(tx, principal, run_id)
    found = await find_series(tx, run.id, points)
    missing = [key for key in points if key not in found]
    if missing:
        has = await count_series(tx, run.id)
        if has + len(missing) > MOST_SERIES:
            raise Conflict(
                "run",
                run.name or run.id,
                f"has {has} series; at most {MOST_SERIES} are kept",
                code="too_many_series",
                details={"series": has, "allowed": MOST_SERIES},
            )
    for key in missing:
        found[key] = await insert_series(tx, run.id, key)
    return await put_points(tx, [(found[key], members) for key, members in points.items()])


async def list_series(
    store: Store, principal: Principal, run_id: str, *, after: str, limit: int, prefix: str = ""
) -> list[Series]:
    """A page of a run's series with their last points, in order of key."""

    async def unit(tx: Tx) -> list[Series]:
        run = await require_run(tx, principal, run_id, is_deleted=True)
        return await series_after(tx, run.id, after, limit, prefix=prefix)

    return await store.index.read(unit)


async def list_points(
    store: Store,
    principal: Principal,
    run_id: str,
    keys: Sequence[str],
    span: Span = EVERYTHING,
    *,
    after: tuple[str, int, int] | None,
    limit: int,
) -> PointPage:
    """A page of the points of some series, or of all, in order of key, step and time."""

    async def unit(tx: Tx) -> PointPage:
        run = await require_run(tx, principal, run_id, is_deleted=True)
        return await _page(tx, run.id, sorted(set(keys)), span, after, limit)

    return await store.index.read(unit)


async def _page(
    tx: Tx,
    run_id: str,
    keys: Sequence[str],
    span: Span,
    after: tuple[str, int, int] | None,
    limit: int,
) -> PointPage:
    items: list[PlacedPoint] = []
    begun, place = ("", None) if after is None else (after[0], after[1:])
    part = list((await find_series(tx, run_id, keys or [begun])).values())
    if not keys and not part:
        part = await series_after(tx, run_id, begun, limit)
    while part:
        for series in part:
            if series.key < begun:
                continue
            start = place if series.key == begun else None
            found = await points_after(tx, series.id, start, limit + 1 - len(items), span)
            items += [PlacedPoint(series.key, point) for point in found]
            if len(items) > limit:
                last = items[limit - 1]
                return PointPage(items[:limit], (last.key, last.point.step, last.point.time))
        part = [] if keys else await series_after(tx, run_id, part[-1].key, limit)
    return PointPage(items, None)


async def chart_series(
    store: Store,
    principal: Principal,
    run_id: str,
    keys: Sequence[str],
    span: Span = EVERYTHING,
    *,
    points: int,
) -> list[Chart]:
    """At most `points` points of each series that show its shape; of unknown keys none."""

    async def unit(tx: Tx) -> list[Chart]:
        run = await require_run(tx, principal, run_id, is_deleted=True)
        found = await find_series(tx, run.id, keys)
        return [
            await _chart(tx, found[key], span, points) if key in found else Chart(key, 0, False, [])
            for key in dict.fromkeys(keys)
        ]

    return await store.index.read(unit)


async def _chart(tx: Tx, series: Series, span: Span, most: int) -> Chart:
    whole = await points_after(tx, series.id, None, most + 1, span)
    if len(whole) <= most:
        return Chart(series.key, series.points, False, whole)
    last = await last_point(tx, series.id, span)
    assert last is not None, "there are points"
    # Of each interval three points may stay, and the first and the last of all do.
    intervals = (most - 2) // 3
    sampled = await sampled_points(tx, series.id, whole[0], last, intervals)
    return Chart(series.key, series.points, True, sampled)
