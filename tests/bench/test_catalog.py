"""A filled index is one that publishing could have made; every question of the bench fits it."""

from __future__ import annotations

import itertools
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pysqlite3.dbapi2 as sqlite
import pytest

from bench import catalog, shapes
from bench.bench_catalog import CASES, PAGE
from bench.shapes import Shape
from registry.catalog.cards import moves_to_follow
from registry.catalog.seals import last_seal
from registry.catalog.search_segments import segments
from registry.services.search_merges import SearchMerges
from store.layout import INDEX_FILE
from tests.support.builders import Registry, running_registry
from tests.support.serving import opened
from tests.support.storing import put

SHAPE = Shape(110, 1_003)
FULL_PAGES = tuple(
    case
    for case in CASES
    if case.partition(":")[0] in ("list", "filter", "count") and "of a model" not in case
)


@pytest.fixture
async def root(tmp_path: Path) -> Path:
    directory = tmp_path / "data"
    async with opened(directory) as store:
        contents = [b"%d" % number * (number + 1) for number in range(8)]
        stored = [(await put(store, each, owner="usr_local")).hex for each in contents]
    sizes = [len(content) for content in contents]
    catalog.fill(directory / INDEX_FILE, SHAPE, list(zip(stored, sizes, strict=True)))
    return directory


@pytest.fixture
async def registry(root: Path) -> AsyncIterator[Registry]:
    """The filled index, served; what it claims adds up before and after."""
    async with running_registry(root) as running:
        await running.check()
        yield running
        await running.check()


def rows(root: Path, statement: str) -> list[tuple[Any, ...]]:
    connection = sqlite.connect(str(root / INDEX_FILE))
    try:
        return list(connection.execute(statement))
    finally:
        connection.close()


async def test_the_database_is_whole_and_has_the_indexes_of_an_empty_one(
    root: Path, tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    async with opened(empty):
        pass
    schema = "SELECT name, sql FROM sqlite_master ORDER BY name"

    assert rows(root, "PRAGMA integrity_check") == [("ok",)]
    assert rows(root, "PRAGMA foreign_key_check") == []
    assert rows(root, "PRAGMA journal_mode") == [("wal",)]
    assert rows(root, schema) == rows(empty, schema)
    assert rows(root, "SELECT count(*) FROM models") == [(SHAPE.models,)]
    assert rows(root, "SELECT count(*) FROM versions") == [(SHAPE.versions,)]
    recount = "SELECT count(*) FROM model_tags AS o WHERE o.tag = t.id"
    assert rows(root, f"SELECT folded FROM tags AS t WHERE models <> ({recount})") == []


@pytest.mark.parametrize("case", CASES)
async def test_every_question_is_answered(registry: Registry, case: str) -> None:
    unique = itertools.count(1)
    for seed in range(3):
        ask = CASES[case](SHAPE, random.Random(seed), next(unique))
        headers = {} if ask.content is None else {"Content-Type": "application/json"}
        answer = await registry.site.ask(ask.method, ask.target, data=ask.content, headers=headers)

        assert answer.status == ask.expect, answer.body
        if case in FULL_PAGES:
            assert len(answer.json["items"]) == PAGE


async def test_housekeeping_finds_nothing_to_catch_up_with(registry: Registry) -> None:
    """Its work would be measured with the questions."""
    store = registry.store
    moves = await store.index.read(lambda tx: moves_to_follow(tx, 1))
    last = await store.index.read(last_seal)

    documents = await store.index.read(segments)
    await SearchMerges(store).run()

    assert await store.index.read(segments) == documents
    assert moves.models == []
    assert last is not None
    assert last.last == SHAPE.versions


async def test_a_model_is_as_its_rows_say(registry: Registry) -> None:
    model = SHAPE.models - 1
    path = "/api/v1/models/" + shapes.model_name(model).replace("/", "~")
    last = SHAPE.versions_of(model)

    said = (await registry.site.ask("GET", path)).json
    listed = (await registry.site.ask("GET", f"{path}/versions")).json["items"]
    latest = (await registry.site.ask("GET", f"{path}/versions/latest")).json
    semver = (await registry.site.ask("GET", f"{path}/versions/latest?by=semver")).json
    champion = (await registry.site.ask("GET", f"{path}/versions/@champion")).json

    assert said["id"] == shapes.model_id(model)
    assert said["team"]["name"] == shapes.team_name(SHAPE.teams - 1)
    assert [version["number"] for version in listed] == list(range(last, 0, -1))
    assert (latest["number"], semver["number"], champion["number"]) == (last, last, 1)
    assert latest["id"] == shapes.version_id(SHAPE, model, last)
    assert latest["label"] == shapes.label(last)


async def test_a_rare_word_finds_its_project_and_no_more(registry: Registry) -> None:
    word = shapes.rare_word(25)

    searched = (await registry.site.ask("GET", f"/api/v1/search?q={word}")).json["items"]
    contained = (await registry.site.ask("GET", f"/api/v1/models?q={word[2:]}")).json["items"]

    expected = {shapes.model_id(model) for model in range(20, 30)}
    assert {hit["model"]["id"] for hit in searched} == expected
    assert {model["id"] for model in contained} == expected


async def test_registering_goes_on_behind_what_was_filled_in(registry: Registry) -> None:
    """Numbers, history and the sealed log continue as if the server had written it all."""
    ask = CASES["register: version"](SHAPE, random.Random(0), 1)
    path = ask.target.removesuffix("/versions")
    before = (await registry.site.ask("GET", path)).json["version_count"]

    made = await registry.site.ask(
        "POST", ask.target, data=ask.content, headers={"Content-Type": "application/json"}
    )
    history = (await registry.site.ask("GET", f"{path}/aliases/latest/history")).json["items"]

    assert made.json["version"]["number"] == before + 1
    assert len(history) >= before


def test_every_version_has_names_of_its_own() -> None:
    turns = [
        (model, number)
        for model in range(SHAPE.models)
        for number in range(1, SHAPE.versions_of(model) + 1)
    ]

    assert len(turns) == SHAPE.versions
    assert len({shapes.version_id(SHAPE, *turn) for turn in turns}) == SHAPE.versions
    assert len({shapes.revision_id(*turn) for turn in turns}) == SHAPE.versions


def test_what_a_model_says_does_not_depend_on_the_run() -> None:
    assert shapes.description(4).split()[5] == shapes.COMMON_WORD
    assert shapes.description(25).endswith(shapes.rare_word(29))
    assert shapes.model_name(1) == "family-919/" + shapes.model_name(978)[11:-6] + "000001"
