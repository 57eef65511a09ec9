"""Large chunked bodies are read by a thread, whole and in order, whatever the client does."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Iterator

import pytest

from registry.http import chunked, direct
from store.digest import Digest
from tests.support.serving import Site
from tests.support.wire import parse_head

LARGE = 256 << 10
CONTENT = random.Random(7).randbytes(6 * LARGE + 12_345)
DIGEST = Digest.of(CONTENT)
HEAD = b"PUT /blobs/model.bin HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


# What happens to the bytes behind this is tested elsewhere, with every backend.
pytestmark = pytest.mark.parametrize("store", ["local"], indirect=True)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a megabyte is enough to show what happens to gigabytes."""
    monkeypatch.setattr(chunked, "WORTHWHILE_BYTES", LARGE)
    monkeypatch.setattr("store.batches.BATCH_BYTES", LARGE // 4)
    monkeypatch.setattr("registry.http.receiving.FEW_REQUESTS", -1)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients here share a thread with the server; none is slow but where a test says so."""
    monkeypatch.setattr(direct, "SLOW_SECONDS", 15)


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[chunked.DirectChunks]:
    """Every reader, so that a test knows it tested this way and not the other."""
    found = []
    make = chunked.DirectChunks.__init__

    def noting(self: chunked.DirectChunks, *given: object) -> None:
        make(self, *given)  # type: ignore[arg-type]  # passed on as it came
        found.append(self)

    monkeypatch.setattr(chunked.DirectChunks, "__init__", noting)
    return found


def chunks(size_bytes: int, content: bytes = CONTENT) -> Iterator[bytes]:
    for at in range(0, len(content), size_bytes):
        piece = content[at : at + size_bytes]
        yield b"%x\r\n%b\r\n" % (len(piece), piece)


async def send(site: Site, sent: bytes, *, at_once: int = 1 << 16) -> tuple[int, dict[str, str]]:
    """Write some bytes, so many at a time; status and headers of the answer."""
    reader, writer = await site.connect()
    try:
        for at in range(0, len(sent), at_once):
            writer.write(sent[at : at + at_once])
            await writer.drain()
        return parse_head(await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20))
    finally:
        writer.close()


async def stored(site: Site) -> bytes:
    return b"".join([piece async for piece in site.store.blobs.open(DIGEST)])


@pytest.mark.parametrize("size_bytes", [1500, 65_536, 100_001])
@pytest.mark.parametrize("at_once", [1 << 14, 1 << 20])
async def test_chunks_of_any_size_are_stored_whole(
    site: Site, begun: list[chunked.DirectChunks], size_bytes: int, at_once: int
) -> None:
    """And the connection ends with the answer, because the parser did not see all of the body."""
    status, headers = await send(site, HEAD + b"".join(chunks(size_bytes)) + END, at_once=at_once)

    assert status == 201
    assert headers["connection"] == "close"
    assert headers["etag"] == f'"{DIGEST}"'
    assert await stored(site) == CONTENT
    assert [reader.is_done for reader in begun] == [True]
    assert site.store.threads.direct_free == 4


async def test_extensions_and_trailing_fields_are_dropped(
    site: Site, begun: list[chunked.DirectChunks]
) -> None:
    framed = b"".join(chunks(50_000)).replace(b"c350\r\n", b'C350;a="b";c\r\n')
    status, _ = await send(site, HEAD + framed + b"0;d\r\nExpires: never\r\n\r\n")

    assert status == 201
    assert begun[0].is_done


async def test_small_chunks_stay_on_the_loop(site: Site, begun: list[chunked.DirectChunks]) -> None:
    status, headers = await send(site, HEAD + b"".join(chunks(300)) + END)

    assert status == 201
    assert "connection" not in headers
    assert await stored(site) == CONTENT
    assert not begun


async def test_a_body_below_the_worth_keeps_its_connection(
    site: Site, begun: list[chunked.DirectChunks]
) -> None:
    status, headers = await send(site, HEAD + b"".join(chunks(20_000, CONTENT[:LARGE])) + END)

    assert status == 201
    assert "connection" not in headers
    assert not begun


async def pausing(
    site: Site, begun: list[chunked.DirectChunks], first: bytes, second: bytes
) -> tuple[int, dict[str, str], bytes]:
    """Send `second` once a thread waited in vain for it."""
    reader, writer = await site.connect()
    try:
        writer.write(first)
        await writer.drain()
        await site.until(lambda: bool(begun) and not begun[0].is_fast)
        writer.write(second)
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
        return *parse_head(head), await asyncio.wait_for(reader.read(), 20)
    finally:
        writer.close()


@pytest.mark.parametrize("cut", [1, 5, 8, 500])
async def test_a_slow_client_goes_back_to_the_loop(
    site: Site, begun: list[chunked.DirectChunks], monkeypatch: pytest.MonkeyPatch, cut: int
) -> None:
    """Wherever it paused, in the framing too; what follows the body is no request any more."""
    monkeypatch.setattr(direct, "SLOW_SECONDS", 0.01)
    framed = b"".join(chunks(50_000)) + END
    at = framed.index(b"\r\nc350\r\n", 3 * LARGE) + cut
    after = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"

    status, headers, rest = await pausing(site, begun, HEAD + framed[:at], framed[at:] + after)

    assert status == 201
    assert headers["connection"] == "close"
    assert b"HTTP/1.1" not in rest
    assert not begun[0].left
    assert await stored(site) == CONTENT


@pytest.mark.parametrize("is_slow", [False, True])
async def test_framing_that_breaks_ends_the_upload(
    site: Site,
    begun: list[chunked.DirectChunks],
    monkeypatch: pytest.MonkeyPatch,
    is_slow: bool,
) -> None:
    """In the thread, and on the loop after it."""
    monkeypatch.setattr(direct, "SLOW_SECONDS", 0.01)
    framed = b"".join(chunks(50_000))
    bad = b"nonsense\r\n" + framed
    if is_slow:
        status, headers, _ = await pausing(site, begun, HEAD + framed, bad)
    else:
        status, headers = await send(site, HEAD + framed + bad)

    assert status == 400
    assert headers["connection"] == "close"
    assert begun
    assert not await site.staged()
    assert site.store.threads.direct_free == 4


@pytest.mark.parametrize("at", [3 * LARGE, -5, -1])
async def test_a_client_that_leaves_before_the_end_leaves_nothing(
    site: Site, begun: list[chunked.DirectChunks], at: int
) -> None:
    _, writer = await site.connect()
    writer.write((HEAD + b"".join(chunks(50_000)) + END)[:at])
    await writer.drain()
    await site.until(lambda: bool(begun))  # a client that is gone by then is no thread's
    writer.close()
    await writer.wait_closed()
    await site.at_rest()

    assert not await site.staged()
    assert site.store.threads.direct_free == 4
    assert (await site.ask("HEAD", f"/blobs/{DIGEST}")).status == 404


async def test_a_body_beyond_the_limit_is_refused_on_the_way(
    site: Site, begun: list[chunked.DirectChunks]
) -> None:
    """A chunked body tells its length by ending, so every buffer is counted."""
    tus = {"Tus-Resumable": "1.0.0"}
    made = await site.ask("POST", "/uploads", headers=tus | {"Upload-Length": str(3 * LARGE)})
    head = (
        f"PATCH {made.headers['Location']} HTTP/1.1\r\nHost: localhost\r\nTus-Resumable: 1.0.0\r\n"
        "Upload-Offset: 0\r\nContent-Type: application/offset+octet-stream\r\n"
        "Transfer-Encoding: chunked\r\n\r\n"
    ).encode()

    # Part of the body is still to come, so the answer may be lost to the reset behind it.
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        status, _ = await send(site, head + b"".join(chunks(50_000)) + END)
        assert status == 413

    await site.until(lambda: site.store.threads.direct_free == 4)
    offset = (await site.ask("HEAD", made.headers["Location"], headers=tus)).headers
    assert int(offset["Upload-Offset"]) <= 3 * LARGE
    await site.ask("DELETE", made.headers["Location"], headers=tus)
