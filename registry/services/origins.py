"""The age limit of addresses and of the names of programs.

Sessions and counts of downloads stay; where they came from is blanked. What the audit log says of
addresses stays as long as its entries, which are sealed: to take a word out would be an edit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, TypeAlias

from registry.catalog.origins import blank_downloads, blank_sessions
from store.clock import SECOND
from store.index.transactions import Tx
from store.opening import Store

AT_ONCE: Final = 500
PAUSE_SECONDS: Final = 0.05
DAY: Final = 86_400 * SECOND

Blank: TypeAlias = Callable[[Tx, int, int], Awaitable[int]]


async def forget_origins(store: Store, *, days: int) -> int:
    """Blank what is older, some at a time; returns how many rows. For housekeeping."""
    before = store.clock() - days * DAY
    return sum([await _blank(store, blank, before) for blank in (blank_sessions, blank_downloads)])


async def _blank(store: Store, blank: Blank, before: int) -> int:
    blanked = 0
    while True:
        count = await store.index.run(partial(_some, blank=blank, before=before))
        blanked += count
        if count < AT_ONCE:
            return blanked
        await asyncio.sleep(PAUSE_SECONDS)  # other writers come in between


async def _some(tx: Tx, *, blank: Blank, before: int) -> int:
    return await blank(tx, before, AT_ONCE)
