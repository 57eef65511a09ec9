"""Batches of the files of one request: while one is gathered those before it are stored.

Small files are counted apart from those that are staged: the ones cost memory, the others an open
file each. What storing a batch means is up to whoever gathers it.

Memory: `BATCHES_AT_ONCE` batches are stored at once and one more is gathered.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Final, Generic, TypeVar

import msgspec

from store.recording import Staged

BATCHES_AT_ONCE: Final = 2
"""How many are stored at once, while the next one is gathered."""
BATCH_FILES: Final = 64
BATCH_BYTES: Final = 256 << 20
"""Of files that have a staging file each, which is open."""
SMALL_BYTES: Final = 64 << 10
"""Files up to this size stay in memory until they are stored together."""
SMALL_FILES: Final = 1024
SMALL_BATCH_BYTES: Final = 5 << 20
"""So many small ones, or bytes of them, are a batch; three at most are in memory."""
FIRST_BATCH: Final = 8
"""The first batch of small ones is this part of a whole one, each next one twice the last."""

S = TypeVar("S")


class Batch(msgspec.Struct, Generic[S]):
    """Files that are stored together."""

    small: list[S] = msgspec.field(default_factory=list)
    """Small files, whose content is in memory."""
    staged: list[Staged] = msgspec.field(default_factory=list)
    small_files: int = 0
    small_bytes: int = 0
    large_files: int = 0
    large_bytes: int = 0


class Stowing(Generic[S]):
    """The batches of one request; whatever storing one raised comes out of a later call."""

    def __init__(self, store_batch: Callable[[Batch[S]], Coroutine[None, None, None]]) -> None:
        self.batch = Batch[S]()
        """The one that is gathered."""
        self._store_batch = store_batch
        self._part = FIRST_BATCH
        self._storing: deque[asyncio.Task[None]] = deque()

    async def hold(self, file: S, size_bytes: int) -> None:
        """Take a small file."""
        batch, part = self.batch, self._part
        batch.small.append(file)
        batch.small_files += 1
        batch.small_bytes += size_bytes
        if batch.small_files * part >= SMALL_FILES or batch.small_bytes * part >= SMALL_BATCH_BYTES:
            await self._flush()
            self._part = max(1, part // 2)

    async def stage(self, staged: Staged) -> None:
        """Take a file that is staged."""
        batch = self.batch
        batch.staged.append(staged)
        batch.large_files += 1
        batch.large_bytes += staged.size_bytes
        if batch.large_files >= BATCH_FILES or batch.large_bytes >= BATCH_BYTES:
            await self._flush()

    async def finish(self) -> None:
        """All that was taken is stored when this returns."""
        await self._flush()
        while self._storing:
            await self._stored()

    async def settle(self) -> None:
        """The same after a failure that is told; another one would change nothing."""
        self._begin()
        await self.wait()

    async def wait(self) -> None:
        """Wait for what is stored, whether or not it can be; what is gathered stays as it is."""
        await asyncio.gather(*self._storing, return_exceptions=True)

    async def _flush(self) -> None:
        """Store what is gathered while the next batch arrives."""
        if len(self._storing) >= BATCHES_AT_ONCE:
            await self._stored()
        self._begin()

    def _begin(self) -> None:
        batch, self.batch = self.batch, Batch[S]()
        if batch.small or batch.staged:
            self._storing.append(asyncio.create_task(self._store_batch(batch)))

    async def _stored(self) -> None:
        """Wait for the oldest batch under way."""
        oldest = self._storing[0]
        await asyncio.shield(oldest)
        self._storing.popleft()
