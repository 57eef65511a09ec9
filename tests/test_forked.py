"""A forked command does what a started one does (`tests.support.forked`), and only where it can."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support import forked, zygote
from tests.support.forked import Forked, can_fork
from tests.support.promtool import samples
from tests.support.servers import (
    Server,
    children_of,
    environment,
    make_like_new,
    run_digestry,
    running_server,
    start_digestry,
    wait_until,
)

_PR_GET_CHILD_SUBREAPER = 37

VARIES = re.compile(
    r"\b[a-z]{3}_[0-9a-z]+\b"  # ids
    r"|[0-9a-f]{32,}"
    r"|\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?Z?)?"
    r"|\d+(\.\d+)? (ms|s|MB/s|[KMGT]?i?B/s|[KMGT]iB)\b"
    r"|(?<=\"pid\":)\d+"
    r"|(?<=_seconds\": )[\d.]+"
)
"""Of what two runs of one command write, what two starts of it would write differently too."""

ALONE = [
    ["--version"],
    ["--help"],
    ["nonsense"],
    ["serve", "--data", "data", "--workers", "0"],
    ["serve", "--data", "file", "--port", "0"],
    ["gc", "--data", "data"],
    ["fsck", "--data", "data", "--json"],
    ["scrub", "--data", "data"],
    ["stats", "--data", "data"],
    ["db", "current", "--data", "data"],
    ["backup", "target", "--data", "data"],
]
ASKING = [
    ["push", "{name}:1.0", "file"],
    ["pull", "shared:1.0", "--to", "pulled"],
    ["ls", "shared"],
    ["export", "shared", "-"],
]


def told(done: subprocess.CompletedProcess[str]) -> tuple[int, str, str]:
    return done.returncode, VARIES.sub("#", done.stdout), VARIES.sub("#", done.stderr)


def place_for(folder: Path) -> Path:
    folder.mkdir()
    make_like_new(folder / "data")
    (folder / "file").write_bytes(b"x" * 5000)
    return folder


def content_of(folder: Path) -> dict[str, int]:
    """Every file but those whose names are anew each time, with its mode."""
    return {
        VARIES.sub("#", str(path.relative_to(folder))): path.stat().st_mode
        for path in folder.rglob("*")
    }


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("asked") / "data") as server:
        server.request("PUT", "/models/shared/1.0/file?publish=true", b"x" * 5000)
        yield server


def in_both_ways(args: list[str], folder: Path, **options: Any) -> None:
    """Run a command by exec and by a fork: it says and leaves the same."""
    found = []
    for how in ("exec", "fork"):
        here = place_for(folder / how)
        words = [word.format(name=how) for word in args]
        done = run_digestry(*words, cwd=here, by_exec=how == "exec", **options)
        code, out, err = told(done)
        out, err = (text.replace(str(here), "HERE").replace(how, "HOW") for text in (out, err))
        found.append((code, out, err, content_of(here)))

    assert found[0] == found[1]


@pytest.mark.parametrize("args", ALONE, ids=" ".join)
def test_a_forked_command_says_and_leaves_what_a_started_one_does(
    args: list[str], tmp_path: Path
) -> None:
    in_both_ways(args, tmp_path)


@pytest.mark.parametrize("args", ASKING, ids=" ".join)
def test_a_forked_client_is_answered_like_a_started_one(
    args: list[str], tmp_path: Path, server: Server
) -> None:
    home = {"HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path), "DIGESTRY_URL": server.url}
    in_both_ways(args, tmp_path, env=home)


def facts_of(*pids: int) -> dict[str, set[str]]:
    """What the kernel says of processes that a start gives them."""
    found: dict[str, set[str]] = {}
    for pid in pids:
        own = Path(f"/proc/{pid}")
        lines = (own / "status").read_text().splitlines()
        status = dict(line.split(":\t", 1) for line in lines)
        facts = {name: status[name] for name in ("Umask", "SigBlk", "SigIgn", "SigCgt")}
        facts["session"] = f"{os.getpgid(pid)} {os.getsid(pid)}"
        facts["limits"] = (own / "limits").read_text()
        facts["directory"] = os.readlink(own / "cwd")
        for name, fact in facts.items():
            found.setdefault(name, set()).add(fact)
        for descriptor in os.listdir(own / "fd"):
            with suppress(FileNotFoundError):  # of a request that ends just now
                opened = re.sub(r"digestry-[^/]*|\d+", "#", os.readlink(own / "fd" / descriptor))
                found.setdefault("opened", set()).add(opened)
    return found


def are_at_work(server: Server) -> bool:
    found = samples(server.get("/metrics")[1].decode())
    return bool(found["digestry_workers"] == 2 and found["digestry_leaders"] == 1)


def test_a_forked_server_is_made_of_processes_like_a_started_one(tmp_path: Path) -> None:
    found = []
    for by_exec in (True, False):
        with running_server(tmp_path / "data", workers=2, by_exec=by_exec) as server:
            wait_until(partial(are_at_work, server), "two workers, one of which leads")
            assert server.pid in children_of(os.getpid())
            found.append((facts_of(server.pid), facts_of(*server.worker_pids())))
            assert server.stop() == 0

    assert found[0] == found[1]


# What is no start.


def test_what_an_interpreter_reads_when_it_starts_is_left_to_one() -> None:
    fixed = environment()

    assert can_fork({**fixed, "DIGESTRY_URL": "x", "HOME": "/"}, fixed, {"stdout": None})
    for more in ({"PYTHONUTF8": "0"}, {"MALLOC_ARENA_MAX": "1"}, {"LANG": "C"}, {"PATH": "/"}):
        assert not can_fork({**fixed, **more}, fixed, {})
    assert not can_fork({}, fixed, {})
    for option in ("preexec_fn", "pass_fds", "user", "shell"):
        assert not can_fork(fixed, fixed, {option: None})


def test_every_command_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(forked.BY_EXEC, "1")

    assert not can_fork(environment(), environment(), {})


def test_nothing_may_have_begun_where_processes_are_forked() -> None:
    with pytest.raises(AssertionError, match=r"threads|open"):
        zygote._check_that_nothing_has_begun(0)


# Whose child it is.


def serving_memory(**options: Any) -> Forked:
    env = {"DIGESTRY_STORE_BACKEND": "memory"}
    process = start_digestry("serve", "--port", "0", env=env, stdout=subprocess.PIPE, **options)
    assert isinstance(process, Forked)
    return process


def test_a_forked_process_is_ended_and_waited_for_like_any_other() -> None:
    with serving_memory(stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    with serving_memory(stderr=subprocess.DEVNULL) as process:
        process.kill()
        assert process.wait(20) == -signal.SIGKILL


def test_orphans_are_taken_in_for_no_longer_than_it_takes() -> None:
    is_taking = ctypes.c_int()
    assert run_digestry("--version").returncode == 0

    ctypes.CDLL(None).prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(is_taking), 0, 0, 0)
    assert is_taking.value == 0


def test_threads_get_processes_of_their_own() -> None:
    found: list[tuple[str, int]] = []

    def ask(args: list[str]) -> None:
        for _ in range(3):
            done = run_digestry(*args)
            found.append((args[0], done.returncode))

    threads = [threading.Thread(target=ask, args=[[word]]) for word in ("--version", "nonsense")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(found) == [("--version", 0)] * 3 + [("nonsense", 2)] * 3
