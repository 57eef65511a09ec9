"""Samples of health: what the leader sees and keeps, what is thinned, what is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from registry.catalog import health_samples as rows
from registry.catalog.health_samples import Sample, Status, put_samples
from registry.catalog.migrations import CHAINS
from registry.cli.worker import housekeeping
from registry.config import Config, HealthConfig, StoreConfig
from registry.keys import CONDITION, SEALS
from registry.services import health_history
from registry.services import health_samples as module
from registry.services.growth import Growth
from registry.services.health_samples import COMPONENTS, HealthSampler
from store.batches import Reserve
from store.clock import SECOND
from store.errors import Unavailable
from store.gc import COLLECTION_OFF
from store.index import state
from store.index.transactions import Statement, Tx
from store.opening import StoreSettings, open_store
from tests.support.builders import Registry
from tests.support.clock import ManualClock
from tests.support.fresh import initialize_like_new
from tests.support.plans import plan_of
from tests.support.serving import serving

HEALTH = "/api/v1/analytics/health"
CONFIG = Config(store=StoreConfig(reserve_bytes=0, reserve_share=0.0))  # any disk has room
MINUTE, HOUR, DAY = 60 * SECOND, 3600 * SECOND, 86400 * SECOND


class Time:
    """What passes while timers run: they are as late as a test says."""

    def __init__(self) -> None:
        self.now = 0.0
        self.late = 0.0

    async def sleep(self, seconds: float) -> None:
        self.now += seconds + self.late

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> ManualClock:
    clock = ManualClock()
    clock.now -= clock.now % DAY
    return clock


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
async def registry(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Registry]:
    root = tmp_path / "data"
    root.mkdir()
    await asyncio.to_thread(initialize_like_new, root, CHAINS)
    choices = StoreSettings(root=root, reserve_bytes=0, reserve_share=0.0, chains=CHAINS)
    store = await open_store(choices, clock=clock)
    try:
        async with serving(store, CONFIG) as site:
            yield Registry(site)
    finally:
        await store.close()


@pytest.fixture
def sampler(registry: Registry, time: Time) -> HealthSampler:
    condition = registry.site.app[CONDITION]
    return HealthSampler(registry.store, condition, keep_days=30, sleep=time.sleep, seconds=time)


async def told(registry: Registry, query: str = "") -> list[Any]:
    answer = await registry.get(HEALTH + query)
    assert answer.status == 200, answer.body
    items: list[Any] = answer.json["items"]
    return items


async def seen(registry: Registry, sampler: HealthSampler, component: str) -> tuple[str, str]:
    await sampler.sample()
    [found, *_] = await told(registry, f"?component={component}")
    return found["status"], found["detail"]


async def kept(registry: Registry) -> list[tuple[int, str, str]]:
    return [
        tuple(row)
        for row in await registry.rows(
            "SELECT time, component, status FROM health_samples ORDER BY time, component"
        )
    ]


async def keep(registry: Registry, *samples: tuple[int, str, Status]) -> None:
    made = [Sample(time, name, status, status, {"n": time % 97}) for time, name, status in samples]
    await registry.store.index.run(lambda tx: put_samples(tx, made))


async def write(registry: Registry, sql: str) -> None:
    statement = Statement(text(sql))

    async def unit(tx: Tx) -> None:
        await tx.run(statement)

    await registry.store.index.run(unit)


# Sampling


async def test_a_fresh_registry_is_well_in_every_part(
    registry: Registry, sampler: HealthSampler
) -> None:
    await sampler.sample()

    found = await told(registry)
    assert [one["component"] for one in found] == sorted(COMPONENTS, reverse=True)
    assert {(one["status"], one["detail"], one["samples"]) for one in found} == {("ok", "", 1)}
    assert len({one["time"] for one in found}) == 1
    numbers = {one["component"]: one["numbers"] for one in found}
    assert numbers["disk"]["free_bytes"] > 0
    assert set(numbers["index"]) == {"wal_bytes", "look_up_seconds"}
    assert numbers["uploads"] == {"running": 0, "staged_bytes": 0}
    assert found[0]["highest"] == found[0]["numbers"]


async def test_timers_that_come_late_are_told(
    registry: Registry, sampler: HealthSampler, time: Time, clock: ManualClock
) -> None:
    time.late = 0.5
    assert await seen(registry, sampler, "event-loop") == ("degraded", "a timer came 0.50 s late")
    clock.advance(60)
    time.late = 1.5
    assert await seen(registry, sampler, "event-loop") == ("failed", "a timer came 1.50 s late")


async def test_a_disk_is_degraded_before_it_is_full(
    registry: Registry, sampler: HealthSampler, clock: ManualClock, monkeypatch: Any
) -> None:
    async def free() -> tuple[int, int]:
        return 150, 1000

    monkeypatch.setattr(registry.store.blobs, "free_bytes", free)
    condition = registry.site.app[CONDITION]
    for share, status in ((0.07, "ok"), (0.1, "degraded"), (0.151, "failed")):
        monkeypatch.setattr(condition, "_reserve", Reserve(bytes=0, share=share))
        clock.advance(60)
        assert (await seen(registry, sampler, "disk"))[0] == status


async def test_a_damaged_blob_is_told(registry: Registry, sampler: HealthSampler) -> None:
    await registry.put("/blobs/x", b"x")
    await write(registry, "UPDATE blobs SET state = 'damaged'")

    assert (await seen(registry, sampler, "blobs"))[0] == "degraded"


async def test_collection_that_is_off_says_why(registry: Registry, sampler: HealthSampler) -> None:
    await registry.store.index.run(lambda tx: state.put_state(tx, COLLECTION_OFF, "made anew"))

    assert await seen(registry, sampler, "collection") == ("degraded", "it is off: made anew")


async def test_entries_that_wait_for_a_seal_are_told(
    registry: Registry, sampler: HealthSampler, clock: ManualClock
) -> None:
    await registry.send("POST", "/api/v1/teams", json={"name": "vision"})
    clock.advance(59)
    assert (await seen(registry, sampler, "audit"))[0] == "ok"
    clock.advance(2)
    assert (await seen(registry, sampler, "audit"))[0] == "degraded"
    [found, *_] = await told(registry, "?component=audit")
    assert found["numbers"] == {"unsealed": 1, "lag_seconds": 61.0}
    await registry.site.app[SEALS].seal()
    clock.advance(60)
    assert (await seen(registry, sampler, "audit"))[0] == "ok"


async def test_uploads_that_nobody_removes_are_told(
    registry: Registry, sampler: HealthSampler, clock: ManualClock
) -> None:
    headers = {"Tus-Resumable": "1.0.0", "Upload-Length": "10"}
    assert (await registry.send("POST", "/uploads", headers=headers)).status == 201
    clock.advance(7 * 86400 + 599)
    assert (await seen(registry, sampler, "uploads"))[0] == "ok"
    clock.advance(2)

    assert (await seen(registry, sampler, "uploads"))[0] == "degraded"
    await registry.store.uploads.expire()


async def test_what_cannot_be_looked_at_has_failed_and_the_rest_is_kept(
    registry: Registry, sampler: HealthSampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def look(unit: Any) -> None:
        raise Unavailable("reading the index")

    async def status() -> None:
        raise OSError("gone")

    monkeypatch.setattr(registry.store.index, "look", look)
    monkeypatch.setattr(registry.store.collector, "status", status)
    await sampler.sample()

    found = {one["component"]: one for one in await told(registry)}
    assert found["index"]["status"] == found["collection"]["status"] == "failed"
    assert found["collection"]["detail"] == "gone"
    assert found["disk"]["status"] == "ok"


async def test_deliveries_that_nobody_takes_are_told(
    registry: Registry, sampler: HealthSampler, clock: ManualClock, monkeypatch: Any
) -> None:
    for waiting, status in ((9_999, "ok"), (10_000, "degraded")):

        async def count(tx: Tx, waiting: int = waiting) -> int:
            return waiting

        monkeypatch.setattr(module, "count_waiting", count)
        clock.advance(60)
        assert (await seen(registry, sampler, "webhooks"))[0] == status


async def test_an_index_that_lags_is_degraded(
    registry: Registry, sampler: HealthSampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry.store.index, "wal_bytes", lambda: module.LONG_WAL_BYTES + 1)

    assert (await seen(registry, sampler, "index"))[0] == "degraded"


async def test_the_leader_samples_and_thins_at_the_pace_of_the_settings(
    registry: Registry,
) -> None:
    config = Config(health=HealthConfig(sample_seconds=30))
    keeper = housekeeping(config, registry.store, registry.site.app)
    jobs = {job.name: job for job in keeper._jobs}

    assert jobs["sample health"].every_seconds == 30
    for name in ("sample health", "sample growth", "thin health samples"):
        await jobs[name].run()
    assert {name for _, name, _ in await kept(registry)} == {*COMPONENTS, "growth"}


# Thinning


async def test_samples_are_whole_for_days_then_one_an_hour_then_gone(
    registry: Registry, sampler: HealthSampler, clock: ManualClock
) -> None:
    now = clock.now
    fresh = [(now - 7 * DAY + minute * MINUTE, "disk") for minute in (0, 1, 2)]
    old = now - 8 * DAY
    await keep(registry, *((time, name, "ok") for time, name in fresh))
    await keep(
        registry,
        (old, "disk", "ok"),
        (old, "index", "ok"),
        (old + MINUTE, "disk", "ok"),
        (old + 2 * MINUTE, "disk", "failed"),
        (old + 3 * MINUTE, "disk", "failed"),
        (old + 4 * MINUTE, "disk", "ok"),
        (old + HOUR, "disk", "ok"),
        (now - 30 * DAY - 1, "disk", "failed"),
        (now - 30 * DAY, "disk", "ok"),
    )

    assert await sampler.thin() == 4

    assert await kept(registry) == [
        (now - 30 * DAY, "disk", "ok"),
        (old, "disk", "ok"),
        (old, "index", "ok"),
        (old + 2 * MINUTE, "disk", "failed"),
        (old + HOUR, "disk", "ok"),
        *((time, name, "ok") for time, name in fresh),
    ]
    assert await sampler.thin() == 0


async def test_thinning_goes_on_where_it_was_in_bounded_steps(
    registry: Registry,
    sampler: HealthSampler,
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "STEP", 3)
    old = clock.now - 8 * DAY
    times = [old + minute * 10 * MINUTE for minute in range(20)]
    await keep(registry, *((time, name, "ok") for time in times for name in ("disk", "index")))
    await keep(registry, *((clock.now - 40 * DAY + n, "disk", "ok") for n in range(8)))

    assert await sampler.thin() == 8 + 40 - 2 * 4
    assert [time for time, name, _ in await kept(registry) if name == "disk"] == times[::6]
    clock.advance(86400)
    await keep(
        registry, (clock.now - 8 * DAY, "disk", "ok"), (clock.now - 8 * DAY + 1, "disk", "ok")
    )

    assert await sampler.thin() == 1


async def test_growth_is_never_thinned(
    registry: Registry, sampler: HealthSampler, clock: ManualClock
) -> None:
    await Growth(registry.store).sample()
    clock.advance(400 * 86400)

    assert await sampler.thin() == 0
    assert len(await kept(registry)) == 1


# Telling


async def test_samples_come_the_newest_first_by_component_and_time(
    registry: Registry, clock: ManualClock
) -> None:
    await keep(
        registry,
        *((clock.now + n * MINUTE, name, "ok") for n in range(4) for name in ("disk", "index")),
    )

    disk = await told(registry, "?component=disk")
    some = await told(registry, f"?since={disk[2]['time']}&until={disk[0]['time']}")

    assert len(await told(registry)) == 8
    assert [one["time"] for one in disk] == sorted((one["time"] for one in disk), reverse=True)
    assert len(disk) == 4
    assert [(one["time"], one["component"]) for one in some] == [
        (disk[1]["time"], "index"),
        (disk[1]["time"], "disk"),
        (disk[2]["time"], "index"),
        (disk[2]["time"], "disk"),
    ]
    assert await told(registry, "?component=nothing") == []


@pytest.mark.parametrize("query", ["", "&every=120", "&component=disk", "&component=disk&every=7"])
@pytest.mark.parametrize("limit", [1, 3])
async def test_pages_add_up(registry: Registry, clock: ManualClock, query: str, limit: int) -> None:
    await keep(
        registry,
        *((clock.now + n * MINUTE, name, "ok") for n in range(7) for name in ("disk", "index")),
    )
    whole = await told(registry, f"?limit=1000{query}")
    found, after = [], ""
    for _ in range(20):
        answer = (await registry.get(f"{HEALTH}?limit={limit}{query}{after}")).json
        found += answer["items"]
        if answer["next"] is None:
            break
        after = f"&after={answer['next']}"

    assert found == whole
    assert len(whole) > 3


async def test_a_span_is_as_bad_as_its_worst_sample(registry: Registry, clock: ManualClock) -> None:
    begin = clock.now
    made = [
        Sample(begin, "disk", "ok", "", {"free": 9, "total": 10}),
        Sample(begin + 1, "disk", "failed", "first", {"free": 0, "total": 10}),
        Sample(begin + 2, "disk", "failed", "second", {"free": 3}),
        Sample(begin + 3, "disk", "degraded", "better", {"free": 4}),
        Sample(begin + HOUR, "disk", "ok", "", {"free": 8}),
    ]
    await registry.store.index.run(lambda tx: put_samples(tx, made))

    later, found = await told(registry, "?every=3600")

    assert (later["status"], later["samples"]) == ("ok", 1)
    assert found == {
        "time": found["time"],
        "component": "disk",
        "status": "failed",
        "detail": "second",
        "numbers": {"free": 4.0, "total": 10.0},
        "highest": {"free": 9.0, "total": 10.0},
        "samples": 4,
        "by_status": {"degraded": 1, "failed": 2, "ok": 1},
    }


async def test_a_page_of_spans_reads_no_more_than_it_may(
    registry: Registry, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await keep(
        registry,
        *((clock.now + n * MINUTE, name, "ok") for n in range(60) for name in ("disk", "index")),
    )
    whole = await told(registry, "?every=600")
    monkeypatch.setattr(health_history, "MOST_READ", 50)
    found, after, pages = [], "", 0
    while True:
        answer = (await registry.get(f"{HEALTH}?every=600{after}")).json
        found += answer["items"]
        pages += 1
        if answer["next"] is None:
            break
        after = f"&after={answer['next']}"

    assert found == whole
    assert pages >= 3
    assert all(one["samples"] == 10 for one in found)


async def test_a_cursor_of_other_spans_is_refused(registry: Registry, clock: ManualClock) -> None:
    await keep(registry, (clock.now, "disk", "ok"), (clock.now + 1, "disk", "ok"))
    next = (await registry.get(f"{HEALTH}?limit=1")).json["next"]

    answer = await registry.get(f"{HEALTH}?limit=1&every=60&after={next}")

    assert (answer.status, answer.code) == (400, "invalid_cursor")


async def test_samples_are_found_by_indexes(registry: Registry) -> None:
    of_all = await plan_of(registry.store.index, rows._newest(False))
    of_one = await plan_of(registry.store.index, rows._newest(True))
    for plan in (of_all, of_one, await plan_of(registry.store.index, rows._SPANS)):
        assert not any("SCAN" in step or "TEMP B-TREE" in step for step in plan), plan
    assert "health_samples_by_component (component=?" in of_one[0]
    damaged = await plan_of(registry.store.index, rows._UNSETTLED)
    assert "blobs_unsettled" in damaged[0]


async def test_nobody_is_told_who_may_not_operate(registry: Registry) -> None:
    document = (await registry.get("/openapi.json")).json

    for path in ("health", "growth", "registry"):
        assert document["paths"][f"/api/v1/analytics/{path}"]["get"]["x-permission"] == "ops"
