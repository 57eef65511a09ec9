"""Do small requests wait behind large transfers on the same worker?

Decides the size of slices sent and of batches received between turns of the event loop. One
prober (`wrk`, one connection, a 4 KiB GET every few milliseconds) watches the loaded server and
another, at the same time, a second idle one: what both see is the machine, what only the first
sees is the server. Latencies are corrected for requests that could not be sent while one waited.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from bench.clients import Connection, WrkResult, wrk_command, wrk_result
from bench.data import MIB
from bench.harness import Bench, Figures, Measured, Scenario
from bench.peers import Contender
from bench.processes import Server
from bench.records import Goal
from bench.transfers import Moved, transfers

_PAUSE_MILLISECONDS = 4
_PROBED_BYTES = 4096
_FLOOR_MS = 3.0


def measure(bench: Bench, contender: Contender, _: Any) -> Measured:
    for count in (1, 4):
        with bench.fresh(contender) as loaded, bench.fresh(contender) as idle:
            targets = bench.new_directory() / "targets"
            targets.write_text(_store_probed(bench, contender, (loaded, idle)))
            size = bench.settings.size_bytes
            with transfers(bench, contender, loaded, count, size) as moved:
                busy, calm = _probe(bench, (loaded.port, idle.port), targets)
            yield f"{count} up, {count} down", _figures(busy, calm, moved)


def _figures(busy: WrkResult, calm: WrkResult, moved: Moved) -> Figures:
    limit_ms = max(_FLOOR_MS, 2 * calm.p99_us / 1000)
    return {
        "p50_ms": busy.p50_us / 1000,
        "p99_ms": busy.p99_us / 1000,
        "idle_p50_ms": calm.p50_us / 1000,
        "idle_p99_ms": calm.p99_us / 1000,
        "p99_of_limit": busy.p99_us / 1000 / limit_ms,
        "mib_per_s": (moved.up.total_bytes + moved.down.total_bytes) / MIB / busy.seconds,
    }


def _store_probed(bench: Bench, contender: Contender, servers: tuple[Server, Server]) -> str:
    [sha256] = bench.data.small_digests(_PROBED_BYTES, 1)
    content = bench.data.small_template(_PROBED_BYTES).encode() + b"%016d" % 0
    for server in servers:
        with Connection(server.port) as connection:
            contender.upload_small(connection, sha256, content)
    return contender.target(sha256)


def _probe(bench: Bench, ports: tuple[int, int], targets: Path) -> tuple[WrkResult, WrkResult]:
    commands = [
        wrk_command(
            port,
            "get.lua",
            str(targets),
            str(_PAUSE_MILLISECONDS),
            connections=1,
            seconds=bench.settings.rate_seconds,
        )
        for port in ports
    ]
    probers = [subprocess.Popen(each, stdout=subprocess.PIPE) for each in commands]
    outputs = [each.communicate()[0] for each in probers]
    return wrk_result(outputs[0]), wrk_result(outputs[1])


SCENARIO = Scenario(
    name="fairness",
    title="small requests beside large uploads and downloads",
    measure=measure,
    rounds=3,
    goals=(
        Goal(case="1 up, 1 down", figure="p99_of_limit", at_most=1),
        Goal(case="4 up, 4 down", figure="p99_of_limit"),
    ),
)
