"""How much a start has to do, until the server says that it is ready."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from registry.catalog.migrations import CHAINS
from store import layout
from store.index import totals
from store.index.driver import sqlite
from store.opening import StoreSettings, open_store
from tests.support.fresh import initialize_like_new
from tests.support.plans import plan_of
from tests.support.serving import opened, serving


class Work:
    """Steps that SQLite took, and directories that were read."""

    steps = 0
    directories = 0


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Work]:
    work = Work()

    class Counting(sqlite.Connection):  # type: ignore[misc]  # the driver has no types
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            super().set_progress_handler(self._step, 1)

        def _step(self) -> int:
            work.steps += 1
            return 0

        def set_progress_handler(self, *_: object) -> None:
            """The time limit of statements stays away."""

    def seen(read: Callable[..., Any]) -> Callable[..., Any]:
        def reading(*args: Any) -> Any:
            work.directories += 1
            return read(*args)

        return reading

    plain = sqlite.connect
    with monkeypatch.context() as patched:
        patched.setattr(sqlite, "connect", lambda *a, **o: plain(*a, factory=Counting, **o))
        patched.setattr(os, "scandir", seen(os.scandir))
        patched.setattr(os, "listdir", seen(os.listdir))
        yield work


def fill(root: Path, blobs: int) -> None:
    """Rows and directories of so many blobs; their files matter to nobody who starts."""
    initialize_like_new(root, CHAINS)
    digests = [hashlib.sha256(b"%d" % number).digest() for number in range(blobs)]
    rows = [(digest, 4096, "present", 0, 1, 1) for digest in digests]
    with closing(sqlite.connect(str(root / layout.INDEX_FILE), isolation_level=None)) as connection:
        connection.execute("BEGIN")
        connection.executemany(
            "INSERT INTO blobs (digest, size, state, generation, last_claimed, created_at)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            rows,
        )
        connection.execute("COMMIT")
    for digest in digests[:: max(1, blobs // 50)]:
        shard = root / layout.BLOBS / digest.hex()[:2] / digest.hex()[2:4]
        shard.mkdir(parents=True, exist_ok=True)


async def work_of_a_start(root: Path, monkeypatch: pytest.MonkeyPatch) -> Work:
    settings = StoreSettings(root=root, chains=CHAINS, reserve_bytes=0, reserve_share=0.0)
    with counted(monkeypatch) as work:
        store = await open_store(settings)
        try:
            async with serving(store) as site:
                assert (await site.ask("GET", "/readyz")).status == 200
        finally:
            await store.close()
    return work


async def test_a_start_does_as_much_with_many_blobs_as_with_few(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few, many = tmp_path / "few", tmp_path / "many"
    for root, blobs in ((few, 3), (many, 5_000)):
        root.mkdir()
        await asyncio.to_thread(fill, root, blobs)

    small = await work_of_a_start(few, monkeypatch)
    large = await work_of_a_start(many, monkeypatch)

    assert small.steps > 100
    assert large.steps <= small.steps + 100
    assert large.directories == small.directories


async def test_what_looks_at_all_blobs_sorts_none() -> None:
    """A sorter of a million rows took 40 MiB, a second after the start."""
    async with opened(None) as store:
        steps = [
            step
            for statement in (totals._SURVEY_PRESENT, totals._SURVEY_OTHERS)
            for step in await plan_of(store.index, statement)
        ]

    assert steps == ["SCAN blobs", "SCAN blobs USING INDEX blobs_unsettled"]
