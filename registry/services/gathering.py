"""Take in many files of one request, with flat memory, before anything has a name.

A large file is staged and hashed like any upload; small ones stay in memory until there are many,
which are hashed together. What is gathered is stored in batches that hold leases, renewed while the
request lasts, so that neither memory, open files nor transactions grow with it. While one batch is
recorded another is written, and the next one arrives.
Whoever gathers names the blobs in one transaction at the end, which drops the leases. What fails
leaves blobs without an owner, which nobody can see and collection takes once they are old enough.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Final, TypeAlias

from registry.catalog.claims import renew_leases
from registry.domain.trees import TreeFile
from registry.errors import BodyTooLarge, ClientGone, Draining, Stalled
from registry.services.stowing import SMALL_BYTES, Batch, Stowing
from store.batches import Source
from store.clock import SECOND
from store.digest import Digest
from store.errors import SizeMismatch
from store.index.claims import add_leases, drop_leases
from store.index.transactions import Tx
from store.opening import Store
from store.recording import StoredBlob

LEASE_SECONDS: Final = 3600

_Small: TypeAlias = tuple[str, bytes, Digest | None]
"""Path, content and expected digest of a small file that is not hashed yet."""


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
        self.taken_files = 0
        self.taken_bytes = 0
        self._store = store
        self._stranger = stranger
        self._limit = limit_bytes
        self._stowing = Stowing[_Small](self._store_batch)
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
            if size_bytes is not None and held != size_bytes:
                raise SizeMismatch(size_bytes, held)
            await self.hold(path, b"".join(start), expected)
        else:
            source: Source = _chained(start, content) if start else content
            await self._stage(path, source, size_bytes, expected)

    async def hold(self, path: str, content: bytes, expected: Digest | None = None) -> None:
        """Take one small file that is all here.

        Raises `BodyTooLarge`, and what storing raises, of a file before it.
        """
        if self._limit is not None and len(content) > self._limit:
            raise BodyTooLarge(self._limit)
        self._take(len(content))
        await self._stowing.hold((path, content, expected), len(content))

    async def hashed(self) -> Sequence[TreeFile]:
        """Every file that was taken, but for those of batches under way that are not hashed yet."""
        await self._hash(self._stowing.batch)
        return self._files

    async def finish(self) -> list[TreeFile]:
        """Every file that was taken, in any order; all of them are stored now."""
        await self._stowing.finish()
        return self._files

    async def abandon(self) -> None:
        """Wait for what runs, and remove what was staged."""
        await self._stowing.wait()
        await self._store.ingest.discard(self._stowing.batch.staged)

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
        self._take(staged.size_bytes)
        self._files.append(TreeFile(path, staged.digest, staged.size_bytes))
        await self._stowing.stage(staged)

    def _take(self, size_bytes: int) -> None:
        self.taken_files += 1
        self.taken_bytes += size_bytes

    async def _store_batch(self, batch: Batch[_Small]) -> None:
        async def record(tx: Tx, stored: Sequence[StoredBlob]) -> None:
            expires_at = tx.now + LEASE_SECONDS * SECOND
            digests = sorted({one.digest for one in stored})
            await add_leases(tx, digests, self.holder, expires_at)

        ingest = self._store.ingest
        try:
            await self._hash(batch)
        except BaseException:
            ingest.remove_later(batch.staged)
            raise
        await ingest.commit(batch.staged, record, stranger=self._stranger)

    async def _hash(self, batch: Batch[_Small]) -> None:
        """Hash the small files of a batch that are not yet."""
        small, batch.small = batch.small, []
        if not small:
            return
        held = await self._store.ingest.hold_all(
            [(content, digest) for _, content, digest in small]
        )
        batch.staged += held
        self._files += (
            TreeFile(path, one.digest, one.size_bytes)
            for (path, _, _), one in zip(small, held, strict=True)
        )


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
