"""Search documents are merged by the leader, a little at a time, and never by who writes them."""

from __future__ import annotations

from typing import Any

from registry.catalog import search_segments
from registry.catalog.search_segments import merges_by_itself, segments
from registry.cli.worker import housekeeping
from registry.config import Config
from registry.services.search_merges import SearchMerges
from store.index.transactions import Tx
from tests.support.builders import Registry


async def make(registry: Registry, numbers: range) -> None:
    for number in numbers:
        words = " ".join(f"word{number:03d}{each:03d}" for each in range(80))
        said = {"name": f"m{number}", "description": f"zebra {words}"}
        answer = await registry.send("POST", "/api/v1/models", json=said)
        assert answer.status == 201, answer.body


async def count(registry: Registry) -> int:
    answer = await registry.get("/api/v1/search?q=zebra&limit=1&total=true")
    return int(answer.json["total"])


def merges(registry: Registry, pauses: list[float]) -> SearchMerges:
    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    return SearchMerges(registry.store, sleep=sleep)


async def test_segments_are_merged_in_steps_and_everything_is_still_found(
    registry: Registry, monkeypatch: Any
) -> None:
    monkeypatch.setattr(search_segments, "PAGES", 1)
    pauses = list[float]()
    job = merges(registry, pauses)
    await job.run()
    await make(registry, range(9))
    before = await registry.store.index.read(segments)

    await job.run()

    assert len(pauses) > 1
    assert len(await registry.store.index.read(segments)) < len(before)
    assert await count(registry) == 9


async def test_who_writes_a_document_does_not_merge(registry: Registry) -> None:
    index = registry.store.index
    assert await index.read(merges_by_itself)
    await merges(registry, []).run()
    assert not await index.read(merges_by_itself)

    sizes = []
    for number in range(12):
        await make(registry, range(number, number + 1))
        sizes.append(len(await index.read(segments)))

    assert sizes == sorted(set(sizes)), "a segment more each time, none less"


async def test_where_nothing_changed_nothing_is_written(registry: Registry) -> None:
    job = merges(registry, [])
    await make(registry, range(5))
    await job.run()
    counter = registry.store.index.change_counter()
    commits = registry.store.index.stats.commits

    await job.run()

    assert registry.store.index.change_counter() == counter
    assert registry.store.index.stats.commits == commits


async def test_a_step_that_runs_twice_merges_no_less(registry: Registry) -> None:
    await merges(registry, []).run()
    await make(registry, range(6))

    async def twice(tx: Tx) -> list[bool]:
        return [await search_segments.merge(tx) for _ in range(2)]

    assert await registry.store.index.run(twice) == [True, False]


async def test_the_leader_merges_and_counts_tags(registry: Registry) -> None:
    keeper = housekeeping(Config(), registry.store, registry.site.app)

    assert {"merge search index", "count tags of models"} <= {job.name for job in keeper._jobs}
