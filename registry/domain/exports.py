"""A model on its way to another registry: the documents of its archive and the order in them.

An archive is a tar whose entries stand in this order, each kind sorted by its name::

    digestry.json               what this is, by which format, and how much of it there is
    model.json                  what is said of the model, with its aliases and their history
    versions/0000000001.json    what is said of each version, by its number
    trees/<64 hex>              the files of versions, once each, as the text that they are named by
    blobs/<64 hex>              their bytes, once each

So whoever reads knows what is to come before the first large byte, and whether it wants it. The
same model gives the same bytes. JSON is written in one spelling, read strictly, and a format with a
higher number than `NUMBER` is refused.

**People and times** are told as remarks: who made something over there is nobody here. A **burnt**
version was deleted: its number, label and tree come along, so that they stay burnt, and nothing of
what it held.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from registry.domain.lineage import Relation
from registry.domain.numbers import Number
from registry.domain.statuses import Status
from store.digest import Digest

FORMAT: Final = "digestry-model"
NUMBER: Final = 1
"""The newest format that is understood; a change that an older reader would misread raises it."""

HEADING: Final = "digestry.json"
MODEL: Final = "model.json"
IMPORTED_FROM: Final = "imported_from"
"""The member of a version's metadata that says where it was first, and whose it was there."""

MOST_VERSIONS: Final = 10_000
"""They become visible in one transaction."""

MOST_MOVES: Final = 100_000

_Count = Annotated[int, Meta(ge=0, le=2**53)]
_Number = Annotated[int, Meta(ge=1, le=2**53)]
_Size = Annotated[int, Meta(ge=0, le=2**62)]
_Moment = Annotated[datetime, Meta(tz=True)]
_Name = Annotated[str, Meta(min_length=1, max_length=400)]
_Person = Annotated[str, Meta(max_length=200)]
_Word = Annotated[str, Meta(max_length=96)]
_Line = Annotated[str, Meta(max_length=200)]
_Text = Annotated[str, Meta(max_length=4096)]
_LongText = Annotated[str, Meta(max_length=16_384)]
_Reason = Annotated[str, Meta(max_length=1024)]
_Label = Annotated[str, Meta(min_length=1, max_length=128)]
_DigestText = Annotated[str, Meta(pattern=r"^sha256:[0-9a-f]{64}$")]
_Tags = Annotated[dict[str, str], Meta(max_length=200)]


class Format(msgspec.Struct, frozen=True):
    """What every format says of itself, whatever else it says."""

    format: str
    number: int


class _Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A JSON document, or a part of one."""


class Heading(_Document, frozen=True, kw_only=True):
    """What an archive is, and how much of it there is."""

    format: Literal["digestry-model"]
    number: Literal[1]
    model: _Name
    versions: Annotated[int, Meta(ge=0, le=MOST_VERSIONS)]
    trees: _Count
    blobs: _Count
    size: _Size
    """Of all blobs together."""


class Move(_Document, frozen=True, kw_only=True, omit_defaults=True):
    """An alias was pointed at a version, by its number, or with null removed."""

    to: _Number | None
    at: _Moment
    by: _Person
    reason: _Reason = ""


class AliasDocument(_Document, frozen=True, kw_only=True):
    """An alias with its moves, the oldest first; the last one is where it points."""

    name: _Label
    held: bool
    moves: Annotated[list[Move], Meta(min_length=1, max_length=MOST_MOVES)]


class ModelDocument(_Document, frozen=True, kw_only=True):
    """What is said of a model; `card` is there where no README is it."""

    name: _Name
    kind: Literal["model", "dataset", "generic"]
    visibility: Literal["public", "internal", "private"]
    description: _LongText
    use_case: _Text
    task_type: _Word
    subject_domain: _Word
    team: _Name | None
    risk_level: Literal["low", "medium", "high", "critical"]
    compliance_required: bool
    active: bool
    legal_hold: bool
    tags: _Tags
    card: Annotated[str, Meta(max_length=1 << 20)] | None
    last_number: _Count
    aliases: Annotated[list[AliasDocument], Meta(max_length=10_000)]
    created_at: _Moment
    created_by: _Person


class SourceDocument(_Document, frozen=True, kw_only=True):
    """Bytes kept elsewhere, and what they are said to be."""

    uri: Annotated[str, Meta(min_length=1, max_length=4096)]
    digest: _DigestText | None
    size: _Size | None


class ParentDocument(_Document, frozen=True, kw_only=True):
    """A version that another one came from, by the names it has here."""

    model: _Name
    kind: Literal["model", "dataset", "generic"]
    number: _Number
    label: _Label | None
    tree: _DigestText


class EdgeDocument(_Document, frozen=True, kw_only=True, omit_defaults=True):
    """What a version came from, and how: another version, or what a URI names."""

    relation: Relation
    parent: ParentDocument | None = None
    uri: _Text | None = None
    kind: Literal["dataset", "external"] | None = None
    description: _Text = ""


class MetricDocument(_Document, frozen=True, kw_only=True):
    """What was measured on one split, and when."""

    name: Annotated[str, Meta(min_length=1, max_length=250)]
    split: Literal["train", "validation", "test", "production"]
    time: _Moment
    value: Number


class ScoreDocument(_Document, frozen=True, kw_only=True):
    """The latest score of one metric; null where there was no evidence, as `reason` says."""

    metric: Annotated[str, Meta(min_length=1, max_length=40)]
    value: Annotated[float, Meta(ge=0, le=1)] | None
    reason: Annotated[str, Meta(max_length=400)]
    evidence: dict[str, Any]
    at: _Moment
    by: _Person


class ReviewDocument(_Document, frozen=True, kw_only=True):
    """What a reviewer said."""

    reviewer: _Person
    verdict: Literal["approve", "reject", "comment"]
    comment: _LongText
    counts: bool
    at: _Moment


class VersionDocument(_Document, frozen=True, kw_only=True, omit_defaults=True):
    """What is said of a version; of a burnt one nothing but what keeps it burnt."""

    number: _Number
    label: _Label | None = None
    burnt: bool = False
    tree: _DigestText
    files: _Count
    size: _Size
    source: SourceDocument | None = None
    created_at: _Moment
    created_by: _Person
    status: Status | None = None
    """None of a burnt one."""
    framework: _Word = ""
    framework_version: _Word = ""
    python_version: _Word = ""
    region: _Word = ""
    eval_score: Annotated[float, Meta(ge=0, le=1)] | None = None
    cost_per_1k: Annotated[float, Meta(ge=0, le=1e12)] | None = None
    slo_target: _Line = ""
    slo_met: bool | None = None
    description: _LongText = ""
    parameters: dict[str, Any] = {}
    standardisation_parameters: dict[str, Any] = {}
    performance_metrics: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    tags: _Tags = {}
    lineage: Annotated[list[EdgeDocument], Meta(max_length=10_000)] = []
    metrics: list[MetricDocument] = []
    scores: Annotated[list[ScoreDocument], Meta(max_length=1000)] = []
    reviews: list[ReviewDocument] = []


_encode: Final = msgspec.json.Encoder(order="deterministic").encode


def encode(document: msgspec.Struct) -> bytes:
    """A document in its one spelling."""
    return _encode(document) + b"\n"


def version_name(number: int) -> str:
    """The entry of a version; numbers are so written that they sort as text."""
    return f"versions/{number:010d}.json"


def tree_name(tree: Digest) -> str:
    return f"trees/{tree.hex}"


def blob_name(blob: Digest) -> str:
    return f"blobs/{blob.hex}"
