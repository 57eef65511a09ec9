"""Do two and four streams at once go as fast in sum as beside servers that use no interpreter?

Decides whether large transfers may run in threads of one worker, and how many: a stream that holds
the interpreter's lock holds up the others. Each upload is another blob; downloads come from one
inode, which every contender serves. The figure is the sum of all streams, from the start of the
first to the end of the last; the clients are threads that only call the kernel.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from bench.clients import Connection, download
from bench.data import MIB, Body
from bench.harness import Bench, Figures, Measured, Scenario, costs
from bench.peers import Contender
from bench.records import Goal
from bench.shared_inode import Stored, store_everywhere

_STREAMS = (2, 4)
_WARMING_BYTES = 4 * MIB


def prepare(bench: Bench, contenders: Sequence[Contender]) -> Stored:
    return store_everywhere(bench, contenders)


def measure(bench: Bench, contender: Contender, stored: Stored) -> Measured:
    for count in _STREAMS:
        yield f"{count} up", _up(bench, contender, count)
    with bench.again(contender, stored.directories[contender.name]) as server:
        target, size = contender.target(stored.body.sha256), stored.body.size_bytes
        download(server.port, target, size)
        for count in _STREAMS:
            server.mark()
            seconds = _together([lambda: download(server.port, target, size)] * count)
            figures = {"mib_per_s": count * size / MIB / seconds}
            yield f"{count} down", figures | costs(server.usage(), moved_bytes=count * size)


def _up(bench: Bench, contender: Contender, count: int) -> Figures:
    size = bench.settings.size_bytes
    with bench.fresh(contender) as server:

        def upload(body: Body) -> None:
            with Connection(server.port) as connection:
                contender.upload(connection, body)

        upload(bench.data.fresh(min(size, _WARMING_BYTES)))
        bodies = [bench.data.fresh(size) for _ in range(count)]
        server.mark()
        seconds = _together([partial(upload, body) for body in bodies])
        figures = {"mib_per_s": count * size / MIB / seconds}
        return figures | costs(server.usage(), moved_bytes=count * size)


def _together(transfers: Sequence[Callable[[], object]]) -> float:
    with ThreadPoolExecutor(len(transfers)) as pool:
        started = time.perf_counter()
        for each in [pool.submit(transfer) for transfer in transfers]:
            each.result()
        return time.perf_counter() - started


SCENARIO = Scenario(
    name="parallel",
    title="two and four large transfers at once, sum of the streams",
    prepare=prepare,
    measure=measure,
    rounds=3,
    goals=(
        Goal(case="2 down", figure="mib_per_s", against="nginx", at_least=1.0),
        Goal(case="2 down", figure="mib_per_s", against="docker-registry", at_least=1.0),
        Goal(case="4 down", figure="mib_per_s", against="nginx"),
        Goal(case="4 down", figure="mib_per_s", against="docker-registry"),
        Goal(case="2 up", figure="mib_per_s", against="nginx"),
        Goal(case="2 up", figure="mib_per_s", against="docker-registry"),
        Goal(case="4 up", figure="mib_per_s", against="nginx"),
        Goal(case="4 up", figure="mib_per_s", against="docker-registry"),
    ),
)
