"""Large uploads and downloads that go on until told to stop, to see what happens beside them."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import msgspec

from bench.clients import CannotRun, Connection, download
from bench.data import Body
from bench.harness import Bench
from bench.peers import Contender
from bench.processes import Server

_adding = threading.Lock()


class Ended(msgspec.Struct):
    """Transfers of one direction that ended, and what each of them took; together, in turn."""

    total_bytes: int = 0
    seconds: float = 0.0


class Moved(msgspec.Struct, frozen=True):
    up: Ended
    down: Ended


@contextmanager
def transfers(
    bench: Bench, contender: Contender, server: Server, count: int, size_bytes: int
) -> Iterator[Moved]:
    """Keep that many uploads and downloads running; yields what they moved so far."""
    served = bench.data.fresh(size_bytes)
    with Connection(server.port) as connection:
        contender.upload(connection, served)
    moved = Moved(Ended(), Ended())
    enough = threading.Event()
    loops = (
        (_upload(bench, contender, server, size_bytes), moved.up),
        (_download(contender, server, served), moved.down),
    )
    with ThreadPoolExecutor(2 * count) as pool:
        running = [pool.submit(_repeat, *each, enough) for each in loops * count]
        try:
            yield moved
        finally:
            enough.set()
        for each in running:
            each.result()


def _repeat(transfer: Callable[[], int], ended: Ended, enough: threading.Event) -> None:
    """At least once, so that there is something to tell."""
    while not (enough.is_set() and ended.seconds):
        started = time.perf_counter()
        moved_bytes = transfer()
        with _adding:
            ended.seconds += time.perf_counter() - started
            ended.total_bytes += moved_bytes


def _upload(
    bench: Bench, contender: Contender, server: Server, size_bytes: int
) -> Callable[[], int]:
    """Each time another blob, as long as there is room for it."""

    def upload() -> int:
        if shutil.disk_usage(bench.settings.root).free < 8 * size_bytes:
            raise CannotRun(f"{bench.settings.root} is too small to upload for so long")
        with Connection(server.port) as connection:
            contender.upload(connection, bench.data.fresh(size_bytes))
        return size_bytes

    return upload


def _download(contender: Contender, server: Server, body: Body) -> Callable[[], int]:
    def fetch() -> int:
        download(server.port, contender.target(body.sha256), body.size_bytes)
        return body.size_bytes

    return fetch
