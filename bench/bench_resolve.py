"""Which binding to use, of ten thousand: does the answer come within 2 ms of the server's time?

Decides whether candidates are kept in memory, in which order, and how a worker learns of changes.
Models, versions and bindings are written past the server, before it starts. One client asks on one
connection, first while nothing else happens, then while a process reports observations: of
`REPORTED` bindings every `REPORT_EVERY` seconds, which each answer must take into account. Every
tenth such request is followed by a change of a binding, as an operator would make it.

The server's time is what its access log says of each request, found again by its id: from the
headers of the request to the end of its handler. The first question loads everything.
"""

from __future__ import annotations

import itertools
import json
import random
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from bench import catalog
from bench.clients import Connection, Unexpected
from bench.data import GIB
from bench.harness import Bench, Figures, Measured, Scenario
from bench.peers import Contender
from bench.records import Goal
from bench.shapes import ACTOR, BASE_TIME, REGIONS, SEED, Shape, model_id, row_id, version_id
from registry.catalog.migrations import CHAINS
from registry.catalog.schema import binding_statistics, bindings, observation_marks
from registry.domain.observations import Observation, joined, summed
from store.index.driver import sqlite
from store.layout import INDEX_FILE
from store.opening import initialize

BINDINGS: Final = 10_000
"""For each gibibyte of ``--size``."""

OF_A_VERSION: Final = 5
PROVIDERS: Final = ("openai", "azure", "bedrock", "vertex-ai", "self-hosted")

REPORTED: Final = 20
REPORT_EVERY: Final = 0.020
CHANGE_EVERY: Final = 10
SERVER_MS: Final = 2.0

_RESOLVE: Final = "/api/v1/resolve"
_BINDINGS: Final = "/api/v1/bindings"
_EVERY_STATUS: Final = "status=registered&status=validated&status=production"
QUESTIONS: Final[Mapping[str, str]] = {
    "few fit": f"{_RESOLVE}?{_EVERY_STATUS}&task=generation&subject=law&region=eu-west"
    "&provider=openai&min_eval_score=0.3&max_cost_per_1k=0.015&max_latency_ms=1500"
    "&min_success_rate=0.9",
    "thousands fit": f"{_RESOLVE}?{_EVERY_STATUS}&limit=10",
}
_JSON: Final = {"Content-Type": "application/json"}
_REPOSITORY: Final = Path(__file__).resolve().parents[1]
_WARM: Final = 20


def measure(bench: Bench, contender: Contender, _: Any) -> Measured:
    count = max(BINDINGS * bench.settings.size_bytes // GIB, OF_A_VERSION * 10)
    shape = Shape(count // OF_A_VERSION, count // OF_A_VERSION)
    with bench.passing_directory() as directory:
        database = directory / "data" / INDEX_FILE
        database.parent.mkdir()
        initialize(database.parent, CHAINS)
        # Nobody reads a file here, so there need be none.
        catalog.fill(
            database, shape, [(sha256, 4096) for sha256 in bench.data.small_digests(4096, 2)]
        )
        _fill(database, shape)
        with bench.again(contender, directory) as server, Connection(server.port) as connection:
            log = _Log(directory / "log")
            yield "first question", {"ms": _once(connection)}
            yield from _asked(connection, log, "alone", bench.settings.rate_seconds)
            with _reporting(server.port, count):
                yield from _asked(connection, log, "reported", bench.settings.rate_seconds)


def _once(connection: Connection) -> float:
    started = time.perf_counter()
    connection.ask("GET", QUESTIONS["thousands fit"], expect=(200,))
    return 1000 * (time.perf_counter() - started)


def _asked(connection: Connection, log: _Log, when: str, seconds: float) -> Measured:
    """Ask each question for half of the time, in turns of many, so that both see the same."""
    taken: dict[str, list[float]] = {case: [] for case in QUESTIONS}
    ids: dict[str, list[str]] = {case: [] for case in QUESTIONS}
    for case, target in QUESTIONS.items():
        for _ in range(_WARM):
            connection.ask("GET", target, expect=(200,))
        deadline = time.perf_counter() + seconds / 2
        for number in itertools.count():
            now = time.perf_counter()
            if now > deadline and number > 3:
                break
            id = f"{when}-{case}-{number:08d}".replace(" ", "-")
            connection.ask("GET", target, {"X-Request-Id": id}, expect=(200,))
            taken[case].append(1000 * (time.perf_counter() - now))
            ids[case].append(id)
    served = log.milliseconds({id for each in ids.values() for id in each})
    for case in QUESTIONS:
        yield f"{case}, {when}: server", _figures([served[id] for id in ids[case]])
        yield f"{case}, {when}: request", _figures(taken[case])


def _figures(values: Sequence[float]) -> Figures:
    ordered = sorted(values)
    return {"p50_ms": ordered[len(ordered) // 2], "p99_ms": ordered[int(len(ordered) * 0.99)]}


class _Log:
    """The access log of the server under test, read to where it has what is looked for."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found: dict[str, float] = {}
        self._read = 0

    def milliseconds(self, ids: set[str]) -> dict[str, float]:
        """How long the server took for each of these requests."""
        deadline = time.monotonic() + 30
        while not ids <= self._found.keys():
            if time.monotonic() > deadline:
                raise Unexpected(f"the log lacks {len(ids - self._found.keys())} requests")
            time.sleep(0.1)
            with self._path.open("rb") as file:
                file.seek(self._read)
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    self._read += len(line)
                    self._take(line)
        return self._found

    def _take(self, line: bytes) -> None:
        if _RESOLVE.encode() in line:
            said = json.loads(line)
            self._found[said["request_id"]] = said["milliseconds"]


@contextmanager
def _reporting(port: int, count: int) -> Iterator[None]:
    """Report, in a process of its own, until the end of the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.bench_resolve", str(port), str(count)],
        cwd=_REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        if process.stdout.readline() != b"ready\n":
            raise Unexpected(f"the reporter ended with {process.wait()}")
        yield
        output, _ = process.communicate()
        if process.returncode:
            raise Unexpected(f"the reporter ended with {process.returncode}: {output!r}")
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def report(port: int, count: int) -> None:
    """Report on bindings, and now and then change one, until standard input ends."""
    generator = random.Random(SEED)
    with Connection(port) as connection:
        print("ready", flush=True)
        due = time.perf_counter()
        for number in itertools.count():
            if number > 3 and select.select([sys.stdin], [], [], 0)[0]:
                break
            chosen = generator.sample(range(count), min(REPORTED, count))
            said = [
                {
                    "binding": row_id("bnd_", one),
                    "latency_ms": generator.lognormvariate(5, 1),
                    "success": generator.random() < 0.98,
                    "tokens": 1000,
                    "cost_usd": generator.random() / 100,
                }
                for one in chosen
            ]
            _send(connection, "POST", f"{_BINDINGS}/observations", {"observations": said})
            if number % CHANGE_EVERY == 0:
                target = f"{_BINDINGS}/{row_id('bnd_', chosen[0])}"
                _send(connection, "PATCH", target, {"cost_per_1k": generator.random() / 50})
            due = max(due + REPORT_EVERY, time.perf_counter() - REPORT_EVERY)
            time.sleep(max(0.0, due - time.perf_counter()))


def _send(connection: Connection, method: str, target: str, content: object) -> None:
    connection.ask(method, target, _JSON, json.dumps(content).encode(), expect=(200,))


def _fill(database: Path, shape: Shape) -> None:
    """So many bindings of each version, all of them observed before."""
    generator = random.Random(SEED)
    connection = sqlite.connect(str(database), isolation_level=None)
    connection.execute("BEGIN")
    numbers = range(shape.models * OF_A_VERSION)
    _insert(connection, bindings, (_binding(shape, number, generator) for number in numbers))
    _insert(connection, binding_statistics, (_statistics(number, generator) for number in numbers))
    _insert(connection, observation_marks, [{"name": "bindings", "last": 1}])
    connection.execute("COMMIT")
    connection.close()


def _insert(connection: Any, table: Any, rows: Any) -> None:
    names = [column.name for column in table.columns]
    places = ", ".join(f":{name}" for name in names)
    connection.executemany(f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({places})", rows)


def _binding(shape: Shape, number: int, generator: random.Random) -> dict[str, Any]:
    model = number // OF_A_VERSION
    return {
        "id": row_id("bnd_", number),
        "model": model_id(model),
        "version": version_id(shape, model, 1),
        "provider": PROVIDERS[number % OF_A_VERSION],
        "provider_model_id": f"model-{model}",
        "region": REGIONS[(number + model) % len(REGIONS)],
        "endpoint": f"https://{number}.example.com/v1",
        "config": '{"timeout_seconds":30}',
        "status": "inactive" if number % 50 == 0 else "active",
        "cost_per_1k": generator.random() / 50,
        "created_at": BASE_TIME,
        "created_by": ACTOR,
        "updated_at": BASE_TIME,
        "changes": 1,
    }


def _statistics(number: int, generator: random.Random) -> dict[str, Any]:
    median = generator.lognormvariate(5, 1)
    found = joined(
        None,
        summed(
            [
                Observation(latency_ms=median * generator.lognormvariate(0, 0.4), count=30)
                for _ in range(20)
            ]
            + [Observation(success=False, count=generator.randrange(1, 60))]
        ),
        now=BASE_TIME,
    )
    latencies = sorted(found.latencies.items())
    said = {name: getattr(found, name) for name in found.__struct_fields__}
    return said | {
        "binding": row_id("bnd_", number),
        "latencies": json.dumps(latencies),
        "mark": 1,
    }


SCENARIO = Scenario(
    name="resolve",
    title="which of ten thousand bindings to use, while gateways report",
    measure=measure,
    speaks=("digestry",),
    rounds=3,
    goals=tuple(
        Goal(case=f"{case}, {when}: server", figure="p50_ms", at_most=SERVER_MS)
        for case in QUESTIONS
        for when in ("alone", "reported")
    ),
)


if __name__ == "__main__":
    report(int(sys.argv[1]), int(sys.argv[2]))
