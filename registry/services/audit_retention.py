"""Remove old entries of the audit log so that verifying still proves what is left.

Entries go in the order they were made, whole seals at a time. In the transaction that removes them
stands a **checkpoint**: how far entries are gone, and the value of the seal they ended with, under
HMAC-SHA256 with a sub-key of the root key. Seals themselves stay, so a head that was kept elsewhere
can still be found; entries that go without a checkpoint are missing.

Nobody who reads the log is overtaken: what webhooks have not been told of yet, or may still be
told again, stays.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Final

import msgspec

from registry.auth.keys import RootKey
from registry.catalog.audit import delete_through
from registry.catalog.deliveries import first_needed_entry
from registry.catalog.seals import Checkpoint, Seal, checkpoint, put_checkpoint, seals_after
from registry.services.seals import Seals
from registry.services.verifying import CHECKPOINT_LABEL, checkpoint_value
from store.clock import SECOND
from store.index.transactions import Tx
from store.opening import Store

DAY: Final = 86_400 * SECOND
AT_ONCE: Final = 1000
"""Entries in one transaction, but for a seal that covers more."""

PAGE_SEALS: Final = 200
PAUSE_SECONDS: Final = 0.05


async def remove_old_entries(store: Store, seals: Seals, *, days: int) -> int:
    """Remove what was sealed longer ago; returns how many entries. For housekeeping."""
    root = await seals.root_key()
    removed = 0
    while True:
        count = await store.index.run(partial(_step, root=root, before=store.clock() - days * DAY))
        if count is None:
            return removed
        removed += count
        await asyncio.sleep(PAUSE_SECONDS)  # other writers come in between


async def _step(tx: Tx, *, root: RootKey, before: int) -> int | None:
    """Remove the entries of some seals; None if nothing is old enough and read by all."""
    reached = await checkpoint(tx)
    needed = await first_needed_entry(tx)
    last: Seal | None = None
    entries = 0
    for seal in await seals_after(tx, 0 if reached is None else reached.number, PAGE_SEALS):
        is_needed = needed is not None and seal.last >= needed
        if seal.created_at >= before or is_needed or (entries and entries >= AT_ONCE):
            break
        last, entries = seal, entries + seal.entries
    if last is None:
        return None
    made = Checkpoint(last.number, last.last, last.seal.hex(), tx.now, root.id)
    value = checkpoint_value(root.sub_key(CHECKPOINT_LABEL), made)
    await put_checkpoint(tx, msgspec.structs.replace(made, value=value.hex()))
    return await delete_through(tx, last.last)
