"""What whoever uses the store may rely on, through every door and on every backend.

A subclass says how its door is opened::

    class TestDirectStore(BlobsContract):
        def open_door(self, store, limit):
            return direct_door(store, limit)

Each test runs on a fresh store in a directory and in memory, with a second worker (`neighbour`) on
the same store for what must hold between processes. After each test the store must be sound, by
`tests.support.soundness`, and nothing may be left staged.

The docstrings of the tests are the specification.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest

from registry.catalog.migrations import CHAINS
from store.batches import BATCH_BYTES
from store.digest import EMPTY, Digest
from store.index.uploads import upload_epoch
from store.opening import Store, StoreSettings, initialize, open_store
from store.uploads import CHECKSUMS, Checksum
from tests.support.clock import ManualClock
from tests.support.doors import (
    Damaged,
    Door,
    Expired,
    Finished,
    Interrupted,
    Mismatch,
    NotFound,
    OffsetConflict,
    OutsideRange,
    Part,
    Pin,
    Refused,
    Taken,
    TooLarge,
    WrongChecksum,
    beside,
    close_beside,
    doubled,
)
from tests.support.soundness import Picture, assert_memory_is_sound, assert_store_is_sound
from tests.support.storing import body, broken, damage, lose

T = TypeVar("T")

MIB = BATCH_BYTES
LIMIT = 12 * MIB
CONTENT = b"some weights " * 99
DIGEST = Digest.of(CONTENT)
LARGE = secrets.token_bytes(2 * MIB + 333)
LARGE_DIGEST = Digest.of(LARGE)
OTHER = b"other weights"
NEVER = Digest.of(b"never stored")
TURNS = (0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89)
"""After how many turns of the event loop something is cancelled."""


def split(content: bytes, size: int) -> list[bytes]:
    return [content[start : start + size] for start in range(0, len(content), size)]


class Held:
    """A body that gives its first bytes, then nothing until it is let go on."""

    def __init__(self, before: bytes, after: bytes = b"") -> None:
        self._pieces = split(before, 100_000), split(after, 100_000)
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces[0]:
            yield piece
        self.begun.set()
        await self.go_on.wait()
        for piece in self._pieces[1]:
            yield piece


@asynccontextmanager
async def running(work: Coroutine[Any, Any, T]) -> AsyncIterator[asyncio.Task[T]]:
    """Something under way beside the test, which never outlives it."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def put(door: Door, content: bytes) -> Digest:
    return await door.put(body(content), size=len(content))


async def whole(door: Door, session: str, content: bytes) -> Digest | None:
    """Continue a session where it stands, to its end."""
    offset = (await door.session(session)).offset
    return (await door.append(session, offset, body(content[offset:]))).digest


async def pins_of(door: Door, limit: int = 100) -> list[Pin]:
    return [pin async for page in door.pages(limit) for pin in page]


async def look(door: Door) -> Picture:
    """What files and rows there are, found by other means than the store's; they must be sound."""
    await door.settle()
    root = door.store.settings.root
    if root is None:
        return await assert_memory_is_sound(door.store)
    return await asyncio.to_thread(assert_store_is_sound, root)


async def assert_nothing_is_left(door: Door) -> None:
    picture = await look(door)
    assert picture.rows["blobs"] == picture.rows["refs"] == []
    assert picture.files == {}
    assert picture.staged == {}


class BlobsContract:
    """Collected by pytest only in subclasses."""

    is_doubled: ClassVar[bool] = False
    """Whether every unit of work runs twice, the first time rolled back."""

    def open_door(self, store: Store, limit: int) -> AbstractAsyncContextManager[Door]:
        """The way in that is examined; no blob may be larger than `limit`."""
        raise NotImplementedError

    @pytest.fixture(params=["local", "memory"])
    def backend(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock()

    @pytest.fixture(scope="class")
    @classmethod
    def template(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """A directory that was made ready once; a test begins with a copy of its few files."""
        root = tmp_path_factory.mktemp("template")
        initialize(root, CHAINS)
        return root

    @pytest.fixture
    async def store(
        self, backend: str, template: Path, tmp_path: Path, clock: ManualClock
    ) -> AsyncIterator[Store]:
        root = None
        if backend == "local":
            root = tmp_path / "data"
            await asyncio.to_thread(shutil.copytree, template, root)
        settings = StoreSettings(
            root=root,
            reserve_bytes=0,
            reserve_share=0,
            grace_seconds=60,
            max_share=1.0,
            chains=CHAINS,
        )
        opened = await open_store(settings, clock=clock)
        yield doubled(opened) if self.is_doubled else opened
        await opened.close()

    @pytest.fixture
    async def door(self, store: Store) -> AsyncIterator[Door]:
        async with self.open_door(store, LIMIT) as door:
            yield door
            assert (await look(door)).staged == {}, "a test left a session behind"
        await close_beside(store)

    @pytest.fixture
    async def neighbour(self, store: Store, door: Door) -> AsyncIterator[Door]:
        """Another worker's door to the same store."""
        other = beside(store)
        async with self.open_door(other, LIMIT) as neighbour:
            yield neighbour
            await neighbour.settle()
        await close_beside(other)

    # Storing and reading.

    @pytest.mark.parametrize("size", [0, 1, MIB - 1, MIB, MIB + 1, 3 * MIB + 5])
    async def test_what_was_put_is_read_back(self, door: Door, size: int) -> None:
        """Bit for bit, whatever its size is beside that of a batch or a segment, however it is cut
        into pieces, and whether or not its size and digest were declared."""
        one, two = secrets.token_bytes(size), secrets.token_bytes(size)

        first = await door.put(body(*split(one, 70_001)))
        second = await door.put(body(two), expected=Digest.of(two), size=size)

        assert (first, second) == (Digest.of(one), Digest.of(two))
        assert await door.read(first) == one
        assert await door.read(second) == two
        assert await door.size(first) == size

    async def test_single_bytes_and_empty_pieces_add_up(self, door: Door) -> None:
        content = secrets.token_bytes(300)
        pieces = [piece for byte in content for piece in (bytes([byte]), b"")]

        digest = await door.put(body(b"", *pieces))

        assert digest == Digest.of(content)
        assert await door.read(digest) == content

    @pytest.mark.parametrize("content", [CONTENT, LARGE], ids=["small", "large"])
    async def test_a_part_gives_its_bytes(self, door: Door, content: bytes) -> None:
        """Both ends included, from an offset on, the last so many; what goes past the end stops
        there, and more than everything is everything."""
        digest, size = await put(door, content), len(content)
        middle = size // 2
        parts = {
            Part(0, 0): content[:1],
            Part(5, 6): content[5:7],
            Part(0, size - 1): content,
            Part(middle - 9, middle + 9): content[middle - 9 : middle + 10],
            Part(size - 1): content[-1:],
            Part(3): content[3:],
            Part(7, 10**12): content[7:],
            Part(last=1): content[-1:],
            Part(last=size - 1): content[1:],
            Part(last=10**12): content,
        }

        for part, expected in parts.items():
            assert await door.read(digest, part) == expected, part

    @pytest.mark.parametrize("content", [b"", CONTENT, LARGE], ids=["empty", "small", "large"])
    async def test_a_part_without_a_byte_is_refused(self, door: Door, content: bytes) -> None:
        """Past the end, or the last none; every part of an empty blob is one of these."""
        digest, size = await put(door, content), len(content)

        for part in (Part(size), Part(size, size + 5), Part(10**12), Part(last=0)):
            with pytest.raises(OutsideRange):
                await door.read(digest, part)
        assert await door.read(digest) == content

    async def test_what_was_never_stored_is_not_found(self, door: Door) -> None:
        """By nobody who asks for it, whatever they ask; and asking leaves nothing."""
        for asking in (door.read, door.size, door.keep, door.release):
            with pytest.raises(NotFound):
                await asking(NEVER)
        with pytest.raises(NotFound):
            await door.read(NEVER, Part(0))
        with pytest.raises(NotFound):
            async with door.open(NEVER):
                pass
        assert await door.missing([NEVER]) == [NEVER]
        assert await pins_of(door) == []
        await assert_nothing_is_left(door)

    async def test_many_readers_get_the_same_bytes(self, door: Door, neighbour: Door) -> None:
        await put(door, LARGE)

        got = await asyncio.gather(
            *(each.read(LARGE_DIGEST) for each in (door, neighbour) for _ in range(4))
        )

        assert set(map(Digest.of, got)) == {LARGE_DIGEST}

    # The same bytes again.

    async def test_putting_again_succeeds_and_changes_no_file(self, door: Door) -> None:
        await put(door, CONTENT)
        before = await look(door)

        assert await door.put(body(CONTENT), expected=DIGEST) == DIGEST

        after = await look(door)
        assert after.rows["blobs"] == before.rows["blobs"]
        assert after.files == before.files
        assert len(await pins_of(door)) == 1

    async def test_identical_uploads_at_once_end_in_one_file(
        self, door: Door, neighbour: Door
    ) -> None:
        """All are acknowledged, whichever worker they reach, and all find the blob then."""

        async def upload(door: Door) -> bytes:
            return await door.read(await door.put(body(*split(LARGE, 100_000))))

        got = await asyncio.gather(*(upload(each) for each in (door, neighbour) for _ in range(4)))

        assert all(content == LARGE for content in got)
        await neighbour.settle()
        picture = await look(door)
        assert list(picture.files) == [LARGE_DIGEST.hex]
        assert len(picture.rows["blobs"]) == len(picture.rows["refs"]) == 1

    async def test_different_uploads_at_once_do_not_mix(self, door: Door) -> None:
        contents = [secrets.token_bytes(MIB + number) for number in range(6)]

        digests = await asyncio.gather(
            *(door.put(body(*split(content, 50_000))) for content in contents)
        )

        assert digests == list(map(Digest.of, contents))
        for content in contents:
            assert await door.read(Digest.of(content)) == content

    @pytest.mark.parametrize("content", [CONTENT, LARGE], ids=["small", "large"])
    async def test_known_bytes_need_not_travel(
        self, door: Door, neighbour: Door, content: bytes
    ) -> None:
        """What is here is acknowledged before its body; what is not is asked for. Either way the
        caller has its pin afterwards."""
        assert await door.offer(content)
        assert not await door.offer(content)
        assert not await neighbour.offer(content)
        assert await door.read(Digest.of(content)) == content
        assert [pin.digest for pin in await pins_of(door)] == [Digest.of(content)]

    async def test_missing_names_what_must_be_sent(self, door: Door) -> None:
        """In the order of the question, each once, however many were asked."""
        here = [await put(door, b"%d" % number) for number in range(5)]
        absent = [Digest.of(b"absent %d" % number) for number in range(600)]
        question = [*absent[:300], *here, *absent[300:], absent[0], here[0]]

        assert await door.missing(question) == absent
        assert await door.missing(here) == []
        assert await door.missing([]) == []

    async def test_what_is_not_missing_stays_for_a_while(
        self, door: Door, clock: ManualClock
    ) -> None:
        """The answer is a lease: even if the last pin goes, collection waits for its end."""
        await put(door, OTHER)
        await put(door, CONTENT)
        assert await door.missing([DIGEST]) == []
        await door.release(DIGEST)

        clock.advance(3000)
        await collect(door)
        assert DIGEST.hex in (await look(door)).files

        clock.advance(1000)
        await collect(door)
        assert DIGEST.hex not in (await look(door)).files

    # What is refused leaves nothing.

    @pytest.mark.parametrize("content", [CONTENT, LARGE, b""], ids=["small", "large", "empty"])
    async def test_a_wrong_digest_is_answered_with_the_right_one(
        self, door: Door, content: bytes
    ) -> None:
        with pytest.raises(Mismatch) as caught:
            await door.put(body(content), expected=NEVER, size=len(content))

        assert caught.value.actual == Digest.of(content)
        await assert_nothing_is_left(door)

    @pytest.mark.parametrize("change", [1, -1, MIB, -MIB])
    async def test_a_wrong_size_stores_nothing(self, door: Door, change: int) -> None:
        """Whether the body is shorter or longer than declared. Over HTTP one that is longer is cut
        where it was said to end, which its digest then gives away."""
        with pytest.raises(Refused):
            await door.put(body(LARGE), expected=LARGE_DIGEST, size=len(LARGE) + change)

        await assert_nothing_is_left(door)

    async def test_a_body_above_the_limit_is_refused_while_it_comes(self, door: Door) -> None:
        """An endless one too, soon after the limit."""
        given = 0

        async def endless() -> AsyncIterator[bytes]:
            nonlocal given
            while True:
                given += MIB
                assert given < LIMIT + 64 * MIB
                yield bytes(MIB)

        with pytest.raises(TooLarge):
            await door.put(endless())

        await assert_nothing_is_left(door)

    @pytest.mark.parametrize("sent", [0, 1, MIB - 1, MIB, 2 * MIB + 1])
    @pytest.mark.parametrize("size", [None, len(LARGE)], ids=["undeclared", "declared"])
    async def test_a_body_that_breaks_off_stores_nothing(
        self, door: Door, sent: int, size: int | None
    ) -> None:
        with pytest.raises(Interrupted):
            await door.put(broken(*split(LARGE[:sent], 99_999)), size=size)

        await assert_nothing_is_left(door)

    @pytest.mark.parametrize("sent", [1, 2 * MIB])
    async def test_a_cancelled_upload_stores_nothing(self, door: Door, sent: int) -> None:
        held = Held(LARGE[:sent])
        async with running(door.put(held)) as task:
            await held.begun.wait()

        assert task.cancelled()
        await assert_nothing_is_left(door)

    @pytest.mark.parametrize("count", TURNS)
    async def test_an_upload_cancelled_at_any_moment_is_whole_or_absent(
        self, door: Door, count: int
    ) -> None:
        """Also between the file and its row; and it can be put again at once."""
        async with running(door.put(body(CONTENT))):
            await turns(count)

        picture = await look(door)
        assert picture.staged == {}
        assert len(picture.rows["refs"]) == len(picture.rows["blobs"])
        if picture.rows["blobs"]:
            assert await door.read(DIGEST) == CONTENT
        await put(door, CONTENT)
        assert await door.read(DIGEST) == CONTENT

    async def test_a_failed_upload_harms_no_stored_blob(self, door: Door) -> None:
        await put(door, CONTENT)

        with pytest.raises(Mismatch):
            await door.put(body(OTHER), expected=DIGEST)
        with pytest.raises(Interrupted):
            await door.put(broken(CONTENT[:7]), expected=DIGEST)

        assert await door.read(DIGEST) == CONTENT
        assert list((await look(door)).files) == [DIGEST.hex]

    # Pins.

    async def test_uploads_and_names_pin_once_each(self, door: Door) -> None:
        """A pin by name stands beside the one of the upload; repeating either adds nothing."""
        await put(door, CONTENT)
        for _ in range(2):
            await door.keep(DIGEST)
            await put(door, CONTENT)

        expected = [Pin("kept", DIGEST, len(CONTENT)), Pin("pin", DIGEST, len(CONTENT))]
        assert await pins_of(door) == expected

    async def test_a_blob_without_an_owner_is_hidden(self, door: Door, neighbour: Door) -> None:
        """From the moment of its last release it is missing to all who ask, on every worker,
        although its row and its file are there."""
        await put(door, CONTENT)
        await door.keep(DIGEST)
        assert await neighbour.read(DIGEST) == CONTENT

        await door.release(DIGEST)

        for each in (door, neighbour):
            for asking in (each.read, each.size, each.keep):
                with pytest.raises(NotFound):
                    await asking(DIGEST)
            assert await each.missing([DIGEST]) == [DIGEST]
            assert await pins_of(each) == []
        picture = await look(door)
        assert [row[2] for row in picture.rows["blobs"]] == ["present"]
        assert list(picture.files) == [DIGEST.hex]

    async def test_a_hidden_blob_must_travel_again(self, door: Door) -> None:
        """Knowing a digest opens nothing; the bytes do, and the stored file serves them again."""
        await put(door, CONTENT)
        await door.release(DIGEST)

        assert await door.offer(CONTENT)

        assert await door.read(DIGEST) == CONTENT
        assert list((await look(door)).files) == [DIGEST.hex]

    async def test_releasing_may_be_repeated(self, door: Door) -> None:
        """A retry after a lost answer gets the same answer, and takes nothing from others."""
        await put(door, CONTENT)
        await put(door, OTHER)

        for _ in range(3):
            await door.release(DIGEST)

        assert [pin.digest for pin in await pins_of(door)] == [Digest.of(OTHER)]
        assert await door.read(Digest.of(OTHER)) == OTHER

    async def test_listing_is_complete_and_paged(self, door: Door) -> None:
        """Every pin once, by kind and digest, in pages of at most the size asked for."""
        digests = [await put(door, b"%d" % number) for number in range(23)]
        for digest in digests[:7]:
            await door.keep(digest)
        expected = [("kept", digest) for digest in sorted(digests[:7])]
        expected += [("pin", digest) for digest in sorted(digests)]

        for limit in (1, 7, 10, 30, 100):
            pages = [page async for page in door.pages(limit)]
            assert max(map(len, pages)) <= limit
            assert [(pin.kind, pin.digest) for page in pages for pin in page] == expected

    async def test_listing_bears_changes_meanwhile(self, door: Door) -> None:
        """What is neither added nor released between two pages is listed exactly once."""
        digests = sorted([await put(door, b"%d" % number) for number in range(20)])
        seen: Counter[Digest] = Counter()
        gone = {digests[0], digests[19]}

        first = True
        async for page in door.pages(5):
            seen.update(pin.digest for pin in page)
            if first:
                first = False
                for digest in gone:
                    await door.release(digest)
                for number in range(20):
                    await put(door, b"later %d" % number)

        assert max(seen.values()) == 1
        assert set(digests) - gone <= set(seen)

    # Releasing, collecting.

    async def test_an_open_reader_keeps_its_bytes_after_release(
        self, door: Door, neighbour: Door
    ) -> None:
        content = secrets.token_bytes(8 * MIB)
        digest = await put(door, content)
        async with door.open(digest) as pieces:
            got = await anext(pieces)

            await neighbour.release(digest)

            got += b"".join([piece async for piece in pieces])
        assert got == content

    async def test_a_reader_overtaken_by_collection_is_whole_or_told(
        self, door: Door, clock: ManualClock
    ) -> None:
        """A store in files goes on with what it opened; another may end with an error, never with
        fewer bytes that look like all, and never with other bytes."""
        content = secrets.token_bytes(LIMIT)
        await put(door, OTHER)
        digest = await put(door, content)
        ended_well = False
        async with door.open(digest) as pieces:
            got = await anext(pieces)
            await door.release(digest)
            clock.advance(100)
            await collect(door)
            with suppress(Interrupted, NotFound, Damaged):
                async for piece in pieces:
                    got += piece
                ended_well = True

        assert content.startswith(got)
        assert ended_well == (got == content)
        assert ended_well or door.store.settings.root is None

    async def test_what_was_collected_can_be_put_again(
        self, door: Door, clock: ManualClock
    ) -> None:
        """Collection takes the released blob alone; putting it again makes it a new one."""
        await put(door, OTHER)
        await put(door, CONTENT)
        await door.release(DIGEST)
        clock.advance(100)
        await collect(door)

        with pytest.raises(NotFound):
            await door.read(DIGEST)
        assert list((await look(door)).files) == [Digest.of(OTHER).hex]
        assert await door.offer(CONTENT)
        assert await door.read(DIGEST) == CONTENT
        assert await door.read(Digest.of(OTHER)) == OTHER

    # Damage.

    @pytest.mark.parametrize("content", [CONTENT, LARGE], ids=["small", "large"])
    @pytest.mark.parametrize("harm", ["lost", "cut", "changed"])
    async def test_damage_is_refused_and_healed_by_the_next_upload(
        self, door: Door, neighbour: Door, content: bytes, harm: str
    ) -> None:
        """A reader gets a clear error and no wrong byte; the blob is then missing for uploaders,
        its bytes must travel, and with them it is whole again under all its pins."""
        digest = await put(door, content)
        await door.keep(digest)
        if harm == "lost":
            await lose(door.store, digest)
        else:
            await damage(door.store, digest, content[:-1] if harm == "cut" else content[::-1])
        if harm == "changed" and content is LARGE:
            # Its pages were verified when it was written; only a scrub looks again so soon.
            assert not await door.store.scrub.check(digest)
            await door.settle()
            door.store.reading.forget(digest)

        for each in (door, neighbour):
            with pytest.raises(Damaged):
                async with each.open(digest) as pieces:
                    await anext(pieces)
            await each.settle()
            with pytest.raises(Damaged):
                await each.read(digest)
        assert await door.missing([digest]) == [digest]
        assert await door.offer(content)

        for each in (door, neighbour):
            assert await each.read(digest) == content
        assert [pin.kind for pin in await pins_of(door)] == ["kept", "pin"]
        assert not await door.offer(content)

    @pytest.mark.parametrize("harm", ["lost", "cut"])
    async def test_a_blob_without_a_whole_file_is_never_acknowledged(
        self, door: Door, harm: str
    ) -> None:
        """Before anybody has noticed the loss, too: an answer without the body looks at the
        file."""
        await put(door, CONTENT)
        await (lose(door.store, DIGEST) if harm == "lost" else damage(door.store, DIGEST, b"?"))

        assert await door.missing([DIGEST]) == [DIGEST]
        assert await door.offer(CONTENT)
        assert await door.read(DIGEST) == CONTENT

    @pytest.mark.parametrize("harm", ["lost", "cut"])
    async def test_an_upload_puts_back_a_file_that_is_not_whole(
        self, door: Door, harm: str
    ) -> None:
        """Whether or not anybody had noticed: an acknowledged upload can be read."""
        await put(door, CONTENT)
        await (lose(door.store, DIGEST) if harm == "lost" else damage(door.store, DIGEST, b"?"))

        await put(door, CONTENT)

        assert await door.read(DIGEST) == CONTENT

    # Sessions.

    @pytest.mark.parametrize("size", [1, 333_333, MIB, MIB + 1])
    async def test_appends_add_up_to_a_blob(self, door: Door, size: int) -> None:
        """However large they are; with the last byte the blob is there, pinned for its sender."""
        content = LARGE if size > 1 else CONTENT[:40]
        session = await door.begin(len(content))

        for start in range(0, len(content), size):
            after = await door.append(session, start, body(content[start : start + size]))
            assert after.offset == min(len(content), start + size)

        assert after.digest == Digest.of(content)
        assert await door.read(after.digest) == content
        assert [pin.kind for pin in await pins_of(door)] == ["pin"]

    async def test_an_append_of_nothing_changes_nothing(self, door: Door) -> None:
        """At the start, in the middle, in many empty pieces; more may follow."""
        session = await door.begin(6)
        for offset, pieces in ((0, [b""]), (0, [b"abc"]), (3, []), (3, [b"", b"d", b"", b"ef"])):
            after = await door.append(session, offset, body(*pieces))

        assert after.digest == Digest.of(b"abcdef")

    async def test_an_empty_session_ends_with_the_empty_blob(self, door: Door) -> None:
        session = await door.begin(0)

        after = await door.append(session, 0, body())

        assert (after.offset, after.digest) == (0, EMPTY)
        assert await door.read(EMPTY) == b""

    async def test_a_session_shows_nothing_before_its_end(self, door: Door) -> None:
        """All bytes but the last, and no door knows the digest of any part of them."""
        session = await door.begin(len(CONTENT))
        await door.append(session, 0, body(CONTENT[:-1]))

        for digest in (DIGEST, Digest.of(CONTENT[:-1])):
            with pytest.raises(NotFound):
                await door.read(digest)
            assert await door.missing([digest]) == [digest]
        assert await pins_of(door) == []
        picture = await look(door)
        assert (picture.files, picture.rows["blobs"]) == ({}, [])
        assert await whole(door, session, CONTENT) == DIGEST

    async def test_a_cancelled_session_leaves_nothing(self, door: Door) -> None:
        """It is gone with its bytes, and is then what no session ever was."""
        session = await door.begin(len(CONTENT))
        await door.append(session, 0, body(CONTENT[:-1]))

        await door.cancel(session)

        await assert_nothing_is_left(door)
        for asked in (session, "upl_0123456789abcdef"):
            with pytest.raises(NotFound):
                await door.session(asked)
            with pytest.raises(NotFound):
                await door.append(asked, 0, body(CONTENT))
            with pytest.raises(NotFound):
                await door.cancel(asked)

    @pytest.mark.parametrize("wrong", [0, 999, 1001, 10**12])
    async def test_a_wrong_offset_is_answered_with_the_true_one(
        self, door: Door, wrong: int
    ) -> None:
        session = await door.begin(len(LARGE))
        await door.append(session, 0, body(LARGE[:1000]))

        with pytest.raises(OffsetConflict) as caught:
            await door.append(session, wrong, body(b"x"))

        assert caught.value.actual == (await door.session(session)).offset == 1000
        assert await whole(door, session, LARGE) == LARGE_DIGEST

    async def test_a_wrong_offset_disturbs_no_writer(self, door: Door, neighbour: Door) -> None:
        session = await door.begin(len(LARGE))
        held = Held(LARGE[:MIB], LARGE[MIB:])
        async with running(door.append(session, 0, held)) as writer:
            await held.begun.wait()

            with pytest.raises(OffsetConflict):
                await neighbour.append(session, len(LARGE) - 5, body(b"x"))
            held.go_on.set()

            assert (await writer).digest == LARGE_DIGEST

    @pytest.mark.parametrize("sent", [1, MIB + 1000])
    async def test_what_arrived_before_a_break_is_kept(self, door: Door, sent: int) -> None:
        """A client goes on from the offset it is told, and sends no byte twice."""
        session = await door.begin(len(LARGE))
        with pytest.raises(Interrupted):
            await door.append(session, 0, broken(*split(LARGE[:sent], 50_000)))
        await door.settle()

        assert (await door.session(session)).offset == sent
        assert await whole(door, session, LARGE) == LARGE_DIGEST

    @pytest.mark.parametrize("count", TURNS)
    async def test_an_append_cancelled_at_any_moment_can_be_continued(
        self, door: Door, count: int
    ) -> None:
        """The offset counts what is certain, or the session is finished."""
        content = LARGE[: MIB + 9]
        session = await door.begin(len(content))
        async with running(door.append(session, 0, body(*split(content, 300_000)))):
            await turns(count)
        await door.settle()

        found = await door.session(session)
        if found.digest is None:
            assert await whole(door, session, content) == Digest.of(content)
        assert await door.read(Digest.of(content)) == content

    async def test_any_worker_continues(self, door: Door, neighbour: Door) -> None:
        """With what the other has made durable, byte for byte."""
        session = await door.begin(len(LARGE))
        cuts = (0, 1000, MIB, MIB + 1, len(LARGE))

        for number, (start, stop) in enumerate(pairwise(cuts)):
            worker = (door, neighbour)[number % 2]
            assert (await worker.session(session)).offset == start
            after = await worker.append(session, start, body(LARGE[start:stop]))

        assert after.digest == LARGE_DIGEST
        assert await door.read(LARGE_DIGEST) == LARGE

    async def test_a_newcomer_takes_over_from_a_stalled_writer(
        self, door: Door, neighbour: Door
    ) -> None:
        """The old writer adds nothing more, is told so, and no byte of it is mixed in."""
        session = await door.begin(len(LARGE))
        held = Held(LARGE[: MIB + MIB // 2], bytes(MIB // 2))
        async with running(door.append(session, 0, held)) as old, asyncio.timeout(20):
            await held.begun.wait()
            await epoch_of(door, session, 1)  # who asks before that ends it before its first byte
            offset = 0
            while not offset:
                offset = (await neighbour.session(session)).offset
            while True:
                try:
                    await neighbour.append(session, offset, body(LARGE[offset:-1]))
                    break
                except OffsetConflict as conflict:
                    offset = conflict.actual  # a batch was being written at the first look
            held.go_on.set()

            with pytest.raises(Taken):
                await old
        assert await whole(neighbour, session, LARGE) == LARGE_DIGEST
        assert await door.read(LARGE_DIGEST) == LARGE

    async def test_an_old_writer_adds_nothing_before_its_successor_does(
        self, door: Door, neighbour: Door
    ) -> None:
        """From the moment a newcomer has the session, although the offset is still the same."""
        session = await door.begin(len(LARGE))
        await door.append(session, 0, body(LARGE[:1000]))
        first, second = Held(b"", bytes(MIB)), Held(b"", LARGE[1000:])
        async with running(door.append(session, 1000, first)) as old, asyncio.timeout(20):
            await epoch_of(door, session, 2)
            async with running(neighbour.append(session, 1000, second)) as new:
                await epoch_of(door, session, 3)
                first.go_on.set()
                with pytest.raises(Taken):
                    await old
                second.go_on.set()

                assert (await new).digest == LARGE_DIGEST

    async def test_a_session_finishes_once(self, door: Door, neighbour: Door) -> None:
        """Of many who send its end at once, every one gets the digest or is told that another was
        there; whoever asks again then finds the end. There is one blob with one pin."""
        session = await door.begin(len(CONTENT))
        await door.append(session, 0, body(CONTENT[:-3]))

        outcomes = await asyncio.gather(
            *(
                each.append(session, len(CONTENT) - 3, body(CONTENT[-3:]))
                for each in (door, neighbour) * 3
            ),
            return_exceptions=True,
        )

        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                assert isinstance(outcome, Taken | Finished | OffsetConflict | TooLarge)
            else:
                assert outcome.digest == DIGEST
        if (await door.session(session)).digest is None:
            # Each came between another's bytes and its end; the bytes are all here.
            assert await whole(door, session, CONTENT) == DIGEST
        await neighbour.settle()
        picture = await look(door)
        assert list(picture.files) == [DIGEST.hex]
        assert len(picture.rows["blobs"]) == len(picture.rows["refs"]) == 1

    async def test_a_finished_session_repeats_its_answer(self, door: Door, neighbour: Door) -> None:
        """Whoever lost the answer asks again; nothing can be added, and forgetting the session
        leaves its blob."""
        session = await door.begin(len(CONTENT))
        await door.append(session, 0, body(CONTENT))

        for each in (door, neighbour):
            found = await each.session(session)
            assert (found.offset, found.digest) == (len(CONTENT), DIGEST)
            with pytest.raises((Finished, TooLarge)):
                await each.append(session, len(CONTENT), body(b"!"))
        await door.cancel(session)
        assert await door.read(DIGEST) == CONTENT

    async def test_sessions_of_one_digest_end_in_one_file(
        self, door: Door, neighbour: Door
    ) -> None:
        """At once, on two workers, beside a plain upload of the same bytes."""

        async def upload(door: Door) -> Digest | None:
            return await whole(door, await door.begin(len(LARGE)), LARGE)

        digests = await asyncio.gather(
            *(upload(each) for each in (door, neighbour) * 2), put(door, LARGE)
        )

        assert set(digests) == {LARGE_DIGEST}
        await neighbour.settle()
        assert list((await look(door)).files) == [LARGE_DIGEST.hex]
        assert await door.read(LARGE_DIGEST) == LARGE

    async def test_more_bytes_than_declared_are_refused(self, door: Door) -> None:
        """The offset stands where it stood, and the right bytes are welcome."""
        session = await door.begin(len(CONTENT))
        await door.append(session, 0, body(CONTENT[:100]))

        with pytest.raises(TooLarge):
            await door.append(session, 100, body(CONTENT[100:], b"!"))

        assert (await door.session(session)).offset == 100
        assert await whole(door, session, CONTENT) == DIGEST

    async def test_a_length_may_come_later_and_then_holds(self, door: Door) -> None:
        session = await door.begin(None)
        await door.append(session, 0, body(CONTENT[:9]))
        assert (await door.session(session)).digest is None
        await door.append(session, 9, body(CONTENT[9:-1]), length=len(CONTENT))
        with pytest.raises(TooLarge):
            await door.append(session, len(CONTENT) - 1, body(b"12"))

        assert await whole(door, session, CONTENT) == DIGEST

    async def test_a_session_with_a_wrong_digest_ends(self, door: Door) -> None:
        """Nothing could make its bytes right; the answer names the digest they have."""
        session = await door.begin(len(CONTENT), expected=NEVER)
        await door.append(session, 0, body(CONTENT[:-1]))

        with pytest.raises(Mismatch) as caught:
            await door.append(session, len(CONTENT) - 1, body(CONTENT[-1:]))

        assert caught.value.actual == DIGEST
        with pytest.raises(NotFound):
            await door.session(session)
        await assert_nothing_is_left(door)

    @pytest.mark.parametrize("algorithm", CHECKSUMS)
    async def test_an_append_with_a_wrong_checksum_adds_nothing(
        self, door: Door, algorithm: str
    ) -> None:
        def checksum(content: bytes) -> Checksum:
            return Checksum(algorithm, hashlib.new(algorithm, content).digest())

        session = await door.begin(len(LARGE))
        await door.append(session, 0, body(LARGE[:1000]), checksum=checksum(LARGE[:1000]))
        with pytest.raises(WrongChecksum):
            await door.append(session, 1000, body(LARGE[1000:]), checksum=checksum(LARGE))

        assert (await door.session(session)).offset == 1000
        after = await door.append(
            session, 1000, body(LARGE[1000:]), checksum=checksum(LARGE[1000:])
        )
        assert after.digest == LARGE_DIGEST

    async def test_a_break_under_a_checksum_drops_the_append_whole(
        self, door: Door, neighbour: Door
    ) -> None:
        """Bytes that nobody checked count for no worker, and the next ones take their place."""
        session = await door.begin(len(LARGE))
        await door.append(session, 0, body(LARGE[:1000]))
        with pytest.raises(Interrupted):
            await door.append(
                session, 1000, broken(bytes(MIB), bytes(1000)), checksum=Checksum("sha1", bytes(20))
            )
        await door.settle()

        for each in (door, neighbour):
            assert (await each.session(session)).offset == 1000
        assert await whole(neighbour, session, LARGE) == LARGE_DIGEST

    async def test_an_idle_session_expires_with_its_bytes(
        self, door: Door, clock: ManualClock
    ) -> None:
        """Every append prolongs it; past its time it says so, and once swept it is unknown."""
        lifetime = door.store.settings.upload_seconds
        session = await door.begin(len(CONTENT))
        clock.advance(lifetime - 1)
        await door.append(session, 0, body(CONTENT[:5]))
        clock.advance(lifetime - 1)
        assert (await door.session(session)).offset == 5
        clock.advance(1)

        with pytest.raises(Expired):
            await door.session(session)
        with pytest.raises(Expired):
            await door.append(session, 5, body(CONTENT[5:]))
        assert await door.store.uploads.expire() == 1
        with pytest.raises(NotFound):
            await door.session(session)
        await assert_nothing_is_left(door)


async def epoch_of(door: Door, session: str, wanted: int) -> None:
    """Wait until as many writers have taken a session; each leaves two numbers behind."""
    while (await door.store.index.read(lambda tx: upload_epoch(tx, session)) or 0) // 2 != wanted:
        await asyncio.sleep(0)


async def collect(door: Door) -> None:
    """Take what nobody has claimed for longer than the grace age."""
    await door.store.collector.apply(await door.store.collector.plan())
