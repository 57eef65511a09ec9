"""How the parts of the registry are: sampled by the leader, kept, and thinned.

**Sampling.** Each turn every part is looked at and one row kept for each, all with one time. What
cannot be looked at has failed, and the error is its detail. If the index itself cannot be written
there is no sample, and the log says why.

==============  ========================================  ==========================================
component       ``degraded``                              ``failed``
==============  ========================================  ==========================================
``index``       the WAL is above 256 MiB, or a look-up    it cannot be read
                takes above a second
``disk``        less than twice the reserve is free       no room above the reserve, or the
                                                          directory cannot be written
``blobs``       some are damaged
``uploads``     one that expired was not removed within
                ten minutes
``collection``  it is off until somebody confirms
``archive``                                               what is there cannot be read
``audit``       an entry has waited for its seal for a
                minute
``backups``     the last one is older than a week, or
                lacks blobs; none at all is no fault
``event-loop``  a timer came 0.1 s late                   a timer came a second late
``leader``      a task of housekeeping fails
``scrub``       a blob was not verified for 90 days, or
                the last scrub found damage or failed
``webhooks``    10,000 deliveries wait, or entries of
                the audit log that are not yet deliveries
==============  ========================================  ==========================================

Degraded means that somebody should look, failed that work is refused. The event loop is that of the
leading worker, the only one that samples: where nobody leads there are no samples, and whoever asks
for the present state is told so (`registry.services.health_history`).

**Keeping.** All samples are kept for `WHOLE_DAYS`; then of each hour the first of each component
and status, so that what was wrong stays known; after the configured days nothing. Thinning reads on
from where it was, in bounded transactions.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Final

import msgspec

from registry.catalog.deliveries import MOST_COUNTED, count_waiting
from registry.catalog.health_samples import (
    Sample,
    Status,
    delete_samples,
    delete_samples_before,
    put_samples,
    spans_after,
    unsettled_blobs,
)
from registry.services.backup_notes import last_backup
from registry.services.condition import Condition
from registry.services.housekeeping import JobStats
from registry.services.survey import Survey, unfollowed_entries, unsealed_entries
from store.clock import SECOND
from store.errors import StoreError
from store.index.transactions import Tx
from store.index.uploads import expired_uploads, upload_totals
from store.opening import Store

HOUR: Final = 3600 * SECOND
DAY: Final = 86400 * SECOND

WHOLE_DAYS: Final = 7
STEP: Final = 1000
"""Rows that one transaction looks at or removes; it took 8 ms."""

PAUSE_SECONDS: Final = 0.05

LONG_WAL_BYTES: Final = 256 << 20
OLD_BACKUP_SECONDS: Final = 7 * 86400
OLD_VERIFICATION_SECONDS: Final = 90 * 86400
MOST_UNFOLLOWED: Final = 10_000
SLOW_SECONDS: Final = 1.0
LATE_SECONDS: Final = 0.1
VERY_LATE_SECONDS: Final = 1.0
OVERDUE: Final = 600 * SECOND
UNSEALED_SECONDS: Final = 60.0
TIMERS: Final = 5
TIMER_SECONDS: Final = 0.02

COMPONENTS: Final = (
    *(
        "archive",
        "audit",
        "backups",
        "blobs",
        "collection",
        "disk",
        "event-loop",
        "index",
        "leader",
    ),
    *("scrub", "uploads", "webhooks"),
)

Sleep = Callable[[float], Awaitable[Any]]


class Finding(msgspec.Struct, frozen=True):
    """How one part is now."""

    status: Status
    detail: str = ""
    numbers: Mapping[str, float] = {}


class HealthSampler:
    """Looks at the parts of one store, and keeps what it saw. For the leader."""

    def __init__(
        self,
        store: Store,
        condition: Condition,
        *,
        keep_days: int,
        survey: Survey | None = None,
        sleep: Sleep = asyncio.sleep,
        seconds: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._store = store
        self._survey = survey or Survey(store)
        self.tasks: Mapping[str, JobStats] = {}
        """How housekeeping goes in this process; assigned by who assembles."""
        self._condition = condition
        self._keep = keep_days * DAY
        self._sleep = sleep
        self._seconds = seconds
        self._thinned = (0, "")

    async def sample(self) -> None:
        """Look at every part and keep one sample of each."""
        faults = await self._condition.faults()
        looks: Mapping[str, Callable[[], Awaitable[Finding]]] = {
            "archive": self._archive,
            "audit": self._audit,
            "backups": self._backups,
            "blobs": self._blobs,
            "collection": self._collection,
            "disk": partial(self._disk, faults),
            "event-loop": self._event_loop,
            "index": partial(self._index, faults),
            "leader": self._leader,
            "scrub": self._scrub,
            "uploads": self._uploads,
            "webhooks": self._webhooks,
        }
        found = {name: await _looked(look) for name, look in looks.items()}
        now = self._store.clock()
        samples = [
            Sample(now, name, one.status, one.detail, one.numbers) for name, one in found.items()
        ]
        await self._store.index.run(lambda tx: put_samples(tx, samples))

    async def _index(self, faults: Mapping[str, str]) -> Finding:
        if "index" in faults:
            return Finding("failed", faults["index"])
        begun = self._seconds()
        await self._store.index.look(_nothing)
        took = self._seconds() - begun
        wal = self._store.index.wal_bytes()
        numbers = {"wal_bytes": wal, "look_up_seconds": took}
        if wal > LONG_WAL_BYTES:
            return Finding("degraded", "the WAL is long: checkpoints do not keep up", numbers)
        if took > SLOW_SECONDS:
            return Finding("degraded", f"a look-up took {took:.1f} s", numbers)
        return Finding("ok", "", numbers)

    async def _disk(self, faults: Mapping[str, str]) -> Finding:
        faulty = [faults[name] for name in ("storage", "space") if name in faults]
        space = await self._condition.space()
        numbers = {
            "free_bytes": space.free_bytes,
            "total_bytes": space.total_bytes,
            "reserve_bytes": space.reserve_bytes,
        }
        if faulty:
            return Finding("failed", "; ".join(faulty), numbers)
        if space.free_bytes < 2 * space.reserve_bytes:
            return Finding("degraded", "less than twice the reserve is free", numbers)
        return Finding("ok", "", numbers)

    async def _blobs(self) -> Finding:
        by_state = await self._store.index.read(unsettled_blobs)
        damaged, moving = by_state.get("damaged", 0), by_state.get("moving", 0)
        numbers = {"damaged": damaged, "moving": moving}
        if damaged:
            return Finding("degraded", "damaged blobs wait to be uploaded again", numbers)
        return Finding("ok", "", numbers)

    async def _uploads(self) -> Finding:
        running, staged, oldest = await self._store.index.read(_running_uploads)
        numbers = {"running": running, "staged_bytes": staged}
        if oldest is not None and self._store.clock() - oldest > OVERDUE:
            return Finding("degraded", "expired uploads are not removed", numbers)
        return Finding("ok", "", numbers)

    async def _collection(self) -> Finding:
        status = await self._store.collector.status()
        numbers = {
            "collected": status.collected,
            "collected_bytes": status.collected_bytes,
        }
        if status.off is not None:
            return Finding("degraded", f"it is off: {status.off}", numbers)
        return Finding("ok", "", numbers)

    async def _audit(self) -> Finding:
        unsealed, oldest = await self._store.index.read(unsealed_entries)
        lag = 0.0 if oldest is None else max(self._store.clock() - oldest, 0) / SECOND
        numbers = {"unsealed": unsealed, "lag_seconds": lag}
        if lag > UNSEALED_SECONDS:
            return Finding("degraded", "entries wait for their seal", numbers)
        return Finding("ok", "", numbers)

    async def _webhooks(self) -> Finding:
        waiting = await self._store.index.read(count_waiting)
        unfollowed = await self._store.index.read(unfollowed_entries)
        numbers = {"waiting": waiting, "unfollowed": unfollowed}
        if waiting >= MOST_COUNTED:
            return Finding("degraded", "receivers do not take deliveries", numbers)
        if unfollowed >= MOST_UNFOLLOWED:
            return Finding("degraded", "the audit log is not followed", numbers)
        return Finding("ok", "", numbers)

    async def _archive(self) -> Finding:
        status = await self._store.archive.status()
        numbers = {"blobs": status.totals.blobs, "stored_bytes": status.totals.stored_bytes}
        if status.problem is not None and status.totals.blobs:
            return Finding("failed", status.problem, numbers)
        return Finding("ok", "", numbers)

    async def _backups(self) -> Finding:
        last = await self._store.index.read(last_backup)
        if last is None:
            return Finding("ok")
        age = max(self._store.clock() - last.finished_at, 0) / SECOND
        numbers = {"age_seconds": age, "missing": last.missing}
        if last.missing:
            return Finding("degraded", "the last backup lacks blobs that were damaged", numbers)
        if age > OLD_BACKUP_SECONDS:
            return Finding("degraded", "the last backup is more than a week old", numbers)
        return Finding("ok", "", numbers)

    async def _leader(self) -> Finding:
        failing = sorted(name for name, stats in self.tasks.items() if stats.is_failing)
        numbers = {"tasks": len(self.tasks), "failing": len(failing)}
        if failing:
            return Finding("degraded", f"fails: {', '.join(failing)}", numbers)
        return Finding("ok", "", numbers)

    async def _scrub(self) -> Finding:
        seen = await self._survey.look()
        oldest, last = seen.present.oldest_verified_at, seen.operations.get("scrub")
        age = 0.0 if oldest is None else seen.seconds_since(oldest)
        numbers = {"unverified": seen.present.unverified, "oldest_seconds": age}
        if last is not None and last.state == "failed":
            return Finding("degraded", "the last scrub failed", numbers)
        if last is not None and last.findings:
            return Finding("degraded", "the last scrub found damage", numbers)
        if age > OLD_VERIFICATION_SECONDS:
            return Finding("degraded", "some blobs were not verified for 90 days", numbers)
        return Finding("ok", "", numbers)

    async def _event_loop(self) -> Finding:
        latest = 0.0
        for _ in range(TIMERS):
            begun = self._seconds()
            await self._sleep(TIMER_SECONDS)
            latest = max(latest, self._seconds() - begun - TIMER_SECONDS)
        numbers = {"late_seconds": max(latest, 0.0)}
        if latest > LATE_SECONDS:
            status: Status = "failed" if latest > VERY_LATE_SECONDS else "degraded"
            return Finding(status, f"a timer came {latest:.2f} s late", numbers)
        return Finding("ok", "", numbers)

    async def thin(self) -> int:
        """Remove what need not be kept any more; says how much."""
        now = self._store.clock()
        removed = 0
        before = now - self._keep
        while count := await self._store.index.run(
            partial(delete_samples_before, before=before, limit=STEP)
        ):
            removed += count
            await self._sleep(PAUSE_SECONDS)
        whole_since = now - WHOLE_DAYS * DAY
        whole_since -= whole_since % HOUR
        return removed + await self._thin_before(whole_since)

    async def _thin_before(self, before: int) -> int:
        removed = 0
        kept: set[tuple[int, str, str]] = set()
        while page := await self._store.index.read(
            partial(spans_after, place=self._thinned, before=before, limit=STEP)
        ):
            surplus = list(_surplus(page, kept))
            if surplus:
                await self._store.index.run(partial(delete_samples, places=surplus))
            removed += len(surplus)
            self._thinned = page[-1][:2]
            await self._sleep(PAUSE_SECONDS)
        return removed


def _surplus(
    page: Iterable[tuple[int, str, str]], kept: set[tuple[int, str, str]]
) -> Iterator[tuple[int, str]]:
    """The places of samples that follow one of the same hour, component and status.

    `kept` says which were seen in the hour that is going on, from page to page. One of growth is
    alone in its day.
    """
    for moment, component, status in page:
        hour = moment - moment % HOUR
        if kept and next(iter(kept))[0] != hour:
            kept.clear()
        if (hour, component, status) in kept:
            yield moment, component
        else:
            kept.add((hour, component, status))


async def _looked(look: Callable[[], Awaitable[Finding]]) -> Finding:
    try:
        return await look()
    except (StoreError, OSError) as error:
        return Finding("failed", str(error))


async def _nothing(tx: Tx) -> None:
    await upload_totals(tx)


async def _running_uploads(tx: Tx) -> tuple[int, int, int | None]:
    """How many, how many bytes, and when the longest expired one did."""
    expired = await expired_uploads(tx, 1)
    return *await upload_totals(tx), expired[0].expires_at if expired else None
