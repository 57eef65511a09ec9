"""A sync that failed once is believed never: what was not synced then is not trusted later.

The kernel drops the pages that it could not write, forgets the error and answers the next sync with
success, so a file whose sync failed holds what it held before, whatever it reads back. Each sync of
a scenario fails in turn, its client does what clients do, asks again; then the power goes, and what
was acknowledged must be there. `DIGESTRY_TESTS_LONG=1` does so with large blobs too.
"""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest

from store.durable import Disk
from store.errors import OffsetConflict, StoreError
from store.index.uploads import upload_epoch
from store.opening import initialize, open_store
from tests.store.test_crash import Ground, check_every_crash, ground, settings
from tests.support.recording import Event, Recording, found_in
from tests.support.scenarios import (
    LARGE,
    OTHER,
    OWNER,
    SMALL,
    Closed,
    Kept,
    Opened,
    Stage,
    pieces,
)

__all__ = ["ground"]

T = TypeVar("T")
LONG = os.environ.get("DIGESTRY_TESTS_LONG") == "1"


class FailingSyncs(Recording):
    """Loses what one sync of a file's content should have made durable."""

    left: int | None = None

    def sync_data(self, descriptor: int, path: str) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                self.left = None
                self.lose(descriptor, path)
                raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().sync_data(descriptor, path)


async def put(stage: Stage) -> None:
    await twice(lambda: stage.put(SMALL))
    await twice(lambda: stage.put(OTHER, is_announced=False))


async def put_large(stage: Stage) -> None:
    await twice(lambda: stage.put(LARGE))


async def upload_small(stage: Stage) -> None:
    await upload(stage, SMALL, (40, 80, len(SMALL)))


async def upload_large(stage: Stage) -> None:
    await upload(stage, LARGE, (len(LARGE) // 2, len(LARGE)))


async def upload(stage: Stage, content: bytes, stops: tuple[int, ...]) -> None:
    """A client that asks how far it is after every failure."""
    uploads = stage.store.uploads

    async def begin() -> str:
        session = await uploads.create(OWNER, length=len(content), expected=None)
        stage.note(Opened(session.id, content, 0))
        return session.id

    session = await twice(begin)

    async def send(stop: int) -> None:
        start = (await uploads.get(session)).offset
        if stop == len(content):
            stage.note(Closed(session))
        after = await uploads.append(session, start, pieces(content[start:stop]))
        if after.is_finished:
            stage.note(Kept(content))
        else:
            stage.note(Opened(session, content, after.offset))

    for stop in stops:
        await twice(lambda stop=stop: send(stop))  # type: ignore[misc] # its default is its type


async def twice(work: Callable[[], Awaitable[T]]) -> T:
    try:
        return await work()
    except StoreError:
        return await work()


SCENARIOS = [put, upload_small, *([put_large, upload_large] if LONG else [])]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_nothing_is_acknowledged_on_the_word_of_a_later_sync(
    ground: Ground, scenario: Callable[[Stage], Awaitable[None]]
) -> None:
    failures = 0
    while True:
        stage, has_failed = record(ground, scenario, failures)
        if not has_failed:
            break
        check_every_crash(ground, stage)
        failures += 1

    assert failures >= 1


def record(
    ground: Ground, scenario: Callable[[Stage], Awaitable[None]], at: int
) -> tuple[Stage, bool]:
    """Run a scenario in which sync number `at` fails; whether there are so many."""
    root = Path(ground.folder, f"syncs-{scenario.__name__}-{at}")
    root.mkdir()
    initialize(root, disk=Disk(relaxed=True))
    disk = FailingSyncs(root, ground.copies, found_in(root, ground.copies))

    async def run() -> Stage:
        store = await open_store(settings(root), disk=disk, observer=disk.observe)
        stage = Stage(store, disk, root)
        disk.left = at
        try:
            await scenario(stage)
        finally:
            await store.close()
        return stage

    stage = asyncio.run(run())
    return stage, disk.left is None


class OvertakenSyncs(FailingSyncs):
    """The sync that fails waits until somebody else has taken the session."""

    def __init__(self, root: Path, copies: Path, log: Sequence[Event] = ()) -> None:
        super().__init__(root, copies, log)
        self.reached, self.taken = threading.Event(), threading.Event()
        self.cuts_fail = 0

    def sync_data(self, descriptor: int, path: str) -> None:
        if self.left == 0:
            self.reached.set()
            assert self.taken.wait(60)
        super().sync_data(descriptor, path)

    def truncate(self, descriptor: int, path: str, size_bytes: int) -> None:
        if self.cuts_fail:
            self.cuts_fail -= 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().truncate(descriptor, path, size_bytes)


@pytest.mark.parametrize("cuts_fail", [0, 1], ids=["cut back", "not even cut back"])
def test_whoever_takes_a_session_over_does_not_trust_what_is_being_synced(
    ground: Ground, cuts_fail: int
) -> None:
    """The newcomer finds the bytes in the file while their sync is about to fail."""
    root = Path(ground.folder, "taken")
    root.mkdir()
    initialize(root, disk=Disk(relaxed=True))
    disk = OvertakenSyncs(root, ground.copies, found_in(root, ground.copies))

    async def run() -> Stage:
        store = await open_store(settings(root), disk=disk, observer=disk.observe)
        stage = Stage(store, disk, root)
        try:
            await overtaken(stage, disk, cuts_fail)
        finally:
            disk.taken.set()
            await store.close()
        return stage

    check_every_crash(ground, asyncio.run(run()))


async def overtaken(stage: Stage, disk: OvertakenSyncs, cuts_fail: int) -> None:
    store = stage.store
    session = (await store.uploads.create(OWNER, length=len(SMALL), expected=None)).id
    await store.uploads.append(session, 0, pieces(SMALL[:20]))
    stage.note(Opened(session, SMALL, 20))
    disk.left, disk.cuts_fail = 0, cuts_fail
    first = asyncio.create_task(store.uploads.append(session, 20, pieces(SMALL[20:60])))
    assert await asyncio.to_thread(disk.reached.wait, 60)
    found = await store.uploads.get(session)
    assert (found.offset, found.is_held) == (60, True)
    before = await store.index.read(partial(upload_epoch, session=session))
    second = asyncio.create_task(store.uploads.append(session, 60, pieces(SMALL[60:90])))
    while await store.index.read(partial(upload_epoch, session=session)) == before:
        await asyncio.sleep(0)
    disk.taken.set()
    with pytest.raises(StoreError, match="sync"):
        await first
    with pytest.raises(OffsetConflict) as refused:
        await second
    assert refused.value.actual == 20
    stage.note(Closed(session))
    assert (await store.uploads.append(session, 20, pieces(SMALL[20:]))).is_finished
    stage.note(Kept(SMALL))
