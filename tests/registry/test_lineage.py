"""What versions came from: edges without circles, walks of any depth, what a withdrawal hits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from registry.catalog import lineage
from registry.catalog.lineage import insert_edge
from registry.catalog.versions import find_version_by_number
from registry.domain.lineage import Edge
from registry.domain.principals import LOCAL, Principal, Visibility
from registry.domain.references import ById, ByNumber, parse_model
from registry.errors import Conflict
from registry.services.lineage import (
    EdgeWish,
    NamedUri,
    NamedVersion,
    add_edges,
    measure_impact,
    walk_lineage,
)
from registry.services.resolve import require_model
from store.index.transactions import Statement, Tx
from tests.support.builders import Answer, Registry, running_registry
from tests.support.plans import plan_of

LINEAGE = "/api/v1/models/{}/versions/{}/lineage"


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[Registry]:
    """On a real file: what is asked here is what SQL answers."""
    async with running_registry(tmp_path / "data") as running:
        yield running
        await running.check()


async def version(registry: Registry, model: str, label: str = "v1") -> Any:
    return await registry.publish(model, label, {"f": f"{model} {label}".encode()})


async def tell(
    registry: Registry, child: str, parent: Any, relation: str = "derived", **more: Any
) -> Answer:
    """Say that `child` (``model/version``) came from `parent`, the same or a body."""
    model, label = child.split("/")
    if isinstance(parent, str):
        above, above_label = parent.split("/")
        parent = {"model": above, "version": above_label}
    body = {"relation": relation, "parent": parent, **more}
    return await registry.send("POST", LINEAGE.format(model, label), json=body)


async def walk(registry: Registry, child: str, which: str = "", query: str = "") -> Any:
    model, label = child.split("/")
    path = LINEAGE.format(model, label) + (f"/{which}" if which else "") + query
    answer = await registry.get(path)
    assert answer.status == 200, answer.body
    return answer.json


def names(graph: Any) -> list[tuple[str, int]]:
    """The nodes of a graph, without where it began."""
    return [
        (
            f"{node['model']}/{node['label']}" if node["kind"] == "version" else node["id"],
            node["depth"],
        )
        for node in graph["nodes"][1:]
    ]


async def test_an_edge_is_told_once_and_read_from_both_ends(registry: Registry) -> None:
    base = await version(registry, "base")
    tuned = await version(registry, "tuned")

    told = await tell(registry, "tuned/v1", "base/v1", "fine-tuned", description="on our texts")
    again = await tell(registry, "tuned/v1", "base/v1", "fine-tuned", description="on our texts")
    up = await walk(registry, "tuned/v1")
    down = await walk(registry, "base/v1")

    assert (told.status, again.status) == (201, 200)
    assert told.json == again.json
    assert told.json["child"] == tuned["id"]
    assert told.json["parent"] == base["id"]
    assert (told.json["relation"], told.json["description"]) == ("fine-tuned", "on our texts")
    assert told.headers["Location"].endswith(f"/tuned/versions/v1/lineage/{told.json['id']}")
    assert up["edges"] == down["edges"] == [told.json]
    assert names(up) == [("base/v1", 1)]
    assert names(down) == [("tuned/v1", 1)]
    assert up["root"] == up["nodes"][0]["id"] == tuned["id"]


async def test_the_same_edge_described_otherwise_is_refused(registry: Registry) -> None:
    await version(registry, "base")
    await version(registry, "tuned")
    first = await tell(registry, "tuned/v1", "base/v1", description="one")

    other = await tell(registry, "tuned/v1", "base/v1", description="two")
    relation = await tell(registry, "tuned/v1", "base/v1", "merged", description="two")

    assert (other.status, other.code) == (409, "lineage_exists")
    assert other.json["existing"] == first.json["id"]
    assert relation.status == 201


async def test_data_sets_and_external_things_are_parents_by_their_uri(registry: Registry) -> None:
    await version(registry, "bert")

    data = await tell(registry, "bert/v1", {"uri": "hf:c4", "kind": "dataset"}, "trained-on")
    other = await tell(registry, "bert/v1", {"uri": "https://example.org/bert"})
    again = await tell(registry, "bert/v1", {"uri": "hf:c4", "kind": "dataset"}, "trained-on")
    up = await walk(registry, "bert/v1", "ancestors")
    down = await registry.get("/api/v1/lineage/descendants?uri=hf:c4")

    assert (data.status, other.status, again.status) == (201, 201, 200)
    assert [(n["kind"], n["id"]) for n in up["nodes"][1:]] == [
        ("dataset", "hf:c4"),
        ("external", "https://example.org/bert"),
    ]
    assert data.json["parent_kind"] == "dataset"
    assert names(down.json) == [("bert/v1", 1)]
    assert down.json["root"] == "hf:c4"


@pytest.mark.parametrize(
    ("parent", "field"),
    [
        ({}, "parent"),
        ({"model": "base"}, "parent"),
        ({"version": "v1"}, "parent"),
        ({"model": "base", "version": "v1", "uri": "hf:c4"}, "parent"),
        ({"model": "base", "version": "v1", "kind": "dataset"}, "parent.kind"),
        ({"uri": "no scheme"}, "parent.uri"),
        ({"uri": "justaword"}, "parent.uri"),
        ({"uri": "https://me:secret@example.org/x"}, "parent.uri"),
        ({"uri": "https://example.org/\n"}, "parent.uri"),
        ({"uri": "hf:c4", "kind": "model"}, "parent.kind"),
        ({"model": "a//b", "version": "v1"}, "parent.model"),
        ({"model": "base", "version": "-"}, "parent.version"),
    ],
)
async def test_a_parent_that_cannot_be_meant_is_refused_by_its_field(
    registry: Registry, parent: Any, field: str
) -> None:
    await version(registry, "bert")

    answer = await tell(registry, "bert/v1", parent)

    assert answer.status == 400
    assert answer.json["errors"][0]["field"] == field


async def test_unknown_versions_and_drafts_have_no_lineage(registry: Registry) -> None:
    await version(registry, "bert")
    await registry.put("/models/bert/v2/f", b"draft")

    model = await tell(registry, "bert/v1", "nobody/v1")
    label = await tell(registry, "bert/v1", "bert/v9")
    child = await tell(registry, "bert/v2", {"uri": "hf:c4"})
    parent = await tell(registry, "bert/v1", "bert/v2")

    assert (model.status, model.code) == (404, "model_not_found")
    assert (label.status, label.code) == (404, "version_not_found")
    assert (child.status, child.code) == (409, "lineage_of_draft")
    assert (parent.status, parent.code) == (409, "lineage_of_draft")
    assert await registry.count("lineage") == 0


async def test_a_circle_is_refused_with_the_way_it_would_take(registry: Registry) -> None:
    for name in "abcd":
        await version(registry, name)
    for child, parent in (("b/v1", "a/v1"), ("c/v1", "b/v1"), ("d/v1", "c/v1")):
        assert (await tell(registry, child, parent)).status == 201

    long = await tell(registry, "a/v1", "d/v1")
    itself = await tell(registry, "a/v1", "a/v1")

    assert (long.status, long.code) == (409, "lineage_cycle")
    assert long.json["path"] == ["a/v1", "d/v1", "c/v1", "b/v1", "a/v1"]
    assert (itself.status, itself.json["path"]) == (409, ["a/v1", "a/v1"])
    assert await registry.count("lineage") == 3


async def test_of_many_that_would_close_a_circle_together_one_is_refused(
    registry: Registry,
) -> None:
    ring = [f"m{index}" for index in range(8)]
    for name in ring:
        await version(registry, name)

    answers = await asyncio.gather(
        *(tell(registry, f"{name}/v1", f"{ring[index - 1]}/v1") for index, name in enumerate(ring))
    )

    assert sorted(answer.status for answer in answers) == [201] * 7 + [409]


async def test_a_batch_is_told_whole_or_not_at_all(registry: Registry) -> None:
    for name in "abc":
        await version(registry, name)

    def edge(child: str, parent: str) -> Any:
        return {
            "child": {"model": child, "version": "v1"},
            "relation": "derived",
            "parent": {"model": parent, "version": "v1"},
        }

    circle = await registry.send(
        "POST",
        "/api/v1/lineage/batch",
        json={"edges": [edge("b", "a"), edge("c", "b"), edge("a", "c")]},
    )
    left = await registry.count("lineage")
    unknown = await registry.send(
        "POST", "/api/v1/lineage/batch", json={"edges": [edge("b", "a"), edge("b", "zzz")]}
    )
    told = await registry.send(
        "POST",
        "/api/v1/lineage/batch",
        json={"edges": [edge("b", "a"), edge("c", "b"), edge("b", "a")]},
    )
    again = await registry.send(
        "POST", "/api/v1/lineage/batch", json={"edges": [edge("b", "a"), edge("c", "b")]}
    )

    assert (circle.status, circle.code, circle.json["index"]) == (409, "lineage_cycle", 2)
    assert (unknown.status, unknown.code) == (404, "model_not_found")
    assert left == 0
    assert told.status == 201
    assert [item["id"] for item in told.json["items"]].count(told.json["items"][0]["id"]) == 2
    assert (again.status, await registry.count("lineage")) == (200, 2)


async def test_a_batch_names_every_bad_field_and_has_an_end(registry: Registry) -> None:
    bad = {
        "edges": [
            {"child": {"model": "a", "version": "1"}, "relation": "stolen", "parent": {"uri": 3}},
            {"relation": "derived", "parent": {}, "extra": 1},
        ]
    }

    fields = await registry.send("POST", "/api/v1/lineage/batch", json=bad)
    many = await registry.send(
        "POST", "/api/v1/lineage/batch", json={"edges": [bad["edges"][0]] * 1001}
    )

    assert fields.status == many.status == 400
    assert {error["field"] for error in fields.json["errors"]} >= {
        "edges[0].relation",
        "edges[0].parent.uri",
        "edges[1].child",
        "edges[1].extra",
    }


async def test_an_edge_is_taken_back_at_its_child_alone(registry: Registry) -> None:
    await version(registry, "base")
    await version(registry, "tuned")
    edge = (await tell(registry, "tuned/v1", "base/v1")).json["id"]

    elsewhere = await registry.send("DELETE", f"{LINEAGE.format('base', 'v1')}/{edge}")
    there = await registry.send("DELETE", f"{LINEAGE.format('tuned', 'v1')}/{edge}")
    again = await registry.send("DELETE", f"{LINEAGE.format('tuned', 'v1')}/{edge}")

    assert (elsewhere.status, elsewhere.code) == (404, "lineage_not_found")
    assert there.status == 204
    assert (again.status, await registry.count("lineage")) == (404, 0)


async def test_telling_and_taking_back_are_in_the_audit_log(registry: Registry) -> None:
    await version(registry, "base")
    await version(registry, "tuned")
    edge = (await tell(registry, "tuned/v1", "base/v1")).json["id"]
    await tell(registry, "tuned/v1", "base/v1")
    await registry.send("DELETE", f"{LINEAGE.format('tuned', 'v1')}/{edge}")

    entries = await registry.rows(
        "SELECT action, entity, before IS NULL, after IS NULL FROM audit WHERE kind = 'lineage' "
        "ORDER BY id"
    )

    assert [tuple(entry) for entry in entries] == [("create", edge, 1, 0), ("delete", edge, 0, 1)]


async def test_a_diamond_is_met_once_and_nearest_first(registry: Registry) -> None:
    for name in ("top", "left", "right", "bottom"):
        await version(registry, name)
    for child, parent in (
        ("left", "top"),
        ("right", "top"),
        ("bottom", "left"),
        ("bottom", "right"),
        ("bottom", "top"),
    ):
        await tell(registry, f"{child}/v1", f"{parent}/v1")

    up = await walk(registry, "bottom/v1", "ancestors")
    down = await walk(registry, "top/v1", "descendants")
    near = await walk(registry, "bottom/v1", "ancestors", "?depth=1")

    assert names(up) == [("left/v1", 1), ("right/v1", 1), ("top/v1", 1)]
    assert sorted(names(down)) == [("bottom/v1", 1), ("left/v1", 1), ("right/v1", 1)]
    assert len(up["edges"]) == len(down["edges"]) == 5
    assert len(near["edges"]) == 3
    assert not up["truncated"]


async def test_depth_ends_a_walk_and_limit_cuts_it(registry: Registry) -> None:
    for index in range(5):
        await version(registry, f"m{index}")
    for index in range(4):
        await tell(registry, f"m{index + 1}/v1", f"m{index}/v1")

    two = await walk(registry, "m4/v1", "ancestors", "?depth=2")
    cut = await walk(registry, "m4/v1", "ancestors", "?limit=3")
    whole = await walk(registry, "m4/v1", "ancestors", "?limit=4")
    around = await walk(registry, "m2/v1", "", "?depth=9")
    around_cut = await walk(registry, "m2/v1", "", "?depth=9&limit=3")

    assert names(two) == [("m3/v1", 1), ("m2/v1", 2)]
    assert not two["truncated"]
    assert (len(cut["nodes"]), len(cut["edges"]), cut["truncated"]) == (4, 3, True)
    assert (len(whole["nodes"]), whole["truncated"]) == (5, False)
    assert sorted(names(around)) == [("m0/v1", 2), ("m1/v1", 1), ("m3/v1", 1), ("m4/v1", 2)]
    assert (len(around_cut["nodes"]), around_cut["truncated"]) == (4, True)
    assert len(around_cut["edges"]) == 3


async def test_impact_says_what_is_in_use_and_where(registry: Registry) -> None:
    for name in ("base", "one", "two"):
        await version(registry, name)
    await version(registry, "two", "v2")
    await tell(registry, "one/v1", "base/v1")
    await tell(registry, "two/v1", "one/v1")
    await tell(registry, "two/v2", "one/v1")
    await registry.send("PUT", "/api/v1/models/two/aliases/champion", json={"version": "v1"})

    impact = await walk(registry, "base/v1", "impact")
    short = await walk(registry, "base/v1", "impact", "?limit=1")

    assert (impact["versions"], impact["models"], impact["in_production"]) == (3, 2, 0)
    assert impact["by_depth"] == [{"depth": 1, "count": 1}, {"depth": 2, "count": 2}]
    assert [(i["model"], i["label"], i["aliases"]) for i in impact["items"]] == [
        ("one", "v1", ["latest", "main"]),
        ("two", "v1", ["champion"]),
        ("two", "v2", ["latest", "main"]),
    ]
    assert (impact["truncated"], impact["counts_are_exact"]) == (False, True)
    assert [item["model"] for item in short["items"]] == ["one"]
    assert (short["versions"], short["truncated"], short["counts_are_exact"]) == (3, True, True)


async def test_a_deleted_version_stays_in_the_graph_and_is_marked(registry: Registry) -> None:
    await version(registry, "base")
    await version(registry, "tuned")
    await tell(registry, "tuned/v1", "base/v1")
    await registry.send("DELETE", "/models/base/v1")

    up = await walk(registry, "tuned/v1", "ancestors")

    assert [(node["model"], node["deleted"]) for node in up["nodes"]] == [
        ("tuned", False),
        ("base", True),
    ]


async def test_edges_join_the_transaction_of_whoever_makes_a_version(registry: Registry) -> None:
    await version(registry, "base")
    await version(registry, "tuned")
    now = registry.store.clock()
    base = NamedVersion(parse_model("base"), ByNumber(1))
    tuned = NamedVersion(parse_model("tuned"), ByNumber(1))
    good = [EdgeWish.fresh(now, "derived", base), EdgeWish.fresh(now, "merged", NamedUri("hf:x"))]
    bad = [*good, EdgeWish.fresh(now, "derived", tuned)]

    async def unit(tx: Tx, wishes: list[EdgeWish]) -> int:
        model = await require_model(tx, LOCAL, tuned.model)
        found = await find_version_by_number(tx, model.id, 1)
        assert found is not None
        return len(await add_edges(tx, LOCAL, model, found, wishes))

    with pytest.raises(Conflict) as refused:
        await registry.store.index.run(lambda tx: unit(tx, bad))
    left = await registry.count("lineage")
    added = await registry.store.index.run(lambda tx: unit(tx, good))

    assert (refused.value.code, refused.value.details["index"], left) == ("lineage_cycle", 2, 0)
    assert (added, await registry.count("lineage")) == (2, 2)


# What the caller may not see


class OneEyed(Principal, frozen=True):
    """Sees the models it was told of."""

    models: frozenset[str] = frozenset()

    @property
    def visibility(self) -> Visibility:
        return Visibility(False, self.models)


async def test_a_hidden_model_is_a_node_without_a_name_and_ends_the_walk(
    registry: Registry,
) -> None:
    found = {name: await version(registry, name) for name in ("a", "hidden", "c", "d")}
    await tell(registry, "hidden/v1", "a/v1", description="our secret recipe")
    await tell(registry, "c/v1", "hidden/v1")
    await tell(registry, "d/v1", "a/v1")
    models = dict(await registry.rows("SELECT name, id FROM models"))
    seen = frozenset(models[name] for name in ("a", "c", "d"))
    principal = OneEyed("usr_x", "x", "", models=seen)
    start = NamedVersion(parse_model("a"), ByNumber(1))

    graph = await walk_lineage(registry.store, principal, start, ("down",))
    impact = await measure_impact(registry.store, principal, start)

    shown = repr(graph) + repr(impact)
    assert [(node.key, node.member and node.member.model) for node in graph.nodes[1:]] == [
        ("restricted-down-1", None),
        (found["d"]["id"], "d"),
    ]
    assert found["hidden"]["id"] not in shown
    assert found["c"]["id"] not in shown
    assert "recipe" not in shown
    assert (impact.versions, impact.restricted, impact.by_depth) == (1, 1, {1: 2})


# Deep and wide


def ids(count: int) -> list[str]:
    return [f"ver_{index:026d}" for index in range(count)]


async def many(registry: Registry, count: int) -> list[str]:
    """So many versions of one model, written into the index at once."""
    await version(registry, "seed")
    made = ids(count)
    columns = (
        "model, number, label, folded, standing, precedence, revision, tree, files, size, "
        "created_at, created_by"
    )
    await execute(
        registry,
        "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < "
        f"{count - 1}) INSERT INTO versions (id, {columns}) SELECT 'ver_' || "
        "printf('%026d', i), model, i + 2, NULL, NULL, 'plain', NULL, revision, tree, files, "
        "size, created_at, created_by FROM n JOIN versions v ON v.label = 'v1'",
    )
    return made


async def execute(registry: Registry, sql: str) -> None:
    statement = Statement(text(sql))

    async def unit(tx: Tx) -> None:
        await tx.run(statement)

    await registry.store.index.run(unit)


async def link(registry: Registry, edges: Iterable[tuple[str, str]]) -> None:
    pairs = list(edges)

    async def unit(tx: Tx) -> None:
        for index, (child, parent) in enumerate(pairs):
            await insert_edge(
                tx,
                Edge(
                    id=f"lin_{index:026d}",
                    child=child,
                    relation="derived",
                    parent=parent,
                    created_at=tx.now,
                    created_by=LOCAL.id,
                ),
            )

    await registry.store.index.run(unit)


@pytest.fixture
async def graph_only(tmp_path: Path) -> AsyncIterator[Registry]:
    """A registry whose versions are rows alone, without the claims that `check` counts."""
    async with running_registry(tmp_path / "rows") as running:
        yield running


async def test_a_chain_of_ten_thousand_is_walked_and_guarded(graph_only: Registry) -> None:
    chain = await many(graph_only, 10_001)
    await link(graph_only, zip(chain[1:], chain, strict=False))
    seed = "/api/v1/models/seed/versions/"

    up = await graph_only.get(f"{seed}{chain[-1]}/lineage/ancestors?limit=10000")
    impact = await graph_only.get(f"{seed}{chain[0]}/lineage/impact?limit=1")
    circle = await graph_only.send(
        "POST",
        f"{seed}{chain[0]}/lineage",
        json={"relation": "derived", "parent": {"model": "seed", "version": chain[-1]}},
    )

    assert (len(up.json["nodes"]), up.json["nodes"][-1]["depth"]) == (10_001, 10_000)
    assert not up.json["truncated"]
    assert impact.json["versions"] == 10_000
    assert (circle.status, circle.code) == (409, "lineage_cycle")
    assert len(circle.json["path"]) == 10_002
    assert len(circle.json["detail"]) < 1000


async def test_ten_thousand_children_are_counted_and_cut(graph_only: Registry) -> None:
    made = await many(graph_only, 10_001)
    await link(graph_only, ((child, made[0]) for child in made[1:]))
    seed = f"/api/v1/models/seed/versions/{made[0]}/lineage"

    impact = await graph_only.get(f"{seed}/impact?limit=10")
    down = await graph_only.get(f"{seed}/descendants?limit=10")

    assert impact.json["by_depth"] == [{"depth": 1, "count": 10_000}]
    assert (len(impact.json["items"]), impact.json["truncated"]) == (10, True)
    assert (len(down.json["nodes"]), len(down.json["edges"])) == (11, 10)
    assert down.json["truncated"]


@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(pairs=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=30))
async def test_walks_and_circles_are_those_of_the_graph(
    graph_only: Registry, pairs: list[tuple[int, int]]
) -> None:
    """Against a model of sets: what is refused, and who is above and below whom."""
    if await graph_only.count("versions") == 0:
        await many(graph_only, 10)
    await execute(graph_only, "DELETE FROM lineage")
    made = ids(10)
    above: dict[int, set[int]] = {index: set() for index in range(10)}

    def ancestors(of: int) -> set[int]:
        met: set[int] = set()
        waiting = [of]
        while waiting:
            for parent in above[waiting.pop()] - met:
                met.add(parent)
                waiting.append(parent)
        return met

    for child, parent in pairs:
        answer = await graph_only.send(
            "POST",
            f"/api/v1/models/seed/versions/{made[child]}/lineage",
            json={"relation": "derived", "parent": {"model": "seed", "version": made[parent]}},
        )
        closes = child == parent or child in ancestors(parent)
        assert (answer.status == 409) == closes
        if not closes:
            above[child].add(parent)

    for index in range(10):
        start = NamedVersion(parse_model("seed"), ById(made[index]))
        up = await walk_lineage(graph_only.store, LOCAL, start, ("up",))
        assert {node.key for node in up.nodes[1:]} == {made[one] for one in ancestors(index)}
        down = await walk_lineage(graph_only.store, LOCAL, start, ("down",))
        below = {made[one] for one in range(10) if index in ancestors(one)}
        assert {node.key for node in down.nodes[1:]} == below


async def test_a_uri_that_nobody_names_has_nothing_below_it(registry: Registry) -> None:
    graph = await walk_lineage(registry.store, LOCAL, NamedUri("hf:nothing"), ("down",))

    assert [node.key for node in graph.nodes] == ["hf:nothing"]


@pytest.mark.parametrize(
    "which",
    [
        "_UP",
        "_DOWN",
        "_DOWN_FROM_URI",
        "_MEETS",
        "_FIND_SAME",
        "_HAS_CHILDREN",
        "_ALIASES",
        "_MEMBERS",
    ],
)
async def test_no_question_about_lineage_reads_a_whole_table(
    registry: Registry, which: str
) -> None:
    plan = await plan_of(registry.store.index, getattr(lineage, which))
    scans = [step for step in plan if step.startswith("SCAN") and "anon_" not in step]

    assert [step for step in scans if step not in ("SCAN CONSTANT ROW", "SCAN above")] == []
