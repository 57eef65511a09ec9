"""How fast is an upload onto a real disk, and who waits behind its sync?

Decides when received bytes begin to be written to the disk, and how they are synced. Files go
below `--disk`, and each upload is measured right behind a ``dd conv=fsync`` of its bytes on the
same file system. Digestry syncs the file, its directory and the index before it acknowledges;
docker-registry syncs the file; nginx syncs nothing, so its figure is that of the page cache.
`beside` stores 4 KiB blobs one by one while a large upload arrives and is synced.
"""

from __future__ import annotations

import subprocess
import threading
import time
from pathlib import Path
from typing import Any, Final

from bench.clients import Connection
from bench.data import MIB, Body
from bench.harness import Bench, Figures, Measured, Scenario, costs
from bench.peers import Contender
from bench.processes import Server
from bench.records import Goal

_SMALL_BYTES: Final = 4096
_SMALL_BLOBS: Final = 100_000


def measure(bench: Bench, contender: Contender, _: Any) -> Measured:
    size = bench.settings.size_bytes
    body = bench.data.fresh(size)
    floor = _dd(body, bench.settings.disk)
    with bench.fresh(contender, bench.settings.disk) as server:
        server.mark()
        rate = _upload(server, contender, body)
        yield (
            "upload",
            {"mib_per_s": rate, "of_dd": rate / floor} | costs(server.usage(), moved_bytes=size),
        )
    with bench.fresh(contender, bench.settings.disk) as server:
        yield "beside", _beside(bench, server, contender, bench.data.fresh(size))


def _dd(body: Body, disk: Path) -> float:
    """MiB a second that one file of these bytes reaches the disk at."""
    target = disk / "digestry-bench-dd"
    command = ["dd", f"if={body.path}", f"of={target}", "bs=1M", "conv=fsync", "status=none"]
    started = time.perf_counter()
    try:
        subprocess.run(command, check=True)
        return body.size_bytes / MIB / (time.perf_counter() - started)
    finally:
        target.unlink(missing_ok=True)


def _upload(server: Server, contender: Contender, body: Body) -> float:
    started = time.perf_counter()
    with Connection(server.port) as connection:
        contender.upload(connection, body)
    return body.size_bytes / MIB / (time.perf_counter() - started)


def _beside(bench: Bench, server: Server, contender: Contender, body: Body) -> Figures:
    """Latencies of small blobs, each stored behind the one before, while a large one is."""
    template = bench.data.small_template(_SMALL_BYTES).encode()
    digests = bench.data.small_digests(_SMALL_BYTES, _SMALL_BLOBS)
    ends, took, failed = threading.Event(), list[float](), list[BaseException]()

    def store() -> None:
        try:
            with Connection(server.port) as connection:
                for number, digest in enumerate(digests):
                    started = time.perf_counter()
                    contender.upload_small(connection, digest, template + b"%016d" % number)
                    took.append((time.perf_counter() - started) * 1000)
                    if ends.is_set():
                        return
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=store)
    thread.start()
    try:
        rate = _upload(server, contender, body)
    finally:
        ends.set()
        thread.join()
    if failed:
        raise failed[0]
    took.sort()
    return {
        "mib_per_s": rate,
        "p50_ms": took[len(took) // 2],
        "p99_ms": took[len(took) * 99 // 100],
        "max_ms": took[-1],
    }


SCENARIO = Scenario(
    name="disk",
    title="one large blob onto a real disk, and small ones beside it",
    measure=measure,
    rounds=3,
    goals=(
        Goal(case="upload", figure="of_dd", at_least=0.9),
        Goal(case="beside", figure="max_ms"),
        Goal(case="beside", figure="p99_ms", against="docker-registry"),
    ),
)
