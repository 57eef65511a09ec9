"""What does one small request cost, read and written, at 1, 16 and 256 connections?

Decides what a GET may do per request (thread hops, row reads, header building) and how many small
durable writes share one commit. Bodies of 4 KiB, all different; reads cycle over 256 blobs.
A docker-registry upload takes two requests, so writes are counted in blobs. `bare` is an aiohttp
handler that keeps and answers from memory: the library's own ceiling. Writes are measured once
more on a real disk (`--disk`), where Digestry and docker-registry sync and nginx does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from bench.clients import Connection, wrk
from bench.harness import Bench, Figures, Measured, Scenario, costs
from bench.peers import Contender
from bench.processes import Server
from bench.records import Goal

SMALL_BYTES = 4096
_DISK_CONNECTIONS = 16
_READ_BLOBS = 256
_WRITES_PER_SECOND = 40_000
"""More than any contender reached: bodies must not run out."""

_MEMORY_ONLY = ("bare",)


class Prepared(msgspec.Struct, frozen=True):
    digests: list[str]
    digest_file: Path
    template_file: Path
    template: str


def prepare(bench: Bench, contenders: Sequence[Contender]) -> Prepared:
    directory = bench.new_directory()
    seconds = max(1, round(bench.settings.rate_seconds))
    digests = bench.data.small_digests(SMALL_BYTES, _WRITES_PER_SECOND * seconds)
    prepared = Prepared(
        digests=digests,
        digest_file=directory / "digests",
        template_file=directory / "template",
        template=bench.data.small_template(SMALL_BYTES),
    )
    prepared.digest_file.write_text("\n".join(digests))
    prepared.template_file.write_text(prepared.template)
    return prepared


def store_small(server_port: int, contender: Contender, prepared: Prepared, numbers: range) -> None:
    """Store some of the bodies one by one, over the same door that is measured later."""
    with Connection(server_port) as connection:
        for number in numbers:
            place = number % len(prepared.digests)
            content = prepared.template.encode() + b"%016d" % place
            contender.upload_small(connection, prepared.digests[place], content)


def measure(bench: Bench, contender: Contender, prepared: Prepared) -> Measured:
    with bench.fresh(contender) as server:
        store_small(server.port, contender, prepared, range(_READ_BLOBS))
        targets = prepared.digest_file.with_name(f"targets-{contender.name}")
        lines = [contender.target(each) for each in prepared.digests[:_READ_BLOBS]]
        targets.write_text("\n".join(lines))
        for connections in bench.settings.connections:
            yield f"GET 4 KiB, {connections}", _got(bench, server, targets, connections)
    for connections in bench.settings.connections:
        with bench.fresh(contender) as server:
            figures = _put(bench, server, contender, prepared, connections)
        yield f"PUT 4 KiB, {connections}", figures
    if contender.name not in _MEMORY_ONLY:
        with bench.fresh(contender, bench.settings.disk) as server:
            figures = _put(bench, server, contender, prepared, _DISK_CONNECTIONS)
        yield f"PUT 4 KiB on disk, {_DISK_CONNECTIONS}", figures


def _got(bench: Bench, server: Server, targets: Path, connections: int) -> Figures:
    server.mark()
    seconds = bench.settings.rate_seconds
    got = wrk(server.port, "get.lua", str(targets), connections=connections, seconds=seconds)
    figures = {
        "requests_per_s": got.requests / got.seconds,
        "p50_ms": got.p50_us / 1000,
        "p99_ms": got.p99_us / 1000,
    }
    return figures | costs(server.usage(), requests=got.requests)


def _put(
    bench: Bench, server: Server, contender: Contender, prepared: Prepared, connections: int
) -> Figures:
    server.mark()
    put = wrk(
        server.port,
        contender.put_script,
        str(prepared.digest_file),
        str(prepared.template_file),
        contender.put_target,
        connections=connections,
        seconds=bench.settings.rate_seconds,
    )
    stored = put.stored or put.requests
    figures = {
        "blobs_per_s": stored / put.seconds,
        "p50_ms": put.p50_us / 1000,
        "p99_ms": put.p99_us / 1000,
    }
    return figures | costs(server.usage(), requests=stored)


_RATE = "requests_per_s"
SCENARIO = Scenario(
    name="small",
    title="4 KiB blobs at 1, 16 and 256 connections, wrk",
    prepare=prepare,
    measure=measure,
    speaks=("digestry", "nginx", "docker-registry", "bare"),
    rounds=3,
    goals=(
        Goal(case="GET 4 KiB, 16", figure=_RATE, against="nginx", at_least=0.25),
        Goal(case="GET 4 KiB, 16", figure=_RATE, against="docker-registry", at_least=18),
        Goal(case="GET 4 KiB, 16", figure=_RATE, against="bare", at_least=0.7),
        Goal(case="PUT 4 KiB, 16", figure="blobs_per_s", against="docker-registry", at_least=4),
        Goal(
            case=f"PUT 4 KiB on disk, {_DISK_CONNECTIONS}",
            figure="blobs_per_s",
            against="docker-registry",
            at_least=2,
        ),
        *(
            Goal(case=f"GET 4 KiB, {connections}", figure=_RATE, against=peer)
            for connections in (1, 256)
            for peer in ("nginx", "docker-registry", "bare")
        ),
        *(
            Goal(case=f"PUT 4 KiB, {connections}", figure="blobs_per_s", against="docker-registry")
            for connections in (1, 256)
        ),
    ),
)
