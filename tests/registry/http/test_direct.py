"""Large bodies are read by a thread, whole and in order, whatever the client does on the way."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import secrets
from collections.abc import AsyncIterator

import pytest

from registry.http import direct
from store.digest import Digest
from store.hashing import RunningHash
from tests.support.serving import Site
from tests.support.wire import parse_head

CONTENT = secrets.token_bytes(direct.WORTHWHILE_BYTES * 2 + 12_345)
DIGEST = Digest.of(CONTENT)
HEAD = f"PUT /blobs/model.bin HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(CONTENT)}\r\n\r\n"


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[direct.DirectBody]:
    """Every reader that was begun, so that a test knows it tested this way and not the other."""
    begun: list[direct.DirectBody] = []
    begin = direct.begin

    def noting(request: object) -> object:
        result = begin(request)  # type: ignore[arg-type]  # passed on as it came
        if result is not None:
            begun.append(result[1])
        return result

    monkeypatch.setattr("registry.http.receiving.begin", noting)
    return begun


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients here share a thread with the server and with each other; none of them is slow."""
    monkeypatch.setattr(direct, "SLOW_SECONDS", 15)


async def send(site: Site, pieces: AsyncIterator[bytes]) -> tuple[int, dict[str, str], bytes]:
    """Write `pieces`; status, headers and body of the answer, read until the server closes."""
    reader, writer = await site.connect()
    try:
        async for piece in pieces:
            writer.write(piece)
            await writer.drain()
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
        rest = await asyncio.wait_for(reader.read(), 20)
        return *parse_head(head), rest
    finally:
        writer.close()


async def of(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def stored_content(site: Site) -> bytes:
    return b"".join([piece async for piece in site.store.blobs.open(DIGEST)])


async def test_a_large_body_is_stored_whole(site: Site, passes: list[direct.DirectBody]) -> None:
    """And the connection ends with the answer, because the parser did not see the body."""
    status, headers, _ = await send(site, of(HEAD.encode(), CONTENT))

    assert status == 201
    assert headers["connection"] == "close"
    assert headers["etag"] == f'"{DIGEST}"'
    assert await stored_content(site) == CONTENT
    assert len(passes) == 1
    assert passes[0].left == 0


async def test_what_came_with_the_head_is_part_of_it(
    site: Site, passes: list[direct.DirectBody]
) -> None:
    status, _, _ = await send(site, of(HEAD.encode() + CONTENT[:70_001], CONTENT[70_001:]))

    assert status == 201
    assert passes


async def test_a_small_body_keeps_its_connection(
    site: Site, passes: list[direct.DirectBody]
) -> None:
    answer = await site.ask("PUT", "/blobs/small", data=CONTENT[: direct.WORTHWHILE_BYTES - 1])

    assert answer.status == 201
    assert "connection" not in {name.lower() for name in answer.headers}
    assert not passes


async def test_a_slow_client_goes_back_to_the_loop(
    site: Site, passes: list[direct.DirectBody], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half way it pauses longer than a thread waits; the loop reads the rest, and no more."""
    monkeypatch.setattr(direct, "SLOW_SECONDS", 0.01)
    half = len(CONTENT) // 2

    async def pausing() -> AsyncIterator[bytes]:
        yield HEAD.encode() + CONTENT[:half]
        for _ in range(1000):
            if passes and not passes[0].is_fast:
                break
            await asyncio.sleep(0.01)
        yield CONTENT[half:] + b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"

    status, headers, rest = await send(site, pausing())

    assert status == 201
    assert headers["connection"] == "close"
    assert b"HTTP/1.1" not in rest
    assert passes[0].left > 0
    assert await stored_content(site) == CONTENT


@pytest.mark.parametrize("sent", [0, 1, 100_000, len(CONTENT) // 2, len(CONTENT) - 1])
async def test_a_client_that_leaves_leaves_nothing(
    site: Site, passes: list[direct.DirectBody], sent: int
) -> None:
    _, writer = await site.connect()
    writer.write(HEAD.encode() + CONTENT[:sent])
    await writer.drain()
    while not passes:
        await asyncio.sleep(0.005)
    writer.close()
    await writer.wait_closed()
    await site.at_rest()

    assert await site.staged() == []
    assert site.store.threads.direct_free == 4
    answer = await site.ask("HEAD", f"/blobs/{DIGEST}")
    assert answer.status == 404


async def test_a_cut_session_keeps_what_the_thread_read(
    site: Site, passes: list[direct.DirectBody]
) -> None:
    """A resumable upload goes on from there and ends with the right digest."""
    tus = {"Tus-Resumable": "1.0.0"}
    made = await site.ask("POST", "/uploads", headers=tus | {"Upload-Length": str(len(CONTENT))})
    place = made.headers["Location"]
    _, writer = await site.connect()
    sent = len(CONTENT) - 4_000_000
    writer.write(
        f"PATCH {place} HTTP/1.1\r\nHost: localhost\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\n"
        "Content-Type: application/offset+octet-stream\r\n"
        f"Content-Length: {len(CONTENT)}\r\n\r\n".encode()
    )
    writer.write(CONTENT[:sent])
    await writer.drain()
    await site.until(lambda: bool(passes))
    writer.close()
    await writer.wait_closed()
    await site.at_rest()  # to ask while it reads would end it
    offset = int((await site.ask("HEAD", place, headers=tus)).headers["Upload-Offset"])

    patch = tus | {
        "Upload-Offset": str(offset),
        "Content-Type": "application/offset+octet-stream",
    }
    done = await site.ask("PATCH", place, headers=patch, data=CONTENT[offset:])

    assert offset == sent
    assert done.status == 204
    digest = base64.b64encode(DIGEST.raw).decode()
    assert done.headers["Repr-Digest"] == f"sha-256=:{digest}:"
    assert passes


async def test_a_wrong_digest_stores_nothing(site: Site, passes: list[direct.DirectBody]) -> None:
    head = HEAD.replace("model.bin", f"sha256:{'0' * 64}")
    status, _, rest = await send(site, of(head.encode(), CONTENT))

    assert status == 422
    assert str(DIGEST).encode() in rest
    assert passes


async def test_a_body_beyond_a_session_is_refused_before_it_is_read(
    site: Site, passes: list[direct.DirectBody]
) -> None:
    tus = {"Tus-Resumable": "1.0.0"}
    made = await site.ask("POST", "/uploads", headers=tus | {"Upload-Length": "5"})
    patch = tus | {"Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}

    refused = await site.ask("PATCH", made.headers["Location"], headers=patch, data=CONTENT)

    assert refused.status == 413
    await site.ask("DELETE", made.headers["Location"], headers=tus)


async def test_a_hash_that_fails_ends_the_upload(
    site: Site, passes: list[direct.DirectBody], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that fills buffers does not wait for one that no longer empties them."""

    def update(self: RunningHash, pieces: list[bytes]) -> None:
        if len(pieces[0]) > 512 << 10:
            raise MemoryError

    monkeypatch.setattr(RunningHash, "update_sha256", update)

    # Most of the body is still to come, so the answer may be lost to the reset behind it.
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        status, _, _ = await send(site, of(HEAD.encode(), CONTENT))
        assert status == 500

    assert passes
    await site.until(lambda: site.store.threads.direct_free == 4)
