"""Long work (collect, scrub, check, retain) that outlives the request which asked for it.

An operation runs as a task in the worker that was asked. What it is, how far it came and how it
ended is kept in the index, so that every worker can tell, and it is still known after a restart. Of
each of `registry.domain.operations.GROUPS` the last one is kept.

**One at a time.** Work of one group never runs twice at once, and collection and check exclude each
other: both move files by what they read a while ago. The row is the lock
(`registry.catalog.operations`), renewed each second. An operation that finds its row taken over
stops.

**Imports.** What one verb alone needs is imported by it: without the catalog's rules of retention a
command that checks a directory starts in half the time.

**Cancelling** writes a wish into the row, which the worker reads when it renews it. Stopping is
safe at any point: what was moved half way is settled as after a crash.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import msgspec
import structlog

from registry.catalog.audit import Entry, record
from registry.catalog.operations import (
    OperationRow,
    find_operation,
    keep_operation,
    new_holder,
)
from registry.domain.ids import new_id
from registry.domain.operations import GROUPS, Failure, Group, Operation, Progress
from registry.domain.principals import Principal
from registry.errors import Conflict, NotFound
from registry.services.change import change_index
from registry.services.plans import forget_plan, keep_plan, kept_plan, summarised
from registry.services.recounting import recount_usage
from store.clock import Clock
from store.digest import Digest
from store.errors import BlobNotFound, CollectionRefused, StoreError
from store.gc import CollectionStatus, confirm_collection
from store.index.transactions import MakesRoom, Tx
from store.opening import Store
from store.scrub import ScrubProgress

if TYPE_CHECKING:
    from registry.services.retention_plans import Target

BEAT_SECONDS: Final = 1.0
SHOWN_FINDINGS: Final = 1000

_EXCLUDES: Final[dict[Group, tuple[Group, ...]]] = {
    "gc": ("gc", "fsck"),
    "fsck": ("fsck", "gc"),
    "scrub": ("scrub",),
    "retention": ("retention",),
    "archive": ("archive",),
}

logger = structlog.get_logger()


class Outcome(msgspec.Struct, frozen=True):
    """What finished work hands over; `findings` counts what somebody should look at."""

    report: msgspec.Struct
    findings: int = 0


Tell: TypeAlias = Callable[[Progress], None]
Work: TypeAlias = Callable[[Tell], Awaitable[Outcome]]


class _Running:
    """An operation of this process."""

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self.progress: Progress | None = None
        self.task: asyncio.Task[None] | None = None

    def tell(self, progress: Progress) -> None:
        self.progress = progress

    def view(self) -> Operation:
        return msgspec.structs.replace(self.operation, progress=self.progress)


class Operations:
    """Starts, shows and cancels long work; one per application."""

    def __init__(
        self, store: Store, *, clock: Clock | None = None, beat_seconds: float = BEAT_SECONDS
    ) -> None:
        self.store = store
        self._index = store.index
        self._clock = clock or store.clock
        self._beat_seconds = beat_seconds
        self._holder = new_holder()
        self._running: dict[str, _Running] = {}

    # The verbs.

    async def scrub(
        self,
        principal: Principal,
        *,
        rate_bytes_per_second: int | None = None,
        only: Sequence[Digest] = (),
    ) -> Operation:
        """Verify stored bytes against their digests, all or those named."""

        async def work(tell: Tell) -> Outcome:
            def report(seen: ScrubProgress) -> None:
                tell(Progress(seen.bytes, seen.total_bytes, "bytes"))

            done = await self.store.scrub.run(
                rate_bytes_per_second=rate_bytes_per_second, report=report, only=only
            )
            shown = msgspec.structs.replace(done, findings=done.findings[:SHOWN_FINDINGS])
            return Outcome(shown, len(done.findings))

        return await self._start(principal, "scrub", "run", work)

    async def fsck(self, principal: Principal, *, repair: bool) -> Operation:
        """Compare index and directory; with `repair` make them agree."""

        async def work(tell: Tell) -> Outcome:
            def report(stage: str, seen: int) -> None:
                tell(Progress(seen, 0, "entries", stage))

            done = await self.store.fsck.run(repair=repair, report=report)
            found = [*await recount_usage(self._index, repair=repair), *done.findings]
            return Outcome(
                msgspec.structs.replace(done, findings=found[:SHOWN_FINDINGS]), len(found)
            )

        return await self._start(principal, "fsck", "repair" if repair else "check", work)

    async def plan_collection(self, principal: Principal) -> Operation:
        """Find out what could be collected and keep the plan, so that it can be applied."""

        async def work(tell: Tell) -> Outcome:
            plan = await self.store.collector.plan()
            await keep_plan(self._index, plan)
            return Outcome(await summarised(plan), 0 if plan.refused is None else 1)

        return await self._start(principal, "gc", "plan", work)

    async def apply_collection(self, principal: Principal, plan_id: str | None = None) -> Operation:
        """Collect what the kept plan names, or what a new plan finds."""
        chosen = None if plan_id is None else await kept_plan(self._index, plan_id)

        async def work(tell: Tell) -> Outcome:
            plan = chosen or await self.store.collector.plan()
            done = await self.store.collector.apply(plan, _counting(tell))
            await forget_plan(self._index)
            return Outcome(done)

        return await self._start(principal, "gc", "apply", work)

    async def undo_collection(self, principal: Principal, collection: str) -> Operation:
        """Bring back what a collection took."""

        async def work(tell: Tell) -> Outcome:
            done = await self.store.collector.undo(collection, _counting(tell))
            return Outcome(done, 0 if done.returned or done.superseded else 1)

        return await self._start(principal, "gc", "undo", work)

    async def purge_collected(self, principal: Principal, *, everything: bool = False) -> Operation:
        """Remove quarantined files for good: those past the undo window, or all."""

        async def work(tell: Tell) -> Outcome:
            return Outcome(await self.store.collector.purge(everything=everything))

        return await self._start(principal, "gc", "purge", work)

    async def collection_status(self, principal: Principal) -> CollectionStatus:
        """What quarantine holds, and whether collection is off."""
        return await self.store.collector.status()

    async def confirm_collection(self, principal: Principal) -> None:
        """Say that somebody has looked at a rebuilt or restored index: collection may go on."""

        async def unit(tx: Tx) -> None:
            await confirm_collection(tx)
            await record(tx, principal, Entry(action="confirm", kind="gc", id="gc"))

        await change_index(self._index, principal, MakesRoom(unit))

    async def plan_retention(self, principal: Principal, target: Target) -> Operation:
        """Find out what would become of versions and keep the plan, so that it can be applied."""
        from registry.services.retention_plans import make_plan
        from registry.services.retention_runs import summary_of

        async def work(tell: Tell) -> Outcome:
            report = _counting(tell, "versions")
            plan = await make_plan(self.store, principal, target, report=report)
            return Outcome(summary_of(plan), plan.models_failed)

        return await self._start(principal, "retention", "plan", work)

    async def apply_retention(self, principal: Principal, plan_id: str) -> Operation:
        """Do what a plan says, as far as it is still true."""
        from registry.services.retention_runs import apply_plan, plan_to_apply

        plan = await plan_to_apply(self.store, principal, plan_id)

        async def work(tell: Tell) -> Outcome:
            report = _counting(tell, "versions")
            done = await apply_plan(self.store, principal, plan.id, report=report)
            return Outcome(done, done.refused + done.failed)

        return await self._start(principal, "retention", "apply", work)

    async def run_retention(self, principal: Principal) -> Operation:
        """Plan everything and apply that at once; for the schedule."""
        from registry.services.retention_runs import run_once

        async def work(tell: Tell) -> Outcome:
            done = await run_once(self.store, principal, report=_counting(tell, "versions"))
            return Outcome(done, done.refused + done.failed)

        return await self._start(principal, "retention", "run", work)

    async def archive_retired(
        self, principal: Principal, *, bytes_per_second: int = 0
    ) -> Operation:
        """Move what retired versions alone have to the cold tier."""
        from registry.services.archive import archive_retired

        async def work(tell: Tell) -> Outcome:
            done = await archive_retired(
                self.store, principal, report=_counting(tell), bytes_per_second=bytes_per_second
            )
            return Outcome(done, done.failed)

        return await self._start(principal, "archive", "run", work)

    # What runs, and what ran.

    async def latest(self, principal: Principal, group: Group) -> Operation | None:
        """The running or last operation of a group."""
        row = await self._index.read(partial(find_operation, group=group))
        return None if row is None else self._view(row)

    async def find(self, principal: Principal, operation_id: str) -> Operation:
        """One operation by its id; raises `NotFound` when a later one took its place."""
        return self._view((await self._find_row(operation_id))[1])

    async def cancel(self, principal: Principal, operation_id: str) -> Operation:
        """Ask an operation to stop; one that has ended stays as it is."""

        async def wish(tx: Tx) -> None:
            row = await find_operation(tx, group)
            if row is not None and row.operation.id == operation_id and not row.is_cancelled:
                await keep_operation(tx, msgspec.structs.replace(row, is_cancelled=True))
                await _record(tx, principal, row.operation, "cancel")

        group, row = await self._find_row(operation_id)
        if self._view(row).state == "running":
            await change_index(self._index, principal, wish)
        return self._view(row)

    async def close(self) -> None:
        """Stop what runs here; it is noted as interrupted."""
        running = list(self._running.values())
        tasks = [each.task for each in running if each.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for each in running:  # a task that was cancelled before its first step noted nothing
            if self._running.pop(each.operation.id, None) is not None:
                await self._finish(self._interrupted(each))

    # How it runs.

    async def _start(self, principal: Principal, group: Group, verb: str, work: Work) -> Operation:
        now = self._clock()
        operation = Operation(
            id=new_id("opn_", now),
            group=group,
            verb=verb,
            state="running",
            actor=principal.id,
            started_at=now,
        )
        claim = partial(self._claim, principal=principal, operation=operation)
        await change_index(self._index, principal, claim)
        running = _Running(operation)
        self._running[operation.id] = running
        running.task = asyncio.create_task(self._run(running, work), name=f"{group} {verb}")
        logger.info("operation started", operation=operation.id, group=group, verb=verb)
        return operation

    async def _claim(self, tx: Tx, principal: Principal, operation: Operation) -> Operation:
        """Take the row of the group; refuse while somebody is at work."""
        for group in _EXCLUDES[operation.group]:
            row = await find_operation(tx, group)
            if row is not None and self._view(row, tx.now).state == "running":
                raise Conflict(
                    "operation",
                    row.operation.id,
                    f"{group} {row.operation.verb} is running",
                    code="operation_running",
                    details={"operation": row.operation.id},
                )
        await keep_operation(tx, OperationRow(operation, self._holder, tx.now))
        await _record(tx, principal, operation, operation.verb)
        return operation

    async def _run(self, running: _Running, work: Work) -> None:
        task = asyncio.ensure_future(work(running.tell))
        try:
            while not task.done():
                await asyncio.wait([task], timeout=self._beat_seconds)
                if not task.done() and not await self._renew(running):
                    task.cancel()
                    await asyncio.wait([task])
            ended = _ended(running.view(), task)
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.wait([task])
            ended = self._interrupted(running)
        finishing = asyncio.ensure_future(
            self._finish(msgspec.structs.replace(ended, ended_at=self._clock()))
        )
        try:
            await asyncio.shield(finishing)
        finally:  # `close` cuts work short, but not the note of how it ended
            await asyncio.wait([finishing])
            del self._running[running.operation.id]

    def _interrupted(self, running: _Running) -> Operation:
        return msgspec.structs.replace(running.view(), state="interrupted", ended_at=self._clock())

    async def _renew(self, running: _Running) -> bool:
        """Say that we are still at it; False when somebody wants us to stop."""

        async def unit(tx: Tx) -> bool:
            row = await find_operation(tx, running.operation.group)
            if row is None or row.operation.id != running.operation.id or row.is_cancelled:
                return False
            await keep_operation(tx, OperationRow(running.view(), self._holder, tx.now))
            return True

        try:
            return await self._index.run(MakesRoom(unit))
        except StoreError as error:
            logger.warning("operation not renewed", reason=str(error))
            return True

    async def _finish(self, ended: Operation) -> None:
        async def unit(tx: Tx) -> None:
            row = await find_operation(tx, ended.group)
            if row is not None and row.operation.id == ended.id:
                await keep_operation(tx, OperationRow(ended, self._holder, tx.now))

        logger.info(
            "operation ended",
            operation=ended.id,
            group=ended.group,
            verb=ended.verb,
            state=ended.state,
            findings=ended.findings,
            reason=None if ended.failure is None else ended.failure.reason,
        )
        try:
            await self._index.run(MakesRoom(unit))
        except StoreError as error:
            logger.error("the end of an operation was not recorded", reason=str(error))

    async def _find_row(self, operation_id: str) -> tuple[Group, OperationRow]:
        for group in GROUPS:
            row = await self._index.read(partial(find_operation, group=group))
            if row is not None and row.operation.id == operation_id:
                return group, row
        raise NotFound("operation", operation_id)

    def _view(self, row: OperationRow, now: int | None = None) -> Operation:
        """The operation as it is now, which the row may not have heard of."""
        here = self._running.get(row.operation.id)
        if here is not None:
            return here.view()
        if row.operation.state == "running" and row.is_abandoned(now or self._clock()):
            return msgspec.structs.replace(row.operation, state="interrupted")
        return row.operation


def _ended(operation: Operation, task: asyncio.Future[Outcome]) -> Operation:
    """The operation with the outcome of its work."""
    if task.cancelled():
        return msgspec.structs.replace(operation, state="cancelled")
    error = task.exception()
    if error is None:
        outcome = task.result()
        report = msgspec.Raw(msgspec.json.encode(outcome.report))
        return msgspec.structs.replace(
            operation, state="succeeded", report=report, findings=outcome.findings
        )
    if isinstance(error, StoreError):
        failure = Failure(str(error), isinstance(error, CollectionRefused | BlobNotFound))
    else:
        logger.error("operation failed", operation=operation.id, exc_info=error)
        failure = Failure("an unexpected error; the server's log has it")
    return msgspec.structs.replace(operation, state="failed", failure=failure)


def _counting(
    tell: Tell, unit: Literal["blobs", "versions"] = "blobs"
) -> Callable[[int, int], None]:
    return lambda done, total: tell(Progress(done, total, unit))


async def _record(tx: Tx, principal: Principal, operation: Operation, action: str) -> None:
    """Put into the audit log that somebody set an operation going, or wants it to stop."""
    facts = {"operation": operation.id, "group": operation.group, "verb": operation.verb}
    await record(
        tx,
        principal,
        Entry(action=action, kind=operation.group, id=operation.id, after=facts),
    )
