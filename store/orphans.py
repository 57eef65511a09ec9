"""Files that no row names: adopted if their bytes are what they are called, else set aside.

An index that was made anew knows none of its files, so there may be as many as there are blobs:
they are read many at a time and adopted by one transaction. Whatever is not plainly right (large,
other bytes, gone, moved meanwhile) is looked at again by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Final

from store.blobs import BlobInfo, BlobStore
from store.clock import boot_id
from store.digest import Digest
from store.errors import BlobNotFound, Unavailable
from store.hashing import RunningHash
from store.index import blobs as rows
from store.index import claims, state
from store.index.blobs import BlobRow
from store.index.transactions import Index, Tx
from store.quarantine import DAMAGED, Quarantine, insert_aside
from store.scrub import Finding, Scrub

RECOVERED: Final = "usr_recovered"
"""Owner of the pins of adopted blobs, so that the next collection does not take them again."""

AT_ONCE: Final = 256


class Orphans:
    """Judges files without rows."""

    def __init__(
        self, blobs: BlobStore, index: Index, scrub: Scrub, quarantine: Quarantine
    ) -> None:
        self._blobs = blobs
        self._index = index
        self._scrub = scrub
        self._quarantine = quarantine

    async def check(
        self, found: Sequence[BlobInfo], *, repair: bool
    ) -> AsyncIterator[Finding | None]:
        """One finding for each of the files, in their order; None where there is nothing wrong."""
        for start in range(0, len(found), AT_ONCE):
            group = found[start : start + AT_ONCE]
            right = await self._right(group, repair=repair)
            for info in group:
                if info.digest in right:
                    yield Finding(str(info.digest), "orphan", _action(repair, "adopted"))
                else:
                    yield await self._check_one(info, repair=repair)

    async def _right(self, group: Sequence[BlobInfo], *, repair: bool) -> set[Digest]:
        """Those whose bytes are right, adopted all together if wanted."""
        moves = await self._index.look(partial(state.counter, name="moves"))
        hashed = await self._scrub.hash_small(group)
        right = [
            running
            for info, running in zip(group, hashed, strict=True)
            if running is not None and running.digest() == info.digest
        ]
        if not repair or not right:
            return {running.digest() for running in right}
        # Whoever gave them their names may have died before syncing the directories.
        secured = await asyncio.gather(*(self._secured(running) for running in right))
        kept = [running for running, is_there in zip(right, secured, strict=True) if is_there]
        return await self._index.run(partial(_adopt, found=kept, moves=moves))

    async def _secured(self, running: RunningHash) -> bool:
        try:
            await self._blobs.secure(running.digest())
        except BlobNotFound:
            return False
        return True

    async def _check_one(self, info: BlobInfo, *, repair: bool) -> Finding | None:
        if await self._index.look(partial(rows.find_blob, digest=info.digest)) is not None:
            return None  # stored anew while others were read
        moves = await self._index.look(partial(state.counter, name="moves"))
        try:
            running = await self._scrub.hash(info.digest)
            is_right = running.digest() == info.digest
            if is_right and repair:
                await self._blobs.secure(info.digest)
        except BlobNotFound:
            return None
        except Unavailable as error:
            return Finding(str(info.digest), f"orphan: cannot be read: {error}", "none")
        if is_right:
            if repair and not await self._index.run(partial(_adopt, found=[running], moves=moves)):
                return None
            return Finding(str(info.digest), "orphan", _action(repair, "adopted"))
        if repair and not await self._reject(info, moves):
            return None
        return Finding(
            str(info.digest), "orphan: the bytes do not match", _action(repair, "set aside")
        )

    async def _reject(self, info: BlobInfo, moves: int) -> bool:
        """Move a file that never was a blob to quarantine, by way of a row that says so."""
        async with self._quarantine.moving():
            row = await self._index.run(partial(_announce_bad, info=info, moves=moves))
            if row is None:
                return False
            await self._quarantine.finish([row])
        await self._index.run(partial(_forget_bad, row=row))
        return True


def _action(repair: bool, done: str) -> str:
    return done if repair else "none"


async def _adopt(tx: Tx, found: Sequence[RunningHash], moves: int) -> set[Digest]:
    """Make blobs of orphans, unless something may have happened to them since they were read."""
    adopted: set[Digest] = set()
    if await state.counter(tx, "moves") != moves:
        return adopted
    for running in found:
        digest = running.digest()
        if await rows.find_blob(tx, digest) is not None:
            continue
        segments = running.segments()
        own = None if segments.needs_file else segments.own
        await rows.insert_present(tx, digest, running.size_bytes, own, boot_id())
        await claims.keep_ref(tx, digest, RECOVERED, claims.PIN)
        adopted.add(digest)
    return adopted


async def _announce_bad(tx: Tx, info: BlobInfo, moves: int) -> BlobRow | None:
    if await rows.find_blob(tx, info.digest) is not None:
        return None
    if await state.counter(tx, "moves") != moves:
        return None
    generation = await state.next_counter(tx, "generation")
    await state.next_counter(tx, "moves")
    await rows.insert_moving(tx, info.digest, info.size_bytes, generation, None)
    await insert_aside(tx, info.digest, generation, info.size_bytes, reason=DAMAGED)
    return await rows.find_blob(tx, info.digest)


async def _forget_bad(tx: Tx, row: BlobRow) -> None:
    """The digest was never stored: no row is what it had, and what it gets back."""
    if not await claims.any_ref(tx, row.digest):
        await rows.delete_blob(tx, row.digest, row.generation, rows.DAMAGED)
