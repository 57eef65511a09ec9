"""Searching models by words through HTTP."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from registry.catalog import matches
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
    """Rank no more than so many models."""
    for module in (matches, services):
        monkeypatch.setattr(module, "MOST_RANKED", most)


async def pages(registry: Registry, question: str, limit: int) -> list[list[str]]:
    """All pages of what is found, each asked for by the cursor of the one before."""
    url = f"/api/v1/search?q={quote(question)}&limit={limit}&total=true"
    found, after = list[list[str]](), ""
    for _ in range(50):
        answer = (await registry.get(url + (after and f"&after={after}"))).json
        found.append([item["model"]["name"] for item in answer["items"]])
        after = answer["next"]
        if after is None:
            return found
    raise AssertionError(f"pages without end: {found}")


async def total(registry: Registry, question: str) -> tuple[int, bool]:
    answer = (await registry.get(f"/api/v1/search?q={quote(question)}&limit=1&total=true")).json
    return answer["total"], answer["total_is_exact"]


async def test_pages_follow_each_other_through_equal_and_unequal_ranks(registry: Registry) -> None:
    for number in range(12):
        await make(registry, f"m{number}", description="zebra " * (number % 3 + 1))

    in_pages = await pages(registry, "zebra", 5)

    assert [len(page) for page in in_pages] == [5, 5, 2]
    together = [name for page in in_pages for name in page]
    assert together == await found(registry, "zebra")
    assert together[:4] == ["m2", "m5", "m8", "m11"]
    assert together[4:8] == ["m1", "m4", "m7", "m10"]
    assert together[8:] == ["m0", "m3", "m6", "m9"]
    assert await total(registry, "zebra") == (12, True)


async def test_a_word_is_common_beyond_as_many_as_are_ranked(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    allow(monkeypatch, 2)
    for number in (1, 2):
        await make(registry, f"m{number}", description="zebra")
    assert await found(registry, "zebra") == ["m1", "m2"]

    await make(registry, "m3", description="zebra")

    assert await found(registry, "zebra") == ["m3", "m2", "m1"]
    assert await total(registry, "zebra") == (2, False)


async def test_all_of_a_common_word_are_found_by_where_it_is_and_the_newest_first(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    allow(monkeypatch, 3)
    for turn in ("a", "b"):
        await make(registry, f"card-{turn}")
        url = f"/api/v1/models/card-{turn}/card"
        await registry.send("PUT", url, data=b"zebra", headers={"Content-Type": "text/markdown"})
        await make(registry, f"said-{turn}", description="A zebra, zebra.")
        await make(registry, f"both-{turn}", description="zebra", tags={"animal": "zebra"})
        await make(registry, f"tagged-{turn}", tags={"zebra": "yes"})
        await make(registry, f"zebra-{turn}")
        await make(registry, f"other-{turn}")
    expected = ["zebra-b", "zebra-a", "tagged-b", "both-b", "tagged-a", "both-a"]
    expected += ["said-b", "said-a", "card-b", "card-a"]

    for limit in (1, 3, 4, 7, 100):
        in_pages = await pages(registry, "zebra", limit)
        assert [name for page in in_pages for name in page] == expected, limit
        assert {len(page) for page in in_pages[:-1]} <= {limit}
    # Where no name and no tag has it, these two are not asked for one by one.
    for name in ("zebra-a", "zebra-b", "tagged-a", "tagged-b", "both-a", "both-b"):
        await registry.send("DELETE", f"/api/v1/models/{name}")
    for limit in (1, 3, 100):
        in_pages = await pages(registry, "zebra", limit)
        assert [name for page in in_pages for name in page] == expected[6:], limit


async def test_common_words_may_be_in_different_places_and_unwanted_ones_in_none(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make(registry, "big-zebra")
    await make(registry, "zebra-1", tags={"size": "big"})
    await make(registry, "zebra-2", description="big")
    await make(registry, "big-3", description="zebra", tags={"with": "stripes"})
    await make(registry, "big-zebra-4", description="has stripes")

    for most in (1000, 2):
        allow(monkeypatch, most)
        hits = await found(registry, "big zebra")
        assert set(hits[:2]) == {"big-zebra", "big-zebra-4"}
        assert (hits[2], set(hits[3:])) == ("zebra-1", {"zebra-2", "big-3"})
        assert set(await found(registry, "big zebra -stripes")) == {
            "big-zebra",
            "zebra-1",
            "zebra-2",
        }


async def test_a_page_behind_the_last_hit_is_empty_and_knows_the_total(registry: Registry) -> None:
    await make(registry, "a", description="zebra")
    await make(registry, "b", description="zebra")
    first = (await registry.get("/api/v1/search?q=zebra&limit=1&total=true")).json
    await registry.send("DELETE", "/api/v1/models/b")

    rest = await registry.get(f"/api/v1/search?q=zebra&limit=1&total=true&after={first['next']}")

    assert (rest.json["items"], rest.json["next"], rest.json["total"]) == ([], None, 1)
