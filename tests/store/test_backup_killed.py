"""A backup or a restore may end at any operation: what was finished stays, nothing half is whole.

Killed processes are tried at every operation on a file; for a lost power, every directory that it
may leave is looked at (`tests.support.recording`). The last tests take a sync away and expect to be
caught.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from registry.cli import directory
from registry.cli.exits import CommandError
from store import layout
from store.backups import making, restoring
from store.backups.checking import verify_backup
from store.backups.directory import MARKER, PARTIAL, finished, read_marker
from store.backups.making import BackupReport, make_backup
from store.backups.restoring import RestoreReport, restore_backup
from store.durable import Disk
from store.errors import StoreRefused
from store.index.copies import copy_whole
from store.index.upgrade import STORE
from store.opening import open_store, read_facts
from tests.store.test_backup import (
    ELSE,
    LARGE,
    NEWEST,
    collect,
    contents_of,
    named,
    settings,
)
from tests.support.fresh import initialize_like_new
from tests.support.recording import DIRECTORY, Event, Recording, State, crash_states
from tests.support.storing import put, release

GONE, OLD, NEW = b"gone", b"old", b"new"


@pytest.fixture(scope="module")
def ground() -> Iterator[Path]:
    """In memory if the machine has any: thousands of small files are made there."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="backup-", dir=memory if memory.is_dir() else None))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def store_and_backup(ground: Path) -> tuple[Path, Path]:
    """A store, and a backup of how it was before some came and some went."""
    root, target = ground / "data", ground / "backup"
    root.mkdir()
    initialize_like_new(root, (STORE,))

    async def change(*, gone: Sequence[bytes], come: Sequence[bytes]) -> None:
        store = await open_store(settings(root))
        for content in come:
            await put(store, content)
        for content in gone:
            digest = await put(store, content)
            await release(store, digest)
        if gone:
            await collect(store)
        await store.index.checkpoint()
        await store.close()

    asyncio.run(change(gone=(), come=(GONE, OLD, ELSE)))
    back_up(root, target)
    asyncio.run(change(gone=(GONE,), come=(NEW, LARGE)))
    return root, target


class Unheld:
    """Nobody else is at work here."""

    def renew(self) -> None:
        pass


def back_up(root: Path, target: Path, **options: Any) -> BackupReport:
    return make_backup(root, target, hold=Unheld(), at_once=1, keep=1, **options)


def restore(source: Path, root: Path, **options: Any) -> RestoreReport:
    root.mkdir(exist_ok=True)
    return restore_backup(source, root, newest=NEWEST, at_once=1, **options)


BEFORE = named(GONE, OLD, ELSE)
AFTER = named(OLD, ELSE, NEW, LARGE)


class Killed(BaseException):
    pass


class Dying(Disk):
    """Does so many operations; then the process is dead, and so is all it would do yet."""

    def __init__(self, left: int) -> None:
        super().__init__(relaxed=True)
        self.left = left

    def _count(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Killed

    def create(self, path: str) -> int:
        self._count()
        return super().create(path)

    def copy(self, source: int, target: int, path: str, size_bytes: int, at: int) -> int:
        self._count()
        return super().copy(source, target, path, size_bytes // 2 or 1, at)

    def write(self, descriptor: int, path: str, pieces: Any, at: int) -> int:
        self._count()
        return super().write(descriptor, path, pieces, at)

    def sync_data(self, descriptor: int, path: str) -> None:
        self._count()

    def rename(self, source: str, target: str) -> None:
        self._count()
        super().rename(source, target)

    def unlink(self, path: str) -> None:
        self._count()
        super().unlink(path)

    def mkdir(self, path: str) -> bool:
        self._count()
        return super().mkdir(path)


def every_death(work: Callable[[Disk], Any], survive: Callable[[], None]) -> int:
    """Run `work` anew for each operation at which it can die; return how many there were."""
    count = 0
    while True:
        disk = Dying(count)
        try:
            work(disk)
        except Killed:
            survive()
            count += 1
            continue
        return count


def test_a_killed_backup_leaves_the_last_finished_one(
    ground: Path, store_and_backup: tuple[Path, Path]
) -> None:
    root, earlier = store_and_backup
    target = ground / "killed"

    def work(disk: Disk) -> None:
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(earlier, target)
        back_up(root, target, disk=disk)

    def survive() -> None:
        _, newest = finished(target)
        assert newest.number in (1, 2)
        assert verify_backup(target, at_once=1).found == 0

    assert every_death(work, survive) > 30
    assert finished(target)[1].number == 2
    restore(target, ground / "of killed")
    assert asyncio.run(contents_of(ground / "of killed")) == AFTER


def test_a_first_backup_that_was_killed_is_none_and_the_next_goes_on(
    ground: Path, store_and_backup: tuple[Path, Path]
) -> None:
    """Each run dies a little later than the one before, and takes over what that one had copied."""
    root, _ = store_and_backup
    target = ground / "first"

    def survive() -> None:
        marker = read_marker(target)
        if marker is None or not marker.generations:
            with pytest.raises(StoreRefused, match=r"not finished|not a backup"):
                finished(target)
        else:
            assert verify_backup(target, at_once=1).found == 0

    assert every_death(lambda disk: back_up(root, target, disk=disk), survive) > 20
    assert verify_backup(target).found == 0
    assert os.listdir(target / PARTIAL) == []
    marker = read_marker(target)
    assert marker is not None
    assert marker.unfinished is None
    restore(target, ground / "of first")
    assert asyncio.run(contents_of(ground / "of first")) == AFTER


@pytest.mark.parametrize("is_going_on", [True, False], ids=["goes on", "from the start"])
def test_a_killed_restore_is_no_data_directory_until_it_is_whole(
    ground: Path, store_and_backup: tuple[Path, Path], *, is_going_on: bool
) -> None:
    _, source = store_and_backup
    new = ground / f"new {is_going_on}"

    def work(disk: Disk) -> None:
        if not is_going_on:
            shutil.rmtree(new, ignore_errors=True)
        restore(source, new, disk=disk)

    def survive() -> None:
        if read_facts(new) is not None:
            assert asyncio.run(contents_of(new)) == BEFORE
        elif set(os.listdir(new)):
            with pytest.raises(CommandError, match="restore that was not finished"):
                directory.check(new)

    assert every_death(work, survive) > 20
    assert asyncio.run(contents_of(new)) == BEFORE
    assert not (new / restoring.WORK).exists()


# Losing power.


class RecordingCopies(Recording):
    """Knows the copies of the kernel too, and takes note of what SQLite has written and synced."""

    def copy(self, source: int, target: int, path: str, size_bytes: int, at: int) -> int:
        return self.write(target, path, [os.pread(source, size_bytes, at)], at)

    def found(self, path: Path) -> None:
        with self._lock:
            name = self._relative(str(path))
            if name not in self._files:
                self._last += 1
                self._files[name] = self._last
            event = Event("found", path=name, file=self._files[name], content=path.read_bytes())
            self.events.append(event)


def recorded(
    work: Callable[[Disk], Any],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: type[RecordingCopies] = RecordingCopies,
) -> list[Event]:
    """Every operation of some work in a directory, which may hold something already."""
    numbered = enumerate(sorted(folder.rglob("*")), start=1)
    log = [
        Event(
            "found",
            path=str(path.relative_to(folder)),
            file=DIRECTORY if path.is_dir() else number,
            content=b"" if path.is_dir() else path.read_bytes(),
        )
        for number, path in numbered
    ]
    disk = kind(folder, folder, log)
    tidy = restoring._Restore._tidy

    def copied(source: Path, target: Path) -> None:
        copy_whole(source, target)
        disk.found(target)

    def tidied(self: Any, path: Path) -> None:
        tidy(self, path)
        disk.found(path)

    with monkeypatch.context() as patches:
        patches.setattr(making, "copy_whole", copied)
        patches.setattr(restoring, "copy_whole", copied)
        patches.setattr(restoring._Restore, "_tidy", tidied)
        work(disk)
    return disk.events


def materialized(state: State, folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name in state.folders:
        (folder / name).mkdir()
    for path, content in state.files:
        (folder / path).write_bytes(content)
    return folder


def check_backups(events: Sequence[Event], ground: Path, *, least: int) -> int:
    """Every directory that losing power may leave: what is listed as finished is whole."""
    checked = 0
    start = next((at for at, event in enumerate(events) if event.kind != "found"), 0)
    for _, state in crash_states(events, start=start):
        content = dict(state.files).get(MARKER)
        listed = [] if content is None else msgspec.json.decode(content)["generations"]
        assert len(listed) >= least
        if listed:
            target = materialized(state, ground / "lost power")
            assert read_marker(target) is not None
            verdict = verify_backup(target, at_once=1)
            assert verdict.found == 0, verdict.problems
        checked += 1
    return checked


def test_losing_power_leaves_the_last_finished_backup(
    ground: Path, store_and_backup: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, earlier = store_and_backup
    target = Path(shutil.copytree(earlier, ground / "second"))
    events = recorded(lambda disk: back_up(root, target, disk=disk), target, monkeypatch)

    assert check_backups(events, ground, least=1) > 50


def test_what_a_killed_run_had_not_synced_is_synced_by_the_next(
    ground: Path, store_and_backup: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first run dies before its names are durable, the second finds the files under them."""
    root, _ = store_and_backup
    target = ground / "continued"
    target.mkdir()

    class Dies(RecordingCopies):
        is_dead = False

        def sync_directory(self, path: str) -> None:
            if "blobs/sha256" in path and path.count("/") == str(target).count("/") + 4:
                self.is_dead = True
                raise Killed
            super().sync_directory(path)

    def twice(disk: Disk) -> None:
        assert isinstance(disk, Dies)
        with pytest.raises(Killed):
            back_up(root, target, disk=disk)
        disk.__class__ = RecordingCopies
        disk._made.clear()
        back_up(root, target, disk=disk)

    events = recorded(twice, target, monkeypatch, Dies)

    assert check_backups(events, ground, least=0) > 50


def test_losing_power_while_restoring_leaves_nothing_half(
    ground: Path, store_and_backup: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, source = store_and_backup
    new = ground / "recorded"
    new.mkdir()
    events = recorded(lambda disk: restore(source, new, disk=disk), new, monkeypatch)
    whole = again = 0
    for number, (_, state) in enumerate(crash_states(events)):
        if not state.folders and not state.files:
            continue
        left = materialized(state, ground / "lost restore")
        if read_facts(left) is not None:
            assert asyncio.run(contents_of(left)) == BEFORE
            whole += 1
        elif number % 12 == 0:
            restore(source, left)
            assert asyncio.run(contents_of(left)) == BEFORE
            again += 1

    assert whole >= 2
    assert again >= 5


# The tests can fail.


class ForgetsData(RecordingCopies):
    def sync_data(self, descriptor: int, path: str) -> None:
        pass


class ForgetsNames(RecordingCopies):
    def sync_directory(self, path: str) -> None:
        if layout.BLOBS not in path:
            super().sync_directory(path)


@pytest.mark.parametrize("kind", [ForgetsData, ForgetsNames])
def test_a_missing_sync_is_found(
    ground: Path,
    store_and_backup: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    kind: type[RecordingCopies],
) -> None:
    root, _ = store_and_backup
    target = ground / f"{kind.__name__}"
    target.mkdir()
    events = recorded(lambda disk: back_up(root, target, disk=disk), target, monkeypatch, kind)

    with pytest.raises((AssertionError, msgspec.DecodeError)):
        check_backups(events, ground, least=0)
