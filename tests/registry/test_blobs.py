"""Blobs over HTTP: what is stored, what is answered, and that bad input leaves nothing behind."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from base64 import b64encode
from collections.abc import AsyncIterator
from functools import partial

import msgspec
import pytest

from registry.config import Config, LimitsConfig
from registry.keys import DRAIN
from store.digest import EMPTY, Digest
from store.errors import StorageFull
from store.index import blobs as rows
from store.index import claims
from store.opening import Store
from store.segments import SEGMENT_BYTES
from tests.support.serving import Site, head, serving
from tests.support.storing import damage, lose, put, release

CONTENT = b"the bytes of a small model"
DIGEST = Digest.of(CONTENT)
LARGE = secrets.token_bytes(2 * SEGMENT_BYTES + 333)
LARGE_DIGEST = Digest.of(LARGE)
OTHER = Digest.of(b"something else")
LIMITED = Config(limits=LimitsConfig(blob_bytes=1000, json_bytes=4096, missing_digests=3))


def repr_digest(content: bytes) -> str:
    return f"sha-256=:{b64encode(hashlib.sha256(content).digest()).decode()}:"


async def pieces(*content: bytes) -> AsyncIterator[bytes]:
    """A body without a declared length."""
    for piece in content:
        yield piece


async def rows_of(site: Site) -> list[rows.BlobRow]:
    return await site.store.index.read(partial(rows.blobs_after, after=b"", limit=100))


async def assert_nothing_stored(site: Site) -> None:
    assert await site.staged() == []
    assert await site.stored() == []
    assert await rows_of(site) == []


# Storing.


@pytest.mark.parametrize("content", [b"", CONTENT, LARGE], ids=["empty", "small", "large"])
@pytest.mark.parametrize("name", ["sha256", "hex", "file name"])
async def test_put_answers_where_the_bytes_are(site: Site, content: bytes, name: str) -> None:
    digest = Digest.of(content)
    path = {"sha256": str(digest), "hex": digest.hex, "file name": "model.safetensors"}[name]

    answer = await site.ask("PUT", f"/blobs/{path}", data=content)

    expected = {"digest": str(digest), "size": len(content), "url": f"/blobs/{digest}"}
    assert answer.status == 201
    assert answer.json == expected
    assert answer.headers["Location"] == f"/blobs/{digest}"
    assert answer.headers["ETag"] == f'"{digest}"'
    assert answer.headers["Repr-Digest"] == repr_digest(content)
    assert (await site.ask("GET", answer.json["url"])).body == content


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/blobs"), ("POST", "/blobs/"), ("PUT", "/blobs/")]
)
async def test_bytes_without_a_name_are_stored(site: Site, method: str, path: str) -> None:
    answer = await site.ask(method, path, data=CONTENT)

    assert (answer.status, answer.json["digest"]) == (201, str(DIGEST))


async def test_a_body_of_unknown_length_is_stored(site: Site) -> None:
    answer = await site.ask("PUT", f"/blobs/{LARGE_DIGEST}", data=pieces(LARGE[:5], LARGE[5:]))

    assert answer.status == 201
    assert (await site.ask("GET", f"/blobs/{LARGE_DIGEST}")).body == LARGE


async def test_no_body_at_all_is_the_empty_blob(site: Site) -> None:
    answer = await site.ask("PUT", "/blobs/nothing.bin")

    assert answer.json["digest"] == str(EMPTY)
    assert (await site.ask("GET", f"/blobs/{EMPTY}")).body == b""


async def test_the_second_put_of_the_same_caller_is_200(site: Site) -> None:
    first = await site.ask("PUT", f"/blobs/{DIGEST}", data=CONTENT)
    second = await site.ask("PUT", "/blobs/again", data=CONTENT)

    assert (first.status, second.status) == (201, 200)
    assert first.json == second.json


async def test_identical_uploads_at_once_end_in_one_file(site: Site) -> None:
    answers = await asyncio.gather(
        *(site.ask("PUT", f"/blobs/{LARGE_DIGEST}", data=LARGE) for _ in range(8))
    )

    assert sorted(answer.status for answer in answers) == [200] * 7 + [201]
    assert await site.stored() == [str(LARGE_DIGEST)]
    assert len(await rows_of(site)) == 1
    assert (await site.ask("GET", f"/blobs/{LARGE_DIGEST}")).body == LARGE


@pytest.mark.parametrize("field", ["Repr-Digest", "Content-Digest"])
async def test_a_declared_digest_is_verified(site: Site, field: str) -> None:
    right = await site.ask(
        "PUT", "/blobs/a", data=CONTENT, headers={field: f"md5=:AAAA:, {repr_digest(CONTENT)}"}
    )
    wrong = await site.ask("PUT", "/blobs/a", data=LARGE, headers={field: repr_digest(CONTENT)})

    assert right.status == 201
    assert (wrong.status, wrong.code) == (422, "digest_mismatch")
    assert wrong.json["actual"] == str(LARGE_DIGEST)


# Bad input.


async def test_a_wrong_digest_is_answered_with_the_computed_one(site: Site) -> None:
    answer = await site.ask("PUT", f"/blobs/{OTHER}", data=CONTENT)

    assert (answer.status, answer.code) == (422, "digest_mismatch")
    assert answer.json["expected"] == str(OTHER)
    assert answer.json["actual"] == str(DIGEST)
    assert answer.headers["Content-Type"] == "application/problem+json"
    await assert_nothing_stored(site)


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("Repr-Digest", "sha-256=:AAAA:", "invalid_digest"),
        ("Content-Digest", "sha-256=nonsense", "invalid_digest"),
        ("Repr-Digest", repr_digest(b"other"), "digest_conflict"),
    ],
)
async def test_a_digest_field_that_cannot_hold_is_400(
    site: Site, field: str, value: str, code: str
) -> None:
    answer = await site.ask("PUT", f"/blobs/{DIGEST}", data=CONTENT, headers={field: value})

    assert (answer.status, answer.code) == (400, code)
    await assert_nothing_stored(site)


@pytest.mark.parametrize(
    "name",
    [
        DIGEST.hex.upper(),
        f"sha256:{DIGEST.hex.upper()}",
        f"sha256:{DIGEST.hex[:-1]}",
        f"sha256:{DIGEST.hex}0",
        f"SHA256:{DIGEST.hex}",
        f"sha512:{DIGEST.hex}",
        f"sha256%3A{DIGEST.hex[:-1]}",
        DIGEST.hex[:-1],
        DIGEST.hex + "0",
        "sha256:",
        ":",
        "C:model.bin",
    ],
)
@pytest.mark.parametrize("method", ["PUT", "GET", "HEAD", "DELETE"])
async def test_a_mistyped_digest_never_becomes_a_file_name(
    site: Site, method: str, name: str
) -> None:
    request = f"{method} /blobs/{name} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    body = (
        f"Content-Length: {len(CONTENT)}\r\n\r\n".encode() + CONTENT if method == "PUT" else b"\r\n"
    )

    status, _, rest = head(await site.raw(request.encode() + body))

    assert status == 400
    assert method == "HEAD" or b'"invalid_digest"' in rest
    await assert_nothing_stored(site)


@pytest.mark.parametrize(
    "path",
    [
        "/blobs/..",
        "/blobs/.",
        "/blobs/%2e%2e",
        "/blobs/%2E%2E%2Fx",
        "/blobs/..%2f..%2fetc%2fpasswd",
        "/blobs/%2fetc%2fpasswd",
        "/blobs/a%00b",
        "/blobs/a%0ab",
        "/blobs/a%7fb",
        "/blobs/a%5cb",
        "/blobs/" + "a" * 256,
        "/blobs/../index.sqlite3",
        "/blobs/sha256/ab/cd/x",
        "//blobs/x",
    ],
)
async def test_a_path_trick_stores_nothing(site: Site, path: str) -> None:
    request = (
        f"PUT {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx"
    )

    status, _, _ = head(await site.raw(request.encode()))

    assert status in (400, 404)
    await assert_nothing_stored(site)


async def test_a_file_name_may_be_of_any_script(site: Site) -> None:
    answer = await site.ask("PUT", "/blobs/mod%C3%A8le.bin", data=CONTENT)

    assert answer.status == 201


async def test_a_body_above_the_limit_is_413_before_it_is_read(store: Store) -> None:
    async with serving(store, LIMITED) as site:
        request = "PUT /blobs/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1001\r\n\r\n"
        status, headers, rest = head(await site.raw(request.encode()))

        assert status == 413
        assert headers["connection"] == "close"
        assert b'"body_too_large"' in rest
        await assert_nothing_stored(site)


async def test_a_body_above_the_limit_is_413_when_its_length_is_unknown(store: Store) -> None:
    async with serving(store, LIMITED) as site:
        answer = await site.ask("PUT", "/blobs/x", data=pieces(b"x" * 600, b"x" * 600))
        fits = await site.ask("PUT", "/blobs/x", data=pieces(b"x" * 600, b"x" * 400))

        assert (answer.status, answer.code) == (413, "body_too_large")
        assert fits.status == 201
        assert await site.staged() == []


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd", "deflate", "x-own"])
async def test_an_encoded_body_is_415(site: Site, encoding: str) -> None:
    answer = await site.ask("PUT", "/blobs/x", data=CONTENT, headers={"Content-Encoding": encoding})

    assert (answer.status, answer.code) == (415, "unsupported_encoding")
    await assert_nothing_stored(site)


@pytest.mark.parametrize(
    "chunks", [b"zz\r\n", b"-5\r\nhello\r\n0\r\n\r\n", b"5\r\nhelloX\r\n0\r\n\r\n"]
)
async def test_chunks_that_make_no_sense_store_nothing(site: Site, chunks: bytes) -> None:
    request = b"PUT /blobs/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"

    status, _, _ = head(await site.raw(request + chunks))

    assert status == 400
    await assert_nothing_stored(site)


@pytest.mark.parametrize("after", [0, 1, 100, SEGMENT_BYTES, SEGMENT_BYTES + 1, len(LARGE) - 1])
@pytest.mark.parametrize("how", ["close", "half close", "reset"])
async def test_a_client_that_leaves_at_any_byte_leaves_nothing(
    site: Site, after: int, how: str
) -> None:
    reader, writer = await site.connect()
    request = f"PUT /blobs/{LARGE_DIGEST} HTTP/1.1\r\nHost: localhost\r\n"
    writer.write(f"{request}Content-Length: {len(LARGE)}\r\n\r\n".encode() + LARGE[:after])
    await writer.drain()
    await site.until(lambda: _in_flight(site) == 1)
    if how == "half close":
        writer.write_eof()
        await asyncio.wait_for(reader.read(), 20)
    elif how == "reset":
        writer.transport.abort()
    writer.close()
    await site.until(lambda: _in_flight(site) == 0)

    await assert_nothing_stored(site)


def _in_flight(site: Site) -> int:
    return site.app[DRAIN].in_flight


@pytest.mark.parametrize("after", [0, 7, len(CONTENT)])
async def test_a_chunked_body_without_its_end_leaves_nothing(site: Site, after: int) -> None:
    _, writer = await site.connect()
    request = b"PUT /blobs/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = f"{after:x}\r\n".encode() + CONTENT[:after] + b"\r\n" if after else b""
    writer.write(request + chunk)
    await site.until(lambda: _in_flight(site) == 1)
    writer.close()
    await writer.wait_closed()
    await site.until(lambda: _in_flight(site) == 0)

    await assert_nothing_stored(site)


@pytest.mark.parametrize("where", ["admit", "append", "sync", "promote"])
async def test_a_full_disk_is_507_and_frees_what_was_staged(
    site: Site, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """And what is stored can still be read and released."""
    await site.ask("PUT", "/blobs/small", data=CONTENT)
    if where == "admit":

        async def no_room() -> tuple[int, int]:
            return 0, 1 << 40

        monkeypatch.setattr(site.store.blobs, "free_bytes", no_room)
        monkeypatch.setattr(
            site.store.ingest.intake,
            "_reserve",
            msgspec.structs.replace(site.store.ingest.intake._reserve, bytes=1 << 20),
        )
    else:
        _fail_staging(site, monkeypatch, where)

    answer = await site.ask("PUT", "/blobs/large", data=LARGE)

    assert (answer.status, answer.code) == (507, "storage_full")
    assert await site.staged() == []
    assert [row.digest for row in await rows_of(site)] == [DIGEST]
    assert (await site.ask("GET", f"/blobs/{DIGEST}")).body == CONTENT
    assert (await site.ask("DELETE", f"/blobs/{DIGEST}")).status == 204


def _fail_staging(site: Site, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """Make one step of every staged writer fail for want of space."""
    stage = site.store.blobs.stage

    async def failing_stage(session: str) -> object:
        writer = await stage(session)

        async def no_room(*_: object) -> None:
            raise StorageFull(1)

        def no_room_blocking(*_: object) -> None:
            raise StorageFull(1)

        if where == "append":
            monkeypatch.setattr(writer, "append_blocking", no_room_blocking)
        else:
            monkeypatch.setattr(writer, where, no_room)
        return writer

    monkeypatch.setattr(site.store.blobs, "stage", failing_stage)


# Reading and releasing.


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
async def test_a_missing_blob_is_404(site: Site, method: str) -> None:
    answer = await site.ask(method, f"/blobs/{DIGEST}")

    assert answer.status == 404
    assert method == "HEAD" or answer.code == "blob_not_found"


async def test_a_blob_nobody_owns_looks_exactly_like_a_missing_one(site: Site) -> None:
    """Its row is there, its file too; every door says what it says of a digest never seen."""
    digest = await put(site.store, CONTENT, owner="usr_gone")
    await release(site.store, digest, owner="usr_gone")
    never = Digest.of(b"never seen")

    for method in ("GET", "HEAD", "DELETE"):
        hidden = await site.ask(method, f"/blobs/{digest}")
        missing = await site.ask(method, f"/blobs/{never}")

        assert hidden.status == missing.status == 404
        assert hidden.headers.keys() == missing.headers.keys()
        if method != "HEAD":
            assert hidden.code == missing.code


async def test_release_answers_204_as_often_as_it_is_asked(site: Site) -> None:
    await site.ask("PUT", "/blobs/x", data=CONTENT)

    answers = [await site.ask("DELETE", f"/blobs/{DIGEST}") for _ in range(3)]

    assert [answer.status for answer in answers] == [204] * 3
    assert (await site.ask("GET", f"/blobs/{DIGEST}")).status == 404


async def test_release_leaves_what_others_own(site: Site) -> None:
    await site.ask("PUT", "/blobs/x", data=CONTENT)
    await put(site.store, CONTENT, owner="mdl_somebody")

    answers = [await site.ask("DELETE", f"/blobs/{DIGEST}") for _ in range(2)]

    assert [answer.status for answer in answers] == [204] * 2
    assert (await site.ask("GET", f"/blobs/{DIGEST}")).body == CONTENT


async def test_a_released_blob_can_be_put_again(site: Site) -> None:
    await site.ask("PUT", "/blobs/x", data=CONTENT)
    await site.ask("DELETE", f"/blobs/{DIGEST}")

    again = await site.ask("PUT", f"/blobs/{DIGEST}", data=CONTENT)

    assert again.status == 201
    assert (await site.ask("GET", f"/blobs/{DIGEST}")).body == CONTENT


async def test_what_changes_is_seen_by_the_next_request(site: Site) -> None:
    """Rows are remembered only until something is committed."""
    await site.ask("PUT", "/blobs/x", data=CONTENT)
    assert (await site.ask("GET", f"/blobs/{DIGEST}")).status == 200

    await release(site.store, DIGEST, owner="usr_local")

    assert (await site.ask("GET", f"/blobs/{DIGEST}")).status == 404


@pytest.mark.parametrize("content", [CONTENT, LARGE], ids=["small", "large"])
async def test_a_lost_file_is_a_clear_error_and_the_next_upload_heals_it(
    site: Site, content: bytes
) -> None:
    digest = Digest.of(content)
    await site.ask("PUT", "/blobs/x", data=content)
    await lose(site.store, digest)
    # Memory is verified while it is read; files are trusted since they were written, but missing.
    first = await site.ask("HEAD", f"/blobs/{digest}")
    assert first.status == 200
    if site.store.settings.root is not None:
        answer = await site.ask("GET", f"/blobs/{digest}")
        assert (answer.status, answer.code) == (500, "blob_damaged")
        await site.store.reading.settle()

    healed = await site.ask("PUT", f"/blobs/{digest}", data=content)

    assert healed.status == 200
    assert (await site.ask("GET", f"/blobs/{digest}")).body == content


# Asking for many.


async def test_missing_tells_what_to_send_and_leases_the_rest(site: Site) -> None:
    await site.ask("PUT", "/blobs/x", data=CONTENT)
    hidden = await put(site.store, b"hidden", owner="usr_gone")
    await release(site.store, hidden, owner="usr_gone")

    answer = await site.ask(
        "POST",
        "/api/v1/blobs/missing",
        json={"digests": [str(OTHER), str(DIGEST), DIGEST.hex, str(hidden), str(OTHER)]},
    )

    assert answer.status == 200
    assert answer.json["missing"] == [str(OTHER), str(hidden)]
    assert [entry["digest"] for entry in answer.json["present"]] == [str(DIGEST)]
    (lease,) = answer.json["leases"]
    assert lease["expires_at"] == answer.json["present"][0]["leased_until"]
    assert await site.store.index.read(partial(claims.is_leased, digest=DIGEST))
    assert not await site.store.index.read(partial(claims.is_leased, digest=hidden))


@pytest.mark.parametrize("harm", ["lost", "short"])
async def test_missing_includes_what_has_no_whole_file(site: Site, harm: str) -> None:
    await site.ask("PUT", "/blobs/x", data=CONTENT)
    if harm == "lost":
        await lose(site.store, DIGEST)
    else:
        await damage(site.store, DIGEST, CONTENT[:-1])

    answer = await site.ask("POST", "/api/v1/blobs/missing", json={"digests": [str(DIGEST)]})

    assert answer.json["missing"] == [str(DIGEST)]
    assert answer.json["leases"] == []


async def test_missing_takes_thousands(site: Site) -> None:
    await site.ask("PUT", "/blobs/x", data=CONTENT)
    asked = [str(Digest.of(str(number).encode())) for number in range(5000)]

    answer = await site.ask(
        "POST", "/api/v1/blobs/missing", json={"digests": [*asked, str(DIGEST)]}
    )

    assert answer.json["missing"] == asked
    assert len(answer.json["present"]) == 1


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "body_malformed"),
        (b"[]", 400, "invalid"),
        (b"{}", 400, "invalid"),
        (b'{"digests": "x"}', 400, "invalid"),
        (b'{"digests": ["sha256:abc"]}', 400, "invalid_digest"),
        (b'{"digests": ["%s"]}' % DIGEST.hex.upper().encode(), 400, "invalid_digest"),
        (
            b'{"digests": [%s]}' % b",".join([b'"%s"' % DIGEST.hex.encode()] * 4),
            400,
            "too_many_digests",
        ),
        (b'{"digests": ["' + b"x" * 5000 + b'"]}', 413, "body_too_large"),
    ],
)
async def test_a_bad_question_is_refused(store: Store, body: bytes, status: int, code: str) -> None:
    async with serving(store, LIMITED) as site:
        headers = {"Content-Type": "application/json"}
        answer = await site.ask("POST", "/api/v1/blobs/missing", data=body, headers=headers)

        assert (answer.status, answer.code) == (status, code)


async def test_a_question_that_is_not_json_is_415(site: Site) -> None:
    headers = {"Content-Type": "text/plain"}
    answer = await site.ask("POST", "/api/v1/blobs/missing", data=b"{}", headers=headers)

    assert (answer.status, answer.code) == (415, "unsupported_media_type")


# Acknowledging without the body.


def expecting(digest: Digest, size_bytes: int) -> bytes:
    return (
        f"PUT /blobs/{digest} HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
        f"Content-Length: {size_bytes}\r\n\r\n"
    ).encode()


async def test_a_known_digest_is_acknowledged_before_its_body(site: Site) -> None:
    await site.ask("PUT", "/blobs/x", data=LARGE)

    status, headers, rest = head(await site.raw(expecting(LARGE_DIGEST, len(LARGE))))

    assert status == 200
    assert headers["connection"] == "close"
    assert str(LARGE_DIGEST).encode() in rest


@pytest.mark.parametrize("why", ["missing", "hidden", "another size", "lost"])
async def test_what_cannot_be_acknowledged_is_asked_for(site: Site, why: str) -> None:
    """The row, the owner, the size and the file must all be there; else the bytes must travel."""
    size = len(CONTENT)
    if why == "hidden":
        await put(site.store, CONTENT, owner="usr_gone")
        await release(site.store, DIGEST, owner="usr_gone")
    elif why != "missing":
        await site.ask("PUT", "/blobs/x", data=CONTENT)
    if why == "lost":
        await lose(site.store, DIGEST)
    if why == "another size":
        size += 1
    reader, writer = await site.connect()
    writer.write(expecting(DIGEST, size))

    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"

    writer.write(CONTENT + b"!" * (size - len(CONTENT)))
    status, headers, _ = head(await reader.readuntil(b"\r\n\r\n"))
    assert status == {"missing": 201, "hidden": 201, "lost": 200, "another size": 422}[why]
    assert "connection" not in headers
    writer.close()


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"PUT /blobs/sha256:typo", 400),
        (b"PUT /nowhere", 404),
        (b"PATCH /blobs/x", 405),
        (b"PUT /blobs/" + b"x" * 300, 400),
    ],
)
async def test_a_refused_body_is_never_asked_for(
    site: Site, request_line: bytes, status: int
) -> None:
    sent = request_line + (
        b" HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
    )

    answered, headers, _ = head(await site.raw(sent))

    assert answered == status
    assert headers["connection"] == "close"


@pytest.mark.parametrize("acknowledged", [True, False], ids=["acknowledged", "refused"])
async def test_a_request_inside_an_unread_body_is_never_obeyed(
    site: Site, *, acknowledged: bool
) -> None:
    """Whoever does not wait for 100 sends the body; it must not be read as the next request."""
    smuggled = b"DELETE /blobs/%s HTTP/1.1\r\nHost: localhost\r\n\r\n" % str(DIGEST).encode()
    await site.ask("PUT", "/blobs/x", data=CONTENT)
    await site.ask("PUT", "/blobs/x", data=smuggled)
    target = str(Digest.of(smuggled)) if acknowledged else "sha256:typo"
    sent = f"PUT /blobs/{target} HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
    declared = f"Content-Length: {len(smuggled) + 1}\r\n\r\n"
    if acknowledged:
        declared = f"Content-Length: {len(smuggled)}\r\n\r\n"
    reader, writer = await site.connect()
    writer.write((sent + declared).encode())
    first = await reader.readuntil(b"\r\n\r\n")
    writer.write(smuggled)
    rest = await asyncio.wait_for(reader.read(), 20)
    writer.close()

    status, headers, _ = head(first)
    assert status == (200 if acknowledged else 400)
    assert headers["connection"] == "close"
    assert b"HTTP/1.1" not in rest
    assert (await site.ask("GET", f"/blobs/{DIGEST}")).status == 200


async def test_many_callers_of_one_digest_get_it_acknowledged(site: Site) -> None:
    await site.ask("PUT", "/blobs/x", data=LARGE)
    sent = expecting(LARGE_DIGEST, len(LARGE))

    answers = await asyncio.gather(*(site.raw(sent) for _ in range(20)))

    assert {head(answer)[0] for answer in answers} == {200}
