"""Whether this process can do its work, and how much it keeps: what probes and dashboards ask.

Counting every blob takes a second at ten million of them, so totals are counted in a reader thread,
at most once in `FRESH_SECONDS`, whoever asks.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import Final

import msgspec

from store.batches import Reserve
from store.digest import EMPTY
from store.errors import StoreError
from store.index.blobs import find_blob
from store.index.totals import blob_totals
from store.index.transactions import Tx
from store.opening import Store

FRESH_SECONDS: Final = 10.0


class Totals(msgspec.Struct, frozen=True):
    """What the store keeps, by state of the blob."""

    blobs: int = 0
    bytes: int = 0
    damaged_blobs: int = 0
    damaged_bytes: int = 0


class Space(msgspec.Struct, frozen=True):
    """Room on the medium; ``reserve_bytes`` of it are kept for the index."""

    free_bytes: int
    total_bytes: int
    reserve_bytes: int


class Condition:
    """Asks the store how it is."""

    def __init__(self, store: Store, *, reserve_bytes: int, reserve_share: float) -> None:
        self._store = store
        self._reserve = Reserve(reserve_bytes, reserve_share)
        self._totals = Totals()
        self._space = Space(0, 0, 0)
        self._counted_at = -FRESH_SECONDS
        self._counting = asyncio.Lock()

    @property
    def store_id(self) -> str:
        """The identity of the data directory."""
        return self._store.store_id

    async def faults(self) -> dict[str, str]:
        """What keeps the store from serving, by the name of the check; empty when it is ready."""
        faults = {}
        try:
            await self.answers()
        except StoreError as error:
            faults["index"] = str(error)
        root = self._store.settings.root
        if root is not None and not await asyncio.to_thread(os.access, root, os.W_OK | os.X_OK):
            faults["storage"] = "the data directory cannot be written"
        try:
            space = await self.space()
        except (StoreError, OSError) as error:
            faults["space"] = str(error)
        else:
            if space.free_bytes < space.reserve_bytes:
                faults["space"] = (
                    f"{space.free_bytes} bytes are free, {space.reserve_bytes} are kept in reserve"
                )
        return faults

    async def answers(self) -> None:
        """Return if the index can be read; raises `StoreError`."""
        await self._store.index.look(_one_key)

    async def space(self) -> Space:
        free, total = await self._store.blobs.free_bytes()
        unbounded = total >= 2**63
        self._space = Space(free, total, 0 if unbounded else self._reserve.of(total))
        return self._space

    def last_space(self) -> Space:
        """What was measured last, by this process."""
        return self._space

    async def totals(self) -> Totals:
        """Counts of at most `FRESH_SECONDS` ago."""
        async with self._counting:
            if time.monotonic() - self._counted_at >= FRESH_SECONDS:
                self._totals = await self._store.index.read(_count)
                self._counted_at = time.monotonic()
        return self._totals


async def _one_key(tx: Tx) -> None:
    await find_blob(tx, EMPTY)


async def _count(tx: Tx) -> Totals:
    by_state = await blob_totals(tx)
    present, damaged = by_state.get("present", (0, 0)), by_state.get("damaged", (0, 0))
    return Totals(*present, *damaged)
