"""What leaves was verified: segment by segment, once since boot, or every time."""

from __future__ import annotations

import asyncio
import os
import secrets
from contextlib import suppress
from functools import partial

import pytest

from store.digest import Digest
from store.errors import BlobNotFound, Corrupt
from store.index import blobs as rows
from store.index.blobs import BlobRow
from store.opening import Store
from store.reading import SMALL_BYTES, Mode, OpenBlob, Reading
from store.segments import SEGMENT_BYTES
from tests.store.conftest import ManualClock
from tests.support.storing import damage, lose, put, release, row_of

CONTENT = secrets.token_bytes(3 * SEGMENT_BYTES + 17)
DIGEST = Digest.of(CONTENT)
SMALL = b"small enough to be kept in memory"
WEEK = 8 * 86400


class Suspects:
    """Collects what a reader reports instead of checking it."""

    def __init__(self) -> None:
        self.seen: list[Digest] = []

    async def __call__(self, digest: Digest) -> None:
        self.seen.append(digest)


def reading_of(
    store: Store, clock: ManualClock, mode: Mode, suspects: Suspects | None = None
) -> Reading:
    return Reading(
        store.blobs,
        store.cold,
        store.index,
        store.threads,
        clock=clock,
        mode=mode,
        on_suspect=suspects,
    )


def rotten(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


async def stored_row(store: Store, content: bytes) -> BlobRow:
    row = await row_of(store, await put(store, content))
    assert row is not None
    return row


async def whole(blob: OpenBlob) -> bytes:
    return b"".join([piece async for piece in blob.stream(0, blob.size_bytes)])


@pytest.mark.parametrize("mode", ["boot", "strict", "scrub"])
@pytest.mark.parametrize(
    "content",
    [b"", SMALL, secrets.token_bytes(SMALL_BYTES), secrets.token_bytes(SMALL_BYTES + 1), CONTENT],
    ids=["empty", "small", "largest small", "smallest large", "segments"],
)
async def test_bytes_come_back_as_they_were_put(
    store: Store, clock: ManualClock, mode: Mode, content: bytes
) -> None:
    row = await stored_row(store, content)
    clock.advance(WEEK)
    reading = reading_of(store, clock, mode)

    async with await reading.open(row) as blob:
        assert content == await whole(blob)
        assert content[5:9] == await blob.read(5, 9)
    await reading.close()


@pytest.mark.parametrize("mode", ["boot", "strict"])
async def test_a_changed_bit_never_leaves(store: Store, clock: ManualClock, mode: Mode) -> None:
    """Segments before it are given out; the one that holds it is not."""
    row = await stored_row(store, CONTENT)
    clock.advance(WEEK)
    await damage(store, DIGEST, rotten(CONTENT, 2 * SEGMENT_BYTES + 5))
    suspects = Suspects()
    reading = reading_of(store, clock, mode, suspects)

    async with await reading.open(row) as blob:
        assert CONTENT[: 2 * SEGMENT_BYTES] == await blob.read(0, 2 * SEGMENT_BYTES)
        with pytest.raises(Corrupt):
            await blob.read(2 * SEGMENT_BYTES, 2 * SEGMENT_BYTES + 1)
        with pytest.raises(Corrupt):
            await blob.read(SEGMENT_BYTES, 3 * SEGMENT_BYTES)
    await reading.close()
    assert set(suspects.seen) == {DIGEST}


async def test_scrub_mode_verifies_nothing_here(store: Store, clock: ManualClock) -> None:
    row = await stored_row(store, CONTENT)
    changed = rotten(CONTENT, 7)
    await damage(store, DIGEST, changed)
    reading = reading_of(store, clock, "scrub")

    async with await reading.open(row) as blob:
        assert changed == await whole(blob)
    await reading.close()


async def test_small_blobs_are_verified_when_loaded(store: Store, clock: ManualClock) -> None:
    row = await stored_row(store, SMALL)
    await damage(store, row.digest, rotten(SMALL, 3))
    suspects = Suspects()
    reading = reading_of(store, clock, "boot", suspects)

    with pytest.raises(Corrupt):
        await reading.open(row)
    await reading.close()
    assert [row.digest] == suspects.seen


async def test_small_blobs_are_read_once(store: Store, clock: ManualClock) -> None:
    row = await stored_row(store, SMALL)
    reading = reading_of(store, clock, "boot")
    assert reading.small(row) is None

    await reading.open(row)
    await lose(store, row.digest)

    assert reading.small(row) == SMALL
    assert (await reading.open(row)).content == SMALL
    await reading.close()


async def test_memory_for_small_blobs_is_bounded(
    store: Store, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.remembered._SMALL_TOTAL_BYTES", 5 * SMALL_BYTES // 2)
    reading = reading_of(store, clock, "boot")
    stored = [await stored_row(store, secrets.token_bytes(SMALL_BYTES)) for _ in range(3)]

    for row in stored:
        await reading.open(row)

    assert [reading.small(row) is not None for row in stored] == [False, True, True]
    await reading.close()


async def test_what_another_process_has_removed_is_let_go_of(
    store: Store, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.remembered._CAME", 2)
    sizes = (40, 2 * SMALL_BYTES)
    stays, goes, anew = [
        [await stored_row(store, secrets.token_bytes(size)) for size in sizes] for _ in range(3)
    ]
    reading = reading_of(store, clock, "boot")

    async def remember(*opened: BlobRow) -> None:
        for row in opened:
            async with await reading.open(row):
                pass
        await reading.settle()

    await remember(*stays, *goes)
    all_of_them = remembered(reading)
    for row in goes:
        await release(store, row.digest)
        await store.index.run(
            partial(
                rows.delete_blob,
                digest=row.digest,
                generation=row.generation,
                state=rows.PRESENT,
            )
        )
    await remember(*anew)
    await reading.close()

    assert all_of_them == {row.digest for row in (*stays, *goes)}
    assert remembered(reading) == {row.digest for row in (*stays, *anew)}


def remembered(reading: Reading) -> set[Digest]:
    return {digest for digest, _ in (*reading._small.keys(), *reading._known.keys())}


async def test_what_was_written_since_boot_is_not_verified_again(
    store: Store, clock: ManualClock
) -> None:
    row = await stored_row(store, CONTENT)
    reading = reading_of(store, clock, "boot")

    async with await reading.open(row) as blob:
        assert blob.is_verified(0, len(CONTENT))
    await reading.close()


async def test_another_boot_verifies_once(store: Store, clock: ManualClock) -> None:
    """After that the segment is known, and once all are, the row says so for other workers."""
    await stored_row(store, CONTENT)
    await store.index.run(
        partial(rows.set_verified, digest=DIGEST, generation=1, segments=None, boot="another")
    )
    row = await row_of(store, DIGEST)
    assert row is not None
    reading = reading_of(store, clock, "boot")

    async with await reading.open(row) as blob:
        assert not blob.is_verified(0, 1)
        await blob.verify(0, 1)
        assert blob.is_verified(0, SEGMENT_BYTES)
    await reading.close()
    again = await row_of(store, DIGEST)
    assert again is not None
    assert again.verified_boot != "another"


async def test_what_was_verified_long_ago_is_verified_again(
    store: Store, clock: ManualClock
) -> None:
    row = await stored_row(store, CONTENT)
    reading = reading_of(store, clock, "boot")
    clock.advance(WEEK)

    async with await reading.open(row) as blob:
        assert not blob.is_verified(0, len(CONTENT))
        await blob.verify(SEGMENT_BYTES, 2 * SEGMENT_BYTES)
        assert blob.is_verified(SEGMENT_BYTES, 2 * SEGMENT_BYTES)
        assert not blob.is_verified(SEGMENT_BYTES, 2 * SEGMENT_BYTES + 1)
    clock.advance(WEEK)
    async with await reading.open(row) as blob:
        assert not blob.is_verified(SEGMENT_BYTES, 2 * SEGMENT_BYTES)
    await reading.close()


@pytest.mark.parametrize("harm", ["missing", "wrong"])
async def test_segments_are_made_anew_from_bytes_that_match(
    store: Store, clock: ManualClock, harm: str
) -> None:
    row = await stored_row(store, CONTENT)
    written = await store.blobs.read_segments(DIGEST)
    if harm == "missing":
        await store.blobs.discard_segments(DIGEST)
    else:
        await store.blobs.write_segments(DIGEST, b"not ours")
    clock.advance(WEEK)
    reading = reading_of(store, clock, "boot")

    async with await reading.open(row) as blob:
        assert await whole(blob) == CONTENT
    assert written == await store.blobs.read_segments(DIGEST)
    await reading.close()


async def test_wrong_segments_beside_wrong_bytes_prove_nothing(
    store: Store, clock: ManualClock
) -> None:
    row = await stored_row(store, CONTENT)
    await store.blobs.discard_segments(DIGEST)
    await damage(store, DIGEST, rotten(CONTENT, 0))
    clock.advance(WEEK)
    suspects = Suspects()
    reading = reading_of(store, clock, "boot", suspects)

    async with await reading.open(row) as blob:
        with pytest.raises(Corrupt):
            await blob.read(3 * SEGMENT_BYTES, 3 * SEGMENT_BYTES + 1)
    await reading.close()
    assert await store.blobs.read_segments(DIGEST) is None
    assert suspects.seen == [DIGEST]


@pytest.mark.parametrize("content", [SMALL, CONTENT], ids=["small", "large"])
async def test_a_lost_file_is_damage(store: Store, clock: ManualClock, content: bytes) -> None:
    row = await stored_row(store, content)
    await lose(store, row.digest)
    suspects = Suspects()
    reading = reading_of(store, clock, "strict", suspects)

    with pytest.raises(Corrupt):
        async with await reading.open(row) as blob:
            await whole(blob)
    await reading.close()
    assert [row.digest] == suspects.seen


@pytest.mark.parametrize("content", [SMALL, CONTENT], ids=["small", "large"])
async def test_a_shortened_file_is_damage(store: Store, clock: ManualClock, content: bytes) -> None:
    row = await stored_row(store, content)
    await damage(store, row.digest, content[:-1])
    reading = reading_of(store, clock, "strict", Suspects())

    with pytest.raises(Corrupt):
        async with await reading.open(row) as blob:
            await whole(blob)
    await reading.close()


@pytest.mark.parametrize("content", [SMALL, CONTENT], ids=["small", "large"])
async def test_a_blob_collected_meanwhile_is_missing_and_not_damaged(
    store: Store, clock: ManualClock, content: bytes
) -> None:
    row = await stored_row(store, content)
    await put(store, b"something that stays")
    await release(store, row.digest)
    clock.advance(WEEK)
    await store.collector.apply(await store.collector.plan())
    suspects = Suspects()
    reading = reading_of(store, clock, "strict", suspects)

    with pytest.raises(BlobNotFound):
        async with await reading.open(row) as blob:
            await whole(blob)
    await reading.close()
    assert suspects.seen == []


async def test_damage_found_by_a_reader_is_convicted_and_healed(
    store: Store, clock: ManualClock
) -> None:
    """End to end: the store's own reader, its scrub, and the next upload."""
    row = await stored_row(store, CONTENT)
    await damage(store, DIGEST, rotten(CONTENT, 1))
    clock.advance(WEEK)
    async with await store.reading.open(row) as blob:
        with pytest.raises(Corrupt):
            await blob.read(0, 1)
    await store.reading.settle()
    convicted = await row_of(store, DIGEST)
    assert convicted is not None
    assert convicted.state == rows.DAMAGED

    healed = await stored_row(store, CONTENT)

    async with await store.reading.open(healed) as blob:
        assert await whole(blob) == CONTENT


async def test_readers_share_a_descriptor_and_it_is_closed_in_the_end(
    store: Store, clock: ManualClock
) -> None:
    row = await stored_row(store, CONTENT)
    reading = reading_of(store, clock, "boot")
    if store.settings.root is None:
        async with await reading.open(row) as blob:
            assert blob.fileno is None
        return

    first, second = await reading.open(row), await reading.open(row)
    fileno = first.fileno
    assert fileno is not None
    assert fileno == second.fileno
    first.close()
    first.close()
    file = os.fstat(fileno)
    second.close()
    third = await reading.open(row)
    assert fileno == third.fileno
    third.close()

    await reading.close()
    with suppress(OSError):  # which it is, unless somebody else has been given its number
        assert not os.path.samestat(file, os.fstat(fileno))


async def test_idle_descriptors_are_bounded(
    store: Store, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.descriptors.MOST_IDLE", 2)
    reading = reading_of(store, clock, "boot")
    stored = [await stored_row(store, secrets.token_bytes(SMALL_BYTES + 1)) for _ in range(4)]

    for row in stored:
        (await reading.open(row)).close()

    assert reading.descriptors.idle <= 2
    await reading.close()


async def test_readers_that_open_at_once_both_read(store: Store, clock: ManualClock) -> None:
    row = await stored_row(store, CONTENT)
    reading = reading_of(store, clock, "boot")

    first, second = await asyncio.gather(reading.open(row), reading.open(row))

    assert await whole(first) == CONTENT
    assert await whole(second) == CONTENT
    first.close()
    second.close()
    await reading.close()


async def test_a_strict_reader_gets_no_descriptor(store: Store, clock: ManualClock) -> None:
    row = await stored_row(store, CONTENT)
    reading = reading_of(store, clock, "strict")

    async with await reading.open(row) as blob:
        assert blob.fileno is None
    await reading.close()
