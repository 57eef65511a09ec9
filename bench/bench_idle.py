"""What do thousands of idle connections cost, in memory and to whoever is active?

Decides which objects a connection may keep between two requests. Each of 5,000 connections asks
for one 4 KiB blob and stays open; then one more connection asks on and on. The same question was
put before, with nobody else there: `alone`. Memory is the growth of the whole process tree.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bench.clients import CannotRun, Connection, Unexpected, WrkResult, wrk
from bench.data import GIB
from bench.harness import Bench, Measured, Scenario
from bench.peers import Contender
from bench.processes import Server, resident_bytes
from bench.records import Goal

_CONNECTIONS = 5000
"""For a ``--size`` of one gibibyte."""

_OTHER_FILES = 500
_BLOB_BYTES = 4096


def measure(bench: Bench, contender: Contender, _: Any) -> Measured:
    count = max(20, min(_CONNECTIONS, bench.settings.size_bytes * _CONNECTIONS // GIB))
    _allow_files(count + _OTHER_FILES)
    [sha256] = bench.data.small_digests(_BLOB_BYTES, 1)
    content = bench.data.small_template(_BLOB_BYTES).encode() + b"%016d" % 0
    target = contender.target(sha256)
    targets = bench.new_directory() / "targets"
    targets.write_text(target)
    with bench.fresh(contender) as server:
        with Connection(server.port) as connection:
            contender.upload_small(connection, sha256, content)
        alone = _active(bench, server, targets)
        before = resident_bytes(server.pid)
        with _idle(server, target, count):
            grown = resident_bytes(server.pid) - before
            beside = _active(bench, server, targets)
    yield (
        "idle connections",
        {
            "connections": count,
            # Less than a page of growth is not seen, and a ratio to nothing is none.
            "kib_per_connection": max(resource.getpagesize(), grown) / 1024 / count,
            "p50_ms": beside.p50_us / 1000,
            "p99_ms": beside.p99_us / 1000,
            "alone_p50_ms": alone.p50_us / 1000,
            "alone_p99_ms": alone.p99_us / 1000,
        },
    )


def _active(bench: Bench, server: Server, targets: Path) -> WrkResult:
    seconds = bench.settings.rate_seconds
    return wrk(server.port, "get.lua", str(targets), connections=1, seconds=seconds)


@contextmanager
def _idle(server: Server, target: str, count: int) -> Iterator[None]:
    """So many connections that asked once; all must still be open at the end."""
    with ExitStack() as stack:
        waiting = []
        for _ in range(count):
            connection = stack.enter_context(Connection(server.port))
            connection.ask("GET", target, expect=(200,))
            waiting.append(connection)
        yield
        closed = sum(not connection.is_open() for connection in waiting)
        if closed:
            raise Unexpected(f"{closed} of {count} idle connections were closed meanwhile")


def _allow_files(wanted: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= wanted:
        return
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise CannotRun(f"{wanted} descriptors are needed and {hard} allowed (ulimit -n)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


SCENARIO = Scenario(
    name="idle",
    title="an active connection among idle ones",
    measure=measure,
    speaks=("digestry", "nginx", "docker-registry", "bare"),
    rounds=3,
    goals=tuple(
        Goal(case="idle connections", figure=figure, against=peer)
        for figure in ("kib_per_connection", "p50_ms")
        for peer in ("docker-registry", "bare")
    ),
)
