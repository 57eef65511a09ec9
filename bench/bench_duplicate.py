"""What does it cost to send what the server already has?

Decides whether clients may always send instead of asking first: with `Expect: 100-continue` a
stored digest is acknowledged before its body travels, however large it is. `curl` is the same as
people type it, without any option. docker-registry's clients ask with HEAD and skip the upload;
nginx has no digests, so every PUT of it is a whole one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from bench.clients import Connection, curl
from bench.data import MIB, Body
from bench.harness import Bench, Measured, Scenario, costs
from bench.peers import Contender, Digestry
from bench.processes import HOST, Server
from bench.records import Goal, Summary

_REPEATS = 5


def measure(bench: Bench, contender: Contender, _: Any) -> Measured:
    body = bench.data.file(bench.settings.size_bytes)
    target = contender.target(body.sha256)
    with bench.fresh(contender) as server:
        with Connection(server.port) as connection:
            contender.upload(connection, body)
        if isinstance(contender, Digestry):
            yield "Expect", {"ms": _median_ms(lambda: _expect(server, target, body))}
            yield "curl -T", {"ms": _median_ms(lambda: _curl(server, target, body))}
        else:
            yield "HEAD", {"ms": _median_ms(lambda: _head(server, target))}
        server.mark()
        started = time.perf_counter()
        with Connection(server.port) as connection:
            contender.upload(connection, body)
        seconds = time.perf_counter() - started
        figures = {"mib_per_s": body.size_bytes / MIB / seconds}
        yield "sent again", figures | costs(server.usage(), moved_bytes=body.size_bytes)


def _median_ms(once: Callable[[], float]) -> float:
    return Summary.of([once() for _ in range(_REPEATS)]).median * 1000


def _expect(server: Server, target: str, body: Body) -> float:
    started = time.perf_counter()
    with Connection(server.port) as connection:
        headers = {"Content-Length": str(body.size_bytes), "Expect": "100-continue"}
        connection.send_head("PUT", target, headers)
        connection.answer(expect=(200,))
        return time.perf_counter() - started


def _curl(server: Server, target: str, body: Body) -> float:
    """Curl sends Expect by itself, but only for bodies of more than 1 MiB."""
    return curl("-T", str(body.path), f"http://{HOST}:{server.port}{target}")


def _head(server: Server, target: str) -> float:
    started = time.perf_counter()
    with Connection(server.port) as connection:
        connection.ask("HEAD", target, expect=(200,))
        return time.perf_counter() - started


SCENARIO = Scenario(
    name="duplicate",
    title="a large blob that the server already has",
    measure=measure,
    speaks=("digestry", "docker-registry"),
    rounds=3,
    goals=(
        Goal(case="Expect", figure="ms", at_most=5),
        Goal(case="curl -T", figure="ms", at_most=5),
    ),
)
