"""A large part leaves by a thread, exactly as it would by the loop, and slow readers hold none."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from registry.http import direct_sending, sending
from registry.http.direct_sending import WORTHWHILE_BYTES, DirectSending
from registry.http.sending import SPAN_BYTES
from registry.keys import DRAIN
from store.digest import Digest
from store.opening import Store
from store.threads import DIRECT_BODIES, Threads
from tests.registry.http.test_blobs import (
    put_here,
    read_to_the_end,
    rotten,
    slow_reader,
    verified_again,
)
from tests.support.serving import Site, head, opened

CONTENT = secrets.token_bytes(2 * SPAN_BYTES + WORTHWHILE_BYTES // 2 + 12_345)
DIGEST = Digest.of(CONTENT)


@pytest.fixture(params=["boot", "scrub"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    async with opened(tmp_path / "data", verify_reads=request.param) as store:
        yield store
        assert store.threads.sending_free == DIRECT_BODIES
        assert store.reading.descriptors.in_use == 0


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[DirectSending]:
    """Every sending that got a thread, so that a test knows which way it tested."""
    begun: list[DirectSending] = []
    begin = direct_sending.begin

    def noting(*arguments: Any) -> DirectSending | None:
        direct = begin(*arguments)
        if direct is not None:
            begun.append(direct)
        return direct

    monkeypatch.setattr(direct_sending, "begin", noting)
    return begun


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers here share a thread with the server and with each other; none of them is slow."""
    monkeypatch.setattr(direct_sending, "SLOW_SECONDS", 15)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a connection; the first does not block."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def is_over(site: Site) -> bool:
    return site.app[DRAIN].in_flight == 0


async def counts(site: Site, passes: list[DirectSending]) -> list[int]:
    """How much each thread sent; a reader may have it all before its thread has counted it."""
    await site.until(lambda: is_over(site))
    return [each.sent for each in passes]


async def test_a_large_blob_arrives_as_it_was_stored(
    site: Site, passes: list[DirectSending]
) -> None:
    path = await put_here(site, CONTENT)

    answers = [await site.ask("GET", path) for _ in range(2)]

    assert [answer.body == CONTENT for answer in answers] == [True, True]
    assert await counts(site, passes) == [len(CONTENT), len(CONTENT)]


@pytest.mark.parametrize("store", ["boot"], indirect=True)
async def test_what_was_never_verified_is_verified_before_it_leaves(
    site: Site, passes: list[DirectSending]
) -> None:
    path = await verified_again(site, CONTENT, CONTENT)

    assert (await site.ask("GET", path)).body == CONTENT
    await site.store.reading.settle()
    assert await counts(site, passes) == [len(CONTENT)]


@pytest.mark.parametrize(
    ("start", "stop"),
    [
        (0, WORTHWHILE_BYTES),
        (1, len(CONTENT)),
        (SPAN_BYTES - 1, 2 * SPAN_BYTES + 1),
        (len(CONTENT) - WORTHWHILE_BYTES, len(CONTENT)),
    ],
)
async def test_a_large_range_is_sent_by_a_thread(
    site: Site, passes: list[DirectSending], start: int, stop: int
) -> None:
    path = await put_here(site, CONTENT)

    answer = await site.ask("GET", path, headers={"Range": f"bytes={start}-{stop - 1}"})

    assert answer.status == 206
    assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{len(CONTENT)}"
    assert answer.body == CONTENT[start:stop]
    assert await counts(site, passes) == [stop - start]


async def test_head_and_small_parts_need_no_thread(site: Site, passes: list[DirectSending]) -> None:
    path = await put_here(site, CONTENT)

    asked = await site.ask("HEAD", path)
    part = await site.ask("GET", path, headers={"Range": f"bytes=5-{WORTHWHILE_BYTES + 3}"})

    assert asked.headers["Content-Length"] == str(len(CONTENT))
    assert part.body == CONTENT[5 : WORTHWHILE_BYTES + 4]
    assert not passes


async def test_the_connection_serves_the_next_request(
    site: Site, passes: list[DirectSending]
) -> None:
    """Also one that arrived while the body was on its way."""
    path = await put_here(site, CONTENT)
    reader, writer = await site.connect()
    for asked in (path, path, "/healthz", path):
        writer.write(f"GET {asked} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())

    for is_content in (True, True, False, True):
        status, headers, _ = head(await reader.readuntil(b"\r\n\r\n"))
        body = await reader.readexactly(int(headers["content-length"]))
        assert status == 200
        assert not is_content or body == CONTENT
    writer.close()
    assert len(passes) == 3


async def test_what_a_thread_sent_is_counted(site: Site, passes: list[DirectSending]) -> None:
    path = await put_here(site, CONTENT)
    before, asked_bytes = await sent_bytes(site)

    await site.ask("GET", path)

    assert passes
    assert (await sent_bytes(site))[0] - before == len(CONTENT) + asked_bytes


async def sent_bytes(site: Site) -> tuple[int, int]:
    """What was sent before this question, and how much its own answer adds."""
    body = (await site.ask("GET", "/metrics")).body
    [line] = [
        line for line in body.splitlines() if line.startswith(b"digestry_http_sent_bytes_total ")
    ]
    return int(float(line.split()[1])), len(body)


async def test_a_slow_reader_goes_back_to_the_loop(
    site: Site, passes: list[DirectSending], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread is free again while the reader still pauses, and no byte is lost in between."""
    monkeypatch.setattr(direct_sending, "SLOW_SECONDS", 0.02)
    path = await verified_again(site, CONTENT, CONTENT)
    reader, writer = await slow_reader(site, path)
    await reader.readuntil(b"\r\n\r\n")

    await site.until(lambda: bool(passes) and site.store.threads.sending_free == DIRECT_BODIES)

    assert not is_over(site)
    assert await reader.readexactly(len(CONTENT)) == CONTENT
    assert passes[0].sent < len(CONTENT)
    writer.close()
    await site.until(lambda: is_over(site))
    await site.store.reading.settle()


async def test_a_reader_that_takes_little_at_a_time_is_slow_too(
    pair: tuple[socket.socket, socket.socket], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is always some room for more soon, but never enough of it."""
    monkeypatch.setattr(direct_sending, "SLOW_SECONDS", 0.1)
    ours, theirs = pair
    theirs.setblocking(False)
    threads, loop = Threads(), asyncio.get_running_loop()
    direct = DirectSending(transport_of(ours), ours, threads)

    async def sip() -> None:
        while True:
            await loop.sock_recv(theirs, 10_000)
            await asyncio.sleep(0.001)

    sipping = loop.create_task(sip())
    with content_file(tmp_path) as file:
        await direct.send(file.fileno(), 0, len(CONTENT))
    sipping.cancel()

    assert 0 < direct.sent < len(CONTENT)
    direct.close()
    await asyncio.to_thread(threads.close)


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_reader_that_leaves_frees_the_thread(
    site: Site, passes: list[DirectSending], how: str
) -> None:
    path = await put_here(site, CONTENT)
    reader, writer = await slow_reader(site, path)
    await reader.readuntil(b"\r\n\r\n")
    await site.until(lambda: bool(passes))
    if how == "reset":
        writer.transport.abort()
    writer.close()

    await site.until(lambda: is_over(site))

    assert passes[0].sent < len(CONTENT)
    assert site.store.threads.sending_free == DIRECT_BODIES
    assert (await site.ask("GET", path)).body == CONTENT


async def test_a_cancelled_sending_stops_and_waits_for_its_thread(
    pair: tuple[socket.socket, socket.socket], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller closes descriptors next, and their numbers may mean other files at once."""
    may_end, ended = threading.Event(), threading.Event()
    send_blocking = DirectSending._send_blocking

    def noting(self: DirectSending, *part: int) -> None:
        try:
            send_blocking(self, *part)
        finally:
            may_end.wait()
            ended.set()

    monkeypatch.setattr(DirectSending, "_send_blocking", noting)
    ours, theirs = pair
    threads = Threads()
    direct = DirectSending(transport_of(ours), ours, threads)
    with content_file(tmp_path) as file:
        sending = asyncio.ensure_future(direct.send(file.fileno(), 0, len(CONTENT)))
        while not direct.sent:
            await asyncio.sleep(0.001)
        sending.cancel()
        await asyncio.sleep(0)
        draining = threading.Thread(target=drain, args=(theirs,))
        draining.start()
        asyncio.get_running_loop().call_later(0.01, may_end.set)

        with pytest.raises(asyncio.CancelledError):
            await sending

    assert ended.is_set()
    assert direct.sent < len(CONTENT)
    direct.close()
    ours.close()
    draining.join()
    await asyncio.to_thread(threads.close)


def drain(connection: socket.socket) -> None:
    while connection.recv(1 << 20):
        pass


async def test_a_wait_that_comes_too_late_is_none(
    pair: tuple[socket.socket, socket.socket], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A time that is over already must not be taken for one without an end."""
    monkeypatch.setattr(direct_sending, "SLOW_SECONDS", -1)
    ours, _ = pair
    threads = Threads()
    direct = DirectSending(transport_of(ours), ours, threads)
    with content_file(tmp_path) as file:
        await direct.send(file.fileno(), 0, len(CONTENT))

    assert 0 < direct.sent < len(CONTENT)
    direct.close()
    await asyncio.to_thread(threads.close)


async def test_a_closing_transport_ends_the_sending(
    pair: tuple[socket.socket, socket.socket], tmp_path: Path
) -> None:
    ours, _ = pair
    threads = Threads()
    direct = DirectSending(transport_of(ours, is_closing=True), ours, threads)
    with content_file(tmp_path) as file:
        await direct.send(file.fileno(), 0, len(CONTENT))

    assert direct.sent == 0
    direct.close()
    await asyncio.to_thread(threads.close)


async def test_a_file_that_is_shorter_than_its_row_ends_the_sending(
    pair: tuple[socket.socket, socket.socket], tmp_path: Path
) -> None:
    ours, _ = pair
    threads = Threads()
    direct = DirectSending(transport_of(ours), ours, threads)
    short = tmp_path / "short"
    short.write_bytes(b"abc")
    with short.open("rb") as file:
        await direct.send(file.fileno(), 0, 4)

    assert direct.sent == 3
    direct.close()
    await asyncio.to_thread(threads.close)


async def test_without_a_free_thread_the_loop_sends(
    site: Site, passes: list[DirectSending]
) -> None:
    path = await put_here(site, CONTENT)
    site.store.threads.sending_free = 0

    assert (await site.ask("GET", path)).body == CONTENT
    assert not passes

    site.store.threads.sending_free = DIRECT_BODIES


async def test_more_readers_than_threads_get_the_same(
    site: Site, passes: list[DirectSending]
) -> None:
    path = await put_here(site, CONTENT)

    bodies = await asyncio.gather(*(site.ask("GET", path) for _ in range(DIRECT_BODIES + 3)))

    assert all(answer.body == CONTENT for answer in bodies)
    assert len(passes) >= 1


@pytest.mark.parametrize("store", ["boot"], indirect=True)
async def test_damage_in_a_later_span_never_leaves(site: Site, passes: list[DirectSending]) -> None:
    """What arrived is right, less than promised, and the end is not a clean one."""
    damaged_at = SPAN_BYTES + (3 << 20)
    path = await verified_again(site, CONTENT, rotten(CONTENT, damaged_at))
    reader, writer = await site.connect()
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())

    status, headers, _ = head(await reader.readuntil(b"\r\n\r\n"))
    received, is_clean = await read_to_the_end(reader)

    assert not is_clean
    assert (status, int(headers["content-length"])) == (200, len(CONTENT))
    assert len(received) <= damaged_at
    assert CONTENT.startswith(received)
    assert await counts(site, passes) == [SPAN_BYTES]
    writer.close()
    await site.store.reading.settle()


@pytest.mark.parametrize("store", ["scrub"], indirect=True)
async def test_a_file_that_shrinks_never_ends_cleanly(
    site: Site, passes: list[DirectSending]
) -> None:
    path = await put_here(site, CONTENT)
    reader, writer = await slow_reader(site, path)
    await reader.readuntil(b"\r\n\r\n")
    stored = cast(Any, site.store.blobs).path_of(DIGEST)
    stored.chmod(0o600)
    os.truncate(stored, len(CONTENT) - 100)

    received, is_clean = await read_to_the_end(reader)

    assert not is_clean
    assert len(received) < len(CONTENT)
    assert passes
    writer.close()
    await site.store.reading.settle()


@pytest.mark.parametrize("store", ["strict"], indirect=True)
async def test_the_strict_mode_sends_the_very_buffer_it_verified(
    site: Site, passes: list[DirectSending]
) -> None:
    path = await put_here(site, CONTENT)

    assert (await site.ask("GET", path)).body == CONTENT
    assert not passes


def test_a_connection_with_tls_is_never_sent_to_by_the_kernel(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    transport = transport_of(pair[0], sslcontext=object())

    assert sending._duplicate(transport) is None


async def test_a_large_file_of_an_archive_is_sent_by_a_thread(
    site: Site, passes: list[DirectSending]
) -> None:
    published = await site.ask("PUT", "/models/bert/1.0.0/model.bin?publish=true", data=CONTENT)
    assert published.status in (200, 201)

    archive = await site.ask("GET", "/models/bert/1.0.0.tar")

    assert archive.body.count(CONTENT) == 1
    assert len(archive.body) == int(archive.headers["Content-Length"])
    assert await counts(site, passes) == [len(CONTENT)]


def transport_of(connection: socket.socket, *, is_closing: bool = False, **more: object) -> Any:
    """As much of a transport as is looked at."""
    known = {"socket": connection, **more}
    return SimpleNamespace(is_closing=lambda: is_closing, get_extra_info=known.get)


def content_file(directory: Path) -> Any:
    path = directory / "content"
    path.write_bytes(CONTENT)
    return path.open("rb")
