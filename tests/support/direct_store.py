"""The store as a door in process: ingest, reading, uploads and rows, with no HTTP in between.

Only what the store leaves to its callers is added, in the plainest way: whose pins count, that a
blob without an owner is hidden, and which bytes a `Part` means.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial

from store import errors as stored
from store.batches import Source
from store.clock import SECOND
from store.digest import Digest
from store.index import blobs as rows
from store.index import claims
from store.index.blobs import BlobRow
from store.index.claims import KEPT, PIN
from store.index.transactions import Tx
from store.opening import Store
from store.recording import StoredBlob
from store.uploads import Checksum, Upload
from tests.support import doors
from tests.support.doors import Part, Pin, Session
from tests.support.storing import OWNER, body, pinned

LEASE_SECONDS = 3600

_WORDS: dict[type[Exception], type[doors.Refused]] = {
    stored.BlobNotFound: doors.NotFound,
    stored.UploadNotFound: doors.NotFound,
    stored.SizeMismatch: doors.WrongSize,
    stored.UploadTooLarge: doors.TooLarge,
    stored.Corrupt: doors.Damaged,
    stored.Unavailable: doors.Unavailable,
    stored.UploadLocked: doors.Unavailable,
    stored.UploadTaken: doors.Taken,
    stored.UploadFinished: doors.Finished,
    stored.UploadExpired: doors.Expired,
    stored.ChecksumMismatch: doors.WrongChecksum,
    ConnectionResetError: doors.Interrupted,
}


@contextmanager
def in_few_words() -> Iterator[None]:
    """Turn what the store raises into what a door says; what has no word goes on as it is."""
    try:
        yield
    except stored.DigestMismatch as error:
        raise doors.Mismatch(error.actual) from error
    except stored.OffsetConflict as error:
        raise doors.OffsetConflict(error.actual) from error
    except tuple(_WORDS) as error:
        raise _WORDS[type(error)](str(error)) from error


class DirectStore:
    """A `tests.support.doors.Door` over an open store."""

    def __init__(self, store: Store, *, limit: int) -> None:
        self.store = store
        self._limit = limit

    async def put(
        self, source: Source, *, expected: Digest | None = None, size: int | None = None
    ) -> Digest:
        with in_few_words():
            try:
                blob, _ = await self.store.ingest.receive(
                    source, pinned(), expected=expected, size_bytes=size, limit_bytes=self._limit
                )
            except stored.SizeMismatch as error:
                if size is None:
                    raise doors.TooLarge from error
                raise
            return blob.digest

    async def offer(self, content: bytes) -> bool:
        digest = Digest.of(content)
        with in_few_words():
            if await self._known(digest) is not None:
                claimed = await self.store.ingest.claim(digest, pinned())
                if claimed is not None:
                    assert claimed[0].size_bytes == len(content)
                    return False
        await self.put(body(content), expected=digest, size=len(content))
        return True

    async def read(self, digest: Digest, part: Part | None = None) -> bytes:
        with in_few_words():
            async with await self.store.reading.open(await self._present(digest)) as blob:
                start, stop = _bounds(part, blob.size_bytes)
                return b"".join([piece async for piece in blob.stream(start, stop)])

    @asynccontextmanager
    async def open(self, digest: Digest) -> AsyncIterator[AsyncIterator[bytes]]:
        with in_few_words():
            row = await self._present(digest)
            blob = await self.store.reading.open(row)

        async def pieces() -> AsyncIterator[bytes]:
            with in_few_words():
                async for piece in blob.stream(0, row.size_bytes):
                    yield piece

        async with blob:
            yield pieces()

    async def size(self, digest: Digest) -> int:
        with in_few_words():
            return (await self._present(digest)).size_bytes

    async def missing(self, digests: Sequence[Digest]) -> list[Digest]:
        holder = f"lse_{secrets.token_hex(8)}"

        async def lease(tx: Tx, blob: StoredBlob) -> None:
            await claims.add_lease(tx, blob.digest, holder, tx.now + LEASE_SECONDS * SECOND)

        absent = []
        for digest in dict.fromkeys(digests):
            if (
                await self._known(digest) is None
                or await self.store.ingest.claim(digest, lease) is None
            ):
                absent.append(digest)
        return absent

    async def keep(self, digest: Digest) -> None:
        with in_few_words():
            if await self._known(digest) is None:
                raise stored.BlobNotFound(digest)
            await self.store.index.run(
                partial(claims.keep_ref, digest=digest, owner=OWNER, kind=KEPT)
            )

    async def release(self, digest: Digest) -> None:
        async def unit(tx: Tx) -> None:
            if await rows.find_blob(tx, digest) is None:
                raise stored.BlobNotFound(digest)
            for kind in (KEPT, PIN):
                await claims.drop_ref(tx, digest, OWNER, kind, None)

        with in_few_words():
            await self.store.index.run(unit)

    async def pages(self, limit: int) -> AsyncIterator[list[Pin]]:
        for kind in (KEPT, PIN):
            after = b""
            while page := await self.store.index.read(
                partial(claims.refs_of_owner, owner=OWNER, kind=kind, after=after, limit=limit)
            ):
                after = page[-1].digest.raw
                yield [Pin(row.kind, row.digest, row.size_bytes) for row in page]

    async def begin(self, length: int | None, *, expected: Digest | None = None) -> str:
        with in_few_words():
            upload = await self.store.uploads.create(OWNER, length=length, expected=expected)
            return upload.id

    async def append(
        self,
        session: str,
        offset: int,
        source: Source,
        *,
        checksum: Checksum | None = None,
        length: int | None = None,
    ) -> Session:
        with in_few_words():
            return _session(
                await self.store.uploads.append(
                    session, offset, source, checksum=checksum, length=length
                )
            )

    async def session(self, session: str) -> Session:
        with in_few_words():
            return _session(await self.store.uploads.get(session))

    async def cancel(self, session: str) -> None:
        with in_few_words():
            await self.store.uploads.cancel(session)

    async def settle(self) -> None:
        await self.store.ingest.close()
        await self.store.reading.settle()

    async def _known(self, digest: Digest) -> BlobRow | None:
        """The row of a blob that somebody owns."""

        async def unit(tx: Tx) -> BlobRow | None:
            row = await rows.find_blob(tx, digest)
            return row if row is not None and await claims.any_ref(tx, digest) else None

        return await self.store.index.look(unit)

    async def _present(self, digest: Digest) -> BlobRow:
        row = await self._known(digest)
        if row is None:
            raise stored.BlobNotFound(digest)
        if not row.is_present:
            raise stored.Corrupt(digest)
        return row


@asynccontextmanager
async def direct_door(store: Store, limit: int) -> AsyncIterator[DirectStore]:
    yield DirectStore(store, limit=limit)


def _bounds(part: Part | None, size: int) -> tuple[int, int]:
    if part is None:
        return 0, size
    if part.first is None:
        assert part.last is not None
        start, stop = max(0, size - part.last), size
    else:
        start, stop = part.first, size if part.last is None else min(size, part.last + 1)
    if start >= stop:
        raise doors.OutsideRange
    return start, stop


def _session(upload: Upload) -> Session:
    return Session(upload.id, upload.offset, upload.digest)
