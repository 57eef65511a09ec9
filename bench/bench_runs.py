"""Do readers and small writers wait while a million metric points are logged?

Decides how many points go in one transaction and how long a batch may keep the event loop. One
client logs batches of 10,000 points as fast as they are taken. Meanwhile two probers, each a
process with one connection, send a read every 10 ms and a small write every 20 ms; the same two ask
a second, idle server at the same time: what both see is the machine, what only the first sees is
the server. Latencies count from when a request was due, so one that waits makes those behind it
late as well. Charts come last, when all points are there.

Then, on another server: what do sums over a million runs cost, a page of them, and the latest of a
version's metrics that were measured a million times? Rows are written past the server, before it
starts. Decides which indexes carry what is added up, and how the latest are found.
"""

from __future__ import annotations

import json
import math
import select
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from bench.clients import Connection, Unexpected
from bench.harness import Bench, Figures, Measured, Scenario, costs
from bench.peers import Contender
from bench.processes import Server
from bench.records import Goal
from registry.catalog.schema import runs, version_metrics
from registry.domain.runs import SPLITS
from store.index.driver import sqlite
from store.layout import INDEX_FILE

BATCH: Final = 10_000
KEYS: Final = 10
BYTES_OF_A_POINT: Final = 1024
"""Of ``--size``: its gibibyte stands for a million points."""

MODELS: Final = 200
TEAMS: Final = 20
NAMES: Final = 50
BASE_TIME: Final = 1_700_000_000_000_000

READ_EVERY: Final = 0.010
WRITE_EVERY: Final = 0.020
READ_LIMIT: Final = 2.0
"""Times what the idle server shows meanwhile."""

FLOOR_MS: Final = 3.0
WRITE_LIMIT_MS: Final = 25.0
"""Or what the idle server shows meanwhile, where the machine alone takes longer."""
_JSON: Final = {"Content-Type": "application/json"}
_RUNS: Final = "/api/v1/runs"
_REPOSITORY: Final = Path(__file__).resolve().parents[1]


def measure(bench: Bench, contender: Contender, _: Any) -> Measured:
    points = max(bench.settings.size_bytes // BYTES_OF_A_POINT, KEYS)
    batches = _batches(points)
    with bench.fresh(contender) as loaded, bench.fresh(contender) as idle:
        logged = {server.port: _prepare(server) for server in (loaded, idle)}
        loaded.mark()
        with ExitStack() as stack:
            probes = {
                (kind, server.port): stack.enter_context(
                    _probing(kind, server, logged[server.port])
                )
                for kind in ("reads", "writes")
                for server in (loaded, idle)
            }
            started = time.perf_counter()
            _log(loaded, logged[loaded.port], batches)
            seconds = time.perf_counter() - started
        found = {who: probe.latencies for who, probe in probes.items()}
        figures: Figures = {"points_per_s": points / seconds}
        yield "log", figures | costs(loaded.usage(), requests=math.ceil(points / BATCH))
        for kind in ("reads", "writes"):
            yield kind, _figures(kind, found[kind, loaded.port], found[kind, idle.port])
        yield f"chart of {points // KEYS} points", _chart(loaded, logged[loaded.port], "train/0")
    with bench.passing_directory() as directory:
        with bench.again(contender, directory) as server, Connection(server.port) as connection:
            models = _models(connection)
        _fill(directory / "data" / INDEX_FILE, models, points)
        with bench.again(contender, directory) as server, Connection(server.port) as connection:
            for case, target in _QUESTIONS.items():
                yield case, {"ms": _asked(connection, target)}


_METRICS: Final = "/api/v1/models/m0/versions/1/metrics"
_QUESTIONS: Final = {
    "costs of all runs": f"{_RUNS}/costs",
    "costs by model": f"{_RUNS}/costs?by=model",
    "costs by team": f"{_RUNS}/costs?by=team",
    "page of runs": f"{_RUNS}?limit=100",
    "page of one status": f"{_RUNS}?limit=100&status=failed",
    "page of one model": f"{_RUNS}?limit=100&model=m3",
    "latest per name": f"{_METRICS}/latest",
    "latest per name and split": f"{_METRICS}/latest?per=split",
}


def _models(connection: Connection) -> list[tuple[str, str | None]]:
    """Models of some teams, each with the version that one of them has."""
    for team in range(TEAMS):
        _post(connection, "/api/v1/teams", {"name": f"t{team}"})
    connection.ask("PUT", "/models/m0/v1/f?publish=true", {}, b"x", expect=(200, 201))
    for number in range(1, MODELS):
        _post(connection, "/api/v1/models", {"name": f"m{number}", "team": f"t{number % TEAMS}"})
    target = "/api/v1/models?limit=1000"
    found = json.loads(connection.ask("GET", target, expect=(200,)).body)["items"]
    target = "/api/v1/models/m0/versions/1"
    version = json.loads(connection.ask("GET", target, expect=(200,)).body)["id"]
    return [(one["id"], version if one["name"] == "m0" else None) for one in found]


def _fill(database: Path, models: Sequence[tuple[str, str | None]], count: int) -> None:
    """So many runs, spread over the models, and so many measurements of the one version."""
    [version] = [version for _, version in models if version is not None]
    connection = sqlite.connect(str(database), isolation_level=None)
    connection.execute("BEGIN")
    for table, rows in (
        (runs, (_run(number, models[number % len(models)][0]) for number in range(count))),
        (version_metrics, (_measured(number, version) for number in range(count))),
    ):
        columns = [column.name for column in table.columns]
        places = ", ".join(f":{name}" for name in columns)
        connection.executemany(
            f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES ({places})",
            ({name: row.get(name) for name in columns} for row in rows),
        )
    connection.execute("COMMIT")
    connection.close()


def _run(number: int, model: str) -> dict[str, Any]:
    at = BASE_TIME + number * 1000
    told = {"created_at": at, "updated_at": at, "created_by": "usr_local", "changes": 1}
    return told | {
        "id": f"run_{number:026d}",
        "name": "filled",
        "owner": model,
        "model": model,
        "status": "failed" if number % 10 == 0 else "succeeded",
        "dataset": "",
        "dataset_version": "",
        "started_at": at,
        "ended_at": at + 500,
        "gpu_hours": number % 7 / 2,
        "cost_usd": number % 11 / 4,
    }


def _measured(number: int, version: str) -> dict[str, Any]:
    return {
        "version": version,
        "name": f"metric {number % NAMES}",
        "split": SPLITS[number // NAMES % len(SPLITS)],
        "time": BASE_TIME + number,
        "value": number / 7,
        "created_at": BASE_TIME,
        "created_by": "usr_local",
    }


def _asked(connection: Connection, target: str) -> float:
    taken = []
    for _ in range(7):
        started = time.perf_counter()
        connection.ask("GET", target, expect=(200,))
        taken.append(1000 * (time.perf_counter() - started))
    return statistics.median(taken)


def _prepare(server: Server) -> str:
    """A run to log to, whose id is returned, among others to read."""
    with Connection(server.port) as connection:
        made = [_post(connection, _RUNS, {"name": f"run {number}"}) for number in range(100)]
        point = {"key": "loss", "value": 1, "time": "2026-11-20T12:00:00Z"}
        for run in made:
            _post(connection, f"{_RUNS}/{run['id']}/metrics", {"points": [point]})
    found: str = made[0]["id"]
    return found


def _post(connection: Connection, target: str, body: Any) -> Any:
    content = json.dumps(body).encode()
    return json.loads(
        connection.ask("POST", target, _JSON, content, expect=(200, 201)).body or b"null"
    )


def _batches(points: int) -> list[bytes]:
    """Bodies with so many points in all, made before, so that making them costs nobody."""
    return [
        json.dumps(
            {"points": [_point(n) for n in range(start, min(start + BATCH, points))]}
        ).encode()
        for start in range(0, points, BATCH)
    ]


def _point(number: int) -> dict[str, Any]:
    return {
        "key": f"train/{number % KEYS}",
        "step": number // KEYS,
        "value": math.sin(number / 1000),
        "time": "2026-11-20T12:00:00Z",
    }


def _log(server: Server, run: str, batches: Sequence[bytes]) -> None:
    with Connection(server.port) as connection:
        for content in batches:
            connection.ask("POST", f"{_RUNS}/{run}/metrics", _JSON, content, expect=(200,))


def _chart(server: Server, run: str, key: str) -> Figures:
    target = f"{_RUNS}/{run}/metrics/chart?key={key.replace('/', '%2F')}&points=500"
    with Connection(server.port) as connection:
        return {"ms": _asked(connection, target)}


def _figures(kind: str, busy: Sequence[float], calm: Sequence[float]) -> Figures:
    p50, p99 = _quantiles(busy)
    idle_p50, idle_p99 = _quantiles(calm)
    if kind == "writes":
        limit = max(WRITE_LIMIT_MS, idle_p99)
    else:
        limit = max(FLOOR_MS, READ_LIMIT * idle_p99)
    return {
        "p50_ms": p50,
        "p99_ms": p99,
        "idle_p50_ms": idle_p50,
        "idle_p99_ms": idle_p99,
        "p99_of_limit": p99 / limit,
    }


def _quantiles(latencies: Sequence[float]) -> tuple[float, float]:
    ordered = sorted(latencies)
    return ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)]


class _Probe:
    latencies: list[float]


@contextmanager
def _probing(kind: str, server: Server, run: str) -> Iterator[_Probe]:
    """Probe in a process of its own; what it found is there once the block has ended."""
    found = _Probe()
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.bench_runs", kind, str(server.port), run],
        cwd=_REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        if process.stdout.readline() != b"ready\n":
            raise Unexpected(f"the prober of {kind} ended with {process.wait()}")
        yield found
        output, _ = process.communicate()
        found.latencies = json.loads(output)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def probe(kind: str, port: int, run: str) -> list[float]:
    """Latencies in milliseconds from when each request was due, until standard input ends."""
    reads = (f"{_RUNS}/{run}", f"{_RUNS}?limit=20", f"{_RUNS}/{run}/metrics")
    every = READ_EVERY if kind == "reads" else WRITE_EVERY
    latencies: list[float] = []
    with Connection(port) as connection:
        for number in range(20):  # warm
            connection.ask("GET", reads[number % 3], expect=(200,))
        print("ready", flush=True)
        due = time.perf_counter()
        while len(latencies) < 3 or not _is_over():
            time.sleep(max(0.0, due - time.perf_counter()))
            if kind == "reads":
                connection.ask("GET", reads[len(latencies) % 3], expect=(200,))
            else:
                _post(connection, _RUNS, {"name": f"probe {len(latencies)}"})
            now = time.perf_counter()
            latencies.append(1000 * (now - due))
            due = max(due + every, now - 20 * every)  # after a long wait, catch up a little
    return latencies


def _is_over() -> bool:
    return bool(select.select([sys.stdin], [], [], 0)[0])


SCENARIO = Scenario(
    name="runs",
    title="a million metric points logged beside readers and small writers",
    measure=measure,
    speaks=("digestry",),
    rounds=3,
    goals=(
        Goal(case="reads", figure="p99_of_limit", at_most=1),
        Goal(case="writes", figure="p99_of_limit", at_most=1),
        Goal(case="log", figure="points_per_s"),
    ),
)


if __name__ == "__main__":
    print(json.dumps(probe(sys.argv[1], int(sys.argv[2]), sys.argv[3])))
