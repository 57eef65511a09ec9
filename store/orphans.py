"""Files that no row names: adopted if their bytes are what they are called, else set aside.

An index that was made anew knows none of its files, so there may be as many as there are blobs:
they are read many at a time and adopted by one transaction. Whatever is not plainly right (large,
other bytes, gone, moved meanwhile) is looked at again by itself.

**What is adopted is on the medium.** A write that failed may leave its pages in the cache, where
they look whole until the next start. So everything is synced first, which fails if the kernel still
knows of such a write; and then each file's pages are dropped and read anew, which finds those of
which somebody else was told before.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Collection, Sequence
from functools import partial
from typing import Final

from store.blobs import BlobInfo, BlobStore
from store.clock import boot_id
from store.digest import Digest
from store.errors import BlobNotFound, IndexConflict, Unavailable
from store.hands import Hands
from store.index import blobs as rows
from store.index import claims, state
from store.index.blobs import BlobRow
from store.index.many_blobs import Content, insert_adopted
from store.index.transactions import Index, Tx
from store.quarantine import DAMAGED, Quarantine, insert_aside
from store.scrub import Finding, Scrub
from store.segments import SEGMENT_BYTES, own_of
from store.threads import Threads, hop

RECOVERED: Final = "usr_recovered"
"""Owner of the pins of adopted blobs, so that the next collection does not take them again."""

AT_ONCE: Final = 2000
HASHED_BESIDE: Final = 4
"""How many threads hash small files, of which many are wanted at once."""


class Orphans:
    """Judges files without rows."""

    def __init__(
        self,
        blobs: BlobStore,
        index: Index,
        threads: Threads,
        scrub: Scrub,
        quarantine: Quarantine,
    ) -> None:
        self._threads = threads
        self._blobs = blobs
        self._index = index
        self._scrub = scrub
        self._quarantine = quarantine

    async def check(
        self, found: Sequence[BlobInfo], hands: Hands | None, *, repair: bool
    ) -> list[Finding]:
        """What is wrong with each of the files, in their order; nothing where a row is by now."""
        findings = []
        if repair and found:
            # Whoever gave them their names may have died before syncing anything. They are hashed
            # after it: what is read then is what is kept.
            await self._blobs.secure_all()
        for start in range(0, len(found), AT_ONCE):
            group = found[start : start + AT_ONCE]
            right = await self._right(group, hands, repair=repair)
            for info in group:
                if info.digest in right:
                    finding: Finding | None = _adopted(info.digest, repair)
                else:
                    finding = await self._check_one(info, repair=repair)
                if finding is not None:
                    findings.append(finding)
        return findings

    async def _right(
        self, group: Sequence[BlobInfo], hands: Hands | None, *, repair: bool
    ) -> Collection[Digest]:
        """Those whose bytes are right, adopted all together if wanted."""
        moves = await self._index.look(partial(state.counter, name="moves"))
        small = [info for info in group if info.size_bytes <= SEGMENT_BYTES]
        right = await (self._hashed(small) if hands is None else _hashed_by(hands, small))
        if not repair or not right:
            return {content.digest for content in right}
        try:
            return await self._index.run(partial(_adopt, found=right, moves=moves))
        except IndexConflict:  # some were stored anew meanwhile: one by one then
            return ()

    async def _hashed(self, small: Sequence[BlobInfo]) -> list[Content]:
        shares = [small[start::HASHED_BESIDE] for start in range(HASHED_BESIDE)]
        hashed = await asyncio.gather(
            *(hop(self._threads.reading, _hash_small, self._blobs, share) for share in shares)
        )
        return [right for share in hashed for right in share]

    async def _check_one(self, info: BlobInfo, *, repair: bool) -> Finding | None:
        if await self._index.look(partial(rows.find_blob, digest=info.digest)) is not None:
            return None  # stored anew while others were read
        moves = await self._index.look(partial(state.counter, name="moves"))
        try:
            running = await self._scrub.hash(info.digest, info.size_bytes)
            is_right = running.digest() == info.digest
            if is_right and repair:
                await self._blobs.secure(info.digest)
        except BlobNotFound:
            return None
        except Unavailable as error:
            return Finding(str(info.digest), f"orphan: cannot be read: {error}", "none")
        if is_right:
            segments = running.segments()
            own = None if segments.needs_file else segments.own
            adopt = partial(
                _adopt_one, digest=info.digest, size_bytes=running.size_bytes, own=own, moves=moves
            )
            if repair and not await self._index.run(adopt):
                return None
            return _adopted(info.digest, repair)
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


def _adopted(digest: Digest, repair: bool) -> Finding:
    return Finding(str(digest), "orphan", _action(repair, "adopted"))


async def _hashed_by(hands: Hands, small: Sequence[BlobInfo]) -> list[Content]:
    """Those of the files that hash to what they are called."""
    hashed = await hands.hash([(info.digest.hex, info.size_bytes) for info in small])
    return [
        Content(info.digest, info.size_bytes, segments)
        for info, segments in zip(small, hashed, strict=True)
        if segments is not None
    ]


def _hash_small(blobs: BlobStore, found: Sequence[BlobInfo]) -> list[Content]:
    """As `_hashed_by`, for stores without a cache of their own: memory, or a service."""
    whole = []
    for info in found:
        try:
            # No more than is needed: a buffer of a whole segment costs more than a small file.
            content = blobs.read_blocking(info.digest, 0, info.size_bytes + 1)
        except (BlobNotFound, Unavailable):
            continue
        if hashlib.sha256(content).hexdigest() == info.digest.hex:
            whole.append(Content(info.digest, len(content), own_of(content)))
    return whole


async def _adopt(tx: Tx, found: Sequence[Content], moves: int) -> Collection[Digest]:
    """Make blobs of orphans, unless something may have happened to them since they were read.

    Raises `IndexConflict` if one has a row by now.
    """
    if await state.counter(tx, "moves") != moves:
        return ()
    await insert_adopted(tx, found, boot_id())
    digests = [content.digest for content in found]
    await claims.keep_refs(tx, digests, RECOVERED, claims.PIN)
    return set(digests)


async def _adopt_one(
    tx: Tx, digest: Digest, size_bytes: int, own: bytes | None, moves: int
) -> bool:
    """The same of one; a large one's segments are left to be made."""
    if await state.counter(tx, "moves") != moves:
        return False
    if await rows.find_blob(tx, digest) is not None:
        return False
    await rows.insert_present(tx, digest, size_bytes, own, boot_id())
    await claims.keep_ref(tx, digest, RECOVERED, claims.PIN)
    return True


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
