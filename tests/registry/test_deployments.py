"""Deployments over HTTP: what is deployed where, how much of it, lists, counts and conditions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from registry.catalog.deployment_lists import _EVENTS, _count, _page, _standing
from registry.domain.environments import EnvironmentName
from registry.domain.principals import Principal
from registry.domain.references import ById, ModelId
from registry.errors import NotFound
from registry.services import deployment_lists as lists
from registry.services import deployments as service
from registry.services.deployment_lists import DeploymentQuestion
from registry.services.deployments import DeployWish
from store.errors import IndexConflict
from store.index.transactions import Statement, Tx
from tests.support.builders import Answer, Registry, running_registry
from tests.support.deploying import (
    DEPLOYMENTS,
    ENVIRONMENTS,
    deploy,
    deployed,
    events,
    make_environment,
    publish,
    report,
    trail,
    verb,
)
from tests.support.plans import plan_of

STRANGER = Principal("usr_stranger", "stranger")
NOBODY = "dep_01kagz6y5n8s3v0c4t7x9b2d1f"


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[Registry]:
    async with running_registry(tmp_path / "data") as running:
        yield running
        await running.check()


async def patch(registry: Registry, one: Any, **said: Any) -> Answer:
    return await registry.send("PATCH", f"{DEPLOYMENTS}/{one['id']}", json=said)


async def listed(registry: Registry, query: str = "") -> list[str]:
    answer = await registry.get(DEPLOYMENTS + query)
    assert answer.status == 200, answer.body
    return [one["name"] for one in answer.json["items"]]


# Deploying


async def test_a_version_is_deployed_and_begins_as_deploying(registry: Registry) -> None:
    [version] = await publish(registry, 1)
    environment = await make_environment(registry)
    said: dict[str, Any] = {
        "replicas": 3,
        "cpu": 2.5,
        "memory": 16 << 30,
        "gpus": 1,
        "endpoint": "https://chat.example.org/v1",
    }
    answer = await deploy(registry, name="Chat", reason="launch", **said)
    one = answer.json

    assert answer.status == 201
    assert answer.headers["Location"] == f"{DEPLOYMENTS}/{one['id']}"
    assert answer.headers["ETag"] == f'"{one["id"]}.1"'
    assert {name: one[name] for name in said} == said
    assert (one["name"], one["status"]) == ("Chat", "deploying")
    assert one["environment"] == environment["id"]
    assert one["model"].startswith("mdl_")
    assert one["version"] == {"id": version["id"], "number": 1, "label": "1.0.0"}
    assert one["previous_version"] is None
    assert one["deployed_at"] == one["created_at"]
    assert (one["deployed_by"], one["terminated_at"]) == ("usr_local", None)
    assert (await registry.get(f"{DEPLOYMENTS}/{one['id']}")).json == one
    [event] = await events(registry, one)
    assert (event["action"], event["from_status"], event["to_status"]) == (
        "deploy",
        None,
        "deploying",
    )
    assert (event["from_version"], event["to_version"]) == (None, one["version"])
    assert (event["reason"], event["created_by"]) == ("launch", "usr_local")
    rows = await registry.rows("SELECT kind, action, model FROM audit WHERE kind = 'deployment'")
    assert [tuple(row) for row in rows] == [("deployment", "deploy", one["model"])]


async def test_a_version_is_named_in_any_way(registry: Registry) -> None:
    [version] = await publish(registry, 1)
    await make_environment(registry)
    found = (await registry.get(f"/api/v1/models/bert/versions/{version['id']}")).json

    for reference in (
        "1",
        "1.0.0",
        "latest",
        "@latest",
        found["tree"],
        found["revision"],
        version["id"],
    ):
        one = await deployed(registry, reference, name=reference)
        assert one["version"]["id"] == version["id"]


async def test_what_one_replica_gets_may_stay_unsaid(registry: Registry) -> None:
    await publish(registry, 1)
    await make_environment(registry)
    one = await deployed(registry)

    assert (one["replicas"], one["cpu"], one["memory"], one["gpus"]) == (1, None, None, None)
    assert one["endpoint"] == ""


async def test_a_version_id_needs_no_model(registry: Registry) -> None:
    [version] = await publish(registry, 1)
    await make_environment(registry)

    one = await deployed(registry, version["id"], model=None)
    without = await deploy(registry, "1.0.0", model=None, name="other")

    assert one["version"]["id"] == version["id"]
    assert (without.status, without.json["errors"][0]["field"]) == (400, "version")


async def test_what_is_not_there_is_named(registry: Registry) -> None:
    await publish(registry, 1)
    await make_environment(registry)
    cases: list[tuple[dict[str, Any], str, str]] = [
        ({"environment": "test"}, "environment_not_found", "test"),
        ({"environment": "env_01kagz6y5n8s3v0c4t7x9b2d1f"}, "environment_not_found", "env_"),
        ({"model": "gpt"}, "model_not_found", "gpt"),
        ({"version": "9.9.9"}, "version_not_found", "9.9.9 of bert"),
        ({"version": "@champion"}, "version_not_found", "champion"),
        ({"version": "ver_01kagz6y5n8s3v0c4t7x9b2d1f", "model": None}, "version_not_found", "ver_"),
    ]

    for said, code, named in cases:
        answer = await deploy(registry, **{"version": "1.0.0", **said})
        assert (answer.status, answer.code) == (404, code)
        assert named in answer.json["detail"]
    assert await registry.count("deployments") == 0


async def test_a_draft_an_archived_and_a_deleted_version_are_not_deployed(
    registry: Registry,
) -> None:
    versions = await publish(registry, 3)
    await make_environment(registry)
    await registry.put("/models/bert/9.0.0/f", b"a draft")
    address = "/api/v1/models/bert/versions"
    await registry.send("PUT", f"{address}/1.0.0/status", json={"status": "archived"})
    alias = "/api/v1/models/bert/aliases/old"
    await registry.send("PUT", alias, json={"version": "2.0.0"})
    revision = (await registry.get(f"{address}/2.0.0")).json["revision"]
    await registry.send("DELETE", alias)
    await registry.send("DELETE", f"{address}/2.0.0")

    found = {
        reference: (await deploy(registry, reference)).code
        for reference in ("9.0.0", "1.0.0", "1", "2.0.0", "2", versions[1]["id"], revision)
    }
    by_id = await deploy(registry, versions[1]["id"], model=None)

    assert found == {
        "9.0.0": "version_is_draft",
        "1.0.0": "version_archived",
        "1": "version_archived",
        "2.0.0": "version_deleted",
        "2": "version_deleted",
        versions[1]["id"]: "version_deleted",
        revision: "version_deleted",
    }
    assert (by_id.status, by_id.code) == (409, "version_deleted")
    assert by_id.json["number"] == 2
    assert await registry.count("deployments") == 0
    assert (await deploy(registry, "3.0.0")).status == 201


async def test_a_deleted_version_of_another_model_is_not_told_of(registry: Registry) -> None:
    await publish(registry, 1)
    [other] = await publish(registry, 1, "gpt")
    await make_environment(registry)
    address = "/api/v1/models/gpt/versions/1"
    revision = (await registry.get(address)).json["revision"]
    await registry.send("DELETE", address)

    for reference in (revision, other["id"]):
        answer = await deploy(registry, reference)
        assert (answer.status, answer.code) == (404, "version_not_found")


async def test_an_alias_on_an_unpublished_revision_is_not_deployed(registry: Registry) -> None:
    """Nothing makes such a revision yet but the doors to come, so the row is written here."""
    await publish(registry, 1)
    await make_environment(registry)
    revision = "ab" * 20
    for sql in (
        "INSERT INTO revisions (id, model, tree, parents, author, message, created_at) "
        f"SELECT '{revision}', model, tree, parents, author, message, created_at FROM revisions",
        f"UPDATE aliases SET revision = '{revision}' WHERE folded = 'latest'",
    ):
        await write(registry, sql)

    for reference in ("@latest", revision):
        answer = await deploy(registry, reference)
        assert (answer.status, answer.code) == (409, "revision_unpublished")


async def write(registry: Registry, sql: str) -> None:
    statement = Statement(text(sql))

    async def unit(tx: Tx) -> None:
        await tx.run(statement)

    await registry.store.index.run(unit)


async def test_an_environment_that_is_not_active_takes_no_version(registry: Registry) -> None:
    await publish(registry, 3)
    environment = await make_environment(registry)
    one = await deployed(registry, "1.0.0")
    await verb(registry, one, "deploy", version="2.0.0")
    await registry.send("PATCH", f"{ENVIRONMENTS}/prod", json={"active": False})

    refused = [
        await deploy(registry, "3.0.0", name="other"),
        await verb(registry, one, "deploy", version="3.0.0"),
        await verb(registry, one, "rollback"),
    ]
    others = [
        await verb(registry, one, "scale", replicas=2),
        await report(registry, one, "healthy"),
        await patch(registry, one, endpoint="http://e"),
        await verb(registry, one, "terminate"),
    ]

    assert [answer.code for answer in refused] == ["environment_inactive"] * 3
    assert {answer.status for answer in refused} == {409}
    assert refused[0].json["id"] == environment["id"]
    assert [answer.status for answer in others] == [200] * 4


async def test_a_name_is_unique_among_what_runs_in_an_environment(registry: Registry) -> None:
    await publish(registry, 1)
    await make_environment(registry)
    await make_environment(registry, "test", type="sandbox")
    first = await deployed(registry, name="Chat")

    again = await deploy(registry, name="chAT")
    elsewhere = await deploy(registry, name="chat", environment="test")
    await verb(registry, first, "terminate")
    after = await deploy(registry, name="chat")

    assert (again.status, again.code) == (409, "deployment_exists")
    assert (again.json["existing"], again.json["id"]) == ("Chat", first["id"])
    assert (elsewhere.status, after.status) == (201, 201)


async def test_of_many_that_deploy_one_name_one_does(registry: Registry) -> None:
    await publish(registry, 1)
    await make_environment(registry)

    answers = await asyncio.gather(*(deploy(registry) for _ in range(32)))

    assert sorted(answer.status for answer in answers) == [201] + [409] * 31
    assert await registry.count("deployments") == 1
    assert await registry.count("deployment_events") == 1


async def test_a_repeated_key_deploys_once(registry: Registry) -> None:
    await publish(registry, 1)
    await make_environment(registry)
    body = {"name": "chat", "environment": "prod", "model": "bert", "version": "1"}
    sent = [
        await registry.send("POST", DEPLOYMENTS, json=body, headers={"Idempotency-Key": "k"})
        for _ in range(2)
    ]

    assert [one.status for one in sent] == [201, 201]
    assert sent[0].json == sent[1].json
    assert await registry.count("deployments") == 1


BAD_SCALES: list[tuple[dict[str, Any], str]] = [
    ({"replicas": -1}, "replicas"),
    ({"replicas": 100_001}, "replicas"),
    ({"replicas": 1.5}, "replicas"),
    ({"replicas": 10**30}, "replicas"),
    ({"cpu": -0.1}, "cpu"),
    ({"cpu": 1e9}, "cpu"),
    ({"cpu": "NaN"}, "cpu"),
    ({"memory": -1}, "memory"),
    ({"memory": 1 << 60}, "memory"),
    ({"memory": 2**63}, "memory"),
    ({"gpus": -1}, "gpus"),
    ({"gpus": 10_001}, "gpus"),
    ({"gpus": 0.5}, "gpus"),
]


BAD_DEPLOYMENTS: list[tuple[dict[str, Any], str]] = [
    *BAD_SCALES,
    ({"name": ""}, "name"),
    ({"name": "x" * 201}, "name"),
    ({"name": " x"}, "name"),
    ({"name": "a\nb"}, "name"),
    ({"name": NOBODY}, "name"),
    ({"endpoint": "https://user:pass@example.org"}, "endpoint"),
    ({"endpoint": "user:pass@example.org"}, "endpoint"),
    ({"endpoint": "a b"}, "endpoint"),
    ({"endpoint": "x" * 4097}, "endpoint"),
    ({"reason": "x" * 1025}, "reason"),
    ({"model": "a//b"}, "model"),
    ({"status": "healthy"}, "status"),
]


async def test_what_a_deployment_cannot_be_is_refused(registry: Registry) -> None:
    await publish(registry, 1)
    await make_environment(registry)

    for said, field in BAD_DEPLOYMENTS:
        answer = await deploy(registry, **said)
        assert answer.status == 400, said
        assert [one["field"] for one in answer.json["errors"]] == [field]
    assert await registry.count("deployments") == 0


async def test_numbers_that_json_cannot_hold_are_refused(registry: Registry) -> None:
    for cpu in (b"NaN", b"1e999", b"Infinity"):
        answer = await registry.send(
            "POST",
            DEPLOYMENTS,
            data=b'{"name": "a", "environment": "b", "version": "c", "cpu": ' + cpu + b"}",
            headers={"Content-Type": "application/json"},
        )
        assert answer.status == 400


async def test_the_index_holds_no_deployment_that_cannot_be(registry: Registry) -> None:
    await publish(registry, 1)
    await make_environment(registry)
    await deployed(registry)

    for values in (
        "replicas = -1",
        "replicas = 100001",
        "cpu = -1",
        "cpu = 1e6",
        "memory = -1",
        "gpus = -1",
        "status = 'lost'",
        "status = 'terminated'",
        "terminated_at = 1",
        "terminated_by = 'x'",
        "name = ''",
        "version = 'ver_none'",
        "previous_version = 'ver_none'",
        "environment = 'env_none'",
    ):
        with pytest.raises(IndexConflict):
            await write(registry, f"UPDATE deployments SET {values}")


async def test_the_index_lets_one_name_run_once(registry: Registry) -> None:
    await publish(registry, 1)
    await make_environment(registry)
    await deployed(registry, name="a")
    await deployed(registry, name="b")

    with pytest.raises(IndexConflict):
        await write(registry, "UPDATE deployments SET folded = 'a'")


# Saying something else


async def test_scaling_changes_what_is_said_and_keeps_an_event(registry: Registry) -> None:
    await publish(registry, 1)
    await make_environment(registry)
    one = await deployed(registry, replicas=1, cpu=2, memory=1 << 30)

    scaled = await verb(
        registry, one, "scale", replicas=5, cpu=None, gpus=2, memory=1 << 30, reason="rush hour"
    )
    again = await verb(registry, one, "scale", replicas=5, gpus=2)
    none = await verb(registry, one, "scale", replicas=0)

    found = scaled.json
    assert (found["replicas"], found["cpu"], found["memory"], found["gpus"]) == (
        5,
        None,
        1 << 30,
        2,
    )
    assert scaled.headers["ETag"] == f'"{one["id"]}.2"'
    assert again.json == found
    assert none.json["replicas"] == 0
    [_, event, _] = await events(registry, one)
    assert (event["action"], event["reason"]) == ("scale", "rush hour")
    assert event["from_status"] == event["to_status"] == "deploying"
    assert event["changes"] == {
        "replicas": {"from": 1, "to": 5},
        "cpu": {"from": 2, "to": None},
        "gpus": {"from": None, "to": 2},
    }
    assert await trail(registry, one["id"]) == ["deploy", "scale", "scale"]


async def test_a_bad_scale_is_refused(registry: Registry) -> None:
    for said, field in BAD_SCALES:
        answer = await verb(registry, {"id": NOBODY}, "scale", **said)
        assert answer.status == 400, said
        assert [one["field"] for one in answer.json["errors"]] == [field]


async def test_a_patch_renames_and_moves_the_endpoint(registry: Registry) -> None:
    await publish(registry, 1)
    await make_environment(registry)
    one = await deployed(registry, endpoint="http://old")
    await deployed(registry, name="other")

    taken = await patch(registry, one, name="OTHER")
    changed = await patch(registry, one, name="talk", endpoint=None, reason="merged")
    same = await patch(registry, one, name="talk")
    bad = await patch(registry, one, endpoint="http://u:p@h")
    scaled = await patch(registry, one, replicas=2)

    assert (taken.status, taken.code) == (409, "deployment_exists")
    assert (changed.json["name"], changed.json["endpoint"]) == ("talk", "")
    assert same.headers["ETag"] == changed.headers["ETag"] == f'"{one["id"]}.2"'
    assert (bad.status, scaled.status) == (400, 400)
    event = (await events(registry, one))[-1]
    assert (event["action"], event["reason"]) == ("update", "merged")
    assert event["changes"] == {
        "name": {"from": "chat", "to": "talk"},
        "endpoint": {"from": "http://old", "to": ""},
    }
    assert await trail(registry, one["id"]) == ["deploy", "update"]
    assert (await deploy(registry, name="chat")).status == 201


async def test_reading_and_changing_are_conditional(registry: Registry) -> None:
    await publish(registry, 2)
    await make_environment(registry)
    one = await deployed(registry)
    address, stale = f"{DEPLOYMENTS}/{one['id']}", {"If-Match": f'"{one["id"]}.1"'}
    unmodified = await registry.get(address, If_None_Match=f'"{one["id"]}.1"')
    await verb(registry, one, "scale", replicas=2)

    answers = [
        await registry.send(method, f"{address}{path}", json=body, headers=stale)
        for method, path, body in (
            ("PATCH", "", {"name": "x"}),
            ("PUT", "/status", {"status": "healthy"}),
            ("POST", "/scale", {"replicas": 3}),
            ("POST", "/deploy", {"version": "2.0.0"}),
            ("POST", "/rollback", {}),
            ("POST", "/terminate", {}),
        )
    ]

    assert unmodified.status == 304
    assert [answer.status for answer in answers] == [412] * 6
    assert await trail(registry, one["id"]) == ["deploy", "scale"]


async def test_a_deployment_that_is_not_there_is_not_found(registry: Registry) -> None:
    for id in (NOBODY, "chat", "%00"):
        for method, path, body in (
            ("GET", "", None),
            ("GET", "/events", None),
            ("PATCH", "", {"name": "x"}),
            ("PUT", "/status", {"status": "healthy"}),
            ("POST", "/scale", {"replicas": 3}),
            ("POST", "/deploy", {"version": "2.0.0"}),
            ("POST", "/rollback", {}),
            ("POST", "/terminate", {}),
        ):
            answer = await registry.send(method, f"{DEPLOYMENTS}/{id}{path}", json=body)
            assert (answer.status, answer.code) == (404, "deployment_not_found")


async def test_a_stranger_sees_nothing(registry: Registry) -> None:
    [version] = await publish(registry, 1)
    await make_environment(registry)
    one = await deployed(registry)
    store = registry.store
    wish = DeployWish(name="x", environment=EnvironmentName("prod"), version=ById(version["id"]))

    with pytest.raises(NotFound):
        await service.get_deployment(store, STRANGER, one["id"])
    with pytest.raises(NotFound):
        await lists.list_events(store, STRANGER, one["id"], before=2**62, limit=10)
    with pytest.raises(NotFound):
        await service.terminate_deployment(store, STRANGER, one["id"])
    with pytest.raises(NotFound):
        await service.deploy_version(store, STRANGER, wish)
    question = DeploymentQuestion(model=ModelId(one["model"]))
    with pytest.raises(NotFound):
        await lists.list_deployments(store, STRANGER, question, after=None, limit=10)
    page = await lists.list_deployments(
        store, STRANGER, DeploymentQuestion(), after=None, limit=10, is_counted=True
    )
    assert (page.items, page.count) == ([], 0)
    assert {one.count for one in await lists.summarise_deployments(store, STRANGER)} == {0}


# Lists


async def company(registry: Registry) -> None:
    """Two models in two environments: eight deployments, of which two are terminated."""
    await publish(registry, 2)
    await publish(registry, 1, "gpt")
    for environment in ("prod", "test"):
        await make_environment(registry, environment)
        for name, model, version in (
            ("a", "bert", "1"),
            ("b", "bert", "2"),
            ("c", "gpt", "1"),
            ("d", "gpt", "1"),
        ):
            one = await deployed(
                registry, version, model=model, name=name + environment, environment=environment
            )
            if name == "b":
                await report(registry, one, "healthy")
            if name == "d":
                await verb(registry, one, "terminate")


async def test_deployments_are_found_the_last_made_first(registry: Registry) -> None:
    await company(registry)
    names = ["dtest", "ctest", "btest", "atest", "dprod", "cprod", "bprod", "aprod"]
    expected = {
        "": names,
        "?environment=PROD": names[4:],
        "?model=bert": ["btest", "atest", "bprod", "aprod"],
        "?model=bert&version=2.0.0": ["btest", "bprod"],
        "?status=healthy": ["btest", "bprod"],
        "?status=terminated": ["dtest", "dprod"],
        "?active=true": ["ctest", "btest", "atest", "cprod", "bprod", "aprod"],
        "?active=false": ["dtest", "dprod"],
        "?active=false&status=terminated": ["dtest", "dprod"],
        "?active=true&status=terminated": [],
        "?active=false&status=healthy": [],
        "?environment=prod&active=true": ["cprod", "bprod", "aprod"],
        "?environment=prod&active=false": ["dprod"],
        "?environment=prod&status=deploying": ["cprod", "aprod"],
        "?model=gpt&active=true": ["ctest", "cprod"],
        "?model=gpt&environment=test&active=true": ["ctest"],
        "?name=CPROD": ["cprod"],
        "?name=dprod&active=true": [],
    }

    found = {query: await listed(registry, query) for query in expected}
    counts = {
        query: (await registry.get(f"{DEPLOYMENTS}{query or '?'}&total=true&limit=1")).json["total"]
        for query in expected
    }

    assert found == expected
    assert counts == {query: len(names) for query, names in expected.items()}


async def test_a_listed_deployment_says_what_things_are_called(registry: Registry) -> None:
    await publish(registry, 2)
    await make_environment(registry)
    one = await deployed(registry)
    one = (await verb(registry, one, "deploy", version="2")).json
    await registry.send("PATCH", f"{ENVIRONMENTS}/prod", json={"name": "live"})

    [found] = (await registry.get(DEPLOYMENTS)).json["items"]

    assert (found.pop("environment_name"), found.pop("model_name")) == ("live", "bert")
    assert found == one
    assert one["previous_version"]["label"] == "1.0.0"


async def test_deployments_of_a_deleted_version_are_found(registry: Registry) -> None:
    await company(registry)
    await registry.send("DELETE", "/api/v1/models/bert/versions/1.0.0")

    assert await listed(registry, "?model=bert&version=1.0.0") == ["atest", "aprod"]


async def test_pages_hold_every_deployment_once(registry: Registry) -> None:
    await company(registry)
    for filter in ("", "active=true&", "environment=prod&active=true&", "status=deploying&"):
        whole = await listed(registry, "?" + filter)
        found: list[str] = []
        query = f"?{filter}limit=2"
        while query:
            answer = await registry.get(DEPLOYMENTS + query)
            found += [one["name"] for one in answer.json["items"]]
            next = answer.json["next"]
            query = f"?{filter}limit=2&after={next}" if next else ""
        assert found == whole

    next = (await registry.get(f"{DEPLOYMENTS}?limit=1")).json["next"]
    alien = await registry.get(f"{DEPLOYMENTS}?limit=1&active=true&after={next}")
    assert (alien.status, alien.code) == (400, "invalid_cursor")


async def test_a_question_that_cannot_be_is_refused(registry: Registry) -> None:
    await publish(registry, 1)
    for query, status, code in (
        ("?environment=none", 404, "environment_not_found"),
        ("?model=none", 404, "model_not_found"),
        ("?model=bert&version=none", 404, "version_not_found"),
        ("?version=1.0.0", 400, "invalid"),
        ("?status=lost", 400, "invalid"),
        ("?active=1", 400, "invalid"),
        ("?region=eu", 400, "invalid"),
    ):
        answer = await registry.get(DEPLOYMENTS + query)
        assert (answer.status, answer.code) == (status, code)


FIRST_OF: dict[tuple[str, ...], str] = {
    (): "deployments_by_creation",
    ("name",): "deployments_named",
    ("version",): "deployments_by_version",
    ("model",): "deployments_by_model",
    ("environment",): "deployments_by_environment",
    ("status",): "deployments_by_status",
    ("name", "environment"): "deployments_named",
    ("model", "environment", "status"): "deployments_by_model",
    ("environment", "status", "seen"): "deployments_by_environment",
}
RUNNING_OF: dict[tuple[str, ...], str] = {
    (): "deployments_running",
    ("version",): "deployments_running_by_version",
    ("model",): "deployments_running_by_model",
    ("environment",): "deployments_running_by_environment",
    ("status",): "deployments_by_status",
    ("model", "environment"): "deployments_running_by_model",
    ("environment", "status"): "deployments_running_by_environment",
    ("environment", "seen"): "deployments_running_by_environment",
}


async def test_lists_run_along_the_index_of_their_first_filter(registry: Registry) -> None:
    """However many were terminated, what runs is found without passing by them."""
    cases = [(given, False, index) for given, index in FIRST_OF.items()]
    cases += [(given, True, index) for given, index in RUNNING_OF.items()]

    for given, runs, index in cases:
        plan = await plan_of(registry.store.index, _page(given, runs=runs, has_place=True))
        [step] = [step for step in plan if step.split()[1] == "deployments"]
        assert step.startswith(f"SEARCH deployments USING INDEX {index} (")
        assert "(created_at,id)<" in step
        assert ("terminated_at=?" in step) is ("running" in index)
        assert not [step for step in plan if "TEMP B-TREE" in step], plan


async def test_counts_of_one_filter_read_no_rows(registry: Registry) -> None:
    filters: list[tuple[str, ...]] = [
        (),
        ("version",),
        ("model",),
        ("environment",),
        ("status",),
        ("status", "seen"),
    ]

    for given in filters:
        for runs in (False, True):
            plan = await plan_of(registry.store.index, _count(given, runs=runs))
            [step] = [step for step in plan if step.split()[1] == "deployments"]
            assert "COVERING INDEX" in step


# Events


async def test_events_are_paged_the_newest_first(registry: Registry) -> None:
    await publish(registry, 1)
    await make_environment(registry)
    one, other = await deployed(registry), await deployed(registry, name="other")
    for replicas in range(2, 8):
        await verb(registry, one, "scale", replicas=replicas)
    address = f"{DEPLOYMENTS}/{one['id']}/events"

    found: list[int] = []
    query = "?limit=3"
    while query:
        answer = await registry.get(address + query)
        found += [
            event["changes"].get("replicas", {"to": 1})["to"] for event in answer.json["items"]
        ]
        next = answer.json["next"]
        query = f"?limit=3&after={next}" if next else ""
    first = (await registry.get(f"{address}?limit=1")).json["next"]
    alien = await registry.get(f"{DEPLOYMENTS}/{other['id']}/events?limit=1&after={first}")

    assert found == [7, 6, 5, 4, 3, 2, 1]
    assert (alien.status, alien.code) == (400, "invalid_cursor")
    plan = await plan_of(registry.store.index, _EVENTS)
    assert "USING INDEX deployment_events_by_deployment (deployment=? AND id<?)" in plan[0]
    assert not [step for step in plan if "TEMP B-TREE" in step]


# The summary


async def test_the_summary_counts_by_status_and_by_environment(registry: Registry) -> None:
    await company(registry)
    await make_environment(registry, "empty", type="sandbox")
    gone = await make_environment(registry, "gone")
    await registry.send("DELETE", f"{ENVIRONMENTS}/{gone['id']}")
    extra = await deployed(registry, name="e")
    await report(registry, extra, "failed")

    summary = (await registry.get(f"{DEPLOYMENTS}/summary")).json
    cut = (await registry.get(f"{DEPLOYMENTS}/summary?limit=1")).json

    zero = dict.fromkeys(("deploying", "healthy", "degraded", "failed", "terminated", "active"), 0)
    assert summary["total"] == {
        **zero,
        "deploying": 4,
        "healthy": 2,
        "failed": 1,
        "terminated": 2,
        "active": 7,
    }
    assert summary["environments"] == 3
    each = [{name: one[name] for name in zero} for one in summary["items"]]
    one = {**zero, "deploying": 2, "healthy": 1, "terminated": 1}
    assert [one["name"] for one in summary["items"]] == ["prod", "test", "empty"]
    assert each == [{**one, "failed": 1, "active": 4}, {**one, "active": 3}, zero]
    assert [one["name"] for one in cut["items"]] == ["prod"]
    assert (cut["total"], cut["environments"]) == (summary["total"], 3)


async def test_the_summary_is_one_statement_that_reads_no_rows(registry: Registry) -> None:
    await company(registry)
    index = registry.store.index
    before = index.statement_count()
    await registry.get(f"{DEPLOYMENTS}/summary")

    assert index.statement_count() - before == 1
    for restriction in ("", "seen"):
        plan = await plan_of(index, _standing(restriction))
        [step] = [step for step in plan if "deployments" in step]
        assert step == "SCAN deployments USING COVERING INDEX deployments_standing"
        assert not [step for step in plan if "GROUP BY" in step], plan


async def test_a_list_is_one_statement_for_what_it_lists(registry: Registry) -> None:
    await company(registry)
    index = registry.store.index
    counts = []
    for query in ("", "?limit=1", "?total=true"):
        before = index.statement_count()
        await registry.get(DEPLOYMENTS + query)
        counts.append(index.statement_count() - before)

    assert counts == [1, 1, 2]
