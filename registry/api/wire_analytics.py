"""The shapes in which analytics travel: summaries, statistics, samples of health and growth."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from registry.api.wire_runs import Moment
from registry.catalog.health_samples import Status
from registry.catalog.retraining import Aged
from registry.catalog.summaries import ModelSummary, TeamSummary, VersionName
from registry.http.cursors import PageQuery
from registry.http.times import rfc3339
from registry.services.growth import DaySample, Standing
from registry.services.health_history import Summary
from store.clock import SECOND

MOST_DAYS = 36_500
DAY = 86400 * SECOND


class SummaryQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far back to count downloads."""

    downloads_days: Annotated[
        int, Meta(ge=1, le=MOST_DAYS, description="Count the downloads of so many days.")
    ] = 30


class RetrainingQuery(PageQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How old a training may be."""

    days: Annotated[
        int, Meta(ge=0, le=MOST_DAYS, description="Trained last more than so many days ago.")
    ] = 90


class HealthQuery(PageQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which samples of health."""

    component: (
        Annotated[
            str, Meta(min_length=1, max_length=40, description="Only of this part of the registry.")
        ]
        | None
    ) = None
    since: Annotated[Moment, Meta(description="Sampled at this time or later.")] | None = None
    until: Annotated[Moment, Meta(description="Sampled before this time.")] | None = None
    every: (
        Annotated[
            int,
            Meta(
                ge=1,
                le=86400,
                description="One summary a component for each span of so many seconds.",
            ),
        ]
        | None
    ) = None


class GrowthQuery(PageQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which days."""

    since: Annotated[Moment, Meta(description="Days that began at this time or later.")] | None = (
        None
    )
    until: Annotated[Moment, Meta(description="Days that began before this time.")] | None = None


class NamedVersionAnswer(msgspec.Struct, frozen=True):
    """Which version."""

    id: str
    number: int
    label: str | None


class CountedAnswer(msgspec.Struct, frozen=True):
    """How many, and how many of each status that there are any of."""

    total: int
    by_status: dict[str, int]


class DeploymentsAnswer(CountedAnswer, frozen=True):
    """The same of deployments; `active` are those that are not terminated."""

    active: int


class DownloadedAnswer(msgspec.Struct, frozen=True):
    """What left in so many days until now."""

    days: int
    requests: int
    bytes: int


class ModelSummaryAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What there is of a model.

    `latest` is what the alias points at; `production` names the newest 100 in production. `size` is
    that of the files of living versions, where what several of them hold counts once.
    """

    model: str
    name: str
    versions: CountedAnswer
    latest: NamedVersionAnswer | None
    production: list[NamedVersionAnswer]
    runs: CountedAnswer
    gpu_hours: float
    cost_usd: float
    deployments: DeploymentsAnswer
    downloads: DownloadedAnswer
    size: int


def model_summary_answer(one: ModelSummary, downloads_days: int) -> ModelSummaryAnswer:
    active = sum(count for status, count in one.deployments.items() if status != "terminated")
    return ModelSummaryAnswer(
        model=one.id,
        name=one.name,
        versions=_counted(one.versions),
        latest=None if one.latest is None else _version(one.latest),
        production=[_version(version) for version in one.production],
        runs=_counted(one.runs),
        gpu_hours=one.gpu_hours,
        cost_usd=one.cost_usd,
        deployments=DeploymentsAnswer(
            sum(one.deployments.values()), dict(sorted(one.deployments.items())), active
        ),
        downloads=DownloadedAnswer(downloads_days, one.download_requests, one.download_bytes),
        size=one.size_bytes,
    )


def _counted(by_status: dict[str, int]) -> CountedAnswer:
    return CountedAnswer(sum(by_status.values()), dict(sorted(by_status.items())))


def _version(version: VersionName) -> NamedVersionAnswer:
    return NamedVersionAnswer(version.id, version.number, version.label)


class TeamMetricsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What there is of the living models of a team."""

    team: str
    name: str
    models: int
    active_models: int
    versions: int
    production_versions: int
    runs: int
    gpu_hours: float
    cost_usd: float
    active_deployments: int


def team_metrics_answer(one: TeamSummary) -> TeamMetricsAnswer:
    return TeamMetricsAnswer(
        team=one.id,
        name=one.name,
        models=one.models,
        active_models=one.active_models,
        versions=one.versions,
        production_versions=one.production_versions,
        runs=one.runs,
        gpu_hours=one.gpu_hours,
        cost_usd=one.cost_usd,
        active_deployments=one.active_deployments,
    )


class RetrainingAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A model that was trained long ago, and what says so: the run, or the version."""

    model: str
    name: str
    team: str | None
    team_name: str | None
    trained_at: str
    age_days: float
    measured_from: Literal["run", "version"]
    run: str | None
    version: NamedVersionAnswer | None


def retraining_answer(one: Aged, now: int) -> RetrainingAnswer:
    version = None
    if one.version is not None and one.number is not None:
        version = NamedVersionAnswer(one.version, one.number, one.label)
    return RetrainingAnswer(
        model=one.model,
        name=one.name,
        team=one.team,
        team_name=one.team_name,
        trained_at=rfc3339(one.trained_at),
        age_days=round((now - one.trained_at) / DAY, 3),
        measured_from="version" if one.run is None else "run",
        run=one.run,
        version=version,
    )


class HeldAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes. `referenced` is what versions would take if each kept files of its own."""

    stored: int
    in_versions: int
    referenced: int
    saved: int


class RegistryAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Everything there is, as it was counted at a time."""

    at: str
    models: int
    models_by_kind: dict[str, int]
    versions: int
    runs: int
    runs_by_status: dict[str, int]
    experiments: int
    aliases: int
    lineage: int
    tags: int
    teams: int
    namespaces: int
    environments: int
    deployments: int
    deployments_by_status: dict[str, int]
    bindings: int
    reviews: int
    blobs: int
    bytes: HeldAnswer


def registry_answer(standing: Standing) -> RegistryAnswer:
    counts, held = standing.counts, standing.held
    return RegistryAnswer(
        at=rfc3339(standing.at),
        models=standing.total("models"),
        models_by_kind=counts.get("models", {}),
        versions=standing.total("versions"),
        runs=standing.total("runs"),
        runs_by_status=counts.get("runs", {}),
        experiments=standing.total("experiments"),
        aliases=standing.total("aliases"),
        lineage=standing.total("lineage"),
        tags=standing.total("tags"),
        teams=standing.total("teams"),
        namespaces=standing.total("namespaces"),
        environments=standing.total("environments"),
        deployments=standing.total("deployments"),
        deployments_by_status=counts.get("deployments", {}),
        bindings=standing.total("bindings"),
        reviews=standing.total("reviews"),
        blobs=held.blobs,
        bytes=HeldAnswer(
            stored=held.stored,
            in_versions=held.named,
            referenced=held.referenced,
            saved=held.saved,
        ),
    )


class GrowthAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What there was at the end of a day, or on the day that goes on when it was counted last."""

    day: str
    at: str
    models: int
    versions: int
    runs: int
    deployments: int
    blobs: int
    bytes: HeldAnswer


def growth_answer(one: DaySample) -> GrowthAnswer:
    numbers = one.numbers
    return GrowthAnswer(
        day=rfc3339(one.day)[:10],
        at=rfc3339(numbers["at"]),
        models=numbers["models"],
        versions=numbers["versions"],
        runs=numbers["runs"],
        deployments=numbers["deployments"],
        blobs=numbers["blobs"],
        bytes=HeldAnswer(
            stored=numbers["stored"],
            in_versions=numbers["named"],
            referenced=numbers["referenced"],
            saved=numbers["referenced"] - numbers["named"],
        ),
    )


class HealthSampleAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the registry at a time, or from that time on for as long as was asked for.

    `status` is the worst there was, `detail` that of its newest sample, `numbers` are means.
    """

    time: str
    component: str
    status: Status
    detail: str
    numbers: dict[str, int | float]
    highest: dict[str, int | float]
    samples: int
    by_status: dict[str, int]


def health_answer(one: Summary) -> HealthSampleAnswer:
    return HealthSampleAnswer(
        time=rfc3339(one.time),
        component=one.component,
        status=one.status,
        detail=one.detail,
        numbers=one.numbers,
        highest=one.highest,
        samples=one.samples,
        by_status=one.by_status,
    )
