"""What only the inside of upload sessions shows: lost races, counts, restarts, crashes of the host.

That they go on where they stopped, have one writer and finish once is `tests.contracts.sessions`.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from store.batches import BATCH_BYTES
from store.digest import Digest
from store.errors import ChecksumMismatch, UploadTaken, UploadTooLarge
from store.hashing import RunningHash
from store.index.uploads import UploadRow
from store.opening import Store, StoreSettings, initialize, open_store
from store.uploads import Checksum, Uploads
from tests.store.conftest import ManualClock
from tests.support.storing import OWNER, body, broken

CONTENT = secrets.token_bytes(3 * BATCH_BYTES + 11)
DIGEST = Digest.of(CONTENT)


async def begin(store: Store, length: int | None = len(CONTENT)) -> str:
    return (await store.uploads.create(OWNER, length=length, expected=None)).id


def other_worker(store: Store) -> Uploads:
    """The same sessions in a worker that holds no running hash."""
    return Uploads(store.blobs, store.index, store.ingest, store.threads, upload_seconds=3600)


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


async def test_nobody_holds_a_session_once_its_writer_has_ended(store: Store) -> None:
    """However it ended: then the offset is a promise without taking the session from anybody."""
    session = await begin(store)
    more, begun = asyncio.Event(), asyncio.Event()

    async def stalled() -> AsyncIterator[bytes]:
        begun.set()
        await more.wait()
        yield CONTENT[:9]

    async def is_held() -> bool:
        return (await store.uploads.get(session)).is_held

    assert not await is_held()
    writing = asyncio.ensure_future(store.uploads.append(session, 0, stalled()))
    await begun.wait()
    assert await is_held()
    more.set()
    await writing
    assert not await is_held()
    with pytest.raises(ConnectionResetError):
        await store.uploads.append(session, 9, broken(CONTENT[9:20]))
    assert not await is_held()
    wrong = Checksum("md5", b"wrong")
    with pytest.raises(ChecksumMismatch):
        await store.uploads.append(session, 20, body(CONTENT[20:30]), checksum=wrong)
    assert not await is_held()
    with pytest.raises(UploadTooLarge):
        await store.uploads.append(session, 20, body(CONTENT))
    assert not await is_held()


@pytest.mark.parametrize("ends", ["in time", "overtaken"])
async def test_a_halted_session_stays_where_it_was_said_to_be(
    store: Store, ends: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer gets no further, and what it has hashed in time is not hashed again."""
    session = await begin(store)
    more, begun = asyncio.Event(), asyncio.Event()

    async def stalled() -> AsyncIterator[bytes]:
        yield CONTENT[:BATCH_BYTES]
        yield b""
        begun.set()
        await more.wait()
        if ends == "overtaken":
            yield CONTENT[BATCH_BYTES : BATCH_BYTES + 5]

    writing = asyncio.ensure_future(store.uploads.append(session, 0, stalled()))
    await begun.wait()
    while (await store.uploads.get(session)).offset < BATCH_BYTES:
        await asyncio.sleep(0)
    halted = await other_worker(store).halt(session)
    more.set()
    with pytest.raises(UploadTaken):
        await writing

    if ends == "in time":
        monkeypatch.setattr(RunningHash, "catch_up", None)
    assert (halted.offset, halted.is_held) == (BATCH_BYTES, False)
    assert (await store.uploads.halt(session)).offset == BATCH_BYTES
    finished = await store.uploads.append(session, BATCH_BYTES, body(CONTENT[BATCH_BYTES:]))
    assert finished.digest == DIGEST


def hindered(store: Store, meanwhile: Callable[[], Awaitable[None]]) -> Uploads:
    """A worker to which something happens between looking at a session and taking it."""

    class Hindered(Uploads):
        async def _take(self, *arguments: Any) -> UploadRow:
            await meanwhile()
            return await super()._take(*arguments)

    return Hindered(store.blobs, store.index, store.ingest, store.threads, upload_seconds=3600)


async def test_an_append_that_began_before_the_halt_does_not_write_after_it(store: Store) -> None:
    session = await begin(store)
    halted = []

    async def meanwhile() -> None:
        halted.append(await store.uploads.halt(session))

    with pytest.raises(UploadTaken):
        await hindered(store, meanwhile).append(session, 0, body(CONTENT[:5]))
    assert [(upload.offset, upload.is_held) for upload in halted] == [(0, False)]
    finished = await store.uploads.append(session, 0, body(CONTENT))
    assert finished.digest == DIGEST


async def test_an_append_takes_over_from_one_that_began_after_it(store: Store) -> None:
    """As long as nobody asked: which of two was sent first cannot be told."""
    session = await begin(store)

    async def meanwhile() -> None:
        with pytest.raises(ConnectionResetError):
            await store.uploads.append(session, 0, broken(b""))

    assert (await hindered(store, meanwhile).append(session, 0, body(CONTENT))).digest == DIGEST


async def test_asking_costs_no_hashing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often, and wherever: between two appends of one worker."""
    session = await begin(store)
    await store.uploads.append(session, 0, body(CONTENT[:9]))
    monkeypatch.setattr(RunningHash, "catch_up", None)
    await store.uploads.halt(session)
    await other_worker(store).halt(session)

    assert (await store.uploads.append(session, 9, body(CONTENT[9:]))).digest == DIGEST


async def test_hashes_of_sessions_that_nobody_goes_on_with_are_bounded(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their clients left, or went on with another worker; a soak that goes on relies on it."""
    monkeypatch.setattr("store.kept_hashes.HASHES_KEPT", 2)
    sessions = [await begin(store) for _ in range(4)]
    for session in sessions:
        await store.uploads.append(session, 0, body(CONTENT[:9]))

    assert list(store.uploads._hashes._kept) == sessions[-2:]


async def test_a_finished_session_is_not_halted(store: Store) -> None:
    session = await begin(store)
    await store.uploads.append(session, 0, body(CONTENT))

    assert (await store.uploads.halt(session)).digest == DIGEST


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


async def test_a_session_does_not_expire_while_it_is_written(
    store: Store, clock: ManualClock
) -> None:
    """Its time begins anew with each append, and the sweeper looks again before it takes it."""
    session = await begin(store)
    clock.advance(store.settings.upload_seconds - 1)
    more, begun = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        begun.set()
        await more.wait()
        yield CONTENT

    running = asyncio.ensure_future(store.uploads.append(session, 0, slow()))
    await begun.wait()
    clock.advance(2)

    assert await store.uploads.expire() == 0
    more.set()
    assert (await running).digest == DIGEST
