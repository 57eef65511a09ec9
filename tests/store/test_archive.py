"""Blobs move to the archive and back, and are read wherever they are."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from store.backends.archive import ColdDirectory
from store.backends.memory import MemoryColdStore
from store.digest import Digest
from store.errors import BlobNotFound
from store.index.blobs import BlobRow
from store.index.transactions import Tx
from store.opening import Store
from store.reading import Mode, Reading
from store.segments import SEGMENT_BYTES
from tests.support.soundness import assert_memory_is_sound, assert_store_is_sound
from tests.support.storing import put, row_of

SMALL = b"a small blob " * 9
LARGE = random.Random(5).randbytes(SEGMENT_BYTES) + b"weights " * (SEGMENT_BYTES // 4) + b"end"
"""Two and a half segments, of which one cannot be compressed."""
WINDOW = 7 * 86400


async def always(tx: Tx, row: BlobRow) -> bool:
    return True


async def never(tx: Tx, row: BlobRow) -> bool:
    return False


async def cooled(store: Store, content: bytes) -> BlobRow:
    digest = await put(store, content)
    assert await store.archive.cool(digest, always) == "moved"
    return await required(store, digest)


async def required(store: Store, digest: Digest) -> BlobRow:
    row = await row_of(store, digest)
    assert row is not None
    return row


async def read(store: Store, row: BlobRow) -> bytes:
    async with await store.reading.open(row) as blob:
        return b"".join([piece async for piece in blob.stream(0, blob.size_bytes)])


async def assert_sound(store: Store) -> None:
    root = store.settings.root
    if root is None:
        await assert_memory_is_sound(store)
    else:
        assert_store_is_sound(root)


def has_own_file(store: Store, digest: Digest) -> bool:
    try:
        store.blobs.read_blocking(digest, 0, 1)
    except BlobNotFound:
        return False
    return True


def rot(store: Store, row: BlobRow, at: int = -1) -> None:
    """Change what the archive holds of a blob."""
    files = store.cold.files
    assert row.archived is not None
    if isinstance(files, MemoryColdStore):
        content = bytearray(files.files[row.digest, row.archived])
        content[at] ^= 1
        files.files[row.digest, row.archived] = bytes(content)
        return
    path = cold_path(store, row)
    path.chmod(0o600)
    content = bytearray(path.read_bytes())
    content[at if at >= 0 else len(content) // 2] ^= 1
    path.write_bytes(content)


def cold_path(store: Store, row: BlobRow) -> Path:
    assert isinstance(store.cold.files, ColdDirectory)
    assert row.archived is not None
    return Path(store.cold.files._path(row.digest, row.archived))


# There and back.


@pytest.mark.parametrize("content", [b"", SMALL, LARGE], ids=["empty", "small", "large"])
async def test_a_blob_goes_cold_is_read_and_comes_back(store: Store, content: bytes) -> None:
    row = await cooled(store, content)

    assert (row.is_present, row.is_cold) == (True, True)
    assert not has_own_file(store, row.digest)
    assert await read(store, row) == content
    await assert_sound(store)

    assert await store.archive.thaw(row.digest)
    hot = await required(store, row.digest)
    assert (hot.is_present, hot.is_cold) == (True, False)
    assert hot.generation > row.generation
    assert has_own_file(store, row.digest)
    assert await read(store, hot) == content
    assert not await store.archive.thaw(row.digest)
    await store.ingest.close()
    await assert_sound(store)


@pytest.mark.parametrize("mode", ["boot", "strict", "scrub"])
async def test_every_part_of_a_cold_blob_reads_as_the_whole_does(store: Store, mode: Mode) -> None:
    row = await cooled(store, LARGE)
    reading = Reading(store.blobs, store.cold, store.index, store.threads, mode=mode)
    chance = random.Random(1)
    async with await reading.open(row) as blob:
        assert (blob.fileno, blob.content) == (None, None)
        for _ in range(20):
            start = chance.randrange(len(LARGE))
            stop = chance.randrange(start, min(len(LARGE), start + 2 * SEGMENT_BYTES)) + 1
            assert await blob.read(start, stop) == LARGE[start:stop]
    await reading.close()
