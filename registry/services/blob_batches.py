"""Small blobs that arrive together and are stored together: one hop, one transaction, one commit.

A batch is blobs of one principal whose bytes are all there (`registry.services.together`). Each is
hashed and compared with its own digest, and answered after its bytes, its row and its pin are
durable. Where a batch cannot be stored (a wrong digest, too many pins, a full disk) each of it
takes the way of a single one (`Blobs.put`), which refuses or stores it for itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Final

import msgspec

from registry.domain.principals import Principal
from registry.errors import BodyTooLarge
from registry.services.blobs import Blobs, Put, pin_uploads
from registry.services.together import Together
from store.digest import Digest
from store.index.transactions import Tx
from store.ingest import HELD_BYTES, Ingest
from store.recording import StoredBlob

MOST_BYTES: Final = HELD_BYTES
"""Of a blob that may be in a batch."""


class _Blob(msgspec.Struct, frozen=True):
    """A blob that is all there."""

    principal: Principal
    content: bytes
    expected: Digest | None


class BlobBatches:
    """The batches of one application."""

    def __init__(self, blobs: Blobs, ingest: Ingest) -> None:
        self._blobs = blobs
        self._ingest = ingest
        self._together = Together[_Blob, Put](self._store_batch, self._store_alone)

    async def put(
        self, principal: Principal, content: bytes, expected: Digest | None = None
    ) -> Put:
        """`Blobs.put` of bytes that are all there, at most `MOST_BYTES`.

        For requests without an ``Idempotency-Key``, whose answer is kept alone.
        """
        return await self.begin(principal, content, expected)

    def begin(
        self, principal: Principal, content: bytes, expected: Digest | None = None
    ) -> asyncio.Future[Put]:
        """The same for whoever is told later."""
        limit = self._blobs.limits.blob_bytes or None
        if limit is not None and len(content) > limit:
            raise BodyTooLarge(limit)
        key = (principal.id, principal.kind, principal.stranger)
        begun = self._together.begin(key, _Blob(principal, content, expected))
        assert begun is not None, "without a name"
        return begun

    async def close(self) -> None:
        """Wait until all are stored."""
        await self._together.close()

    async def _store_batch(self, batch: Sequence[_Blob]) -> list[Put]:
        principal = batch[0].principal
        return await self._ingest.store(
            [(one.content, one.expected) for one in batch],
            partial(_record, principal=principal),
            stranger=principal.stranger,
        )

    async def _store_alone(self, one: _Blob) -> Put:
        async def pieces() -> AsyncIterator[bytes]:
            yield one.content

        return await self._blobs.put(
            one.principal, pieces(), expected=one.expected, size_bytes=len(one.content)
        )


async def _record(tx: Tx, stored: Sequence[StoredBlob], *, principal: Principal) -> list[Put]:
    new = await pin_uploads(tx, [blob.digest for blob in stored], principal)
    puts = []
    for blob in stored:
        puts.append(Put(blob.digest, blob.size_bytes, blob.digest in new))
        new.discard(blob.digest)  # of two that are equal one is the first
    return puts
