"""What a version came from is said when it is made: both become true together, or neither."""

from __future__ import annotations

from typing import Any

import pytest

from tests.registry.test_parts import send as send_parts
from tests.registry.test_register import register, register_many
from tests.support.builders import Registry

URI = {"relation": "trained-on", "parent": {"uri": "hf:datasets/c4", "kind": "dataset"}}
BASE = {"relation": "fine-tuned", "parent": {"model": "base", "version": "1.0.0"}}


def source(name: str) -> dict[str, str]:
    return {"uri": f"s3://{name}"}


@pytest.fixture
async def base(registry: Registry) -> Registry:
    """A registry with one version to come from."""
    made = await register(registry, "base", label="1.0.0", source=source("base"))
    assert made.status == 201
    return registry


async def edges(registry: Registry, version: str, model: str = "bert") -> list[tuple[str, str]]:
    found = await registry.get(f"/api/v1/models/{model}/versions/{version}/lineage/ancestors")
    names = {node["id"]: node.get("model") or node["id"] for node in found.json["nodes"]}
    return sorted((edge["relation"], names[edge["parent"]]) for edge in found.json["edges"])


async def test_a_version_is_registered_with_what_it_came_from(base: Registry) -> None:
    made = await register(base, label="2.0.0", source=source("b"), lineage=[BASE, URI])

    assert made.status == 201, made.body
    assert await edges(base, "2.0.0") == [
        ("fine-tuned", "base"),
        ("trained-on", "hf:datasets/c4"),
    ]
    told = await base.rows(
        "SELECT action, kind, count(*), count(DISTINCT request) FROM audit "
        "WHERE model = (SELECT id FROM models WHERE name = 'bert') AND kind <> 'alias' "
        "GROUP BY action, kind ORDER BY kind"
    )
    assert ("create", "lineage", 2, 1) in [tuple(row) for row in told]


async def test_files_that_come_along_and_drafts_that_are_published_say_it_too(
    base: Registry,
) -> None:
    sent = await send_parts(
        base, ("metadata", {"label": "v1", "lineage": [BASE]}, None), ("f", b"1", "a")
    )
    await base.put("/models/bert/v2/f", b"2")
    published = await base.send(
        "POST", "/api/v1/models/bert/versions/v2/publish", json={"lineage": [URI]}
    )
    refused = await register(base, label="v3", publish=False, files=[], lineage=[URI])

    assert (sent.status, published.status) == (201, 201), (sent.body, published.body)
    assert await edges(base, "v1") == [("fine-tuned", "base")]
    assert await edges(base, "v2") == [("trained-on", "hf:datasets/c4")]
    assert (refused.status, refused.json["errors"][0]["field"]) == (400, "lineage")


@pytest.mark.parametrize(
    ("parent", "status", "code"),
    [
        ({"model": "nobody", "version": "1"}, 404, "model_not_found"),
        ({"model": "base", "version": "9"}, 404, "version_not_found"),
        ({"model": "base", "version": "wip"}, 409, "lineage_of_draft"),
    ],
)
async def test_without_its_parent_nothing_is_made(
    base: Registry, parent: dict[str, str], status: int, code: str
) -> None:
    await base.put("/models/base/wip/f", b"1")
    said = [URI, {"relation": "merged", "parent": parent}]
    entries = await base.count("audit")

    one = await register(base, label="v1", source=source("b"), lineage=said)
    many = await register_many(
        base, {"model": "bert", "label": "v1", "source": source("b"), "lineage": said}
    )
    sent = await send_parts(base, ("metadata", {"label": "v1", "lineage": said}, None))

    assert (one.status, one.code) == (sent.status, sent.code) == (status, code)
    assert [problem["code"] for problem in many.json["problems"]] == [code]
    assert await base.rows("SELECT name FROM models") == [("base",)]
    assert (await base.count("lineage"), await base.count("audit")) == (0, entries)


async def test_circles_and_contradictions_are_refused_whole(base: Registry) -> None:
    child = {"relation": "derived", "parent": {"model": "bert", "version": "2.0.0"}}
    await register(base, label="2.0.0", source=source("b"), lineage=[BASE])
    await base.send("DELETE", "/api/v1/models/base/versions/1.0.0")

    circle = await register(base, "base", label="1.0.0", source=source("base"), lineage=[child])
    itself = await register(base, label="2.1.0", source=source("c"), lineage=[itself_of("2.1.0")])
    twice = await register(
        base, label="2.2.0", source=source("d"), lineage=[URI, {**URI, "description": "other"}]
    )
    same = await register(base, label="2.3.0", source=source("e"), lineage=[URI, URI])

    assert (circle.status, circle.code) == (409, "lineage_cycle")
    assert (itself.status, itself.code) == (409, "lineage_cycle")
    assert (twice.status, twice.code) == (409, "lineage_exists")
    assert same.status == 201
    labels = await base.rows("SELECT label FROM versions WHERE deleted_at IS NULL ORDER BY label")
    assert [row[0] for row in labels] == ["2.0.0", "2.3.0"]


def itself_of(label: str) -> dict[str, Any]:
    return {"relation": "derived", "parent": {"model": "bert", "version": label}}


async def test_a_repeat_says_the_same_and_adds_nothing(base: Registry) -> None:
    labelled: dict[str, Any] = {"label": "v1", "source": source("a"), "lineage": [BASE, URI]}
    unlabelled: dict[str, Any] = {"source": source("b"), "lineage": [BASE]}
    first = [await register(base, **said) for said in (labelled, unlabelled)]
    entries = await base.count("audit")

    again = [await register(base, **said) for said in (labelled, unlabelled)]
    less = await register(base, source=source("b"))
    other_label = await register(base, label="v1", source=source("a"), lineage=[])

    assert [one.status for one in first] == [201, 201]
    assert [(one.status, one.json) for one in again] == [(200, one.json) for one in first]
    assert (less.status, less.json["version"]["number"]) == (200, 2)
    assert other_label.status == 200
    assert await base.count("audit") == entries
    more = await register(base, source=source("b"), lineage=[BASE, URI])
    described = await register(base, source=source("b"), lineage=[{**BASE, "description": "x"}])
    assert [(one.status, one.json["version"]["number"]) for one in (more, described)] == [
        (201, 3),
        (201, 4),
    ]


async def test_versions_of_a_batch_come_from_those_before_them(registry: Registry) -> None:
    batch: list[dict[str, Any]] = [
        {"model": "a", "label": "v1", "source": source("a")},
        {
            "model": "b",
            "label": "v1",
            "source": source("b"),
            "lineage": [{"relation": "quantised", "parent": {"model": "a", "version": "v1"}}],
        },
    ]

    made = await register_many(registry, *batch)

    assert made.status == 201, made.body
    assert await edges(registry, "v1", "b") == [("quantised", "a")]


async def test_bad_parents_are_named_at_once(registry: Registry) -> None:
    said = [
        {"relation": "merged", "parent": {}},
        URI,
        {"relation": "merged", "parent": {"uri": "no scheme"}},
        {"relation": "merged", "parent": {"model": "../x", "version": "1"}},
    ]

    refused = await register(registry, source=source("a"), lineage=said)
    shaped = await register(registry, source=source("a"), lineage=[{"relation": "stolen"}])
    many = await register(registry, source=source("a"), lineage=[URI] * 101)

    assert [error["field"] for error in refused.json["errors"]] == [
        "lineage[0].parent",
        "lineage[2].parent.uri",
        "lineage[3].parent.model",
    ]
    assert {error["field"] for error in shaped.json["errors"]} == {
        "lineage[0].relation",
        "lineage[0].parent",
    }
    assert (many.status, many.json["errors"][0]["field"]) == (400, "lineage")
    assert await registry.count("models") == 0
