"""The real curl, tar and sha256sum: one line publishes, one line fetches, and both are whole."""

from __future__ import annotations

import filecmp
import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.servers import Server, running_server

TOOLS = ("curl", "tar", "sha256sum")
MISSING = [tool for tool in TOOLS if shutil.which(tool) is None]
if MISSING and os.environ.get("DIGESTRY_TESTS_COMPLETE") == "1":
    raise RuntimeError(f"{MISSING} are missing; .ci/packages names what the complete tests need")
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {MISSING}")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    config = "[store]\nreserve_bytes = 0\nreserve_share = 0.0\n"
    root = tmp_path_factory.mktemp("models")
    with running_server(root / "data", config=config, workers=2) as server:
        yield server


@pytest.fixture
def name() -> str:
    """A model of its own for each test."""
    return f"model-{secrets.token_hex(6)}"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    root = tmp_path / "bert"
    (root / "weights" / "deep").mkdir(parents=True)
    (root / "weights" / "model.safetensors").write_bytes(secrets.token_bytes(3_000_001))
    (root / "weights" / "deep" / ("x" * 120)).write_bytes(b"long name")
    (root / "config.json").write_text("{}")
    (root / "empty").touch()
    (root / "gr\u00fcn und blau.txt").write_text("name of two bytes a letter")
    return root


def curl(*arguments: str | Path, **options: Any) -> bytes:
    """Run curl to a good end and return what it printed."""
    command = ["curl", "--silent", "--show-error", "--max-time", "60", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, check=True, timeout=90, **options).stdout


def same(one: Path, other: Path) -> bool:
    def is_same(found: filecmp.dircmp[str]) -> bool:
        if found.left_only or found.right_only or found.funny_files:
            return False
        _, mismatch, errors = filecmp.cmpfiles(
            found.left, found.right, found.common_files, shallow=False
        )
        return not mismatch and not errors and all(map(is_same, found.subdirs.values()))

    return is_same(filecmp.dircmp(one, other))


def test_one_line_publishes_and_one_line_fetches(
    server: Server, name: str, directory: Path, tmp_path: Path
) -> None:
    model = directory / "weights" / "model.safetensors"
    url = f"{server.url}/models/{name}/1.0.0/model.safetensors"

    answer = json.loads(curl("-T", model, f"{url}?publish=true"))
    curl("-o", tmp_path / "back", f"{server.url}/models/{name}/latest/model.safetensors")
    curl("-L", "-o", tmp_path / "lone", f"{server.url}/models/{name}/1.0.0")

    assert answer["state"] == "published"
    assert answer["url"] == url
    assert (tmp_path / "back").read_bytes() == model.read_bytes()
    assert (tmp_path / "lone").read_bytes() == model.read_bytes()


def test_the_answer_says_how_to_publish_a_draft(server: Server, name: str, directory: Path) -> None:
    base = f"{server.url}/models/{name}/1.0.0"
    curl("-T", directory / "config.json", f"{base}/")
    answer = json.loads(curl("-T", directory / "empty", f"{base}/sub/"))
    published = json.loads(curl("-X", "POST", answer["publish_url"]))

    assert answer["state"] == "draft"
    assert published["version"]["files"] == 2
    listed = curl("-H", "Accept: text/plain", f"{base}/").decode().splitlines()
    assert listed == ["config.json", "sub/empty"]


def test_a_directory_goes_through_a_pipe_and_comes_back_whole(
    server: Server, name: str, directory: Path, tmp_path: Path
) -> None:
    url = f"{server.url}/models/{name}/1.0.0"
    back = tmp_path / "back"
    back.mkdir()

    with subprocess.Popen(["tar", "-C", directory, "-c", "."], stdout=subprocess.PIPE) as packing:
        answer = json.loads(curl("-T", "-", f"{url}.tar", stdin=packing.stdout))
    archive = curl("-L", url)
    subprocess.run(["tar", "-C", back, "-x"], input=archive, check=True)
    sums = curl(f"{url}/SHA256SUMS")
    checked = subprocess.run(
        ["sha256sum", "--check", "--strict"], input=sums, cwd=back, capture_output=True, check=True
    )

    assert answer["version"]["files"] == 5
    assert same(directory, back)
    assert checked.stdout.count(b": OK\n") == 5


def test_a_broken_download_of_an_archive_resumes(
    server: Server, name: str, directory: Path, tmp_path: Path
) -> None:
    url = f"{server.url}/models/{name}/1.0.0.tar"
    packed = subprocess.run(["tar", "-C", directory, "-c", "."], capture_output=True, check=True)
    curl("-T", "-", url, input=packed.stdout)
    whole = curl(url)
    part = tmp_path / "part.tar"
    part.write_bytes(whole[: len(whole) // 2 + 1])

    curl("-C", "-", "-o", part, url)

    assert part.read_bytes() == whole


def test_links_are_refused_and_dereferenced_ones_taken(
    server: Server, name: str, directory: Path
) -> None:
    (directory / "link").symlink_to("config.json")
    url = f"{server.url}/models/{name}/1.0.0.tar"
    plain = subprocess.run(["tar", "-C", directory, "-c", "."], capture_output=True, check=True)
    # Without the second option tar writes what the link leads to once, and then a hard link.
    followed = subprocess.run(
        ["tar", "-C", directory, "-c", "-h", "--hard-dereference", "."],
        capture_output=True,
        check=True,
    )

    refused = json.loads(curl("-T", "-", url, input=plain.stdout))
    taken = json.loads(curl("-T", "-", url, input=followed.stdout))

    assert refused["code"] == "tar_link"
    assert "tar -h --hard-dereference" in refused["detail"]
    assert taken["version"]["files"] == 6


@pytest.mark.parametrize("format", ["v7", "ustar", "gnu", "pax", "oldgnu"])
def test_every_format_that_tar_writes_is_taken(
    server: Server, name: str, tmp_path: Path, format: str
) -> None:
    source = tmp_path / "files"
    (source / "a").mkdir(parents=True)
    (source / "a" / "b").write_text("1")
    (source / "c").write_text("2")
    packed = subprocess.run(
        ["tar", "-C", source, f"--format={format}", "-c", "."], capture_output=True, check=True
    )

    answer = json.loads(
        curl("-T", "-", f"{server.url}/models/{name}/1.0.0.tar", input=packed.stdout)
    )

    assert answer["version"]["files"] == 2


def test_many_curls_at_once_build_one_version(server: Server, name: str, tmp_path: Path) -> None:
    base = f"{server.url}/models/{name}/1.0.0"
    for number in range(40):
        (tmp_path / f"{number}").write_bytes(secrets.token_bytes(1000 + number))
    config = "\n".join(
        f'upload-file = "{tmp_path}/{number}"\nurl = "{base}/{number}"\noutput = "/dev/null"'
        for number in range(40)
    )

    curl("--fail", "--parallel", "--parallel-max", "16", "-K", "-", input=config.encode())
    publish = f"{server.url}/api/v1/models/{name}/versions/1.0.0/publish?expect_files=40"
    published = json.loads(curl("-X", "POST", publish))

    assert published["version"]["files"] == 40
