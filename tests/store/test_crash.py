"""What was acknowledged survives every crash, and what is visible is whole, whenever it comes.

Each scenario runs once on a recording disk. For every position of its log and every directory that
losing power there may leave (`tests.support.recording`), the store is opened anew and checked from
the outside. A killed process is the easier case; but what housekeeping then declares must survive
losing power too. The last tests take a sync away, or an order, and expect to be caught.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cache, partial
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
import pytest

from store.backends.local import LocalBlobStore
from store.clock import boot_id
from store.digest import Digest
from store.durable import Disk
from store.errors import UploadNotFound
from store.index import blobs as rows
from store.index import claims
from store.ingest import Ingest
from store.opening import Store, StoreSettings, initialize, open_store
from store.threads import Threads
from tests.support import scenarios
from tests.support.recording import Event, Model, Recording, State, crash_states, found_in
from tests.support.scenarios import SCENARIOS, SMALL, Expected, Opened, Scenario, Stage, pieces
from tests.support.soundness import (
    AFTER_CRASH,
    Picture,
    Written,
    assert_store_is_sound,
    judge,
    picture_of,
    picture_of_files,
    rows_in,
)
from tests.support.unthreaded import run_unthreaded, unthreaded

every_scenario = pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda one: one.__name__)


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    """A folder in memory if the machine has one: thousands of small directories are made there."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="crash-", dir=memory if memory.is_dir() else tmp_path))
    yield Ground(folder)
    shutil.rmtree(folder)


def settings(root: Path) -> StoreSettings:
    return StoreSettings(root=root, grace_seconds=0, max_share=1, reserve_bytes=0, reserve_share=0)


class Ground:
    """Where one recording and its crashed directories live."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.copies = folder / "copies"
        self.copies.mkdir(parents=True)
        self._numbers = itertools.count()
        self._seen: set[int] = set()
        self._rows: dict[str, dict[str, list[Any]]] = {}
        """Of copies of the index."""
        self.checked = 0

    def record(self, scenario: Scenario, recording: type[Recording] = Recording) -> Stage:
        """Run a scenario to its end and return its stage, whose log is complete."""
        root = self._fresh("data")
        root.mkdir()
        initialize(root, disk=Disk(relaxed=True))
        disk = recording(root, self.copies, found_in(root, self.copies))

        async def run() -> Stage:
            store = await open_store(settings(root), disk=disk, observer=disk.observe)
            stage = Stage(store, disk, root)
            stage.begin()
            try:
                await scenario(stage)
            finally:
                await store.close()
            return stage

        return asyncio.run(run())

    def check(self, state: State, *, is_new_boot: bool) -> None:
        """Open what a crash left, look from the outside, let housekeeping work, look again.

        The same directory with the same notes is looked at once.
        """
        if hash(state) in self._seen:
            return
        self._seen.add(hash(state))
        expected = self.look(state)
        root = self._fresh("crash")
        state.materialize(root)
        if not is_new_boot:
            assert picture_of(root) == self.picture(state), "the picture is the directory's"
        with unthreaded():
            initialize(root, disk=Disk(relaxed=True))
        with another_boot() if is_new_boot else nullcontext():
            run_unthreaded(_check_open(root, expected))
        assert_store_is_sound(root)
        shutil.rmtree(root)
        self.checked += 1

    def look(self, state: State) -> Expected:
        """Look from the outside at the directory that a crash left, which nobody has made yet."""
        expected = Expected.of(state.notes)
        rotten = frozenset(Digest.of(content).hex for content in expected.rotten)
        tolerate = msgspec.structs.replace(AFTER_CRASH, rotten=rotten)
        judge(self.picture(state), tolerate, "what a crash left")
        return expected

    def picture(self, state: State) -> Picture:
        """What is seen of the directory: a copy of the index is read once, whatever is beside."""
        rows = self._rows.get(state.index)
        if rows is None:
            rows = self._rows[state.index] = rows_in(Path(state.index))
        return picture_of_files({path: Written(content) for path, content in state.files}, rows)

    def recover(self, events: Sequence[Event]) -> list[Event]:
        """Kill the process after `events`, open the store anew and let housekeeping work.

        Returns the log as it then is: what the dead one had not synced may still be lost.
        """
        root = self._fresh("killed")
        Model(events).now().materialize(root)
        disk = Recording(root, self.copies, events)

        async def run() -> None:
            store = await open_store(settings(root), disk=disk, observer=disk.observe)
            try:
                await store.quarantine.settle()
                await store.fsck.run(repair=True)
            finally:
                await store.close()

        run_unthreaded(run())
        shutil.rmtree(root)
        return disk.events

    def _fresh(self, name: str) -> Path:
        return self.folder / f"{name}-{next(self._numbers)}"


async def _check_open(root: Path, expected: Expected) -> None:
    store = await open_store(settings(root), disk=Disk(relaxed=True))
    try:
        await store.quarantine.settle()
        report = await store.fsck.run(repair=True)
        await store.scrub.run()
        rotten = {str(Digest.of(content)) for content in expected.rotten}
        for finding in report.findings:
            is_serious = finding.problem.startswith(("missing", "dangling", "orphan: the bytes"))
            assert not is_serious or finding.digest in rotten, finding
        for content in sorted(expected.kept | expected.present):
            await assert_readable(store, content)
        for content in sorted(expected.kept):
            assert await store.index.read(partial(claims.any_ref, digest=Digest.of(content)))
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
    try:
        session = await store.uploads.get(opened.session)
    except UploadNotFound:
        raise AssertionError("an acknowledged session is gone") from None
    assert session.offset >= opened.offset
    rest = opened.content[session.offset :]
    after = await store.uploads.append(
        opened.session, session.offset, pieces(rest, 7), length=len(opened.content)
    )
    assert after.digest == Digest.of(opened.content)
    await assert_readable(store, opened.content)


@contextmanager
def another_boot() -> Iterator[None]:
    """After losing power the machine has booted again."""
    modules = _with_boot_id(len(sys.modules))
    for module in modules:
        module.boot_id = _another
    try:
        yield
    finally:
        for module in modules:
            module.boot_id = boot_id


@cache
def _with_boot_id(loaded: int) -> list[Any]:
    return [
        module
        for name, module in list(sys.modules.items())
        if name.startswith("store.") and getattr(module, "boot_id", None) is boot_id
    ]


def _another() -> str:
    return "another"


@contextmanager
def described(stage: Stage, position: int) -> Iterator[None]:
    """Say with a failure at which of the operations the crash came."""
    try:
        yield
    except AssertionError as error:
        last = stage.disk.events[max(0, position - 6) : position]
        lines = [f"{e.kind} {e.path} {e.target} {str(e.note or '')[:60]}" for e in last]
        error.add_note("\n  ".join([f"crashed after operation {position}:", *lines]))
        raise


def check_every_crash(ground: Ground, stage: Stage) -> None:
    for position, state in crash_states(stage.disk.events, start=stage.start):
        with described(stage, position):
            ground.check(state, is_new_boot=True)


@every_scenario
def test_acknowledged_blobs_survive_every_crash(ground: Ground, scenario: Scenario) -> None:
    stage = ground.record(scenario)

    check_every_crash(ground, stage)

    assert ground.checked >= 2


@every_scenario
def test_visible_blobs_are_whole_in_every_crash_state(ground: Ground, scenario: Scenario) -> None:
    """Before anything is put in order, from the very first operation on, with other samples."""
    stage = ground.record(scenario)
    for position, state in crash_states(stage.disk.events, start=stage.first, seed=1):
        with described(stage, position):
            ground.look(state)


@every_scenario
def test_acknowledged_blobs_survive_every_kill(ground: Ground, scenario: Scenario) -> None:
    """A killed process loses nothing that it did; the machine has not booted meanwhile."""
    stage = ground.record(scenario)
    for position in range(stage.start, len(stage.disk.events) + 1):
        with described(stage, position):
            ground.check(Model(stage.disk.events[:position]).now(), is_new_boot=False)


@every_scenario
def test_what_is_put_in_order_after_a_kill_survives_a_crash(
    ground: Ground, scenario: Scenario
) -> None:
    """What the dead process had not synced must be synced before it is declared present."""
    stage = ground.record(scenario)
    for position in range(stage.start, len(stage.disk.events) + 1):
        if position > stage.start and stage.disk.events[position - 1].kind == "note":
            continue
        with described(stage, position):
            events = ground.recover(stage.disk.events[:position])
            for _, state in crash_states(events, start=len(events)):
                ground.look(state)


# The suite can fail.


class ForgetsData(Recording):
    """Leaves the content of files unsynced."""

    def sync_data(self, descriptor: int, path: str) -> None:
        pass


class ForgetsNames(Recording):
    """Leaves directories unsynced."""

    def sync_directory(self, path: str) -> None:
        pass


class ForgetsShards(Recording):
    """Leaves the names of new directories unsynced."""

    def make_directory(self, path: str, *, below: str) -> int:
        os.makedirs(path, exist_ok=True)
        for parent in (os.path.dirname(path), path):
            self.events.append(Event("mkdir", path=os.path.relpath(parent, self._root)))
        return 2


@pytest.mark.parametrize("recording", [ForgetsData, ForgetsNames, ForgetsShards])
def test_a_missing_sync_is_found(ground: Ground, recording: type[Recording]) -> None:
    stage = ground.record(scenarios.put_one, recording)

    with pytest.raises(AssertionError, match=r"has a file with|has no file|is not whole"):
        check_every_crash(ground, stage)


class ForgetsEverything(Recording):
    """Leaves out the one sync of many files."""

    def sync_everything(self, watch: int) -> None:
        pass


def test_a_missing_sync_of_many_is_found(ground: Ground) -> None:
    stage = ground.record(scenarios.put_together, ForgetsEverything)

    with pytest.raises(AssertionError, match=r"has a file with|has no file|is not whole"):
        check_every_crash(ground, stage)


@pytest.mark.parametrize("recording", [ForgetsData, ForgetsNames])
def test_a_missing_sync_of_a_session_is_found(ground: Ground, recording: type[Recording]) -> None:
    stage = ground.record(scenarios.upload_in_parts, recording)

    with pytest.raises(AssertionError, match=r"has lost its staging file|bytes"):
        check_every_crash(ground, stage)


def test_a_row_before_its_file_is_found(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    promote = Ingest._promote_missing

    async def promote_nothing(*_: Any) -> None:
        pass

    async def promote_late(self: Ingest, staged: Any) -> None:
        await promote(self, {one.digest: one for one in staged}, _absent(staged), None)
        await self.discard(staged)

    monkeypatch.setattr(Ingest, "_promote_missing", promote_nothing)
    monkeypatch.setattr(
        Ingest, "remove_later", lambda self, staged: self.later(promote_late(self, staged))
    )
    stage = ground.record(scenarios.put_one)

    with pytest.raises(AssertionError, match="is present and has no file"):
        check_every_crash(ground, stage)


def _absent(staged: Any) -> Any:
    return mock.Mock(found={one.digest: None for one in staged})


def test_an_acknowledgement_before_the_commit_is_found(ground: Ground) -> None:
    async def acknowledge_early(stage: Stage) -> None:
        stage.note(scenarios.Kept(SMALL))
        await stage.put(SMALL)

    stage = ground.record(acknowledge_early)

    with pytest.raises(AssertionError, match="an acknowledged blob has no row"):
        check_every_crash(ground, stage)


# Particular traps.


@contextmanager
def nobody(*paths: Path) -> Iterator[None]:
    """Not being root, whom permissions do not stop."""
    if os.geteuid() != 0:
        yield
        return
    for path in paths:
        os.chown(path, 65534, 65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_session_killed_before_its_last_commit_can_be_finished(ground: Ground) -> None:
    """Its file is promoted and so read-only, which stops everybody but root from writing to it."""
    stage = ground.record(scenarios.upload_in_parts)
    events = stage.disk.events
    last_link = max(at for at, event in enumerate(events) if event.kind == "link")
    root = ground.folder / "killed"
    state = Model(events[: last_link + 1]).now()
    state.materialize(root)
    expected = Expected.of((*state.notes, *[n for n in state.notes if isinstance(n, Opened)][-1:]))
    promoted = next(root.glob("blobs/sha256/*/*/*"))
    (staged,) = (root / "uploads").iterdir()
    staged.unlink()
    os.link(promoted, staged)
    promoted.chmod(0o444)
    initialize(root, disk=Disk(relaxed=True))

    ground.folder.chmod(0o711)
    with nobody(root, *root.rglob("*")):
        asyncio.run(_check_open(root, expected))

    assert_store_is_sound(root)


def test_two_writers_of_one_segments_file_do_not_share_a_name(tmp_path: Path) -> None:
    digest = Digest.of(b"of something large")

    class Interrupted(Disk):
        """Lets another writer run to its end after the first has made its file."""

        other: Callable[[], None] | None = None

        def create(self, path: str) -> int:
            descriptor = super().create(path)
            other, self.other = self.other, None
            if other is not None:
                other()
            return descriptor

    root = tmp_path / "data"
    root.mkdir()
    initialize(root)
    disk, threads = Interrupted(), Threads()
    first = LocalBlobStore(root, threads, disk)
    second = LocalBlobStore(root, threads)
    disk.other = lambda: asyncio.run(second.write_segments(digest, b"whole"))

    asyncio.run(first.write_segments(digest, b"whole"))

    assert asyncio.run(second.read_segments(digest)) == b"whole"
    assert list((root / "uploads").iterdir()) == []
    threads.close()


def test_a_directory_without_its_first_start_finished_is_made_again(ground: Ground) -> None:
    """Losing power during `initialize` leaves nothing that the next start refuses."""
    root = ground.folder / "data"
    root.mkdir()
    disk = Recording(root, ground.copies)
    initialize(root, disk=disk)
    made = [event for event in disk.events if event.kind != "commit"]
    for position in range(len(made) + 1):
        fresh = ground.folder / f"first-{position}"
        state = Model(made[:position]).now()
        fresh.mkdir()
        for folder in state.folders:
            (fresh / folder).mkdir()
        for path, content in state.files:
            (fresh / path).write_bytes(content)
        initialize(fresh)
        asyncio.run(_check_open(fresh, Expected.of(())))
