"""Blocks kept aside so that a full disk does not stop what would make room.

Every commit, a delete's too, appends to the WAL, and the WAL starts over only after a checkpoint,
for which the database file may have to grow. On a full disk none of that works. So some blocks are
held in a file of their own::

    held      the file has its size
    released  the file is empty: the disk was full; until it has room again no process lets the
              database file grow, so that every checkpoint can finish. Deletes and updates go on,
              what needs new pages is refused with `StorageFull`; what makes room
              (`store.index.transactions.MakesRoom`) may have a few

The file is changed under ``writer.lock`` only. Nothing is lost if it is removed.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

FIRST_BYTES: Final = 1 << 20
"""Held from the first commit on."""

FULL_BYTES: Final = 24 << 20
LEAST_FULL_BYTES: Final = 3 << 20
SHARE: Final = 64
"""Held once the WAL has grown: this part of the disk within these bounds. It is more than writers
let the WAL grow to, and with it what a checkpoint may add to the database file."""

ROOM_BYTES: Final = FIRST_BYTES // 2
"""So far the database file may grow on a full disk for what makes room: rows of quarantine, say."""

_PLENTY: Final = 4
"""So many times what is to be held must be free, or nothing is."""


class Reserve:
    """The reserve of one index; the processes that share the index share it."""

    def __init__(self, index: Path) -> None:
        self._path = f"{index}-reserve"
        disk = os.statvfs(index.parent)
        share = disk.f_blocks * disk.f_frsize // SHARE
        self.full_bytes = max(LEAST_FULL_BYTES, min(FULL_BYTES, share))
        self.wal_bytes = self.full_bytes * 2 // 3
        """So far writers may let the WAL grow."""

    def hold(self, *, wal_bytes: int) -> bool:
        """Hold what a WAL of that size asks for, if the disk has plenty.

        False: the reserve was released and cannot be had back yet.
        """
        held = self._held_bytes()
        wanted = FIRST_BYTES if wal_bytes <= FIRST_BYTES // 2 else self.full_bytes
        if held is None or held < wanted:
            with suppress(OSError):  # a reserve that cannot be had is no reason not to work
                self._take(held or 0, wanted)
            held = self._held_bytes()
        return held != 0

    def release(self) -> None:
        """Give the blocks to whoever needs them to make room."""
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(descriptor, 0)
        finally:
            os.close(descriptor)

    def _held_bytes(self) -> int | None:
        """None if nothing was ever held."""
        try:
            return os.stat(self._path).st_size
        except FileNotFoundError:
            return None

    def _take(self, held: int, wanted: int) -> None:
        room = os.statvfs(os.path.dirname(self._path))
        if room.f_bavail * room.f_frsize < _PLENTY * wanted:
            return
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, wanted)
        except OSError:
            os.ftruncate(descriptor, held)
            raise
        finally:
            os.close(descriptor)
