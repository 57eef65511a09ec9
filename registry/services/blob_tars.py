"""Take in many blobs that arrive as one archive, each under its digest, and pin them.

Whoever sends thousands of small files pays for a request, a look at their rights, a sync and a
transaction once for hundreds of them.

**What is whole is kept.** Unlike the archive of a version this one is no unit: each blob is
verified and pinned for itself, in batches as they arrive. Whatever ends it early, be it a lost
client, bytes that are not what their name says, or an entry that is not taken, every entry that was
whole and right before is stored when the answer goes out, and is not missing when asked next.

Memory: three batches at most, as in `registry.services.stowing`; a file above `SMALL_BYTES` is
staged like any upload.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from typing import TypeAlias

import msgspec

from registry.domain import tars
from registry.domain.principals import Principal
from registry.services.blobs import pin_uploads
from registry.services.stowing import SMALL_BYTES, Batch, Stowing
from registry.services.unpack import Entry, TarLimits, TarReader
from store.batches import Source
from store.digest import Digest, InvalidDigest
from store.errors import DigestMismatch
from store.index.transactions import Tx
from store.opening import Store
from store.recording import StoredBlob

_Small: TypeAlias = tuple[Digest, bytes]
"""A small blob, and the digest that it is called by."""


class Arrived(msgspec.Struct, frozen=True):
    """How many blobs came, how many bytes they are, and how many the sender did not hold before."""

    blobs: int
    size_bytes: int
    new: int


async def receive_blobs(
    store: Store, principal: Principal, source: Source, limits: TarLimits
) -> Arrived:
    """Store and pin every file of an archive, which is called by its digest.

    Raises `Invalid` with the entry that is not taken, `DigestMismatch` with the digest whose bytes
    are others, and what storing and `source` raise; what was whole before is stored all the same.
    """
    arriving = _Arriving(store, principal)
    try:
        async with aclosing(TarReader(source, limits).entries()) as entries:
            async for entry in entries:
                await arriving.take(_digest_of(entry.path), entry)
    except asyncio.CancelledError:
        store.ingest.later(arriving.settle())
        raise
    except BaseException:
        await arriving.settle()
        raise
    return await arriving.finish()


def _digest_of(path: str) -> Digest:
    try:
        return Digest.parse(path) if ":" in path else Digest.from_hex(path)
    except InvalidDigest as error:
        reason = "is not called by its digest, 64 hexadecimal digits"
        raise tars.refused(repr(path), reason, code="invalid_digest") from error


class _Arriving:
    """The blobs of one archive."""

    def __init__(self, store: Store, principal: Principal) -> None:
        self._store = store
        self._principal = principal
        self._stowing = Stowing[_Small](self._store_batch)
        self._blobs = 0
        self._bytes = 0
        self._new = 0

    async def take(self, digest: Digest, entry: Entry) -> None:
        """Take one blob; its content has been read when this returns.

        Raises `DigestMismatch`, and what storing raises, of a blob before it too.
        """
        if entry.size_bytes <= SMALL_BYTES:
            content = entry.whole
            if content is None:
                content = b"".join([piece async for piece in entry.content])
            await self._stowing.hold((digest, content), len(content))
        else:
            staged = await self._store.ingest.stage(
                entry.content, expected=digest, size_bytes=entry.size_bytes
            )
            await self._stowing.stage(staged)

    async def finish(self) -> Arrived:
        """Everything that came is stored and pinned now."""
        await self._stowing.finish()
        return Arrived(self._blobs, self._bytes, self._new)

    async def settle(self) -> None:
        """Store what is whole, after a failure that is told."""
        await self._stowing.settle()

    async def _store_batch(self, batch: Batch[_Small]) -> None:
        """Store what of a batch is right; raises `DigestMismatch` for the first that is not."""
        ingest = self._store.ingest
        try:
            held = await ingest.hold_all([(content, None) for _, content in batch.small])
        except BaseException:
            ingest.remove_later(batch.staged)
            raise
        pairs = [*zip((digest for digest, _ in batch.small), held, strict=True)]
        wrong = [(digest, one) for digest, one in pairs if one.digest != digest]
        ingest.remove_later([one for _, one in wrong])
        staged = batch.staged + [one for digest, one in pairs if one.digest == digest]
        if staged:
            new = await ingest.commit(staged, self._record, stranger=self._principal.stranger)
            self._new += new
            self._blobs += len(staged)
            self._bytes += sum(one.size_bytes for one in staged)
        if wrong:
            digest, one = wrong[0]
            raise DigestMismatch(digest, one.digest)

    async def _record(self, tx: Tx, stored: Sequence[StoredBlob]) -> int:
        return len(await pin_uploads(tx, {one.digest for one in stored}, self._principal))
