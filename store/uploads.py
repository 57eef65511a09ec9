"""Upload sessions: begun once, continued by any worker, finished exactly once.

========== ============================= ====================================================
State      Leaves by                     Meaning
========== ============================= ====================================================
receiving  `Uploads.append`              bytes may still come; the row holds the durable offset
finished   expiry                        the blob is visible; the answer can be asked again
(no row)                                 never begun, cancelled, expired or refused at its end
========== ============================= ====================================================

**Who writes.** Each append raises the session's *epoch* first, to the next even number. Before
every batch, with the staging file locked, a writer reads the epoch again; if a newer request has
raised it, the writer stops with `UploadTaken`. So a retry on another worker takes over from a
connection that is half dead, and two writers never interleave. A newcomer that cannot get the lock
within two seconds gets `UploadLocked`. A request with a wrong offset is refused before it raises
the epoch, so it disturbs nobody.

**Who has let go.** A writer that comes to its end leaves an odd epoch behind, together with the
offset it commits: nobody holds the session. Where a client may continue is only then a promise;
while somebody writes, a batch may land right after the offset was told. `Uploads.halt` takes a
session from whoever holds it and leaves it free, so that what it answers stays true until the next
append. Nothing but waiting tells a writer that died from one that is slow.

**Who comes too late.** The epoch's upper half counts how often somebody asked where to continue,
and an append may take the session only if nobody has since it was let in: the request of a
connection that broke may have been let in already, and must not move the offset that was told.
Takings alone are counted apart from it, so that asking costs nobody his running hash.

**How far a session is.** After a kill the length of the staging file counts: the bytes are in the
kernel's cache. After a crash of the host, and after a sync that failed, only what was synced is
certain, so the file is cut back to the row's offset, before its lock is let go of: who takes the
session over meanwhile does not find what was not synced. While bytes wait for their checksum
(``strict``) the row's offset counts too.

**Finishing.** The offset's commit says that all bytes are durable; only then is the file promoted.
Nothing is appended or cut after that commit, which matters because the promoted file and the
staging file are one file with two names. Finishing twice gives the same answer: whoever loses the
race finds the session finished and the digest in the row.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final

import msgspec

from store.batches import BatchStream, Source
from store.blobs import BlobStore, StagedWriter
from store.clock import SECOND, boot_id
from store.digest import Digest
from store.errors import (
    ChecksumMismatch,
    DigestMismatch,
    OffsetConflict,
    SizeMismatch,
    StoreError,
    UploadExpired,
    UploadFinished,
    UploadLocked,
    UploadNotFound,
    UploadTaken,
    UploadTooLarge,
)
from store.hashing import RunningHash
from store.index import claims
from store.index.transactions import Index, Tx
from store.index.uploads import (
    FINISHED,
    UploadRow,
    delete_if_expired,
    delete_upload,
    distrust_upload,
    end_upload,
    expired_uploads,
    find_upload,
    finish_upload,
    free_upload,
    insert_upload,
    settle_upload,
    take_upload,
    upload_epoch,
    upload_totals,
    uploads_of,
)
from store.ingest import SOMEBODY, Ingest
from store.kept_hashes import KeptHashes
from store.recording import Record, Staged, StoredBlob
from store.threads import Threads, hop

log = logging.getLogger(__name__)

CHECKSUMS: Final = ("sha1", "sha256", "md5")
"""Algorithms of `Checksum`."""


class Checksum(msgspec.Struct, frozen=True):
    """What the bytes of one append must hash to."""

    algorithm: str
    expected: bytes


class Upload(msgspec.Struct, frozen=True):
    """A session as its owner sees it. `offset` is where the next append must begin.

    While it `is_held`, somebody is about to move the offset, or died before he let go.
    """

    id: str
    owner: str
    is_finished: bool
    is_held: bool
    length: int | None
    offset: int
    expected: Digest | None
    digest: Digest | None
    metadata: str
    created_at: int
    expires_at: int
    asked: int
    """How often `Uploads.halt` was called; what was let in before the last time comes too late."""


class Uploads:
    """The service over upload sessions."""

    def __init__(
        self,
        blobs: BlobStore,
        index: Index,
        ingest: Ingest,
        threads: Threads,
        *,
        upload_seconds: int,
    ) -> None:
        self._blobs = blobs
        self._index = index
        self._ingest = ingest
        self._threads = threads
        self._lifetime = upload_seconds * SECOND
        self._hashes = KeptHashes()

    async def create(
        self, owner: str, *, length: int | None, expected: Digest | None, metadata: str = ""
    ) -> Upload:
        """Begin a session; its row and its staging name are durable on return.

        Raises `StorageFull`.
        """
        await self._ingest.intake.admit(length)
        session = f"upl_{secrets.token_hex(16)}"

        async def unit(tx: Tx) -> UploadRow:
            return await insert_upload(
                tx,
                session,
                owner,
                length=length,
                expected=expected,
                metadata=metadata,
                boot=boot_id(),
                expires_at=tx.now + self._lifetime,
            )

        writer = await self._blobs.stage(session)
        try:
            await writer.sync()
            await writer.sync_name()
            # Before the file is let go of: what nobody holds and no row names is swept.
            return _upload(await self._index.run(unit), 0)
        finally:
            await writer.close()

    async def get(self, session: str) -> Upload:
        """The session with the offset a client may continue from, unless somebody holds it.

        Raises `UploadNotFound`, `UploadExpired`.
        """
        row = await self._find(session)
        if row.state == FINISHED:
            return _upload(row, row.offset)
        writer = await self._blobs.reopen(session)
        try:
            return _upload(row, _certain(row, writer.size_bytes))
        finally:
            await writer.close()

    async def halt(self, session: str) -> Upload:
        """End whoever writes or is about to; the offset is true until an append is let in.

        Raises `UploadNotFound`, `UploadExpired`, and `UploadLocked` if a batch under way does not
        come to its end.
        """
        if (await self._find(session)).state == FINISHED:
            return await self.get(session)
        writer = await self._blobs.reopen(session)
        try:
            row = await self._index.run(partial(end_upload, session=session))
            if row is not None and row.state != FINISHED:
                return _upload(row, await self._locked_size(writer, row))
        except UploadTaken:
            log.debug("upload session %s was taken by a newcomer", session)
        finally:
            await writer.close()
        return await self.get(session)

    async def append(
        self,
        session: str,
        offset: int,
        source: Source,
        *,
        record: Record[Any] | None = None,
        checksum: Checksum | None = None,
        length: int | None = None,
        stranger: str | None = SOMEBODY,
        asked: int | None = None,
    ) -> Upload:
        """Add bytes at `offset`; return once they are durable and the row says so.

        The append that completes the length verifies the digest, promotes and commits, with
        `record` in the same transaction (the default pins the blob for the session's owner), and
        returns the session finished. `length` declares a length that was not known at the start.
        `asked` is what the session said when the append was let in, if that was before the call.

        When `source` raises, what arrived is kept, unless a checksum was to cover it, and the
        exception goes on to the caller.

        Raises `UploadNotFound`, `UploadExpired`, `UploadFinished`, `OffsetConflict`,
        `UploadLocked`, `UploadTaken`, `UploadTooLarge`, `ChecksumMismatch`, `StorageFull`, and
        `DigestMismatch`, after which the session is gone.
        """
        before = await self.get(session)
        if before.is_finished:
            raise UploadFinished(session)
        if before.offset != offset:
            raise OffsetConflict(session, offset, before.offset)
        length = _agreed_length(before, length)
        writer = await self._blobs.reopen(session)
        try:
            row = await self._take(session, before.asked if asked is None else asked)
            stream = None
            try:
                stream = await self._stream(row, writer, offset)
                after = await self._receive(stream, row, writer, source, checksum, length)
                if not _has_all(after.length, after.offset):
                    self._hashes.keep(row, stream.hash)
                    return _upload(after, after.offset)
                record = record or _pin(row.owner)
                return await self._finish(after, stream.hash, writer, record, stranger)
            except UploadTaken:
                if stream is not None:
                    self._hashes.keep(row, stream.hash)
                raise
            except BaseException:
                with suppress(StoreError):  # whoever asks for the offset waits a moment instead
                    await self._index.run(partial(free_upload, row=row))
                raise
        except UploadTaken:
            return await self._answer_of_another(session)
        finally:
            await writer.close()

    async def cancel(self, session: str) -> None:
        """Forget a session and its bytes; a finished one leaves its blob where it is.

        Raises `UploadNotFound`.
        """
        if not await self._index.run(lambda tx: delete_upload(tx, session)):
            raise UploadNotFound(session)
        await self._discard(session)

    async def expire(self) -> int:
        """Forget sessions whose time is over; return how many."""
        total = 0
        while expired := await self._index.read(expired_uploads):
            for row in expired:
                if await self._index.run(partial(delete_if_expired, session=row.id)):
                    await self._discard(row.id)
                    total += 1
        return total

    async def count(self, owner: str) -> tuple[int, int]:
        """Running sessions of an owner, and the bytes they have staged durably."""
        return await self._index.look(lambda tx: uploads_of(tx, owner))

    async def totals(self) -> tuple[int, int]:
        """Running sessions of everybody, and the bytes they have staged durably."""
        return await self._index.read(upload_totals)

    async def _find(self, session: str) -> UploadRow:
        async def unit(tx: Tx) -> tuple[UploadRow | None, int]:
            return await find_upload(tx, session), tx.now

        row, now = await self._index.look(unit)
        if row is None:
            raise UploadNotFound(session)
        if row.expires_at <= now:
            raise UploadExpired(session)
        return row

    async def _take(self, session: str, asked: int) -> UploadRow:
        """Become the one who writes, unless somebody has asked where to continue since."""
        row = await self._index.run(lambda tx: take_upload(tx, session, asked, self._lifetime))
        if row is None:
            raise UploadNotFound(session)
        if row.state == FINISHED:
            raise UploadFinished(session)
        if row.asked != asked:
            raise UploadTaken(session)
        return row

    async def _answer_of_another(self, session: str) -> Upload:
        """What an overtaken writer answers: the newcomer may have finished meanwhile."""
        row = await self._index.read(lambda tx: find_upload(tx, session))
        if row is None:
            raise UploadNotFound(session)
        if row.state != FINISHED:
            raise UploadTaken(session)
        return _upload(row, row.offset)

    async def _stream(self, row: UploadRow, writer: StagedWriter, offset: int) -> BatchStream:
        """Bring the staging file to `offset`, and its hash."""
        certain = await self._locked_size(writer, row)
        if certain != offset:
            raise OffsetConflict(row.id, offset, certain)
        fence = self._fence(row.id, row.epoch)
        await writer.truncate(offset, fence)
        running = await self._continued_hash(row, writer, offset)
        return BatchStream(self._ingest.intake, writer, running, offset, fence=fence)

    async def _locked_size(self, writer: StagedWriter, row: UploadRow) -> int:
        """How many bytes count once the previous writer has let go of the staging file."""

        def measure() -> int:
            fence = self._fence(row.id, row.epoch)
            try:
                return writer.append_blocking(writer.size_bytes, [], fence)
            except OffsetConflict as error:
                return error.actual

        staged_bytes = await hop(self._threads.ingest, measure)
        # Who has let go may have found out that not all of it can be trusted.
        now = await self._index.look(partial(find_upload, session=row.id))
        return _certain(now or row, staged_bytes)

    async def _receive(
        self,
        stream: BatchStream,
        row: UploadRow,
        writer: StagedWriter,
        source: Source,
        checksum: Checksum | None,
        length: int | None,
    ) -> UploadRow:
        """Write the body and commit how far it got."""
        if checksum is not None or row.strict or length != row.length:
            if stream.offset > row.offset:
                # A killed worker wrote this much and did not sync it; the row says durable.
                await self._sync(row, writer)
            row = await self._settle(
                row, stream.offset, length, strict=checksum is not None, frees=False
            )
        check = None if checksum is None else hashlib.new(checksum.algorithm, usedforsecurity=False)
        body = source if check is None else _checked(source, check.update)
        bound = None if length is None else length - stream.offset
        first = stream.offset
        try:
            await stream.drain(body, bound=bound)
        except SizeMismatch as error:
            raise UploadTooLarge(row.id, length or 0) from error
        except UploadTaken:
            raise
        except BaseException:
            if checksum is None and stream.offset > first:
                await self._sync(row, writer)
                await self._settle(row, stream.offset, length, strict=False, frees=True)
                self._hashes.keep(row, stream.hash)
            raise
        if checksum is not None and check is not None and check.digest() != checksum.expected:
            await writer.truncate(first, self._fence(row.id, row.epoch))
            raise ChecksumMismatch(row.id, checksum.algorithm)
        await self._sync(row, writer)
        # Whoever has all bytes goes on to finish.
        frees = not _has_all(length, stream.offset)
        return await self._settle(row, stream.offset, length, strict=False, frees=frees)

    async def _sync(self, row: UploadRow, writer: StagedWriter) -> None:
        """Make what was written durable; what could not be must be sent again."""
        try:
            await writer.sync_locked(self._fence(row.id, row.epoch))
        except (UploadTaken, UploadLocked):
            raise  # nothing was tried, so nothing was lost
        except StoreError:
            # The kernel forgets what it could not write, and would call the next sync a success.
            try:
                await writer.truncate(row.offset)
            except StoreError:
                await self._index.run(partial(distrust_upload, session=row.id))
            raise
        finally:
            await writer.unlock()

    async def _settle(
        self, row: UploadRow, offset: int, length: int | None, *, strict: bool, frees: bool
    ) -> UploadRow:
        """Commit the durable offset; raises `UploadTaken` if the epoch has moved on."""

        async def unit(tx: Tx) -> UploadRow | None:
            settled = await settle_upload(
                tx,
                row,
                offset=offset,
                length=length,
                strict=strict,
                boot=boot_id(),
                expires_at=tx.now + self._lifetime,
                frees=frees,
            )
            return await find_upload(tx, row.id) if settled else None

        after = await self._index.run(unit)
        if after is None:
            raise UploadTaken(row.id)
        return after

    async def _finish(
        self,
        row: UploadRow,
        running: RunningHash,
        writer: StagedWriter,
        record: Record[Any],
        stranger: str | None,
    ) -> Upload:
        """Verify, promote and commit; the session and the blob change in one transaction."""
        digest = running.digest()
        if row.expected is not None and digest != row.expected:
            await self._index.run(lambda tx: delete_upload(tx, row.id))
            await writer.discard()
            raise DigestMismatch(row.expected, digest)
        staged = Staged(digest, running.size_bytes, running.segments(), writer)
        if staged.segments.needs_file:
            await self._blobs.write_segments(digest, staged.segments.encode())

        async def finish(tx: Tx, stored: Any) -> UploadRow:
            expires_at = tx.now + self._lifetime
            if not await finish_upload(tx, row, digest, staged.size_bytes, expires_at):
                raise UploadTaken(row.id)
            await record(tx, stored[0])
            after = await find_upload(tx, row.id)
            assert after is not None
            return after

        finished = await self._ingest.record([staged], finish, stranger=stranger)
        self._ingest.blobs_stored += 1
        await writer.close()
        # Later, because bytes that were there already go with their names, which takes time.
        self._ingest.remove_later([staged])
        return _upload(finished, finished.offset)

    async def _continued_hash(
        self, row: UploadRow, writer: StagedWriter, offset: int
    ) -> RunningHash:
        """The running hash at `offset`: kept since the last append here, or made again."""
        kept = self._hashes.take(row, offset)
        if kept is not None:
            return kept
        running = RunningHash()
        if offset:
            await hop(self._threads.ingest, running.catch_up, writer.read_blocking, offset)
        return running

    def _fence(self, session: str, epoch: int) -> Callable[[], None]:
        """A check, run with the staging file locked, that nobody took the session."""

        def fence() -> None:
            if self._index.read_blocking(lambda tx: upload_epoch(tx, session)) != epoch:
                raise UploadTaken(session)

        return fence

    async def _discard(self, session: str) -> None:
        self._hashes.forget(session)
        try:
            writer = await self._blobs.reopen(session)
        except UploadNotFound:
            return
        except StoreError as error:
            log.warning("staging file %s stays until it is swept: %s", session, error)
            return
        await writer.discard()


def _certain(row: UploadRow, staged_bytes: int) -> int:
    """How many bytes of a session count."""
    if row.strict or row.boot != boot_id():
        return min(row.offset, staged_bytes)
    return staged_bytes


def _has_all(length: int | None, offset: int) -> bool:
    return length is not None and offset >= length


def _agreed_length(upload: Upload, length: int | None) -> int | None:
    if length is None or upload.length is None or upload.length == length:
        return upload.length if length is None else length
    raise UploadTooLarge(upload.id, upload.length)


def _pin(owner: str) -> Record[Any]:
    async def pin(tx: Tx, stored: StoredBlob) -> bool:
        return await claims.keep_ref(tx, stored.digest, owner, claims.PIN)

    return pin


async def _checked(source: Source, update: Callable[[bytes], None]) -> Any:
    async for piece in source:
        update(piece)
        yield piece


def _upload(row: UploadRow, offset: int) -> Upload:
    return Upload(
        row.id,
        row.owner,
        row.state == FINISHED,
        row.is_held,
        row.length,
        offset,
        row.expected,
        row.digest,
        row.metadata,
        row.created_at,
        row.expires_at,
        row.asked,
    )
