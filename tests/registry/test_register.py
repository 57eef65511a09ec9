"""Versions of blobs that are stored already, of a base with changes, of a source elsewhere."""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from registry.catalog import aliases, guards, models, versions
from registry.catalog.schema.models import DEFAULT_NAMESPACE_ID
from registry.config import Config, LimitsConfig
from registry.domain.principals import LOCAL, Principal
from registry.domain.references import parse_model
from registry.domain.roles import Rights
from registry.domain.trees import EMPTY_TREE, TreeFile, tree_digest
from registry.errors import ContentMissing
from registry.services.composing import NamedFile, Prepared, Registration, prepare
from registry.services.register import register_in
from store.digest import Digest
from store.index.claims import PIN, keep_ref
from store.index.transactions import Statement
from tests.support.builders import Answer, Registry, running_registry
from tests.support.steps import CountedTx

WEIGHTS = b"weights" * 1000
CONFIG = b"{}"
README = b"# bert\n"


async def stored(registry: Registry, *contents: bytes) -> None:
    for content in contents:
        assert (await registry.put("/blobs/", content)).status in (200, 201)


def part(path: str, content: bytes | None) -> dict[str, Any]:
    return {"path": path, "digest": None if content is None else str(Digest.of(content))}


def tree_of(files: dict[str, bytes]) -> str:
    return str(tree_digest(TreeFile(p, Digest.of(c), len(c)) for p, c in files.items()))


async def register(registry: Registry, model: str = "bert", **body: Any) -> Answer:
    return await registry.send(
        "POST",
        f"/api/v1/models/{model}/versions",
        data=msgspec.json.encode(body),
        headers={"Content-Type": "application/json"},
    )


async def test_stored_blobs_become_a_version(registry: Registry) -> None:
    await stored(registry, WEIGHTS, CONFIG)

    made = await register(
        registry, label="1.0.0", files=[part("model.bin", WEIGHTS), part("a/config.json", CONFIG)]
    )

    assert made.status == 201, made.body
    version = made.json["version"]
    assert made.json["state"] == "published"
    assert (version["number"], version["label"], version["files"]) == (1, "1.0.0", 2)
    assert version["tree"] == tree_of({"model.bin": WEIGHTS, "a/config.json": CONFIG})
    assert version["size"] == len(WEIGHTS) + len(CONFIG)
    assert version["status"] == "registered"
    got = await registry.get("/models/bert/1.0.0/a/config.json")
    assert got.body == CONFIG
    about = await registry.get(made.headers["Location"].removeprefix(registry.url))
    assert about.json["id"] == version["id"]


async def test_registering_takes_the_pins_of_uploads_over(registry: Registry) -> None:
    await stored(registry, WEIGHTS)

    await register(registry, label="v1", files=[part("f", WEIGHTS)])

    assert await registry.rows("SELECT kind, count FROM refs") == [("tree", 1)]


async def test_everything_that_is_missing_is_listed_and_nothing_is_made(
    registry: Registry,
) -> None:
    await stored(registry, CONFIG)

    refused = await register(
        registry,
        label="v1",
        files=[part("a", WEIGHTS), part("b", CONFIG), part("c", README), part("d", README)],
    )

    assert (refused.status, refused.code) == (409, "content_missing")
    assert refused.json["missing"] == sorted([str(Digest.of(WEIGHTS)), str(Digest.of(README))])
    assert await registry.count("models") == 0
    assert await registry.count("versions") == 0
    assert await registry.count("trees") == 0


async def test_a_blob_that_nobody_owns_is_missing(registry: Registry) -> None:
    await registry.put("/models/other/v1/f", WEIGHTS)
    await registry.send("DELETE", "/models/other/v1")
    assert await registry.count("blobs") == 1

    refused = await register(registry, label="v1", files=[part("a", WEIGHTS)])

    assert (refused.status, refused.code) == (409, "content_missing")


async def test_a_base_is_overlaid_with_changes(registry: Registry) -> None:
    await stored(registry, WEIGHTS, CONFIG, README)
    await register(registry, label="v1", files=[part("w", WEIGHTS), part("c", CONFIG)])

    made = await register(
        registry, label="v2", base="v1", files=[part("c", None), part("README.md", README)]
    )

    assert made.status == 201, made.body
    assert made.json["version"]["tree"] == tree_of({"w": WEIGHTS, "README.md": README})


async def test_a_base_may_be_an_alias_and_must_be_a_version(registry: Registry) -> None:
    await stored(registry, WEIGHTS)
    await register(registry, label="v1", files=[part("w", WEIGHTS)])
    await registry.put("/models/bert/draft1/f", CONFIG)

    by_alias = await register(registry, label="v2", base="@latest")
    by_draft = await register(registry, label="v3", base="draft1")
    unknown = await register(registry, label="v3", base="v9")
    no_model = await register(registry, "other", label="v3", base="v1")
    absent = await register(registry, label="v3", base="v1", files=[part("nope", None)])

    assert by_alias.status == 201
    assert (by_draft.status, by_draft.code) == (409, "base_is_draft")
    assert (unknown.status, unknown.code) == (404, "version_not_found")
    assert (no_model.status, no_model.code) == (404, "model_not_found")
    assert (absent.status, absent.code) == (400, "path_not_in_base")


async def test_an_identical_repeat_is_the_same_version(registry: Registry) -> None:
    await stored(registry, WEIGHTS)
    body: dict[str, Any] = {
        "label": "v1",
        "files": [part("w", WEIGHTS)],
        "eval_score": 0.5,
    }

    first = await register(registry, **body)
    again = await register(registry, **body)

    assert (first.status, again.status) == (201, 200)
    assert again.json == first.json
    assert await registry.count("versions") == 1


async def test_a_different_duplicate_is_refused_with_what_is_there(registry: Registry) -> None:
    await stored(registry, WEIGHTS, CONFIG)
    first = await register(registry, label="v1", files=[part("w", WEIGHTS)])

    refused = await register(registry, label="v1", files=[part("w", CONFIG)])
    external = await register(registry, label="v1", source={"uri": "s3://x"})

    assert (refused.status, refused.code) == (409, "version_published")
    assert refused.json["tree"] == first.json["version"]["tree"]
    assert refused.json["number"] == 1
    assert (external.status, external.code) == (409, "version_published")


async def test_without_a_label_only_a_request_that_says_nothing_new_is_a_repeat(
    registry: Registry,
) -> None:
    await stored(registry, WEIGHTS)
    files = [part("w", WEIGHTS)]

    numbers = [
        (await register(registry, files=files, **said)).json["version"]["number"]
        for said in (
            {"eval_score": 0.5, "parameters": {"a": 1, "b": [2]}},
            {"eval_score": 0.5, "parameters": {"b": [2], "a": 1}},
            {"eval_score": 0.5},
            {},
            {"eval_score": 0.6},
            {"eval_score": 0.6, "status": "production"},
            {"status": "production"},
        )
    ]

    assert numbers == [1, 1, 1, 1, 2, 3, 3]


async def test_a_source_is_named_and_never_opened(registry: Registry) -> None:
    source = {"uri": "s3://models/bert", "digest": str(Digest.of(WEIGHTS)), "size": 7000}

    made = await register(registry, label="v1", source=source)
    again = await register(registry, label="v1", source=source)
    other = await register(registry, label="v1", source={**source, "size": 7001})

    assert made.status == 201, made.body
    assert made.json["version"]["source"] == source
    assert made.json["version"]["tree"] == str(EMPTY_TREE)
    assert (again.status, again.json) == (200, made.json)
    assert (other.status, other.code) == (409, "version_published")


async def test_sources_without_labels_are_told_apart(registry: Registry) -> None:
    sources = [
        {"uri": "s3://a"},
        {"uri": "s3://b"},
        {"uri": "s3://a", "size": 1},
        {"uri": "s3://a", "digest": str(Digest.of(WEIGHTS))},
        {"uri": "s3://a"},
    ]

    numbers = [
        (await register(registry, source=source)).json["version"]["number"] for source in sources
    ]

    assert numbers == [1, 2, 3, 4, 1]


async def test_files_cannot_be_beside_a_source(registry: Registry) -> None:
    await stored(registry, WEIGHTS)

    refused = await register(registry, files=[part("w", WEIGHTS)], source={"uri": "s3://a"})

    assert (refused.status, refused.json["errors"][0]["field"]) == (400, "source")


@pytest.mark.parametrize("body", [{}, {"label": "v1"}, {"label": "v1", "files": []}])
async def test_a_version_of_nothing_is_refused(registry: Registry, body: dict[str, Any]) -> None:
    refused = await register(registry, **body)

    assert (refused.status, refused.code) == (400, "version_empty")
    assert await registry.count("models") == 0


async def test_unpublished_files_are_a_draft(registry: Registry) -> None:
    await stored(registry, WEIGHTS, CONFIG)
    files = [part("w", WEIGHTS), part("x", WEIGHTS)]
    body: dict[str, Any] = {"label": "v1", "files": files, "publish": False}

    made = await register(registry, **body)
    again = await register(registry, **body)
    other = await register(registry, **{**body, "files": [part("w", CONFIG)]})
    now = await register(registry, **{**body, "publish": True})

    assert (made.status, made.json["state"], made.json["draft"]["label"]) == (201, "draft", "v1")
    assert again.status == 200
    assert (other.status, other.code) == (409, "draft_exists")
    assert (now.status, now.code) == (409, "draft_exists")
    assert await registry.rows("SELECT kind, count FROM refs ORDER BY kind") == [
        ("folder", 2),
        ("pin", 1),
    ]
    published = await registry.send("POST", "/api/v1/models/bert/versions/v1/publish")
    assert published.json["version"]["tree"] == tree_of({"w": WEIGHTS, "x": WEIGHTS})


async def test_a_draft_needs_a_label_and_says_nothing(registry: Registry) -> None:
    await stored(registry, WEIGHTS)
    files = [part("w", WEIGHTS)]

    nameless = await register(registry, files=files, publish=False)
    said = await register(
        registry, label="v1", files=files, publish=False, region="eu", status="production"
    )

    assert (nameless.status, nameless.json["errors"][0]["field"]) == (400, "label")
    assert (said.status, [e["field"] for e in said.json["errors"]]) == (400, ["region", "status"])


async def test_everything_that_is_said_comes_back(registry: Registry) -> None:
    await stored(registry, WEIGHTS)
    said: dict[str, Any] = {
        "description": "a base model",
        "parameters": {"layers": 12, "deep": {"a": [1, 2.5, None, True]}},
        "standardisation_parameters": {"mean": [0.1, 0.2]},
        "performance_metrics": {"f1": 0.9},
        "metadata": {"note": "NaN", "gone": None},
        "framework": "pytorch",
        "framework_version": "2.9.1",
        "python_version": "3.12",
        "region": "eu-central-1",
        "eval_score": 0.93,
        "cost_per_1k": 0.02,
        "slo_target": "p99 < 200 ms",
        "slo_met": True,
        "status": "validated",
    }

    made = await register(registry, label="v1", files=[part("w", WEIGHTS)], **said)

    assert made.status == 201, made.body
    assert {name: made.json["version"][name] for name in said} == said


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"eval_score": 1.5, "cost_per_1k": -1, "status": "best"}, None),
        ({"eval_scor": 1}, ["eval_scor"]),
        ({"performance_metrics": {"f1": "NaN", "deep": [{"x": "-Infinity"}]}}, None),
        ({"parameters": {"lr": "nan"}}, ["parameters.lr"]),
        ({"standardisation_parameters": {"m": ["Infinity"]}}, ["standardisation_parameters.m[0]"]),
        ({"files": [{"path": "../x", "digest": "sha256:12"}]}, None),
        ({"files": [{"path": "a"}]}, ["files[0].digest"]),
        ({"label": "12"}, ["label"]),
        ({"base": "::"}, ["base"]),
        ({"source": {"uri": "", "size": -1}}, ["source.uri", "source.size"]),
        ({"metadata": {"a": "x" * (1 << 20)}}, ["metadata"]),
        ({"framework": None}, ["framework"]),
    ],
)
async def test_wrong_fields_are_named_and_nothing_is_made(
    registry: Registry, body: dict[str, Any], fields: list[str] | None
) -> None:
    await stored(registry, WEIGHTS)

    refused = await register(registry, **{"files": [part("w", WEIGHTS)], **body})

    assert refused.status == 400, refused.body
    if fields is not None:
        assert [error["field"] for error in refused.json["errors"]] == fields
    assert await registry.count("models") == 0


async def test_every_bad_field_is_named_at_once(registry: Registry) -> None:
    wrong = await register(
        registry, eval_score=1.5, cost_per_1k=-1, status="best", slo_met="yes", files=[]
    )
    metrics = await register(
        registry, performance_metrics={"f1": "NaN", "deep": [{"x": "-Infinity"}]}
    )
    files = await register(
        registry,
        files=[{"path": "../x", "digest": f"sha256:{'0' * 64}"}, {"path": "b", "digest": "md5:1"}],
    )

    assert {e["field"] for e in wrong.json["errors"]} == {
        "eval_score",
        "cost_per_1k",
        "status",
        "slo_met",
    }
    assert [e["field"] for e in metrics.json["errors"]] == [
        "performance_metrics.f1",
        "performance_metrics.deep[0].x",
    ]
    assert [e["field"] for e in files.json["errors"]] == ["files[0].path", "files[1].digest"]


async def test_numbers_that_json_does_not_have_are_refused(registry: Registry) -> None:
    for number in (b"NaN", b"Infinity", b"1e999", b"-1e999"):
        for field in (b"performance_metrics", b"metadata"):
            body = b'{"source": {"uri": "s3://a"}, "%s": {"a": %s}}' % (field, number)
            refused = await registry.send(
                "POST",
                "/api/v1/models/bert/versions",
                data=body,
                headers={"Content-Type": "application/json"},
            )
            assert refused.status == 400, (number, refused.body)


async def test_paths_cannot_come_twice_or_be_directories(registry: Registry) -> None:
    await stored(registry, WEIGHTS)

    twice = await register(registry, files=[part("a", WEIGHTS), part("a", WEIGHTS)])
    one_form = await register(
        registry, files=[part("gr\u00fcn", WEIGHTS), part("gru\u0308n", WEIGHTS)]
    )
    directory = await register(registry, files=[part("a", WEIGHTS), part("a/b", WEIGHTS)])

    assert (twice.status, twice.code) == (400, "path_twice")
    assert (one_form.status, one_form.code) == (400, "path_twice")
    assert (directory.status, directory.code) == (400, "path_is_a_directory")


async def test_labels_of_others_are_refused(registry: Registry) -> None:
    await stored(registry, WEIGHTS)
    files = [part("w", WEIGHTS)]
    await register(registry, label="v1", files=files)
    await registry.send("PUT", "/api/v1/models/bert/aliases/champion", json={"version": "v1"})

    reserved = await register(registry, label="latest", files=files)
    alias = await register(registry, label="champion", files=files)
    spelling = await register(registry, label="V1", files=files)
    model = await register(registry, "BERT", label="v2", files=files)

    assert (reserved.status, reserved.code) == (409, "label_is_alias")
    assert (alias.status, alias.code) == (409, "label_is_alias")
    assert (spelling.status, spelling.code) == (409, "label_taken")
    assert (model.status, model.code) == (409, "model_name_taken")


async def test_a_burnt_label_takes_the_same_files_only_and_what_is_said_anew(
    registry: Registry,
) -> None:
    await stored(registry, WEIGHTS, CONFIG)
    first = await register(registry, label="v1", files=[part("w", WEIGHTS)], region="eu")
    await registry.send("DELETE", "/models/bert/v1")

    other = await register(registry, label="v1", files=[part("w", CONFIG)])
    back = await register(registry, label="v1", files=[part("w", WEIGHTS)], eval_score=0.5)

    assert (other.status, other.code) == (409, "label_burnt")
    assert back.status == 201
    assert back.json["version"]["id"] == first.json["version"]["id"]
    assert back.json["version"]["region"] == "eu"
    assert back.json["version"]["eval_score"] == 0.5


async def test_too_many_files_are_refused_by_the_limits_name(registry: Registry) -> None:
    await stored(registry, WEIGHTS)
    files = [part(f"f{n}", WEIGHTS) for n in range(100_001)]

    refused = await register(registry, files=files)

    assert (refused.status, refused.code) == (400, "too_many_files")
    assert refused.json["limit"] == "limits.version_files"


async def test_a_key_makes_a_repeat_answer_the_same(registry: Registry) -> None:
    await stored(registry, WEIGHTS)
    body = {"files": [part("w", WEIGHTS)], "eval_score": 0.1}
    path = "/api/v1/models/bert/versions"

    first = await registry.send("POST", path, json=body, headers={"Idempotency-Key": "k"})
    again = await registry.send("POST", path, json=body, headers={"Idempotency-Key": "k"})

    assert (first.status, again.status) == (201, 201)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.json == first.json


async def test_registering_takes_as_many_statements_for_many_files_as_for_one(
    registry: Registry,
) -> None:
    contents = [b"%d" % n for n in range(20)]
    await stored(registry, *contents)
    await register(registry, label="warm", files=[part("f", contents[0])])
    counts = []
    for count in (1, 2000):
        files = [part(f"f{n:05d}", contents[n % 20]) for n in range(count)]
        before = registry.store.index.statement_count()
        made = await register(registry, label=f"v{count}", files=files)
        assert made.status == 201, made.body
        counts.append(registry.store.index.statement_count() - before)

    assert counts[0] == counts[1]


# Many at once.


async def register_many(registry: Registry, *versions: dict[str, Any]) -> Answer:
    return await registry.send(
        "POST",
        "/api/v1/versions/batch",
        data=msgspec.json.encode({"versions": versions}),
        headers={"Content-Type": "application/json"},
    )


async def test_versions_of_several_models_are_registered_at_once(registry: Registry) -> None:
    await stored(registry, WEIGHTS)
    batch: list[dict[str, Any]] = [
        {"model": "nlp/bert", "label": "v1", "files": [part("w", WEIGHTS)], "region": "eu"},
        {"model": "gpt", "label": "v1", "source": {"uri": "s3://gpt"}},
        {"model": "nlp/bert", "label": "v2", "files": [part("w", WEIGHTS)], "publish": False},
        {"model": "gpt", "source": {"uri": "s3://gpt2"}, "tags": {"gold": ""}},
    ]

    made = await register_many(registry, *batch)
    again = await register_many(registry, *batch)

    assert made.status == 201, made.body
    told = [(one["model"], one["state"]) for one in made.json["versions"]]
    assert told == [
        ("nlp/bert", "published"),
        ("gpt", "published"),
        ("nlp/bert", "draft"),
        ("gpt", "published"),
    ]
    assert [one["version"] and one["version"]["number"] for one in made.json["versions"]] == [
        1,
        1,
        None,
        2,
    ]
    assert made.json["versions"][3]["version"]["tags"] == [{"key": "gold", "value": ""}]
    assert (again.status, again.json) == (200, made.json)
    assert await registry.count("versions") == 3


async def test_one_bad_version_keeps_all_from_being_made_and_all_are_named(
    registry: Registry,
) -> None:
    await stored(registry, WEIGHTS)
    await register(registry, "old", label="v1", files=[part("w", WEIGHTS)])

    refused = await register_many(
        registry,
        {"model": "fresh", "label": "v1", "files": [part("w", WEIGHTS)]},
        {"model": "fresh", "label": "v2", "files": [part("w", README)]},
        {"model": "old", "label": "v1", "source": {"uri": "s3://x"}},
        {"model": "fresh", "label": "v3", "base": "v9"},
        {"model": "fresh", "label": "v1", "source": {"uri": "s3://x"}},
        {"model": "fresh", "label": "latest", "files": [part("w", WEIGHTS)]},
    )

    assert (refused.status, refused.code) == (409, "batch_refused")
    problems = refused.json["problems"]
    assert [(problem["field"], problem["code"]) for problem in problems] == [
        ("versions[1]", "content_missing"),
        ("versions[2]", "version_published"),
        ("versions[3]", "model_not_found"),
        ("versions[4]", "version_published"),
        ("versions[5]", "label_is_alias"),
    ]
    assert problems[0]["facts"] == {"missing": [str(Digest.of(README))]}
    assert await registry.rows("SELECT name FROM models") == [("old",)]
    assert await registry.count("versions") == 1


async def test_bad_fields_of_a_whole_batch_are_named_at_once(registry: Registry) -> None:
    refused = await register_many(
        registry,
        {"model": "a", "label": "12"},
        {"model": "a", "performance_metrics": {"f1": "NaN"}},
        {"model": "../x"},
        {"model": "a", "files": [{"path": "/x", "digest": None}]},
        {"model": "a", "tags": {"a=b": ""}},
    )
    shaped = await register_many(registry, {"label": "v1"}, {"model": "a", "nonsense": 1})
    empty = await register_many(registry)

    assert [error["field"] for error in refused.json["errors"]] == [
        "versions[0].label",
        "versions[1].performance_metrics.f1",
        "versions[2].model",
        "versions[3].files[0].path",
        "versions[4].tags",
    ]
    assert {error["field"] for error in shaped.json["errors"]} == {
        "versions[0].model",
        "versions[1].nonsense",
    }
    assert (refused.status, shaped.status, empty.status) == (400, 400, 400)


async def test_the_files_of_a_batch_count_together(tmp_path: Path) -> None:
    config = Config(limits=LimitsConfig(version_files=3))
    async with running_registry(tmp_path / "data", config=config) as registry:
        await stored(registry, WEIGHTS)
        two = [part("a", WEIGHTS), part("b", WEIGHTS)]

        refused = await register_many(
            registry,
            {"model": "m", "label": "v1", "files": two},
            {"model": "m", "label": "v2", "files": two},
        )

        assert (refused.status, refused.code) == (400, "too_many_files")
        assert refused.json["allowed"] == 3
        assert await registry.count("versions") == 0


async def test_a_key_in_two_spellings_is_one_tag_too_many(registry: Registry) -> None:
    refused = await register(registry, source={"uri": "s3://a"}, tags={"Gold": "1", "gold": "2"})

    assert (refused.status, refused.code) == (400, "tag_invalid")


# What may be named, asked of the service itself.


async def wish_for(registry: Registry, principal: Principal, *, is_draft: bool = False) -> Prepared:
    wish = Registration(label="v1", files=[NamedFile("w", Digest.of(WEIGHTS))], is_draft=is_draft)
    model = parse_model("bert")
    return await prepare(registry.store, principal, model, wish, most_files=10)


@pytest.mark.parametrize("is_draft", [True, False])
async def test_what_goes_between_looking_and_writing_is_missing_too(
    registry: Registry, is_draft: bool
) -> None:
    await registry.put("/models/other/v1/f", WEIGHTS)
    prepared = await wish_for(registry, LOCAL, is_draft=is_draft)
    await registry.send("DELETE", "/models/other/v1")

    with pytest.raises(ContentMissing) as refused:
        await registry.store.index.run(partial(register_in, principal=LOCAL, on=prepared))
    assert refused.value.digests == [str(Digest.of(WEIGHTS))]
    assert await registry.rows("SELECT name FROM models") == [("other",)]


async def test_a_digest_opens_nothing_that_the_caller_may_not_read(registry: Registry) -> None:
    may_create = Rights(namespaces={DEFAULT_NAMESPACE_ID: frozenset(("model.create",))})
    stranger = Principal("usr_stranger", "stranger", rights=may_create)
    await stored(registry, WEIGHTS)

    with pytest.raises(ContentMissing):
        await wish_for(registry, stranger)
    owned = partial(keep_ref, digest=Digest.of(WEIGHTS), owner=stranger.id, kind=PIN)
    await registry.store.index.run(owned)
    prepared = await wish_for(registry, stranger)
    done = await registry.store.index.run(partial(register_in, principal=stranger, on=prepared))

    assert done.is_new
    assert await registry.rows("SELECT owner, kind FROM refs WHERE kind <> 'tree'") == [
        (LOCAL.id, PIN)
    ]


@pytest.mark.parametrize(
    "statement",
    [
        models._TAKE_NUMBER,
        versions._INSERT,
        versions._INSERT_DETAILS,
        aliases._RESERVED,
        guards._COVERING,
    ],
    ids=["number", "version", "details", "aliases", "guards"],
)
def test_what_each_registration_runs_makes_no_table_and_sets_off_nothing(
    statement: Statement,
) -> None:
    """Either would be half of what it takes: a table each time, or a copy of each changed page."""
    with CountedTx() as tx:
        tx.connection.execute("PRAGMA ignore_check_constraints = OFF")
        bound = statement.bound(defaultdict(lambda: None))
        program = tx.connection.execute(f"EXPLAIN {statement.numbered}", bound).fetchall()

    assert not {"OpenEphemeral", "SorterOpen", "Program"} & {step[1] for step in program}
