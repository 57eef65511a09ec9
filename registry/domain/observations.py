"""What gateways report of a binding, and what remains of it: rates, percentiles, cost.

**Recent ones weigh more.** Everything but the two totals decays exponentially: what was reported
`HALF_LIFE` ago counts half. This is the exponential case of forward decay (Cormode, Shkapenyuk,
Srivastava, Xu: *Forward Decay*, ICDE 2009), where decaying what is there by the time that passed is
the same as weighing each observation by its age. The time of an observation is that of its report
by the server's clock; a clock that steps back decays nothing.

**Percentiles** come from a histogram whose buckets grow by a constant factor, as in DDSketch
(Masson, Rim, Lee, VLDB 2019): a percentile is off by at most `RELATIVE_ERROR` of its value, and by
`FLOOR_MS` below that. A bucket whose decayed count rounds to nothing at three decimals is dropped.
Only requests that succeeded count: a provider that refuses at once is not a fast one.

**Cost** is what was paid over the tokens that it was paid for, of those observations that say both.

Observations merge in any order, and merging is exact for the totals: whoever reports a thousand
requests in one observation with a `count`, or one by one at once, comes to the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from store.clock import SECOND

HALF_LIFE_SECONDS: Final = 3600
HALF_LIFE: Final = HALF_LIFE_SECONDS * SECOND

RELATIVE_ERROR: Final = 0.025
FLOOR_MS: Final = 0.01
MOST_MS: Final = 86_400_000.0
"""A day."""

MOST_COUNT: Final = 1_000_000_000
MOST_TOKENS: Final = 10**15
MOST_USD: Final = 1e12

_GROWTH: Final = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
_LOG_GROWTH: Final = math.log(_GROWTH)
_DECIMALS: Final = 3


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """A request, or `count` requests that were alike; tokens and cost are of all of them."""

    success: bool = True
    latency_ms: float | None = None
    tokens: int | None = None
    cost_usd: float | None = None
    count: int = 1


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Observations of one binding, added up."""

    requests: int
    failures: int
    tokens: int
    cost_usd: float
    latencies: Mapping[int, int]


class Statistics(msgspec.Struct, frozen=True, kw_only=True):
    """What remains of all reports of a binding; what is decayed is so to `observed_at`."""

    requests: int
    failures: int
    weight: float
    successes: float
    tokens: float = 0.0
    cost_usd: float = 0.0
    latencies: Mapping[int, float] = {}
    success_rate: float
    latency_p50_ms: float | None = None
    latency_p95_ms: float | None = None
    latency_p99_ms: float | None = None
    cost_per_1k: float | None = None
    observed_at: int
    mark: int = 0
    """Of the last report, among those of all bindings."""


def bucket_of(latency_ms: float) -> int:
    """The bucket of a latency: the power of the growth that is not below it."""
    return math.ceil(math.log(max(latency_ms, FLOOR_MS)) / _LOG_GROWTH)


def value_of(bucket: int) -> float:
    """The latency that no other of its bucket is further from than `RELATIVE_ERROR` of itself."""
    return float(2 * _GROWTH**bucket / (_GROWTH + 1))


def summed(observations: Iterable[Observation]) -> Report:
    """One report of observations of one binding."""
    requests = failures = tokens = 0
    cost = 0.0
    latencies: dict[int, int] = {}
    for one in observations:
        requests += one.count
        if not one.success:
            failures += one.count
        elif one.latency_ms is not None:
            bucket = bucket_of(one.latency_ms)
            latencies[bucket] = latencies.get(bucket, 0) + one.count
        if one.tokens is not None and one.cost_usd is not None:
            tokens += one.tokens
            cost += one.cost_usd
    return Report(
        requests=requests, failures=failures, tokens=tokens, cost_usd=cost, latencies=latencies
    )


def joined(before: Statistics | None, report: Report, *, now: int) -> Statistics:
    """The statistics after a report; its mark is the caller's to give."""
    kept = 0.0 if before is None else decay(now - before.observed_at)
    requests, failures = report.requests, report.failures
    weight, successes = float(requests), float(requests - failures)
    tokens, cost = float(report.tokens), report.cost_usd
    latencies: dict[int, float] = dict(report.latencies)
    if before is not None:
        requests += before.requests
        failures += before.failures
        weight += kept * before.weight
        successes += kept * before.successes
        tokens += kept * before.tokens
        cost += kept * before.cost_usd
        for bucket, count in before.latencies.items():
            left = round(kept * count, _DECIMALS)
            if left:
                latencies[bucket] = latencies.get(bucket, 0.0) + left
    p50, p95, p99 = percentiles(latencies, (0.5, 0.95, 0.99))
    return Statistics(
        requests=requests,
        failures=failures,
        weight=weight,
        successes=successes,
        tokens=tokens,
        cost_usd=cost,
        latencies=latencies,
        success_rate=min(successes / weight, 1.0),
        latency_p50_ms=p50,
        latency_p95_ms=p95,
        latency_p99_ms=p99,
        cost_per_1k=1000 * cost / tokens if tokens else None,
        observed_at=now if before is None else max(now, before.observed_at),
    )


def decay(elapsed: int) -> float:
    """How much of what was reported so many microseconds ago counts."""
    return float(2.0 ** (-max(0, elapsed) / HALF_LIFE))


def percentiles(
    latencies: Mapping[int, float], shares: tuple[float, ...]
) -> tuple[float | None, ...]:
    """The latencies that these shares of all, in rising order, are not above; None without any."""
    if not latencies:
        return (None,) * len(shares)
    ordered = sorted(latencies.items())
    total = math.fsum(latencies.values())
    found: list[float | None] = []
    position, reached = 0, ordered[0][1]
    for share in shares:
        while reached < share * total and position + 1 < len(ordered):
            position += 1
            reached += ordered[position][1]
        found.append(value_of(ordered[position][0]))
    return tuple(found)
