from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import msgspec
import pytest
import structlog
from aiohttp import web
from structlog.testing import capture_logs

from registry.api.errors import ADAPTER
from registry.app import create_app
from registry.auth.tokens import new_token, prefix_of
from registry.config import Config, ServerConfig, StoreConfig
from registry.http.addresses import host_of, same_authority
from registry.http.routing import Route
from registry.keys import DRAIN
from registry.middlewares import access_log as access_log_module
from registry.middlewares.access_log import AccessLog, printable
from registry.middlewares.request_id import RequestIds
from store.errors import Corrupt
from store.opening import Store
from tests.contracts.adapter_errors import ONE
from tests.support.routes import add_routes
from tests.support.serving import opened
from tests.support.wire import ask, converse

PROXY = "10.1.2.3"


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    """In memory: what is tested here does not depend on where bytes are kept."""
    async with opened(None) as store:
        yield store


@pytest.fixture
def config() -> Config:
    return Config(
        store=StoreConfig(backend="memory", reserve_bytes=0),
        server=ServerConfig(
            allowed_hosts=("models.example",), cors_origins=("https://page.example",)
        ),
    )


@pytest.fixture
def stream() -> io.BytesIO:
    return io.BytesIO()


@pytest.fixture
def access_log(stream: io.BytesIO) -> AccessLog:
    return AccessLog(stream)


async def whole(request: web.Request) -> web.Response:
    return web.Response(text="hello")


async def streamed(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"hello")
    await response.write_eof()
    return response


async def broken(request: web.Request) -> web.Response:
    raise ZeroDivisionError("the secret is 42")


async def damaged(request: web.Request) -> web.Response:
    raise Corrupt(ONE)


async def broken_midway(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "100"} if request.query else {})
    await response.prepare(request)
    await response.write(b"half")
    raise ZeroDivisionError


async def redirected(request: web.Request) -> web.Response:
    raise web.HTTPFound("/elsewhere")


async def refused_by_aiohttp(request: web.Request) -> web.Response:
    raise web.HTTPRequestEntityTooLarge(1, 2)


@pytest.fixture
def app(config: Config, store: Store, access_log: AccessLog) -> web.Application:
    app = create_app(config, store, access_log=access_log)
    handlers = {
        "whole": whole,
        "streamed": streamed,
        "broken": broken,
        "damaged": damaged,
        "broken_midway": broken_midway,
        "redirected": redirected,
        "refused_by_aiohttp": refused_by_aiohttp,
    }
    add_routes(
        app,
        [
            Route(
                method=method,
                path=f"/t/{name}/{{rest:.*}}",
                handler=handler,
                permission="public",
                adapter=ADAPTER,
            )
            for name, handler in handlers.items()
            for method in ("GET", "PUT", "POST", "OPTIONS")
        ],
    )
    return app


async def lines(access_log: AccessLog, stream: io.BytesIO) -> list[dict[str, Any]]:
    await access_log.close()
    return [msgspec.json.decode(line) for line in stream.getvalue().splitlines()]


async def code_of(response: aiohttp.ClientResponse) -> tuple[int, str]:
    return response.status, (await response.json(content_type=None))["code"]


# Request ids


def test_ids_are_new_each_time_and_in_each_process() -> None:
    one, other = RequestIds(), RequestIds()
    made = {ids.take_or_make(None) for ids in (one, one, other)}

    assert len(made) == 3


@pytest.mark.parametrize("received", ["0123-abcd_EF.9", "x" * 64])
def test_a_sane_id_is_taken(received: str) -> None:
    assert RequestIds().take_or_make(received) == received


@pytest.mark.parametrize(
    "received", ["", "short", "x" * 65, "with space", "new\nline-in", "ümlaut-here", "12345678\n"]
)
def test_an_insane_id_is_replaced(received: str) -> None:
    assert RequestIds().take_or_make(received) != received


@pytest.mark.parametrize("path", ["/t/whole/x", "/t/streamed/x", "/t/broken/x", "/nowhere"])
async def test_every_answer_names_its_request(client: aiohttp.ClientSession, path: str) -> None:
    with capture_logs():
        response = await client.get(path, headers={"X-Request-Id": "from-the-client"})

    assert response.headers["X-Request-Id"] == "from-the-client"


# Access log


async def test_a_request_is_one_line(
    client: aiohttp.ClientSession, access_log: AccessLog, stream: io.BytesIO
) -> None:
    response = await client.put(
        "/t/whole/a?token=secret", data=b"12345", headers={"X-Request-Id": "request-1"}
    )
    await response.read()
    (line,) = await lines(access_log, stream)

    assert line.pop("timestamp").endswith("Z")
    assert line.pop("milliseconds") >= 0
    assert line.pop("pid") > 0
    assert line.pop("bytes_in") in (0, 5)
    assert line == {
        "event": "request",
        "level": "info",
        "request_id": "request-1",
        "method": "PUT",
        "path": "/t/whole/a",
        "route": "/t/whole/{rest}",
        "status": 200,
        "bytes_out": 5,
        "principal": "usr_local",
    }


async def test_refused_requests_are_logged_too(
    port: int, access_log: AccessLog, stream: io.BytesIO
) -> None:
    await ask(port, b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n")
    (line,) = await lines(access_log, stream)

    assert (line["status"], line["principal"]) == (421, None)


async def test_a_query_is_never_logged(
    client: aiohttp.ClientSession, access_log: AccessLog, stream: io.BytesIO
) -> None:
    await client.get("/nowhere?signature=s3cr3t")
    await access_log.close()

    assert b"s3cr3t" not in stream.getvalue()


async def test_a_token_that_was_put_into_a_path_is_not_logged(
    client: aiohttp.ClientSession, access_log: AccessLog, stream: io.BytesIO
) -> None:
    token = new_token()
    await client.get(f"/t/whole/{token}/rest")
    (line,) = await lines(access_log, stream)

    assert line["path"] == f"/t/whole/{prefix_of(token)}.../rest"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/plain/%0A", "/plain/%0A"),
        ("/\x1b[31m", "/\\x1b[31m"),
        ("/\x7f", "/\\x7f"),
        ("/é", "/\\xe9"),
        ("/\x9b", "/\\x9b"),
        ("/\udc80", "/\\udc80"),
        ("/\u202e", "/\\u202e"),
    ],
)
def test_paths_cannot_colour_a_terminal(text: str, expected: str) -> None:
    assert printable(text) == expected


async def test_lines_are_written_without_waiting_for_the_end(
    client: aiohttp.ClientSession, stream: io.BytesIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_log_module, "FLUSH_SECONDS", 0.0)
    await client.get("/t/whole/x")

    async with asyncio.timeout(5):
        while not stream.getvalue().endswith(b"\n"):
            await asyncio.sleep(0)


async def test_a_log_that_nobody_reads_drops_lines_and_says_how_many(
    access_log: AccessLog, stream: io.BytesIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_log_module, "MOST_LINES", 2)
    for _ in range(5):
        access_log.add(b"{}")

    assert [line.get("count") for line in await lines(access_log, stream)] == [None, None, 3]


async def test_a_log_that_cannot_be_written_stops_nothing(stream: io.BytesIO) -> None:
    access_log = AccessLog(stream)
    stream.close()
    access_log.add(b"{}")

    await access_log.close()


async def test_timestamps_are_formatted_once_a_second(access_log: AccessLog) -> None:
    stamp = access_log.stamp()

    assert len(stamp) == len("2026-11-21T01:21:28.104366Z")
    assert access_log.stamp()[:11] == stamp[:11]


# Errors


async def test_an_unknown_error_is_a_bare_500_and_a_line_with_its_traceback(
    client: aiohttp.ClientSession,
) -> None:
    with capture_logs() as logged:
        response = await client.get("/t/broken/x", headers={"X-Request-Id": "request-1"})
    body = await response.text()

    assert await code_of(response) == (500, "internal_error")
    assert "secret" not in body
    (entry,) = logged
    assert (entry["event"], entry["request_id"]) == ("request failed", "request-1")
    assert isinstance(entry["exc_info"], ZeroDivisionError)


async def test_a_known_error_of_the_server_is_logged_too(client: aiohttp.ClientSession) -> None:
    with capture_logs() as logged:
        response = await client.get("/t/damaged/x")

    assert await code_of(response) == (500, "blob_damaged")
    assert [entry["event"] for entry in logged] == ["request failed"]


async def test_mistakes_of_clients_are_no_errors_in_the_log(client: aiohttp.ClientSession) -> None:
    with capture_logs() as logged:
        await client.get("/nowhere")

    assert logged == []


@pytest.mark.parametrize("query", ["", "?sized"])
async def test_an_answer_that_has_started_is_cut_and_never_replaced(port: int, query: str) -> None:
    request = f"GET /t/broken_midway/x{query} HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with capture_logs() as logged, pytest.raises(ConnectionResetError):
        await converse(port, request.encode())

    assert [entry["event"] for entry in logged] == ["answer cut short"]


async def test_redirects_are_left_alone(client: aiohttp.ClientSession) -> None:
    response = await client.get("/t/redirected/x", allow_redirects=False)

    assert (response.status, response.headers["Location"]) == (302, "/elsewhere")


async def test_errors_of_the_framework_become_problems(client: aiohttp.ClientSession) -> None:
    response = await client.get("/t/refused_by_aiohttp/x")

    assert await code_of(response) == (413, "http_error")


async def test_a_client_that_left_is_no_error(
    port: int, app: web.Application, access_log: AccessLog, stream: io.BytesIO
) -> None:
    with capture_logs() as logged:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            b"POST /api/v1/blobs/missing HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
        )
        await writer.drain()
        async with asyncio.timeout(5):
            while app[DRAIN].in_flight == 0:
                await asyncio.sleep(0)
            writer.transport.abort()
            while app[DRAIN].in_flight:
                await asyncio.sleep(0)
    (line,) = await lines(access_log, stream)

    assert [entry["log_level"] for entry in logged] == ["debug"]
    assert line["status"] == 499


# Sources: one test for each rule


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1:8080",
        "192.168.1.9:1",
        "[::1]:8080",
        "[::ffff:127.0.0.1]",
        "localhost",
        "LOCALHOST:8080",
        "localhost.",
        "models.example",
        "Models.Example:443",
    ],
)
async def test_hosts_that_are_ours_are_answered(port: int, host: str) -> None:
    reply = await ask(port, f"GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())

    assert reply.status == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "models.example.evil.example",
        "xmodels.example",
        "127.1",
        "0x7f000001",
        "[::1",
        "evil.example:127.0.0.1",
    ],
)
async def test_hosts_that_are_not_ours_are_421(port: int, host: str) -> None:
    """A page that rebinds its name to this machine still sends its own name."""
    reply = await ask(port, f"GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())

    assert (reply.status, msgspec.json.decode(reply.body)["code"]) == (421, "wrong_host")


async def test_a_missing_host_is_400(port: int) -> None:
    reply = await ask(port, b"GET /healthz HTTP/1.1\r\n\r\n")

    assert reply.status == 400


async def test_http_1_0_needs_no_host(port: int) -> None:
    reply = await converse(port, b"GET /healthz HTTP/1.0\r\n\r\n")

    assert b" 200 OK" in reply


async def test_two_hosts_are_400(port: int) -> None:
    reply = await converse(
        port, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n"
    )

    assert reply.startswith((b"HTTP/1.0 400", b"HTTP/1.1 400"))


@pytest.mark.parametrize("site", ["cross-site", "same-site", "whatever"])
async def test_unsafe_methods_from_another_site_are_403(
    client: aiohttp.ClientSession, site: str
) -> None:
    response = await client.put("/t/whole/x", headers={"Sec-Fetch-Site": site})

    assert await code_of(response) == (403, "foreign_origin")


@pytest.mark.parametrize("site", ["same-origin", "none"])
async def test_unsafe_methods_from_our_own_pages_are_allowed(
    client: aiohttp.ClientSession, site: str
) -> None:
    response = await client.put("/t/whole/x", headers={"Sec-Fetch-Site": site})

    assert response.status == 200


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "", "http://127.0.0.1:1", "file://"]
)
async def test_unsafe_methods_from_another_origin_are_403(
    client: aiohttp.ClientSession, origin: str
) -> None:
    response = await client.post("/t/whole/x", headers={"Origin": origin})

    assert await code_of(response) == (403, "foreign_origin")


async def test_unsafe_methods_from_our_own_origin_are_allowed(
    client: aiohttp.ClientSession, port: int
) -> None:
    response = await client.post("/t/whole/x", headers={"Origin": f"http://127.0.0.1:{port}"})

    assert response.status == 200


async def test_safe_methods_may_be_linked_from_anywhere(client: aiohttp.ClientSession) -> None:
    response = await client.get(
        "/t/whole/x", headers={"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    )

    assert response.status == 200
    assert "Access-Control-Allow-Origin" not in response.headers


async def test_a_listed_origin_may_write_and_read(client: aiohttp.ClientSession) -> None:
    response = await client.put(
        "/t/whole/x", headers={"Origin": "https://page.example", "Sec-Fetch-Site": "cross-site"}
    )

    assert response.status == 200
    assert response.headers["Access-Control-Allow-Origin"] == "https://page.example"
    assert "Origin" in response.headers["Vary"]
    assert "Repr-Digest" in response.headers["Access-Control-Expose-Headers"]


async def test_a_listed_origin_gets_its_preflight(client: aiohttp.ClientSession) -> None:
    response = await client.options(
        "/t/whole/x",
        headers={
            "Origin": "https://page.example",
            "Access-Control-Request-Method": "PUT",
            "Access-Control-Request-Headers": "content-type",
        },
    )

    assert response.status == 204
    assert "PUT" in response.headers["Access-Control-Allow-Methods"]
    assert response.headers["Access-Control-Allow-Headers"] == "content-type"


async def test_an_unlisted_origin_gets_no_preflight(client: aiohttp.ClientSession) -> None:
    response = await client.options(
        "/t/whole/x",
        headers={"Origin": "https://evil.example", "Access-Control-Request-Method": "PUT"},
    )

    assert "Access-Control-Allow-Origin" not in response.headers


@pytest.mark.parametrize(
    "header",
    ["X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded", "X-Real-IP"],
)
async def test_forwarding_headers_of_an_unnamed_proxy_are_403(
    client: aiohttp.ClientSession, header: str
) -> None:
    response = await client.get("/healthz", headers={header: PROXY})

    assert await code_of(response) == (403, "unnamed_proxy")


class TestBehindANamedProxy:
    @pytest.fixture
    def config(self) -> Config:
        return Config(
            store=StoreConfig(backend="memory", reserve_bytes=0),
            server=ServerConfig(
                trusted_proxies=("127.0.0.0/8",), allowed_hosts=("models.example",)
            ),
        )

    async def test_forwarding_headers_are_believed(self, client: aiohttp.ClientSession) -> None:
        response = await client.get(
            "/", headers={"X-Forwarded-Host": "models.example", "X-Forwarded-Proto": "https"}
        )

        assert response.status == 200
        assert "https://models.example/blobs/" in await response.text()

    async def test_the_forwarded_host_must_be_ours_too(self, client: aiohttp.ClientSession) -> None:
        response = await client.get("/", headers={"X-Forwarded-Host": "evil.example"})

        assert await code_of(response) == (421, "wrong_host")

    async def test_pages_of_the_forwarded_host_are_our_own(
        self, client: aiohttp.ClientSession
    ) -> None:
        response = await client.post(
            "/t/whole/x",
            headers={
                "Origin": "https://models.example",
                "X-Forwarded-Host": "models.example",
                "X-Forwarded-Proto": "https",
            },
        )

        assert response.status == 200


@pytest.mark.parametrize(
    ("origin", "authority", "expected"),
    [
        ("http://localhost:8080", "localhost:8080", True),
        ("http://LOCALHOST:8080", "localhost:8080", True),
        ("https://a.example", "a.example:443", True),
        ("http://a.example:80", "a.example", True),
        ("http://a.example:8080", "a.example", False),
        ("https://a.example.evil.example", "a.example", False),
        ("a.example", "a.example", False),
        ("null", "null", False),
        ("ftp://a.example", "a.example", False),
    ],
)
def test_origins_are_compared_with_the_host(origin: str, authority: str, expected: bool) -> None:
    assert same_authority(origin, authority) is expected


@pytest.mark.parametrize(
    ("authority", "host"),
    [("A.b:1", "a.b"), ("[::1]:8", "::1"), ("a.", "a"), ("a", "a"), ("a:b", "a:b"), ("", "")],
)
def test_the_host_of_an_authority(authority: str, host: str) -> None:
    assert host_of(authority) == host


# Answers


@pytest.mark.parametrize("path", ["/t/whole/x", "/t/streamed/x", "/t/broken/x", "/nowhere"])
async def test_every_answer_forbids_guessing_its_type(
    client: aiohttp.ClientSession, path: str
) -> None:
    with capture_logs():
        response = await client.get(path)

    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert "aiohttp" not in response.headers["Server"]


@pytest.mark.parametrize("path", ["/t/whole/x", "/t/streamed/x", "/t/broken/x", "/nowhere"])
@pytest.mark.parametrize("expect", ["", "Expect: 100-continue\r\n"])
async def test_an_answer_before_the_body_has_come_closes_the_connection(
    port: int, path: str, expect: str
) -> None:
    """Otherwise the next request would be read as the body that never came."""
    head = f"PUT {path} HTTP/1.1\r\nHost: localhost\r\n{expect}Content-Length: 1000\r\n\r\n"
    with capture_logs():
        answers = await converse(port, head.encode() + b"GET /healthz HTTP/1.1\r\n")

    assert answers.count(b"HTTP/1.1 ") == 1
    assert b"100 Continue" not in answers
    assert b"\r\nConnection: close\r\n" in answers


async def test_a_body_that_has_come_keeps_the_connection(port: int) -> None:
    reply = await ask(
        port, b"PUT /t/whole/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc"
    )

    assert "connection" not in reply.headers


async def test_a_draining_server_asks_its_clients_to_leave(port: int, app: web.Application) -> None:
    app[DRAIN].begin()
    reply = await ask(port, b"GET /t/streamed/x HTTP/1.0\r\nHost: localhost\r\n\r\n")
    other = await converse(port, b"GET /t/whole/x HTTP/1.1\r\nHost: localhost\r\n\r\n")

    assert reply.status == 200
    assert b"\r\nConnection: close\r\n" in other


def test_logging_is_not_configured_by_importing_the_application() -> None:
    assert structlog.get_config()["logger_factory"] is not None
