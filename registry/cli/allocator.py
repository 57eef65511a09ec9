"""How the C library hands out memory in a worker, set before the worker starts its threads.

glibc gives each of some twenty threads an arena of its own and every arena keeps what was let go
at its top, so that buffers of a megabyte leave holes in sixteen places: of 175 MiB that two workers
held under a mixed load 30 were such holes, and they grew. Two arenas hold 16 MiB less.
Threads rarely want memory at the same time, since most who do hold the interpreter's lock.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Final

ARENAS: Final = 2

_M_ARENA_MAX: Final = -8


def bound_arenas(environment: Mapping[str, str]) -> bool:
    """Let the C library use few arenas; say whether it does.

    It does not where the environment says something else, or where it is not glibc.
    """
    if "MALLOC_ARENA_MAX" in environment or "glibc.malloc" in environment.get("GLIBC_TUNABLES", ""):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and mallopt(_M_ARENA_MAX, ARENAS) == 1
