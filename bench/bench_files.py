"""What does a version of ten thousand small files cost, sent one by one, as tar, and by `push`?

Decides how many hops, statements and syncs a small file may make, and how many files share them.
`requests` sends each file by its own PUT into a draft, over 16 connections that stay open, beside a
bare handler that hashes, writes, syncs and renames in one hop (`bench/one_hop.py`): what is between
them is the price of an index, of access and of the audit log. `tar` sends all files as one archive,
beside ``tar -x`` of it and a sync of its file system. `push` is the whole command, which hashes
first, asks what is missing and sends that; it starts a Python of its own.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from bench.clients import Connection, wrk
from bench.data import GIB
from bench.harness import Bench, Figures, Measured, Scenario, costs
from bench.peers import Digestry
from bench.processes import HOST, Server, free_port
from bench.records import OURS, Goal

FILE_BYTES: Final = 10 << 10
FILES: Final = 10_000
"""How many stand for a ``--size`` of one gibibyte."""

_CONNECTIONS: Final = 16
_FOLDERS: Final = 100
_PIECE: Final = 1 << 20
_REPOSITORY: Final = Path(__file__).resolve().parents[1]


class Way(msgspec.Struct, frozen=True):
    name: str


ONE_HOP, TAR = Way("one hop"), Way("tar -x")


class Prepared(msgspec.Struct, frozen=True):
    template: Path
    directory: Path
    archive: Path
    count: int


def prepare(bench: Bench, contenders: Sequence[object]) -> Prepared:
    """The same files as a directory and as an archive of it."""
    root = bench.new_directory()
    prepared = Prepared(
        root / "template",
        root / "files",
        root / "files.tar",
        max(8, bench.settings.size_bytes * FILES // GIB),
    )
    template = bench.data.small_template(FILE_BYTES)
    prepared.template.write_text(template)
    with tarfile.open(prepared.archive, "w", format=tarfile.USTAR_FORMAT) as archive:
        for number in range(prepared.count):
            name = f"part-{number % _FOLDERS:02}/file-{number:05}"
            content = f"{template}{number:016}".encode()
            path = prepared.directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return prepared


def measure(bench: Bench, contender: Way, prepared: Prepared) -> Measured:
    if contender.name == TAR.name:
        with bench.passing_directory() as directory:
            yield "tar", _extracted(prepared, directory)
    elif contender.name == ONE_HOP.name:
        with bench.passing_directory() as directory, _one_hop(bench, directory) as server:
            yield "requests", _requested(bench, server, prepared, "/%d")
    else:
        with bench.fresh(Digestry()) as server:
            yield "requests", _requested(bench, server, prepared, "/models/files/one/part/%d")
        for case, send in (("tar", _sent), ("push", _pushed)):
            with bench.fresh(Digestry()) as server:
                yield case, _timed(server, prepared, send)


def _requested(bench: Bench, server: Server, prepared: Prepared, target: str) -> Figures:
    # Long enough for a version of about so many files.
    seconds = 2 * bench.settings.rate_seconds
    server.mark()
    done = wrk(
        server.port,
        "put_files.lua",
        str(prepared.template),
        target,
        connections=_CONNECTIONS,
        seconds=seconds,
    )
    figures = {
        "files_per_s": done.requests / done.seconds,
        "p50_ms": done.p50_us / 1000,
        "p99_ms": done.p99_us / 1000,
    }
    return figures | costs(server.usage(), requests=done.requests)


def _timed(server: Server, prepared: Prepared, send: Callable[[Server, Prepared], None]) -> Figures:
    server.mark()
    started = time.perf_counter()
    send(server, prepared)
    seconds = time.perf_counter() - started
    figures = {"seconds": seconds, "files_per_s": prepared.count / seconds}
    return figures | costs(server.usage(), requests=prepared.count)


def _sent(server: Server, prepared: Prepared) -> None:
    size_bytes = prepared.archive.stat().st_size
    headers = {"Content-Type": "application/x-tar", "Content-Length": str(size_bytes)}
    with Connection(server.port) as connection, prepared.archive.open("rb") as archive:
        connection.send_head("PUT", "/models/files/one.tar", headers)
        while piece := archive.read(_PIECE):
            connection.send(piece)
        connection.answer(expect=(201,))


def _pushed(server: Server, prepared: Prepared) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DIGESTRY_")}
    url = f"http://{HOST}:{server.port}"
    command = [sys.executable, "-m", "registry", "push", "--server", url, "files:one"]
    subprocess.run(
        [*command, str(prepared.directory)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=kept | {"PYTHONPATH": str(_REPOSITORY)},
        check=True,
    )


def _extracted(prepared: Prepared, directory: Path) -> Figures:
    started = time.perf_counter()
    subprocess.run(["tar", "-xf", prepared.archive, "-C", directory], check=True)
    subprocess.run(["sync", "-f", directory], check=True)
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "files_per_s": prepared.count / seconds}


def _one_hop(bench: Bench, directory: Path) -> Server:
    port = free_port()
    return Server(
        ONE_HOP.name,
        [sys.executable, "-m", "bench.one_hop", str(port), str(directory)],
        port=port,
        ready_path="/ready",
        log=directory / "log",
        working_directory=_REPOSITORY,
        environment=os.environ,
        settle_seconds=bench.settings.settle_seconds,
    )


SCENARIO = Scenario(
    name="files",
    title="ten thousand files of 10 KiB as one version",
    prepare=prepare,
    measure=measure,
    own=(Way(OURS), ONE_HOP, TAR),
    rounds=3,
    goals=(
        Goal(case="requests", figure="files_per_s", against=ONE_HOP.name, at_least=0.6),
        Goal(case="tar", figure="seconds", against=TAR.name, at_most=3),
        Goal(case="push", figure="seconds"),
    ),
)
