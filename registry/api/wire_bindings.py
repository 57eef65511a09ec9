"""Shapes of provider bindings, of what is observed of them, and of answers to gateways as JSON."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from registry.catalog.bindings import FullBinding
from registry.domain.bindings import (
    ENDPOINT_CHARACTERS,
    KNOWN_PROVIDERS,
    PROVIDER_CHARACTERS,
    PROVIDER_MODEL_CHARACTERS,
    PROVIDER_PATTERN,
    REGION_CHARACTERS,
    BindingStatus,
)
from registry.domain.observations import (
    HALF_LIFE_SECONDS,
    MOST_COUNT,
    MOST_MS,
    MOST_TOKENS,
    MOST_USD,
    RELATIVE_ERROR,
    Observation,
    Statistics,
)
from registry.domain.ranking import Candidate, CostSource, PartName, explained, score_of
from registry.domain.references import parse_model, parse_reference
from registry.domain.routing import DEFAULT_STATUSES, Reason, RoutableStatus, Routing, sentence
from registry.http.cursors import CountedQuery
from registry.http.times import rfc3339
from registry.services.bindings import BindingPatch, BindingQuestion, BindingWish
from registry.services.observations import MOST_OBSERVATIONS, Reported
from registry.services.standings import Resolution

Provider = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=PROVIDER_CHARACTERS,
        pattern=PROVIDER_PATTERN,
        description="Who serves it, in small letters. The usual ones are written "
        + ", ".join(f"`{name}`" for name in KNOWN_PROVIDERS)
        + "; any other will do.",
        examples=["openai"],
    ),
]
ProviderModel = Annotated[
    str,
    Meta(
        max_length=PROVIDER_MODEL_CHARACTERS,
        description="What the provider calls it.",
        examples=["gpt-4o-2024-11-20"],
    ),
]
Region = Annotated[str, Meta(max_length=REGION_CHARACTERS, examples=["eu-west-1"])]
Endpoint = Annotated[
    str,
    Meta(
        max_length=ENDPOINT_CHARACTERS,
        description="Its address, `https://…` or `grpcs://…`, without credentials; "
        "empty for the provider's own.",
        examples=["https://eu.example.com/v1"],
    ),
]
Config = Annotated[
    dict[str, Any],
    Meta(
        description="Any JSON object of at most 64 KiB. What stands under the name of a secret is "
        "refused (422), unless it is a reference to one.",
        examples=[{"timeout_seconds": 30, "api_key": {"secret_ref": "vault:kv/openai#key"}}],
    ),
]
Usd = Annotated[float, Meta(ge=0, le=MOST_USD, examples=[0.0025])]
CostPer1k = Annotated[
    Usd, Meta(description="What is agreed, in USD for 1,000 tokens.", examples=[0.0025])
]
Share = Annotated[float, Meta(ge=0, le=1, examples=[0.99])]
BindingText = Annotated[
    str, Meta(min_length=1, max_length=64, examples=["bnd_01kagz6y5n8s3v0c4t7x9b2d1f"])
]
ModelText = Annotated[
    str, Meta(min_length=1, max_length=400, description="A model's name, or its `mdl_` id.")
]
VersionText = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=160,
        description="Any way to name a version of `model`; without a model a `ver_` id.",
    ),
]
Note = Annotated[str, Meta(max_length=1024)]


# Bindings.


class BindingBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A binding to make. Of a version, provider, model id there and region there is one."""

    model: ModelText | None = None
    version: VersionText
    provider: Provider
    provider_model_id: ProviderModel = ""
    region: Region = ""
    endpoint: Endpoint = ""
    config: Config = {}
    status: BindingStatus = "active"
    cost_per_1k: CostPer1k | None = None

    def wish(self) -> BindingWish:
        return BindingWish(
            model=None if self.model is None else parse_model(self.model),
            version=parse_reference(self.version),
            provider=self.provider,
            provider_model_id=self.provider_model_id,
            region=self.region,
            endpoint=self.endpoint,
            config=self.config,
            status=self.status,
            cost_per_1k=self.cost_per_1k,
        )


class BindingPatchBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A merge-patch: what is absent stays, null takes back, `config` is merged member by member.

    With another `provider`, `provider_model_id` or `region` something else is called, so what was
    observed begins anew.
    """

    provider: Provider | UnsetType = UNSET
    provider_model_id: ProviderModel | UnsetType | None = UNSET
    region: Region | UnsetType | None = UNSET
    endpoint: Endpoint | UnsetType | None = UNSET
    config: Config | UnsetType | None = UNSET
    status: BindingStatus | UnsetType = UNSET
    cost_per_1k: CostPer1k | UnsetType | None = UNSET
    reason: Note = ""

    def patch(self) -> BindingPatch:
        return BindingPatch(
            provider=self.provider,
            provider_model_id=_text(self.provider_model_id),
            region=_text(self.region),
            endpoint=_text(self.endpoint),
            config=self.config,
            status=self.status,
            cost_per_1k=self.cost_per_1k,
            reason=self.reason,
        )


def _text(value: str | UnsetType | None) -> str | UnsetType:
    return "" if value is None else value


class BindingsQuery(CountedQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which bindings to list; all conditions hold."""

    model: ModelText | None = None
    version: VersionText | None = None
    provider: Provider | None = None
    region: Region | None = None
    status: Annotated[BindingStatus, Meta(description="Only of this status.")] | None = None
    min_success_rate: (
        Annotated[Share, Meta(description="Only with an observed success rate of at least this.")]
        | None
    ) = None

    def question(self) -> BindingQuestion:
        return BindingQuestion(
            model=None if self.model is None else parse_model(self.model),
            version=None if self.version is None else parse_reference(self.version),
            provider=self.provider,
            region=self.region,
            status=self.status,
            min_success_rate=self.min_success_rate,
        )


class BoundVersion(msgspec.Struct, frozen=True):
    """What never changes of a version that is bound."""

    id: str
    number: int
    label: str | None


class ObservedAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What was observed. Totals count since the first report; all else weighs recent ones more."""

    requests: int
    failures: int
    success_rate: float
    latency_p50_ms: float | None
    latency_p95_ms: float | None
    latency_p99_ms: float | None
    cost_per_1k: float | None
    weight: Annotated[
        float,
        Meta(
            description="As how many requests made just now all of them counted at `observed_at`: "
            f"each counts half after {HALF_LIFE_SECONDS} s."
        ),
    ]
    observed_at: str


class BindingAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A version at a provider; `model` is an id."""

    id: str
    model: str
    version: BoundVersion
    provider: str
    provider_model_id: str
    region: str
    endpoint: str
    config: dict[str, Any]
    status: BindingStatus
    cost_per_1k: float | None
    observed: ObservedAnswer | None
    created_at: str
    created_by: str
    updated_at: str


class ListedBindingAnswer(BindingAnswer, frozen=True, kw_only=True):
    """A binding in a list, with what its model is called now."""

    model_name: str


def binding_answer(full: FullBinding) -> BindingAnswer:
    return BindingAnswer(**_facts(full))


def listed_binding_answer(full: FullBinding) -> ListedBindingAnswer:
    return ListedBindingAnswer(model_name=full.model, **_facts(full))


def _facts(full: FullBinding) -> dict[str, Any]:
    one = full.binding
    return {
        "id": one.id,
        "model": one.model_id,
        "version": BoundVersion(one.version_id, full.number, full.label),
        "provider": one.provider,
        "provider_model_id": one.provider_model_id,
        "region": one.region,
        "endpoint": one.endpoint,
        "config": msgspec.json.decode(one.config),
        "status": one.status,
        "cost_per_1k": one.cost_per_1k,
        "observed": None if full.statistics is None else _observed(full.statistics),
        "created_at": rfc3339(one.created_at),
        "created_by": one.created_by,
        "updated_at": rfc3339(one.updated_at),
    }


def _observed(found: Statistics) -> ObservedAnswer:
    return ObservedAnswer(
        requests=found.requests,
        failures=found.failures,
        success_rate=found.success_rate,
        latency_p50_ms=found.latency_p50_ms,
        latency_p95_ms=found.latency_p95_ms,
        latency_p99_ms=found.latency_p99_ms,
        cost_per_1k=found.cost_per_1k,
        weight=found.weight,
        observed_at=rfc3339(found.observed_at),
    )


# Observations.


class ObservationBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request that was made, or `count` that were alike: `tokens` and `cost_usd` are of all."""

    success: bool = True
    latency_ms: (
        Annotated[
            float,
            Meta(
                ge=0,
                le=MOST_MS,
                description="Counts in percentiles if it succeeded; "
                f"they are off by at most {RELATIVE_ERROR:.1%}.",
                examples=[420.5],
            ),
        ]
        | None
    ) = None
    tokens: (
        Annotated[
            int,
            Meta(ge=0, le=MOST_TOKENS, description="Counts where the cost is said too."),
        ]
        | None
    ) = None
    cost_usd: Annotated[Usd, Meta(description="Counts where the tokens are said too.")] | None = (
        None
    )
    count: Annotated[int, Meta(ge=1, le=MOST_COUNT)] = 1

    def observation(self) -> Observation:
        return Observation(
            success=self.success,
            latency_ms=self.latency_ms,
            tokens=self.tokens,
            cost_usd=self.cost_usd,
            count=self.count,
        )


class BoundObservationBody(ObservationBody, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An observation of the binding that it names."""

    binding: BindingText


class ObservationsBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was observed of one binding."""

    observations: Annotated[list[ObservationBody], Meta(min_length=1, max_length=MOST_OBSERVATIONS)]


class BoundObservationsBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was observed of up to 100 bindings."""

    observations: Annotated[
        list[BoundObservationBody], Meta(min_length=1, max_length=MOST_OBSERVATIONS)
    ]

    def by_binding(self) -> dict[str, list[Observation]]:
        found: dict[str, list[Observation]] = {}
        for one in self.observations:
            found.setdefault(one.binding, []).append(one.observation())
        return found


class ReportedAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What counts now; `unknown` are bindings that are not there, whose observations do not."""

    observations: int
    requests: int
    bindings: int
    unknown: list[str]


def reported_answer(reported: Reported) -> ReportedAnswer:
    return ReportedAnswer(**msgspec.structs.asdict(reported))


# Resolving.


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
