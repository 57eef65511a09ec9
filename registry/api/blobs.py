"""Blobs by digest and without a name, and the question which of many must be sent.

``PUT /blobs/<name>`` reads the name two ways: 64 hexadecimal digits, or anything with a colon, is a
digest that the bytes must match; everything else is a file name, which is only there because curl
appends one, and is not kept.
"""

from __future__ import annotations

import asyncio
import re
from typing import Annotated, Final

import msgspec
from aiohttp import hdrs, web

from registry.api.counting import facts_of_download, sends
from registry.api.errors import ADAPTER
from registry.domain.paths import parse_path
from registry.domain.principals import Principal
from registry.errors import Invalid
from registry.http.answers import json_answer
from registry.http.blobs import send_blob
from registry.http.bodies import read_json
from registry.http.conditional import (
    ETAG,
    InvalidDigestField,
    etag_of,
    parse_digest_field,
    repr_digest_of,
)
from registry.http.once import HEADER, answer_once
from registry.http.receiving import arrived, body, expects_continue
from registry.http.routing import ANYTHING, Content, Handler, Media, Route, Taken, Taker
from registry.http.times import rfc3339
from registry.keys import BLOB_BATCHES, BLOBS, PRINCIPAL, STORE
from registry.services.blob_batches import MOST_BYTES
from registry.services.blobs import Put
from store.digest import Digest, InvalidDigest

_HEX: Final = re.compile(r"[0-9A-Fa-f]{56,72}\Z")
"""What can only be meant as a digest; a mistyped one must not become a file name."""

_NAMED: Final = re.compile(r"/blobs/(?:sha256:)?([0-9a-f]{64})\Z")

_encode = msgspec.json.Encoder().encode


class StoredBlobAnswer(msgspec.Struct, frozen=True):
    """What an upload answers."""

    digest: str
    size: int
    url: str


class MissingQuestion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
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
    """Send a blob the caller may read.

    Where a sensitive model has it, that is in the audit log before the first byte.
    """
    digest = parse_digest(request.match_info["digest"])
    found = await request.app[BLOBS].find(digest, request[PRINCIPAL].visibility)
    if found.sensitive and request.method != hdrs.METH_HEAD:
        etag = etag_of(digest)
        if sends(request, etag):
            facts = facts_of_download(request, "", etag)
            await request.app[BLOBS].announce(request[PRINCIPAL], found, facts)
    return await send_blob(request, found.row, request.app[STORE].reading)


async def delete_blob(request: web.Request) -> web.StreamResponse:
    """Release the caller's pins; the bytes go by collection, if nobody else needs them."""
    digest = parse_digest(request.match_info["digest"])
    await request.app[BLOBS].release(request[PRINCIPAL], digest)
    return web.Response(status=204)


async def ask_missing(request: web.Request) -> web.StreamResponse:
    """Say which digests the caller must send; the others are leased to it."""
    question = await read_json(request, MissingQuestion)
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

    async def call() -> Put:
        if expected is not None and expects_continue(request):
            known = await service.claim(principal, expected, size_bytes=size)
            if known is not None:
                return known
        return await service.put(principal, body(request), expected=expected, size_bytes=size)

    if size is not None and size <= MOST_BYTES and HEADER not in request.headers:
        whole = arrived(request)
        if whole is not None:
            return _stored(await request.app[BLOB_BATCHES].put(principal, whole, expected))
    if request.method != hdrs.METH_POST:
        return _stored(await call())
    return await answer_once(request, call, _stored, is_streamed=True)


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


def _begin(
    app: web.Application, path: str, principal: Principal, content: bytes
) -> asyncio.Future[Put] | None:
    """Store a small blob under its digest, as `put_blob` would."""
    named, limit = _NAMED.match(path), app[BLOBS].limits.blob_bytes
    if named is None or len(content) > (limit or MOST_BYTES):
        return None
    return app[BLOB_BATCHES].begin(principal, content, Digest(named[1]))


def _taken(put: Put, base: str) -> Taken:
    """What `_stored` answers."""
    url = f"/blobs/{put.digest}"
    answer = StoredBlobAnswer(str(put.digest), put.size_bytes, url)
    fields = (
        f"Location: {url}\r\nETag: {etag_of(put.digest)}\r\n"
        f"Repr-Digest: {repr_digest_of(put.digest)}\r\n"
    )
    return Taken(201 if put.is_new else 200, fields, _encode(answer))


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


_STORED_HEADERS: Final = {
    "Location": "The address of the blob.",
    "ETag": "Its digest, quoted.",
    "Repr-Digest": "Its SHA-256, as in RFC 9530.",
}
_STORED: Final[dict[int, Content]] = {
    200: Media("", "The caller held it already.", _STORED_HEADERS, also=StoredBlobAnswer),
    201: Media("", "It is stored and pinned.", _STORED_HEADERS, also=StoredBlobAnswer),
}


def _reading(method: str) -> Route:
    return Route(
        method=method,
        path="/blobs/{digest}",
        handler=get_blob,
        permission="content.read",
        adapter=ADAPTER,
        summary="Get a blob",
        tag="blobs",
        repeats=True,
        answers={200: ANYTHING, 206: ANYTHING, 304: None},
        problems=(404, 412, 416),
        headers={
            "Range": "",
            "If-Range": "",
            "If-Match": "Answer only if it has this `ETag`; else 412.",
            "If-None-Match": "",
        },
    )


def _storing(method: str, path: str, handler: Handler, summary: str) -> Route:
    return Route(
        method=method,
        path=path,
        handler=handler,
        permission="content.write",
        adapter=ADAPTER,
        body="bytes",
        summary=summary,
        tag="blobs",
        accepts=Media("*/*", "The bytes, as they shall be stored."),
        answers=_STORED,
        problems=(422,),
        headers={"Repr-Digest": "", "Content-Digest": "", "Expect": ""},
        takes=Taker(_begin, _taken),
    )


ROUTES: Final = [
    # All methods of one path stand together, the busiest first: the router tries them in order.
    _reading("GET"),
    _reading("HEAD"),
    _storing("PUT", "/blobs/{digest}", put_blob, "Store a blob under its digest or a file name"),
    Route(
        method="DELETE",
        path="/blobs/{digest}",
        handler=delete_blob,
        permission="content.write",
        adapter=ADAPTER,
        summary="Release the caller's pins of a blob",
        tag="blobs",
        answers={204: None},
        problems=(404,),
    ),
    _storing("PUT", "/blobs/", post_blob, "Store a blob of unknown digest"),
    _storing("POST", "/blobs/", post_blob, "Store a blob of unknown digest"),
    _storing("POST", "/blobs", post_blob, "Store a blob of unknown digest"),
    Route(
        method="POST",
        path="/api/v1/blobs/missing",
        handler=ask_missing,
        permission="content.read",
        adapter=ADAPTER,
        body="json",
        summary="Ask which of many blobs must be sent",
        tag="blobs",
        accepts=MissingQuestion,
        answers={200: MissingAnswer},
    ),
]
