"""The log of deliveries: listed, looked into, asked for again, and removed in time.

Whoever administers a namespace sees how deliveries went; what a receiver answered is shown to
administrators of the registry alone, because a webhook may be aimed at what others must not read.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Final

import msgspec

from registry.auth.policy import allows
from registry.catalog.audit import Entry, record
from registry.catalog.deliveries import (
    ListedDelivery,
    deliveries_before,
    expire_deliveries,
    find_delivery,
    redeliver,
)
from registry.domain.principals import Principal
from registry.domain.webhooks import KEPT_DAYS, DeliveryState
from registry.errors import NotFound
from registry.services.change import change
from registry.services.webhooks import require_active, require_webhook
from store.clock import SECOND
from store.index.transactions import Tx
from store.opening import Store

EXPIRED_AT_ONCE: Final = 1_000
PAUSE_SECONDS: Final = 0.005


class DeliveryPage(msgspec.Struct, frozen=True):
    items: list[ListedDelivery]
    next: int | None


def may_see_responses(principal: Principal) -> bool:
    """Whether a principal is shown what receivers answered."""
    return allows(principal, "admin")


async def list_deliveries(
    store: Store,
    principal: Principal,
    webhook: str,
    *,
    state: DeliveryState | None,
    before: int | None,
    limit: int,
) -> DeliveryPage:
    """What a webhook was and will be told, the newest entry first; raises `NotFound`."""

    async def unit(tx: Tx) -> list[ListedDelivery]:
        await require_webhook(tx, principal, webhook)
        return await deliveries_before(tx, webhook, state, before, limit + 1)

    items = await store.index.read(unit)
    is_more = len(items) > limit
    items = items[:limit]
    return DeliveryPage(items, items[-1].delivery.entry if is_more else None)


async def get_delivery(
    store: Store, principal: Principal, webhook: str, entry: int
) -> ListedDelivery:
    """One delivery; raises `NotFound`."""

    async def unit(tx: Tx) -> ListedDelivery:
        await require_webhook(tx, principal, webhook)
        return await _require(tx, webhook, entry)

    return await store.index.look(unit)


async def ask_again(store: Store, principal: Principal, webhook: str, entry: int) -> ListedDelivery:
    """Deliver once more from the first attempt on; raises `Conflict` for a webhook turned off."""

    async def unit(tx: Tx) -> ListedDelivery:
        found = await require_active(tx, principal, webhook)
        before = await _require(tx, webhook, entry)
        await redeliver(tx, webhook, entry)
        after = await _require(tx, webhook, entry)
        await record(
            tx,
            principal,
            Entry(
                action="redeliver",
                kind="webhook",
                id=found.id,
                before={"entry": entry, "state": before.delivery.state},
                after={"entry": entry, "state": after.delivery.state},
            ),
        )
        return after

    return await change(store, principal, unit)


async def expire(store: Store) -> int:
    """Remove deliveries that ended long enough ago, in steps; for housekeeping."""
    removed = 0
    while True:
        until = store.clock() - KEPT_DAYS * 86_400 * SECOND
        count = await store.index.run(partial(expire_deliveries, until=until, most=EXPIRED_AT_ONCE))
        removed += count
        if count < EXPIRED_AT_ONCE:
            return removed
        await asyncio.sleep(PAUSE_SECONDS)


async def _require(tx: Tx, webhook: str, entry: int) -> ListedDelivery:
    found = await find_delivery(tx, webhook, entry)
    if found is None:
        raise NotFound("delivery", str(entry), code="delivery_not_found")
    return found
