"""What the path, the query and the headers of the routes under ``/models`` say."""

from __future__ import annotations

from typing import Final

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
from registry.keys import PRINCIPAL
from registry.services.publish import UNPROVEN, Completeness
from store.digest import Digest, InvalidDigest

ARCHIVE: Final = ".tar"


def file_target(request: web.Request) -> tuple[ModelReference, str, str]:
    _, model, version, path = raw_segments(request, 4)
    return (
        parse_model(decoded(model, field="model")),
        decoded(version, field="version"),
        decoded(path, field="path"),
    )


def version_target(request: web.Request) -> tuple[ModelReference, str]:
    _, model, version = raw_segments(request, 3)
    return parse_model(decoded(model, field="model")), decoded(version, field="version")


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


def expected_digest(request: web.Request) -> Digest | None:
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
    for text in request.query.getall("digest", ()):
        found.add(_digest(text, "digest"))
    if len(found) > 1:
        raise Invalid("digest", "is declared twice, differently", code="digest_conflict")
    return found.pop() if found else None


def _digest(text: str, field: str) -> Digest:
    try:
        return Digest.parse(text) if ":" in text else Digest.from_hex(text)
    except InvalidDigest as error:
        raise Invalid(field, str(error), code="invalid_digest") from error


def wants_publish(request: web.Request) -> Completeness | None:
    """What ``?publish=true`` asks for, with the proofs beside it; None to leave a draft."""
    text = request.query.get("publish", "false")
    if text in ("false", "0"):
        return None
    if text not in ("true", "1", ""):
        raise Invalid("publish", f"{text[:40]!r} is neither true nor false")
    if not allows(request[PRINCIPAL], "version.publish"):
        raise Denied("version.publish", request.path)
    return completeness(request)


def completeness(request: web.Request) -> Completeness:
    """What ``expect_tree=`` and ``expect_files=`` say the draft must hold."""
    tree = request.query.get("expect_tree")
    files = whole_number(request, "expect_files", most=2**53)
    if tree is None and files is None:
        return UNPROVEN
    return Completeness(None if tree is None else _digest(tree, "expect_tree"), files)


def whole_number(request: web.Request, name: str, *, most: int) -> int | None:
    text = request.query.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 18 and 0 < int(text) <= most):
        raise Invalid(name, f"{text[:40]!r} is not a whole number from 1 to {most}")
    return int(text)


def refuse_unknown(request: web.Request, known: frozenset[str]) -> None:
    """A misspelt parameter must not be taken for one that was not given."""
    for name in request.query:
        if name not in known:
            accepted = ", ".join(sorted(known)) or "none"
            raise Invalid(name[:80], f"is not known here; accepted: {accepted}")


def refuse_partial(request: web.Request) -> None:
    """RFC 9110 section 14.4: a ``PUT`` of a part must not be taken for the whole."""
    if hdrs.CONTENT_RANGE in request.headers:
        raise Invalid("Content-Range", "a file is put whole; resume broken uploads at /uploads")
