"""Whole tus uploads over HTTP: what a table of single requests cannot say."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec
import pytest
from aiohttp import web

from registry.api.errors import NATIVE
from registry.domain.principals import LOCAL
from registry.protocols.tus import wire
from registry.protocols.tus.errors import ADAPTER, TUS, VersionMismatch
from registry.services.uploads import UploadLimits
from store.digest import EMPTY
from store.errors import ChecksumMismatch, StorageFull, UploadLocked, UploadTaken
from store.index.uploads import upload_epoch
from store.uploads import Upload
from tests.contracts.adapter_errors import AdapterErrorContract
from tests.registry.protocols.test_tus import (
    AT_0,
    DONE,
    LENGTH,
    expired,
    finished,
    half,
    misnamed,
)
from tests.registry.protocols.tus_door import (
    BYTES,
    CONTENT,
    DAY,
    DIGEST,
    LARGE,
    LARGE_DIGEST,
    NOW,
    STRANGER,
    Door,
    b64,
    sha1,
)

# Whole uploads.


async def test_an_upload_in_pieces_becomes_a_blob(door: Door) -> None:
    status, headers, _ = await door.send("POST", "/uploads", headers=LENGTH)
    assert status == 201
    place = headers["Location"]
    assert place.startswith("/uploads/")

    for offset in range(0, 10, 3):
        piece = CONTENT[offset : offset + 3]
        sent = {**BYTES, "Upload-Offset": str(offset)}
        assert await door.stored(DIGEST) is None
        status, headers, _ = await door.send("PATCH", place, headers=sent, body=piece)
        assert (status, headers["Upload-Offset"]) == (204, str(offset + len(piece)))

    assert headers["Content-Location"] == f"/blobs/{DIGEST}"
    assert await door.stored(DIGEST) == CONTENT


async def test_an_empty_upload_becomes_the_empty_blob(door: Door) -> None:
    _, headers, _ = await door.send("POST", "/uploads", headers={"Upload-Length": "0"})

    assert await door.stored(EMPTY) == b""
    status, again, _ = await door.send("HEAD", headers["Location"])
    assert status == 200
    assert again["Upload-Offset"] == again["Upload-Length"] == "0"
    assert again["Content-Location"] == f"/blobs/{EMPTY}"


async def test_metadata_is_echoed_as_it_was_sent(door: Door) -> None:
    text = f"filename {b64('model.bin')},unknown {b64('kept')},flag"

    _, made, _ = await door.send("POST", "/uploads", headers={**LENGTH, "Upload-Metadata": text})
    _, headers, _ = await door.send("HEAD", made["Location"])

    assert headers["Upload-Metadata"] == text


async def test_a_digest_in_the_metadata_is_verified(door: Door) -> None:
    sent = {**LENGTH, "Upload-Metadata": f"digest {b64(str(DIGEST))}"}
    _, made, _ = await door.send("POST", "/uploads", headers=sent)

    status, headers, _ = await door.send("PATCH", made["Location"], headers=AT_0, body=CONTENT)

    assert (status, headers["Content-Location"]) == (204, f"/blobs/{DIGEST}")


async def test_a_wrong_digest_names_the_computed_one_and_leaves_nothing(door: Door) -> None:
    session = await misnamed(door)

    status, _, problem = await door.patch(session, 0, CONTENT)

    assert status == 422
    assert (problem["expected"], problem["actual"]) == (str(EMPTY), str(DIGEST))
    assert (await door.send("HEAD", f"/uploads/{session}"))[0] == 404
    assert await door.stored(DIGEST) is None
    assert await door.staged() == []


@pytest.mark.parametrize(
    "sends",
    [
        {"Upload-Checksum": sha1(b"other")},
        {"Upload-Metadata": f"digest {b64(str(EMPTY))}"},
        {"Content-Type": "text/plain"},
        {"Upload-Length": "9"},
    ],
    ids=lambda sends: next(iter(sends)),
)
async def test_a_creation_that_fails_makes_nothing(door: Door, sends: dict[str, str]) -> None:
    sent = {**LENGTH, **BYTES, **sends}

    status, headers, _ = await door.send("POST", "/uploads", headers=sent, body=CONTENT)

    assert status >= 400
    assert "Location" not in headers
    assert await door.store.uploads.count(LOCAL.id) == (0, 0)
    assert await door.staged() == []


async def test_a_patch_with_a_wrong_checksum_is_dropped_whole(door: Door) -> None:
    session = await half(door)

    assert (await door.patch(session, 5, b"wrong", Upload_Checksum=sha1(CONTENT[5:])))[0] == 460
    assert await door.offset(session) == 5
    status, headers, _ = await door.patch(
        session, 5, CONTENT[5:], Upload_Checksum=sha1(CONTENT[5:])
    )

    assert (status, headers["Content-Location"]) == (204, f"/blobs/{DIGEST}")


async def test_termination_frees_the_staged_bytes(door: Door) -> None:
    session = await half(door)

    assert (await door.send("DELETE", f"/uploads/{session}"))[0] == 204

    assert await door.staged() == []
    assert (await door.send("DELETE", f"/uploads/{session}"))[0] == 404
    assert (await door.patch(session, 5, CONTENT[5:]))[0] == 404


async def test_forgetting_a_finished_session_keeps_its_blob(door: Door) -> None:
    session = await finished(door)

    assert (await door.send("DELETE", f"/uploads/{session}"))[0] == 204

    assert (await door.send("HEAD", f"/uploads/{session}"))[0] == 404
    assert await door.stored(DIGEST) == CONTENT


async def test_each_patch_moves_the_expiry(door: Door) -> None:
    session = await half(door)
    door.clock.now += 6 * DAY

    _, headers, _ = await door.patch(session, 5, CONTENT[5:8])

    assert headers["Upload-Expires"] == wire.http_date(NOW + 13 * DAY)
    door.clock.now += 6 * DAY
    assert await door.offset(session) == 8


async def test_an_expired_session_is_410_and_404_once_it_is_swept(door: Door) -> None:
    session = await expired(door)
    assert (await door.send("HEAD", f"/uploads/{session}"))[0] == 410

    assert await door.store.uploads.expire() == 1

    assert (await door.send("HEAD", f"/uploads/{session}"))[0] == 404
    assert await door.staged() == []


async def test_a_finished_session_answers_until_it_expires(door: Door) -> None:
    session = await finished(door)
    door.clock.now += 6 * DAY
    status, headers, _ = await door.send("HEAD", f"/uploads/{session}")
    assert (status, headers["Repr-Digest"]) == (200, wire.repr_digest(DIGEST))

    door.clock.now += 2 * DAY

    assert (await door.send("HEAD", f"/uploads/{session}"))[0] == 410
    assert await door.stored(DIGEST) == CONTENT


async def test_a_body_in_chunks_is_taken_in(door: Door) -> None:
    session = await door.begin()

    async def chunks() -> AsyncIterator[bytes]:
        for byte in CONTENT:
            yield bytes([byte])

    status, headers, _ = await door.patch(session, 0, chunks())

    assert (status, headers["Content-Location"]) == (204, f"/blobs/{DIGEST}")


async def test_chunks_beyond_the_length_are_refused(door: Door) -> None:
    session = await door.begin()

    async def chunks() -> AsyncIterator[bytes]:
        yield CONTENT + b"!"

    assert (await door.patch(session, 0, chunks()))[0] == 413
    assert await door.stored(DIGEST) is None


async def test_a_refused_patch_moves_nothing(door: Door) -> None:
    session = await half(door)

    for offset, body, status in ((0, CONTENT, 409), (5, CONTENT, 413), (6, b"", 409)):
        assert (await door.patch(session, offset, body))[0] == status
        assert await door.offset(session) == 5


async def test_two_uploads_of_the_same_bytes_make_one_blob(door: Door) -> None:
    sessions = [await door.begin() for _ in range(4)]

    answers = await asyncio.gather(*(door.patch(session, 0, CONTENT) for session in sessions))

    assert {status for status, _, _ in answers} == {204}
    assert [info.digest async for page in door.store.blobs.list() for info in page] == [DIGEST]


async def test_patches_at_one_offset_never_mix(door: Door) -> None:
    """Each may be overtaken, the one that wrote too; whoever asks then finds the upload whole."""
    session = await door.begin()

    answers = await asyncio.gather(*(door.patch(session, 0, CONTENT) for _ in range(4)))

    assert {status for status, _, _ in answers} <= {204, 409, 423}
    await resume(door, session, CONTENT)
    assert await door.stored(DIGEST) == CONTENT


async def test_head_finishes_what_a_dead_server_left(door: Door) -> None:
    """All bytes are there, the process died before the blob: an offset alone would be a lie."""
    session = await half(door)
    await leave_unfinished(door, session)
    assert await door.stored(DIGEST) is None

    status, headers, _ = await door.send("HEAD", f"/uploads/{session}")

    assert status == 200
    assert {name: headers.get(name) for name in DONE} == DONE
    assert await door.stored(DIGEST) == CONTENT


async def test_an_empty_patch_finishes_what_a_dead_server_left(door: Door) -> None:
    session = await half(door)
    await leave_unfinished(door, session)

    status, headers, _ = await door.patch(session, 10, b"")

    assert status == 204
    assert {name: headers.get(name) for name in DONE} == DONE
    assert await door.stored(DIGEST) == CONTENT


async def leave_unfinished(door: Door, session: str) -> None:
    """What the disk holds when the process died after the last byte was written."""
    writer = await door.store.blobs.reopen(session)
    writer.append_blocking(5, [CONTENT[5:]])
    await writer.sync()
    await writer.close()


async def test_head_leaves_finishing_to_whoever_is_at_it(door: Door) -> None:
    session = await half(door)
    door.sessions.finish_wait_seconds = 30
    before = await door.store.uploads.get(session)
    seen: list[Upload] = [msgspec.structs.replace(before, offset=10, is_held=True)]
    original = door.store.uploads.get

    async def get(name: str) -> Upload:
        if seen:
            await door.store.uploads.append(name, 5, whole())
            return seen.pop()
        return await original(name)

    async def whole() -> AsyncIterator[bytes]:
        yield CONTENT[5:]

    door.sessions._uploads = _With(door.store.uploads, get=get)  # type: ignore[assignment]  # a stand-in

    found = await door.sessions.find_upload(LOCAL, session)

    assert found.digest == DIGEST


class _With:
    """Another object with some attributes replaced."""

    def __init__(self, other: object, **replaced: object) -> None:
        self.__dict__.update(replaced, _other=other)

    def __getattr__(self, name: str) -> object:
        return getattr(self._other, name)


# Broken connections.


class Wire:
    """A PATCH sent by hand, perhaps with less body than announced."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def line(self) -> bytes:
        async with asyncio.timeout(10):
            return await self.reader.readline()

    async def everything(self) -> bytes:
        async with asyncio.timeout(10):
            return await self.reader.read()

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


@contextlib.asynccontextmanager
async def raw_patch(
    door: Door, session: str, offset: int, body: bytes, *, length: int, extra: str = ""
) -> AsyncIterator[Wire]:
    """Announce `length` bytes and send `body`; the connection is closed at the end."""
    wire_ = Wire(*await asyncio.open_connection("127.0.0.1", door.port))
    head = (
        f"PATCH /uploads/{session} HTTP/1.1\r\nHost: 127.0.0.1\r\nTus-Resumable: 1.0.0\r\n"
        f"Upload-Offset: {offset}\r\nContent-Type: {wire.CONTENT_TYPE}\r\n"
        f"Content-Length: {length}\r\n{extra}\r\n"
    )
    try:
        wire_.writer.write(head.encode() + body)
        await wire_.writer.drain()
        yield wire_
    finally:
        await wire_.close()


async def until(door: Door, session: str, least: int) -> int:
    """Wait until a session stands at `least` or beyond, disturbing nobody; return where."""
    async with asyncio.timeout(10):
        while (offset := (await door.store.uploads.get(session)).offset) < least:
            await asyncio.sleep(0.005)
    return offset


async def taken(door: Door, session: str) -> None:
    """Wait until somebody has begun to write."""
    async with asyncio.timeout(10):
        while await door.store.index.read(lambda tx: upload_epoch(tx, session)) == 1:
            await asyncio.sleep(0.001)


async def resume(door: Door, session: str, content: bytes) -> Mapping[str, str]:
    """Do what clients do after a cut: ask for the offset and go on from there."""
    offset = await door.offset(session)
    status, headers, _ = await door.patch(session, offset, content[offset:])
    assert status == 204
    return headers


@pytest.mark.parametrize("cut", range(10))
async def test_what_a_broken_patch_delivered_is_kept(door: Door, cut: int) -> None:
    session = await door.begin()

    async with raw_patch(door, session, 0, CONTENT[:cut], length=10):
        await taken(door, session)

    assert await until(door, session, cut) == cut
    headers = await resume(door, session, CONTENT)
    assert headers["Content-Location"] == f"/blobs/{DIGEST}"
    assert await door.stored(DIGEST) == CONTENT


@pytest.mark.parametrize("cut", [1, 5, 9])
async def test_a_broken_patch_with_a_checksum_is_dropped_whole(door: Door, cut: int) -> None:
    session = await door.begin()
    checksum = f"Upload-Checksum: {sha1(CONTENT)}\r\n"

    async with raw_patch(door, session, 0, CONTENT[:cut], length=10, extra=checksum):
        await taken(door, session)

    assert await door.offset(session) == 0
    status, _, _ = await door.patch(session, 0, CONTENT, Upload_Checksum=sha1(CONTENT))
    assert status == 204
    assert await door.stored(DIGEST) == CONTENT


async def test_a_large_upload_survives_cuts_at_many_places(door: Door) -> None:
    session = await door.begin(len(LARGE))
    offset = 0

    for wanted in (1, 65_536, 1_048_575, 1_048_576, 1_048_577, 2_500_000):
        async with raw_patch(
            door, session, offset, LARGE[offset:wanted], length=len(LARGE) - offset
        ):
            pass
        offset = await until(door, session, wanted)
        assert offset == wanted
    status, headers, _ = await door.patch(session, offset, LARGE[offset:])

    assert (status, headers["Content-Location"]) == (204, f"/blobs/{LARGE_DIGEST}")
    assert await door.stored(LARGE_DIGEST) == LARGE


async def test_a_batch_on_its_way_when_the_offset_was_asked_for_does_not_land_after_it(
    door: Door,
) -> None:
    """The old connection still has bytes for us, and sends them between HEAD and PATCH."""
    session = await door.begin(len(LARGE))
    door.sessions.end_wait_seconds = 0

    async with raw_patch(door, session, 0, LARGE[:1_500_000], length=len(LARGE)) as old:
        await until(door, session, 1 << 20)
        offset = await door.offset(session)
        old.writer.write(LARGE[1_500_000:])
        assert b" 409 " in await old.line()
        status, headers, _ = await door.patch(session, offset, LARGE[offset:])

    assert (status, headers["Content-Location"]) == (204, f"/blobs/{LARGE_DIGEST}")
    assert await door.stored(LARGE_DIGEST) == LARGE


async def test_a_patch_let_in_before_the_offset_was_asked_for_does_not_begin_after_it(
    door: Door,
) -> None:
    """Nobody held the session when HEAD was answered, and its client goes on from there."""
    session = await half(door)
    uploads = door.store.uploads
    let_in, answered = asyncio.Event(), asyncio.Event()
    door.sessions.end_wait_seconds = 0

    async def append(*arguments: Any, **named: Any) -> Upload:
        door.sessions._uploads = uploads
        let_in.set()
        await answered.wait()
        return await uploads.append(*arguments, **named)

    door.sessions._uploads = _With(uploads, append=append)  # type: ignore[assignment]  # a stand-in
    old = asyncio.ensure_future(door.patch(session, 5, b"56"))
    await let_in.wait()
    offset = await door.offset(session)
    answered.set()
    status, _, problem = await old

    assert (status, problem["code"]) == (409, "upload_taken")
    assert (offset, (await door.patch(session, offset, CONTENT[offset:]))[0]) == (5, 204)
    assert await door.stored(DIGEST) == CONTENT


async def test_asking_for_the_offset_leaves_a_moment_to_a_patch_that_was_let_in(
    door: Door,
) -> None:
    """What it brought is not sent again: nobody holds the session yet, but somebody is about to."""
    session = await half(door)
    door.sessions.end_wait_seconds = 30
    uploads = door.store.uploads
    let_in, go_on = asyncio.Event(), asyncio.Event()

    async def append(*arguments: Any, **named: Any) -> Upload:
        let_in.set()
        await go_on.wait()
        return await uploads.append(*arguments, **named)

    door.sessions._uploads = _With(uploads, append=append)  # type: ignore[assignment]  # a stand-in
    writing = asyncio.ensure_future(door.patch(session, 5, b"56"))
    await let_in.wait()
    asked = asyncio.ensure_future(door.offset(session))
    await asyncio.sleep(0.02)
    go_on.set()

    assert (await asked, (await writing)[0]) == (7, 204)


async def test_asking_for_the_offset_leaves_a_moment_to_what_has_arrived(door: Door) -> None:
    session = await door.begin()
    door.sessions.end_wait_seconds = 30

    async with raw_patch(door, session, 0, CONTENT[:7], length=10) as old:
        await taken(door, session)
        asked = asyncio.ensure_future(door.offset(session))
        await asyncio.sleep(0.05)
        assert not asked.done()
        await old.close()
        assert await asked == 7


async def test_a_patch_broken_at_its_last_byte_is_finished_by_whoever_asks(door: Door) -> None:
    """At once: nobody else is at it."""
    session = await door.begin()
    door.sessions.finish_wait_seconds = 30
    chunked = (
        f"PATCH /uploads/{session} HTTP/1.1\r\nHost: 127.0.0.1\r\nTus-Resumable: 1.0.0\r\n"
        f"Upload-Offset: 0\r\nContent-Type: {wire.CONTENT_TYPE}\r\n"
        "Transfer-Encoding: chunked\r\n\r\na\r\n"
    )
    _, writer = await asyncio.open_connection("127.0.0.1", door.port)
    writer.write(chunked.encode() + CONTENT)
    await taken(door, session)
    writer.close()
    await writer.wait_closed()

    async with asyncio.timeout(10):
        status, headers, _ = await door.send("HEAD", f"/uploads/{session}")

    assert (status, headers["Content-Location"]) == (200, f"/blobs/{DIGEST}")


async def test_a_retry_takes_over_from_a_half_open_connection(door: Door) -> None:
    session = await door.begin(len(LARGE))

    async with raw_patch(door, session, 0, LARGE[:3_000_000], length=len(LARGE)):
        await until(door, session, 1_000_000)  # and then the connection is silent
        headers = await resume(door, session, LARGE)

    assert headers["Content-Location"] == f"/blobs/{LARGE_DIGEST}"
    assert await door.stored(LARGE_DIGEST) == LARGE


async def test_what_the_old_connection_sends_late_changes_nothing(door: Door) -> None:
    session = await door.begin(len(LARGE))

    async with raw_patch(door, session, 0, LARGE[:3_000_000], length=len(LARGE)) as old:
        await until(door, session, 1_000_000)
        await resume(door, session, LARGE[:-10])
        old.writer.write(b"x" * (len(LARGE) - 3_000_000))
        assert b" 409 " in await old.line()

    assert (await door.patch(session, len(LARGE) - 10, LARGE[-10:]))[0] == 204
    assert await door.stored(LARGE_DIGEST) == LARGE


@pytest.mark.parametrize(("offset", "status", "asked"), [(0, b"204", True), (3, b"409", False)])
async def test_a_client_is_asked_for_its_body_only_if_it_is_wanted(
    door: Door, offset: int, status: bytes, asked: bool
) -> None:
    session = await door.begin()
    expect = "Expect: 100-continue\r\n"

    async with raw_patch(door, session, offset, b"", length=10, extra=expect) as client:
        if asked:
            assert await client.line() == b"HTTP/1.1 100 Continue\r\n"
            assert await client.line() == b"\r\n"
            client.writer.write(CONTENT)
        assert status in await client.line()


async def test_a_refused_body_is_not_taken_for_the_next_request(door: Door) -> None:
    session = await door.begin()
    trap = b"DELETE /uploads/" + session.encode() + b" HTTP/1.1\r\nTus-Resumable: 1.0.0\r\n\r\n"

    async with raw_patch(door, session, 7, trap, length=len(trap) + 1) as client:
        answer = await client.everything()

    assert answer.startswith(b"HTTP/1.1 409 ")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert await door.offset(session) == 0


# Limits.


class TestLimits:
    @pytest.fixture
    def limits(self) -> UploadLimits:
        return UploadLimits(blob_bytes=20, sessions=3, staged_bytes=24)

    async def test_options_names_the_largest_upload(self, door: Door) -> None:
        _, headers, _ = await door.send("OPTIONS", "/uploads")

        assert headers["Tus-Max-Size"] == "20"

    async def test_a_longer_upload_is_refused_at_once(self, door: Door) -> None:
        status, _, problem = await door.send("POST", "/uploads", headers={"Upload-Length": "21"})

        assert (status, problem["code"]) == (413, "body_too_large")
        assert problem["limit_bytes"] == 20

    async def test_a_deferred_length_cannot_pass_the_limit(self, door: Door) -> None:
        session = await door.begin(None)

        assert (await door.patch(session, 0, b"x" * 21))[0] == 413
        assert (await door.patch(session, 0, b"x", Upload_Length="21"))[0] == 413
        assert await door.offset(session) == 0

    async def test_chunks_of_a_deferred_length_cannot_pass_the_limit(self, door: Door) -> None:
        session = await door.begin(None)

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(5):
                yield b"x" * 5

        status, _, problem = await door.patch(session, 0, chunks())

        assert (status, problem["code"]) == (413, "body_too_large")
        assert await door.offset(session) <= 20

    async def test_sessions_of_one_principal_are_bounded(self, door: Door) -> None:
        sessions = [await door.begin(1) for _ in range(3)]

        status, _, problem = await door.send("POST", "/uploads", headers={"Upload-Length": "1"})

        assert (status, problem["code"]) == (429, "limit_reached")
        assert problem["limit"] == "limits.uploads_per_principal"
        assert (await door.patch(sessions[0], 0, b"x"))[0] == 204  # finished ones do not count
        assert (await door.send("POST", "/uploads", headers={"Upload-Length": "1"}))[0] == 201

    async def test_another_principal_has_its_own_limits(self, door: Door) -> None:
        for _ in range(3):
            await door.begin(1)

        upload = await door.sessions.create_upload(STRANGER, length=1)

        assert upload.owner == STRANGER.id

    async def test_staged_bytes_of_one_principal_are_bounded(self, door: Door) -> None:
        first, second = await door.begin(20), await door.begin(20)
        assert (await door.patch(first, 0, b"x" * 15))[0] == 204

        status, _, problem = await door.patch(second, 0, b"x" * 10)

        assert (status, problem["code"]) == (429, "limit_reached")
        assert problem["limit"] == "limits.staged_bytes_per_principal"
        status, _, _ = await door.send("POST", "/uploads", headers={"Upload-Length": "10"})
        assert status == 429
        assert (await door.patch(first, 15, b"x" * 5))[0] == 204
        offset = await door.offset(second)
        assert (await door.patch(second, offset, b"x" * (20 - offset)))[0] == 204

    async def test_nothing_stays_counted_as_arriving(self, door: Door) -> None:
        session = await door.begin(20)
        for offset, body in ((0, b"x" * 5), (0, b"x"), (5, b"x" * 100)):
            await door.patch(session, offset, body)

        assert not door.sessions._arriving


# Errors.


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (UploadLocked("upl_1"), 423, "upload_locked"),
        (UploadTaken("upl_1"), 409, "upload_taken"),
        (StorageFull(10), 507, "storage_full"),
        (RuntimeError("the secret is 42"), 500, "internal_error"),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_rare_failures_are_answered_in_the_same_words(
    door: Door, error: Exception, status: int, code: str
) -> None:
    session = await door.begin()

    async def fail(*_: object, **__: object) -> Upload:
        raise error

    door.sessions._uploads = _With(door.store.uploads, append=fail)  # type: ignore[assignment]  # a stand-in

    answer, headers, problem = await door.patch(session, 0, CONTENT)

    assert (answer, problem["code"]) == (status, code)
    assert headers["Tus-Resumable"] == "1.0.0"
    assert "secret" not in str(problem)


def test_errors_have_the_same_codes_as_in_the_native_api() -> None:
    """Only what tus itself fixes may differ."""
    ours = {kind: (rule.status, rule.code) for kind, rule in TUS.items()}
    native = {kind: (rule.status, rule.code) for kind, rule in NATIVE.items()}
    differing = {kind for kind in native if ours.get(kind) != native[kind]}

    assert differing == {ChecksumMismatch}
    assert set(ours) - set(native) == {VersionMismatch}


class TestTusErrors(AdapterErrorContract):
    adapter = ADAPTER

    def assert_envelope(self, answer: web.Response, error: Exception | None) -> None:
        content: Any = answer.body
        body = msgspec.json.decode(content)

        assert answer.content_type == "application/problem+json"
        assert answer.headers["Tus-Resumable"] == wire.VERSION
        assert body["status"] == answer.status
        assert body["type"] == f"urn:digestry:problem:{body['code']}"
        assert body["title"]
        assert body["request_id"] == "req-1234"
