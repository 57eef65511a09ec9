"""Answers that are given again: the same ones, to the same people, until anything is committed."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
from base64 import b64encode
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any, Final
from unittest import mock

import msgspec
import pytest
from aiohttp import web

from registry.api.files import ROUTES as FILES
from registry.api.routes import ROUTES
from registry.app import create_app, runner_of
from registry.catalog.migrations import CHAINS
from registry.config import Config, RatesConfig
from registry.domain.principals import LOCAL, Principal
from registry.http import repeating
from registry.http.draining import Drain
from registry.http.repeating import Kept, RepeatingHandler, Repeats
from registry.keys import DOWNLOADS, DRAIN, METRICS, REPEATS, STORE
from registry.middlewares.access_log import AccessLog
from registry.services import accesses, downloads, identities
from registry.services.accesses import Accesses
from registry.services.blobs import Blobs
from registry.services.identities import Identities
from store.clock import SECOND
from store.index.transactions import Tx
from store.opening import Store, StoreSettings, open_store
from tests.support.clock import ManualClock
from tests.support.people import AUTHENTICATED, Person, make_person, revoke_tokens
from tests.support.serving import head, opened

BYTES = b"weights" * 100
BLOB = f"/blobs/sha256:{sha256(BYTES).hexdigest()}"
MODEL = "/api/v1/models/bert"
VERSION = "/api/v1/models/bert/versions/1.0.0"

NEVER_SECONDS: Final = 86_400

PLAIN = [
    ("Accept", "text/html"),
    ("Accept-Encoding", "gzip"),
    ("Accept-Language", "de"),
    ("Authorization", "Bearer whatever"),
    ("Connection", "keep-alive"),
    ("User-Agent", "curl/8"),
    ("X-Request-Id", "mine-12345678"),
    ("X-Request-Id", "x"),
    ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
]
OTHERS = [
    ("Cache-Control", "no-cache"),
    ("Connection", "close"),
    ("Content-Length", "0"),
    ("Cookie", "a=b"),
    ("Digestry-Override", "because"),
    ("Expect", "100-continue"),
    ("If-Match", f'"sha256:{sha256(BYTES).hexdigest()}"'),
    ("If-None-Match", f'"sha256:{sha256(BYTES).hexdigest()}"'),
    ("If-Range", '"other"'),
    ("Origin", "http://elsewhere.example"),
    ("Range", "bytes=3-9"),
    ("Sec-Fetch-Site", "cross-site"),
    ("Upgrade", "websocket"),
    ("X-Forwarded-For", "1.2.3.4"),
]


class Line:
    """One connection of a client that keeps it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, path: str, headers: Iterable[tuple[str, str]] = (), **more: str) -> bytes:
        """The whole answer; a connection that the server ended is made anew."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        host = [] if any(name == "Host" for name, _ in headers) else [("Host", "localhost")]
        lines = [f"{name}: {value}" for name, value in (*host, *headers)]
        method, version = more.get("method", "GET"), more.get("version", "1.1")
        return await self.send(
            "\r\n".join((f"{method} {path} HTTP/{version}", *lines, "", "")).encode()
        )

    async def send(self, sent: bytes) -> bytes:
        assert self._streams is not None
        reader, writer = self._streams
        writer.write(sent)
        block = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
        status, fields, _ = head(block)
        has_body = status not in (204, 304) and not sent.startswith(b"HEAD ")
        length = int(fields["content-length"]) if has_body else 0
        body = await reader.readexactly(length)
        if fields.get("connection", "").lower() == "close":
            self.close()
        return block + body

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


class Sink(asyncio.Transport):
    """A transport that keeps what is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""

    def write(self, data: Any) -> None:
        self.sent += data

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        """Nothing was open."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def answers(self) -> list[bytes]:
        """What was answered whole; every request here has an answer with a length."""
        found, rest = [], self.sent
        while b"\r\n\r\n" in rest:
            block, _, after = rest.partition(b"\r\n\r\n")
            _, fields, _ = head(block + b"\r\n\r\n")
            length = int(fields["content-length"])
            if len(after) < length:
                break
            found.append(block + b"\r\n\r\n" + after[:length])
            rest = after[length:]
        return found


class Served:
    """An application with a log, and a connection to it on which something was asked before."""

    def __init__(self, runner: web.AppRunner, port: int, log: io.BytesIO) -> None:
        self.runner = runner
        self.app = runner.app
        self.port = port
        self.log = log
        self.line = Line(port)

    @property
    def repeated(self) -> int:
        return self.app[REPEATS].repeated

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[tuple[RepeatingHandler, Sink]]:
        """A connection without a socket, so that what arrives at once is a test's choice."""
        assert self.runner.server is not None
        connection, sink = self.runner.server(), Sink()
        assert isinstance(connection, RepeatingHandler)
        connection.connection_made(sink)
        yield connection, sink
        connection.connection_lost(None)

    async def twice(
        self, path: str, headers: Iterable[tuple[str, str]] = (), **more: str
    ) -> tuple[bytes, bytes, int]:
        """The answer of the handler, the one after it, and how many were given again."""
        await self.line.ask("/healthz")
        self.app[REPEATS]._forget()
        before = self.repeated
        first = await self.line.ask(path, headers, **more)
        assert self.repeated == before
        if self.line._streams is None:
            await self.line.ask("/healthz")
        second = await self.line.ask(path, headers, **more)
        return first, second, self.repeated - before


@asynccontextmanager
async def served(store: Store, config: Config | None = None) -> AsyncIterator[Served]:
    """An application that commits nothing but what it is asked for.

    What it notes on the side it would write down a second or two later, between any two requests of
    a test; here it is written at the end.
    """
    log = io.BytesIO()
    app = create_app(config or Config(), store, access_log=AccessLog(log))
    runner = runner_of(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made = Served(runner, runner.addresses[0][1], log)
    with (
        mock.patch.object(identities, "NOTE_SECONDS", NEVER_SECONDS),
        mock.patch.object(accesses, "TICK_SECONDS", NEVER_SECONDS),
        mock.patch.object(downloads, "FLUSH_SECONDS", NEVER_SECONDS),
    ):
        try:
            await made.line.ask("/healthz")
            yield made
        finally:
            made.line.close()
            await runner.cleanup()


async def fill(site: Served, who: Person | None = None) -> None:
    """A model with a version of one file; the connection stays."""
    shown = {} if who is None else {"Authorization": f"Bearer {who.token}"}

    async def send(method: str, path: str, body: bytes, media: str) -> None:
        fields = {"Host": "localhost", "Content-Length": str(len(body)), "Content-Type": media}
        lines = [f"{name}: {value}" for name, value in {**fields, **shown}.items()]
        sent = "\r\n".join((f"{method} {path} HTTP/1.1", *lines, "", "")).encode() + body
        assert b" 201 " in (answer := await site.line.send(sent))[:20], answer

    await send("PUT", BLOB, BYTES, "application/octet-stream")
    await send("POST", "/api/v1/models", b'{"name":"bert"}', "application/json")
    wish = {"label": "1.0.0", "files": [{"path": "w", "digest": BLOB[7:]}], "publish": True}
    await send("POST", f"{MODEL}/versions", json.dumps(wish).encode(), "application/json")


@pytest.fixture
async def site() -> AsyncIterator[Served]:
    async with opened(None) as store, served(store) as made:
        await fill(made)
        yield made


def told(answer: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
    """Status, headers and body without what each answer has its own of."""
    block, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = block.decode().split("\r\n")
    fields = [line.partition(": ")[::2] for line in lines]
    own = {value for name, value in fields if name == "X-Request-Id"}
    assert len(own) == 1
    kept = sorted((name, value) for name, value in fields if name not in ("Date", "X-Request-Id"))
    assert {"Date", "X-Request-Id"} <= {name for name, _ in fields}
    return int(first.split()[1]), kept, body.replace(own.pop().encode(), b"ID")


async def test_what_is_given_again_is_what_the_handler_said_under_any_headers(site: Served) -> None:
    every = [*PLAIN, *OTHERS]
    for some in ((), *itertools.combinations(every, 1), *itertools.combinations(every, 2)):
        first, second, repeated = await site.twice(BLOB, some)
        assert told(first) == told(second), some
        is_plain = {*some} <= {*PLAIN} and len({name for name, _ in some}) == len(some)
        assert repeated == (1 if is_plain else 0), some


@pytest.mark.parametrize("path", [MODEL, VERSION])
async def test_metadata_is_given_again_under_plain_headers_alone(site: Served, path: str) -> None:
    for one in (*PLAIN, *OTHERS):
        first, second, repeated = await site.twice(path, [one])
        assert told(first) == told(second), one
        assert repeated == (1 if one in PLAIN else 0), one


@pytest.mark.parametrize(
    ("path", "more"),
    [
        (BLOB, {"method": "HEAD"}),
        (BLOB, {"version": "1.0"}),
        (f"{MODEL}?include=versions", {}),
        ("/api/v1/models", {}),
        ("/api/v1/models/none", {}),
        ("/models/bert/1.0.0/", {}),
    ],
    ids=["HEAD", "HTTP/1.0", "query", "list", "404", "files"],
)
async def test_what_is_no_plain_get_of_such_a_route_goes_the_whole_way(
    site: Served, path: str, more: dict[str, str]
) -> None:
    if path == BLOB:
        await site.twice(path)
    before = site.repeated
    for _ in range(2):
        await site.line.ask("/healthz")
        await site.line.ask(path, (), **more)
        if more:
            site.line.close()
    assert site.repeated == before


async def test_a_new_connection_is_answered_like_one_that_asked_before(site: Served) -> None:
    first, _, _ = await site.twice(BLOB)
    fresh = Line(site.port)
    assert told(await fresh.ask(BLOB)) == told(first)
    assert told(await fresh.ask(BLOB)) == told(first)
    fresh.close()


async def test_a_request_in_pieces_and_several_at_once_are_answered_in_order(site: Served) -> None:
    await site.twice(BLOB)
    await site.twice(MODEL)
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    get = "GET {} HTTP/1.1\r\nHost: localhost\r\n\r\n"
    asked = ["/healthz", BLOB, MODEL, BLOB, "/healthz", MODEL]
    sent = "".join(map(get.format, asked)).encode()
    for start in range(0, len(sent), 37):
        writer.write(sent[start : start + 37])
        await asyncio.sleep(0)
    for path in asked:
        block = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
        body = await reader.readexactly(int(head(block)[1]["content-length"]))
        assert (body == BYTES) == (path == BLOB)
        assert (b'"bert"' in body) == (path == MODEL)
    writer.close()


def get(path: str, *headers: tuple[str, str]) -> bytes:
    lines = [f"{name}: {value}" for name, value in (("Host", "localhost"), *headers)]
    return "\r\n".join((f"GET {path} HTTP/1.1", *lines, "", "")).encode()


PUT = (
    f"PUT /blobs/sha256:{sha256(bytes(40)).hexdigest()} HTTP/1.1\r\nHost: localhost\r\n"
    f"Content-Length: 40\r\n\r\n"
).encode() + bytes(40)


async def answered(sink: Sink, count: int) -> list[bytes]:
    async with asyncio.timeout(20):
        while sink.sent.count(b"HTTP/1.1 ") < count or len(sink.answers()) < count:
            await asyncio.sleep(0)
    for _ in range(5):
        await asyncio.sleep(0)  # the task of the connection sleeps again
    return sink.answers()


async def ask(connection: RepeatingHandler, sink: Sink, asked: bytes) -> bytes:
    sink.sent = b""
    connection.data_received(asked)
    (answer,) = await answered(sink, 1)
    sink.sent = b""
    return answer


async def learned(connection: RepeatingHandler, sink: Sink, *asked: bytes) -> None:
    """Ask until the connection knows these requests by their bytes."""
    for one in (get("/healthz"), *asked, *asked):
        await ask(connection, sink, one)
    assert connection._alike


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What connections handed to aiohttp's parser."""
    found: list[bytes] = []
    parse = RepeatingHandler._parse

    def watched(handler: RepeatingHandler, data: bytes) -> None:
        found.append(data)
        parse(handler, data)

    monkeypatch.setattr(RepeatingHandler, "_parse", watched)
    return found


async def test_a_request_like_the_one_before_is_not_parsed(
    site: Served, parsed: list[bytes]
) -> None:
    async with site.connected() as (connection, sink):
        await learned(connection, sink, get(BLOB), get(MODEL))
        del parsed[:]
        before = site.repeated
        for path in (BLOB, MODEL, BLOB):
            connection.data_received(get(path))
        one, other, again = sink.answers()
        assert (parsed, site.repeated) == ([], before + 3)
        assert told(one) == told(again)
        assert (one.endswith(BYTES), b'"bert"' in other) == (True, True)
        # Nothing is kept for these.
        for path in ("/healthz", f"{MODEL}/versions", f"{BLOB}?x=1", "/api/v1/models/other"):
            answer = await ask(connection, sink, get(path))
            assert parsed.pop() == get(path)
            assert told(answer) == told(await site.line.ask(path))


async def test_counts_of_downloads_end_nothing_that_is_kept(site: Served) -> None:
    file = "/models/bert/latest/w"
    async with site.connected() as (connection, sink):
        for _ in range(2):
            await ask(connection, sink, get(file))
        before = site.repeated
        await site.app[DOWNLOADS].flush()
        assert (await ask(connection, sink, get(file))).endswith(BYTES)
        assert site.repeated == before + 1


async def test_while_it_is_open_whether_anything_changed_nothing_is_given_or_forgotten() -> None:
    repeats = create_repeats(is_open=True, counters=[1, -2, 1, 3])
    circumstances, _ = repeats.circumstances(((b"Host", b"localhost"),), is_secure=False)
    assert circumstances is not None
    asked = "/blobs/x", circumstances
    kept = Kept(
        head=b"",
        content=b"",
        tell=lambda *_: None,
        also=None,
        principal=LOCAL,
        shows_token=False,
        expires_at=None,
    )
    assert repeats.find(asked) is None
    repeats._keep(asked, kept)

    assert repeats.find(asked) is None
    assert repeats.find(asked) is kept
    assert repeats.find(asked) is None
    assert not repeats._kept


async def test_what_had_content_ends_nothing_that_was_learned(
    site: Served, parsed: list[bytes]
) -> None:
    async with site.connected() as (connection, sink):
        await learned(connection, sink, get(BLOB))
        await ask(connection, sink, PUT)
        for _ in range(2):  # what was committed ended what was kept
            await ask(connection, sink, get(BLOB))
        del parsed[:]
        assert (await ask(connection, sink, get(BLOB))).endswith(BYTES)
        assert parsed == []


UNLIKE = [
    get(BLOB, ("Range", "bytes=0-1")),
    get(BLOB).replace(b"GET", b"HEAD"),
    get(BLOB).replace(b"GET", b"PUT"),
    get(BLOB).replace(b"HTTP/1.1", b"HTTP/1.0"),
    # The same end, and more before it.
    get(BLOB).replace(b"Host", b"Range: bytes=0-1 HTTP/1.1\r\nHost"),
    get(BLOB).replace(b" HTTP", b" x HTTP"),
    b"\r\n" + get(BLOB),
    get(BLOB)[:-2],
    get(BLOB)[:-2] + b"Connection: close\r\n\r\n",
    get(BLOB) + b"GET",
    get(BLOB) * 2,
    get(BLOB).replace(b"/blobs", b"/blobs\xff"),
]


@pytest.mark.parametrize("data", UNLIKE)
async def test_whatever_is_not_quite_alike_is_parsed(
    site: Served, parsed: list[bytes], data: bytes
) -> None:
    async with site.connected() as (connection, sink):
        await learned(connection, sink, get(BLOB))
        del parsed[:]
        connection.data_received(data)
        assert parsed == [data]


BEFORE = [
    b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Rest: ",
    b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n",
    b"\r\n",
    get("/healthz") + b"GET",
    get("/healthz", ("Content-Length", str(len(get(BLOB))))),
    get("/healthz", ("Transfer-Encoding", "chunked")),
    get("/healthz", ("Connection", "upgrade"), ("Upgrade", "websocket")),
    b"PUT /blobs/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n" + b"\r\n\r\n",
]


@pytest.mark.parametrize("data", BEFORE)
async def test_bytes_behind_an_unfinished_request_are_no_request(
    site: Served, parsed: list[bytes], data: bytes
) -> None:
    """Whoever puts a request into the content or a header of another one gets no answer to it."""
    async with site.connected() as (connection, sink):
        await learned(connection, sink, get(BLOB))
        connection.data_received(data)
        assert not connection._is_between
        for _ in range(20):
            await asyncio.sleep(0)  # a handler that answers without the content has done so
        del parsed[:]
        connection.data_received(get(BLOB))
        assert parsed[:1] == [get(BLOB)]


async def test_the_end_of_a_request_is_not_learned_as_one(
    site: Served, parsed: list[bytes]
) -> None:
    end = b"GET /blobs HTTP/1.1\r\n\r\n"
    request = get(BLOB, ("User-Agent", "curl/8"))
    async with site.connected() as (connection, sink):
        await learned(connection, sink, request)
        whole = request.replace(b"curl/8\r\n\r\n", end)
        for _ in range(2):  # the first is the one whose answer is kept
            connection.data_received(whole[: -len(end)])
            assert (await ask(connection, sink, end)).startswith(b"HTTP/1.1 200")
        without_host = get(BLOB).partition(b"\r\n")[0] + b"\r\n\r\n"
        connection.data_received(without_host)
        assert parsed[-1] == without_host


async def test_content_behind_a_request_that_waits_is_no_request(site: Served) -> None:
    async with site.connected() as (connection, sink):
        await learned(connection, sink, get(BLOB))
        upload = PUT.replace(b"Content-Length: 40", b"Content-Length: %d" % len(get(BLOB)))
        connection.data_received(get("/healthz") + upload[:-40])
        connection.data_received(get(BLOB))
        assert not connection._is_between
        first, second = await answered(sink, 2)
        assert (first[9:12], second[9:12]) == (b"200", b"422")


async def test_bytes_stand_for_the_headers_they_were_read_as(site: Served) -> None:
    """Headers that were read since, and found nothing kept, do not answer for those before."""
    file = "/models/bert/latest/w"
    one, other = (get(file, ("User-Agent", program)) for program in ("curl/8", "pip/24"))
    async with site.connected() as (connection, sink):
        await learned(connection, sink, one)
        for data in (one, other, one):
            await ask(connection, sink, data)
    await site.app[DOWNLOADS].flush()
    answer = await site.line.ask(f"{MODEL}/downloads?by=client")
    items = json.loads(answer.partition(b"\r\n\r\n")[2])["items"]
    assert {item["client"]: item["requests"] for item in items} == {"curl/8": 4, "pip/24": 1}


async def test_a_connection_that_ends_or_cannot_write_answers_nothing(site: Served) -> None:
    async with site.connected() as (connection, sink):
        await learned(connection, sink, get(BLOB))
        connection.pause_writing()
        before = site.repeated
        connection.data_received(get(BLOB))
        assert (sink.sent, site.repeated) == (b"", before)
        connection.resume_writing()
        await answered(sink, 1)
        await learned(connection, sink, get(BLOB))
        connection.close()
        connection.data_received(get(BLOB))
        assert sink.sent == b""


async def test_requests_in_any_pieces_are_answered_as_one_by_one(site: Served) -> None:
    kinds = [get(BLOB), get(MODEL), get(VERSION), get(BLOB, ("Accept", "*/*")), get("/healthz")]
    async with site.connected() as (connection, sink):
        expected = {}
        for data in (*kinds, PUT, PUT):
            expected[data] = told(await ask(connection, sink, data))
    repeated = site.repeated
    for seed in range(6):
        random = Random(seed)
        is_patient = seed < 2
        asked = random.choices([*kinds, PUT], [3, 3, 3, 3, 1, 0 if is_patient else 0.5], k=16)
        stream = b"".join(asked)
        places = set(itertools.accumulate(map(len, asked)))
        if seed > 3:
            places = {*random.sample(range(1, len(stream)), 20), len(stream)}
        async with site.connected() as (connection, sink):
            start = 0
            for count, end in enumerate(sorted(places), start=1):
                connection.data_received(stream[start:end])
                start = end
                if is_patient:
                    await answered(sink, count)
                for _ in range(random.choice((0, 0, 1, 30))):
                    await asyncio.sleep(0)
            answers = await answered(sink, len(asked))
            assert [told(one) for one in answers] == [expected[one] for one in asked]
    assert site.repeated > repeated + 16


async def test_repeated_answers_are_logged_and_counted_like_any(site: Served) -> None:
    _, _, repeated = await site.twice(BLOB, [("X-Request-Id", "mine-12345678")])
    assert repeated == 1
    counted = site.app[METRICS].render().decode()
    assert (
        'digestry_http_requests_total{method="GET",route="/blobs/{digest}",status="200"} 2.0'
        in (counted)
    )
    assert "digestry_http_repeated_answers_total 1.0" in counted
    assert f"digestry_http_sent_bytes_total {float(site.app[METRICS].sent)}" in counted
    lines = [json.loads(line) for line in await logged(site)]
    one, other = (line for line in lines if line["path"] == BLOB and line["method"] == "GET")
    for line in (one, other):
        assert line.pop("milliseconds") >= 0
        line.pop("timestamp")
    assert one == other
    assert one["request_id"] == "mine-12345678"
    assert one["bytes_out"] == len(BYTES)


async def logged(site: Served) -> list[bytes]:
    async with asyncio.timeout(20):
        while site.log.getvalue().count(BLOB.encode()) < 3:
            await asyncio.sleep(0.01)
    return site.log.getvalue().splitlines()


async def test_each_answer_has_an_id_of_its_own_and_the_clients_where_it_is_sane(
    site: Served,
) -> None:
    _, one, _ = await site.twice(BLOB)
    ids = {head(await site.line.ask(BLOB))[1]["x-request-id"] for _ in range(3)}
    assert len(ids | {head(one)[1]["x-request-id"]}) == 4
    given = await site.line.ask(BLOB, [("X-Request-Id", "mine-12345678")])
    assert head(given)[1]["x-request-id"] == "mine-12345678"
    insane = await site.line.ask(BLOB, [("X-Request-Id", "a b")])
    assert head(insane)[1]["x-request-id"] != "a b"


async def test_urls_follow_the_name_by_which_the_server_is_called(site: Served) -> None:
    for host in ("localhost", "127.0.0.1:80"):
        first, second, repeated = await site.twice(MODEL, [("Host", host)])
        assert repeated == 1
        assert f"http://{host}/".encode() in first
        assert f"http://{host}/".encode() in second
    assert b" 421 " in (await site.line.ask(MODEL, [("Host", "evil.example")]))[:20]


def test_every_route_that_repeats_lies_where_answers_are_looked_up() -> None:
    places = [route.path for route in ROUTES if route.repeats]
    assert places
    assert all(path.startswith(repeating.PLACES) for path in places)
    assert all(route.path.startswith(repeating.PLACES) for route in FILES)


async def test_any_commit_ends_what_is_kept(site: Served) -> None:
    first, _, repeated = await site.twice(MODEL)
    assert repeated == 1
    body = b'{"description":"new"}'
    sent = (
        f"PATCH {MODEL} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body
    assert b" 200 " in (await site.line.send(sent))[:20]
    after = await site.line.ask(MODEL)
    assert told(after) != told(first)
    assert b'"new"' in after


async def test_a_draining_server_says_so_in_answers_it_has_kept(site: Served) -> None:
    await site.twice(BLOB)
    site.app[DRAIN].begin()
    before = site.repeated
    answer = await site.line.ask(BLOB)
    assert head(answer)[1]["connection"] == "close"
    assert site.repeated == before


async def test_what_is_kept_is_bounded(site: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeating, "MOST_KEPT", 2)
    for host in ("a", "b", "c", "d"):
        await site.line.ask(MODEL, [("Host", f"127.0.0.{ord(host)}")])
        assert len(site.app[REPEATS]._kept) <= 2
    monkeypatch.setattr(repeating, "MOST_KEPT_BYTES", 100)
    await site.line.ask(MODEL, [("Host", "127.0.0.9")])
    assert len(site.app[REPEATS]._kept) == 1


async def test_limits_of_requests_and_tracing_need_the_whole_way() -> None:
    async with opened(None) as store:
        assert REPEATS in create_app(Config(), store)
        limited = msgspec.structs.replace(Config(), rates=RatesConfig(reads_per_minute=5))
        assert REPEATS not in create_app(limited, store)


async def test_an_idle_connection_is_kept_from_its_last_answer_on(
    site: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends: list[float] = []
    repeat = RepeatingHandler._repeat

    def watched(handler: RepeatingHandler, *asked: Any) -> bool:
        handler._next_keepalive_close_time = 0.0
        done = repeat(handler, *asked)
        ends.append(handler._next_keepalive_close_time)
        return done

    monkeypatch.setattr(RepeatingHandler, "_repeat", watched)
    await site.twice(BLOB)
    assert ends[-1] > asyncio.get_running_loop().time()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@asynccontextmanager
async def guarded(root: Path | None, clock: ManualClock) -> AsyncIterator[tuple[Served, Person]]:
    """A server that asks who people are, and somebody who filled it."""
    async with opened(root, clock=clock) as store, served(store, AUTHENTICATED) as site:
        ada = await make_person(store, "ada", is_admin=True)
        await fill(site, ada)
        yield site, ada


def shown(who: Person) -> list[tuple[str, str]]:
    return [("Authorization", f"Bearer {who.token}")]


async def test_answers_are_given_again_to_whoever_shows_the_same_token(clock: ManualClock) -> None:
    async with guarded(None, clock) as (site, ada):
        bob = await make_person(site.app[STORE], "bob")
        for path in (BLOB, MODEL, VERSION):
            first, second, repeated = await site.twice(path, shown(ada))
            assert (told(first), repeated) == (told(second), 1)
            assert b" 404 " in (await site.line.ask(path, shown(bob)))[:20]
            assert b" 401 " in (await site.line.ask(path))[:20]
            basic = [("Authorization", "Basic " + b64encode(f"x:{ada.token}".encode()).decode())]
            assert (await site.twice(path, basic))[2] == 0


async def test_revoking_a_token_in_another_worker_is_effective_at_the_next_request(
    tmp_path: Path, clock: ManualClock
) -> None:
    root = tmp_path / "data"
    async with guarded(root, clock) as (site, _):
        settings = StoreSettings(root=root, reserve_bytes=0, reserve_share=0.0, chains=CHAINS)
        other = await open_store(settings, clock=clock)
        try:
            for path in (BLOB, MODEL, VERSION):
                token = await make_person(other, f"of{path[-4:]}", is_admin=True)
                assert (await site.twice(path, shown(token)))[2] == 1
                before = site.repeated
                await revoke_tokens(other, token)
                assert b" 401 " in (await site.line.ask(path, shown(token)))[:20]
                assert site.repeated == before
        finally:
            await other.close()


async def test_a_token_that_ends_ends_what_was_kept_for_it(clock: ManualClock) -> None:
    async with guarded(None, clock) as (site, _):
        soon: dict[str, Any] = {"expires_at": clock() + 60 * SECOND}
        eve = await make_person(site.app[STORE], "eve", is_admin=True, **soon)
        assert (await site.twice(BLOB, shown(eve)))[2] == 1
        clock.advance(61)
        assert b" 401 " in (await site.line.ask(BLOB, shown(eve)))[:20]


async def test_the_use_of_a_token_is_noted_however_it_was_answered(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with guarded(None, clock) as (site, ada):
        _, _, repeated = await site.twice(BLOB, shown(ada))
        noted: list[str] = []
        monkeypatch.setattr(Identities, "note_use", lambda _, id: noted.append(id))
        used: list[tuple[str, str]] = []

        def note(_: object, principal: Principal, address: str, id: str) -> None:
            used.append((address, id))

        monkeypatch.setattr(Accesses, "used", note)
        before = site.repeated
        site.line.close()
        await site.line.ask("/healthz")
        answer = await site.line.ask(BLOB, shown(ada))
        await site.line.ask(BLOB, shown(ada))
        assert (repeated, site.repeated) == (1, before + 2)
        assert len(noted) <= 2, "once a second for each connection"
        assert noted[0].startswith("tok_")
        assert used[0] == ("127.0.0.1", head(answer)[1]["x-request-id"])


async def test_the_secret_of_local_commands_is_looked_at_in_open_mode_too(site: Served) -> None:
    secret = [("Authorization", "Digestry-Local wrong")]
    assert b" 401 " in (await site.line.ask(BLOB, secret))[:20]
    await site.twice(BLOB)
    assert b" 401 " in (await site.line.ask(BLOB, secret))[:20]


async def test_a_file_of_a_version_is_counted_each_time_by_the_program_that_gets_it(
    site: Served,
) -> None:
    file = "/models/bert/latest/w"
    for program in ("curl/8.1", "pip/24"):
        first, second, repeated = await site.twice(file, [("User-Agent", program)])
        assert (told(first), repeated) == (told(second), 1)
    await site.line.ask(file, [("User-Agent", "curl/8.1")])
    await site.app[DOWNLOADS].flush()
    answer = await site.line.ask(f"{MODEL}/downloads?by=client")
    items = json.loads(answer.partition(b"\r\n\r\n")[2])["items"]
    counts = {item["client"]: (item["requests"], item["bytes"]) for item in items}
    assert counts == {"curl/8.1": (3, 3 * len(BYTES)), "pip/24": (2, 2 * len(BYTES))}


async def test_a_file_of_a_sensitive_model_goes_the_whole_way_to_the_audit_log(
    site: Served,
) -> None:
    body = b'{"risk_level":"high"}'
    sent = (
        f"PATCH {MODEL} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body
    assert b" 200 " in (answer := await site.line.send(sent))[:20], answer
    first, second, repeated = await site.twice("/models/bert/latest/w")
    assert (told(first), repeated) == (told(second), 0)


def test_no_token_is_kept() -> None:
    repeats = create_repeats(is_open=False)
    headers = ((b"Host", b"localhost"), (b"Authorization", b"Bearer dgt_secretsecret"))
    found, _ = repeats.circumstances(headers, is_secure=False)
    assert found is not None
    assert b"secret" not in found.credential


def create_repeats(*, is_open: bool, counters: Iterable[int] = ()) -> Repeats:
    following = iter(counters)
    return Repeats(
        lambda: next(following),
        ManualClock(),
        Drain(),
        lambda given: given or "made",
        lambda *_: lambda *_: None,
        lambda *_: None,
        is_open=is_open,
    )


async def test_an_answer_whose_making_committed_anything_is_not_kept(
    site: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = Blobs.find

    async def announced(blobs: Blobs, *asked: Any) -> Any:
        async def nothing(tx: Tx) -> None:
            """Commits, as an entry of the audit log does."""

        await site.app[STORE].index.run(nothing)
        return await find(blobs, *asked)

    monkeypatch.setattr(Blobs, "find", announced)
    assert (await site.twice(BLOB))[2] == 0
    assert not site.app[REPEATS]._kept
