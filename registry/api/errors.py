"""How the native API speaks of errors: every concrete error class, its status and its code.

The words are stable and documented in ``registry/API.md``; a test compares the two. Where the row
gives no code, the error brings its own. The members beside the prose are the facts a program needs.

Full and read-only storage are both 507: to a client they are one thing, a server that cannot keep
what it sends, and repeating the request at once is useless. A shortage that passes by itself (open
files, a busy index, a process on its way out) is 503 with ``Retry-After``. Damaged bytes are 500
``blob_damaged``: the request was right, the answer is lost until the blob is uploaded again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web

from registry import errors as ours
from registry.http.adapters import Adapter, Rule, Table
from registry.http.problems import problem
from registry.http.ranges import unsatisfied_range
from registry.keys import REQUEST_ID
from store import errors as stored
from store.digest import InvalidDigest

RETRY_SOON_SECONDS: Final = 2


def _retry_soon(_: object) -> Mapping[str, str]:
    return {"Retry-After": str(RETRY_SOON_SECONDS)}


def _expected_and_actual(error: Any) -> Mapping[str, Any]:
    return {"expected": _plain(error.expected), "actual": _plain(error.actual)}


def _plain(value: object) -> object:
    return value if isinstance(value, int) else str(value)


NATIVE: Final[Table] = {
    # The store.
    InvalidDigest: Rule(400, "invalid_digest", "The digest is not well formed"),
    stored.BlobNotFound: Rule(404, "blob_not_found", "No such blob"),
    stored.DigestMismatch: Rule(
        422, "digest_mismatch", "The bytes have another digest", _expected_and_actual
    ),
    stored.SizeMismatch: Rule(
        400, "size_mismatch", "The body is not as long as declared", _expected_and_actual
    ),
    stored.RangeNotSatisfiable: Rule(
        416,
        "range_not_satisfiable",
        "The range lies outside the blob",
        lambda error: {"size_bytes": error.size_bytes},
        lambda error: {"Content-Range": unsatisfied_range(error.size_bytes)},
    ),
    stored.StorageFull: Rule(507, "storage_full", "There is no room for this"),
    stored.StorageReadOnly: Rule(507, "storage_read_only", "The storage cannot be written"),
    stored.TooManyOpenFiles: Rule(
        503, "too_many_open_files", "The server is out of file descriptors", None, _retry_soon
    ),
    stored.Corrupt: Rule(
        500,
        "blob_damaged",
        "The stored bytes are damaged",
        lambda error: {"digest": str(error.digest)},
    ),
    stored.IndexConflict: Rule(409, "index_conflict", "The change breaks a rule of the index"),
    stored.ArchiveUnavailable: Rule(
        503,
        "archive_unavailable",
        "The archive cannot be read",
        lambda error: {"reason": error.reason},
        _retry_soon,
    ),
    stored.Unavailable: Rule(503, "unavailable", "Not possible right now", None, _retry_soon),
    stored.StoreRefused: Rule(500, "store_refused", "The data directory cannot be used"),
    stored.CollectionRefused: Rule(
        409, "collection_refused", "Nothing was collected", lambda error: {"reason": error.reason}
    ),
    stored.UploadNotFound: Rule(404, "upload_not_found", "No such upload"),
    stored.UploadExpired: Rule(410, "upload_expired", "The upload has expired"),
    stored.UploadFinished: Rule(409, "upload_finished", "The upload is already finished"),
    stored.UploadLocked: Rule(
        423, "upload_locked", "Somebody else writes to the upload", None, _retry_soon
    ),
    stored.UploadTaken: Rule(409, "upload_taken", "A newer request took over the upload"),
    stored.UploadTooLarge: Rule(
        413,
        "upload_too_large",
        "More bytes than the upload declared",
        lambda error: {"limit_bytes": error.limit},
    ),
    stored.OffsetConflict: Rule(
        409,
        "offset_conflict",
        "The upload stands at another offset",
        lambda error: {"expected": error.expected, "offset": error.actual},
        lambda error: {"Upload-Offset": str(error.actual)},
    ),
    stored.ChecksumMismatch: Rule(
        422,
        "checksum_mismatch",
        "The bytes do not match their checksum",
        lambda error: {"algorithm": error.algorithm},
    ),
    # The registry; the code comes with the error.
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
    ours.LoginFailed: Rule(401, headers=lambda _: {"WWW-Authenticate": 'Bearer realm="digestry"'}),
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
    ours.ClientGone: Rule(499, title="The client closed the connection"),
    ours.Draining: Rule(503, headers=_retry_soon),
}


def render(request: web.Request, error: BaseException, rule: Rule | None) -> web.Response:
    """Make the problem document; an unknown error gets a bare 500 that names only the request."""
    request_id = request.get(REQUEST_ID, "")
    if rule is None:
        return problem(
            500,
            "internal_error",
            "Something went wrong in the server",
            "look for the request id in the server's log",
            request_id=request_id,
        )
    code, title, members = rule.code or "", rule.title or "", dict[str, Any]()
    if isinstance(error, ours.RegistryError):
        code = code or error.code
        title = title or error.title
        members.update(error.details)
    if rule.members is not None:
        members.update(rule.members(error))
    return problem(
        rule.status,
        code,
        title,
        str(error),
        request_id=request_id,
        errors=error.problems if isinstance(error, ours.Invalid) else (),
        members=members,
        headers=None if rule.headers is None else rule.headers(error),
    )


ADAPTER: Final = Adapter(name="native", table=NATIVE, render=render)
"""What native routes put into their `Route.adapter`."""
