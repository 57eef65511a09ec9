"""A directory and its index belong together, or nobody opens them."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from store import layout
from store.errors import CollectionRefused, StoreRefused
from store.opening import Store, StoreSettings, initialize, open_store, read_facts
from tests.support.storing import content_of, put, release, row_of

Change = Callable[[Path], None]


@asynccontextmanager
async def opened(root: Path, **settings: object) -> AsyncIterator[Store]:
    store = await open_store(
        StoreSettings(root=root, reserve_bytes=0, reserve_share=0, **settings)  # type: ignore[arg-type]  # a test's own words
    )
    try:
        yield store
    finally:
        await store.close()


def remove_index(root: Path) -> None:
    for path in root.glob(f"{layout.INDEX_FILE}*"):
        path.unlink()


async def test_a_directory_opens_again_with_everything(tmp_path: Path) -> None:
    await asyncio.to_thread(initialize, tmp_path)
    async with opened(tmp_path) as store:
        digest = await put(store, b"abc")
        store_id = store.store_id
    await asyncio.to_thread(initialize, tmp_path)
    async with opened(tmp_path) as store:
        assert store_id == store.store_id
        assert await content_of(store, digest) == b"abc"
        assert await row_of(store, digest) is not None


def test_initializing_is_repeatable(tmp_path: Path) -> None:
    initialize(tmp_path)
    facts = read_facts(tmp_path)
    initialize(tmp_path)

    assert facts == read_facts(tmp_path)


async def test_an_unprepared_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreRefused):
        await open_store(StoreSettings(root=tmp_path))


def test_a_newer_layout_is_refused(tmp_path: Path) -> None:
    initialize(tmp_path)
    path = tmp_path / layout.STORE_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | {"layout_version": 99}))

    with pytest.raises(StoreRefused, match="99"):
        initialize(tmp_path)


def test_an_unreadable_store_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / layout.STORE_FILE).write_text("{")

    with pytest.raises(StoreRefused):
        initialize(tmp_path)


def test_an_index_of_another_store_is_refused(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for root in (one, other):
        root.mkdir()
        initialize(root)
    remove_index(one)
    shutil.copy(other / layout.INDEX_FILE, one / layout.INDEX_FILE)

    with pytest.raises(StoreRefused, match="belongs"):
        initialize(one)


async def test_a_lost_index_is_rebuilt_and_collection_waits(tmp_path: Path) -> None:
    """Files come back as pinned blobs; generations go on above those in quarantine."""
    await asyncio.to_thread(initialize, tmp_path)
    async with opened(tmp_path) as store:
        digest = await put(store, b"abc")
        await put(store, b"bad")
        row = await row_of(store, digest)
        assert row is not None
        await store.quarantine.convict(digest, row.generation)
        await put(store, b"abc")
        store_id = store.store_id
    (aside,) = (tmp_path / layout.QUARANTINE).iterdir()
    aside.rename(aside.with_name(f"{digest.hex}.5000"))
    remove_index(tmp_path)

    await asyncio.to_thread(initialize, tmp_path)

    async with opened(tmp_path, grace_seconds=0) as store:
        assert store_id == store.store_id
        report = await store.fsck.run(repair=True)
        assert {"orphan", "stray quarantine"} == {finding.problem for finding in report.findings}
        assert await content_of(store, digest) == b"abc"
        row = await row_of(store, digest)
        assert row is not None
        assert row.generation > 5000
        with pytest.raises(CollectionRefused, match="anew"):
            await store.collector.apply(await store.collector.plan())
        await store.collector.confirm()
        await store.collector.apply(await store.collector.plan())
        assert await content_of(store, digest) == b"abc"


async def test_a_restored_older_index_is_noticed(tmp_path: Path) -> None:
    """An index of an earlier epoch may not know what was stored since."""
    await asyncio.to_thread(initialize, tmp_path)
    saved = tmp_path / "saved"
    shutil.copy(tmp_path / layout.INDEX_FILE, saved)
    remove_index(tmp_path)
    await asyncio.to_thread(initialize, tmp_path)
    remove_index(tmp_path)
    shutil.copy(saved, tmp_path / layout.INDEX_FILE)
    saved.unlink()

    await asyncio.to_thread(initialize, tmp_path)

    facts = read_facts(tmp_path)
    assert facts is not None
    assert facts.epoch == 3
    async with opened(tmp_path, grace_seconds=0, max_share=1.0) as store:
        assert "epoch" in ((await store.collector.plan()).refused or "")


async def test_a_lost_store_file_is_written_again(tmp_path: Path) -> None:
    await asyncio.to_thread(initialize, tmp_path)
    before = read_facts(tmp_path)
    (tmp_path / layout.STORE_FILE).unlink()

    await asyncio.to_thread(initialize, tmp_path)

    after = read_facts(tmp_path)
    assert before is not None
    assert after is not None
    assert (before.store_id, 2) == (after.store_id, after.epoch)


async def test_two_processes_may_open_one_directory(tmp_path: Path) -> None:
    await asyncio.to_thread(initialize, tmp_path)
    async with opened(tmp_path) as one, opened(tmp_path) as other:
        digest = await put(one, b"abc")
        assert await content_of(other, digest) == b"abc"
        assert await release(other, digest)
        assert not await release(one, digest)
