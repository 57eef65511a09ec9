"""What the tests of the protocols share: a store of each kind behind a whole application."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import ClientSession, web

from registry.app import runner_settings
from registry.services.uploads import UploadLimits
from store.index.upgrade import STORE
from store.opening import StoreSettings, open_store
from tests.registry.protocols.tus_door import CONFIG, LIFETIME_SECONDS, Door, ManualClock
from tests.support.fresh import initialize_like_new


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=["memory", "local"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def limits() -> UploadLimits:
    return UploadLimits()


@pytest.fixture
async def door(
    backend: str, clock: ManualClock, limits: UploadLimits, tmp_path: Path
) -> AsyncIterator[Door]:
    root = tmp_path / "data" if backend == "local" else None
    if root is not None:
        root.mkdir()
        await asyncio.to_thread(initialize_like_new, root, (STORE,))
    store = await open_store(
        StoreSettings(root=root, upload_seconds=LIFETIME_SECONDS, reserve_bytes=0), clock=clock
    )
    door = Door(store, clock, limits)
    runner = web.AppRunner(door.app(), shutdown_timeout=1, **runner_settings(CONFIG))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    door.port = runner.addresses[0][1]
    async with ClientSession(f"http://127.0.0.1:{door.port}") as client:
        door.client = client
        yield door
    await runner.cleanup()
    await store.close()
