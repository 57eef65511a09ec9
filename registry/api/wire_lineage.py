"""Shapes of lineage as JSON: edges to add, graphs, and what a withdrawal affects."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from registry.domain.lineage import Relation, parse_uri
from registry.domain.references import parse_model, parse_reference
from registry.errors import Invalid
from registry.services.lineage import EdgeSaid, NamedUri, NamedVersion

MOST_AT_ONCE: Final = 1000
MOST_OF_ONE: Final = 100
"""A version that is being made says of no more than so many parents."""

ModelText = Annotated[
    str, Meta(min_length=1, max_length=400, description="A model's name, or its `mdl_` id.")
]
VersionText = Annotated[
    str, Meta(min_length=1, max_length=160, description="Any way to name a version.")
]
Description = Annotated[str, Meta(max_length=4096)]
Depth = Annotated[
    int, Meta(ge=1, le=1_000_000, description="How many steps to go; all without it.")
]
Limit = Annotated[
    int, Meta(ge=1, le=10_000, description="How many nodes to list besides the first.")
]
Uri = Annotated[str, Meta(min_length=1, max_length=4096, examples=["hf:datasets/allenai/c4"])]


class ParentBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a version came from: `model` and `version` of one that is here, or a `uri`."""

    model: ModelText | None = None
    version: VersionText | None = None
    uri: Uri | None = None
    kind: Literal["dataset", "external"] | None = None


class EdgeBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a version came from, and how."""

    relation: Relation
    parent: ParentBody
    description: Description = ""


Lineage = Annotated[
    list[EdgeBody],
    Meta(max_length=MOST_OF_ONE, description="What the version came from, and how."),
]


class ChildBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The version that came from something."""

    model: ModelText
    version: VersionText


class ToldBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which version came from what, and how."""

    child: ChildBody
    relation: Relation
    parent: ParentBody
    description: Description = ""


class LineageBatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Edges to add, all or none; each may build on those before it."""

    edges: Annotated[list[ToldBody], Meta(min_length=1, max_length=MOST_AT_ONCE)]


class WalkQuestion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far a walk goes."""

    depth: Depth | None = None
    limit: Limit = 1000


class UriQuestion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a walk begins that does not begin at a version, and how far it goes."""

    uri: Uri
    depth: Depth | None = None
    limit: Limit = 1000


class EdgeAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """`child` came from `parent`; both are the ids of nodes, the parent's is a URI without one."""

    id: str
    relation: Relation
    child: str
    parent: str
    parent_kind: Literal["version", "dataset", "external"]
    description: str
    created_at: str
    created_by: str


class EdgeBatchAnswer(msgspec.Struct, frozen=True):
    """The edges in the order of the request, those that were there already too."""

    items: list[EdgeAnswer]


class NodeAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A version, data set or external thing; of a restricted one nothing but its place is told."""

    id: str
    kind: Literal["version", "dataset", "external", "restricted"]
    depth: int
    model_id: str | None = None
    model: str | None = None
    model_kind: str | None = None
    number: int | None = None
    label: str | None = None
    status: str | None = None
    deleted: bool | None = None


class GraphAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The first node is where the walk began."""

    root: str
    nodes: list[NodeAnswer]
    edges: list[EdgeAnswer]
    truncated: bool


class DepthCount(msgspec.Struct, frozen=True):
    """How many nodes are so many steps away."""

    depth: int
    count: int


class AffectedVersion(msgspec.Struct, frozen=True, kw_only=True):
    """A version that came from the one asked about, and where it is in use."""

    id: str
    depth: int
    model_id: str
    model: str
    number: int
    label: str | None
    status: str
    aliases: list[str]
    deleted: bool


class ImpactAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What is affected if `root` is withdrawn: all that came from it, nearest first.

    The counts are of everything, also where `limit` cut `items` short and `truncated` says so;
    only with `counts_are_exact` false did even the counting end before the graph did.
    `restricted` are versions of models that the caller may not see; what lies beyond them is
    not counted.
    """

    root: str
    versions: int
    models: int
    in_production: int
    with_aliases: int
    restricted: int
    by_depth: list[DepthCount]
    items: list[AffectedVersion]
    truncated: bool
    counts_are_exact: bool


def parent_of(parent: ParentBody, field: str) -> NamedVersion | NamedUri:
    """The parent that a body names; raises `Invalid` for both ways at once, or none."""
    if parent.uri is not None:
        if parent.model is not None or parent.version is not None:
            raise Invalid(field, "is either a version, by model and version, or a uri")
        return NamedUri(parse_uri(parent.uri, field=f"{field}.uri"), parent.kind or "external")
    if parent.model is None or parent.version is None:
        raise Invalid(field, "needs model and version, or a uri")
    if parent.kind is not None:
        raise Invalid(f"{field}.kind", "is said of a uri; a version's model has a kind already")
    return NamedVersion(
        parse_model(parent.model, field=f"{field}.model"),
        parse_reference(parent.version, field=f"{field}.version"),
    )


def edges_said(bodies: list[EdgeBody], field: str = "lineage") -> tuple[EdgeSaid, ...]:
    """What is said of a version that is being made; raises `Invalid` with every bad parent."""
    found: list[EdgeSaid] = []
    problems: list[tuple[str, ...]] = []
    code: str | None = None
    for index, body in enumerate(bodies):
        try:
            parent = parent_of(body.parent, f"{field}[{index}].parent")
            found.append(EdgeSaid(body.relation, parent, body.description))
        except Invalid as error:
            code = code or error.code
            problems += error.problems
    if problems:
        raise Invalid(problems[0][0], problems[0][1], code=code, problems=problems)
    return tuple(found)
