"""What is remembered of blobs is bounded in memory, however small they are."""

from __future__ import annotations

import tracemalloc

import pytest

from store import remembered
from store.descriptors import Key
from store.digest import Digest
from store.remembered import Known, KnownBlobs, Rounds, SmallBlobs
from store.segments import SEGMENT_BYTES, Segments

BOUND = 16 << 20


def test_tiny_blobs_take_no_more_memory_than_their_bound() -> None:
    tracemalloc.start()
    try:
        small = SmallBlobs()
        for number in range(60_000):
            small.keep((Digest(f"{number:064x}"), number + 1000), b"%040d" % number)
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()

    assert small.get((Digest(f"{59_999:064x}"), 60_999)) is not None
    assert small.get((Digest(f"{0:064x}"), 1000)) is None
    assert taken < BOUND


def test_what_is_forgotten_makes_room() -> None:
    small = SmallBlobs()
    digests = [Digest(f"{number:064x}") for number in range(40)]
    for digest in digests:
        small.keep((digest, 1), bytes(1 << 19))
        small.forget(digest)
    for digest in digests[:20]:
        small.keep((digest, 2), bytes(1 << 19))

    assert small.get((digests[0], 2)) is not None


@pytest.mark.parametrize("is_whole", [False, True], ids=["by segment", "whole"])
def test_what_is_known_takes_no_more_memory_than_its_bound(
    is_whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remembered, "_KNOWN_TOTAL_BYTES", 1 << 20)
    tracemalloc.start()
    try:
        blobs = KnownBlobs()
        for number in range(3000):
            known = Known(40 * SEGMENT_BYTES, is_whole=is_whole, since=10**15 + number)
            blobs.keep(key(number), known)
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()

    assert blobs.get(key(2999), after=0) is known
    assert blobs.get(key(0), after=0) is None
    assert (1 << 19) < taken < (1 << 20)


def test_digests_count_from_when_they_are_loaded_until_they_are_needed_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    blobs = KnownBlobs()
    known = [Known(SEGMENT_BYTES, is_whole=False, since=1) for _ in range(3)]
    bound = 3 * known[0].cost_bytes + 32
    monkeypatch.setattr(remembered, "_KNOWN_TOTAL_BYTES", bound)
    for number, one in enumerate(known):
        blobs.keep(key(number), one)
    load(blobs, known[1])
    known[1].mark(0)
    blobs.resized(known[1])
    load(blobs, known[2])
    had_room = blobs.get(key(0), after=0)
    blobs.get(key(1), after=0)
    load(blobs, known[0])

    assert had_room is known[0]
    assert [blobs.get(key(number), after=0) for number in range(3)] == [known[0], known[1], None]


def load(blobs: KnownBlobs, known: Known) -> None:
    known.segments = Segments(SEGMENT_BYTES, bytes(32))
    blobs.resized(known)


def test_what_is_forgotten_while_it_is_used_is_not_counted_again() -> None:
    blobs = KnownBlobs()
    known = Known(SEGMENT_BYTES, is_whole=False, since=1)
    blobs.keep(key(1), known)
    blobs.forget(key(1)[0])
    load(blobs, known)

    assert blobs._bytes == 0


def test_what_is_gone_stays_within_a_third_of_all() -> None:
    """Blobs come and go as under a load: of ten that come one stays."""
    small, known = SmallBlobs(), KnownBlobs()
    rounds = Rounds(small, known)
    stays = set[Key]()
    for number in range(20_000):
        if number % 2:
            small.keep(key(number), b"")
        else:
            known.keep(key(number), Known(0, is_whole=True, since=1))
        if number % 10 == 0 or number < 300:
            stays.add(key(number))
        rounds.drop([one for one in rounds.came() if one not in stays])
    left = {*small.keys(), *known.keys()}

    assert left > stays
    assert len(left - stays) < len(left) / 3


def key(number: int) -> Key:
    return Digest(f"{number:064x}"), number + 1000
