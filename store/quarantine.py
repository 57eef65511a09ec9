"""Drives ``moving``: the only mover of visible files, used by collection, scrub and fsck.

Taking a blob away has three steps, and nothing else may touch a file that a row names:

1. One transaction sets the row to ``moving`` and writes the quarantine row: what is moved, under
   which generation and why.
2. The file moves to ``quarantine/<digest>.<generation>``; both directories are synced.
3. One transaction deletes the blob's row (collected) or sets it ``damaged``.

Bringing it back runs the same steps the other way round. ``moving`` is the lock: no lock is held
while files move, uploads of the digest wait for the row, readers get a clear answer.

After a crash `settle` reads the quarantine rows and looks where the files are: a file that has not
left is declared present again, one that has arrived is finished. Both are right whichever way the
move was going. Movers hold `store.locks.MoveLock` together and `settle` holds it alone, so that it
never settles a move that is under way in another process.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import msgspec
from sqlalchemy import bindparam, delete, func, insert, select

from store.blobs import BlobStore
from store.cold import Cold
from store.digest import Digest
from store.errors import BlobNotFound, Unavailable
from store.index import blobs as rows
from store.index import claims, state
from store.index.archived import spare_archived
from store.index.blobs import BlobRow
from store.index.schema import quarantine
from store.index.transactions import Index, Row, Statement, Tx
from store.locks import MoveLock

log = logging.getLogger(__name__)

COLLECTED: Final = "collected"
DAMAGED: Final = "damaged"

SETTLE_WAIT_SECONDS: Final = 2.0


class AsideRow(msgspec.Struct, frozen=True):
    """A quarantined file, or one on its way."""

    digest: Digest
    generation: int
    size_bytes: int
    reason: str
    collection: str | None
    segments: bytes | None
    moved_at: int
    archived: int | None = None
    """Which file of the archive has the bytes, which stay there."""


def _aside(row: Row) -> AsideRow:
    return AsideRow(Digest(row[0].hex()), *row[1:])


_FIND = Statement(
    lambda: select(quarantine).where(
        quarantine.c.digest == bindparam("digest"),
        quarantine.c.generation == bindparam("generation"),
    )
)
_INSERT = Statement(
    lambda: insert(quarantine).values(
        digest=bindparam("digest"),
        generation=bindparam("generation"),
        size=bindparam("size"),
        reason=bindparam("reason"),
        collection=bindparam("collection"),
        segments=bindparam("segments"),
        moved_at=bindparam("now"),
        archived=bindparam("archived"),
    )
)
_DELETE = Statement(
    lambda: delete(quarantine).where(
        quarantine.c.digest == bindparam("digest_"),
        quarantine.c.generation == bindparam("generation_"),
    )
)
_OF_COLLECTION = Statement(
    lambda: (
        select(quarantine)
        .where(quarantine.c.collection == bindparam("collection"))
        .order_by(quarantine.c.digest)
        .limit(bindparam("limit"))
    )
)
_OLD = Statement(
    lambda: (
        select(quarantine)
        .where(quarantine.c.moved_at <= bindparam("before"))
        .order_by(quarantine.c.digest, quarantine.c.generation)
        .limit(bindparam("limit"))
    )
)
_PAGE = Statement(
    lambda: (
        select(quarantine)
        .where(quarantine.c.digest > bindparam("after"))
        .order_by(quarantine.c.digest, quarantine.c.generation)
        .limit(bindparam("limit"))
    )
)
_TOTALS = Statement(
    lambda: select(
        quarantine.c.reason, func.count(), func.coalesce(func.sum(quarantine.c.size), 0)
    ).group_by(quarantine.c.reason)
)


async def find_aside(tx: Tx, digest: Digest, generation: int) -> AsideRow | None:
    row = await tx.one(_FIND, digest=digest.raw, generation=generation)
    return None if row is None else _aside(row)


async def insert_aside(
    tx: Tx,
    digest: Digest,
    generation: int,
    size_bytes: int,
    *,
    reason: str,
    collection: str | None = None,
    segments: bytes | None = None,
    archived: int | None = None,
) -> None:
    await tx.run(
        _INSERT,
        digest=digest.raw,
        generation=generation,
        size=size_bytes,
        reason=reason,
        collection=collection,
        segments=segments,
        archived=archived,
        now=tx.now,
    )


async def insert_aside_of_cold(
    tx: Tx, row: BlobRow, *, reason: str, collection: str | None = None
) -> None:
    """Take a cold blob's file into quarantine where it is: only its row changes hands."""
    await state.next_counter(tx, "moves")
    await insert_aside(
        tx,
        row.digest,
        row.generation,
        row.size_bytes,
        reason=reason,
        collection=collection,
        segments=row.segments,
        archived=row.archived,
    )


async def delete_aside(tx: Tx, digest: Digest, generation: int) -> None:
    await tx.run(_DELETE, digest_=digest.raw, generation_=generation)


async def asides_of(tx: Tx, collection: str, limit: int) -> list[AsideRow]:
    """Quarantined files of one collection that can still be brought back."""
    return [_aside(row) for row in await tx.all(_OF_COLLECTION, collection=collection, limit=limit)]


async def asides_before(tx: Tx, before: int, limit: int) -> list[AsideRow]:
    """Quarantined files that were moved at or before a time."""
    return [_aside(row) for row in await tx.all(_OLD, before=before, limit=limit)]


async def asides_after(tx: Tx, after: bytes, limit: int) -> list[AsideRow]:
    return [_aside(row) for row in await tx.all(_PAGE, after=after, limit=limit)]


async def aside_totals(tx: Tx) -> dict[str, tuple[int, int]]:
    """Reason to (files, bytes)."""
    return {row[0]: (row[1], row[2]) for row in await tx.all(_TOTALS)}


class Quarantine:
    """Moves files between their names and the quarantine, a few at a time."""

    def __init__(self, blobs: BlobStore, cold: Cold, index: Index, lock: MoveLock) -> None:
        self._blobs = blobs
        self._cold = cold
        self._index = index
        self._lock = lock

    @asynccontextmanager
    async def moving(self) -> AsyncIterator[None]:
        """Held by whoever announces a move, until `finish` has returned."""
        async with self._lock.shared():
            yield

    async def convict(self, digest: Digest, generation: int) -> bool:
        """Take a damaged blob out of sight; its row stays as ``damaged`` so that readers know.

        False if the blob is no longer that generation and present.
        """

        async def announce(tx: Tx) -> BlobRow | None:
            row = await rows.find_blob(tx, digest)
            if row is None or row.generation != generation or not row.is_present:
                return None
            if row.archived is not None:
                await insert_aside_of_cold(tx, row, reason=DAMAGED)
                await rows.set_place(tx, row, state=rows.DAMAGED, archived=None)
                return row
            await rows.change_state(tx, digest, generation, rows.PRESENT, rows.MOVING)
            await insert_aside(
                tx, digest, generation, row.size_bytes, reason=DAMAGED, segments=row.segments
            )
            return row

        async with self.moving():
            row = await self._index.run(announce)
            if row is None:
                return False
            await self.finish([] if row.is_cold else [row])
        log.error("blob %s is damaged; its file was set aside", digest)
        return True

    async def finish(self, moving: Sequence[BlobRow]) -> None:
        """Steps 2 and 3 for blobs whose rows say ``moving``; the caller holds `moving`."""
        lost = [
            row for row in moving if not await self._blobs.set_aside(row.digest, row.generation)
        ]
        await self._index.run(partial(_settle_gone, moving=moving, lost=lost))
        for row in moving:
            await self._blobs.discard_segments(row.digest)

    async def settle(self) -> int:
        """Finish or revert the moves that a crash or a failure interrupted; return how many.

        Anybody may call it at any time. It does nothing while others are moving files.
        """
        if not await self._index.read(rows.moving_blobs):
            return 0
        async with self._lock.alone(SETTLE_WAIT_SECONDS) as is_alone:
            return await self._settle_all() if is_alone else 0

    async def _settle_all(self) -> int:
        moving = await self._index.read(rows.moving_blobs)
        asides = {(aside.digest, aside.generation) async for aside in self._blobs.list_aside()}
        for row in moving:
            if row.archived is not None:
                is_hot = await self._is_secured(row.digest)
                await self._index.run(partial(_settle_cooling, row=row, is_hot=is_hot))
            elif (row.digest, row.generation) in asides:
                await self._index.run(partial(_settle_gone, moving=[row]))
            elif await self._is_secured(row.digest):
                await self._index.run(partial(_settle_back, row=row))
            else:
                log.error("blob %s was moving and has no file; marked damaged", row.digest)
                await self._index.run(partial(_settle_lost, row=row))
        return len(moving)

    async def bring_back(self, aside: AsideRow) -> bool:
        """Undo a move; False if the digest has been stored anew meanwhile.

        Raises `Unavailable` if the digest is being moved by somebody else right now.
        """
        async with self.moving():
            return await self._bring_back(aside)

    async def _bring_back(self, aside: AsideRow) -> bool:
        if aside.archived is not None:
            return await self._bring_back_cold(aside, aside.archived)

        async def announce(tx: Tx) -> bool:
            row = await rows.find_blob(tx, aside.digest)
            if row is not None and row.state == rows.MOVING:
                raise Unavailable("bringing back a blob that is being moved")
            if row is not None and row.is_present:
                return False
            await state.next_counter(tx, "moves")
            await rows.insert_moving(
                tx, aside.digest, aside.size_bytes, aside.generation, aside.segments
            )
            return True

        if not await self._index.run(announce):
            return False
        try:
            await self._blobs.put_back(aside.digest, aside.generation)
        except BlobNotFound:
            log.error("quarantined file of %s is gone", aside.digest)
            await self._index.run(partial(_forget, aside=aside))
            return False
        await self._index.run(partial(_settle_returned, aside=aside))
        return True

    async def _bring_back_cold(self, aside: AsideRow, number: int) -> bool:
        """Let the blob's row name the file in the archive again, if that is there.

        Raises `ArchiveUnavailable`.
        """
        is_there = await self._cold.has(aside.digest, number, aside.size_bytes)
        if not is_there:
            log.error("quarantined file of %s is not in the archive", aside.digest)
        return await self._index.run(partial(_return_cold, aside=aside, is_there=is_there))

    async def discard(self, asides: Sequence[AsideRow]) -> list[AsideRow]:
        """Remove quarantined files for good and return which; those on their way stay.

        The files first, so that no file is left unnamed, then their rows in one transaction. A file
        of the archive becomes one that nobody wants; sweeping the archive removes it.
        """
        discarded = await self._index.read(partial(_resting, asides=asides))
        for aside in discarded:
            if aside.archived is None:
                await self._blobs.discard_aside(aside.digest, aside.generation)
        if discarded:
            await self._index.run(partial(_discard, asides=discarded))
        return discarded

    async def _is_secured(self, digest: Digest) -> bool:
        """Whether the file is at its name, durably: its mover may have died before the syncs."""
        try:
            await self._blobs.secure(digest)
        except BlobNotFound:
            return False
        return True


async def _settle_gone(tx: Tx, moving: Sequence[BlobRow], lost: Sequence[BlobRow] = ()) -> None:
    """Step 3: the files are in quarantine, except those of `lost` blobs, which had none."""
    for row in moving:
        aside = await find_aside(tx, row.digest, row.generation)
        await _leave(tx, row, is_damaged=aside is not None and aside.reason == DAMAGED)
    for row in lost:
        await delete_aside(tx, row.digest, row.generation)


async def _leave(tx: Tx, row: BlobRow | AsideRow, *, is_damaged: bool) -> None:
    """End a move whose file is not at its name: no row, or damaged if somebody misses the blob.

    Somebody does where a damaged blob was to be brought back and a crash came between.
    """
    if is_damaged or await claims.any_ref(tx, row.digest):
        await rows.change_state(tx, row.digest, row.generation, rows.MOVING, rows.DAMAGED)
    else:
        await rows.delete_blob(tx, row.digest, row.generation, rows.MOVING)


async def _settle_cooling(tx: Tx, row: BlobRow, is_hot: bool) -> None:
    """The archive has the bytes; the blob's own file was about to go, or has gone."""
    settled = await rows.set_place(
        tx, row, state=rows.PRESENT, archived=None if is_hot else row.archived
    )
    if is_hot and settled is not None and row.archived is not None:
        await spare_archived(tx, row.digest, row.archived, tx.now)


async def _return_cold(tx: Tx, aside: AsideRow, is_there: bool) -> bool:
    row = await rows.find_blob(tx, aside.digest)
    if row is not None and row.state == rows.MOVING:
        raise Unavailable("bringing back a blob that is being moved")
    assert aside.archived is not None
    if row is not None and row.is_present:
        return False
    if await find_aside(tx, aside.digest, aside.generation) is None:
        return False
    await delete_aside(tx, aside.digest, aside.generation)
    if not is_there:
        await spare_archived(tx, aside.digest, aside.archived, 0)
        return False
    await rows.insert_cold(tx, aside.digest, aside.size_bytes, aside.segments, aside.archived)
    return True


async def _resting(tx: Tx, asides: Sequence[AsideRow]) -> list[AsideRow]:
    """Those whose file is not on its way, there or back; a file of the archive never is."""
    resting = []
    for aside in asides:
        row = None if aside.archived is not None else await rows.find_blob(tx, aside.digest)
        if row is None or (row.state, row.generation) != (rows.MOVING, aside.generation):
            resting.append(aside)
    return resting


async def _discard(tx: Tx, asides: Sequence[AsideRow]) -> None:
    for aside in asides:
        if aside.archived is None:
            await delete_aside(tx, aside.digest, aside.generation)
        elif await find_aside(tx, aside.digest, aside.generation) is not None:
            await delete_aside(tx, aside.digest, aside.generation)
            await spare_archived(tx, aside.digest, aside.archived, 0)


async def _settle_back(tx: Tx, row: BlobRow) -> None:
    """The file has not left, or is back: the blob is present."""
    if await rows.return_present(tx, row.digest, row.generation):
        await delete_aside(tx, row.digest, row.generation)


async def _settle_lost(tx: Tx, row: BlobRow) -> None:
    await rows.change_state(tx, row.digest, row.generation, rows.MOVING, rows.DAMAGED)
    await delete_aside(tx, row.digest, row.generation)


async def _settle_returned(tx: Tx, aside: AsideRow) -> None:
    """A returned blob gets a new generation, as every blob that becomes present does."""
    if await rows.return_present(tx, aside.digest, aside.generation):
        await delete_aside(tx, aside.digest, aside.generation)


async def _forget(tx: Tx, aside: AsideRow) -> None:
    await _leave(tx, aside, is_damaged=False)
    await delete_aside(tx, aside.digest, aside.generation)
