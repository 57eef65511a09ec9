"""The leader goes on with what counts too much: tags of deleted models that have very many."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from registry.catalog.tag_lives import first_uncounted, uncount_some
from store.opening import Store

PAUSE_SECONDS: Final = 0.01

Sleep = Callable[[float], Awaitable[Any]]


async def uncount_deleted(store: Store, *, sleep: Sleep = asyncio.sleep) -> int:
    """Let the versions of deleted models count no more; returns in how many steps."""
    steps = 0
    while (model := await store.index.read(first_uncounted)) is not None:
        while await store.index.run(partial(uncount_some, model_id=model)):
            steps += 1
            await sleep(PAUSE_SECONDS)
    return steps
