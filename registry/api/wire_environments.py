"""Shapes of environments as JSON."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from registry.catalog.environments import EnvironmentFilters
from registry.domain.environments import Environment, EnvironmentType
from registry.http.cursors import CountedQuery
from registry.http.times import rfc3339
from registry.services.environments import EnvironmentPatch, EnvironmentWish

EnvironmentNameText = Annotated[str, Meta(min_length=1, max_length=96, examples=["production-eu"])]
Region = Annotated[str, Meta(max_length=96, examples=["eu-central-1"])]
KubernetesNamespace = Annotated[
    str, Meta(max_length=63, description="An RFC 1123 label.", examples=["ml-serving"])
]
Description = Annotated[str, Meta(max_length=4096)]
Config = Annotated[
    dict[str, Any],
    Meta(
        description="Any JSON object of at most 64 KiB and 16 levels. What stands under the name "
        "of a secret must be a reference to one.",
        examples=[{"gateway": "internal", "api_key": {"secret_ref": "vault:kv/gateway#key"}}],
    ),
]


class EnvironmentBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An environment to make."""

    name: EnvironmentNameText
    type: EnvironmentType
    region: Region = ""
    kubernetes_namespace: KubernetesNamespace = ""
    description: Description = ""
    config: Config = {}
    active: bool = True

    def wish(self) -> EnvironmentWish:
        return EnvironmentWish(**msgspec.structs.asdict(self))


class EnvironmentPatchBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A merge-patch: what is absent stays, null takes back, `config` is merged member by member."""

    name: EnvironmentNameText | UnsetType = UNSET
    type: EnvironmentType | UnsetType = UNSET
    region: Region | UnsetType | None = UNSET
    kubernetes_namespace: KubernetesNamespace | UnsetType | None = UNSET
    description: Description | UnsetType | None = UNSET
    config: Config | UnsetType | None = UNSET
    active: bool | UnsetType = UNSET

    def patch(self) -> EnvironmentPatch:
        return EnvironmentPatch(
            name=self.name,
            type=self.type,
            region=self.region or "" if self.region is not UNSET else UNSET,
            kubernetes_namespace=(
                UNSET if self.kubernetes_namespace is UNSET else self.kubernetes_namespace or ""
            ),
            description=UNSET if self.description is UNSET else self.description or "",
            config=self.config,
            active=self.active,
        )


class EnvironmentsQuery(CountedQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which environments to list."""

    type: Annotated[EnvironmentType, Meta(description="Only of this type.")] | None = None
    active: bool | None = None
    deleted: Annotated[bool, Meta(description="Those that are deleted instead.")] = False

    def filters(self) -> EnvironmentFilters:
        return EnvironmentFilters(type=self.type, active=self.active, is_deleted=self.deleted)


class EnvironmentAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A place to deploy to."""

    id: str
    name: str
    type: EnvironmentType
    active: bool
    region: str
    kubernetes_namespace: str
    description: str
    config: dict[str, Any]
    created_at: str
    created_by: str
    updated_at: str
    deleted_at: str | None
    deleted_by: str | None


def environment_answer(one: Environment) -> EnvironmentAnswer:
    return EnvironmentAnswer(
        id=one.id,
        name=one.name,
        type=one.type,  # type: ignore[arg-type]  # the index holds no other words
        active=one.is_active,
        region=one.region,
        kubernetes_namespace=one.kubernetes_namespace,
        description=one.description,
        config=msgspec.json.decode(one.config),
        created_at=rfc3339(one.created_at),
        created_by=one.created_by,
        updated_at=rfc3339(one.updated_at),
        deleted_at=None if one.deleted_at is None else rfc3339(one.deleted_at),
        deleted_by=one.deleted_by,
    )
