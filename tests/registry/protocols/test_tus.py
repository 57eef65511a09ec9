"""The tus door over HTTP: one table of requests and answers.

Sections in comments are those of https://tus.io/protocols/resumable-upload.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping

import msgspec
import pytest

from registry.domain.principals import LOCAL
from registry.protocols.tus import wire
from store.digest import EMPTY, Digest
from tests.registry.protocols.tus_door import (
    BYTES,
    CONTENT,
    DAY,
    DIGEST,
    LIFETIME_SECONDS,
    NOW,
    STRANGER,
    Door,
    b64,
    sha1,
)

Setup = Callable[[Door], Awaitable[str]]


async def nothing(door: Door) -> str:
    return "upl_unknown"


async def begun(door: Door) -> str:
    return await door.begin()


async def half(door: Door) -> str:
    session = await door.begin()
    assert (await door.patch(session, 0, CONTENT[:5]))[0] == 204
    return session


async def deferred(door: Door) -> str:
    session = await door.begin(None)
    assert (await door.patch(session, 0, CONTENT[:5]))[0] == 204
    return session


async def finished(door: Door) -> str:
    session = await door.begin()
    assert (await door.patch(session, 0, CONTENT))[0] == 204
    return session


async def cancelled(door: Door) -> str:
    session = await door.begin()
    await door.sessions.cancel_upload(LOCAL, session)
    return session


async def expired(door: Door) -> str:
    session = await half(door)
    door.clock.now += 8 * DAY
    return session


async def foreign(door: Door) -> str:
    upload = await door.sessions.create_upload(STRANGER, length=len(CONTENT))
    return upload.id


async def named(door: Door) -> str:
    return await door.begin(expected=DIGEST)


async def misnamed(door: Door) -> str:
    return await door.begin(expected=EMPTY)


PLACE = "/uploads/{session}"
LENGTH = {"Upload-Length": "10"}
AT_0 = {**BYTES, "Upload-Offset": "0"}
AT_5 = {**BYTES, "Upload-Offset": "5"}
AT_10 = {**BYTES, "Upload-Offset": "10"}
DONE = {
    "Upload-Offset": "10",
    "Repr-Digest": wire.repr_digest(DIGEST),
    "Content-Location": f"/blobs/{DIGEST}",
}
GOING = {"Repr-Digest": None, "Content-Location": None}
EXPIRES = {"Upload-Expires": wire.http_date(NOW + LIFETIME_SECONDS * 1_000_000)}


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One request; `says` maps headers of the answer to their values, None for absent."""

    name: str
    setup: Setup = nothing
    method: str
    path: str = PLACE
    sends: Mapping[str, str] = {}
    body: bytes | None = None
    status: int
    says: Mapping[str, str | None] = {}
    code: str | None = None


ROWS = [
    # OPTIONS: the only request without a version.
    *(
        Row(
            name=f"options of {path} tells what is offered",
            method="OPTIONS",
            path=path,
            sends={"Tus-Resumable": version},
            status=204,
            says={
                "Tus-Version": "1.0.0",
                "Tus-Extension": "creation,creation-with-upload,creation-defer-length,"
                "checksum,expiration,termination",
                "Tus-Checksum-Algorithm": "sha1,sha256,md5",
                "Tus-Max-Size": None,
            },
        )
        for path in ("/uploads", "/uploads/", "/uploads/any")
        for version in ("", "1.0.0", "9.9.9")
    ),
    # Tus-Resumable: 412 with the version we speak, and nothing happens.
    *(
        Row(
            name=f"{method} at {path} with version {version!r} is refused",
            setup=begun,
            method=method,
            path=path,
            sends={
                **LENGTH,
                **AT_0,
                "Tus-Resumable": version,
                "X-HTTP-Method-Override": override,
            },
            body=None if method in ("HEAD", "DELETE") else CONTENT,
            status=412,
            says={"Tus-Version": "1.0.0", "Tus-Resumable": "1.0.0"},
            code="tus_version_mismatch",
        )
        for method, path, override in (
            ("POST", "/uploads", ""),
            ("POST", PLACE, "PATCH"),
            ("HEAD", PLACE, ""),
            ("PATCH", PLACE, ""),
            ("DELETE", PLACE, ""),
        )
        for version in ("", "0.2.2", "1.0", "1.0.0, 0.2.2")
    ),
    # Creation.
    *(
        Row(
            name=f"a session is made at {path}",
            method="POST",
            path=path,
            sends=LENGTH,
            status=201,
            says={**EXPIRES, **GOING, "Tus-Resumable": "1.0.0", "Upload-Offset": "0"},
        )
        for path in ("/uploads", "/uploads/")
    ),
    Row(
        name="an empty upload is complete at once",
        method="POST",
        path="/uploads",
        sends={"Upload-Length": "0"},
        status=201,
        says={
            "Upload-Offset": "0",
            "Repr-Digest": wire.repr_digest(EMPTY),
            "Content-Location": f"/blobs/{EMPTY}",
        },
    ),
    Row(
        name="an empty upload with another digest is refused",
        method="POST",
        path="/uploads",
        sends={"Upload-Length": "0", "Upload-Metadata": f"digest {b64(str(DIGEST))}"},
        status=422,
        code="digest_mismatch",
    ),
    Row(
        name="a length may be deferred",
        method="POST",
        path="/uploads",
        sends={"Upload-Defer-Length": "1"},
        status=201,
    ),
    *(
        Row(
            name=f"a creation with {sends} is refused",
            method="POST",
            path="/uploads",
            sends=sends,
            status=400,
            code="invalid",
        )
        for sends in (
            {},
            {"Upload-Length": "-1"},
            {"Upload-Length": "1e3"},
            {"Upload-Length": str(2**63)},
            {"Upload-Defer-Length": "2"},
            {"Upload-Length": "1", "Upload-Defer-Length": "1"},
            {**LENGTH, "Upload-Metadata": "filename !!"},
            {**LENGTH, "Upload-Metadata": "a YQ==,a YQ=="},
            {**LENGTH, "Upload-Metadata": f"digest {b64('sha256:typo')}"},
            {**LENGTH, "Upload-Concat": "partial"},
            {"Upload-Concat": "final;/uploads/a /uploads/b"},
        )
    ),
    # Creation With Upload.
    Row(
        name="a creation takes the first bytes along",
        method="POST",
        path="/uploads",
        sends={**LENGTH, **BYTES},
        body=CONTENT[:4],
        status=201,
        says={**EXPIRES, **GOING, "Upload-Offset": "4"},
    ),
    Row(
        name="a creation takes everything along",
        method="POST",
        path="/uploads",
        sends={**LENGTH, **BYTES, "Upload-Checksum": sha1(CONTENT)},
        body=CONTENT,
        status=201,
        says=DONE,
    ),
    Row(
        name="a creation with bytes of another type is refused",
        method="POST",
        path="/uploads",
        sends={**LENGTH, "Content-Type": "application/octet-stream"},
        body=CONTENT,
        status=415,
        code="unsupported_media_type",
    ),
    Row(
        name="a creation with too many bytes is refused",
        method="POST",
        path="/uploads",
        sends={**LENGTH, **BYTES},
        body=CONTENT + b"!",
        status=413,
        code="upload_too_large",
    ),
    Row(
        name="a creation with a wrong checksum is refused",
        method="POST",
        path="/uploads",
        sends={**LENGTH, **BYTES, "Upload-Checksum": sha1(b"other")},
        body=CONTENT,
        status=460,
        code="checksum_mismatch",
    ),
    Row(
        name="a creation with a wrong digest is refused",
        method="POST",
        path="/uploads",
        sends={**LENGTH, **BYTES, "Upload-Metadata": f"digest {b64(str(EMPTY))}"},
        body=CONTENT,
        status=422,
        code="digest_mismatch",
    ),
    # HEAD.
    Row(
        name="head of a new session",
        setup=begun,
        method="HEAD",
        status=200,
        says={
            **EXPIRES,
            **GOING,
            "Upload-Offset": "0",
            "Upload-Length": "10",
            "Upload-Metadata": None,
            "Upload-Defer-Length": None,
            "Cache-Control": "no-store",
            "Tus-Resumable": "1.0.0",
        },
    ),
    Row(
        name="head of a session half way",
        setup=half,
        method="HEAD",
        status=200,
        says={"Upload-Offset": "5", "Upload-Length": "10", **GOING},
    ),
    Row(
        name="head of a session of unknown length",
        setup=deferred,
        method="HEAD",
        status=200,
        says={"Upload-Offset": "5", "Upload-Length": None, "Upload-Defer-Length": "1"},
    ),
    Row(
        name="head of a finished session names the blob",
        setup=finished,
        method="HEAD",
        status=200,
        says={**DONE, "Upload-Length": "10", "Cache-Control": "no-store"},
    ),
    # PATCH.
    Row(
        name="bytes are taken in",
        setup=begun,
        method="PATCH",
        sends=AT_0,
        body=CONTENT[:5],
        status=204,
        says={**EXPIRES, **GOING, "Upload-Offset": "5", "Tus-Resumable": "1.0.0"},
    ),
    Row(
        name="the last bytes are answered with the blob",
        setup=half,
        method="PATCH",
        sends=AT_5,
        body=CONTENT[5:],
        status=204,
        says=DONE,
    ),
    Row(
        name="no bytes are fine too",
        setup=half,
        method="PATCH",
        sends=AT_5,
        status=204,
        says={"Upload-Offset": "5", **GOING},
    ),
    Row(
        name="all bytes in one request",
        setup=named,
        method="PATCH",
        sends=AT_0,
        body=CONTENT,
        status=204,
        says=DONE,
    ),
    Row(
        name="another content type is refused",
        setup=begun,
        method="PATCH",
        sends={"Content-Type": "application/octet-stream", "Upload-Offset": "0"},
        body=CONTENT,
        status=415,
        code="unsupported_media_type",
    ),
    *(
        Row(
            name=f"offset {offset!r} is refused",
            setup=begun,
            method="PATCH",
            sends={**BYTES, "Upload-Offset": offset},
            body=CONTENT,
            status=400,
            code="invalid",
        )
        for offset in ("", "-1", "x", str(2**64))
    ),
    *(
        Row(
            name=f"{sends['Upload-Offset']} is not where a {setup.__name__} session stands",
            setup=setup,
            method="PATCH",
            sends=sends,
            body=CONTENT[:5],
            status=409,
            says={"Upload-Offset": offset, "Tus-Resumable": "1.0.0"},
            code="offset_conflict",
        )
        for setup, sends, offset in (
            (begun, AT_5, "0"),
            (half, AT_0, "5"),
            (half, AT_10, "5"),
            (finished, AT_0, "10"),
            (deferred, AT_0, "5"),
        )
    ),
    Row(
        name="more bytes than declared are refused",
        setup=half,
        method="PATCH",
        sends=AT_5,
        body=CONTENT,
        status=413,
        code="upload_too_large",
    ),
    Row(
        name="more bytes after the end are refused",
        setup=finished,
        method="PATCH",
        sends=AT_10,
        body=b"!",
        status=413,
        code="upload_too_large",
    ),
    Row(
        name="a retry after a lost last answer gets that answer",
        setup=finished,
        method="PATCH",
        sends=AT_10,
        status=204,
        says=DONE,
    ),
    Row(
        name="a wrong digest discards everything",
        setup=misnamed,
        method="PATCH",
        sends=AT_0,
        body=CONTENT,
        status=422,
        code="digest_mismatch",
    ),
    # Upload-Length of a deferred upload.
    Row(
        name="the length comes with the last bytes",
        setup=deferred,
        method="PATCH",
        sends={**AT_5, "Upload-Length": "10"},
        body=CONTENT[5:],
        status=204,
        says=DONE,
    ),
    Row(
        name="the length comes without bytes",
        setup=deferred,
        method="PATCH",
        sends={**AT_5, "Upload-Length": "5"},
        status=204,
        says={
            "Upload-Offset": "5",
            "Content-Location": f"/blobs/{Digest.of(CONTENT[:5])}",
        },
    ),
    Row(
        name="the length comes before the end",
        setup=deferred,
        method="PATCH",
        sends={**AT_5, "Upload-Length": "10"},
        body=CONTENT[5:8],
        status=204,
        says={"Upload-Offset": "8", **GOING},
    ),
    Row(
        name="a length below what is there is refused",
        setup=deferred,
        method="PATCH",
        sends={**AT_5, "Upload-Length": "4"},
        status=400,
        code="invalid",
    ),
    Row(
        name="a length is not changed",
        setup=half,
        method="PATCH",
        sends={**AT_5, "Upload-Length": "11"},
        body=CONTENT[5:],
        status=400,
        code="invalid",
    ),
    Row(
        name="a length may be repeated",
        setup=half,
        method="PATCH",
        sends={**AT_5, "Upload-Length": "10"},
        body=CONTENT[5:],
        status=204,
        says=DONE,
    ),
    # Checksum.
    *(
        Row(
            name=f"a {algorithm} checksum that matches",
            setup=half,
            method="PATCH",
            sends={
                **AT_5,
                "Upload-Checksum": f"{algorithm} "
                + b64(hashlib.new(algorithm, CONTENT[5:]).digest()),
            },
            body=CONTENT[5:],
            status=204,
            says=DONE,
        )
        for algorithm in ("sha1", "sha256", "md5")
    ),
    Row(
        name="a checksum that does not match",
        setup=half,
        method="PATCH",
        sends={**AT_5, "Upload-Checksum": sha1(b"other")},
        body=CONTENT[5:],
        status=460,
        says={"Tus-Resumable": "1.0.0"},
        code="checksum_mismatch",
    ),
    *(
        Row(
            name=f"the checksum {checksum!r} is refused",
            setup=half,
            method="PATCH",
            sends={**AT_5, "Upload-Checksum": checksum},
            body=CONTENT[5:],
            status=400,
            code="invalid",
        )
        for checksum in ("crc32 AAAAAA==", "sha1", "sha1 %%%", f"sha1 {b64('short')}")
    ),
    Row(
        name="a checksum in a trailer is refused",
        setup=half,
        method="PATCH",
        sends={**AT_5, "Trailer": "Upload-Checksum"},
        body=CONTENT[5:],
        status=400,
        code="invalid",
    ),
    # Encodings and expectations.
    Row(
        name="an encoded body is refused",
        setup=begun,
        method="PATCH",
        sends={**AT_0, "Content-Encoding": "zstd"},
        body=CONTENT,
        status=415,
        code="unsupported_encoding",
    ),
    # Termination.
    Row(
        name="a session is forgotten",
        setup=half,
        method="DELETE",
        status=204,
        says={"Tus-Resumable": "1.0.0"},
    ),
    Row(name="a finished session is forgotten", setup=finished, method="DELETE", status=204),
    # Sessions that are not there, or not there for us.
    *(
        Row(
            name=f"{method} of a {setup.__name__} session",
            setup=setup,
            method=method,
            sends=AT_0 if method == "PATCH" else {},
            body=CONTENT if method == "PATCH" else None,
            status=status,
            says={"Upload-Offset": None, "Tus-Resumable": "1.0.0"},
            code=code,
        )
        for setup, status, code in (
            (nothing, 404, "upload_not_found"),
            (cancelled, 404, "upload_not_found"),
            (foreign, 404, "upload_not_found"),
            (expired, 410, "upload_expired"),
        )
        for method in ("HEAD", "PATCH", "DELETE")
    ),
    *(
        Row(name=f"{path} is no session", method="HEAD", path=path, status=404)
        for path in ("/uploads/%00", "/uploads/..%2f..", "/uploads/%ff", "/uploads/" + "x" * 4000)
    ),
    # X-HTTP-Method-Override.
    Row(
        name="POST may mean PATCH",
        setup=half,
        method="POST",
        sends={**AT_5, "X-HTTP-Method-Override": "PATCH"},
        body=CONTENT[5:],
        status=204,
        says=DONE,
    ),
    Row(
        name="POST may mean HEAD",
        setup=half,
        method="POST",
        sends={"X-HTTP-Method-Override": "HEAD"},
        status=200,
        says={"Upload-Offset": "5"},
    ),
    Row(
        name="POST may mean DELETE",
        setup=half,
        method="POST",
        sends={"X-HTTP-Method-Override": "DELETE"},
        status=204,
        says={"Upload-Offset": None},
    ),
    Row(
        name="POST may mean OPTIONS, then without a version",
        method="POST",
        path="/uploads",
        sends={"X-HTTP-Method-Override": "OPTIONS", "Tus-Resumable": ""},
        status=204,
        says={"Tus-Version": "1.0.0"},
    ),
    Row(
        name="HEAD never means anything else",
        setup=half,
        method="HEAD",
        sends={"X-HTTP-Method-Override": "DELETE"},
        status=200,
        says={"Upload-Offset": "5"},
    ),
    Row(
        name="POST to a session means nothing by itself",
        setup=half,
        method="POST",
        status=405,
        says={"Allow": "DELETE, HEAD, OPTIONS, PATCH"},
        code="method_not_allowed",
    ),
    Row(
        name="an unknown method is refused",
        setup=half,
        method="POST",
        sends={"X-HTTP-Method-Override": "MOVE"},
        status=405,
        code="method_not_allowed",
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
async def test_table(door: Door, row: Row) -> None:
    session = await row.setup(door)

    status, headers, problem = await door.send(
        row.method, row.path.format(session=session), headers=row.sends, body=row.body
    )

    assert (status, problem.get("code")) == (row.status, row.code if row.method != "HEAD" else None)
    assert {name: headers.get(name) for name in row.says} == row.says
    if status >= 400 and row.method != "HEAD":
        assert headers["Content-Type"] == "application/problem+json"
        assert problem["type"] == f"urn:digestry:problem:{row.code}"
