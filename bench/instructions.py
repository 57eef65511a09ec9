"""How many instructions does the interpreter run for one request, without the kernel and its mood?

Complements `bench.budget`, whose calls cannot see that a call became dearer. A request is handed to
a connection in this process whose transport throws away what it is given; two processes do so for
different numbers of requests, and what they differ by is divided by the requests they differ by, so
starting up is in neither. The loop's clock goes on by the request: what is done every second counts
as often on every machine. Counted are instructions of user space: by the hardware's counter where
the machine has one (`perf stat`), else by valgrind, which takes half a minute of processor time for
each process. Hashes of strings are not random here, so that runs are alike.

``python -m bench.instructions`` prints them beside the recorded ones and fails for one that rose by
more than 3 %; ``--record`` writes ``instructions.json``.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import msgspec

from bench.budget import versions

RECORDED: Final = Path(__file__).with_name("instructions.json")
TOLERANCE: Final = 0.03
FEW: Final = 100
MORE: Final = 600
REQUEST_SECONDS: Final = 0.0002
"""How far the loop's clock goes on with each request."""

_CONTENT: Final = b"small weights 16" * 256
_BLOB: Final = f"/blobs/sha256:{hashlib.sha256(_CONTENT).hexdigest()}"
_GET: Final = f"GET {_BLOB} HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n"
PATHS: Final = {
    "GET a blob of 4 KiB": f"{_GET}\r\n".encode(),
    "GET a blob of 4 KiB, anew": f"{_GET}Cache-Control: no-cache\r\n\r\n".encode(),
}


class CannotCount(Exception):
    """Neither a hardware counter nor valgrind is here."""


class Instructions(msgspec.Struct, frozen=True):
    """Instructions of one request by path, how they were counted, and under which versions."""

    counted_by: str
    versions: dict[str, str]
    paths: dict[str, int]


class _Sink(asyncio.Transport):
    """Takes answers and forgets them; whoever waits for one sleeps until it is whole.

    A loop that went round instead would count the speed of the other threads.
    """

    def __init__(self) -> None:
        super().__init__()
        self._missing = 0
        self._whole = asyncio.Event()

    def write(self, data: Any) -> None:
        self._missing -= len(data)
        if self._missing <= 0:
            self._whole.set()

    def expect(self, size_bytes: int) -> None:
        """The next answer is whole with at least so many bytes."""
        self._missing = size_bytes
        self._whole.clear()

    async def arrived(self) -> None:
        await self._whole.wait()

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        """Nothing was open."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 1) if name == "peername" else default


async def _content() -> AsyncIterator[bytes]:
    yield _CONTENT


async def replay(path: str, count: int) -> None:
    """Ask so often, in this process; the warm-up is not among them."""
    from registry.app import create_app, runner_of
    from registry.catalog.migrations import CHAINS
    from registry.config import Config
    from registry.domain.principals import LOCAL
    from registry.keys import BLOBS
    from store.opening import StoreSettings, open_store

    settings = StoreSettings(root=None, reserve_bytes=0, reserve_share=0.0, chains=CHAINS)
    request, store = PATHS[path], await open_store(settings)
    app = create_app(Config(), store)
    await app[BLOBS].put(LOCAL, _content(), size_bytes=len(_CONTENT))
    runner = runner_of(app)
    await runner.setup()
    assert runner.server is not None
    connection, sink = runner.server(), _Sink()
    connection.connection_made(sink)
    gc.collect()
    gc.freeze()  # as a worker does: no collection walks through what is here to stay
    loop = asyncio.get_running_loop()
    now = loop.time()
    with patch.object(loop, "time", lambda: now):
        for _ in range(20 + count):
            now += REQUEST_SECONDS
            sink.expect(len(_CONTENT))
            connection.data_received(request)
            await sink.arrived()
            for _ in range(3):
                await asyncio.sleep(0)  # the task of the connection sleeps again
    gc.unfreeze()
    connection.connection_lost(None)
    await runner.cleanup()
    await store.close()


def _counter() -> tuple[str, list[str], re.Pattern[str]]:
    """Its name, the command that counts another one, and where it says how many."""
    if shutil.which("perf"):
        command = ["perf", "stat", "-x,", "-e", "instructions:u"]
        said = subprocess.run([*command, "true"], capture_output=True, text=True).stderr
        if "not supported" not in said and "instructions" in said:
            return "hardware", command, re.compile(r"^(\d+),,instructions", re.MULTILINE)
    if shutil.which("valgrind"):
        command = ["valgrind", "--tool=cachegrind", "--cache-sim=no"]
        command.append("--cachegrind-out-file=/dev/null")
        return "valgrind", command, re.compile(r"I +refs: +([\d,]+)")
    raise CannotCount("neither perf with a counter of instructions nor valgrind is here")


def measure() -> Instructions:
    """Count every path; raises `CannotCount`."""
    name, command, told = _counter()

    def total(path: str, count: int) -> int:
        said = _replayed(command, path, count)
        found = told.search(said)
        if found is None:
            raise CannotCount(said[-2000:])
        return int(found[1].replace(",", ""))

    for path in PATHS:
        _replayed([], path, 1)  # modules are compiled by now
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads:
        few = [threads.submit(total, path, FEW) for path in PATHS]
        more = [threads.submit(total, path, MORE) for path in PATHS]
        each = {
            path: round((last.result() - first.result()) / (MORE - FEW))
            for path, first, last in zip(PATHS, few, more, strict=True)
        }
    return Instructions(name, versions() | _build(), each)


def _replayed(command: Sequence[str], path: str, count: int) -> str:
    """What `command` said of a process that replays; raises `CannotCount`."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [*command, sys.executable, "-m", "bench.instructions", "--replay", path, str(count)],
            capture_output=True,
            text=True,
            check=False,
            cwd=Path(__file__).parent.parent,
            env=os.environ | {"PYTHONHASHSEED": "0", "TMPDIR": folder},
        )
    if done.returncode:
        raise CannotCount(done.stderr[-2000:])
    return done.stderr


def _build() -> dict[str, str]:
    """Two interpreters of one version, compiled differently, run different instructions."""
    return {
        "interpreter": " ".join([*platform.python_build(), platform.python_compiler()]),
        "libc": " ".join(platform.libc_ver()),
    }


def is_comparable(was: Instructions, now: Instructions) -> bool:
    """Whether both were counted by the same means, under the same versions."""
    return (was.counted_by, was.versions) == (now.counted_by, now.versions)


def risen(was: Instructions, now: Instructions) -> list[str]:
    """A line for every path that costs more than was recorded, if the two can be compared."""
    if not is_comparable(was, now):
        return []
    return [
        f"{path}: {count} instructions instead of {was.paths.get(path, 0)}"
        for path, count in now.paths.items()
        if count > was.paths.get(path, 0) * (1 + TOLERANCE)
    ]


def least(one: Instructions, other: Instructions) -> Instructions:
    """The lower count of each path, of two runs alike."""
    paths = {path: min(count, other.paths[path]) for path, count in one.paths.items()}
    return msgspec.structs.replace(one, paths=paths)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.instructions", description=__doc__)
    parser.add_argument("--record", action="store_true", help="write instructions.json")
    parser.add_argument("--replay", nargs=2, metavar=("PATH", "COUNT"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.replay:
        asyncio.run(replay(options.replay[0], int(options.replay[1])))
        return 0
    try:
        now = measure()
    except CannotCount as error:
        sys.stdout.write(f"not counted: {error}\n")
        return 2
    for path, count in now.paths.items():
        sys.stdout.write(f"{path}: {count} instructions ({now.counted_by})\n")
    if options.record:
        content = msgspec.json.format(msgspec.json.encode(now), indent=1)
        RECORDED.write_bytes(content + b"\n")
        return 0
    was = msgspec.json.decode(RECORDED.read_bytes(), type=Instructions)
    if not is_comparable(was, now):
        sys.stdout.write("not compared: recorded by other means or under other versions\n")
    problems = risen(was, now)
    if problems:
        # Starting is thousands of millions of instructions, of which two runs may differ by some.
        sys.stdout.writelines(f"{line}: counted once more\n" for line in problems)
        problems = risen(was, least(now, measure()))
    sys.stdout.writelines(f"{line}\n" for line in problems)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
