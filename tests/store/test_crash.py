"""What was acknowledged survives every crash, and what is visible is whole, whenever it comes.

Each scenario runs once on a recording disk. For every position of its log and every directory that
losing power there may leave (`tests.support.recording`), the store is opened anew and checked from
the outside. Scenarios note what was acknowledged, at the moment it was.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
import pytest

from store.clock import boot_id
from store.digest import Digest
from store.durable import Disk
from store.index import blobs as rows
from store.index.transactions import Tx
from store.ingest import StoredBlob
from store.opening import Store, StoreSettings, initialize, open_store
from store.segments import SEGMENT_BYTES
from store.uploads import Checksum
from tests.support.recording import Model, Recording, State, crash_states, found_in
from tests.support.soundness import AFTER_CRASH, assert_store_is_sound

OWNER = "usr_local"
SMALL = b"a small blob\n" * 9
OTHER = b"another blob\n" * 7
LARGE = random.Random(1).randbytes(SEGMENT_BYTES + 300)
"""More than a segment, so that it has a segments file."""


# What scenarios note.


class Kept(msgspec.Struct, frozen=True):
    """A reference to these bytes was acknowledged."""

    content: bytes


class Released(msgspec.Struct, frozen=True):
    """From here on the reference may be gone."""

    content: bytes


class Opened(msgspec.Struct, frozen=True):
    """A session of these bytes was acknowledged up to an offset."""

    session: str
    content: bytes
    offset: int


class Closed(msgspec.Struct, frozen=True):
    """From here on the session may be gone, or finished."""

    session: str


class Aside(msgspec.Struct, frozen=True):
    """A collection took these bytes and can be undone."""

    collection: str
    content: bytes


class Returning(msgspec.Struct, frozen=True):
    """From here on the collection may be undone, or purged."""

    collection: str


class Rotten(msgspec.Struct, frozen=True):
    """The disk has damaged these bytes, or lost them."""

    content: bytes


class Present(msgspec.Struct, frozen=True):
    """These bytes are stored, by whomever they are needed."""

    content: bytes


Notes = tuple[Any, ...]


class Expected(msgspec.Struct):
    """What must be found after a crash, from what had been noted before it."""

    kept: set[bytes]
    present: set[bytes]
    rotten: set[bytes]
    sessions: dict[str, Opened]
    asides: dict[str, set[bytes]]

    @classmethod
    def of(cls, notes: Notes) -> Expected:
        expected = cls(set(), set(), set(), {}, {})
        for note in notes:
            match note:
                case Kept(content):
                    expected.kept.add(content)
                case Released(content):
                    expected.kept.discard(content)
                case Opened(session, _, _):
                    expected.sessions[session] = note
                case Closed(session):
                    expected.sessions.pop(session, None)
                case Aside(collection, content):
                    expected.asides.setdefault(collection, set()).add(content)
                case Returning(collection):
                    expected.asides.pop(collection, None)
                case Present(content):
                    expected.present.add(content)
                case Rotten(content):
                    expected.kept.discard(content)
                    expected.rotten.add(content)
        return expected


# Scenarios.


class Stage:
    """An open store on a recording disk."""

    def __init__(self, store: Store, disk: Recording, root: Path) -> None:
        self.store = store
        self.disk = disk
        self.root = root
        self.start = 0

    def note(self, note: Any) -> None:
        self.disk.note(note)

    def begin(self) -> None:
        """Only crashes from here on are looked at; before it things are only set up."""
        self.start = len(self.disk.events)

    async def put(self, content: bytes, owner: str = OWNER) -> StoredBlob:
        stored, _ = await self.store.ingest.receive(pieces(content), pin(owner))
        self.note(Kept(content))
        return stored

    async def release(self, content: bytes, owner: str = OWNER) -> None:
        self.note(Released(content))
        await self.store.index.run(
            lambda tx: rows.drop_ref(tx, Digest.of(content), owner, rows.PIN)
        )

    async def collect(self, *contents: bytes) -> str:
        plan = await self.store.collector.plan()
        report = await self.store.collector.apply(plan)
        assert report.collected == len(contents)
        for content in contents:
            self.note(Aside(plan.id, content))
        return plan.id

    async def damage(self, content: bytes) -> StoredBlob:
        """Store bytes that rot on the disk; their reference stays."""
        stored = await self.put(content)
        path = self.store.blobs.path_of(stored.digest)  # type: ignore[attr-defined] # local here
        self.disk.rot(path, b"x" * len(content))
        self.note(Rotten(content))
        return stored


Scenario = Callable[[Stage], Awaitable[None]]


async def pieces(content: bytes, size: int = 1 << 19) -> AsyncIterator[bytes]:
    for at in range(0, len(content), size):
        yield content[at : at + size]


def pin(owner: str = OWNER, kind: str = rows.PIN) -> Callable[[Tx, StoredBlob], Awaitable[bool]]:
    async def record(tx: Tx, stored: StoredBlob) -> bool:
        return await rows.keep_ref(tx, stored.digest, owner, kind)

    return record


async def put_one(stage: Stage) -> None:
    await stage.put(SMALL)


async def put_large(stage: Stage) -> None:
    await stage.put(LARGE)


async def put_stored_again(stage: Stage) -> None:
    await stage.put(SMALL)
    stage.begin()
    await stage.put(SMALL, "usr_other")


async def put_same_at_once(stage: Stage) -> None:
    await asyncio.gather(stage.put(SMALL), stage.put(SMALL, "usr_other"))


async def put_after_collection(stage: Stage) -> None:
    await stage.put(OTHER)
    await stage.put(SMALL)
    await stage.release(SMALL)
    await stage.collect(SMALL)
    stage.begin()
    await stage.put(SMALL)


async def publish(stage: Stage) -> None:
    """A file of a version: the pin of its upload becomes a reference of the tree's."""
    stored = await stage.put(SMALL)
    stage.begin()

    async def commit(tx: Tx, found: StoredBlob) -> None:
        await rows.add_ref(tx, found.digest, "mdl_one", "tree")
        await rows.drop_ref(tx, found.digest, OWNER, rows.PIN)

    assert await stage.store.ingest.claim(stored.digest, commit) is not None


async def _begin_upload(stage: Stage, content: bytes, **facts: Any) -> str:
    facts = {"length": len(content), "expected": None, **facts}
    session = await stage.store.uploads.create(OWNER, **facts)
    stage.note(Opened(session.id, content, 0))
    return session.id


async def _append(
    stage: Stage, session: str, content: bytes, start: int, stop: int, **facts: Any
) -> None:
    if stop == len(content):
        stage.note(Closed(session))
    after = await stage.store.uploads.append(session, start, pieces(content[start:stop]), **facts)
    if after.is_finished:
        stage.note(Kept(content))
    else:
        stage.note(Opened(session, content, after.offset))


async def upload_in_parts(stage: Stage) -> None:
    session = await _begin_upload(stage, SMALL)
    await _append(stage, session, SMALL, 0, 40)
    await _append(stage, session, SMALL, 40, 80)
    await _append(stage, session, SMALL, 80, len(SMALL))


async def upload_large(stage: Stage) -> None:
    session = await _begin_upload(stage, LARGE, expected=Digest.of(LARGE))
    await _append(stage, session, LARGE, 0, SEGMENT_BYTES)
    await _append(stage, session, LARGE, SEGMENT_BYTES, len(LARGE))


async def upload_of_stored(stage: Stage) -> None:
    await stage.put(SMALL)
    stage.begin()
    session = await _begin_upload(stage, SMALL)
    await _append(stage, session, SMALL, 0, len(SMALL))


async def upload_with_checksums(stage: Stage) -> None:
    session = await _begin_upload(stage, SMALL)
    for start, stop in itertools.pairwise((0, 40, 80, len(SMALL))):
        expected = bytes.fromhex(Digest.of(SMALL[start:stop]).hex)
        checksum = Checksum("sha256", expected)
        await _append(stage, session, SMALL, start, stop, checksum=checksum)


async def upload_after_kill(stage: Stage) -> None:
    """Bytes that a killed worker left unsynced become part of what is acknowledged later."""
    session = await _begin_upload(stage, SMALL, length=None)
    await _append(stage, session, SMALL, 0, 30)
    writer = await stage.store.blobs.reopen(session)
    writer.append_blocking(30, [SMALL[30:60]])
    await writer.close()
    stage.begin()
    checksum = Checksum("sha256", bytes.fromhex(Digest.of(SMALL[60:70]).hex))
    await _append(stage, session, SMALL, 60, 70, checksum=checksum)
    await _append(stage, session, SMALL, 70, len(SMALL), length=len(SMALL))


async def upload_cancelled(stage: Stage) -> None:
    session = await _begin_upload(stage, SMALL)
    await _append(stage, session, SMALL, 0, 40)
    stage.note(Closed(session))
    await stage.store.uploads.cancel(session)


async def collect(stage: Stage) -> None:
    await stage.put(OTHER)
    await stage.put(SMALL)
    await stage.put(LARGE)
    await stage.release(SMALL)
    await stage.release(LARGE)
    stage.begin()
    await stage.collect(SMALL, LARGE)


async def undo(stage: Stage) -> None:
    await collect(stage)
    collection = next(n.collection for n in Model(stage.disk.events).notes if isinstance(n, Aside))
    stage.begin()
    stage.note(Returning(collection))
    report = await stage.store.collector.undo(collection)
    assert report.returned == 2
    stage.note(Present(SMALL))
    stage.note(Present(LARGE))


async def undo_over_damage(stage: Stage) -> None:
    """Undoing a collection heals a blob that was stored anew and rotted since."""
    await stage.put(OTHER)
    await stage.put(SMALL)
    await stage.release(SMALL)
    collection = await stage.collect(SMALL)
    stored = await stage.damage(SMALL)
    assert not await stage.store.scrub.check(stored.digest)
    stage.begin()
    stage.note(Returning(collection))
    await stage.store.collector.undo(collection)
    stage.note(Kept(SMALL))


async def purge(stage: Stage) -> None:
    await stage.put(OTHER)
    await stage.put(SMALL)
    await stage.release(SMALL)
    collection = await stage.collect(SMALL)
    stage.begin()
    stage.note(Returning(collection))
    await stage.store.collector.purge(everything=True)


async def convict(stage: Stage) -> None:
    stored = await stage.damage(SMALL)
    stage.begin()
    assert not await stage.store.scrub.check(stored.digest)


async def heal(stage: Stage) -> None:
    stored = await stage.damage(SMALL)
    assert not await stage.store.scrub.check(stored.digest)
    stage.begin()
    await stage.put(SMALL, "usr_other")


async def heal_unnoticed(stage: Stage) -> None:
    """The file is gone, and it is an upload that finds out."""
    stored = await stage.put(SMALL)
    stage.note(Rotten(SMALL))
    stage.disk.remove(str(stage.store.blobs.path_of(stored.digest)))  # type: ignore[attr-defined] # local here
    stage.begin()
    await stage.put(SMALL, "usr_other")


async def adopt(stage: Stage) -> None:
    """`fsck` finds a file without a row whose name was not synced by whoever made it."""
    stored = await stage.put(SMALL)
    stage.note(Released(SMALL))
    path = str(stage.store.blobs.path_of(stored.digest))  # type: ignore[attr-defined] # local here
    await stage.store.index.run(
        lambda tx: rows.delete_blob(tx, stored.digest, stored.generation, rows.PRESENT)
    )
    await stage.release(SMALL)
    aside = f"{stage.root}/uploads/put_again"
    stage.disk.link(path, aside)
    stage.disk.remove(path)
    stage.disk.link(aside, path)
    stage.begin()
    report = await stage.store.fsck.run(repair=True)
    assert "orphan" in [finding.problem for finding in report.findings]
    stage.note(Kept(SMALL))


SCENARIOS: list[Scenario] = [
    put_one,
    put_large,
    put_stored_again,
    put_same_at_once,
    put_after_collection,
    publish,
    upload_in_parts,
    upload_large,
    upload_of_stored,
    upload_with_checksums,
    upload_after_kill,
    upload_cancelled,
    collect,
    undo,
    undo_over_damage,
    purge,
    convict,
    heal,
    heal_unnoticed,
    adopt,
]
every_scenario = pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda one: one.__name__)


# Running and checking.


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory if the machine has one: thousands of small directories are made there."""
    memory = Path("/dev/shm")
    if not memory.is_dir():
        yield tmp_path
        return
    folder = Path(tempfile.mkdtemp(prefix="digestry-crash-", dir=memory))
    yield folder
    shutil.rmtree(folder)


def settings(root: Path) -> StoreSettings:
    return StoreSettings(
        root=root, grace_seconds=0, max_share=1.0, reserve_bytes=0, reserve_share=0.0
    )


class Ground:
    """Where one recording and its crashed directories live."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "data"
        self.copies = folder / "copies"
        self.copies.mkdir(parents=True)
        self._numbers = itertools.count()

    def record(self, scenario: Scenario, recording: type[Recording] = Recording) -> Stage:
        """Run a scenario to its end and return its stage, whose log is complete."""
        self.root.mkdir()
        initialize(self.root, disk=Disk(relaxed=True))
        disk = recording(self.root, self.copies, found_in(self.root, self.copies))

        async def run() -> Stage:
            store = await open_store(settings(self.root), disk=disk, observer=disk.observe)
            stage = Stage(store, disk, self.root)
            stage.begin()
            try:
                await scenario(stage)
            finally:
                await store.close()
            return stage

        return asyncio.run(run())

    def check(self, state: State, *, is_new_boot: bool) -> None:
        """Open what a crash left, look at it from the outside, let housekeeping work, look again."""
        root = self.folder / f"crash-{next(self._numbers)}"
        state.materialize(root)
        expected = Expected.of(state.notes)
        rotten = frozenset(Digest.of(content).hex for content in expected.rotten)
        assert_store_is_sound(root, msgspec.structs.replace(AFTER_CRASH, rotten=rotten))
        initialize(root, disk=Disk(relaxed=True))
        with another_boot() if is_new_boot else nothing():
            asyncio.run(_check_open(root, expected))
        assert_store_is_sound(root)
        shutil.rmtree(root)

    def recover(self, events: list[Any], position: int) -> Recording:
        """Kill the process at a position, open the store anew and let housekeeping work."""
        root = self.folder / f"killed-{next(self._numbers)}"
        Model(events[:position]).now().materialize(root)
        disk = Recording(root, self.copies, events[:position])

        async def run() -> None:
            store = await open_store(settings(root), disk=disk, observer=disk.observe)
            try:
                await store.quarantine.settle()
                await store.fsck.run(repair=True)
            finally:
                await store.close()

        asyncio.run(run())
        shutil.rmtree(root)
        return disk


async def _check_open(root: Path, expected: Expected) -> None:
    store = await open_store(settings(root), disk=Disk(relaxed=True))
    try:
        await store.quarantine.settle()
        report = await store.fsck.run(repair=True)
        await store.scrub.run()
        rotten = {str(Digest.of(content)) for content in expected.rotten}
        for finding in report.findings:
            serious = finding.problem.startswith(("missing", "dangling", "orphan: the bytes"))
            assert not serious or finding.digest in rotten, finding
        for content in sorted(expected.kept | expected.present):
            await assert_readable(store, content)
        for content in sorted(expected.kept):
            assert await store.index.read(lambda tx, c=content: rows.any_ref(tx, Digest.of(c)))
        for opened in expected.sessions.values():
            await assert_continues(store, opened)
        for collection, contents in expected.asides.items():
            await store.collector.undo(collection)
            for content in contents:
                await assert_readable(store, content)
        again = await store.fsck.run(repair=False)
        assert [f for f in again.findings if not f.problem.startswith("dangling")] == []
    finally:
        await store.close()


async def assert_readable(store: Store, content: bytes) -> None:
    row = await store.index.look(lambda tx: rows.find_blob(tx, Digest.of(content)))
    assert row is not None, "an acknowledged blob has no row"
    assert row.is_present, f"an acknowledged blob is {row.state}"
    async with await store.reading.open(row) as blob:
        assert b"".join([piece async for piece in blob.stream(0, row.size_bytes)]) == content


async def assert_continues(store: Store, opened: Opened) -> None:
    """A client asks how far its session is, sends the rest, and gets the right digest."""
    session = await store.uploads.get(opened.session)
    assert session.offset >= opened.offset
    rest = opened.content[session.offset :]
    length = len(opened.content)
    after = await store.uploads.append(
        opened.session, session.offset, pieces(rest, 7), length=length
    )
    assert after.digest == Digest.of(opened.content)
    await assert_readable(store, opened.content)


@contextmanager
def another_boot() -> Iterator[None]:
    """After losing power the machine has booted again."""
    with mock.patch.multiple("store.clock", boot_id=lambda: "another"):
        patches = [
            mock.patch.object(module, "boot_id", lambda: "another")
            for name, module in list(sys.modules.items())
            if name.startswith("store.") and getattr(module, "boot_id", None) is boot_id
        ]
        for patch in patches:
            patch.start()
        try:
            yield
        finally:
            for patch in patches:
                patch.stop()


@contextmanager
def nothing() -> Iterator[None]:
    yield


@every_scenario
def test_acknowledged_blobs_survive_every_crash(ground: Path, scenario: Scenario) -> None:
    place = Ground(ground)
    stage = place.record(scenario)
    for position, state in crash_states(stage.disk.events, start=stage.start):
        try:
            place.check(state, is_new_boot=True)
        except AssertionError as error:
            error.add_note(f"power lost after {position}: {described(stage, position)}")
            raise


def described(stage: Stage, position: int) -> str:
    """The last operations before a position, one a line."""
    last = stage.disk.events[max(0, position - 6) : position]
    return "\n  ".join(["", *[f"{e.kind} {e.path} {e.target} {str(e.note)[:60]}" for e in last]])
