"""What commands import is most of what they cost where there is little to do, so it is counted."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from registry.cli import commands, setup_commands, straight
from registry.cli.flags import DoctorFlags, FsckFlags, GcFlags, parse
from registry.cli.schema import prepare

_RUN = """
import sys
from registry.cli import run
assert run(sys.argv[1:]) == 0
print(*sys.modules, file=sys.stderr)
"""


def modules_of(*arguments: str) -> set[str]:
    """All that a process has imported once it has run a command line."""
    done = subprocess.run(
        [sys.executable, "-c", _RUN, *arguments], capture_output=True, text=True, check=True
    )
    return set(done.stderr.split())


def packages(modules: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


def test_help_imports_no_part_of_the_server() -> None:
    loaded = modules_of("--help")

    unwanted = {"sqlalchemy", "aiohttp", "asyncio", "pysqlite3", "structlog", "alembic", "blake3"}
    assert not packages(loaded) & unwanted
    assert not {name for name in loaded if name.startswith(("registry.services", "store."))}
    assert len(loaded) < 330


def test_a_check_of_a_directory_imports_the_store_and_little_else(tmp_path: Path) -> None:
    """Neither the parser of flags, nor what draws, nor the rules of what is not checked."""
    prepare(tmp_path)

    loaded = modules_of("fsck", "--data", str(tmp_path))

    unwanted = {"cyclopts", "rich", "pygments", "attr", "aiohttp", "alembic", "cryptography"}
    assert not packages(loaded) & {*unwanted, "argon2", "opentelemetry"}
    assert not {name for name in loaded if name.startswith("registry.http")}
    assert "sqlalchemy.dialects.postgresql" not in loaded
    assert len([name for name in loaded if name.startswith("registry.")]) < 70
    assert len(loaded) < 520


@pytest.mark.parametrize(
    ("command", "kind"),
    [(commands.fsck, FsckFlags), (commands.gc, GcFlags), (setup_commands.doctor, DoctorFlags)],
    ids=["fsck", "gc", "doctor"],
)
def test_flags_are_the_same_with_and_without_the_parser(
    command: object, kind: type[msgspec.Struct]
) -> None:
    assert callable(command)
    parameters = inspect.signature(command).parameters
    fields = msgspec.structs.fields(kind)

    assert {name: each.default for name, each in parameters.items()} == {
        field.name: field.default for field in fields
    }


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], FsckFlags()),
        (["--repair", "--data", "d"], FsckFlags(repair=True, data="d")),
        (["--json", "--config=c"], FsckFlags(json=True, config="c")),
        (["--repair=yes"], None),
        (["--repair", "--repair"], None),
        (["--no-repair"], None),
        (["--data"], None),
        (["-h"], None),
        (["x"], None),
    ],
)
def test_switches_are_understood_alone(arguments: list[str], expected: FsckFlags | None) -> None:
    assert parse(arguments, FsckFlags) == expected


@pytest.mark.parametrize("arguments", [[], ["serve"], ["fsck", "--help"], ["ls"]])
def test_what_is_not_plain_is_left_to_the_parser(arguments: list[str]) -> None:
    assert straight.run_straight(arguments) is None
