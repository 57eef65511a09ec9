"""Holds through HTTP: taken, renewed, released, lapsed; purging waits for them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from store import holds
from store.opening import Store
from tests.support.clock import ManualClock
from tests.support.serving import Site, opened, serving
from tests.support.storing import put, release


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=["local", "memory"])
async def store(
    request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock
) -> AsyncIterator[Store]:
    root = tmp_path / "data" if request.param == "local" else None
    async with opened(root, clock=clock, grace_seconds=0, max_share=1.0) as store:
        yield store


@pytest.fixture
async def site(store: Store) -> AsyncIterator[Site]:
    async with serving(store) as site:
        yield site


async def take(site: Site, **body: object) -> str:
    answer = await site.ask("POST", "/api/v1/holds", json={"reason": "a copy", **body})
    assert answer.status == 201, answer.body
    assert answer.headers["Location"] == f"/api/v1/holds/{answer.json['id']}"
    return str(answer.json["id"])


async def test_a_hold_keeps_quarantine_until_it_is_released(site: Site, store: Store) -> None:
    await put(store, b"kept")
    await release(store, await put(store, b"loose"))
    await store.collector.apply(await store.collector.plan())
    hold = await take(site)

    assert (await store.collector.purge(everything=True)).purged == 0
    assert (await site.ask("DELETE", f"/api/v1/holds/{hold}")).status == 204
    assert (await site.ask("DELETE", f"/api/v1/holds/{hold}")).status == 204
    assert (await store.collector.purge(everything=True)).purged == 1


async def test_a_renewed_hold_lasts_and_a_lapsed_one_stays_lapsed(
    site: Site, clock: ManualClock
) -> None:
    hold = await take(site, seconds=60)
    clock.advance(59)
    renewed = await site.ask("POST", f"/api/v1/holds/{hold}/renew", json={"seconds": 100})
    clock.advance(99)
    listed = (await site.ask("GET", "/api/v1/holds")).json["items"]
    clock.advance(1)
    lapsed = await site.ask("POST", f"/api/v1/holds/{hold}/renew")

    once = {"Idempotency-Key": "k"}
    again = await site.ask("POST", f"/api/v1/holds/{hold}/renew", headers=once)

    assert (again.status, again.code) == (404, "not_found")
    assert listed == [renewed.json]
    assert listed[0]["reason"] == "a copy"
    assert (lapsed.status, lapsed.code) == (404, "not_found")
    assert (await site.ask("GET", "/api/v1/holds")).json == {"items": []}


async def test_taking_and_releasing_are_in_the_audit_log(site: Site) -> None:
    hold = await take(site)
    await site.ask("POST", f"/api/v1/holds/{hold}/renew")
    await site.ask("DELETE", f"/api/v1/holds/{hold}")
    entries = (await site.ask("GET", "/api/v1/audit?kind=hold")).json["items"]

    assert [(one["action"], one["entity"]) for one in entries] == [
        ("delete", hold),
        ("create", hold),
    ]


async def test_holds_are_bounded_in_number_and_time(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holds, "MOST_HOLDS", 1)
    await take(site)
    full = await site.ask("POST", "/api/v1/holds", json={"reason": "another"})
    long = await site.ask("POST", "/api/v1/holds", json={"reason": "long", "seconds": 86401})

    assert (full.status, full.code) == (409, "too_many_holds")
    assert long.status == 400


async def test_taking_one_is_repeated_safely(site: Site) -> None:
    asked = {"json": {"reason": "a copy"}, "headers": {"Idempotency-Key": "k"}}
    first = await site.ask("POST", "/api/v1/holds", **asked)  # type: ignore[arg-type]  # options
    again = await site.ask("POST", "/api/v1/holds", **asked)  # type: ignore[arg-type]  # options

    assert first.json == again.json
    assert len((await site.ask("GET", "/api/v1/holds")).json["items"]) == 1
