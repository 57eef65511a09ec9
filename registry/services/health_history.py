"""How the parts of the registry are and were, as the leader's samples tell.

Whoever leads looks at every part each `health.sample_seconds` (`registry.services.health_samples`).
Where the newest sample is older than `MISSED` of these turns nobody leads, or the leader hangs:
that is told as a failure of the part ``leader``, whatever the last sample of it said.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import Final

import msgspec

from registry.catalog.health_samples import (
    Sample,
    Status,
    latest_samples,
    samples_before,
    unbroken_since,
)
from registry.services.health_samples import COMPONENTS, DAY
from store.clock import SECOND
from store.index.transactions import Tx
from store.opening import Store

MOST_READ: Final = 50_000
"""Samples that one page of summaries is made of at most."""

MISSED: Final = 3
SINCE_DAYS: Final = 30
"""How far back it is told since when a part has been as it is."""

LEADER: Final = "leader"

_WORSE: Final[Mapping[str, int]] = {"ok": 0, "degraded": 1, "failed": 2}


class Standing(msgspec.Struct, frozen=True):
    """How a part is, and since when without a break, as far back as `SINCE_DAYS`."""

    component: str
    status: Status
    since: int
    detail: str
    numbers: Mapping[str, float]


class Health(msgspec.Struct, frozen=True):
    """All parts, and the worst of them; `sampled_at` is None before the first sample."""

    status: Status
    sampled_at: int | None
    components: list[Standing]


async def present_health(store: Store, *, sample_seconds: int) -> Health:
    """How every part is now, as of the newest samples."""
    return await store.index.read(partial(_present, patience=MISSED * sample_seconds * SECOND))


async def _present(tx: Tx, patience: int) -> Health:
    samples = await latest_samples(tx)
    if not samples:
        return Health("failed", None, [_without_leader(tx.now, "nobody has looked yet")])
    sampled_at = samples[0].time
    earliest = tx.now - SINCE_DAYS * DAY
    standings = [
        Standing(
            one.component,
            one.status,
            await unbroken_since(tx, one, earliest=earliest),
            one.detail,
            one.numbers,
        )
        for one in samples
    ]
    if tx.now - sampled_at > patience:
        lost = _without_leader(sampled_at, "nobody has looked since")
        standings = [lost if one.component == LEADER else one for one in standings]
    worst = max((one.status for one in standings), key=lambda status: _WORSE[status])
    return Health(worst, sampled_at, standings)


def _without_leader(since: int, detail: str) -> Standing:
    return Standing(LEADER, "failed", since, detail, {})


class Summary(msgspec.Struct, frozen=True):
    """A component from a time on, for as long as was asked for.

    `status` is the worst there was and `detail` that of its newest sample; `numbers` are means.
    """

    time: int
    component: str
    status: Status
    detail: str
    numbers: dict[str, float]
    highest: dict[str, float]
    samples: int
    by_status: dict[str, int]


class HealthPage(msgspec.Struct, frozen=True):
    """Summaries, the newest first; `next` is the place of the last where more follow."""

    items: list[Summary]
    next: tuple[int, str] | None


async def read_health(
    store: Store,
    *,
    component: str | None,
    since: int,
    until: int,
    every: int | None,
    after: tuple[int, str] | None,
    limit: int,
) -> HealthPage:
    """Samples as they are, or of each span of `every` microseconds one summary a component."""
    span = every or 1
    upper = until if after is None else min(until, after[0] + span)
    most = MOST_READ if every is not None else limit + 2 * len(COMPONENTS) + 1
    unit = partial(samples_before, before=upper, since=since, component=component, limit=most)
    found = await store.index.read(unit)
    items = list[Summary]()
    for begin, group in groupby(found, key=lambda sample: sample.time - sample.time % span):
        of_span = _summaries(begin, group)
        items += [one for one in of_span if after is None or (begin, one.component) < after]
    if len(found) == most and items:  # the last span may go on
        last = items[-1].time
        whole = [one for one in items if one.time != last]
        items, is_cut = whole or items, True
    else:
        is_cut = False
    page = items[:limit]
    has_more = is_cut or len(items) > limit
    return HealthPage(page, (page[-1].time, page[-1].component) if page and has_more else None)


def _summaries(begin: int, samples: Iterable[Sample]) -> list[Summary]:
    by_component: dict[str, list[Sample]] = {}
    for sample in samples:
        by_component.setdefault(sample.component, []).append(sample)
    return [
        _summary(begin, component, by_component[component])
        for component in sorted(by_component, reverse=True)
    ]


def _summary(begin: int, component: str, samples: Sequence[Sample]) -> Summary:
    """`samples` are the newest first."""
    worst = max(samples, key=lambda sample: _WORSE[sample.status])
    values: dict[str, list[float]] = {}
    by_status: dict[str, int] = {}
    for sample in samples:
        by_status[sample.status] = by_status.get(sample.status, 0) + 1
        for name, value in sample.numbers.items():
            values.setdefault(name, []).append(value)
    return Summary(
        time=begin,
        component=component,
        status=worst.status,
        detail=worst.detail,
        numbers={
            name: each[0] if len(each) == 1 else sum(each) / len(each)
            for name, each in values.items()
        },
        highest={name: max(each) for name, each in values.items()},
        samples=len(samples),
        by_status=by_status,
    )
