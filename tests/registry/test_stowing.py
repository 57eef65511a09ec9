"""The batches of one request: how they grow, how many are stored at once, what a failure leaves."""

from __future__ import annotations

import asyncio

import pytest

from registry.services import stowing
from registry.services.stowing import BATCHES_AT_ONCE, Batch, Stowing


class Shelf:
    """Stores batches when it is told to, or refuses the one that holds a certain file."""

    def __init__(self, *, refused: int = -1) -> None:
        self.stored: list[list[int]] = []
        self.under_way = 0
        self.is_open = asyncio.Event()
        self._refused = refused

    async def store(self, batch: Batch[int]) -> None:
        self.under_way += 1
        await self.is_open.wait()
        self.under_way -= 1
        if self._refused in batch.small:
            raise ValueError(self._refused)
        self.stored.append(batch.small)


async def stored(files: int, *, size_bytes: int) -> list[list[int]]:
    """The batches that as many files make."""
    shelf = Shelf()
    shelf.is_open.set()
    batches = Stowing[int](shelf.store)
    for number in range(files):
        await batches.hold(number, size_bytes)
    await batches.finish()
    return shelf.stored


async def test_batches_grow_up_to_a_whole_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stowing, "SMALL_FILES", 16)

    found = await stored(50, size_bytes=1)

    assert [len(files) for files in found] == [2, 4, 8, 16, 16, 4]
    assert [number for files in found for number in files] == [*range(50)]


async def test_bytes_fill_a_batch_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stowing, "SMALL_BATCH_BYTES", 80)

    assert await stored(4, size_bytes=10) == [[0], [1, 2], [3]]


async def test_whoever_gathers_waits_for_the_oldest_of_those_under_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stowing, "SMALL_FILES", 1)
    shelf = Shelf()
    batches = Stowing[int](shelf.store)
    for number in range(BATCHES_AT_ONCE):
        await batches.hold(number, 1)

    third = asyncio.create_task(batches.hold(BATCHES_AT_ONCE, 1))
    for _ in range(3):
        await asyncio.sleep(0)
    assert (third.done(), shelf.under_way) == (False, BATCHES_AT_ONCE)

    shelf.is_open.set()
    await third
    await batches.finish()
    assert shelf.stored == [[0], [1], [2]]


async def test_what_storing_raised_comes_out_and_the_rest_can_be_settled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stowing, "SMALL_FILES", 1)
    shelf = Shelf(refused=0)
    shelf.is_open.set()
    batches = Stowing[int](shelf.store)

    for number in range(BATCHES_AT_ONCE):
        await batches.hold(number, 1)
    with pytest.raises(ValueError, match="0"):
        await batches.hold(BATCHES_AT_ONCE, 1)
    await batches.settle()

    assert sorted(shelf.stored) == [[number] for number in range(1, BATCHES_AT_ONCE + 1)]
