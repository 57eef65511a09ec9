"""Shapes of promotion guards as JSON."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from registry.catalog.guards import ListedGuard
from registry.domain.guards import OVERALL, Failure, MetricRule, Rules
from registry.domain.names import fold
from registry.domain.runs import Split
from registry.domain.scoring.metrics import METRICS
from registry.domain.statuses import Status
from registry.domain.times import rfc3339
from registry.errors import Invalid
from registry.http.cursors import PageQuery
from registry.services.guards import GuardTerms

Model = Annotated[str, Meta(min_length=1, max_length=600, description="A model, by name or id.")]
Namespace = Annotated[
    str, Meta(min_length=1, max_length=96, description="A namespace, by its slug or `nsp_` id.")
]
Aliases = Annotated[
    list[Annotated[str, Meta(min_length=1, max_length=128)]],
    Meta(
        max_length=100,
        description="Names of aliases; `*` is anything, but `latest` and `main`.",
        examples=[["champion", "prod-*"]],
    ),
]
Statuses = Annotated[list[Status], Meta(max_length=5, examples=[["production"]])]
Bound = Annotated[float, Meta(ge=-1e308, le=1e308)]
Description = Annotated[str, Meta(max_length=4096)]
Active = Annotated[bool, Meta(description="Whether it is asked.")]


class MetricRuleBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bounds of a recorded metric of a split, both ends included."""

    name: Annotated[str, Meta(min_length=1, max_length=200, examples=["accuracy"])]
    split: Split = "test"
    at_least: Bound | None = None
    at_most: Bound | None = None


class RulesBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What must hold of a version; what is left out asks for nothing."""

    approvals: Annotated[
        int, Meta(ge=0, le=100, description="Reviewers other than the author who approve.")
    ] = 0
    scores: Annotated[
        dict[str, Annotated[float, Meta(ge=0, le=1)]],
        Meta(
            description="Least trust scores, by metric or `overall`.", examples=[{"licence": 0.5}]
        ),
    ] = msgspec.field(default_factory=dict)
    metrics: Annotated[list[MetricRuleBody], Meta(max_length=50)] = msgspec.field(
        default_factory=list
    )
    licences: Annotated[
        list[Annotated[str, Meta(min_length=1, max_length=100)]],
        Meta(max_length=200, description="SPDX names.", examples=[["Apache-2.0", "MIT"]]),
    ] = msgspec.field(default_factory=list)
    movers: Annotated[
        list[
            Annotated[
                str, Meta(pattern="^((usr|tea)_[0-9a-z]{1,36}|(user|team):.+)$", max_length=200)
            ]
        ],
        Meta(
            max_length=200,
            description="Users and teams who alone may move it: `user:` and `team:` with a name, "
            "or ids; answers tell ids.",
            examples=[["usr_01kagz6y5n8s3v0c4t7x9b2d1f"]],
        ),
    ] = msgspec.field(default_factory=list)

    def rules(self) -> Rules:
        """Raises `Invalid` for scores that there are not."""
        for metric in self.scores:
            if metric not in METRICS and metric != OVERALL:
                raise Invalid(
                    f"rules.scores.{metric}", f"is none of {', '.join(METRICS)}, {OVERALL}"
                )
        return Rules(
            approvals=self.approvals,
            scores=self.scores,
            metrics=tuple(
                MetricRule(
                    name=rule.name, split=rule.split, at_least=rule.at_least, at_most=rule.at_most
                )
                for rule in self.metrics
            ),
            licences=tuple(dict.fromkeys(self.licences)),
            movers=tuple(dict.fromkeys(self.movers)),
        )


class GuardBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A guard to make, of a model or of a namespace and all its models."""

    model: Model | None = None
    namespace: Namespace | None = None
    aliases: Aliases = msgspec.field(default_factory=list)
    statuses: Statuses = msgspec.field(default_factory=list)
    rules: RulesBody
    description: Description = ""
    active: Active = True

    def terms(self) -> GuardTerms:
        return GuardTerms(
            aliases=_folded(self.aliases),
            statuses=tuple(dict.fromkeys(self.statuses)),
            rules=self.rules.rules(),
            description=self.description,
            is_active=self.active,
        )


class GuardPatchBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A merge-patch: what is absent stays, rules are replaced as a whole."""

    aliases: Aliases | UnsetType = UNSET
    statuses: Statuses | UnsetType = UNSET
    rules: RulesBody | UnsetType = UNSET
    description: Description | UnsetType = UNSET
    active: Active | UnsetType = UNSET

    def terms(self) -> GuardTerms:
        return GuardTerms(
            aliases=UNSET if self.aliases is UNSET else _folded(self.aliases),
            statuses=UNSET if self.statuses is UNSET else tuple(dict.fromkeys(self.statuses)),
            rules=UNSET if self.rules is UNSET else self.rules.rules(),
            description=self.description,
            is_active=self.active,
        )


class GuardsQuery(PageQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which guards."""

    model: Model | None = None
    namespace: Namespace | None = None


class GuardAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A guard; one of `model` and `namespace` says by its id what it covers, `covers` its name."""

    id: str
    model: str | None
    namespace: str | None
    covers: str
    aliases: list[str]
    statuses: list[str]
    rules: RulesBody
    description: str
    active: bool
    created_at: str
    created_by: str
    updated_at: str


class FailureAnswer(msgspec.Struct, frozen=True):
    """A rule that does not hold, and the guard whose rule it is."""

    guard: str
    rule: str
    required: str
    found: str


class CheckQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the version would go: an alias, a status, or both."""

    alias: Annotated[str, Meta(min_length=1, max_length=128)] | None = None
    status: Status | None = None


class CheckAnswer(msgspec.Struct, frozen=True):
    """Whether the version could go there now, for the caller; the guards asked, and what failed."""

    holds: bool
    guards: list[str]
    failed: list[FailureAnswer]


def guard_answer(listed: ListedGuard) -> GuardAnswer:
    guard = listed.guard
    said: dict[str, Any] = msgspec.to_builtins(guard.rules)
    return GuardAnswer(
        id=guard.id,
        model=guard.model_id,
        namespace=guard.namespace_id,
        covers=listed.covers,
        aliases=list(guard.aliases),
        statuses=list(guard.statuses),
        rules=msgspec.convert(said, RulesBody),
        description=guard.description,
        active=guard.is_active,
        created_at=rfc3339(guard.created_at),
        created_by=guard.created_by,
        updated_at=rfc3339(guard.updated_at),
    )


def failure_answer(failure: Failure) -> FailureAnswer:
    return FailureAnswer(failure.guard, failure.rule, failure.required, failure.found)


def _folded(aliases: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(fold(alias) for alias in aliases))
