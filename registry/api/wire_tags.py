"""The shapes in which tags, and changes of them, travel as JSON."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from registry.api.wire_words import Line, Name, Text, about
from registry.catalog.tag_lists import CountedTag
from registry.domain.models import Tagging
from registry.http.cursors import PageQuery
from registry.http.times import rfc3339


class TagPut(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The value of a tag, and what the tag means wherever it is; absent: as it is."""

    value: Line = ""
    description: Text | None = None


class TagsQuery(PageQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which tags are listed: those whose ``key=value`` begins so."""

    prefix: Annotated[Line, about("How `key=value` begins, in any case.")] = ""


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
