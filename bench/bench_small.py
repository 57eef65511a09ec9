"""What does one small request cost, read and written, at 16 connections?

Decides what a GET may do per request (thread hops, row reads, header building) and how many small
durable writes share one commit. Bodies of 4 KiB, all different; reads cycle over 256 blobs.
A docker-registry upload takes two requests, so writes are counted in blobs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from bench.clients import Connection, wrk
from bench.harness import Bench, Measured, Scenario, costs
from bench.peers import Contender
from bench.records import Goal

SMALL_BYTES = 4096
_CONNECTIONS = 16
_READ_BLOBS = 256
_WRITES_PER_SECOND = 40_000
"""More than any contender reached: bodies must not run out."""


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


def store_small(server_port: int, contender: Contender, prepared: Prepared, count: int) -> None:
    """Store the first bodies one by one, over the same door that is measured later."""
    with Connection(server_port) as connection:
        for number in range(count):
            content = prepared.template.encode() + b"%016d" % number
            contender.upload_small(connection, prepared.digests[number], content)


def measure(bench: Bench, contender: Contender, prepared: Prepared) -> Measured:
    seconds = bench.settings.rate_seconds
    with bench.fresh(contender) as server:
        store_small(server.port, contender, prepared, _READ_BLOBS)
        targets = prepared.digest_file.with_name(f"targets-{contender.name}")
        lines = [contender.target(each) for each in prepared.digests[:_READ_BLOBS]]
        targets.write_text("\n".join(lines))
        server.mark()
        got = wrk(server.port, "get.lua", str(targets), connections=_CONNECTIONS, seconds=seconds)
        figures = {
            "requests_per_s": got.requests / got.seconds,
            "p50_ms": got.p50_us / 1000,
            "p99_ms": got.p99_us / 1000,
        }
        yield "GET 4 KiB", figures | costs(server.usage(), requests=got.requests)
    with bench.fresh(contender) as server:
        files = (str(prepared.digest_file), str(prepared.template_file))
        server.mark()
        put = wrk(
            server.port,
            contender.put_script,
            *files,
            contender.put_target,
            connections=_CONNECTIONS,
            seconds=seconds,
        )
        stored = put.stored or put.requests
        figures = {"blobs_per_s": stored / put.seconds, "p99_ms": put.p99_us / 1000}
        yield "PUT 4 KiB", figures | costs(server.usage(), requests=stored)


SCENARIO = Scenario(
    name="small",
    title="4 KiB blobs, 16 connections, wrk",
    prepare=prepare,
    measure=measure,
    rounds=3,
    goals=(
        Goal(case="GET 4 KiB", figure="requests_per_s", against="docker-registry", at_least=15),
        Goal(case="GET 4 KiB", figure="requests_per_s", against="nginx"),
        Goal(case="PUT 4 KiB", figure="blobs_per_s", against="docker-registry"),
    ),
)
