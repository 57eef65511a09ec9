"""``init``, ``info``, ``doctor`` and ``stats`` on real directories and beside a real server."""

from __future__ import annotations

import json
import math
import os
import resource
import socket
import stat
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from registry.catalog.migrations import CHAINS
from registry.cli import examinations
from registry.cli.schema import SCHEMA_NUMBER
from registry.cli.setup import reference
from registry.config import Config, load
from store import durable
from store.index.driver import sqlite
from store.opening import initialize
from tests.support.commands import run_here
from tests.support.earlier import directory_of_schema_1001
from tests.support.servers import running_server

ROOMY = {"DIGESTRY_STORE_RESERVE_BYTES": "0", "DIGESTRY_STORE_RESERVE_SHARE": "0"}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    root.mkdir(mode=0o700)
    initialize(root, CHAINS)
    return root


def run(*args: str, cwd: Path, code: int = 0, env: Mapping[str, str] = ROOMY) -> str:
    done = run_here(*args, cwd=cwd, env=env)

    assert done.returncode == code, (done.stdout, done.stderr)
    assert (done.stderr == "") == (code < 2), done.stderr
    return done.stdout if code < 2 else done.stderr


# init


def test_init_makes_a_directory_and_a_file_that_says_so(tmp_path: Path) -> None:
    said = run("init", "--data", "models", cwd=tmp_path)

    assert (tmp_path / "models" / "store.json").exists()
    assert stat.S_IMODE((tmp_path / "models").stat().st_mode) == 0o700
    assert "digestry serve --config config.toml" in said
    made = load(tmp_path / "config.toml", {})
    assert made.store.data == str(tmp_path / "models")
    assert msgspec.structs.replace(made, store=Config().store) == Config()
    with running_server(tmp_path / "models", is_first_start=True) as server:
        assert server.get("/readyz")[0] == 200


def test_what_init_wrote_can_be_uncommented_line_by_line(tmp_path: Path) -> None:
    run("init", cwd=tmp_path)
    path = tmp_path / "config.toml"
    lines = [
        line[1:] if line.startswith("#") and not line.startswith("# ") else line
        for line in path.read_text().splitlines()
    ]
    path.write_text("\n".join(lines))

    assert load(path, {}).limits == Config().limits


def test_init_overwrites_nothing(tmp_path: Path) -> None:
    run("init", cwd=tmp_path)
    (tmp_path / "config.toml").write_text("mine")
    assert "is there already" in run("init", cwd=tmp_path, code=2)
    assert (tmp_path / "config.toml").read_text() == "mine"

    said = run("init", "--config", "other.toml", "--json", cwd=tmp_path)
    assert json.loads(said)["is_new"] is False

    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "a.tex").touch()
    run("init", "--data", "thesis", "--config", "x.toml", cwd=tmp_path, code=2)
    assert not (tmp_path / "x.toml").exists()


def test_the_reference_is_found() -> None:
    assert "[server]" in reference()


# info


def test_info_tells_every_setting_and_where_it_comes_from(tmp_path: Path) -> None:
    (tmp_path / "my.toml").write_text("[limits]\njson_bytes = 2048\n[server]\nport = 1\n")
    env = {
        "DIGESTRY_SERVER_PORT": "2",
        "DIGESTRY_SERVER_CORS_ORIGINS": "https://a, https://b",
        "DIGESTRY_URL": "https://me:secret@example.org",
    }
    args = ["info", "--config", "my.toml", "--data", "there"]
    found = json.loads(run(*args, "--json", cwd=tmp_path, env=env))

    told = {key: (each["value"], each["from"]) for key, each in found["settings"].items()}
    assert told["limits.json_bytes"] == (2048, "my.toml")
    assert told["server.port"] == (2, "DIGESTRY_SERVER_PORT")
    assert told["server.cors_origins"] == (
        ["https://a", "https://b"],
        "DIGESTRY_SERVER_CORS_ORIGINS",
    )
    assert told["store.data"] == ("there", "command line")
    assert told["log.level"] == ("info", "default")
    assert found["data"] == str(tmp_path / "there")
    assert found["commands_talk_to"] == "https://***@example.org"

    text = run(*args, "--changed", cwd=tmp_path, env=env)
    assert "limits.json_bytes\t2048\tmy.toml" in text
    assert "log.level" not in text
    assert "secret" not in text


def test_info_beside_a_server_names_it(data: Path) -> None:
    with running_server(data) as server:
        said = run("info", "--data", str(data), cwd=data.parent)
        assert f"running_server: {server.url}" in said
    assert "running_server: none" in run("info", "--data", str(data), cwd=data.parent)


def test_info_refuses_settings_that_are_wrong(tmp_path: Path) -> None:
    said = run("info", cwd=tmp_path, env={"DIGESTRY_SERVER_PROT": "1"}, code=2)

    assert "DIGESTRY_SERVER_PORT" in said


# doctor


FREE_PORT = {"DIGESTRY_SERVER_PORT": "0"}


def examined(data: Path, code: int = 0, *args: str, env: Mapping[str, str] = ROOMY) -> Any:
    args = ("doctor", "--data", str(data), *args, "--json")
    found = json.loads(run(*args, cwd=data.parent, code=code, env={**env, **FREE_PORT}))
    assert found["healthy"] == (code == 0)
    return {each["test"]: each for each in found["findings"]}


@pytest.fixture
def any_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk of the tests is fast enough, however long it takes for others just now."""
    monkeypatch.setattr(examinations, "SLOW_SYNC_SECONDS", math.inf)


@pytest.mark.usefixtures("any_disk")
def test_a_healthy_directory_is_well(data: Path) -> None:
    before = sorted(os.listdir(data))
    found = examined(data)

    assert {each["state"] for each in found.values()} == {"ok"}
    assert {"disk", "space", "index", "schema", "identity", "port", "clock"} <= found.keys()
    left = set(os.listdir(data)) - set(before)
    assert not {name for name in left if not name.startswith("index.sqlite3-")}
    env = {**ROOMY, **FREE_PORT}
    assert run("doctor", "--data", "data", cwd=data.parent, env=env).endswith("all is well\n")


@pytest.mark.usefixtures("any_disk")
def test_the_doctor_asks_a_running_server(data: Path) -> None:
    with running_server(data, env=ROOMY) as server:
        found = examined(data, 0, env={**ROOMY, "DIGESTRY_URL": server.url})
        assert server.url in found["running server"]["detail"]
        assert found["server"]["state"] == "ok"
        assert "port" not in found


def test_a_server_that_does_not_answer_is_a_failure(data: Path) -> None:
    found = examined(data, 1, "--server", "http://me:secret@127.0.0.1:1")["server"]

    assert found["state"] == "failure"
    assert "http://***@127.0.0.1:1" in found["detail"]
    assert examined(data, 1, "--server", "nonsense")["server"]["state"] == "failure"


def test_an_earlier_index_is_a_warning_and_a_later_one_a_failure(tmp_path: Path) -> None:
    directory_of_schema_1001(tmp_path / "data")
    (tmp_path / "data").chmod(0o700)
    assert "db upgrade" in examined(tmp_path / "data", 1)["schema"]["advice"]

    with closing(sqlite.connect(str(tmp_path / "data" / "index.sqlite3"))) as connection:
        connection.execute(f"PRAGMA user_version={SCHEMA_NUMBER + 1}")
    found = examined(tmp_path / "data", 1)["schema"]
    assert found["state"] == "failure"
    assert "db restore" in found["advice"]


def damage(data: Path) -> None:
    content = bytearray((data / "index.sqlite3").read_bytes())
    content[4096 : 4096 * 3] = b"x" * 8192
    (data / "index.sqlite3").write_bytes(content)


def lose(data: Path) -> None:
    (data / "index.sqlite3").unlink()


def replace(data: Path) -> None:
    (data / "index.sqlite3").write_bytes(b"nonsense" * 1000)


@pytest.mark.parametrize("spoil", [damage, lose, replace])
def test_a_damaged_index_is_a_failure_with_the_way_back(spoil: Any, data: Path) -> None:
    spoil(data)
    found = examined(data, 1)["index"]

    assert found["state"] == "failure"
    assert "digestry db restore" in found["advice"]


def test_an_index_of_another_epoch_or_store_is_told(data: Path) -> None:
    facts = json.loads((data / "store.json").read_text())
    (data / "store.json").write_text(json.dumps({**facts, "epoch": 7}))
    assert examined(data, 1)["identity"]["state"] == "warning"

    (data / "store.json").write_text(json.dumps({**facts, "store_id": "sto_other"}))
    assert examined(data, 1)["identity"]["state"] == "failure"


def test_a_collection_that_is_off_is_told(data: Path) -> None:
    assert run_here("db", "reset", "--data", str(data), input="data\n").returncode == 0

    assert "gc --confirm" in examined(data, 1)["collection"]["advice"]


def test_a_directory_open_to_everybody_is_a_warning(data: Path) -> None:
    data.chmod(0o755)

    assert "chmod" in examined(data, 1)["permissions"]["advice"]


def test_a_full_disk_is_a_failure(data: Path) -> None:
    env = {"DIGESTRY_STORE_RESERVE_SHARE": "0.999"}

    assert examined(data, 1, env=env)["space"]["state"] == "failure"


def test_a_port_in_use_is_a_failure(data: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = Config()
        server = msgspec.structs.replace(config.server, port=taken.getsockname()[1])
        found = examinations.port(msgspec.structs.replace(config, server=server))

    assert found.state == "failure"


def test_a_foreign_directory_and_a_missing_one(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    assert examined(tmp_path, 1)["data directory"]["state"] == "failure"
    assert examined(tmp_path / "missing", 1)["data directory"]["state"] == "warning"
    assert not (tmp_path / "missing").exists()


def test_wrong_settings_are_told(data: Path) -> None:
    found = examined(data, 1, env={"DIGESTRY_LOG_LEVEL": "loud"})

    assert list(found) == ["configuration"]


def test_a_disk_that_fails_is_told_and_nothing_is_left(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(durable.Disk, "link", fail)
    found = examinations.disk(data)

    assert (found.state, "hard links" in found.advice) == ("failure", True)
    assert not list(data.glob(".doctor*"))


@pytest.mark.parametrize(("seconds", "state"), [(0.09, "ok"), (0.11, "warning")])
def test_a_disk_that_is_slow_to_sync_is_told(
    seconds: float, state: str, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter([5.0, 5.0 + seconds])
    clock = SimpleNamespace(perf_counter=lambda: next(now))
    monkeypatch.setattr("registry.cli.examinations.time", clock)

    assert examinations.disk(data).state == state


@pytest.mark.parametrize(
    ("hard", "state"),
    [(64, "failure"), (1024, "warning"), (65536, "ok"), (resource.RLIM_INFINITY, "ok")],
)
def test_few_files_are_told(hard: int, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (64, hard))

    assert examinations.file_limit().state == state


def test_a_clock_before_the_program_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 0.0)

    assert examinations.clock().state == "failure"


# stats


def test_stats_are_the_same_from_the_directory_and_from_the_server(data: Path) -> None:
    with running_server(data, env=ROOMY) as server:
        assert server.request("PUT", "/blobs/f", b"x" * 5000)[0] == 201
        asked = json.loads(run("stats", "--server", server.url, "--json", cwd=data.parent))
        told = json.loads(run("stats", "--data", str(data), "--json", cwd=data.parent))
        env = {**ROOMY, "DIGESTRY_URL": server.url}
        assert "stored: 1 blob, 4.9 KiB" in run("stats", cwd=data.parent, env=env)
    counted = json.loads(run("stats", "--data", str(data), "--json", cwd=data.parent))

    assert asked["stored"] == told["stored"] == counted["stored"]
    assert asked["store_id"] == counted["store_id"]
    assert counted["stored"]["bytes"] == 5000


def test_stats_of_a_server_that_is_not_there_is_code_3(tmp_path: Path) -> None:
    assert "cannot be reached" in run(
        "stats", "--server", "http://127.0.0.1:1", cwd=tmp_path, code=3
    )
