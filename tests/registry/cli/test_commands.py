"""The commands as a person or a script runs them: on a free directory and through a server."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from cyclopts import App

from registry.cli import commands
from registry.cli.exits import CommandError
from registry.cli.offices import RemoteOffice, Task
from registry.cli.output import exit_code
from registry.cli.presence import Presence
from registry.domain.operations import Failure, Operation
from registry.services.operations import Operations
from store.digest import Digest
from store.layout import blob_key
from tests.support.commands import run_here
from tests.support.servers import run_digestry, running_server, start_digestry, wait_until
from tests.support.serving import opened
from tests.support.storing import put, release

AT_ONCE = {"DIGESTRY_COLLECTION_GRACE_SECONDS": "0", "DIGESTRY_COLLECTION_MAX_SHARE": "1"}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Digest, Digest]:
    """A store with one pinned and one loose blob."""
    data = tmp_path_factory.mktemp("template") / "data"

    async def fill() -> tuple[Digest, Digest]:
        async with opened(data) as store:
            kept, loose = await put(store, b"kept" * 1000), await put(store, b"loose" * 1000)
            await release(store, loose)
            return kept, loose

    return data, *asyncio.run(fill())


@pytest.fixture
def data(template: tuple[Path, Digest, Digest], tmp_path: Path) -> Path:
    copy = tmp_path / "data"
    shutil.copytree(template[0], copy)
    return copy


@pytest.fixture
def kept(template: tuple[Path, Digest, Digest]) -> Digest:
    return template[1]


@pytest.fixture
def loose(template: tuple[Path, Digest, Digest]) -> Digest:
    return template[2]


@pytest.fixture(params=["in process", "through a server"])
def place(request: pytest.FixtureRequest, data: Path) -> Iterator[Path]:
    """The directory, free or held by a server."""
    if request.param == "in process":
        yield data
        return
    with running_server(data, env=AT_ONCE):
        yield data


def run(*args: str, data: Path, code: int = 0, env: Mapping[str, str] = AT_ONCE) -> str:
    done = run_here(*args, "--data", str(data), env=env)

    assert done.returncode == code, (done.stdout, done.stderr)
    assert done.stderr == "" or code > 1, done.stderr
    return done.stdout


def run_json(*args: str, data: Path, code: int = 0) -> Any:
    return json.loads(run(*args, "--json", data=data, code=code))


def damage(data: Path, digest: Digest) -> None:
    path = data / blob_key(digest)
    path.chmod(0o600)
    path.write_bytes(b"x" * path.stat().st_size)


# The work itself.


def test_gc_shows_collects_and_brings_back(place: Path, loose: Digest) -> None:
    shown = run_json("gc", data=place)
    assert shown["state"] == "succeeded"
    assert [blob["digest"] for blob in shown["report"]["largest"]] == [str(loose)]

    plan = shown["report"]["plan"]
    applied = run_json("gc", "--apply", "--plan", plan, data=place)["report"]
    assert (applied["collected"], applied["bytes"]) == (1, 5000)
    assert not (place / blob_key(loose)).exists()

    assert run_json("gc", "--status", data=place)["quarantine"]["collected"] == 1
    assert run_json("gc", "--undo", applied["id"], data=place)["report"]["returned"] == 1
    assert (place / blob_key(loose)).exists()
    assert run_json("gc", "--purge", "--everything", data=place)["report"]["purged"] == 0


def test_gc_speaks_plainly(data: Path, loose: Digest) -> None:
    shown = run("gc", data=data)

    assert f"{loose}  4.9 KiB  present\n" in shown
    assert "1 blob of 2 can be collected, 4.9 KiB of 8.8 KiB" in shown
    command = shown.rpartition("with: digestry ")[2].split()
    applied = run(*command, data=data)
    assert "1 blob collected, 4.9 KiB" in applied
    undo = applied.rpartition("with: digestry ")[2].split()
    assert "1 blob brought back, 4.9 KiB" in run(*undo, data=data)


def test_scrub_finds_damage_and_says_so_in_its_exit_code(place: Path, kept: Digest) -> None:
    assert run_json("scrub", "--rate", "1G", data=place)["report"]["blobs"] == 2
    damage(place, kept)

    found = run_json("scrub", "--digest", kept.hex, data=place, code=1)
    assert found["exit_code"] == found["findings"] == 1
    assert found["report"]["findings"][0]["digest"] == str(kept)


def test_scrub_of_an_unknown_blob_is_refused(place: Path) -> None:
    assert run("scrub", "--digest", "a" * 64, data=place, code=2) == ""


def test_fsck_finds_and_repairs(place: Path, kept: Digest) -> None:
    assert run_json("fsck", data=place)["findings"] == 0
    (place / blob_key(kept)).unlink()

    assert run_json("fsck", data=place, code=1)["report"]["findings"][0]["action"] == "none"
    assert "marked damaged" in run("fsck", "--repair", data=place, code=1)


def test_a_rebuilt_index_knows_every_blob_and_collects_nothing_unasked(
    data: Path, kept: Digest, loose: Digest
) -> None:
    (data / "index.sqlite3").write_bytes(b"nonsense" * 1000)
    assert "fsck" in run_here("fsck", "--data", str(data)).stderr

    rebuilt = run_json("fsck", "--rebuild", data=data, code=1)
    adopted = {found["digest"]: found["action"] for found in rebuilt["report"]["findings"]}
    assert adopted == {str(kept): "adopted", str(loose): "adopted"}
    assert [path.name for path in data.glob("index.sqlite3.before-rebuild-*")]

    assert "collecting would be refused" in run("gc", data=data, code=1)
    assert run("gc", "--apply", data=data, code=2) == ""
    assert run("gc", "--status", data=data, code=1).endswith("digestry gc --confirm\n")
    run("gc", "--confirm", data=data)
    assert run_json("gc", data=data)["report"]["blobs"] == 0


def test_rebuilding_is_refused_while_a_server_runs(data: Path) -> None:
    with running_server(data) as server:
        done = run_here("fsck", "--rebuild", "--data", str(data))

        assert done.returncode == 2
        assert "stop it before" in done.stderr
        assert server.get("/healthz")[0] == 200


# Usage, help and output.


def every_command(app: App, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Each command as it is typed, groups included."""
    found = []
    for name in app:
        if not name.startswith("-"):
            found += [(*path, name), *every_command(app[name], (*path, name))]
    return found


def test_every_command_has_help_that_names_its_exit_codes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for command in every_command(commands.app):
        assert commands.run_command([*command, "--help"]) == 0
        shown = capsys.readouterr().out
        assert f"digestry {' '.join(command)}" in shown
        is_group = any(other[:-1] == command for other in every_command(commands.app))
        assert is_group or command == ("version",) or "Exit codes" in shown, command


def test_help_lists_every_command() -> None:
    listed = run_digestry("--help").stdout

    for command in every_command(commands.app):
        assert len(command) > 1 or f" {command[0]} " in listed


@pytest.mark.parametrize("flag", ["version", "--version"])
def test_the_version_is_one_line(flag: str) -> None:
    done = run_digestry(flag)

    assert done.returncode == 0
    assert done.stdout.startswith("digestry ")
    assert done.stdout.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["gc", "--nonsense"],
        ["gc", "--apply", "--purge"],
        ["scrub", "--rate", "fast"],
        ["scrub", "--digest", "sha256:xyz"],
        ["gc", "--data", "/nonexistent"],
        ["gc", "--config", "/nonexistent"],
    ],
)
def test_wrong_usage_is_one_line_and_code_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert commands.run_command(arguments) == 2

    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("digestry: ")
    assert said.err.count("\n") == 1


def test_control_characters_in_arguments_are_not_obeyed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert commands.run_command(["gc", "--data", "/non\x1b[2Jexistent"]) == 2

    assert "\x1b" not in capsys.readouterr().err


def test_a_store_in_memory_has_no_directory_to_work_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIGESTRY_STORE_BACKEND", "memory")

    assert commands.run_command(["gc"]) == 2
    assert "memory" in capsys.readouterr().err


def test_a_directory_without_a_store_is_not_made_one(tmp_path: Path) -> None:
    done = run_here("gc", "--data", str(tmp_path))

    assert done.returncode == 2
    assert not (tmp_path / "store.json").exists()


def test_progress_goes_to_a_terminal_and_never_into_the_output(data: Path) -> None:
    ours, theirs = pty.openpty()
    process = start_digestry(
        *("scrub", "--rate", "8K", "--json", "--data", str(data)),
        env={"TERM": "xterm", "COLUMNS": "100"},
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
    )
    os.close(theirs)
    drawn: list[bytes] = []
    reader = threading.Thread(target=_drain, args=(ours, drawn))
    reader.start()
    out, _ = process.communicate(timeout=60)
    reader.join()
    os.close(ours)

    assert json.loads(out)["state"] == "succeeded"
    assert b"scrub" in b"".join(drawn)


def _drain(terminal: int, into: list[bytes]) -> None:
    try:
        while piece := os.read(terminal, 4096):
            into.append(piece)
    except OSError:  # the other side is closed
        return


def test_ctrl_c_stops_the_work_at_the_server(data: Path) -> None:
    with running_server(data) as server:
        process = start_digestry(
            *("scrub", "--rate", "1", "--data", str(data)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

        def state() -> str:
            found = json.loads(server.get("/api/v1/scrub")[1])["operation"]
            return "" if found is None else str(found["state"])

        wait_until(lambda: state() == "running", "a running scrub")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)

        assert (process.returncode, out, err) == (130, "", "digestry: interrupted\n")
        wait_until(lambda: state() == "cancelled", "its end")


def test_ctrl_c_before_the_server_has_answered_stops_the_work_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    office = RemoteOffice(Presence(1, "http://127.0.0.1:1", "secret"))
    asked = []

    def ask(method: str, path: str, body: object = None) -> bytes:
        asked.append((method, path))
        assert method != "GET", "it waits for the end"
        if method == "POST":
            signal.raise_signal(signal.SIGINT)
        return b'{"id": "opn_1", "group": "scrub", "verb": "scrub", "state": "running"}'

    async def nowhere(_: Operations) -> Operation:
        raise AssertionError("the server does it")

    monkeypatch.setattr(office, "_ask", ask)

    with pytest.raises(KeyboardInterrupt):
        office.work(Task("/api/v1/scrub", None, nowhere), lambda _: None)
    assert asked == [("POST", "/api/v1/scrub"), ("DELETE", "/api/v1/operations/opn_1")]


def test_ctrl_c_while_it_is_let_through_again_stops_the_work_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    office = RemoteOffice(Presence(1, "http://127.0.0.1:1", "secret"))
    asked: list[str] = []

    def ask(method: str, path: str, body: object = None) -> bytes:
        asked.append(method)
        assert method != "GET", "it waits for the end"
        return b'{"id": "opn_1", "group": "scrub", "verb": "scrub", "state": "running"}'

    usual, handle = signal.getsignal(signal.SIGINT), signal.signal

    def handled(number: int, handler: Any) -> Any:
        before = handle(number, handler)
        if handler is usual and asked == ["POST"]:
            signal.raise_signal(signal.SIGINT)
        return before

    async def nowhere(_: Operations) -> Operation:
        raise AssertionError("the server does it")

    monkeypatch.setattr(office, "_ask", ask)
    monkeypatch.setattr(signal, "signal", handled)

    with pytest.raises(KeyboardInterrupt):
        office.work(Task("/api/v1/scrub", None, nowhere), lambda _: None)
    assert asked == ["POST", "DELETE"]


# A server that is no help.


def test_a_server_that_does_not_answer_is_a_failure() -> None:
    with socket.socket() as gone:
        gone.bind(("127.0.0.1", 0))  # nobody else can listen there meanwhile
        url = f"http://127.0.0.1:{gone.getsockname()[1]}"
        office = RemoteOffice(Presence(1, url, "secret"))

        with pytest.raises(CommandError, match="does not answer") as caught:
            office.confirm_collection()
    assert caught.value.code == 3


def test_a_second_operation_is_refused_with_the_servers_words(data: Path) -> None:
    with running_server(data) as server:
        body = json.dumps({"rate_bytes_per_second": 1}).encode()
        headers = {"Content-Type": "application/json"}
        assert server.request("POST", "/api/v1/scrub", body, headers)[0] == 202

        done = run_digestry("scrub", "--data", str(data))
        assert done.returncode == 2
        assert "is running" in done.stderr


@pytest.mark.parametrize(
    ("state", "findings", "failure", "code"),
    [
        ("succeeded", 0, None, 0),
        ("succeeded", 3, None, 1),
        ("failed", 0, Failure("no", is_refusal=True), 2),
        ("failed", 0, Failure("broken"), 3),
        ("cancelled", 0, None, 3),
        ("interrupted", 0, None, 3),
    ],
)
def test_exit_codes(state: str, findings: int, failure: Failure | None, code: int) -> None:
    from registry.cli.offices import Ended

    assert exit_code(Ended("opn_x", "gc", "plan", state, findings, failure=failure)) == code


def test_a_task_is_the_same_work_at_both_places() -> None:
    from registry.api.operations import ROUTES
    from registry.cli.collection import Action, _task

    posts = {route.path for route in ROUTES if route.method == "POST"}
    tasks = [_task(Action(verb)) for verb in ("plan", "apply", "undo", "purge")]

    assert all(isinstance(task, Task) and task.path in posts for task in tasks)
