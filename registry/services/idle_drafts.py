"""Drafts that nobody touches any more, and their end."""

from __future__ import annotations

from typing import Final

from registry.catalog.folders import idle_drafts
from registry.catalog.models import find_model_by_id
from registry.domain.principals import HOUSEKEEPING
from registry.errors import Conflict
from registry.services.removal import discard_draft
from store.clock import SECOND
from store.index.transactions import Tx
from store.opening import Store

EXPIRED_AT_ONCE: Final = 100
"""How many idle drafts go in one transaction."""


async def expire_drafts(store: Store, *, idle_seconds: int) -> int:
    """Discard drafts that nobody touched for so long; those with running uploads stay."""
    before = store.clock() - idle_seconds * SECOND
    done, skipped = 0, set[str]()

    async def unit(tx: Tx) -> tuple[int, list[str]]:
        removed, kept = 0, []
        for draft in await idle_drafts(tx, before, EXPIRED_AT_ONCE + len(skipped)):
            model = await find_model_by_id(tx, draft.model_id)
            if draft.id in skipped or model is None:
                kept.append(draft.id)
                continue
            try:
                await discard_draft(tx, HOUSEKEEPING, model, draft, reason="expired")
                removed += 1
            except Conflict:
                kept.append(draft.id)
        return removed, kept

    while True:
        removed, kept = await store.index.run(unit)
        done += removed
        skipped.update(kept)
        if not removed:
            return done
