"""The shapes in which namespaces travel as JSON."""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from registry.api.wire_words import Name, Quota, Text, Visible
from registry.domain.models import Namespace
from registry.http.times import rfc3339


class OwnerNamed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose a namespace shall be: a user or a team, by name or id."""

    kind: Literal["user", "team"]
    name: Name


class NamespaceCreate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A namespace to make; ``visibility`` is what new models in it get.

    It is the caller's; administrators make them for others, the ``owner``.
    """

    slug: Name
    visibility: Visible = "private"
    description: Text = ""
    quota_bytes: Quota | None = None
    quota_versions: Quota | None = None
    quota_pins: Quota | None = None
    owner: OwnerNamed | None = None


class NamespaceUpdate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What shall be different; what is absent stays. A quota of null: none."""

    visibility: Visible | UnsetType = UNSET
    description: Text | UnsetType = UNSET
    quota_bytes: Quota | UnsetType | None = UNSET
    quota_versions: Quota | UnsetType | None = UNSET
    quota_pins: Quota | UnsetType | None = UNSET
    owner: OwnerNamed | UnsetType = UNSET


class Owner(msgspec.Struct, frozen=True):
    """Whose a namespace is."""

    kind: Literal["user", "team"]
    id: str


class NamespaceAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A namespace; ``visibility`` is what new models in it get."""

    id: str
    slug: str
    owner: Owner
    visibility: Visible
    description: str
    quota_bytes: int | None
    quota_versions: int | None
    quota_pins: int | None
    created_at: str
    created_by: str
    updated_at: str


def namespace_answer(namespace: Namespace) -> NamespaceAnswer:
    return NamespaceAnswer(
        id=namespace.id,
        slug=namespace.slug,
        owner=Owner(namespace.owner_kind, namespace.owner),  # type: ignore[arg-type]  # so in the table
        visibility=namespace.visibility,  # type: ignore[arg-type]  # so in the table
        description=namespace.description,
        quota_bytes=namespace.quota_bytes,
        quota_versions=namespace.quota_versions,
        quota_pins=namespace.quota_pins,
        created_at=rfc3339(namespace.created_at),
        created_by=namespace.created_by,
        updated_at=rfc3339(namespace.updated_at),
    )
