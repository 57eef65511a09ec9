"""Every operation of every action fails once, applied or not; the store stays sound, a retry works.

An error is not a crash: the process lives on, and the caller learns that it failed. Housekeeping
settles what was moved half way, `fsck` sweeps what could not be cleaned up.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import msgspec
import pytest

from store.clock import Clock
from store.digest import Digest
from store.errors import StorageFull, StoreError, Unavailable
from store.index import blobs as rows
from store.index.transactions import Tx
from store.opening import Store, StoreSettings, initialize, open_store
from tests.support.faults import Faults, FaultyBlobStore, FaultyColdStore, FaultyIndex, When
from tests.support.scenarios import LARGE, OTHER, SMALL
from tests.support.soundness import Tolerance, assert_memory_is_sound, assert_store_is_sound
from tests.support.storing import body, damage, put, release, row_of

CONTENTS = (SMALL, OTHER, LARGE)
LEFT = Tolerance(strays=True, lost_asides=True)


class Bench:
    """A store whose parts fail on demand, and the collection or session of the action."""

    def __init__(self, store: Store, faults: Faults) -> None:
        self.store = store
        self.faults = faults
        self.name = ""


class Action(msgspec.Struct, frozen=True):
    """Something a store does, what must be so before it, and what must be so after it succeeded."""

    name: str
    prepare: Callable[[Bench], Awaitable[None]]
    act: Callable[[Bench], Awaitable[None]]
    kept: tuple[bytes, ...]


async def _nothing(bench: Bench) -> None:
    await put(bench.store, OTHER)


async def _put_large(bench: Bench) -> None:
    await put(bench.store, LARGE)


async def _put_small(bench: Bench) -> None:
    await put(bench.store, SMALL)


async def _begin(bench: Bench) -> None:
    await put(bench.store, OTHER)
    upload = await bench.store.uploads.create("usr_test", length=len(LARGE), expected=None)
    await bench.store.uploads.append(upload.id, 0, body(LARGE[:1000]))
    bench.name = upload.id


async def _finish(bench: Bench) -> None:
    """As a client does: ask, and send what is missing."""
    upload = await bench.store.uploads.get(bench.name)
    if not upload.is_finished:
        rest = LARGE[upload.offset :]
        await bench.store.uploads.append(bench.name, upload.offset, body(rest))


async def _create(bench: Bench) -> None:
    await bench.store.uploads.create("usr_test", length=4, expected=None)


async def _release_two(bench: Bench) -> None:
    for content in CONTENTS:
        await put(bench.store, content)
    await release(bench.store, Digest.of(SMALL))
    await release(bench.store, Digest.of(LARGE))


async def _collect(bench: Bench) -> None:
    plan = await bench.store.collector.plan()
    bench.name = plan.id
    await bench.store.collector.apply(plan)


async def _collected(bench: Bench) -> None:
    await _release_two(bench)
    await _collect(bench)


async def _undo(bench: Bench) -> None:
    await bench.store.collector.undo(bench.name)


async def _purge(bench: Bench) -> None:
    await bench.store.collector.purge(everything=True)


async def _rotten(bench: Bench) -> None:
    await put(bench.store, OTHER)
    await put(bench.store, SMALL)
    await damage_inner(bench, SMALL)


async def damage_inner(bench: Bench, content: bytes) -> None:
    blobs = bench.store.blobs
    bench.store.blobs = blobs.inner if isinstance(blobs, FaultyBlobStore) else blobs
    try:
        await damage(bench.store, Digest.of(content), b"x" * len(content))
    finally:
        bench.store.blobs = blobs


async def _scrub(bench: Bench) -> None:
    await bench.store.scrub.run()


async def _convicted(bench: Bench) -> None:
    await _rotten(bench)
    await _scrub(bench)


async def _repair(bench: Bench) -> None:
    await bench.store.fsck.run(repair=True)


async def _orphaned(bench: Bench) -> None:
    await _put_small(bench)
    row = await row_of(bench.store, Digest.of(SMALL))
    assert row is not None
    await release(bench.store, Digest.of(SMALL))
    await bench.store.index.run(
        partial(rows.delete_blob, digest=row.digest, generation=row.generation, state=rows.PRESENT)
    )


async def _anybody(tx: Tx, row: rows.BlobRow) -> bool:
    return True


async def _put_two(bench: Bench) -> None:
    await put(bench.store, OTHER)
    await put(bench.store, LARGE)


async def _cool(bench: Bench) -> None:
    await bench.store.archive.cool(Digest.of(LARGE), _anybody)


async def _cooled(bench: Bench) -> None:
    await _put_two(bench)
    await _cool(bench)


async def _thaw(bench: Bench) -> None:
    await bench.store.archive.thaw(Digest.of(LARGE))


async def _thawed(bench: Bench) -> None:
    await _cooled(bench)
    await _thaw(bench)


async def _sweep(bench: Bench) -> None:
    await bench.store.archive.spares.sweep(everything=True)


async def _release_cold(bench: Bench) -> None:
    await _cooled(bench)
    await release(bench.store, Digest.of(LARGE))


async def _cold_collected(bench: Bench) -> None:
    await _release_cold(bench)
    await _collect(bench)


async def _purge_archive(bench: Bench) -> None:
    await bench.store.collector.purge(everything=True)
    await bench.store.archive.spares.sweep(everything=True)


async def _thawed_and_rotten(bench: Bench) -> None:
    await _thawed(bench)
    await damage_inner(bench, LARGE)


ACTIONS = [
    Action("put", _nothing, _put_small, (OTHER, SMALL)),
    Action("put large", _nothing, _put_large, (OTHER, LARGE)),
    Action("put stored", _put_small, _put_small, (SMALL,)),
    Action("create upload", _nothing, _create, (OTHER,)),
    Action("finish upload", _begin, _finish, (OTHER, LARGE)),
    Action("collect", _release_two, _collect, (OTHER,)),
    Action("undo", _collected, _undo, CONTENTS),
    Action("purge", _collected, _purge, (OTHER,)),
    Action("convict", _rotten, _scrub, (OTHER,)),
    Action("heal", _convicted, _put_small, (OTHER, SMALL)),
    Action("adopt", _orphaned, _repair, (SMALL,)),
    Action("cool", _put_two, _cool, (OTHER, LARGE)),
    Action("thaw", _cooled, _thaw, (OTHER, LARGE)),
    Action("put cold", _cooled, _put_large, (OTHER, LARGE)),
    Action("sweep", _thawed, _sweep, (OTHER, LARGE)),
    Action("collect cold", _release_cold, _collect, (OTHER,)),
    Action("undo cold", _cold_collected, _undo, (OTHER, LARGE)),
    Action("purge cold", _cold_collected, _purge_archive, (OTHER,)),
    Action("heal from archive", _thawed_and_rotten, _scrub, (OTHER, LARGE)),
]
every_action = pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.name)
every_moment = pytest.mark.parametrize("when", ["before", "after"])


@asynccontextmanager
async def opened(root: Path | None, clock: Clock) -> AsyncIterator[Bench]:
    if root is not None:
        root.mkdir()
        await asyncio.to_thread(initialize, root)
    settings = StoreSettings(
        root=root, reserve_bytes=0, reserve_share=0, max_share=1, grace_seconds=0
    )
    plain = await open_store(settings, clock=clock)
    faults = Faults()
    store = Store(
        settings,
        FaultyBlobStore(plain.blobs, faults),
        FaultyIndex(plain.index, faults),  # type: ignore[arg-type] # stands in for the database
        plain.threads,
        clock=clock,
        store_id=plain.store_id,
        cold=FaultyColdStore(plain.cold.files, faults),  # type: ignore[arg-type] # by attributes
    )
    try:
        yield Bench(store, faults)
    finally:
        await store.ingest.close()
        await store.reading.close()
        await plain.close()


async def assert_sound(bench: Bench, root: Path | None, tolerate: Tolerance) -> None:
    if root is not None:
        assert_store_is_sound(root, tolerate)
        return
    faulty = bench.store.blobs
    assert isinstance(faulty, FaultyBlobStore)
    bench.store.blobs = faulty.inner
    try:
        await assert_memory_is_sound(bench.store, tolerate)
    finally:
        bench.store.blobs = faulty


async def assert_kept(bench: Bench, contents: tuple[bytes, ...]) -> None:
    for content in contents:
        row = await row_of(bench.store, Digest.of(content))
        assert row is not None
        assert row.is_present
        async with await bench.store.reading.open(row) as blob:
            assert b"".join([piece async for piece in blob.stream(0, row.size_bytes)]) == content


async def run_with_fault(
    action: Action, root: Path | None, clock: Clock, at: int, when: When
) -> str | None:
    """Fail operation number `at` of an action, then retry; None if there are not so many."""
    async with opened(root, clock) as bench:
        await action.prepare(bench)
        await bench.store.ingest.close()
        rotten = rotten_digests(action)
        bench.faults.fail(at, when, _full if at % 2 else Unavailable)
        with suppress(StoreError):
            await action.act(bench)
        await bench.store.ingest.close()
        operations = bench.faults.seen
        bench.faults.heal()
        if at >= len(operations):
            return None
        await bench.store.quarantine.settle()
        await assert_sound(bench, root, msgspec.structs.replace(LEFT, rotten=rotten))

        await action.act(bench)
        await bench.store.ingest.close()
        await bench.store.fsck.run(repair=True)

        await assert_sound(bench, root, Tolerance())
        await assert_kept(bench, action.kept)
        return operations[at]


def _full(_: str) -> StoreError:
    return StorageFull()


def rotten_digests(action: Action) -> frozenset[str]:
    rotten = {_rotten: SMALL, _thawed_and_rotten: LARGE}.get(action.prepare)
    return frozenset() if rotten is None else frozenset({Digest.of(rotten).hex})


@every_action
@every_moment
@pytest.mark.parametrize("backend", ["local", "memory"])
async def test_a_failing_operation_leaves_the_store_sound(
    action: Action, when: When, backend: str, tmp_path: Path, clock: Clock
) -> None:
    failed: list[str] = []
    while True:
        at = len(failed)
        root = tmp_path / f"data-{at}" if backend == "local" else None
        try:
            operation = await run_with_fault(action, root, clock, at, when)
        except BaseException as error:
            error.add_note(f"operation {at} failed {when} it was applied, after {failed}")
            raise
        if operation is None:
            break
        failed.append(operation)

    assert "commit" in failed
