"""A fresh store behind a door, a second worker on it, and what must be so after each test.

A subclass says how its door is opened::

    class TestDirectStore(BlobsContract, SessionsContract):
        def open_door(self, store, limit):
            return direct_door(store, limit)

Each test runs on a fresh store in a directory and in memory, with a second worker (`neighbour`) on
the same store for what must hold between processes. After each test the store must be sound, by
`tests.support.soundness`, and nothing may be left staged.
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
from collections.abc import AsyncIterator, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest

from registry.catalog.migrations import CHAINS
from store.batches import BATCH_BYTES
from store.digest import Digest
from store.opening import Store, StoreSettings, initialize, open_store
from tests.support.clock import ManualClock
from tests.support.doors import (
    Door,
    Pin,
    beside,
    close_beside,
    doubled,
)
from tests.support.soundness import Picture, assert_memory_is_sound, assert_store_is_sound
from tests.support.storing import body

T = TypeVar("T")

MIB = BATCH_BYTES
LIMIT = 12 * MIB
CONTENT = b"some weights " * 99
DIGEST = Digest.of(CONTENT)
LARGE = secrets.token_bytes(2 * MIB + 333)
LARGE_DIGEST = Digest.of(LARGE)
OTHER = b"other weights"
NEVER = Digest.of(b"never stored")
TURNS = (0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89)
"""After how many turns of the event loop something is cancelled."""


def split(content: bytes, size: int) -> list[bytes]:
    return [content[start : start + size] for start in range(0, len(content), size)]


class Held:
    """A body that gives its first bytes, then nothing until it is let go on."""

    def __init__(self, before: bytes, after: bytes = b"") -> None:
        self._pieces = split(before, 100_000), split(after, 100_000)
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces[0]:
            yield piece
        self.begun.set()
        await self.go_on.wait()
        for piece in self._pieces[1]:
            yield piece


@asynccontextmanager
async def running(work: Coroutine[Any, Any, T]) -> AsyncIterator[asyncio.Task[T]]:
    """Something under way beside the test, which never outlives it."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def put(door: Door, content: bytes) -> Digest:
    return await door.put(body(content), size=len(content))


async def whole(door: Door, session: str, content: bytes) -> Digest | None:
    """Continue a session where it stands, to its end."""
    offset = (await door.session(session)).offset
    return (await door.append(session, offset, body(content[offset:]))).digest


async def pins_of(door: Door, limit: int = 100) -> list[Pin]:
    return [pin async for page in door.pages(limit) for pin in page]


async def look(door: Door) -> Picture:
    """What files and rows there are, found by other means than the store's; they must be sound."""
    await door.settle()
    root = door.store.settings.root
    if root is None:
        return await assert_memory_is_sound(door.store)
    return await asyncio.to_thread(assert_store_is_sound, root)


async def assert_nothing_is_left(door: Door) -> None:
    picture = await look(door)
    assert picture.rows["blobs"] == picture.rows["refs"] == []
    assert picture.files == {}
    assert picture.staged == {}


class DoorContract:
    """What a contract about a store behind a door begins with; it has no tests itself."""

    is_doubled: ClassVar[bool] = False
    """Whether every unit of work runs twice, the first time rolled back."""

    def open_door(self, store: Store, limit: int) -> AbstractAsyncContextManager[Door]:
        """The way in that is examined; no blob may be larger than `limit`."""
        raise NotImplementedError

    @pytest.fixture(params=["local", "memory"])
    def backend(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock()

    @pytest.fixture(scope="class")
    @classmethod
    def template(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """A directory that was made ready once; a test begins with a copy of its few files."""
        root = tmp_path_factory.mktemp("template")
        initialize(root, CHAINS)
        return root

    @pytest.fixture
    async def store(
        self, backend: str, template: Path, tmp_path: Path, clock: ManualClock
    ) -> AsyncIterator[Store]:
        root = None
        if backend == "local":
            root = tmp_path / "data"
            await asyncio.to_thread(shutil.copytree, template, root)
        settings = StoreSettings(
            root=root,
            reserve_bytes=0,
            reserve_share=0,
            grace_seconds=60,
            max_share=1.0,
            chains=CHAINS,
        )
        opened = await open_store(settings, clock=clock)
        yield doubled(opened) if self.is_doubled else opened
        await opened.close()

    @pytest.fixture
    async def door(self, store: Store) -> AsyncIterator[Door]:
        async with self.open_door(store, LIMIT) as door:
            yield door
            assert (await look(door)).staged == {}, "a test left a session behind"
        await close_beside(store)

    @pytest.fixture
    async def neighbour(self, store: Store, door: Door) -> AsyncIterator[Door]:
        """Another worker's door to the same store."""
        other = beside(store)
        async with self.open_door(other, LIMIT) as neighbour:
            yield neighbour
            await neighbour.settle()
        await close_beside(other)
