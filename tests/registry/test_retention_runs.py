"""Plans that are no longer true, runs that are cut off, what fails alone, the schedule, size."""

from __future__ import annotations

import asyncio
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from registry.catalog import retention as policies
from registry.catalog import retention_facts as facts
from registry.catalog import retention_plans as plans
from registry.catalog import versions as version_rows
from registry.catalog.models import find_model_by_id
from registry.domain.principals import HOUSEKEEPING, LOCAL
from registry.domain.retention import Judgement
from registry.errors import Conflict
from registry.keys import OPERATIONS
from registry.services import retention_plans, retention_runs
from registry.services.operations import Operations
from registry.services.purges import finish_purges
from registry.services.retention_plans import EVERYTHING, make_plan
from registry.services.retention_runs import (
    Schedule,
    apply_plan,
    expire_plans,
    run_once,
)
from store.index.transactions import Statement, Tx
from tests.support.builders import Registry
from tests.support.clock import ManualClock
from tests.support.deploying import deployed, make_environment, publish, trail, verb
from tests.support.plans import plan_of
from tests.support.retaining import (
    DAY,
    PLANS,
    RETENTION,
    Retained,
    applied,
    done,
    ended,
    lines,
    planned,
    policy,
    retained,
    version,
)

BERT = "/api/v1/models/bert"


@pytest.fixture
async def registry(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Retained]:
    async with retained(tmp_path / "data", clock) as running:
        yield running
        await running.check()


def unheard(done: int, total: int) -> None:
    """Nobody listens to how far it is."""


async def reasons(registry: Registry, plan: Any) -> dict[int, tuple[str, str]]:
    found = await lines(registry, plan)
    return {one["number"]: (one["outcome"], one["reason"]) for one in found if one["outcome"]}


# What changed since the plan


async def test_what_is_needed_since_the_plan_is_skipped_and_says_why(registry: Retained) -> None:
    await publish(registry, 7)
    await make_environment(registry)
    await policy(registry)
    plan = await planned(registry)
    await registry.send("PUT", f"{BERT}/aliases/champion", json={"version": "1.0.0"})
    chat = await deployed(registry, "2.0.0")
    await verb(registry, chat, "deploy", version="3.0.0")
    await registry.send("DELETE", f"{BERT}/versions/4")
    await registry.send("PATCH", f"{BERT}/versions/5", json={"status": "production"})
    changed = {"protect_statuses": ["production"]}
    [one] = (await registry.get(f"{RETENTION}/policies")).json["items"]
    await registry.send("PATCH", f"{RETENTION}/policies/{one['id']}", json=changed)

    report = await applied(registry, plan)

    assert await reasons(registry, plan) == {
        1: ("skipped", "keep: alias (champion)"),
        2: ("skipped", "keep: rollback (chat)"),
        3: ("skipped", "keep: deployment (chat)"),
        4: ("skipped", "it is not there any more"),
        5: ("skipped", "keep: status (production)"),
        6: ("retired", ""),
    }
    assert (report["retired"], report["skipped"], report["left"]) == (1, 5, 0)
    assert (await registry.get(RETENTION)).json["total"]["skipped"] == 5


async def test_an_alias_that_moves_between_plan_and_apply_saves_from_purging(
    registry: Retained,
) -> None:
    await publish(registry, 3)
    await policy(registry)
    await done(registry)
    registry.clock.advance(DAY)
    plan = await planned(registry)
    await registry.send("PUT", f"{BERT}/aliases/champion", json={"version": "1.0.0"})

    report = await applied(registry, plan)

    assert (report["purged"], report["skipped"]) == (1, 1)
    assert (await registry.get("/models/bert/@champion/f")).body == b"bert 1"


async def test_a_version_that_came_back_since_the_plan_is_not_purged(registry: Retained) -> None:
    await publish(registry, 2)
    await policy(registry)
    await done(registry)
    registry.clock.advance(DAY)
    plan = await planned(registry)
    await registry.send("POST", f"{BERT}/versions/1/restore")

    report = await applied(registry, plan)

    assert report["skipped"] == 1
    assert (await reasons(registry, plan))[1][1].startswith("retire: surplus")


async def test_without_its_policy_a_plan_does_nothing(registry: Retained) -> None:
    await publish(registry, 2)
    one = await policy(registry)
    plan = await planned(registry)
    await registry.send("DELETE", f"{RETENTION}/policies/{one['id']}")

    await applied(registry, plan)

    assert await reasons(registry, plan) == {1: ("skipped", "keep: no_policy")}


async def test_what_a_model_lost_is_not_looked_for(registry: Retained) -> None:
    await publish(registry, 2)
    await policy(registry)
    plan = await planned(registry)
    await registry.send("DELETE", BERT)

    assert (await applied(registry, plan))["skipped"] == 1


async def test_racing_moves_and_purges_never_lose_what_an_alias_points_at(
    registry: Retained,
) -> None:
    """The move and the judgement are transactions: whichever is first, the other sees it."""
    await publish(registry, 9)
    await policy(registry)
    await done(registry)
    registry.clock.advance(DAY)
    plan = await planned(registry)

    async def move(number: int) -> tuple[int, int]:
        path = f"{BERT}/aliases/champion-{number}"
        answer = await registry.send("PUT", path, json={"version": f"{number}.0.0"})
        return number, answer.status

    run = asyncio.create_task(applied(registry, plan))
    moved = await asyncio.gather(*(move(number) for number in range(8, 0, -1)))
    report = await run

    saved = [number for number, status in moved if status in (200, 201)]
    for number in saved:
        assert (await registry.get(f"/models/bert/@champion-{number}/f")).status == 200
    assert report["purged"] + len(saved) == 8
    assert report["skipped"] == len(saved)


# Guards


async def test_guards_hold_even_where_the_judgement_is_wrong(
    registry: Retained, monkeypatch: pytest.MonkeyPatch
) -> None:
    await publish(registry, 4)
    await make_environment(registry)
    await policy(registry)
    await done(registry)
    registry.clock.advance(DAY)
    plan = await planned(registry)
    await registry.send("PUT", f"{BERT}/aliases/champion", json={"version": "1.0.0"})
    await deployed(registry, "2.0.0")
    before = await registry.rows("SELECT id FROM audit WHERE action IN ('delete', 'purge')")

    def blind(_: Any, __: Any, versions: Any, ___: int) -> list[Judgement]:
        return [Judgement(version.id, "purge", ()) for version in versions]

    monkeypatch.setattr(retention_runs, "decide", blind)
    started = await registry.send("POST", f"{PLANS}/{plan['id']}/apply")
    operation = await ended(registry, started)

    found = await reasons(registry, plan)
    assert found[1][0] == found[2][0] == "refused"
    assert found[1][1].startswith("version_aliased: ")
    assert found[2][1].startswith("version_deployed: ")
    assert found[3] == ("purged", "")
    assert (operation["findings"], operation["report"]["refused"]) == (2, 2)
    after = await registry.rows("SELECT id FROM audit WHERE action IN ('delete', 'purge')")
    assert len(after) == len(before) + 2, "what is refused leaves no half"
    assert (await version(registry, 2))["deleted_at"] is None


async def test_a_legal_hold_is_a_guard_too(
    registry: Retained, monkeypatch: pytest.MonkeyPatch
) -> None:
    await publish(registry, 2)
    await policy(registry)
    await done(registry)
    registry.clock.advance(DAY)
    plan = await planned(registry)
    await registry.send("PATCH", BERT, json={"legal_hold": True})

    def blind(_: Any, __: Any, versions: Any, ___: int) -> list[Judgement]:
        return [Judgement(version.id, "purge", ()) for version in versions]

    monkeypatch.setattr(retention_runs, "decide", blind)
    await applied(registry, plan)

    assert (await reasons(registry, plan))[1][0] == "refused"
    assert (await version(registry, 1))["deleted_at"] is None


# Cut off


class Died(BaseException):
    """The process ended here."""


def dying_after(commits: int, run: Callable[[Any], Awaitable[Any]]) -> Any:
    """The index's `run`, which lets so many transactions pass and then ends everything."""
    left = [commits]

    async def dying(unit: Any) -> Any:
        if not left[0]:
            raise Died
        left[0] -= 1
        return await run(unit)

    return dying


async def test_a_run_that_is_cut_off_anywhere_goes_on_and_counts_once(registry: Retained) -> None:
    """Killed before each of its transactions in turn, then applied again."""
    store = registry.store
    terms = {"keep_last": 1, "retire_after_days": 0, "purge_after_days": 1}
    await registry.send("POST", f"{RETENTION}/policies", json=terms)
    models, is_whole = 0, False
    while not is_whole:
        model = f"m{models}"
        await publish(registry, 2, model)
        await done(registry, model=model)
        await registry.publish(model, "3.0.0", {"f": model.encode()})
        registry.clock.advance(DAY)
        plan = await planned(registry, model=model)
        assert (plan["retire"], plan["purge"]) == (1, 1)
        apply = partial(apply_plan, store, LOCAL, plan["id"], report=unheard, pause_seconds=0)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(store.index, "run", dying_after(models, store.index.run))
            try:
                summary = await apply()
                is_whole = True
            except Died:
                pass
        if not is_whole:
            summary = await apply()
        assert (summary.retired, summary.purged, summary.left) == (1, 1, 0)
        models += 1
    total = (await registry.get(RETENTION)).json["total"]
    counted = dict(await registry.rows("SELECT action, count(*) FROM audit GROUP BY action"))

    assert models > 8, "fewer transactions than that"
    assert total["purged"] == counted["purge"] == counted["delete"] == models
    assert total["retired"] == counted["retire"] == 2 * models


async def test_what_a_purge_left_is_swept_by_the_leader(
    registry: Retained, monkeypatch: pytest.MonkeyPatch
) -> None:
    await publish(registry, 2)
    metric = {"metrics": [{"name": "f1", "value": 0.5, "split": "test"}]}
    await registry.send("POST", f"{BERT}/versions/1/metrics", json=metric)
    await policy(registry)
    await done(registry)
    registry.clock.advance(DAY)
    plan = await planned(registry)

    async def die(*_: Any) -> None:
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr(retention_runs, "forget_version", die)
        with pytest.raises(Died):
            await apply_plan(registry.store, LOCAL, plan["id"], report=unheard)
    assert (await reasons(registry, plan))[1][0] == "purged"
    assert await registry.count("version_metrics") == 1

    assert await finish_purges(registry.store) == 1
    assert await finish_purges(registry.store) == 0
    await planned(registry)
    cut_off = (await registry.get(f"{PLANS}/{plan['id']}")).json
    assert cut_off["state"] == "ready", "what was cut off can be applied on"
    assert (await reasons(registry, plan))[1][0] == "purged"
    assert await registry.count("version_metrics") == 0


async def test_a_plan_whose_making_was_cut_off_goes_and_is_not_applied(
    registry: Retained, monkeypatch: pytest.MonkeyPatch
) -> None:
    await publish(registry, 2)
    await policy(registry)
    with monkeypatch.context() as patch:
        run = registry.store.index.run
        patch.setattr(registry.store.index, "run", dying_after(3, run))
        with pytest.raises(Died):
            await make_plan(registry.store, LOCAL, EVERYTHING, report=unheard)
    [one] = (await registry.get(PLANS)).json["items"]
    assert one["state"] == "making"
    refused = await registry.send("POST", f"{PLANS}/{one['id']}/apply")
    assert (refused.status, refused.code) == (409, "plan_unfinished")

    plan = await planned(registry)
    assert [each["id"] for each in (await registry.get(PLANS)).json["items"]] == [plan["id"]]
    assert await registry.count("retention_lines") == 2


# One at a time, and alone


async def test_a_second_run_is_refused_while_one_is_at_work(
    registry: Retained, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = asyncio.Event()

    async def slow(*_: Any, **__: Any) -> Any:
        await gate.wait()
        raise Conflict("plan", "of a test", "ends")

    monkeypatch.setattr("registry.services.retention_plans.make_plan", slow)
    first = await registry.send("POST", PLANS, json={})
    second = await registry.send("POST", PLANS, json={})
    gate.set()
    await ended(registry, first)

    assert (second.status, second.code) == (409, "operation_running")


async def test_two_at_work_on_one_plan_do_each_line_once(registry: Retained) -> None:
    """The row of the operation keeps them apart; should it fail to, no harm is done."""
    await publish(registry, 6)
    await policy(registry)
    for outcome in ("retired", "purged"):
        plan = await planned(registry)
        apply = partial(apply_plan, registry.store, LOCAL, plan["id"], report=unheard)
        await asyncio.gather(apply(), apply())

        found = await reasons(registry, plan)
        assert found == dict.fromkeys(range(1, 6), (outcome, ""))
        registry.clock.advance(DAY)
    total = (await registry.get(RETENTION)).json["total"]
    assert (total["retired"], total["purged"], total["skipped"]) == (5, 5, 0)


async def test_a_model_that_fails_stops_no_other(
    registry: Retained, monkeypatch: pytest.MonkeyPatch
) -> None:
    for model in ("bad", "good"):
        await publish(registry, 3, model)
    await policy(registry, model=None)
    plan = await planned(registry, every="yes")
    real = facts.facts_of

    async def failing(tx: Tx, model: Any, *more: Any) -> Any:
        if model.name == "bad":
            raise RuntimeError("of this test")
        return await real(tx, model, *more)

    with monkeypatch.context() as patch:
        patch.setattr(retention_runs, "facts_of", failing)
        started = await registry.send("POST", f"{PLANS}/{plan['id']}/apply")
        operation = await ended(registry, started)

    report = operation["report"]
    assert (report["retired"], report["failed"], report["left"]) == (2, 1, 1)
    assert operation["findings"] == 1
    assert (await version(registry, 1, "bad"))["retired_at"] is None
    rest = await applied(registry, plan)
    assert (rest["retired"], rest["left"]) == (3, 0)


async def test_a_model_that_cannot_be_judged_stops_no_plan(
    registry: Retained, monkeypatch: pytest.MonkeyPatch
) -> None:
    for model in ("bad", "good"):
        await publish(registry, 2, model)
    await policy(registry, model=None)
    real = facts.facts_after

    async def failing(tx: Tx, model: Any, *more: Any) -> Any:
        if model.name == "bad":
            raise RuntimeError("of this test")
        return await real(tx, model, *more)

    monkeypatch.setattr(retention_plans, "facts_after", failing)
    plan = await planned(registry, every="yes")

    assert (plan["models"], plan["models_failed"], plan["retire"]) == (2, 1, 1)


# On schedule


async def tick(registry: Retained, schedule: Schedule) -> int:
    """A tick of the leader, and the end of the run that it may have begun."""
    begun = await schedule.tick()
    async with asyncio.timeout(20):
        while (found := (await registry.get(RETENTION)).json["operation"]) is not None:
            if found["state"] != "running":
                break
            await asyncio.sleep(0.002)
    return begun


async def test_the_leader_runs_it_a_whole_period_after_the_first_policy(
    registry: Retained,
) -> None:
    operations = registry.site.app[OPERATIONS]
    schedule = Schedule(registry.store, 24, partial(operations.run_retention, HOUSEKEEPING))
    [first, *_] = await publish(registry, 3)
    registry.clock.advance(30 * DAY)
    assert await tick(registry, schedule) == 0
    assert (await registry.get(RETENTION)).json["next_run_at"] is None
    await policy(registry)
    assert await tick(registry, schedule) == 0
    told = (await registry.get(RETENTION)).json
    assert (told["every_hours"], told["next_run_at"]) == (24, "2027-02-15T08:00:00.000000Z")
    registry.clock.advance(DAY - 1)
    assert await tick(registry, schedule) == 0
    registry.clock.advance(1)
    assert await tick(registry, schedule) == 1
    assert await tick(registry, schedule) == 0

    [run] = (await registry.get(PLANS)).json["items"]
    assert (run["scheduled"], run["state"], run["retire"]) == (True, "applied", 2)
    [(actor,)] = await registry.rows("SELECT DISTINCT actor FROM audit WHERE action = 'retire'")
    assert (actor, len(await lines(registry, run))) == (HOUSEKEEPING.id, 2)
    registry.clock.advance(DAY)
    assert await tick(registry, schedule) == 1
    assert (await trail(registry, first["id"]))[-1] == "purge"


async def test_the_schedule_begins_anew_with_the_next_policy_and_can_be_off(
    registry: Retained,
) -> None:
    begun = []

    async def start() -> None:
        begun.append(1)

    never, daily = Schedule(registry.store, 0, start), Schedule(registry.store, 24, start)
    await publish(registry, 1)
    one = await policy(registry)
    await daily.tick()
    await registry.send("PATCH", f"{RETENTION}/policies/{one['id']}", json={"active": False})
    registry.clock.advance(9 * DAY)
    await daily.tick()
    await registry.send("PATCH", f"{RETENTION}/policies/{one['id']}", json={"active": True})
    await daily.tick()
    await never.tick()

    assert begun == []
    registry.clock.advance(DAY)
    await never.tick()
    assert begun == []
    await daily.tick()
    assert begun == [1]


async def test_a_run_that_finds_another_at_work_is_begun_later(registry: Retained) -> None:
    begun = []

    async def busy() -> None:
        begun.append(1)
        if len(begun) == 1:
            raise Conflict("operation", "opn_1", "is running", code="operation_running")

    schedule = Schedule(registry.store, 24, busy)
    await publish(registry, 1)
    await policy(registry)
    await schedule.tick()
    registry.clock.advance(DAY)

    assert [await schedule.tick() for _ in range(3)] == [0, 1, 0]


async def test_a_run_with_nothing_to_do_leaves_no_plan(registry: Retained) -> None:
    await publish(registry, 1)
    await policy(registry)

    summary = await run_once(registry.store, HOUSEKEEPING, report=unheard)

    assert (summary.retired, summary.purged) == (0, 0)
    assert await registry.count("retention_plans") == 0


async def test_old_plans_go_and_what_they_did_stays_told(registry: Retained) -> None:
    await publish(registry, 2)
    await policy(registry)
    await done(registry)
    registry.clock.advance(91 * DAY)
    plan = await planned(registry)

    assert await expire_plans(registry.store) == 1
    assert [one["id"] for one in (await registry.get(PLANS)).json["items"]] == [plan["id"]]
    assert (await registry.get(RETENTION)).json["total"]["retired"] == 1


# Size


async def test_facts_of_a_page_take_a_fixed_number_of_statements(registry: Retained) -> None:
    await publish(registry, 12)
    await policy(registry, protect_descendants=True, protect_tags=["gold"])
    [(model_id,)] = await registry.rows("SELECT id FROM models")

    async def unit(tx: Tx) -> list[int]:
        model = await find_model_by_id(tx, model_id)
        assert model is not None
        sent = []
        found = await policies.policy_for(tx, model)
        for limit in (1, 12):
            before = tx.statements  # type: ignore[attr-defined]  # of the driver's transaction
            page = await facts.facts_after(tx, model, found, 0, limit)
            sent.append(tx.statements - before)  # type: ignore[attr-defined]  # as above
            assert len(page.facts) == limit
        return sent

    one, twelve = await registry.store.index.read(unit)
    assert one == twelve == 11


def statements() -> list[tuple[str, Statement]]:
    """What is asked over and over, by name."""
    found = [
        (f"{module.__name__.rpartition('.')[2]}.{name}", value)
        for module in (policies, facts, plans)
        for name, value in vars(module).items()
        if isinstance(value, Statement) and not name.startswith(("_INSERT", "_APPEND", "_ADD"))
    ]
    found += [
        ("models of a namespace", plans._models(("namespace",))),
        ("models", plans._models(())),
        ("lines by action", plans._lines(("action",))),
        ("lines by outcome", plans._lines(("outcome",))),
    ]
    return found


MAY_SCAN = {
    # The table itself is what is wanted, and it is small: a row a policy, a row a day.
    "retention._COUNT": "retention_policies",
    "retention._ANY_ACTIVE": "retention_policies",
    "retention._TOTALS": "retention_days",
}


async def test_every_statement_finds_its_rows_by_an_index(registry: Retained) -> None:
    for name, statement in statements():
        for step in await plan_of(registry.store.index, statement):
            is_table = step.startswith("SCAN") and not step.startswith(
                (
                    "SCAN value",
                    "SCAN json_each",
                    "SCAN drafts",
                    "SCAN uploads",
                    "SCAN anon",
                    "SCAN (",
                )
            )
            is_table = is_table and "VIRTUAL TABLE" not in step and "CONSTANT ROW" not in step
            is_table = is_table and step not in ("SCAN goes", "SCAN files")
            if is_table:
                assert MAY_SCAN.get(name, "nothing") in step, (name, step)
            if name.startswith(("models", "lines")) or name.endswith(("_PAGE", "_WAITING")):
                assert "TEMP B-TREE" not in step, (name, step)


async def test_latest_is_chosen_from_an_index_that_leaves_retired_versions_out(
    registry: Retained,
) -> None:
    plan = await plan_of(registry.store.index, version_rows._CANDIDATES)

    found = [step for step in plan if step.startswith("SEARCH versions")]
    for step, index in zip(found, ("newness", "standing", "newness"), strict=True):
        assert f"INDEX versions_by_{index} (model=? AND standing=?" in step
    assert not any("TEMP B-TREE" in step or "SCAN versions" in step for step in plan)


async def test_a_thousand_versions_are_bounded_in_memory_and_time(
    registry: Retained, monkeypatch: pytest.MonkeyPatch
) -> None:
    wishes = [
        {"model": "bert", "label": f"v{number}", "source": {"uri": f"s3://b/{number}"}}
        for number in range(1000)
    ]
    made = await registry.send("POST", "/api/v1/versions/batch", json={"versions": wishes})
    assert made.status == 201, made.body
    await policy(registry)
    pages: list[int] = []
    real = facts.facts_after

    async def counted(*given: Any) -> Any:
        page = await real(*given)
        pages.append(len(page.facts))
        return page

    monkeypatch.setattr(retention_plans, "facts_after", counted)
    store = registry.store
    begun = time.process_time()
    tracemalloc.start()
    plan = await make_plan(store, LOCAL, EVERYTHING, report=unheard, pause_seconds=0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    summary = await apply_plan(store, LOCAL, plan.id, report=unheard, pause_seconds=0)
    spent = time.process_time() - begun

    assert (plan.retire, summary.retired) == (999, 999)
    assert max(pages) <= 200
    assert peak < 8 << 20, f"{peak / 1e6:.1f} MB"
    assert spent < 20, f"{spent:.1f} s"


async def test_operations_tell_how_far_retention_is(registry: Retained) -> None:
    await publish(registry, 3)
    await policy(registry)
    operations: Operations = registry.site.app[OPERATIONS]
    plan = await planned(registry)
    await applied(registry, plan)
    found = await operations.latest(LOCAL, "retention")

    assert found is not None
    assert found.progress is not None
    assert (found.progress.done, found.progress.total, found.progress.unit) == (2, 2, "versions")
    assert await trail(registry, found.id) == ["apply"]
