"""What every blob store must do; a backend's test class brings the fixtures `blobs` and `raw`.

`raw` reads and writes the backend's bytes without the backend, so that no call is its own witness.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from typing import Protocol

import pytest

from store.blobs import CHUNK_BYTES, BlobStore, ByteRange, Promotion, StagedWriter
from store.digest import EMPTY, Digest
from store.errors import (
    BlobNotFound,
    Corrupt,
    OffsetConflict,
    StoreError,
    UploadNotFound,
    UploadTaken,
)

CONTENT = b"weights " * 1000
DIGEST = Digest.of(CONTENT)


class RawAccess(Protocol):
    """The backend's bytes, by other means than the backend."""

    def read(self, digest: Digest) -> bytes | None: ...

    def damage(self, digest: Digest, content: bytes) -> None: ...

    def staged(self) -> list[str]: ...

    def aside(self) -> list[tuple[Digest, int]]: ...


def new_session() -> str:
    return f"put_{secrets.token_hex(8)}"


async def staged(blobs: BlobStore, *pieces: bytes) -> StagedWriter:
    writer = await blobs.stage(new_session())
    offset = await asyncio.to_thread(writer.append_blocking, 0, [])
    for piece in pieces:
        offset = await asyncio.to_thread(writer.append_blocking, offset, [piece])
    await writer.sync()
    return writer


async def store(blobs: BlobStore, content: bytes) -> Digest:
    writer = await staged(blobs, content)
    digest = Digest.of(content)
    await writer.promote(digest)
    await writer.discard()
    return digest


async def read(blobs: BlobStore, digest: Digest, within: ByteRange | None = None) -> bytes:
    return b"".join([piece async for piece in blobs.open(digest, within)])


class BlobStoreContract:
    """Collected by pytest only in subclasses."""

    async def test_promoted_bytes_read_back(self, blobs: BlobStore, raw: RawAccess) -> None:
        """What was promoted is there under its digest, whole."""
        await store(blobs, CONTENT)

        assert await read(blobs, DIGEST) == CONTENT
        assert raw.read(DIGEST) == CONTENT
        assert len(CONTENT) == (await blobs.stat(DIGEST)).size_bytes

    async def test_an_empty_blob_is_a_blob(self, blobs: BlobStore, raw: RawAccess) -> None:
        await store(blobs, b"")

        assert await read(blobs, EMPTY) == b""
        assert raw.read(EMPTY) == b""

    async def test_missing_blobs_are_not_found(self, blobs: BlobStore) -> None:
        """Every reading call says so, and streams say so before their first piece."""
        with pytest.raises(BlobNotFound):
            await blobs.stat(DIGEST)
        with pytest.raises(BlobNotFound):
            await anext(blobs.open(DIGEST))
        with pytest.raises(BlobNotFound):
            await asyncio.to_thread(blobs.read_blocking, DIGEST, 0, 1)
        with pytest.raises(BlobNotFound):
            await asyncio.to_thread(blobs.read_into_blocking, DIGEST, memoryview(bytearray(1)), 0)

    @pytest.mark.parametrize(
        "within",
        [
            ByteRange(0, 0),
            ByteRange(0, 1),
            ByteRange(5, 6),
            ByteRange(17, len(CONTENT)),
            ByteRange(len(CONTENT), len(CONTENT)),
        ],
    )
    async def test_ranges_give_their_bytes(self, blobs: BlobStore, within: ByteRange) -> None:
        await store(blobs, CONTENT)

        assert CONTENT[within.start : within.stop] == await read(blobs, DIGEST, within)

    async def test_streams_come_in_chunks(self, blobs: BlobStore) -> None:
        """No piece is larger than `CHUNK_BYTES`, so memory does not grow with the blob."""
        content = secrets.token_bytes(CHUNK_BYTES + 3)
        digest = await store(blobs, content)

        sizes = [len(piece) async for piece in blobs.open(digest)]

        assert len(content) == sum(sizes)
        assert max(sizes) <= CHUNK_BYTES

    async def test_range_past_the_end_is_damage(self, blobs: BlobStore) -> None:
        """A file shorter than its row promises is never ended cleanly."""
        await store(blobs, CONTENT)

        with pytest.raises(Corrupt):
            await read(blobs, DIGEST, ByteRange(0, len(CONTENT) + 1))

    async def test_blocking_reads_stop_at_the_end(self, blobs: BlobStore) -> None:
        await store(blobs, CONTENT)

        tail = await asyncio.to_thread(blobs.read_blocking, DIGEST, len(CONTENT) - 3, 100)
        into = bytearray(b"." * 5)
        got = await asyncio.to_thread(
            blobs.read_into_blocking, DIGEST, memoryview(into), len(CONTENT) - 3
        )

        assert CONTENT[-3:] == tail
        assert (3, CONTENT[-3:] + b"..") == (got, bytes(into))

    async def test_staged_bytes_are_invisible(self, blobs: BlobStore, raw: RawAccess) -> None:
        writer = await staged(blobs, CONTENT)

        assert [info async for page in blobs.list() for info in page] == []
        assert raw.read(DIGEST) is None

        await writer.discard()

    async def test_discard_leaves_nothing(self, blobs: BlobStore, raw: RawAccess) -> None:
        """And may be repeated."""
        writer = await staged(blobs, CONTENT)
        await writer.discard()
        await writer.discard()

        assert raw.staged() == []

    async def test_staged_bytes_outlive_promotion_until_discarded(
        self, blobs: BlobStore, raw: RawAccess
    ) -> None:
        """So that a promotion can be repeated when the index has changed meanwhile."""
        writer = await staged(blobs, CONTENT)
        await writer.promote(DIGEST)
        await blobs.set_aside(DIGEST, 1)

        await writer.promote(DIGEST)

        assert raw.read(DIGEST) == CONTENT
        await writer.discard()
        assert raw.read(DIGEST) == CONTENT

    async def test_promotion_replaces_what_is_there(self, blobs: BlobStore, raw: RawAccess) -> None:
        """An existing file is never trusted: it may be an orphan of a crash, or damaged."""
        await store(blobs, CONTENT)
        raw.damage(DIGEST, b"rotten")
        writer = await staged(blobs, CONTENT)

        replaced = await writer.promote(DIGEST)

        assert replaced
        assert raw.read(DIGEST) == CONTENT
        await writer.discard()
        assert [info.digest async for page in blobs.list() for info in page] == [DIGEST]

    async def test_many_are_promoted_together(self, blobs: BlobStore, raw: RawAccess) -> None:
        """Those that are expected to be there only if they are, and whole."""
        contents = [b"new", b"there", b"missing", b"there for others"]
        digests = [Digest.of(content) for content in contents]
        for content in (b"there", b"there for others"):
            other = await blobs.stage(f"put_{len(content):032x}")
            other.append_blocking(0, [content])
            await other.sync()
            await other.promote(Digest.of(content))
            await other.discard()
        writers = [await blobs.stage(f"put_{number:032x}") for number in range(4)]
        for writer, content in zip(writers, contents, strict=True):
            writer.hold([content])
        known = [None, 5, 7, None]
        wanted = [Promotion(*each) for each in zip(writers, digests, known, strict=True)]

        assert list(await blobs.promote_all(wanted)) == [True, True, False, True]
        assert list(await blobs.promote_all(wanted[:2], "usr_stranger")) == [True, True]

        for writer in writers:
            await writer.discard()
        stored = [info.digest async for found in blobs.list() for info in found]
        assert sorted(stored) == sorted([digests[0], digests[1], digests[3]])
        assert [info.session async for info in blobs.list_staged()] == []

    async def test_two_promoters_of_one_digest(self, blobs: BlobStore, raw: RawAccess) -> None:
        first, second = await staged(blobs, CONTENT), await staged(blobs, CONTENT)

        await asyncio.gather(first.promote(DIGEST), second.promote(DIGEST))

        assert raw.read(DIGEST) == CONTENT
        await first.discard()
        await second.discard()
        assert raw.staged() == []

    async def test_readers_keep_what_they_opened(self, blobs: BlobStore) -> None:
        """A file that is set aside is read to its end by those who opened it."""
        content = secrets.token_bytes(3 * CHUNK_BYTES)
        digest = await store(blobs, content)
        stream = blobs.open(digest)
        got = await anext(stream)

        await blobs.set_aside(digest, 1)
        await blobs.discard_aside(digest, 1)

        assert content == got + b"".join([piece async for piece in stream])

    async def test_appends_must_follow_the_end(self, blobs: BlobStore) -> None:
        writer = await staged(blobs, b"abc")
        for wrong in (0, 2, 4):
            with pytest.raises(OffsetConflict) as caught:
                await asyncio.to_thread(writer.append_blocking, wrong, [b"x"])
            assert caught.value.actual == 3
        await writer.discard()

    async def test_single_bytes_and_empty_pieces_add_up(self, blobs: BlobStore) -> None:
        writer = await staged(blobs, b"", *(bytes([byte]) for byte in b"abc"), b"")
        await writer.promote(Digest.of(b"abc"))
        await writer.discard()

        assert await read(blobs, Digest.of(b"abc")) == b"abc"

    async def test_thousands_of_pieces_in_one_append(self, blobs: BlobStore) -> None:
        """More pieces than one system call takes."""
        pieces: Sequence[bytes] = [bytes([n % 251]) for n in range(5000)]
        writer = await blobs.stage(new_session())
        await asyncio.to_thread(writer.append_blocking, 0, pieces)
        await writer.sync()
        content = b"".join(pieces)
        await writer.promote(Digest.of(content))
        await writer.discard()

        assert content == await read(blobs, Digest.of(content))

    async def test_reopened_sessions_go_on(self, blobs: BlobStore, raw: RawAccess) -> None:
        writer = await staged(blobs, CONTENT[:100])
        await writer.close()

        again = await blobs.reopen(writer.session)

        assert again.size_bytes == 100
        assert CONTENT[:100] == await asyncio.to_thread(again.read_blocking, 0, 100)
        await asyncio.to_thread(again.append_blocking, 100, [CONTENT[100:]])
        await again.sync()
        await again.promote(DIGEST)
        await again.discard()
        assert raw.read(DIGEST) == CONTENT

    async def test_unknown_sessions_are_not_found(self, blobs: BlobStore) -> None:
        with pytest.raises(UploadNotFound):
            await blobs.reopen(new_session())

    @pytest.mark.parametrize("name", ["../escape", "a/b", "", ".", "short", "x" * 65, "UPPERCASE"])
    async def test_session_names_cannot_be_paths(self, blobs: BlobStore, name: str) -> None:
        with pytest.raises((ValueError, UploadNotFound)):
            await blobs.stage(name)

    async def test_a_session_is_staged_once(self, blobs: BlobStore) -> None:
        writer = await staged(blobs, b"mine")

        async def stage_again() -> None:
            other = await blobs.stage(writer.session)
            await asyncio.to_thread(other.append_blocking, 0, [b"theirs"])

        with pytest.raises(StoreError):
            await stage_again()
        assert await asyncio.to_thread(writer.read_blocking, 0, 10) == b"mine"
        await writer.discard()

    async def test_truncation_cuts_and_appending_goes_on(self, blobs: BlobStore) -> None:
        writer = await staged(blobs, b"abcdef")
        await writer.truncate(2)
        await writer.truncate(4)

        assert writer.size_bytes == 2
        await asyncio.to_thread(writer.append_blocking, 2, [b"X"])
        assert await asyncio.to_thread(writer.read_blocking, 0, 10) == b"abX"
        await writer.discard()

    async def test_a_fence_refuses_before_anything_is_written(self, blobs: BlobStore) -> None:
        writer = await staged(blobs, b"abc")
        session = writer.session
        await writer.close()
        again = await blobs.reopen(session)

        def fence() -> None:
            raise UploadTaken(session)

        with pytest.raises(UploadTaken):
            await asyncio.to_thread(again.append_blocking, 3, [b"d"], fence)
        with pytest.raises(UploadTaken):
            await again.truncate(0, fence)
        assert await asyncio.to_thread(again.read_blocking, 0, 10) == b"abc"
        await again.discard()

    async def test_writers_of_one_session_never_interleave(self, blobs: BlobStore) -> None:
        """Of two appends at one offset, one is refused with the true end."""
        writer = await staged(blobs, b"")
        await writer.close()
        writers = [await blobs.reopen(writer.session) for _ in range(4)]

        def append(each: StagedWriter, letter: bytes) -> bool:
            try:
                each.append_blocking(0, [letter * 1000])
            except OffsetConflict:
                return False
            return True

        won = await asyncio.gather(
            *(asyncio.to_thread(append, each, b"%d" % n) for n, each in enumerate(writers))
        )

        assert sum(won) == 1
        content = await asyncio.to_thread(writers[0].read_blocking, 0, 5000)
        assert b"%d" % won.index(True) * 1000 == content
        for each in writers[1:]:
            await each.close()
        await writers[0].discard()

    async def test_listing_names_every_blob_once_and_nothing_else(self, blobs: BlobStore) -> None:
        contents = [b"%d" % n for n in range(40)]
        digests = {await store(blobs, content) for content in contents}
        moved = digests.pop()
        await blobs.set_aside(moved, 7)
        writer = await staged(blobs, b"not yet")

        listed = [info async for page in blobs.list() for info in page]

        assert sorted(digests) == [info.digest for info in listed]
        assert {info.session async for info in blobs.list_staged()} == {writer.session}
        await writer.discard()

    async def test_listing_bears_writes_meanwhile(self, blobs: BlobStore) -> None:
        for n in range(10):
            await store(blobs, b"%d" % n)
        seen = []
        async for page in blobs.list():
            seen += [info.digest for info in page]
            await store(blobs, b"later %d" % len(seen))
            if len(seen) > 100:
                break

        assert len(seen) == len(set(seen))
        assert {Digest.of(b"%d" % n) for n in range(10)} <= set(seen)

    async def test_set_aside_hides_and_put_back_returns(
        self, blobs: BlobStore, raw: RawAccess
    ) -> None:
        await store(blobs, CONTENT)

        assert await blobs.set_aside(DIGEST, 3)

        assert raw.read(DIGEST) is None
        assert raw.aside() == [(DIGEST, 3)]
        assert [(i.digest, i.generation) async for i in blobs.list_aside()] == [(DIGEST, 3)]
        await blobs.put_back(DIGEST, 3)
        assert raw.read(DIGEST) == CONTENT
        assert raw.aside() == []

    async def test_moves_may_be_repeated(self, blobs: BlobStore, raw: RawAccess) -> None:
        """After a crash nobody knows whether the move was made; asking again settles it."""
        await store(blobs, CONTENT)
        assert await blobs.set_aside(DIGEST, 3)
        assert not await blobs.set_aside(DIGEST, 3)
        await blobs.put_back(DIGEST, 3)
        await blobs.put_back(DIGEST, 3)
        assert raw.read(DIGEST) == CONTENT
        await blobs.set_aside(DIGEST, 4)
        await blobs.discard_aside(DIGEST, 4)
        await blobs.discard_aside(DIGEST, 4)

        assert raw.aside() == []
        with pytest.raises(BlobNotFound):
            await blobs.put_back(DIGEST, 4)

    async def test_generations_lie_beside_each_other(
        self, blobs: BlobStore, raw: RawAccess
    ) -> None:
        for generation in (1, 2):
            await store(blobs, CONTENT)
            await blobs.set_aside(DIGEST, generation)

        assert sorted(raw.aside()) == [(DIGEST, 1), (DIGEST, 2)]

    async def test_deleting_one_leaves_its_neighbours(self, blobs: BlobStore) -> None:
        """Blobs of one shard do not share a fate."""
        digests = [await store(blobs, b"n%d" % n) for n in range(300)]

        await blobs.set_aside(digests[0], 1)
        await blobs.discard_aside(digests[0], 1)

        assert set(digests[1:]) == {info.digest async for page in blobs.list() for info in page}

    async def test_segments_are_kept_beside_blobs(self, blobs: BlobStore) -> None:
        assert await blobs.read_segments(DIGEST) is None

        await blobs.write_segments(DIGEST, b"one")
        await blobs.write_segments(DIGEST, b"two")

        assert await blobs.read_segments(DIGEST) == b"two"
        assert [info async for page in blobs.list() for info in page] == []
        await blobs.discard_segments(DIGEST)
        await blobs.discard_segments(DIGEST)
        assert await blobs.read_segments(DIGEST) is None

    async def test_cancelled_promotions_leave_a_whole_blob_or_none(
        self, blobs: BlobStore, raw: RawAccess
    ) -> None:
        writer = await staged(blobs, CONTENT)
        task = asyncio.ensure_future(writer.promote(DIGEST))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

        assert raw.read(DIGEST) in (None, CONTENT)
        await writer.discard()

    async def test_securing_takes_what_is_stored_and_nothing_else(self, blobs: BlobStore) -> None:
        """Whoever adopts a file makes it durable: its maker may have died before the syncs."""
        await store(blobs, CONTENT)

        await blobs.secure(DIGEST)

        assert await read(blobs, DIGEST) == CONTENT
        with pytest.raises(BlobNotFound):
            await blobs.secure(EMPTY)

    async def test_free_space_is_told(self, blobs: BlobStore) -> None:
        free, total = await blobs.free_bytes()

        assert 0 < free <= total
