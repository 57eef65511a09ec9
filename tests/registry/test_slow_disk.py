"""A disk that takes for ever to sync holds up who waits for it, and nobody else."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from registry.catalog.migrations import CHAINS
from store.durable import Disk
from store.ingest import HELD_BYTES
from store.opening import StoreSettings, open_store
from tests.support.builders import Registry
from tests.support.fresh import initialize_like_new
from tests.support.serving import serving

WAITING = 12
"""More than there are threads that wait for the disk."""


class SlowDisk(Disk):
    """Syncs wait until the test lets them go on."""

    def __init__(self) -> None:
        super().__init__()
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.waiting = 0

    def sync_data(self, descriptor: int, path: str) -> None:
        self.waiting += 1
        assert self.may_go_on.wait(60)
        super().sync_data(descriptor, path)

    def sync_everything(self, watch: int) -> None:
        self.waiting += 1
        assert self.may_go_on.wait(60)
        super().sync_everything(watch)


@pytest.fixture
async def slow(tmp_path: Path) -> AsyncIterator[tuple[Registry, SlowDisk]]:
    root = tmp_path / "data"
    root.mkdir()
    await asyncio.to_thread(initialize_like_new, root, CHAINS)
    settings = StoreSettings(root=root, reserve_bytes=0, reserve_share=0.0, chains=CHAINS)
    disk = SlowDisk()
    store = await open_store(settings, disk=disk)
    try:
        async with serving(store) as site:
            yield Registry(site), disk
    finally:
        disk.may_go_on.set()
        await store.close()


async def test_reads_and_small_requests_do_not_wait_for_a_slow_disk(
    slow: tuple[Registry, SlowDisk],
) -> None:
    registry, disk = slow
    large = bytes(range(256)) * 8000
    await registry.publish("bert", "1.0.0", {"small": b"small", "large": large})
    disk.may_go_on.clear()
    before = disk.waiting
    bodies = [
        *(b"%d" % number * (HELD_BYTES + 1) for number in range(WAITING)),
        *(b"%d" % number for number in range(WAITING)),  # which are stored and synced together
    ]
    puts = [
        asyncio.create_task(registry.put(f"/blobs/{number}.bin", content))
        for number, content in enumerate(bodies)
    ]
    await registry.site.until(lambda: disk.waiting >= before + 8)

    async with asyncio.timeout(20):
        assert (await registry.get("/healthz")).status == 200
        assert (await registry.get("/models/bert/1.0.0/small")).body == b"small"
        assert (await registry.get("/models/bert/1.0.0/large")).body == large
        made = await registry.send("PUT", "/api/v1/models/bert/aliases/a", json={"version": "1"})
        assert made.status in (200, 201), made.body
        gone = await registry.send("DELETE", "/api/v1/models/bert/aliases/a")
        assert gone.status in (200, 204), gone.body
    assert not any(put.done() for put in puts), "acknowledged before it was durable"
    disk.may_go_on.set()

    assert [(await put).status for put in puts] == [201] * len(bodies)
    await registry.check()
