"""Searching models by words through HTTP."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from tests.support.builders import Registry


async def make(registry: Registry, name: str, **said: Any) -> Any:
    answer = await registry.send("POST", "/api/v1/models", json={"name": name, **said})
    assert answer.status == 201, answer.body
    return answer.json


async def found(registry: Registry, question: str) -> list[str]:
    answer = await registry.get(f"/api/v1/search?q={quote(question)}")
    assert answer.status == 200, answer.body
    return [item["model"]["name"] for item in answer.json["items"]]


async def test_words_are_found_in_names_tags_and_descriptions(registry: Registry) -> None:
    await make(registry, "nlp/bert-base")
    await make(registry, "other", description="Made like BERT")
    await make(registry, "third", tags={"family": "bert"})
    await make(registry, "fourth")

    assert await found(registry, "bert") == ["nlp/bert-base", "third", "other"]
    assert await found(registry, "BERT base") == ["nlp/bert-base"]


async def test_phrases_unwanted_words_and_prefixes(registry: Registry) -> None:
    await make(registry, "a", description="large language model")
    await make(registry, "b", description="language large")
    await make(registry, "c", description="languages")

    assert await found(registry, '"large language"') == ["a"]
    assert sorted(await found(registry, "language -model")) == ["b"]
    assert sorted(await found(registry, "langu*")) == ["a", "b", "c"]
    assert await found(registry, "-model") == []


HOSTILE = (
    '"', '""', '"a', "AND", "a AND", "NOT", "NEAR(a b)", "name:", "name : a", "*", "a*b", "-",
    "--a", "(", "a OR (b", "^a", "{a b}:c", "'; DROP TABLE models", "%00", "\ud7ff",
    "ß" * 100, "a " * 150, "+a", "a + b", "\\", "😀", "col:val", '-"', '-"a b', "。",
)  # fmt: skip


async def test_nothing_that_is_typed_is_an_error(registry: Registry) -> None:
    await make(registry, "a")

    for question in HOSTILE:
        await found(registry, question)


async def test_what_is_said_later_is_found_and_what_was_said_before_is_not(
    registry: Registry,
) -> None:
    await make(registry, "old", description="zebra")
    url = "/api/v1/models/old"

    await registry.send("PUT", f"{url}/tags/family", json={"value": "okapi"})
    assert await found(registry, "okapi") == ["old"]
    await registry.send("DELETE", f"{url}/tags/family")
    assert await found(registry, "okapi") == []
    await registry.send("PATCH", url, json={"description": "giraffe", "name": "young"})
    assert [await found(registry, word) for word in ("zebra", "old")] == [[], []]
    assert [await found(registry, word) for word in ("giraffe", "young")] == [["young"]] * 2
    listed = await registry.get("/api/v1/models?q=giraf")
    assert [model["name"] for model in listed.json["items"]] == ["young"]
    await registry.send("DELETE", "/api/v1/models/young")
    assert await found(registry, "giraffe") == []
