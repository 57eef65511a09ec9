"""Plans of retention: what would happen to each version, kept so that it can be looked at and done.

Versions are read a page at a time on a reader thread, judged by `registry.domain.retention.decide`,
and written down in small transactions with pauses between, so that a plan over a million versions
holds up nobody and takes no more memory than one over a hundred. A plan changes nothing but itself.

Of what is kept each version has its line too, up to `MOST_KEPT_LINES` of them, then they are only
counted; models without a policy are passed by unless the plan is of one of them alone. A plan holds
at most `MOST_LINES` versions that something happens to and says so where there was more: the next
one finds the rest.

**What would become free** is told per version as if it alone went, and for the plan as a whole;
blobs that anybody else refers to do not count. It becomes free with the collection after the purge.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Final

import msgspec
import structlog

from registry.catalog.models import find_model_by_id
from registry.catalog.retention import policy_for
from registry.catalog.retention_facts import facts_after, freed_by
from registry.catalog.retention_plans import (
    MOST_FILES_COUNTED,
    Line,
    Plan,
    count_outcomes,
    find_plan,
    freed_by_plan,
    insert_lines,
    insert_plan,
    lines_after,
    models_after,
    plans_before,
    plans_in_state,
    remove_some,
    update_plan,
)
from registry.domain.ids import PLAN, is_id, new_id
from registry.domain.models import Model, Version
from registry.domain.principals import HOUSEKEEPING, Principal
from registry.domain.references import ModelReference
from registry.domain.retention import Judgement, Outcome, Scope, decide
from registry.errors import Invalid, NotFound
from registry.services.namespaces import require_namespace
from registry.services.resolve import require_model
from store.index.transactions import Tx
from store.opening import Store

VERSIONS_AT_ONCE: Final = 200
MODELS_AT_ONCE: Final = 100
PAUSE_SECONDS: Final = 0.005
"""Between two transactions: whoever else writes comes in between."""

MOST_KEPT_LINES: Final = 10_000
MOST_LINES: Final = 100_000
MOST_FAILED_MODELS: Final = 20
"""So many failures are not of a model but of the registry; the work ends with the last one."""

logger = structlog.get_logger()

Report = Callable[[int, int], None]
"""Told how many versions were looked at, and of how many if that is known, else 0."""


class Target(msgspec.Struct, frozen=True):
    """What a plan is about: a model, a namespace, or all."""

    scope: Scope = "registry"
    id: str | None = None
    name: str = ""


EVERYTHING: Final = Target()


class PlanView(msgspec.Struct, frozen=True):
    """A plan, and how many of its lines came to which end."""

    plan: Plan
    outcomes: dict[Outcome, int]


class PlanPage(msgspec.Struct, frozen=True):
    items: list[Plan]
    next: str | None


class LinePage(msgspec.Struct, frozen=True):
    items: list[Line]
    next: int | None


async def find_target(
    store: Store,
    principal: Principal,
    *,
    model: ModelReference | None = None,
    namespace: str | None = None,
) -> Target:
    """What a plan shall be about; raises `NotFound`."""
    if model is not None and namespace is not None:
        raise Invalid("namespace", "cannot be given beside a model")

    async def unit(tx: Tx) -> Target:
        if model is not None:
            of_model = await require_model(tx, principal, model)
            return Target("model", of_model.id, of_model.name)
        if namespace is not None:
            of_namespace = await require_namespace(tx, principal, namespace)
            return Target("namespace", of_namespace.id, of_namespace.slug)
        return EVERYTHING

    return await store.index.look(unit)


# Making


async def make_plan(
    store: Store,
    principal: Principal,
    target: Target,
    *,
    report: Report,
    is_scheduled: bool = False,
    pause_seconds: float = PAUSE_SECONDS,
) -> Plan:
    """Judge every version of the target and keep what would happen; nothing else changes.

    Nobody else makes or applies a plan meanwhile: the caller holds the operation's row.
    """
    await settle(store)
    plan = Plan(
        id=new_id(PLAN, store.clock()),
        scope=target.scope,
        target=target.id,
        target_name=target.name,
        is_scheduled=is_scheduled,
        created_at=store.clock(),
        created_by=principal.id,
    )
    await store.index.run(partial(insert_plan, plan=plan))
    making = _Making(store, plan, report, pause_seconds)
    async for model in _models(store, principal, target):
        await making.judge(model)
        if not making.plan.is_complete:
            break
    return await making.finish()


async def settle(store: Store) -> None:
    """Put in order what a crash left: unfinished plans go, half applied ones can be applied on."""

    async def release(tx: Tx) -> None:
        for plan in await plans_in_state(tx, "applying", 100):
            await update_plan(tx, msgspec.structs.replace(plan, state="ready"))

    await store.index.run(release)
    while left := await store.index.read(partial(plans_in_state, state="making", limit=1)):
        await remove_plan(store, left[0].id)


async def remove_plan(store: Store, id: str) -> None:
    """Remove a plan with its lines, in steps."""
    is_more = True
    while is_more:
        is_more = await store.index.run(partial(remove_some, plan_id=id))
        await asyncio.sleep(PAUSE_SECONDS)


async def _models(store: Store, principal: Principal, target: Target) -> AsyncIterator[Model]:
    """The living models of a target, those that the principal may see."""
    if target.scope == "model":
        found = await store.index.read(partial(find_model_by_id, id=target.id or ""))
        if found is not None:
            yield found
        return
    after = ""
    while True:
        page = await store.index.read(
            partial(
                models_after,
                namespace_id=target.id,
                seen=seen_by(principal),
                after=after,
                limit=MODELS_AT_ONCE,
            )
        )
        for model in page:
            yield model
        if len(page) < MODELS_AT_ONCE:
            return
        after = page[-1].folded


def seen_by(principal: Principal) -> str | None:
    """Whose versions a principal's plans are about, as JSON; the server's own are about all."""
    return None if principal.id == HOUSEKEEPING.id else principal.visibility.seen


class _Judged(msgspec.Struct, frozen=True):
    """A page of versions with what happens to each, and what that would free."""

    versions: list[Version]
    judgements: list[Judgement]
    freed: dict[str, tuple[int, bool]]
    is_covered: bool


class _Making:
    """A plan while it is made."""

    def __init__(self, store: Store, plan: Plan, report: Report, pause_seconds: float) -> None:
        self._store = store
        self._report = report
        self._pause_seconds = pause_seconds
        self._lines = 0
        self._kept_lines = 0
        self._files = 0
        self._size_bytes = 0
        self.plan = plan

    async def judge(self, model: Model) -> None:
        """Judge all versions of a model; what goes wrong with it stays with it."""
        self._add(models=1)
        try:
            await self._judge(model)
        except Exception:
            logger.exception("a model could not be judged", model=model.id)
            self._add(models_failed=1)
            if self.plan.models_failed >= MOST_FAILED_MODELS:
                raise

    async def _judge(self, model: Model) -> None:
        after = 0
        while self.plan.is_complete:
            judged = await self._store.index.read(
                partial(self._page, model=model, after=after, limit=VERSIONS_AT_ONCE)
            )
            if not judged.is_covered and self.plan.scope != "model":
                return
            await self._keep(model, judged)
            if len(judged.versions) < VERSIONS_AT_ONCE:
                return
            after = judged.versions[-1].number

    @staticmethod
    async def _page(tx: Tx, model: Model, after: int, limit: int) -> _Judged:
        policy = await policy_for(tx, model)
        page = await facts_after(tx, model, policy, after, limit)
        judgements = decide(policy, page.model, page.facts, tx.now)
        freed = {
            version.id: await freed_by(tx, version)
            for version, judgement in zip(page.versions, judgements, strict=True)
            if judgement.action == "purge"
        }
        return _Judged(page.versions, judgements, freed, policy is not None)

    async def _keep(self, model: Model, judged: _Judged) -> None:
        lines = []
        for version, judgement in zip(judged.versions, judged.judgements, strict=True):
            if not self._counts(version, judgement):
                continue
            self._lines += 1
            frees, is_exact = judged.freed.get(version.id, (0, True))
            lines.append(
                Line(
                    plan_id=self.plan.id,
                    line=self._lines,
                    model_id=model.id,
                    model=model.name,
                    version_id=version.id,
                    number=version.number,
                    label=version.label,
                    action=judgement.action,
                    rules=judgement.rules,
                    size_bytes=version.size_bytes,
                    frees=frees,
                    frees_exactly=is_exact,
                )
            )
        self._report(self.plan.keep + self.plan.retire + self.plan.purge, 0)
        if lines:
            await self._store.index.run(partial(insert_lines, lines=lines))
            await asyncio.sleep(self._pause_seconds)

    def _counts(self, version: Version, judgement: Judgement) -> bool:
        """Count a version; whether it gets a line as well."""
        if judgement.action == "keep":
            self._add(keep=1)
            is_told = not self.plan.is_scheduled and self._kept_lines < MOST_KEPT_LINES
            self._kept_lines += is_told
            return is_told
        if self.plan.retire + self.plan.purge >= MOST_LINES:
            self.plan = msgspec.structs.replace(self.plan, is_complete=False)
            return False
        if judgement.action == "retire":
            self._add(retire=1)
        else:
            self._add(purge=1)
            self._files += version.files
            self._size_bytes += version.size_bytes
        return True

    def _add(self, **more: int) -> None:
        counts = {name: getattr(self.plan, name) + count for name, count in more.items()}
        self.plan = msgspec.structs.replace(self.plan, **counts)

    async def finish(self) -> Plan:
        is_exact = self._files <= MOST_FILES_COUNTED
        frees = self._size_bytes
        if is_exact:
            frees = await self._store.index.read(partial(freed_by_plan, plan_id=self.plan.id))
        done = msgspec.structs.replace(
            self.plan, state="ready", frees=frees, frees_exactly=is_exact
        )
        await self._store.index.run(partial(update_plan, plan=done))
        return done


# Looking


async def require_plan(tx: Tx, principal: Principal, id: str) -> Plan:
    """The plan, for whoever made it or may see everything; raises `NotFound`."""
    found = await find_plan(tx, id) if is_id(id, PLAN) else None
    if found is None or not (principal.visibility.everything or found.created_by == principal.id):
        raise NotFound("plan", id[:80], code="plan_not_found")
    return found


async def get_plan(store: Store, principal: Principal, id: str) -> PlanView:
    """One plan with what became of its lines; raises `NotFound`."""

    async def unit(tx: Tx) -> PlanView:
        plan = await require_plan(tx, principal, id)
        return PlanView(plan, await count_outcomes(tx, id))  # type: ignore[arg-type]  # the table allows these words alone

    return await store.index.read(unit)


async def list_plans(
    store: Store, principal: Principal, *, before: str | None, limit: int
) -> PlanPage:
    """The plans of all or one's own, the latest first."""
    maker = None if principal.visibility.everything else principal.id
    items = await store.index.read(
        partial(plans_before, maker=maker, before=before, limit=limit + 1)
    )
    is_more = len(items) > limit
    items = items[:limit]
    return PlanPage(items, items[-1].id if is_more else None)


async def list_lines(
    store: Store,
    principal: Principal,
    id: str,
    *,
    action: str | None = None,
    outcome: str | None = None,
    after: int = 0,
    limit: int = 100,
) -> LinePage:
    """The lines of a plan in order of model and version; raises `NotFound`."""

    async def unit(tx: Tx) -> list[Line]:
        await require_plan(tx, principal, id)
        return await lines_after(
            tx, id, action=action, outcome=outcome, after=after, limit=limit + 1
        )

    items = await store.index.read(unit)
    is_more = len(items) > limit
    items = items[:limit]
    return LinePage(items, items[-1].line if is_more else None)
