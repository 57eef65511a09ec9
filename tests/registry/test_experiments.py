"""Experiments over HTTP: names in namespaces, tags, deletion and the way back, pages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from registry.catalog.experiments import _page
from tests.support.builders import Answer, Registry, running_registry
from tests.support.plans import plan_of

EXPERIMENTS = "/api/v1/experiments"


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[Registry]:
    async with running_registry(tmp_path / "data") as running:
        yield running
        await running.check()


async def make(registry: Registry, name: str = "rates", **said: Any) -> Answer:
    return await registry.send("POST", EXPERIMENTS, json={"name": name, **said})


async def made(registry: Registry, name: str = "rates", **said: Any) -> Any:
    answer = await make(registry, name, **said)
    assert answer.status == 201, answer.body
    return answer.json


async def names(registry: Registry, query: str = "") -> list[str]:
    answer = await registry.get(EXPERIMENTS + query)
    assert answer.status == 200, answer.body
    return [one["name"] for one in answer.json["items"]]


async def entries(registry: Registry) -> list[tuple[str, str]]:
    rows = await registry.rows("SELECT action, name FROM audit WHERE kind = 'experiment'")
    return [(action, name) for action, name in rows]


# Making


async def test_an_experiment_is_made_in_default_and_found_by_id_and_name(
    registry: Registry,
) -> None:
    answer = await make(registry, "/Shared/lr rates", description="which?", tags={"goal": "x"})
    one = answer.json

    assert answer.status == 201
    assert answer.headers["Location"] == f"{EXPERIMENTS}/{one['id']}"
    assert answer.headers["ETag"] == f'"{one["id"]}.1"'
    assert (one["namespace"], one["tags"], one["created_by"]) == (
        "default",
        {"goal": "x"},
        "usr_local",
    )
    for reference in (
        one["id"],
        "%2FShared%2Flr%20rates",
        "default~%2FShared%2FLR%20RATES",
    ):
        assert (await registry.get(f"{EXPERIMENTS}/{reference}")).json == one


async def test_a_name_is_unique_in_its_namespace_whatever_the_case(registry: Registry) -> None:
    await registry.send("POST", "/api/v1/namespaces", json={"slug": "nlp"})
    first = await made(registry, "Rates")

    again = await make(registry, "rAtes")
    elsewhere = await make(registry, "rates", namespace="nlp")

    assert (again.status, again.code) == (409, "experiment_exists")
    assert again.json["id"] == first["id"]
    assert elsewhere.status == 201
    assert (await registry.get(f"{EXPERIMENTS}/nlp~rates")).json["id"] == elsewhere.json["id"]


async def test_an_unknown_namespace_is_named(registry: Registry) -> None:
    answer = await make(registry, namespace="nobody")

    assert (answer.status, answer.code) == (404, "namespace_not_found")
    assert "nobody" in answer.json["detail"]
    assert await registry.count("experiments") == 0


async def test_of_many_that_make_the_same_one_does(registry: Registry) -> None:
    answers = await asyncio.gather(*(make(registry) for _ in range(32)))

    assert sorted(answer.status for answer in answers) == [201] + [409] * 31


async def test_a_repeated_key_makes_one(registry: Registry) -> None:
    sent = [
        await registry.send(
            "POST", EXPERIMENTS, json={"name": "once"}, headers={"Idempotency-Key": "k"}
        )
        for _ in range(2)
    ]

    assert [one.status for one in sent] == [201, 201]
    assert sent[0].json == sent[1].json
    assert await registry.count("experiments") == 1


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"name": " x"}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "exp_01kagz6y5n8s3v0c4t7x9b2d1f"}, "name"),
        ({"name": "x", "tags": {"": "v"}}, "tags"),
        ({"name": "x", "tags": {"a=b": "v"}}, "tags.a=b"),
        ({"name": "x", "tags": {"a": "v" * 501}}, "tags.a"),
        ({"name": "x", "tags": {"a": 1}}, "tags.a"),
        ({"name": "x", "tags": {str(n): "v" for n in range(101)}}, "tags"),
        ({"name": "x", "tags": {str(n): '"' * 500 for n in range(100)}}, "tags"),
        ({"name": "x", "description": "x" * 16385}, "description"),
        ({"name": "x", "owner": "me"}, "owner"),
    ],
)
async def test_what_an_experiment_cannot_be_is_refused(
    registry: Registry, body: dict[str, Any], field: str
) -> None:
    answer = await registry.send("POST", EXPERIMENTS, json=body)

    assert answer.status == 400
    assert answer.json["errors"][0]["field"].startswith(field)
    assert await registry.count("experiments") == 0


# Changing


async def test_tags_are_merged_and_null_takes_one_away(registry: Registry) -> None:
    one = await made(registry, tags={"a": "1", "b": "2"})

    patched = await registry.send(
        "PATCH", f"{EXPERIMENTS}/{one['id']}", json={"tags": {"a": None, "c": "3"}}
    )
    cleared = await registry.send("PATCH", f"{EXPERIMENTS}/{one['id']}", json={"tags": None})

    assert patched.json["tags"] == {"b": "2", "c": "3"}
    assert cleared.json["tags"] == {}


async def test_what_changes_nothing_leaves_no_trace(registry: Registry) -> None:
    one = await made(registry, description="d", tags={"a": "1"})

    answer = await registry.send(
        "PATCH",
        f"{EXPERIMENTS}/{one['id']}",
        json={"name": "rates", "description": "d", "tags": {"a": "1"}},
    )

    assert answer.headers["ETag"].endswith('.1"')
    assert await entries(registry) == [("create", "rates")]


async def test_renaming_frees_the_name_and_respects_others(registry: Registry) -> None:
    one, _ = await made(registry, "one"), await made(registry, "two")
    address = f"{EXPERIMENTS}/{one['id']}"

    taken = await registry.send("PATCH", address, json={"name": "TWO"})
    respelt = await registry.send("PATCH", address, json={"name": "ONE"})
    renamed = await registry.send("PATCH", address, json={"name": "three"})

    assert (taken.status, taken.code) == (409, "experiment_exists")
    assert (respelt.status, renamed.status) == (200, 200)
    assert (await make(registry, "one")).status == 201
    assert ("rename", "three") in await entries(registry)


async def test_a_change_is_conditional(registry: Registry) -> None:
    one = await made(registry)
    address, tag = f"{EXPERIMENTS}/{one['id']}", f'"{one["id"]}.1"'
    unmodified = await registry.get(address, If_None_Match=tag)
    await registry.send("PATCH", address, json={"description": "new"}, headers={"If-Match": tag})

    stale = await registry.send(
        "PATCH", address, json={"description": "newer"}, headers={"If-Match": tag}
    )
    deleted = await registry.send("DELETE", address, headers={"If-Match": tag})

    assert unmodified.status == 304
    assert (stale.status, deleted.status) == (412, 412)
    assert (await registry.get(address)).json["description"] == "new"


# Deleting


async def test_a_deleted_experiment_frees_its_name_and_is_found_by_id(registry: Registry) -> None:
    one = await made(registry)
    deleted = await registry.send("DELETE", f"{EXPERIMENTS}/rates")
    other = await made(registry)

    found = await registry.get(f"{EXPERIMENTS}/{one['id']}")
    restored = await registry.send("POST", f"{EXPERIMENTS}/{one['id']}/restore")

    assert deleted.status == 204
    assert found.json["deleted_by"] == "usr_local"
    assert (restored.status, restored.json["id"]) == (409, other["id"])
    assert await names(registry) == ["rates"]
    assert await names(registry, "?deleted=true") == ["rates"]


async def test_a_restored_experiment_is_as_it_was(registry: Registry) -> None:
    one = await made(registry, description="d", tags={"a": "b"})
    await registry.send("DELETE", f"{EXPERIMENTS}/{one['id']}")

    restored = await registry.send("POST", f"{EXPERIMENTS}/{one['id']}/restore")
    again = await registry.send("POST", f"{EXPERIMENTS}/{one['id']}/restore")

    assert restored.status == 200
    for field in ("name", "description", "tags", "created_at", "deleted_at"):
        assert restored.json[field] == one[field]
    assert again.json == restored.json
    assert [action for action, _ in await entries(registry)] == ["create", "delete", "restore"]


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
async def test_a_deleted_experiment_does_not_change(registry: Registry, method: str) -> None:
    one = await made(registry)
    await registry.send("DELETE", f"{EXPERIMENTS}/{one['id']}")

    answer = await registry.send(method, f"{EXPERIMENTS}/{one['id']}", json={"name": "new"})

    assert (answer.status, answer.code) == (404, "experiment_not_found")


async def test_only_a_deleted_experiment_without_runs_is_purged(registry: Registry) -> None:
    one = await made(registry)
    purge = f"{EXPERIMENTS}/{one['id']}/purge"
    run = (await registry.send("POST", "/api/v1/runs", json={"experiment": one["id"]})).json

    live = await registry.send("POST", purge)
    await registry.send("DELETE", f"{EXPERIMENTS}/{one['id']}")
    with_run = await registry.send("POST", purge)
    await registry.send("DELETE", f"/api/v1/runs/{run['id']}")
    with_deleted_run = await registry.send("POST", purge)
    await registry.send("POST", f"/api/v1/runs/{run['id']}/purge")
    purged = await registry.send("POST", purge)

    assert (live.status, live.code) == (409, "experiment_live")
    assert (with_run.code, with_deleted_run.code) == ("experiment_has_runs",) * 2
    assert purged.status == 204
    assert await registry.count("experiments") == 0
    assert (await registry.send("POST", purge)).status == 404


async def test_a_namespace_with_experiments_is_not_empty(registry: Registry) -> None:
    await registry.send("POST", "/api/v1/namespaces", json={"slug": "nlp"})
    one = await made(registry, namespace="nlp")

    held = await registry.send("DELETE", "/api/v1/namespaces/nlp")
    await registry.send("DELETE", f"{EXPERIMENTS}/{one['id']}")
    held_deleted = await registry.send("DELETE", "/api/v1/namespaces/nlp")
    await registry.send("POST", f"{EXPERIMENTS}/{one['id']}/purge")

    assert (held.code, held.json["experiments"]) == ("namespace_not_empty", 1)
    assert held_deleted.json["deleted_experiments"] == 1
    assert (await registry.send("DELETE", "/api/v1/namespaces/nlp")).status == 204


# Lists


async def test_pages_hold_every_experiment_once_the_latest_first(registry: Registry) -> None:
    await registry.send("POST", "/api/v1/namespaces", json={"slug": "nlp"})
    for number in range(7):
        await made(registry, f"e{number}", namespace="nlp" if number % 2 else "default")

    found: list[str] = []
    query = "?limit=3&total=true"
    while query:
        answer = await registry.get(EXPERIMENTS + query)
        found += [one["name"] for one in answer.json["items"]]
        assert (answer.json["total"], answer.json["total_is_exact"]) == (7, True)
        next = answer.json["next"]
        query = f"?limit=3&total=true&after={next}" if next else ""

    assert found == [f"e{number}" for number in reversed(range(7))]
    assert await names(registry, "?namespace=nlp") == ["e5", "e3", "e1"]


async def test_experiments_are_found_by_name_and_tag(registry: Registry) -> None:
    await made(registry, "one", tags={"goal": "baseline", "who": "a"})
    await made(registry, "two", tags={"goal": "best"})
    await made(registry, "three")

    assert await names(registry, "?name=ONE") == ["one"]
    assert await names(registry, "?tag=goal") == ["two", "one"]
    assert await names(registry, "?tag=goal%3Dbaseline") == ["one"]
    assert await names(registry, "?tag=goal%3D") == []


async def test_a_cursor_of_another_list_is_refused(registry: Registry) -> None:
    for number in range(3):
        await made(registry, f"e{number}")
    next = (await registry.get(f"{EXPERIMENTS}?limit=1")).json["next"]

    answer = await registry.get(f"{EXPERIMENTS}?limit=1&tag=x&after={next}")

    assert (answer.status, answer.code) == (400, "invalid_cursor")


@pytest.mark.parametrize("given", [(), ("namespace_id",), ("namespace_id", "folded")])
async def test_lists_run_along_an_index(registry: Registry, given: tuple[str, ...]) -> None:
    plan = await plan_of(
        registry.store.index, _page(given, is_deleted=False, has_place=True, is_count=False)
    )

    assert not [step for step in plan if "SCAN experiments" in step and "INDEX" not in step]
    if "folded" not in given:
        assert not [step for step in plan if "TEMP B-TREE" in step]
