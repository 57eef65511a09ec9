"""Does memory stay flat when many large transfers run at once?

Decides buffer sizes and how many batches may wait. 32 uploads of different blobs and 32 downloads
of another start together; the figure is the high-water mark of the largest process, which is the
worker. The uploads are true ones, kept at the end, because promoting and recording them belongs
to the question; together with their staging that takes 33 GiB, which no memory file system of a
usual machine has, so this runs on a real disk (`--disk`), and the disk sets its speed. Nothing is
compared with peers: the goal is absolute.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bench.clients import CannotRun, Connection, download
from bench.data import GIB, MIB, Body
from bench.harness import Bench, Measured, Scenario, costs
from bench.peers import Contender
from bench.processes import Server
from bench.records import Goal


def measure(bench: Bench, contender: Contender, _: Any) -> Measured:
    size, count = bench.settings.size_bytes, bench.settings.parallel
    _require_room(bench, (count + 2) * size)
    for case, length_known in (("Content-Length", True), ("chunked", False)):
        bodies = [bench.data.fresh(size) for _ in range(count)]
        with bench.fresh(contender, bench.settings.disk) as server:
            served = bench.data.fresh(size)
            with Connection(server.port) as connection:
                contender.upload(connection, served)
            server.mark()
            seconds = _together(
                [_uploading(server, contender, each, length_known) for each in bodies]
                + [_downloading(server, contender, served) for _ in range(count)]
            )
            moved = 2 * count * size
            figures = {"mib_per_s": moved / MIB / seconds, "seconds": seconds}
            yield case, figures | costs(server.usage(), moved_bytes=moved)


def _uploading(
    server: Server, contender: Contender, body: Body, length_known: bool
) -> Callable[[], None]:
    def upload() -> None:
        with Connection(server.port) as connection:
            contender.upload(connection, body, length_known=length_known)

    return upload


def _downloading(server: Server, contender: Contender, body: Body) -> Callable[[], None]:
    def fetch() -> None:
        download(server.port, contender.target(body.sha256), body.size_bytes)

    return fetch


def _together(transfers: list[Callable[[], None]]) -> float:
    """Start all at one moment; seconds until the last ended. Raises what any of them raised."""
    gate = threading.Barrier(len(transfers))

    def run(transfer: Callable[[], None]) -> None:
        gate.wait()
        transfer()

    with ThreadPoolExecutor(len(transfers)) as pool:
        started = time.perf_counter()
        for each in [pool.submit(run, transfer) for transfer in transfers]:
            each.result()
        return time.perf_counter() - started


def _require_room(bench: Bench, wanted_bytes: int) -> None:
    free = shutil.disk_usage(bench.settings.disk).free
    if free < wanted_bytes * 1.1:
        raise CannotRun(
            f"{bench.settings.disk} has {free / GIB:.0f} GiB free, "
            f"{wanted_bytes * 1.1 / GIB:.0f} are needed"
        )


SCENARIO = Scenario(
    name="memory",
    title="many uploads and downloads at once, on disk",
    measure=measure,
    speaks=("digestry",),
    rounds=1,
    is_slow=True,
    goals=(
        Goal(case="Content-Length", figure="peak_mib", at_most=200),
        Goal(case="chunked", figure="peak_mib", at_most=200),
    ),
)
