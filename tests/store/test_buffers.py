"""What is put is hashed once and in order, whoever does it; nobody waits for ever."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from store.buffers import BUFFERS, Buffers
from store.hashing import RunningHash

PATIENCE_SECONDS = 60


class Hash(RunningHash):
    """Tells which thread did which half, and lets a test hold either up or have it fail."""

    def __init__(self) -> None:
        super().__init__()
        self.named_by: list[str] = []
        self.segmented_by: list[str] = []
        self.before_naming: Callable[[int], None] = lambda number: None
        self.before_segmenting: Callable[[int], None] = lambda number: None

    def update_sha256(self, pieces: Sequence[bytes | memoryview]) -> None:
        self.before_naming(len(self.named_by))
        self.named_by.append(threading.current_thread().name)
        super().update_sha256(pieces)

    def update_segments(self, pieces: Sequence[bytes | memoryview]) -> None:
        self.before_segmenting(len(self.segmented_by))
        self.segmented_by.append(threading.current_thread().name)
        super().update_segments(pieces)


def content(number: int) -> bytes:
    return bytes([number]) * (70_000 + number)


def fill(buffers: Buffers, numbers: Sequence[int]) -> None:
    for number in numbers:
        buffer = buffers.take_blocking()
        piece = content(number)
        buffer[: len(piece)] = piece
        buffers.put(buffer, [buffer[:5], buffer[5 : len(piece)]])


@pytest.fixture
def hashing() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, "hashing")


def expected(count: int) -> RunningHash:
    whole = RunningHash()
    whole.update([content(number) for number in range(count)])
    return whole


def assert_same(found: RunningHash, count: int) -> None:
    whole = expected(count)
    assert found.digest() == whole.digest()
    assert found.segments() == whole.segments()
    assert found.is_at(whole.size_bytes)


def ended(future: Future[None]) -> None:
    future.result(PATIENCE_SECONDS)


def test_whoever_fills_hashes_segments_where_naming_takes_long(hashing: ThreadPoolExecutor) -> None:
    """All buffers are full and the first is still being named: what is there to do is done."""
    running, gate = Hash(), threading.Event()
    running.before_naming = lambda number: ended_wait(gate)
    buffers = Buffers(running)
    at_work = hashing.submit(buffers.hash_blocking)
    fill(buffers, range(BUFFERS))

    def open_when_segmented(number: int) -> None:
        if number == BUFFERS - 1:
            gate.set()

    running.before_segmenting = open_when_segmented
    fill(buffers, [BUFFERS])
    buffers.end()
    ended(at_work)

    assert running.segmented_by[:BUFFERS] == [threading.current_thread().name] * BUFFERS
    assert_same(running, BUFFERS + 1)


def test_whoever_names_hashes_segments_where_filling_takes_long(
    hashing: ThreadPoolExecutor,
) -> None:
    running = Hash()
    buffers = Buffers(running)
    at_work = hashing.submit(buffers.hash_blocking)
    for number in range(4):
        done = threading.Event()
        running.before_naming = lambda _, done=done: done.set()
        fill(buffers, [number])
        ended_wait(done)
    buffers.end()
    ended(at_work)

    assert {name.partition("_")[0] for name in running.segmented_by[:3]} == {"hashing"}
    assert_same(running, 4)


@pytest.mark.parametrize("count", [0, 1, BUFFERS, 40])
def test_all_that_was_put_is_hashed_at_the_end(hashing: ThreadPoolExecutor, count: int) -> None:
    running = Hash()
    buffers = Buffers(running)
    at_work = hashing.submit(buffers.hash_blocking)
    fill(buffers, range(count))
    buffers.end()
    ended(at_work)

    assert len(running.named_by) == len(running.segmented_by) == count
    assert_same(running, count)


def test_a_buffer_without_bytes_can_be_had_again(hashing: ThreadPoolExecutor) -> None:
    running = Hash()
    buffers = Buffers(running)
    at_work = hashing.submit(buffers.hash_blocking)
    for _ in range(3 * BUFFERS):
        buffers.put(buffers.take_blocking(), [])
    buffers.end()
    ended(at_work)

    assert running.size_bytes == 0


@pytest.mark.parametrize("half", ["naming", "segmenting"])
def test_where_hashing_fails_nobody_waits_for_a_buffer(
    hashing: ThreadPoolExecutor, half: str
) -> None:
    running = Hash()

    def fail(number: int) -> None:
        if threading.current_thread().name.startswith("hashing"):
            raise MemoryError

    setattr(running, f"before_{half}", fail)
    buffers = Buffers(running)
    at_work = hashing.submit(buffers.hash_blocking)
    fill(buffers, [0])
    with pytest.raises(MemoryError):
        ended(at_work)
    fill(buffers, range(BUFFERS))

    assert not running.is_at(sum(len(content(number)) for number in (0, *range(BUFFERS))))


def ended_wait(event: threading.Event) -> None:
    assert event.wait(PATIENCE_SECONDS)
