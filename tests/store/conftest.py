"""A store on each backend, with a clock that tests move by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from store.clock import SECOND
from store.index.upgrade import STORE
from store.opening import Store, StoreSettings, open_store
from tests.support.folders import tmp_path
from tests.support.fresh import initialize_like_new

__all__ = ["tmp_path"]


class ManualClock:
    """Microseconds since the epoch that pass only when told to."""

    def __init__(self) -> None:
        self.now = 1_800_000_000 * SECOND

    def __call__(self) -> int:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += int(seconds * SECOND)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=["local", "memory"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> StoreSettings:
    root = tmp_path / "data" if request.param == "local" else None
    if root is not None:
        root.mkdir()
        initialize_like_new(root, (STORE,))
    return StoreSettings(root=root, reserve_bytes=0, reserve_share=0, max_share=1.0)


@pytest.fixture
async def store(settings: StoreSettings, clock: Callable[[], int]) -> AsyncIterator[Store]:
    opened = await open_store(settings, clock=clock)
    yield opened
    await opened.ingest.close()
    left = {info.session async for info in opened.blobs.list_staged()}
    plain = {session for session in left if not session.startswith("upl_")}
    await opened.close()
    assert not plain, "staging files left behind"
