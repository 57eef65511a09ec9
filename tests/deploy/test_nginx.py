"""The nginx example in front of a server: what clients get is what Digestry would have sent."""

from __future__ import annotations

import asyncio
import base64
import datetime
import io
import json
import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from email.utils import formatdate
from pathlib import Path
from typing import Any, Final

import pytest
from aiohttp import ClientSession, TCPConnector
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from registry.config import Config, ServerConfig
from registry.http.accelerated import ANNOUNCEMENT, REDIRECT
from registry.keys import DOWNLOADS, DRAIN
from store.digest import Digest
from tests.support.builders import Registry
from tests.support.serving import Answer, Site, answer_of, opened, serving

EXAMPLE: Final = Path(__file__).resolve().parents[2] / "deploy/nginx/digestry.conf"
PLACE: Final = "/_digestry_blobs/"
CONTENT: Final = os.urandom(3 << 20)
DIGEST: Final = Digest.of(CONTENT)
BLOB: Final = f"/blobs/{DIGEST}"

# What belongs to a connection, a moment or one request.
OF_THE_WAY: Final = {"server", "date", "connection", "keep-alive", "x-request-id"}


def program() -> str:
    found = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if found is None:
        if os.environ.get("DIGESTRY_TESTS_COMPLETE"):
            pytest.fail("nginx is not installed (Debian: nginx-extras)")
        pytest.skip("nginx is not installed (Debian: nginx-extras)")
    return found


@contextmanager
def kept_ports(count: int) -> Iterator[list[int]]:
    """Ports on which nginx may listen; whoever wants any port gets others, as these are bound."""
    with ExitStack() as kept:
        held = [kept.enter_context(socket.socket()) for _ in range(count)]
        for one in held:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind(("127.0.0.1", 0))
        yield [one.getsockname()[1] for one in held]


def make_certificate(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "models.example.org")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return folder / "cert.pem", folder / "key.pem"


def configuration(folder: Path, blobs: Path, *, upstream: int, plain: int, secure: int) -> Path:
    """The example with nothing changed but what it says is to be changed, and the ports."""
    text = EXAMPLE.read_text()
    certificate, key = make_certificate(folder)
    for old, new in (
        ("server 127.0.0.1:8080;", f"server 127.0.0.1:{upstream};"),
        ("listen 80;", f"listen 127.0.0.1:{plain};"),
        ("listen 443 ssl http2;", f"listen 127.0.0.1:{secure} ssl http2;"),
        ("/etc/ssl/certs/models.example.org.pem", str(certificate)),
        ("/etc/ssl/private/models.example.org.key", str(key)),
        ("/var/lib/digestry/blobs/", f"{blobs}/"),
    ):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    (folder / "digestry.conf").write_text(text)
    user = "user root;" if os.geteuid() == 0 else ""
    main = folder / "nginx.conf"
    main.write_text(
        f"""daemon off; {user} worker_processes 1; pid {folder}/nginx.pid; error_log stderr warn;
        events {{}}
        http {{
            access_log off;
            client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
            fastcgi_temp_path {folder}/other; uwsgi_temp_path {folder}/other;
            scgi_temp_path {folder}/other;
            include {folder}/digestry.conf;
        }}"""
    )
    return main


def test_nginx_has_nothing_to_object(tmp_path: Path) -> None:
    written = configuration(tmp_path, tmp_path, upstream=1, plain=2, secure=3)

    done = subprocess.run(
        [program(), "-t", "-p", str(tmp_path), "-c", str(written)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, "warn" in done.stderr) == (0, False), done.stderr


class Front:
    """A server, and nginx before it."""

    def __init__(self, site: Site, plain: int, secure: int, session: ClientSession) -> None:
        self.site = site
        self.registry = Registry(site)
        self.plain = plain
        self.secure = secure
        self.url = f"https://127.0.0.1:{secure}"
        self.session = session

    async def ask(self, method: str, path: str, **options: Any) -> Answer:
        """Through nginx."""
        async with self.session.request(
            method, self.url + path, allow_redirects=False, **options
        ) as response:
            return await answer_of(response)

    async def redirect(self, path: str = BLOB, **headers: str) -> str | None:
        """Where nginx is sent when it asks."""
        announced = {ANNOUNCEMENT: REDIRECT, **headers}
        answer = await self.site.ask("GET", path, headers=announced)
        place: str | None = answer.headers.get(REDIRECT)
        assert (place is None) == bool(answer.body)
        return place


def settings(**server: Any) -> Config:
    chosen = {"trusted_proxies": ("127.0.0.1",), "accel_redirect": PLACE, **server}
    return Config(server=ServerConfig(**chosen))


@pytest.fixture
async def front(tmp_path: Path) -> AsyncIterator[Front]:
    with kept_ports(2) as (plain, secure):
        async with opened(tmp_path / "data") as store, serving(store, settings()) as site:
            written = configuration(
                tmp_path, tmp_path / "data/blobs", upstream=site.port, plain=plain, secure=secure
            )
            nginx = await asyncio.create_subprocess_exec(
                program(), "-p", str(tmp_path), "-c", str(written)
            )
            try:
                await answers(secure)
                connector = TCPConnector(ssl=False)
                async with ClientSession(connector=connector, auto_decompress=False) as session:
                    await site.ask("PUT", "/blobs/a.bin", data=CONTENT)
                    yield Front(site, plain, secure, session)
            finally:
                nginx.terminate()
                await nginx.wait()


async def answers(port: int) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                await asyncio.sleep(0.01)
                continue
            writer.close()
            return


def seen(answer: Answer) -> tuple[int, dict[str, str], bytes]:
    told = {name.lower(): value for name, value in answer.headers.items()}
    headers = {name: value for name, value in told.items() if name not in OF_THE_WAY}
    return answer.status, headers, answer.body


ETAG: Final = f'"{DIGEST}"'
QUESTIONS: Final[list[dict[str, str]]] = [
    {},
    {"Range": "bytes=0-0"},
    {"Range": "bytes=1000-2097151"},
    {"Range": "bytes=-100"},
    {"Range": "bytes=3000000-"},
    {"Range": "bytes=0-1,5-6"},
    {"Range": "bytes=9999999-"},
    {"Range": "bytes=5-2"},
    {"Range": "apples=1-2"},
    {"Range": "bytes=0-9", "If-Range": ETAG},
    {"Range": "bytes=0-9", "If-Range": '"another"'},
    {"Range": "bytes=0-9", "If-Range": "Wed, 21 Oct 2065 07:28:00 GMT"},
    {"If-None-Match": ETAG},
    {"If-None-Match": '"another"'},
    {"If-None-Match": "*"},
    {"If-Match": ETAG},
    {"If-Match": '"another"'},
    {"If-Match": ETAG, "Range": "bytes=0-9"},
    {"If-Modified-Since": "Wed, 21 Oct 2065 07:28:00 GMT"},
    {"If-Unmodified-Since": "Wed, 21 Oct 1995 07:28:00 GMT"},
    {"Origin": "https://elsewhere.example"},
    {"Accept-Encoding": "gzip, br"},
]


async def test_clients_get_what_digestry_would_have_sent(front: Front) -> None:
    assert (
        await front.redirect() == f"{PLACE}sha256/{DIGEST.hex[:2]}/{DIGEST.hex[2:4]}/{DIGEST.hex}"
    )
    for headers in [*QUESTIONS, *nginx_knows(front)]:
        for method in ("GET", "HEAD"):
            direct = await front.site.ask(method, BLOB, headers=headers)
            behind = await front.ask(method, BLOB, headers=headers)

            if direct.status >= 400:
                assert (behind.status, json_without_id(behind)) == (
                    direct.status,
                    json_without_id(direct),
                )
            else:
                assert seen(behind) == seen(direct), (method, headers)


def nginx_knows(front: Front) -> list[dict[str, str]]:
    """Questions that nginx would say yes to if it went by what it knows of the file."""
    root = front.site.store.settings.root
    assert root is not None
    found = (root / "blobs/sha256" / DIGEST.hex[:2] / DIGEST.hex[2:4] / DIGEST.hex).stat()
    modified = int(found.st_mtime)
    return [
        {"If-Modified-Since": formatdate(modified, usegmt=True)},
        {"If-None-Match": f'"{modified:x}-{found.st_size:x}"'},
    ]


def json_without_id(answer: Answer) -> Any:
    if not answer.body:
        return None
    told = json.loads(answer.body)
    return {name: value for name, value in told.items() if name != "request_id"}


async def test_what_nginx_would_judge_otherwise_is_sent_by_digestry(front: Front) -> None:
    for headers in (
        {"If-Match": ETAG},
        {"If-Unmodified-Since": "Wed, 21 Oct 2065 07:28:00 GMT"},
        {"Range": "bytes=0-1,5-6"},
        {"Range": "bytes=0-9", "If-Range": '"another"'},
    ):
        assert await front.redirect(**headers) is None, headers


async def test_small_blobs_leave_from_memory(front: Front) -> None:
    answer = await front.site.ask("PUT", "/blobs/small.bin", data=b"x" * 1000)

    assert await front.redirect(answer.json["url"]) is None


async def test_bytes_that_were_not_verified_leave_through_digestry(front: Front) -> None:
    await front.registry.store.reading.close()
    front.site.store.reading._known.forget(DIGEST)
    await front.registry.store.index.run(forget_verification)

    assert await front.redirect() is None  # and verifies
    await front.site.store.reading.settle()
    assert await front.redirect() is not None


async def forget_verification(tx: Any) -> None:
    from sqlalchemy import text

    from store.index.transactions import Statement

    await tx.run(Statement(text("UPDATE blobs SET verified_at = NULL")))


@pytest.mark.parametrize(
    ("server", "verify_reads", "announced"),
    [
        ({}, "strict", True),
        ({"trusted_proxies": ("192.0.2.1",)}, "boot", True),
        ({"accel_redirect": ""}, "boot", True),
        ({}, "boot", False),
    ],
    ids=["strict", "not trusted", "not configured", "not announced"],
)
async def test_without_leave_the_bytes_themselves_are_sent(
    tmp_path: Path, server: dict[str, Any], verify_reads: str, announced: bool
) -> None:
    headers = {ANNOUNCEMENT: REDIRECT} if announced else {}
    async with (
        opened(tmp_path / "data", verify_reads=verify_reads) as store,
        serving(store, settings(**server)) as site,
    ):
        await site.ask("PUT", "/blobs/a.bin", data=CONTENT)
        answer = await site.ask("GET", BLOB, headers=headers)

    assert (answer.body == CONTENT, REDIRECT in answer.headers) == (True, False)


async def test_the_place_of_the_files_is_nobodys_address(front: Front) -> None:
    answer = await front.ask("GET", await front.redirect() or "")

    assert (answer.status, answer.code) == (404, "route_not_found")


async def test_a_file_that_is_gone_is_answered_by_digestry(front: Front) -> None:
    root = front.site.store.settings.root
    assert root is not None
    assert (await front.ask("GET", BLOB)).body == CONTENT  # Digestry has it open now
    (root / "blobs/sha256" / DIGEST.hex[:2] / DIGEST.hex[2:4] / DIGEST.hex).unlink()

    answer = await front.ask("GET", BLOB)

    assert (answer.status, answer.body) == (200, CONTENT)


async def test_a_client_cannot_ask_for_redirects_itself(front: Front) -> None:
    answer = await front.ask("GET", BLOB, headers={ANNOUNCEMENT: "nothing we know"})

    assert (answer.body == CONTENT, REDIRECT in answer.headers) == (True, False)


async def test_downloads_are_counted(front: Front) -> None:
    await front.registry.publish("bert", "1.0.0", {"model.bin": CONTENT})
    await front.ask("GET", "/models/bert/1.0.0/model.bin")
    await front.ask("GET", "/models/bert/1.0.0/model.bin", headers={"Range": "bytes=0-999"})
    await front.site.app[DOWNLOADS].flush()

    counted = await front.registry.rows("SELECT sum(bytes), sum(requests) FROM downloads")

    assert [tuple(row) for row in counted] == [(len(CONTENT) + 1000, 2)]


async def test_bodies_go_on_as_they_come(front: Front) -> None:
    """nginx gathers nothing: Digestry has the request in hand long before its end."""
    drain, begun = front.site.app[DRAIN], asyncio.Event()

    async def halves() -> AsyncIterator[bytes]:
        yield CONTENT[: len(CONTENT) // 2]
        await begun.wait()
        yield CONTENT[len(CONTENT) // 2 :]

    sending = asyncio.create_task(front.ask("PUT", "/blobs/slow.bin", data=halves()))
    await front.site.until(lambda: drain.in_flight == 1)
    begun.set()

    assert (await sending).json["digest"] == str(DIGEST)


async def test_resumable_uploads_work(front: Front) -> None:
    half = len(CONTENT) // 2
    tus = {"Tus-Resumable": "1.0.0"}
    filename = base64.b64encode(b"model.bin").decode()
    made = await front.ask(
        "POST",
        "/uploads",
        headers={
            **tus,
            "Upload-Length": str(len(CONTENT)),
            "Upload-Metadata": f"filename {filename}",
        },
    )
    path = made.headers["Location"].removeprefix(front.url)
    patch = {**tus, "Content-Type": "application/offset+octet-stream"}
    first = await front.ask(
        "PATCH", path, data=io.BytesIO(CONTENT[:half]), headers={**patch, "Upload-Offset": "0"}
    )
    asked = await front.ask("HEAD", path, headers=tus)
    last = await front.ask(
        "PATCH",
        path,
        data=io.BytesIO(CONTENT[half:]),
        headers={**patch, "Upload-Offset": str(half)},
    )

    assert (first.status, asked.headers["Upload-Offset"], last.status) == (204, str(half), 204)
    assert last.headers["Content-Location"] == BLOB


async def test_plain_http_is_sent_to_tls(front: Front) -> None:
    async with front.session.get(
        f"http://127.0.0.1:{front.plain}/models/a%2Fb", allow_redirects=False
    ) as response:
        assert response.status == 308
        assert response.headers["Location"] == "https://127.0.0.1/models/a%2Fb"


async def test_names_with_slashes_arrive_as_they_were_written(front: Front) -> None:
    await front.registry.publish("nlp~bert", "1.0.0", {"model.bin": b"bytes"})
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    reader, writer = await asyncio.open_connection("127.0.0.1", front.secure, ssl=context)
    writer.write(
        b"GET /api/v1/models/nlp%2Fbert HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    )
    answer = await reader.read()
    writer.close()

    assert answer.startswith(b"HTTP/1.1 200")
