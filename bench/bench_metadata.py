"""What does a question about models cost, and a version registered, beside `mlflow server`?

Decides what a metadata request may do: statements, hops, the building of an answer. Both servers
have one worker and an SQLite file with the same models, versions and runs, written over their own
APIs before the rounds; each round starts both on a copy. The load is wrk's, 16 connections. A page
has 20 models, a batch 100 points. Digestry gives an answer again while nothing was committed since;
`made anew` asks with `Cache-Control: no-cache`, for which it does all the work. Registered versions
name bytes that lie elsewhere, since that is what MLflow's registry knows.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from bench.clients import Connection, NoAnswer, wrk
from bench.data import GIB
from bench.harness import Bench, Measured, Scenario, costs
from bench.metadata import DIALECTS, POINTS, Content, Dialect, ask_line
from bench.peers import Contender
from bench.records import OURS, Goal

_CONNECTIONS = 16
_MODELS = 100
"""For a ``--size`` of one gibibyte."""

_VERSIONS = 3
_RUNS = 16
_WARMING = 8
_ANEW = ", made anew"


class Filled(msgspec.Struct, frozen=True):
    content: Content
    directories: dict[str, Path]
    runs: dict[str, list[str]]


def prepare(bench: Bench, contenders: Sequence[Contender]) -> Filled:
    models = max(4, min(_MODELS, bench.settings.size_bytes * _MODELS // GIB))
    filled = Filled(Content(models, _VERSIONS, min(_RUNS, models)), {}, {})
    for contender in contenders:
        directory = filled.directories[contender.name] = bench.new_directory()
        with bench.again(contender, directory) as server:
            found = DIALECTS[contender.name].fill(server.port, filled.content)
        filled.runs[contender.name] = found
    return filled


def measure(bench: Bench, contender: Contender, filled: Filled) -> Measured:
    dialect = DIALECTS[contender.name]
    with bench.passing_directory() as directory:
        shutil.copytree(filled.directories[contender.name], directory, dirs_exist_ok=True)
        with bench.again(contender, directory) as server:
            for case, lines in _cases(dialect, filled.content, filled.runs[contender.name]):
                asked = directory / "asked"
                asked.write_text("\n".join(lines))
                with Connection(server.port) as connection:
                    for number in range(_WARMING):
                        ask_line(connection, lines[number % len(lines)], -number - 1)
                server.mark()
                try:
                    got = wrk(
                        server.port,
                        "ask.lua",
                        str(asked),
                        *(["no-cache"] if case.endswith(_ANEW) else []),
                        connections=_CONNECTIONS,
                        seconds=bench.settings.rate_seconds,
                    )
                except NoAnswer:
                    if contender.name == OURS:
                        raise
                    # `mlflow server` on SQLite answers none of so many that log at once.
                    yield case, {"requests_per_s": 0.0}
                    continue
                figures = {
                    "requests_per_s": got.requests / got.seconds,
                    "p50_ms": got.p50_us / 1000,
                    "p99_ms": got.p99_us / 1000,
                }
                yield case, figures | costs(server.usage(), requests=got.requests)


def _cases(
    dialect: Dialect, content: Content, runs: Sequence[str]
) -> Iterator[tuple[str, list[str]]]:
    names = [content.name(model) for model in range(content.models)]
    yield "get a model", [dialect.get_model(name) for name in names]
    yield f"get a model{_ANEW}", [dialect.get_model(name) for name in names]
    yield "get a version", [dialect.get_version(name, content.versions) for name in names]
    yield "list models", [dialect.list_models()]
    words = [content.word(model) for model in range(min(10, content.models))]
    yield "search models", [dialect.search(word) for word in words]
    registered = [dialect.register(name, f"s3://elsewhere/{name}/new-@") for name in names]
    yield "register a version", registered
    yield f"log {POINTS} points", [dialect.log(run) for run in runs]


SCENARIO = Scenario(
    name="metadata",
    title="models, versions and metrics, 16 connections, wrk",
    prepare=prepare,
    measure=measure,
    speaks=tuple(DIALECTS),
    rounds=3,
    goals=(
        Goal(case="get a model", figure="requests_per_s", against="mlflow", at_least=100),
        Goal(case=f"get a model{_ANEW}", figure="requests_per_s", against="mlflow"),
        Goal(case="get a version", figure="requests_per_s", against="mlflow"),
        Goal(case="list models", figure="requests_per_s", against="mlflow"),
        Goal(case="search models", figure="requests_per_s", against="mlflow"),
        Goal(case="register a version", figure="requests_per_s", against="mlflow", at_least=20),
        Goal(case=f"log {POINTS} points", figure="requests_per_s", against="mlflow"),
    ),
)
