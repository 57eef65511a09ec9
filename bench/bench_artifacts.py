"""How fast does a large artifact travel through `mlflow server`, and through Digestry?

Decides nothing about Digestry that `upload` and `download` do not; it tells a team that keeps its
models behind MLflow's artifact proxy what the way through Digestry is worth. MLflow takes bytes
with one worker, stages them and copies them to a directory beside its index; it neither hashes nor
syncs. Each then serves what it was sent.
"""

from __future__ import annotations

import time
from typing import Any

from bench.clients import Connection, check_download, download
from bench.data import MIB
from bench.harness import Bench, Measured, Scenario, costs
from bench.peers import Contender
from bench.records import Goal, Summary

_WARMING_BYTES = 4 * MIB
_REPEATS = 2


def measure(bench: Bench, contender: Contender, _: Any) -> Measured:
    size = bench.settings.size_bytes
    body = bench.data.fresh(size)
    target = contender.target(body.sha256)
    with bench.fresh(contender) as server:
        warming = bench.data.fresh(min(size, _WARMING_BYTES))
        with Connection(server.port) as connection:
            contender.upload(connection, warming)
        download(server.port, contender.target(warming.sha256), warming.size_bytes)
        server.mark()
        started = time.perf_counter()
        with Connection(server.port) as connection:
            contender.upload(connection, body)
        seconds = time.perf_counter() - started
        yield (
            "upload",
            {"mib_per_s": size / MIB / seconds, **costs(server.usage(), moved_bytes=size)},
        )
        check_download(server.port, target, body.sha256)
        server.mark()
        found = Summary.of([download(server.port, target, size) for _ in range(_REPEATS)])
        figures = {"mib_per_s": size / MIB / found.median}
        yield "download", figures | costs(server.usage(), moved_bytes=size * _REPEATS)


SCENARIO = Scenario(
    name="artifacts",
    title="one large artifact up and down",
    measure=measure,
    speaks=("digestry", "mlflow"),
    rounds=3,
    goals=(
        Goal(case="upload", figure="mib_per_s", against="mlflow", at_least=2.5),
        Goal(case="download", figure="mib_per_s", against="mlflow", at_least=5),
    ),
)
