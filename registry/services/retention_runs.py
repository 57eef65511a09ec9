"""Doing what a plan of retention says, as far as it is still true; and doing so on a schedule.

**Judged again.** Each version is judged once more by `registry.domain.retention.decide` in the very
transaction that would retire or purge it. One whose judgement changed since the plan (an alias was
moved to it, a deployment began, somebody restored it) is skipped and its line says why.

**Never half.** What happens to a version, its audit entry, its line and the count of the day are
one transaction. After a kill the lines that are left are still to be done; whoever applies the plan
again goes on. What a purged version had gathered goes in steps afterwards; after a kill the leader
goes on with that, as with any purge.

**All guards hold.** Purging is the soft deletion and the purge of `registry.services.removal`, with
the reason ``retention``. What they refuse is refused here, named in the line, and stays.

What goes wrong with one model (not a refusal: something unexpected) ends this model's turn, not the
others'.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import msgspec
import structlog

from registry.catalog.models import find_model_by_id
from registry.catalog.retention import add_to_day, has_active_policy, policy_for
from registry.catalog.retention_facts import facts_of, freed_by
from registry.catalog.retention_plans import (
    Line,
    Plan,
    count_outcomes,
    end_line,
    find_line,
    find_plan,
    oldest_plan,
    update_plan,
    waiting_after,
)
from registry.catalog.versions import find_version_by_id
from registry.domain.ids import PLAN, new_id
from registry.domain.models import Model, Version
from registry.domain.principals import HOUSEKEEPING, Principal
from registry.domain.retention import Outcome, decide, sentence
from registry.errors import Conflict, RegistryError
from registry.services.following import let_aliases_follow
from registry.services.removal import delete_in, forget_version, purge_in
from registry.services.retention_plans import (
    EVERYTHING,
    MOST_FAILED_MODELS,
    PAUSE_SECONDS,
    Report,
    make_plan,
    remove_plan,
    require_plan,
)
from registry.services.retirement import retire
from store.clock import SECOND
from store.index import state
from store.index.transactions import MakesRoom, Tx
from store.opening import Store

REASON: Final = "retention"
LINES_AT_ONCE: Final = 200
KEPT_DAYS: Final = 90
"""How long a plan is kept; what it did stays in the statistics and in the audit log."""

_LAST_RUN: Final = "retention.last_run"

logger = structlog.get_logger()


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What came of applying a plan, counting what was done of it before. `left` is still to do."""

    plan: str
    retired: int = 0
    purged: int = 0
    skipped: int = 0
    refused: int = 0
    failed: int = 0
    left: int = 0


class PlanSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A plan without its lines, as the operation that made it reports."""

    plan: str
    models: int
    models_failed: int
    keep: int
    retire: int
    purge: int
    frees: int
    frees_exactly: bool
    is_complete: bool


def summary_of(plan: Plan) -> PlanSummary:
    return PlanSummary(
        plan=plan.id,
        models=plan.models,
        models_failed=plan.models_failed,
        keep=plan.keep,
        retire=plan.retire,
        purge=plan.purge,
        frees=plan.frees,
        frees_exactly=plan.frees_exactly,
        is_complete=plan.is_complete,
    )


# Applying


async def plan_to_apply(store: Store, principal: Principal, id: str) -> Plan:
    """The plan, if something can be left to do of it; raises `NotFound` and `Conflict`."""
    plan = await store.index.look(partial(require_plan, principal=principal, id=id))
    if plan.state == "making":
        raise Conflict("plan", id, "is not finished", code="plan_unfinished")
    if plan.state == "applied":
        raise Conflict("plan", id, "was applied", code="plan_applied")
    return plan


async def apply_plan(
    store: Store,
    principal: Principal,
    id: str,
    *,
    report: Report,
    pause_seconds: float = PAUSE_SECONDS,
) -> Summary:
    """Do what the plan says, version by version, as far as it is still true.

    Nobody else makes or applies a plan meanwhile: the caller holds the operation's row.
    """
    plan = await store.index.run(partial(_move, plan_id=id, to="applying"))
    failed_models: set[str] = set()
    after, done = 0, 0
    while lines := await store.index.read(
        partial(waiting_after, plan_id=id, after=after, limit=LINES_AT_ONCE)
    ):
        for line in lines:
            after = line.line
            done += 1
            if line.model_id not in failed_models and not await _attempt(store, principal, line):
                failed_models.add(line.model_id)
                if len(failed_models) >= MOST_FAILED_MODELS:
                    raise RuntimeError(f"{len(failed_models)} models failed; see the log")
            report(done, plan.retire + plan.purge)
            await asyncio.sleep(pause_seconds)
    await store.index.run(partial(_move, plan_id=id, to="ready" if failed_models else "applied"))
    return await store.index.read(partial(_summary, plan=plan))


async def _move(tx: Tx, plan_id: str, to: str) -> Plan:
    plan = await find_plan(tx, plan_id)
    assert plan is not None, "the operation's row keeps it from being removed"
    at = tx.now if to == "applied" else plan.applied_at
    plan = msgspec.structs.replace(plan, state=to, applied_at=at)
    await update_plan(tx, plan)
    return plan


async def _summary(tx: Tx, plan: Plan) -> Summary:
    outcomes = await count_outcomes(tx, plan.id)
    ended = sum(outcomes.values())
    return Summary(plan=plan.id, left=plan.retire + plan.purge - ended, **outcomes)


async def _attempt(store: Store, principal: Principal, line: Line) -> bool:
    """Do one line; False when something unexpected came between, which its line tells."""
    try:
        judge = partial(_judge_and_do, principal=principal, given=line)
        outcome = await store.index.run(MakesRoom(judge))
        if outcome == "purged":
            await forget_version(store, line.version_id)
    except Conflict as refusal:
        await store.index.run(partial(_refuse, given=line, refusal=refusal))
    except Exception:
        logger.exception("retention failed", model=line.model_id, version=line.version_id)
        await store.index.run(partial(_fail, given=line))
        return False
    return True


async def _judge_and_do(tx: Tx, principal: Principal, given: Line) -> Outcome | None:
    """One version, in one transaction; raises `Conflict` where a guard refuses."""
    line = await find_line(tx, given.plan_id, given.line)
    if line is None or line.outcome is not None:
        return None
    found = await _still_there(tx, principal, line)
    if found is None:
        return await _skip(tx, line, "it is not there any more")
    model, version = found
    policy = await policy_for(tx, model)
    facts = await facts_of(tx, model, policy, [version])
    [judgement] = decide(policy, facts.model, facts.facts, tx.now)
    if judgement.action != line.action:
        return await _skip(tx, line, f"{judgement.action}: {sentence(judgement.rules)}")
    if line.action == "retire":
        await retire(tx, principal, model, version, reason=REASON)
        await let_aliases_follow(tx, model, principal, "retired")
        await end_line(tx, line, "retired")
        return "retired"
    await _purge(tx, principal, model, version)
    await end_line(tx, line, "purged")
    return "purged"


async def _still_there(tx: Tx, principal: Principal, line: Line) -> tuple[Model, Version] | None:
    """The version of a line with its model, while both live and the principal may see them."""
    model = await find_model_by_id(tx, line.model_id)
    if model is None:
        return None
    if principal.id != HOUSEKEEPING.id and not principal.visibility.shows(model):
        return None
    version = await find_version_by_id(tx, model.id, line.version_id)
    return None if version is None or version.deleted_at is not None else (model, version)


async def _purge(tx: Tx, principal: Principal, model: Model, version: Version) -> None:
    freed, is_exact = await freed_by(tx, version)
    gone = await delete_in(tx, principal, model, version, REASON)
    await purge_in(tx, principal, model, gone, REASON)
    await add_to_day(
        tx, purged=1, purged_bytes=version.size_bytes, freed_bytes=freed if is_exact else 0
    )


async def _skip(tx: Tx, line: Line, reason: str) -> Outcome:
    await end_line(tx, line, "skipped", reason)
    await add_to_day(tx, skipped=1)
    return "skipped"


async def _refuse(tx: Tx, given: Line, refusal: RegistryError) -> None:
    await end_line(tx, given, "refused", f"{refusal.code}: {refusal}")
    await add_to_day(tx, refused=1)


async def _fail(tx: Tx, given: Line) -> None:
    line = await find_line(tx, given.plan_id, given.line)
    if line is not None and line.outcome is None:
        await end_line(tx, line, "failed", "an unexpected error; the server's log has it")


async def expire_plans(store: Store) -> int:
    """Let go of plans that are older than anybody asks for."""
    before = new_id(PLAN, max(store.clock() - KEPT_DAYS * 86400 * SECOND, 0))
    done = 0
    while (plan := await store.index.read(partial(oldest_plan, before=before))) is not None:
        await remove_plan(store, plan.id)
        done += 1
    return done


# On a schedule


async def run_once(store: Store, principal: Principal, *, report: Report) -> Summary:
    """Plan everything and do it; a plan by which nothing happens is not kept."""
    plan = await make_plan(store, principal, EVERYTHING, report=report, is_scheduled=True)
    if not plan.retire + plan.purge:
        await remove_plan(store, plan.id)
        return Summary(plan=plan.id)
    return await apply_plan(store, principal, plan.id, report=report)


class Schedule:
    """The leader's part: begins a run when one is due.

    While there is no active policy nothing is due, and the first run comes a whole period after the
    first policy was seen: whoever sets one has the time to look at a plan.
    """

    def __init__(
        self, store: Store, every_hours: float, start: Callable[[], Awaitable[object]]
    ) -> None:
        self._store = store
        self._every = int(every_hours * 3600 * SECOND)
        self._start = start

    async def tick(self) -> int:
        """Returns how much was begun."""
        if not self._every:
            return 0
        now = self._store.clock()
        is_active, last = await self._store.index.read(_standing)
        if not is_active:
            if last is not None:
                await self._note(None)
            return 0
        if last is None:
            await self._note(now)
        elif now - last >= self._every:
            try:
                await self._start()
            except Conflict:
                return 0  # one is running; the next tick asks again
            await self._note(now)
            return 1
        return 0

    async def _note(self, now: int | None) -> None:
        value = None if now is None else str(now)
        await self._store.index.run(partial(state.put_state, key=_LAST_RUN, value=value))


async def _standing(tx: Tx) -> tuple[bool, int | None]:
    last = await state.get_state(tx, _LAST_RUN)
    return await has_active_policy(tx), None if last is None else int(last)


async def last_run(store: Store) -> int | None:
    """When the last run on schedule began, or the first policy was seen; None before."""
    return (await store.index.read(_standing))[1]
