"""The shapes in which models travel as JSON."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from registry.api.wire import Urls, VersionAnswer
from registry.api.wire_words import (
    NO_NUL,
    Kind,
    LongText,
    Name,
    Risk,
    Tags,
    Text,
    Visible,
    Word,
    about,
)
from registry.http.cursors import CountedQuery
from registry.http.times import rfc3339
from registry.services.full_models import FullModel


class ModelCreate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model to make. ``team`` is a name or an id; ``visibility`` is the namespace's if absent."""

    name: Name
    kind: Kind = "model"
    visibility: Visible | None = None
    description: LongText = ""
    use_case: Text = ""
    task_type: Word = ""
    subject_domain: Word = ""
    team: Name | None = None
    risk_level: Risk = "medium"
    compliance_required: bool = False
    active: bool = True
    legal_hold: bool = False
    tags: Tags = msgspec.field(default_factory=dict)


class ModelsCreate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Models to make, all or none."""

    models: Annotated[list[ModelCreate], Meta(min_length=1, max_length=1000)]


class ModelUpdate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What shall be different; what is absent stays. ``team`` null: no team."""

    name: Name | UnsetType = UNSET
    kind: Kind | UnsetType = UNSET
    visibility: Visible | UnsetType = UNSET
    description: LongText | UnsetType = UNSET
    use_case: Text | UnsetType = UNSET
    task_type: Word | UnsetType = UNSET
    subject_domain: Word | UnsetType = UNSET
    team: Name | UnsetType | None = UNSET
    risk_level: Risk | UnsetType = UNSET
    compliance_required: bool | UnsetType = UNSET
    active: bool | UnsetType = UNSET
    legal_hold: bool | UnsetType = UNSET


class ModelRename(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The name that a model shall have."""

    name: Name


class ModelRestore(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Under which name a model comes back; its own if absent."""

    name: Name | None = None


class ModelsQuery(CountedQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which models are listed. ``tag`` is a key or ``key=value`` and may come several times."""

    namespace: Annotated[Name | None, about("In the namespace with this slug or id.")] = None
    kind: Annotated[Kind | None, about("Of this kind.")] = None
    team: Annotated[Name | None, about("Of the team with this name or id.")] = None
    task: Annotated[Word | None, about("With this task type.")] = None
    subject: Annotated[Word | None, about("With this subject domain.")] = None
    risk: Annotated[Risk | None, about("With this risk level.")] = None
    active: Annotated[bool | None, about("Active, or not.")] = None
    visibility: Annotated[Visible | None, about("With this visibility.")] = None
    tag: Annotated[
        list[str],
        Meta(max_length=10, description="With this tag: a key, or `key=value`; several: with all."),
    ] = msgspec.field(default_factory=list)
    q: Annotated[
        str,
        Meta(
            max_length=200,
            pattern=NO_NUL,
            description="Part of the name, the description or a tag, in any case; with one or two "
            "characters how the name begins.",
        ),
    ] = ""
    order: Annotated[
        Literal["name", "created"], about("By name, or by making with the newest first.")
    ] = "name"
    deleted: Annotated[bool, about("Deleted models instead, the last deleted first.")] = False


class ModelQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``include=versions`` adds the first of them; ``deleted=true`` finds a deleted model by id."""

    include: Annotated[
        Literal["versions"] | None, about("Add the newest versions to the answer.")
    ] = None
    deleted: Annotated[bool, about("Find a deleted model, by its id.")] = False


class TeamOfModel(msgspec.Struct, frozen=True):
    """The team of a model, which may have been deleted since."""

    id: str
    name: str
    deleted: bool


class TagOfModel(msgspec.Struct, frozen=True):
    """A tag; ``value`` is empty where it is a key alone."""

    key: str
    value: str


class VersionsOfModel(msgspec.Struct, frozen=True):
    """The newest versions; ``url`` leads to all of them, ``next`` to those that follow."""

    items: list[VersionAnswer]
    next: str | None
    url: str


class ModelAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A model. ``versions`` is there where it was asked for."""

    id: str
    name: str
    namespace: str
    kind: Kind
    visibility: Visible
    description: str
    use_case: str
    task_type: str
    subject_domain: str
    team: TeamOfModel | None
    risk_level: Risk
    compliance_required: bool
    active: bool
    legal_hold: bool
    tags: list[TagOfModel]
    version_count: int
    created_at: str
    created_by: str
    updated_at: str
    deleted_at: str | None
    deleted_by: str | None
    url: str
    versions: VersionsOfModel | UnsetType = UNSET


class ModelsMade(msgspec.Struct, frozen=True):
    """The models that a batch made, in its order."""

    models: list[ModelAnswer]


def model_answer(
    urls: Urls, full: FullModel, versions: VersionsOfModel | UnsetType = UNSET
) -> ModelAnswer:
    model, team = full.model, full.team
    facts: dict[str, Any] = {
        name: getattr(model, name)
        for name in ("id", "name", "kind", "visibility", "description", "use_case", "task_type")
    }
    return ModelAnswer(
        **facts,
        namespace=full.namespace.slug,
        subject_domain=model.subject_domain,
        team=None if team is None else TeamOfModel(team.id, team.name, team.deleted_at is not None),
        risk_level=model.risk_level,  # type: ignore[arg-type]  # the table allows these words only
        compliance_required=model.is_compliance_required,
        active=model.is_active,
        legal_hold=model.has_legal_hold,
        tags=[TagOfModel(tagging.tag.key, tagging.tag.value) for tagging in full.tags],
        version_count=model.version_count,
        created_at=rfc3339(model.created_at),
        created_by=model.created_by,
        updated_at=rfc3339(model.updated_at),
        deleted_at=None if model.deleted_at is None else rfc3339(model.deleted_at),
        deleted_by=model.deleted_by,
        url=urls.model(model),
        versions=versions,
    )
