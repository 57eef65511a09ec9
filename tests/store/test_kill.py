"""Processes on one directory are killed at a hundred moments; nothing acknowledged is lost.

What they do and what is checked: `tests.support.torture`. `DIGESTRY_TESTS_LONG=1` kills a thousand
times, or for an hour; ``python -m tests.support.torture FOLDER`` can be stopped and gone on with.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.support import torture
from tests.support.servers import ROOT, environment
from tests.support.torture.rounds import Tally

LONG = os.environ.get("DIGESTRY_TESTS_LONG") == "1"
POINTS = 1000 if LONG else 100
SECONDS = 3600 if LONG else 400
"""A bound for a machine that is busy with something else."""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """In memory if the machine has such a place: what is killed are processes, not machines."""
    memory = Path("/dev/shm")
    made = Path(tempfile.mkdtemp(prefix="kill-", dir=memory if memory.is_dir() else tmp_path))
    yield made
    shutil.rmtree(made)


@pytest.mark.timeout(SECONDS + 100)
def test_nothing_acknowledged_is_lost_when_processes_are_killed(folder: Path) -> None:
    wish = ["--points", str(POINTS), "--seconds", str(SECONDS)]
    done = subprocess.run(
        [sys.executable, "-m", torture.__name__, str(folder), *wish],
        env=environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    print(done.stdout)

    assert done.returncode == 0, done.stdout + done.stderr
    tally = msgspec.json.decode((folder / "tally.json").read_bytes(), type=Tally)
    assert tally.points >= POINTS, done.stdout
    assert tally.facts > 3 * tally.points
    assert tally.victims.keys() >= {"worker that leads", "worker", "backup"}
