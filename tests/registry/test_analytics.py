"""Analytics over HTTP: models and teams at a glance, what is old, what there is in all."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from registry.catalog import health_samples, retraining, summaries
from registry.catalog.migrations import CHAINS
from registry.domain.names import ModelName, parse_model_name
from registry.domain.principals import LOCAL, Principal
from registry.domain.references import ModelId
from registry.errors import NotFound
from registry.keys import DOWNLOADS
from registry.services import growth
from registry.services import summaries as service
from registry.services.growth import Growth
from store.clock import SECOND
from store.index.transactions import Statement, Tx
from store.opening import StoreSettings, open_store
from tests.support.builders import Registry
from tests.support.clock import ManualClock
from tests.support.fresh import initialize_like_new
from tests.support.plans import plan_of
from tests.support.serving import serving

ANALYTICS = "/api/v1/analytics"
DAY = 86400
STRANGER = Principal("usr_stranger", "stranger")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def registry(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Registry]:
    root = tmp_path / "data"
    root.mkdir()
    await asyncio.to_thread(initialize_like_new, root, CHAINS)
    choices = StoreSettings(root=root, reserve_bytes=0, reserve_share=0.0, chains=CHAINS)
    store = await open_store(choices, clock=clock)
    try:
        async with serving(store) as site:
            running = Registry(site)
            yield running
            await running.check()
    finally:
        await store.close()


async def api(registry: Registry, method: str, path: str, content: Any = None) -> Any:
    answer = await registry.send(method, f"/api/v1/{path}", json=content)
    assert answer.status < 300, answer.body
    return answer.json if answer.body else None


async def run(registry: Registry, model: str, **said: Any) -> Any:
    return await api(registry, "POST", "runs", {"model": model, **said})


async def write(registry: Registry, sql: str) -> None:
    statement = Statement(text(sql))

    async def unit(tx: Tx) -> None:
        await tx.run(statement)

    await registry.store.index.run(unit)


async def deployed(registry: Registry, version: Any, name: str, status: str) -> None:
    """A deployment as its own service writes it; that one is tested elsewhere."""
    await write(
        registry,
        "INSERT OR IGNORE INTO environments (id, name, folded, type, region, kubernetes_namespace, "
        "description, config, active, created_at, created_by, updated_at) "
        "VALUES ('env_1', 'prod', 'prod', 'production', '', '', '', '{}', 1, 1, 'u', 1)",
    )
    end = "1, 'u'" if status == "terminated" else "NULL, NULL"
    model = (await api(registry, "GET", f"models/{version['model'].replace('/', '~')}"))["id"]
    await write(
        registry,
        "INSERT INTO deployments (id, name, folded, environment, model, version, status, "
        "endpoint, replicas, deployed_at, deployed_by, created_at, created_by, updated_at, "
        "terminated_at, terminated_by) "
        f"VALUES ('dep_{name}', '{name}', '{name}', 'env_1', '{model}', '{version['id']}', "
        f"'{status}', '', 1, 1, 'u', 1, 'u', 1, {end})",
    )


async def status(registry: Registry, model: str, version: str, status: str) -> None:
    await api(registry, "PUT", f"models/{model}/versions/{version}/status", {"status": status})


async def summary(registry: Registry, model: str, query: str = "") -> Any:
    answer = await registry.get(f"{ANALYTICS}/models/{model}{query}")
    assert answer.status == 200, answer.body
    return answer.json


# A model


async def test_a_model_of_which_nothing_is_known_has_zeros(registry: Registry) -> None:
    made = await api(registry, "POST", "models", {"name": "nlp/empty"})

    assert await summary(registry, "nlp~empty") == {
        "model": made["id"],
        "name": "nlp/empty",
        "versions": {"total": 0, "by_status": {}},
        "latest": None,
        "production": [],
        "runs": {"total": 0, "by_status": {}},
        "gpu_hours": 0.0,
        "cost_usd": 0.0,
        "deployments": {"total": 0, "by_status": {}, "active": 0},
        "downloads": {"days": 30, "requests": 0, "bytes": 0},
        "size": 0,
    }


async def test_a_model_is_summed_up(registry: Registry) -> None:
    files = {"weights": b"w" * 1000, "config": b"1"}
    first = await registry.publish("nlp~bert", "1.0.0", files)
    await registry.publish("nlp~bert", "1.1.0", {**files, "config": b"22"})
    await registry.publish("nlp~bert", "1.2.0", {"weights": b"gone" * 1000})
    await api(registry, "DELETE", "models/nlp~bert/versions/1.2.0")
    await status(registry, "nlp~bert", "1.0.0", "production")
    await run(registry, "nlp/bert", status="succeeded", gpu_hours=2, cost_usd=5.5)
    await run(registry, "nlp/bert", status="failed", gpu_hours=0.5)
    gone = await run(registry, "nlp/bert", status="succeeded", gpu_hours=100, cost_usd=100)
    await api(registry, "DELETE", f"runs/{gone['id']}")
    await deployed(registry, first, "a", "healthy")
    await deployed(registry, first, "b", "terminated")
    # What another model has counts nowhere.
    other = await registry.publish("nlp~other", "1.0.0", {"weights": b"o" * 50})
    await status(registry, "nlp~other", "1.0.0", "production")
    await run(registry, "nlp/other", status="succeeded", gpu_hours=7, cost_usd=7)
    await deployed(registry, other, "c", "healthy")

    found = await summary(registry, "nlp~bert")

    assert found["versions"] == {"total": 2, "by_status": {"production": 1, "registered": 1}}
    assert (found["latest"]["number"], found["latest"]["label"]) == (2, "1.1.0")
    assert found["production"] == [{"id": first["id"], "number": 1, "label": "1.0.0"}]
    assert found["runs"] == {"total": 2, "by_status": {"failed": 1, "succeeded": 1}}
    assert (found["gpu_hours"], found["cost_usd"]) == (2.5, 5.5)
    by_status = {"healthy": 1, "terminated": 1}
    assert found["deployments"] == {"total": 2, "by_status": by_status, "active": 1}
    assert found["size"] == 1000 + 1 + 2
    await write(registry, "DELETE FROM deployments")


async def test_production_versions_are_the_newest_first(registry: Registry) -> None:
    for number in (1, 2, 3):
        await registry.publish("m", f"{number}.0.0", {"f": b"%d" % number})
        await status(registry, "m", str(number), "production")

    found = await summary(registry, "m")

    assert [one["number"] for one in found["production"]] == [3, 2, 1]


async def test_latest_is_what_the_alias_points_at(registry: Registry) -> None:
    await registry.publish("m", "1.0.0", {"f": b"1"})
    await registry.publish("m", "2.0.0", {"f": b"2"})
    await api(registry, "PUT", "models/m/aliases/latest", {"version": "1.0.0"})

    assert (await summary(registry, "m"))["latest"]["label"] == "1.0.0"
    await api(registry, "DELETE", "models/m/aliases/latest")
    assert (await summary(registry, "m"))["latest"] is None


async def test_downloads_are_those_of_the_last_days(registry: Registry, clock: ManualClock) -> None:
    await registry.publish("m", "1.0.0", {"f": b"12345"})
    assert (await registry.get("/models/m/1.0.0/f")).status == 200
    await registry.site.app[DOWNLOADS].flush()

    found = await summary(registry, "m")
    assert found["downloads"] == {"days": 30, "requests": 1, "bytes": 5}
    clock.advance(31 * DAY)
    assert (await summary(registry, "m"))["downloads"]["requests"] == 0
    found = await summary(registry, "m", "?downloads_days=60")
    assert found["downloads"] == {"days": 60, "requests": 1, "bytes": 5}


async def test_a_model_is_found_by_id_former_name_and_in_any_case(registry: Registry) -> None:
    made = await api(registry, "POST", "models", {"name": "nlp/Bert"})
    await api(registry, "POST", "models/nlp~Bert/rename", {"name": "nlp/tickets"})

    for reference in (made["id"], "nlp~bert", "NLP~Tickets"):
        assert (await summary(registry, reference))["name"] == "nlp/tickets"


@pytest.mark.parametrize("reference", ["nlp~gone", "nlp~missing", "mdl_" + "0" * 26])
async def test_a_deleted_or_missing_model_is_404(registry: Registry, reference: str) -> None:
    await api(registry, "POST", "models", {"name": "nlp/gone"})
    await api(registry, "DELETE", "models/nlp~gone")

    answer = await registry.get(f"{ANALYTICS}/models/{reference}")

    assert (answer.status, answer.code) == (404, "model_not_found")


BAD_QUESTIONS = (
    ("models/m?downloads_days=0", "downloads_days"),
    ("models/m?downloads_days=x", "downloads_days"),
    ("models/m?since=1", "since"),
    ("models/a:b", "model"),
    ("retraining?days=-1", "days"),
    ("retraining?days=36501", "days"),
    ("retraining?after=nonsense", "after"),
    ("teams?limit=0", "limit"),
    ("teams?after=nonsense", "after"),
    ("health?every=0", "every"),
    ("health?every=86401", "every"),
    ("health?since=1969-12-31T23:59:59Z", "since"),
    ("growth?until=yesterday", "until"),
)


async def test_bad_questions_name_the_field(registry: Registry) -> None:
    for path, field in BAD_QUESTIONS:
        answer = await registry.get(f"{ANALYTICS}/{path}")
        assert answer.status == 400, path
        assert [error["field"] for error in answer.json["errors"]] == [field]


def count(registry: Registry) -> int:
    found: int = registry.store.index.statement_count()
    return found


async def test_a_summary_is_one_statement_whatever_names_the_model(registry: Registry) -> None:
    made = await api(registry, "POST", "models", {"name": "nlp/old"})
    await api(registry, "POST", "models/nlp~old/rename", {"name": "nlp/new"})
    for reference in (made["id"], "nlp/new", "nlp/old"):
        before = count(registry)
        parsed = parse_model_name(reference) if "/" in reference else ModelId(reference)
        await service.model_summary(registry.store, LOCAL, parsed, downloads_days=30)
        assert count(registry) - before == 1


async def test_teams_and_what_is_old_are_one_statement(registry: Registry) -> None:
    for name in ("vision", "speech"):
        await api(registry, "POST", "teams", {"name": name})
    before = count(registry)
    await service.team_summaries(registry.store, LOCAL, after="", limit=10)
    await service.team_summary(registry.store, LOCAL, "vision")
    await service.models_to_retrain(registry.store, LOCAL, days=90, after=None, limit=10)

    assert count(registry) - before == 3


async def test_a_summary_searches_indexes_of_its_model(registry: Registry) -> None:
    for is_named in (False, True):
        plan = await plan_of(registry.store.index, summaries._model(is_named=is_named))
        assert not scanned(plan), plan
        for index in ("versions_of_model_by_status", "runs_by_model", "downloads"):
            assert any(index in step for step in plan), plan


def scanned(plan: list[str]) -> list[str]:
    """Tables that are read from end to end; made-up ones are not tables."""
    tables = (
        "models|versions|runs|deployments|downloads|tree_files|aliases|redirects|teams"
        "|health_samples"
    )
    return [step for step in plan if re.match(rf"SCAN ({tables})\b", step)]


async def test_teams_search_the_indexes_of_their_models(registry: Registry) -> None:
    for by, restriction in product(("page", "id", "folded"), ("", "few", "seen")):
        plan = await plan_of(registry.store.index, summaries._teams(by, restriction))
        assert not scanned(plan), plan
        assert any("models_by_team" in step for step in plan) or restriction
        for table in ("versions", "runs", "deployments"):
            [step] = [step for step in plan if re.match(rf"SEARCH {table} USING", step)]
            assert "(model=?" in step, plan


# Teams


async def test_a_team_is_what_its_living_models_are(registry: Registry) -> None:
    team = await api(registry, "POST", "teams", {"name": "vision"})
    await api(registry, "POST", "teams", {"name": "Acoustics"})
    for name, active in (("cats", True), ("dogs", False), ("gone", True), ("nobodys", True)):
        wish = {"name": name, "active": active}
        if name != "nobodys":
            wish["team"] = "vision"
        await api(registry, "POST", "models", wish)
        version = await registry.publish(name, "1.0.0", {"f": name.encode()})
        await registry.publish(name, "1.1.0", {"f": name.encode() * 2})
        await status(registry, name, "1.1.0", "production")
        await run(registry, name, status="succeeded", gpu_hours=1, cost_usd=2)
        await deployed(registry, version, name, "healthy")
        await deployed(registry, version, f"{name}-old", "terminated")
    await api(registry, "DELETE", "models/dogs/versions/1.1.0")
    await write(registry, "UPDATE models SET deleted_at = 1, deleted_by = 'u' WHERE name = 'gone'")

    found = (await registry.get(f"{ANALYTICS}/teams/VISION")).json
    by_id = (await registry.get(f"{ANALYTICS}/teams/{team['id']}")).json
    listed = (await registry.get(f"{ANALYTICS}/teams")).json["items"]

    assert found == by_id == listed[1]
    assert found == {
        "team": team["id"],
        "name": "vision",
        "models": 2,
        "active_models": 1,
        "versions": 3,
        "production_versions": 1,
        "runs": 2,
        "gpu_hours": 2.0,
        "cost_usd": 4.0,
        "active_deployments": 2,
    }
    assert (listed[0]["name"], listed[0]["models"], listed[0]["cost_usd"]) == ("Acoustics", 0, 0.0)
    await write(registry, "DELETE FROM deployments")


async def test_teams_are_listed_a_page_at_a_time(registry: Registry) -> None:
    for name in ("d", "B", "a", "c"):
        await api(registry, "POST", "teams", {"name": f"team-{name}"})
    await api(registry, "DELETE", "teams/team-c")

    first = await registry.get(f"{ANALYTICS}/teams?limit=2")
    second = await registry.get(f"{ANALYTICS}/teams?limit=2&after={first.json['next']}")

    assert [one["name"] for one in first.json["items"]] == ["team-a", "team-B"]
    assert 'rel="next"' in first.headers["Link"]
    assert [one["name"] for one in second.json["items"]] == ["team-d"]
    assert second.json["next"] is None


@pytest.mark.parametrize("reference", ["gone", "missing", "tea_" + "0" * 26])
async def test_a_deleted_or_missing_team_is_404(registry: Registry, reference: str) -> None:
    await api(registry, "POST", "teams", {"name": "gone"})
    await api(registry, "DELETE", "teams/gone")

    answer = await registry.get(f"{ANALYTICS}/teams/{reference}")

    assert (answer.status, answer.code) == (404, "team_not_found")


# What is old


async def old(registry: Registry, query: str = "") -> list[Any]:
    answer = await registry.get(f"{ANALYTICS}/retraining{query}")
    assert answer.status == 200, answer.body
    items: list[Any] = answer.json["items"]
    return items


async def test_a_model_is_old_by_its_newest_run_or_version(
    registry: Registry, clock: ManualClock
) -> None:
    version = await registry.publish("published", "1.0.0", {"f": b"1"})
    clock.advance(1)
    await registry.publish("trained", "1.0.0", {"f": b"2"})
    await registry.publish("failing", "1.0.0", {"f": b"3"})
    await registry.publish("republished", "1.0.0", {"f": b"4"})
    clock.advance(40 * DAY)
    run_made = await run(registry, "trained", status="succeeded")
    await run(registry, "failing", status="failed")
    await registry.publish("republished", "1.1.0", {"f": b"5"})
    clock.advance(55 * DAY)

    found = await old(registry)
    half = await old(registry, "?days=50")

    assert [one["name"] for one in found] == ["published", "failing"]
    assert found[0]["measured_from"] == "version"
    assert found[0]["version"] == {"id": version["id"], "number": 1, "label": "1.0.0"}
    assert (found[0]["age_days"], found[0]["run"]) == (95.0, None)
    assert [one["name"] for one in half[:2]] == ["published", "failing"]
    by_name = {one["name"]: one for one in half}
    assert by_name["trained"]["measured_from"] == "run"
    assert by_name["trained"]["run"] == run_made["id"]
    assert by_name["trained"]["age_days"] == 55.0
    assert by_name["trained"]["version"] is None
    assert by_name["republished"]["version"]["number"] == 2
    assert len(half) == 4
    assert await old(registry, "?days=96") == []


async def test_what_is_not_alive_makes_nothing_young(
    registry: Registry, clock: ManualClock
) -> None:
    await registry.publish("m", "1.0.0", {"f": b"1"})
    clock.advance(100 * DAY)
    await registry.publish("m", "1.1.0", {"f": b"2"})
    made = await run(registry, "m", status="succeeded")
    assert await old(registry) == []
    await api(registry, "DELETE", "models/m/versions/1.1.0")
    assert await old(registry) == []
    await api(registry, "DELETE", f"runs/{made['id']}")

    assert [one["name"] for one in await old(registry)] == ["m"]


async def test_only_active_models_that_were_ever_trained_are_old(
    registry: Registry, clock: ManualClock
) -> None:
    for name, said in (
        ("inactive", {"active": False}),
        ("data", {"kind": "dataset"}),
        ("thing", {"kind": "generic"}),
        ("deleted", {}),
        ("listed", {}),
    ):
        await api(registry, "POST", "models", {"name": name, **said})
        await registry.publish(name, "1.0.0", {"f": name.encode()})
    await api(registry, "POST", "models", {"name": "untrained"})
    await run(registry, "untrained", status="failed")
    await api(registry, "DELETE", "models/deleted")
    clock.advance(91 * DAY)

    assert [one["name"] for one in await old(registry)] == ["listed"]


async def test_a_run_told_of_later_dates_a_model_without_versions(
    registry: Registry, clock: ManualClock
) -> None:
    await api(registry, "POST", "teams", {"name": "vision"})
    await api(registry, "POST", "models", {"name": "m", "team": "vision"})
    await run(
        registry,
        "m",
        status="succeeded",
        started_at="2020-01-01T00:00:00Z",
        ended_at="2020-01-02T00:00:00Z",
    )

    [found] = await old(registry)

    assert found["trained_at"] == "2020-01-01T00:00:00.000000Z"
    assert (found["measured_from"], found["team_name"]) == ("run", "vision")


async def test_the_oldest_come_first_a_page_at_a_time(
    registry: Registry, clock: ManualClock
) -> None:
    for name in ("c", "a", "b"):
        await registry.publish(name, "1.0.0", {"f": name.encode()})
        clock.advance(DAY)
    clock.advance(100 * DAY)
    names, query = [], "?limit=1"
    for _ in range(3):
        answer = await registry.get(f"{ANALYTICS}/retraining{query}")
        names += [one["name"] for one in answer.json["items"]]
        query = f"?limit=1&after={answer.json['next']}"

    assert names == ["c", "a", "b"]
    assert answer.json["next"] is None


async def test_what_is_old_is_found_by_indexes(registry: Registry) -> None:
    for has_place in (False, True):
        plan = await plan_of(registry.store.index, retraining._page(has_place, ""))
        assert not scanned(plan), plan
        assert any("COVERING INDEX models_by_training" in step for step in plan), plan
        assert len([step for step in plan if step.startswith("SEARCH models USING P")]) == 1
        for index in ("versions_of_model_by_creation", "runs_by_model"):
            assert any(f"{index} (model=?" in step for step in plan), plan
        of_runs = [step for step in plan if " runs " in step]
        assert all("runs_by_model (model=?" in step for step in of_runs), plan


# Who sees it


async def test_a_stranger_sees_nothing_of_it(registry: Registry, clock: ManualClock) -> None:
    await api(registry, "POST", "teams", {"name": "vision"})
    await api(registry, "POST", "models", {"name": "m", "team": "vision"})
    await registry.publish("m", "1.0.0", {"f": b"1"})
    await run(registry, "m", status="succeeded", cost_usd=9)
    clock.advance(100 * DAY)
    store = registry.store

    named = parse_model_name("m")
    assert isinstance(named, ModelName)
    with pytest.raises(NotFound):
        await service.model_summary(store, STRANGER, named, downloads_days=30)
    [team] = await service.team_summaries(store, STRANGER, after="", limit=10)
    assert (team.models, team.versions, team.runs, team.cost_usd) == (0, 0, 0, 0.0)
    seen = await service.models_to_retrain(store, STRANGER, days=90, after=None, limit=10)
    assert seen.items == []
    seen = await service.models_to_retrain(store, LOCAL, days=90, after=None, limit=10)
    assert len(seen.items) == 1


# Everything


async def in_all(registry: Registry) -> Any:
    answer = await registry.get(f"{ANALYTICS}/registry")
    assert answer.status == 200, answer.body
    return answer.json


async def test_bytes_are_counted_once_and_as_often_as_they_are_named(registry: Registry) -> None:
    await registry.publish("a", "1.0.0", {"shared": b"s" * 100, "own": b"1"})
    await registry.publish("a", "1.1.0", {"shared": b"s" * 100, "own": b"22"})
    await registry.publish("b", "1.0.0", {"shared": b"s" * 100, "again": b"s" * 100})
    await registry.put("/blobs/pinned", b"p" * 1000)

    found = await in_all(registry)

    assert found["blobs"] == 4
    assert found["bytes"] == {
        "stored": 1103,
        "in_versions": 103,
        "referenced": 403,
        "saved": 300,
    }


async def test_what_is_damaged_lies_nowhere(registry: Registry) -> None:
    await registry.publish("a", "1.0.0", {"f": b"12345"})
    await registry.publish("a", "1.1.0", {"f": b"123"})
    await write(registry, "UPDATE blobs SET state = 'damaged' WHERE size = 5")

    found = await in_all(registry)

    assert found["blobs"] == 1
    assert found["bytes"] == {"stored": 3, "in_versions": 3, "referenced": 3, "saved": 0}
    await write(registry, "UPDATE blobs SET state = 'present'")


async def test_a_deleted_version_holds_its_bytes_until_it_is_purged(registry: Registry) -> None:
    await registry.publish("a", "1.0.0", {"f": b"12345"})
    await registry.publish("a", "1.1.0", {"f": b"123"})
    await api(registry, "DELETE", "models/a/versions/1.0.0")
    assert (await in_all(registry))["bytes"]["referenced"] == 8
    await api(registry, "POST", "models/a/versions/1/purge")

    found = await in_all(registry)

    assert found["bytes"]["referenced"] == 3
    assert found["bytes"]["stored"] == 8
    assert found["versions"] == 1


async def test_everything_is_counted(registry: Registry) -> None:
    await api(registry, "POST", "models", {"name": "nlp/data", "kind": "dataset"})
    version = await registry.publish("nlp~bert", "1.0.0", {"f": b"1"})
    await api(registry, "POST", "models", {"name": "gone"})
    await api(registry, "DELETE", "models/gone")
    await api(registry, "POST", "teams", {"name": "vision"})
    await api(registry, "POST", "experiments", {"name": "lr"})
    await run(registry, "nlp/bert", status="failed")
    await run(registry, "nlp/bert")
    await api(registry, "PUT", "models/nlp~bert/tags/language", {"value": "en"})
    await deployed(registry, version, "a", "healthy")
    edge = {"relation": "trained-on", "parent": {"uri": "hf:squad"}}
    await api(registry, "POST", "models/nlp~bert/versions/1/lineage", edge)

    found = await in_all(registry)

    assert found["models_by_kind"] == {"dataset": 1, "model": 1}
    assert found["runs_by_status"] == {"failed": 1, "running": 1}
    assert found["deployments_by_status"] == {"healthy": 1}
    wanted = {
        "models": 2,
        "versions": 1,
        "runs": 2,
        "experiments": 1,
        "lineage": 1,
        "tags": 1,
        "teams": 1,
        "namespaces": 2,
        "environments": 1,
        "deployments": 1,
        "bindings": 0,
        "reviews": 0,
    }
    assert {name: found[name] for name in wanted} == wanted
    assert found["aliases"] >= 1
    await write(registry, "DELETE FROM deployments")


async def test_pages_of_blobs_add_up(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(7):
        await registry.publish("a", f"{number}.0.0", {"f": b"x" * (number + 1)})
    whole = (await in_all(registry))["bytes"]
    monkeypatch.setattr(growth, "PAGE_BLOBS", 2)

    assert (await in_all(registry))["bytes"] == whole
    assert whole["stored"] == 28


async def test_what_took_long_to_count_serves_for_long(registry: Registry) -> None:
    now = [0.0]
    took = [1.0]

    def seconds() -> float:
        now[0] += took[0] / 2
        return now[0]

    counted = Growth(registry.store, seconds=seconds)
    first = await counted.standing()
    took[0] = 0.0
    now[0] += 40
    assert await counted.standing() is first
    now[0] += 70
    assert await counted.standing() is not first
    took[0] = 0.09
    quick = await counted.standing()
    assert await counted.standing() is not quick


async def test_growth_is_the_last_count_of_each_day(registry: Registry, clock: ManualClock) -> None:
    counted = Growth(registry.store)
    begin = clock.now - clock.now % (DAY * SECOND)
    clock.now = begin
    await counted.sample()
    for number in (1, 2, 3):
        clock.now = begin + number * 20 * 3600 * SECOND
        await registry.publish("m", f"{number}.0.0", {"f": b"x" * 10, "own": b"1" * number})
        await counted.sample()

    found = (await registry.get(f"{ANALYTICS}/growth")).json["items"]
    first = (await registry.get(f"{ANALYTICS}/growth?limit=2")).json
    rest = (await registry.get(f"{ANALYTICS}/growth?limit=2&after={first['next']}")).json

    assert [one["versions"] for one in found] == [3, 2, 1]
    assert [one["bytes"]["saved"] for one in found] == [20, 10, 0]
    assert found[0]["at"] > found[0]["day"] > found[1]["day"]
    assert first["items"] + rest["items"] == found
    assert rest["next"] is None
    since = found[1]["day"]
    some = await registry.get(f"{ANALYTICS}/growth?since={since}T00:00:00Z")
    assert [one["versions"] for one in some.json["items"]] == [3, 2]
    until = await registry.get(f"{ANALYTICS}/growth?until={since}T00:00:00Z")
    assert [one["versions"] for one in until.json["items"]] == [1]


async def test_growth_is_no_sample_of_health(registry: Registry) -> None:
    await Growth(registry.store).sample()

    assert (await registry.get(f"{ANALYTICS}/health")).json["items"] == []
    plan = await plan_of(registry.store.index, health_samples._newest(True))
    assert not scanned(plan), plan


async def test_of_today_the_present_count_is_told(registry: Registry, clock: ManualClock) -> None:
    await registry.publish("m", "1.0.0", {"f": b"1"})
    await Growth(registry.store).sample()
    await registry.publish("m", "1.1.0", {"f": b"2"})

    [today] = (await registry.get(f"{ANALYTICS}/growth")).json["items"]
    assert today["versions"] == 2
    clock.advance(2 * DAY)
    newest, first = (await registry.get(f"{ANALYTICS}/growth?limit=2")).json["items"]
    assert (newest["versions"], first["versions"]) == (2, 1)
    past = await registry.get(f"{ANALYTICS}/growth?until={newest['day']}T00:00:00Z")
    assert past.json["items"] == [first]
