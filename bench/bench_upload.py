"""How fast is a large hashed, verified and durable PUT beside servers that do less?

nginx's plain PUT neither hashes nor syncs: the distance to it is the price of every promise about
an upload. As shipped it takes bodies by 16 KiB, and goals compare with that; `nginx-1m` takes them
by the mebibyte and is faster than SHA-256 itself. docker-registry hashes too. Decides how received
bytes travel from the socket to the file: buffer sizes, batches, thread hops, and whether segment
digests are computed while receiving.
"""

from __future__ import annotations

import resource
import subprocess
import time
from typing import Any

from bench.clients import Connection, check_download
from bench.data import GIB, MIB, Body
from bench.harness import Bench, Measured, Scenario, costs
from bench.peers import Contender
from bench.records import OURS, Goal

_WARMING_BYTES = 4 * MIB


def measure(bench: Bench, contender: Contender, _: Any) -> Measured:
    size = bench.settings.size_bytes
    for case, length_known in (("Content-Length", True), ("chunked", False)):
        body = bench.data.fresh(size)
        with bench.fresh(contender) as server:
            with Connection(server.port) as connection:
                contender.upload(connection, bench.data.fresh(min(size, _WARMING_BYTES)))
            server.mark()
            started = time.perf_counter()
            with Connection(server.port) as connection:
                contender.upload(connection, body, length_known=length_known)
            seconds = time.perf_counter() - started
            figures = {"mib_per_s": size / MIB / seconds}
            figures |= costs(server.usage(), moved_bytes=size)
            # What to do both by hand costs: the plain server's work and one hash of the file.
            hashing = 0.0 if contender.name == OURS else _sha256sum(body)
            figures["cpu_hashed_s_per_gib"] = figures["cpu_s_per_gib"] + hashing * GIB / size
            check_download(server.port, contender.target(body.sha256), body.sha256)
        yield case, figures


def _sha256sum(body: Body) -> float:
    """CPU seconds of ``sha256sum`` over the same bytes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(["sha256sum", body.path], stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


SCENARIO = Scenario(
    name="upload",
    title="PUT of one large blob, acknowledged",
    measure=measure,
    speaks=("digestry", "nginx", "nginx-1m", "docker-registry"),
    goals=(
        Goal(case="Content-Length", figure="mib_per_s", against="nginx", at_least=0.95),
        Goal(case="chunked", figure="mib_per_s", against="nginx", at_least=0.95),
        Goal(case="Content-Length", figure="cpu_hashed_s_per_gib", against="nginx", at_most=1.6),
        Goal(case="Content-Length", figure="mib_per_s", against="nginx-1m"),
        Goal(case="Content-Length", figure="mib_per_s", against="docker-registry", at_least=3),
        Goal(case="chunked", figure="mib_per_s", against="docker-registry", at_least=3),
    ),
)
