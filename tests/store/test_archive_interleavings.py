"""The archive racing everything else on one digest, in every order: nothing referenced is lost.

The actors of `tests.store.test_interleavings` beside those that cool, thaw, heal and sweep, from
start states in which the blob is hot, cold, on its way, or has a spare file in the archive.
`DIGESTRY_TESTS_LONG=1` explores triples whole.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial
from typing import Any

import msgspec
import pytest

from store import archive, recording, spares
from store.digest import Digest
from store.errors import BlobNotFound, Corrupt, Unavailable
from store.index import blobs as rows
from store.index import claims
from store.index.archived import (
    begin_archived,
    condemn_archived,
    delete_archived,
    finish_archived,
    use_archived,
)
from store.index.transactions import Tx
from store.locks import MoveLock
from tests.store import test_interleavings as plain
from tests.store.test_interleavings import CONTENT, DIGEST, FIRST, LONG, Judge
from tests.support.scheduling import Actor, Explored, Room, Worker, explore


async def unpinned(tx: Tx, row: rows.BlobRow) -> bool:
    """Cold is good enough for whoever was there first; anybody else needs it hot."""
    return set(await claims.owners_of(tx, row.digest)) <= {FIRST}


async def cool(worker: Worker) -> None:
    await worker.archive.cool(DIGEST, unpinned)


async def thaw(worker: Worker) -> None:
    await worker.archive.thaw(DIGEST)


async def sweep(worker: Worker) -> None:
    await worker.archive.spares.sweep()


async def revive(worker: Worker) -> None:
    await worker.archive.heal(DIGEST)


COLD: dict[str, Actor] = {actor.__name__: actor for actor in (cool, thaw, sweep, revive)}
ACTORS = {**plain.ACTORS, **plain.MORE, **COLD}


async def cold(worker: Worker) -> None:
    await plain.referenced(worker)
    await cool(worker)


async def cold_unreferenced(worker: Worker) -> None:
    await cold(worker)
    await plain.release(worker)


async def cold_collected(worker: Worker) -> None:
    """Gone from the archive's point of view too, with a collection that can be undone."""
    await cold_unreferenced(worker)
    plan = await worker.collector.plan()
    await worker.collector.apply(msgspec.structs.replace(plan, id="col_before"))


async def thawed(worker: Worker) -> None:
    """Hot again, with a spare file in the archive."""
    await cold(worker)
    await thaw(worker)


async def thawed_and_damaged(worker: Worker) -> None:
    await thawed(worker)
    await plain.convict(worker)


async def half_cooled(worker: Worker) -> None:
    """Whoever moved it died before the blob's own file was removed."""
    await plain.referenced(worker)
    await _announce(worker)


async def nearly_cooled(worker: Worker) -> None:
    """The same, after it."""
    await half_cooled(worker)
    await worker.blobs.remove(DIGEST)


async def _announce(worker: Worker) -> None:
    begin = partial(begin_archived, digest=DIGEST, size_bytes=len(CONTENT))
    number = await worker.index.run(begin)
    writer = worker.archive.cold.files.begin(DIGEST, number, len(CONTENT))
    writer.append(CONTENT)
    writer.promote()

    async def unit(tx: Tx) -> None:
        row = await rows.find_blob(tx, DIGEST)
        assert row is not None
        await finish_archived(tx, DIGEST, number, len(CONTENT))
        await use_archived(tx, DIGEST, number, len(CONTENT))
        await rows.set_place(tx, row, state=rows.MOVING, archived=number)

    await worker.index.run(unit)


STARTS = {
    **{start.__name__: start for start in (plain.referenced, plain.unreferenced)},
    **{
        start.__name__: start
        for start in (
            cold,
            cold_unreferenced,
            cold_collected,
            thawed,
            thawed_and_damaged,
            half_cooled,
            nearly_cooled,
        )
    },
}
UNSETTLED = ("half_cooled", "nearly_cooled")


class ColdJudge(Judge):
    """The judge of the other races; who moves a blob may find it gone or on the move."""

    def __init__(self, names: Any, start: str, *, losses_only: bool = False) -> None:
        super().__init__(names, start, losses_only=losses_only)
        self._may_be_damaged = self._is_convicted or start.endswith("damaged")

    def _may_fail(self, name: str, error: BaseException) -> bool:
        if name.startswith("cool"):
            return isinstance(error, Unavailable)  # its file was swept: spares are not kept here
        if name.startswith("thaw"):
            kinds = (
                (BlobNotFound, Unavailable, Corrupt)
                if self._may_be_damaged
                else (BlobNotFound, Unavailable)
            )
            return isinstance(error, kinds)
        return super()._may_fail(name, error)


@pytest.fixture(scope="module")
def room() -> Iterator[Room]:
    made = Room()
    yield made
    made.close()


def named(names: tuple[str, ...]) -> dict[str, Actor]:
    return {f"{name} {number}": ACTORS[name] for number, name in enumerate(names)}


def starts_for(names: tuple[str, ...]) -> list[str]:
    """Nobody but who settles finds what a crash left; and not everybody needs every state."""
    return [start for start in STARTS if ("settle" in names) == (start in UNSETTLED)]


def check(
    room: Room, names: tuple[str, ...], start: str, *, preemptions: int | None = None
) -> Explored:
    actors = named(names)
    with room.prepared(STARTS[start]):
        return explore(room, actors, ColdJudge(actors, start), preemptions=preemptions)


def find_loss(room: Room, names: tuple[str, ...], start: str) -> None:
    actors = named(names)
    judge = ColdJudge(actors, start)
    with room.prepared(STARTS[start]), pytest.raises(AssertionError):
        explore(room, actors, judge, preemptions=3)


PAIRS = [
    *itertools.combinations_with_replacement(COLD, 2),
    *itertools.product(COLD, [*plain.ACTORS, *plain.MORE]),
]


@pytest.mark.parametrize("pair", PAIRS, ids="+".join)
def test_no_schedule_with_the_archive_loses_a_referenced_blob(
    room: Room, pair: tuple[str, str]
) -> None:
    for start in starts_for(pair):
        check(room, pair, start)


TRIPLES = [
    ("cool", "heal", "collect"),
    ("cool", "release", "collect"),
    ("cool", "cool", "dedup"),
    ("cool", "thaw", "sweep"),
    ("cool", "thaw", "publish"),
    ("thaw", "release", "collect"),
    ("thaw", "collect", "undo"),
    ("revive", "sweep", "convict"),
    ("cool", "settle", "heal"),
    ("thaw", "settle", "dedup"),
]


@pytest.mark.parametrize("triple", TRIPLES, ids="+".join)
def test_no_schedule_of_three_with_the_archive_loses_a_referenced_blob(
    room: Room, triple: tuple[str, ...]
) -> None:
    """With at most two pre-emptions; without bound in long runs."""
    for start in starts_for(triple):
        check(room, triple, start, preemptions=None if LONG else 2)


# The suite can fail.


def test_removing_a_file_without_saying_so_first_is_found(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upload places its bytes between the last look and the removal, and is acknowledged."""

    async def leave(self: Any, row: rows.BlobRow, number: int, may_go: archive.MayGo) -> str:
        announce = partial(archive._announce, row=row, number=number, may_go=may_go)
        moving = await self._index.run(announce)
        if moving is not None:
            await self._index.run(partial(archive._arrive, moving=moving))
            await self._blobs.remove(row.digest)
        return "moved"

    monkeypatch.setattr(archive.Archive, "_leave", leave)

    find_loss(room, ("cool", "heal"), "referenced")


def test_moving_by_what_was_so_when_it_began_is_found(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The blob was collected and stored anew while it was compressed."""

    async def announce(tx: Tx, row: rows.BlobRow, number: int, may_go: archive.MayGo) -> Any:
        await use_archived(tx, row.digest, number, row.size_bytes)
        return await rows.set_place(tx, row, state=rows.MOVING, archived=number) or row

    monkeypatch.setattr(archive, "_announce", announce)

    find_loss(room, ("cool", "release", "collect"), "referenced")


def test_sweeping_what_is_being_used_is_found(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare when it was looked at, and a blob's only bytes when it is removed."""

    async def remove(self: Any, digest: Digest, number: int) -> bool:
        await self._index.run(partial(condemn_archived, digest=digest, number=number))
        self._cold.files.remove(digest, number)
        await self._index.run(partial(delete_archived, digest=digest, number=number))
        return True

    monkeypatch.setattr(spares.Spares, "_remove", remove)

    find_loss(room, ("revive", "sweep"), "thawed_and_damaged")


def test_settling_what_is_under_way_is_found(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """Declared hot again by one who saw the file, which its mover then removes."""
    monkeypatch.setattr(MoveLock, "_try_in_memory", lambda *_: -1)

    find_loss(room, ("cool", "settle"), "referenced")


def test_a_thaw_that_trusts_an_old_row_is_found(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The blob's own file went again while its bytes were on their way back."""
    still_true = recording._still_true

    def believing(row: Any, seen: Any, digest: Any, moves: int) -> bool:
        return (row is not None and row.is_present) or still_true(row, seen, digest, moves)

    monkeypatch.setattr(recording, "_still_true", believing)
    monkeypatch.setattr(recording, "_is_seen", lambda *_: True)

    find_loss(room, ("thaw", "thaw", "cool"), "cold")
