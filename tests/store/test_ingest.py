"""What only the inside of ingest shows: records, generations, moves under way, the reserve.

That bytes become visible whole, verified and claimed, or not at all, is `tests.contracts.blobs`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence

import pytest

from store.batches import (
    ASK_AGAIN_SECONDS,
    BATCH_BYTES,
    SPARE_BYTES,
    UNASKED_BYTES,
    Intake,
    Reserve,
)
from store.digest import Digest
from store.errors import DigestMismatch, SizeMismatch, StorageFull, Unavailable
from store.index import blobs as rows
from store.index import claims
from store.index.totals import blob_totals
from store.index.transactions import Tx
from store.ingest import HASHED_HERE_BYTES, LOOKED_UP_HERE, Ingest
from store.opening import Store
from store.recording import StoredBlob
from store.segments import own_of
from store.threads import DIRECT_BODIES
from tests.support.storing import (
    OWNER,
    body,
    content_of,
    damage,
    lose,
    pinned,
    put,
    release,
    row_of,
)

CONTENT = b"some weights"
DIGEST = Digest.of(CONTENT)


async def assert_nothing_stored(store: Store) -> None:
    await store.ingest.close()
    assert [info async for page in store.blobs.list() for info in page] == []
    assert [info async for info in store.blobs.list_staged()] == []
    assert await store.index.read(blob_totals) == {}


async def put_many(store: Store, contents: Sequence[bytes]) -> list[StoredBlob]:
    async def record(tx: Tx, stored: Sequence[StoredBlob]) -> list[StoredBlob]:
        for one in stored:
            await claims.keep_ref(tx, one.digest, OWNER, claims.PIN)
        return list(stored)

    staged = await store.ingest.hold_all([(content, None) for content in contents])
    return await store.ingest.commit(staged, record)


@pytest.mark.parametrize("declared", [len(CONTENT) - 1, len(CONTENT) + 1, 0])
async def test_a_wrong_size_stores_nothing(store: Store, declared: int) -> None:
    with pytest.raises(SizeMismatch):
        await store.ingest.receive(body(CONTENT), pinned(), size_bytes=declared)

    await assert_nothing_stored(store)


async def test_a_failing_record_shows_nothing(store: Store) -> None:
    """The row and its reference are one transaction; the file alone is an orphan, not a blob."""

    async def refuse(tx: Tx, stored: StoredBlob) -> None:
        raise LookupError

    with pytest.raises(LookupError):
        await store.ingest.receive(body(CONTENT), refuse)

    assert await row_of(store, DIGEST) is None


async def test_the_second_upload_of_a_digest_touches_no_file(store: Store) -> None:
    await put(store, CONTENT)
    before = await store.blobs.stat(DIGEST)
    row = await row_of(store, DIGEST)

    stored, is_new = await store.ingest.receive(body(CONTENT), pinned("usr_other"))

    assert is_new
    assert row is not None
    assert row.generation == stored.generation
    assert before == await store.blobs.stat(DIGEST)


async def test_identical_uploads_at_once_end_in_one_file(store: Store) -> None:
    outcomes = await asyncio.gather(
        *(store.ingest.receive(body(CONTENT), pinned(f"usr_{n}")) for n in range(8))
    )

    assert len({stored.generation for stored, _ in outcomes}) == 1
    assert all(is_new for _, is_new in outcomes)
    assert [info.digest async for page in store.blobs.list() for info in page] == [DIGEST]
    owners = await store.index.read(lambda tx: claims.owners_of(tx, DIGEST))
    assert len(owners) == 8


async def test_claims_on_absent_blobs_claim_nothing(store: Store) -> None:
    assert await store.ingest.claim(DIGEST, pinned()) is None
    assert not await store.index.read(claims.any_refs)


@pytest.mark.parametrize("harm", ["gone", "short"])
async def test_a_blob_without_a_whole_file_is_not_claimed_and_heals(
    store: Store, harm: str
) -> None:
    """A dedup answer looks at the file; the next upload brings it back under a new generation."""
    await put(store, CONTENT)
    before = await row_of(store, DIGEST)
    await (lose(store, DIGEST) if harm == "gone" else damage(store, DIGEST, b"short"))

    assert await store.ingest.claim(DIGEST, pinned()) is None
    row = await row_of(store, DIGEST)
    assert row is not None
    assert row.state == rows.DAMAGED

    await put(store, CONTENT)
    assert await content_of(store, DIGEST) == CONTENT
    after = await row_of(store, DIGEST)
    assert before is not None
    assert after is not None
    assert after.is_present
    assert after.generation > before.generation


async def test_many_blobs_commit_at_once_or_not_at_all(store: Store) -> None:
    contents = [b"%d" % n for n in range(20)] + [b"0"]
    staged = [await store.ingest.stage(body(content)) for content in contents]

    async def record(tx: Tx, stored: Sequence[StoredBlob]) -> list[Digest]:
        for one in stored:
            await claims.keep_ref(tx, one.digest, OWNER, claims.PIN)
        return [one.digest for one in stored]

    digests = await store.ingest.commit(staged, record)

    assert [Digest.of(content) for content in contents] == digests
    for content in contents:
        assert content == await content_of(store, Digest.of(content))


async def test_a_batch_takes_as_many_statements_however_many_blobs_it_has(store: Store) -> None:
    """New ones, those that are there, and both."""

    async def nothing(tx: Tx, stored: Sequence[StoredBlob]) -> None:
        pass

    taken = set()
    for numbers in (range(20), range(100, 200), range(20), range(50)):
        contents = [(b"%d" % number, None) for number in numbers]
        staged = await store.ingest.hold_all(contents)
        before = store.index.statement_count()
        await store.ingest.commit(staged, nothing)
        taken.add(store.index.statement_count() - before)

    assert len(taken) == 1


@pytest.mark.parametrize("settings", ["local"], indirect=True)  # memory is read by one thread
@pytest.mark.parametrize(
    ("count", "size_bytes", "is_here"),
    [
        (LOOKED_UP_HERE, 10, True),
        (LOOKED_UP_HERE + 1, 10, False),
        (4, HASHED_HERE_BYTES // 4, True),
        (4, HASHED_HERE_BYTES // 4 + 1, False),
    ],
)
async def test_only_so_much_is_hashed_on_the_event_loop(
    store: Store, count: int, size_bytes: int, is_here: bool
) -> None:
    threads = set()

    async def admit(tx: Tx) -> None:
        threads.add(threading.current_thread())

    async def nothing(tx: Tx, stored: Sequence[StoredBlob]) -> None:
        pass

    contents = [(bytes([number]) * size_bytes, None) for number in range(count)]
    await store.ingest.store(contents, nothing, admit=admit)

    assert (threads == {threading.current_thread()}) is is_here


async def test_a_batch_finds_new_damaged_and_present_blobs_and_the_same_one_twice(
    store: Store,
) -> None:
    await put(store, b"there")
    await put(store, b"damaged")
    there, damaged = Digest.of(b"there"), Digest.of(b"damaged")
    before, row = await row_of(store, there), await row_of(store, damaged)
    assert before is not None
    assert row is not None
    generation = row.generation
    await store.index.run(
        lambda tx: rows.change_state(tx, damaged, generation, rows.PRESENT, rows.DAMAGED)
    )

    stored = await put_many(store, [b"new", b"there", b"damaged", b"new", b"other"])

    generations = [one.generation for one in stored]
    assert [one.digest for one in stored][1:3] == [there, damaged]
    assert generations[1] == before.generation
    assert generations[2] > generation
    assert generations[0] == generations[3]
    assert len(set(generations)) == 4
    for one in stored:
        row = await row_of(store, one.digest)
        assert row is not None
        assert row.is_present
        assert row.generation == one.generation
        assert row.segments == own_of(await content_of(store, one.digest))


async def test_a_batch_with_bytes_that_are_not_those_expected_is_refused(store: Store) -> None:
    with pytest.raises(DigestMismatch):
        await store.ingest.hold_all([(b"a", Digest.of(b"a")), (b"b", Digest.of(b"a"))])

    await assert_nothing_stored(store)


async def test_a_moving_blob_is_waited_for_and_then_refused(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.ingest.MOVING_WAIT_SECONDS", 0.05)
    await put(store, CONTENT)
    row = await row_of(store, DIGEST)
    assert row is not None
    await store.index.run(
        lambda tx: rows.change_state(tx, DIGEST, row.generation, rows.PRESENT, rows.MOVING)
    )

    with pytest.raises(Unavailable):
        await store.ingest.receive(body(CONTENT), pinned())


async def test_a_moving_blob_is_stored_anew_once_it_has_gone(store: Store) -> None:
    await put(store, CONTENT)
    await release(store, DIGEST)
    row = await row_of(store, DIGEST)
    assert row is not None
    await store.index.run(
        lambda tx: rows.change_state(tx, DIGEST, row.generation, rows.PRESENT, rows.MOVING)
    )
    upload = asyncio.ensure_future(store.ingest.receive(body(CONTENT), pinned()))
    await asyncio.sleep(0)

    await store.quarantine.finish([row])
    stored, _ = await upload

    assert stored.generation > row.generation
    assert await content_of(store, DIGEST) == CONTENT


async def test_the_reserve_is_kept_free(store: Store) -> None:
    reserve = Reserve(bytes=0, share=1.01)
    greedy = Ingest(store.blobs, store.cold, store.index, store.threads, reserve=reserve)

    with pytest.raises(StorageFull):
        await greedy.receive(body(CONTENT), pinned())

    await assert_nothing_stored(store)


def test_the_reserve_follows_the_size_of_the_disk() -> None:
    """A gibibyte, of a small disk a tenth, of a large one a hundredth."""
    assert Reserve().of(64 << 20) == (64 << 20) // 10
    assert Reserve().of(64 << 30) == 1 << 30
    assert Reserve().of(1 << 44) == (1 << 44) // 100
    assert Reserve(bytes=0, share=0).of(1 << 40) == 0


async def test_the_disk_is_asked_once_for_small_bodies_that_follow_each_other(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0
    now = [100.0]
    free = 9 * SPARE_BYTES

    async def free_bytes() -> tuple[int, int]:
        nonlocal asked
        asked += 1
        return free, free

    monkeypatch.setattr(store.blobs, "free_bytes", free_bytes)
    monkeypatch.setattr("store.batches.time.monotonic", lambda: now[0])
    intake = Intake(store.blobs, store.threads, reserve=Reserve(bytes=0, share=0))

    await intake.admit(0)
    for _ in range(SPARE_BYTES // UNASKED_BYTES):
        await intake.admit(UNASKED_BYTES)
    assert asked == 1
    await intake.admit(1)  # more than is left of what need not be asked for
    assert asked == 2
    await intake.admit(None)  # of any length
    assert asked == 3
    await intake.admit(UNASKED_BYTES + 1)
    assert asked == 4
    now[0] += ASK_AGAIN_SECONDS
    await intake.admit(1)
    assert asked == 5


async def test_where_nearly_nothing_is_left_the_disk_is_asked_each_time(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def free_bytes() -> tuple[int, int]:
        return 4000, 4000

    monkeypatch.setattr(store.blobs, "free_bytes", free_bytes)
    intake = Intake(store.blobs, store.threads, reserve=Reserve(bytes=0, share=0))

    await intake.admit(1000)
    with pytest.raises(StorageFull):
        await intake.admit(5000)


async def test_a_small_body_of_announced_length_is_stored_like_any_other(store: Store) -> None:
    stored, _ = await store.ingest.receive(body(CONTENT), pinned(), size_bytes=len(CONTENT))

    assert stored.digest == DIGEST
    assert await content_of(store, DIGEST) == CONTENT
    await store.ingest.close()
    assert [info async for info in store.blobs.list_staged()] == []


@pytest.mark.parametrize("announced", [len(CONTENT) - 1, len(CONTENT) + 1])
async def test_a_small_body_of_another_length_stores_nothing(store: Store, announced: int) -> None:
    with pytest.raises(SizeMismatch):
        await store.ingest.receive(body(CONTENT), pinned(), size_bytes=announced)

    await assert_nothing_stored(store)


async def test_a_declared_size_that_does_not_fit_is_refused_at_once(store: Store) -> None:
    async def untouched() -> AsyncIterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    with pytest.raises(StorageFull):
        await store.ingest.receive(untouched(), pinned(), size_bytes=2**64)


class Direct:
    """A body of so many batches of `CONTENT` that a thread reads; tells when it gives one out."""

    is_fast = True

    def __init__(self, batches: int) -> None:
        self.given = 0
        self._batches = batches
        self.after = {number: threading.Event() for number in range(batches + 1)}

    def begin_direct(self) -> tuple[bytes, Direct] | None:
        return None if self.given else (b"", self)

    @property
    def left(self) -> int:
        return (self._batches - self.given) * len(CONTENT)

    @property
    def is_done(self) -> bool:
        return self.given == self._batches

    def read_blocking(self, into: memoryview) -> list[memoryview]:
        self.given += 1
        into[: len(CONTENT)] = CONTENT
        self.after[self.given].set()
        return [into[: len(CONTENT)]]

    def close(self) -> None:
        """Nothing is held."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        nothing: tuple[bytes, ...] = ()
        for piece in nothing:
            yield piece


async def test_a_thread_that_receives_goes_on_while_the_disk_is_asked(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer of the disk comes after more was received: whoever waits for it waits for ever."""
    monkeypatch.setattr("store.batches.RECHECK_BATCHES", 3)
    source, asked = Direct(4), 0

    async def free_bytes() -> tuple[int, int]:
        nonlocal asked
        asked += 1
        if asked > 1:
            assert await asyncio.to_thread(source.after[4].wait, 60)
        return 1 << 40, 1 << 40

    monkeypatch.setattr(store.blobs, "free_bytes", free_bytes)

    stored, _ = await store.ingest.receive(source, pinned())

    assert (asked, stored.size_bytes) == (2, 4 * len(CONTENT))
    assert stored.digest == Digest.of(4 * CONTENT)


class LateDirect(Direct):
    """One whose worth shows on the way, as a chunked body's does, when a batch is being written."""

    def __init__(self, store: Store, batches: int) -> None:
        super().__init__(batches)
        self._threads = store.threads
        self._is_worth_it = False
        self.free = list[int]()
        """How many bodies might still be read by threads whenever this one was to be."""

    def begin_direct(self) -> tuple[bytes, Direct] | None:
        if not self._is_worth_it or self.given:
            return None
        self.free.append(self._threads.direct_free)
        return b"", self

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if not self._is_worth_it:
            self._is_worth_it = True
            yield bytes(BATCH_BYTES)
        while not self.is_done:
            yield bytes(self.read_blocking(memoryview(bytearray(BATCH_BYTES)))[0])


async def test_no_more_bodies_are_read_by_threads_than_have_two_each(store: Store) -> None:
    """Not even where all of them are worth it at one moment: they would wait for each other."""
    sources = [LateDirect(store, 3) for _ in range(DIRECT_BODIES + 2)]

    async with asyncio.timeout(60):
        done = await asyncio.gather(*(store.ingest.receive(one, pinned()) for one in sources))

    began = [free for source in sources for free in source.free]
    assert min(began) > 0
    assert len(began) >= DIRECT_BODIES
    assert {stored.digest for stored, _ in done} == {Digest.of(bytes(BATCH_BYTES) + 3 * CONTENT)}
    assert store.threads.direct_free == DIRECT_BODIES


@pytest.mark.parametrize("batches", [3, 60])
async def test_a_disk_that_fills_up_ends_what_a_thread_receives(
    store: Store, monkeypatch: pytest.MonkeyPatch, batches: int
) -> None:
    """Before it is stored at the latest, and no more than one asking later."""
    monkeypatch.setattr("store.batches.RECHECK_BATCHES", 3)
    source, asked = Direct(batches), 0

    async def free_bytes() -> tuple[int, int]:
        nonlocal asked
        asked += 1
        return (1 << 40 if asked == 1 else 0), 1 << 40

    monkeypatch.setattr(store.blobs, "free_bytes", free_bytes)
    reserve = Reserve(bytes=1, share=0)
    careful = Ingest(store.blobs, store.cold, store.index, store.threads, reserve=reserve)

    with pytest.raises(StorageFull):
        await careful.receive(source, pinned())
    await careful.close()

    assert source.given < 3 + 3
    await assert_nothing_stored(store)
