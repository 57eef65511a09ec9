"""A worker's C library uses few arenas and keeps them small, unless its operator says otherwise."""

from __future__ import annotations

import asyncio
import ctypes
import multiprocessing
import re
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from registry.cli.allocator import ARENAS, bound_arenas, give_back

MAPPED = r'type="mmap" count="(\d+)"'


class Use(msgspec.Struct):
    """What a process found of its memory."""

    arenas: int
    """After eight threads at once wanted memory."""
    mapped: int
    """When one buffer of a megabyte was let go and another one is held."""
    with_holes: int
    """MiB, with holes in the middle of what is in use."""
    without: int


@pytest.fixture(scope="module")
def use() -> Use:
    if not hasattr(ctypes.CDLL(None), "malloc_trim"):
        pytest.skip("the C library is not glibc")
    context = multiprocessing.get_context("spawn")  # one that has no arenas yet
    results: multiprocessing.SimpleQueue[Use] = context.SimpleQueue()
    process = context.Process(target=use_memory, args=[results])
    process.start()
    process.join()
    assert process.exitcode == 0
    return results.get()


def use_memory(results: multiprocessing.SimpleQueue[Use]) -> None:
    assert bound_arenas({})
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    results.put(Use(arenas_of_threads(libc), mapped_by(libc), *holes_and_without(libc)))


def arenas_of_threads(libc: ctypes.CDLL) -> int:
    together = threading.Barrier(8)

    def want() -> None:
        together.wait()
        libc.malloc(70_000)
        together.wait()

    threads = [threading.Thread(target=want) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(told(libc, "<heap nr="))


def mapped_by(libc: ctypes.CDLL) -> int:
    before = int(told(libc, MAPPED)[0])
    libc.free(ctypes.c_void_p(libc.malloc(1 << 20)))
    libc.malloc(1 << 20)
    return int(told(libc, MAPPED)[0]) - before


def holes_and_without(libc: ctypes.CDLL) -> tuple[int, int]:
    held = []
    for _ in range(400):
        held.append(libc.malloc(100_000))
        ctypes.memset(held[-1], 1, 100_000)
        libc.malloc(2000)  # keeps holes apart, and from the top
    for one in held:
        libc.free(ctypes.c_void_p(one))
    before = resident()
    asyncio.run(give_back_until(lambda: resident() < before - 30))
    return before, resident()


async def give_back_until(is_enough: Callable[[], bool]) -> None:
    """Or until it has had its chance."""
    with ThreadPoolExecutor(1) as pool:
        at_work = asyncio.create_task(give_back(pool, every_seconds=0))
        for _ in range(1000):
            await asyncio.sleep(0)
            if is_enough():
                break
        at_work.cancel()


def told(libc: ctypes.CDLL, pattern: str) -> list[str]:
    """What the C library's account of its memory has of a pattern."""
    libc.fopen.restype = ctypes.c_void_p
    with tempfile.NamedTemporaryFile("r") as account:
        stream = ctypes.c_void_p(libc.fopen(account.name.encode(), b"w"))
        libc.malloc_info(0, stream)
        libc.fclose(stream)
        return re.findall(pattern, account.read())


def resident() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:")) >> 10


def test_threads_share_few_arenas(use: Use) -> None:
    assert use.arenas <= ARENAS


def test_large_buffers_are_mapped_even_after_one_was_let_go(use: Use) -> None:
    assert use.mapped == 1


def test_what_nobody_uses_is_given_back(use: Use) -> None:
    assert use.without < use.with_holes - 30


@pytest.mark.parametrize(("took", "rest"), [(0.0003, 2.0), (0.02, 20.0)], ids=["few", "many"])
async def test_where_holes_are_many_memory_is_given_back_less_often(
    monkeypatch: pytest.MonkeyPatch, took: float, rest: float
) -> None:
    clock, rests = 0.0, list[float]()

    class Library:
        @staticmethod
        def malloc_trim(pad: int) -> None:
            nonlocal clock
            clock += took

    async def sleep(seconds: float) -> None:
        rests.append(seconds)
        if len(rests) == 3:
            raise asyncio.CancelledError

    monkeypatch.setattr("registry.cli.allocator.ctypes.CDLL", lambda name: Library)
    monkeypatch.setattr("registry.cli.allocator.time.thread_time", lambda: clock)
    monkeypatch.setattr("registry.cli.allocator.asyncio.sleep", sleep)
    with ThreadPoolExecutor(1) as pool, pytest.raises(asyncio.CancelledError):
        await give_back(pool, every_seconds=2.0)

    assert rests == [2.0, pytest.approx(rest), pytest.approx(rest)]


@pytest.mark.parametrize(
    "environment",
    [
        {"MALLOC_ARENA_MAX": "8"},
        {"MALLOC_TRIM_THRESHOLD_": "1"},
        {"GLIBC_TUNABLES": "glibc.malloc.arena_max=8"},
    ],
    ids=["arenas", "top", "tunable"],
)
def test_what_the_operator_says_counts(environment: dict[str, str]) -> None:
    assert not bound_arenas(environment)
