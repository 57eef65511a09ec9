"""Blobs by digest and without a name, and the question which of many must be sent.

``PUT /blobs/<name>`` reads the name two ways: 64 hexadecimal digits, or anything with a colon, is a
digest that the bytes must match; everything else is a file name, which is only there because curl
appends one, and is not kept.
"""

from __future__ import annotations

import re
from typing import Annotated, Final

import msgspec
from aiohttp import hdrs, web

from registry.api.errors import ADAPTER
from registry.domain.paths import parse_path
from registry.domain.permissions import Permission
from registry.errors import Invalid
from registry.http.answers import json_answer
from registry.http.blobs import send_blob
from registry.http.bodies import decode_json
from registry.http.conditional import (
    ETAG,
    InvalidDigestField,
    etag_of,
    parse_digest_field,
    repr_digest_of,
)
from registry.http.receiving import body, expects_continue
from registry.http.routing import Body, Handler, Route
from registry.http.times import rfc3339
from registry.keys import BLOBS, CONFIG, PRINCIPAL, STORE
from registry.services.blobs import Put
from store.digest import Digest, InvalidDigest

_HEX: Final = re.compile(r"[0-9A-Fa-f]{56,72}\Z")
"""What can only be meant as a digest; a mistyped one must not become a file name."""


class StoredBlobAnswer(msgspec.Struct, frozen=True):
    """What an upload answers."""

    digest: str
    size: int
    url: str


class MissingQuestion(msgspec.Struct, frozen=True):
    """The digests somebody is about to use."""

    digests: list[Annotated[str, msgspec.Meta(max_length=128)]]


class PresentBlob(msgspec.Struct, frozen=True):
    digest: str
    leased_until: str


class Lease(msgspec.Struct, frozen=True):
    id: str
    expires_at: str


class MissingAnswer(msgspec.Struct, frozen=True):
    """What must be sent, and what is here and stays until the lease ends."""

    missing: list[str]
    present: list[PresentBlob]
    leases: list[Lease]


async def put_blob(request: web.Request) -> web.StreamResponse:
    """Store the body under the digest, or the file name, in the path."""
    return await _store(request, digest_or_name(request.match_info["digest"]))


async def post_blob(request: web.Request) -> web.StreamResponse:
    """Store the body, whatever its digest is."""
    return await _store(request, None)


async def get_blob(request: web.Request) -> web.StreamResponse:
    """Send a blob the caller may read."""
    digest = parse_digest(request.match_info["digest"])
    row = await request.app[BLOBS].find(digest, request[PRINCIPAL].visibility)
    return await send_blob(request, row, request.app[STORE].reading)


async def delete_blob(request: web.Request) -> web.StreamResponse:
    """Release the caller's pins; the bytes go by collection, if nobody else needs them."""
    digest = parse_digest(request.match_info["digest"])
    await request.app[BLOBS].release(request[PRINCIPAL], digest)
    return web.Response(status=204)


async def ask_missing(request: web.Request) -> web.StreamResponse:
    """Say which digests the caller must send; the others are leased to it."""
    limits = request.app[CONFIG].limits
    question = await decode_json(request, MissingQuestion, limit_bytes=limits.json_bytes)
    digests = [_digest_in_list(text, index) for index, text in enumerate(question.digests)]
    found = await request.app[BLOBS].missing(request[PRINCIPAL], digests)
    until = "" if found.expires_at is None else rfc3339(found.expires_at)
    answer = MissingAnswer(
        [str(digest) for digest in found.missing],
        [PresentBlob(str(digest), until) for digest in found.present],
        [] if found.lease is None else [Lease(found.lease, until)],
    )
    return json_answer(answer)


def parse_digest(text: str) -> Digest:
    """Read a digest with or without its prefix; raises `InvalidDigest`."""
    return Digest.parse(text) if ":" in text else Digest.from_hex(text)


def digest_or_name(text: str) -> Digest | None:
    """The digest that a path names, None for a file name; raises `InvalidDigest`, `Invalid`."""
    if ":" in text or _HEX.match(text) is not None:
        return parse_digest(text)
    if "/" in text:
        raise Invalid("name", "a file name has no slash", code="path_invalid")
    parse_path(text, field="name")
    return None


def _digest_in_list(text: str, index: int) -> Digest:
    try:
        return parse_digest(text)
    except InvalidDigest as error:
        raise Invalid(f"digests[{index}]", str(error), code="invalid_digest") from error


async def _store(request: web.Request, named: Digest | None) -> web.StreamResponse:
    """Acknowledge without the body where that is possible, else receive it."""
    service, principal = request.app[BLOBS], request[PRINCIPAL]
    expected = _expected(request, named)
    size = request.content_length
    if expected is not None and expects_continue(request):
        known = await service.claim(principal, expected, size_bytes=size)
        if known is not None:
            return _stored(known)
    return _stored(await service.put(principal, body(request), expected=expected, size_bytes=size))


def _expected(request: web.Request, named: Digest | None) -> Digest | None:
    """The digest that path and headers declare, which must be one."""
    for field in ("Repr-Digest", "Content-Digest"):
        text = request.headers.get(field)
        if text is None:
            continue
        try:
            declared = parse_digest_field(text)
        except InvalidDigestField as error:
            raise Invalid(field, "is not sha-256=:base64:", code="invalid_digest") from error
        if declared is not None and named is not None and declared != named:
            raise Invalid(field, f"names another digest than {named}", code="digest_conflict")
        named = declared or named
    return named


def _stored(put: Put) -> web.Response:
    url = f"/blobs/{put.digest}"
    return json_answer(
        StoredBlobAnswer(str(put.digest), put.size_bytes, url),
        status=201 if put.is_new else 200,
        headers={
            hdrs.LOCATION: url,
            ETAG: etag_of(put.digest),
            "Repr-Digest": repr_digest_of(put.digest),
        },
    )


_TABLE: Final[list[tuple[str, str, Handler, Permission, Body]]] = [
    # All methods of one path stand together, the busiest first: the router tries them in order.
    ("GET", "/blobs/{digest}", get_blob, "content.read", "none"),
    ("HEAD", "/blobs/{digest}", get_blob, "content.read", "none"),
    ("PUT", "/blobs/{digest}", put_blob, "content.write", "bytes"),
    ("DELETE", "/blobs/{digest}", delete_blob, "content.write", "none"),
    ("PUT", "/blobs/", post_blob, "content.write", "bytes"),
    ("POST", "/blobs/", post_blob, "content.write", "bytes"),
    ("POST", "/blobs", post_blob, "content.write", "bytes"),
    ("POST", "/api/v1/blobs/missing", ask_missing, "content.read", "json"),
]

ROUTES: Final = [
    Route(method=method, path=path, handler=handler, permission=word, adapter=ADAPTER, body=reads)
    for method, path, handler, word, reads in _TABLE
]
