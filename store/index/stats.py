"""What the database counts, for metrics and benches."""

from __future__ import annotations

import msgspec


class Stats(msgspec.Struct):
    """Counts since the database was opened, of this process only."""

    units: int = 0
    commits: int = 0
    writing_seconds: float = 0.0
    """In the database thread, from wanting the lock to having let go of it."""
    largest_batch: int = 0
    lost_transactions: int = 0
    looks: int = 0
    looks_that_waited: int = 0
    reads: int = 0
    forced_checkpoints: int = 0
    """Made by a writer because the WAL was too long or the disk full."""


class Committed(msgspec.Struct, frozen=True):
    """What was committed up to some moment, as the connection that writes sees it."""

    units: int
    """By this process, as the next."""
    commits: int
    others: int
    """A number that differs if another connection committed in between."""


class Checkpoint(msgspec.Struct, frozen=True):
    """What a checkpoint left: frames in the WAL, how many are in the database file, file size."""

    frames: int
    copied: int
    wal_bytes: int

    @property
    def is_complete(self) -> bool:
        return self.frames == self.copied
