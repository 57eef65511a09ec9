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

A crash before step 4 leaves a spare file in the archive, which `Archive.sweep` removes. A crash
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
from itertools import islice
from typing import Final, Literal, TypeAlias

import msgspec

from store.blobs import BlobStore
from store.clock import SECOND
from store.cold import Cold, ColdFile, ColdInfo, ColdWriter
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
from store.holds import live_holds
from store.index import blobs as rows
from store.index import claims, state
from store.index.archived import (
    ArchivedRow,
    ArchiveTotals,
    archive_totals,
    begin_archived,
    condemn_archived,
    delete_archived,
    find_archived,
    finish_archived,
    insert_archived,
    lose,
    spares_before,
    use_archived,
)
from store.index.blobs import BlobRow
from store.index.transactions import Index, Tx
from store.ingest import Ingest, StoredBlob
from store.quarantine import Quarantine
from store.threads import Threads, hop

log = logging.getLogger(__name__)

SWEEP_AT_ONCE: Final = 100
LIST_AT_ONCE: Final = 500

MayGo: TypeAlias = Callable[[Tx, BlobRow], Awaitable[bool]]
"""Whether everybody who refers to a blob can do with its bytes being cold. Runs in transactions."""

Pace: TypeAlias = Callable[[int], Awaitable[None]]
"""Told of each piece that was read; waits to keep a rate."""

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
        self._blobs = blobs
        self._cold = cold
        self._index = index
        self._threads = threads
        self._ingest = ingest
        self._quarantine = quarantine
        self._spare_seconds = spare_seconds

    # To the archive.

    async def cool(self, digest: Digest, may_go: MayGo, pace: Pace | None = None) -> Outcome:
        """Let the archive have the bytes of a blob instead of its own file.

        Raises `ArchiveUnavailable`, `StorageFull`, `Unavailable`; the blob is as it was then.
        """
        await self._cold.prepare()
        begun = await self._index.run(partial(_begin, digest=digest, may_go=may_go))
        if begun is None:
            return "kept"
        row, number = begun
        writer = self._cold.files.begin(digest, number, row.size_bytes)
        try:
            try:
                actual = await self._fill(writer, row, pace or _at_once)
            except BlobNotFound:
                return "lost"
            if actual != digest:
                await self._quarantine.convict(digest, row.generation)
                return "lost"
            stored = await hop(self._threads.sync, writer.finish)
            await self._verify(writer, digest, pace or _at_once)
            await hop(self._threads.sync, writer.promote)
        finally:
            await hop(self._threads.files, writer.discard)
        finish = partial(finish_archived, digest=digest, number=number, stored_bytes=stored)
        if not await self._index.run(finish):
            await hop(self._threads.files, self._cold.files.remove, digest, number)
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
            actual = await self._hash(file, pace)
        finally:
            await hop(self._threads.files, file.close)
        if actual != digest:
            raise Unavailable("writing to an archive that does not hold what was written")

    async def _hash(self, file: ColdFile, pace: Pace) -> Digest:
        running = hashlib.sha256()
        done = 0
        while done < file.size_bytes:
            got = await hop(self._threads.reading, _hash_piece, file, done, running)
            if not got:
                break
            done += got
            await pace(got)
        return Digest(running.hexdigest())

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

        Raises `BlobNotFound` if there is no such blob, `Corrupt` if the archive has damaged it,
        `ArchiveUnavailable`, `StorageFull`, and `Unavailable` for one on the move.
        """
        row = await self._index.look(partial(rows.find_blob, digest=digest))
        if row is None:
            raise BlobNotFound(digest)
        if not row.is_readable:
            raise Corrupt(digest) if row.state == rows.DAMAGED else Unavailable("thawing a blob")
        if row.archived is None:
            return False
        try:
            file = await self._cold.open(digest, row.archived)
        except BlobNotFound:
            raise await self._lost(row) from None
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
            piece = await hop(self._threads.reading, _piece, file, done)
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
        if row is None or row.state != rows.DAMAGED or await self._cold.problem() is not None:
            return False
        for info in reversed(await hop(self._threads.files, self._cold.files.files_of, digest)):
            try:
                file = await self._cold.open(digest, info.number)
            except BlobNotFound:
                continue
            try:
                is_good = (
                    file.size_bytes == row.size_bytes and await self._hash(file, _at_once) == digest
                )
            finally:
                await hop(self._threads.files, file.close)
            unit = partial(_revive, damaged=row, number=info.number, stored_bytes=info.stored_bytes)
            if is_good and await self._index.run(unit):
                log.warning("blob %s was damaged; the archive had its bytes", digest)
                return True
        return False

    # Spare files.

    async def sweep(self, *, everything: bool = False) -> int:
        """Remove files that nobody has needed for the undo window; return how many.

        While there is a hold nothing is removed, see `store.holds`: a copy of the index may name
        the file still.
        """
        removed = 0
        seconds = 0 if everything else self._spare_seconds
        while spares := await self._index.read(
            partial(_old_spares, seconds=seconds, limit=SWEEP_AT_ONCE)
        ):
            await self._cold.require()
            for spare in spares:
                removed += await self._remove(spare.digest, spare.number)
        return removed

    # What fsck asks for.

    async def has_lost(self, digest: Digest, number: int, size_bytes: int) -> bool:
        """Whether the archive, which can be read, has no such file of that size."""
        try:
            return not await self._cold.has(digest, number, size_bytes)
        except Unavailable:
            return False

    async def strays(self) -> AsyncIterator[ColdInfo | None]:
        """Every file of the archive: None for one that has its row, the file for one without."""
        files = self._cold.files.all_files()
        while some := await hop(self._threads.files, lambda: list(islice(files, LIST_AT_ONCE))):
            known = await self._index.read(partial(_known, files=some))
            for info in some:
                yield None if (info.digest, info.number) in known else info

    async def recognise(self) -> None:
        """Take an archive in the data directory for ours again, after its index was lost."""
        if self._cold.files.is_own_place and await self._cold.is_there():
            with suppress(ArchiveUnavailable):
                await self._cold.prepare()

    async def remove_stray(self, info: ColdInfo) -> bool:
        """Remove a file without a row, by way of a row that nobody can use."""
        if not await self._index.run(partial(_condemn_stray, info=info)):
            return False
        return await self._remove(info.digest, info.number)

    async def adopt(self, info: ColdInfo, keep: Callable[[Tx], Awaitable[None]]) -> bool:
        """Make a blob of a file whose bytes match and whose digest has no row; `keep` refers to it.

        False if the bytes are not what the file is called, or somebody stored the digest meanwhile.
        """
        try:
            file = await self._cold.open(info.digest, info.number)
        except BlobNotFound:
            return False
        try:
            is_good = await self._hash(file, _at_once) == info.digest
        finally:
            await hop(self._threads.files, file.close)
        unit = partial(_adopt, info=info, size_bytes=file.size_bytes, keep=keep)
        return is_good and await self._index.run(unit)

    async def remove_leftover(self, row: BlobRow) -> bool:
        """Remove the own file of a cold blob; False if it is no longer as `row` has it."""
        assert row.archived is not None
        if await self.has_lost(row.digest, row.archived, row.size_bytes):
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

    async def _remove(self, digest: Digest, number: int) -> bool:
        """Remove one file if it is spare still: condemned first, forgotten last."""
        if not await self._index.run(partial(condemn_archived, digest=digest, number=number)):
            return False
        await hop(self._threads.files, self._cold.files.remove, digest, number)
        await self._index.run(partial(delete_archived, digest=digest, number=number))
        return True

    async def status(self) -> ArchiveStatus:
        totals = await self._index.read(archive_totals)
        is_used = bool(totals.blobs or totals.spares)
        problem = await self._cold.problem() if is_used or await self._cold.is_there() else None
        free: int | None = None
        try:
            free = (await hop(self._threads.files, self._cold.files.free_bytes))[0]
        except (StoreError, OSError):
            log.debug("the archive at %s does not say how full it is", self._cold.files.where)
        return ArchiveStatus(self._cold.files.where, totals, free, problem)


def _pack(
    blobs: BlobStore, row: BlobRow, at: int, running: hashlib._Hash, writer: ColdWriter
) -> int:
    piece = blobs.read_blocking(row.digest, at, min(FRAME_BYTES, row.size_bytes - at))
    if piece:
        running.update(piece)
        writer.append(piece)
    return len(piece)


def _hash_piece(file: ColdFile, at: int, running: hashlib._Hash) -> int:
    piece = _piece(file, at)
    running.update(piece)
    return len(piece)


def _piece(file: ColdFile, at: int) -> bytes:
    buffer = bytearray(min(FRAME_BYTES, file.size_bytes - at))
    return bytes(buffer[: file.read_into(memoryview(buffer), at)])


async def _at_once(_: int) -> None:
    """No rate is kept."""


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
    file = await find_archived(tx, row.digest, number)
    if (
        now.is_cold
        or file is None
        or file.stored_bytes is None
        or not await _is_free(tx, now, may_go)
    ):
        return None
    await use_archived(tx, row.digest, number)
    return await rows.set_place(tx, now, state=rows.MOVING, archived=number)


async def _arrive(tx: Tx, moving: BlobRow) -> None:
    await rows.set_place(tx, moving, state=rows.PRESENT, archived=moving.archived)


async def _require_known(tx: Tx, stored: Sequence[StoredBlob]) -> None:
    """Thawing makes no blobs: one that was collected meanwhile stays collected."""
    [blob] = stored
    if not await claims.any_ref(tx, blob.digest):
        raise BlobNotFound(blob.digest)


async def _revive(tx: Tx, damaged: BlobRow, number: int, stored_bytes: int) -> bool:
    row = await rows.find_blob(tx, damaged.digest)
    if row is None or (row.generation, row.state) != (damaged.generation, rows.DAMAGED):
        return False
    file = await find_archived(tx, row.digest, number)
    if file is not None and (file.spare_since is None or file.stored_bytes is None):
        return False  # the quarantine names it, or it is about to go
    if file is None:
        await state.raise_counter(tx, "generation", number)
        await insert_archived(tx, row.digest, number, row.size_bytes, stored_bytes)
    await use_archived(tx, row.digest, number)
    await rows.insert_cold(tx, row.digest, row.size_bytes, row.segments, number)
    return True


async def _known(tx: Tx, files: Sequence[ColdInfo]) -> set[tuple[Digest, int]]:
    return {
        (info.digest, info.number)
        for info in files
        if await find_archived(tx, info.digest, info.number) is not None
    }


async def _condemn_stray(tx: Tx, info: ColdInfo) -> bool:
    if await find_archived(tx, info.digest, info.number) is not None:
        return False
    await insert_archived(tx, info.digest, info.number, 0, None)
    return await condemn_archived(tx, info.digest, info.number)


async def _adopt(
    tx: Tx, info: ColdInfo, size_bytes: int, keep: Callable[[Tx], Awaitable[None]]
) -> bool:
    """A number that this index has not given out yet must not be given out again."""
    if await rows.find_blob(tx, info.digest) is not None:
        return False
    if await find_archived(tx, info.digest, info.number) is not None:
        return False
    await state.raise_counter(tx, "generation", info.number)
    await insert_archived(tx, info.digest, info.number, size_bytes, info.stored_bytes)
    await use_archived(tx, info.digest, info.number)
    await rows.insert_cold(tx, info.digest, size_bytes, None, info.number)
    await keep(tx)
    return True


async def _old_spares(tx: Tx, seconds: int, limit: int) -> list[ArchivedRow]:
    if await live_holds(tx):
        return []
    return await spares_before(tx, tx.now - seconds * SECOND, limit)
