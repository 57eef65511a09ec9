"""What a version came from: edges up to versions, data sets and whatever else has a URI.

An edge says that its *child*, a version, came from its *parent* by a *relation*. Edges never form a
circle: nothing is its own ancestor. What a URI names has no parents here, so that only versions can
be on a circle.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final, Literal, TypeAlias, get_args

import msgspec

from registry.domain.roles import Place
from registry.errors import Invalid

Relation: TypeAlias = Literal[
    "fine-tuned", "quantised", "distilled", "merged", "adapter-of", "trained-on", "derived"
]
RELATIONS: Final[tuple[Relation, ...]] = get_args(Relation)

Direction: TypeAlias = Literal["up", "down"]

URI_CHARACTERS: Final = 4096
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[^:]")
_CREDENTIALS: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*:[^/?#]*@")


class Edge(msgspec.Struct, frozen=True, kw_only=True):
    """Versions by their ids. Exactly one of `parent` and `uri` is there."""

    id: str
    child: str
    relation: str
    parent: str | None = None
    uri: str | None = None
    kind: str = "version"
    """``version``, or what the URI names: ``dataset`` or ``external``."""
    description: str = ""
    created_at: int
    created_by: str


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A version as lineage shows it; deleted ones are history too."""

    id: str
    model_id: str
    namespace_id: str
    level: str
    """The model's visibility."""
    model: str
    kind: str
    number: int
    label: str | None
    revision: str
    status: str
    is_deleted: bool

    @property
    def name(self) -> str:
        return f"{self.model}/{self.label or self.number}"

    @property
    def place(self) -> Place:
        """Where it is, for who may see it."""
        return Place(namespace=self.namespace_id, model=self.model_id, level=self.level)


class Node(msgspec.Struct, frozen=True):
    """A version or a URI, as few edges from where the walk began as `depth` says.

    One with neither is a version that the caller may not see; the walk ends there.
    """

    key: str
    depth: int
    member: Member | None = None
    uri: str | None = None
    kind: str = "version"


class Graph(msgspec.Struct, frozen=True):
    """Every node once, nearest first, and the edges between them."""

    nodes: Sequence[Node]
    edges: Sequence[Edge]
    is_cut: bool
    """Whether there is more than a limit let in; a limit of depth is not meant."""

    def members(self) -> Iterator[tuple[Node, Member]]:
        """The versions that the caller may see."""
        for node in self.nodes:
            if node.member is not None:
                yield node, node.member


def parse_uri(text: str, *, field: str = "uri") -> str:
    """Check what names something that is not here; raises `Invalid`, code ``uri_invalid``."""
    reason = _why_not_uri(text)
    if reason is not None:
        raise Invalid(field, reason, code="uri_invalid")
    return text


def _why_not_uri(text: str) -> str | None:
    if len(text) > URI_CHARACTERS:
        return f"is longer than {URI_CHARACTERS} characters"
    if not text.isprintable() or " " in text:
        return "contains a space or a control character"
    if _SCHEME.match(text) is None:
        return "is no URI: it needs a scheme, as in https://example.org/data or hf:org/data"
    if _CREDENTIALS.match(text) is not None:
        return "holds a password; lineage is read by everybody who may read the model"
    return None
