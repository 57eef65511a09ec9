"""Segment digests are those of the bytes, however these arrived, and no torn file passes."""

from __future__ import annotations

import random
import secrets

import pytest
from blake3 import blake3

from store.digest import Digest
from store.hashing import RunningHash
from store.segments import SEGMENT_BYTES, SegmentHasher, decode, from_row, segment_count

SIZES = [0, 1, SEGMENT_BYTES - 1, SEGMENT_BYTES, SEGMENT_BYTES + 1, 3 * SEGMENT_BYTES + 17]


def expected(content: bytes) -> bytes:
    """By the definition, with nothing of ours."""
    pieces = [content[i : i + SEGMENT_BYTES] for i in range(0, len(content), SEGMENT_BYTES)]
    return b"".join(blake3(piece).digest() for piece in pieces or [b""])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("piece", [1 << 16, SEGMENT_BYTES, SEGMENT_BYTES - 7, 5 * SEGMENT_BYTES])
def test_pieces_of_any_size_give_the_same_digests(size: int, piece: int) -> None:
    content = secrets.token_bytes(size)
    hasher = SegmentHasher()
    for start in range(0, size, piece):
        hasher.update(content[start : start + piece])

    segments = hasher.finish()

    assert expected(content) == segments.digests
    assert segments.count == segment_count(size)
    assert size == segments.size_bytes


def test_finishing_does_not_end_the_hash() -> None:
    """A session asks for digests and goes on."""
    content = secrets.token_bytes(2 * SEGMENT_BYTES + 5)
    hasher = SegmentHasher()
    for byte in (content[: SEGMENT_BYTES + 9], content[SEGMENT_BYTES + 9 :]):
        hasher.update(byte)
        hasher.finish()

    assert expected(content) == hasher.finish().digests


def test_files_read_back_and_small_blobs_need_none() -> None:
    for size in SIZES:
        hasher = SegmentHasher()
        hasher.update(bytes(size))
        segments = hasher.finish()
        if segments.needs_file:
            assert segments == decode(segments.encode(), segments.own, size)
            assert from_row(segments.own, size) is None
        else:
            assert segments == from_row(segments.own, size)


def test_torn_and_foreign_files_are_not_believed() -> None:
    hasher = SegmentHasher()
    hasher.update(bytes(SIZES[-1]))
    segments = hasher.finish()
    content = segments.encode()

    assert decode(content[:-1], segments.own, SIZES[-1]) is None
    assert decode(content[:-32], blake3(content[:-32]).digest(), SIZES[-1]) is None
    assert decode(content, segments.own, SIZES[-1] + 1) is None
    assert decode(content, bytes(32), SIZES[-1]) is None
    assert decode(b"", blake3(b"").digest(), 0) is None


def test_a_changed_byte_is_seen_in_its_segment_alone() -> None:
    content = bytearray(secrets.token_bytes(3 * SEGMENT_BYTES))
    hasher = SegmentHasher()
    hasher.update(content)
    segments = hasher.finish()
    content[SEGMENT_BYTES + 5] ^= 1

    found = [
        segments.matches(i, content[i * SEGMENT_BYTES : (i + 1) * SEGMENT_BYTES]) for i in range(3)
    ]

    assert found == [True, False, True]


def test_a_hash_catches_up_on_a_prefix() -> None:
    content = random.Random(1).randbytes(9 << 20)
    running = RunningHash()
    running.catch_up(lambda offset, size: content[offset : offset + size], 5 << 20)
    running.update([content[5 << 20 :]])

    assert Digest.of(content) == running.digest()
    assert expected(content) == running.segments().digests


def test_a_prefix_that_ends_early_is_an_error() -> None:
    with pytest.raises(EOFError):
        RunningHash().catch_up(lambda offset, size: b"abc"[offset : offset + size], 4)
