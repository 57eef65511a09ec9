"""Free memory that stays the machine's own while it is measured.

A virtual machine reports free memory to its host, in blocks of some MiB and seconds after it was
freed, and gets it again at the first touch, which costs six times what writing to it does (Linux,
mm/page_reporting.c). Who is measured after a pause pays for that, and who is measured after
somebody else freed a gibibyte does not.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Iterator

_STEP = 256 * 1024
"""What lies free between two pages that stay: too small to be reported, and the kernel hands out
the smallest pieces first."""


@contextlib.contextmanager
def touched(wanted_bytes: int) -> Iterator[mmap.mmap]:
    """Touches so much free memory, at most a quarter of it, and frees all but a page in each step.

    Yields the memory whose pages stay until the end.
    """
    free_bytes = os.sysconf("SC_AVPHYS_PAGES") * mmap.PAGESIZE
    steps = max(1, min(wanted_bytes, free_bytes // 4) // _STEP)
    with mmap.mmap(-1, steps * _STEP, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        if hasattr(mmap, "MADV_NOHUGEPAGE"):
            # A huge page of which a part is freed would stay as a whole.
            memory.madvise(mmap.MADV_NOHUGEPAGE)
        for _ in range(steps):
            memory.write(b"x" * _STEP)
        for start in range(0, steps * _STEP, _STEP):
            memory.madvise(mmap.MADV_DONTNEED, start + mmap.PAGESIZE, _STEP - mmap.PAGESIZE)
        yield memory
