"""How the C library hands out memory in a worker, set before the worker starts its threads.

glibc gives each of some twenty threads an arena of its own and every arena keeps what was let go
at its top, so that buffers of a megabyte leave holes in sixteen places: of 175 MiB that two workers
held under a mixed load 30 were such holes, and they grew. Two arenas hold 16 MiB less.
Threads rarely want memory at the same time, since most who do hold the interpreter's lock.

Left alone, glibc learns from the first large buffer that is let go to keep buffers of that size in
the arenas, and twice as much at their top. Small things then come to lie where large ones were, the
next large one needs a new place, and the arenas grow for as long as there is load. So buffers of
half a megabyte and more are mapped on their own and given back at once. The transport's, which each
request takes and shrinks, are smaller: mapping those would cost a fault for each page of them.

What is let go below the top of an arena stays with the process, however little of it is ever used
again: pages that SQLite kept for a moment, a body that was long. Nor are the holes that a moment
needs those of the moment before: in half a minute a worker under load touched nearly all of them,
and they grew by 2 MiB in 100,000 requests although what was in use did not grow at all.
`give_back` returns such pages to the kernel once a second, in half a millisecond, so that a process
is as large as what it does and not as the most that it ever did.
"""

from __future__ import annotations

import asyncio
import ctypes
import time
from collections.abc import Mapping
from concurrent.futures import Executor
from typing import Final

ARENAS: Final = 2

MAPPED_BYTES: Final = 512 << 10
"""Of this size and more, memory is mapped on its own."""

KEPT_BYTES: Final = 2 << 20
"""So much an arena keeps at its top; with less, each body of a megabyte moves its end."""

GIVE_BACK_SECONDS: Final = 1.0

REST: Final = 1000
"""So many times as long as giving back took, none is given back: with very many holes it would
take milliseconds, for which whoever wants memory of that arena waits."""

_PARAMETERS: Final = {
    "MALLOC_ARENA_MAX": (-8, ARENAS),
    "MALLOC_MMAP_THRESHOLD_": (-3, MAPPED_BYTES),
    "MALLOC_TRIM_THRESHOLD_": (-1, KEPT_BYTES),
}
"""By the variable that has precedence: the C library's number of it, and our value."""


def bound_arenas(environment: Mapping[str, str]) -> bool:
    """Let the C library use few arenas and keep them small; say whether it does.

    It does not where the environment says something else, or where it is not glibc.
    """
    if not _PARAMETERS.keys().isdisjoint(environment):
        return False
    if "glibc.malloc" in environment.get("GLIBC_TUNABLES", ""):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return all(mallopt(number, value) == 1 for number, value in _PARAMETERS.values())


async def give_back(pool: Executor, every_seconds: float = GIVE_BACK_SECONDS) -> None:
    """Return memory that nobody uses to the kernel, again and again, where the C library can.

    In a thread: the interpreter's lock is free meanwhile, and who wants memory waits for one arena.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is None:
        return

    def trim_blocking() -> float:
        begun = time.thread_time()
        trim(0)
        return time.thread_time() - begun

    rest = every_seconds
    while True:
        await asyncio.sleep(rest)
        took = await asyncio.get_running_loop().run_in_executor(pool, trim_blocking)
        rest = max(every_seconds, REST * took)
