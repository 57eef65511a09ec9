"""The leader goes on with what counts wrongly: tags of models that have very many.

Those of deleted models count too much at first, those of restored ones too little.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from registry.catalog.tag_lives import count_some, first_behind, first_uncounted, uncount_some
from store.opening import Store

PAUSE_SECONDS: Final = 0.01

Sleep = Callable[[float], Awaitable[Any]]


async def follow_lives(store: Store, *, sleep: Sleep = asyncio.sleep) -> int:
    """Let versions of deleted models count no more, of restored ones again; in how many steps."""
    steps = 0
    for first, go_on in ((first_uncounted, uncount_some), (first_behind, count_some)):
        while (model := await store.index.read(first)) is not None:
            while await store.index.run(partial(go_on, model_id=model)):
                steps += 1
                await sleep(PAUSE_SECONDS)
    return steps
