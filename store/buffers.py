"""Buffers that one thread fills from a socket and another hashes, and who hashes what.

SHA-256 can be done by one thread only, in order, and on some processors it takes as long as
receiving and writing the bytes does, on others half as long again. The segments are a fifth of the
hashing and may be done by either. So the thread that fills hashes segments for as long as it has no
buffer to fill, and the one that hashes does so whenever the other is not at it: neither waits while
there is something to do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from queue import SimpleQueue
from threading import Lock
from typing import Final

from store.hashing import RunningHash

BUFFER_BYTES: Final = 1 << 20

BUFFERS: Final = 3
"""One is filled and written while another is hashed."""


class Buffers:
    """`take_blocking`, `put` and `end` are for the filling thread, `hash_blocking` for the other.

    Before `hash_blocking` returns, all that was put has been hashed.
    """

    def __init__(self, running: RunningHash) -> None:
        self._running = running
        self._free: SimpleQueue[memoryview] = SimpleQueue()
        for _ in range(BUFFERS):
            self._free.put(memoryview(bytearray(BUFFER_BYTES)))
        self._full: SimpleQueue[Sequence[memoryview] | None] = SimpleQueue()
        self._to_segment: deque[Sequence[memoryview]] = deque()
        self._segmenting = Lock()
        self._busy: deque[memoryview] = deque()
        """Those that are full, in order."""
        self._named = self._segmented = 0
        """How many of them have had one half of their hashing, how many the other."""
        self._counting = Lock()

    def take_blocking(self) -> memoryview:
        """A buffer to fill; hashes segments until there is one."""
        while self._free.empty() and self._segment_blocking():
            pass
        return self._free.get()

    def put(self, buffer: memoryview, pieces: Sequence[memoryview]) -> None:
        """Have these parts of a buffer hashed; where there are none it is only given back."""
        if not pieces:
            self._free.put(buffer)
            return
        self._busy.append(buffer)
        self._to_segment.append(pieces)
        self._full.put(pieces)

    def end(self) -> None:
        """Nothing more is put."""
        self._full.put(None)

    def hash_blocking(self) -> None:
        """Hash what is put, until the end.

        Where that fails all buffers are free: whoever fills them would wait for ever.
        """
        try:
            while (pieces := self._full.get()) is not None:
                self._running.update_sha256(pieces)
                self._count(named=1)
                self._segment_blocking(is_patient=False)
            while self._segment_blocking():
                pass
        except BaseException:
            self._count(named=BUFFERS, segmented=BUFFERS)
            raise

    def _segment_blocking(self, *, is_patient: bool = True) -> bool:
        """Hash the segments of what was put first; False if nothing waits for it.

        Who is not patient leaves it where the other is at it.
        """
        if not self._segmenting.acquire(blocking=is_patient):
            return False
        try:
            if not self._to_segment:
                return False
            self._running.update_segments(self._to_segment.popleft())
        finally:
            self._segmenting.release()
        self._count(segmented=1)
        return True

    def _count(self, *, named: int = 0, segmented: int = 0) -> None:
        """Note what is done, and free the buffers that have had both."""
        with self._counting:
            self._named += named
            self._segmented += segmented
            for _ in range(min(self._named, self._segmented, len(self._busy))):
                self._free.put(self._busy.popleft())
                self._named -= 1
                self._segmented -= 1
