"""Provider bindings over HTTP: made, found, changed, deleted, listed; what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from registry.catalog import bindings as rows
from registry.services import bindings as service
from tests.support.bindings import BINDINGS, bind, bound, model, observed, patched, report
from tests.support.builders import Answer, Registry, running_registry
from tests.support.plans import plan_of


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[Registry]:
    async with running_registry(tmp_path / "data") as running:
        await running.publish("bert", "v1", {"f": b"x"})
        yield running
        await running.check()


async def listed(registry: Registry, query: str = "") -> list[str]:
    answer = await registry.get(BINDINGS + query)
    assert answer.status == 200, answer.body
    return [one["id"] for one in answer.json["items"]]


async def entries(registry: Registry) -> list[Any]:
    return await registry.rows(
        "SELECT action, before, after, reason FROM audit WHERE kind = 'binding' ORDER BY id"
    )


# Making


async def test_everything_said_of_a_binding_is_kept(registry: Registry) -> None:
    said = {
        "provider": "vertex-ai",
        "provider_model_id": "publishers/acme/models/bert@001",
        "region": "europe-west4",
        "endpoint": "https://europe-west4.example.com:8443/v1?timeout=30",
        "config": {"timeout_seconds": 30, "api_key": {"secret_ref": "vault:kv/x#key"}},
        "status": "degraded",
        "cost_per_1k": 0.0025,
    }

    answer = await bind(registry, **said)
    one = answer.json

    assert answer.status == 201
    assert answer.headers["Location"] == f"{BINDINGS}/{one['id']}"
    assert answer.headers["ETag"] == f'"{one["id"]}.1"'
    assert {name: one[name] for name in said} == said
    assert one["id"].startswith("bnd_")
    assert (one["version"]["number"], one["version"]["label"]) == (1, "v1")
    assert (one["observed"], one["created_by"]) == (None, "usr_local")
    assert (await registry.get(f"{BINDINGS}/{one['id']}")).json == one
    [entry] = await entries(registry)
    assert entry[0] == "create"
    assert '"provider":"vertex-ai"' in entry[2]


async def test_a_version_is_named_by_any_reference_and_by_its_id_alone(registry: Registry) -> None:
    version = (await registry.get("/api/v1/models/bert/versions/1")).json
    for region, said in enumerate(
        ({"version": "v1"}, {"version": "@latest"}, {"model": None, "version": version["id"]})
    ):
        one = await bound(registry, region=str(region), **said)
        assert one["version"]["id"] == version["id"]


async def test_a_second_one_for_the_same_place_is_refused_and_names_the_first(
    registry: Registry,
) -> None:
    first = await bound(registry, region="eu", provider_model_id="bert-1")

    again = await bind(registry, region="eu", provider_model_id="bert-1", cost_per_1k=3)

    assert (again.status, again.code) == (409, "binding_exists")
    assert again.json["existing"] == first["id"]
    for other in ({"region": "us"}, {"provider_model_id": "bert-2"}, {"provider": "azure"}):
        await bound(registry, **{"region": "eu", "provider_model_id": "bert-1", **other})
    assert await registry.count("bindings") == 4


async def test_of_many_that_make_the_same_one_does(registry: Registry) -> None:
    answers = await asyncio.gather(*(bind(registry) for _ in range(20)))

    assert sorted(answer.status for answer in answers) == [201] + [409] * 19


async def test_a_repeated_key_makes_one(registry: Registry) -> None:
    wish = {"model": "bert", "version": "1", "provider": "openai"}
    sent = [
        await registry.send("POST", BINDINGS, json=wish, headers={"Idempotency-Key": "k"})
        for _ in range(2)
    ]

    assert [one.status for one in sent] == [201, 201]
    assert sent[0].json == sent[1].json


async def test_drafts_and_what_is_deleted_are_refused(registry: Registry) -> None:
    await registry.put("/models/bert/v2/f", b"draft")
    await registry.publish("bert", "v3", {"f": b"y"})
    await registry.send("DELETE", "/api/v1/models/bert/versions/v3")

    draft = await bind(registry, version="v2")
    deleted = await bind(registry, version="v3")
    missing = await bind(registry, model="gpt")

    assert (draft.status, draft.code) == (409, "version_is_draft")
    assert (deleted.status, deleted.code) == (404, "version_not_found")
    assert (missing.status, missing.code) == (404, "model_not_found")


async def test_a_version_has_so_many_bindings_at_most(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "MOST_OF_VERSION", 2)
    for region in ("a", "b"):
        await bound(registry, region=region)

    answer = await bind(registry, region="c")

    assert (answer.status, answer.code) == (409, "too_many_bindings")
    assert (answer.json["bindings"], answer.json["allowed"]) == (2, 2)


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"provider": "OpenAI"}, "provider"),
        ({"provider": ""}, "provider"),
        ({"provider": "open ai"}, "provider"),
        ({"provider": "a" * 97}, "provider"),
        ({"provider_model_id": " x"}, "provider_model_id"),
        ({"provider_model_id": "x" * 401}, "provider_model_id"),
        ({"region": "eu\nwest"}, "region"),
        ({"endpoint": "example.com/v1"}, "endpoint"),
        ({"endpoint": "file:///etc/passwd"}, "endpoint"),
        ({"endpoint": "https://"}, "endpoint"),
        ({"endpoint": "https://exa mple.com"}, "endpoint"),
        ({"endpoint": "https://example.com:99999"}, "endpoint"),
        ({"endpoint": "https://[::1"}, "endpoint"),
        ({"cost_per_1k": -0.01}, "cost_per_1k"),
        ({"cost_per_1k": "NaN"}, "cost_per_1k"),
        ({"cost_per_1k": 1e13}, "cost_per_1k"),
        ({"status": "on"}, "status"),
        ({"config": []}, "config"),
        ({"config": {"a": "x" * (64 << 10)}}, "config"),
        ({"version": "1", "model": "a//b"}, "model"),
        ({"price": 1}, "price"),
    ],
)
async def test_what_a_binding_cannot_be_is_refused(
    registry: Registry, said: dict[str, Any], field: str
) -> None:
    answer = await bind(registry, **said)

    assert answer.status == 400
    assert answer.json["errors"][0]["field"] == field
    assert await registry.count("bindings") == 0


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"config": {"api_key": "sk-123"}}, "config.api_key"),
        ({"config": {"headers": [{"name": "token", "value": "t"}]}}, "config.headers[0].value"),
        ({"endpoint": "https://me:hunter2@example.com"}, "endpoint"),
        ({"endpoint": "https://token@example.com"}, "endpoint"),
        ({"endpoint": "https://example.com/v1?api_key=sk-123"}, "endpoint"),
        ({"endpoint": "https://example.com/v1#access_token=x"}, "endpoint"),
    ],
)
async def test_secrets_are_refused_where_they_are_made_and_where_they_are_changed(
    registry: Registry, said: dict[str, Any], field: str
) -> None:
    one = await bound(registry, region="other")

    made = await bind(registry, **said)
    changed = await registry.send("PATCH", f"{BINDINGS}/{one['id']}", json=said)

    for answer in (made, changed):
        assert (answer.status, answer.code) == (422, "secret_in_config")
        assert answer.json["errors"][0]["field"] == field
        assert b"hunter2" not in answer.body
        assert b"sk-123" not in answer.body
    assert await registry.count("bindings") == 1


# Changing


async def test_a_patch_changes_what_it_names_and_merges_the_configuration(
    registry: Registry,
) -> None:
    one = await bound(registry, endpoint="https://a.example", config={"a": 1, "b": {"c": 2}})

    after = await patched(
        registry,
        f"{BINDINGS}/{one['id']}",
        endpoint=None,
        config={"a": None, "b": {"d": 3}},
        status="inactive",
        cost_per_1k=0.5,
        reason="cheaper now",
    )

    assert after["config"] == {"b": {"c": 2, "d": 3}}
    assert (after["endpoint"], after["status"], after["cost_per_1k"]) == ("", "inactive", 0.5)
    assert after["provider"] == "openai"
    entry = (await entries(registry))[-1]
    assert (entry[0], entry[3]) == ("update", "cheaper now")
    assert '"provider"' not in entry[2]


async def test_what_is_so_already_leaves_no_trace(registry: Registry) -> None:
    one = await bound(registry, config={"a": 1})

    answer = await registry.send(
        "PATCH", f"{BINDINGS}/{one['id']}", json={"config": {"a": 1}, "status": "active"}
    )

    assert answer.json == one
    assert answer.headers["ETag"] == f'"{one["id"]}.1"'
    assert len(await entries(registry)) == 1


async def test_calling_something_else_begins_what_is_observed_anew(registry: Registry) -> None:
    one = await bound(registry, region="eu")
    path = f"{BINDINGS}/{one['id']}"
    await report(registry, one["id"])

    same = await patched(registry, path, endpoint="https://b.example")
    other = await patched(registry, path, region="us")

    assert same["observed"]["requests"] == 1
    assert other["observed"] is None
    assert await observed(registry, one["id"]) is None
    assert await registry.count("binding_statistics") == 0


async def test_a_binding_cannot_come_to_call_what_another_calls(registry: Registry) -> None:
    first = await bound(registry, region="eu")
    second = await bound(registry, region="us")

    answer = await registry.send("PATCH", f"{BINDINGS}/{second['id']}", json={"region": "eu"})

    assert (answer.status, answer.code) == (409, "binding_exists")
    assert answer.json["existing"] == first["id"]


async def conditional(registry: Registry, method: str, id: str, etag: str) -> Answer:
    body = {"status": "inactive"} if method == "PATCH" else None
    return await registry.send(method, f"{BINDINGS}/{id}", json=body, headers={"If-Match": etag})


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
async def test_a_change_asks_for_the_state_that_was_seen(registry: Registry, method: str) -> None:
    one = await bound(registry)
    await patched(registry, f"{BINDINGS}/{one['id']}", cost_per_1k=1)

    stale = await conditional(registry, method, one["id"], f'"{one["id"]}.1"')
    current = await conditional(registry, method, one["id"], f'"{one["id"]}.2"')

    assert (stale.status, current.status) == (412, 200 if method == "PATCH" else 204)


async def test_reports_move_the_tag_and_do_not_keep_anybody_from_editing(
    registry: Registry,
) -> None:
    one = await bound(registry)
    path = f"{BINDINGS}/{one['id']}"
    await report(registry, one["id"])
    before = (await registry.get(path)).headers["ETag"]
    await report(registry, one["id"])
    after = (await registry.get(path)).headers["ETag"]

    assert (before, after) == (f'"{one["id"]}.1.1"', f'"{one["id"]}.1.2"')
    assert (await registry.get(path, If_None_Match=before)).status == 200
    assert (await registry.get(path, If_None_Match=after)).status == 304
    assert (await conditional(registry, "PATCH", one["id"], before)).status == 200


# Deleting


async def test_deleting_is_for_good_and_told(registry: Registry) -> None:
    one = await bound(registry)
    await report(registry, one["id"])

    gone = await registry.send("DELETE", f"{BINDINGS}/{one['id']}?reason=moved")
    again = await registry.send("DELETE", f"{BINDINGS}/{one['id']}")

    assert (gone.status, again.status, again.code) == (204, 404, "binding_not_found")
    assert await registry.count("binding_statistics") == 0
    entry = (await entries(registry))[-1]
    assert (entry[0], entry[2], entry[3]) == ("delete", None, "moved")
    await bound(registry)


async def test_a_binding_hides_while_its_version_or_model_is_deleted(registry: Registry) -> None:
    one = await bound(registry)
    path = f"{BINDINGS}/{one['id']}"
    answers = []
    found = (await registry.get("/api/v1/models/bert")).json["id"]
    for place, name in (("/versions/1", "bert/versions/1"), ("", found)):
        await registry.send("DELETE", f"/api/v1/models/bert{place}")
        answers.append(await registry.get(path))
        answers.append(await registry.send("PATCH", path, json={"status": "inactive"}))
        answers.append(await report(registry, one["id"]))
        assert await listed(registry) == []
        restored = await registry.send("POST", f"/api/v1/models/{name}/restore")
        assert restored.status == 200, restored.body

    assert {(answer.status, answer.code) for answer in answers} == {(404, "binding_not_found")}
    assert (await registry.get(path)).json == one


async def test_purging_a_version_takes_its_bindings_along(registry: Registry) -> None:
    await registry.publish("bert", "v2", {"f": b"y"})
    kept = await bound(registry)
    for region in ("a", "b", "c"):
        gone = await bound(registry, version="v2", region=region)
        await report(registry, gone["id"])
    await report(registry, kept["id"])
    await registry.send("DELETE", "/api/v1/models/bert/versions/v2")

    purged = await registry.send("POST", "/api/v1/models/bert/versions/v2/purge")

    assert purged.status == 200, purged.body
    assert await registry.rows("SELECT id FROM bindings") == [(kept["id"],)]
    assert await registry.rows("SELECT binding FROM binding_statistics") == [(kept["id"],)]


async def test_purging_a_model_takes_its_bindings_along(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.catalog.purges.AT_ONCE", 2)
    await model(registry, "gpt")
    kept = await bound(registry, model="gpt")
    for region in ("a", "b", "c", "d", "e"):
        await report(registry, (await bound(registry, region=region))["id"])
    found = (await registry.get("/api/v1/models/bert")).json["id"]
    await registry.send("DELETE", "/api/v1/models/bert")

    purged = await registry.send("POST", f"/api/v1/models/{found}/purge")

    assert purged.status == 204, purged.body
    assert await registry.rows("SELECT id FROM bindings") == [(kept["id"],)]
    assert await registry.count("binding_statistics") == 0


# Lists


async def test_lists_filter_by_what_is_asked_together(registry: Registry) -> None:
    await registry.publish("bert", "v2", {"f": b"y"})
    await model(registry, "gpt")
    made = {
        "a": await bound(registry, region="eu"),
        "b": await bound(registry, region="us", status="inactive"),
        "c": await bound(registry, version="v2", provider="azure", region="eu"),
        "d": await bound(registry, model="gpt", provider="azure", region="eu"),
    }
    await report(registry, made["a"]["id"], {"count": 9}, {"success": False})
    await report(registry, made["c"]["id"], {"count": 99}, {"success": False})
    names = {one["id"]: name for name, one in made.items()}

    async def found(query: str) -> str:
        return "".join(sorted(names[id] for id in await listed(registry, query)))

    assert await found("") == "abcd"
    assert await found("?model=bert") == "abc"
    assert await found("?model=bert&version=v1") == "ab"
    assert await found("?version=" + made["c"]["version"]["id"]) == "c"
    assert await found("?provider=azure") == "cd"
    assert await found("?region=eu&provider=azure&model=gpt") == "d"
    assert await found("?region=us") == "b"
    assert await found("?status=inactive") == "b"
    assert await found("?min_success_rate=0.9") == "ac"
    assert await found("?min_success_rate=0.95&region=eu") == "c"
    assert await found("?status=degraded") == ""


async def test_pages_follow_each_other_and_totals_count_all(registry: Registry) -> None:
    made = [(await bound(registry, region=str(number)))["id"] for number in range(5)]
    pages, query = [], "?limit=2&model=bert&total=true"
    after = ""
    while True:
        answer = (await registry.get(f"{BINDINGS}{query}{after}")).json
        assert (answer["total"], answer["total_is_exact"]) == (5, True)
        pages.append([one["id"] for one in answer["items"]])
        if answer["next"] is None:
            break
        after = f"&after={answer['next']}"
    other = await registry.get(f"{BINDINGS}?limit=2{after}")

    assert [len(page) for page in pages] == [2, 2, 1]
    assert [id for page in pages for id in page] == sorted(made, reverse=True)
    assert (other.status, other.code) == (400, "invalid_cursor")


@pytest.mark.parametrize(
    "query",
    [
        "?status=on",
        "?min_success_rate=1.1",
        "?provider=X",
        "?limit=0",
        "?colour=red",
        "?after=%00",
    ],
)
async def test_bad_questions_are_refused(registry: Registry, query: str) -> None:
    assert (await registry.get(BINDINGS + query)).status == 400


async def test_a_list_is_one_statement_along_an_index_in_its_order(registry: Registry) -> None:
    index = registry.store.index
    for region in ("a", "b"):
        await bound(registry, region=region)
    counts = []
    for query in ("", "?limit=1", "?total=true"):
        before = index.statement_count()
        await listed(registry, query)
        counts.append(index.statement_count() - before)
    asked: list[tuple[str, ...]] = [
        (),
        ("model",),
        ("provider",),
        ("region",),
        ("status",),
        ("model", "provider", "region", "status", "min_success_rate"),
        ("min_success_rate",),
    ]
    plans = {given: await plan_of(index, rows._page(given, has_place=True)) for given in asked}

    assert counts == [1, 1, 2]
    for given, plan in plans.items():
        is_led = given and given[0] != "min_success_rate"
        place = f"INDEX bindings_by_{given[0]}" if is_led else "PRIMARY KEY"
        [step] = [step for step in plan if step.startswith("SEARCH bindings ")]
        assert f"USING {place}" in step, (given, plan)
        assert not any("SCAN" in step for step in plan if "seen" not in step), (given, plan)
        assert not any("TEMP B-TREE" in step for step in plan), (given, plan)
