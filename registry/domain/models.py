"""A model, its versions, drafts and aliases, as the services speak of them.

Times are microseconds since the epoch in UTC.
"""

from __future__ import annotations

import msgspec

from store.digest import Digest


class Namespace(msgspec.Struct, frozen=True, kw_only=True):
    """The first segment of models' names, and what a new model in it gets."""

    id: str
    slug: str
    folded: str
    owner_kind: str
    owner: str
    visibility: str
    description: str = ""
    quota_bytes: int | None = None
    quota_versions: int | None = None
    quota_pins: int | None = None
    """Of the user whose name the namespace has."""
    created_at: int
    created_by: str
    updated_at: int
    changes: int = 1


class Team(msgspec.Struct, frozen=True, kw_only=True):
    """Whom models belong to, organisationally; models outlive their team."""

    id: str
    name: str
    folded: str
    department: str = ""
    cost_center: str = ""
    description: str = ""
    is_active: bool = True
    created_at: int
    created_by: str
    updated_at: int
    changes: int = 1
    deleted_at: int | None = None
    deleted_by: str | None = None


class Tag(msgspec.Struct, frozen=True, kw_only=True):
    """A key with a value, or a key alone where the value is empty."""

    id: str
    key: str
    value: str
    folded: str
    description: str = ""
    created_at: int
    created_by: str
    updated_at: int
    changes: int = 1


class Tagging(msgspec.Struct, frozen=True):
    """A tag on a model or a version: since when, and by whom."""

    tag: Tag
    created_at: int
    created_by: str


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """What a model says about itself: the README at `main`, or what was put without one."""

    source: str
    digest: Digest
    text: str
    updated_at: int
    updated_by: str


class Redirect(msgspec.Struct, frozen=True):
    """A former name of a model that lives."""

    name: str
    model_id: str
    created_at: int
    created_by: str


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """A named line of work."""

    id: str
    name: str
    folded: str
    namespace_id: str
    kind: str
    visibility: str
    description: str = ""
    use_case: str = ""
    task_type: str = ""
    subject_domain: str = ""
    team_id: str | None = None
    risk_level: str = "medium"
    is_compliance_required: bool = False
    is_active: bool = True
    has_legal_hold: bool = False
    last_number: int = 0
    version_count: int = 0
    """How many versions live; `last_number` counts the deleted ones too."""
    created_at: int
    created_by: str
    updated_at: int
    deleted_at: int | None = None
    deleted_by: str | None = None
    changes: int = 1
    """How often what it says changed; part of its entity tag."""

    @property
    def is_sensitive(self) -> bool:
        """Whether its downloads are written down before the first byte leaves."""
        return self.is_compliance_required or self.risk_level in ("high", "critical")


class Source(msgspec.Struct, frozen=True):
    """Bytes kept elsewhere, which the server never opens: where, and what they are said to be."""

    uri: str
    digest: Digest | None = None
    size_bytes: int | None = None


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """A published revision of a model: number, label, tree, revision and source never change."""

    id: str
    model_id: str
    number: int
    label: str | None
    revision: str
    tree: Digest
    files: int
    size_bytes: int
    source: Source | None = None
    status: str = "registered"
    framework: str = ""
    framework_version: str = ""
    python_version: str = ""
    region: str = ""
    eval_score: float | None = None
    cost_per_1k: float | None = None
    slo_target: str = ""
    slo_met: bool | None = None
    tier: str = "hot"
    retired_at: int | None = None
    created_at: int
    created_by: str
    updated_at: int
    deleted_at: int | None = None
    purged_at: int | None = None
    """Since when nothing is left of it but its burnt names."""
    changes: int = 1

    @property
    def name(self) -> str:
        """How people call it: the label if there is one, else the number."""
        return self.label or str(self.number)


class VersionDetails(msgspec.Struct, frozen=True):
    """What is long about a version. All but `description` are JSON objects, kept as text."""

    description: str = ""
    parameters: str = "{}"
    standardisation: str = "{}"
    performance: str = "{}"
    metadata: str = "{}"


class Draft(msgspec.Struct, frozen=True):
    """A labelled folder on its way to becoming a version."""

    id: str
    model_id: str
    label: str
    created_at: int
    created_by: str
    touched_at: int


class Alias(msgspec.Struct, frozen=True):
    """A movable name. One moved by hand is `is_held` until publishing takes it up again."""

    name: str
    revision: str
    is_held: bool
    moved_at: int
    moved_by: str


class AliasEvent(msgspec.Struct, frozen=True):
    """One move of an alias; None where it did not exist before or does not exist after."""

    id: int
    name: str
    from_revision: str | None
    to_revision: str | None
    actor: str
    reason: str
    created_at: int
    restored: int | None = None
    """Of a rollback: the event whose target came back."""


class RunningUpload(msgspec.Struct, frozen=True):
    """A file on its way into a draft."""

    path: str
    principal: str
    started_at: int
