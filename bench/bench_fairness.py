"""Do small requests wait behind large transfers on the same worker?

Decides the size of slices sent and of batches received between turns of the event loop. One
prober (`wrk`, one connection, a 4 KiB GET every few milliseconds) watches the loaded server and
another, at the same time, a second idle one: what both see is the machine, what only the first
sees is the server. Latencies are corrected for requests that could not be sent while one waited.
"""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.clients import CannotRun, Connection, WrkResult, download, wrk_command, wrk_result
from bench.data import MIB, Body
from bench.harness import Bench, Figures, Measured, Scenario
from bench.peers import Contender
from bench.processes import Server
from bench.records import Goal

_PAUSE_MILLISECONDS = 4
_PROBED_BYTES = 4096
_FLOOR_MS = 3.0


def measure(bench: Bench, contender: Contender, _: Any) -> Measured:
    for count in (1, 4):
        with bench.fresh(contender) as loaded, bench.fresh(contender) as idle:
            targets = bench.new_directory() / "targets"
            targets.write_text(_store_probed(bench, contender, (loaded, idle)))
            with _transfers(bench, contender, loaded, count) as moved:
                busy, calm = _probe(bench, (loaded.port, idle.port), targets)
            yield f"{count} up, {count} down", _figures(busy, calm, moved, bench)


def _figures(busy: WrkResult, calm: WrkResult, moved: list[int], bench: Bench) -> Figures:
    limit_ms = max(_FLOOR_MS, 2 * calm.p99_us / 1000)
    return {
        "p50_ms": busy.p50_us / 1000,
        "p99_ms": busy.p99_us / 1000,
        "idle_p50_ms": calm.p50_us / 1000,
        "idle_p99_ms": calm.p99_us / 1000,
        "p99_of_limit": busy.p99_us / 1000 / limit_ms,
        "mib_per_s": sum(moved) / MIB / busy.seconds,
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


@contextmanager
def _transfers(
    bench: Bench, contender: Contender, server: Server, count: int
) -> Iterator[list[int]]:
    """Keep that many uploads and downloads running; yields the list of bytes moved so far."""
    served = bench.data.fresh(bench.settings.size_bytes)
    with Connection(server.port) as connection:
        contender.upload(connection, served)
    moved: list[int] = []
    enough = threading.Event()
    up, down = _upload(bench, contender, server), _download(contender, server, served)
    with ThreadPoolExecutor(2 * count) as pool:
        loops = [pool.submit(_repeat, each, moved, enough) for each in [up, down] * count]
        try:
            yield moved
        finally:
            enough.set()
        for each in loops:
            each.result()


def _repeat(transfer: Callable[[], int], moved: list[int], enough: threading.Event) -> None:
    while not enough.is_set():
        moved.append(transfer())


def _upload(bench: Bench, contender: Contender, server: Server) -> Callable[[], int]:
    """Each time another blob, as long as there is room for it."""

    def upload() -> int:
        size = bench.settings.size_bytes
        if shutil.disk_usage(bench.settings.root).free < 8 * size:
            raise CannotRun(f"{bench.settings.root} is too small to upload for so long")
        with Connection(server.port) as connection:
            contender.upload(connection, bench.data.fresh(size))
        return size

    return upload


def _download(contender: Contender, server: Server, body: Body) -> Callable[[], int]:
    def fetch() -> int:
        download(server.port, contender.target(body.sha256), body.size_bytes)
        return body.size_bytes

    return fetch


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
