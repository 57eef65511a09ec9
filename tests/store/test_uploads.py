"""Sessions go on where they stopped, have one writer, and finish once."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from store.digest import EMPTY, Digest
from store.errors import (
    ChecksumMismatch,
    DigestMismatch,
    OffsetConflict,
    UploadExpired,
    UploadFinished,
    UploadNotFound,
    UploadTaken,
    UploadTooLarge,
)
from store.index import blobs as rows
from store.ingest import BATCH_BYTES
from store.opening import Store, StoreSettings, initialize, open_store
from store.uploads import CHECKSUMS, Checksum, Uploads
from tests.store.conftest import ManualClock
from tests.support.storing import OWNER, body, broken, content_of, row_of

CONTENT = secrets.token_bytes(3 * BATCH_BYTES + 11)
DIGEST = Digest.of(CONTENT)


async def begin(store: Store, length: int | None = len(CONTENT)) -> str:
    return (await store.uploads.create(OWNER, length=length, expected=None)).id


def other_worker(store: Store) -> Uploads:
    """The same sessions in a worker that holds no running hash."""
    return Uploads(store.blobs, store.index, store.ingest, store.threads, upload_seconds=3600)


async def test_pieces_add_up_to_a_blob(store: Store) -> None:
    session = await begin(store)
    for start in range(0, len(CONTENT), 1_000_000):
        upload = await store.uploads.append(
            session, start, body(CONTENT[start : start + 1_000_000])
        )

    assert upload.is_finished
    assert upload.digest == DIGEST
    assert await content_of(store, DIGEST) == CONTENT
    assert await store.index.read(lambda tx: rows.owner_holds(tx, DIGEST, OWNER))


async def test_nothing_is_visible_before_the_end(store: Store) -> None:
    session = await begin(store)
    await store.uploads.append(session, 0, body(CONTENT[:-1]))

    assert [info async for info in store.blobs.list()] == []
    assert await row_of(store, DIGEST) is None


async def test_an_empty_upload_finishes_by_an_empty_append(store: Store) -> None:
    session = await begin(store, 0)

    upload = await store.uploads.append(session, 0, body())

    assert upload.is_finished
    assert upload.digest == EMPTY


async def test_what_a_broken_body_delivered_is_kept(store: Store) -> None:
    session = await begin(store)
    with pytest.raises(ConnectionResetError):
        await store.uploads.append(session, 0, broken(CONTENT[:1_500_000]))

    assert (await store.uploads.get(session)).offset == 1_500_000
    upload = await store.uploads.append(session, 1_500_000, body(CONTENT[1_500_000:]))
    assert upload.digest == DIGEST


async def test_any_worker_can_go_on(store: Store) -> None:
    session = await begin(store)
    await store.uploads.append(session, 0, body(CONTENT[:1000]))
    await other_worker(store).append(session, 1000, body(CONTENT[1000:2000]))

    upload = await store.uploads.append(session, 2000, body(CONTENT[2000:]))

    assert upload.digest == DIGEST


@pytest.mark.parametrize("wrong", [0, 999, 1001, 10**12])
async def test_a_wrong_offset_is_answered_with_the_true_one(store: Store, wrong: int) -> None:
    session = await begin(store)
    await store.uploads.append(session, 0, body(CONTENT[:1000]))

    with pytest.raises(OffsetConflict) as caught:
        await store.uploads.append(session, wrong, body(b"x"))

    assert caught.value.actual == 1000


async def test_a_wrong_offset_disturbs_nobody(store: Store) -> None:
    session = await begin(store)
    more, begun = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield CONTENT[: 2 * BATCH_BYTES]
        begun.set()
        await more.wait()
        yield CONTENT[2 * BATCH_BYTES :]

    running = asyncio.ensure_future(store.uploads.append(session, 0, slow()))
    await begun.wait()
    with pytest.raises(OffsetConflict):
        await other_worker(store).append(session, 5, body(b"x"))
    more.set()

    assert (await running).digest == DIGEST


async def test_a_newcomer_takes_over_from_a_stalled_connection(store: Store) -> None:
    """The old writer stops at its next batch, writes nothing more, and the digest is right."""
    session = await begin(store)
    more, begun = asyncio.Event(), asyncio.Event()

    async def stalled() -> AsyncIterator[bytes]:
        yield CONTENT[:BATCH_BYTES]
        yield b""
        begun.set()
        await more.wait()
        yield bytes(BATCH_BYTES)

    old = asyncio.ensure_future(store.uploads.append(session, 0, stalled()))
    await begun.wait()
    while (offset := (await store.uploads.get(session)).offset) < BATCH_BYTES:
        await asyncio.sleep(0)
    taken = await other_worker(store).append(session, offset, body(CONTENT[offset:-1]))
    more.set()

    with pytest.raises(UploadTaken):
        await old
    upload = await store.uploads.append(session, taken.offset, body(CONTENT[-1:]))
    assert upload.digest == DIGEST


async def test_a_writer_overtaken_at_the_end_gets_the_same_answer(store: Store) -> None:
    session = await begin(store)
    more, begun = asyncio.Event(), asyncio.Event()

    async def stalled() -> AsyncIterator[bytes]:
        begun.set()
        await more.wait()
        yield CONTENT

    old = asyncio.ensure_future(store.uploads.append(session, 0, stalled()))
    await begun.wait()
    await other_worker(store).append(session, 0, body(CONTENT))
    more.set()

    assert (await old).digest == DIGEST


async def test_finished_sessions_keep_their_answer_and_take_no_more(store: Store) -> None:
    session = await begin(store, 3)
    await store.uploads.append(session, 0, body(b"abc"))

    with pytest.raises(UploadFinished):
        await store.uploads.append(session, 3, body(b"d"))

    assert Digest.of(b"abc") == (await store.uploads.get(session)).digest
    assert [info async for info in store.blobs.list_staged()] == []


async def test_more_than_declared_is_refused(store: Store) -> None:
    session = await begin(store, 3)

    with pytest.raises(UploadTooLarge):
        await store.uploads.append(session, 0, body(b"abcd"))

    assert (await store.uploads.get(session)).offset == 0


async def test_a_wrong_digest_ends_the_session(store: Store) -> None:
    upload = await store.uploads.create(OWNER, length=3, expected=EMPTY)

    with pytest.raises(DigestMismatch) as caught:
        await store.uploads.append(upload.id, 0, body(b"abc"))

    assert Digest.of(b"abc") == caught.value.actual
    with pytest.raises(UploadNotFound):
        await store.uploads.get(upload.id)
    assert [info async for info in store.blobs.list_staged()] == []
    assert [info async for info in store.blobs.list()] == []


@pytest.mark.parametrize("algorithm", CHECKSUMS)
async def test_checksums_are_checked(store: Store, algorithm: str) -> None:
    session = await begin(store, 6)
    checksum = Checksum(algorithm, hashlib.new(algorithm, b"abc").digest())
    await store.uploads.append(session, 0, body(b"abc"), checksum=checksum)

    with pytest.raises(ChecksumMismatch):
        await store.uploads.append(session, 3, body(b"xyz"), checksum=checksum)

    assert (await store.uploads.get(session)).offset == 3
    upload = await store.uploads.append(session, 3, body(b"abc"), checksum=checksum)
    assert Digest.of(b"abcabc") == upload.digest


async def test_a_broken_body_under_a_checksum_is_dropped_whole(store: Store) -> None:
    session = await begin(store)
    await store.uploads.append(session, 0, body(CONTENT[:1000]))
    checksum = Checksum("sha1", bytes(20))

    with pytest.raises(ConnectionResetError):
        await store.uploads.append(
            session, 1000, broken(CONTENT[1000:2_000_000]), checksum=checksum
        )

    assert (await store.uploads.get(session)).offset == 1000
    upload = await other_worker(store).append(session, 1000, body(CONTENT[1000:]))
    assert upload.digest == DIGEST


async def test_a_length_may_come_later_and_never_changes(store: Store) -> None:
    session = await begin(store, None)
    await store.uploads.append(session, 0, body(b"ab"))
    with pytest.raises(UploadTooLarge):
        await store.uploads.append(session, 2, body(b"cdef"), length=3)

    upload = await store.uploads.append(session, 2, body(b"c"), length=3)

    assert Digest.of(b"abc") == upload.digest


async def test_cancelled_sessions_are_gone(store: Store) -> None:
    session = await begin(store)
    await store.uploads.append(session, 0, body(b"abc"))
    await store.uploads.cancel(session)

    with pytest.raises(UploadNotFound):
        await store.uploads.get(session)
    with pytest.raises(UploadNotFound):
        await store.uploads.cancel(session)
    assert [info async for info in store.blobs.list_staged()] == []


async def test_cancelling_a_finished_session_leaves_its_blob(store: Store) -> None:
    session = await begin(store, 3)
    await store.uploads.append(session, 0, body(b"abc"))
    await store.uploads.cancel(session)

    assert await content_of(store, Digest.of(b"abc")) == b"abc"


async def test_sessions_expire_with_their_bytes(store: Store, clock: ManualClock) -> None:
    session = await begin(store)
    await store.uploads.append(session, 0, body(b"abc"))
    clock.advance(store.settings.upload_seconds - 1)
    await store.uploads.append(session, 3, body(b"d"))
    clock.advance(store.settings.upload_seconds - 1)
    assert await store.uploads.expire() == 0
    clock.advance(2)

    with pytest.raises(UploadExpired):
        await store.uploads.get(session)
    assert await store.uploads.expire() == 1
    with pytest.raises(UploadNotFound):
        await store.uploads.get(session)
    assert [info async for info in store.blobs.list_staged()] == []


async def test_owners_are_counted(store: Store) -> None:
    await begin(store)
    session = await begin(store, 3)
    await store.uploads.append(session, 0, body(b"abc"))
    running = await begin(store)
    await store.uploads.append(running, 0, body(b"abcd"))

    assert await store.uploads.count(OWNER) == (2, 4)
    assert await store.uploads.count("usr_nobody") == (0, 0)


async def test_sessions_survive_a_restart(tmp_path: Path, clock: ManualClock) -> None:
    """After a kill the file's length counts, committed or not."""
    await asyncio.to_thread(initialize, tmp_path)
    settings = StoreSettings(root=tmp_path, reserve_bytes=0, reserve_share=0)
    first = await open_store(settings, clock=clock)
    session = await begin(first)
    await first.uploads.append(session, 0, body(CONTENT[:1000]))
    writer = await first.blobs.reopen(session)
    await asyncio.to_thread(writer.append_blocking, 1000, [CONTENT[1000:5000]])
    await writer.close()
    await first.close()

    second = await open_store(settings, clock=clock)
    try:
        assert (await second.uploads.get(session)).offset == 5000
        upload = await second.uploads.append(session, 5000, body(CONTENT[5000:]))
        assert upload.digest == DIGEST
    finally:
        await second.close()


async def test_after_a_crash_of_the_host_only_synced_bytes_count(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await begin(store)
    await store.uploads.append(session, 0, body(CONTENT[:1000]))
    writer = await store.blobs.reopen(session)
    await asyncio.to_thread(writer.append_blocking, 1000, [bytes(4000)])
    await writer.close()

    monkeypatch.setattr("store.uploads.boot_id", lambda: "another boot")

    assert (await store.uploads.get(session)).offset == 1000
    upload = await store.uploads.append(session, 1000, body(CONTENT[1000:]))
    assert upload.digest == DIGEST
