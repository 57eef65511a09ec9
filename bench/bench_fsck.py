"""How fast is a store of a hundred thousand blobs checked, beside tools that read the same files?

Decides what `fsck` may ask for each blob. `check` compares every row with its file, by names and
sizes, beside `find`, which prints the size of each file and knows no rows. `rebuild` makes rows of
files that the index does not know, so it reads and hashes every byte, beside ``sha256sum`` and
``cat`` over the same files, with as many processes as there are processors. Everything is in the
page cache, so this is the processor's and the memory's speed. Our commands are timed whole, with
the start of Python.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from bench.harness import Bench, Figures, Measured, Scenario
from bench.peers import Digestry
from bench.records import OURS, Goal
from bench.stored import blobs_for, fill, forget

BLOB_BYTES: Final = 8192
_REPOSITORY: Final = Path(__file__).resolve().parents[1]


class Tool(msgspec.Struct, frozen=True):
    """Something that goes through the files of a store; cases with a shell command each."""

    name: str
    cases: tuple[tuple[str, str], ...]


_FILES: Final = 'find "$0/blobs" -type f'
_EACH: Final = f'{_FILES} -print0 | xargs -0 -n 500 -P "$(nproc)"'
TOOLS: Final = (
    Tool(OURS, ()),
    Tool("find", (("check", f"{_FILES} -printf '%f %s\\n'"),)),
    Tool("sha256sum", (("rebuild", f"{_EACH} sha256sum"),)),
    Tool("cat", (("rebuild", f"{_EACH} cat"),)),
)


def prepare(bench: Bench, contenders: Sequence[object]) -> Path:
    directory = bench.new_directory()
    bench.again(Digestry(), directory).stop()
    fill(directory / "data", blobs_for(bench.settings.size_bytes), BLOB_BYTES)
    return directory / "data"


def measure(bench: Bench, contender: Tool, data: Path) -> Measured:
    count = blobs_for(bench.settings.size_bytes)
    for case, command in contender.cases:
        yield case, _timed(["sh", "-c", command, str(data)], count)
    if contender.name == OURS:
        ours = [sys.executable, "-m", "registry"]
        yield "check", _timed([*ours, "fsck", "--data", str(data)], count)
        forget(data)
        yield "rebuild", _timed([*ours, "fsck", "--repair", "--data", str(data)], count, expect=1)


def _timed(command: Sequence[str], count: int, *, expect: int = 0) -> Figures:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DIGESTRY_")}
    started = time.perf_counter()
    done = subprocess.run(
        command, stdout=subprocess.DEVNULL, env=kept | {"PYTHONPATH": str(_REPOSITORY)}, check=False
    )
    seconds = time.perf_counter() - started
    if done.returncode != expect:
        raise subprocess.CalledProcessError(done.returncode, command)
    return {"seconds": seconds, "blobs_per_s": count / seconds}


SCENARIO = Scenario(
    name="fsck",
    title="a hundred thousand blobs checked, and found again without an index",
    prepare=prepare,
    measure=measure,
    own=TOOLS,
    rounds=5,
    goals=(
        Goal(case="check", figure="seconds", against="find"),
        Goal(case="rebuild", figure="seconds", against="sha256sum"),
    ),
)
