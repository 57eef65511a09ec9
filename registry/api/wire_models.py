"""The shapes in which models, namespaces, teams and tags travel as JSON."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta, UnsetType

from registry.api.wire import Urls, VersionAnswer
from registry.catalog.tags import CountedTag
from registry.domain.models import Namespace, Redirect, Tagging, Team
from registry.http.cursors import CountedQuery, PageQuery
from registry.http.times import rfc3339
from registry.services.models import FullModel

Kind: TypeAlias = Literal["model", "dataset", "generic"]
Visible: TypeAlias = Literal["public", "internal", "private"]
Risk: TypeAlias = Literal["low", "medium", "high", "critical"]

_NO_NUL = r"^[^\x00]*$"


def _about(words: str) -> Meta:
    return Meta(description=words)


Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=400)]
Word: TypeAlias = Annotated[str, Meta(max_length=96, pattern=_NO_NUL)]
Line: TypeAlias = Annotated[str, Meta(max_length=200, pattern=_NO_NUL)]
Text: TypeAlias = Annotated[str, Meta(max_length=4096, pattern=_NO_NUL)]
LongText: TypeAlias = Annotated[str, Meta(max_length=16384, pattern=_NO_NUL)]
Quota: TypeAlias = Annotated[int, Meta(ge=0, le=2**62)]
Tags: TypeAlias = Annotated[
    dict[str, str], Meta(max_length=200, description="Values by key; empty: the key alone.")
]


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

    namespace: Annotated[Name | None, _about("In the namespace with this slug or id.")] = None
    kind: Annotated[Kind | None, _about("Of this kind.")] = None
    team: Annotated[Name | None, _about("Of the team with this name or id.")] = None
    task: Annotated[Word | None, _about("With this task type.")] = None
    subject: Annotated[Word | None, _about("With this subject domain.")] = None
    risk: Annotated[Risk | None, _about("With this risk level.")] = None
    active: Annotated[bool | None, _about("Active, or not.")] = None
    visibility: Annotated[Visible | None, _about("With this visibility.")] = None
    tag: Annotated[
        list[str],
        Meta(max_length=10, description="With this tag: a key, or `key=value`; several: with all."),
    ] = msgspec.field(default_factory=list)
    q: Annotated[
        str,
        Meta(
            max_length=200,
            pattern=_NO_NUL,
            description="Part of the name, the description or a tag, in any case; with one or two "
            "characters how the name begins.",
        ),
    ] = ""
    order: Annotated[
        Literal["name", "created"], _about("By name, or by making with the newest first.")
    ] = "name"
    deleted: Annotated[bool, _about("Deleted models instead, the last deleted first.")] = False


class ModelQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``include=versions`` adds the first of them; ``deleted=true`` finds a deleted model by id."""

    include: Annotated[
        Literal["versions"] | None, _about("Add the newest versions to the answer.")
    ] = None
    deleted: Annotated[bool, _about("Find a deleted model, by its id.")] = False


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


class FormerName(msgspec.Struct, frozen=True):
    """A name that leads to a model because it had it once."""

    name: str
    created_at: str
    created_by: str


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


def former_name(redirect: Redirect) -> FormerName:
    return FormerName(redirect.name, rfc3339(redirect.created_at), redirect.created_by)


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


class TeamCreate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A team to make."""

    name: Name
    department: Line = ""
    cost_center: Line = ""
    description: Text = ""
    active: bool = True


class TeamUpdate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What shall be different; what is absent stays."""

    name: Name | UnsetType = UNSET
    department: Line | UnsetType = UNSET
    cost_center: Line | UnsetType = UNSET
    description: Text | UnsetType = UNSET
    active: bool | UnsetType = UNSET


class TeamsQuery(PageQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which teams are listed."""

    active: Annotated[bool | None, _about("Active, or not.")] = None
    deleted: Annotated[bool, _about("Deleted teams instead, in order of their ids.")] = False


class TeamAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A team; a deleted one keeps its id and frees its name."""

    id: str
    name: str
    department: str
    cost_center: str
    description: str
    active: bool
    created_at: str
    created_by: str
    updated_at: str
    deleted_at: str | None
    deleted_by: str | None


def team_answer(team: Team) -> TeamAnswer:
    return TeamAnswer(
        id=team.id,
        name=team.name,
        department=team.department,
        cost_center=team.cost_center,
        description=team.description,
        active=team.is_active,
        created_at=rfc3339(team.created_at),
        created_by=team.created_by,
        updated_at=rfc3339(team.updated_at),
        deleted_at=None if team.deleted_at is None else rfc3339(team.deleted_at),
        deleted_by=team.deleted_by,
    )


class TagPut(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The value of a tag, and what the tag means wherever it is; absent: as it is."""

    value: Line = ""
    description: Text | None = None


class TagsQuery(PageQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which tags are listed: those whose ``key=value`` begins so."""

    prefix: Annotated[Line, _about("How `key=value` begins, in any case.")] = ""


class TagUpdate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a tag means."""

    description: Text


class TagAssigned(msgspec.Struct, frozen=True, kw_only=True):
    """A tag on a model or version: since when, and by whom."""

    key: str
    value: str
    description: str
    created_at: str
    created_by: str


class TagAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A tag, and how many living models and living versions have it.

    For a caller who may not see every model, 10,000 models and 1,000 versions stand for more.
    """

    id: str
    key: str
    value: str
    description: str
    models: int
    versions: int
    counts_are_exact: bool
    created_at: str
    created_by: str
    updated_at: str


class TagStep(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A tag to put on a model, or on a version of it."""

    model: Name
    version: Name | None = None
    key: Name
    value: Line = ""
    description: Text | None = None


class UntagStep(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key to take away from a model, or from a version of it."""

    model: Name
    version: Name | None = None
    key: Name


class TagsChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Tags to put and keys to take away, all or none: 1 to 1,000 together. Removals come first."""

    assign: Annotated[list[TagStep], Meta(max_length=1000)] = msgspec.field(default_factory=list)
    remove: Annotated[list[UntagStep], Meta(max_length=1000)] = msgspec.field(default_factory=list)


class TagsChanged(msgspec.Struct, frozen=True):
    """How many changed something; the others were so already."""

    assigned: int
    removed: int


def tag_assigned(tagging: Tagging) -> TagAssigned:
    tag = tagging.tag
    return TagAssigned(
        key=tag.key,
        value=tag.value,
        description=tag.description,
        created_at=rfc3339(tagging.created_at),
        created_by=tagging.created_by,
    )


def tag_answer(counted: CountedTag) -> TagAnswer:
    tag = counted.tag
    return TagAnswer(
        id=tag.id,
        key=tag.key,
        value=tag.value,
        description=tag.description,
        models=counted.models,
        versions=counted.versions,
        counts_are_exact=counted.is_exact,
        created_at=rfc3339(tag.created_at),
        created_by=tag.created_by,
        updated_at=rfc3339(tag.updated_at),
    )
