"""A process that dies at a chosen operation on the disk, or right after a chosen commit.

Random moments seldom hit the microseconds between two calls of the kernel; these always do.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from store.durable import Disk

T = TypeVar("T")


class Fuse:
    """Kills the process after so many moments; None never does."""

    def __init__(self, moments: int | None) -> None:
        self._left = moments

    def burn(self) -> None:
        if self._left is None:
            return
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def committed(self, kind: str, connection: Any) -> None:
        """An observer of the index."""
        self.burn()


class DyingDisk(Disk):
    """Before and after each operation that changes something is a moment, in writing a third."""

    def __init__(self, fuse: Fuse) -> None:
        super().__init__()
        self._fuse = fuse

    def create(self, path: str) -> int:
        return self._around(super().create, path)

    def write(
        self, descriptor: int, path: str, pieces: Sequence[bytes | memoryview], at: int
    ) -> int:
        first = pieces[:1]
        done = self._around(super().write, descriptor, path, first, at)
        return done + super().write(descriptor, path, pieces[1:], at + done)

    def copy(self, source: int, target: int, path: str, size_bytes: int, at: int) -> int:
        return self._around(super().copy, source, target, path, size_bytes, at)

    def truncate(self, descriptor: int, path: str, size_bytes: int) -> None:
        self._around(super().truncate, descriptor, path, size_bytes)

    def sync_data(self, descriptor: int, path: str) -> None:
        self._around(super().sync_data, descriptor, path)

    def sync_directory(self, path: str) -> None:
        self._around(super().sync_directory, path)

    def link(self, source: str, target: str) -> None:
        self._around(super().link, source, target)

    def rename(self, source: str, target: str) -> None:
        self._around(super().rename, source, target)

    def unlink(self, path: str) -> None:
        self._around(super().unlink, path)

    def mkdir(self, path: str) -> bool:
        return self._around(super().mkdir, path)

    def _around(self, work: Callable[..., T], *args: Any) -> T:
        self._fuse.burn()
        result = work(*args)
        self._fuse.burn()
        return result
