"""Environments over HTTP: names, types, configuration without secrets, deletion and back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from registry.catalog.environments import _count, _page
from store.errors import IndexConflict
from store.index.transactions import Statement, Tx
from tests.support.builders import Answer, Registry, running_registry
from tests.support.deploying import (
    ENVIRONMENTS,
    deploy,
    deployed,
    make_environment,
    publish,
    trail,
    verb,
)
from tests.support.plans import plan_of


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[Registry]:
    async with running_registry(tmp_path / "data") as running:
        yield running
        await running.check()


async def patch(registry: Registry, one: Any, **said: Any) -> Answer:
    return await registry.send("PATCH", f"{ENVIRONMENTS}/{one['id']}", json=said)


async def names(registry: Registry, query: str = "") -> list[str]:
    answer = await registry.get(ENVIRONMENTS + query)
    assert answer.status == 200, answer.body
    return [one["name"] for one in answer.json["items"]]


# Making


async def test_an_environment_is_made_and_found_by_id_and_name(registry: Registry) -> None:
    said = {
        "name": "Prod EU",
        "type": "production",
        "region": "eu-central-1",
        "kubernetes_namespace": "ml-serving-2",
        "description": "where customers are",
        "config": {"gateway": {"url": "http://g"}, "api_key": {"secret_ref": "vault:g"}},
        "active": False,
    }
    answer = await registry.send("POST", ENVIRONMENTS, json=said)
    one = answer.json

    assert answer.status == 201
    assert answer.headers["Location"] == f"{ENVIRONMENTS}/{one['id']}"
    assert answer.headers["ETag"] == f'"{one["id"]}.1"'
    assert {name: one[name] for name in said} == said
    assert (one["created_by"], one["deleted_at"]) == ("usr_local", None)
    for reference in (one["id"], "Prod%20EU", "PROD%20eu"):
        assert (await registry.get(f"{ENVIRONMENTS}/{reference}")).json == one


async def test_a_name_is_unique_whatever_the_case(registry: Registry) -> None:
    first = await make_environment(registry, "Prod")
    again = await registry.send("POST", ENVIRONMENTS, json={"name": "pROD", "type": "sandbox"})

    assert (again.status, again.code) == (409, "environment_exists")
    assert (again.json["existing"], again.json["id"]) == ("Prod", first["id"])


async def test_of_many_that_make_the_same_one_does(registry: Registry) -> None:
    body = {"name": "prod", "type": "production"}
    answers = await asyncio.gather(
        *(registry.send("POST", ENVIRONMENTS, json=body) for _ in range(32))
    )

    assert sorted(answer.status for answer in answers) == [201] + [409] * 31


async def test_a_repeated_key_makes_one(registry: Registry) -> None:
    sent = [
        await registry.send(
            "POST",
            ENVIRONMENTS,
            json={"name": "prod", "type": "staging"},
            headers={"Idempotency-Key": "k"},
        )
        for _ in range(2)
    ]

    assert [one.status for one in sent] == [201, 201]
    assert sent[0].json == sent[1].json
    assert await registry.count("environments") == 1


BAD: list[tuple[dict[str, Any], str]] = [
    ({"name": ""}, "name"),
    ({"name": "x" * 97}, "name"),
    ({"name": "a/b"}, "name"),
    ({"name": " a"}, "name"),
    ({"name": "env_01kagz6y5n8s3v0c4t7x9b2d1f"}, "name"),
    ({"type": "test"}, "type"),
    ({"type": None}, "type"),
    ({"kubernetes_namespace": "ML"}, "kubernetes_namespace"),
    ({"kubernetes_namespace": "-a"}, "kubernetes_namespace"),
    ({"kubernetes_namespace": "a-"}, "kubernetes_namespace"),
    ({"kubernetes_namespace": "a.b"}, "kubernetes_namespace"),
    ({"kubernetes_namespace": "a" * 64}, "kubernetes_namespace"),
    ({"kubernetes_namespace": "a\n"}, "kubernetes_namespace"),
    ({"region": "x" * 97}, "region"),
    ({"description": "x" * 4097}, "description"),
    ({"config": []}, "config"),
    ({"config": {"a": "x" * 65536}}, "config"),
    ({"config": {"a": [[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]}}, "config"),
    ({"active": 1}, "active"),
    ({"namespace": "x"}, "namespace"),
]


async def test_what_an_environment_cannot_be_is_refused(registry: Registry) -> None:
    for said, field in BAD:
        body = {"name": "prod", "type": "production", **said}
        answer = await registry.send("POST", ENVIRONMENTS, json=body)
        assert answer.status == 400, said
        assert [one["field"] for one in answer.json["errors"]] == [field]
    assert await registry.count("environments") == 0


async def test_a_kubernetes_namespace_is_a_label(registry: Registry) -> None:
    for number, name in enumerate(("a", "0", "a-b", "a" * 63, "")):
        one = await make_environment(registry, str(number), kubernetes_namespace=name)
        assert one["kubernetes_namespace"] == name


async def test_the_index_holds_no_environment_that_cannot_be(registry: Registry) -> None:
    await make_environment(registry)
    for values in (
        "type = 'test'",
        "active = 2",
        "name = ''",
        f"kubernetes_namespace = '{'x' * 64}'",
        "deleted_at = 1",
    ):
        statement = Statement(text(f"UPDATE environments SET {values}"))

        async def unit(tx: Tx, statement: Statement = statement) -> None:
            await tx.run(statement)

        with pytest.raises(IndexConflict):
            await registry.store.index.run(unit)


# Secrets


async def test_every_secret_in_a_configuration_is_named_and_none_is_kept(
    registry: Registry,
) -> None:
    config = {
        "a": [{"db": {"password": "hunter2", "host": "h"}}],
        "apiKey": "sk-1",
        "env": [{"name": "HF_TOKEN", "value": "hf_1"}],
        "token_ref": "vault:t",
    }
    body = {"name": "prod", "type": "sandbox", "config": config}
    answer = await registry.send("POST", ENVIRONMENTS, json=body)

    assert (answer.status, answer.code) == (422, "secret_in_config")
    assert [one["field"] for one in answer.json["errors"]] == [
        "config.a[0].db.password",
        "config.apiKey",
        "config.env[0].value",
    ]
    assert "reference" in answer.json["detail"]
    assert all("secret_ref" in one["accepted"] for one in answer.json["errors"])
    for secret in ("hunter2", "sk-1", "hf_1"):
        assert secret not in answer.body.decode()
    assert await registry.count("environments") == 0


async def test_a_secret_cannot_come_by_a_patch(registry: Registry) -> None:
    one = await make_environment(registry, config={"db": {"host": "h"}})

    refused = await patch(registry, one, config={"db": {"password": "x"}})
    named = await patch(registry, one, config={"db": {"password": {"secret_ref": "vault:db"}}})
    removed = await patch(registry, one, config={"db": {"password": None}})

    assert (refused.status, refused.code) == (422, "secret_in_config")
    assert refused.json["errors"][0]["field"] == "config.db.password"
    assert named.json["config"] == {"db": {"host": "h", "password": {"secret_ref": "vault:db"}}}
    assert removed.json["config"] == {"db": {"host": "h"}}


# Changing


async def test_a_merge_patch_merges_and_takes_back(registry: Registry) -> None:
    one = await make_environment(
        registry, region="eu", kubernetes_namespace="ml", config={"a": 1, "b": {"c": 2, "d": 3}}
    )

    changed = await patch(
        registry,
        one,
        name="prod-2",
        type="staging",
        region=None,
        kubernetes_namespace=None,
        description="d",
        config={"a": None, "b": {"d": 4}},
        active=False,
    )
    emptied = await patch(registry, one, config=None, description=None)

    assert changed.json["config"] == {"b": {"c": 2, "d": 4}}
    assert (changed.json["name"], changed.json["type"], changed.json["active"]) == (
        "prod-2",
        "staging",
        False,
    )
    assert (changed.json["region"], changed.json["kubernetes_namespace"]) == ("", "")
    assert (emptied.json["config"], emptied.json["description"]) == ({}, "")
    assert emptied.json["region"] == ""
    assert await trail(registry, one["id"]) == ["create", "rename", "update"]


async def test_merging_beyond_the_limit_is_refused(registry: Registry) -> None:
    one = await make_environment(registry, config={"a": "x" * 40_000})
    answer = await patch(registry, one, config={"b": "x" * 40_000})

    assert (answer.status, answer.json["errors"][0]["field"]) == (400, "config")


async def test_what_changes_nothing_leaves_no_trace(registry: Registry) -> None:
    said: dict[str, Any] = {
        "type": "sandbox",
        "region": "eu",
        "config": {"b": 1, "a": 2},
        "active": True,
    }
    one = await make_environment(registry, **said)

    answer = await patch(registry, one, name="prod", **said)

    assert answer.headers["ETag"] == f'"{one["id"]}.1"'
    assert await trail(registry, one["id"]) == ["create"]


async def test_renaming_frees_the_name_and_respects_others(registry: Registry) -> None:
    one, _ = await make_environment(registry, "one"), await make_environment(registry, "two")

    taken = await patch(registry, one, name="TWO")
    respelt = await patch(registry, one, name="ONE")
    renamed = await patch(registry, one, name="three")

    assert (taken.status, taken.code) == (409, "environment_exists")
    assert (respelt.status, renamed.status) == (200, 200)
    assert await names(registry) == ["three", "two"]
    await make_environment(registry, "one")


async def test_a_change_is_conditional(registry: Registry) -> None:
    one = await make_environment(registry)
    address, tag = f"{ENVIRONMENTS}/{one['id']}", f'"{one["id"]}.1"'
    unmodified = await registry.get(address, If_None_Match=tag)
    await registry.send("PATCH", address, json={"region": "eu"}, headers={"If-Match": tag})

    stale = await registry.send("PATCH", address, json={"region": "us"}, headers={"If-Match": tag})
    deleted = await registry.send("DELETE", address, headers={"If-Match": tag})

    assert unmodified.status == 304
    assert (stale.status, deleted.status) == (412, 412)
    assert (await registry.get(address)).json["region"] == "eu"


# Deleting


async def test_an_environment_in_use_is_not_deleted(registry: Registry) -> None:
    await publish(registry, 1)
    one = await make_environment(registry)
    chat = await deployed(registry)

    in_use = await registry.send("DELETE", f"{ENVIRONMENTS}/prod")
    await verb(registry, chat, "terminate")
    deleted = await registry.send("DELETE", f"{ENVIRONMENTS}/prod")

    assert (in_use.status, in_use.code) == (409, "environment_in_use")
    assert in_use.json["deployments"] == [{"id": chat["id"], "name": "chat", "status": "deploying"}]
    assert "chat" in in_use.json["detail"]
    assert deleted.status == 204
    assert (await registry.get(f"{ENVIRONMENTS}/{one['id']}")).json["deleted_by"] == "usr_local"


async def test_a_deleted_environment_frees_its_name_and_is_found_by_id(
    registry: Registry,
) -> None:
    one = await make_environment(registry)
    await registry.send("DELETE", f"{ENVIRONMENTS}/PROD")
    gone = await registry.get(f"{ENVIRONMENTS}/prod")
    other = await make_environment(registry)

    refused = await registry.send("POST", f"{ENVIRONMENTS}/{one['id']}/restore")

    assert (gone.status, gone.code) == (404, "environment_not_found")
    assert (refused.code, refused.json["id"]) == ("environment_exists", other["id"])
    assert (await registry.get(f"{ENVIRONMENTS}/{one['id']}")).status == 200
    assert (await patch(registry, one, region="x")).status == 404
    assert await names(registry) == ["prod"]
    assert await names(registry, "?deleted=true") == ["prod"]


async def test_a_restored_environment_is_as_it_was(registry: Registry) -> None:
    await publish(registry, 1)
    one = await make_environment(registry, config={"a": 1})
    await registry.send("DELETE", f"{ENVIRONMENTS}/{one['id']}")
    into_deleted = await deploy(registry, environment=one["id"])

    restored = await registry.send("POST", f"{ENVIRONMENTS}/{one['id']}/restore")
    again = await registry.send("POST", f"{ENVIRONMENTS}/{one['id']}/restore")
    nothing = await registry.send("POST", f"{ENVIRONMENTS}/env_01kagz6y5n8s3v0c4t7x9b2d1f/restore")

    assert (into_deleted.status, into_deleted.code) == (409, "environment_deleted")
    changing = ("updated_at",)
    assert {k: v for k, v in restored.json.items() if k not in changing} == {
        k: v for k, v in one.items() if k not in changing
    }
    assert again.json == restored.json
    assert nothing.status == 404
    assert await trail(registry, one["id"]) == ["create", "delete", "restore"]
    assert (await deploy(registry)).status == 201


# Lists


async def test_pages_hold_every_environment_once_in_order_of_name(registry: Registry) -> None:
    for name in ("delta", "Alpha", "echo", "Charlie", "bravo"):
        await make_environment(registry, name, type="sandbox" if name > "c" else "staging")

    found: list[str] = []
    query = "?limit=2&total=true"
    while query:
        answer = await registry.get(ENVIRONMENTS + query)
        found += [one["name"] for one in answer.json["items"]]
        assert (answer.json["total"], answer.json["total_is_exact"]) == (5, True)
        next = answer.json["next"]
        query = f"?limit=2&total=true&after={next}" if next else ""

    assert found == ["Alpha", "bravo", "Charlie", "delta", "echo"]


async def test_environments_are_found_by_type_and_activity(registry: Registry) -> None:
    await make_environment(registry, "a")
    await make_environment(registry, "b", active=False)
    await make_environment(registry, "c", type="staging")

    assert await names(registry, "?type=production") == ["a", "b"]
    assert await names(registry, "?active=true") == ["a", "c"]
    assert await names(registry, "?type=production&active=false") == ["b"]
    assert await names(registry, "?type=sandbox") == []
    assert (await registry.get(f"{ENVIRONMENTS}?type=test")).status == 400


async def test_deleted_ones_are_listed_the_last_deleted_first(registry: Registry) -> None:
    made = [await make_environment(registry, name) for name in ("a", "b", "c")]
    for one in (made[1], made[0], made[2]):
        await registry.send("DELETE", f"{ENVIRONMENTS}/{one['id']}")

    first = await registry.get(f"{ENVIRONMENTS}?deleted=true&limit=2&total=true")
    rest = await registry.get(f"{ENVIRONMENTS}?deleted=true&limit=2&after={first.json['next']}")
    alien = await registry.get(f"{ENVIRONMENTS}?limit=2&after={first.json['next']}")

    assert [one["name"] for one in first.json["items"]] == ["c", "a"]
    assert first.json["total"] == 3
    assert [one["name"] for one in rest.json["items"]] == ["b"]
    assert (alien.status, alien.code) == (400, "invalid_cursor")


async def test_lists_run_along_an_index(registry: Registry) -> None:
    cases: list[tuple[str, ...]] = [(), ("type",), ("active",), ("type", "active")]
    for given in cases:
        for is_deleted in (False, True):
            for statement in (
                _page(given, is_deleted=is_deleted, has_place=True),
                _count(given, is_deleted=is_deleted),
            ):
                plan = await plan_of(registry.store.index, statement)
                steps = [step for step in plan if "environments" in step]
                assert steps
                assert all("INDEX" in step for step in steps), plan
                assert not [step for step in plan if "TEMP B-TREE" in step], plan
