"""What is remembered of blobs is bounded in memory, however small they are."""

from __future__ import annotations

import tracemalloc

from store.digest import Digest
from store.remembered import SmallBlobs

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
