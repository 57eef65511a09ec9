"""How the bytes of a blob leave: headers, ranges, conditions, slices, damage and slow readers."""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import ClientPayloadError, ServerDisconnectedError

from registry.config import Config, ServerConfig
from registry.http.blobs import disposition
from registry.http.sending import SLICE_BYTES
from registry.keys import DRAIN
from store.digest import EMPTY, Digest
from store.opening import Store
from tests.registry.http.test_receiving import HASTY
from tests.support.serving import Site, head, opened, serving
from tests.support.storing import damage, put

SMALL = b"0123456789"
LARGE = secrets.token_bytes(3 * SLICE_BYTES + 4567)
HUGE = secrets.token_bytes(12 << 20)
DIGEST = Digest.of(LARGE)
SHOWN = {
    "Accept-Ranges": "bytes",
    "Cache-Control": "private, max-age=31536000, immutable",
    "Content-Disposition": "attachment",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Content-Type": "application/octet-stream",
    "Cross-Origin-Resource-Policy": "same-origin",
    "ETag": f'"{DIGEST}"',
    "Vary": "Authorization, Cookie",
    "X-Content-Type-Options": "nosniff",
}


@pytest.fixture(params=["local", "local strict", "local scrub", "memory"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """Every way in which bytes can leave."""
    backend, _, mode = request.param.partition(" ")
    root = tmp_path / "data" if backend == "local" else None
    async with opened(root, verify_reads=mode or "boot") as store:
        yield store


async def put_here(site: Site, content: bytes) -> str:
    """Store as the caller of the site; return the address."""
    return f"/blobs/{await put(site.store, content, owner='usr_local')}"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_every_header_of_the_design_is_there(site: Site, method: str) -> None:
    answer = await site.ask(method, await put_here(site, LARGE))

    assert answer.status == 200
    assert {name: answer.headers.get(name) for name in SHOWN} == SHOWN
    assert answer.headers["Content-Length"] == str(len(LARGE))
    assert answer.headers["Repr-Digest"].startswith("sha-256=:")
    assert answer.body == (LARGE if method == "GET" else b"")


@pytest.mark.parametrize("content", [b"", SMALL, LARGE, HUGE], ids=["0", "10", "3 MiB", "12 MiB"])
async def test_bytes_arrive_as_they_were_stored(site: Site, content: bytes) -> None:
    path = await put_here(site, content)

    answers = [await site.ask("GET", path) for _ in range(2)]

    assert [answer.body == content for answer in answers] == [True, True]


async def test_many_readers_at_once_get_the_same(site: Site) -> None:
    path = await put_here(site, LARGE)

    answers = await asyncio.gather(*(site.ask("GET", path) for _ in range(12)))

    assert all(answer.body == LARGE for answer in answers)


@pytest.mark.parametrize(
    ("start", "stop"),
    [
        (0, 1),
        (0, SLICE_BYTES),
        (SLICE_BYTES - 1, SLICE_BYTES + 1),
        (SLICE_BYTES, 2 * SLICE_BYTES),
        (1, len(LARGE)),
        (len(LARGE) - 1, len(LARGE)),
    ],
)
async def test_a_range_of_a_large_blob(site: Site, start: int, stop: int) -> None:
    path = await put_here(site, LARGE)

    answer = await site.ask("GET", path, headers={"Range": f"bytes={start}-{stop - 1}"})

    assert answer.status == 206
    assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{len(LARGE)}"
    assert answer.headers["Content-Length"] == str(stop - start)
    assert answer.headers["Repr-Digest"].startswith("sha-256=:")
    assert answer.body == LARGE[start:stop]


@pytest.mark.parametrize(
    ("header", "expected"),
    [("bytes=2-4", b"234"), ("bytes=7-", b"789"), ("bytes=-2", b"89"), ("bytes=5-99", b"56789")],
)
async def test_a_range_of_a_small_blob(site: Site, header: str, expected: bytes) -> None:
    answer = await site.ask("GET", await put_here(site, SMALL), headers={"Range": header})

    assert (answer.status, answer.body) == (206, expected)


@pytest.mark.parametrize("header", ["bytes=0-1,4-5", "bytes=x", "lines=1-2", "bytes=5-2"])
async def test_what_is_no_single_range_is_answered_whole(site: Site, header: str) -> None:
    answer = await site.ask("GET", await put_here(site, SMALL), headers={"Range": header})

    assert (answer.status, answer.body) == (200, SMALL)
    assert "Content-Range" not in answer.headers


@pytest.mark.parametrize("content", [b"", SMALL, LARGE], ids=["empty", "small", "large"])
async def test_a_range_outside_the_blob_is_416(site: Site, content: bytes) -> None:
    path = await put_here(site, content)

    answer = await site.ask("GET", path, headers={"Range": f"bytes={len(content)}-"})

    assert (answer.status, answer.code) == (416, "range_not_satisfiable")
    assert answer.headers["Content-Range"] == f"bytes */{len(content)}"


async def test_head_ignores_a_range(site: Site) -> None:
    answer = await site.ask("HEAD", await put_here(site, SMALL), headers={"Range": "bytes=1-2"})

    assert (answer.status, answer.headers["Content-Length"]) == (200, str(len(SMALL)))


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
async def test_if_range_decides_whether_the_range_counts(site: Site, content: bytes) -> None:
    path, tag = await put_here(site, content), f'"{Digest.of(content)}"'

    same = await site.ask("GET", path, headers={"Range": "bytes=0-0", "If-Range": tag})
    other = await site.ask("GET", path, headers={"Range": "bytes=0-0", "If-Range": '"other"'})
    weak = await site.ask("GET", path, headers={"Range": "bytes=0-0", "If-Range": f"W/{tag}"})

    assert (same.status, same.body) == (206, content[:1])
    assert (other.status, weak.status) == (200, 200)
    assert other.body == content


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("condition", ["exact", "weak", "*", "list"])
async def test_what_the_client_has_is_304(site: Site, method: str, condition: str) -> None:
    path, tag = await put_here(site, LARGE), f'"{DIGEST}"'
    value = {"exact": tag, "weak": f"W/{tag}", "*": "*", "list": f'"x", {tag}'}[condition]

    answer = await site.ask(method, path, headers={"If-None-Match": value})

    assert (answer.status, answer.body) == (304, b"")
    assert answer.headers["ETag"] == tag
    assert "immutable" in answer.headers["Cache-Control"]
    assert answer.headers["Vary"] == "Authorization, Cookie"


async def test_a_condition_that_does_not_hold_is_412(site: Site) -> None:
    path = await put_here(site, SMALL)

    failed = await site.ask("GET", path, headers={"If-Match": '"other"'})
    holds = await site.ask("GET", path, headers={"If-Match": f'"{Digest.of(SMALL)}"'})

    assert (failed.status, failed.code) == (412, "precondition_failed")
    assert holds.status == 200


async def test_the_empty_blob_has_its_digest(site: Site) -> None:
    answer = await site.ask("GET", await put_here(site, b""))

    assert answer.headers["ETag"] == f'"{EMPTY}"'
    assert answer.headers["Content-Length"] == "0"


@pytest.mark.parametrize(
    ("media_type", "filename", "expected"),
    [
        ("application/octet-stream", None, "attachment"),
        ("text/html; charset=utf-8", "x.html", 'attachment; filename="x.html"'),
        ("image/svg+xml", "x.svg", 'attachment; filename="x.svg"'),
        ("image/png", "x.png", 'inline; filename="x.png"'),
        ("text/plain; charset=utf-8", "LICENSE", 'inline; filename="LICENSE"'),
        (
            "application/pdf",
            'a "b"\\c.pdf',
            "attachment; filename=\"a _b__c.pdf\"; filename*=UTF-8''a%20%22b%22%5Cc.pdf",
        ),
        (
            "application/octet-stream",
            "modèle.bin",
            "attachment; filename=\"mod_le.bin\"; filename*=UTF-8''mod%C3%A8le.bin",
        ),
        (
            "application/octet-stream",
            "a\r\nSet-Cookie: x",
            "attachment; filename=\"a__Set-Cookie: x\"; filename*=UTF-8''a%0D%0ASet-Cookie%3A%20x",
        ),
    ],
)
def test_only_raster_images_and_plain_text_may_be_shown(
    media_type: str, filename: str | None, expected: str
) -> None:
    assert disposition(media_type, filename) == expected


def rotten(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


async def verified_again(site: Site, content: bytes, changed: bytes) -> str:
    """Store, then damage, and make the reader distrust what it wrote itself."""
    path = await put_here(site, content)
    await damage(site.store, Digest.of(content), changed)
    site.store.reading._again = -1
    return path


@pytest.mark.parametrize("store", ["local", "local strict", "memory"], indirect=True)
async def test_damage_in_the_first_segment_is_a_clear_error(site: Site) -> None:
    path = await verified_again(site, LARGE, rotten(LARGE, 10))

    answer = await site.ask("GET", path)
    await site.store.reading.settle()
    then = await site.ask("GET", path)

    assert (answer.status, answer.code) == (500, "blob_damaged")
    assert (then.status, then.code) == (500, "blob_damaged")
    assert (await site.ask("PUT", path, data=LARGE)).status == 200
    assert (await site.ask("GET", path)).body == LARGE


@pytest.mark.parametrize("store", ["local", "local strict", "memory"], indirect=True)
async def test_damage_on_the_way_cuts_the_connection(site: Site) -> None:
    """What arrived is right, it is less than promised, and the end is not a clean one."""
    path = await verified_again(site, LARGE, rotten(LARGE, 2 * SLICE_BYTES + 5))
    reader, writer = await site.connect()
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())

    status, headers, _ = head(await reader.readuntil(b"\r\n\r\n"))
    received, is_clean = await read_to_the_end(reader)

    assert not is_clean
    assert status == 200
    assert int(headers["content-length"]) == len(LARGE)
    assert len(received) <= 2 * SLICE_BYTES
    assert LARGE.startswith(received)
    writer.close()
    await site.store.reading.settle()


@pytest.mark.parametrize("store", ["local", "local strict", "memory"], indirect=True)
async def test_a_client_library_notices_damage_on_the_way(site: Site) -> None:
    path = await verified_again(site, LARGE, rotten(LARGE, 2 * SLICE_BYTES + 5))

    with pytest.raises((ClientPayloadError, ServerDisconnectedError, ConnectionError)):
        await site.ask("GET", path)

    await site.store.reading.settle()


@pytest.mark.parametrize("store", ["local scrub"], indirect=True)
async def test_a_file_that_shrinks_on_the_way_cuts_the_connection(site: Site) -> None:
    path = await put_here(site, HUGE)
    reader, writer = await slow_reader(site, path)
    await reader.readuntil(b"\r\n\r\n")
    await damage(site.store, Digest.of(HUGE), HUGE[: 10 << 20])

    _, is_clean = await read_to_the_end(reader)

    assert not is_clean
    writer.close()
    await site.store.reading.settle()


async def read_to_the_end(reader: asyncio.StreamReader) -> tuple[bytes, bool]:
    """What comes until the connection ends, and whether it was closed rather than reset."""
    received = bytearray()
    try:
        while piece := await reader.read(1 << 20):
            received += piece
    except ConnectionError:
        return bytes(received), False
    return bytes(received), True


async def slow_reader(site: Site, path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection with small buffers, so that the server must wait for whoever reads."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", site.port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=32768)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return reader, writer


async def test_a_reader_that_falls_silent_is_cut_off(store: Store) -> None:
    config = Config(server=HASTY.server)
    async with serving(store, config) as site:
        path = await put_here(site, HUGE)
        reader, writer = await slow_reader(site, path)
        await reader.readuntil(b"\r\n\r\n")
        await site.until(lambda: _in_flight(site) == 0)

        received, is_clean = await read_to_the_end(reader)

        assert not is_clean
        assert len(received) < len(HUGE)
        writer.close()


async def test_a_slow_reader_gets_everything(store: Store) -> None:
    """Every wait for the socket on the way, and small requests are answered meanwhile."""
    config = Config(server=ServerConfig(minimum_rate_bytes_per_second=1))
    async with serving(store, config) as site:
        path = await put_here(site, HUGE)
        reader, writer = await slow_reader(site, path)
        await reader.readuntil(b"\r\n\r\n")
        received = bytearray()
        while len(received) < len(HUGE):
            received += await reader.read(1 << 20)
            if len(received) % 7 == 0:
                assert (await site.ask("GET", "/healthz")).status == 200

        assert bytes(received) == HUGE
        writer.close()


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_reader_that_leaves_frees_the_descriptor(site: Site, how: str) -> None:
    path = await put_here(site, HUGE)
    reader, writer = await slow_reader(site, path)
    await reader.readuntil(b"\r\n\r\n")
    if how == "reset":
        writer.transport.abort()
    writer.close()
    await site.until(lambda: _in_flight(site) == 0)

    assert site.store.reading.descriptors.in_use == 0
    assert (await site.ask("GET", path)).body == HUGE


async def test_requests_on_one_connection_follow_each_other(site: Site) -> None:
    """A body sent by the kernel ends exactly where the next answer begins."""
    paths = [await put_here(site, content) for content in (LARGE, SMALL, LARGE)]
    reader, writer = await site.connect()
    for path in paths:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())

    for content in (LARGE, SMALL, LARGE):
        _, headers, _ = head(await reader.readuntil(b"\r\n\r\n"))
        assert int(headers["content-length"]) == len(content)
        assert await reader.readexactly(len(content)) == content
    writer.close()


def _in_flight(site: Site) -> int:
    return site.app[DRAIN].in_flight


@pytest.mark.parametrize("store", ["local"], indirect=True)
async def test_without_a_descriptor_to_spare_buffers_do(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = await put_here(site, LARGE)

    def none_left(_: int) -> int:
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr("registry.http.sending.os.dup", none_left)

    assert (await site.ask("GET", path)).body == LARGE


@pytest.mark.parametrize("store", ["local"], indirect=True)
@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
async def test_too_many_open_files_is_a_passing_shortage(
    site: Site, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    path = await put_here(site, content)
    open_file = os.open

    def none_left(name: str, *options: int) -> int:
        if Digest.of(content).hex in str(name):
            raise OSError(errno.EMFILE, "too many open files")
        return open_file(name, *options)

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", none_left)
        answer = await site.ask("GET", path)

    assert (answer.status, answer.code) == (503, "too_many_open_files")
    assert "Retry-After" in answer.headers
    assert (await site.ask("GET", path)).body == content
