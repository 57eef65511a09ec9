"""Merging the search index in the background, so that no change of a model waits for it.

Many small transactions with pauses, in which other writers come in between. Nothing is written
where nothing has changed. Two leaders at once merge one index in turns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from registry.catalog.search_segments import (
    merge,
    merges_by_itself,
    segments,
    stop_merging_by_itself,
)
from store.opening import Store

PAUSE_SECONDS: Final = 0.005

Sleep = Callable[[float], Awaitable[Any]]


class SearchMerges:
    """The leader's job; it remembers after which segments nothing was left to merge."""

    def __init__(self, store: Store, *, sleep: Sleep = asyncio.sleep) -> None:
        self._index = store.index
        self._sleep = sleep
        self._merged: bytes | None = None

    async def run(self) -> None:
        """Merge until nothing is left, if anything has changed."""
        if await self._index.read(merges_by_itself):
            await self._index.run(stop_merging_by_itself)
        if await self._index.read(segments) == self._merged:
            return
        while await self._index.run(merge):
            await self._sleep(PAUSE_SECONDS)
        self._merged = await self._index.read(segments)
