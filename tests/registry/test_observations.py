"""What gateways report of bindings: counts that are exact, percentiles, decay, nothing lost."""

from __future__ import annotations

import asyncio
import math
import random
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from registry.domain.observations import (
    FLOOR_MS,
    HALF_LIFE,
    MOST_MS,
    RELATIVE_ERROR,
    Observation,
    Statistics,
    bucket_of,
    joined,
    percentiles,
    summed,
    value_of,
)
from registry.services.observations import MOST_BINDINGS, MOST_OBSERVATIONS
from store.clock import SECOND
from store.index.transactions import Tx
from tests.support.bindings import BINDINGS, bind, bound, observed, patched, report
from tests.support.builders import Answer, Registry, running_registry


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[Registry]:
    async with running_registry(tmp_path / "data") as running:
        await running.publish("bert", "v1", {"f": b"x"})
        yield running
        await running.check()


async def report_many(registry: Registry, *observations: Any, **headers: str) -> Answer:
    return await registry.send(
        "POST",
        f"{BINDINGS}/observations",
        json={"observations": list(observations)},
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )


def about(value: float) -> Any:
    return pytest.approx(value, rel=RELATIVE_ERROR)


# What is reported is there


async def test_a_report_says_what_counts_and_shows_at_once(registry: Registry) -> None:
    one = await bound(registry)

    answer = await report(
        registry,
        one["id"],
        {"latency_ms": 100, "tokens": 1000, "cost_usd": 0.002},
        {"latency_ms": 100, "tokens": 3000, "cost_usd": 0.004, "count": 98},
        {"success": False, "latency_ms": 30_000},
    )
    found = await observed(registry, one["id"])

    assert answer.status == 200, answer.body
    assert answer.json == {"observations": 3, "requests": 100, "bindings": 1, "unknown": []}
    assert (found["requests"], found["failures"], found["success_rate"]) == (100, 1, 0.99)
    assert found["cost_per_1k"] == pytest.approx(0.0015)
    assert [found[f"latency_{name}_ms"] for name in ("p50", "p95", "p99")] == [about(100)] * 3


async def test_what_nobody_said_is_null(registry: Registry) -> None:
    one = await bound(registry)
    await report(registry, one["id"], {"success": False}, {"tokens": 5}, {"cost_usd": 1})

    found = await observed(registry, one["id"])

    assert found["requests"] == 3
    for name in ("latency_p50_ms", "latency_p95_ms", "latency_p99_ms", "cost_per_1k"):
        assert found[name] is None


async def test_observations_count_one_by_one_as_they_do_together(registry: Registry) -> None:
    single, many = [(await bound(registry, region=region))["id"] for region in ("a", "b")]
    for _ in range(5):
        await report(registry, single, {"latency_ms": 50}, {"latency_ms": 400})
    await report(registry, many, {"latency_ms": 50, "count": 5}, {"latency_ms": 400, "count": 5})

    one, other = await observed(registry, single), await observed(registry, many)

    assert (one["requests"], one["failures"]) == (other["requests"], other["failures"]) == (10, 0)
    for name in ("latency_p50_ms", "latency_p95_ms", "latency_p99_ms"):
        assert one[name] == other[name]


async def test_many_bindings_are_reported_at_once_and_unknown_ones_are_named(
    registry: Registry,
) -> None:
    ids = [(await bound(registry, region=str(number)))["id"] for number in range(3)]
    gone = ids.pop()
    await registry.send("DELETE", f"{BINDINGS}/{gone}")

    answer = await report_many(
        registry,
        {"binding": ids[0], "count": 3},
        {"binding": gone},
        {"binding": ids[1], "success": False},
        {"binding": ids[0], "latency_ms": 7},
        {"binding": "bnd_unknown"},
    )

    assert answer.status == 200, answer.body
    assert answer.json == {
        "observations": 3,
        "requests": 5,
        "bindings": 2,
        "unknown": [gone, "bnd_unknown"],
    }
    assert (await observed(registry, ids[0]))["requests"] == 4
    assert (await observed(registry, ids[1]))["failures"] == 1
    assert await registry.count("binding_statistics") == 2


async def test_a_report_on_one_that_is_not_there_is_refused(registry: Registry) -> None:
    answer = await report(registry, "bnd_01kagz6y5n8s3v0c4t7x9b2d1f")

    assert (answer.status, answer.code) == (404, "binding_not_found")
    assert await registry.count("observation_marks") == 0


async def test_inactive_bindings_take_reports_that_come_late(registry: Registry) -> None:
    one = await bound(registry, status="inactive")

    assert (await report(registry, one["id"])).status == 200


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"latency_ms": -1}, "latency_ms"),
        ({"latency_ms": "NaN"}, "latency_ms"),
        ({"latency_ms": 1e9}, "latency_ms"),
        ({"cost_usd": -0.01}, "cost_usd"),
        ({"cost_usd": 1e13}, "cost_usd"),
        ({"tokens": -1}, "tokens"),
        ({"tokens": 1.5}, "tokens"),
        ({"count": 0}, "count"),
        ({"count": 10**10}, "count"),
        ({"success": "yes"}, "success"),
        ({"latency": 1}, "latency"),
    ],
)
async def test_what_cannot_have_been_observed_is_refused_whole(
    registry: Registry, said: dict[str, Any], field: str
) -> None:
    one = await bound(registry)

    alone = await report(registry, one["id"], {"count": 5}, said)
    among = await report_many(registry, {"binding": one["id"], **said})

    assert (alone.status, among.status) == (400, 400)
    assert alone.json["errors"][0]["field"] == f"observations[1].{field}"
    assert among.json["errors"][0]["field"] == f"observations[0].{field}"
    assert await observed(registry, one["id"]) is None


@pytest.mark.parametrize("text", [b"NaN", b"Infinity", b"-Infinity", b"1e999"])
async def test_numbers_that_are_none_are_no_json(registry: Registry, text: bytes) -> None:
    one = await bound(registry)

    answer = await registry.send(
        "POST",
        f"{BINDINGS}/{one['id']}/observations",
        data=b'{"observations": [{"latency_ms": ' + text + b"}]}",
        headers={"Content-Type": "application/json"},
    )

    assert answer.status == 400
    assert await observed(registry, one["id"]) is None


async def test_reports_are_of_a_bounded_size(registry: Registry) -> None:
    one = await bound(registry)

    none = await report_many(registry)
    many = await report(registry, one["id"], *({} for _ in range(MOST_OBSERVATIONS + 1)))
    wide = await report_many(registry, *({"binding": f"b{n}"} for n in range(MOST_BINDINGS + 1)))

    assert [answer.status for answer in (none, many, wide)] == [400, 400, 400]
    assert wide.json["errors"][0]["field"] == "observations"


# Nothing lost, nothing twice


async def test_fifty_reporters_at_one_binding_lose_nothing(registry: Registry) -> None:
    one, other = [(await bound(registry, region=region))["id"] for region in ("a", "b")]

    async def reporter(number: int) -> list[int]:
        found = []
        for turn in range(4):
            if (number + turn) % 2:
                answer = await report(
                    registry, one, {"latency_ms": number + 1}, {"success": False, "count": 2}
                )
            else:
                answer = await report_many(
                    registry,
                    {"binding": one, "latency_ms": number + 1},
                    {"binding": other},
                    {"binding": one, "success": False, "count": 2},
                )
            found.append(answer.status)
        return found

    statuses = await asyncio.gather(*(reporter(number) for number in range(50)))
    found = await observed(registry, one)

    assert {status for each in statuses for status in each} == {200}
    assert (found["requests"], found["failures"]) == (600, 400)
    assert (await observed(registry, other))["requests"] == 100
    assert found["weight"] == pytest.approx(600, rel=0.01)
    assert await registry.rows("SELECT last FROM observation_marks") == [(200,)]


async def test_reports_share_commits(registry: Registry) -> None:
    """Those that come while a commit is under way go with the next one."""
    one = await bound(registry)
    index = registry.store.index
    before = index.stats.commits
    is_busy, may_end = threading.Event(), threading.Event()

    async def long(tx: Tx) -> None:
        is_busy.set()
        may_end.wait()

    busy = asyncio.create_task(index.run(long))
    try:
        await registry.site.until(is_busy.is_set)
        reports = [asyncio.create_task(report(registry, one["id"])) for _ in range(50)]
        await registry.site.until(lambda: index.queued() == 50)
    finally:
        may_end.set()
    answers = await asyncio.gather(*reports)
    await busy

    assert {answer.status for answer in answers} == {200}
    assert index.stats.commits - before == 2
    assert (await observed(registry, one["id"]))["requests"] == 50


async def test_a_repeated_key_counts_once(registry: Registry) -> None:
    one = await bound(registry)
    sent = [await report(registry, one["id"], Idempotency_Key="a") for _ in range(3)]
    many = [
        await report_many(registry, {"binding": one["id"], "count": 2}, Idempotency_Key="a")
        for _ in range(3)
    ]
    other = await report(registry, one["id"], {"count": 7}, Idempotency_Key="a")

    assert [answer.status for answer in (*sent, *many)] == [200] * 6
    assert [answer.headers.get("Idempotency-Replayed") for answer in sent] == [None, "true", "true"]
    assert sent[0].json == sent[2].json
    assert (other.status, other.code) == (422, "idempotency_key_reused")
    assert (await observed(registry, one["id"]))["requests"] == 3


async def test_a_report_and_the_answer_of_its_key_are_one_commit(registry: Registry) -> None:
    one = await bound(registry)
    stats = registry.store.index.stats
    before = stats.commits

    await report(registry, one["id"], Idempotency_Key="a")
    single = stats.commits - before
    await report_many(registry, {"binding": one["id"]}, Idempotency_Key="a")

    assert (single, stats.commits - before) == (1, 2)


async def test_at_once_a_key_counts_once_too(registry: Registry) -> None:
    one = await bound(registry)

    answers = await asyncio.gather(
        *(report(registry, one["id"], Idempotency_Key="a") for _ in range(10))
    )

    assert {answer.status for answer in answers} <= {200, 409}
    assert (await observed(registry, one["id"]))["requests"] == 1


async def test_reports_are_no_changes_and_not_audited(registry: Registry) -> None:
    one = await bound(registry)
    entries = await registry.count("audit")
    await report(registry, one["id"])

    after = (await registry.get(f"{BINDINGS}/{one['id']}")).json

    assert await registry.count("audit") == entries
    assert {**after, "observed": None} == one


async def test_a_change_keeps_what_was_observed(registry: Registry) -> None:
    one = await bound(registry)
    await report(registry, one["id"])

    after = await patched(registry, f"{BINDINGS}/{one['id']}", status="degraded")

    assert after["observed"]["requests"] == 1
    assert (await bind(registry)).status == 409


async def test_a_report_costs_as_many_statements_however_much_it_holds(registry: Registry) -> None:
    index = registry.store.index
    ids = [(await bound(registry, region=str(number)))["id"] for number in range(20)]
    counts = []
    for some in (ids[:1], ids):
        before = index.statement_count()
        await report_many(registry, *({"binding": id} for id in some for _ in range(5)))
        counts.append(index.statement_count() - before)

    assert counts == [3, 3]


# The arithmetic


def after(observations: list[Observation], *, now: int = 0) -> Statistics:
    return joined(None, summed(observations), now=now)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("share", [0.5, 0.95, 0.99])
def test_percentiles_are_off_by_no_more_than_they_say(seed: int, share: float) -> None:
    generator = random.Random(seed)
    values = sorted(generator.lognormvariate(5, 1.5) for _ in range(2_000))
    found = after([Observation(latency_ms=value) for value in values])

    exact = values[math.ceil(share * len(values)) - 1]
    [estimate] = percentiles(found.latencies, (share,))

    assert estimate is not None
    assert abs(estimate - exact) <= RELATIVE_ERROR * exact * 1.000001


@pytest.mark.parametrize("value", [FLOOR_MS, 0.02, 1, 99.9, 1000, 86_399_999, MOST_MS])
def test_each_latency_is_near_the_value_of_its_bucket(value: float) -> None:
    assert abs(value_of(bucket_of(value)) - value) <= RELATIVE_ERROR * value * 1.000001


def test_no_time_at_all_is_the_least_there_is() -> None:
    assert value_of(bucket_of(0)) <= FLOOR_MS * 1.03


def test_what_was_observed_a_half_life_ago_counts_half() -> None:
    before = after([Observation(success=False, count=100)])
    later = joined(before, summed([Observation(count=50)]), now=HALF_LIFE)

    assert later.success_rate == pytest.approx(0.5)
    assert later.weight == pytest.approx(100)
    assert (later.requests, later.failures) == (150, 100)


def test_latencies_and_costs_decay_alike() -> None:
    slow = Observation(latency_ms=1000, tokens=1000, cost_usd=4, count=100)
    fast = Observation(latency_ms=10, tokens=1000, cost_usd=1, count=100)
    before = after([slow])

    at_once = joined(before, summed([fast]), now=0)
    later = joined(before, summed([fast]), now=5 * HALF_LIFE)

    assert at_once.latency_p95_ms == about(1000)
    assert later.latency_p95_ms == about(10)
    assert at_once.cost_per_1k == pytest.approx(2.5)
    assert later.cost_per_1k == pytest.approx((4 / 32 + 1) / (1 / 32 + 1))


def test_old_latencies_are_forgotten_instead_of_kept_as_dust() -> None:
    before = after([Observation(latency_ms=ms) for ms in range(1, 100)])

    later = joined(before, summed([Observation(success=False)]), now=20 * HALF_LIFE)

    assert later.latencies == {}
    assert later.latency_p50_ms is None
    assert later.requests == 100


def test_a_clock_that_steps_back_decays_nothing_and_forgets_nothing() -> None:
    before = after([Observation(count=10)], now=100 * SECOND)
    later = joined(before, summed([Observation(count=10)]), now=0)

    assert later.weight == 20
    assert later.observed_at == 100 * SECOND


def test_failures_say_nothing_about_latency() -> None:
    found = after([Observation(success=False, latency_ms=1, count=99), Observation(latency_ms=500)])

    assert found.latency_p50_ms == about(500)
