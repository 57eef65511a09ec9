"""Shapes of deployments as JSON; those of environments: `registry.api.wire_environments`."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from registry.catalog.deployment_lists import (
    ListedDeployment,
    ListedEvent,
    NamedVersion,
    Standing,
)
from registry.domain.deployments import (
    DEPLOYMENT_STATUSES,
    ENDPOINT_CHARACTERS,
    MOST_CPU,
    MOST_GPUS,
    MOST_MEMORY,
    MOST_REPLICAS,
    NAME_CHARACTERS,
    TERMINATED,
    Action,
    Deployment,
    DeploymentStatus,
    Scale,
)
from registry.domain.environments import EnvironmentType, parse_environment
from registry.domain.references import parse_model, parse_reference
from registry.http.cursors import CountedQuery, PageQuery
from registry.http.times import rfc3339
from registry.services.deployment_lists import DeploymentQuestion
from registry.services.deployments import DeploymentPatch, DeployWish, FullDeployment

EnvironmentText = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=200,
        description="An environment, by its name or its `env_` id.",
        examples=["production-eu"],
    ),
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
        examples=["@champion"],
    ),
]
VersionOfModel = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=160,
        description="Any way to name a version of the deployment's model.",
        examples=["1.5.0"],
    ),
]
Name = Annotated[str, Meta(min_length=1, max_length=NAME_CHARACTERS, examples=["ticket-router"])]
Endpoint = Annotated[
    str,
    Meta(
        max_length=ENDPOINT_CHARACTERS,
        description="Where it answers; without a password.",
        examples=["https://tickets.example.org/v1"],
    ),
]
Replicas = Annotated[int, Meta(ge=0, le=MOST_REPLICAS, examples=[3])]
Cpu = Annotated[float, Meta(ge=0, le=MOST_CPU, description="Cores of one replica.", examples=[4])]
Memory = Annotated[
    int, Meta(ge=0, le=MOST_MEMORY, description="Bytes of one replica.", examples=[16 << 30])
]
Gpus = Annotated[int, Meta(ge=0, le=MOST_GPUS, description="Of one replica.", examples=[1])]
Reason = Annotated[str, Meta(max_length=1024)]


class DeploymentBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A version to deploy. What one replica gets is null where nobody says it."""

    name: Name
    environment: EnvironmentText
    version: VersionText
    model: ModelText | None = None
    replicas: Replicas = 1
    cpu: Cpu | None = None
    memory: Memory | None = None
    gpus: Gpus | None = None
    endpoint: Endpoint = ""
    reason: Reason = ""

    def wish(self) -> DeployWish:
        return DeployWish(
            name=self.name,
            environment=parse_environment(self.environment),
            model=None if self.model is None else parse_model(self.model),
            version=parse_reference(self.version),
            scale=Scale(replicas=self.replicas, cpu=self.cpu, memory=self.memory, gpus=self.gpus),
            endpoint=self.endpoint,
            reason=self.reason,
        )


class DeploymentPatchBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A merge-patch: what is absent stays, an endpoint of null goes."""

    name: Name | UnsetType = UNSET
    endpoint: Endpoint | UnsetType | None = UNSET
    reason: Reason = ""

    def patch(self) -> DeploymentPatch:
        return DeploymentPatch(
            name=self.name,
            endpoint=UNSET if self.endpoint is UNSET else self.endpoint or "",
            reason=self.reason,
        )


class ScaleBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much shall run: what is absent stays, null is not said any more."""

    replicas: Replicas | UnsetType = UNSET
    cpu: Cpu | UnsetType | None = UNSET
    memory: Memory | UnsetType | None = UNSET
    gpus: Gpus | UnsetType | None = UNSET
    reason: Reason = ""

    def patch(self) -> DeploymentPatch:
        return DeploymentPatch(**msgspec.structs.asdict(self))


class DeploymentStatusBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a deployment stands now."""

    status: DeploymentStatus
    reason: Reason = ""


class RedeployBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The version that shall run instead."""

    version: VersionOfModel
    reason: Reason = ""


class ReasonBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why."""

    reason: Reason = ""


class DeploymentsQuery(CountedQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which deployments to list; all conditions hold."""

    environment: EnvironmentText | None = None
    model: ModelText | None = None
    version: VersionText | None = None
    name: Annotated[Name, Meta(description="Exactly this name, in whichever case.")] | None = None
    status: Annotated[DeploymentStatus, Meta(description="Where it stands.")] | None = None
    active: (
        Annotated[bool, Meta(description="Those that are not terminated, or only the others.")]
        | None
    ) = None

    def question(self) -> DeploymentQuestion:
        return DeploymentQuestion(
            environment=None if self.environment is None else parse_environment(self.environment),
            model=None if self.model is None else parse_model(self.model),
            version=None if self.version is None else parse_reference(self.version),
            name=self.name,
            status=self.status,
            active=self.active,
        )


class DeploymentEventsQuery(PageQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A page of events."""


class SummaryQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much of the summary is told."""

    limit: Annotated[
        int, Meta(ge=1, le=1000, description="How many environments, those that run most first.")
    ] = 100


class DeployedVersion(msgspec.Struct, frozen=True):
    """What never changes of a version."""

    id: str
    number: int
    label: str | None


class DeploymentAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A version that runs, or ran; `environment` and `model` are ids.

    `previous_version` is where a rollback goes: what ran before the present version, and after a
    rollback what ran before that.
    """

    id: str
    name: str
    status: DeploymentStatus
    environment: str
    model: str
    version: DeployedVersion
    previous_version: DeployedVersion | None
    endpoint: str
    replicas: int
    cpu: float | None
    memory: int | None
    gpus: int | None
    deployed_at: str
    deployed_by: str
    created_at: str
    created_by: str
    updated_at: str
    terminated_at: str | None
    terminated_by: str | None


class ListedDeploymentAnswer(DeploymentAnswer, frozen=True, kw_only=True):
    """A deployment in a list, with what its environment and model are called now."""

    environment_name: str
    model_name: str


class DeploymentChange(msgspec.Struct, frozen=True, rename={"before": "from", "after": "to"}):
    """What something was, and what it is since."""

    before: Any
    after: Any


class DeploymentEventAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One change of a deployment; what stood before is null in the first one."""

    id: int
    action: Action
    from_status: DeploymentStatus | None
    to_status: DeploymentStatus
    from_version: DeployedVersion | None
    to_version: DeployedVersion
    restored: int | None
    changes: dict[str, DeploymentChange]
    reason: str
    created_at: str
    created_by: str


class StatusCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How many deployments stand where; all but the terminated ones are `active`."""

    deploying: int = 0
    healthy: int = 0
    degraded: int = 0
    failed: int = 0
    terminated: int = 0
    active: int = 0


class EnvironmentCounts(StatusCounts, frozen=True, kw_only=True):
    """How many deployments of one environment stand where."""

    id: str
    name: str
    type: EnvironmentType


class DeploymentSummary(msgspec.Struct, frozen=True, kw_only=True):
    """How many deployments stand where, in all and in each of so many `environments`."""

    total: StatusCounts
    environments: int
    items: list[EnvironmentCounts]


def deployment_answer(full: FullDeployment) -> DeploymentAnswer:
    return DeploymentAnswer(**_facts(full.deployment, full.version, full.previous))


def listed_deployment_answer(listed: ListedDeployment) -> ListedDeploymentAnswer:
    return ListedDeploymentAnswer(
        **_facts(listed.deployment, listed.version, listed.previous),
        environment_name=listed.environment,
        model_name=listed.model,
    )


def _facts(one: Deployment, version: NamedVersion, previous: NamedVersion | None) -> dict[str, Any]:
    return {
        "id": one.id,
        "name": one.name,
        "status": one.status,
        "environment": one.environment_id,
        "model": one.model_id,
        "version": _version(version),
        "previous_version": None if previous is None else _version(previous),
        "endpoint": one.endpoint,
        **msgspec.structs.asdict(one.scale),
        "deployed_at": rfc3339(one.deployed_at),
        "deployed_by": one.deployed_by,
        "created_at": rfc3339(one.created_at),
        "created_by": one.created_by,
        "updated_at": rfc3339(one.updated_at),
        "terminated_at": None if one.terminated_at is None else rfc3339(one.terminated_at),
        "terminated_by": one.terminated_by,
    }


def _version(version: NamedVersion) -> DeployedVersion:
    return DeployedVersion(version.id, version.number, version.label)


def event_answer(listed: ListedEvent) -> DeploymentEventAnswer:
    event = listed.event
    return DeploymentEventAnswer(
        id=event.id,
        action=event.action,  # type: ignore[arg-type]  # the index holds no other words
        from_status=event.from_status,  # type: ignore[arg-type]  # the same
        to_status=event.to_status,  # type: ignore[arg-type]  # the same
        from_version=None if listed.before is None else _version(listed.before),
        to_version=_version(listed.after),
        restored=event.restored,
        changes=msgspec.json.decode(event.changes, type=dict[str, DeploymentChange]),
        reason=event.reason,
        created_at=rfc3339(event.created_at),
        created_by=event.created_by,
    )


def summary_answer(standings: list[Standing], limit: int) -> DeploymentSummary:
    """Counts of the environments that run most, and of all."""
    counts: dict[str, dict[str, int]] = {}
    named: dict[str, Standing] = {}
    total = dict.fromkeys(DEPLOYMENT_STATUSES, 0)
    for one in standings:
        named.setdefault(one.environment_id, one)
        found = counts.setdefault(one.environment_id, {})
        if one.status is not None:
            found[one.status] = one.count
            total[one.status] += one.count  # type: ignore[index]  # the index holds no other words
    items = [
        EnvironmentCounts(
            id=id,
            name=named[id].environment,
            type=named[id].type,  # type: ignore[arg-type]  # the index holds no other words
            **found,
            active=_active(found),
        )
        for id, found in counts.items()
    ]
    items.sort(key=lambda one: -one.active)
    return DeploymentSummary(
        total=StatusCounts(**total, active=_active(total)),
        environments=len(items),
        items=items[:limit],
    )


def _active(counts: dict[Any, int]) -> int:
    return sum(count for status, count in counts.items() if status != TERMINATED)
