from __future__ import annotations

import re
from collections.abc import AsyncIterator
from html.parser import HTMLParser

import aiohttp
import pytest
from aiohttp import web

from registry.api.index import POLICY
from registry.app import runner_settings
from registry.config import Config
from registry.http.malformed import server_logger
from registry.keys import DRAIN
from store.opening import Store
from tests.support.serving import opened
from tests.support.wire import ask, converse


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    """In memory: what is tested here does not depend on where bytes are kept."""
    async with opened(None) as store:
        yield store


async def code_of(response: aiohttp.ClientResponse) -> tuple[int, str]:
    return response.status, (await response.json(content_type=None))["code"]


async def test_an_unknown_address_is_a_problem(client: aiohttp.ClientSession) -> None:
    response = await client.get("/nowhere/at/all")

    assert await code_of(response) == (404, "route_not_found")
    assert response.content_type == "application/problem+json"


async def test_a_wrong_method_names_the_right_ones(client: aiohttp.ClientSession) -> None:
    response = await client.put("/healthz")

    assert await code_of(response) == (405, "method_not_allowed")
    assert response.headers["Allow"] == "GET, HEAD"


async def test_an_unknown_address_does_not_ask_for_the_body(port: int) -> None:
    reply = await ask(
        port,
        b"PUT /nowhere HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
        b"Content-Length: 9999999\r\n\r\n",
    )

    assert (reply.status, reply.headers["connection"]) == (404, "close")


async def test_compressed_bodies_are_never_inflated() -> None:
    assert runner_settings(Config())["auto_decompress"] is False


async def test_the_index_page_says_how_to_upload_here(
    client: aiohttp.ClientSession, port: int
) -> None:
    response = await client.get("/")
    page = await response.text()

    assert response.headers["Content-Security-Policy"] == POLICY
    assert "script-src" not in POLICY
    assert "default-src 'none'" in POLICY
    assert f"http://127.0.0.1:{port}/blobs/" in page
    assert "<script" not in page


async def test_the_index_page_cannot_be_filled_by_a_host_header(port: int) -> None:
    reply = await ask(port, b"GET / HTTP/1.1\r\nHost: [::1]<script>\r\n\r\n")

    assert reply.status == 421
    assert reply.headers["content-type"] == "application/problem+json"


async def test_links_of_the_index_page_lead_somewhere(client: aiohttp.ClientSession) -> None:
    class Links(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.found: list[str] = []

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.found += [value for name, value in attrs if name == "href" and value]

    links = Links()
    links.feed(await (await client.get("/")).text())

    assert links.found
    assert [(await client.get(link)).status for link in links.found] == [200] * len(links.found)


@pytest.mark.parametrize("path", ["/%2e%2e/%2e%2e/etc/passwd", "/blobs/..%2f..%2fx", "/\u00e9"])
async def test_odd_addresses_are_answered_with_problems(
    client: aiohttp.ClientSession, path: str
) -> None:
    response = await client.get(path)

    assert response.status in (400, 404)
    assert response.content_type == "application/problem+json"


@pytest.mark.parametrize(
    "sent", [b"\x16\x03\x01\x02\x00\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET /\r\n x\r\n\r\n"]
)
async def test_what_is_not_http_is_400_and_no_error_of_ours(
    port: int, sent: bytes, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Commands that other tests run in this process set levels and the root's handlers.
    logger = server_logger()
    monkeypatch.setattr(logger, "disabled", False)
    monkeypatch.setattr(logger, "propagate", False)
    monkeypatch.setattr(logger, "handlers", [caplog.handler])
    with caplog.at_level("DEBUG"), caplog.at_level("DEBUG", logger.name):
        answer = await converse(port, sent)

    assert b" 400 Bad Request" in answer
    assert [record.levelname for record in caplog.records if "malformed" in record.msg] == ["DEBUG"]
    assert [record for record in caplog.records if record.levelno > 20] == []


async def test_nothing_is_in_flight_when_all_is_answered(
    client: aiohttp.ClientSession, app: web.Application
) -> None:
    for path in ("/healthz", "/nowhere", "/blobs/x"):
        await (await client.get(path)).read()

    assert app[DRAIN].in_flight == 0


def test_the_policy_names_the_style_by_its_hash() -> None:
    assert re.search(r"style-src 'sha256-[A-Za-z0-9+/]{43}='", POLICY)
