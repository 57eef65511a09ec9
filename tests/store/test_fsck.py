"""Fsck finds every way in which index and directory can disagree, and mends what can be mended."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from store.backends import staging
from store.blobs import StagedInfo, StagedWriter
from store.digest import Digest
from store.errors import Unavailable
from store.fsck import Fsck, FsckReport
from store.hands import _Process
from store.index import claims, state
from store.index.blobs import BlobRow
from store.layout import blob_key
from store.opening import Store, StoreSettings, initialize, open_store
from store.orphans import RECOVERED
from store.quarantine import asides_after
from store.scrub import Finding
from store.threads import hop
from tests.store.conftest import ManualClock
from tests.support.storing import OWNER, body, content_of, damage, lose, pinned, put, row_of

CONTENT = b"some weights"
DIGEST = Digest.of(CONTENT)


def problems(report: FsckReport) -> list[tuple[str, str]]:
    return [(finding.problem.split(":")[0], finding.action) for finding in report.findings]


async def orphan(store: Store, content: bytes, name: Digest | None = None) -> None:
    """A file that no row names, as a crash leaves it."""
    writer = await store.blobs.stage("put_orphaned")
    writer.append_blocking(0, [content])
    await writer.sync()
    await writer.promote(name or Digest.of(content))
    await writer.discard()


def hasty(store: Store) -> Fsck:
    """A check that gives nobody time: all there is is old enough."""
    return Fsck(
        store.blobs,
        store.index,
        store.threads,
        store.scrub,
        store.quarantine,
        store.archive,
        grace_seconds=0,
    )


async def twice(store: Store) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """What a check finds, and what a repair does; afterwards nothing is found."""
    found = problems(await store.fsck.run(repair=False))
    done = problems(await store.fsck.run(repair=True))
    return found, done


async def test_a_sound_store_gives_no_finding(store: Store, clock: ManualClock) -> None:
    await put(store, CONTENT)
    upload = await store.uploads.create("usr_a", length=10, expected=None)
    await store.uploads.append(upload.id, 0, body(b"abc"))
    clock.advance(store.settings.grace_seconds + 1)

    report = await store.fsck.run(repair=False)

    assert report.findings == []
    assert (report.rows, report.files) == (1, 1)


async def test_what_agrees_is_not_looked_at_one_by_one(
    store: Store, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page of files beside its rows: as fast as listing them, however many there are."""
    monkeypatch.setattr("store.fsck.FILES_AT_ONCE", 8)
    monkeypatch.setattr("store.fsck.ROWS_AT_ONCE", 5)
    contents = [b"%d" % number for number in range(40)]
    for content in contents:
        await put(store, content)
    await lose(store, Digest.of(contents[7]))
    await orphan(store, b"nobody's")
    clock.advance(store.settings.grace_seconds + 1)
    clock.now += 10**15
    looked: list[Digest] = []
    check_row = store.fsck._check_row

    async def counted(row: BlobRow, repair: bool) -> Finding | None:
        looked.append(row.digest)
        return await check_row(row, repair)

    monkeypatch.setattr(store.fsck, "_check_row", counted)

    report = await store.fsck.run(repair=False)

    assert sorted(problem for problem, _ in problems(report)) == ["missing", "orphan"]
    assert (report.rows, report.files) == (40, 40)
    assert looked == [Digest.of(contents[7])]


async def test_orphans_beside_bad_ones_are_adopted_and_those_set_aside(
    store: Store, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.orphans.AT_ONCE", 5)
    large = b"l" * (1 << 20)
    good = [b"%d" % number for number in range(12)] + [large]
    for content in good:
        await orphan(store, content)
    for number in range(3):
        await orphan(store, b"rotten", Digest.of(b"bad %d" % number))
    clock.now += 10**15

    found, done = await twice(store)

    assert sorted(set(found)) == [("orphan", "none")]
    assert sorted(done) == [("orphan", "adopted")] * 13 + [("orphan", "set aside")] * 3
    assert await content_of(store, Digest.of(large)) == large
    assert (await store.fsck.run(repair=False)).findings == []


async def test_what_cannot_be_made_durable_is_not_adopted(
    store: Store, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails() -> None:
        raise Unavailable("sync")

    await orphan(store, CONTENT)
    clock.now += 10**15
    monkeypatch.setattr(store.blobs, "secure_all", fails)

    with pytest.raises(Unavailable):
        await store.fsck.run(repair=True)

    assert await row_of(store, DIGEST) is None


async def test_an_orphan_is_judged_by_what_is_there_after_it_was_made_durable(
    store: Store, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def loses() -> None:
        await damage(store, DIGEST, b"other bytes.")

    await orphan(store, CONTENT)
    clock.now += 10**15
    monkeypatch.setattr(store.blobs, "secure_all", loses)

    assert ("orphan", "set aside") in problems(await store.fsck.run(repair=True))


@pytest.mark.parametrize("size_bytes", [12, (1 << 20) + 1], ids=["small", "large"])
async def test_an_orphan_is_judged_by_what_the_medium_has(
    tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, size_bytes: int
) -> None:
    """The cache may still have what a failed write lost, until it is dropped or the next start."""
    content = b"w" * size_bytes
    await asyncio.to_thread(initialize, tmp_path)
    store = await open_store(StoreSettings(root=tmp_path, reserve_share=0.0), clock=clock)
    await orphan(store, content)
    clock.now += 10**15
    path = tmp_path / blob_key(Digest.of(content))

    def dropped(descriptor: int, offset: int, length: int, advice: int) -> None:
        assert advice == os.POSIX_FADV_DONTNEED
        path.chmod(0o600)
        path.write_bytes(b"lost" * (size_bytes // 4))

    monkeypatch.setattr(os, "posix_fadvise", dropped)
    try:
        assert problems(await store.fsck.run(repair=True)) == [("orphan", "set aside")]
        assert await row_of(store, Digest.of(content)) is None
    finally:
        await store.close()


async def test_a_check_that_is_stopped_leaves_no_process(
    tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of those that list and hash, of which there are some where there are many files."""
    await asyncio.to_thread(initialize, tmp_path)
    store = await open_store(StoreSettings(root=tmp_path, reserve_share=0.0), clock=clock)
    monkeypatch.setattr("store.hands.WORTH_FILES", 1)
    monkeypatch.setattr("store.hands.TRIED", 1)
    monkeypatch.setattr("store.fsck.FILES_AT_ONCE", 1)
    monkeypatch.setattr("store.fsck.REPORT_EVERY", 1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    started = []
    begin = _Process.__init__

    def noted(self: _Process, folder: str) -> None:
        begin(self, folder)
        started.append(self._process)

    def report(name: str, seen: int) -> None:
        if started:
            raise asyncio.CancelledError

    monkeypatch.setattr(_Process, "__init__", noted)
    try:
        for number in range(12):
            await put(store, b"%d" % number)
        with pytest.raises(asyncio.CancelledError):
            await store.fsck.run(repair=False, report=report)
        assert [process.returncode is not None for process in started] == [True, True]
    finally:
        await store.close()


async def test_as_many_statements_compare_many_rows_as_few(
    store: Store, clock: ManualClock
) -> None:
    """What agrees is one text on both sides."""
    statements = []
    for count in (2, 40):
        for number in range(count):
            await put(store, b"%d" % number)
        before = store.index.statement_count()
        assert (await store.fsck.run(repair=False)).rows == count
        statements.append(store.index.statement_count() - before)

    assert statements[0] == statements[1]


async def test_orphans_are_adopted_together(store: Store, clock: ManualClock) -> None:
    """One transaction, one statement for their rows and one for their pins."""
    statements = []
    for start, count in ((0, 2), (100, 40)):
        for number in range(start, start + count):
            await orphan(store, b"%d" % number)
        clock.now += 10**15
        before = store.index.statement_count()
        assert len((await store.fsck.run(repair=True)).findings) == count
        statements.append(store.index.statement_count() - before)

    # The second time there are rows, of which a page says which are beside the files.
    assert statements[1] <= statements[0] + 2


async def test_an_orphan_that_gets_a_row_meanwhile_is_left_alone(
    store: Store, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others of its group are adopted all the same."""
    await orphan(store, CONTENT)
    await orphan(store, b"nobody's")
    clock.now += 10**15

    async def stored() -> None:
        await put(store, CONTENT)

    monkeypatch.setattr(store.blobs, "secure_all", stored)
    found = await store.fsck.run(repair=True)

    assert [finding.digest for finding in found.findings] == [str(Digest.of(b"nobody's"))]
    assert await row_of(store, DIGEST) is not None


async def test_an_orphan_is_not_adopted_while_blobs_are_moved(
    store: Store, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be one that was stored, collected and taken away since it was read."""
    await orphan(store, CONTENT)
    clock.now += 10**15
    monkeypatch.setattr(store.scrub, "hash", _beside_moves(store, store.scrub.hash))
    monkeypatch.setattr("store.orphans.hop", _beside_moves(store, hop))
    monkeypatch.setattr("store.hands.hop", _beside_moves(store, hop))

    assert problems(await store.fsck.run(repair=True)) == []
    assert await row_of(store, DIGEST) is None
    monkeypatch.undo()
    assert problems(await store.fsck.run(repair=True)) == [("orphan", "adopted")]


def _beside_moves(store: Store, hash: Callable[..., Awaitable[Any]]) -> Any:
    async def moved(*asked: Any) -> Any:
        hashed = await hash(*asked)
        await store.index.run(lambda tx: state.next_counter(tx, "moves"))
        return hashed

    return moved


@pytest.mark.parametrize("harm", ["gone", "short"])
async def test_missing_files_are_marked(store: Store, harm: str) -> None:
    await put(store, CONTENT)
    await (lose(store, DIGEST) if harm == "gone" else damage(store, DIGEST, b"x"))

    found, done = await twice(store)

    assert ("missing", "none") in found
    assert ("missing", "marked damaged" if harm == "gone" else "set aside") in done
    assert problems(await store.fsck.run(repair=True)) == [("dangling", "none")]
    await put(store, CONTENT)
    assert (await store.fsck.run(repair=False)).findings == []


async def test_whole_orphans_are_adopted_and_kept(store: Store, clock: ManualClock) -> None:
    await orphan(store, CONTENT)
    clock.now += 10**15

    assert await twice(store) == ([("orphan", "none")], [("orphan", "adopted")])

    assert await content_of(store, DIGEST) == CONTENT
    assert await store.index.read(lambda tx: claims.owner_holds(tx, DIGEST, RECOVERED))
    assert (await store.fsck.run(repair=False)).findings == []
    clock.advance(10**9)
    assert (await store.collector.plan()).blobs == []


async def test_orphans_that_do_not_match_are_set_aside(store: Store, clock: ManualClock) -> None:
    await orphan(store, b"something else", DIGEST)
    clock.now += 10**15

    assert await twice(store) == ([("orphan", "none")], [("orphan", "set aside")])

    assert await row_of(store, DIGEST) is None
    assert [aside.digest async for aside in store.blobs.list_aside()] == [DIGEST]
    assert (await store.fsck.run(repair=False)).findings == []


async def test_young_files_are_left_alone(store: Store, clock: ManualClock) -> None:
    """Somebody may be between promoting and recording."""
    await orphan(store, CONTENT)
    info = await store.blobs.stat(DIGEST)
    clock.now = info.modified_at + 10**6

    assert await twice(store) == ([], [])


async def test_stray_staging_files_are_removed(store: Store, clock: ManualClock) -> None:
    writer = await store.blobs.stage("put_forgotten")
    writer.append_blocking(0, [CONTENT])
    await writer.close()
    clock.now += 10**15

    assert (await twice(store)) == (
        [("stray upload of 12 bytes", "none")],
        [("stray upload of 12 bytes", "removed")],
    )

    assert [info async for info in store.blobs.list_staged()] == []


async def test_a_staging_file_that_somebody_writes_is_left_alone(store: Store) -> None:
    """However old it is: without grace, the lock alone says so."""
    writer = await store.blobs.stage("put_under_way")
    writer.append_blocking(0, [CONTENT])

    assert problems(await hasty(store).run(repair=False)) == []
    assert problems(await hasty(store).run(repair=True)) == []

    await writer.sync()
    await writer.promote(DIGEST)
    await writer.close()
    assert ("stray upload of 12 bytes", "removed") in problems(await hasty(store).run(repair=True))
    assert await content_of(store, DIGEST) == CONTENT


async def test_a_session_about_to_be_recorded_is_left_alone(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, found = store.index.run, []

    async def late(unit: Any) -> Any:
        monkeypatch.undo()
        found.append(await hasty(store).run(repair=True))
        return await run(unit)

    monkeypatch.setattr(store.index, "run", late)

    upload = await store.uploads.create("usr_a", length=3, expected=None)

    assert [problems(report) for report in found] == [[]]
    assert (await store.uploads.append(upload.id, 0, body(b"abc"))).is_finished


async def test_a_session_begun_while_files_are_listed_is_not_lost(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its row is younger than the list of files that it is compared with."""
    begun = []
    list_staged = store.blobs.list_staged

    async def before() -> AsyncIterator[StagedInfo]:
        async for info in list_staged():
            yield info
        begun.append(await store.uploads.create("usr_a", length=3, expected=None))

    monkeypatch.setattr(store.blobs, "list_staged", before)

    assert problems(await hasty(store).run(repair=True)) == []
    assert (await store.uploads.append(begun[0].id, 0, body(b"abc"))).is_finished


async def test_a_session_finished_while_it_is_compared_is_not_forgotten(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answer can be asked for again, though its staging file is gone as it should."""
    upload = await store.uploads.create("usr_a", length=3, expected=None)
    reopen, list_staged = store.blobs.reopen, store.blobs.list_staged

    async def nothing() -> AsyncIterator[StagedInfo]:
        for info in [info async for info in list_staged() if info.session != upload.id]:
            yield info

    async def finished(session: str) -> StagedWriter:
        monkeypatch.setattr(store.blobs, "reopen", reopen)
        await store.uploads.append(session, 0, body(b"abc"))
        return await reopen(session)

    monkeypatch.setattr(store.blobs, "list_staged", nothing)
    monkeypatch.setattr(store.blobs, "reopen", finished)

    assert problems(await hasty(store).run(repair=True)) == []
    assert (await store.uploads.get(upload.id)).is_finished


async def test_uploads_beside_repairs_without_grace_all_arrive(store: Store) -> None:
    """In one request, in memory until they are promoted, in sessions, and over a file."""
    large = b"l" * ((1 << 20) + 1)
    contents = [b"%d" % number * 9 for number in range(8)] + [large]
    sessions: set[str] = set()
    stop = asyncio.Event()

    async def repair() -> list[Finding]:
        found: list[Finding] = []
        while not stop.is_set():
            found += (await hasty(store).run(repair=True)).findings
        return found

    async def arrive(content: bytes) -> None:
        await put(store, content)
        await store.ingest.receive(body(content), pinned(), size_bytes=len(content))
        upload = await store.uploads.create(OWNER, length=len(content), expected=None)
        sessions.add(upload.id)
        await store.uploads.append(upload.id, 0, body(content))
        await store.blobs.discard_segments(Digest.of(content))

    repairs = [asyncio.create_task(repair()) for _ in range(2)]
    try:
        await asyncio.gather(*(arrive(content) for content in contents))
    finally:
        stop.set()
    found = [each for repaired in repairs for each in await repaired]

    # What is promoted is an orphan until it is recorded; what is made is empty until it is locked,
    # and made again; what is finished may have its file yet.
    harmless = ("orphan", "stray upload of 0 bytes")
    strays = {each.digest[:36] for each in found if each.problem not in harmless}
    assert strays <= sessions
    for content in contents:
        assert await content_of(store, Digest.of(content)) == content
    assert problems(await hasty(store).run(repair=False)) == []


async def test_a_file_taken_for_a_stray_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await asyncio.to_thread(initialize, tmp_path)
    store = await open_store(StoreSettings(root=tmp_path))
    try_lock, seized = staging._try_lock, []

    def late(descriptor: int) -> bool:
        monkeypatch.undo()
        path = tmp_path / "uploads" / "put_slow"
        seized.append(path.stat().st_ino)
        path.unlink()
        return try_lock(descriptor)

    monkeypatch.setattr(staging, "_try_lock", late)
    writer = await store.blobs.stage("put_slow")
    writer.append_blocking(0, [CONTENT])

    assert [info.size_bytes async for info in store.blobs.list_staged()] == [len(CONTENT)]
    assert seized
    await writer.discard()
    await store.close()


async def test_sessions_without_bytes_are_forgotten(store: Store, clock: ManualClock) -> None:
    upload = await store.uploads.create("usr_a", length=10, expected=None)
    await (await store.blobs.reopen(upload.id)).discard()
    clock.advance(store.settings.grace_seconds + 1)

    assert await twice(store) == ([("lost upload", "none")], [("lost upload", "forgotten")])

    assert (await store.fsck.run(repair=False)).findings == []


async def test_stray_quarantine_is_listed_and_purged(store: Store, clock: ManualClock) -> None:
    await orphan(store, CONTENT)
    await store.blobs.set_aside(DIGEST, 77)

    assert await twice(store) == ([("stray quarantine", "none")], [("stray quarantine", "listed")])

    clock.advance(store.settings.undo_seconds + 1)
    assert (await store.collector.purge()).purged == 1
    assert [aside async for aside in store.blobs.list_aside()] == []


async def test_lost_quarantine_is_forgotten(store: Store) -> None:
    await put(store, CONTENT)
    row = await row_of(store, DIGEST)
    assert row is not None
    await store.quarantine.convict(DIGEST, row.generation)
    await store.blobs.discard_aside(DIGEST, row.generation)

    _, done = await twice(store)

    assert ("lost quarantine", "forgotten") in done
    assert await store.index.read(partial(asides_after, after=b"", limit=10)) == []
