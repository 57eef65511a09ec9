"""Blocks kept aside so that a full disk does not stop what would make room.

Every commit, a delete's too, appends to the WAL, and the WAL starts over only after a checkpoint,
for which the database file may have to grow. On a full disk none of that works. So some blocks are
held in a file of their own::

    held      the file has its size
    released  the file is empty: the disk was full; until it has room again no process lets the
              database file grow, so that every checkpoint can finish. Deletes and updates go on,
              what needs new pages is refused with `StorageFull`

The file is changed under ``writer.lock`` only. Nothing is lost if it is removed.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

RESERVE_BYTES: Final = 24 << 20
"""More than writers let the WAL grow, and with it what a checkpoint may add to the database."""

_PLENTY: Final = 4


class Reserve:
    """The reserve of one index; the processes that share the index share it."""

    def __init__(self, index: Path, size_bytes: int = RESERVE_BYTES) -> None:
        self._path = f"{index}-reserve"
        self._full_bytes = size_bytes

    def size_bytes(self) -> int | None:
        """What is held; 0 after a release, None if it was never held."""
        try:
            return os.stat(self._path).st_size
        except FileNotFoundError:
            return None

    def hold(self) -> None:
        """Take the blocks if the disk has plenty of them; else leave things as they are."""
        try:
            room = os.statvfs(os.path.dirname(self._path))
            if room.f_bavail * room.f_frsize < _PLENTY * self._full_bytes:
                return
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, self._full_bytes)
            except OSError:
                os.ftruncate(descriptor, 0)
                raise
            finally:
                os.close(descriptor)
        except OSError:
            return  # a reserve that cannot be had is no reason not to work

    def release(self) -> None:
        """Give the blocks to whoever needs them to make room."""
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(descriptor, 0)
        finally:
            os.close(descriptor)
