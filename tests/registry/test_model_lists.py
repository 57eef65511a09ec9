"""Which index each list of models runs on, and that lists and totals show what may be seen."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from registry.catalog import matches, model_lists, namespaces, tag_lists, tags, teams
from registry.catalog.migrations import CHAINS
from registry.catalog.model_filters import EQUAL as BY_COLUMN
from registry.catalog.model_filters import Shape, statement_of
from registry.domain.principals import Principal
from registry.services.model_lists import ModelsAsked, list_models
from registry.services.search import search_models
from registry.services.tags import list_tags
from store.index.database import Database
from store.index.transactions import Statement, Tx
from store.index.upgrade import upgrade
from tests.support.builders import Registry

EQUAL = (
    (),
    *((name,) for name in BY_COLUMN),
    ("team_id", "is_active"),
    ("namespace_id", "task_type", "risk_level", "kind"),
)
TAGS = ((), (True,), (False,), (True, True), (True, False))


@pytest.fixture
async def index(tmp_path: Path) -> AsyncIterator[Database]:
    """An index in a file, with the tables that migrations make."""
    path = tmp_path / "index.sqlite3"
    await asyncio.to_thread(upgrade, path, CHAINS)
    index = await Database.open(path, chains=CHAINS)
    yield index
    await index.close()


async def plan(index: Database, statement: Statement) -> str:
    """What SQLite would do, in its own words."""
    sql = statement.sqlite
    explained = Statement(text("EXPLAIN QUERY PLAN " + sql.replace("\n", " ")))
    names = set(re.findall(r":(\w+)", sql))

    async def unit(tx: Tx) -> list[Any]:
        return await tx.all(explained, **dict.fromkeys(names, '"abc"'))

    return "\n".join(row[3] for row in await index.read(unit))


def shape(**said: Any) -> Shape:
    plain: dict[str, Any] = {
        "equal": (),
        "tags": (),
        "substring": "none",
        "order": "name",
        "restriction": "none",
        "has_place": True,
        "wanted": "models",
    }
    return Shape(**(plain | said))


async def test_lists_in_order_of_names_read_an_index_and_sort_nothing(index: Database) -> None:
    for equal, tagged, substring, restricted in product(
        EQUAL, TAGS, ("none", "prefix"), ("none", "many")
    ):
        asked = shape(equal=equal, tags=tagged, substring=substring, restriction=restricted)
        found = await plan(index, statement_of(asked))
        assert "TEMP B-TREE" not in found, (asked, found)
        assert "SCAN models" not in found, (asked, found)
        assert "SCAN model_tags" not in found, (asked, found)
        if tagged:
            expected = "model_tags_by_tag (tag=?" if tagged[0] else "model_tags_by_key (key=?"
        elif equal:
            expected = f"({BY_COLUMN[equal[0]].name}=?"
        else:
            expected = "models_by_name (folded>?"
        assert expected in found, (asked, found)


async def test_other_orders_read_an_index_and_sort_only_what_a_filter_left(
    index: Database,
) -> None:
    coarse = ("risk_level", "kind", "visibility", "is_active")
    for equal in ((), *((name,) for name in coarse), coarse):
        found = await plan(index, statement_of(shape(equal=equal, order="created")))
        assert found == "SEARCH models USING INDEX models_by_creation ((created_at,id)<(?,?))"
        found = await plan(index, statement_of(shape(equal=equal, order="deleted")))
        assert re.fullmatch(r"SEARCH models USING INDEX models_deleted \(.*\)", found)
    found = await plan(index, statement_of(shape(equal=("team_id",), order="created")))
    assert "models_by_team (team=?)" in found


async def test_few_matches_are_looked_up_and_many_are_asked_for(index: Database) -> None:
    few = await plan(index, statement_of(shape(substring="few")))
    assert "SCAN model_grams VIRTUAL TABLE INDEX" in few
    assert "SEARCH models USING PRIMARY KEY (id=?)" in few
    known = await plan(index, statement_of(shape(substring="known")))
    assert "SCAN model_grams" not in known
    assert "SEARCH models USING PRIMARY KEY (id=?)" in known
    many = await plan(index, statement_of(shape(substring="many")))
    assert many.startswith("SEARCH models USING INDEX models_by_name (folded>?)")
    assert "TEMP B-TREE" not in many
    assert "SCAN search_documents" not in many
    # The matches are found once, beside the rows, and not by asking for each row.
    assert "LIST SUBQUERY" in many
    assert "SCAN model_grams VIRTUAL TABLE INDEX 0:M" in many


async def test_the_other_lists_read_an_index_and_sort_nothing(index: Database) -> None:
    listed = {
        "namespaces": namespaces._PAGE,
        "teams": teams._PAGE,
        "teams by activity": teams._PAGE_BY_ACTIVITY,
        "teams deleted": teams._PAGE_DELETED,
        "tags": tag_lists._PAGE[""],
        "tags of a model": tags._ON_MODEL.page,
        "tags of a version": tags._ON_VERSION.page,
    }
    for name, statement in listed.items():
        found = await plan(index, statement)
        assert "TEMP B-TREE" not in found, (name, found)
        for line in found.splitlines():
            is_virtual = "VIRTUAL TABLE INDEX" in line
            assert not line.startswith("SCAN") or is_virtual or "tagged_" in line, (name, found)


async def test_searching_walks_its_words_and_sorts_only_what_is_few(index: Database) -> None:
    for restricted, statements in matches._STATEMENTS.items():
        for statement in (statements.count, statements.next, statements.ranked, statements.tier):
            found = (await plan(index, statement)).splitlines()
            walks = [line for line in found if "SCAN model_words" in line]
            others = [line for line in found if line.startswith(("SEARCH d", "SCAN d"))]
            is_sorted = any("TEMP B-TREE" in line for line in found)

            # The few that somebody sees are looked at one by one, not among all that match.
            assert [":=M" in line for line in walks] == [restricted == "few"], found
            assert all(line.startswith("SEARCH") for line in others), found
            is_few = statement is statements.ranked
            is_few |= restricted == "few" and statement is statements.tier
            assert is_sorted == is_few, found


# Visibility


async def made(registry: Registry, name: str) -> str:
    said = {"name": name, "description": "zebra", "tags": {"kind": "striped"}}
    answer = await registry.send("POST", "/api/v1/models", json=said)
    return str(answer.json["id"])


async def test_lists_totals_search_and_counts_show_what_may_be_seen(registry: Registry) -> None:
    seen = await made(registry, "seen")
    await made(registry, "hidden")
    somebody = Principal(seen, "who may read what this model owns")
    nobody = Principal("usr_nobody", "nobody")

    for text_ in ("", "ze", "zebra"):
        asked = ModelsAsked(text="" if text_ == "ze" else text_)
        found = await list_models(registry.store, somebody, asked, is_counted=True)
        assert [full.model.name for full in found.items] == ["seen"]
        assert found.total == 1
    by_tag = ModelsAsked(tags=(("kind", "striped"),))
    assert (await list_models(registry.store, nobody, by_tag, is_counted=True)).total == 0
    hits = await search_models(registry.store, somebody, "zebra")
    assert ([hit.full.model.name for hit in hits.items], hits.count) == (["seen"], 1)
    [counted] = await list_tags(registry.store, somebody)
    assert counted.models == 1


async def test_totals_are_exact_to_a_limit(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        await made(registry, name)
    from registry.api import models as handlers

    for module in (model_lists, handlers):
        monkeypatch.setattr(module, "MOST_COUNTED", 2)

    answer = await registry.get("/api/v1/models?total=true")

    assert (answer.json["total"], answer.json["total_is_exact"]) == (2, False)
