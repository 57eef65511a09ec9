"""What the path, the query and the headers of the routes under ``/models`` say."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Final

import msgspec
from aiohttp import hdrs, web

from registry.auth.policy import allows
from registry.domain.names import parse_label
from registry.domain.references import (
    ByName,
    ModelReference,
    VersionReference,
    parse_model,
    parse_reference,
)
from registry.errors import Conflict, Denied, Invalid
from registry.http.conditional import InvalidDigestField, parse_digest_field
from registry.http.targets import decoded, raw_segments
from registry.keys import CONFIG, PRINCIPAL
from registry.services.publish import UNPROVEN, Completeness
from registry.services.unpack import TarLimits
from store.digest import Digest, InvalidDigest

ARCHIVE: Final = ".tar"

_REMEMBERED: Final = 256
"""Names whose grammar was looked at: whoever sends many files says the same ones each time."""


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The query of a route that has no parameters: one that is given was meant for another."""


class Proofs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a draft must hold to be published."""

    expect_tree: Annotated[
        str | None, msgspec.Meta(description="The tree that all files must make.")
    ] = None
    expect_files: (
        Annotated[int, msgspec.Meta(ge=1, le=2**53, description="How many files there must be.")]
        | None
    ) = None


class PutQuestion(Proofs, frozen=True, forbid_unknown_fields=True):
    """What to do with a file beside keeping it."""

    publish: Annotated[
        bool, msgspec.Meta(description="Publish the draft once this file is in it.")
    ] = False
    digest: Annotated[
        list[str], msgspec.Meta(description="The digest that the body must have; it is verified.")
    ] = []


def file_target(request: web.Request) -> tuple[ModelReference, str, str]:
    _, model, version, path = raw_segments(request, 4)
    return model_of(model), decoded(version, field="version"), decoded(path, field="path")


def version_target(request: web.Request) -> tuple[ModelReference, str]:
    _, model, version = raw_segments(request, 3)
    return model_of(model), decoded(version, field="version")


@lru_cache(_REMEMBERED)
def model_of(raw: str) -> ModelReference:
    return parse_model(decoded(raw, field="model"))


@lru_cache(_REMEMBERED)
def label_of(text: str) -> str:
    """The label that a write names; raises `Conflict` for the other ways to name a version."""
    reference: VersionReference = parse_reference(text)
    if not isinstance(reference, ByName):
        raise Conflict(
            "version",
            text,
            "is not a label; files are put under the label of a version",
            code="label_required",
        )
    return parse_label(reference.name)


def expected_digest(request: web.Request, asked: PutQuestion) -> Digest | None:
    """The digest that a header or ``?digest=`` declares; all that are there must agree."""
    found: set[Digest] = set()
    for field in ("Repr-Digest", "Content-Digest"):
        text = request.headers.get(field)
        try:
            declared = None if text is None else parse_digest_field(text)
        except InvalidDigestField as error:
            raise Invalid(field, "is not sha-256=:base64:", code="invalid_digest") from error
        if declared is not None:
            found.add(declared)
    for text in asked.digest:
        found.add(_digest(text, "digest"))
    if len(found) > 1:
        raise Invalid("digest", "is declared twice, differently", code="digest_conflict")
    return found.pop() if found else None


def _digest(text: str, field: str) -> Digest:
    try:
        return Digest.parse(text) if ":" in text else Digest.from_hex(text)
    except InvalidDigest as error:
        raise Invalid(field, str(error), code="invalid_digest") from error


def wants_publish(request: web.Request, asked: PutQuestion) -> Completeness | None:
    """What ``?publish=true`` asks for, with the proofs beside it; None to leave a draft."""
    if not asked.publish:
        return None
    if not allows(request[PRINCIPAL], "version.publish"):
        raise Denied("version.publish", request.path)
    return completeness(asked)


def completeness(asked: Proofs) -> Completeness:
    """What ``expect_tree=`` and ``expect_files=`` say the draft must hold."""
    if asked.expect_tree is None and asked.expect_files is None:
        return UNPROVEN
    tree = None if asked.expect_tree is None else _digest(asked.expect_tree, "expect_tree")
    return Completeness(tree, asked.expect_files)


def tar_limits(request: web.Request) -> TarLimits:
    """How much an archive may ask for here."""
    limits = request.app[CONFIG].limits
    return TarLimits(
        entries=limits.tar_entries,
        path_bytes=limits.tar_path_bytes,
        header_bytes=limits.tar_header_bytes,
        blob_bytes=limits.blob_bytes or None,
    )


def refuse_partial(request: web.Request) -> None:
    """RFC 9110 section 14.4: a ``PUT`` of a part must not be taken for the whole."""
    if hdrs.CONTENT_RANGE in request.headers:
        raise Invalid("Content-Range", "a file is put whole; resume broken uploads at /uploads")
