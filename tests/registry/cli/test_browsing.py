"""``ls``, ``show`` and ``search`` against a real server, on a terminal and into a pipe."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from registry.cli.browsing import Place, place_of
from registry.cli.exits import CommandError
from tests.support.commands import run_here
from tests.support.servers import Server, running_server, start_digestry

JSON = {"Content-Type": "application/json"}
HOSTILE = "a\x1b[2Jb\x1b]0;owned\x07\n[red]c[/red] \u202ed"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("browsing") / "data"
    config = "[store]\nreserve_bytes = 0\nreserve_share = 0.0\n"
    with running_server(data, config=config) as server:
        fill(server)
        yield server


def fill(server: Server) -> None:
    post(server, "/api/v1/models", {"name": "nlp/bert", "description": "Encoder of English"})
    post(server, "/api/v1/models", {"name": "whisper", "tags": {"task": "speech", "old": ""}})
    post(server, "/api/v1/models", {"name": "hostile", "description": HOSTILE})
    for label, content in (("1.0.0", b"x" * 5000), ("1.1.0", b"y")):
        put(server, f"/models/nlp~bert/{label}/model.bin", content)
        put(server, f"/models/nlp~bert/{label}/sub/deep/config.json?publish=true", b"{}")
    put(server, "/models/nlp~bert/draft/f", b"draft")
    status, _ = server.request(
        "PATCH",
        "/api/v1/models/nlp~bert/versions/1.1.0",
        json.dumps({"framework": "pytorch", "metadata": {"a": [1]}}).encode(),
        JSON,
    )
    assert status == 200


def post(server: Server, path: str, content: Any) -> None:
    status, body = server.request("POST", path, json.dumps(content).encode(), JSON)
    assert status == 201, body


def put(server: Server, path: str, content: bytes) -> None:
    status, body = server.request("PUT", path, content)
    assert status == 201, body


def run(server: Server, *args: str, code: int = 0) -> str:
    done = run_here(*args, env={"DIGESTRY_URL": server.url})

    assert done.returncode == code, (done.stdout, done.stderr)
    assert (done.stderr == "") == (code == 0), done.stderr
    return done.stderr if code else done.stdout


def rows(text: str) -> list[list[str]]:
    return [line.split("\t") for line in text.splitlines()]


def test_models_are_listed_by_name(server: Server) -> None:
    head, *found = rows(run(server, "ls"))

    assert head == ["NAME", "KIND", "VERSIONS", "UPDATED", "TAGS", "DESCRIPTION"]
    assert [row[0] for row in found] == ["hostile", "nlp/bert", "whisper"]
    assert found[1][1:3] == ["model", "2"]
    assert found[1][5] == "Encoder of English"
    assert found[2][4] == "old task=speech"


def test_some_models_are_listed(server: Server) -> None:
    def names(*args: str) -> list[str]:
        return [item["name"] for item in json.loads(run(server, "ls", *args, "--json"))["items"]]

    assert names("nlp/") == ["nlp/bert"]
    assert names("--tag", "task=speech") == ["whisper"]
    assert names("--tag", "task", "--tag", "old") == ["whisper"]
    assert names("--newest") == ["hostile", "whisper", "nlp/bert"]


def test_versions_are_listed_newest_first(server: Server) -> None:
    head, *found = rows(run(server, "ls", "nlp/bert"))

    assert head[:5] == ["NUMBER", "LABEL", "STATUS", "FILES", "SIZE"]
    assert [row[:5] for row in found] == [
        ["2", "1.1.0", "registered", "2", "3 B"],
        ["1", "1.0.0", "registered", "2", "4.9 KiB"],
    ]
    assert found[0][5] == "pytorch"
    assert run(server, "ls", "nlp/bert", "--status", "production") == "nothing\n"


def test_files_are_listed(server: Server) -> None:
    found = rows(run(server, "ls", "nlp/bert:1.0.0"))
    assert [row[:2] for row in found[1:]] == [
        ["model.bin", "4.9 KiB"],
        ["sub/deep/config.json", "2 B"],
    ]
    assert found[1][2].startswith("sha256:")

    below = json.loads(run(server, "ls", "nlp/bert@1/sub/", "--json"))
    assert [item["path"] for item in below["items"]] == ["sub/deep/config.json"]
    assert "nothing at su" in run(server, "ls", "nlp/bert:1.0.0/su", code=2)


def test_a_long_list_says_that_it_goes_on(server: Server) -> None:
    said = run(server, "ls", "--limit", "2")
    assert said.endswith("... the first 2 lines; --limit 0 lists all\n")
    assert json.loads(run(server, "ls", "--limit", "2", "--json"))["is_complete"] is False
    assert json.loads(run(server, "ls", "--limit", "0", "--json"))["is_complete"] is True


def test_a_list_of_several_pages_is_joined(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from registry.cli import browsing

    monkeypatch.setattr(browsing, "PAGE", 1)
    asked = browsing.Asked(limit=0)
    for place, count in ((None, 3), ("nlp/bert", 2), ("nlp/bert:1", 2)):
        assert browsing.ls(place, asked, server=server.url, as_json=True) == 0
        assert len(json.loads(capsys.readouterr().out)["items"]) == count


def test_a_model_is_shown_with_aliases_and_versions(server: Server) -> None:
    said = run(server, "show", "nlp/bert")

    assert said.startswith("nlp/bert\n")
    assert "  description: Encoder of English\n" in said
    assert "latest\t2 (1.1.0)\t" in said
    assert "\n2\t1.1.0\tregistered\t" in said
    found = json.loads(run(server, "show", "nlp/bert", "--json"))
    assert found["version_count"] == 2
    assert {alias["name"] for alias in found["aliases"]} == {"latest", "main"}


@pytest.mark.parametrize("what", ["nlp/bert:1.1.0", "nlp/bert@2", "nlp/bert:latest"])
def test_a_version_is_shown(server: Server, what: str) -> None:
    said = run(server, "show", what)

    assert said.startswith("nlp/bert 1.1.0\n")
    assert "  framework: pytorch\n" in said
    assert '  metadata: {"a":[1]}\n' in said
    assert "  size: 3 B (3 bytes)\n" in said
    assert "digestry pull nlp/bert:1.1.0" in said
    assert json.loads(run(server, "show", what, "--json"))["number"] == 2


def test_a_draft_is_shown_as_one(server: Server) -> None:
    assert run(server, "show", "nlp/bert:draft").startswith("draft draft\n")


def test_words_find_models(server: Server) -> None:
    assert [row[0] for row in rows(run(server, "search", "english", "enc*"))[1:]] == ["nlp/bert"]
    assert run(server, "search", "english", "-encoder") == "nothing\n"
    found = json.loads(run(server, "search", "speech", "--json"))["items"]
    assert [item["model"]["name"] for item in found] == ["whisper"]


def test_what_others_wrote_cannot_command_a_terminal(server: Server) -> None:
    for args in (["ls"], ["show", "hostile"], ["search", "owned"]):
        said = run(server, *args)
        assert "\x1b" not in said
        assert "\x07" not in said
        assert "\u202e" not in said
        assert "[red]c[/red]" in said


def test_a_table_on_a_terminal_fits_it(server: Server) -> None:
    ours, theirs = pty.openpty()
    process = start_digestry(
        "ls",
        env={"DIGESTRY_URL": server.url, "TERM": "xterm", "COLUMNS": "70"},
        stdout=theirs,
        stderr=subprocess.DEVNULL,
    )
    os.close(theirs)
    drawn = b""
    try:
        while piece := os.read(ours, 4096):
            drawn += piece
    except OSError:  # the other side is closed
        pass
    os.close(ours)

    assert process.wait(30) == 0
    lines = drawn.decode().splitlines()
    assert any("NAME" in line and "KIND" in line for line in lines)
    assert "[red]c" in drawn.decode()
    assert b"\x1b[2J" not in drawn


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (["ls", "nobody"], "nobody"),
        (["ls", "nowhere/"], "nowhere"),
        (["ls", "--limit", "-1"], "--limit"),
        (["ls", "nlp/bert", "--status", "great"], "status"),
        (["ls", "bad%name"], "NAMESPACE/"),
        (["show", "nlp/bert:9.9"], "9.9"),
        (["show", "nlp/"], "show tells"),
        (["search"], "what to look for"),
    ],
)
def test_what_is_not_there_is_one_line(server: Server, args: list[str], reason: str) -> None:
    said = run(server, *args, code=2)

    assert reason in said
    assert said.count("\n") == 1


def test_words_name_places() -> None:
    assert place_of("nlp/") == Place(namespace="nlp")
    assert place_of("nlp/bert") == Place(model="nlp~bert")
    assert place_of("bert:1.0/a/b") == Place(model="bert", version="1.0", path="a/b")
    assert place_of("bert@champion") == Place(model="bert", version="champion")
    for text in ("", "bert:", "bert:/x", "a//b"):
        with pytest.raises(CommandError):
            place_of(text)


def test_a_server_that_is_not_there_is_code_3(tmp_path: Path) -> None:
    done = run_here("ls", "--server", "http://127.0.0.1:1", cwd=tmp_path)

    assert (done.returncode, done.stdout) == (3, "")
