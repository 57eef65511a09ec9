"""Idempotency-Key: a change is made once, and its answer is kept with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import msgspec
import pytest
from aiohttp import web
from multidict import CIMultiDict

from registry.api.errors import ADAPTER
from registry.api.routes import ROUTES
from registry.catalog.audit import Entry, record
from registry.catalog.migrations import CHAINS
from registry.catalog.once import KEPT_SECONDS
from registry.domain.principals import HOUSEKEEPING
from registry.errors import Conflict
from registry.http.answers import json_answer
from registry.http.bodies import read_json
from registry.http.once import answer_once
from registry.http.routing import Body, Route
from registry.keys import PRINCIPAL, STORE
from registry.protocols.tus import handlers as tus
from registry.services.change import change, expire_answers, fingerprint, once_record
from store.index.claims import PIN, keep_ref
from store.index.transactions import Tx
from store.opening import Store, StoreSettings, open_store
from store.recording import StoredBlob
from tests.support.builders import Answer, Registry
from tests.support.clock import ManualClock
from tests.support.serving import opened, serving

KEY = {"Idempotency-Key": "an-order"}


class Order(msgspec.Struct):
    what: str = "tea"


class Kitchen:
    """Handlers that each do one kind of change, and what they were made to do."""

    def __init__(self) -> None:
        self.calls = 0
        self.hold: asyncio.Event | None = None
        self.reached = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    async def order(self, request: web.Request) -> web.Response:
        asked = await read_json(request, Order)
        return await answer_once(request, lambda: self._change(request, asked.what), _served)

    async def nothing(self, request: web.Request) -> web.Response:
        async def call() -> str:
            self.calls += 1
            number = self.calls
            if self.hold is not None:
                await self.hold.wait()
            return f"nothing {number}"

        return await answer_once(request, call, _served)

    async def secret(self, request: web.Request) -> web.Response:
        return await answer_once(
            request, lambda: self._change(request, "a password"), _served, is_secret=True
        )

    async def stream(self, request: web.Request) -> web.Response:
        return await answer_once(request, lambda: self._store(request), _served, is_streamed=True)

    async def refuse(self, request: web.Request) -> web.Response:
        return await answer_once(request, lambda: self._refuse(request), _served)

    async def twice(self, request: web.Request) -> web.Response:
        async def call() -> str:
            await self._change(request, "one")
            return await self._change(request, "two")

        return await answer_once(request, call, _served)

    async def with_others(self, request: web.Request) -> web.Response:
        """Housekeeping works in the same request, and a task that goes on after it."""
        store, principal = request.app[STORE], request[PRINCIPAL]

        async def unit(tx: Tx) -> str:
            await record(tx, HOUSEKEEPING, Entry(action="clean", kind="kitchen", id="kitchen"))
            return "clean"

        async def later() -> None:
            assert self.hold is not None
            await self.hold.wait()
            await change(store, principal, unit)

        async def call() -> str:
            self.task = asyncio.create_task(later())
            await change(store, HOUSEKEEPING, unit)
            return await self._change(request, "soup")

        return await answer_once(request, call, _served)

    async def _change(self, request: web.Request, what: str) -> str:
        self.calls += 1
        number = self.calls
        if self.hold is not None and self.task is None:
            self.reached.set()
            await self.hold.wait()

        async def unit(tx: Tx) -> str:
            await record(tx, request[PRINCIPAL], Entry(action="create", kind="order", id=what))
            return f"{what} {number}"

        return await change(request.app[STORE], request[PRINCIPAL], unit)

    async def _refuse(self, request: web.Request) -> str:
        """The change stays, the answer is a refusal."""
        self.calls += 1
        principal = request[PRINCIPAL]

        async def unit(tx: Tx) -> str:
            await record(tx, principal, Entry(action="create", kind="order", id="cake"))
            return "cake"

        def shown(result: str) -> str:
            raise Conflict("order", result, "is sold out")

        return shown(await change(request.app[STORE], principal, unit, shown=shown))

    async def _store(self, request: web.Request) -> str:
        content = await request.read()
        self.calls += 1
        number = self.calls

        async def record_pin(tx: Tx, stored: StoredBlob) -> str:
            await keep_ref(tx, stored.digest, request[PRINCIPAL].id, PIN)
            return f"{stored.size_bytes} bytes {number}"

        async def source() -> AsyncIterator[bytes]:
            yield content

        fingerprint(b"forgotten")
        fingerprint(content[:1], is_whole=True)
        fingerprint(content[1:])
        store = request.app[STORE]
        _, result = await store.ingest.receive(source(), once_record(record_pin))
        return result


def _served(what: str) -> web.Response:
    headers = {"Location": f"/{what.replace(' ', '-')}", "ETag": '"1"'}
    return json_answer({"order": what}, status=201, headers=headers)


@pytest.fixture
def kitchen(monkeypatch: pytest.MonkeyPatch) -> Kitchen:
    """Routes of the test's own, in front of the real ones."""
    made = Kitchen()

    def route(
        path: str, handler: Callable[[web.Request], Awaitable[web.Response]], body: Body = "none"
    ) -> Route:
        return Route(
            method="POST",
            path=path,
            handler=handler,
            permission="content.write",
            adapter=ADAPTER,
            body=body,
        )

    routes = [
        route("/kitchen/nothing", made.nothing),
        route("/kitchen/secret", made.secret),
        route("/kitchen/stream", made.stream, "bytes"),
        route("/kitchen/refuse", made.refuse),
        route("/kitchen/twice", made.twice),
        route("/kitchen/others", made.with_others),
        route("/kitchen/{table}", made.order, "json"),
    ]
    monkeypatch.setattr("registry.app.ROUTES", [*routes, *ROUTES])
    return made


@pytest.fixture(params=["memory", "local"])
async def served(
    request: pytest.FixtureRequest, tmp_path: Path, kitchen: Kitchen
) -> AsyncIterator[Registry]:
    root = tmp_path / "data" if request.param == "local" else None
    async with opened(root) as store, serving(store) as site:
        yield Registry(site)


@pytest.fixture
async def dated(clock: ManualClock) -> AsyncIterator[Store]:
    """A store whose time passes when a test says so."""
    store = await open_store(StoreSettings(root=None, reserve_bytes=0, chains=CHAINS), clock=clock)
    yield store
    await store.close()


async def post(served: Registry, path: str = "/kitchen/one", **options: Any) -> Answer:
    options.setdefault("headers", KEY)
    if "data" not in options:
        options.setdefault("json", {"what": "tea"})
    return await served.send("POST", path, **options)


async def orders(served: Registry) -> int:
    return await served.count("audit")


def same(first: Answer, again: Answer) -> None:
    """`again` is `first`, said a second time."""
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert (again.status, again.body) == (first.status, first.body)
    for name in ("Location", "ETag", "Content-Type", "Cache-Control"):
        assert again.headers[name] == first.headers[name]


async def test_a_repeat_is_answered_as_the_first_and_changes_nothing(
    served: Registry, kitchen: Kitchen
) -> None:
    first, again = await post(served), await post(served)

    assert first.status == 201
    same(first, again)
    assert kitchen.calls == 1
    assert await orders(served) == 1


async def test_without_a_key_every_request_counts(served: Registry) -> None:
    await post(served, headers={})
    await post(served, headers={})

    assert await orders(served) == 2
    assert await served.count("idempotency_keys") == 0


async def test_another_body_or_query_under_the_same_key_is_refused(served: Registry) -> None:
    await post(served)
    body = await post(served, json={"what": "coffee"})
    query = await post(served, "/kitchen/one?cup=large")

    assert (body.status, body.code) == (422, "idempotency_key_reused")
    assert (query.status, query.code) == (422, "idempotency_key_reused")
    assert await orders(served) == 1


async def test_a_key_belongs_to_its_route_and_parameters(served: Registry) -> None:
    first = await post(served, "/kitchen/one")
    other = await post(served, "/kitchen/two")

    assert (first.status, other.status) == (201, 201)
    assert await orders(served) == 2


async def test_a_repeat_while_the_first_is_in_hand_is_told_to_wait(
    served: Registry, kitchen: Kitchen
) -> None:
    kitchen.hold = asyncio.Event()
    running = asyncio.create_task(post(served))
    await kitchen.reached.wait()
    meanwhile = await post(served)
    kitchen.hold.set()
    first = await running
    again = await post(served)

    assert (meanwhile.status, meanwhile.code) == (409, "idempotency_in_flight")
    assert meanwhile.headers["Retry-After"] == "1"
    same(first, again)


async def test_of_two_workers_the_index_lets_one_be_first(tmp_path: Path, kitchen: Kitchen) -> None:
    """Both passed the look-up before either committed; the transaction of the second sees it."""
    kitchen.hold = asyncio.Event()
    async with (
        opened(tmp_path / "data") as store,
        serving(store) as one,
        serving(store) as two,
    ):
        waiting = [asyncio.create_task(post(Registry(site))) for site in (one, two)]
        while kitchen.calls < 2:
            await asyncio.sleep(0.001)
        kitchen.hold.set()
        first, again = sorted(
            await asyncio.gather(*waiting),
            key=lambda answer: "Idempotency-Replayed" in answer.headers,
        )

        same(first, again)
        assert await orders(Registry(one)) == 1


async def test_of_two_workers_that_change_nothing_one_answers(
    tmp_path: Path, kitchen: Kitchen
) -> None:
    kitchen.hold = asyncio.Event()
    async with (
        opened(tmp_path / "data") as store,
        serving(store) as one,
        serving(store) as two,
    ):
        sites = [Registry(site) for site in (one, two)]
        waiting = [asyncio.create_task(post(site, "/kitchen/nothing")) for site in sites]
        while kitchen.calls < 2:
            await asyncio.sleep(0.001)
        kitchen.hold.set()
        first, second = await asyncio.gather(*waiting)
        later = await post(sites[0], "/kitchen/nothing")

    assert first.body == second.body == later.body


async def test_errors_are_not_kept(served: Registry, kitchen: Kitchen) -> None:
    refused = await post(served, json={"what": 3})
    first = await post(served)

    assert refused.status == 400
    assert first.status == 201
    assert "Idempotency-Replayed" not in first.headers


async def test_a_change_that_is_answered_with_a_refusal_keeps_no_answer(
    served: Registry, kitchen: Kitchen
) -> None:
    assert [(await post(served, "/kitchen/refuse")).status for _ in range(2)] == [409, 409]
    assert await orders(served) == 2
    assert await served.count("idempotency_keys") == 0


async def test_a_call_that_changes_nothing_is_answered_once_too(served: Registry) -> None:
    first, again = await post(served, "/kitchen/nothing"), await post(served, "/kitchen/nothing")

    same(first, again)


async def test_an_answer_with_a_secret_is_not_kept(served: Registry) -> None:
    first, again = await post(served, "/kitchen/secret"), await post(served, "/kitchen/secret")

    assert first.status == 201
    assert (again.status, again.code) == (409, "idempotency_answer_secret")
    assert await orders(served) == 1
    assert not [
        row
        for row in await served.rows("SELECT headers, body FROM idempotency_keys")
        if b"password" in row[1] or "password" in row[0]
    ]


async def test_a_streamed_body_is_compared_by_what_it_held(served: Registry) -> None:
    first = await post(served, "/kitchen/stream", data=b"bytes")
    again = await post(served, "/kitchen/stream", data=b"bytes")
    others = [await post(served, "/kitchen/stream", data=data) for data in (b"Bytes", b"byteS")]

    same(first, again)
    assert [other.code for other in others] == ["idempotency_key_reused"] * 2
    assert await served.count("blobs") == 1
    assert await served.site.staged() == []


@pytest.mark.parametrize("key", ["", "two words", "é", "x" * 256])
async def test_a_key_is_visible_ascii(served: Registry, key: str) -> None:
    answer = await post(served, headers={"Idempotency-Key": key})

    assert (answer.status, answer.code) == (400, "idempotency_key_invalid")
    assert await orders(served) == 0


async def test_a_key_comes_once(served: Registry) -> None:
    two = CIMultiDict([("Idempotency-Key", "one"), ("Idempotency-Key", "two")])
    answer = await post(served, headers=two)

    assert (answer.status, answer.code) == (400, "idempotency_key_invalid")


async def test_a_key_of_255_characters_is_taken(served: Registry) -> None:
    headers = {"Idempotency-Key": "x" * 255}
    first, again = await post(served, headers=headers), await post(served, headers=headers)

    same(first, again)


async def test_a_second_change_in_one_request_is_a_fault_that_shows(served: Registry) -> None:
    """Its answer would have been rendered from the first."""
    assert (await post(served, "/kitchen/twice")).status == 500
    assert (await post(served, "/kitchen/twice", headers={})).status == 201


async def test_only_the_requests_own_change_keeps_its_answer(
    served: Registry, kitchen: Kitchen
) -> None:
    """Not one of somebody else, nor one of a task that outlives the request."""
    kitchen.hold = asyncio.Event()
    first = await post(served, "/kitchen/others")
    kitchen.hold.set()
    assert kitchen.task is not None
    await kitchen.task
    again = await post(served, "/kitchen/others")

    assert first.json == {"order": "soup 1"}
    same(first, again)
    assert await orders(served) == 3


async def test_query_and_body_do_not_run_into_each_other(served: Registry) -> None:
    first = await post(served, "/kitchen/stream?a", data=b"bc")
    other = await post(served, "/kitchen/stream?ab", data=b"c")

    assert first.status == 201
    assert (other.status, other.code) == (422, "idempotency_key_reused")


async def test_answers_are_kept_for_a_day(
    dated: Store, clock: ManualClock, kitchen: Kitchen
) -> None:
    async with serving(dated) as site:
        served = Registry(site)
        await post(served)
        clock.advance(KEPT_SECONDS - 1)
        assert await expire_answers(dated) == 0
        same_day = await post(served)
        clock.advance(1)
        next_day = await post(served)

        assert "Idempotency-Replayed" in same_day.headers
        assert "Idempotency-Replayed" not in next_day.headers
        assert await orders(served) == 2


async def test_expired_answers_are_removed(
    dated: Store, clock: ManualClock, kitchen: Kitchen
) -> None:
    async with serving(dated) as site:
        served = Registry(site)
        for number in range(3):
            await post(served, headers={"Idempotency-Key": f"key-{number}"})
        clock.advance(KEPT_SECONDS)
        await post(served, headers={"Idempotency-Key": "fresh"})

        assert await expire_answers(dated) == 3
        assert await served.rows("SELECT key FROM idempotency_keys") == [("fresh",)]


WITHOUT_KEY = {
    # A question: its leases say until when the answer holds.
    "/api/v1/blobs/missing",
    # tus repeats by asking where an upload stands; one begun for nothing expires by itself, and
    # the address of one that is gone must not be given out again.
    "/uploads",
    "/uploads/",
    "/uploads/{session}",
    # A question, too: nothing is kept of a signature, and it is a secret.
    "/api/v1/signed-urls",
}


def test_every_post_takes_a_key() -> None:
    """Or is named above with the reason why not."""
    posts = [route for route in (*ROUTES, *tus.ROUTES) if route.method == "POST"]
    without = {route.path for route in posts if not calls(route.handler, "answer_once")}

    assert without == WITHOUT_KEY


def calls(function: Any, name: str) -> bool:
    """Whether a function calls `name`, itself or through functions of the API's modules."""
    waiting, seen = [function], set[int]()
    while waiting:
        found = waiting.pop()
        if id(found) in seen or not isinstance(found, FunctionType):
            continue
        seen.add(id(found))
        names = names_in(found.__code__)
        if name in names:
            return True
        cells = found.__closure__ or ()
        waiting += [found.__globals__.get(each) for each in names]
        waiting += [cell.cell_contents for cell in cells]
        waiting = [each for each in waiting if is_of_the_api(each)]
    return False


def is_of_the_api(function: object) -> bool:
    return str(getattr(function, "__module__", "")).startswith("registry.api.")


def names_in(code: CodeType) -> set[str]:
    found = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found |= names_in(constant)
    return found
