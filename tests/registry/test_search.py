"""Searching models by words through HTTP."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from registry.catalog import search
from registry.services import search as services
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


def allow(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Rank no more than so many candidates."""
    for module in (search, services):
        monkeypatch.setattr(module, "MOST_CANDIDATES", most)


async def test_pages_follow_each_other_through_equal_and_unequal_ranks(registry: Registry) -> None:
    for number in range(12):
        await make(registry, f"m{number}", description="zebra " * (number % 3 + 1))
    url: str | None = "/api/v1/search?q=zebra&limit=5&total=true"
    pages = list[list[str]]()
    while url is not None:
        answer = (await registry.get(url)).json
        assert (answer["total"], answer["total_is_exact"]) == (12, True)
        pages.append([item["model"]["name"] for item in answer["items"]])
        after = answer["next"]
        url = after and f"/api/v1/search?q=zebra&limit=5&total=true&after={after}"

    assert [len(page) for page in pages] == [5, 5, 2]
    together = [name for page in pages for name in page]
    assert together == await found(registry, "zebra")
    assert together[:4] == ["m2", "m5", "m8", "m11"]
    assert together[4:8] == ["m1", "m4", "m7", "m10"]
    assert together[8:] == ["m0", "m3", "m6", "m9"]


async def test_of_too_many_the_newest_are_ranked_and_those_with_the_word_in_the_name(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make(registry, "zebra-1")
    for number in range(5):
        await make(registry, f"m{number}", description="zebra")
    allow(monkeypatch, 3)

    assert await found(registry, "zebra") == ["zebra-1", "m3", "m4"]
    answer = await registry.get("/api/v1/search?q=zebra&limit=1&total=true")
    assert (answer.json["total"], answer.json["total_is_exact"]) == (3, False)


async def test_a_page_behind_the_last_hit_is_empty_and_knows_the_total(registry: Registry) -> None:
    await make(registry, "a", description="zebra")
    await make(registry, "b", description="zebra")
    first = (await registry.get("/api/v1/search?q=zebra&limit=1&total=true")).json
    await registry.send("DELETE", "/api/v1/models/b")

    rest = await registry.get(f"/api/v1/search?q=zebra&limit=1&total=true&after={first['next']}")

    assert (rest.json["items"], rest.json["next"], rest.json["total"]) == ([], None, 1)
