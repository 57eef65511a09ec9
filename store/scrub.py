"""Re-hash what is stored; report, and take out of sight what is damaged.

Reading goes through the disk, not the page cache: the cache is dropped before and after, and files
are read, never mapped, so memory stays flat. The rate can be limited, so that a scrub of a large
store does not take the disk from everybody else.

Only SHA-256 convicts. A damaged file is moved aside rather than deleted: it may be the only copy,
and most of it may be fine. The next upload of its digest heals the blob, and so does the archive,
at once, if it has a spare file of the same bytes. Cold blobs are read where they are, decompressed.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Final

import msgspec

from store.archive import Archive
from store.backends.walking import forget_pages
from store.blobs import BlobStore, SupportsLocalPath
from store.clock import boot_id
from store.cold import Cold, ColdFile
from store.digest import Digest
from store.durable import translated
from store.errors import BlobNotFound, Corrupt, Unavailable
from store.hashing import RunningHash
from store.index import blobs as rows
from store.index.archived import lose
from store.index.blobs import BlobRow
from store.index.totals import blob_totals
from store.index.transactions import Index, Tx
from store.pace import SteadyPace
from store.quarantine import Quarantine
from store.threads import Threads, hop

log = logging.getLogger(__name__)

PAGE: Final = 200
READ_BYTES: Final = 1 << 20


class Finding(msgspec.Struct, frozen=True):
    """Something that is not as it should be with one digest."""

    digest: str
    problem: str
    action: str


class ScrubProgress(msgspec.Struct, frozen=True):
    """How far a scrub is; totals are those at its start."""

    blobs: int
    bytes: int
    total_blobs: int
    total_bytes: int


class ScrubReport(msgspec.Struct, frozen=True):
    """What a scrub read and found. `findings` is empty when every byte was right."""

    blobs: int
    bytes: int
    findings: list[Finding]


class Scrub:
    """Verifies stored blobs against their digests."""

    def __init__(
        self,
        blobs: BlobStore,
        cold: Cold,
        index: Index,
        threads: Threads,
        quarantine: Quarantine,
        archive: Archive,
    ) -> None:
        self._blobs = blobs
        self._cold = cold
        self._archive = archive
        self._index = index
        self._threads = threads
        self._quarantine = quarantine
        self.checked_blobs = 0
        """Blobs that this process has read to the end, whatever for."""
        self.checked_bytes = 0
        self.damaged_blobs = 0
        """Those of them that were missing or had other bytes."""

    async def run(
        self,
        *,
        rate_bytes_per_second: int | None = None,
        report: Callable[[ScrubProgress], None] | None = None,
        only: Sequence[Digest] = (),
    ) -> ScrubReport:
        """Verify all blobs, or those named; damaged ones are set aside."""
        total_blobs, total_bytes = await self._total()
        pace = SteadyPace(rate_bytes_per_second)
        findings: list[Finding] = []
        blobs = size_bytes = 0
        async for row in self._rows(only):
            finding = await self._verify(row, pace)
            blobs += 1
            size_bytes += row.size_bytes
            if finding is not None:
                findings.append(finding)
            if report is not None:
                report(ScrubProgress(blobs, size_bytes, total_blobs, total_bytes))
        if not only:
            findings += await self._heal_damaged()
        return ScrubReport(blobs, size_bytes, findings)

    async def _heal_damaged(self) -> list[Finding]:
        """Blobs found damaged before get another chance: the archive may be readable now."""
        findings = []
        for row in await self._index.read(rows.damaged_blobs):
            if await self._archive.heal(row.digest):
                await self._archive.remove_healed(row.digest)
                healed = Finding(
                    str(row.digest), "it was damaged before", "healed from the archive"
                )
                findings.append(healed)
        return findings

    async def check(self, digest: Digest) -> bool:
        """Verify one blob that a reader found suspect; say whether it is whole."""
        row = await self._index.look(partial(rows.find_blob, digest=digest))
        if row is None or not row.is_present:
            return False
        return await self._verify(row, SteadyPace(None)) is None

    async def hash(self, digest: Digest, size_bytes: int) -> RunningHash:
        """Hash one stored file, row or no row, that should be so long, to its end.

        Raises `BlobNotFound`, `Unavailable`.
        """
        return await self._hash(digest, size_bytes, SteadyPace(None))

    async def _verify(self, row: BlobRow, pace: SteadyPace) -> Finding | None:
        try:
            if row.archived is not None:
                running = await self._hash_cold(row, row.archived, pace)
            else:
                running = await self._hash(row.digest, row.size_bytes, pace)
        except BlobNotFound:
            if not await self._index.run(partial(lose, row=row)):
                return None  # it has changed places since its row was read
            return await self._found(row, "the file is missing", "marked damaged")
        except Unavailable as error:
            return Finding(str(row.digest), f"the file cannot be read: {error}", "none")
        self.checked_blobs += 1
        self.checked_bytes += running.size_bytes
        if running.digest() != row.digest:
            if not await self._quarantine.convict(row.digest, row.generation):
                return None
            return await self._found(row, "the bytes do not match", "set aside")
        await self._note(row, running)
        return None

    async def _found(self, row: BlobRow, problem: str, action: str) -> Finding:
        """What was found and done, and whether the archive had the bytes after all."""
        self.damaged_blobs += 1
        if await self._archive.heal(row.digest):
            action = f"{action}, healed from the archive"
            await self._archive.remove_healed(row.digest)
        return Finding(str(row.digest), problem, action)

    async def _hash_cold(self, row: BlobRow, number: int, pace: SteadyPace) -> RunningHash:
        running = RunningHash()
        file = await self._cold.open(row.digest, number)
        if file.size_bytes != row.size_bytes:
            await hop(self._threads.files, file.close)
            raise BlobNotFound(row.digest)
        try:
            await hop(self._threads.reading, file.forget_pages)
            while running.size_bytes < file.size_bytes:
                before = running.size_bytes
                await hop(self._threads.reading, _hash_cold_piece, running, file)
                if running.size_bytes == before:
                    break
                await pace.wait(running.size_bytes - before)
            await hop(self._threads.reading, file.forget_pages)
        finally:
            await hop(self._threads.files, file.close)
        return running

    async def _hash(self, digest: Digest, size_bytes: int, pace: SteadyPace) -> RunningHash:
        running = RunningHash()
        pool = self._threads.reading
        path = self._blobs.path_of(digest) if isinstance(self._blobs, SupportsLocalPath) else None
        if path is not None:
            await hop(pool, _forget_pages, str(path))
        read = partial(self._blobs.read_into_blocking, digest)
        # One byte more than there should be, so that a file that grew is found too.
        buffer = memoryview(bytearray(min(READ_BYTES, size_bytes + 1)))
        while True:
            got = await hop(pool, _hash_piece, running, read, buffer)
            await pace.wait(got)
            if got < len(buffer):
                break
        if path is not None:
            await hop(pool, _forget_pages, str(path))
        return running

    async def _note(self, row: BlobRow, running: RunningHash) -> None:
        """Remember when the blob was whole, and renew its segments if they are missing or wrong."""
        segments = running.segments()
        if segments.needs_file:
            content = segments.encode()
            if await self._blobs.read_segments(row.digest) != content:
                await self._blobs.write_segments(row.digest, content)

        async def unit(tx: Tx) -> None:
            await rows.set_verified(tx, row.digest, row.generation, segments.own, boot_id())

        await self._index.run(unit)

    async def _total(self) -> tuple[int, int]:
        totals = await self._index.read(blob_totals)
        return totals.get(rows.PRESENT, (0, 0))

    async def _rows(self, only: Sequence[Digest]) -> AsyncIterator[BlobRow]:
        if only:
            for digest in only:
                row = await self._index.look(partial(rows.find_blob, digest=digest))
                if row is None:
                    raise BlobNotFound(digest)
                if not row.is_present:
                    raise Corrupt(digest)
                yield row
            return
        after = b""
        while page := await self._index.read(partial(rows.blobs_after, after=after, limit=PAGE)):
            for row in page:
                if row.is_present:
                    yield row
            after = page[-1].digest.raw


def _hash_piece(
    running: RunningHash, read: Callable[[memoryview, int], int], buffer: memoryview
) -> int:
    got = read(buffer, running.size_bytes)
    if got:
        running.update([buffer[:got]])
    return got


def _hash_cold_piece(running: RunningHash, file: ColdFile) -> None:
    buffer = bytearray(min(READ_BYTES, file.size_bytes - running.size_bytes))
    got = file.read_into(memoryview(buffer), running.size_bytes)
    running.update([memoryview(buffer)[:got]])


def _forget_pages(path: str) -> None:
    """Drop a file from the page cache, so that what is read next comes from the disk."""
    try:
        with translated("open"):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        forget_pages(descriptor)
    finally:
        os.close(descriptor)
