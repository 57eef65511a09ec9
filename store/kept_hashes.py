"""Running hashes of upload sessions between two requests, in the memory of one worker.

A running SHA-256 cannot be saved. It stays with the worker that held every even epoch of its
session since byte 0 (`store.uploads` says what an epoch is); anyone else hashes the staged prefix
again.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from store.hashing import RunningHash
from store.index.uploads import ASKED, UploadRow

HASHES_KEPT: Final = 256


class KeptHashes:
    """The last `HASHES_KEPT` of them, each with the epoch under which it was continued."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[int, RunningHash]] = OrderedDict()

    def keep(self, row: UploadRow, running: RunningHash) -> None:
        self._kept[row.id] = (row.epoch, running)
        while len(self._kept) > HASHES_KEPT:
            self._kept.popitem(last=False)

    def take(self, row: UploadRow, offset: int) -> RunningHash | None:
        """The hash at `offset`, no longer kept; None where it is not here or others wrote since."""
        kept = self._kept.pop(row.id, None)
        if kept is None:
            return None
        epoch, running = kept
        is_unbroken = (row.epoch - epoch) % ASKED == 2
        return running if is_unbroken and running.is_at(offset) else None

    def forget(self, session: str) -> None:
        self._kept.pop(session, None)
