"""How long from exec to the first answer, and does that grow with what is stored?

Decides what may be imported and looked at before the socket answers. `first` starts on no data
directory at all, `again` on an empty one that exists, `full` on one with thousands of blobs.
Ready is when the readiness route answers with success, asked every 2 ms.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from bench.clients import wrk
from bench.data import MIB
from bench.harness import Bench, Measured, Scenario
from bench.peers import Contender, Digestry
from bench.processes import Server
from bench.records import Goal

_SMALL_BYTES = 4096
_BODIES_PER_SECOND = 40_000


class Directories(msgspec.Struct, frozen=True):
    empty: Path
    full: Path
    blobs: int


def prepare(bench: Bench, contenders: Sequence[Contender]) -> Directories | None:
    ours = next((each for each in contenders if isinstance(each, Digestry)), None)
    if ours is None:
        return None
    empty, full = bench.new_directory(), bench.new_directory()
    bench.again(ours, empty).stop()
    with bench.again(ours, full) as server:
        stored = _fill(bench, ours, server)
    return Directories(empty, full, stored)


def _fill(bench: Bench, contender: Contender, server: Server) -> int:
    seconds = bench.settings.rate_seconds
    directory = bench.new_directory()
    digests, template = directory / "digests", directory / "template"
    count = round(_BODIES_PER_SECOND * max(1, seconds))
    digests.write_text("\n".join(bench.data.small_digests(_SMALL_BYTES, count)))
    template.write_text(bench.data.small_template(_SMALL_BYTES))
    files = (str(digests), str(template), contender.put_target)
    return wrk(server.port, "put.lua", *files, connections=16, seconds=seconds).requests


def measure(bench: Bench, contender: Contender, directories: Directories | None) -> Measured:
    with bench.fresh(contender) as server:
        yield "first", {**_ready(server), "blobs": 0}
    if isinstance(contender, Digestry) and directories is not None:
        with bench.again(contender, directories.empty) as server:
            yield "again", {**_ready(server), "blobs": 0}
        with bench.again(contender, directories.full) as server:
            yield "full", {**_ready(server), "blobs": directories.blobs}


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
    ),
)
