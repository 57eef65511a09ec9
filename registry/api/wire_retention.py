"""Shapes of retention as JSON: policies, plans with their lines, what was done."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from registry.api.operations import OperationAnswer
from registry.catalog.retention import ListedPolicy, Tally
from registry.catalog.retention_plans import Line, Plan
from registry.domain.references import ModelReference, parse_model
from registry.domain.retention import (
    DAY,
    MOST_PROTECTED_TAGS,
    Action,
    Outcome,
    PlanState,
    RuleName,
    Scope,
    sentence,
)
from registry.domain.statuses import Status
from registry.domain.times import rfc3339
from registry.http.cursors import PageQuery
from registry.services.retention import PolicyTerms, Statistics
from registry.services.retention_plans import PlanView

Model = Annotated[str, Meta(min_length=1, max_length=600, description="A model, by name or id.")]
Namespace = Annotated[
    str, Meta(min_length=1, max_length=96, description="A namespace, by its slug or `nsp_` id.")
]
KeepLast = Annotated[
    int, Meta(ge=1, le=10, description="So many of the newest versions stay.", examples=[3])
]
RetireAfter = Annotated[
    int,
    Meta(
        ge=0,
        le=36500,
        description="Days from when it was made, or brought back, to when it is retired.",
        examples=[90],
    ),
]
PurgeAfter = Annotated[
    int,
    Meta(
        ge=1,
        le=36500,
        description="Days from when it was retired to when it is purged; null is never.",
        examples=[365],
    ),
]
Statuses = Annotated[
    list[Status], Meta(max_length=5, description="Versions with one of these are kept.")
]
Tags = Annotated[
    list[Annotated[str, Meta(min_length=1, max_length=297)]],
    Meta(
        max_length=MOST_PROTECTED_TAGS,
        description="Versions with one of these are kept: `key`, whatever its value, or "
        "`key=value`.",
        examples=[["golden"]],
    ),
]
Descendants = Annotated[
    bool, Meta(description="Whether versions that something was made from are kept.")
]
Releases = Annotated[bool, Meta(description="Whether SemVer releases are kept.")]
Active = Annotated[
    bool, Meta(description="Whether anything happens; if not, what it covers is kept as it is.")
]
Description = Annotated[str, Meta(max_length=4096)]


class PolicyBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A policy to make: of a model, of a namespace, or without either of the registry."""

    model: Model | None = None
    namespace: Namespace | None = None
    active: Active = True
    keep_last: KeepLast = 3
    retire_after_days: RetireAfter = 90
    purge_after_days: PurgeAfter | None = None
    protect_descendants: Descendants = True
    protect_releases: Releases = False
    protect_statuses: Statuses = msgspec.field(default_factory=lambda: ["production"])
    protect_tags: Tags = []
    description: Description = ""

    def terms(self) -> PolicyTerms:
        return PolicyTerms(
            is_active=self.active,
            keep_last=self.keep_last,
            retire_after_days=self.retire_after_days,
            purge_after_days=self.purge_after_days,
            protect_descendants=self.protect_descendants,
            protect_releases=self.protect_releases,
            protect_statuses=tuple(self.protect_statuses),
            protect_tags=tuple(self.protect_tags),
            description=self.description,
        )


class PolicyPatchBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A merge-patch: what is absent stays. What a policy covers does not change."""

    active: Active | UnsetType = UNSET
    keep_last: KeepLast | UnsetType = UNSET
    retire_after_days: RetireAfter | UnsetType = UNSET
    purge_after_days: PurgeAfter | UnsetType | None = UNSET
    protect_descendants: Descendants | UnsetType = UNSET
    protect_releases: Releases | UnsetType = UNSET
    protect_statuses: Statuses | UnsetType | None = UNSET
    protect_tags: Tags | UnsetType | None = UNSET
    description: Description | UnsetType | None = UNSET

    def terms(self) -> PolicyTerms:
        statuses, tags = self.protect_statuses, self.protect_tags
        return PolicyTerms(
            is_active=self.active,
            keep_last=self.keep_last,
            retire_after_days=self.retire_after_days,
            purge_after_days=self.purge_after_days,
            protect_descendants=self.protect_descendants,
            protect_releases=self.protect_releases,
            protect_statuses=UNSET if statuses is UNSET else tuple(statuses or ()),
            protect_tags=UNSET if tags is UNSET else tuple(tags or ()),
            description="" if self.description is None else self.description,
        )


class PoliciesQuery(PageQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which policies to list."""

    scope: Annotated[Scope, Meta(description="Only those of this scope.")] | None = None


class PlanBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to plan for: a model, a namespace, or without either everything."""

    model: Model | None = None
    namespace: Namespace | None = None


class PlansQuery(PageQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which plans to list."""


class LinesQuery(PageQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which lines of a plan to list."""

    action: Annotated[Action, Meta(description="Only lines that say so.")] | None = None
    outcome: Annotated[Outcome, Meta(description="Only lines that came to this.")] | None = None


class StatisticsQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From which day on to tell what was done."""

    days: Annotated[int, Meta(ge=1, le=3660, description="How many days back the list goes.")] = 30


class PolicyAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A policy; `model` or `namespace` says what it covers, neither is the registry."""

    id: str
    scope: Scope
    model: str | None
    namespace: str | None
    active: bool
    keep_last: int
    retire_after_days: int
    purge_after_days: int | None
    protect_descendants: bool
    protect_releases: bool
    protect_statuses: list[Status]
    protect_tags: list[str]
    description: str
    created_at: str
    created_by: str
    updated_at: str


class PlanAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A plan: how many versions would be kept, retired and purged, and what that would free.

    `frees` is exact, or at most so much where `frees_exactly` is false. `outcomes` counts lines
    that came to an end; lists of plans leave it out.
    """

    id: str
    scope: Scope
    target: str | None
    state: PlanState
    scheduled: bool
    complete: bool
    models: int
    models_failed: int
    keep: int
    retire: int
    purge: int
    frees: int
    frees_exactly: bool
    created_at: str
    created_by: str
    applied_at: str | None
    outcomes: dict[str, int] | UnsetType = UNSET


class RuleAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A rule that speaks for what happens to a version, and until when where that is known."""

    rule: RuleName
    detail: str
    until: str | None


class LineAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What would happen to a version, by which rules, and what became of that.

    `frees` is what would become free if this version alone were purged: exactly, or at most so much
    where `frees_exactly` is false.
    """

    line: int
    model: str
    model_id: str
    version: str
    version_id: str
    number: int
    action: Action
    rules: list[RuleAnswer]
    says: str
    size: int
    frees: int
    frees_exactly: bool
    outcome: Outcome | None
    reason: str
    ended_at: str | None


class TallyAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What was done, counted. Bytes of versions count shared files each time; `freed` does not."""

    retired: int
    retired_bytes: int
    returned: int
    purged: int
    purged_bytes: int
    freed_bytes: int
    skipped: int
    refused: int
    archived: int = 0
    archived_bytes: int = 0
    thawed: int = 0


class DayAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What was done on a day, in UTC."""

    day: str
    done: TallyAnswer


class RetentionStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What retention did in all, and on each day on which it did something, the last first."""

    total: TallyAnswer
    days: list[DayAnswer]


class RetentionAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Whether anything happens by itself, when, what was done, and the last operation.

    `next_run_at` is null while there is no active policy, and where the schedule is off.
    """

    policies: int
    active: bool
    every_hours: float
    next_run_at: str | None
    total: TallyAnswer
    operation: OperationAnswer | None


def model_in(text: str | None) -> ModelReference | None:
    """A model as a body names it."""
    return None if text is None else parse_model(text, field="model")


def policy_answer(listed: ListedPolicy) -> PolicyAnswer:
    one = listed.policy
    return PolicyAnswer(
        id=one.id,
        scope=one.scope,
        model=listed.covers if one.scope == "model" else None,
        namespace=listed.covers if one.scope == "namespace" else None,
        active=one.is_active,
        keep_last=one.keep_last,
        retire_after_days=one.retire_after_days,
        purge_after_days=one.purge_after_days,
        protect_descendants=one.protect_descendants,
        protect_releases=one.protect_releases,
        protect_statuses=list(one.protect_statuses),
        protect_tags=list(one.protect_tags),
        description=one.description,
        created_at=rfc3339(one.created_at),
        created_by=one.created_by,
        updated_at=rfc3339(one.updated_at),
    )


def plan_answer(plan: Plan, view: PlanView | None = None) -> PlanAnswer:
    return PlanAnswer(
        id=plan.id,
        scope=plan.scope,
        target=plan.target_name or None,
        state=plan.state,
        scheduled=plan.is_scheduled,
        complete=plan.is_complete,
        models=plan.models,
        models_failed=plan.models_failed,
        keep=plan.keep,
        retire=plan.retire,
        purge=plan.purge,
        frees=plan.frees,
        frees_exactly=plan.frees_exactly,
        created_at=rfc3339(plan.created_at),
        created_by=plan.created_by,
        applied_at=_time(plan.applied_at),
        outcomes=UNSET if view is None else {str(k): n for k, n in view.outcomes.items()},
    )


def line_answer(line: Line) -> LineAnswer:
    return LineAnswer(
        line=line.line,
        model=line.model,
        model_id=line.model_id,
        version=line.version,
        version_id=line.version_id,
        number=line.number,
        action=line.action,
        rules=[
            RuleAnswer(rule=rule.name, detail=rule.detail, until=_time(rule.until))
            for rule in line.rules
        ],
        says=sentence(line.rules),
        size=line.size_bytes,
        frees=line.frees,
        frees_exactly=line.frees_exactly,
        outcome=line.outcome,
        reason=line.reason,
        ended_at=_time(line.ended_at),
    )


def tally_answer(tally: Tally) -> TallyAnswer:
    return TallyAnswer(**msgspec.structs.asdict(tally))


def statistics_answer(found: Statistics) -> RetentionStatistics:
    return RetentionStatistics(
        total=tally_answer(found.total),
        days=[
            DayAnswer(day=rfc3339(one.day * DAY)[:10], done=tally_answer(one.tally))
            for one in found.days
        ],
    )


def _time(value: int | None) -> str | None:
    return None if value is None else rfc3339(value)
