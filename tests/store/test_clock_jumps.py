"""The clock jumps, forwards by years and backwards as far; nothing referenced is ever lost for it.

Ages are told by the clock alone, so a jump forwards makes everything old at once, and one backwards
makes it young: what then goes too early is only what nobody refers to, and it can still be brought
back; what stays too long goes later. The seed of a run is printed when it fails.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from store.clock import SECOND
from store.digest import Digest
from store.errors import UploadExpired, UploadNotFound
from store.holds import live_holds, take_hold
from store.index import claims
from store.index.upgrade import STORE
from store.opening import Store, StoreSettings, open_store
from tests.support.clock import ManualClock
from tests.support.fresh import initialize_like_new
from tests.support.soundness import assert_store_is_sound
from tests.support.storing import body, content_of, put, release, row_of

GRACE, UNDO, SESSION = 1000, 5000, 9000
JUMPS = (0, 1, GRACE, UNDO, SESSION, 86400, 10 * 365 * 86400)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    root.mkdir()
    initialize_like_new(root, (STORE,))
    return root


@pytest.fixture
async def store(root: Path, clock: ManualClock) -> AsyncIterator[Store]:
    settings = StoreSettings(
        root=root,
        grace_seconds=GRACE,
        undo_seconds=UNDO,
        upload_seconds=SESSION,
        max_share=1,
        reserve_bytes=0,
        reserve_share=0,
    )
    opened = await open_store(settings, clock=clock)
    yield opened
    await opened.close()


async def collect(store: Store) -> str:
    plan = await store.collector.plan()
    await store.collector.apply(plan)
    return plan.id


async def is_stored(store: Store, content: bytes) -> bool:
    row = await row_of(store, Digest.of(content))
    return row is not None and row.is_present


async def test_no_jump_takes_what_is_referenced(store: Store, clock: ManualClock) -> None:
    """Whatever housekeeping believes the time to be while everything goes on."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    kept: dict[bytes, str] = {}
    await put(store, b"of somebody else", owner="usr_else")
    for number in range(60):
        clock.now = max(SECOND, clock.now + chance.choice((-1, 1)) * chance.choice(JUMPS) * SECOND)
        content = b"blob %d" % chance.randrange(12)
        if content in kept and chance.random() < 0.5:
            await release(store, Digest.of(content), owner=kept.pop(content))
        else:
            kept[content] = "usr_test"
            await put(store, content)
        if number % 3 == 0:
            collection = await collect(store)
            if chance.random() < 0.3:
                await store.collector.undo(collection)
        if number % 5 == 0:
            await store.collector.purge()
            await store.uploads.expire()
            await store.index.run(claims.expire_leases)
            await store.fsck.run(repair=True)
        for one in kept:
            assert await content_of(store, Digest.of(one)) == one
    assert store.settings.root is not None
    assert_store_is_sound(store.settings.root)


async def test_after_a_jump_back_the_young_stay_until_the_clock_is_there_again(
    store: Store, clock: ManualClock
) -> None:
    await put(store, b"kept")
    await put(store, b"let go")
    await release(store, Digest.of(b"let go"))
    clock.advance(-86400)

    await collect(store)
    assert await is_stored(store, b"let go")
    clock.advance(86400 + GRACE)
    await collect(store)

    assert not await is_stored(store, b"let go")


async def test_what_a_jump_forwards_took_can_be_brought_back(
    store: Store, clock: ManualClock
) -> None:
    """Also after the clock was set right: until then its time in quarantine does not begin."""
    await put(store, b"kept")
    await put(store, b"let go")
    await release(store, Digest.of(b"let go"))
    clock.advance(10 * 365 * 86400)
    collection = await collect(store)
    assert (await store.collector.purge()).purged == 0
    clock.advance(-10 * 365 * 86400 + UNDO)
    assert (await store.collector.purge()).purged == 0

    assert (await store.collector.undo(collection)).returned == 1
    assert await is_stored(store, b"let go")


async def test_a_plan_from_the_future_takes_only_what_is_old_now(
    store: Store, clock: ManualClock
) -> None:
    await put(store, b"kept")
    clock.advance(86400)
    await put(store, b"young")
    await release(store, Digest.of(b"young"))
    clock.advance(GRACE)
    plan = await store.collector.plan()
    assert len(plan.blobs) == 1
    clock.advance(-GRACE)

    assert (await store.collector.apply(plan)).collected == 0


async def test_a_hold_survives_a_jump_back_and_ends_by_one_forwards(
    store: Store, clock: ManualClock
) -> None:
    await store.index.run(partial(take_hold, id="hold_1", reason="backup", seconds=100))
    clock.advance(-1000)
    assert len(await store.index.read(live_holds)) == 1
    clock.advance(1000 + 100)

    assert await store.index.read(live_holds) == []


async def test_an_upload_that_a_jump_expired_is_told_so_and_leaves_nothing(
    store: Store, clock: ManualClock
) -> None:
    """And one that a jump back made young again goes on."""
    await put(store, b"kept")
    old = await store.uploads.create("usr_test", length=4, expected=None)
    clock.advance(2 * SESSION)
    with pytest.raises(UploadExpired):
        await store.uploads.append(old.id, 0, body(b"late"))
    await store.uploads.expire()
    with pytest.raises(UploadNotFound):
        await store.uploads.get(old.id)
    early = await store.uploads.create("usr_test", length=4, expected=None)
    clock.advance(-10 * SESSION)
    await store.uploads.expire()

    assert (await store.uploads.append(early.id, 0, body(b"good"))).is_finished
