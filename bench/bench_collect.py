"""Do small uploads wait while a hundred thousand blobs are collected?

Decides how many blobs go in one transaction of the collector, and what may run on the event loop
between two of them. A prober, a process of its own with one connection, stores 4 KiB every 10 ms,
first while nothing else happens, then while the collection is planned and applied, then while it is
purged. Latencies count from when a request was due, so one that waits makes those behind it late as
well. What grows is what the collection does to others.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from bench.clients import Connection, Unexpected
from bench.harness import Bench, Figures, Measured, Scenario
from bench.peers import Contender, Digestry
from bench.processes import Server
from bench.records import Goal
from bench.stored import blobs_for, fill, stored_again

BLOB_BYTES: Final = 1024
PROBE_BYTES: Final = 4096
PROBE_EVERY: Final = 0.010
GROWTH_MS: Final = 50.0
CALM_FOR: Final = 7
"""Times as long as a case that counts requests: enough for a quantile of a thousand."""

_JSON: Final = {"Content-Type": "application/json"}
_REPOSITORY: Final = Path(__file__).resolve().parents[1]


def prepare(bench: Bench, contenders: Sequence[Contender]) -> Path | None:
    ours = next((each for each in contenders if isinstance(each, Digestry)), None)
    if ours is None:
        return None
    directory, count = bench.new_directory(), blobs_for(bench.settings.size_bytes)
    with bench.again(ours, directory) as server, Connection(server.port) as connection:
        # Referred to, and more than half of all bytes: else the collector finds it suspicious.
        connection.ask(
            "PUT", "/blobs/kept.bin", {}, os.urandom(2 * count * BLOB_BYTES), expect=(201,)
        )
    fill(directory / "data", count, BLOB_BYTES)
    return directory


def measure(bench: Bench, contender: Contender, filled: Path | None) -> Measured:
    assert filled is not None, "only Digestry collects"
    with bench.passing_directory() as directory:
        stored_again(filled / "data", directory / "data")
        with bench.again(contender, directory) as server:
            with _probing(server) as calm:
                time.sleep(bench.settings.pair_seconds or CALM_FOR * bench.settings.rate_seconds)
            yield "nothing else", _quantiles(calm.latencies)
            for case, works in (
                ("collection", (("plan", {}), ("apply", {}))),
                ("purge", (("purge", {"everything": True}),)),
            ):
                started = time.perf_counter()
                with _probing(server) as probe:
                    for verb, asked in works:
                        _run(server, verb, asked)
                seconds = time.perf_counter() - started
                yield case, _grown(probe.latencies, calm.latencies) | {"seconds": seconds}


def _run(server: Server, verb: str, asked: dict[str, Any]) -> None:
    with Connection(server.port) as connection:
        body = json.dumps(asked).encode()
        started = connection.ask("POST", f"/api/v1/gc/{verb}", _JSON, body, expect=(202,))
        target = f"/api/v1/operations/{json.loads(started.body)['id']}"
        while True:
            found = json.loads(connection.ask("GET", target, expect=(200,)).body)
            if found["state"] == "succeeded":
                return
            if found["state"] != "running":
                raise Unexpected(f"{verb} {found['state']}: {found['failure']}")
            time.sleep(0.1)


def _quantiles(latencies: Sequence[float]) -> Figures:
    ordered = sorted(latencies)
    return {
        "p50_ms": ordered[len(ordered) // 2],
        "p99_ms": ordered[int(len(ordered) * 0.99)],
        "p999_ms": ordered[int(len(ordered) * 0.999)],
    }


def _grown(busy: Sequence[float], calm: Sequence[float]) -> Figures:
    found = _quantiles(busy)
    return found | {"p999_growth_ms": found["p999_ms"] - _quantiles(calm)["p999_ms"]}


class _Probe:
    latencies: list[float]


@contextmanager
def _probing(server: Server) -> Iterator[_Probe]:
    """Probe in a process of its own; what it found is there once the block has ended."""
    found = _Probe()
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.bench_collect", str(server.port)],
        cwd=_REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        if process.stdout.readline() != b"ready\n":
            raise Unexpected(f"the prober ended with {process.wait()}")
        yield found
        output, _ = process.communicate()
        found.latencies = json.loads(output)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def probe(port: int) -> list[float]:
    """Latencies in milliseconds from when each upload was due, until standard input ends."""
    latencies: list[float] = []
    shared = os.urandom(PROBE_BYTES - 8)
    with Connection(port) as connection:
        for number in range(20):  # warm
            _store(connection, (2**32 + number).to_bytes(8, "big") + shared)
        print("ready", flush=True)
        due = time.perf_counter()
        while len(latencies) < 3 or not select.select([sys.stdin], [], [], 0)[0]:
            time.sleep(max(0.0, due - time.perf_counter()))
            _store(connection, len(latencies).to_bytes(8, "big") + shared)
            now = time.perf_counter()
            latencies.append(1000 * (now - due))
            due = max(due + PROBE_EVERY, now - 20 * PROBE_EVERY)  # catch up a little
    return latencies


def _store(connection: Connection, content: bytes) -> None:
    digest = sha256(content).hexdigest()
    connection.ask("PUT", f"/blobs/sha256:{digest}", {}, content, expect=(201,))


SCENARIO = Scenario(
    name="collect",
    title="small uploads beside the collection of a hundred thousand blobs",
    prepare=prepare,
    measure=measure,
    speaks=("digestry",),
    rounds=5,
    goals=(
        Goal(case="collection", figure="p999_growth_ms", at_most=GROWTH_MS),
        Goal(case="purge", figure="p999_growth_ms", at_most=GROWTH_MS),
    ),
)


if __name__ == "__main__":
    print(json.dumps(probe(int(sys.argv[1]))))
