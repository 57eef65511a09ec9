"""Every metric but those of requests: its name, what it says, and where the number comes from.

What one process counts for itself is a counter or a gauge; what is true of the whole store is a
fact, looked at when ``/metrics`` is asked. `registry/API.md` lists them all; a test compares.
Where the index cannot be read, ``digestry_index_up`` is 0 and the facts are those seen last.
"""

from __future__ import annotations

import os
import platform
import resource
import time
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Final

import structlog

from registry import __version__
from registry.domain.operations import GROUPS, Operation
from registry.metrics import Fact, Metrics
from registry.services.condition import Condition
from registry.services.housekeeping import Housekeeping
from registry.services.survey import Seen, Survey
from store.clock import SECOND
from store.errors import StoreError
from store.index.blobs import DAMAGED, MOVING, PRESENT
from store.index.driver import sqlite
from store.index.totals import StateTotals
from store.opening import Store
from store.quarantine import COLLECTED

_STATUSES: Final[Mapping[str, int]] = {"ok": 0, "degraded": 1, "failed": 2}
_DESCRIPTORS: Final = "/proc/self/fd"

logger = structlog.get_logger()


class Measures:
    """What of the store is shown; `look` before `Metrics.render`."""

    def __init__(self, survey: Survey, condition: Condition) -> None:
        self._survey = survey
        self._condition = condition
        self._is_readable = False

    async def look(self) -> None:
        """Bring everything up to date, as far as the index and the disk answer."""
        try:
            await self._condition.answers()
            await self._condition.space()
            self._is_readable = True
        except (StoreError, OSError):  # told by the metric; the rest must be told all the same
            self._is_readable = False
        try:
            await self._survey.look()
        except StoreError as error:  # told by the age of what was seen last
            logger.warning("nothing new in the metrics of the store", reason=str(error))

    def facts(self) -> Iterator[Fact]:
        """What is known by now."""
        yield Fact(
            "digestry_build_info",
            "What runs; the value is always 1.",
            1,
            {
                "version": __version__,
                "python": platform.python_version(),
                "sqlite": sqlite.sqlite_version,
            },
        )
        up = "Whether the index and the medium answered."
        yield Fact("digestry_index_up", up, int(self._is_readable))
        space = self._condition.last_space()
        for name, help_, value in (
            ("free", "Free space for blobs.", space.free_bytes),
            ("size", "Size of the medium.", space.total_bytes),
            ("reserve", "Free space kept for the index.", space.reserve_bytes),
        ):
            yield Fact(f"digestry_disk_{name}_bytes", help_, value)
        seen = self._survey.last
        if seen is not None:
            looked = "When the index was looked through for what follows."
            yield Fact("digestry_survey_timestamp_seconds", looked, seen.at / SECOND)
            yield from _of_blobs(seen)
            yield from _of_work(seen)
            yield from _of_catalog(seen)


def _of_blobs(seen: Seen) -> Iterator[Fact]:
    for state in (PRESENT, MOVING, DAMAGED):
        held, label = seen.blobs.get(state, StateTotals()), {"state": state}
        yield Fact("digestry_blobs", "Blobs by state.", held.blobs, label)
        yield Fact("digestry_blob_bytes", "Bytes of blobs by state, each once.", held.bytes, label)
    never = "Blobs that were never verified since they were adopted."
    yield Fact("digestry_blobs_unverified", never, seen.present.unverified)
    oldest = seen.present.oldest_verified_at
    if oldest is not None:
        yield Fact(
            "digestry_blobs_oldest_verification_timestamp_seconds",
            "When the blob was verified whose verification lies back longest.",
            oldest / SECOND,
        )
    for reason in (COLLECTED, DAMAGED):
        files, size = seen.quarantine.get(reason, (0, 0))
        label = {"reason": reason}
        yield Fact("digestry_quarantine_blobs", "Files in quarantine.", files, label)
        yield Fact("digestry_quarantine_bytes", "Bytes in quarantine.", size, label)
    cold = seen.archive
    for name, help_, value in (
        ("blobs", "Blobs in the cold tier.", cold.blobs),
        ("bytes", "Bytes of these, as they are read.", cold.bytes),
        ("stored_bytes", "Bytes of these, as they lie there.", cold.stored_bytes),
        ("spare_bytes", "Bytes that lie there beside them and will go.", cold.spare_bytes),
    ):
        yield Fact(f"digestry_archive_{name}", help_, value)
    done = seen.retention
    for action, count in (
        ("retired", done.retired),
        ("returned", done.returned),
        ("archived", done.archived),
        ("thawed", done.thawed),
        ("purged", done.purged),
    ):
        yield Fact(
            "digestry_retention_versions",
            "Versions that retention and the archive dealt with.",
            count,
            {"action": action},
            is_counter=True,
        )
    running, staged = seen.uploads
    yield Fact("digestry_uploads_unfinished", "Resumable uploads under way.", running)
    yield Fact("digestry_uploads_staged_bytes", "Bytes of unfinished uploads.", staged)


def _of_work(seen: Seen) -> Iterator[Fact]:
    off = "Whether collection is off until somebody confirms."
    yield Fact("digestry_collection_off", off, int(seen.collection_off is not None))
    for group in GROUPS:
        yield from _of_operation(group, seen.operations.get(group))
    if seen.backup is not None:
        yield Fact(
            "digestry_backup_last_finish_timestamp_seconds",
            "When a backup was finished last.",
            seen.backup.finished_at / SECOND,
        )
        lacking = "Blobs that the last backup could not read whole."
        yield Fact("digestry_backup_missing_blobs", lacking, seen.backup.missing)
    for sample in seen.health:
        yield Fact(
            "digestry_component_status",
            "How a part of the registry is: 0 ok, 1 degraded, 2 failed.",
            _STATUSES[sample.status],
            {"component": sample.component},
        )
    if seen.health:
        sampled = "When the parts of the registry were looked at last."
        moment = seen.health[0].time / SECOND
        yield Fact("digestry_health_sample_timestamp_seconds", sampled, moment)


def _of_operation(group: str, last: Operation | None) -> Iterator[Fact]:
    label = {"group": group}
    is_running = last is not None and last.state == "running"
    yield Fact("digestry_operation_running", "Whether one is running.", int(is_running), label)
    if last is None or last.ended_at is None:
        return
    yield Fact(
        "digestry_operation_last_end_timestamp_seconds",
        "When the last one ended.",
        last.ended_at / SECOND,
        label,
    )
    succeeded = int(last.state == "succeeded")
    yield Fact("digestry_operation_last_success", "Whether it succeeded.", succeeded, label)
    found = "What of it somebody should look at."
    yield Fact("digestry_operation_last_findings", found, last.findings, label)


def _of_catalog(seen: Seen) -> Iterator[Fact]:
    entries = "Entries of the audit log."
    yield Fact("digestry_audit_entries", entries, seen.entries, is_counter=True)
    yield Fact("digestry_audit_unsealed_entries", "Entries without a seal.", seen.unsealed)
    oldest = seen.oldest_unsealed_at
    lag = 0.0 if oldest is None else seen.seconds_since(oldest)
    yield Fact("digestry_audit_seal_lag_seconds", "Age of the oldest entry without a seal.", lag)
    unfollowed = "Sealed entries that webhooks have not been told of."
    yield Fact("digestry_webhooks_unfollowed_entries", unfollowed, seen.unfollowed)
    if seen.growth is None:
        return
    numbers = seen.growth.numbers
    for what in ("models", "versions", "runs", "deployments"):
        yield Fact(f"digestry_catalog_{what}", f"How many {what} there are.", numbers.get(what, 0))
    for what, help_ in (
        ("named", "Bytes that versions name, each once."),
        ("referenced", "Bytes of all versions if each kept files of its own."),
    ):
        yield Fact(f"digestry_versions_{what}_bytes", help_, numbers.get(what, 0))
    counted = "When models, versions and their bytes were counted, each hour."
    moment = numbers.get("at", seen.growth.time) / SECOND
    yield Fact("digestry_catalog_count_timestamp_seconds", counted, moment)


def measure_store(metrics: Metrics, store: Store) -> None:
    """Show what this process' part of the store counts; it knows nothing of metrics itself."""
    index, ingest, scrub, collector = (
        store.index.stats,
        store.ingest,
        store.scrub,
        store.collector,
    )
    for name, help_, read in (
        ("index_units", "Units of work run by the index.", lambda: index.units),
        ("index_commits", "Commits of the index.", lambda: index.commits),
        ("index_write_seconds", "Time for commits and their lock.", lambda: index.writing_seconds),
        (
            "index_lost_transactions",
            "Transactions SQLite gave up.",
            lambda: index.lost_transactions,
        ),
        ("index_reads", "Reads of the index in a thread.", lambda: index.reads),
        ("index_looks", "Look-ups of the index on the event loop.", lambda: index.looks),
        (
            "index_looks_waited",
            "Look-ups that had to use a thread.",
            lambda: index.looks_that_waited,
        ),
        ("index_forced_checkpoints", "Checkpoints by writers.", lambda: index.forced_checkpoints),
        (
            "ingest_stored_blobs",
            "Blobs received and stored in one request.",
            lambda: ingest.blobs_stored,
        ),
        (
            "ingest_deduplicated_blobs",
            "Blobs that were stored already and claimed without their bytes.",
            lambda: ingest.blobs_deduplicated,
        ),
        ("scrub_checked_blobs", "Blobs read and hashed.", lambda: scrub.checked_blobs),
        ("scrub_checked_bytes", "Bytes read and hashed.", lambda: scrub.checked_bytes),
        ("scrub_damaged_blobs", "Blobs found missing or damaged.", lambda: scrub.damaged_blobs),
        (
            "collection_collected_blobs",
            "Blobs taken to quarantine.",
            lambda: collector.collected_blobs,
        ),
        (
            "collection_collected_bytes",
            "Bytes taken to quarantine.",
            lambda: collector.collected_bytes,
        ),
        (
            "collection_purged_blobs",
            "Blobs removed for good.",
            lambda: collector.purged_blobs,
        ),
        (
            "collection_purged_bytes",
            "Bytes removed for good.",
            lambda: collector.purged_bytes,
        ),
    ):
        metrics.counter(f"digestry_{name}", help_, read)
    metrics.gauge(
        "digestry_index_queued_units", "Units that wait for a commit.", store.index.queued
    )
    metrics.gauge(
        "digestry_index_wal_bytes", "Size of the WAL.", store.index.wal_bytes, across="livemax"
    )


def measure_process(metrics: Metrics) -> None:
    """Show what the workers take, added up."""
    metrics.gauge("digestry_workers", "Workers that run.", lambda: 1)
    metrics.counter("digestry_process_cpu_seconds", "Processor time.", time.process_time)
    metrics.gauge(
        "digestry_process_resident_memory_bytes",
        "Memory of all workers; what they share counts for each.",
        resident_bytes,
    )
    metrics.gauge("digestry_process_open_fds", "Open files of all workers.", open_files)
    metrics.gauge(
        "digestry_process_max_fds",
        "Files that one worker may open.",
        lambda: resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        across="livemax",
    )
    metrics.gauge(
        "digestry_event_loop_late_seconds",
        "By how much the last timer came late.",
        lambda: metrics.late_seconds,
        across="livemax",
    )


def resident_bytes() -> float:
    """Memory of this process; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm", encoding="ascii") as told:
            return int(told.read().split()[1]) * resource.getpagesize()
    except OSError:
        return 0


def open_files() -> float:
    """Open files of this process; 0 where the system does not tell."""
    try:
        return len(os.listdir(_DESCRIPTORS)) - 1  # one is the listing's own
    except OSError:
        return 0


def measure_work(metrics: Metrics, keeper: Housekeeping, restarts: int) -> None:
    """Show housekeeping, and how often a worker was replaced."""
    metrics.counter("digestry_worker_restarts", "Workers replaced.", lambda: restarts)
    metrics.gauge("digestry_leaders", "Workers that keep house: one.", lambda: keeper.is_leader)
    for job, stats in keeper.stats.items():
        label = {"task": job.replace(" ", "_")}
        for name, help_ in (
            ("runs", "Times that a job was done."),
            ("failures", "Times that a job failed."),
            ("seconds", "Time that a job took."),
        ):
            read = partial(getattr, stats, name)
            metrics.counter(f"digestry_housekeeping_{name}", help_, read, labels=label)
        metrics.gauge(
            "digestry_housekeeping_last_success_timestamp_seconds",
            "When a job was done last.",
            partial(getattr, stats, "last_success"),
            across="livemax",
            labels=label,
        )
