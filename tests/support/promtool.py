"""Prometheus' own checker, and what a scrape says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

_SAMPLE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)\Z")


def promtool(*args: str | Path, text: str = "", cwd: Path | None = None) -> str:
    """Run it; fails with what it says unless it has nothing to object."""
    program = shutil.which("promtool")
    if program is None:
        if os.environ.get("DIGESTRY_TESTS_COMPLETE"):
            pytest.fail("promtool is not installed (Debian: prometheus)")
        pytest.skip("promtool is not installed (Debian: prometheus)")
    done = subprocess.run(
        [program, *map(str, args)],
        input=text,
        text=True,
        capture_output=True,
        check=False,
        timeout=30,
        cwd=cwd,
    )
    told = done.stdout + done.stderr
    assert done.returncode == 0, told
    return told


def samples(text: str) -> dict[str, float]:
    """Each sample as it is written, with its value."""
    return {
        line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
        for line in text.splitlines()
        if line and not line.startswith("#")
    }


def names(text: str) -> set[str]:
    """The names of samples, as expressions use them."""
    found = (_SAMPLE.match(line) for line in text.splitlines() if not line.startswith("#"))
    return {match[1] for match in found if match is not None}


def families(text: str) -> set[str]:
    """The names of metrics, as they are declared."""
    return {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE ")}
