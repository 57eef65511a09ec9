"""What an operator watches of the whole store and the catalog, looked at in a few reads.

For ``/metrics``, for the sampler of health and for the statistics. Counting every blob takes a
second or two at ten million of them, so a look serves everybody for `FRESH_SECONDS`, and where it
took long for `FACTOR` times as long as it took: it costs at most a fiftieth of one thread.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from registry.catalog.audit import count_between, entries_between, last_id
from registry.catalog.deliveries import followed_place
from registry.catalog.health_samples import Sample, growth_before, latest_samples
from registry.catalog.operations import find_operation
from registry.catalog.retention import Tally, tally
from registry.catalog.seals import last_seal
from registry.catalog.webhooks import heard_since
from registry.domain.operations import GROUPS, Group, Operation
from registry.services.backup_notes import BackupNote, last_backup
from store.clock import SECOND
from store.gc import COLLECTION_OFF
from store.index.archived import ArchiveTotals, archive_totals
from store.index.state import get_state
from store.index.totals import StateTotals, survey_blobs
from store.index.transactions import Tx
from store.index.uploads import upload_totals
from store.opening import Store
from store.quarantine import aside_totals

FRESH_SECONDS: Final = 10.0
FACTOR: Final = 50

_FAR: Final = 2**62


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """How it stands, at one time or nearly so. Times are microseconds."""

    at: int
    blobs: Mapping[str, StateTotals]
    quarantine: Mapping[str, tuple[int, int]]
    """Reason to files and bytes."""
    archive: ArchiveTotals
    retention: Tally
    uploads: tuple[int, int]
    """Unfinished ones, and their bytes."""
    collection_off: str | None
    operations: Mapping[Group, Operation]
    """The last of each group, running or ended."""
    backup: BackupNote | None
    entries: int
    """The number of the newest audit entry."""
    unsealed: int
    oldest_unsealed_at: int | None
    unfollowed: int
    """Sealed entries that no webhook has been told of yet."""
    growth: Sample | None
    health: list[Sample]

    @property
    def present(self) -> StateTotals:
        return self.blobs.get("present", StateTotals())

    @property
    def damaged(self) -> StateTotals:
        return self.blobs.get("damaged", StateTotals())

    def seconds_since(self, moment: int) -> float:
        return max(self.at - moment, 0) / SECOND


class Survey:
    """Looks for everybody of one process."""

    def __init__(self, store: Store, *, seconds: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._seconds = seconds
        self._last: Seen | None = None
        self._good_until = 0.0
        self._looking = asyncio.Lock()

    @property
    def last(self) -> Seen | None:
        """What was seen last by this process."""
        return self._last

    async def look(self) -> Seen:
        """What there is, seen now or not long ago."""
        async with self._looking:
            if self._last is None or self._seconds() >= self._good_until:
                begun = self._seconds()
                self._last = await self._store.index.read(_see)
                took = self._seconds() - begun
                self._good_until = begun + max(FRESH_SECONDS, FACTOR * took)
            return self._last


async def _see(tx: Tx) -> Seen:
    unsealed, oldest = await unsealed_entries(tx)
    growth = await growth_before(tx, before=_FAR, since=0, limit=1)
    operations = {group: await find_operation(tx, group) for group in GROUPS}
    return Seen(
        at=tx.now,
        blobs=await survey_blobs(tx),
        quarantine=await aside_totals(tx),
        archive=await archive_totals(tx),
        retention=await tally(tx),
        uploads=await upload_totals(tx),
        collection_off=await get_state(tx, COLLECTION_OFF),
        operations={group: row.operation for group, row in operations.items() if row is not None},
        backup=await last_backup(tx),
        entries=await last_id(tx),
        unsealed=unsealed,
        oldest_unsealed_at=oldest,
        unfollowed=await unfollowed_entries(tx),
        growth=growth[0] if growth else None,
        health=await latest_samples(tx),
    )


async def unsealed_entries(tx: Tx) -> tuple[int, int | None]:
    """How many entries of the audit log wait for a seal, and when the oldest was made."""
    seal = await last_seal(tx)
    sealed, last = 0 if seal is None else seal.last, await last_id(tx)
    oldest = await entries_between(tx, sealed, last, 1)
    return await count_between(tx, sealed, last), oldest[0].created_at if oldest else None


async def unfollowed_entries(tx: Tx) -> int:
    """How many sealed entries have not become deliveries; none while nobody listens."""
    since, sealed = await heard_since(tx), await last_seal(tx)
    if since is None or sealed is None:
        return 0
    return max(sealed.last - max(await followed_place(tx), since), 0)
