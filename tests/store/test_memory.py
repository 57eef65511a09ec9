"""The memory backend keeps the contract."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from store.backends.memory import MemoryBlobStore
from store.digest import Digest
from tests.contracts.blob_store import BlobStoreContract


class RawMemory:
    """The dictionaries of a memory store."""

    def __init__(self, blobs: MemoryBlobStore) -> None:
        self.blobs = blobs

    def read(self, digest: Digest) -> bytes | None:
        found = self.blobs.blobs.get(digest)
        return None if found is None else found[0]

    def damage(self, digest: Digest, content: bytes) -> None:
        self.blobs.blobs[digest] = (content, 0)

    def staged(self) -> list[str]:
        return list(self.blobs.staged)

    def aside(self) -> list[tuple[Digest, int]]:
        return list(self.blobs.aside)


class TestMemoryBlobStore(BlobStoreContract):
    @pytest.fixture
    async def blobs(self) -> AsyncIterator[MemoryBlobStore]:
        store = MemoryBlobStore()
        yield store
        assert not store.staged, "a test left a staging buffer behind"

    @pytest.fixture
    def raw(self, blobs: MemoryBlobStore) -> RawMemory:
        return RawMemory(blobs)
