"""How much work does one request make, in counts that do not depend on the machine's mood?

Decides nothing by itself: it holds what earlier decisions won. Clocks on a shared machine cannot
see three per cent; counts can see one call. Each path is asked over one connection to a server in
this process, and counted per request:

==========  ========================================================================================
statements  of SQL that the index ran
commits     of the index, each a sync
hops        wake-ups of the event loop by a thread: work that left the loop and came back
turns       of the event loop; one is the least
calls       of functions, Python's and C's, on the event loop's thread, without the loop's own
==========  ========================================================================================

``python -m bench.budget`` prints them beside the recorded ones, ``--record`` writes
``budget.json``. A test compares and fails when one rises. Calls depend on the versions of Python
and of the libraries as well, which are recorded with them; under other versions they are shown and
not judged.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import platform
import selectors
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextvars import Context
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Final, TypeVarTuple

import msgspec
from aiohttp import web

from bench.clients import Connection
from registry.app import create_app, runner_of
from registry.catalog.migrations import CHAINS
from registry.config import Config
from store.opening import Store, StoreSettings, initialize, open_store

RECORDED: Final = Path(__file__).with_name("budget.json")

CALLS_TOLERANCE: Final = 0.03
"""Of the recorded: what runs after a wait makes some calls that what need not wait does not."""

OTHERS_TOLERANCE: Final = 0.1
"""Of one for each request: what happens now and then beside the requests."""

TURNS_TOLERANCE: Final = 0.1
"""Of the recorded: two threads that end at once wake the loop once or twice."""

TURNS_AT_LEAST: Final = 1.2
"""A request and the loop meet at one moment or another, and that is a turn."""

_OF_THE_LOOP: Final = frozenset(
    module.__file__ for module in (asyncio.base_events, asyncio.events, selectors)
)

WARM_UP: Final = 40
REQUESTS: Final = 25
BATCHES: Final = 4
"""The least of several is told: whatever comes in between only adds."""

MOST_BATCHES: Final = 24
"""So many are asked before a cost is called risen: a loaded machine disturbs most of them."""

SMALL_BYTES: Final = 4096

_LIBRARIES: Final = ("aiohttp", "aiosqlite", "msgspec", "multidict", "yarl", "pysqlite3")
_JSON: Final = {"Content-Type": "application/json"}
_VERSIONS: Final = "/api/v1/models/bert/versions"


Ts = TypeVarTuple("Ts")


class Costs(msgspec.Struct, frozen=True):
    """What one request costs."""

    statements: float
    commits: float
    hops: float
    turns: float
    calls: float


class Budget(msgspec.Struct, frozen=True):
    """Costs by path, and the versions under which calls were counted."""

    versions: dict[str, str]
    paths: dict[str, Costs]


class CountingLoop(asyncio.SelectorEventLoop):
    """An event loop that counts its turns, and how often a thread woke it."""

    def __init__(self) -> None:
        self.turns = 0
        self.hops = 0
        super().__init__(_CountingSelector(self))

    def call_soon_threadsafe(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        self.hops += 1
        return super().call_soon_threadsafe(callback, *args, context=context)


class _CountingSelector(selectors.DefaultSelector):
    def __init__(self, loop: CountingLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self._loop.turns += 1
        return super().select(timeout)


Ask = Callable[[Connection, int], object]
"""Makes the request of that number, and reads its answer."""


def body_of(number: int, size_bytes: int = SMALL_BYTES) -> bytes:
    """Bytes that no other number has."""
    return b"%016d" % number * (size_bytes // 16)


def digest_of(number: int, size_bytes: int = SMALL_BYTES) -> str:
    """Of the body of that number."""
    return f"sha256:{hashlib.sha256(body_of(number, size_bytes)).hexdigest()}"


def _get(target: str, headers: Mapping[str, str] | None = None, *, status: int = 200) -> Ask:
    return lambda connection, _: connection.ask("GET", target, headers, expect=(status,))


_ANEW: Final = {"Cache-Control": "no-cache"}
"""A header that no answer that repeats is given for, so that the handler must make it."""

_PART: Final = {"Range": f"bytes=1000-{1000 + (64 << 10) - 1}"}
_LARGE: Final = b"%08d" % 0 * (512 << 7)
_LARGE_DIGEST: Final = f"sha256:{hashlib.sha256(_LARGE).hexdigest()}"


def _post(target: str, make: Callable[[int], object], *, status: int = 201) -> Ask:
    def ask(connection: Connection, number: int) -> object:
        content = json.dumps(make(number)).encode()
        return connection.ask("POST", target, _JSON, content, expect=(status,))

    return ask


def _put(connection: Connection, number: int) -> object:
    content = body_of(number + 1000)
    return connection.ask("PUT", f"/blobs/{digest_of(number + 1000)}", None, content, expect=(201,))


def _put_again(connection: Connection, _: int) -> object:
    return connection.ask("PUT", f"/blobs/{digest_of(1)}", None, body_of(1), expect=(200, 201))


def prepare(connection: Connection) -> str:
    """A model with a version of one file, and a run; returns the run's id."""
    connection.ask("PUT", f"/blobs/{digest_of(1)}", None, body_of(1), expect=(201,))
    connection.ask("PUT", f"/blobs/{_LARGE_DIGEST}", None, _LARGE, expect=(201,))
    wish = {
        "label": "1.0.0",
        "files": [{"path": "weights", "digest": digest_of(1)}],
        "publish": True,
    }
    connection.ask("POST", "/api/v1/models", _JSON, b'{"name":"bert"}', expect=(201,))
    connection.ask("POST", _VERSIONS, _JSON, json.dumps(wish).encode(), expect=(201,))
    run = connection.ask("POST", "/api/v1/runs", _JSON, b'{"model":"bert"}', expect=(201,))
    return str(json.loads(run.body)["id"])


def paths_of(run: str) -> dict[str, Ask]:
    """What is asked, by name, of a server that was prepared."""

    def version_of(number: int) -> object:
        files = [{"path": "weights", "digest": digest_of(1)}]
        return {"label": f"2.0.{number}", "files": files, "publish": True}

    def points_of(number: int) -> object:
        return {
            "points": [{"key": "loss", "step": number * 100 + n, "value": n} for n in range(100)]
        }

    return {
        "GET a blob of 4 KiB": _get(f"/blobs/{digest_of(1)}"),
        "GET a blob of 4 KiB, anew": _get(f"/blobs/{digest_of(1)}", _ANEW),
        "GET 64 KiB of a blob": _get(f"/blobs/{_LARGE_DIGEST}", _PART, status=206),
        "HEAD a blob": lambda connection, _: connection.ask(
            "HEAD", f"/blobs/{digest_of(1)}", expect=(200,)
        ),
        "PUT a blob of 4 KiB": _put,
        "PUT a stored blob": _put_again,
        "GET a file by alias": _get("/models/bert/latest/weights"),
        "GET a file by alias, anew": _get("/models/bert/latest/weights", _ANEW),
        "GET a model": _get("/api/v1/models/bert"),
        "GET a model, anew": _get("/api/v1/models/bert", _ANEW),
        "GET a version": _get(f"{_VERSIONS}/1.0.0"),
        "GET a version, anew": _get(f"{_VERSIONS}/1.0.0", _ANEW),
        "list models": _get("/api/v1/models"),
        "create a model": _post("/api/v1/models", lambda number: {"name": f"model-{number}"}),
        "register a version": _post(_VERSIONS, version_of),
        "log 100 points": _post(f"/api/v1/runs/{run}/metrics", points_of, status=200),
    }


def measure(budget: Budget) -> dict[str, Costs]:
    """Costs by path, counted in a server of this process on a directory of its own.

    Paths that seem to cost more than the budget allows are asked more often.
    """
    with (
        tempfile.TemporaryDirectory(prefix="digestry-budget-") as folder,
        asyncio.Runner(loop_factory=CountingLoop) as runner,
    ):
        initialize(Path(folder), CHAINS)
        return runner.run(_measure(Path(folder), budget))


async def _measure(root: Path, budget: Budget) -> dict[str, Costs]:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, CountingLoop)
    settings = StoreSettings(root=root, reserve_bytes=0, reserve_share=0, chains=CHAINS)
    store = await open_store(settings)
    config = Config()
    runner = runner_of(create_app(config, store))
    try:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port: int = runner.addresses[0][1]
        with Connection(port) as connection:
            run = await asyncio.to_thread(prepare, connection)
            return {
                name: await _count(loop, store, connection, ask, budget.paths.get(name))
                for name, ask in paths_of(run).items()
            }
    finally:
        await runner.cleanup()
        await store.close()


async def _count(
    loop: CountingLoop, store: Store, connection: Connection, ask: Ask, allowed: Costs | None
) -> Costs:
    def several(first: int, count: int) -> None:
        for number in range(first, first + count):
            ask(connection, number)

    def counts() -> tuple[int, ...]:
        index = store.index
        return (index.statement_count(), index.stats.commits, loop.hops, loop.turns, calls.count)

    calls = _Calls()
    await asyncio.to_thread(several, 0, WARM_UP)
    batches: list[list[int]] = []
    for batch in range(MOST_BATCHES):
        before = counts()
        sys.setprofile(calls)  # of this thread only: the client's is another
        try:
            await asyncio.to_thread(several, WARM_UP + batch * REQUESTS, REQUESTS)
        finally:
            sys.setprofile(None)
        batches.append([now - then for now, then in zip(counts(), before, strict=True)])
        least = Costs(*(round(min(each) / REQUESTS, 2) for each in zip(*batches, strict=True)))
        if len(batches) >= BATCHES and (allowed is None or not _above(allowed, least)):
            break
    return least


class _Calls:
    def __init__(self) -> None:
        self.count = 0

    def __call__(self, frame: FrameType, event: str, argument: object) -> None:
        if event in ("call", "c_call") and frame.f_code.co_filename not in _OF_THE_LOOP:
            self.count += 1


def versions() -> dict[str, str]:
    """What calls depend on besides our own code."""
    return {"python": platform.python_version(), **{name: version(name) for name in _LIBRARIES}}


def recorded() -> Budget:
    """What was recorded last."""
    return msgspec.json.decode(RECORDED.read_bytes(), type=Budget)


def risen(budget: Budget, now: dict[str, Costs]) -> list[str]:
    """A line for every cost that is above its budget, and for every path without one."""
    lines = [f"{path}: recorded and not measured" for path in budget.paths if path not in now]
    for path, costs in now.items():
        allowed = budget.paths.get(path)
        if allowed is None:
            lines.append(f"{path}: not recorded")
            continue
        for name in _above(allowed, costs):
            if name != "calls" or is_comparable(budget):
                most, found = getattr(allowed, name), getattr(costs, name)
                lines.append(f"{path}: {found:g} {name} instead of {most:g}")
    return lines


def _above(allowed: Costs, found: Costs) -> list[str]:
    """The names of what is more than allowed."""
    pairs = [(name, getattr(allowed, name)) for name in Costs.__struct_fields__]
    return [name for name, most in pairs if getattr(found, name) > most + _tolerance(name, most)]


def _tolerance(name: str, most: float) -> float:
    match name:
        case "calls":
            return CALLS_TOLERANCE * most
        case "turns":
            return max(TURNS_AT_LEAST, TURNS_TOLERANCE * most)
        case _:
            return OTHERS_TOLERANCE


def is_comparable(budget: Budget) -> bool:
    """Whether calls were recorded under the versions of now."""
    return budget.versions == versions()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.budget", description=__doc__)
    parser.add_argument("--record", action="store_true", help="write budget.json")
    options = parser.parse_args(arguments)
    budget = recorded() if RECORDED.exists() else Budget({}, {})
    now = measure(budget)
    _print(now, budget)
    if options.record:
        content = msgspec.json.format(msgspec.json.encode(Budget(versions(), now)), indent=1)
        RECORDED.write_bytes(content + b"\n")
        return 0
    problems = risen(budget, now)
    sys.stdout.writelines(f"{line}\n" for line in problems)
    return 1 if problems else 0


def _print(now: dict[str, Costs], budget: Budget) -> None:
    names = Costs.__struct_fields__
    rows = [("", *names)]
    for path, costs in now.items():
        was = budget.paths.get(path)
        rows.append((path, *(_cell(costs, was, name) for name in names)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        sys.stdout.write(f"{row[0].ljust(widths[0])}  {'  '.join(cells)}\n")


def _cell(costs: Costs, was: Costs | None, name: str) -> str:
    figure = getattr(costs, name)
    before = None if was is None else getattr(was, name)
    return f"{figure:g}" if before in (None, figure) else f"{figure:g} (was {before:g})"


if __name__ == "__main__":
    sys.exit(main())
