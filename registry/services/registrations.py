"""Uploads on their way into a draft: whoever publishes it sees them and waits.

An upload registers before its first byte and renews that while bytes arrive; if its worker dies,
the registration lapses.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

from registry.catalog.folders import renew_upload, unregister_upload
from store.clock import SECOND
from store.opening import Store

LAPSE_SECONDS: Final = 600
"""How long a registered upload is believed to run after it was last renewed."""


@asynccontextmanager
async def registered(store: Store, upload: str) -> AsyncIterator[None]:
    """Keep a registration alive; take it back if the upload fails.

    An upload that succeeds took it back itself, in the transaction that made its file visible.
    """
    renewal = asyncio.create_task(_renew(store, upload))
    try:
        yield
    except asyncio.CancelledError:
        store.ingest.later(store.index.run(partial(unregister_upload, id=upload)))
        raise
    except BaseException:
        await store.index.run(partial(unregister_upload, id=upload))
        raise
    finally:
        renewal.cancel()


async def _renew(store: Store, upload: str) -> None:
    while True:
        await asyncio.sleep(LAPSE_SECONDS / 4)
        expires_at = store.clock() + LAPSE_SECONDS * SECOND
        await store.index.run(partial(renew_upload, id=upload, expires_at=expires_at))
