"""How often does a request ask the kernel, and how many bytes are copied on the way?

Complements `bench.budget`, whose counts end at the interpreter, with what lies below it and is the
same on every machine. A server is started under ``strace`` as a user would start it and asked over
one connection; requests that no route answers mark in the trace where a batch begins and ends.

=============  =====================================================================================
system calls   on files and sockets; waiting, locks and memory depend on who runs when, and are left
               out
bytes copied   between the kernel and the process, both ways: the content of an upload is copied in
               and out again, that of a download which the kernel sends itself not at all
=============  =====================================================================================

Of several batches the least is told: whatever comes in between only adds.
``python -m bench.system_calls`` prints them beside the recorded ones and fails for one that rose;
``--record`` writes ``system_calls.json``. Where ``strace`` is not allowed it says so and returns 2.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from bench.budget import Ask, body_of, digest_of, paths_of, prepare, versions
from bench.clients import Connection
from bench.processes import HOST, Server, free_port

T = TypeVar("T")

RECORDED: Final = Path(__file__).with_name("system_calls.json")
BATCHES: Final = 6
REQUESTS: Final = 10
WARM_UP: Final = 30
LARGE_BYTES: Final = 9 << 20
"""Of which threads take bodies in and send them out (`registry.http.direct`, `direct_sending`)."""

TOLERANCE: Final = 0.2
"""Of the recorded: ids are random, and with them how many pages of the index a commit writes."""

CALLS_AT_LEAST: Final = 0.7
BYTES_AT_LEAST: Final = 1024
"""For each request: what happens now and then beside them, and one call more is told."""

WAITS: Final = frozenset(
    ("epoll_wait", "epoll_pwait", "poll", "ppoll", "select", "pselect6", "mmap", "flock", "fcntl")
)
"""How often somebody waits, wakes somebody or asks for room depends on who runs when."""
COPIES: Final = frozenset(
    (
        *("read", "readv", "pread64", "preadv", "preadv2", "recvfrom", "recvmsg"),
        *("write", "writev", "pwrite64", "pwritev", "pwritev2", "sendto", "sendmsg"),
    )
)

_TRACED: Final = "trace=%desc,%file,%network"
_MARK: Final = re.compile(r'"GET /mark-(\d+) ')
_BEGUN: Final = re.compile(r"^\d+ +(\w+)\(")
_ENDED: Final = re.compile(r"^\d+ +(?:<\.\.\. )?(\w+)[ (].* = (\d+)(?: \([^)]*\))?$")
_WAKES: Final = re.compile(r"^\d+ +(?:sendto|recvfrom|write|read)\(\d+, \"\\0")
"""A byte through which a thread wakes the event loop."""


class CannotTrace(Exception):
    """There is no ``strace`` here, or it is not allowed."""


class Counted(msgspec.Struct, frozen=True):
    """Of one request."""

    calls: float | None
    """None where it depends on how fast the other end takes or gives."""

    copied_bytes: float


class Counts(msgspec.Struct, frozen=True):
    """What was counted by path, and under which versions."""

    versions: dict[str, str]
    paths: dict[str, Counted]


def measure() -> Counts:
    """Count every path; raises `CannotTrace`."""
    if shutil.which("strace") is None:
        raise CannotTrace("strace is not installed")
    allowed = subprocess.run(["strace", "-qq", "true"], capture_output=True, text=True, check=False)
    if allowed.returncode:
        raise CannotTrace(allowed.stderr.strip())
    with tempfile.TemporaryDirectory(prefix="digestry-calls-") as folder:
        trace = Path(folder, "trace")
        names = _ask(Path(folder), trace)
        with trace.open(encoding="utf-8", errors="replace") as lines:
            batches = _batches(lines)
    least = {
        name: [round(min(each) / REQUESTS, 2) for each in zip(*mine, strict=True)]
        for name, mine in zip(names, _several(batches, BATCHES), strict=True)
    }
    found = {
        name: Counted(None if name in _LARGE else calls, copied)
        for name, (calls, copied) in least.items()
    }
    return Counts(versions(), found)


def _ask(folder: Path, trace: Path) -> list[str]:
    """Make all requests of a server that is traced; the names of the paths, in turn."""
    port = free_port()
    options = ["--host", HOST, "--port", str(port), "--data", str(folder / "data")]
    ours = {name: value for name, value in os.environ.items() if not name.startswith("DIGESTRY_")}
    server = Server(
        "strace",
        [
            *("strace", "-f", "-qq", "-o", str(trace), "-s", "24", "-e", _TRACED),
            *(sys.executable, "-m", "registry", "serve", *options),
        ],
        port=port,
        ready_path="/readyz",
        log=folder / "log",
        working_directory=folder,
        environment=ours | {"PYTHONPATH": str(Path(__file__).parents[1])},
        settle_seconds=0.1,
    )
    marks = 0
    with server, Connection(port) as connection:
        paths = paths_of(prepare(connection)) | _LARGE
        for ask in paths.values():
            for number in range(WARM_UP):
                ask(connection, number)
            for batch in range(BATCHES):
                connection.ask("GET", f"/mark-{marks}", expect=(404,))
                first = WARM_UP + batch * REQUESTS
                for number in range(first, first + REQUESTS):
                    ask(connection, number)
                connection.ask("GET", f"/mark-{marks + 1}", expect=(404,))
                marks += 2
    return list(paths)


def _put_large(connection: Connection, number: int) -> object:
    with Connection(connection.port) as own:  # such a body ends its connection
        content = body_of(number, LARGE_BYTES)
        return own.ask("PUT", "/blobs/large", None, content, expect=(200, 201))


def _get_large(connection: Connection, _: int) -> object:
    return connection.ask("GET", f"/blobs/{digest_of(0, LARGE_BYTES)}", expect=(200,))


_LARGE: Final[dict[str, Ask]] = {
    "PUT a blob of 9 MiB": _put_large,
    "GET a blob of 9 MiB": _get_large,
}


def _batches(lines: Iterable[str]) -> list[tuple[int, int]]:
    """Calls, and bytes copied, between one mark and the next of each pair."""
    found: list[tuple[int, int]] = []
    calls = copied = 0
    is_between = False
    for line in lines:
        mark = _MARK.search(line)
        if mark is not None:
            if is_between:
                found.append((calls, copied))
            is_between, calls, copied = not is_between, 0, 0
            continue
        if not is_between or _WAKES.match(line):
            continue
        begun = _BEGUN.match(line)
        if begun is not None and begun[1] not in WAITS:
            calls += 1
        ended = _ENDED.match(line)
        if ended is not None and ended[1] in COPIES:
            copied += int(ended[2])
    return found


def _several(batches: Sequence[T], count: int) -> Iterator[Sequence[T]]:
    return (batches[at : at + count] for at in range(0, len(batches), count))


def risen(was: Counts, now: Counts) -> list[str]:
    """A line for every count that is above what was recorded, and for every path without one."""
    lines = [f"{path}: recorded and not counted" for path in was.paths.keys() - now.paths.keys()]
    for path, counted in now.paths.items():
        before = was.paths.get(path)
        if before is None:
            lines.append(f"{path}: not recorded")
            continue
        most_bytes = max(BYTES_AT_LEAST, TOLERANCE * before.copied_bytes) + before.copied_bytes
        if counted.copied_bytes > most_bytes:
            lines.append(
                f"{path}: {counted.copied_bytes:,.0f} bytes copied "
                f"instead of {before.copied_bytes:,.0f}"
            )
        if counted.calls is None or before.calls is None:
            continue
        if counted.calls > max(CALLS_AT_LEAST, TOLERANCE * before.calls) + before.calls:
            lines.append(f"{path}: {counted.calls:g} system calls instead of {before.calls:g}")
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.system_calls", description=__doc__)
    parser.add_argument("--record", action="store_true", help="write system_calls.json")
    options = parser.parse_args(arguments)
    try:
        now = measure()
    except CannotTrace as error:
        sys.stdout.write(f"not counted: {error}\n")
        return 2
    for path, counted in now.paths.items():
        calls = "" if counted.calls is None else f"{counted.calls:g} system calls, "
        sys.stdout.write(f"{path}: {calls}{counted.copied_bytes:,.0f} bytes copied\n")
    if options.record:
        content = msgspec.json.format(msgspec.json.encode(now), indent=1)
        RECORDED.write_bytes(content + b"\n")
        return 0
    was = msgspec.json.decode(RECORDED.read_bytes(), type=Counts)
    if was.versions != now.versions:
        sys.stdout.write("recorded under other versions, which may ask the kernel more or less\n")
    problems = risen(was, now)
    sys.stdout.writelines(f"{line}\n" for line in problems)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
