"""What whoever uploads in sessions may rely on, through every door and on every backend.

The docstrings of the tests are the specification; `tests.contracts.doors` says how they are run.
"""

from __future__ import annotations

import asyncio
import hashlib
from itertools import pairwise

import pytest

from store.digest import EMPTY, Digest
from store.index.uploads import upload_epoch
from store.uploads import CHECKSUMS, Checksum
from tests.contracts.doors import (
    CONTENT,
    DIGEST,
    LARGE,
    LARGE_DIGEST,
    MIB,
    NEVER,
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
    whole,
)
from tests.support.clock import ManualClock
from tests.support.doors import (
    Door,
    Expired,
    Finished,
    Interrupted,
    Mismatch,
    NotFound,
    OffsetConflict,
    Taken,
    TooLarge,
    WrongChecksum,
)
from tests.support.storing import body, broken


class SessionsContract(DoorContract):
    """Collected by pytest only in subclasses."""

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
        async with running(door.append(session, 0, held)) as old:
            await held.begun.wait()
            # Who asks a door ends the writer, so nobody does before the first bytes are there.
            while not (await door.store.uploads.get(session)).offset:
                await asyncio.sleep(0)
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
        async with running(door.append(session, 1000, first)) as old:
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
