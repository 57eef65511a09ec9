"""Can a reader pick tensors out of a large file as fast as it reads the file?

Decides how a range is verified and sent: a reader of safetensors takes 8 bytes, then the header,
then the tensors it wants, and must not pay for the segments around them. `header` is the first
two of these on a new connection, `tensors` are 16 MiB ranges one after the other, `scattered` are
64 KiB at random places by 16 connections. All contenders serve one inode.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence

from bench.clients import Connection, wrk
from bench.data import MIB
from bench.harness import Bench, Measured, Scenario, costs
from bench.peers import Contender
from bench.records import Goal
from bench.shared_inode import Stored, store_everywhere

_HEADER_BYTES = 64 * 1024
_TENSOR_BYTES = 16 * MIB
_SCATTERED = 4096


def prepare(bench: Bench, contenders: Sequence[Contender]) -> Stored:
    return store_everywhere(bench, contenders)


def measure(bench: Bench, contender: Contender, stored: Stored) -> Measured:
    size = stored.body.size_bytes
    target = contender.target(stored.body.sha256)
    with bench.again(contender, stored.directories[contender.name]) as server:
        started = time.perf_counter()
        with Connection(server.port) as connection:
            _read(connection, target, 0, 8)
            _read(connection, target, 8, _HEADER_BYTES)
        yield "header", {"ms": (time.perf_counter() - started) * 1000}

        server.mark()
        started = time.perf_counter()
        with Connection(server.port) as connection:
            moved = sum(_read(connection, target, *each) for each in _tensors(size))
        seconds = time.perf_counter() - started
        figures = {"mib_per_s": moved / MIB / seconds}
        yield "tensors", figures | costs(server.usage(), moved_bytes=moved)

        ranges = bench.new_directory() / "ranges"
        ranges.write_text("\n".join(_scattered(target, size)))
        server.mark()
        got = wrk(
            server.port,
            "get.lua",
            str(ranges),
            connections=16,
            seconds=bench.settings.rate_seconds,
        )
        figures = {"requests_per_s": got.requests / got.seconds, "p99_ms": got.p99_us / 1000}
        yield "scattered", figures | costs(server.usage(), requests=got.requests)


def _read(connection: Connection, target: str, start: int, length: int) -> int:
    connection.send_head("GET", target, {"Range": f"bytes={start}-{start + length - 1}"})
    return connection.discard(expect=206)


def _tensors(size: int) -> Iterator[tuple[int, int]]:
    for start in range(0, size, _TENSOR_BYTES):
        yield start, min(_TENSOR_BYTES, size - start)


def _scattered(target: str, size: int) -> Iterator[str]:
    rng = random.Random(size)
    for _ in range(_SCATTERED):
        start = rng.randrange(size - _HEADER_BYTES)
        yield f"{target}\tbytes={start}-{start + _HEADER_BYTES - 1}"


SCENARIO = Scenario(
    name="ranges",
    title="parts of one large blob, same inode",
    prepare=prepare,
    measure=measure,
    rounds=3,
    goals=(
        Goal(case="tensors", figure="mib_per_s", against="nginx"),
        Goal(case="scattered", figure="requests_per_s", against="nginx"),
        Goal(case="scattered", figure="requests_per_s", against="docker-registry"),
    ),
)
