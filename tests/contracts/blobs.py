"""What whoever stores and reads blobs may rely on, through every door and on every backend.

The docstrings of the tests are the specification; `tests.contracts.doors` says how they are run.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from store.digest import Digest
from tests.contracts.doors import (
    CONTENT,
    DIGEST,
    LARGE,
    LARGE_DIGEST,
    LIMIT,
    MIB,
    NEVER,
    OTHER,
    TURNS,
    DoorContract,
    Held,
    assert_nothing_is_left,
    look,
    pins_of,
    put,
    running,
    split,
    turns,
)
from tests.support.clock import ManualClock
from tests.support.doors import (
    Damaged,
    Door,
    Interrupted,
    Mismatch,
    NotFound,
    OutsideRange,
    Part,
    Pin,
    Refused,
    TooLarge,
)
from tests.support.storing import body, broken, damage, lose


class BlobsContract(DoorContract):
    """Collected by pytest only in subclasses."""

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


async def collect(door: Door) -> None:
    """Take what nobody has claimed for longer than the grace age."""
    await door.store.collector.apply(await door.store.collector.plan())
