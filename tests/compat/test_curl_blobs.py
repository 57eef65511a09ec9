"""The real curl against the real server: what a person at a shell does with blobs."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.servers import Server, running_server, wait_until

CURL = shutil.which("curl")
if CURL is None and os.environ.get("DIGESTRY_TESTS_COMPLETE") == "1":
    raise RuntimeError("curl is missing; .ci/packages names what the complete tests need")
pytestmark = pytest.mark.skipif(CURL is None, reason="curl is not installed")

CONTENT = secrets.token_bytes(5 * (1 << 20) + 7)
HEX = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    config = "[store]\nreserve_bytes = 0\nreserve_share = 0.0\n"
    with running_server(tmp_path_factory.mktemp("curl") / "data", config=config) as server:
        yield server


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A file of its own for each test: 5 MiB that no other test stored."""
    path = tmp_path / "model.safetensors"
    path.write_bytes(secrets.token_bytes(32) + CONTENT)
    return path


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def curl(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Run curl to a good end and return what it printed; ``-v`` goes to stderr.

    Where it asks whether to send a body it waits for the answer, not for a second.
    """
    assert CURL is not None
    patience = ("--max-time", "60", "--expect100-timeout", "60")
    command = [CURL, "--silent", "--show-error", *patience, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, check=True, timeout=90, **options)


def assert_nothing_staged(server: Server) -> None:
    """Staging files go away right after the answer, not before it."""
    wait_until(lambda: os.listdir(server.data / "uploads") == [], "an empty staging folder")


def test_upload_by_file_name_and_download_by_digest(
    server: Server, model: Path, tmp_path: Path
) -> None:
    answer = json.loads(curl("-T", model, f"{server.url}/blobs/").stdout)
    back = tmp_path / "back"
    curl("-o", back, server.url + answer["url"])

    assert answer["digest"] == f"sha256:{sha256_of(model)}"
    assert answer["size"] == model.stat().st_size
    assert back.read_bytes() == model.read_bytes()
    assert_nothing_staged(server)


def test_upload_from_a_pipe(server: Server, model: Path) -> None:
    answer = json.loads(curl("-T", "-", f"{server.url}/blobs/", input=model.read_bytes()).stdout)

    assert answer["digest"] == f"sha256:{sha256_of(model)}"


def test_upload_by_post(server: Server, model: Path) -> None:
    answer = json.loads(curl("--data-binary", f"@{model}", f"{server.url}/blobs").stdout)

    assert answer["digest"] == f"sha256:{sha256_of(model)}"


def test_a_wrong_digest_tells_the_right_one(server: Server, model: Path) -> None:
    answer = json.loads(curl("-T", model, f"{server.url}/blobs/sha256:{HEX}").stdout)

    assert answer["status"] == 422
    assert answer["code"] == "digest_mismatch"
    assert answer["actual"] == f"sha256:{sha256_of(model)}"
    assert_nothing_staged(server)


def test_a_broken_download_is_continued(server: Server, model: Path, tmp_path: Path) -> None:
    answer = json.loads(curl("-T", model, f"{server.url}/blobs/").stdout)
    back = tmp_path / "back"
    back.write_bytes(model.read_bytes()[:1_234_567])

    curl("-C", "-", "-o", back, server.url + answer["url"])

    assert back.read_bytes() == model.read_bytes()


def test_a_stored_digest_is_acknowledged_without_its_body(server: Server, model: Path) -> None:
    url = f"{server.url}/blobs/sha256:{sha256_of(model)}"
    first = curl("-w", "%{http_code} %{size_upload}", "-o", os.devnull, "-T", model, url).stdout
    second = curl("-w", "%{http_code} %{size_upload}", "-o", os.devnull, "-T", model, url).stdout

    assert first.decode() == f"201 {model.stat().st_size}"
    assert second.decode() == "200 0"


@pytest.mark.parametrize("waits", [True, False], ids=["waits for 100", "sends at once"])
def test_two_uploads_on_one_connection_and_the_second_holds_a_request(
    server: Server, tmp_path: Path, *, waits: bool
) -> None:
    """The body of the second one is a request that deletes; it is stored and never obeyed."""
    victim = tmp_path / "victim"
    victim.write_bytes(secrets.token_bytes(2 << 20))
    curl("-T", victim, f"{server.url}/blobs/")
    target = f"/blobs/sha256:{sha256_of(victim)}"
    poison = tmp_path / "poison"
    request = f"DELETE {target} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n\r\n"
    poison.write_bytes((request * (1 + (2 << 20) // len(request))).encode())
    expect = ["-H", "Expect: 100-continue"] if waits else ["-H", "Expect:"]
    url = server.url + target

    answers = curl(
        *(*expect, "-T", str(victim), url, "-w", "%{http_code}\\n", "-o", os.devnull),
        "--next",
        *("--silent", *expect, "-T", str(poison), "-w", "%{http_code}\\n", "-o", os.devnull),
        f"{server.url}/blobs/poison",
    ).stdout

    assert answers.decode().split() == ["200", "201"]
    assert curl("-I", url).stdout.startswith(b"HTTP/1.1 200 ")
    stored = curl(f"{server.url}/blobs/sha256:{sha256_of(poison)}").stdout
    assert stored == poison.read_bytes()


def test_two_refused_uploads_on_one_connection(server: Server, model: Path) -> None:
    """Each gets its own answer although neither body is wanted."""
    url = f"{server.url}/blobs/sha256:typo"

    answers = curl(
        *("-T", model, url, "-w", "%{http_code}\\n", "-o", os.devnull),
        "--next",
        *("--silent", "-T", model, "-w", "%{http_code}\\n", "-o", os.devnull, url),
    ).stdout

    assert answers.decode().split() == ["400", "400"]


def test_several_uploads_at_once_over_curls_own_parallel_mode(
    server: Server, tmp_path: Path
) -> None:
    paths = []
    for number in range(6):
        paths.append(tmp_path / f"{number}.bin")
        paths[-1].write_bytes(secrets.token_bytes(1 << 20))

    curl("-Z", *(part for path in paths for part in ("-T", path, f"{server.url}/blobs/")))

    for path in paths:
        status = curl("-I", f"{server.url}/blobs/{sha256_of(path)}").stdout
        assert status.startswith(b"HTTP/1.1 200 ")
    assert_nothing_staged(server)


def test_release_and_what_remains(server: Server, model: Path) -> None:
    curl("-T", model, f"{server.url}/blobs/")
    url = f"{server.url}/blobs/{sha256_of(model)}"

    codes = [
        curl("-X", "DELETE", "-o", os.devnull, "-w", "%{http_code}", url).stdout for _ in range(2)
    ]

    assert codes == [b"204", b"204"]
    assert json.loads(curl(url).stdout)["code"] == "blob_not_found"


def test_an_upload_that_curl_gives_up_leaves_nothing(server: Server, model: Path) -> None:
    assert CURL is not None
    slow = [CURL, "--silent", "--limit-rate", "1M", "--max-time", "1", "-T", str(model)]

    ended = subprocess.run([*slow, f"{server.url}/blobs/"], check=False, timeout=60)

    assert ended.returncode == 28
    status = curl("-I", f"{server.url}/blobs/{sha256_of(model)}").stdout
    assert status.startswith(b"HTTP/1.1 404 ")
    assert_nothing_staged(server)
