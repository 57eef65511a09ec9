"""Collection racing everything else on one digest, in every order: nothing referenced is lost.

The actors are the store's own modules (`tests.support.scheduling`); grace is 0, so that nothing but
references and leases protects a blob. Pairs and triples are explored whole, larger groups by seeded
random schedules. `DIGESTRY_TESTS_LONG=1` draws many more of those,
`DIGESTRY_TESTS_SCHEDULE_SECONDS` as many as there is time for, others each run.
"""

from __future__ import annotations

import itertools
import os
import random
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any

import msgspec
import pytest

from store import quarantine, recording
from store.digest import Digest
from store.errors import CollectionRefused, Unavailable
from store.index import blobs as rows
from store.index import claims
from store.index.transactions import Tx
from store.ingest import Ingest
from store.locks import MoveLock
from store.recording import Record, StoredBlob
from tests.support.scheduling import Actor, Explored, Outcome, Room, Worker, explore, sample
from tests.support.soundness import problems_of

CONTENT = b"the bytes that everybody is after"
DIGEST = Digest.of(CONTENT)
FIRST = "usr_first"
LONG = os.environ.get("DIGESTRY_TESTS_LONG") == "1"
SCHEDULE_SECONDS = float(os.environ.get("DIGESTRY_TESTS_SCHEDULE_SECONDS", "0"))


async def body(content: bytes = CONTENT) -> AsyncIterator[bytes]:
    yield content


def pin(owner: str) -> Record[bool]:
    async def record(tx: Tx, stored: StoredBlob) -> bool:
        return await claims.keep_ref(tx, stored.digest, owner, claims.PIN)

    return record


# The actors. Those that claim return the owner whose reference must keep the blob.


async def collect(worker: Worker) -> None:
    plan = await worker.collector.plan()
    await worker.collector.apply(plan)


async def undo(worker: Worker) -> None:
    await worker.collector.undo("col_before")


async def purge(worker: Worker) -> None:
    await worker.collector.purge(everything=True)


async def settle(worker: Worker) -> None:
    await worker.quarantine.settle()


async def dedup(worker: Worker) -> str:
    """A client that asks first and sends bytes only if it must."""
    if await worker.ingest.claim(DIGEST, pin("usr_dedup")) is None:
        await worker.ingest.receive(body(), pin("usr_dedup"))
    return "usr_dedup"


async def heal(worker: Worker) -> str:
    """A client that sends the bytes, whatever is stored."""
    await worker.ingest.receive(body(), pin("usr_heal"), expected=DIGEST, size_bytes=len(CONTENT))
    return "usr_heal"


async def publish(worker: Worker) -> str:
    """An upload, and the commit whose tree takes over from the pin."""
    await worker.ingest.receive(body(), pin("usr_publish"))

    async def commit(tx: Tx) -> None:
        row = await rows.find_blob(tx, DIGEST)
        assert row is not None, "a pinned blob is absent"
        if not row.is_present:
            raise Unavailable("publishing what a scrub has convicted")
        await claims.add_ref(tx, DIGEST, "mdl_publish", "tree")
        await claims.drop_ref(tx, DIGEST, "usr_publish", claims.PIN)

    await worker.index.run(commit)
    return "mdl_publish"


async def release(worker: Worker) -> None:
    await worker.index.run(lambda tx: claims.drop_ref(tx, DIGEST, FIRST, claims.PIN))


async def convict(worker: Worker) -> None:
    """A scrub that believes the blob to be damaged."""
    row = await worker.index.look(lambda tx: rows.find_blob(tx, DIGEST))
    if row is not None:
        await worker.quarantine.convict(DIGEST, row.generation)


ACTORS: dict[str, Actor] = {
    actor.__name__: actor for actor in (collect, undo, dedup, heal, publish, release)
}
MORE: dict[str, Actor] = {actor.__name__: actor for actor in (settle, purge, convict)}


# Start states.


async def absent(worker: Worker) -> None:
    """Something else is stored and claimed, so that collection does not refuse to work."""
    await worker.ingest.receive(body(b"something else"), pin(FIRST))


async def referenced(worker: Worker) -> None:
    await absent(worker)
    await worker.ingest.receive(body(), pin(FIRST))


async def unreferenced(worker: Worker) -> None:
    await referenced(worker)
    await release(worker)


async def collected(worker: Worker) -> None:
    """Gone, with a collection that can be undone."""
    await unreferenced(worker)
    plan = await worker.collector.plan()
    await worker.collector.apply(msgspec.structs.replace(plan, id="col_before"))


async def stored_again(worker: Worker) -> None:
    """Collected once, stored anew, and claimed by nobody."""
    await collected(worker)
    await worker.ingest.receive(body(), pin(FIRST))
    await release(worker)


async def damaged(worker: Worker) -> None:
    """Damaged and missed by its owner; an older collection has good bytes."""
    await collected(worker)
    await worker.ingest.receive(body(), pin(FIRST))
    await convict(worker)


async def damaged_unreferenced(worker: Worker) -> None:
    await damaged(worker)
    await release(worker)


async def half_moved(worker: Worker) -> None:
    """A collector died between moving the file and saying so."""
    await unreferenced(worker)

    async def announce(tx: Tx) -> None:
        row = await rows.find_blob(tx, DIGEST)
        assert row is not None
        await rows.change_state(tx, DIGEST, row.generation, rows.PRESENT, rows.MOVING)
        await quarantine.insert_aside(
            tx, DIGEST, row.generation, row.size_bytes, reason="collected", collection="col_before"
        )

    await worker.index.run(announce)


STARTS = {
    start.__name__: start
    for start in (
        absent,
        referenced,
        unreferenced,
        collected,
        stored_again,
        damaged,
        damaged_unreferenced,
        half_moved,
    )
}
SETTLED = [start for start in STARTS if start != "half_moved"]
every_settled_start = pytest.mark.parametrize("start", SETTLED)


class Judge:
    """Says what must be so at the end of every schedule of some actors."""

    def __init__(self, names: Iterable[str], start: str, *, losses_only: bool = False) -> None:
        self._is_convicted = any(name.startswith("convict") for name in names)
        self._may_be_damaged = self._is_convicted or start.startswith("damaged")
        self._losses_only = losses_only

    def __call__(self, outcome: Outcome) -> None:
        owners = self._owners(outcome.results)
        problems = problems_of(outcome.picture)
        assert self._losses_only or not problems, problems
        states = {row[0]: row[2] for row in outcome.picture.rows["blobs"]}
        claimed = {row[1] for row in outcome.picture.rows["refs"] if row[0] == DIGEST.hex}
        state = states.get(DIGEST.hex, "absent")
        assert owners <= claimed, "a claim is gone"
        if claimed and (owners or not self._may_be_damaged):
            fine = {"present", "damaged"} if self._is_convicted else {"present"}
            assert state in fine, f"a referenced blob is lost: {state}"
        if claimed and state == "present":
            cold = {digest for digest, _ in outcome.picture.rows["cold"]}
            files = outcome.picture.files.keys() | cold  # whose files `problems_of` has looked for
            assert DIGEST.hex in files, "a referenced blob is lost: no file"

    def _owners(self, results: dict[str, Any]) -> set[str]:
        """Whose references must be there; an actor may refuse to work, but not for any reason."""
        owners = set()
        for name, result in results.items():
            if isinstance(result, BaseException):
                if not self._may_fail(name, result):
                    raise AssertionError(f"{name} failed") from result
            elif result is not None:
                owners.add(result)
        return owners

    def _may_fail(self, name: str, error: BaseException) -> bool:
        if name.startswith("undo"):
            return isinstance(error, Unavailable)  # it met a blob on the move
        if name.startswith("collect"):
            return isinstance(error, CollectionRefused)  # another one was faster
        return name.startswith("publish") and self._is_convicted and isinstance(error, Unavailable)


@pytest.fixture(scope="module")
def room() -> Iterator[Room]:
    made = Room()
    yield made
    made.close()


def named(names: tuple[str, ...]) -> dict[str, Actor]:
    """The actors by names that differ although two may do the same."""
    return {f"{name} {number}": {**ACTORS, **MORE}[name] for number, name in enumerate(names)}


PAIRS = list(itertools.combinations_with_replacement(ACTORS, 2))
MORE_PAIRS = [*itertools.product(ACTORS, MORE), *itertools.combinations_with_replacement(MORE, 2)]
TRIPLES = list(itertools.combinations(ACTORS, 3))
MORE_TRIPLES = [(one, "collect", "settle") for one in ACTORS]


def check_every_order(
    room: Room, names: tuple[str, ...], start: str, *, preemptions: int | None = None
) -> Explored:
    actors = named(names)
    with room.prepared(STARTS[start]):
        return explore(room, actors, Judge(actors, start), preemptions=preemptions)


def find_loss(room: Room, names: tuple[str, ...], start: str) -> None:
    """Expect that some order with at most three pre-emptions loses a referenced blob."""
    actors = named(names)
    judge = Judge(actors, start, losses_only=True)
    with room.prepared(STARTS[start]), pytest.raises(AssertionError, match="is lost"):
        explore(room, actors, judge, preemptions=3)


@pytest.mark.parametrize("pair", PAIRS, ids="+".join)
def test_no_schedule_loses_a_referenced_blob(room: Room, pair: tuple[str, str]) -> None:
    for start in SETTLED:
        assert check_every_order(room, pair, start).schedules > 1


@pytest.mark.parametrize("pair", MORE_PAIRS, ids="+".join)
def test_no_schedule_with_housekeeping_loses_a_referenced_blob(
    room: Room, pair: tuple[str, str]
) -> None:
    """Settling after a crash, purging and convicting, beside everything else."""
    for start in STARTS if "settle" in pair else SETTLED:
        assert check_every_order(room, pair, start).schedules > 1


@pytest.mark.parametrize("triple", [*TRIPLES, *MORE_TRIPLES], ids="+".join)
def test_no_schedule_of_three_loses_a_referenced_blob(room: Room, triple: tuple[str, ...]) -> None:
    """With at most three pre-emptions; without bound in long runs."""
    for start in SETTLED:
        if LONG or _matters(start, triple):
            check_every_order(room, triple, start, preemptions=None if LONG else 3)


def _matters(start: str, names: tuple[str, ...]) -> bool:
    """Whether a start state differs from the others for somebody among these actors."""
    if start == "referenced":
        return "release" in names
    return start != "damaged_unreferenced" or "collect" in names


def tries() -> Iterator[int]:
    """So many groups of actors, and as many more as there is time for."""
    deadline = time.monotonic() + SCHEDULE_SECONDS
    for number in itertools.count():
        if number >= (2000 if LONG else 100) and time.monotonic() >= deadline:
            return
        yield number


@pytest.mark.timeout(0 if LONG or SCHEDULE_SECONDS else 120)
@pytest.mark.parametrize("size", [4, 5])
def test_no_random_schedule_of_many_loses_a_referenced_blob(room: Room, size: int) -> None:
    start_of_all = random.randrange(1 << 32) if SCHEDULE_SECONDS else size
    print(f"seed {start_of_all}")
    chance = random.Random(start_of_all)
    for seed in tries():
        names = tuple(chance.choice([*ACTORS, *MORE]) for _ in range(size))
        start = chance.choice(list(STARTS) if "settle" in names else SETTLED)
        actors = named(names)
        with room.prepared(STARTS[start]):
            sample(room, actors, Judge(actors, start), schedules=50, seed=seed)


def test_merging_equal_states_leaves_no_order_out(room: Room) -> None:
    """What is counted without being executed is what executing everything finds."""
    actors = named(("collect", "publish"))
    ends: list[set[str]] = []
    counts = []
    with room.prepared(unreferenced):
        for merging in (True, False):
            found: set[str] = set()

            def remember(outcome: Outcome, found: set[str] = found) -> None:
                found.add(repr(outcome.picture))

            explored = explore(room, actors, remember, merging=merging)
            ends.append(found)
            counts.append(explored.schedules)
    assert explored.runs == explored.schedules

    assert counts[0] == counts[1]
    assert ends[0] == ends[1]


@pytest.mark.parametrize(
    ("names", "start", "preemptions"),
    [
        (("collect", "undo", "dedup"), "collected", 1),
        (("collect", "undo"), "damaged_unreferenced", 2),
        (("collect", "publish"), "unreferenced", 2),
    ],
)
def test_what_is_not_tried_twice_is_reached_all_the_same(
    room: Room,
    monkeypatch: pytest.MonkeyPatch,
    names: tuple[str, ...],
    start: str,
    preemptions: int,
) -> None:
    """With few pre-emptions: in every state through which executing everything comes."""
    actors = named(names)
    state = room.state
    reached: set[int] = set()

    def remembered() -> int:
        now = state()
        reached.add(now)
        return now

    monkeypatch.setattr(room, "state", remembered)
    found = []
    with room.prepared(STARTS[start]):
        for merging in (True, False):
            reached.clear()
            explore(room, actors, lambda _: None, preemptions=preemptions, merging=merging)
            found.append(set(reached))

    assert found[0] == found[1]


# The suite can fail.


def test_forgetting_to_count_moves_is_found(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """A digest that was absent, stored, collected and absent again while its bytes were placed."""
    still_true = recording._still_true
    monkeypatch.setattr(
        recording,
        "_still_true",
        lambda row, seen, digest, moves: still_true(row, seen, digest, seen.moves),
    )

    find_loss(room, ("undo", "collect", "heal"), "collected")


def test_collecting_by_the_plan_alone_is_found(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    async def collectable(*_: Any) -> bool:
        return True

    monkeypatch.setattr(claims, "is_collectable", collectable)

    find_loss(room, ("collect", "dedup"), "unreferenced")


def test_settling_moves_under_way_is_found(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MoveLock, "_try_in_memory", lambda *_: -1)

    find_loss(room, ("collect", "settle", "dedup"), "unreferenced")


def test_claiming_without_looking_again_is_found(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pin on what was present a moment ago."""

    async def claim(self: Ingest, digest: Digest, record: Record[Any]) -> Any:
        row = await self._index.look(lambda tx: rows.find_blob(tx, digest))
        if row is None or not row.is_present:
            return None
        stored = StoredBlob(digest, row.size_bytes, row.generation)
        return stored, await self._index.run(lambda tx: record(tx, stored))

    monkeypatch.setattr(Ingest, "claim", claim)

    find_loss(room, ("collect", "dedup"), "unreferenced")
