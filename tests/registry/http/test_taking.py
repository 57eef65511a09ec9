"""Small uploads that a connection takes in by itself: who may, which, and that nobody can tell."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest

from registry.config import Config, RatesConfig
from registry.http.taking import MOST_BYTES, TakingHandler
from registry.keys import DRAIN, METRICS, STORE, TAKES
from store.clock import SECOND, Clock, system_clock
from store.index.transactions import Unit
from tests.registry.http.test_repeating import OTHERS, PLAIN, Line, Served, served, told
from tests.support.clock import ManualClock
from tests.support.faults import no_commits
from tests.support.people import AUTHENTICATED, Person, make_person, revoke_tokens
from tests.support.serving import opened

Fields = Iterable[tuple[str, str]]

HOST = ("Host", "localhost")


class Place:
    """A server, and a connection on which blobs are put that were never there."""

    def __init__(self, site: Served) -> None:
        self.site = site
        self.line = site.line
        self._made = 0

    @property
    def taken(self) -> int:
        return self.site.app[TAKES].taken

    def content(self, size_bytes: int = 100) -> bytes:
        self._made += 1
        return (b"%08d" % self._made * (size_bytes // 8 + 1))[:size_bytes]

    async def send(self, sent: bytes, line: Line | None = None) -> bytes:
        line = line or self.line
        if line._streams is None:
            line._streams = await asyncio.open_connection("127.0.0.1", self.site.port)
        return await line.send(sent)

    async def put(self, fields: Fields = (), content: bytes | None = None, **more: Any) -> bytes:
        return await self.send(putting(content or self.content(), fields, **more))

    async def begin(self, fields: Fields = (HOST,)) -> None:
        """Have somebody let in the whole way."""
        assert b" 201 " in (answer := await self.put(fields))[:20], answer


def putting(
    content: bytes,
    fields: Fields = (HOST,),
    *,
    path: str | None = None,
    method: str = "PUT",
    version: str = "1.1",
) -> bytes:
    path = path or f"/blobs/sha256:{sha256(content).hexdigest()}"
    named = [name for name, _ in fields]
    own = [] if "Host" in named else [HOST]
    length = [] if "Content-Length" in named else [("Content-Length", str(len(content)))]
    lines = [f"{name}: {value}" for name, value in (*own, *length, *fields)]
    return "\r\n".join((f"{method} {path} HTTP/{version}", *lines, "", "")).encode() + content


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    async with opened(None) as store, served(store) as site:
        made = Place(site)
        await made.begin()
        yield made
        assert site.app[DRAIN].in_flight == 0


@asynccontextmanager
async def of_people(root: Path, clock: Clock = system_clock) -> AsyncIterator[Place]:
    async with opened(root, clock=clock) as store, served(store, AUTHENTICATED) as site:
        yield Place(site)


def showing(who: Person) -> list[tuple[str, str]]:
    return [HOST, ("Authorization", f"Bearer {who.token}")]


async def once_more(place: Place, fields: Fields) -> tuple[bytes, int]:
    """The answer to a request like one before, and how many were taken meanwhile."""
    await place.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    before = place.taken
    return await place.put(fields), place.taken - before


async def test_answers_are_those_of_the_handler(place: Place) -> None:
    for content in (place.content(), place.content(MOST_BYTES // 2)):
        hexadecimal = sha256(content).hexdigest()
        taken = [
            await place.put((), content, path=f"/blobs/{prefix}{hexadecimal}")
            for prefix in ("sha256:", "")
        ]
        assert place.taken > 0
        place.site.app[TAKES]._passes.clear()
        whole = await place.put((), content)
        await place.send(putting(b"", path=f"/blobs/{hexadecimal}", method="DELETE"))
        place.site.app[TAKES]._passes.clear()
        new = await place.put((), content)
        found = await place.send(
            f"GET /blobs/{hexadecimal} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        )

        assert [told(answer)[0] for answer in (*taken, whole, new)] == [201, 200, 200, 201]
        assert told(taken[0]) == told(new)
        assert told(taken[1]) == told(whole)
        assert found.endswith(content)
    assert place.taken == 4


async def test_plain_requests_are_taken_and_no_others(place: Place) -> None:
    others = [one for one in OTHERS if one[0] != "Content-Length"]
    every = [*PLAIN, *others, ("Content-Type", "image/png"), ("Idempotency-Key", "k")]
    plain = {*PLAIN, ("Content-Type", "image/png")}
    for one in every:
        first = await place.put([one])
        if place.line._streams is None:
            await place.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        before = place.taken
        second = await place.put([one])
        assert place.taken - before == (one in plain), one
        assert first.split(b"\r\n")[0] == second.split(b"\r\n")[0], one
    twice = list(itertools.repeat(("X-Request-Id", "mine-12345678"), 2))
    await place.put(twice)
    before = place.taken
    await place.put(twice)
    assert place.taken == before


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({"method": "POST", "path": "/blobs"}, 201),
        ({"path": "/blobs/"}, 201),
        ({"path": "/blobs/name.bin"}, 201),
        ({"path": f"/blobs/sha256:{'A' * 64}"}, 400),
        ({"path": f"/blobs/{'0' * 63}"}, 400),
        ({"path": f"/blobs/sha256:{'0' * 64}?x=1"}, 422),
        ({"path": f"/blobs/sha256:{'0' * 64}"}, 422),
        ({"path": f"/other/sha256:{'0' * 64}"}, 404),
        ({"version": "1.0"}, 201),
        ({"content": bytes(MOST_BYTES + 1)}, 201),
    ],
    ids=lambda value: value if isinstance(value, int) else ",".join(map(str, value))[:40],
)
async def test_what_is_not_put_by_digest_or_fails_goes_the_whole_way(
    place: Place, more: dict[str, Any], status: int
) -> None:
    before = place.taken
    answers = []
    for _ in range(2):
        answers.append(await place.put((), **more))
        if more.get("version"):
            place.line.close()

    assert int(answers[0].split()[1]) == status
    assert place.taken == before
    assert (await once_more(place, (HOST,)))[1] == 1 or more.get("version") is not None


async def test_a_body_that_is_not_all_there_goes_the_whole_way(place: Place) -> None:
    sent = putting(content := place.content(5000))
    reader, writer = await asyncio.open_connection("127.0.0.1", place.site.port)
    writer.write(sent[:1000])
    await writer.drain()
    await until(lambda: place.site.app[DRAIN].in_flight == 1)
    writer.write(sent[1000:])
    answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
    writer.close()

    assert b" 201 " in answer[:20]
    assert place.taken == 0
    assert str(len(content)).encode() in sent


async def test_no_address_or_program_is_let_in_by_the_pass_of_another(place: Place) -> None:
    for fields in ([("Host", "127.0.0.1")], [HOST, ("User-Agent", "other")]):
        before = place.taken
        await place.put(fields)
        assert place.taken == before
        await place.put(fields)
        assert place.taken == before + 1
    assert b" 421 " in (await place.put([("Host", "evil.example")]))[:20]
    assert b" 421 " in (await place.put([("Host", "evil.example")]))[:20]


async def test_requests_behind_one_that_is_stored_are_answered_in_order(place: Place) -> None:
    contents = [place.content() for _ in range(5)]
    get = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert place.line._streams is not None
    reader, writer = place.line._streams
    for number, content in enumerate(contents):
        # In two pieces, of which the second comes while the first is in hand.
        writer.write(putting(content) + (get if number == 1 else b""))
        await asyncio.sleep(0)
    kinds = []
    for _ in range(6):
        block = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
        length = int(block.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        body = await reader.readexactly(length)
        kinds.append(json.loads(body).get("digest", "health") if body[:1] == b"{" else "health")

    digests = [f"sha256:{sha256(content).hexdigest()}" for content in contents]
    assert kinds == [*digests[:2], "health", *digests[2:]]


async def until(is_true: Any) -> None:
    async with asyncio.timeout(20):
        while not is_true():
            await asyncio.sleep(0.001)


@pytest.fixture
def gate(place: Place, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Holds up what is written to the index until it is set."""
    index, opened_gate = place.site.app[STORE].index, asyncio.Event()
    run = index.run

    async def waiting(unit: Unit[Any]) -> Any:
        await opened_gate.wait()
        return await run(unit)

    monkeypatch.setattr(index, "run", waiting)
    return opened_gate


async def test_nothing_is_answered_before_it_is_committed(
    place: Place, gate: asyncio.Event
) -> None:
    answer = asyncio.create_task(place.put())
    await until(lambda: place.site.app[DRAIN].in_flight == 1)
    for _ in range(20):
        await asyncio.sleep(0)
    assert not answer.done()

    gate.set()
    assert b" 201 " in (await answer)[:20]
    assert place.taken == 1


async def test_a_connection_with_an_upload_in_hand_is_not_idle(
    place: Place, gate: asyncio.Event
) -> None:
    answer = asyncio.create_task(place.put())
    await until(lambda: place.site.app[DRAIN].in_flight == 1)
    [handler] = handlers(place)
    handler._next_keepalive_close_time = 0.0
    handler._process_keepalive()
    gate.set()

    assert b" 201 " in (await answer)[:20]
    handler._next_keepalive_close_time = 0.0
    handler._process_keepalive()
    assert handler.transport is None, "idle now"


def handlers(place: Place) -> list[TakingHandler]:
    """The connections that are open."""
    found = []
    for task in asyncio.all_tasks():
        frame = getattr(task.get_coro(), "cr_frame", None)
        one = None if frame is None else frame.f_locals.get("self")
        if isinstance(one, TakingHandler):
            found.append(one)
    return found


async def test_an_upload_whose_client_has_left_is_kept_and_logged_so(
    place: Place, gate: asyncio.Event
) -> None:
    content = place.content()
    assert place.line._streams is not None
    _, writer = place.line._streams
    writer.write(putting(content))
    await until(lambda: place.site.app[DRAIN].in_flight == 1)
    [handler] = handlers(place)
    place.line.close()
    await until(lambda: handler.transport is None)
    gate.set()
    await until(lambda: place.site.app[DRAIN].in_flight == 0)

    assert place.taken == 0
    assert b" 200 " in (await place.put((), content))[:20], "it was stored"
    assert await lines(place, status=499)


async def test_a_server_that_drains_ends_the_connection_behind_what_is_in_hand(
    place: Place, gate: asyncio.Event
) -> None:
    answer = asyncio.create_task(place.put())
    drain = place.site.app[DRAIN]
    await until(lambda: drain.in_flight == 1)
    drain.begin()
    gate.set()

    assert b"\r\nConnection: close\r\n" in await answer
    assert place.taken == 1
    assert b"\r\nConnection: close\r\n" in await place.put()
    assert place.taken == 1


async def test_what_cannot_be_stored_is_refused_by_the_handler(place: Place) -> None:
    with no_commits(place.site.app[STORE].index):
        refused = await place.put()
    assert b" 503 " in refused[:20]
    assert place.taken == 0
    assert b" 201 " in (await place.put())[:20]


async def lines(place: Place, count: int = 1, **told: Any) -> list[dict[str, Any]]:
    """What is logged, once `count` lines tell this: the log is written every tenth of a second."""

    def logged() -> list[dict[str, Any]]:
        return [msgspec.json.decode(line) for line in place.site.log.getvalue().splitlines()]

    def is_there() -> bool:
        return sum(told.items() <= line.items() for line in logged()) >= count

    await until(is_there)
    return logged()


async def test_what_is_taken_is_counted_measured_and_logged_as_ever(place: Place) -> None:
    content = place.content()
    whole, taken = [("User-Agent", "new")], (HOST,)
    await place.put(whole, content, path=f"/blobs/sha256:{sha256(content).hexdigest()}")
    await place.put((*taken, ("X-Request-Id", "mine-12345678")), content)
    answer = await place.put((*taken, ("X-Request-Id", "mine-87654321")), content)
    assert place.taken == 2
    assert b"X-Request-Id: mine-87654321" in answer

    puts = [line for line in await lines(place, 4, method="PUT") if line["method"] == "PUT"][1:]
    own = ("timestamp", "request_id", "milliseconds", "status")
    told_lines = [{k: v for k, v in line.items() if k not in own} for line in puts]
    assert told_lines[0] == told_lines[1] == told_lines[2]
    assert [line["request_id"] for line in puts[1:]] == ["mine-12345678", "mine-87654321"]
    counted = place.site.app[METRICS].render().decode()
    series = 'digestry_http_requests_total{method="PUT",route="/blobs/{digest}",status='
    assert f'{series}"201"}} 2.0' in counted
    assert f'{series}"200"}} 2.0' in counted
    assert "digestry_http_taken_uploads_total 2.0" in counted


async def test_a_pass_is_of_the_token_that_was_let_in(tmp_path: Path) -> None:
    async with of_people(tmp_path / "data") as place:
        store = place.site.app[STORE]
        ada, bob = await make_person(store, "ada"), await make_person(store, "bob")
        await place.begin(showing(ada))
        content = place.content()
        first = await place.put(showing(ada), content)
        for fields, status in (
            (showing(bob), 201),
            ([HOST], 401),
            ([HOST, ("Authorization", "Bearer dgt_none")], 401),
        ):
            answer = await place.put(fields, content)
            assert int(answer.split()[1]) == status
            if place.line._streams is None:
                await place.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert told(first)[0] == 201
        assert told(await place.put(showing(bob), content))[0] == 200


async def asked_again(place: Place, fields: Fields) -> int:
    """How many of some requests are taken, when nothing else is committed meanwhile but they."""
    before = place.taken
    for _ in range(4):
        # Each commits, so that the next one finds that rights may have changed, and looks.
        await place.send(
            "\r\n".join(
                ("GET /api/v1/models HTTP/1.1", *(f"{n}: {v}" for n, v in fields), "", "")
            ).encode()
        )
        assert b" 201 " in (await place.put(fields))[:20]
    return place.taken - before


async def test_a_token_is_let_in_while_nobodys_rights_change(tmp_path: Path) -> None:
    async with of_people(tmp_path / "data") as place:
        store = place.site.app[STORE]
        ada, bob = await make_person(store, "ada"), await make_person(store, "bob")
        await place.begin(showing(ada))
        assert await asked_again(place, showing(ada)) > 0

        await revoke_tokens(store, bob)
        assert await asked_again(place, showing(ada)) > 0
        await revoke_tokens(store, ada)
        before = place.taken
        for _ in range(2):
            assert b" 401 " in (await place.put(showing(ada)))[:20]
        assert place.taken == before


async def test_a_token_that_has_ended_is_not_let_in(tmp_path: Path) -> None:
    clock = ManualClock()
    async with of_people(tmp_path / "data", clock) as place:
        ada = await make_person(place.site.app[STORE], "ada", expires_at=clock() + 60 * SECOND)
        await place.begin(showing(ada))
        assert await asked_again(place, showing(ada)) > 0
        clock.now += 61 * SECOND
        before = place.taken
        ask = "\r\n".join(
            ("GET /healthz HTTP/1.1", *(f"{n}: {v}" for n, v in showing(ada)), "", "")
        )
        assert b" 401 " in (await place.send(ask.encode()))[:20], "so rights are known as of now"

        assert b" 401 " in (await place.put(showing(ada)))[:20]
        assert place.taken == before


@pytest.mark.parametrize("limited", ["reads_per_minute", "writes_per_minute"])
async def test_nothing_is_taken_where_requests_are_limited(limited: str) -> None:
    config = Config(rates=RatesConfig(**{limited: 1000}))
    async with opened(None) as store, served(store, config) as site:
        assert TAKES not in site.app
        place = Place(site)
        await place.begin()
        await place.begin()
