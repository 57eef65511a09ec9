"""Where deployments stand and what they run: transitions, other versions, rollbacks, guards."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from registry.domain.deployments import DEPLOYMENT_STATUSES, allowed_after
from registry.domain.principals import LOCAL, Principal
from registry.errors import PolicyViolation
from registry.services import deployment_moves
from registry.services.deployment_moves import DeploymentWish
from registry.services.deployments import roll_back_deployment
from store.index.transactions import Tx
from tests.support.builders import Registry, running_registry
from tests.support.deploying import (
    DEPLOYMENTS,
    deploy,
    deployed,
    events,
    make_environment,
    publish,
    report,
    trail,
    verb,
)
from tests.support.doors import close_beside, doubled
from tests.support.serving import opened, serving

ROOT = Path(__file__).resolve().parents[2]
DESIGN = {
    "deploying": {"healthy", "degraded", "failed", "terminated"},
    "healthy": {"degraded", "deploying", "failed", "terminated"},
    "degraded": {"healthy", "deploying", "failed", "terminated"},
    "failed": {"deploying", "terminated"},
    "terminated": set(),
}
WAY_TO = {
    "deploying": (),
    "healthy": ("healthy",),
    "degraded": ("degraded",),
    "failed": ("failed",),
    "terminated": ("terminated",),
}


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[Registry]:
    async with running_registry(tmp_path / "data") as running:
        yield running
        await running.check()


async def runs(registry: Registry, one: Any) -> tuple[str, str | None]:
    """The labels of what a deployment runs, and of where a rollback goes."""
    found = (await registry.get(f"{DEPLOYMENTS}/{one['id']}")).json
    previous = found["previous_version"]
    return found["version"]["label"], None if previous is None else previous["label"]


# Statuses


def test_the_table_of_statuses_is_that_of_the_design() -> None:
    assert {status: set(allowed_after(status)) for status in DEPLOYMENT_STATUSES} == DESIGN


async def test_every_step_is_allowed_or_refused_as_the_table_says(registry: Registry) -> None:
    await publish(registry, 1)
    await make_environment(registry)

    for start in DEPLOYMENT_STATUSES:
        for status in DEPLOYMENT_STATUSES:
            one = await deployed(registry, name=f"{start} to {status}")
            for step in WAY_TO[start]:
                one = (await report(registry, one, step)).json
            answer = await report(registry, one, status, reason="seen")
            if status == start:
                assert answer.json == one
            elif status in DESIGN[start]:
                assert (answer.status, answer.json["status"]) == (200, status)
            else:
                assert (answer.status, answer.code) == (409, "transition_forbidden")
                assert (answer.json["from"], answer.json["to"]) == (start, status)
                assert set(answer.json["allowed"]) == DESIGN[start]


async def test_a_status_leaves_an_event_and_one_that_is_so_none(registry: Registry) -> None:
    await publish(registry, 1)
    await make_environment(registry)
    one = await deployed(registry)
    await report(registry, one, "healthy", reason="probes answer")
    again = await report(registry, one, "healthy")

    [_, event] = await events(registry, one)
    assert (event["action"], event["from_status"], event["to_status"]) == (
        "status",
        "deploying",
        "healthy",
    )
    assert event["from_version"] == event["to_version"] == one["version"]
    assert event["reason"] == "probes answer"
    assert again.headers["ETag"] == f'"{one["id"]}.2"'
    assert again.json["deployed_at"] == one["deployed_at"]
    assert await trail(registry, one["id"]) == ["deploy", "status"]


@pytest.mark.parametrize("word", ["running", "TERMINATED", "", None])
async def test_an_unknown_status_is_refused(registry: Registry, word: str | None) -> None:
    answer = await report(registry, {"id": "dep_x"}, word)  # type: ignore[arg-type]  # on purpose

    assert (answer.status, answer.json["errors"][0]["field"]) == (400, "status")


async def test_terminating_is_final_and_says_when_and_who(registry: Registry) -> None:
    await publish(registry, 2)
    await make_environment(registry)
    one = await deployed(registry)
    two = await deployed(registry, name="two")
    await verb(registry, one, "deploy", version="2")

    ended = await verb(registry, one, "terminate", reason="replaced")
    again = await verb(registry, one, "terminate")
    by_status = await report(registry, two, "terminated")
    refused = [
        await verb(registry, one, "scale", replicas=2),
        await verb(registry, one, "deploy", version="1"),
        await verb(registry, one, "rollback"),
        await registry.send("PATCH", f"{DEPLOYMENTS}/{one['id']}", json={"name": "x"}),
    ]

    assert ended.json["terminated_by"] == by_status.json["terminated_by"] == "usr_local"
    assert ended.json["terminated_at"] == ended.json["updated_at"]
    assert again.json == ended.json
    assert [answer.code for answer in refused] == ["deployment_terminated"] * 4
    assert {answer.status for answer in refused} == {409}
    assert await trail(registry, one["id"]) == ["deploy", "deploy", "terminate"]
    assert await trail(registry, two["id"]) == ["deploy", "terminate"]
    assert (await events(registry, one))[-1]["reason"] == "replaced"


# Other versions


async def test_another_version_is_deployed_in_place(registry: Registry) -> None:
    await publish(registry, 2)
    await make_environment(registry)
    one = await deployed(registry)
    await report(registry, one, "healthy")

    answer = await verb(registry, one, "deploy", version="@latest", reason="better")
    again = await verb(registry, one, "deploy", version="2.0.0")
    healthy = await report(registry, one, "healthy")
    still = await verb(registry, one, "deploy", version="2.0.0")

    found = answer.json
    assert (found["status"], found["version"]["label"]) == ("deploying", "2.0.0")
    assert found["previous_version"] == one["version"]
    assert found["deployed_at"] > one["deployed_at"]
    assert found["created_at"] == one["created_at"]
    assert again.json == found
    assert still.json == healthy.json
    event = (await events(registry, one))[-2]
    assert (event["action"], event["reason"]) == ("deploy", "better")
    assert (event["from_status"], event["to_status"]) == ("healthy", "deploying")
    assert (event["from_version"], event["to_version"]) == (one["version"], found["version"])
    [(before, after)] = await registry.rows(
        f"SELECT before, after FROM audit WHERE entity = '{one['id']}' AND action = 'deploy' "
        "ORDER BY id DESC LIMIT 1"
    )
    assert one["version"]["id"] in before
    assert found["version"]["id"] in after


async def test_only_a_version_of_the_same_model_comes_in_place(registry: Registry) -> None:
    await publish(registry, 2)
    [other] = await publish(registry, 1, "gpt")
    await make_environment(registry)
    one = await deployed(registry)
    await registry.put("/models/bert/9.0.0/f", b"a draft")
    await registry.send("PUT", "/api/v1/models/bert/versions/2/status", json={"status": "archived"})

    codes = [
        (await verb(registry, one, "deploy", version=version)).code
        for version in (other["id"], "7", "9.0.0", "2")
    ]

    assert codes == [
        "version_not_found",
        "version_not_found",
        "version_is_draft",
        "version_archived",
    ]
    assert await runs(registry, one) == ("1.0.0", None)


async def test_a_version_that_runs_may_be_archived_and_runs_on(registry: Registry) -> None:
    await publish(registry, 1)
    await make_environment(registry)
    one = await deployed(registry)
    await registry.send("PUT", "/api/v1/models/bert/versions/1/status", json={"status": "archived"})

    assert (await report(registry, one, "healthy")).status == 200
    assert (await verb(registry, one, "deploy", version="1")).status == 200


# Rolling back


async def test_rollbacks_go_back_along_what_ran(registry: Registry) -> None:
    await publish(registry, 4)
    await make_environment(registry)
    one = await deployed(registry, "1")
    for version in ("2", "3"):
        await report(registry, one, "healthy")
        await verb(registry, one, "deploy", version=version)
    await report(registry, one, "failed")

    places = [await runs(registry, one)]
    first = await verb(registry, one, "rollback", reason="slow")
    places.append(await runs(registry, one))
    await verb(registry, one, "rollback")
    places.append(await runs(registry, one))
    ended = await verb(registry, one, "rollback")
    await verb(registry, one, "deploy", version="4")
    places.append(await runs(registry, one))
    await verb(registry, one, "rollback")
    places.append(await runs(registry, one))
    ended_again = await verb(registry, one, "rollback")

    assert places == [
        ("3.0.0", "2.0.0"),
        ("2.0.0", "1.0.0"),
        ("1.0.0", None),
        ("4.0.0", "1.0.0"),
        ("1.0.0", None),
    ]
    assert (first.json["status"], first.json["version"]["number"]) == ("deploying", 2)
    assert {ended.status, ended_again.status} == {409}
    assert ended.code == ended_again.code == "deployment_history_ends"
    found = await events(registry, one)
    brought = [event["id"] for event in found if event["action"] == "deploy"]
    restored = [event["restored"] for event in found if event["action"] == "rollback"]
    assert restored == [brought[1], brought[0], brought[0]]
    assert found[6]["reason"] == "slow"
    assert await trail(registry, one["id"]) == [
        "deploy",
        "status",
        "deploy",
        "status",
        "deploy",
        "status",
        "rollback",
        "rollback",
        "deploy",
        "rollback",
    ]


async def test_a_version_that_came_back_by_hand_is_rolled_back_from(registry: Registry) -> None:
    await publish(registry, 2)
    await make_environment(registry)
    one = await deployed(registry, "1")
    for version in ("2", "1", "2"):
        await verb(registry, one, "deploy", version=version)

    places = [await runs(registry, one)]
    for _ in range(3):
        await verb(registry, one, "rollback")
        places.append(await runs(registry, one))

    assert places == [
        ("2.0.0", "1.0.0"),
        ("1.0.0", "2.0.0"),
        ("2.0.0", "1.0.0"),
        ("1.0.0", None),
    ]


async def test_nothing_ran_before_the_first_version(registry: Registry) -> None:
    await publish(registry, 1)
    await make_environment(registry)
    one = await deployed(registry)
    answer = await registry.send("POST", f"{DEPLOYMENTS}/{one['id']}/rollback")

    assert (answer.status, answer.code) == (409, "deployment_history_ends")
    assert await trail(registry, one["id"]) == ["deploy"]


async def test_a_rollback_to_a_deleted_or_archived_version_is_refused(registry: Registry) -> None:
    await publish(registry, 2)
    await make_environment(registry)
    one = await deployed(registry, "1")
    await verb(registry, one, "deploy", version="2")
    version = "/api/v1/models/bert/versions/1.0.0"

    await registry.send("DELETE", version)
    deleted = await verb(registry, one, "rollback")
    await registry.send("POST", "/api/v1/models/bert/versions/1/restore")
    await registry.send("PUT", f"{version}/status", json={"status": "archived"})
    archived = await verb(registry, one, "rollback")
    unchanged = await runs(registry, one)
    await registry.send("PUT", f"{version}/status", json={"status": "registered"})
    back = await verb(registry, one, "rollback")

    assert (deleted.status, deleted.code, deleted.json["number"]) == (409, "version_deleted", 1)
    assert (archived.status, archived.code) == (409, "version_archived")
    assert unchanged == ("2.0.0", "1.0.0")
    assert (back.status, back.json["version"]["number"]) == (200, 1)


async def test_of_two_rollbacks_of_one_state_one_is_carried_out(registry: Registry) -> None:
    await publish(registry, 3)
    await make_environment(registry)
    one = await deployed(registry, "1")
    for version in ("2", "3"):
        await verb(registry, one, "deploy", version=version)
    address, tag = f"{DEPLOYMENTS}/{one['id']}/rollback", f'"{one["id"]}.3"'

    answers = await asyncio.gather(
        *(registry.send("POST", address, headers={"If-Match": tag}) for _ in range(8))
    )

    assert sorted(answer.status for answer in answers) == [200] + [412] * 7
    assert await runs(registry, one) == ("2.0.0", "1.0.0")


async def test_a_repeated_key_rolls_back_once(registry: Registry) -> None:
    await publish(registry, 3)
    await make_environment(registry)
    one = await deployed(registry, "1")
    for version in ("2", "3"):
        await verb(registry, one, "deploy", version=version)

    sent = [
        await registry.send(
            "POST", f"{DEPLOYMENTS}/{one['id']}/rollback", headers={"Idempotency-Key": "k"}
        )
        for _ in range(2)
    ]

    assert sent[0].json == sent[1].json
    assert sent[1].headers["Idempotency-Replayed"] == "true"
    assert await runs(registry, one) == ("2.0.0", "1.0.0")


async def test_of_many_different_moves_the_history_is_one_chain(registry: Registry) -> None:
    await publish(registry, 3)
    await make_environment(registry)
    one = await deployed(registry, "1")
    asked = [
        verb(registry, one, "deploy", version="2"),
        verb(registry, one, "deploy", version="3"),
        verb(registry, one, "rollback"),
        report(registry, one, "healthy"),
        report(registry, one, "degraded"),
        verb(registry, one, "scale", replicas=9),
    ]
    answers = await asyncio.gather(*asked)

    assert {answer.status for answer in answers} <= {200, 409}
    found = await events(registry, one)
    for before, after in itertools.pairwise(found):
        assert after["from_status"] == before["to_status"]
        assert after["from_version"] == before["to_version"]


# Guards


async def test_a_check_refuses_every_move_before_anything_is_written(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    await publish(registry, 3)
    await make_environment(registry)
    one = await deployed(registry, "1")
    await verb(registry, one, "deploy", version="2")
    before = await registry.count("deployment_events"), await registry.count("audit")
    asked: list[DeploymentWish] = []

    async def refuse(_: Tx, principal: Principal, wish: DeploymentWish) -> None:
        assert principal.id == LOCAL.id
        asked.append(wish)
        raise PolicyViolation("four eyes", "asks somebody else")

    monkeypatch.setattr(deployment_moves, "DEPLOYMENT_CHECKS", [refuse])
    answers = [
        await deploy(registry, name="other"),
        await verb(registry, one, "deploy", version="3", reason="r"),
        await verb(registry, one, "rollback"),
        await report(registry, one, "healthy"),
        await verb(registry, one, "terminate"),
        await verb(registry, one, "deploy", version="2"),  # as it is: granted
    ]

    assert [answer.status for answer in answers] == [403] * 5 + [200]
    assert [wish.action for wish in asked] == [
        "deploy",
        "deploy",
        "rollback",
        "status",
        "terminate",
    ]
    assert asked[0].before is None
    assert asked[1].before is not None
    assert asked[1].before.version_id != asked[1].after.version_id
    assert asked[1].reason == "r"
    assert (await registry.count("deployment_events"), await registry.count("audit")) == before


def test_only_one_module_writes_where_a_deployment_stands() -> None:
    """Otherwise a door could walk round the guards."""
    for function in ("write_deployment_move", "insert_deployment"):
        found = {
            str(path.relative_to(ROOT))
            for path in (ROOT / "registry").rglob("*.py")
            if re.search(rf"\b{function}\b", path.read_text())
        }
        assert found == {
            "registry/catalog/deployments.py",
            "registry/services/deployment_moves.py",
        }


async def test_units_may_run_twice(tmp_path: Path) -> None:
    """As every unit: a batch that fails is replayed. The first run of each is rolled back here."""
    async with opened(tmp_path / "data") as store:
        twice = doubled(store)
        async with serving(twice) as site:
            registry = Registry(site)
            await publish(registry, 2)
            await make_environment(registry)
            one = await deployed(registry, "1")
            await verb(registry, one, "deploy", version="2")
            await report(registry, one, "healthy")
            await verb(registry, one, "scale", replicas=3)
            await verb(registry, one, "rollback")
            place = await runs(registry, one)
            await verb(registry, one, "terminate")
            actions = [event["action"] for event in await events(registry, one)]
            logged = await trail(registry, one["id"])
            deleted = await registry.send("DELETE", "/api/v1/environments/prod")
        await close_beside(twice)

    assert place == ("1.0.0", None)
    assert actions == logged == ["deploy", "deploy", "status", "scale", "rollback", "terminate"]
    assert deleted.status == 204


async def test_a_rollback_takes_few_statements_however_long_the_history(
    registry: Registry,
) -> None:
    await publish(registry, 2)
    await make_environment(registry)
    one = await deployed(registry, "1")
    await verb(registry, one, "deploy", version="2")
    index = registry.store.index
    for status in ("healthy", "degraded") * 20:
        await report(registry, one, status)
    before = index.statement_count()
    await roll_back_deployment(registry.store, LOCAL, one["id"])

    assert index.statement_count() - before <= 20
