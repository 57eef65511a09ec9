"""Runs several actors on one memory store so that exactly one moves at a time, in every order.

Actors are ordinary coroutines on the real modules of the store. Their blob store and their index
are wrapped: each call that another actor could notice (a unit of work, or touching a file by its
digest or in quarantine) first waits at a *gate*. When nobody can go on without passing a gate, the
schedule says who passes. Between two gates an actor runs undisturbed, as one step. Calls on staging
files are no gates: nobody else can see those, so their order makes no difference.

Time is virtual. Whoever sleeps stands at a gate that opens once somebody has changed something, or
when nobody else can move; so waiting costs nothing, and polling in vain is not explored.

`explore` tries every order. An actor's future depends on nothing but what its calls have answered
so far, so two prefixes that lead to the same store and the same answers for everyone have the same
continuations: those are tried once, and `Explored.schedules` counts every order that is covered.
With `preemptions`, only orders are tried that take the turn from an actor who could go on at most
so many times. A state is then tried again only if it is reached in a way that leaves more to do:
whatever follows with `n` pre-emptions spent and some actor on turn can follow, too, where another
one is on turn and fewer than `n` were spent.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import random
import selectors
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Iterator,
    Mapping,
)
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, TypeVar
from unittest import mock

import msgspec

from store.archive import Archive
from store.backends.memory import MemoryBlobStore, MemoryColdStore
from store.batches import Reserve
from store.blobs import AsideInfo, BlobInfo
from store.clock import SECOND
from store.cold import Cold, ColdMarker
from store.digest import Digest
from store.gc import Collector
from store.index import driver
from store.index.driver import Transaction
from store.index.transactions import MakesRoom, Unit
from store.index.upgrade import STORE, create_blocking
from store.ingest import Ingest
from store.locks import MoveLock
from store.quarantine import Quarantine
from tests.support.soundness import STATEMENTS, Picture, picture_in_memory

T = TypeVar("T")

NOW = 1_800_000_000 * SECOND
_ACTOR: ContextVar[str | None] = ContextVar("actor", default=None)


_QUIET = ("sleep", "look", "read", "stat", "list", "secure")
"""Names of gates behind which nothing is changed."""


class Stuck(AssertionError):
    """Nobody can move, and somebody has not finished."""


class Worker:
    """The parts of the store as one process would have them, behind gates."""

    def __init__(self, room: Room) -> None:
        self.blobs = room.gated_blobs
        self.index = room.gated_index
        self.ingest = Ingest(
            self.blobs,  # type: ignore[arg-type] # has what the actors use
            room.cold,
            self.index,
            room.threads,  # type: ignore[arg-type] # runs everything at once
            reserve=Reserve(0, 0),
        )
        self.quarantine = Quarantine(
            self.blobs,  # type: ignore[arg-type] # has what the actors use
            room.cold,
            self.index,
            room.lock,
        )
        self.archive = Archive(
            self.blobs,  # type: ignore[arg-type] # has what the actors use
            room.cold,
            self.index,
            room.threads,  # type: ignore[arg-type] # runs everything at once
            self.ingest,
            self.quarantine,
            spare_seconds=0,
        )
        self.collector = Collector(
            self.blobs,  # type: ignore[arg-type] # has what the actors use
            self.index,
            self.quarantine,
            store_id="sto_memory",
            identify=_identify,
            grace_seconds=0,
            undo_seconds=0,
            max_share=1.0,
        )


Actor = Callable[[Worker], Awaitable[Any]]


class Outcome(msgspec.Struct):
    """How one schedule ended: what each actor returned or raised, and what is left."""

    results: dict[str, Any]
    picture: Picture
    order: tuple[str, ...]


class Explored(msgspec.Struct):
    """How much was tried. `schedules` counts orders; `runs` those that had to be executed.

    Where pre-emptions are bounded, no others are counted.
    """

    schedules: int = 0
    runs: int = 0
    states: int = 0


class _Gate(msgspec.Struct):
    actor: str
    name: str
    future: Any
    since: int
    """How many changes had been made when the actor came here; only a sleeper's counts."""


class Room:
    """One memory store, its virtual time and its gates; reused for every schedule."""

    def __init__(self) -> None:
        self.blobs = MemoryBlobStore(lambda: NOW)
        self.index = _InlineIndex()
        self.gated_blobs = _GatedBlobs(self)
        self.gated_index = _GatedIndex(self)
        self.threads = _InlineThreads()
        self.cold_files = MemoryColdStore()
        # There from the start: who runs first must not find another archive than who runs later.
        self.cold_files.prepare(ColdMarker("", "sto_memory", "arc_memory"))
        self.cold = _ReadyCold(
            self.cold_files,
            self.gated_index,
            self.threads,  # type: ignore[arg-type] # runs everything at once
            "sto_memory",
        )
        self.lock = MoveLock(None)
        self._selector = _Selector(self._on_idle)
        self._loop = _VirtualLoop(self._selector)
        self._gates: list[_Gate] = []
        self._changes = 0
        self._seen: dict[str, int] = {}
        self._tokens: dict[str | None, Iterator[int]] = {}
        self._choose: Callable[[list[str]], str | None] = _first
        self._is_over = False
        self._order: list[str] = []

    def close(self) -> None:
        self._loop.close()
        self.index.close()

    @contextmanager
    def prepared(self, prepare: Callable[[Worker], Awaitable[Any]]) -> Iterator[Any]:
        """Bring the store into a start state; schedules inside begin there."""
        self.index.begin()
        try:
            with (
                mock.patch("asyncio.sleep", self.sleep),
                mock.patch("secrets.token_hex", self.token),
            ):
                start = self._loop.run_until_complete(self._prepare(prepare))
                self._start = (
                    dict(self.blobs.blobs),
                    dict(self.blobs.aside),
                    dict(self.cold_files.files),
                )
                self.index.keep()
                yield start
        finally:
            self.index.rollback()
            self._restore(({}, {}, {}))

    def play(
        self, actors: Mapping[str, Actor], choose: Callable[[list[str]], str | None]
    ) -> Outcome | None:
        """Run the actors from the start state; None if `choose` gave up on the way."""
        self._choose = choose
        self._is_over = False
        self._changes = 0
        self._seen = dict.fromkeys(actors, 0)
        self._tokens = {}
        self._order = []
        self.lock = MoveLock(None)
        results = self._loop.run_until_complete(self._all(actors))
        outcome = None
        if not self._is_over:
            picture = picture_in_memory(self.blobs, self.index.picture(), self.cold_files)
            outcome = Outcome(results, picture, tuple(self._order))
        self.index.restart()
        self._restore(self._start)
        return outcome

    def state(self) -> int:
        """What the rest of the schedule can depend on, as one number."""
        return hash(
            (
                self.index.state(),
                frozenset(self.blobs.blobs),
                frozenset(self.blobs.aside),
                frozenset(self.cold_files.files),
                tuple(self._seen.items()),
                tuple((gate.actor, gate.name) for gate in self._gates),
                tuple(gate.since < self._changes for gate in self._gates),
            )
        )

    async def gate(self, name: str) -> None:
        """Wait until the schedule lets the calling actor pass; outside of actors, at once."""
        actor = _ACTOR.get()
        if actor is None:
            return
        if self._is_over:
            raise asyncio.CancelledError
        future = self._loop.create_future()
        self._gates.append(_Gate(actor, name, future, self._changes))
        await future

    def answered(self, name: str, result: object) -> None:
        """Remember what a call answered: that is all its actor knows of the world."""
        actor = _ACTOR.get()
        if actor is not None:
            self._seen[actor] = hash((self._seen[actor], name, repr(result)))

    async def sleep(self, seconds: float, result: Any = None) -> Any:
        """Takes the place of `asyncio.sleep`."""
        if seconds > 0 and _ACTOR.get() is not None:
            await self.gate("sleep")
            self._loop.now += seconds
        else:
            await _yield_once()
        return result

    def token(self, size: int = 8) -> str:
        """Takes the place of `secrets.token_hex`: the same in every run of a schedule."""
        actor = _ACTOR.get()
        count = next(self._tokens.setdefault(actor, itertools.count()))
        return hashlib.sha256(f"{actor} {count}".encode()).hexdigest()[: 2 * size]

    async def _prepare(self, prepare: Callable[[Worker], Awaitable[T]]) -> T:
        worker = Worker(self)
        result = await prepare(worker)
        await worker.ingest.close()
        return result

    async def _all(self, actors: Mapping[str, Actor]) -> dict[str, Any]:
        tasks = {name: self._loop.create_task(self._act(name, act)) for name, act in actors.items()}
        self._tasks = list(tasks.values())
        outcomes = await asyncio.gather(*self._tasks, return_exceptions=True)
        return dict(zip(tasks, outcomes, strict=True))

    async def _act(self, name: str, act: Actor) -> Any:
        _ACTOR.set(name)
        worker = Worker(self)
        try:
            return await act(worker)
        finally:
            await worker.ingest.close()

    def _on_idle(self) -> None:
        """Nobody can go on by himself: let one pass his gate."""
        if not self._gates:
            raise Stuck("nobody can move")
        ready = [g for g in self._gates if g.name != "sleep" or g.since < self._changes]
        ready = ready or self._gates
        chosen = self._choose([gate.actor for gate in ready])
        if chosen is None:
            self._give_up()
            return
        gate = next(gate for gate in ready if gate.actor == chosen)
        self._gates.remove(gate)
        if not gate.name.startswith(_QUIET):
            self._changes += 1
        self._order.append(f"{gate.actor}: {gate.name}")
        gate.future.set_result(None)

    def _give_up(self) -> None:
        self._is_over = True
        self._gates.clear()
        for task in self._tasks:
            task.cancel()

    def _restore(self, files: tuple[dict[Any, Any], dict[Any, Any], dict[Any, Any]]) -> None:
        self.blobs.blobs = dict(files[0])
        self.blobs.aside = dict(files[1])
        self.cold_files.files = dict(files[2])
        self.blobs.staged.clear()
        self.blobs.segments.clear()


def explore(
    room: Room,
    actors: Mapping[str, Actor],
    check: Callable[[Outcome], None],
    *,
    preemptions: int | None = None,
    merging: bool = True,
) -> Explored:
    """Run the actors in every order, and check how each ends.

    Without `merging` every order is executed, however many lead to the same state.
    """
    return _Exploration(room, actors, check, preemptions, merging).run()


class _Step(msgspec.Struct, frozen=True):
    """A choice among several: from which state, and who moved."""

    state: int
    actor: str


class _Exploration:
    """By running each prefix again from the start state: depth first, fewest pre-emptions first."""

    def __init__(
        self,
        room: Room,
        actors: Mapping[str, Actor],
        check: Callable[[Outcome], None],
        preemptions: int | None,
        merging: bool,
    ) -> None:
        self._merging = merging
        self._room = room
        self._actors = actors
        self._check = check
        self._bound = preemptions
        self._children: dict[int, dict[str, int]] = {}
        self._ways: dict[int, dict[str | None, int]] = {}
        """How each state was reached: who was on turn, and how many pre-emptions were spent."""
        self._todo: list[list[tuple[str, ...]]] = [[()], *([] for _ in range(preemptions or 0))]
        """By the pre-emptions that a prefix spends, where they are counted."""
        self._root: int | None = None
        self._begin(())

    def run(self) -> Explored:
        runs = 0
        while (prefixes := next(filter(None, self._todo), None)) is not None:
            self._begin(prefixes.pop())
            outcome = self._room.play(self._actors, self._choose)
            runs += 1
            if outcome is not None:
                self._arrive(_END)
                _checked(self._check, outcome)
        if self._bound is not None:
            return Explored(runs, runs, len(self._ways))
        assert self._root is not None
        return Explored(_count(self._children, self._root), runs, len(self._children))

    def _begin(self, prefix: tuple[str, ...]) -> None:
        self._prefix = prefix
        self._taken: list[str] = []
        self._last: _Step | None = None
        self._mover: str | None = None
        self._used = 0

    def _choose(self, names: list[str]) -> str | None:
        chosen = names[0] if len(names) == 1 else self._branch(names)
        if chosen is not None:
            self._used += self._preempts(chosen, names)
            self._mover = chosen
        return chosen

    def _branch(self, names: list[str]) -> str | None:
        names = sorted(names, key=lambda name: name != self._mover)
        depth = len(self._taken)
        state = None
        if depth >= len(self._prefix) - (self._bound is None):
            apart = None if self._merging else tuple(self._taken)
            state = hash((self._room.state(), apart))
        if depth < len(self._prefix):
            chosen = self._prefix[depth]
            assert chosen in names, "the actors are not deterministic"
        else:
            assert state is not None
            self._arrive(state)
            if self._is_covered(state, names):
                return None
            allowed = [name for name in names if self._is_allowed(name, names)]
            self._children[state] = {}
            for other in allowed[1:]:
                spent = 0 if self._bound is None else self._used + self._preempts(other, names)
                self._todo[spent].append((*self._taken, other))
            chosen = allowed[0]
        if state is not None:
            self._last = _Step(state, chosen)
        self._taken.append(chosen)
        return chosen

    def _is_covered(self, state: int, names: list[str]) -> bool:
        """Whether all that can follow was to be tried when this state was reached before."""
        if self._bound is None:
            return state in self._children
        mover = self._mover if self._mover in names else None  # else anybody's turn is free
        ways = self._ways.setdefault(state, {})
        if any(used + (one not in (mover, None)) <= self._used for one, used in ways.items()):
            return True
        ways[mover] = self._used
        return False

    def _preempts(self, chosen: str, names: list[str]) -> bool:
        return chosen != self._mover and self._mover in names

    def _is_allowed(self, name: str, names: list[str]) -> bool:
        return self._bound is None or self._used + self._preempts(name, names) <= self._bound

    def _arrive(self, state: int) -> None:
        if self._bound is not None:
            return
        if self._last is not None:
            self._children[self._last.state][self._last.actor] = state
        elif self._root is None:
            self._root = state


def sample(
    room: Room,
    actors: Mapping[str, Actor],
    check: Callable[[Outcome], None],
    *,
    schedules: int,
    seed: int,
) -> Explored:
    """Run the actors in so many orders drawn at random."""
    chance = random.Random(seed)
    for _ in range(schedules):
        outcome = room.play(actors, chance.choice)
        assert outcome is not None
        _checked(check, outcome)
    return Explored(schedules=schedules, runs=schedules)


_END = 0


def _count(children: dict[int, dict[str, int]], root: int) -> int:
    """How many ways lead from the first state to an end."""
    counts = {_END: 1}
    stack = [root]
    while stack:
        state = stack[-1]
        missing = [s for s in children.get(state, {}).values() if s not in counts]
        if missing:
            stack.extend(missing)
            continue
        stack.pop()
        if state not in counts:
            counts[state] = sum(counts[s] for s in children[state].values())
    return counts[root]


def _checked(check: Callable[[Outcome], None], outcome: Outcome) -> None:
    try:
        check(outcome)
    except AssertionError as error:
        error.add_note("\n  ".join(["in this order:", *outcome.order]))
        raise


def _first(names: list[str]) -> str:
    return names[0]


async def _identify() -> str:
    return "sto_memory"


class _Yield:
    def __await__(self) -> Generator[None, None, None]:
        yield


async def _yield_once() -> None:
    await _Yield()


# The world behind the gates.


class _GatedBlobs:
    """What actors use of a blob store. Staging is private to them and needs no gate."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._inner = room.blobs
        self.reopen = room.blobs.reopen
        self.free_bytes = room.blobs.free_bytes
        self.write_segments = room.blobs.write_segments
        self.read_blocking = room.blobs.read_blocking
        self.discard_segments = room.blobs.discard_segments

    async def stat(self, digest: Digest) -> BlobInfo:
        return await self._pass("stat", partial(self._inner.stat, digest))

    async def stage(self, session: str) -> Any:
        return _GatedWriter(self._room, await self._inner.stage(session))

    async def set_aside(self, digest: Digest, generation: int) -> bool:
        return await self._pass("set aside", partial(self._inner.set_aside, digest, generation))

    async def put_back(self, digest: Digest, generation: int) -> None:
        await self._pass("put back", partial(self._inner.put_back, digest, generation))

    async def secure(self, digest: Digest) -> None:
        await self._pass("secure", partial(self._inner.secure, digest))

    async def remove(self, digest: Digest) -> None:
        await self._pass("remove", partial(self._inner.remove, digest))

    async def discard_aside(self, digest: Digest, generation: int) -> None:
        await self._pass("discard", partial(self._inner.discard_aside, digest, generation))

    async def list_aside(self) -> AsyncIterator[AsideInfo]:
        async def listed() -> list[AsideInfo]:
            return [info async for info in self._inner.list_aside()]

        for info in await self._pass("list aside", listed):
            yield info

    async def _pass(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        return await _passed(self._room, name, call)


class _ReadyCold(Cold):
    """An archive that is there, and is not asked each time.

    Its files need no gates: each has a number of its own, so others notice them only by the rows
    that name them.
    """

    async def prepare(self) -> None:
        """It is."""

    async def problem(self) -> str | None:
        return None


class _GatedWriter:
    """A staged writer of which only `promote` can be noticed."""

    def __init__(self, room: Room, inner: Any) -> None:
        self._room = room
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def promote(self, digest: Digest, stranger: str | None = None) -> bool:
        return await _passed(self._room, "promote", partial(self._inner.promote, digest, stranger))


class _GatedIndex:
    """An index whose every unit waits at a gate."""

    def __init__(self, room: Room) -> None:
        self._room = room

    async def run(self, unit: Unit[T]) -> T:
        return await self._pass("run", unit)

    async def read(self, unit: Unit[T]) -> T:
        return await self._pass("read", unit)

    async def look(self, unit: Unit[T]) -> T:
        return await self._pass("look", unit)

    def read_blocking(self, unit: Unit[T]) -> T:
        return self._room.index.read(unit)

    async def _pass(self, name: str, unit: Unit[T]) -> T:
        async def apply() -> T:
            index = self._room.index
            return index.apply(unit) if name == "run" else index.read(unit)

        return await _passed(self._room, f"{name} {_name_of(unit)}", apply)


async def _passed(room: Room, name: str, call: Callable[[], Awaitable[T]]) -> T:
    await room.gate(name)
    try:
        result = await call()
    except Exception as error:
        room.answered(name, error)
        raise
    room.answered(name, result)
    return result


def _name_of(unit: Any) -> str:
    unit = unit.unit if isinstance(unit, MakesRoom) else unit
    function = unit.func if isinstance(unit, partial) else unit
    return str(function.__qualname__).replace(".<locals>", "")


class _InlineIndex:
    """SQLite in memory, driven on the calling thread, that can go back to a start state at once."""

    def __init__(self) -> None:
        self._connection = driver.connect(None, busy_seconds=1)
        create_blocking(self._connection, (STORE,))
        self._transaction = Transaction(self._connection, None, is_reader=False)
        self._transaction.now = NOW
        self._seen: tuple[dict[str, list[tuple[Any, ...]]], int] | None = None
        """What is in it, with a number for it, until something changes."""

    def begin(self) -> None:
        self._transaction.control("BEGIN")

    def rollback(self) -> None:
        self._transaction.control("ROLLBACK")
        self._seen = None

    def keep(self) -> None:
        self._transaction.control("SAVEPOINT start")

    def restart(self) -> None:
        self._transaction.control("ROLLBACK TO start")
        self._seen = None

    def apply(self, unit: Unit[T]) -> T:
        self._transaction.control("SAVEPOINT unit")
        changes = self._connection.total_changes
        try:
            return driver.drive(unit, self._transaction)
        except BaseException:
            self._transaction.control("ROLLBACK TO unit")
            raise
        finally:
            self._transaction.control("RELEASE unit")
            if self._connection.total_changes != changes:
                self._seen = None

    def read(self, unit: Unit[T]) -> T:
        """Apply a unit that changes nothing, so there is nothing to take back."""
        changes = self._connection.total_changes
        try:
            return driver.drive(unit, self._transaction)
        finally:
            assert self._connection.total_changes == changes, f"{_name_of(unit)} only reads"

    def picture(self) -> dict[str, list[tuple[Any, ...]]]:
        return self._look()[0]

    def state(self) -> int:
        """All that is in it, as one number."""
        return self._look()[1]

    def _look(self) -> tuple[dict[str, list[tuple[Any, ...]]], int]:
        if self._seen is None:
            execute = self._connection.execute
            found = {name: execute(query.sqlite).fetchall() for name, query in STATEMENTS.items()}
            leases = execute("SELECT digest, holder FROM leases").fetchall()
            self._seen = found, hash((repr(found), repr(leases)))
        return self._seen

    def close(self) -> None:
        self._connection.close()


class _InlineExecutor:
    """Runs what is submitted before it returns."""

    def submit(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> Future[T]:
        future: Future[T] = Future()
        try:
            future.set_result(function(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future


class _InlineThreads:
    def __init__(self) -> None:
        self.ingest = self.sync = self.reading = self.files = _InlineExecutor()


class _Selector(selectors.SelectSelector):
    """Waits for nothing: when the loop has nothing to do, somebody passes a gate."""

    def __init__(self, on_idle: Callable[[], None]) -> None:
        super().__init__()
        self._on_idle = on_idle

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None or timeout > 0:
            self._on_idle()
        return []


class _VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose clock stands still unless somebody sleeps."""

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self.now = 0.0
        super().__init__(selector)

    def time(self) -> float:
        return self.now

    def _write_to_self(self) -> None:
        """Nobody waits in `select`, so nobody has to be woken."""
