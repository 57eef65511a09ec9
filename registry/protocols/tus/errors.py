"""How the tus door speaks of errors: status and code of every kind, as plain problem documents.

tus fixes no body for errors, so ours are those of the native API with the same codes. What differs
is what tus clients decide by: 460 for a wrong checksum, and ``Tus-Resumable`` on every answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web

from registry import errors as ours
from registry.http.adapters import Adapter, Rule, Table
from registry.http.problems import problem
from registry.keys import REQUEST_ID
from registry.protocols.tus.wire import VERSION
from store import errors as stored
from store.digest import InvalidDigest

CHECKSUM_MISMATCH_STATUS: Final = 460
"""A status of tus's own, which no registry of HTTP knows."""


class VersionMismatch(ours.PreconditionFailed):
    """``Tus-Resumable`` is missing or names a version that we do not speak."""

    code = "tus_version_mismatch"
    title = "This server speaks another version of tus"

    def __init__(self) -> None:
        super().__init__("Tus-Resumable", details={"supported": [VERSION]})


def _retry_soon(_: object) -> Mapping[str, str]:
    return {"Retry-After": "2"}


def _sizes(error: Any) -> Mapping[str, Any]:
    return {"expected": error.expected, "actual": error.actual}


def _digests(error: Any) -> Mapping[str, Any]:
    return {"expected": str(error.expected), "actual": str(error.actual)}


TUS: Final[Table] = {
    # What a session can meet; the statuses that tus fixes are among these.
    stored.UploadNotFound: Rule(404, "upload_not_found", "No such upload"),
    stored.UploadExpired: Rule(410, "upload_expired", "The upload has expired"),
    stored.UploadFinished: Rule(409, "upload_finished", "The upload is already finished"),
    stored.UploadLocked: Rule(
        423, "upload_locked", "Somebody else writes to the upload", headers=_retry_soon
    ),
    stored.UploadTaken: Rule(409, "upload_taken", "A newer request took over the upload"),
    stored.UploadTooLarge: Rule(
        413,
        "upload_too_large",
        "More bytes than the upload declared",
        members=lambda error: {"limit_bytes": error.limit},
    ),
    stored.OffsetConflict: Rule(
        409,
        "offset_conflict",
        "The upload stands at another offset",
        members=lambda error: {"expected": error.expected, "offset": error.actual},
        headers=lambda error: {"Upload-Offset": str(error.actual)},
    ),
    stored.ChecksumMismatch: Rule(
        CHECKSUM_MISMATCH_STATUS,
        "checksum_mismatch",
        "The bytes do not match their checksum",
        members=lambda error: {"algorithm": error.algorithm},
    ),
    stored.DigestMismatch: Rule(
        422, "digest_mismatch", "The bytes have another digest", members=_digests
    ),
    VersionMismatch: Rule(412, headers=lambda _: {"Tus-Version": VERSION}),
    # The rest of the store.
    InvalidDigest: Rule(400, "invalid_digest", "The digest is not well formed"),
    stored.BlobNotFound: Rule(404, "blob_not_found", "No such blob"),
    stored.SizeMismatch: Rule(
        400, "size_mismatch", "The body is not as long as declared", members=_sizes
    ),
    stored.RangeNotSatisfiable: Rule(
        416, "range_not_satisfiable", "The range lies outside the blob"
    ),
    stored.StorageFull: Rule(507, "storage_full", "There is no room for this"),
    stored.StorageReadOnly: Rule(507, "storage_read_only", "The storage cannot be written"),
    stored.TooManyOpenFiles: Rule(
        503, "too_many_open_files", "The server is out of file descriptors", headers=_retry_soon
    ),
    stored.Corrupt: Rule(500, "blob_damaged", "The stored bytes are damaged"),
    stored.IndexConflict: Rule(409, "index_conflict", "The change contradicts what is there"),
    stored.ArchiveUnavailable: Rule(
        503, "archive_unavailable", "The archive cannot be read", headers=_retry_soon
    ),
    stored.Unavailable: Rule(503, "unavailable", "Not possible right now", headers=_retry_soon),
    stored.StoreRefused: Rule(500, "store_refused", "The data directory cannot be used"),
    stored.CollectionRefused: Rule(409, "collection_refused", "Nothing was collected"),
    # The registry; code and title come with the error.
    ours.Invalid: Rule(400),
    ours.BodyMalformed: Rule(400),
    ours.SecretInConfig: Rule(422),
    ours.NotFound: Rule(404),
    ours.RouteNotFound: Rule(404),
    ours.Gone: Rule(410),
    ours.Conflict: Rule(409),
    ours.ContentMissing: Rule(409),
    ours.KeyInFlight: Rule(409, headers=lambda _: {"Retry-After": "1"}),
    ours.KeyReused: Rule(422),
    ours.PreconditionFailed: Rule(412),
    ours.PolicyViolation: Rule(403),
    ours.Denied: Rule(403),
    ours.ForeignOrigin: Rule(403),
    ours.UnnamedProxy: Rule(403),
    ours.WrongHost: Rule(421),
    ours.Unauthenticated: Rule(
        401, headers=lambda _: {"WWW-Authenticate": 'Basic realm="digestry", charset="UTF-8"'}
    ),
    ours.LoginFailed: Rule(401),
    ours.Throttled: Rule(
        429, headers=lambda error: {"Retry-After": str(max(1, error.retry_after_seconds))}
    ),
    ours.LimitReached: Rule(429),
    ours.QuotaExceeded: Rule(413),
    ours.QuotaReached: Rule(
        429, headers=lambda error: {"Retry-After": str(error.retry_after_seconds)}
    ),
    ours.BodyTooLarge: Rule(413),
    ours.LengthRequired: Rule(411),
    ours.UnsupportedMedia: Rule(415),
    ours.UnsupportedEncoding: Rule(415),
    ours.ExpectationFailed: Rule(417),
    ours.MethodNotAllowed: Rule(405, headers=lambda error: {"Allow": ", ".join(error.allowed)}),
    ours.Stalled: Rule(408),
    ours.ClientGone: Rule(499),
    ours.Draining: Rule(503, headers=_retry_soon),
}


def render(request: web.Request, error: BaseException, rule: Rule | None) -> web.Response:
    """Make the problem document; an unknown error gets a bare 500 that names only the request."""
    answer = _unknown(request) if rule is None else _known(request, error, rule)
    answer.headers["Tus-Resumable"] = VERSION
    return answer


def _known(request: web.Request, error: BaseException, rule: Rule) -> web.Response:
    code, title = rule.code or "", rule.title or ""
    members: dict[str, Any] = {}
    if isinstance(error, ours.RegistryError):
        code, title = code or error.code, title or error.title
        members.update(error.details)
    if rule.members is not None:
        members.update(rule.members(error))
    return problem(
        rule.status,
        code,
        title,
        str(error),
        request_id=request.get(REQUEST_ID, ""),
        errors=error.problems if isinstance(error, ours.Invalid) else (),
        members=members,
        headers=None if rule.headers is None else rule.headers(error),
    )


def _unknown(request: web.Request) -> web.Response:
    return problem(
        500,
        "internal_error",
        "Something went wrong in the server",
        "look for the request id in the server's log",
        request_id=request.get(REQUEST_ID, ""),
    )


ADAPTER: Final = Adapter(name="tus", table=TUS, render=render)
"""What the tus routes put into their `Route.adapter`."""
