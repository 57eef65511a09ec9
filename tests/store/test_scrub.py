"""Scrub reads every byte, takes damage out of sight, and the next upload heals it."""

from __future__ import annotations

import secrets
import tracemalloc

import pytest

from store.digest import Digest
from store.errors import BlobNotFound
from store.index import blobs as rows
from store.index import claims
from store.opening import Store
from store.scrub import READ_BYTES, ScrubProgress
from store.segments import SEGMENT_BYTES
from tests.support.storing import OWNER, content_of, damage, lose, put, row_of

CONTENT = secrets.token_bytes(2 * SEGMENT_BYTES + 1)
DIGEST = Digest.of(CONTENT)


def rotten(content: bytes) -> bytes:
    """One bit changed, same size."""
    return content[:-1] + bytes([content[-1] ^ 1])


async def test_whole_blobs_give_no_finding(store: Store) -> None:
    await put(store, CONTENT)
    await put(store, b"")

    report = await store.scrub.run()

    assert (2, len(CONTENT), []) == (report.blobs, report.bytes, report.findings)


async def test_one_changed_bit_is_found_and_set_aside(store: Store) -> None:
    await put(store, CONTENT)
    await damage(store, DIGEST, rotten(CONTENT))

    report = await store.scrub.run()

    assert [(str(DIGEST), "set aside")] == [(f.digest, f.action) for f in report.findings]
    row = await row_of(store, DIGEST)
    assert row is not None
    assert row.state == rows.DAMAGED
    with pytest.raises(BlobNotFound):
        await store.blobs.stat(DIGEST)
    assert [aside.digest async for aside in store.blobs.list_aside()] == [DIGEST]
    assert (await store.scrub.run()).findings == []


@pytest.mark.parametrize("harm", ["rotten", "short", "long", "gone"])
async def test_next_upload_heals(store: Store, harm: str) -> None:
    """The blob is whole again, with its references, under a new generation."""
    await put(store, CONTENT)
    before = await row_of(store, DIGEST)
    if harm == "gone":
        await lose(store, DIGEST)
    else:
        harmed = {"rotten": rotten(CONTENT), "short": CONTENT[:-1], "long": CONTENT + b"."}
        await damage(store, DIGEST, harmed[harm])
    assert not await store.scrub.check(DIGEST)

    await put(store, CONTENT, "usr_healer")

    assert await content_of(store, DIGEST) == CONTENT
    after = await row_of(store, DIGEST)
    assert before is not None
    assert after is not None
    assert after.is_present
    assert after.generation > before.generation
    assert await store.index.read(lambda tx: claims.owner_holds(tx, DIGEST, OWNER))
    assert await store.scrub.check(DIGEST)


async def test_what_a_scrub_allocates_is_as_large_as_what_it_reads(store: Store) -> None:
    """A megabyte for each small file, let go at once, leaves holes all over a worker's memory."""
    await put(store, b"small")
    await store.scrub.run()  # what is made once

    tracemalloc.start()
    try:
        await store.scrub.run()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < READ_BYTES // 4


async def test_missing_segments_are_renewed(store: Store) -> None:
    await put(store, CONTENT)
    content = await store.blobs.read_segments(DIGEST)
    await store.blobs.write_segments(DIGEST, b"torn")

    await store.scrub.run()

    assert content is not None
    assert content == await store.blobs.read_segments(DIGEST)


async def test_named_blobs_alone_are_read(store: Store) -> None:
    await put(store, CONTENT)
    await put(store, b"other")

    report = await store.scrub.run(only=[Digest.of(b"other")])

    assert (report.blobs, report.bytes) == (1, 5)
    with pytest.raises(BlobNotFound):
        await store.scrub.run(only=[Digest.of(b"absent")])


async def test_progress_is_told(store: Store) -> None:
    for n in range(3):
        await put(store, b"%d" % n)
    told: list[ScrubProgress] = []

    await store.scrub.run(report=told.append)

    assert [ScrubProgress(n, n, 3, 3) for n in (1, 2, 3)] == told


async def test_a_blob_that_changed_meanwhile_is_not_convicted(store: Store) -> None:
    """A verdict holds for one generation only."""
    await put(store, CONTENT)
    row = await row_of(store, DIGEST)
    assert row is not None

    assert not await store.quarantine.convict(DIGEST, row.generation + 1)

    assert await content_of(store, DIGEST) == CONTENT
