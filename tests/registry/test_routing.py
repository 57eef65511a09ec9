from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web

from registry.api.errors import ADAPTER
from registry.auth.policy import allows
from registry.domain.permissions import PERMISSIONS
from registry.domain.principals import LOCAL, RECOVERED, Principal
from registry.errors import BodyMalformed, Invalid
from registry.http.bodies import parse_json, read_all
from registry.http.routing import Route, guard, route_of
from registry.keys import PRINCIPAL
from store.opening import Store
from tests.support.routes import add_routes
from tests.support.serving import opened


class Question(msgspec.Struct):
    names: list[str]


async def echo(request: web.Request) -> web.Response:
    return web.Response(text=request[PRINCIPAL].id)


async def decode(request: web.Request) -> web.Response:
    question = parse_json(await read_all(request, limit_bytes=100), Question)
    return web.Response(text=",".join(question.names))


async def unread(request: web.Request) -> web.Response:
    return web.Response(text="took nothing")


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    """In memory: what is tested here does not depend on where bytes are kept."""
    async with opened(None) as store:
        yield store


@pytest.fixture
def app(app: web.Application) -> web.Application:
    add_routes(
        app,
        [
            Route(method="GET", path="/t/echo", handler=echo, permission="ops", adapter=ADAPTER),
            Route(
                method="POST",
                path="/t/json",
                handler=decode,
                permission="public",
                adapter=ADAPTER,
                body="json",
            ),
            Route(
                method="PUT",
                path="/t/bytes",
                handler=unread,
                permission="public",
                adapter=ADAPTER,
                body="bytes",
            ),
        ],
    )
    return app


async def code_of(response: aiohttp.ClientResponse) -> tuple[int, str]:
    return response.status, (await response.json(content_type=None))["code"]


def test_every_route_declares_its_permission(app: web.Application) -> None:
    """Denied unless allowed: a route without a word of its own must not exist."""
    undeclared = [
        f"{route.method} {route.resource.canonical if route.resource else '?'}"
        for route in app.router.routes()
        if (declared := route_of(route.handler)) is None or declared.permission not in PERMISSIONS
    ]

    assert undeclared == []


def test_every_unsafe_route_asks_for_more_than_reading(app: web.Application) -> None:
    harmless = {"content.read", "model.read", "audit.read"}
    # Signing changes nothing; what was signed is checked when it is used.
    # Everybody may leave a team; the service asks who is meant.
    leaves = "/api/v1/teams/{team}/members/{user}"
    asks_a_question = {leaves, "/api/v1/blobs/missing", "/api/v1/signed-urls"}
    suspicious = [
        f"{route.method} {route.resource.canonical}"
        for route in app.router.routes()
        if route.resource is not None
        and route.method not in ("GET", "HEAD", "OPTIONS", "*")
        and not route.resource.canonical.startswith("/t/")
        and (declared := route_of(route.handler)) is not None
        and declared.permission in harmless | {"public"}
        and route.resource.canonical not in asks_a_question
        # One's own account: no word is needed, being signed in is.
        and declared.tag != "account"
    ]

    assert suspicious == []


def test_a_word_that_is_no_permission_cannot_be_registered() -> None:
    words: Any = "everything"
    route = Route(method="GET", path="/", handler=echo, permission=words, adapter=ADAPTER)

    with pytest.raises(ValueError, match="needs a word"):
        guard(route)


@pytest.mark.parametrize("word", sorted(PERMISSIONS))
def test_the_local_principal_may_do_everything(word: Any) -> None:
    assert allows(LOCAL, word)


@pytest.mark.parametrize("principal", [RECOVERED, Principal("usr_x", "x")])
def test_others_may_do_what_is_public_and_nothing_else(principal: Principal) -> None:
    allowed = {word for word in PERMISSIONS if allows(principal, word)}  # type: ignore[arg-type]  # words of a set

    assert allowed == {"public"}


async def test_a_principal_without_the_permission_is_denied() -> None:
    route = Route(method="GET", path="/", handler=echo, permission="ops", adapter=ADAPTER)
    handler = guard(route)
    request: Any = {PRINCIPAL: RECOVERED}

    class Asked(dict[Any, Any]):
        path = "/"

    with pytest.raises(Exception, match="this needs ops on"):
        await handler(Asked(request))  # type: ignore[arg-type]  # all a guard looks at


async def test_a_declared_route_reaches_its_handler(client: aiohttp.ClientSession) -> None:
    response = await client.get("/t/echo")

    assert await response.text() == "usr_local"


@pytest.mark.parametrize(
    "media", ["application/json", "application/json; charset=utf-8", "application/merge-patch+json"]
)
async def test_json_routes_take_json(client: aiohttp.ClientSession, media: str) -> None:
    response = await client.post(
        "/t/json", data=b'{"names": ["a", "b"]}', headers={"Content-Type": media}
    )

    assert await response.text() == "a,b"


@pytest.mark.parametrize(
    "media", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""]
)
async def test_json_routes_refuse_other_media_types(
    client: aiohttp.ClientSession, media: str
) -> None:
    """These are what a page of another site may send without asking first."""
    response = await client.post("/t/json", data=b'{"names":[]}', headers={"Content-Type": media})

    assert await code_of(response) == (415, "unsupported_media_type")


async def test_encoded_bodies_are_refused(client: aiohttp.ClientSession) -> None:
    """What is stored must be what was sent, and nothing may be inflated on the way."""
    response = await client.put("/t/bytes", data=b"x", headers={"Content-Encoding": "gzip"})

    assert await code_of(response) == (415, "unsupported_encoding")


async def test_an_unknown_expectation_is_refused(client: aiohttp.ClientSession) -> None:
    response = await client.put("/t/bytes", data=b"x", headers={"Expect": "200-maybe"})

    assert await code_of(response) == (417, "expectation_failed")


async def test_a_body_beyond_the_limit_is_refused(client: aiohttp.ClientSession) -> None:
    response = await client.post("/t/json", json={"names": ["x" * 200]})

    assert await code_of(response) == (413, "body_too_large")


async def test_a_body_of_unknown_length_is_refused_beyond_the_limit(
    client: aiohttp.ClientSession,
) -> None:
    async def pieces() -> Any:
        for _ in range(5):
            yield b" " * 50

    response = await client.post(
        "/t/json", data=pieces(), headers={"Content-Type": "application/json"}
    )

    assert await code_of(response) == (413, "body_too_large")


@pytest.mark.parametrize(
    ("content", "field"),
    [
        (b'{"names": [1]}', "names[0]"),
        (b'{"names": "x"}', "names"),
        (b"{}", "names"),
        (b"[]", "body"),
    ],
)
def test_bad_fields_are_named(content: bytes, field: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_json(content, Question)

    assert caught.value.field == field


def test_json_of_any_depth_is_no_crash() -> None:
    with pytest.raises(BodyMalformed):
        parse_json(b"[" * 100_000, object)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"names": ["\xff"]}'])
def test_broken_json_is_malformed(content: bytes) -> None:
    with pytest.raises(BodyMalformed):
        parse_json(content, Question)
