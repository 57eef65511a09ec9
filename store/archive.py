"""Move bytes of blobs to the cold tier and find them again there when their own file is damaged.

**To the archive.** The blob is ``present`` all the way, and always readable:

1. A transaction asks whether the blob may go and announces a file under a number of its own.
2. The blob's file is read, hashed and compressed, the result synced, read back from the disk,
   decompressed and hashed again; only bytes that are the blob's by SHA-256 both times go on.
3. The file gets its name in the archive, and the directories are synced.
4. A transaction asks once more whether the blob may go. Its row names the file in the archive and
   says ``moving``: readers take the archive's bytes from here on, writers of the same digest wait.
5. The blob's own file is removed, its directory synced.
6. A transaction says ``present``, with a new generation.

A crash before step 4 leaves a spare file in the archive, which `store.spares` removes. A crash
after it leaves ``moving``: `store.quarantine` settles that to a present blob, hot again if its own
file is there still, cold if it is gone. Whoever sends the same bytes meanwhile finds another
generation than it saw and starts over, as with any move.

**From the archive.** Thawing is sending a blob its own bytes: they are staged, hashed and promoted
by `store.ingest`, whose transaction lets the row name its own file again. So every upload of a cold
blob makes it hot, and the file in the archive becomes spare. It is kept for the undo window: until
then it heals the blob, should the fresh copy turn out to be bad (`Archive.heal`).

**Who may go** is the caller's rule, asked inside the transaction. The store adds its own: no lease.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Literal, TypeAlias

import msgspec

from store.blobs import BlobStore
from store.cold import (
    Cold,
    ColdFile,
    ColdInfo,
    ColdWriter,
    Pace,
    at_once,
    hash_cold,
    read_piece,
)
from store.digest import Digest
from store.errors import (
    ArchiveUnavailable,
    BlobNotFound,
    Corrupt,
    DigestMismatch,
    StoreError,
    Unavailable,
)
from store.frames import FRAME_BYTES
from store.index import blobs as rows
from store.index import claims
from store.index.archived import (
    ArchiveTotals,
    archive_totals,
    begin_archived,
    finish_archived,
    lose,
    use_archived,
)
from store.index.blobs import BlobRow
from store.index.transactions import Index, Tx
from store.ingest import Ingest
from store.quarantine import Quarantine
from store.recording import StoredBlob
from store.spares import Spares, is_spare
from store.threads import Threads, hop

log = logging.getLogger(__name__)

MayGo: TypeAlias = Callable[[Tx, BlobRow], Awaitable[bool]]
"""Whether everybody who refers to a blob can do with its bytes being cold. Runs in transactions."""

Outcome: TypeAlias = Literal["moved", "kept", "lost"]
"""kept: somebody needs it hot, or it is cold already. lost: the blob itself is not whole."""


class ArchiveStatus(msgspec.Struct, frozen=True):
    """What lies in the archive, and why it cannot be read, if it cannot."""

    where: str
    totals: ArchiveTotals
    free_bytes: int | None
    problem: str | None


class Archive:
    """Moves blobs to the cold tier and back. Any number may work at once, in any process."""

    def __init__(
        self,
        blobs: BlobStore,
        cold: Cold,
        index: Index,
        threads: Threads,
        ingest: Ingest,
        quarantine: Quarantine,
        *,
        spare_seconds: int,
    ) -> None:
        self.spares = Spares(cold, index, threads, spare_seconds)
        self._blobs = blobs
        self.cold = cold
        self._index = index
        self._threads = threads
        self._ingest = ingest
        self._quarantine = quarantine

    # To the archive.

    async def cool(self, digest: Digest, may_go: MayGo, pace: Pace | None = None) -> Outcome:
        """Let the archive have the bytes of a blob instead of its own file.

        Raises `ArchiveUnavailable`, `StorageFull`, `Unavailable`; the blob is as it was then.
        """
        await self.cold.prepare()
        begun = await self._index.run(partial(_begin, digest=digest, may_go=may_go))
        if begun is None:
            return "kept"
        row, number = begun
        writer = self.cold.files.begin(digest, number, row.size_bytes)
        try:
            try:
                actual = await self._fill(writer, row, pace or at_once)
            except BlobNotFound:
                return "lost"
            if actual != digest:
                await self._quarantine.convict(digest, row.generation)
                return "lost"
            stored = await hop(self._threads.sync, writer.finish)
            await self._verify(writer, digest, pace or at_once)
            await hop(self._threads.sync, writer.promote)
        finally:
            await hop(self._threads.files, writer.discard)
        finish = partial(finish_archived, digest=digest, number=number, stored_bytes=stored)
        if not await self._index.run(finish):
            await hop(self._threads.files, self.cold.files.remove, digest, number)
            raise Unavailable("moving a blob for longer than spare files are kept")
        return await self._leave(row, number, may_go)

    async def _fill(self, writer: ColdWriter, row: BlobRow, pace: Pace) -> Digest:
        """Read the blob's own file into the archive; return what the bytes hash to."""
        running = hashlib.sha256()
        done = 0
        while done < row.size_bytes:
            got = await hop(self._threads.reading, _pack, self._blobs, row, done, running, writer)
            if not got:
                break
            done += got
            await pace(got)
        return Digest(running.hexdigest())

    async def _verify(self, writer: ColdWriter, digest: Digest, pace: Pace) -> None:
        file = await hop(self._threads.files, writer.reread)
        try:
            actual = await hash_cold(self._threads, file, pace)
        finally:
            await hop(self._threads.files, file.close)
        if actual != digest:
            raise Unavailable("writing to an archive that does not hold what was written")

    async def _leave(self, row: BlobRow, number: int, may_go: MayGo) -> Outcome:
        """Steps 4 to 6: from the commit of the first the archive's bytes are the blob's."""
        async with self._quarantine.moving():
            moving = await self._index.run(
                partial(_announce, row=row, number=number, may_go=may_go)
            )
            if moving is None:
                return "kept"
            await self._blobs.remove(row.digest)
            await self._index.run(partial(_arrive, moving=moving))
        return "moved"

    # From the archive.

    async def thaw(self, digest: Digest) -> bool:
        """Give a cold blob its own file again, verified; False if it is not cold.

        Raises `BlobNotFound` if there is no such blob that anybody refers to, `Corrupt` if the
        archive has damaged it, `ArchiveUnavailable`, `StorageFull`, and `Unavailable` for one on
        the move.
        """
        row = await self._index.look(partial(rows.find_blob, digest=digest))
        if row is None:
            raise BlobNotFound(digest)
        if not row.is_readable:
            raise Corrupt(digest) if row.state == rows.DAMAGED else Unavailable("thawing a blob")
        if row.archived is None:
            return False
        if not await self._index.look(partial(claims.any_ref, digest=digest)):
            raise BlobNotFound(digest)
        try:
            file = await self.cold.open(digest, row.archived)
        except BlobNotFound:
            raise await self._lost(row) from None
        if file.size_bytes != row.size_bytes:
            await hop(self._threads.files, file.close)
            raise await self._lost(row)
        try:
            staged = await self._ingest.stage(
                self._pieces(file, row.size_bytes), expected=digest, size_bytes=row.size_bytes
            )
        except (DigestMismatch, Corrupt):
            await self._quarantine.convict(digest, row.generation)
            if not await self.heal(digest):
                raise Corrupt(digest) from None
            return await self.thaw(digest)
        finally:
            await hop(self._threads.files, file.close)
        await self._ingest.commit([staged], _require_known)
        return True

    async def _lost(self, row: BlobRow) -> StoreError:
        await self._index.run(partial(lose, row=row))
        log.error("blob %s is not in the archive; marked damaged", row.digest)
        return Corrupt(row.digest)

    async def _pieces(self, file: ColdFile, size_bytes: int) -> AsyncIterator[bytes]:
        done = 0
        while done < size_bytes:
            piece = await hop(self._threads.reading, read_piece, file, done)
            if not piece:
                raise Corrupt(file.digest)
            done += len(piece)
            yield piece

    async def heal(self, digest: Digest) -> bool:
        """Let a damaged blob be present again with bytes that a spare file has; say whether.

        Files that no row knows count too: what was archived after an index was copied is there
        still when that copy is restored.
        """
        row = await self._index.look(partial(rows.find_blob, digest=digest))
        if row is None or row.state != rows.DAMAGED or await self.cold.problem() is not None:
            return False
        for info in await self.spares.of(digest):
            size_bytes = await self.spares.good_size(info)
            if size_bytes == row.size_bytes and await self._index.run(
                partial(_revive, damaged=row, number=info.number)
            ):
                log.warning("blob %s was damaged; the archive had its bytes", digest)
                return True
        return False

    async def remove_healed(self, digest: Digest) -> None:
        """Remove the damaged file of a healed blob, where a crash undid its way into quarantine."""
        row = await self._index.look(partial(rows.find_blob, digest=digest))
        if row is None or not row.is_present or not row.is_cold:
            return
        with suppress(BlobNotFound):
            await self._blobs.stat(digest)
            await self.remove_leftover(row)

    # What fsck asks for.

    async def recognise(self) -> None:
        """Take an archive in the data directory for ours again, after its index was lost."""
        if self.cold.files.is_own_place and await self.cold.is_there():
            with suppress(ArchiveUnavailable):
                await self.cold.prepare()

    async def adopt(self, info: ColdInfo, keep: Callable[[Tx], Awaitable[None]]) -> bool:
        """Make a blob of a file whose bytes match and whose digest has no row; `keep` refers to it.

        False if the bytes are not what the file is called, or somebody stored the digest meanwhile.
        """
        size_bytes = await self.spares.good_size(info)
        unit = partial(_adopt, info=info, size_bytes=size_bytes or 0, keep=keep)
        return size_bytes is not None and await self._index.run(unit)

    async def remove_leftover(self, row: BlobRow) -> bool:
        """Remove the own file of a cold blob; False if it is no longer as `row` has it."""
        assert row.archived is not None
        if await self.cold.has_lost(row.digest, row.archived, row.size_bytes):
            return False
        async with self._quarantine.moving():
            moving = await self._index.run(
                partial(rows.set_place, row=row, state=rows.MOVING, archived=row.archived)
            )
            if moving is None:
                return False
            await self._blobs.remove(row.digest)
            await self._index.run(partial(_arrive, moving=moving))
        return True

    async def status(self) -> ArchiveStatus:
        totals = await self._index.read(archive_totals)
        is_used = bool(totals.blobs or totals.spares)
        problem = await self.cold.problem() if is_used or await self.cold.is_there() else None
        free: int | None = None
        try:
            free = (await hop(self._threads.files, self.cold.files.free_bytes))[0]
        except (StoreError, OSError):
            log.debug("the archive at %s does not say how full it is", self.cold.files.where)
        return ArchiveStatus(self.cold.files.where, totals, free, problem)


def _pack(
    blobs: BlobStore, row: BlobRow, at: int, running: hashlib._Hash, writer: ColdWriter
) -> int:
    piece = blobs.read_blocking(row.digest, at, min(FRAME_BYTES, row.size_bytes - at))
    if piece:
        running.update(piece)
        writer.append(piece)
    return len(piece)


async def _is_free(tx: Tx, row: BlobRow, may_go: MayGo) -> bool:
    return not await claims.is_leased(tx, row.digest) and await may_go(tx, row)


async def _begin(tx: Tx, digest: Digest, may_go: MayGo) -> tuple[BlobRow, int] | None:
    row = await rows.find_blob(tx, digest)
    if row is None or not row.is_present or row.is_cold or not await _is_free(tx, row, may_go):
        return None
    return row, await begin_archived(tx, digest, row.size_bytes)


async def _announce(tx: Tx, row: BlobRow, number: int, may_go: MayGo) -> BlobRow | None:
    """Step 4, if the blob is the one whose file was read, and may still go."""
    now = await rows.find_blob(tx, row.digest)
    if now is None or (now.generation, now.state) != (row.generation, rows.PRESENT):
        return None
    is_ready = not now.is_cold and await is_spare(tx, row.digest, number)
    if not is_ready or not await _is_free(tx, now, may_go):
        return None
    await use_archived(tx, row.digest, number, row.size_bytes)
    return await rows.set_place(tx, now, state=rows.MOVING, archived=number)


async def _arrive(tx: Tx, moving: BlobRow) -> None:
    await rows.set_place(tx, moving, state=rows.PRESENT, archived=moving.archived)


async def _require_known(tx: Tx, stored: Sequence[StoredBlob]) -> None:
    """Thawing makes no blobs: one that was collected meanwhile stays collected."""
    [blob] = stored
    if not await claims.any_ref(tx, blob.digest):
        raise BlobNotFound(blob.digest)


async def _revive(tx: Tx, damaged: BlobRow, number: int) -> bool:
    row = await rows.find_blob(tx, damaged.digest)
    if row is None or (row.generation, row.state) != (damaged.generation, rows.DAMAGED):
        return False
    if not await is_spare(tx, row.digest, number):
        return False
    await use_archived(tx, row.digest, number, row.size_bytes)
    await rows.insert_cold(tx, row.digest, row.size_bytes, row.segments, number)
    return True


async def _adopt(
    tx: Tx, info: ColdInfo, size_bytes: int, keep: Callable[[Tx], Awaitable[None]]
) -> bool:
    if await rows.find_blob(tx, info.digest) is not None:
        return False
    if not await is_spare(tx, info.digest, info.number):
        return False
    await use_archived(tx, info.digest, info.number, size_bytes)
    await rows.insert_cold(tx, info.digest, size_bytes, None, info.number)
    await keep(tx)
    return True
