"""Collection, scrub and check as operations: through the API, one at a time, across workers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from registry.catalog.operations import OperationRow, keep_operation
from registry.domain.operations import Operation, Progress
from registry.domain.principals import LOCAL
from registry.errors import Conflict, NotFound
from registry.keys import OPERATIONS
from registry.services.operations import Operations
from store.clock import SECOND, boot_id
from store.digest import Digest
from store.index import state
from store.opening import Store
from store.scrub import ScrubReport
from tests.support.serving import Site, opened, serving
from tests.support.storing import damage, lose, put, release, row_of


@pytest.fixture(params=["local", "memory"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """A store that collects at once and as much as there is."""
    root = tmp_path / "data" if request.param == "local" else None
    async with opened(root, grace_seconds=0, max_share=1.0) as store:
        yield store


@pytest.fixture
async def site(store: Store) -> AsyncIterator[Site]:
    async with serving(store) as site:
        yield site


async def ended(site: Site, method: str, path: str, body: Any = None) -> dict[str, Any]:
    """Start an operation and read it until it has ended."""
    started = await site.ask(method, path, json=body) if body else await site.ask(method, path)
    assert started.status == 202, started.body
    assert started.headers["Location"] == started.json["url"]
    while True:
        found = await site.ask("GET", started.json["url"])
        assert found.status == 200
        if found.json["state"] != "running":
            return dict(found.json)
        await asyncio.sleep(0)


async def finished(operations: Operations, operation: Operation) -> Operation:
    while operation.state == "running":
        await asyncio.sleep(0)
        operation = await operations.find(LOCAL, operation.id)
    return operation


class Held:
    """Scrubs that run until told to end."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        self.may_end = asyncio.Event()
        self.runs = 0
        monkeypatch.setattr(store.scrub, "run", self._run)

    async def _run(self, **_: Any) -> ScrubReport:
        self.runs += 1
        await self.may_end.wait()
        return ScrubReport(0, 0, [])


@pytest.fixture
def held(store: Store, monkeypatch: pytest.MonkeyPatch) -> Held:
    return Held(store, monkeypatch)


# Through the API.


async def test_a_collection_is_planned_applied_and_undone(site: Site, store: Store) -> None:
    kept = await put(store, b"kept")
    loose = await put(store, b"loose")
    await release(store, loose)

    plan = (await ended(site, "POST", "/api/v1/gc/plan"))["report"]
    assert (plan["blobs"], plan["bytes"], plan["refused"]) == (1, 5, None)
    assert [blob["digest"] for blob in plan["largest"]] == [str(loose)]

    applied = (await ended(site, "POST", "/api/v1/gc/apply", {"plan": plan["plan"]}))["report"]
    assert (applied["collected"], applied["bytes"]) == (1, 5)
    assert await row_of(store, loose) is None
    assert await row_of(store, kept) is not None

    status = (await site.ask("GET", "/api/v1/gc")).json
    assert status["quarantine"]["collected"] == 1
    assert status["operation"]["verb"] == "apply"

    undone = await ended(site, "POST", "/api/v1/gc/undo", {"collection": applied["id"]})
    assert undone["report"]["returned"] == 1
    assert await row_of(store, loose) is not None


async def test_a_plan_takes_nothing_that_it_did_not_show(site: Site, store: Store) -> None:
    shown = await put(store, b"shown")
    await release(store, shown)
    plan = (await ended(site, "POST", "/api/v1/gc/plan"))["report"]["plan"]
    later = await put(store, b"later")
    await release(store, later)

    await ended(site, "POST", "/api/v1/gc/apply", {"plan": plan})

    assert await row_of(store, shown) is None
    assert await row_of(store, later) is not None


async def test_a_plan_is_applied_once(site: Site, store: Store) -> None:
    plan = (await ended(site, "POST", "/api/v1/gc/plan"))["report"]["plan"]
    await ended(site, "POST", "/api/v1/gc/apply", {"plan": plan})

    again = await site.ask("POST", "/api/v1/gc/apply", json={"plan": plan})
    assert again.status == 404


async def test_applying_without_a_plan_makes_one(site: Site, store: Store) -> None:
    await put(store, b"kept")
    await release(store, await put(store, b"loose"))

    assert (await ended(site, "POST", "/api/v1/gc/apply"))["report"]["collected"] == 1


async def test_purging_waits_for_the_undo_window_unless_told_not_to(
    site: Site, store: Store
) -> None:
    await put(store, b"kept")
    await release(store, await put(store, b"loose"))
    await ended(site, "POST", "/api/v1/gc/apply")

    assert (await ended(site, "POST", "/api/v1/gc/purge"))["report"]["purged"] == 0
    body = {"everything": True}
    assert (await ended(site, "POST", "/api/v1/gc/purge", body))["report"]["purged"] == 1


async def test_undoing_what_is_not_there_is_a_finding(site: Site) -> None:
    undone = await ended(site, "POST", "/api/v1/gc/undo", {"collection": "col_none"})

    assert (undone["state"], undone["findings"]) == ("succeeded", 1)


async def test_a_refused_collection_says_so_until_it_is_confirmed(site: Site, store: Store) -> None:
    await put(store, b"kept")
    await release(store, await put(store, b"loose"))

    async def turn_off(tx: Any) -> None:
        await state.put_state(tx, "collection_off", "the index was restored")

    await store.index.run(turn_off)

    plan = await ended(site, "POST", "/api/v1/gc/plan")
    assert plan["findings"] == 1
    applied = await ended(site, "POST", "/api/v1/gc/apply")
    assert applied["state"] == "failed"
    assert applied["failure"]["is_refusal"] is True
    assert "restored" in applied["failure"]["reason"]

    assert (await site.ask("POST", "/api/v1/gc/confirm")).status == 204
    assert (await ended(site, "POST", "/api/v1/gc/apply"))["state"] == "succeeded"


async def test_a_scrub_reports_damage_and_progress(site: Site, store: Store) -> None:
    digest = await put(store, b"right")
    await put(store, b"also right")
    await damage(store, digest, b"wrong")

    found = await ended(site, "POST", "/api/v1/scrub")

    assert found["findings"] == 1
    assert found["report"]["findings"][0]["digest"] == str(digest)
    assert found["progress"] == {"done": 15, "total": 15, "unit": "bytes", "stage": ""}
    assert (await site.ask("GET", "/api/v1/scrub")).json["operation"]["id"] == found["id"]


async def test_a_scrub_of_named_blobs_reads_only_those(site: Site, store: Store) -> None:
    named = await put(store, b"named")
    await put(store, b"not named")
    body = {"digests": [str(named)], "rate_bytes_per_second": 1 << 30}

    assert (await ended(site, "POST", "/api/v1/scrub", body))["report"]["blobs"] == 1


async def test_a_scrub_of_an_unknown_blob_changes_nothing_and_says_so(site: Site) -> None:
    found = await ended(site, "POST", "/api/v1/scrub", {"digests": ["sha256:" + "a" * 64]})

    assert found["state"] == "failed"
    assert found["failure"]["is_refusal"] is True


async def test_fsck_finds_and_repairs(site: Site, store: Store) -> None:
    digest = await put(store, b"lost")
    await lose(store, digest)

    found = await ended(site, "POST", "/api/v1/fsck")
    assert (found["verb"], found["report"]["findings"][0]["action"]) == ("check", "none")
    repaired = await ended(site, "POST", "/api/v1/fsck", {"repair": True})
    assert repaired["report"]["findings"][0]["action"] == "marked damaged"
    assert (await site.ask("GET", "/api/v1/fsck")).json["operation"]["id"] == repaired["id"]


async def test_nothing_ran_yet_is_null(site: Site) -> None:
    assert (await site.ask("GET", "/api/v1/scrub")).json == {"operation": None}


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/api/v1/scrub", {"rate_bytes_per_second": 0}, 400),
        ("/api/v1/scrub", {"digests": ["sha256:xyz"]}, 400),
        ("/api/v1/scrub", {"unknown": 1}, 400),
        ("/api/v1/gc/undo", {"x": 1}, 400),
        ("/api/v1/gc/apply", {"plan": "col_none"}, 404),
    ],
)
async def test_bad_questions_start_nothing(site: Site, path: str, body: Any, status: int) -> None:
    answer = await site.ask("POST", path, json=body)

    assert answer.status == status, answer.body
    assert answer.headers["Content-Type"] == "application/problem+json"


async def test_an_unknown_operation_is_not_found(site: Site) -> None:
    assert (await site.ask("GET", "/api/v1/operations/opn_none")).status == 404
    assert (await site.ask("DELETE", "/api/v1/operations/opn_none")).status == 404


async def test_times_are_rfc_3339(site: Site) -> None:
    found = await ended(site, "POST", "/api/v1/fsck")

    assert found["started_at"].endswith("Z")
    assert found["started_at"] <= found["ended_at"]
    assert found["actor"] == LOCAL.id


# One at a time.


async def test_a_second_scrub_is_refused_while_one_runs(site: Site, held: Held) -> None:
    first = await site.ask("POST", "/api/v1/scrub")
    second = await site.ask("POST", "/api/v1/scrub")

    assert second.status == 409
    assert second.code == "operation_running"
    assert second.json["operation"] == first.json["id"]
    assert (await ended(site, "POST", "/api/v1/fsck"))["state"] == "succeeded"


async def test_collection_and_check_exclude_each_other(
    site: Site, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_end = asyncio.Event()

    async def run(**_: Any) -> Any:
        await may_end.wait()

    monkeypatch.setattr(store.fsck, "run", run)
    assert (await site.ask("POST", "/api/v1/fsck")).status == 202

    assert (await site.ask("POST", "/api/v1/gc/apply")).status == 409


async def test_another_worker_sees_it_and_cannot_start_a_second(store: Store, held: Held) -> None:
    here, there = Operations(store), Operations(store)
    running = await here.scrub(LOCAL)

    assert (await there.find(LOCAL, running.id)).state == "running"
    with pytest.raises(Conflict):
        await there.scrub(LOCAL)
    held.may_end.set()
    assert (await finished(there, running)).state == "succeeded"


async def test_an_operation_is_cancelled_from_another_worker(store: Store, held: Held) -> None:
    here, there = Operations(store, beat_seconds=0.001), Operations(store)
    running = await here.scrub(LOCAL)
    await there.cancel(LOCAL, running.id)

    assert (await finished(there, running)).state == "cancelled"


async def test_cancelling_what_has_ended_changes_nothing(store: Store, held: Held) -> None:
    operations = Operations(store)
    held.may_end.set()
    done = await finished(operations, await operations.scrub(LOCAL))

    assert await operations.cancel(LOCAL, done.id) == done


async def test_what_a_stopping_server_cuts_short_is_noted(store: Store, held: Held) -> None:
    operations = Operations(store)
    running = await operations.scrub(LOCAL)
    await operations.close()

    assert (await Operations(store).find(LOCAL, running.id)).state == "interrupted"


async def test_what_ended_as_the_server_stops_is_noted_as_it_ended(
    store: Store, held: Held
) -> None:
    is_busy, may_go_on = threading.Event(), threading.Event()

    async def long(tx: Any) -> None:
        is_busy.set()
        may_go_on.wait()

    operations = Operations(store, beat_seconds=3600.0)
    running = await operations.scrub(LOCAL)
    task = operations._running[running.id].task
    assert task is not None
    busy = asyncio.create_task(store.index.run(long))
    try:
        while not is_busy.is_set():
            await asyncio.sleep(0.001)
        held.may_end.set()
        while not store.index.queued():  # until how it ended waits to be kept
            await asyncio.sleep(0.001)
        closing = asyncio.create_task(operations.close())
        while not task.cancelling():
            await asyncio.sleep(0)
    finally:
        may_go_on.set()
    await asyncio.gather(busy, closing)

    assert (await Operations(store).find(LOCAL, running.id)).state == "succeeded"


async def leave_behind(store: Store, holder: str, *, silent_seconds: int) -> Operation:
    """The row of an operation whose worker is gone."""
    now = store.clock()
    operation = Operation(
        id="opn_left", group="scrub", verb="run", state="running", actor="x", started_at=now
    )
    row = OperationRow(operation, holder, now - silent_seconds * SECOND)

    async def unit(tx: Any) -> None:
        await keep_operation(tx, row)

    await store.index.run(unit)
    return operation


async def test_an_operation_of_a_dead_process_is_interrupted_at_once(
    store: Store, held: Held
) -> None:
    left = await leave_behind(store, f"{boot_id()}:{2**22 + 1}:x", silent_seconds=0)
    operations = Operations(store)

    assert (await operations.find(LOCAL, left.id)).state == "interrupted"
    held.may_end.set()
    assert (await finished(operations, await operations.scrub(LOCAL))).state == "succeeded"
    with pytest.raises(NotFound):
        await operations.find(LOCAL, left.id)


@pytest.mark.parametrize(("seconds", "state"), [(5, "running"), (60, "interrupted")])
async def test_an_operation_elsewhere_is_given_up_when_it_is_silent(
    store: Store, seconds: int, state: str
) -> None:
    left = await leave_behind(store, "another-boot:1:x", silent_seconds=seconds)

    assert (await Operations(store).find(LOCAL, left.id)).state == state


async def test_an_operation_that_was_taken_over_stops(store: Store, held: Held) -> None:
    operations = Operations(store, beat_seconds=0.001)
    running = await operations.scrub(LOCAL)
    await leave_behind(store, "another-boot:1:x", silent_seconds=0)
    while operations._running:
        await asyncio.sleep(0)

    assert held.runs == 1
    latest = await operations.latest(LOCAL, "scrub")
    assert latest is not None
    assert latest.id != running.id


async def test_an_unexpected_error_is_told_without_its_inside(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run(**_: Any) -> Any:
        raise KeyError("secret inside")

    monkeypatch.setattr(store.scrub, "run", run)
    operations = Operations(store)
    done = await finished(operations, await operations.scrub(LOCAL))

    assert done.state == "failed"
    assert done.failure is not None
    assert "secret" not in done.failure.reason


async def test_progress_of_a_running_operation_can_be_read(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = asyncio.Event()

    async def run(*, report: Any, **_: Any) -> Any:
        from store.scrub import ScrubProgress

        report(ScrubProgress(1, 10, 2, 20))
        seen.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(store.scrub, "run", run)
    operations = Operations(store)
    running = await operations.scrub(LOCAL)
    await seen.wait()

    assert (await operations.find(LOCAL, running.id)).progress == Progress(10, 20, "bytes")
    await operations.close()


async def test_the_application_has_one_and_stops_it(store: Store, held: Held) -> None:
    async with serving(store) as site:
        operations = site.app[OPERATIONS]
        await operations.scrub(LOCAL, only=[Digest.parse("sha256:" + "a" * 64)])

    assert operations._running == {}
