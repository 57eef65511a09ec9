"""A model, its versions, drafts and aliases, as the services speak of them.

Times are microseconds since the epoch in UTC.
"""

from __future__ import annotations

import msgspec

from store.digest import Digest


class Model(msgspec.Struct, frozen=True):
    """A named line of work."""

    id: str
    name: str
    folded: str
    kind: str
    visibility: str
    created_at: int
    created_by: str


class Version(msgspec.Struct, frozen=True):
    """A published revision of a model: number, label, tree and revision never change."""

    id: str
    model_id: str
    number: int
    label: str | None
    revision: str
    tree: Digest
    files: int
    size_bytes: int
    created_at: int
    created_by: str
    deleted_at: int | None

    @property
    def name(self) -> str:
        """How people call it: the label if there is one, else the number."""
        return self.label or str(self.number)


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


class RunningUpload(msgspec.Struct, frozen=True):
    """A file on its way into a draft."""

    path: str
    principal: str
    started_at: int
