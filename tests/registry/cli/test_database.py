"""``digestry db`` on real directories: of today, of an earlier schema, of a later one."""

from __future__ import annotations

import json
import os
import pty
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from registry.catalog.migrations import CHAINS
from registry.cli.schema import SCHEMA_NUMBER
from registry.cli.shell import statements
from store.index.driver import sqlite
from store.opening import initialize, read_facts
from store.restoring import keep_present
from tests.support.commands import run_here
from tests.support.earlier import CONTENT, directory_of_schema_1001
from tests.support.servers import run_digestry, running_server, start_digestry

COPY = "index.sqlite3.before-upgrade-from-1001"


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("earlier") / "data"
    directory_of_schema_1001(data)
    return data


@pytest.fixture
def old(earlier: Path, tmp_path: Path) -> Path:
    """A directory of schema 1001 with one published version."""
    return Path(shutil.copytree(earlier, tmp_path / "data"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """An empty directory of today."""
    root = tmp_path / "data"
    root.mkdir()
    initialize(root, CHAINS)
    return root


def run(*args: str, data: Path, code: int = 0, typed: str | None = None) -> str:
    done = run_here("db", *args, "--data", str(data), input=typed or "")

    assert done.returncode == code, (done.stdout, done.stderr)
    assert (done.stderr == "") == (code < 2) or typed is not None, done.stderr
    return done.stdout if code < 2 else done.stderr


def run_json(*args: str, data: Path, code: int = 0) -> Any:
    return json.loads(run(*args, "--json", data=data, code=code))


def set_schema(data: Path, number: int) -> None:
    with closing(sqlite.connect(str(data / "index.sqlite3"))) as connection:
        connection.execute(f"PRAGMA user_version={number}")


def files_of(data: Path) -> dict[str, bytes]:
    """What the directory holds, but for locks, what readers leave and what servers set aside."""
    passing = ("lock", "-shm", "-wal", "-reserve")
    return {
        name: (data / name).read_bytes()
        for name in sorted(os.listdir(data))
        if (data / name).is_file() and not name.endswith(passing)
    }


# Upgrading


def test_an_earlier_directory_upgrades_by_itself_and_serves_what_it_had(old: Path) -> None:
    with running_server(old) as server:
        found = server.get("/models/bert/latest/model.safetensors")

        assert found == (200, CONTENT)
        assert json.loads(server.get("/api/v1/models/bert/versions/1.0.0")[1])["number"] == 1
        assert "upgraded the index" in server.log
        assert server.stop() == 0
    assert run_json("current", data=old)["state"] == "current"
    assert (old / COPY).exists()
    assert run_here("fsck", "--data", str(old)).returncode == 0


def test_a_later_directory_is_refused_with_what_to_do(data: Path) -> None:
    set_schema(data, SCHEMA_NUMBER + 1)
    before = files_of(data)
    done = run_digestry("serve", "--data", str(data), "--port", "0")

    assert done.returncode == 2
    assert f"schema {SCHEMA_NUMBER + 1}" in done.stderr
    assert "start the newer program" in done.stderr
    assert "digestry db restore" in done.stderr
    assert files_of(data) == before


def test_upgrading_says_what_it_did_and_what_it_kept(old: Path) -> None:
    done = run_json("upgrade", data=old)

    assert done == {"before": 1001, "after": SCHEMA_NUMBER, "copy": COPY}
    assert "is up to date" in run("upgrade", data=old)
    assert "due" not in run("history", data=old)


def test_current_tells_an_earlier_a_present_and_a_later_index(old: Path) -> None:
    behind = run_json("current", data=old, code=1)
    assert behind == {"index": 1001, "program": SCHEMA_NUMBER, "state": "behind"}
    assert "digestry db upgrade" in run("current", data=old, code=1)

    run("upgrade", data=old)
    assert "up to date" in run("current", data=old)

    set_schema(old, SCHEMA_NUMBER + 1000)
    assert run_json("current", data=old, code=1)["state"] == "newer"


def test_history_lists_migrations_and_copies(old: Path) -> None:
    before = run_json("history", data=old)
    applied = {(step["chain"], step["number"]): step["is_applied"] for step in before["migrations"]}
    assert applied["store", 1]
    assert applied["catalog", 1]
    assert not applied["catalog", 2]
    assert all(step["title"] for step in before["migrations"])
    assert before["copies"] == []

    run("upgrade", data=old)
    after = run_json("history", data=old)
    assert all(step["is_applied"] for step in after["migrations"])
    assert [(copy["name"], copy["schema"]) for copy in after["copies"]] == [(COPY, 1001)]
    assert COPY in run("history", data=old)


# Going back


def test_an_upgrade_is_undone_by_the_copy_it_kept(old: Path) -> None:
    before = run("shell", "SELECT * FROM versions", data=old)
    with running_server(old) as server:
        assert server.request("PUT", "/models/fresh/1.0/f?publish=true", b"new")[0] == 201
        server.kill_everything()
    epoch = read_facts(old).epoch  # type: ignore[union-attr]  # it was served

    done = run_json("restore", data=old)

    assert (done["restored"], done["before"], done["after"]) == (COPY, SCHEMA_NUMBER, 1001)
    assert run("shell", "SELECT * FROM versions", data=old) == before
    assert read_facts(old).epoch == epoch + 1  # type: ignore[union-attr]  # it is still there
    assert run_json("current", data=old, code=1)["index"] == 1001

    # What the restored index does not know is kept, and can be had back.
    forward = run_json("restore", done["kept"], data=old)
    assert forward["after"] == SCHEMA_NUMBER
    assert "fresh" in run("shell", "SELECT name FROM models", data=old)


def test_after_a_restore_collection_is_off_until_confirmed(old: Path) -> None:
    run("upgrade", data=old)
    said = run("restore", data=old)
    assert "gc --confirm" in said
    assert "start the program of that schema" in said

    with running_server(old) as server:  # of today: it upgrades once more
        assert server.get("/models/bert/1/model.safetensors") == (200, CONTENT)
        status = json.loads(server.get("/api/v1/gc")[1])
        assert "another epoch" in status["quarantine"]["off"]
        assert run_here("gc", "--apply", "--data", str(old)).returncode == 2
        assert run_here("gc", "--confirm", "--data", str(old)).returncode == 0


def test_a_damaged_index_is_replaced_and_kept_with_its_log(old: Path) -> None:
    run("upgrade", data=old)
    (old / "index.sqlite3").write_bytes(b"nonsense" * 1000)
    (old / "index.sqlite3-wal").write_bytes(b"more nonsense")

    done = run_json("restore", data=old)

    assert done["after"] == 1001
    assert (old / done["kept"]).read_bytes() == b"nonsense" * 1000
    assert (old / f"{done['kept']}-wal").read_bytes() == b"more nonsense"
    assert run("shell", "SELECT count(*) AS n FROM versions", data=old) == "n\n1\n"


def test_a_missing_index_is_restored(old: Path) -> None:
    run("upgrade", data=old)
    (old / "index.sqlite3").unlink()

    assert run_json("restore", data=old)["kept"] is None
    assert run_json("current", data=old, code=1)["index"] == 1001


def other_store(data: Path, copy: Path) -> None:
    other = data.parent / "other"
    other.mkdir()
    initialize(other, CHAINS)
    shutil.copy(other / "index.sqlite3", copy)


def truncated(data: Path, copy: Path) -> None:
    content = (data / "index.sqlite3").read_bytes()
    copy.write_bytes(content[: len(content) // 2])


def later(data: Path, copy: Path) -> None:
    shutil.copy(data / "index.sqlite3", copy)
    with closing(sqlite.connect(str(copy))) as connection:
        connection.execute(f"PRAGMA user_version={SCHEMA_NUMBER + 1}")


def nonsense(data: Path, copy: Path) -> None:
    copy.write_bytes(b"not a database" * 100)


def empty(data: Path, copy: Path) -> None:
    copy.write_bytes(b"")


@pytest.mark.parametrize("make", [other_store, truncated, later, nonsense, empty])
def test_a_copy_that_will_not_do_is_refused_and_changes_nothing(make: Any, data: Path) -> None:
    copy = data.parent / "copy.sqlite3"
    make(data, copy)
    before = files_of(data)

    assert "copy.sqlite3" in run("restore", str(copy), data=data, code=2)
    assert files_of(data) == before


@pytest.mark.parametrize("named", [[], ["nothing"], ["index.sqlite3"]])
def test_restoring_without_a_copy_is_refused(named: list[str], data: Path) -> None:
    before = files_of(data)

    assert run("restore", *named, data=data, code=2).startswith("digestry: ")
    assert files_of(data) == before


def test_the_present_index_is_in_place_while_it_is_kept(data: Path) -> None:
    name = keep_present(data, "restore-T")

    assert name is not None
    assert os.path.samefile(data / name, data / "index.sqlite3")


def test_two_copies_within_a_second_are_both_kept(data: Path) -> None:
    first, second = keep_present(data, "restore-T"), keep_present(data, "restore-T")

    assert (first, second) == (
        "index.sqlite3.before-restore-T",
        "index.sqlite3.before-restore-T-2",
    )
    assert {first, second} <= files_of(data).keys()


# Starting over


def test_resetting_asks_for_the_name_of_the_directory(old: Path) -> None:
    before = files_of(old)

    for typed in ("", "yes\n", "Data\n"):
        assert "nothing was reset" in run("reset", data=old, code=2, typed=typed)
    assert files_of(old) == before


def test_a_reset_forgets_everything_and_keeps_the_index_it_replaced(old: Path) -> None:
    said = run("reset", data=old, typed="data\n")

    assert run_json("current", data=old)["state"] == "current"
    assert run("shell", "SELECT count(*) AS n FROM models", data=old) == "n\n0\n"
    assert run_here("gc", "--status", "--data", str(old)).returncode == 1  # off

    back = said.partition("bring it back with: digestry db ")[2].splitlines()[0].split()
    assert run_json(*back, data=old)["after"] == 1001
    with running_server(old) as server:
        assert server.get("/models/bert/1/model.safetensors") == (200, CONTENT)


# Beside a server


def test_what_changes_the_index_is_refused_beside_a_server(old: Path) -> None:
    with running_server(old) as server:
        for command in (["upgrade"], ["restore"], ["reset"], ["shell", "--write"]):
            before = files_of(old)
            said = run(*command, data=old, code=2)

            assert f"process id {server.pid}" in said, command
            assert "stop it before" in said, command
            assert files_of(old).keys() == before.keys(), command


def test_looking_is_allowed_beside_a_server(old: Path) -> None:
    with running_server(old) as server:
        assert run_json("current", data=old)["state"] == "current"
        assert COPY in run("history", data=old)
        assert server.request("PUT", "/models/fresh/1.0/f?publish=true", b"new")[0] == 201
        assert "fresh" in run("shell", "SELECT name FROM models", data=old)
        assert "readonly" in run("shell", "DELETE FROM models", data=old, code=3)


# SQL


def test_the_shell_reads_statements_from_its_input(old: Path) -> None:
    typed = ".tables\nSELECT name,\n  kind\nFROM models;\nSELECT 1 AS one"
    said = run("shell", data=old, typed=typed)

    assert "tree_files" in said
    assert said.endswith("name\tkind\nbert\tmodel\none\n1\n")


def test_the_first_error_in_the_input_ends_the_shell(old: Path) -> None:
    assert "nonsense" in run("shell", data=old, typed="SELECT nonsense;\n", code=3)


def test_the_shell_writes_only_when_told_to(old: Path) -> None:
    change = "UPDATE models SET visibility = 'public'"

    assert "readonly" in run("shell", change, data=old, code=3)
    assert "readonly" in run("shell", data=old, code=3, typed=f"PRAGMA query_only=OFF;{change};")
    assert run("shell", "--write", change, data=old) == "1 row changed\n"
    assert "FOREIGN KEY" in run("shell", "--write", "DELETE FROM models", data=old, code=3)
    assert run_json("shell", "SELECT visibility FROM models", data=old)["rows"] == [["public"]]


def test_what_the_index_holds_cannot_command_the_terminal(old: Path) -> None:
    said = run(
        "shell",
        "SELECT char(27, 10) AS c, x'00ff' AS b, NULL AS n, cast(x'ff' AS text) AS t",
        data=old,
    )

    assert said == "c\tb\tn\tt\n\\x1b\\x0a\tx'00ff'\tNULL\t\\xff\n"


def test_a_schema_can_be_shown(old: Path) -> None:
    assert "CREATE TABLE aliases" in run("shell", ".schema aliases", data=old)
    assert "no table" in run("shell", ".schema nothing", data=old, code=2)


def test_the_prompt_survives_errors(old: Path) -> None:
    ours, theirs = pty.openpty()
    process = start_digestry(
        *("db", "shell", "--data", str(old)),
        env={"TERM": "dumb", "COLUMNS": "80"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    os.write(ours, b"SELECT nonsense;\n.bogus\nSELECT name\nFROM models;\n.quit\n")
    shown = b""
    try:
        while piece := os.read(ours, 4096):
            shown += piece
    except OSError:  # the other side is closed
        pass
    os.close(ours)

    assert process.wait(30) == 0
    assert b"no such column: nonsense" in shown
    assert b".bogus is not known" in shown
    assert b"bert" in shown


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []),
        ("\n\n", []),
        ("SELECT 1", ["SELECT 1"]),
        ("SELECT ';';SELECT 2; SELECT\n3;\n", ["SELECT ';';", "SELECT 2;", "SELECT\n3;"]),
        (".quit\nSELECT\n.5;\n", [".quit", "SELECT\n.5;"]),
    ],
)
def test_input_is_cut_into_statements(text: str, found: list[str]) -> None:
    lines = iter(text.splitlines(keepends=True))

    assert list(statements(lambda: next(lines, ""))) == found
