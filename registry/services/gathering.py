"""Take in many files of one request, with flat memory, before anything has a name.

Each file is staged and hashed like any upload. Staged files are committed in batches that hold
leases, renewed while the request lasts, so that neither open files nor transactions grow with it.
Whoever gathers names the blobs in one transaction at the end, which drops the leases. What fails
leaves blobs without an owner, which nobody can see and collection takes once they are old enough.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

from registry.catalog.claims import renew_leases
from registry.domain.trees import TreeFile
from registry.errors import BodyTooLarge, ClientGone, Draining, Stalled
from store.batches import Source
from store.clock import SECOND
from store.digest import Digest
from store.errors import SizeMismatch
from store.index.claims import add_leases, drop_leases
from store.index.transactions import Tx
from store.ingest import Staged, StoredBlob
from store.opening import Store

LEASE_SECONDS: Final = 3600
BATCH_FILES: Final = 128
BATCH_BYTES: Final = 256 << 20
SMALL_BYTES: Final = 64 << 10
"""Files up to this size stay in memory until they are committed together."""


class Gathering:
    """The files of one request; all of them are stored and leased to `holder` after `finish`."""

    def __init__(
        self,
        store: Store,
        holder: str,
        *,
        stranger: str | None,
        limit_bytes: int | None = None,
    ) -> None:
        self.holder = holder
        self._store = store
        self._stranger = stranger
        self._limit = limit_bytes
        self._staged: list[Staged] = []
        self._staged_bytes = 0
        self._commit: asyncio.Task[None] | None = None
        self._files: list[TreeFile] = []

    async def take(
        self,
        path: str,
        content: AsyncGenerator[bytes, None],
        *,
        size_bytes: int | None = None,
        expected: Digest | None = None,
    ) -> None:
        """Take one file; its content has been read when this returns.

        Raises `BodyTooLarge`, `DigestMismatch`, and what the content and storing raise, of a file
        before it too.
        """
        start: list[bytes] = []
        held = 0
        if size_bytes is None or size_bytes <= SMALL_BYTES:
            async for piece in content:
                start.append(piece)
                held += len(piece)
                if held > SMALL_BYTES:
                    break
        if held <= SMALL_BYTES and (size_bytes is None or size_bytes <= SMALL_BYTES):
            await self._hold(path, b"".join(start), size_bytes, expected)
        else:
            source: Source = _chained(start, content) if start else content
            await self._stage(path, source, size_bytes, expected)
        if len(self._staged) >= BATCH_FILES or self._staged_bytes >= BATCH_BYTES:
            await self._flush()

    @property
    def files(self) -> Sequence[TreeFile]:
        """Every file that is staged so far."""
        return self._files

    async def finish(self) -> list[TreeFile]:
        """Every file that was taken, in any order; all of them are stored now."""
        await self._flush()
        await self._committed()
        return self._files

    async def abandon(self) -> None:
        """Wait for what runs, and remove what was staged."""
        if self._commit is not None:
            await asyncio.gather(self._commit, return_exceptions=True)
        await self._store.ingest.discard(self._staged)

    async def _hold(
        self, path: str, content: bytes, size_bytes: int | None, expected: Digest | None
    ) -> None:
        if size_bytes is not None and len(content) != size_bytes:
            raise SizeMismatch(size_bytes, len(content))
        if self._limit is not None and len(content) > self._limit:
            raise BodyTooLarge(self._limit)
        self._add(path, await self._store.ingest.hold(content, expected=expected))

    async def _stage(
        self, path: str, content: Source, size_bytes: int | None, expected: Digest | None
    ) -> None:
        try:
            staged = await self._store.ingest.stage(
                content, expected=expected, size_bytes=size_bytes, limit_bytes=self._limit
            )
        except SizeMismatch as error:
            if size_bytes is None and self._limit is not None:
                raise BodyTooLarge(self._limit) from error
            raise
        self._add(path, staged)

    def _add(self, path: str, staged: Staged) -> None:
        self._staged.append(staged)
        self._staged_bytes += staged.size_bytes
        self._files.append(TreeFile(path, staged.digest, staged.size_bytes))

    async def _flush(self) -> None:
        """Commit what is staged while the next batch arrives; one commit at a time."""
        await self._committed()
        if self._staged:
            batch, self._staged, self._staged_bytes = self._staged, [], 0
            self._commit = asyncio.create_task(self._commit_batch(batch))

    async def _committed(self) -> None:
        if self._commit is not None:
            commit, self._commit = self._commit, None
            await commit

    async def _commit_batch(self, batch: list[Staged]) -> None:
        async def record(tx: Tx, stored: object) -> None:
            assert isinstance(stored, list | tuple)
            blobs: list[StoredBlob] = list(stored)
            expires_at = tx.now + LEASE_SECONDS * SECOND
            await add_leases(tx, {one.digest for one in blobs}, self.holder, expires_at)

        await self._store.ingest.commit(batch, record, stranger=self._stranger)


@asynccontextmanager
async def gathering(
    store: Store,
    prefix: str,
    *,
    stranger: str | None,
    limit_bytes: int | None = None,
    name: str = "",
) -> AsyncIterator[Gathering]:
    """A gathering whose leases stay alive in the block, and go with what was staged if it fails.

    One with a `name` can be taken up again: if the client is lost its leases stay until they
    expire, and whoever gathers under that name again has what they keep.
    """
    is_named = bool(name)
    holder = f"{prefix}_{name or secrets.token_hex(12)}"
    found = Gathering(store, holder, stranger=stranger, limit_bytes=limit_bytes)

    async def renew() -> None:
        while True:
            await asyncio.sleep(LEASE_SECONDS / 4)
            until = store.clock() + LEASE_SECONDS * SECOND
            await store.index.run(partial(renew_leases, holder=found.holder, expires_at=until))

    renewal = asyncio.create_task(renew())
    try:
        yield found
    except BaseException as error:
        store.ingest.later(_given_up(store, found, keep=is_named and _is_lost(error)))
        raise
    finally:
        renewal.cancel()


def _is_lost(error: BaseException) -> bool:
    """Whether the client went away, or this process is about to: nothing was wrong with it."""
    return isinstance(
        error, ClientGone | Stalled | Draining | asyncio.CancelledError | ConnectionError
    )


async def _given_up(store: Store, found: Gathering, *, keep: bool) -> None:
    await found.abandon()
    if not keep:
        await store.index.run(partial(drop_leases, holder=found.holder))


async def _chained(
    start: list[bytes], rest: AsyncGenerator[bytes, None] | None
) -> AsyncGenerator[bytes, None]:
    for piece in start:
        yield piece
    if rest is not None:
        async for piece in rest:
            yield piece
