"""How slow a client may be, and what becomes of a body nobody wants."""

from __future__ import annotations

import asyncio
import errno

import msgspec
import pytest

from registry.config import Config, LimitsConfig, ServerConfig
from registry.http.receiving import DISCARD_BYTES, Pace, Progress
from registry.keys import DRAIN
from store.opening import Store
from tests.support.serving import Site, head, serving

PACE = Pace(idle_seconds=10, bytes_per_second=100, grace_seconds=6)
HASTY = Config(
    server=ServerConfig(
        idle_timeout_seconds=0.15,
        minimum_rate_bytes_per_second=1000,
        minimum_rate_grace_seconds=0.3,
    ),
    limits=LimitsConfig(blob_bytes=1 << 30),
)


def fed(progress: Progress, *steps: tuple[float, int]) -> str | None:
    """Feed (time of arrival, bytes), looking after each; the client is always waited for."""
    verdict, now = None, 0.0
    for at, count in steps:
        progress.waits(now)
        verdict = progress.verdict(at)
        if verdict is not None:
            return verdict
        progress.moved(count, at)
        now = at
    return verdict


def test_a_client_that_sends_nothing_is_given_up_after_the_idle_time() -> None:
    progress = Progress(PACE)
    progress.waits(0)

    assert progress.verdict(5.9) is None
    assert "below the minimum" in (progress.verdict(6.0) or "")
    assert "nothing moved for 10 s" in (progress.verdict(10.0) or "")


def test_a_fast_client_may_take_as_long_as_it_wants() -> None:
    assert fed(Progress(PACE), *((second, 125) for second in range(1, 100_000))) is None


def test_a_client_below_the_rate_is_given_up_after_the_grace_time() -> None:
    steps = [(second, 99) for second in range(1, 20)]

    assert fed(Progress(PACE), *steps[:5]) is None
    assert "below the minimum" in (fed(Progress(PACE), *steps) or "")


def test_the_window_slides_so_a_fast_start_does_not_excuse_a_slow_end() -> None:
    fast = [(second, 1 << 20) for second in range(1, 60)]
    slow = [(60 + second, 1) for second in range(10)]

    assert fed(Progress(PACE), *fast) is None
    assert "below the minimum" in (fed(Progress(PACE), *fast, *slow) or "")


def test_time_that_the_server_takes_is_not_the_clients_fault() -> None:
    """A disk that stalls for an hour between two pieces changes nothing."""
    progress = Progress(PACE)
    for hour in range(1, 50):
        start = hour * 3600.0
        progress.waits(start)
        assert progress.verdict(start + 0.5) is None
        progress.moved(1000, start + 1)
        assert progress.verdict(start + 3599) is None


def test_looking_often_does_not_shorten_the_window() -> None:
    progress = Progress(PACE)
    progress.waits(0)
    for tick in range(1, 59):
        assert progress.verdict(tick / 10) is None


async def upload(site: Site, length: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await site.connect()
    request = f"PUT /blobs/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n"
    writer.write(request.encode())
    return reader, writer


@pytest.mark.parametrize("already", [0, 1, 100_000])
async def test_a_client_that_falls_silent_is_408(store: Store, already: int) -> None:
    async with serving(store, HASTY) as site:
        reader, writer = await upload(site, 200_000)
        writer.write(b"x" * already)

        status, headers, rest = head(await asyncio.wait_for(reader.read(), 20))

        assert status == 408
        assert headers["connection"] == "close"
        assert b'"stalled"' in rest
        assert await site.staged() == []
        writer.close()


async def test_a_client_that_trickles_is_408(store: Store) -> None:
    server = msgspec.structs.replace(HASTY.server, idle_timeout_seconds=60)  # so it is the rate
    async with serving(store, msgspec.structs.replace(HASTY, server=server)) as site:
        reader, writer = await upload(site, 200_000)

        async def trickle() -> None:
            while True:
                writer.write(b"x")
                await asyncio.sleep(0.02)

        trickling = asyncio.create_task(trickle())
        status, _, rest = head(await asyncio.wait_for(reader.readuntil(b"}"), 20))
        trickling.cancel()

        assert status == 408
        assert b"below the minimum" in rest
        assert await site.staged() == []
        writer.close()


async def test_a_client_above_the_rate_may_pause(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that stands still but for the pauses, whatever else the machine does."""
    loop, arrived, asked = asyncio.get_running_loop(), [0], []
    moved, verdict, now = Progress.moved, Progress.verdict, loop.time()

    def noting(progress: Progress, count: int, at: float) -> None:
        moved(progress, count, at)
        arrived[0] += count

    def asking(progress: Progress, at: float) -> str | None:
        asked.append(at)
        return verdict(progress, at)

    monkeypatch.setattr(Progress, "moved", noting)
    monkeypatch.setattr(Progress, "verdict", asking)
    async with serving(store, HASTY) as site:
        with monkeypatch.context() as patched:
            patched.setattr(loop, "time", lambda: now)
            reader, writer = await upload(site, 12 * 4096)
            answer = asyncio.create_task(reader.readuntil(b"\r\n\r\n"))
            for number in range(1, 13):
                writer.write(b"x" * 4096)
                while arrived[0] < number * 4096 and not answer.done():
                    await asyncio.sleep(0)
                for _ in range(10):  # what is due is done in the turns of each pause
                    now += 0.006
                    await asyncio.sleep(0)

            status, _, _ = head(await answer)

        assert status == 201
        assert len(asked) >= 10
        writer.close()


async def test_an_unread_body_is_thrown_away_within_bounds(store: Store) -> None:
    """The client sees the answer although it goes on sending, and then the connection ends."""
    async with serving(store, HASTY) as site:
        reader, writer = await site.connect()
        length = 8 * DISCARD_BYTES
        request = "PUT /blobs/sha256:typo HTTP/1.1\r\nHost: h.localhost\r\n"
        writer.write(f"{request}Content-Length: {length}\r\n\r\n".encode())
        answer = asyncio.create_task(reader.readuntil(b"\r\n\r\n"))
        sent = 0
        try:
            while sent < length:
                writer.write(b"x" * 65536)
                sent += 65536
                await writer.drain()
        except ConnectionError:
            pass

        status, headers, _ = head(await answer)
        assert status == 421
        assert headers["connection"] == "close"
        assert sent < length
        writer.close()


async def test_a_client_that_resets_the_connection_is_no_fault_of_the_server(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def write_eof(_: object) -> None:
        raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")

    monkeypatch.setattr("asyncio.selector_events._SelectorSocketTransport.write_eof", write_eof)
    async with serving(store) as site:
        reader, writer = await site.connect()
        writer.write(b"PUT /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nx")
        assert head(await reader.readuntil(b"\r\n\r\n"))[0] == 404
        drain = site.app[DRAIN]
        await site.until(lambda: not drain.in_flight)
        writer.close()
        await writer.wait_closed()

    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_a_short_unread_body_leaves_the_connection_usable(store: Store) -> None:
    """Nothing is closed for a body that has arrived, read or not."""
    async with serving(store) as site:
        reader, writer = await site.connect()
        request = b"PUT /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nxx"
        for _ in range(2):
            writer.write(request)
            status, headers, _ = head(await reader.readuntil(b"\r\n\r\n"))
            await reader.readexactly(int(headers["content-length"]))
            assert (status, headers.get("connection")) == (404, None)
        writer.close()


async def test_an_unknown_expectation_is_417(store: Store) -> None:
    async with serving(store) as site:
        headers = b"Host: localhost\r\nExpect: cake\r\nContent-Length: 1\r\n\r\n"

        status, _, _ = head(await site.raw(b"PUT /blobs/x HTTP/1.1\r\n" + headers))

        assert status == 417


async def test_an_http_1_0_client_is_never_told_to_continue(store: Store) -> None:
    async with serving(store) as site:
        request = b"PUT /blobs/x HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx"

        status, _, _ = head(await site.raw(request))

        assert status == 201


async def test_a_small_json_body_waits_for_continue_too(store: Store) -> None:
    async with serving(store) as site:
        reader, writer = await site.connect()
        body = b'{"digests": []}'
        writer.write(
            b"POST /api/v1/blobs/missing HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        )

        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")

        writer.write(body)
        status, _, _ = head(await reader.readuntil(b"\r\n\r\n"))
        assert status == 200
        writer.close()
