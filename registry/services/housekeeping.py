"""What one process of all does for the store, again and again: the leader's jobs.

Every worker runs `Housekeeping`; whoever holds the leader's lock works, the others look once a
second whether it is free. The lock is advisory and belongs to an open file, so it ends with the
process that holds it, however that ends. Two leaders at once *must* do no harm (on PostgreSQL a
lost session is noticed late): every job is safe beside itself and beside all else that the store
does; leadership only saves work.

A job that fails is logged and tried again at its next turn; it never ends the process or another
job.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog

from store.clock import SECOND
from store.errors import BlobNotFound, Corrupt, StoreError
from store.index import blobs as rows
from store.index import claims
from store.index.transactions import Tx
from store.opening import Store
from store.strays import is_stray

LOOK_SECONDS: Final = 1.0
"""How long a store may be without housekeeping after its leader died."""

STALE_SECONDS: Final = 86400
"""How long a staging file without a session may lie untouched."""

PAGE: Final = 500
PAGE_PAUSE_SECONDS: Final = 0.05
RENEWAL_RATE: Final = 32 << 20

SMALL_WAL_BYTES: Final = 1 << 20
"""Below this a checkpoint is not worth its two syncs, except once a minute."""

logger = structlog.get_logger()

Sleep = Callable[[float], Awaitable[Any]]
AroundTask = Callable[[str, float], AbstractContextManager[object]]


class Job(msgspec.Struct, frozen=True):
    """Work that is due every so often; `run` may take long and is never run twice at once."""

    name: str
    every_seconds: float
    run: Callable[[], Awaitable[object]]


class JobStats(msgspec.Struct):
    """How a job went in this process, for metrics."""

    runs: int = 0
    failures: int = 0
    seconds: float = 0.0
    last_success: float = 0.0
    """Seconds since 1970; 0 before the first."""
    is_failing: bool = False
    """Whether it failed the last time."""

    def fail(self) -> None:
        self.failures += 1
        self.is_failing = True


class Leadership:
    """The leader's lock of one process; without a path (memory) there is no rival."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._descriptor: int | None = None

    def try_take(self) -> bool:
        """Take the lock if it is free. Does not wait."""
        if self._path is None or self._descriptor is not None:
            return True
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def give_up(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class Housekeeping:
    """Waits for leadership, puts in order what a crash left, then runs every job at its pace."""

    def __init__(
        self,
        leadership: Leadership,
        first: Sequence[Job],
        jobs: Sequence[Job],
        *,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._leadership = leadership
        self._first = first
        self._jobs = jobs
        self._sleep = sleep
        self.is_leader = False
        self.around: AroundTask | None = None
        """Told of each turn of a job, with how often it is due; assigned by who assembles."""
        self.stats = {job.name: JobStats() for job in (*first, *jobs)}
        """How each job went, by its name."""

    async def run(self) -> None:
        """Work until cancelled; leadership is given up then."""
        try:
            while not self._take():
                await self._sleep(LOOK_SECONDS)
            self.is_leader = True
            logger.debug("leading", pid=os.getpid())
            for job in self._first:
                await self._attempt(job)
            async with asyncio.TaskGroup() as loops:
                for job in self._jobs:
                    loops.create_task(self._repeat(job), name=f"housekeeping {job.name}")
        finally:
            self.is_leader = False
            self._leadership.give_up()

    def _take(self) -> bool:
        try:
            return self._leadership.try_take()
        except OSError as error:
            logger.warning("cannot look for the leader", reason=str(error))
            return False

    async def _repeat(self, job: Job) -> None:
        while True:
            await self._attempt(job)
            await self._sleep(job.every_seconds)

    async def _attempt(self, job: Job) -> None:
        stats, begun = self.stats[job.name], time.perf_counter()
        try:
            if self.around is None:
                done = await job.run()
            else:
                with self.around(job.name, job.every_seconds):
                    done = await job.run()
        except StoreError as error:
            stats.fail()
            logger.warning("housekeeping failed", job=job.name, reason=str(error))
        except Exception:
            stats.fail()
            logger.exception("housekeeping failed", job=job.name)
        else:
            stats.runs += 1
            stats.last_success, stats.is_failing = time.time(), False
            if isinstance(done, int) and done:
                logger.info("housekeeping", job=job.name, done=done)
        finally:
            stats.seconds += time.perf_counter() - begun


def first_jobs(store: Store) -> list[Job]:
    """What must be settled before anything else is moved."""
    return [Job("settle", 0, store.quarantine.settle)]


def jobs(store: Store) -> list[Job]:
    """What every store needs; the catalog adds its own."""
    return [
        Job("checkpoint", 1, _Checkpoints(store).run),
        # Again, not only first: movers may have been at work then, and one may have failed since.
        Job("settle", 10, store.quarantine.settle),
        Job("expire uploads", 60, store.uploads.expire),
        Job("expire leases", 60, lambda: store.index.run(claims.expire_leases)),
        Job("sweep staging", 3600, partial(sweep_staging, store)),
        Job("purge quarantine", 600, partial(_purge, store)),
        Job("renew segments", 86400, partial(renew_segments, store)),
    ]


async def sweep_staging(store: Store) -> int:
    """Remove staging files that no session names and nobody has written to for long.

    They are what a kill leaves of uploads in one request. Whoever is still at one holds its lock.
    """
    removed = 0
    now = await store.index.look(_now)
    async for info in store.blobs.list_staged():
        if info.modified_at <= now - STALE_SECONDS * SECOND:
            removed += await is_stray(store.blobs, store.index, info.session, remove=True)
    return removed


async def _now(tx: Tx) -> int:
    return tx.now


async def renew_segments(store: Store) -> int:
    """Compute segment digests where a blob has none, so that its first reader need not wait.

    Adopted blobs have none. Slow on purpose: readers do the same for what they need.
    """
    renewed, after = 0, b""
    while page := await store.index.read(partial(rows.blobs_after, after=after, limit=PAGE)):
        for row in page:
            if row.is_present and row.segments is None:
                with suppress(BlobNotFound, Corrupt):  # gone, or found damaged, meanwhile
                    await store.scrub.run(only=[row.digest], rate_bytes_per_second=RENEWAL_RATE)
                    renewed += 1
        after = page[-1].digest.raw
        await asyncio.sleep(PAGE_PAUSE_SECONDS)
    return renewed


async def _purge(store: Store) -> int:
    return (await store.collector.purge()).purged


class _Checkpoints:
    """Copies the log into the index when it has grown, and once a minute whatever its size."""

    def __init__(self, store: Store) -> None:
        self._index = store.index
        self._turns = 0

    async def run(self) -> None:
        self._turns += 1
        size_bytes = self._index.wal_bytes()
        if size_bytes >= SMALL_WAL_BYTES or (size_bytes and self._turns % 60 == 0):
            await self._index.checkpoint()
