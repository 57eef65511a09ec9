"""How long from exec until the first request is served, also with a million blobs?

Decides what may be imported and looked at before the socket answers. `first` starts on no data
directory at all, `again` on an empty one that exists, `full` on one with a million blobs.
The blobs are rows in the index and names in the sharded directory, written past the
server, all links of few files: starting reads none of them.
Ready is when the readiness route answers with success, asked every 2 ms.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from bench.data import GIB, MIB
from bench.harness import Bench, Measured, Scenario
from bench.peers import Contender, Digestry
from bench.processes import Server
from bench.records import Goal
from bench.stored import fill_with_names

BLOBS: Final = 1_000_000
"""How many stand for a ``--size`` of one gibibyte."""


class Directories(msgspec.Struct, frozen=True):
    empty: Path
    full: Path
    blobs: int


def prepare(bench: Bench, contenders: Sequence[Contender]) -> Directories | None:
    ours = next((each for each in contenders if isinstance(each, Digestry)), None)
    if ours is None:
        return None
    empty, full = bench.new_directory(), bench.new_directory()
    for directory in (empty, full):
        bench.again(ours, directory).stop()
    count = max(1000, bench.settings.size_bytes * BLOBS // GIB)
    fill_with_names(full / "data", count)
    bench.again(ours, full).stop()  # what writing past the server left in the log is put in order
    return Directories(empty, full, count)


def measure(bench: Bench, contender: Contender, directories: Directories | None) -> Measured:
    with bench.fresh(contender) as server:
        yield "first", {**_ready(server), "blobs": 0}
    if isinstance(contender, Digestry) and directories is not None:
        with bench.again(contender, directories.empty) as server:
            empty = _ready(server)
        yield "again", {**empty, "blobs": 0}
        with bench.again(contender, directories.full) as server:
            full = _ready(server)
        yield (
            "full",
            {
                **full,
                "blobs": directories.blobs,
                "of_empty": full["ready_ms"] / empty["ready_ms"],
            },
        )


def _ready(server: Server) -> dict[str, float]:
    ready_ms = server.ready_seconds * 1000
    return {"ready_ms": ready_ms, "peak_mib": server.usage().peak_bytes / MIB}


SCENARIO = Scenario(
    name="startup",
    title="from exec to ready",
    prepare=prepare,
    measure=measure,
    goals=(
        Goal(case="again", figure="ready_ms", at_most=1000),
        Goal(case="full", figure="ready_ms", at_most=1000),
        Goal(case="full", figure="of_empty", at_most=1.1),
    ),
)
