"""What runs is not purged; what ran goes with its version or its model, and nothing dangles."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from registry.catalog import deployment_purges
from registry.catalog.deployment_purges import (
    _AFTER_VERSION,
    _OF_MODEL,
    _OF_VERSION,
    forget_some_deployments,
)
from registry.catalog.versions import find_version_by_id, set_deleted
from store.index.transactions import Statement, Tx
from tests.support.builders import Answer, Registry, running_registry
from tests.support.deploying import (
    DEPLOYMENTS,
    deploy,
    deployed,
    events,
    make_environment,
    publish,
    report,
    verb,
)
from tests.support.plans import plan_of

VERSIONS = "/api/v1/models/bert/versions"


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[Registry]:
    async with running_registry(tmp_path / "data") as running:
        yield running
        assert await running.rows("PRAGMA foreign_key_check") == []
        await running.check()


async def purge_version(registry: Registry, number: int) -> Answer:
    """Delete and purge a version; the answer of the purge."""
    await registry.send("DELETE", f"{VERSIONS}/{number}.0.0")
    return await registry.send("POST", f"{VERSIONS}/{number}/purge")


async def purge_model(registry: Registry, one: Any) -> Answer:
    await registry.send("DELETE", f"/api/v1/models/{one['model']}")
    return await registry.send("POST", f"/api/v1/models/{one['model']}/purge")


async def test_a_version_that_runs_is_neither_deleted_nor_purged(registry: Registry) -> None:
    await publish(registry, 2)
    await make_environment(registry)
    one = await deployed(registry, "1")

    kept = await registry.send("DELETE", f"{VERSIONS}/1.0.0")
    still = await registry.get(f"{VERSIONS}/1")
    await registry.store.index.run(_delete_as_before)
    refused = await registry.send("POST", f"{VERSIONS}/1/purge")
    await registry.send("POST", f"{VERSIONS}/1/restore")
    await verb(registry, one, "terminate")
    purged = await purge_version(registry, 1)

    for answer in (kept, refused):
        assert (answer.status, answer.code) == (409, "version_deployed")
        assert answer.json["deployments"] == [
            {"id": one["id"], "name": "chat", "status": "deploying"}
        ]
    assert still.status == 200
    assert purged.status == 200


async def _delete_as_before(tx: Tx) -> None:
    """A version that ran was deleted by an earlier server, which allowed it."""
    for row in await tx.all(Statement(text("SELECT model, id FROM versions WHERE number = 1"))):
        version = await find_version_by_id(tx, *row)
        assert version is not None
        await set_deleted(tx, version, by="usr_local")


async def test_a_version_that_ran_elsewhere_before_is_deleted(registry: Registry) -> None:
    await publish(registry, 2)
    await make_environment(registry)
    one = await deployed(registry, "1")
    await verb(registry, one, "deploy", version="2")

    assert (await registry.send("DELETE", f"{VERSIONS}/1.0.0")).status == 204


async def test_what_ended_with_a_purged_version_goes_with_its_events(registry: Registry) -> None:
    await publish(registry, 2)
    await make_environment(registry)
    over = await deployed(registry, "1", name="over")
    await report(registry, over, "healthy")
    await verb(registry, over, "terminate")
    moved = await deployed(registry, "1", name="moved")
    await verb(registry, moved, "deploy", version="2")
    await verb(registry, moved, "terminate")

    await purge_version(registry, 1)

    assert (await registry.get(f"{DEPLOYMENTS}/{over['id']}")).status == 404
    rows = await registry.rows("SELECT DISTINCT deployment FROM deployment_events")
    assert [tuple(row) for row in rows] == [(moved["id"],)]
    assert [event["action"] for event in await events(registry, moved)] == [
        "deploy",
        "deploy",
        "terminate",
    ]
    assert (await events(registry, moved))[0]["to_version"]["label"] == "1.0.0"


async def test_a_purged_version_is_stepped_over_by_rollbacks(registry: Registry) -> None:
    await publish(registry, 4)
    await make_environment(registry)
    one = await deployed(registry, "1")
    for version in ("2", "3"):
        await verb(registry, one, "deploy", version=version)
    tag = (await registry.get(f"{DEPLOYMENTS}/{one['id']}")).headers["ETag"]

    purged = await purge_version(registry, 2)
    between = await registry.get(f"{DEPLOYMENTS}/{one['id']}")
    [second] = (await registry.get(DEPLOYMENTS)).json["items"]
    back = await verb(registry, one, "rollback")

    assert purged.status == 200
    assert between.headers["ETag"] != tag
    assert between.json["previous_version"]["label"] == "1.0.0"
    assert second["previous_version"] == between.json["previous_version"]
    assert back.json["version"]["label"] == "1.0.0"
    assert back.json["previous_version"] is None


async def test_a_purge_of_all_that_ran_before_leaves_nothing_to_go_back_to(
    registry: Registry,
) -> None:
    await publish(registry, 2)
    await make_environment(registry)
    one = await deployed(registry, "1")
    await verb(registry, one, "deploy", version="2")
    await purge_version(registry, 1)

    answer = await verb(registry, one, "rollback")

    assert (answer.status, answer.code) == (409, "deployment_history_ends")
    assert (await registry.get(f"{DEPLOYMENTS}/{one['id']}")).json["previous_version"] is None


async def test_what_runs_is_never_what_a_rollback_goes_to(registry: Registry) -> None:
    await publish(registry, 2)
    await make_environment(registry)
    one = await deployed(registry, "1")
    for version in ("2", "1"):
        await verb(registry, one, "deploy", version=version)
    await purge_version(registry, 2)

    answer = await verb(registry, one, "rollback")

    assert (await registry.get(f"{DEPLOYMENTS}/{one['id']}")).json["previous_version"] is None
    assert (answer.status, answer.code) == (409, "deployment_history_ends")


async def test_a_rollback_goes_where_the_deployment_says(registry: Registry) -> None:
    """Although the very files bring a purged version back, what was said meanwhile holds."""
    await publish(registry, 3)
    await make_environment(registry)
    one = await deployed(registry, "1")
    for version in ("2", "3"):
        await verb(registry, one, "deploy", version=version)
    await purge_version(registry, 2)
    again = await registry.publish("bert", "2.0.0", {"f": b"bert 2"})

    said = (await registry.get(f"{DEPLOYMENTS}/{one['id']}")).json["previous_version"]
    back = await verb(registry, one, "rollback")

    assert again["number"] == 2
    assert said["label"] == back.json["version"]["label"] == "1.0.0"


async def test_a_version_that_came_back_is_left_alone(registry: Registry) -> None:
    """Registering the very files brings a purged version back; a late step must not take more."""
    await publish(registry, 1)
    await make_environment(registry)
    one = await deployed(registry, "1")
    await verb(registry, one, "terminate")
    version = one["version"]["id"]

    async def unit(tx: Tx) -> bool:
        return await forget_some_deployments(tx, version)

    assert await registry.store.index.run(unit) is False
    assert await registry.count("deployments") == 1


@pytest.mark.parametrize(
    ("path", "code", "kind"),
    [
        ("/api/v1/models/bert", "model_deployed", "model"),
        (f"{VERSIONS}/1.0.0", "version_deployed", "version"),
    ],
    ids=["model", "version"],
)
async def test_what_runs_is_deleted_only_by_who_may_say_why(
    registry: Registry, path: str, code: str, kind: str
) -> None:
    await publish(registry, 1)
    await make_environment(registry)
    one = await deployed(registry, "1")

    refused = await registry.send("DELETE", path)
    overridden = await registry.send("DELETE", path, headers={"Digestry-Override": "an outage"})

    assert (refused.status, refused.code) == (409, code)
    assert [found["id"] for found in refused.json["deployments"]] == [one["id"]]
    assert overridden.status == 204
    [entry] = (await registry.get("/api/v1/audit?action=override")).json["items"]
    assert (entry["kind"], entry["reason"]) == (kind, "an outage")
    assert [found["id"] for found in entry["after"]["deployments"]] == [one["id"]]
    assert (await registry.get(f"{DEPLOYMENTS}/{one['id']}")).status == 200


async def test_a_model_that_runs_is_not_purged(registry: Registry) -> None:
    await publish(registry, 2)
    await publish(registry, 1, "gpt")
    await make_environment(registry)
    one = await deployed(registry, "1")
    await verb(registry, one, "deploy", version="2")
    over = await deployed(registry, "1", name="over")
    await verb(registry, over, "terminate")
    other = await deployed(registry, "1", model="gpt", name="other")

    why = {"Digestry-Override": "it was never ours"}
    await registry.send("DELETE", f"/api/v1/models/{one['model']}", headers=why)
    refused = await registry.send("POST", f"/api/v1/models/{one['model']}/purge", headers=why)
    seen = await registry.get(f"{DEPLOYMENTS}/{one['id']}")
    rolled = await verb(registry, one, "rollback")
    ended = await verb(registry, one, "terminate")
    purged = await purge_model(registry, one)

    assert (refused.status, refused.code) == (409, "model_deployed")
    assert [found["id"] for found in refused.json["deployments"]] == [one["id"]]
    assert (rolled.status, rolled.code) == (404, "model_not_found")
    assert (seen.status, ended.status, purged.status) == (200, 200, 204)
    assert await registry.count("versions") == 1
    assert [tuple(row) for row in await registry.rows("SELECT id FROM deployments")] == [
        (other["id"],)
    ]
    assert await registry.count("deployment_events") == 1


async def test_many_events_go_in_bounded_steps(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deployment_purges, "AT_ONCE", 3)
    await publish(registry, 2)
    await make_environment(registry)
    for name in ("a", "b", "c", "d"):
        one = await deployed(registry, "1", name=name)
        for replicas in range(2, 5):
            await verb(registry, one, "scale", replicas=replicas)
        await verb(registry, one, "terminate")
    for name in ("e", "f", "g", "h"):
        one = await deployed(registry, "1", name=name)
        await verb(registry, one, "deploy", version="2")

    purged = await purge_version(registry, 1)

    assert purged.status == 200
    assert await registry.count("deployments") == 4
    assert await registry.rows("SELECT 1 FROM deployments WHERE previous_version NOT NULL") == []


async def test_deploying_and_purging_at_once_leaves_one_of_the_two(registry: Registry) -> None:
    await publish(registry, 1)
    await make_environment(registry)
    one = await deployed(registry, "1", name="first")
    await verb(registry, one, "terminate")

    await asyncio.gather(
        deploy(registry), purge_version(registry, 1), deploy(registry, name="later")
    )

    running = await registry.rows("SELECT id FROM deployments WHERE terminated_at IS NULL")
    [(purged,)] = await registry.rows("SELECT purged_at FROM versions")
    assert (purged is None) == bool(running)


async def test_steps_find_what_goes_by_an_index(registry: Registry) -> None:
    for statement in (_OF_MODEL, _OF_VERSION, _AFTER_VERSION):
        [step] = await plan_of(registry.store.index, statement)
        assert step.startswith("SEARCH deployments USING COVERING INDEX")
