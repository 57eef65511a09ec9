"""Namespaces through HTTP: made by models or on purpose, changed, and deleted when empty."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Column, Table, UniqueConstraint

from registry.catalog import experiments, namespaces
from registry.catalog import schema as catalog_schema
from store.index import schema as store_schema
from tests.support.builders import Registry
from tests.support.plans import plan_of

URL = "/api/v1/namespaces"


async def slugs(registry: Registry, question: str = "") -> list[str]:
    return [item["slug"] for item in (await registry.get(URL + question)).json["items"]]


async def test_the_first_use_of_a_name_makes_its_namespace(registry: Registry) -> None:
    await registry.put("/models/Vision~vit/1.0.0/f", b"1")
    await registry.send("POST", "/api/v1/models", json={"name": "nlp/bert"})
    await registry.send("POST", "/api/v1/models", json={"name": "NLP/gpt"})
    await registry.send("POST", "/api/v1/models", json={"name": "single"})

    assert await slugs(registry) == ["default", "nlp", "Vision"]
    for model, slug in (("Vision~vit", "Vision"), ("nlp~gpt", "nlp"), ("single", "default")):
        assert (await registry.get(f"/api/v1/models/{model}")).json["namespace"] == slug
    made = (await registry.get(f"{URL}/vision")).json
    assert made["owner"] == {"kind": "user", "id": "usr_local"}
    assert (await registry.get(f"{URL}/{made['id']}")).json == made


async def test_an_archive_makes_the_namespace_too(registry: Registry) -> None:
    from tests.support.builders import tar_of

    put = await registry.put("/models/audio~whisper/1.0.0.tar", tar_of({"f": b"1"}))

    assert put.status == 201
    assert (await registry.get("/api/v1/models/audio~whisper")).json["namespace"] == "audio"


async def test_new_models_get_the_visibility_of_their_namespace(registry: Registry) -> None:
    made = await registry.send("POST", URL, json={"slug": "open", "visibility": "public"})
    assert made.status == 201
    assert made.headers["Location"] == f"{registry.url}{URL}/open"

    for name, said in (("open/a", {}), ("open/b", {"visibility": "private"})):
        await registry.send("POST", "/api/v1/models", json={"name": name, **said})
    await registry.put("/models/open~c/1.0.0/f", b"1")

    found = await registry.get("/api/v1/models?namespace=open")
    shown = {model["name"]: model["visibility"] for model in found.json["items"]}
    assert shown == {"open/a": "public", "open/b": "private", "open/c": "public"}


async def test_a_slug_is_taken_in_any_case_and_reserved_words_are_refused(
    registry: Registry,
) -> None:
    await registry.send("POST", URL, json={"slug": "Nlp"})

    refused = await registry.send("POST", URL, json={"slug": "nLP"})

    assert (refused.status, refused.code) == (409, "namespace_exists")
    assert refused.json["existing"] == "Nlp"
    for slug in ("api", "default", "mdl_x", "a/b", "", " a", "x" * 97):
        answer = await registry.send("POST", URL, json={"slug": slug})
        assert answer.status == 400, slug


async def test_changes_are_conditional_and_counted(registry: Registry) -> None:
    made = await registry.send("POST", URL, json={"slug": "nlp", "quota_bytes": 5})
    url, tag = f"{URL}/nlp", made.headers["ETag"]

    changed = await registry.send(
        "PATCH", url, json={"quota_bytes": None, "description": "x"}, headers={"If-Match": tag}
    )

    assert (changed.status, changed.json["quota_bytes"]) == (200, None)
    stale = await registry.send("PATCH", url, json={"description": "y"}, headers={"If-Match": tag})
    assert (stale.status, stale.code) == (412, "precondition_failed")
    assert (await registry.get(url, If_None_Match=changed.headers["ETag"])).status == 304
    for bad in ({"quota_bytes": -1}, {"visibility": "secret"}, {"slug": "other"}):
        assert (await registry.send("PATCH", url, json=bad)).status == 400


async def test_only_an_empty_namespace_goes_and_never_the_default(registry: Registry) -> None:
    made = await registry.send("POST", "/api/v1/models", json={"name": "nlp/bert"})
    url = f"{URL}/nlp"

    full = await registry.send("DELETE", url)
    assert (full.status, full.code) == (409, "namespace_not_empty")
    assert (full.json["models"], full.json["deleted_models"]) == (1, 0)
    await registry.send("DELETE", "/api/v1/models/nlp~bert")
    full = await registry.send("DELETE", url)
    assert (full.json["models"], full.json["deleted_models"]) == (0, 1)
    await registry.send("POST", f"/api/v1/models/{made.json['id']}/purge")
    assert (await registry.send("DELETE", url)).status == 204
    assert (await registry.get(url)).code == "namespace_not_found"
    default = await registry.send("DELETE", f"{URL}/default")
    assert (default.status, default.code) == (409, "namespace_is_default")


async def test_namespaces_are_listed_page_by_page(registry: Registry) -> None:
    for slug in ("b", "C", "a"):
        await registry.send("POST", URL, json={"slug": slug})

    first = await registry.get(f"{URL}?limit=2")

    assert [item["slug"] for item in first.json["items"]] == ["a", "b"]
    assert await slugs(registry, f"?limit=2&after={first.json['next']}") == ["C", "default"]


@pytest.mark.parametrize("path", ["nowhere", "nsp_0123456789abcdefghjkmnpqrs"])
async def test_what_is_not_there_is_named(registry: Registry, path: str) -> None:
    missing = await registry.get(f"{URL}/{path}")

    assert (missing.status, missing.code) == (404, "namespace_not_found")
    assert path in missing.json["detail"]


# What a deletion looks at


async def test_what_a_namespace_holds_is_counted_inside_an_index_and_no_further_than_needed(
    registry: Registry,
) -> None:
    for statement in (*namespaces._HELD, *experiments._HELD):
        plan = await plan_of(registry.store.index, statement)

        [step] = [step for step in plan if "_by_namespace" in step]
        assert "USING COVERING INDEX" in step, plan
        assert "(namespace=? AND deleted_at" in step, plan
        assert "LIMIT 1000" in statement.sqlite
        assert not any("TEMP B-TREE" in step for step in plan), plan


def test_every_row_that_may_go_is_asked_for_through_an_index() -> None:
    """Without one, removing a row reads whole tables that might refer to it."""
    without = {
        f"{table.name}.{column.name}"
        for metadata in (catalog_schema.metadata, store_schema.metadata)
        for table in metadata.tables.values()
        for column in table.columns
        if column.foreign_keys and not is_indexed(table, column)
    }

    assert without == {"models.team"}, "teams are only deleted softly"


def is_indexed(table: Table, column: Column[Any]) -> bool:
    """Whether rows are found by this column, whatever else is in them."""
    keys = [table.primary_key.columns]
    keys += [rule.columns for rule in table.constraints if isinstance(rule, UniqueConstraint)]
    for index in table.indexes:
        where = index.dialect_options["sqlite"]["where"]
        if where is None or str(where) == f"{table.name}.{column.name} IS NOT NULL":
            keys.append(index.columns)
    return any(next(iter(key)) is column for key in keys)
