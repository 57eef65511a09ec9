"""A worker's C library uses few arenas, unless its operator has said otherwise."""

from __future__ import annotations

import ctypes
import multiprocessing
import re
import tempfile
import threading

import pytest

from registry.cli.allocator import ARENAS, bound_arenas


def arenas_of_threads(results: multiprocessing.SimpleQueue[int]) -> None:
    """How many arenas there are after eight threads at once wanted memory."""
    assert bound_arenas({})
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
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
    libc.fopen.restype = ctypes.c_void_p
    with tempfile.NamedTemporaryFile("r") as told:
        stream = ctypes.c_void_p(libc.fopen(told.name.encode(), b"w"))
        libc.malloc_info(0, stream)
        libc.fclose(stream)
        results.put(len(re.findall("<heap nr=", told.read())))


def test_threads_share_few_arenas() -> None:
    if not hasattr(ctypes.CDLL(None), "malloc_info"):
        pytest.skip("the C library is not glibc")
    context = multiprocessing.get_context("spawn")  # one that has no arenas yet
    results: multiprocessing.SimpleQueue[int] = context.SimpleQueue()
    process = context.Process(target=arenas_of_threads, args=[results])
    process.start()
    process.join()

    assert (process.exitcode, results.get() <= ARENAS) == (0, True)


@pytest.mark.parametrize(
    "environment",
    [{"MALLOC_ARENA_MAX": "8"}, {"GLIBC_TUNABLES": "glibc.malloc.arena_max=8"}],
    ids=["variable", "tunable"],
)
def test_what_the_operator_says_counts(environment: dict[str, str]) -> None:
    assert not bound_arenas(environment)
