"""Holds on quarantine: whoever copies the data directory takes one, so that no file is removed.

``digestry backup`` takes one; so may a script around a snapshot of the file system. Taking and
releasing are in the audit log, renewing is not: it happens each minute.
"""

from __future__ import annotations

from registry.catalog.audit import Entry, record
from registry.domain.principals import Principal
from registry.errors import Conflict, NotFound
from registry.services.change import change
from store import holds
from store.holds import PurgeHold
from store.index.transactions import Tx
from store.opening import Store


async def list_holds(store: Store) -> list[PurgeHold]:
    """Those that have not expired, in the order in which they were taken."""
    return await store.index.read(holds.live_holds)


async def take_hold(store: Store, principal: Principal, reason: str, seconds: int) -> PurgeHold:
    """Keep quarantine from being emptied for so long."""
    id = holds.new_hold_id()

    async def unit(tx: Tx) -> PurgeHold:
        hold = await holds.take_hold(tx, id, reason, seconds)
        if hold is None:
            raise Conflict("hold", id, "there are too many", code="too_many_holds")
        await record(
            tx, principal, Entry(action="create", kind="hold", id=id, reason=reason, after=hold)
        )
        return hold

    return await change(store, principal, unit)


async def renew_hold(store: Store, principal: Principal, id: str, seconds: int) -> PurgeHold:
    """Make a hold last from now on; one that has lapsed is `NotFound`, and stays so."""

    async def unit(tx: Tx) -> PurgeHold:
        hold = await holds.renew_hold(tx, id, seconds)
        if hold is None:
            raise NotFound("hold", id)
        return hold

    return await change(store, principal, unit)


async def release_hold(store: Store, principal: Principal, id: str) -> None:
    """End a hold; one that is not there any more is fine."""

    async def unit(tx: Tx) -> None:
        if await holds.release_hold(tx, id):
            await record(tx, principal, Entry(action="delete", kind="hold", id=id))

    await change(store, principal, unit)
