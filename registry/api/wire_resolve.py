"""Shapes of a gateway's question and of what it is answered as JSON."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from registry.api.wire_bindings import ModelText, Provider, Region, Share, Usd
from registry.domain.bindings import BindingStatus
from registry.domain.observations import MOST_MS
from registry.domain.ranking import Candidate, CostSource, PartName, explained, score_of
from registry.domain.routing import DEFAULT_STATUSES, Reason, RoutableStatus, Routing, sentence
from registry.http.times import rfc3339
from registry.services.standings import Resolution


class ResolveQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is needed. A limit on what nobody knows of a binding is not met by it."""

    model: ModelText | None = None
    kind: Literal["model", "dataset", "generic"] | None = None
    task: Annotated[str, Meta(min_length=1, max_length=96)] | None = None
    subject: Annotated[str, Meta(min_length=1, max_length=96)] | None = None
    provider: Annotated[
        list[Provider], Meta(max_length=32, description="At one of these providers.")
    ] = []
    region: Annotated[
        list[Region], Meta(max_length=32, description="In one of these regions.")
    ] = []
    status: Annotated[
        list[RoutableStatus],
        Meta(
            max_length=3,
            description="Of one of these statuses; without any "
            + " or ".join(f"`{status}`" for status in DEFAULT_STATUSES)
            + ".",
        ),
    ] = []
    slo_met: Annotated[
        bool, Meta(description="Whether the version must have met its objective.")
    ] = False
    min_eval_score: Share | None = None
    max_cost_per_1k: (
        Annotated[Usd, Meta(description="Observed, else agreed, else what the version says.")]
        | None
    ) = None
    max_latency_ms: (
        Annotated[
            float,
            Meta(ge=0, le=MOST_MS, description="Of 95 % of recent answers.", examples=[800]),
        ]
        | None
    ) = None
    min_success_rate: Annotated[Share, Meta(description="Of recent requests, observed.")] | None = (
        None
    )
    limit: Annotated[int, Meta(ge=1, le=100, description="How many of the best.")] = 5

    def routing(self) -> Routing:
        return Routing(
            kind=self.kind,
            task=self.task,
            subject=self.subject,
            statuses=frozenset(self.status or DEFAULT_STATUSES),
            providers=frozenset(self.provider),
            regions=frozenset(self.region),
            must_meet_slo=self.slo_met,
            min_eval_score=self.min_eval_score,
            max_cost_per_1k=self.max_cost_per_1k,
            max_latency_ms=self.max_latency_ms,
            min_success_rate=self.min_success_rate,
        )


class PartAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a score: `value` times `weight`, and why the value is what it is."""

    name: PartName
    value: float
    weight: float
    reason: str


class ResolvedModel(msgspec.Struct, frozen=True, kw_only=True):
    """The model of a resolved binding."""

    id: str
    name: str
    kind: str
    task: str
    subject: str


class ResolvedVersion(msgspec.Struct, frozen=True, kw_only=True):
    """The version of a resolved binding."""

    id: str
    number: int
    label: str | None
    status: str
    eval_score: float | None
    slo_met: bool | None


class ResolvedAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A binding to use: what to call, and why it ranks where it does."""

    rank: int
    score: float
    binding: str
    model: ResolvedModel
    version: ResolvedVersion
    provider: str
    provider_model_id: str
    region: str
    endpoint: str
    config: dict[str, Any]
    status: BindingStatus
    cost_per_1k: float | None
    cost_source: CostSource | None
    success_rate: float | None
    latency_p50_ms: float | None
    latency_p95_ms: float | None
    latency_p99_ms: float | None
    observed_at: str | None
    parts: list[PartAnswer]


class ExcludedAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """How many bindings were left out for one reason; each counts under the first that it has."""

    reason: Reason
    count: int
    sentence: str


class ResolutionAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The best bindings; `considered` is `matched` and all that is `excluded`."""

    items: list[ResolvedAnswer]
    considered: int
    matched: int
    excluded: list[ExcludedAnswer]


def resolution_answer(found: Resolution) -> ResolutionAnswer:
    return ResolutionAnswer(
        items=[_resolved(rank, one) for rank, one in enumerate(found.best, 1)],
        considered=found.considered,
        matched=found.matched,
        excluded=[
            ExcludedAnswer(
                reason=demand.reason,
                count=count,
                sentence=sentence(demand.reason, count, found.routing),
            )
            for demand, count in found.excluded
            if demand.reason != "hidden"
        ],
    )


def _resolved(rank: int, one: Candidate) -> ResolvedAnswer:
    return ResolvedAnswer(
        rank=rank,
        score=score_of(one),
        binding=one.id,
        model=ResolvedModel(
            id=one.model_id, name=one.model, kind=one.kind, task=one.task, subject=one.subject
        ),
        version=ResolvedVersion(
            id=one.version_id,
            number=one.number,
            label=one.label,
            status=one.version_status,
            eval_score=one.eval_score,
            slo_met=one.slo_met,
        ),
        provider=one.provider,
        provider_model_id=one.provider_model_id,
        region=one.region,
        endpoint=one.endpoint,
        config=msgspec.json.decode(one.config),
        status=one.status,
        cost_per_1k=one.cost,
        cost_source=one.cost_source,
        success_rate=one.success_rate,
        latency_p50_ms=one.latency_p50_ms,
        latency_p95_ms=one.latency_p95_ms,
        latency_p99_ms=one.latency_p99_ms,
        observed_at=None if one.observed_at is None else rfc3339(one.observed_at),
        parts=[PartAnswer(**msgspec.structs.asdict(part)) for part in explained(one)],
    )
