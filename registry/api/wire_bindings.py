"""Shapes of provider bindings and of what is observed of them as JSON."""

from __future__ import annotations

from typing import Annotated, Any

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
from registry.domain.references import parse_model, parse_reference
from registry.http.cursors import CountedQuery
from registry.http.times import rfc3339
from registry.services.bindings import BindingPatch, BindingQuestion, BindingWish
from registry.services.observations import MOST_OBSERVATIONS, Reported

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
