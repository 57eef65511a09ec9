"""Short ways to put bytes into a store and to ask about them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

from store.digest import Digest
from store.frames import HEAD_BYTES
from store.index import blobs as rows
from store.index import claims
from store.index.transactions import Tx
from store.opening import Store
from store.recording import Record, StoredBlob

OWNER = "usr_test"


async def body(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def broken(*pieces: bytes) -> AsyncIterator[bytes]:
    """A body whose client goes away after the last piece."""
    for piece in pieces:
        yield piece
    raise ConnectionResetError


def pinned(owner: str = OWNER) -> Record[bool]:
    """A record that pins the blob for `owner`; its result says whether the pin is new."""

    async def pin(tx: Tx, stored: StoredBlob) -> bool:
        return await claims.keep_ref(tx, stored.digest, owner, claims.PIN)

    return pin


async def put(store: Store, content: bytes, owner: str = OWNER) -> Digest:
    stored, _ = await store.ingest.receive(body(content), pinned(owner))
    await store.ingest.close()
    return stored.digest


async def release(store: Store, digest: Digest, owner: str = OWNER) -> bool:
    return await store.index.run(
        partial(claims.drop_ref, digest=digest, owner=owner, kind=claims.PIN, count=None)
    )


async def row_of(store: Store, digest: Digest) -> rows.BlobRow | None:
    return await store.index.read(partial(rows.find_blob, digest=digest))


async def content_of(store: Store, digest: Digest) -> bytes:
    return b"".join([piece async for piece in store.blobs.open(digest)])


async def damage(store: Store, digest: Digest, content: bytes) -> None:
    """Change stored bytes behind the store's back."""
    from store.backends.local import LocalBlobStore
    from store.backends.memory import MemoryBlobStore

    if isinstance(store.blobs, MemoryBlobStore):
        store.blobs.blobs[digest] = (content, 0)
    else:
        assert isinstance(store.blobs, LocalBlobStore)
        path = store.blobs.path_of(digest)
        path.chmod(0o600)
        path.write_bytes(content)


async def lose(store: Store, digest: Digest) -> None:
    """Remove a stored file behind the store's back."""
    from store.backends.local import LocalBlobStore
    from store.backends.memory import MemoryBlobStore

    if isinstance(store.blobs, MemoryBlobStore):
        del store.blobs.blobs[digest]
    else:
        assert isinstance(store.blobs, LocalBlobStore)
        store.blobs.path_of(digest).unlink()


async def spoil_archived(store: Store, digest: Digest, how: str) -> None:
    """Change what the archive has of a cold blob: ``rotten``, ``short`` or ``lost``."""
    from store.backends.archive import ColdDirectory
    from store.backends.memory import MemoryColdStore

    row = await row_of(store, digest)
    assert row is not None
    assert row.archived is not None
    files = store.cold.files
    if how == "lost":
        files.remove(digest, row.archived)
    elif isinstance(files, MemoryColdStore):
        content = files.files[digest, row.archived]
        files.files[digest, row.archived] = b"?" * (len(content) - (how == "short"))
    else:
        assert isinstance(files, ColdDirectory)
        path = Path(files._path(digest, row.archived))
        path.chmod(0o600)
        content = path.read_bytes()
        # Of the frames, so that head and table are what they were.
        spoilt = bytes(byte ^ 255 for byte in content[HEAD_BYTES : HEAD_BYTES + 4])
        rotten = content[:HEAD_BYTES] + spoilt + content[HEAD_BYTES + 4 :]
        path.write_bytes(rotten if how == "rotten" else content[:-1])
