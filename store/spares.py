"""Files of the archive that no blob and no quarantine names: found, used, removed.

A spare file is one being written, one that a thaw left, or one whose blob was purged. A *stray* has
no row at all: the index was lost, or a copy of it from before the file was made was restored.

**Nobody uses what somebody removes.** Removing begins with a transaction that condemns the file's
row if it is spare still; using one ends with a transaction that finds the row spare and not
condemned. A stray gets a row before either begins.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import partial
from itertools import islice
from typing import Final

from store.clock import SECOND
from store.cold import Cold, ColdInfo, hash_cold
from store.digest import Digest
from store.errors import BlobNotFound
from store.holds import live_holds
from store.index import state
from store.index.archived import (
    ArchivedRow,
    condemn_archived,
    delete_archived,
    find_archived,
    insert_archived,
    spares_before,
)
from store.index.transactions import Index, Tx
from store.threads import Threads, hop

SWEEP_AT_ONCE: Final = 100
LIST_AT_ONCE: Final = 500


class Spares:
    """The files of one store's archive that are not in use."""

    def __init__(self, cold: Cold, index: Index, threads: Threads, spare_seconds: int) -> None:
        self._cold = cold
        self._index = index
        self._threads = threads
        self._spare_seconds = spare_seconds

    async def sweep(self, *, everything: bool = False) -> int:
        """Remove files that nobody has needed for the undo window; return how many.

        While there is a hold nothing is removed, see `store.holds`: a copy of the index may name
        the file still. Raises `ArchiveUnavailable` if there is something to remove from there.
        """
        removed = 0
        seconds = 0 if everything else self._spare_seconds
        while spares := await self._index.read(partial(_old_spares, seconds=seconds)):
            await self._cold.require()
            for spare in spares:
                removed += await self._remove(spare.digest, spare.number)
        return removed

    async def of(self, digest: Digest) -> list[ColdInfo]:
        """Every file there is of a digest's bytes, in use or not, the latest first."""
        files = await hop(self._threads.files, self._cold.files.files_of, digest)
        return files[::-1]

    async def good_size(self, info: ColdInfo) -> int | None:
        """The plain size of a spare or stray file whose bytes match its name; None for others."""
        if not await self._index.run(partial(_register, info=info)):
            return None
        try:
            file = await self._cold.open(info.digest, info.number)
        except BlobNotFound:
            return None
        try:
            if file.size_bytes < 0 or await hash_cold(self._threads, file) != info.digest:
                return None
            return file.size_bytes
        finally:
            await hop(self._threads.files, file.close)

    async def strays(self) -> AsyncIterator[ColdInfo | None]:
        """Every file of the archive: None for one that has its row, the file for one without."""
        files = self._cold.files.all_files()
        while some := await hop(self._threads.files, lambda: list(islice(files, LIST_AT_ONCE))):
            known = await self._index.read(partial(_known, files=some))
            for info in some:
                yield None if (info.digest, info.number) in known else info

    async def remove(self, info: ColdInfo) -> bool:
        """Remove a file, stray or not, if nobody uses it."""
        await self._index.run(partial(_register, info=info))
        return await self._remove(info.digest, info.number)

    async def _remove(self, digest: Digest, number: int) -> bool:
        if not await self._index.run(partial(condemn_archived, digest=digest, number=number)):
            return False
        await hop(self._threads.files, self._cold.files.remove, digest, number)
        await self._index.run(partial(delete_archived, digest=digest, number=number))
        return True


async def is_spare(tx: Tx, digest: Digest, number: int) -> bool:
    """Whether a file is finished, nobody uses it, and nobody is about to remove it."""
    file = await find_archived(tx, digest, number)
    return file is not None and file.spare_since is not None and file.stored_bytes is not None


async def _register(tx: Tx, info: ColdInfo) -> bool:
    """Make sure that a file that was found has a row; False if it is used, or about to go.

    A number that this index has not given out yet must not be given out again.
    """
    if await find_archived(tx, info.digest, info.number) is None:
        await state.raise_counter(tx, "generation", info.number)
        await insert_archived(tx, info.digest, info.number, 0, info.stored_bytes)
    return await is_spare(tx, info.digest, info.number)


async def _known(tx: Tx, files: Sequence[ColdInfo]) -> set[tuple[Digest, int]]:
    return {
        (info.digest, info.number)
        for info in files
        if await find_archived(tx, info.digest, info.number) is not None
    }


async def _old_spares(tx: Tx, seconds: int) -> list[ArchivedRow]:
    if await live_holds(tx):
        return []
    return await spares_before(tx, tx.now - seconds * SECOND, SWEEP_AT_ONCE)
