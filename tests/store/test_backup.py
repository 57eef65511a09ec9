"""Backups of a store in use, and the stores that are made of them."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from store import holds, layout
from store.backups import directory as backup_directory
from store.backups.checking import BackupVerdict, verify_backup
from store.backups.directory import MARKER, PARTIAL, blob_path, finished, read_marker
from store.backups.making import BackupReport, make_backup
from store.backups.restoring import RestoreReport, restore_backup
from store.digest import Digest
from store.durable import Disk
from store.errors import (
    BlobNotFound,
    CollectionRefused,
    StorageFull,
    StoreError,
    StoreRefused,
    Unavailable,
)
from store.holds import HOLD_SECONDS, IndexHold, live_holds
from store.index.upgrade import STORE
from store.opening import Store, StoreSettings, initialize, open_store, read_facts
from store.segments import SEGMENT_BYTES
from tests.store.conftest import ManualClock
from tests.support.fresh import initialize_like_new
from tests.support.scenarios import may_go
from tests.support.soundness import assert_store_is_sound
from tests.support.storing import OWNER, body, content_of, damage, lose, put, release, row_of

LARGE = random.Random(7).randbytes(SEGMENT_BYTES * 2 + 77)
"""Has a segments file."""

ELSE = b"something else"
NEWEST = 999_999


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    root.mkdir()
    initialize_like_new(root, (STORE,))
    return root


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "backup"


@pytest.fixture
async def store(root: Path, clock: ManualClock) -> AsyncIterator[Store]:
    opened = await open_store(settings(root), clock=clock)
    yield opened
    await opened.close()


def settings(root: Path) -> StoreSettings:
    return StoreSettings(
        root=root, grace_seconds=0, undo_seconds=0, max_share=1, reserve_bytes=0, reserve_share=0
    )


async def backed_up(store: Store, target: Path, **options: Any) -> BackupReport:
    root = store.settings.root
    assert root is not None
    async with IndexHold(store.index, "backup") as hold:
        return await asyncio.to_thread(make_backup, root, target, hold=hold, **options)


async def restored(source: Path, root: Path, **options: Any) -> RestoreReport:
    root.mkdir(exist_ok=True)
    return await asyncio.to_thread(restore_backup, source, root, newest=NEWEST, **options)


async def verified(source: Path, **options: Any) -> BackupVerdict:
    return await asyncio.to_thread(partial(verify_backup, source, **options))


async def problems_of(source: Path) -> set[str]:
    return {one.problem for one in (await verified(source)).problems}


async def contents_of(root: Path) -> dict[str, bytes]:
    """What a restored store holds, after it was looked at in every way."""
    assert_store_is_sound(root)
    store = await open_store(settings(root))
    try:
        assert (await store.fsck.run(repair=False)).findings == []
        assert (await store.scrub.run()).findings == []
        return {
            str(info.digest): await content_of(store, info.digest)
            async for page in store.blobs.list()
            for info in page
        }
    finally:
        await store.close()


def named(*contents: bytes) -> dict[str, bytes]:
    return {str(Digest.of(content)): content for content in contents}


def during(stage: str, action: Callable[[], Awaitable[Any]]) -> Callable[[str, int, int], None]:
    """Do something on the loop, once, when the work has come to a stage."""
    loop = asyncio.get_running_loop()
    todo = [action]

    def report(at: str, done: int, total: int) -> None:
        if at == stage and todo:
            todo.clear()
            asyncio.run_coroutine_threadsafe(_awaited(action), loop).result()

    return report


async def _awaited(action: Callable[[], Awaitable[Any]]) -> None:
    await action()


async def collect(store: Store) -> str:
    await put(store, ELSE, owner="usr_else")  # nothing is collected where nothing is referenced
    report = await store.collector.apply(await store.collector.plan())
    return report.id


# There and back.


async def test_what_was_acknowledged_before_is_restored_byte_by_byte(
    store: Store, target: Path, tmp_path: Path
) -> None:
    """While others store, give up, collect, undo and purge without a pause."""
    before = {f"before {number}".encode() * 50 for number in range(60)} | {LARGE}
    for content in before:
        await put(store, content)
    is_over = asyncio.Event()
    acknowledged: set[bytes] = set()

    async def write(name: int) -> None:
        number = 0
        while not is_over.is_set():
            number += 1
            content = f"{name} {number}".encode() * 50
            digest = await put(store, content, owner=f"usr_{name}")
            acknowledged.add(content)
            if number % 3 == 0:
                await release(store, digest, owner=f"usr_{name}")

    async def give_up() -> None:
        for content in sorted(before - {LARGE})[:40]:
            await release(store, Digest.of(content))
            await asyncio.sleep(0)

    async def tidy() -> None:
        while not is_over.is_set():
            taken = await collect(store)
            if random.random() < 0.3:
                await store.collector.undo(taken)
            await store.collector.purge(everything=True)

    async def change_places() -> None:
        while not is_over.is_set():
            digest = Digest.of(random.choice(sorted(before)))
            with suppress(BlobNotFound, Unavailable):
                await store.archive.cool(digest, may_go)
            with suppress(BlobNotFound, Unavailable):
                await store.archive.thaw(Digest.of(random.choice(sorted(before))))
            await store.archive.spares.sweep(everything=True)

    def begin(stage: str, done: int, total: int) -> None:
        if stage == "blobs":
            begun.set()

    begun = threading.Event()
    tasks = [asyncio.create_task(write(1)), asyncio.create_task(write(2))]
    making = asyncio.create_task(backed_up(store, target, report=begin))
    await asyncio.to_thread(begun.wait)
    tasks += [asyncio.create_task(change_places())]
    tasks += [asyncio.create_task(give_up()), asyncio.create_task(tidy())]
    report = await making
    is_over.set()
    await asyncio.gather(*tasks)
    await restored(target, tmp_path / "new", read_back=True)
    found = await contents_of(tmp_path / "new")

    assert report.missing == []
    assert found.items() >= named(*before).items()
    assert set(found.values()) - before - {ELSE} <= acknowledged
    assert all(str(Digest.of(content)) == digest for digest, content in found.items())


async def test_a_restored_store_is_of_a_new_epoch_and_collects_nothing_unasked(
    store: Store, root: Path, target: Path, tmp_path: Path, clock: ManualClock
) -> None:
    digest = await put(store, b"kept")
    loose = await put(store, b"loose")
    await release(store, loose)
    new = tmp_path / "new"
    await backed_up(store, target)
    report = await restored(target, new)
    before, after = read_facts(root), read_facts(new)

    assert before is not None
    assert after is not None
    assert (after.store_id, after.epoch) == (before.store_id, before.epoch + 1)
    assert (report.epoch, report.blobs, report.missing) == (after.epoch, 2, [])
    await asyncio.to_thread(initialize, new)
    assert after == read_facts(new)
    again = await open_store(settings(new), clock=clock)
    try:
        with pytest.raises(CollectionRefused, match="restored from a backup"):
            await collect(again)
        await again.collector.confirm()
        await collect(again)
        assert await row_of(again, loose) is None
        assert await content_of(again, digest) == b"kept"
    finally:
        await again.close()


async def test_what_has_no_files_in_a_backup_is_forgotten(
    store: Store, target: Path, tmp_path: Path
) -> None:
    """Quarantine, unfinished uploads, leases and the hold of the backup itself."""
    await put(store, b"kept")
    await release(store, await put(store, b"collected"))
    taken = await collect(store)
    session = await store.uploads.create(OWNER, length=10, expected=None)
    await store.uploads.append(session.id, 0, body(b"abc"))
    await backed_up(store, target)
    await restored(target, tmp_path / "new")

    assert await contents_of(tmp_path / "new") == named(b"kept", ELSE)
    again = await open_store(settings(tmp_path / "new"))
    try:
        assert (await again.collector.undo(taken)).returned == 0
        assert await again.index.read(live_holds) == []
    finally:
        await again.close()


async def test_segments_come_along(store: Store, target: Path, tmp_path: Path) -> None:
    digest = await put(store, LARGE)
    await backed_up(store, target)
    await restored(target, tmp_path / "new")
    key = layout.segments_key(digest)

    assert (tmp_path / "new" / key).read_bytes() == (tmp_path / "data" / key).read_bytes()
    assert (tmp_path / "new" / layout.blob_key(digest)).stat().st_mode & 0o777 == 0o444


# What others do meanwhile.


async def _purge(store: Store) -> None:
    await collect(store)
    await store.collector.purge(everything=True)


async def _undo(store: Store) -> None:
    await store.collector.undo(await collect(store))


async def _heal(store: Store) -> None:
    await damage(store, Digest.of(b"wanted"), b"wrong!")
    await store.scrub.run()
    await put(store, b"wanted", owner="usr_other")


async def _again(store: Store) -> None:
    """Collected, stored anew, and the collection undone, which then removes the first file."""
    taken = await collect(store)
    await put(store, b"wanted", owner="usr_other")
    await store.collector.undo(taken)


async def _recollected(store: Store) -> None:
    """Its file lies in quarantine under a generation that the copied index does not know."""
    await _undo(store)
    await _purge(store)


@pytest.mark.parametrize("action", [_purge, _undo, _heal, _again, _recollected])
async def test_a_blob_that_the_index_names_is_found_wherever_it_went(
    store: Store, target: Path, tmp_path: Path, action: Callable[[Store], Awaitable[None]]
) -> None:
    digest = await put(store, b"wanted")

    async def meanwhile() -> None:
        await release(store, digest)
        await action(store)

    report = await backed_up(store, target, report=during("blobs", meanwhile))
    await restored(target, tmp_path / "new")

    assert report.missing == []
    assert await contents_of(tmp_path / "new") == named(b"wanted")


async def test_cold_blobs_are_in_a_backup_and_hot_where_it_is_restored(
    store: Store, root: Path, target: Path, tmp_path: Path
) -> None:
    await put(store, b"warm")
    for content in (LARGE, ELSE):
        assert await store.archive.cool(await put(store, content), may_go) == "moved"

    report = await backed_up(store, target)

    assert (report.missing, report.blobs) == ([], 3)
    assert (await verified(target)).found == 0
    await restored(target, tmp_path / "restored")
    assert await contents_of(tmp_path / "restored") == named(b"warm", LARGE, ELSE)


async def test_no_backup_is_made_while_the_archive_is_away(
    store: Store, root: Path, target: Path
) -> None:
    """What cannot be read now is not missing, and a backup without it would say so."""
    await store.archive.cool(await put(store, LARGE), may_go)
    (root / "archive").rename(root / "away")

    with pytest.raises(StoreRefused, match="mount its disk"):
        await backed_up(store, target)

    (root / "away").rename(root / "archive")
    assert (await backed_up(store, target)).missing == []


async def test_a_blob_that_is_on_its_way_is_looked_for_again(
    store: Store, root: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is brought back between the look at its name and the look into quarantine."""
    from store.backups import sources

    digest = await put(store, b"wanted")
    taken = ""
    loop = asyncio.get_running_loop()
    listing = sources._asides

    def asides(*args: Any) -> list[str]:
        back = asyncio.run_coroutine_threadsafe(store.collector.undo(taken), loop)
        back.result()
        return listing(*args)

    def asides_by_generation(paths: Sequence[str], seen: Any) -> Any:
        # The generation that the index knew is not looked for, so that the listing is needed.
        return unseen([path for path in paths if not path.endswith(f".{generation}")], seen)

    row = await row_of(store, digest)
    assert row is not None
    generation = row.generation
    unseen = sources._unseen
    monkeypatch.setattr(sources, "_unseen", asides_by_generation)
    monkeypatch.setattr(sources, "_asides", asides)

    async def meanwhile() -> None:
        nonlocal taken
        await release(store, digest)
        taken = await collect(store)

    report = await backed_up(store, target, report=during("blobs", meanwhile))

    assert report.missing == []
    assert (await verified(target)).found == 0


async def test_purging_waits_for_a_hold_and_goes_on_after_it(store: Store, target: Path) -> None:
    digest = await put(store, b"wanted")
    seen = []

    async def meanwhile() -> None:
        await release(store, digest)
        await collect(store)
        seen.append(await store.collector.purge(everything=True))

    await backed_up(store, target, report=during("blobs", meanwhile))
    after = await store.collector.purge(everything=True)

    assert [one.purged for one in seen] == [0]
    assert seen[0].held_until == store.clock() + HOLD_SECONDS * 1_000_000
    assert (after.purged, after.held_until) == (1, None)


async def test_a_hold_of_the_dead_expires(store: Store, clock: ManualClock) -> None:
    await release(store, await put(store, b"loose"))
    await collect(store)
    await IndexHold(store.index, "killed").__aenter__()

    assert (await store.collector.purge(everything=True)).purged == 0
    clock.advance(HOLD_SECONDS)
    assert (await store.collector.purge(everything=True)).purged == 1


async def test_a_backup_whose_hold_had_lapsed_is_given_up(
    store: Store, target: Path, clock: ManualClock
) -> None:
    digest = await put(store, b"wanted")
    await backed_up(store, target)

    async def suspended() -> None:
        await release(store, digest)
        await collect(store)
        clock.advance(HOLD_SECONDS)
        await store.collector.purge(everything=True)

    with pytest.raises(Unavailable, match="hold on quarantine has expired"):
        await backed_up(store, target, report=during("index", suspended))

    marker = read_marker(target)
    assert marker is not None
    assert marker.unfinished is not None
    assert [one.number for one in marker.generations] == [1]
    assert (await verified(target)).found == 0


async def test_a_long_backup_renews_its_hold(
    store: Store, target: Path, clock: ManualClock
) -> None:
    """Each file takes nearly half as long as a hold lasts, and there are five."""
    for number in range(5):
        await put(store, f"file {number}".encode())

    class Slow(Disk):
        def copy(self, source: int, target: int, path: str, size_bytes: int, at: int) -> int:
            clock.advance(HOLD_SECONDS * 0.4)
            return super().copy(source, target, path, size_bytes, at)

    async def purge() -> None:
        await release(store, Digest.of(b"file 4"))
        await _purge(store)

    report = await backed_up(
        store,
        target,
        at_once=1,
        disk=Slow(),
        monotonic=lambda: clock.now / 1_000_000,
        report=during("blobs", purge),
    )

    assert (report.copied_blobs, report.missing) == (5, [])


async def test_holds_are_told_apart_and_bounded(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holds, "MOST_HOLDS", 2)
    async with IndexHold(store.index, "one") as one:
        async with IndexHold(store.index, "other"):
            assert [hold.reason for hold in await store.index.read(live_holds)] == ["one", "other"]
        assert [hold.id for hold in await store.index.read(live_holds)] == [one.id]
        await IndexHold(store.index, "another").__aenter__()
        with pytest.raises(StoreRefused, match="2 holds"):
            await IndexHold(store.index, "too many").__aenter__()


# Damage in the store.


async def test_damage_is_reported_and_does_not_enter_the_backup(
    store: Store, target: Path, tmp_path: Path
) -> None:
    rotten, lost = await put(store, b"rotten"), await put(store, b"lost")
    await put(store, b"fine")
    await damage(store, rotten, b"rotteN")
    await lose(store, lost)
    report = await backed_up(store, target)
    await restored(target, tmp_path / "new")

    assert {(one.digest, one.problem) for one in report.missing} == {
        (str(rotten), "the bytes do not match"),
        (str(lost), "the file is missing"),
    }
    assert all(one.owners == [OWNER] for one in report.missing)
    assert not Path(blob_path(target, rotten)).exists()
    assert os.listdir(target / PARTIAL) == []
    assert (await verified(target)).found == 0
    again = await open_store(settings(tmp_path / "new"))
    try:
        for digest, content in ((rotten, b"rotten"), (lost, b"lost")):
            row = await row_of(again, digest)
            assert row is not None
            assert row.state == "damaged"
            assert await put(again, content) == digest
        assert (await again.fsck.run(repair=False)).findings == []
    finally:
        await again.close()


async def test_what_an_earlier_generation_had_whole_heals_the_restored_store(
    store: Store, target: Path, tmp_path: Path
) -> None:
    digest = await put(store, b"wanted")
    await backed_up(store, target)
    await damage(store, digest, b"wrong!")
    await store.scrub.run()
    report = await backed_up(store, target)
    await restored(target, tmp_path / "new")

    assert report.missing == []
    assert await contents_of(tmp_path / "new") == named(b"wanted")


async def test_a_file_that_cannot_be_read_is_damage_and_no_reason_to_stop(
    store: Store, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = await put(store, b"on a bad sector")
    await put(store, b"fine")
    pread = os.pread

    class Failing(Disk):
        def copy(self, source: int, target: int, path: str, size_bytes: int, at: int) -> int:
            if bad.hex in path:
                raise OSError(errno.EIO, "Input/output error")
            return super().copy(source, target, path, size_bytes, at)

    def fails(descriptor: int, size: int, at: int) -> bytes:
        if size == 1 << 20:
            raise OSError(errno.EIO, "Input/output error")
        return pread(descriptor, size, at)

    monkeypatch.setattr(os, "pread", fails)
    report = await backed_up(store, target, disk=Failing())

    assert [(one.digest, one.problem) for one in report.missing] == [
        (str(bad), "the file cannot be read")
    ]
    assert report.blobs == 1


# One after the other.


async def test_what_is_there_is_not_copied_again(store: Store, target: Path) -> None:
    digest = await put(store, b"old")
    large = await put(store, LARGE)
    first = await backed_up(store, target)
    before = {one: os.stat(blob_path(target, one)) for one in (digest, large)}
    await put(store, b"new")
    second = await backed_up(store, target, check=True)

    assert (first.copied_blobs, second.copied_blobs, second.blobs) == (2, 1, 3)
    for one, was in before.items():
        now = os.stat(blob_path(target, one))
        assert (now.st_ino, now.st_mtime_ns) == (was.st_ino, was.st_mtime_ns)


async def test_checking_replaces_what_is_damaged_in_the_backup(store: Store, target: Path) -> None:
    digest = await put(store, b"wanted")
    await backed_up(store, target)
    path = Path(blob_path(target, digest))
    path.chmod(0o600)
    path.write_bytes(b"wrong!")

    assert (await backed_up(store, target)).copied_blobs == 0
    assert await problems_of(target) == {"the bytes do not match"}
    assert (await backed_up(store, target, check=True)).copied_blobs == 1
    assert (await verified(target)).found == 0
    path.chmod(0o600)
    path.write_bytes(b"short")
    assert (await backed_up(store, target)).copied_blobs == 1


async def test_only_so_many_generations_are_kept_and_what_they_name(
    store: Store, target: Path, tmp_path: Path
) -> None:
    contents = [f"content {number}".encode() for number in range(4)]
    for content in contents:
        await release(store, await put(store, content))
        report = await backed_up(store, target, keep=2, private=["store.json"])
        await _purge(store)

    assert report.removed_blobs == 1
    assert [one.number for one in finished(target)[0].generations] == [3, 4]
    assert sorted(os.listdir(target / "indexes")) == ["3.sqlite3", "4.sqlite3"]
    assert sorted(os.listdir(target / "private")) == ["3", "4"]
    found = {path.name for path in (target / layout.BLOBS).rglob("*") if path.is_file()}
    assert found == {Digest.of(content).hex for content in (*contents[2:], ELSE)}
    await restored(target, tmp_path / "new", number=3)
    assert await contents_of(tmp_path / "new") == named(contents[2], ELSE)


async def test_nothing_is_removed_where_it_is_not_known_what_is_named(
    store: Store, target: Path
) -> None:
    """An index of a listed generation is gone: the new backup is finished all the same."""
    for content in (b"one", b"two"):
        await release(store, await put(store, content))
        await backed_up(store, target)
        await _purge(store)
    (target / "indexes/2.sqlite3").unlink()
    report = await backed_up(store, target, keep=2)

    assert "2.sqlite3" in (report.not_removed or "")
    assert finished(target)[1].number == 3
    assert Path(blob_path(target, Digest.of(b"two"))).exists()
    assert await problems_of(target) == {"it is missing"}


async def test_a_snapshot_shares_its_blobs_and_says_so(
    store: Store, root: Path, target: Path, tmp_path: Path
) -> None:
    digest = await put(store, b"wanted")
    report = await backed_up(store, target, kind="snapshot")
    marker = read_marker(target)

    assert marker is not None
    assert report.kind == marker.kind == "snapshot"
    source = root / layout.blob_key(digest)
    assert source.stat().st_ino == os.stat(blob_path(target, digest)).st_ino
    await restored(target, tmp_path / "new")
    assert (tmp_path / "new" / layout.blob_key(digest)).stat().st_nlink == 1
    with pytest.raises(StoreRefused, match="is a snapshot"):
        await backed_up(store, target)
    await backed_up(store, tmp_path / "other")
    with pytest.raises(StoreRefused, match="is a backup"):
        await backed_up(store, tmp_path / "other", kind="snapshot")


async def test_private_files_are_taken_along_only_if_they_are_named(
    store: Store, root: Path, target: Path, tmp_path: Path
) -> None:
    (root / "keys").mkdir()
    (root / "keys/root").write_bytes(b"k" * 32)
    await backed_up(store, target)
    await restored(target, tmp_path / "without")
    report = await backed_up(store, target, private=["keys/root"])
    await restored(target, tmp_path / "with")
    key = tmp_path / "with/keys/root"

    assert report.private == ["keys/root"]
    assert not (tmp_path / "without/keys").exists()
    assert key.read_bytes() == b"k" * 32
    assert key.stat().st_mode & 0o777 == 0o600
    assert key.parent.stat().st_mode & 0o777 == 0o700
    assert (target / "private").stat().st_mode & 0o777 == 0o700
    assert (target / "private/2/keys/root").stat().st_mode & 0o777 == 0o600


# What is refused.


async def test_a_directory_that_is_something_else_is_refused(
    store: Store, root: Path, target: Path, tmp_path: Path
) -> None:
    target.mkdir()
    (target / "thesis.txt").write_text("years of work")
    with pytest.raises(StoreRefused, match=r"thesis\.txt"):
        await backed_up(store, target)
    for inside in (root, root / "backup", tmp_path):
        with pytest.raises(StoreRefused, match="lie in each other"):
            await backed_up(store, inside)

    assert os.listdir(target) == ["thesis.txt"]


async def test_a_backup_of_another_store_is_refused(
    store: Store, target: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    await asyncio.to_thread(initialize_like_new, other, (STORE,))
    await backed_up(store, target)
    before = (target / MARKER).read_bytes()
    again = await open_store(settings(other))
    try:
        with pytest.raises(StoreRefused, match="backup of store"):
            await backed_up(again, target)
    finally:
        await again.close()

    assert (target / MARKER).read_bytes() == before


async def test_two_at_once_are_refused(store: Store, target: Path) -> None:
    await put(store, b"content")

    async def second() -> None:
        with pytest.raises(StoreRefused, match="another backup"):
            await backed_up(store, target)

    await backed_up(store, target, report=during("blobs", second))


class _NoLocks:
    """Stands for `fcntl` where the file system keeps no locks."""

    LOCK_EX = LOCK_NB = 0

    def flock(self, descriptor: int, mode: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")


async def test_a_file_system_without_locks_takes_backups(
    store: Store, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(store, b"content")
    monkeypatch.setattr(backup_directory, "fcntl", _NoLocks())

    assert (await backed_up(store, target)).blobs == 1
    assert (await verified(target)).found == 0


async def test_a_restore_needs_a_finished_backup_and_an_empty_place(
    store: Store, root: Path, target: Path, tmp_path: Path
) -> None:
    with pytest.raises(StoreRefused, match="not a backup"):
        await restored(tmp_path, tmp_path / "new")
    with pytest.raises(StorageFull):
        await backed_up(store, target, disk=_full_after(0))
    with pytest.raises(StoreRefused, match=r"not a backup|not finished"):
        await restored(target, tmp_path / "new")
    await backed_up(store, target)
    with pytest.raises(StoreRefused, match="no generation 9"):
        await restored(target, tmp_path / "new", number=9)
    with pytest.raises(StoreRefused, match="data directory already"):
        await restored(target, root)
    (tmp_path / "new/notes").write_text("mine")
    with pytest.raises(StoreRefused, match="notes"):
        await restored(target, tmp_path / "new")

    assert os.listdir(tmp_path / "new") == ["notes"]


async def test_an_unfinished_restore_goes_on_with_the_same_generation_only(
    store: Store, target: Path, tmp_path: Path
) -> None:
    await put(store, b"first")
    await backed_up(store, target)
    await put(store, b"second")
    await backed_up(store, target)
    stop = threading.Event()

    async def end() -> None:
        stop.set()

    with pytest.raises(Unavailable, match="interruption"):
        await restored(target, tmp_path / "new", number=1, stop=stop, report=during("blobs", end))
    with pytest.raises(StoreRefused, match="unfinished restore of generation 1"):
        await restored(target, tmp_path / "new")
    await restored(target, tmp_path / "new", number=1)

    assert await contents_of(tmp_path / "new") == named(b"first")


async def test_a_restore_that_was_whole_touches_nothing_any_more(
    store: Store, target: Path, tmp_path: Path
) -> None:
    """It was killed before its last step, a server ran, and it is asked once more."""
    await put(store, b"first")
    await backed_up(store, target)

    class Dies(Disk):
        def unlink(self, path: str) -> None:
            if path.endswith("plan.json"):
                raise KeyboardInterrupt
            super().unlink(path)

    new = _made(tmp_path / "new")
    with pytest.raises(KeyboardInterrupt):
        restore_backup(target, new, newest=NEWEST, disk=Dies())
    again = await open_store(settings(new))
    await put(again, b"later")
    await again.close()
    await restored(target, new)

    assert os.listdir(new).count(layout.RESTORING) == 0
    assert await contents_of(new) == named(b"first", b"later")


async def test_a_disk_without_room_is_refused_before_anything_is_written(
    store: Store, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(store, LARGE)
    await backed_up(store, target)
    found = os.statvfs(tmp_path)
    little = os.statvfs_result([*found[:4], 1, *found[5:]])
    monkeypatch.setattr(os, "statvfs", lambda _: little)
    with pytest.raises(StorageFull):
        await restored(target, tmp_path / "new")

    assert os.listdir(tmp_path / "new") == []


async def test_a_store_is_not_restored_into_its_backup(store: Store, target: Path) -> None:
    await backed_up(store, target)
    with pytest.raises(StoreRefused, match="lie in each other"):
        await restored(target, target / "new")


async def test_a_newer_or_damaged_index_is_not_restored(
    store: Store, target: Path, tmp_path: Path
) -> None:
    await backed_up(store, target)
    with pytest.raises(StoreRefused, match="program knows up to 0"):
        await asyncio.to_thread(restore_backup, target, _made(tmp_path / "new"), newest=0)
    with (target / "indexes/1.sqlite3").open("r+b") as file:
        file.seek(5000)
        file.write(b"???")
    with pytest.raises(StoreRefused, match="not what was written"):
        await restored(target, tmp_path / "new")

    assert os.listdir(tmp_path / "new") == []
    assert await problems_of(target) == {"it is not what was written"}


async def test_a_backup_that_lacks_something_is_restored_only_if_that_is_enough(
    store: Store, target: Path, tmp_path: Path
) -> None:
    lost, rotten = await put(store, b"lost"), await put(store, b"rotten")
    await put(store, b"fine")
    await backed_up(store, target)
    Path(blob_path(target, lost)).unlink()
    with pytest.raises(StoreRefused, match="1 blobs are missing"):
        await restored(target, tmp_path / "new")
    assert os.listdir(tmp_path / "new") == []
    path = Path(blob_path(target, rotten))
    path.chmod(0o600)
    path.write_bytes(b"rotteN")
    Path(blob_path(target, lost)).write_bytes(b"lost")
    with pytest.raises(StoreError, match="1 blobs of the backup are damaged"):
        await restored(target, tmp_path / "new")
    assert read_facts(tmp_path / "new") is None
    Path(blob_path(target, lost)).unlink()
    (tmp_path / "new" / layout.blob_key(lost)).unlink()

    report = await restored(target, tmp_path / "new", is_partial_enough=True)

    assert set(report.missing) == {str(lost), str(rotten)}
    again = await open_store(settings(tmp_path / "new"))
    try:
        with pytest.raises(BlobNotFound):
            await content_of(again, lost)
        findings = (await again.fsck.run(repair=False)).findings
        assert {one.problem for one in findings} == {f"dangling: needed by {OWNER} (pin)"}
    finally:
        await again.close()


async def test_reading_back_finds_what_the_disk_lost(
    store: Store, target: Path, tmp_path: Path
) -> None:
    """Nothing is declared whole then; asked again, the blob is copied again."""
    digest = await put(store, b"wanted")
    await backed_up(store, target)

    async def rot() -> None:
        path = tmp_path / "new" / layout.blob_key(digest)
        path.chmod(0o600)
        path.write_bytes(b"wrong!")

    with pytest.raises(StoreError, match="does not hold what was written"):
        await restored(target, tmp_path / "new", read_back=True, report=during("reading back", rot))
    assert read_facts(tmp_path / "new") is None
    await restored(target, tmp_path / "new", read_back=True)

    assert await contents_of(tmp_path / "new") == named(b"wanted")


# Verifying.


async def test_verifying_finds_every_kind_of_damage(store: Store, target: Path) -> None:
    digests = [await put(store, f"content {number}".encode()) for number in range(4)]
    large = await put(store, LARGE)
    await backed_up(store, target, private=["store.json"])
    await put(store, b"later")
    await backed_up(store, target)
    clean = await verified(target)
    flipped, cut, gone = (Path(blob_path(target, one)) for one in digests[:3])
    for path in (flipped, cut):
        path.chmod(0o600)
    flipped.write_bytes(b"Content 0")
    cut.write_bytes(b"cont")
    gone.unlink()
    (target / layout.segments_key(large)).write_bytes(b"other")
    (target / "private/1/store.json").unlink()

    verdict = await verified(target)

    assert (clean.generations, clean.blobs, clean.found) == ([1, 2], 6, 0)
    assert {(one.generation, one.what, one.problem) for one in verdict.problems} == {
        *((number, str(digests[0]), "the bytes do not match") for number in (1, 2)),
        *((number, str(digests[1]), "it has another size") for number in (1, 2)),
        *((number, str(digests[2]), "it is missing") for number in (1, 2)),
        *((number, str(large), "its segments do not match") for number in (1, 2)),
        (1, "private/1/store.json", "it is missing"),
    }
    assert verdict.found == 9


# A full disk.


def _full_after(bytes_left: int) -> Disk:
    class Full(Disk):
        left = bytes_left

        def copy(self, source: int, target: int, path: str, size_bytes: int, at: int) -> int:
            if self.left < size_bytes:
                raise OSError(errno.ENOSPC, "No space left on device")
            self.left -= size_bytes
            return super().copy(source, target, path, size_bytes, at)

        def write(self, descriptor: int, path: str, pieces: Any, at: int) -> int:
            if not bytes_left:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(descriptor, path, pieces, at)

    return Full()


async def test_a_full_disk_leaves_the_last_finished_backup(
    store: Store, target: Path, tmp_path: Path
) -> None:
    await put(store, b"old")
    await backed_up(store, target)
    await put(store, b"a longer one that is new")
    with pytest.raises(StorageFull):
        await backed_up(store, target, disk=_full_after(10))

    assert await store.index.read(live_holds) == []
    assert os.listdir(target / PARTIAL) == []
    assert (await verified(target)).found == 0
    await restored(target, tmp_path / "new")
    assert await contents_of(tmp_path / "new") == named(b"old")
    assert (await backed_up(store, target)).number == 3
    await restored(target, tmp_path / "newer")
    assert await contents_of(tmp_path / "newer") == named(b"old", b"a longer one that is new")


async def test_stopping_ends_it_and_keeps_what_was_finished(store: Store, target: Path) -> None:
    for number in range(20):
        await put(store, f"file {number}".encode())
    stop = threading.Event()

    def report(stage: str, done: int, total: int) -> None:
        if stage == "blobs":
            stop.set()

    with pytest.raises(Unavailable, match="interruption"):
        await backed_up(store, target, stop=stop, report=report)

    assert await store.index.read(live_holds) == []
    with pytest.raises(StoreRefused, match="not finished"):
        finished(target)


def _made(path: Path) -> Path:
    path.mkdir()
    return path


async def test_reading_a_backup_changes_nothing_in_it(
    store: Store, target: Path, tmp_path: Path
) -> None:
    """Not even a log beside an index: a backup may be on a medium that cannot be written."""
    await put(store, b"content")
    await backed_up(store, target)
    before = {path: path.stat().st_mtime_ns for path in target.rglob("*")}
    await verified(target)
    await restored(target, tmp_path / "new")

    assert before == {path: path.stat().st_mtime_ns for path in target.rglob("*")}
