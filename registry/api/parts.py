"""A version in one multipart request: what is said of it, and its files.

The part ``metadata`` is the JSON that would register stored blobs; it may come first, which lets
most refusals come before the files travel, or anywhere else. Every part with a file name is a file,
and the name is its path; where clients strip directories from names, a part ``path`` before the
file says it instead. A part's own ``Repr-Digest`` or ``Content-Digest`` is verified.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Final

import msgspec
from aiohttp import web

from registry.api.wire_versions import RegisterBody, registration_of
from registry.auth.policy import allows
from registry.domain.paths import parse_path
from registry.domain.references import ModelReference
from registry.errors import BodyTooLarge, Denied, Invalid, UnsupportedEncoding
from registry.http.bodies import parse_json
from registry.http.conditional import InvalidDigestField, parse_digest_field
from registry.http.multipart import Part, boundary_of, parts_of
from registry.http.receiving import body
from registry.keys import CONFIG, PRINCIPAL, STORE
from registry.services.change import fingerprint
from registry.services.composing import Registration
from registry.services.register import (
    ArrivingFile,
    Registered,
    admit,
    register_arriving,
)
from store.digest import Digest

METADATA: Final = "metadata"
PATH: Final = "path"
PATH_BYTES: Final = 4096

_AS_IS: Final = ("", "binary", "8bit", "7bit", "identity")


class _Said(msgspec.Struct):
    """What has arrived beside the files so far."""

    wish: Registration | None = None
    path: str | None = None


async def register_parts(request: web.Request, model: ModelReference) -> Registered:
    """Read the whole request and register what is in it."""
    limits = request.app[CONFIG].limits
    said = _Said()
    return await register_arriving(
        request.app[STORE],
        request[PRINCIPAL],
        model,
        _files(request, model, said),
        lambda: _settled(request, said),
        most_files=limits.version_files,
        limit_bytes=limits.blob_bytes or None,
    )


async def _files(
    request: web.Request, model: ModelReference, said: _Said
) -> AsyncGenerator[ArrivingFile, None]:
    is_first = True
    async for part in parts_of(body(request), boundary_of(request)):
        _refuse_encoded(part)
        if part.filename is None and _is_metadata(part):
            if said.wish is not None:
                raise Invalid(METADATA, "comes twice")
            said.wish = await _metadata(request, part)
            await admit(request.app[STORE], request[PRINCIPAL], model, said.wish)
        elif part.filename is None and part.name == PATH:
            said.path = (await _text(part, PATH_BYTES)).strip()
        elif part.filename is None:
            raise Invalid(
                "body",
                f"has a part {(part.name or '')[:80]!r} that is no file: it has no filename; "
                f"accepted beside files are {METADATA} and {PATH}",
                code="part_unknown",
            )
        else:
            path, said.path = said.path or part.filename, None
            yield ArrivingFile(parse_path(path), part.content, _declared(part))
        is_first = False
    if is_first:
        raise Invalid("body", "has no parts", code="version_empty")
    if said.path is not None:
        raise Invalid(PATH, "is followed by no file")


def _is_metadata(part: Part) -> bool:
    """By its name; in a body without names, by being JSON without a file name."""
    return part.name == METADATA or (part.name is None and part.media_type == "application/json")


async def _metadata(request: web.Request, part: Part) -> Registration:
    limit = request.app[CONFIG].limits.json_bytes
    content = bytearray()
    async for piece in part.content:
        content += piece
        if len(content) > limit:
            raise BodyTooLarge(limit)
    fingerprint(bytes(content))
    asked = parse_json(bytes(content), RegisterBody)
    _require_publish(request, is_draft=not asked.publish)
    return await registration_of(asked)


async def _text(part: Part, limit: int) -> str:
    content = bytearray()
    async for piece in part.content:
        content += piece
        if len(content) > limit:
            raise Invalid(part.name or "part", f"is longer than {limit} bytes")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise Invalid(part.name or "part", "is not UTF-8") from error


def _settled(request: web.Request, said: _Said) -> Registration:
    if said.wish is None:
        _require_publish(request, is_draft=False)
        return Registration()
    return said.wish


def _require_publish(request: web.Request, *, is_draft: bool) -> None:
    if not is_draft and not allows(request[PRINCIPAL], "version.publish"):
        raise Denied("version.publish", request.path)


def _refuse_encoded(part: Part) -> None:
    """What is stored is what was sent."""
    for name in ("content-transfer-encoding", "content-encoding"):
        encoding = part.headers.get(name, "").lower()
        if encoding not in _AS_IS:
            raise UnsupportedEncoding(encoding)


def _declared(part: Part) -> Digest | None:
    found: set[Digest] = set()
    for name in ("repr-digest", "content-digest"):
        text = part.headers.get(name)
        try:
            declared = None if text is None else parse_digest_field(text)
        except InvalidDigestField as error:
            raise Invalid(name, "is not sha-256=:base64:", code="invalid_digest") from error
        if declared is not None:
            found.add(declared)
    if len(found) > 1:
        raise Invalid("digest", "is declared twice, differently", code="digest_conflict")
    return found.pop() if found else None
