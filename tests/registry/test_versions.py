"""Versions found, listed, changed, deleted and purged."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest

from registry.catalog import version_lists
from registry.catalog.version_lists import VersionFilter
from tests.support.builders import Answer, Registry
from tests.support.plans import plan_of, plans_of

AT = "/api/v1/models/bert/versions"


async def external(registry: Registry, model: str = "bert", **body: Any) -> Any:
    """A version without bytes, which is all that most of this needs."""
    body.setdefault("source", {"uri": f"s3://{model}/{body.get('label', 'x')}"})
    answer = await registry.send("POST", f"/api/v1/models/{model}/versions", json=body)
    assert answer.status == 201, answer.body
    return answer.json["version"]


async def patch(registry: Registry, body: Any, ref: str = "v1", **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await registry.send("PATCH", f"{AT}/{ref}", json=body, headers=named)


async def names(registry: Registry, path: str) -> list[str]:
    answer = await registry.get(path)
    assert answer.status == 200, answer.body
    return [item["label"] or str(item["number"]) for item in answer.json["items"]]


# Getting one.


async def test_every_way_to_name_a_version_says_the_same(registry: Registry) -> None:
    made = await registry.publish("bert", "1.0.0", {"f": b"1"})

    for reference in ("1", "1.0.0", "@latest", "main", made["tree"], made["revision"], made["id"]):
        got = await registry.get(f"{AT}/{reference}")
        assert (got.status, got.json["id"]) == (200, made["id"]), reference
        assert got.headers["ETag"].startswith(f'"{made["id"]}.1-')
    anywhere = await registry.get(f"/api/v1/versions/{made['id']}")
    assert anywhere.json == got.json


async def test_what_is_not_there_is_404(registry: Registry) -> None:
    made = await external(registry, label="v1")
    await registry.send("DELETE", f"{AT}/v1")

    for path in (
        f"{AT}/v1",
        f"{AT}/1",
        f"{AT}/v2",
        f"/api/v1/versions/{made['id']}",
        f"{AT}/latest",
    ):
        got = await registry.get(path)
        assert (got.status, got.code) == (404, "version_not_found"), path
    assert (await registry.get("/api/v1/versions/bert")).code == "version_not_found"


async def test_an_unchanged_version_is_not_sent_again(registry: Registry) -> None:
    await external(registry, label="v1")
    first = await registry.get(f"{AT}/v1")

    again = await registry.get(f"{AT}/v1", If_None_Match=first.headers["ETag"])
    await patch(registry, {"region": "eu"})
    changed = await registry.get(f"{AT}/v1", If_None_Match=first.headers["ETag"])

    assert (again.status, again.body) == (304, b"")
    assert changed.status == 200
    assert changed.headers["ETag"] != first.headers["ETag"]


# Saying something else.


async def test_a_patch_merges_removes_and_leaves_the_rest(registry: Registry) -> None:
    await external(
        registry,
        label="v1",
        metadata={"a": 1, "deep": {"x": 1, "y": 2}, "gone": True},
        eval_score=0.5,
        framework="jax",
        region="eu",
        parameters={"p": 1},
    )

    answer = await patch(
        registry,
        {
            "metadata": {"deep": {"x": None, "z": 3}, "gone": None, "new": [1]},
            "eval_score": None,
            "region": None,
            "parameters": None,
            "description": "better",
        },
    )

    assert answer.status == 200, answer.body
    said = answer.json
    assert said["metadata"] == {"a": 1, "deep": {"y": 2, "z": 3}, "new": [1]}
    assert (said["eval_score"], said["region"], said["parameters"]) == (None, "", {})
    assert (said["framework"], said["description"]) == ("jax", "better")
    assert (await registry.get(f"{AT}/v1")).json == said


async def test_a_patch_that_changes_nothing_leaves_the_tag_and_the_log(registry: Registry) -> None:
    await external(registry, label="v1", eval_score=0.5, metadata={"a": 1})
    before = await registry.get(f"{AT}/v1")
    entries = await registry.count("audit")

    for body in ({}, {"eval_score": 0.5, "metadata": {"a": 1}}, {"metadata": {"b": None}}):
        answer = await patch(registry, body)
        assert answer.headers["ETag"] == before.headers["ETag"]
    assert await registry.count("audit") == entries


async def test_a_change_is_made_only_to_the_state_that_was_seen(registry: Registry) -> None:
    await external(registry, label="v1")
    tag = (await registry.get(f"{AT}/v1")).headers["ETag"]

    first = await patch(registry, {"region": "eu"}, If_Match=tag)
    second = await patch(registry, {"region": "us"}, If_Match=tag)
    status = await registry.send(
        "PUT", f"{AT}/v1/status", json={"status": "production"}, headers={"If-Match": tag}
    )
    deleted = await registry.send("DELETE", f"{AT}/v1", headers={"If-Match": tag})
    fresh = await patch(registry, {"region": "us"}, If_Match=first.headers["ETag"])

    assert (first.status, fresh.status) == (200, 200)
    assert (second.status, second.code) == (412, "precondition_failed")
    assert (status.status, deleted.status) == (412, 412)


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"number": 2, "tree": "x"}, {"number", "tree"}),
        ({"label": "v2"}, {"label"}),
        ({"source": None}, {"source"}),
        ({"eval_score": 2, "cost_per_1k": -0.1, "nonsense": 1}, None),
        ({"performance_metrics": {"f1": "NaN"}}, {"performance_metrics.f1"}),
        ({"metadata": [1]}, {"metadata"}),
    ],
)
async def test_a_wrong_patch_names_every_field_and_changes_nothing(
    registry: Registry, body: Any, fields: set[str] | None
) -> None:
    await external(registry, label="v1")
    before = (await registry.get(f"{AT}/v1")).json

    refused = await patch(registry, body)

    assert refused.status == 400, refused.body
    if fields is None:
        assert {e["field"] for e in refused.json["errors"]} == set(body)
    else:
        assert {e["field"] for e in refused.json["errors"]} == fields
    assert (await registry.get(f"{AT}/v1")).json == before


async def test_frozen_fields_say_that_they_never_change(registry: Registry) -> None:
    await external(registry, label="v1")

    refused = await patch(registry, {"label": "v2"})

    assert "never changes" in refused.json["errors"][0]["reason"]


async def test_changes_are_in_the_audit_log_with_what_was_before(registry: Registry) -> None:
    await external(registry, label="v1", eval_score=0.5)

    await patch(registry, {"eval_score": 0.6, "reason": "another holdout set"})

    [(before, after, reason)] = await registry.rows(
        "SELECT before, after, reason FROM audit WHERE kind = 'version' AND action = 'update'"
    )
    assert (before, after) == ('{"eval_score":0.5}', '{"eval_score":0.6}')
    assert reason == "another holdout set"


async def test_what_is_too_long_is_refused_after_merging_too(registry: Registry) -> None:
    await external(registry, label="v1", metadata={"a": "x" * 600_000})

    refused = await patch(registry, {"metadata": {"b": "x" * 600_000}})

    assert (refused.status, refused.json["errors"][0]["field"]) == (400, "metadata")


# Status.


async def test_a_status_moves_along_the_table_only(registry: Registry) -> None:
    await external(registry, label="v1")

    path = f"{AT}/v1/status"
    production = await registry.send(
        "PUT", path, json={"status": "production", "reason": "released"}
    )
    same = await registry.send("PUT", path, json={"status": "production"})
    back = await registry.send("PUT", path, json={"status": "registered"})
    by_patch = await patch(registry, {"status": "registered", "region": "eu"})

    assert (production.status, production.json["status"]) == (200, "production")
    assert same.headers["ETag"] == production.headers["ETag"]
    assert (back.status, back.code) == (409, "transition_forbidden")
    assert back.json["allowed"] == ["validated", "archived", "deprecated"]
    assert (by_patch.status, by_patch.code) == (409, "transition_forbidden")
    assert (await registry.get(f"{AT}/v1")).json["region"] == ""


async def test_a_version_may_begin_with_a_status_and_tags(registry: Registry) -> None:
    made = await external(
        registry,
        label="v1",
        status="production",
        reason="straight away",
        tags={"lang": "en", "gold": ""},
    )

    assert made["status"] == "production"
    assert made["tags"] == [{"key": "gold", "value": ""}, {"key": "lang", "value": "en"}]
    assert await registry.rows("SELECT reason FROM audit WHERE action = 'status'") == [
        ("straight away",)
    ]


# Lists of one model.


async def test_a_models_versions_are_listed_newest_number_first(registry: Registry) -> None:
    for number in range(5):
        await external(registry, label=f"v{number}")

    pages, after = [], ""
    while True:
        answer = await registry.get(f"{AT}?limit=2{after}")
        pages.append([item["label"] for item in answer.json["items"]])
        if answer.json["next"] is None:
            break
        assert f"after={answer.json['next']}" in answer.headers["Link"]
        after = f"&after={answer.json['next']}"

    assert pages == [["v4", "v3"], ["v2", "v1"], ["v0"]]


async def test_a_models_versions_are_filtered(registry: Registry) -> None:
    await external(registry, label="a", status="production", framework="jax", eval_score=0.5)
    await external(registry, label="b", status="production", region="eu", slo_met=True)
    await external(registry, label="c", framework="jax", cost_per_1k=2, slo_met=False)
    await external(registry, label="d")
    await registry.send("DELETE", f"{AT}/d")

    for query, expected in {
        "status=production": ["b", "a"],
        "framework=jax": ["c", "a"],
        "status=production&framework=jax": ["a"],
        "region=eu": ["b"],
        "slo_met=true": ["b"],
        "slo_met=false": ["c"],
        "min_eval_score=0.5": ["a"],
        "max_cost_per_1k=2": ["c"],
        "tier=hot": ["c", "b", "a"],
        "tier=cold": [],
        "deleted=true": ["d"],
        "deleted=true&status=production": [],
    }.items():
        assert await names(registry, f"{AT}?{query}") == expected, query


async def test_totals_count_what_is_asked_for(registry: Registry) -> None:
    for number in range(3):
        await external(registry, label=f"1.{number}.0")
    await external(registry, label="x", status="production")
    await registry.send("DELETE", f"{AT}/1.0.0")

    for query, expected in {
        "": 3,
        "status=production&": 1,
        "deleted=true&": 1,
        "range=1.x&": 2,
        "latest_by=semver&": 1,
    }.items():
        answer = await registry.get(f"{AT}?{query}total=true&limit=1")
        assert (answer.json["total"], answer.json["total_is_exact"]) == (expected, True), query
    assert (await registry.get("/api/v1/versions?total=true")).json["total"] == 3


async def test_labels_in_a_range_are_listed_highest_first(registry: Registry) -> None:
    labels = ["1.2.0", "1.10.0", "1.9.1", "2.0.0", "1.3.0-rc.1", "v1.9.1", "nightly", "0.9.0"]
    for label in labels:
        await external(registry, label=label)

    for query, expected in {
        "range=^1.2": ["1.10.0", "v1.9.1", "1.9.1", "1.2.0"],
        "range=>=1.3.0-alpha": ["2.0.0", "1.10.0", "v1.9.1", "1.9.1", "1.3.0-rc.1"],
        "range=0.x || 1.3.0-rc.1": ["1.3.0-rc.1", "0.9.0"],
        "range=^3": [],
    }.items():
        query = query.replace(">", "%3E").replace("|", "%7C").replace("^", "%5E").replace(" ", "+")
        assert await names(registry, f"{AT}?{query}") == expected, query
        pages, after = [], ""
        while True:
            answer = await registry.get(f"{AT}?{query}&limit=1{after}")
            pages += [item["label"] for item in answer.json["items"]]
            if answer.json["next"] is None:
                break
            after = f"&after={answer.json['next']}"
        assert pages == expected


async def test_a_range_can_be_filtered_too(registry: Registry) -> None:
    await external(registry, label="1.0.0", status="production")
    await external(registry, label="1.1.0")

    assert await names(registry, f"{AT}?range=1.x&status=production") == ["1.0.0"]


@pytest.mark.parametrize("range", ["nightly", "1.2.3.4", "%3E%3E1", "1.x-rc", "a" * 300])
async def test_a_range_that_means_nothing_is_refused(registry: Registry, range: str) -> None:
    await external(registry, label="v1")

    refused = await registry.get(f"{AT}?range={range}")

    assert (refused.status, refused.json["errors"][0]["field"]) == (400, "range")


async def test_a_cursor_is_of_its_question_only(registry: Registry) -> None:
    for number in range(3):
        await external(registry, label=f"v{number}")
        await external(registry, model="gpt", label=f"v{number}")
    cursor = (await registry.get(f"{AT}?limit=1")).json["next"]

    for path in (
        f"{AT}?status=registered&after={cursor}",
        f"{AT}?deleted=true&after={cursor}",
        f"/api/v1/models/gpt/versions?after={cursor}",
        f"/api/v1/versions?after={cursor}",
        f"{AT}?after=nonsense",
    ):
        refused = await registry.get(path)
        assert (refused.status, refused.code) == (400, "invalid_cursor"), path


# The latest.


async def test_the_latest_is_by_number_creation_or_semver(registry: Registry) -> None:
    for label in ("2.0.0-rc.1", "1.9.0", "1.10.0", "1.9.1", "nightly"):
        await external(registry, label=label, status="validated")
    await patch(registry, {"status": "production"}, ref="1.9.0")

    async def latest(query: str) -> str:
        answer = await registry.get(f"{AT}/latest?{query}")
        found: str = answer.json["label"] if answer.status == 200 else answer.code
        return found

    assert await latest("") == "nightly"
    assert await latest("by=number") == "nightly"
    assert await latest("by=created") == "nightly"
    assert await latest("by=semver") == "1.10.0"
    assert await latest("by=semver&status=production") == "1.9.0"
    assert await latest("status=production") == "1.9.0"
    assert await latest("status=archived") == "version_not_found"
    assert await latest("range=~1.9.0") == "1.9.1"
    assert await names(registry, f"{AT}?latest_by=created&status=production") == ["1.9.0"]
    assert await names(registry, f"{AT}?latest_by=semver") == ["1.10.0"]
    assert await names(registry, f"{AT}?latest_by=created&status=archived") == []


async def test_pre_releases_are_latest_only_without_a_release(registry: Registry) -> None:
    await external(registry, label="1.0.0-rc.2")
    await external(registry, label="1.0.0-rc.1")
    before = await registry.get(f"{AT}/latest?by=semver")
    await external(registry, label="0.1.0")

    assert before.json["label"] == "1.0.0-rc.2"
    assert (await registry.get(f"{AT}/latest?by=semver")).json["label"] == "0.1.0"


# Lists over all models.


async def test_versions_of_all_models_are_listed_in_the_order_asked_for(
    registry: Registry,
) -> None:
    await external(registry, model="a", label="a1", eval_score=0.5, cost_per_1k=3, region="eu")
    await external(registry, model="b", label="b1", eval_score=0.9, cost_per_1k=1, region="eu")
    await external(registry, model="c", label="c1", eval_score=0.7, status="production")
    await external(registry, model="b", label="b2", cost_per_1k=2, slo_met=True)
    await external(registry, model="d", label="d1", status="production", framework="jax")
    await registry.send("DELETE", "/api/v1/models/d/versions/d1")

    for query, expected in {
        "": ["b2", "c1", "b1", "a1"],
        "region=eu": ["b1", "a1"],
        "status=production": ["c1"],
        "min_eval_score=0.6": ["b1", "c1"],
        "min_eval_score=0.5&region=eu": ["b1", "a1"],
        "max_cost_per_1k=2.5": ["b1", "b2"],
        "min_eval_score=0&max_cost_per_1k=3": ["b1", "a1"],
        "slo_met=true": ["b2"],
        "framework=jax": [],
    }.items():
        assert await names(registry, f"/api/v1/versions?{query}") == expected, query
        pages, after = [], ""
        while True:
            answer = await registry.get(f"/api/v1/versions?{query}&limit=1{after}")
            pages += [item["label"] for item in answer.json["items"]]
            if answer.json["next"] is None:
                break
            after = f"&after={answer.json['next']}"
        assert pages == expected, query
    models = [item["model"] for item in (await registry.get("/api/v1/versions")).json["items"]]
    assert models == ["b", "c", "b", "a"]


async def test_versions_are_listed_by_the_kind_of_their_models(registry: Registry) -> None:
    """A model's kind is free until its first version, and stays since."""
    for name in ("a", "b"):
        await registry.send("POST", "/api/v1/models", json={"name": name, "kind": "dataset"})
    await registry.send("PATCH", "/api/v1/models/b", json={"kind": "generic"})
    for model in ("a", "b", "c"):
        await external(registry, model=model, label=f"{model}1", eval_score=0.5)
    await external(registry, model="a", label="a2", region="eu")
    await registry.put("/models/a/a3/f", b"1")
    await registry.send("POST", "/api/v1/models/a/versions/a3/publish")

    for query, expected in {
        "kind=dataset": ["a3", "a2", "a1"],
        "kind=generic": ["b1"],
        "kind=model": ["c1"],
        "kind=dataset&region=eu": ["a2"],
        "kind=dataset&min_eval_score=0.1": ["a1"],
        "kind=model&status=production": [],
    }.items():
        assert await names(registry, f"/api/v1/versions?{query}") == expected, query
        counted = await registry.get(f"/api/v1/versions?{query}&total=true&limit=1")
        assert counted.json["total"] == len(expected), query
    wrong = await registry.get("/api/v1/versions?kind=space")
    assert (wrong.status, wrong.json["errors"][0]["field"]) == (400, "kind")
    assert (await registry.get(f"{AT}?kind=model")).status == 400
    plan = await plan_of(
        registry.store.index,
        version_lists._question(VersionFilter(kind="dataset"), "all", is_first=True)[0],
    )
    assert "versions_by_kind (kind=?" in plan[0]


async def test_versions_of_deleted_models_are_not_listed(registry: Registry) -> None:
    made = await external(registry, model="a", label="a1")
    await registry.rows("SELECT 1")

    async def unit(tx: Any) -> None:
        from sqlalchemy import text

        from store.index.transactions import Statement

        await tx.run(Statement(text("UPDATE models SET deleted_at = 1, deleted_by = 'usr_x'")))

    await registry.store.index.run(unit)

    assert await names(registry, "/api/v1/versions") == []
    assert (await registry.get(f"/api/v1/versions/{made['id']}")).status == 404


@pytest.mark.parametrize("registry", ["memory"], indirect=True)  # plans are the same in a file
async def test_no_list_sorts_and_each_runs_along_an_index(registry: Registry) -> None:
    """Every combination of filters, on the first page and on those that follow."""
    values: dict[str, Any] = {
        "status": "registered",
        "region": "eu",
        "framework": "jax",
        "tier": "hot",
        "slo_met": True,
        "kind": "dataset",
        "retired": True,
        "min_eval_score": 0.5,
        "max_cost_per_1k": 1.0,
    }
    chosen = [
        VersionFilter(**dict(pairs))
        for count in range(len(values) + 1)
        for pairs in itertools.combinations(values.items(), count)
    ]
    sights: tuple[version_lists.Sight, ...] = ("all", "many")
    asked = [
        version_lists._question(wanted, sight, is_first=is_first)[0]
        for wanted, is_first, sight in itertools.product(chosen, (True, False), sights)
    ]
    for plan in await plans_of(registry.store.index, asked):
        assert plan[0].startswith(("SEARCH versions USING INDEX", "SCAN versions USING INDEX"))
        assert not any("TEMP B-TREE" in step for step in plan), plan
    for wanted in (VersionFilter(), VersionFilter(status="registered", min_eval_score=0.5)):
        statement, _ = version_lists._question(wanted, "few", is_first=True)
        plan = await plan_of(registry.store.index, statement)
        assert any(re.match(r"SEARCH versions .*\(model=\?", step) for step in plan), plan
    asked = [
        version_lists._model_question(wanted, is_deleted=is_deleted)[0]
        for wanted, is_deleted in itertools.product(chosen, (True, False))
    ]
    for [step] in await plans_of(registry.store.index, asked):
        assert step.startswith("SEARCH versions USING INDEX")
    for is_first in (True, False):
        statement = version_lists._in_span(("status",), is_first=is_first)
        [step] = await plan_of(registry.store.index, statement)
        assert "versions_by_standing (model=? AND standing=? AND precedence>?" in step
    [step] = await plan_of(registry.store.index, version_lists._latest_created(("status",)))
    assert "versions_of_model_by_creation" in step


# Going and coming back.


async def test_models_count_their_living_versions(registry: Registry) -> None:
    async def counted() -> int:
        [(found,)] = await registry.rows("SELECT version_count FROM models")
        return int(found)

    await external(registry, label="v1")
    await external(registry, label="v2")
    both = await counted()
    await registry.send("DELETE", f"{AT}/v1")
    one = await counted()
    await registry.send("POST", f"{AT}/v1/restore")
    restored = await counted()
    await registry.send("DELETE", f"{AT}/v1")
    await registry.send("POST", f"{AT}/v1/purge")
    purged = await counted()

    assert (both, one, restored, purged) == (2, 1, 2, 1)


async def test_deleting_and_restoring_change_the_tags(registry: Registry) -> None:
    await external(registry, label="v1")
    before = await registry.rows("SELECT changes FROM models")

    await registry.send("DELETE", f"{AT}/v1")
    restored = await registry.send("POST", f"{AT}/1/restore")

    assert restored.json["label"] == "v1"
    assert ".3-" in restored.headers["ETag"]
    assert await registry.rows("SELECT changes FROM models") != before


async def test_a_version_is_deleted_by_its_own_name_only(registry: Registry) -> None:
    await external(registry, label="v1")

    by_alias = await registry.send("DELETE", f"{AT}/@latest")
    deleted = await registry.send("DELETE", f"{AT}/v1?reason=wrong+data")
    again = await registry.send("DELETE", f"{AT}/v1")

    assert (by_alias.status, by_alias.code) == (409, "label_required")
    assert (deleted.status, again.status) == (204, 404)
    assert await registry.rows("SELECT reason FROM audit WHERE action = 'delete'") == [
        ("wrong data",)
    ]


async def test_purging_lets_the_files_go_and_burns_the_names(registry: Registry) -> None:
    await registry.publish("bert", "v1", {"f": b"1", "g": b"1", "h": b"2"})
    await registry.publish("bert", "v2", {"f": b"2"})
    await patch(registry, {"description": "private"})
    await registry.send("DELETE", f"{AT}/v1")

    purged = await registry.send("POST", f"{AT}/v1/purge")
    again = await registry.send("POST", f"{AT}/1/purge")
    restored = await registry.send("POST", f"{AT}/v1/restore")
    other = await registry.put("/models/bert/v1/f?publish=true", b"3")

    assert (purged.status, again.status) == (200, 200)
    assert purged.json["purged_at"] is not None
    assert purged.json["description"] == ""
    assert await registry.rows(
        "SELECT owner LIKE 'mdl_%', kind, count FROM refs WHERE kind = 'tree'"
    ) == [(1, "tree", 1)]
    assert (restored.status, restored.code) == (409, "version_purged")
    assert (other.status, other.code) == (409, "label_burnt")
    assert await registry.count("versions") == 2


async def test_the_same_files_bring_a_purged_version_back(registry: Registry) -> None:
    first = await registry.publish("bert", "v1", {"f": b"1"})
    await registry.send("DELETE", f"{AT}/v1")
    await registry.send("POST", f"{AT}/v1/purge")

    back = await registry.put("/models/bert/v1/f?publish=true", b"1")

    assert back.status == 201
    assert (back.json["version"]["id"], back.json["version"]["number"]) == (first["id"], 1)
    assert back.json["version"]["purged_at"] is None
    assert (await registry.get("/models/bert/v1/f")).body == b"1"
    assert (await patch(registry, {"description": "again"})).json["description"] == "again"


async def test_only_a_deleted_version_of_a_free_model_is_purged(registry: Registry) -> None:
    await registry.publish("bert", "v1", {"f": b"1"})
    live = await registry.send("POST", f"{AT}/v1/purge")
    await registry.send("DELETE", f"{AT}/v1")

    async def unit(tx: Any) -> None:
        from sqlalchemy import text

        from store.index.transactions import Statement

        await tx.run(Statement(text("UPDATE models SET legal_hold = 1")))

    await registry.store.index.run(unit)
    held = await registry.send("POST", f"{AT}/v1/purge")

    assert (live.status, live.code) == (409, "version_live")
    assert (held.status, held.code) == (409, "legal_hold")


async def test_publishing_a_draft_may_say_things(registry: Registry) -> None:
    await registry.put("/models/bert/v1/f", b"1")

    published = await registry.send(
        "POST",
        f"{AT}/v1/publish",
        json={"eval_score": 0.5, "status": "production", "tags": {"gold": ""}},
    )
    again = await registry.send("POST", f"{AT}/v1/publish", json={"eval_score": 0.6})

    version = published.json["version"]
    assert published.status == 201
    assert (version["eval_score"], version["status"]) == (0.5, "production")
    assert version["tags"] == [{"key": "gold", "value": ""}]
    assert (again.status, again.json["version"]["eval_score"]) == (200, 0.5)


# Under another name of its model


async def test_a_version_is_another_answer_once_its_model_has_another_name(
    registry: Registry,
) -> None:
    """Its own row did not change: a rename costs the same for a million versions."""
    made = await external(registry, label="v1")
    at = f"/api/v1/versions/{made['id']}"
    [changes] = await registry.rows("SELECT changes FROM versions")
    seen = {"bert": await registry.get(at)}
    for name in ("Bert", "nlp/bert"):
        before = seen[[*seen][-1]].headers["ETag"]
        await registry.send("POST", "/api/v1/models/bert/rename", json={"name": name})

        after = await registry.get(at, If_None_Match=before)
        again = await registry.get(at, If_None_Match=after.headers["ETag"])
        refused = await patch(registry, {"region": "eu"}, If_Match=before)
        kept = await registry.send("DELETE", f"{AT}/v1", headers={"If-Match": before})

        assert (after.status, after.json["model"]) == (200, name)
        assert (again.status, refused.status, kept.status) == (304, 412, 412)
        seen[name] = after
    tags = {answer.headers["ETag"] for answer in seen.values()}
    assert len(tags) == 3
    assert await registry.rows("SELECT changes FROM versions") == [changes]
    done = await patch(registry, {"region": "eu"}, If_Match=seen["nlp/bert"].headers["ETag"])
    assert (done.status, done.json["region"]) == (200, "eu")


async def test_an_alias_is_another_answer_once_its_model_has_another_name(
    registry: Registry,
) -> None:
    await external(registry, label="v1")
    before = await registry.get("/api/v1/models/bert/aliases/latest")
    await registry.send("POST", "/api/v1/models/bert/rename", json={"name": "gpt"})

    after = await registry.get(
        "/api/v1/models/gpt/aliases/latest", If_None_Match=before.headers["ETag"]
    )
    refused = await registry.send(
        "PUT",
        "/api/v1/models/gpt/aliases/latest",
        json={"version": "v1"},
        headers={"If-Match": before.headers["ETag"]},
    )

    assert (after.status, refused.status) == (200, 412)
    assert after.json["version"]["url"] != before.json["version"]["url"]
