"""Remove what nothing refers to, leases or uploads, by a plan that can be shown first.

**Root set.** A blob is kept by any reference, by any lease that has not expired, and by its age: a
blob claimed within the grace period is kept whoever let go of it, so that work between two requests
(an upload and the commit that names it) needs no lease. The grace age counts from ``last_claimed``
by the clock of whoever writes the index.

**Plan, then execute.** A plan names blobs with their generations. Executing it asks every blob
again, inside the transaction that sets it ``moving``: whatever was claimed, touched or replaced
since the plan is skipped. So an old plan is never dangerous, only short.

**Online.** Work goes in batches of `BATCH`: one small transaction, file moves without any lock, one
small transaction. Uploads run on meanwhile.

**Quarantine.** Collected files can be brought back with `Collector.undo` until `Collector.purge`
finds them older than the undo window.

**Refusing.** Where something looks wrong nothing is removed: the directory and the index disagree
about whose they are, the index was rebuilt or restored and nobody has confirmed it, the index knows
no reference at all though there are blobs, or more than a set share of all bytes would go.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import msgspec

from store.blobs import BlobStore
from store.clock import SECOND
from store.digest import Digest
from store.errors import CollectionRefused
from store.holds import PurgeHold, live_holds
from store.index import blobs as rows
from store.index import claims, state
from store.index.blobs import BlobRow
from store.index.totals import blob_totals
from store.index.transactions import Index, MakesRoom, Tx
from store.quarantine import (
    COLLECTED,
    AsideRow,
    Quarantine,
    aside_totals,
    asides_before,
    asides_of,
    insert_aside,
    insert_aside_of_cold,
)

BATCH: Final = 100
PAGE: Final = 1000
PLAN_LIMIT: Final = 100_000
"""How many blobs one plan names at most; the next plan finds the rest."""

COLLECTION_OFF: Final = "collection_off"
"""Key of the store's state that says why collection refuses to run."""


class PlannedBlob(msgspec.Struct, frozen=True, gc=False):
    """A blob that may go: nobody has claimed it since `last_claimed` (microseconds, UTC)."""

    digest: str
    generation: int
    size_bytes: int
    state: str
    last_claimed: int


class CollectionPlan(msgspec.Struct, frozen=True):
    """What a collection would take. It stays safe to execute, however old."""

    id: str
    store_id: str
    made_at: int
    grace_seconds: int
    blobs: list[PlannedBlob]
    bytes: int
    is_complete: bool
    stored_blobs: int
    stored_bytes: int
    refused: str | None
    """Why `Collector.apply` would refuse, or None."""


class CollectionReport(msgspec.Struct, frozen=True):
    """What a collection took; `skipped` blobs were claimed since the plan."""

    id: str
    collected: int
    bytes: int
    skipped: int


class UndoReport(msgspec.Struct, frozen=True):
    """What came back; `superseded` digests had been stored anew."""

    id: str
    returned: int
    bytes: int
    superseded: int


class PurgeReport(msgspec.Struct, frozen=True):
    """What was removed for good."""

    purged: int
    bytes: int
    held_until: int | None = None
    """Until when a hold keeps the rest where it is (microseconds, UTC), if one does."""


class CollectionStatus(msgspec.Struct, frozen=True):
    """What quarantine holds, by reason, and why collection is off, if it is."""

    collected: int
    collected_bytes: int
    damaged: int
    damaged_bytes: int
    off: str | None


Report = Callable[[int, int], None]
"""Told after each batch how many of how many blobs are done."""


class Collector:
    """Plans and executes collections. One at a time; the caller sees to that."""

    def __init__(
        self,
        blobs: BlobStore,
        index: Index,
        quarantine: Quarantine,
        *,
        store_id: str,
        identify: Callable[[], Awaitable[str]],
        grace_seconds: int,
        undo_seconds: int,
        max_share: float,
    ) -> None:
        self._blobs = blobs
        self._index = index
        self._quarantine = quarantine
        self._store_id = store_id
        self._identify = identify
        self._grace_seconds = grace_seconds
        self._undo_seconds = undo_seconds
        self._max_share = max_share
        self.collected_blobs = self.collected_bytes = 0
        """What this process has taken to quarantine."""
        self.purged_blobs = self.purged_bytes = 0
        """What this process has removed for good."""

    async def plan(self) -> CollectionPlan:
        """What could be collected now, and whether `apply` would refuse; changes nothing."""
        planned: list[PlannedBlob] = []
        after, going = b"", 0
        now, totals, is_claimed = await self._index.read(_survey)
        before = now - self._grace_seconds * SECOND
        while len(planned) < PLAN_LIMIT:
            page = await self._index.read(partial(_plan_page, before=before, after=after))
            planned += page.blobs
            going += page.going
            if len(page.blobs) < PAGE:
                break
            after = page.last
        blobs, size = totals.get(rows.PRESENT, (0, 0))
        return CollectionPlan(
            id=f"col_{secrets.token_hex(8)}",
            store_id=self._store_id,
            made_at=now,
            grace_seconds=self._grace_seconds,
            blobs=planned,
            bytes=going,
            is_complete=len(planned) < PLAN_LIMIT,
            stored_blobs=blobs,
            stored_bytes=size,
            refused=await self._objection(going, size, blobs, is_claimed=is_claimed),
        )

    async def apply(self, plan: CollectionPlan, report: Report | None = None) -> CollectionReport:
        """Take what the plan names and is still unclaimed. Raises `CollectionRefused`."""
        if plan.store_id != self._store_id:
            raise CollectionRefused("the plan was made for another store")
        now, totals, is_claimed = await self._index.read(_survey)
        blobs, size = totals.get(rows.PRESENT, (0, 0))
        objection = await self._objection(plan.bytes, size, blobs, is_claimed=is_claimed)
        if objection is not None:
            raise CollectionRefused(objection)
        before = min(now, plan.made_at) - max(self._grace_seconds, plan.grace_seconds) * SECOND
        collected = size_bytes = 0
        for start in range(0, len(plan.blobs), BATCH):
            batch = plan.blobs[start : start + BATCH]
            async with self._quarantine.moving():
                announce = partial(_announce, batch=batch, before=before, collection=plan.id)
                taken = await self._index.run(MakesRoom(announce))
                await self._quarantine.finish(
                    [row for row in taken if row.is_present and not row.is_cold]
                )
            taken_bytes = sum(row.size_bytes for row in taken if row.is_present)
            collected += len(taken)
            size_bytes += taken_bytes
            self.collected_blobs += len(taken)
            self.collected_bytes += taken_bytes
            if report is not None:
                report(start + len(batch), len(plan.blobs))
        return CollectionReport(plan.id, collected, size_bytes, len(plan.blobs) - collected)

    async def undo(self, collection: str, report: Report | None = None) -> UndoReport:
        """Bring back what a collection took and nobody has purged.

        Raises `Unavailable` where it meets a blob that is being moved, by the very collection say;
        it may be repeated.
        """
        returned = size_bytes = superseded = 0
        while asides := await self._index.read(
            partial(asides_of, collection=collection, limit=BATCH)
        ):
            for aside in asides:
                if await self._quarantine.bring_back(aside):
                    returned += 1
                    size_bytes += aside.size_bytes
                else:
                    await self._quarantine.discard([aside])
                    superseded += 1
            if report is not None:
                report(returned + superseded, returned + superseded)
        return UndoReport(collection, returned, size_bytes, superseded)

    async def purge(self, *, everything: bool = False) -> PurgeReport:
        """Remove for good what has been in quarantine longer than the undo window.

        While there is a hold nothing is removed, see `store.holds`.
        """
        window = 0 if everything else self._undo_seconds * SECOND
        purged = size_bytes = 0
        while True:
            holds, asides = await self._index.read(partial(_old_asides, window=window))
            if holds:
                return PurgeReport(purged, size_bytes, max(hold.expires_at for hold in holds))
            discarded = await self._quarantine.discard(asides)
            if not discarded:
                break
            discarded_bytes = sum(aside.size_bytes for aside in discarded)
            purged += len(discarded)
            size_bytes += discarded_bytes
            self.purged_blobs += len(discarded)
            self.purged_bytes += discarded_bytes
        return PurgeReport(purged, size_bytes)

    async def status(self) -> CollectionStatus:
        async def unit(tx: Tx) -> CollectionStatus:
            totals = await aside_totals(tx)
            return CollectionStatus(
                *totals.get(COLLECTED, (0, 0)),
                *totals.get("damaged", (0, 0)),
                await state.get_state(tx, COLLECTION_OFF),
            )

        return await self._index.read(unit)

    async def confirm(self) -> None:
        """Allow collection again after somebody has looked at a rebuilt or restored index."""
        await self._index.run(confirm_collection)

    async def _objection(
        self, going: int, stored: int, blobs: int, *, is_claimed: bool
    ) -> str | None:
        """What looks wrong, if anything does."""
        found = await self._identify()
        if found != self._store_id:
            return f"the directory belongs to store {found}, the index to {self._store_id}"
        off = await self._index.read(partial(state.get_state, key=COLLECTION_OFF))
        if off is not None:
            return off
        if blobs and not is_claimed and going == stored:
            return "the index knows blobs and no reference at all"
        if stored and going > self._max_share * stored:
            share = round(100 * going / stored)
            return f"{share} % of all bytes would go, more than {self._max_share:.0%}"
        return None


async def confirm_collection(tx: Tx) -> None:
    """Allow collection again, as part of the caller's transaction."""
    await state.put_state(tx, COLLECTION_OFF, None)


class _Page(msgspec.Struct, frozen=True):
    """Some blobs of a plan; `going` bytes of them are present."""

    blobs: list[PlannedBlob]
    going: int
    last: bytes


async def _plan_page(tx: Tx, before: int, after: bytes) -> _Page:
    """Made where it is read: all of a plan at once would keep the event loop for a third of a
    second."""
    found = await claims.collectable(tx, before, after, PAGE)
    return _Page(
        [_planned(row) for row in found],
        sum(row.size_bytes for row in found if row.is_present),
        found[-1].digest.raw if found else after,
    )


def _planned(row: BlobRow) -> PlannedBlob:
    return PlannedBlob(str(row.digest), row.generation, row.size_bytes, row.state, row.last_claimed)


async def _survey(tx: Tx) -> tuple[int, dict[str, tuple[int, int]], bool]:
    return tx.now, await blob_totals(tx), await claims.any_refs(tx)


async def _announce(
    tx: Tx, batch: list[PlannedBlob], before: int, collection: str
) -> list[BlobRow]:
    """Step 1 of a move for each blob of a batch that is still as planned and unclaimed.

    A damaged blob has no file to move, and a cold one's stays where it is: its row goes at once.
    """
    taken = []
    for planned in batch:
        row = await rows.find_blob(tx, Digest.parse(planned.digest))
        if (
            row is None
            or (row.generation, row.state) != (planned.generation, planned.state)
            or not await claims.is_collectable(tx, row, before)
        ):
            continue
        if row.is_cold:
            await insert_aside_of_cold(tx, row, reason=COLLECTED, collection=collection)
            await rows.delete_blob(tx, row.digest, row.generation, rows.PRESENT)
        elif row.is_present:
            await rows.change_state(tx, row.digest, row.generation, rows.PRESENT, rows.MOVING)
            await insert_aside(
                tx,
                row.digest,
                row.generation,
                row.size_bytes,
                reason=COLLECTED,
                collection=collection,
                segments=row.segments,
            )
        else:
            await rows.delete_blob(tx, row.digest, row.generation, rows.DAMAGED)
        taken.append(row)
    return taken


async def _old_asides(tx: Tx, window: int) -> tuple[list[PurgeHold], list[AsideRow]]:
    return await live_holds(tx), await asides_before(tx, tx.now - window, BATCH)
