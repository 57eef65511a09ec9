"""Shapes of versions as JSON: what a registration says, and all that is known of a version."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from registry.api.wire import DraftAnswer, Urls, VersionAnswer, draft_answer, version_facts
from registry.api.wire_lineage import Lineage, edges_said
from registry.api.wire_models import TagOfModel
from registry.api.wire_words import Kind, Tags
from registry.catalog.version_lists import Latest, VersionFilter
from registry.domain.facts import FRAMEWORKS, OBJECTS, Facts, require_numbers
from registry.domain.models import Source
from registry.domain.names import fold, parse_label
from registry.domain.paths import parse_path
from registry.domain.references import ModelReference, parse_model, parse_reference
from registry.domain.statuses import Status
from registry.domain.tags import parse_key, parse_value
from registry.errors import Invalid
from registry.http.cursors import CountedQuery
from registry.services.composing import NamedFile, Registration
from registry.services.publish import Stated
from registry.services.register import Registered
from registry.services.versions import Change, FullVersion
from store.digest import Digest, InvalidDigest

MOST_PROBLEMS: Final = 100
FEW_FILES: Final = 500
"""With no more files than this their paths are checked on the event loop."""

Word = Annotated[str, Meta(max_length=96)]
Framework = Annotated[
    str,
    Meta(
        max_length=96,
        description=f"Free text; what most people mean is one of {', '.join(FRAMEWORKS)}.",
        examples=list(FRAMEWORKS),
    ),
]
Region = Annotated[str, Meta(max_length=96, examples=["eu-central-1"])]
Score = Annotated[float, Meta(ge=0, le=1, examples=[0.93])]
Cost = Annotated[float, Meta(ge=0, le=1e12, examples=[0.02])]
SloTarget = Annotated[str, Meta(max_length=200, examples=["p99 < 200 ms"])]
Description = Annotated[str, Meta(max_length=16_384)]
Numbers = Annotated[
    dict[str, Any],
    Meta(description="Any JSON object of at most 1 MiB; numbers are finite.", examples=[{"a": 1}]),
]
Free = Annotated[
    dict[str, Any], Meta(description="Any JSON object of at most 1 MiB.", examples=[{"a": "b"}])
]
Reason = Annotated[str, Meta(max_length=1024)]
ModelText = Annotated[
    str, Meta(min_length=1, max_length=400, description="A model's name, or its `mdl_` id.")
]
Label = Annotated[str, Meta(min_length=1, max_length=128, examples=["1.4.0"])]
DigestText = Annotated[
    str, Meta(max_length=80, description="`sha256:` and 64 lower-case hexadecimal digits.")
]


class FilePart(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """A path and the stored blob that it shall hold; null takes the path out of ``base``."""

    path: Annotated[str, Meta(min_length=1, max_length=1024)]
    digest: DigestText | None


class SourceBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bytes kept elsewhere, which the server never opens, and what they are said to be."""

    uri: Annotated[str, Meta(min_length=1, max_length=4096, examples=["s3://models/bert/1.4.0"])]
    digest: DigestText | None = None
    size: Annotated[int, Meta(ge=0, le=2**62)] | None = None


class SaidBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may be said of a version when it is made."""

    description: Description | UnsetType = UNSET
    parameters: Numbers | UnsetType = UNSET
    standardisation_parameters: Numbers | UnsetType = UNSET
    performance_metrics: Numbers | UnsetType = UNSET
    metadata: Free | UnsetType = UNSET
    framework: Framework | UnsetType = UNSET
    framework_version: Word | UnsetType = UNSET
    python_version: Word | UnsetType = UNSET
    region: Region | UnsetType = UNSET
    eval_score: Score | UnsetType | None = UNSET
    cost_per_1k: Cost | UnsetType | None = UNSET
    slo_target: SloTarget | UnsetType = UNSET
    slo_met: bool | UnsetType | None = UNSET
    status: Status | None = None
    reason: Reason = ""
    tags: Tags = {}
    lineage: Lineage = []


class PatchBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A merge-patch: what is absent stays, null takes back, objects are merged member by member."""

    description: Description | UnsetType | None = UNSET
    parameters: Numbers | UnsetType | None = UNSET
    standardisation_parameters: Numbers | UnsetType | None = UNSET
    performance_metrics: Numbers | UnsetType | None = UNSET
    metadata: Free | UnsetType | None = UNSET
    framework: Framework | UnsetType | None = UNSET
    framework_version: Word | UnsetType | None = UNSET
    python_version: Word | UnsetType | None = UNSET
    region: Region | UnsetType | None = UNSET
    eval_score: Score | UnsetType | None = UNSET
    cost_per_1k: Cost | UnsetType | None = UNSET
    slo_target: SloTarget | UnsetType | None = UNSET
    slo_met: bool | UnsetType | None = UNSET
    status: Status | UnsetType = UNSET
    reason: Reason = ""


FROZEN: Final = frozenset(
    ("id", "model", "number", "label", "revision", "tree", "files", "size", "source")
)
"""What a version is; it never changes."""


class StatusBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a version shall stand, and why."""

    status: Status
    reason: Reason = ""


class ReasonQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why it is done, for the audit log."""

    reason: Reason = ""


class FactsQuery(CountedQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is said of the versions to list."""

    status: Status | None = None
    region: Region | None = None
    framework: Word | None = None
    tier: Literal["hot", "cold"] | None = None
    slo_met: bool | None = None
    retired: Annotated[
        bool | None, Meta(description="Only those that retention has retired, or none of them.")
    ] = None
    min_eval_score: Score | None = None
    max_cost_per_1k: Cost | None = None


class VersionsQuery(FactsQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which versions to list. A range of scores or costs is the order of the list, best first."""

    kind: Annotated[Kind | None, Meta(description="Of models of this kind.")] = None


RangeText = Annotated[
    str,
    Meta(
        max_length=256,
        description="A range of SemVer labels as npm writes them; highest first.",
        examples=["^1.2"],
    ),
]


class ModelVersionsQuery(FactsQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which versions of a model to list."""

    range: RangeText | None = None
    deleted: Annotated[
        bool, Meta(description="Those that are deleted, in place of the others.")
    ] = False
    latest_by: Annotated[Latest | None, Meta(description="Only the last one, by this order.")] = (
        None
    )


class LatestQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which version is meant by the latest; without any of these it is the alias ``latest``."""

    by: Annotated[Latest | None, Meta(description="The order; `number` if nothing is said.")] = None
    range: RangeText | None = None
    status: Status | None = None
    region: Region | None = None
    framework: Word | None = None
    tier: Literal["hot", "cold"] | None = None
    slo_met: bool | None = None
    min_eval_score: Score | None = None
    max_cost_per_1k: Cost | None = None


class RegisterBody(SaidBody, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A version of stored blobs, of another version with changes, or of a source elsewhere."""

    label: Label | None = None
    files: list[FilePart] = []
    base: (
        Annotated[
            str,
            Meta(
                min_length=1,
                max_length=160,
                description="A version of the same model whose files are taken over.",
            ),
        ]
        | None
    ) = None
    source: SourceBody | None = None
    publish: Annotated[
        bool, Meta(description="False makes a draft of these files, to be published later.")
    ] = True


class BatchedBody(RegisterBody, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One version of a batch."""

    model: ModelText


class BatchBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Versions to register, all or none; a ``base`` must be there before."""

    versions: Annotated[list[BatchedBody], Meta(min_length=1, max_length=1000)]


class DetailedAnswer(VersionAnswer, frozen=True, kw_only=True):
    """Everything that is known of a version."""

    description: str
    parameters: dict[str, Any]
    standardisation_parameters: dict[str, Any]
    performance_metrics: dict[str, Any]
    metadata: dict[str, Any]
    tags: list[TagOfModel]


class RegisteredAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What a registration made: a version, or a draft."""

    model: str
    state: Literal["published", "draft"]
    version: DetailedAnswer | None
    draft: DraftAnswer | None


class BatchAnswer(msgspec.Struct, frozen=True):
    """What a batch made, in its order."""

    versions: list[RegisteredAnswer]


def detailed_answer(urls: Urls, full: FullVersion) -> DetailedAnswer:
    details = full.details
    return DetailedAnswer(
        **version_facts(urls, full.model, full.version),
        description=details.description,
        **{name: msgspec.json.decode(getattr(details, field)) for name, field in OBJECTS.items()},
        tags=[TagOfModel(tagging.tag.key, tagging.tag.value) for tagging in full.tags],
    )


def registered_answer(urls: Urls, done: Registered) -> RegisteredAnswer:
    version, draft = done.version, done.draft
    return RegisteredAnswer(
        model=done.model.name,
        state="draft" if version is None else "published",
        version=None if version is None else detailed_answer(urls, version),
        draft=None if draft is None else draft_answer(urls, done.model, draft),
    )


def filter_of(query: FactsQuery | LatestQuery) -> VersionFilter:
    """The filter in a query; only some ask for a kind."""
    asked = [name for name in VersionFilter.__struct_fields__ if hasattr(query, name)]
    return VersionFilter(**{name: getattr(query, name) for name in asked})


def change_of(body: PatchBody) -> Change:
    """The patch in a body; raises `Invalid` for words in place of numbers."""
    facts = {
        name: getattr(body, name)
        for name in Facts.__struct_fields__
        if getattr(body, name) is not UNSET
    }
    require_numbers(facts)
    status = None if isinstance(body.status, UnsetType) else body.status
    return Change(facts=facts, status=status, reason=body.reason)


def frozen_named(error: Invalid) -> Invalid:
    """Say of fields that never change that they are frozen, where they would seem unknown."""
    if not any(problem[0] in FROZEN for problem in error.problems):
        return error
    problems = [
        (problem[0], "never changes: it was frozen when the version was published")
        if problem[0] in FROZEN
        else problem
        for problem in error.problems
    ]
    return Invalid(problems[0][0], problems[0][1], code=error.code, problems=problems)


def facts_in(body: SaidBody) -> Facts:
    """What a body says of a version; raises `Invalid` for words in place of numbers."""
    facts = Facts(**{name: getattr(body, name) for name in Facts.__struct_fields__})
    require_numbers(facts.given())
    return facts


def stated_in(body: SaidBody, source: SourceBody | None = None) -> Stated:
    return Stated(
        source=None if source is None else _source(source),
        facts=facts_in(body),
        status=body.status,
        reason=body.reason,
        tags=_tags(body.tags),
        lineage=edges_said(body.lineage),
    )


async def registration_of(body: RegisterBody) -> Registration:
    """What a body asks for; raises `Invalid` with what is wrong of one kind."""
    if len(body.files) > FEW_FILES:
        return _registration(body, await asyncio.to_thread(_files, body.files))
    return registration_at_once(body)


def registration_at_once(body: RegisterBody) -> Registration:
    """The same of few files."""
    return _registration(body, _files(body.files))


def _registration(body: RegisterBody, files: Sequence[NamedFile]) -> Registration:
    return Registration(
        label=None if body.label is None else parse_label(body.label),
        files=files,
        base=None if body.base is None else parse_reference(body.base, field="base"),
        stated=stated_in(body, body.source),
        is_draft=not body.publish,
    )


async def registrations_of(
    bodies: Sequence[BatchedBody],
) -> list[tuple[ModelReference, Registration]]:
    """What each of a batch asks for; raises `Invalid` with what is wrong in all of them."""
    found: list[tuple[ModelReference, Registration]] = []
    problems: list[tuple[str, ...]] = []
    code: str | None = None
    for position, one in enumerate(bodies):
        try:
            found.append((parse_model(one.model), await registration_of(one)))
        except Invalid as error:
            code = code or error.code
            problems += [(f"versions[{position}].{name}", *rest) for name, *rest in error.problems]
    if problems:
        kept = problems[:MOST_PROBLEMS]
        raise Invalid(kept[0][0], kept[0][1], code=code, problems=kept)
    return found


def _files(parts: Sequence[FilePart]) -> list[NamedFile]:
    """Paths in normal form and digests; raises `Invalid` with every bad one."""
    found: list[NamedFile] = []
    problems: list[tuple[str, ...]] = []
    code: str | None = None
    for position, part in enumerate(parts):
        name = f"files[{position}]"
        try:
            digest = None if part.digest is None else _digest(part.digest, f"{name}.digest")
            found.append(NamedFile(parse_path(part.path, field=f"{name}.path"), digest))
        except Invalid as error:
            code = code or error.code
            problems.extend(error.problems)
            if len(problems) >= MOST_PROBLEMS:
                break
    if problems:
        raise Invalid(problems[0][0], problems[0][1], code=code, problems=problems)
    return found


def _tags(tags: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    found = tuple(
        (parse_key(key, field="tags"), parse_value(value, field=f"tags.{key[:80]}"))
        for key, value in tags.items()
    )
    if len({fold(key) for key, _ in found}) < len(found):
        raise Invalid("tags", "has one key in several spellings", code="tag_invalid")
    return found


def _source(body: SourceBody) -> Source:
    digest = None if body.digest is None else _digest(body.digest, "source.digest")
    return Source(body.uri, digest, body.size)


def _digest(text: str, field: str) -> Digest:
    try:
        return Digest.parse(text)
    except InvalidDigest as error:
        raise Invalid(
            field,
            "is not a digest",
            code="invalid_digest",
            problems=[(field, "is not a digest", "sha256: and 64 lower-case hexadecimal digits")],
        ) from error
