"""Work that is done together: who goes when, with whom, and who is told what."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import pytest

from registry.services.together import (
    EMPTY_TURNS,
    MOST,
    TURNS,
    WAYS,
    NotTogether,
    Together,
)
from store.errors import StorageFull


class Shop:
    """Work that is done when the test says so."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.alone: list[str] = []
        self.error: Exception | None = None
        self.is_open = asyncio.Event()
        self.together = Together[str, str](self.do_batch, self.do_alone)

    async def do_batch(self, batch: Sequence[str]) -> list[str]:
        self.batches.append(list(batch))
        await self.is_open.wait()
        if self.error is not None:
            raise self.error
        return [work.upper() for work in batch]

    async def do_alone(self, work: str) -> str:
        self.alone.append(work)
        if work == "bad":
            raise StorageFull
        return f"{work} alone"

    def begin(
        self, *works: str, key: str = "key", name: str | None = None
    ) -> list[asyncio.Task[str]]:
        return [asyncio.create_task(self.together.do(key, work, name=name)) for work in works]


async def turn() -> None:
    for _ in range(4 + EMPTY_TURNS):
        await asyncio.sleep(0)


async def test_who_comes_first_waits_for_nobody() -> None:
    shop = Shop()
    tasks = shop.begin("a")
    await turn()

    assert shop.batches == [["a"]]
    shop.is_open.set()
    assert await asyncio.gather(*tasks) == ["A"]


async def test_who_comes_meanwhile_goes_with_the_next() -> None:
    shop = Shop()
    tasks = shop.begin("a")
    await turn()
    for name in ("x", "y"):
        tasks += shop.begin(name)
        await turn()

    assert shop.batches == [["a"]]
    shop.is_open.set()
    await asyncio.gather(*tasks)
    assert shop.batches == [["a"], ["x", "y"]]


async def test_keys_do_not_wait_for_each_other_up_to_a_bound() -> None:
    shop = Shop()
    keys = [f"key {number}" for number in range(WAYS + 1)]
    tasks = []
    for key in keys:
        tasks += shop.begin(key, key=key)
        await turn()

    assert shop.batches == [[key] for key in keys[:WAYS]]
    shop.is_open.set()
    await asyncio.gather(*tasks)
    assert shop.batches == [[key] for key in keys]


async def test_who_comes_turn_by_turn_goes_together() -> None:
    shop = Shop()
    tasks = []
    for number in range(6):
        tasks += shop.begin(str(number))
        await asyncio.sleep(0)
    await turn()

    assert shop.batches == [[str(number) for number in range(6)]]
    shop.is_open.set()
    await asyncio.gather(*tasks)


async def test_who_is_alone_waits_one_turn_and_who_is_not_some_that_bring_nobody() -> None:
    for together in (1, 2):
        shop = Shop()
        tasks = shop.begin(*(str(number) for number in range(together)))
        await asyncio.sleep(0)  # they come
        turns = 0
        while not shop.batches:
            await asyncio.sleep(0)
            turns += 1

        assert turns - 1 == (1 if together == 1 else EMPTY_TURNS)
        shop.is_open.set()
        await asyncio.gather(*tasks)


async def test_who_follows_some_turns_later_goes_with_those_who_waited() -> None:
    shop = Shop()
    tasks = shop.begin("a", "b")
    for follower in ("c", "d"):
        for _ in range(EMPTY_TURNS - 1):
            await asyncio.sleep(0)
        tasks += shop.begin(follower)
    await turn()

    assert shop.batches == [["a", "b", "c", "d"]]
    shop.is_open.set()
    await asyncio.gather(*tasks)


async def test_those_who_come_all_the_time_hold_a_batch_up_for_some_turns() -> None:
    shop = Shop()
    tasks: list[asyncio.Task[str]] = []
    while not shop.batches:
        tasks += shop.begin(str(len(tasks)))
        await asyncio.sleep(0)

    assert TURNS <= len(shop.batches[0]) <= len(tasks) <= TURNS + 4
    shop.is_open.set()
    await asyncio.gather(*tasks)


async def test_who_comes_when_the_way_has_just_become_free_goes() -> None:
    shop = Shop()
    followed: list[asyncio.Future[str]] = []

    def follow(_: object) -> None:
        begun = shop.together.begin("key", "behind")
        assert begun is not None
        followed.append(begun)

    begun = shop.together.begin("key", "first")
    assert begun is not None
    begun.add_done_callback(follow)
    await turn()
    shop.is_open.set()
    await turn()

    async with asyncio.timeout(20):
        assert await followed[0] == "BEHIND"


async def test_works_of_one_key_are_a_batch_and_none_is_longer_than_allowed() -> None:
    shop = Shop()
    shop.is_open.set()
    await asyncio.gather(
        *shop.begin(*(f"a{number}" for number in range(MOST + 1))), *shop.begin("b", key="other")
    )

    assert sorted(len(batch) for batch in shop.batches) == [1, 1, MOST]
    assert ["b"] in shop.batches


async def test_of_two_with_one_name_one_goes_alone() -> None:
    shop = Shop()
    shop.is_open.set()
    first, second = await asyncio.gather(*shop.begin("a", "b", name="path"))

    assert (first, second) == ("A", "b alone")


@pytest.mark.parametrize("error", [NotTogether(), StorageFull()])
async def test_what_cannot_be_done_together_is_done_or_refused_alone(error: Exception) -> None:
    shop = Shop()
    shop.error = error
    shop.is_open.set()
    good, bad = await asyncio.gather(*shop.begin("good", "bad"), return_exceptions=True)

    assert good == "good alone"
    assert isinstance(bad, StorageFull)


async def test_a_mistake_in_the_program_is_told_to_all_and_ends_nothing() -> None:
    shop = Shop()
    shop.error = RuntimeError("a mistake")
    shop.is_open.set()
    found = await asyncio.gather(*shop.begin("a", "b"), return_exceptions=True)
    shop.error = None

    assert [str(error) for error in found] == ["a mistake"] * 2
    assert shop.alone == []
    assert await asyncio.gather(*shop.begin("c")) == ["C"]


async def test_who_leaves_takes_nobody_along() -> None:
    shop = Shop()
    leaver, stayer = shop.begin("a", "b")
    await turn()
    leaver.cancel()
    with suppress(asyncio.CancelledError):
        await leaver
    shop.is_open.set()

    assert await stayer == "B"


async def test_closing_waits_until_all_is_done() -> None:
    shop = Shop()
    tasks = shop.begin("a")
    await turn()
    closing = asyncio.create_task(shop.together.close())
    await turn()
    assert not closing.done()

    shop.is_open.set()
    await closing
    assert await tasks[0] == "A"
