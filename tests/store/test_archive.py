"""Blobs move to the archive and back, and are read wherever they are."""

from __future__ import annotations

import asyncio
import random
import shutil
import subprocess
import tracemalloc
from functools import partial
from pathlib import Path

import pytest

from store import archive as archive_module
from store.backends.archive import ColdDirectory
from store.backends.memory import MemoryColdStore
from store.digest import Digest
from store.errors import ArchiveUnavailable, BlobNotFound, Corrupt, Unavailable
from store.frames import HEAD_BYTES
from store.holds import release_hold, take_hold
from store.index import claims
from store.index.archived import archive_totals, find_archived
from store.index.blobs import DAMAGED, BlobRow
from store.index.transactions import Tx
from store.opening import Store, StoreSettings, initialize, open_store
from store.reading import Mode, Reading
from store.segments import SEGMENT_BYTES, from_row
from tests.store.conftest import ManualClock
from tests.support.soundness import assert_memory_is_sound, assert_store_is_sound
from tests.support.storing import damage, pinned, put, release, row_of

SMALL = b"a small blob " * 9
LARGE = random.Random(5).randbytes(SEGMENT_BYTES) + b"weights " * (SEGMENT_BYTES // 4) + b"end"
"""Two and a half segments, of which one cannot be compressed."""
WINDOW = 7 * 86400


async def always(tx: Tx, row: BlobRow) -> bool:
    return True


async def never(tx: Tx, row: BlobRow) -> bool:
    return False


async def cooled(store: Store, content: bytes) -> BlobRow:
    digest = await put(store, content)
    assert await store.archive.cool(digest, always) == "moved"
    return await required(store, digest)


async def required(store: Store, digest: Digest) -> BlobRow:
    row = await row_of(store, digest)
    assert row is not None
    return row


async def read(store: Store, row: BlobRow) -> bytes:
    async with await store.reading.open(row) as blob:
        return b"".join([piece async for piece in blob.stream(0, blob.size_bytes)])


async def assert_sound(store: Store) -> None:
    root = store.settings.root
    if root is None:
        await assert_memory_is_sound(store)
    else:
        assert_store_is_sound(root)


def has_own_file(store: Store, digest: Digest) -> bool:
    try:
        store.blobs.read_blocking(digest, 0, 1)
    except BlobNotFound:
        return False
    return True


def rot(store: Store, row: BlobRow, at: int = -1) -> None:
    """Change what the archive holds of a blob."""
    files = store.cold.files
    assert row.archived is not None
    if isinstance(files, MemoryColdStore):
        content = bytearray(files.files[row.digest, row.archived])
        content[at] ^= 1
        files.files[row.digest, row.archived] = bytes(content)
        return
    path = cold_path(store, row)
    path.chmod(0o600)
    content = bytearray(path.read_bytes())
    content[at if at >= 0 else len(content) // 2] ^= 1
    path.write_bytes(content)


def cold_path(store: Store, row: BlobRow) -> Path:
    assert isinstance(store.cold.files, ColdDirectory)
    assert row.archived is not None
    return Path(store.cold.files._path(row.digest, row.archived))


# There and back.


@pytest.mark.parametrize("content", [b"", SMALL, LARGE], ids=["empty", "small", "large"])
async def test_a_blob_goes_cold_is_read_and_comes_back(store: Store, content: bytes) -> None:
    row = await cooled(store, content)

    assert (row.is_present, row.is_cold) == (True, True)
    assert not has_own_file(store, row.digest)
    assert await read(store, row) == content
    await assert_sound(store)

    assert await store.archive.thaw(row.digest)
    hot = await required(store, row.digest)
    assert (hot.is_present, hot.is_cold) == (True, False)
    assert hot.generation > row.generation
    assert has_own_file(store, row.digest)
    assert await read(store, hot) == content
    assert not await store.archive.thaw(row.digest)
    await store.ingest.close()
    await assert_sound(store)


@pytest.mark.parametrize("mode", ["boot", "strict", "scrub"])
async def test_every_part_of_a_cold_blob_reads_as_the_whole_does(store: Store, mode: Mode) -> None:
    row = await cooled(store, LARGE)
    reading = Reading(store.blobs, store.cold, store.index, store.threads, mode=mode)
    chance = random.Random(1)
    async with await reading.open(row) as blob:
        assert (blob.fileno, blob.content) == (None, None)
        for _ in range(20):
            start = chance.randrange(len(LARGE))
            stop = chance.randrange(start, min(len(LARGE), start + 2 * SEGMENT_BYTES)) + 1
            assert await blob.read(start, stop) == LARGE[start:stop]
    await reading.close()


# Not going.


async def test_what_somebody_needs_hot_or_leases_stays(store: Store) -> None:
    digest = await put(store, SMALL)

    assert await store.archive.cool(digest, never) == "kept"
    lease = partial(claims.add_lease, digest=digest, holder="me", expires_at=2**60)
    await store.index.run(lease)
    assert await store.archive.cool(digest, always) == "kept"
    assert not (await required(store, digest)).is_cold


async def test_who_comes_to_need_it_while_it_is_compressed_keeps_it_hot(store: Store) -> None:
    digest = await put(store, LARGE)
    needed = False

    async def unless_needed(tx: Tx, row: BlobRow) -> bool:
        return not needed

    async def come(size_bytes: int) -> None:
        nonlocal needed
        needed = True

    assert await store.archive.cool(digest, unless_needed, come) == "kept"
    row = await required(store, digest)
    assert not row.is_cold
    assert await read(store, row) == LARGE
    await assert_sound(store)


async def test_a_damaged_blob_is_convicted_instead_of_archived(store: Store) -> None:
    digest = await put(store, SMALL)
    await damage(store, digest, b"x" * len(SMALL))

    assert await store.archive.cool(digest, always) == "lost"
    assert (await required(store, digest)).state == DAMAGED


async def test_what_the_archive_does_not_hold_as_written_never_takes_over(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that loses what it was told is found by reading back, with the blob's file there."""
    digest = await put(store, SMALL)
    monkeypatch.setattr(archive_module, "hash_cold", _other_digest)

    with pytest.raises(Unavailable, match="does not hold what was written"):
        await store.archive.cool(digest, always)

    monkeypatch.undo()
    row = await required(store, digest)
    assert (row.is_cold, await read(store, row)) == (False, SMALL)
    await assert_sound(store)


async def _other_digest(*_: object) -> Digest:
    return Digest.of(b"other")


# Damage.


@pytest.mark.parametrize("mode", ["boot", "strict"])
async def test_damage_in_the_archive_is_not_handed_out(store: Store, mode: Mode) -> None:
    row = await cooled(store, LARGE)
    rot(store, row)
    reading = Reading(
        store.blobs,
        store.cold,
        store.index,
        store.threads,
        mode=mode,
        on_suspect=store.scrub.check,
    )
    handed_out = b""

    async def read_all() -> None:
        nonlocal handed_out
        async with await reading.open(row) as blob:
            async for piece in blob.stream(0, row.size_bytes):
                handed_out += piece

    with pytest.raises(Corrupt):
        await read_all()
    await reading.close()
    assert LARGE.startswith(handed_out)

    assert (await required(store, row.digest)).state == DAMAGED
    await put(store, LARGE, "usr_other")
    assert await read(store, await required(store, row.digest)) == LARGE


def store_segments_match(row: BlobRow, content: bytes) -> bool:
    """Whether a reader would believe these bytes to be the blob's."""
    assert row.segments is not None
    segments = from_row(row.segments, row.size_bytes)
    return segments is not None and segments.matches(0, content)


async def test_every_flipped_bit_of_an_archived_file_is_found(store: Store) -> None:
    """Head, frames and table: whatever it hits, no other bytes come out."""
    if not isinstance(store.cold.files, ColdDirectory):
        return
    content = b"some compressible text " * 30
    row = await cooled(store, content)
    whole = cold_path(store, row).read_bytes()
    for at in range(0, len(whole), 3):
        spoilt = bytearray(whole)
        spoilt[at] ^= 1 << at % 8
        cold_path(store, row).chmod(0o600)
        cold_path(store, row).write_bytes(spoilt)
        store.reading.forget(row.digest)
        file = store.cold.files.open(row.digest, row.archived or 0)
        buffer = bytearray(max(0, file.size_bytes))
        got = file.read_into(memoryview(buffer), 0)
        file.close()
        if file.size_bytes == row.size_bytes and got == row.size_bytes:
            assert not store_segments_match(row, bytes(buffer)) or bytes(buffer) == content


async def test_scrub_reads_cold_blobs_too_and_heals_from_spare_files(store: Store) -> None:
    row = await cooled(store, SMALL)
    await store.archive.thaw(row.digest)
    await store.ingest.close()
    await damage(store, row.digest, b"y" * len(SMALL))

    [finding] = (await store.scrub.run()).findings

    assert finding.action == "set aside, healed from the archive"
    healed = await required(store, row.digest)
    assert (healed.is_present, healed.is_cold) == (True, True)
    assert await read(store, healed) == SMALL
    rot(store, healed, at=HEAD_BYTES + 12)
    [finding] = (await store.scrub.run()).findings
    assert finding.action == "set aside"
    assert (await required(store, row.digest)).state == DAMAGED
    await assert_sound(store)


async def test_a_damaged_archive_is_not_thawed(store: Store) -> None:
    row = await cooled(store, LARGE)
    rot(store, row)

    with pytest.raises(Corrupt):
        await store.archive.thaw(row.digest)

    assert (await required(store, row.digest)).state == DAMAGED
    assert not has_own_file(store, row.digest)


async def test_a_file_lost_by_the_archive_is_damage_and_no_other_place_is(store: Store) -> None:
    row = await cooled(store, LARGE)
    assert row.archived is not None
    store.cold.files.remove(row.digest, row.archived)

    with pytest.raises(Corrupt):
        await read(store, row)
    await store.reading.settle()
    assert (await required(store, row.digest)).state == DAMAGED


# The archive as a place.


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    root.mkdir()
    initialize(root)
    return root


def settings_of(root: Path, archive: Path | None = None) -> StoreSettings:
    return StoreSettings(
        root=root, archive=archive, reserve_bytes=0, reserve_share=0, grace_seconds=0, max_share=1
    )


async def test_another_disk_can_have_the_archive(root: Path, tmp_path: Path) -> None:
    cold = tmp_path / "cold"
    store = await open_store(settings_of(root, cold))
    digest = await put(store, LARGE)
    with pytest.raises(ArchiveUnavailable, match="does not exist"):
        await store.archive.cool(digest, always)
    cold.mkdir()

    assert await store.archive.cool(digest, always) == "moved"

    assert not (root / "archive").exists()
    if shutil.which("zstd"):
        path = cold_path(store, await required(store, digest))
        unpack = partial(subprocess.check_output, ["zstd", "-dc", str(path)])
        assert await asyncio.to_thread(unpack) == LARGE
    await store.close()


async def test_an_archive_that_is_away_loses_nothing_and_takes_nothing(
    root: Path, tmp_path: Path
) -> None:
    cold = tmp_path / "cold"
    cold.mkdir()
    store = await open_store(settings_of(root, cold))
    row = await cooled(store, LARGE)
    other = await put(store, SMALL)
    cold.rename(tmp_path / "away")
    cold.mkdir()  # an empty mount point

    for refused in (read(store, row), store.archive.thaw(row.digest)):
        with pytest.raises(ArchiveUnavailable, match="mount the disk"):
            await refused
    with pytest.raises(ArchiveUnavailable, match="mount the disk"):
        await store.archive.cool(other, always)
    assert (await store.scrub.run()).findings[0].action == "none"
    assert (await store.fsck.run(repair=True)).findings[0].problem.startswith("unreachable")
    assert await store.ingest.claim(row.digest, pinned("usr_other")) is None
    assert await required(store, row.digest) == row
    assert list(cold.iterdir()) == []
    await put(store, LARGE, "usr_other")
    assert await read(store, await required(store, row.digest)) == LARGE
    await store.close()


async def test_the_archive_of_another_store_is_not_touched(root: Path, tmp_path: Path) -> None:
    cold = tmp_path / "cold"
    cold.mkdir()
    store = await open_store(settings_of(root, cold))
    await cooled(store, SMALL)
    await store.close()
    (tmp_path / "second").mkdir()
    await asyncio.to_thread(initialize, tmp_path / "second")
    second = await open_store(settings_of(tmp_path / "second", cold))

    with pytest.raises(ArchiveUnavailable, match="of another store"):
        await second.archive.cool(await put(second, SMALL), always)
    with pytest.raises(ArchiveUnavailable, match="of another store"):
        await second.cold.adopt()
    await second.close()


async def test_an_index_that_was_lost_finds_what_was_cold_again(root: Path) -> None:
    store = await open_store(settings_of(root))
    row = await cooled(store, LARGE)
    await store.close()
    for path in root.glob("index.sqlite3*"):
        path.unlink()
    await asyncio.to_thread(initialize, root)
    store = await open_store(settings_of(root), clock=ManualClock())

    report = await store.fsck.run(repair=True)

    assert [finding.action for finding in report.findings] == ["adopted"]
    again = await required(store, row.digest)
    assert (again.is_cold, await read(store, again)) == (True, LARGE)
    assert (await store.fsck.run(repair=False)).findings == []
    await assert_sound(store)
    await store.close()


# Spare files.


async def test_spare_files_go_after_the_undo_window_and_wait_for_holds(
    store: Store, clock: ManualClock
) -> None:
    row = await cooled(store, SMALL)
    await store.archive.thaw(row.digest)
    await store.ingest.close()
    assert await store.archive.spares.sweep() == 0
    clock.advance(WINDOW)
    await store.index.run(partial(take_hold, id="hold_1", reason="backup", seconds=60))
    assert await store.archive.spares.sweep() == 0
    await store.index.run(partial(release_hold, id="hold_1"))

    assert await store.archive.spares.sweep() == 1

    totals = await store.index.read(archive_totals)
    assert (totals.blobs, totals.spares) == (0, 0)
    assert row.archived is not None
    find = partial(find_archived, digest=row.digest, number=row.archived)
    assert await store.index.read(find) is None
    await assert_sound(store)


async def test_a_cold_blob_can_be_collected_undone_and_purged(
    store: Store, clock: ManualClock
) -> None:
    row = await cooled(store, LARGE)
    await put(store, SMALL)
    await release(store, row.digest)
    clock.advance(2 * 86400)
    plan = await store.collector.plan()
    assert (await store.collector.apply(plan)).collected == 1
    assert await row_of(store, row.digest) is None
    await assert_sound(store)

    assert (await store.collector.undo(plan.id)).returned == 1
    back = await required(store, row.digest)
    assert (back.is_cold, await read(store, back)) == (True, LARGE)

    clock.advance(2 * 86400)
    await store.collector.apply(await store.collector.plan())
    clock.advance(WINDOW)
    assert (await store.collector.purge()).purged == 1
    assert await store.archive.spares.sweep() == 1
    assert store.cold.files.files_of(row.digest) == []
    await assert_sound(store)


async def test_status_counts_what_is_stored(store: Store) -> None:
    row = await cooled(store, LARGE)

    status = await store.archive.status()

    assert (status.totals.blobs, status.totals.bytes) == (1, len(LARGE))
    assert status.problem is None
    if isinstance(store.cold.files, ColdDirectory):
        assert status.totals.stored_bytes == cold_path(store, row).stat().st_size
        assert SEGMENT_BYTES < status.totals.stored_bytes < SEGMENT_BYTES * 1.01


async def test_memory_stays_flat_whatever_the_size(root: Path) -> None:
    content = LARGE * 6
    store = await open_store(settings_of(root))
    digest = await put(store, content)
    tracemalloc.start()
    try:
        await store.archive.cool(digest, always)
        async with await store.reading.open(await required(store, digest)) as blob:
            async for _ in blob.stream(0, blob.size_bytes):
                pass
        await store.archive.thaw(digest)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    await store.close()

    assert peak < len(content) * 0.8, "about a dozen buffers of one segment, however long the blob"
