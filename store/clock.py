"""The time and the machine's boot, as values that tests can replace."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TypeAlias

Clock: TypeAlias = Callable[[], int]
"""Microseconds since the epoch, UTC."""

SECOND = 1_000_000
"""One second of a `Clock`."""


def system_clock() -> int:
    return time.time_ns() // 1000


@cache
def boot_id() -> str:
    """Names this boot of the machine: bytes written before another boot may have been lost.

    Where the kernel does not tell, a constant: a host crash then goes unnoticed by upload sessions,
    whose digest check at the end still finds what was lost.
    """
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "unknown"
