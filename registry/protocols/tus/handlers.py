"""The requests of tus 1.0: read the headers, call one service, write the headers.

Sections named below are those of https://tus.io/protocols/resumable-upload.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from typing import Final

from aiohttp import hdrs, web

from registry.errors import Invalid, MethodNotAllowed, UnsupportedMedia
from registry.http.receiving import body
from registry.http.routing import Handler, Media, Route
from registry.keys import PRINCIPAL, UPLOAD_SESSIONS
from registry.protocols.tus import wire
from registry.protocols.tus.errors import ADAPTER, CHECKSUM_MISMATCH_STATUS, VersionMismatch
from registry.services.uploads import Arrival
from store.uploads import CHECKSUMS, Checksum, Upload

_CHECKSUM_SIZES: Final = {
    name: hashlib.new(name, usedforsecurity=False).digest_size for name in CHECKSUMS
}
_RESUMABLE = "Tus-Resumable"
_OVERRIDE = "X-HTTP-Method-Override"


async def options_uploads(request: web.Request) -> web.Response:
    """What this server can do (section OPTIONS); the one request that needs no version."""
    headers = {
        "Tus-Version": wire.VERSION,
        "Tus-Extension": wire.listed(wire.EXTENSIONS),
        "Tus-Checksum-Algorithm": wire.listed(CHECKSUMS),
    }
    largest = request.app[UPLOAD_SESSIONS].limits.largest_upload
    if largest is not None:
        headers["Tus-Max-Size"] = str(largest)
    return web.Response(status=204, headers=headers)


async def post_uploads(request: web.Request) -> web.Response:
    """Make a session, perhaps with its first bytes (Creation, Creation With Upload)."""
    if "Upload-Concat" in request.headers:
        raise Invalid("Upload-Concat", "asks for an extension that this server does not offer")
    metadata = wire.parse_metadata(request.headers.getall("Upload-Metadata", []))
    upload = await request.app[UPLOAD_SESSIONS].create_upload(
        request[PRINCIPAL],
        length=wire.parse_length(
            request.headers.get("Upload-Length"), request.headers.get("Upload-Defer-Length")
        ),
        expected=metadata.digest,
        metadata=metadata.text,
        first=_arrival(request) if _size_of_body(request) != 0 else None,
    )
    headers = {hdrs.LOCATION: f"/uploads/{upload.id}", **_progress(upload)}
    return web.Response(status=201, headers=headers)


async def head_upload(request: web.Request) -> web.Response:
    """Where a client may continue (section HEAD), and the blob once there is one."""
    upload = await request.app[UPLOAD_SESSIONS].find_upload(request[PRINCIPAL], _session(request))
    headers = {hdrs.CACHE_CONTROL: "no-store", **_progress(upload)}
    if upload.length is None:
        headers["Upload-Defer-Length"] = "1"
    else:
        headers["Upload-Length"] = str(upload.length)
    if upload.metadata:
        headers["Upload-Metadata"] = upload.metadata
    return web.Response(headers=headers)


async def patch_upload(request: web.Request) -> web.Response:
    """Take bytes in at an offset (section PATCH); the last ones are answered with the blob."""
    length = request.headers.get("Upload-Length")
    upload = await request.app[UPLOAD_SESSIONS].append_to_upload(
        request[PRINCIPAL],
        _session(request),
        wire.parse_offset(request.headers.get("Upload-Offset")),
        _arrival(request),
        length=None if length is None else wire.parse_number("Upload-Length", length),
    )
    return web.Response(status=204, headers=_progress(upload))


async def delete_upload(request: web.Request) -> web.Response:
    """Forget a session (Termination)."""
    await request.app[UPLOAD_SESSIONS].cancel_upload(request[PRINCIPAL], _session(request))
    return web.Response(status=204)


async def post_upload(request: web.Request) -> web.StreamResponse:
    """As the method that ``X-HTTP-Method-Override`` names, for clients that cannot send it."""
    raise MethodNotAllowed(request.method, _AT_UPLOAD)


def _spoken(handler: Handler) -> Handler:
    """Refuse another version before anything happens, and name ours in the answer."""

    @functools.wraps(handler)
    async def speak(request: web.Request) -> web.StreamResponse:
        if request.headers.get(_RESUMABLE) != wire.VERSION:
            raise VersionMismatch
        answer = await handler(request)
        answer.headers[_RESUMABLE] = wire.VERSION
        return answer

    return speak


_AT_UPLOADS: Final[Mapping[str, Handler]] = {
    hdrs.METH_OPTIONS: options_uploads,
    hdrs.METH_POST: _spoken(post_uploads),
}
_AT_UPLOAD: Final[Mapping[str, Handler]] = {
    hdrs.METH_OPTIONS: options_uploads,
    hdrs.METH_HEAD: _spoken(head_upload),
    hdrs.METH_PATCH: _spoken(patch_upload),
    hdrs.METH_DELETE: _spoken(delete_upload),
}


def _dispatch(handlers: Mapping[str, Handler], documented: Handler) -> Handler:
    """Let ``X-HTTP-Method-Override`` name the method of a request that may change something.

    A safe method stays what it is: nothing that guards against other web sites looks at HEAD.
    """

    @functools.wraps(documented)
    async def dispatch(request: web.Request) -> web.StreamResponse:
        method = request.headers.get(_OVERRIDE, request.method)
        if method not in handlers:
            raise MethodNotAllowed(method, handlers)
        return await handlers[method](request)

    return dispatch


def _session(request: web.Request) -> str:
    return request.match_info["session"]


def _size_of_body(request: web.Request) -> int | None:
    """What the headers say; None for a body that comes in chunks."""
    if request.content_length is None and not request.body_exists:
        return 0
    return request.content_length


def _arrival(request: web.Request) -> Arrival:
    received = request.headers.get(hdrs.CONTENT_TYPE)
    if not wire.is_upload_content(received):
        raise UnsupportedMedia(wire.CONTENT_TYPE, received or "")
    if "upload-checksum" in request.headers.get(hdrs.TRAILER, "").lower():
        raise Invalid("Trailer", "cannot carry Upload-Checksum; send it as a header")
    claimed = wire.parse_checksum(request.headers.get("Upload-Checksum"), _CHECKSUM_SIZES)
    checksum = None if claimed is None else Checksum(claimed.algorithm, claimed.expected)
    return Arrival(body(request), _size_of_body(request), checksum)


def _progress(upload: Upload) -> dict[str, str]:
    """What every answer about a living session says: how far it is, until when, what it made."""
    headers = {
        "Upload-Offset": str(upload.offset),
        "Upload-Expires": wire.http_date(upload.expires_at),
    }
    if upload.digest is not None:
        headers["Repr-Digest"] = wire.repr_digest(upload.digest)
        headers[hdrs.CONTENT_LOCATION] = f"/blobs/{upload.digest}"
    return headers


_PROGRESS: Final = {
    "Tus-Resumable": "1.0.0",
    "Upload-Offset": "Where to continue.",
    "Upload-Expires": "Until when.",
    "Repr-Digest": "The SHA-256 of a complete upload.",
    "Content-Location": "The blob that a complete upload made.",
}
_BYTES: Final = Media(wire.CONTENT_TYPE, "Bytes of the upload, from its offset on.")
_VERSION: Final = {_RESUMABLE: ""}
_WITH_BYTES: Final = {
    **_VERSION,
    "Upload-Length": "",
    "Upload-Checksum": "`sha1`, `sha256` or `md5`, a space, and the base64 digest of this body.",
}
_FAILURES: Final = (400, 404, 405, 409, 410, 412, 413, 422, 423, 429, CHECKSUM_MISMATCH_STATUS)


def _options(path: str) -> Route:
    return Route(
        method=hdrs.METH_OPTIONS,
        path=path,
        handler=options_uploads,
        permission="public",
        adapter=ADAPTER,
        summary="Ask what the upload protocol offers",
        tag="uploads",
        answers={
            204: Media(
                "",
                "What is offered.",
                {
                    "Tus-Version": "1.0.0",
                    "Tus-Extension": "The extensions.",
                    "Tus-Checksum-Algorithm": "The algorithms of `Upload-Checksum`.",
                    "Tus-Max-Size": "The largest upload, where there is a limit.",
                },
            )
        },
    )


def _creation(path: str) -> Route:
    return Route(
        method=hdrs.METH_POST,
        path=path,
        handler=_dispatch(_AT_UPLOADS, post_uploads),
        permission="content.write",
        adapter=ADAPTER,
        body="bytes",
        summary="Begin an upload",
        tag="uploads",
        accepts=_BYTES,
        answers={
            201: Media("", "It has begun.", {"Location": "Its address.", **_PROGRESS}),
            204: Media("", "The answer to `OPTIONS` in `X-HTTP-Method-Override`."),
        },
        problems=_FAILURES,
        headers={
            **_WITH_BYTES,
            "Upload-Defer-Length": "",
            "Upload-Metadata": "`filename` and `digest`, each with its value in base64.",
        },
    )


def _at_upload(
    method: str, documented: Handler, summary: str, status: int, headers: Mapping[str, str]
) -> Route:
    takes_bytes = method in (hdrs.METH_POST, hdrs.METH_PATCH)
    is_safe = method == hdrs.METH_HEAD  # and means nothing else
    handler = _AT_UPLOAD[method] if is_safe else _dispatch(_AT_UPLOAD, documented)
    answers: dict[int, Media] = {status: Media("", "Where the upload stands.", _PROGRESS)}
    if method == hdrs.METH_POST:
        answers[200] = Media("", "The answer to `HEAD` in `X-HTTP-Method-Override`.", _PROGRESS)
    if method == hdrs.METH_DELETE:
        answers = {status: Media("", "It is forgotten.")}
    return Route(
        method=method,
        path="/uploads/{session}",
        handler=handler,
        permission="content.write",
        adapter=ADAPTER,
        body="bytes" if takes_bytes else "none",
        summary=summary,
        tag="uploads",
        accepts=_BYTES if takes_bytes else None,
        answers=answers,
        problems=_FAILURES,
        headers={**_VERSION, **headers},
    )


_APPENDING: Final = {**_WITH_BYTES, "Upload-Offset": ""}
_OVERRIDING: Final = {**_APPENDING, _OVERRIDE: "`HEAD`, `PATCH`, `DELETE` or `OPTIONS`."}

ROUTES: Final = [
    *(route for path in ("/uploads", "/uploads/") for route in (_options(path), _creation(path))),
    _options("/uploads/{session}"),
    _at_upload(hdrs.METH_HEAD, head_upload, "Ask where an upload stands", 200, {}),
    _at_upload(hdrs.METH_POST, post_upload, "Continue or forget, by POST", 204, _OVERRIDING),
    _at_upload(hdrs.METH_PATCH, patch_upload, "Continue an upload", 204, _APPENDING),
    _at_upload(hdrs.METH_DELETE, delete_upload, "Forget an upload", 204, {}),
]
