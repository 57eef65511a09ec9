"""Shapes of versions as JSON: what a registration says, and all that is known of a version."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from registry.api.wire import DraftAnswer, Urls, VersionAnswer, draft_answer, version_facts
from registry.domain.facts import FRAMEWORKS, OBJECTS, Facts, require_numbers
from registry.domain.models import Model, Source, Version, VersionDetails
from registry.domain.names import parse_label
from registry.domain.paths import parse_path
from registry.domain.references import parse_reference
from registry.domain.statuses import Status
from registry.errors import Invalid
from registry.services.publish import Stated
from registry.services.register import NamedFile, Registered, Registration
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
Label = Annotated[str, Meta(min_length=1, max_length=128, examples=["1.4.0"])]
DigestText = Annotated[
    str, Meta(max_length=80, description="`sha256:` and 64 lower-case hexadecimal digits.")
]


class FilePart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
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


class DetailedAnswer(VersionAnswer, frozen=True, kw_only=True):
    """Everything that is known of a version."""

    description: str
    parameters: dict[str, Any]
    standardisation_parameters: dict[str, Any]
    performance_metrics: dict[str, Any]
    metadata: dict[str, Any]


class RegisteredAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What a registration made: a version, or a draft."""

    model: str
    state: Literal["published", "draft"]
    version: DetailedAnswer | None
    draft: DraftAnswer | None


def detailed_answer(
    urls: Urls, model: Model, version: Version, details: VersionDetails
) -> DetailedAnswer:
    return DetailedAnswer(
        **version_facts(urls, model, version),
        description=details.description,
        **{name: msgspec.json.decode(getattr(details, field)) for name, field in OBJECTS.items()},
    )


def registered_answer(urls: Urls, done: Registered) -> RegisteredAnswer:
    version, draft = done.version, done.draft
    return RegisteredAnswer(
        model=done.model.name,
        state="draft" if version is None else "published",
        version=None
        if version is None
        else detailed_answer(urls, done.model, version, done.details),
        draft=None if draft is None else draft_answer(urls, done.model, draft),
    )


def facts_in(body: SaidBody) -> Facts:
    """What a body says of a version; raises `Invalid` for words in place of numbers."""
    facts = Facts(**{name: getattr(body, name) for name in Facts.__struct_fields__})
    require_numbers(facts)
    return facts


def stated_in(body: SaidBody, source: SourceBody | None = None) -> Stated:
    return Stated(
        source=None if source is None else _source(source),
        facts=facts_in(body),
        status=body.status,
        reason=body.reason,
    )


async def registration_of(body: RegisterBody, *, at: str = "") -> Registration:
    """What a body asks for; `at` goes before the names of bad fields."""
    if len(body.files) > FEW_FILES:
        files = await asyncio.to_thread(_files, body.files, at)
    else:
        files = _files(body.files, at)
    return Registration(
        label=None if body.label is None else parse_label(body.label, field=f"{at}label"),
        files=files,
        base=None if body.base is None else parse_reference(body.base, field=f"{at}base"),
        stated=stated_in(body, body.source),
        is_draft=not body.publish,
    )


def _files(parts: Sequence[FilePart], at: str) -> list[NamedFile]:
    """Paths in normal form and digests; raises `Invalid` with every bad one."""
    found: list[NamedFile] = []
    problems: list[tuple[str, ...]] = []
    code: str | None = None
    for position, part in enumerate(parts):
        name = f"{at}files[{position}]"
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
