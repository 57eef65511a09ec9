"""Addresses, patience, and who is told what."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from registry.client.connection import (
    Again,
    Connection,
    checked_url,
    masked,
    part,
    without_user,
)
from registry.client.errors import NotARegistry, Refused, Unreachable
from tests.registry.client.conftest import Connect, answering


@pytest.mark.parametrize(
    "url", ["", "localhost:8080", "ftp://h", "http://", "http://h:x", "http://h/?a=b", "http://h:0"]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(NotARegistry):
        checked_url(url)


def test_an_address_may_have_a_path_and_loses_its_last_slash() -> None:
    assert checked_url("https://h:1/registry/") == "https://h:1/registry"


def test_credentials_are_masked_and_left_out() -> None:
    assert masked("https://me:secret@h:1/x") == "https://***@h:1/x"
    assert masked("https://token@h") == "https://***@h"
    assert masked("https://h/a@b") == "https://h/a@b"
    assert without_user("https://me:secret@h:1/x") == "https://h:1/x"


def test_parts_of_paths_are_escaped() -> None:
    assert part("a b/ü?#%") == "a%20b%2F%C3%BC%3F%23%25"
    assert part("sub/a b", keep="/") == "sub/a%20b"


async def test_patience_grows_and_ends(connect: Connect, pauses: list[float]) -> None:
    async def busy(request: web.Request) -> web.StreamResponse:
        return web.json_response({"detail": "not now"}, status=503)

    async with answering(busy) as url, connect(url) as connection:
        with pytest.raises(Unreachable, match="not now"):
            await connection.get("/", dict[str, str])

    assert len(pauses) == 8
    assert pauses[0] <= 0.25
    assert 7 <= pauses[-1] <= 15


async def test_whatever_moved_starts_with_fresh_patience(connect: Connect) -> None:
    tries = 0

    async def attempt() -> int:
        nonlocal tries
        tries += 1
        if tries < 40:
            raise Again("broken")
        return tries

    async with connect("http://127.0.0.1:1") as connection:
        assert await connection.repeated(attempt, lambda: tries // 2) == 40


async def test_a_problem_document_is_read(connect: Connect) -> None:
    async def no(request: web.Request) -> web.StreamResponse:
        return web.json_response({"code": "label_taken", "detail": "no", "x": 1}, status=409)

    async with answering(no) as url, connect(url) as connection:
        with pytest.raises(Refused, match="no") as raised:
            await connection.get("/", dict[str, str])

    assert (raised.value.status, raised.value.code) == (409, "label_taken")
    assert raised.value.details["x"] == 1


async def test_an_endless_answer_is_not_held_in_memory(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.client.connection._JSON_BYTES", 1000)

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 1000)
            await asyncio.sleep(0)

    async with answering(endless) as url, connect(url) as connection:
        with pytest.raises(NotARegistry, match="above 1000 bytes"):
            await connection.get("/", dict[str, str])


async def test_silence_is_an_end(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("registry.client.connection.SILENCE_SECONDS", 0.05)
    hold = asyncio.Event()

    async def silent(request: web.Request) -> web.StreamResponse:
        await hold.wait()
        return web.Response()

    async with answering(silent) as url, connect(url) as connection:
        with pytest.raises(Unreachable):
            await connection.get("/", dict[str, str])
        hold.set()


async def test_writes_do_not_follow_redirects(connect: Connect) -> None:
    """A body, and who sends it, is meant for one server."""

    async def elsewhere(request: web.Request) -> web.StreamResponse:
        raise web.HTTPTemporaryRedirect("http://127.0.0.1:1/")

    async with answering(elsewhere) as url, connect(url) as connection:
        with pytest.raises(Refused, match="307"):
            await connection.ask("POST", "/", dict[str, str], content={})


async def test_a_token_is_shown_to_its_server_alone() -> None:
    """Not to where it redirects, and not beside a name in the address."""
    shown: dict[str, list[str]] = {"here": [], "there": []}

    async def there(request: web.Request) -> web.StreamResponse:
        shown["there"].append(request.headers.get("Authorization", "nothing"))
        return web.json_response({})

    async with answering(there) as elsewhere:

        async def here(request: web.Request) -> web.StreamResponse:
            shown["here"].append(request.headers.get("Authorization", "nothing"))
            raise web.HTTPFound(elsewhere + "/x")

        async with answering(here) as url:
            async with Connection(url, token="dgt_x") as connection:
                assert await connection.get("/", dict[str, str]) == {}
            named = url.replace("://", "://me:word@")
            async with Connection(named, token="dgt_x") as connection:
                await connection.get("/", dict[str, str])

    assert shown["here"] == ["Bearer dgt_x", "Basic bWU6d29yZA=="]
    assert shown["there"] == ["nothing", "nothing"]
