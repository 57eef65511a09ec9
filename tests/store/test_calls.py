"""Every call to the kernel and to SQLite fails once in every action, in every way it can.

The store must answer with an error of its own kind, keep what it had promised, show nothing half,
and do the same thing right when it is asked again. `tests.store.test_faults` does so for whole
operations of blob store and index; the actions are the same. A run takes one way for each call to
fail, another one the next time; `DIGESTRY_TESTS_LONG=1` takes all.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import random
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pysqlite3.dbapi2 as sqlite
import pytest

from store.errors import StoreError
from store.index.upgrade import STORE
from store.opening import StoreSettings, open_store
from tests.store.test_faults import ACTIONS, LEFT, Action, Bench, assert_kept, rotten_digests
from tests.support.calls import GROWING, OPENING, READING, Calls, Fault
from tests.support.clock import ManualClock
from tests.support.faults import Faults
from tests.support.fresh import initialize_like_new
from tests.support.soundness import Tolerance, assert_store_is_sound

LONG = os.environ.get("DIGESTRY_TESTS_LONG") == "1"
MANY = 100
"""Of more calls than that a run takes every other one."""

TELL = ("adopt", "heal from archive")
"""Actions that go on where something cannot be read, and tell it as a finding."""

every_action = pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.name)


@pytest.fixture(scope="module")
def ground() -> Iterator[Path]:
    """In memory if the machine has any: hundreds of small directories are made there."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="calls-", dir=memory if memory.is_dir() else None))
    template = folder / "template"
    template.mkdir()
    initialize_like_new(template, (STORE,))
    yield folder
    shutil.rmtree(folder)


@asynccontextmanager
async def opened(root: Path, template: Path, calls: Calls) -> AsyncIterator[Bench]:
    shutil.copytree(template, root)
    settings = StoreSettings(
        root=root, reserve_bytes=0, reserve_share=0, max_share=1, grace_seconds=0
    )
    store = await open_store(settings, clock=ManualClock())
    calls.attach(store)
    try:
        yield Bench(store, Faults())
    finally:
        await store.close()
        shutil.rmtree(root)


def ways_to_fail(name: str, number: int) -> Iterator[Fault]:
    """What can become of a call, the call number `number` of an action."""
    if name.startswith("sql"):
        full, broken = sqlite.SQLITE_FULL, sqlite.SQLITE_IOERR
        yield Fault(number, "before", code=broken)
        yield Fault(number, "torn", code=full)
        yield Fault(number, "after", code=broken)
        return
    yield Fault(number, "before", errno.EIO)
    if name not in READING:
        yield Fault(number, "after", errno.EIO)
    if name in GROWING:
        yield Fault(number, "before", errno.ENOSPC)
    if name in OPENING:
        yield Fault(number, "before", errno.EMFILE)
    if name == "pwritev":
        yield Fault(number, "torn", errno.ENOSPC)


async def calls_of(action: Action, root: Path, template: Path, calls: Calls) -> list[str]:
    """The calls of one clean run."""
    async with opened(root, template, calls) as bench:
        await action.prepare(bench)
        await bench.store.ingest.close()
        with calls.watching():
            await action.act(bench)
            await bench.store.ingest.close()
        return calls.seen


async def run_with_fault(
    action: Action, root: Path, template: Path, calls: Calls, fault: Fault
) -> None:
    async with opened(root, template, calls) as bench:
        store = bench.store
        await action.prepare(bench)
        await store.ingest.close()
        rotten = rotten_digests(action)
        with calls.watching(fault):
            try:
                await action.act(bench)
                answered = True
            except StoreError:
                answered = False
            await store.ingest.close()
        await store.quarantine.settle()
        await asyncio.to_thread(
            assert_store_is_sound, root, msgspec.structs.replace(LEFT, rotten=rotten)
        )
        if answered and action.name not in TELL:
            await assert_kept(bench, action.kept)

        await action.act(bench)
        await store.ingest.close()
        await store.fsck.run(repair=True)

        assert_store_is_sound(root, Tolerance())
        await assert_kept(bench, action.kept)
        again = await store.fsck.run(repair=False)
        assert [f for f in again.findings if not f.problem.startswith("dangling")] == []


@every_action
async def test_a_failing_call_leaves_the_store_sound(action: Action, ground: Path) -> None:
    calls, numbers = Calls(), itertools.count()
    template = ground / "template"
    turn = random.randrange(60)
    with calls.patched():
        names = await calls_of(action, ground / "clean", template, calls)
        for number, name in enumerate(names):
            if not LONG and len(names) > MANY and (number + turn) % 2:
                continue
            ways = list(ways_to_fail(name, number))
            for fault in ways if LONG else [ways[(number + turn) % len(ways)]]:
                root = ground / f"data-{next(numbers)}"
                try:
                    await run_with_fault(action, root, template, calls, fault)
                except BaseException as error:
                    error.add_note(f"{fault} of {name}, after {names[:number]}")
                    raise

    assert any(name.startswith("sql COMMIT") for name in names)
