"""The outbound client: where it goes, and what it puts up with. Each rule with a real receiver."""

from __future__ import annotations

import asyncio
import gzip
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from registry.config import ConfigError, load
from registry.domain.addresses import Reach, is_public, parse_url
from registry.domain.calls import Call, CallFailed, Reply
from registry.errors import Invalid
from registry.outbound import Outbound, Resolve
from tests.support.receiving import Receiver, answering, never, receiving, reset

LOOPBACK = Reach.of(["127.0.0.0/8", "::1/128"])


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


class Names:
    """A resolver that gives each answer once, the last one for ever, and counts."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.asked: list[str] = []
        self._answers = list(answers)

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


@asynccontextmanager
async def outbound(
    resolve: Resolve | None = None, *, reach: Reach = LOOPBACK, **trust: Any
) -> AsyncIterator[Outbound]:
    client = Outbound(reach, resolve=resolve, **trust)
    try:
        yield client
    finally:
        await client.close()


def call(url: str, *, seconds: float = 5, most: int = 1000, body: bytes = b"{}") -> Call:
    return Call(
        method="POST", target=parse_url(url), body=body, total_seconds=seconds, most_bytes=most
    )


async def send(client: Outbound, url: str, **choices: Any) -> Reply:
    return await client.send(call(url, **choices))


async def failure(client: Outbound, url: str, **choices: Any) -> str:
    with pytest.raises(CallFailed) as caught:
        await send(client, url, **choices)
    return caught.value.failure


def named(receiver: Receiver, host: str = "hooks.example") -> str:
    return receiver.url.replace("127.0.0.1", host)


# Where to


async def test_a_call_arrives_as_it_was_written(receiver: Receiver) -> None:
    receiver.then(answering(202, "thanks", X_Some="thing"))
    path = "/a%2Fb/c;d=1?q=%20x&r=a+b"
    async with outbound(Names(["127.0.0.1"])) as client:
        reply = await send(client, named(receiver) + path, body=b'{"a": 1}')

    [received] = receiver.received
    assert (reply.status, reply.body, reply.is_truncated) == (202, b"thanks", False)
    assert reply.headers["x-some"] == "thing"
    assert (received.path, received.body) == (path, b'{"a": 1}')
    assert received.headers["host"] == named(receiver).partition("//")[2]


async def test_a_resolver_that_changes_its_mind_is_asked_once(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address that was checked is the one that is called: there is no second resolution."""
    names = Names(["127.0.0.1"], ["10.0.0.1"])

    def resolved_again(host: Any, *rest: Any, **more: Any) -> Any:
        raise AssertionError(f"{host} was resolved a second time")

    monkeypatch.setattr(socket, "getaddrinfo", resolved_again)
    async with outbound(names) as client:
        reply = await send(client, named(receiver))

        assert reply.status == 204
        assert names.asked == ["hooks.example"]
        assert await failure(client, named(receiver)) == "refused"
    assert len(receiver.received) == 1


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "::1", "::ffff:127.0.0.1", "169.254.169.254", "fe80::1%eth0", "not an address"],
)
async def test_a_name_at_an_address_that_is_not_public_is_refused(
    receiver: Receiver, address: str
) -> None:
    async with outbound(Names([address]), reach=Reach()) as client:
        assert await failure(client, named(receiver)) == "refused"
    assert receiver.received == []


async def test_an_address_in_the_url_is_checked_like_that_of_a_name(receiver: Receiver) -> None:
    async with outbound(reach=Reach()) as client:
        assert await failure(client, receiver.url) == "refused"
        assert await failure(client, receiver.url.replace("127.0.0.1", "localhost")) == "refused"
    assert receiver.received == []


async def test_of_several_addresses_only_those_that_may_be_called_are(receiver: Receiver) -> None:
    async with outbound(Names(["10.0.0.1", "::ffff:127.0.0.1", "127.0.0.1"])) as client:
        assert (await send(client, named(receiver))).status == 204


async def test_an_address_where_nobody_listens_leaves_the_next_one(receiver: Receiver) -> None:
    async with outbound(Names(["127.0.0.9", "127.0.0.1"])) as client:
        assert (await send(client, named(receiver))).status == 204


async def test_nobody_there_and_no_such_name_are_told_apart() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]

        async def unknown(host: str, port: int) -> Sequence[str]:
            raise socket.gaierror(-2, "Name or service not known")

        async with outbound(unknown) as client:
            assert await failure(client, f"http://127.0.0.1:{port}/") == "unreachable"
            assert await failure(client, "http://hooks.example/") == "unresolved"
        async with outbound(Names([])) as client:
            assert await failure(client, "http://hooks.example/") == "unresolved"


async def test_an_ipv6_address_in_brackets_is_called() -> None:
    hosts: list[str | None] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        hosts.extend(line[6:] for line in head.split("\r\n") if line.lower().startswith("host:"))
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        writer.close()

    try:
        server = await asyncio.start_server(answer, "::1", 0)
    except OSError as error:
        pytest.skip(f"this machine has no IPv6 on loopback: {error}")
    async with server, outbound() as client:
        port = server.sockets[0].getsockname()[1]
        assert (await send(client, f"http://[::1]:{port}/")).status == 204
        assert await failure(client, f"http://[::ffff:127.0.0.1]:{port}/") == "refused"
    assert hosts == [f"[::1]:{port}"]


async def test_proxies_of_the_environment_are_ignored(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with outbound() as client:
        assert (await send(client, receiver.url)).status == 204


# What comes back


async def test_redirects_are_answers_and_not_followed(receiver: Receiver) -> None:
    receiver.then(answering(302, Location=receiver.url + "/elsewhere"))
    async with outbound() as client:
        assert (await send(client, receiver.url)).status == 302
    assert [one.path for one in receiver.received] == ["/"]


async def test_no_cookie_is_kept_and_no_connection_used_twice(receiver: Receiver) -> None:
    ports: list[int] = []

    async def answer(request: web.Request) -> web.Response:
        assert request.transport is not None
        ports.append(request.transport.get_extra_info("peername")[1])
        return web.Response(headers={"Set-Cookie": "session=1; Path=/"})

    receiver.then(answer)
    async with outbound(Names(["127.0.0.1"])) as client:
        for _ in range(2):
            await send(client, named(receiver))

    assert "cookie" not in receiver.received[1].headers
    assert ports[0] != ports[1]


async def test_an_endless_answer_is_kept_in_part(receiver: Receiver) -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 10_000)

    receiver.then(endless)
    async with outbound() as client:
        reply = await send(client, receiver.url, most=12_345)

    assert (reply.body, reply.is_truncated) == (b"x" * 12_345, True)


async def test_an_answer_of_the_allowed_size_is_whole(receiver: Receiver) -> None:
    receiver.then(answering(200, "x" * 1000))
    async with outbound() as client:
        reply = await send(client, receiver.url, most=1000)

    assert (len(reply.body), reply.is_truncated) == (1000, False)


async def test_a_compressed_answer_stays_so(receiver: Receiver) -> None:
    bomb = gzip.compress(bytes(1 << 20))

    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=bomb, headers={"Content-Encoding": "gzip"})

    receiver.then(answer)
    async with outbound() as client:
        assert (await send(client, receiver.url, most=10_000)).body == bomb


async def slow_body(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    while True:
        await response.write(b"x")
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("behaviour", [never, slow_body])
async def test_one_bound_of_time_holds_for_all_of_a_call(
    receiver: Receiver, behaviour: Callable[[web.Request], Any]
) -> None:
    receiver.then(behaviour)
    async with outbound() as client:
        assert await failure(client, receiver.url, seconds=0.1) == "late"


async def test_a_name_server_that_does_not_answer_is_waited_for_no_longer() -> None:
    async def never_resolved(host: str, port: int) -> Sequence[str]:
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    async with outbound(never_resolved) as client:
        assert await failure(client, "http://hooks.example/", seconds=0.05) == "late"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 20_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
    ],
)
async def test_what_is_no_answer_is_broken(answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, outbound() as client:
        port = server.sockets[0].getsockname()[1]
        assert await failure(client, f"http://127.0.0.1:{port}/") == "broken"


async def test_a_reset_is_broken(receiver: Receiver) -> None:
    receiver.then(reset)
    async with outbound() as client:
        assert await failure(client, receiver.url) == "broken"


async def test_no_failure_repeats_path_or_query(receiver: Receiver) -> None:
    receiver.then(reset)
    refusing, closed = Outbound(Reach()), "http://127.0.0.1:1"
    async with outbound() as client:
        for one, url in ((client, receiver.url), (client, closed), (refusing, receiver.url)):
            with pytest.raises(CallFailed) as caught:
                await send(one, f"{url}/hidden?token=abracadabra")
            assert "hidden" not in str(caught.value)
            assert "abracadabra" not in str(caught.value)


# TLS


def certificate(folder: Path, name: str) -> Path:
    """A key and a certificate for a name that signed itself, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{name}.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


async def test_the_certificate_must_be_that_of_the_name(tmp_path: Path) -> None:
    """Although it is an address that is connected to."""
    pem = certificate(tmp_path, "hooks.example")
    server_side = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_side.load_cert_chain(pem)
    asked: list[str | None] = []
    server_side.sni_callback = lambda _, name, __: asked.append(name)
    app = web.Application()
    app.router.add_post("/", answering(204))
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server_side).start()
    port = runner.addresses[0][1]

    def trust() -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(pem))

    async with outbound(Names(["127.0.0.1"]), trust=trust) as client:
        assert (await send(client, f"https://hooks.example:{port}/")).status == 204
        assert await failure(client, f"https://other.example:{port}/") == "untrusted"
        assert await failure(client, f"https://127.0.0.1:{port}/") == "untrusted"
    async with outbound(Names(["127.0.0.1"])) as client:
        assert await failure(client, f"https://hooks.example:{port}/") == "untrusted"
    await runner.cleanup()
    assert asked[:2] == ["hooks.example", "other.example"]


# Addresses and URLs


NOT_PUBLIC = """
    0.0.0.0 0.1.2.3 10.1.2.3 100.64.0.1 100.127.255.255 127.0.0.1 127.255.255.254 169.254.169.254
    172.16.0.1 172.31.255.255 192.0.0.8 192.0.2.1 192.88.99.1 192.168.1.1 198.18.0.1 198.19.255.255
    198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255
    :: ::1 ::ffff:8.8.8.8 ::8.8.8.8 64:ff9b::8.8.8.8 64:ff9b:1::1 100::1 2001::1 2001:2::1
    2001:10::1 2001:20::1 2001:db8::1 2002:808:808::1 3fff::1 5f00::1 fc00::1 fd12:3456::1
    fe80::1 fec0::1 ff02::1 ff0e::1 fe80::1%eth0 2606:4700::1%eth0
"""
PUBLIC = """
    1.1.1.1 8.8.8.8 100.63.255.255 100.128.0.1 126.255.255.255 128.0.0.1 172.15.0.1 172.32.0.1
    192.0.1.1 198.17.255.255 198.20.0.1 223.255.255.255 2001:4860:4860::8888 2606:4700::1111
    2a00:1450::1
"""


@pytest.mark.parametrize(
    "address",
    NOT_PUBLIC.split(),
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(ip_address(address))
    assert not Reach().covers(ip_address(address))


@pytest.mark.parametrize(
    "address",
    PUBLIC.split(),
)
def test_addresses_that_are_public(address: str) -> None:
    assert is_public(ip_address(address))


def test_allowing_a_network_allows_nothing_in_other_clothes() -> None:
    reach = Reach.of(["10.0.0.0/8"])

    assert reach.covers(ip_address("10.2.3.4"))
    assert not reach.covers(ip_address("11.0.0.1")) or is_public(ip_address("11.0.0.1"))
    assert not reach.covers(ip_address("192.168.0.1"))
    assert not reach.covers(ip_address("::ffff:10.2.3.4"))
    assert not Reach.of(["::/0"]).covers(ip_address("fe80::1%eth0"))


def test_networks_that_may_be_called_come_from_the_settings() -> None:
    given = {"DIGESTRY_OUTBOUND_ALLOW_PRIVATE": "10.0.0.0/8, fd00::/8"}

    assert load(None, given, {}).outbound.allow_private == ("10.0.0.0/8", "fd00::/8")
    for wrong in ("10.0.0.0/33", "intranet", "10.0.0.1/8"):
        with pytest.raises(ConfigError, match=r"outbound\.allow_private"):
            load(None, {"DIGESTRY_OUTBOUND_ALLOW_PRIVATE": wrong}, {})


@pytest.mark.parametrize(
    ("url", "authority", "path", "query"),
    [
        ("http://Example.COM", "example.com", "/", ""),
        ("HTTPS://example.com:443/a?b", "example.com", "/a", "b"),
        ("http://example.com:443/", "example.com:443", "/", ""),
        ("http://example.com./x", "example.com", "/x", ""),
        ("http://1.2.3.4:8080/", "1.2.3.4:8080", "/", ""),
        ("http://[2606:4700::1111]:81/?", "[2606:4700::1111]:81", "/", ""),
        ("http://a_b.xn--bcher-kva.example/%2F?x=/?", "a_b.xn--bcher-kva.example", "/%2F", "x=/?"),
    ],
)
def test_what_a_url_says(url: str, authority: str, path: str, query: str) -> None:
    target = parse_url(url)

    assert (target.authority, target.path, target.query) == (authority, path, query)


@pytest.mark.parametrize(
    "url",
    [
        "http://2130706433/",
        "http://0x7f000001",
        "http://017700000001",
        "http://0x7f.0.0.1/",
        "http://127.1/",
        "http://127.0.0.01/",
        "http://1.1.1.1.1/",
        "http://0x/",
        "http://a.0x1/",
    ],
)
def test_an_address_in_another_spelling_is_no_host(url: str) -> None:
    with pytest.raises(Invalid, match="four decimal numbers"):
        parse_url(url)
