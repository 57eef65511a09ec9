"""How every part is now, since when, and what is said where nobody looks any more."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from registry.domain.principals import LOCAL
from registry.keys import CONDITION
from registry.services.backup_notes import BackupNote, note_backup
from registry.services.health_samples import COMPONENTS, HealthSampler
from registry.services.housekeeping import JobStats
from registry.services.survey import FRESH_SECONDS, Survey
from store.archive import ArchiveStatus
from store.index.archived import ArchiveTotals
from tests.support.builders import Registry
from tests.support.clock import ManualClock
from tests.support.serving import opened, serving

HEALTH = "/api/v1/health"
DAY = 86400


class Seconds:
    """A survey's idea of time, which stands still while it looks."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def nothing(_: float) -> None:
    """No timer waits."""


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def registry(clock: ManualClock) -> AsyncIterator[Registry]:
    async with opened(None, clock=clock) as store, serving(store) as site:
        yield Registry(site)


@pytest.fixture
def seconds() -> Seconds:
    return Seconds()


@pytest.fixture
def sampler(registry: Registry, seconds: Seconds) -> HealthSampler:
    return HealthSampler(
        registry.store,
        registry.site.app[CONDITION],
        keep_days=30,
        survey=Survey(registry.store, seconds=seconds),
        sleep=nothing,
        seconds=lambda: 0.0,
    )


async def told(registry: Registry) -> dict[str, Any]:
    answer = await registry.get(HEALTH)
    assert answer.status == 200, answer.body
    return {**answer.json, **{one["component"]: one for one in answer.json["components"]}}


async def status_of(registry: Registry, sampler: HealthSampler, component: str) -> tuple[str, str]:
    await sampler.sample()
    found = (await told(registry))[component]
    return found["status"], found["detail"]


async def back(registry: Registry, **missing: int) -> None:
    note = BackupNote(kind="backup", number=1, blobs=2, bytes=3, **missing)
    await note_backup(registry.store, LOCAL, note)


async def test_before_the_first_look_nobody_leads(registry: Registry) -> None:
    found = await told(registry)

    assert (found["status"], found["sampled_at"]) == ("failed", None)
    assert found["leader"]["detail"] == "nobody has looked yet"


async def test_every_part_is_told_with_the_worst_of_all(
    registry: Registry, sampler: HealthSampler
) -> None:
    await sampler.sample()
    found = await told(registry)

    assert [one["component"] for one in found["components"]] == sorted(COMPONENTS)
    assert found["status"] == "ok"
    sampler.tasks = {"settle": JobStats(is_failing=True)}
    assert await status_of(registry, sampler, "leader") == ("degraded", "fails: settle")
    assert (await told(registry))["status"] == "degraded"


async def test_since_is_when_it_became_so(
    registry: Registry, sampler: HealthSampler, clock: ManualClock
) -> None:
    moments = []
    for failing in (False, True, False, False):
        clock.advance(60)
        sampler.tasks = {"settle": JobStats(is_failing=failing)}
        await sampler.sample()
        moments.append((await told(registry))["sampled_at"])
    found = await told(registry)

    assert found["leader"]["since"] == moments[2]
    assert found["disk"]["since"] == moments[0]


async def test_a_leader_that_looks_no_more_has_failed(
    registry: Registry, sampler: HealthSampler, clock: ManualClock
) -> None:
    await sampler.sample()
    clock.advance(179)
    assert (await told(registry))["leader"]["status"] == "ok"
    clock.advance(2)
    found = await told(registry)

    assert (found["status"], found["leader"]["detail"]) == ("failed", "nobody has looked since")
    assert found["leader"]["since"] == found["sampled_at"]


async def test_backups_grow_old(
    registry: Registry, sampler: HealthSampler, clock: ManualClock
) -> None:
    assert await status_of(registry, sampler, "backups") == ("ok", "")
    await back(registry)
    clock.advance(7 * DAY)
    assert (await status_of(registry, sampler, "backups"))[0] == "ok"
    clock.advance(1)
    assert (await status_of(registry, sampler, "backups"))[0] == "degraded"
    await back(registry, missing=1)
    assert "damaged" in (await status_of(registry, sampler, "backups"))[1]


async def test_verification_grows_old(
    registry: Registry, sampler: HealthSampler, clock: ManualClock, seconds: Seconds
) -> None:
    await registry.put("/blobs/x", b"x")

    async def status() -> str:
        seconds.now += FRESH_SECONDS
        return (await status_of(registry, sampler, "scrub"))[0]

    clock.advance(90 * DAY)
    assert await status() == "ok"
    clock.advance(1)
    assert await status() == "degraded"
    await registry.store.scrub.run()
    assert await status() == "ok"


async def test_a_backup_that_was_told_of_is_the_last(registry: Registry) -> None:
    told = {"number": 7, "blobs": 20, "bytes": 300, "missing": 1}
    assert (await registry.get("/api/v1/backups")).json == {"last": None}
    made = await registry.send("POST", "/api/v1/backups", json=told)
    await registry.send("POST", "/api/v1/backups", json={**told, "number": 8, "kind": "snapshot"})
    last = (await registry.get("/api/v1/backups")).json["last"]

    assert (made.status, made.json) == (201, last)
    assert {name: last[name] for name in told} == told
    [entry, *_] = (await registry.get("/api/v1/audit?kind=backup")).json["items"]
    assert (entry["action"], entry["after"]["number"]) == ("finish", 8)


async def test_metrics_tell_the_age_of_a_backup(registry: Registry) -> None:
    await back(registry, missing=2)
    text = (await registry.get("/metrics")).body.decode()

    assert "digestry_backup_missing_blobs 2.0" in text


async def test_an_archive_that_cannot_be_read_has_failed(
    registry: Registry, sampler: HealthSampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = ArchiveTotals(blobs=1, bytes=2, stored_bytes=3, spares=0, spare_bytes=0)

    async def status() -> ArchiveStatus:
        return ArchiveStatus("/mnt/cold", held, None, "its disk is not mounted")

    monkeypatch.setattr(registry.store.archive, "status", status)

    assert await status_of(registry, sampler, "archive") == ("failed", "its disk is not mounted")
