"""The leader's jobs: who leads, what is done first, and that failures stay alone."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import text

from registry.services import housekeeping as module
from registry.services.housekeeping import (
    Housekeeping,
    Job,
    Leadership,
    first_jobs,
    jobs,
    renew_segments,
    sweep_staging,
)
from store.errors import Unavailable
from store.index.transactions import Statement, Tx
from store.opening import Store
from tests.support.serving import opened
from tests.support.storing import put, row_of


class Turns:
    """A sleep that waits until the test lets time pass, and counts."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self._gate = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        self.asked.append(seconds)
        await self._gate.wait()

    def let_pass(self) -> None:
        gate, self._gate = self._gate, asyncio.Event()
        gate.set()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


def counting(log: list[str], name: str, error: Exception | None = None) -> Job:
    async def run() -> None:
        log.append(name)
        if error is not None:
            raise error

    return Job(name, 5, run)


async def end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_a_crash_left_is_settled_before_anything_else() -> None:
    log: list[str] = []
    turns = Turns()
    keeper = Housekeeping(
        Leadership(None),
        [counting(log, "settle")],
        [counting(log, "a"), counting(log, "b")],
        sleep=turns.sleep,
    )
    task = asyncio.create_task(keeper.run())
    await until(lambda: len(turns.asked) == 2)

    assert log == ["settle", "a", "b"]
    turns.let_pass()
    await until(lambda: len(log) == 5)
    await end(task)


async def test_a_job_that_fails_is_tried_again_and_stops_nothing() -> None:
    log: list[str] = []
    turns = Turns()
    broken = counting(log, "broken", RuntimeError("boom"))
    busy = counting(log, "busy", Unavailable("now"))
    keeper = Housekeeping(
        Leadership(None), [busy], [broken, counting(log, "ok")], sleep=turns.sleep
    )
    task = asyncio.create_task(keeper.run())
    await until(lambda: len(turns.asked) == 2)
    turns.let_pass()
    await until(lambda: len(turns.asked) == 4)

    assert log == ["busy", "broken", "ok", "broken", "ok"]
    await end(task)


async def test_one_leads_and_the_next_follows(tmp_path: Path) -> None:
    path = tmp_path / "leader.lock"
    log: list[str] = []
    turns = Turns()

    def keeper(name: str) -> Housekeeping:
        return Housekeeping(Leadership(path), [], [counting(log, name)], sleep=turns.sleep)

    first, second = keeper("first"), keeper("second")
    leading = asyncio.create_task(first.run())
    await until(lambda: first.is_leader)
    waiting = asyncio.create_task(second.run())
    await until(lambda: module.LOOK_SECONDS in turns.asked)

    assert not second.is_leader
    await end(leading)
    turns.let_pass()
    await until(lambda: second.is_leader)
    assert not first.is_leader
    await end(waiting)


async def test_every_job_of_a_store_runs(store: Store) -> None:
    await put(store, b"something")

    for job in [*first_jobs(store), *jobs(store)]:
        await job.run()


async def test_only_old_staging_files_without_a_session_are_swept(tmp_path: Path) -> None:
    uploads = tmp_path / "data" / "uploads"
    async with opened(tmp_path / "data") as store:
        upload = await store.uploads.create("usr_x", length=10, expected=None)
        for name in ("stg_old00000", "stg_young000"):
            (uploads / name).write_bytes(b"left")
        for path in (uploads / "stg_old00000", uploads / upload.id):
            os.utime(path, (1, 1))

        assert await sweep_staging(store) == 1
        assert {path.name for path in uploads.iterdir()} == {"stg_young000", upload.id}


async def test_blobs_without_segment_digests_get_them(store: Store) -> None:
    digest = await put(store, b"adopted")
    bare = Statement(text("UPDATE blobs SET segments = NULL"))

    async def forget(tx: Tx) -> int:
        return await tx.run(bare)

    await store.index.run(forget)

    assert await renew_segments(store) == 1
    row = await row_of(store, digest)
    assert row is not None
    assert row.segments is not None
    assert await renew_segments(store) == 0
