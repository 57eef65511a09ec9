"""Compare index and directory both ways; with `repair`, rebuild rows and adopt orphans.

What it looks for, and what a repair does:

=================== ================================================= ==========================
Problem             Meaning                                           Repair
=================== ================================================= ==========================
missing             a present row without a whole file                the row says damaged, a
                                                                      short file is set aside
orphan              a whole file without a row                        a row, and a pin of its own
damaged orphan      a file without a row, not matching its name       set aside
stray upload        a staging file without a session or a writer      removed
lost upload         a session whose staging file is gone              the session is forgotten
stray quarantine    a quarantined file without a row                  a row, so that it is purged
lost quarantine     a quarantine row without a file                   the row is forgotten
leftover            a file of a blob whose bytes the archive has      removed
stray in archive    a file of the archive without a row               removed, unless its blob
                                                                      is damaged or absent: then
                                                                      the blob has it again
unreachable         cold blobs, and an archive that cannot be read    none: nothing is known
dangling            a reference to an absent or damaged blob          none: upload it again
unsettled           a move that a crash interrupted                   finished or reverted
=================== ================================================= ==========================

Files younger than the grace period are left alone: somebody may be at work on them. So are staging
files that somebody writes, however old they are or short the period is.
Adopted orphans are pinned for `RECOVERED`, so that the next collection does not take them again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from functools import partial
from typing import Final, TypeAlias

import msgspec

from store.archive import Archive
from store.blobs import BlobInfo, BlobStore
from store.clock import SECOND
from store.cold import ColdInfo
from store.digest import Digest
from store.errors import BlobNotFound
from store.hands import NOTHING, Hands, Page, pages_of, working_on
from store.index import blobs as rows
from store.index import claims, places
from store.index.archived import lose, spare_archived
from store.index.blobs import BlobRow
from store.index.transactions import Index, Tx
from store.index.uploads import FINISHED, uploads_after
from store.orphans import RECOVERED, Orphans
from store.quarantine import (
    DAMAGED,
    AsideRow,
    Quarantine,
    asides_after,
    delete_aside,
    find_aside,
    insert_aside,
)
from store.scrub import Finding, Scrub
from store.strays import is_lost, is_stray
from store.threads import Threads

PAGE: Final = 500
FILES_AT_ONCE: Final = 2000
ROWS_AT_ONCE: Final = 2000
"""More at once would hold the event loop for longer than others should wait."""
REPORT_EVERY: Final = 100

CHECKED_AHEAD: Final = 2
"""So many groups of orphans are judged at once: one is read while another is recorded."""

Looked: TypeAlias = Finding | Sequence[Finding] | int
"""What is wrong, or how many things were looked at and are not."""

LAST: Final = b"\xff" * 33
"""Behind every digest."""


class _Files:
    """How many files were seen; what else was, is rows."""

    seen = 0


class FsckReport(msgspec.Struct, frozen=True):
    """What was looked at and what was wrong; `findings` is empty when nothing was."""

    rows: int
    files: int
    uploads: int
    quarantined: int
    findings: list[Finding]
    archived: int = 0


class Fsck:
    """Checks a store against its directory, online."""

    def __init__(
        self,
        blobs: BlobStore,
        index: Index,
        threads: Threads,
        scrub: Scrub,
        quarantine: Quarantine,
        archive: Archive,
        *,
        grace_seconds: int,
    ) -> None:
        self._blobs = blobs
        self._archive = archive
        self._cold = archive.cold
        self._index = index
        self._threads = threads
        self._orphans = Orphans(blobs, index, threads, scrub, quarantine)
        self._quarantine = quarantine
        self._grace = grace_seconds * SECOND

    async def run(
        self, *, repair: bool, report: Callable[[str, int], None] | None = None
    ) -> FsckReport:
        """Look at everything; `report` hears the name of a pass and how much of it is done."""
        findings: list[Finding] = []
        counts = []
        files = _Files()
        for name, checks in (
            ("rows", self._check_blobs(files, repair)),
            ("uploads", self._check_uploads(repair)),
            ("quarantine", self._check_quarantine(repair)),
            ("archive", self._check_archive(repair)),
        ):
            seen = told = 0
            async with aclosing(checks):
                async for looked in checks:
                    if isinstance(looked, int):
                        seen += looked
                    else:
                        found = [looked] if isinstance(looked, Finding) else looked
                        seen += len(found)
                        findings += found
                    if report is not None and seen >= told + REPORT_EVERY:
                        told = seen
                        report(name, seen)
            if report is not None:
                report(name, seen)
            counts.append(seen)
        for digest, owner, kind in await self._index.read(claims.dangling_refs):
            findings.append(Finding(str(digest), f"dangling: needed by {owner} ({kind})", "none"))
        entries, uploads, quarantined, archived = counts
        rows_seen = entries - files.seen
        return FsckReport(rows_seen, files.seen, uploads, quarantined, findings, archived)

    async def _check_blobs(self, files: _Files, repair: bool) -> AsyncGenerator[Looked, None]:
        """Go through files and rows together, both in order of digest.

        Where the two agree nothing more is asked; where they do not, it may be that one was read
        before the other, so row or file is looked at again by itself. Each row counts as one
        thing looked at, and each file. Orphans are judged while more is listed.
        """
        judging: deque[asyncio.Task[list[Finding]]] = deque()
        async with working_on(self._blobs, self._threads) as hands:
            try:
                async with aclosing(self._go_through(files, repair, hands, judging)) as all_looked:
                    async for looked in all_looked:
                        yield looked
                while judging:
                    yield await judging.popleft()
            finally:
                for task in judging:
                    task.cancel()
                await asyncio.gather(*judging, return_exceptions=True)

    async def _go_through(
        self,
        files: _Files,
        repair: bool,
        hands: Hands | None,
        judging: deque[asyncio.Task[list[Finding]]],
    ) -> AsyncGenerator[Looked, None]:
        orphans: list[BlobInfo] = []
        after, has_more = b"", True
        async with aclosing(pages_of(self._blobs, hands, FILES_AT_ONCE)) as pages:
            while has_more:
                page = await anext(pages, NOTHING)
                has_more = page.count > 0
                last = page.last if has_more else LAST
                async for looked in self._compare(after, last, page, orphans, repair):
                    yield looked
                files.seen += page.count
                after = last
                if orphans and (len(orphans) >= FILES_AT_ONCE or not has_more):
                    if len(judging) >= CHECKED_AHEAD:
                        yield await judging.popleft()
                    check = self._orphans.check(orphans, hands, repair=repair)
                    judging.append(asyncio.create_task(check))
                    orphans = []

    async def _compare(
        self, after: bytes, last: bytes, page: Page, orphans: list[BlobInfo], repair: bool
    ) -> AsyncGenerator[Looked, None]:
        """The files of a page, and the rows of all digests behind `after` up to `last`.

        The index says as one text which files it expects, which is the page's if all is well.
        """
        expected, now = await self._index.read(
            partial(_expected_with_time, after=after, last=last, limit=page.count + 1)
        )
        if expected.is_all_own and expected.text == page.text:
            yield 2 * page.count
        elif expected.rows:
            async for looked in self._compare_each(after, last, page.infos(), orphans, repair):
                yield looked
        else:
            for info in page.infos():
                if info.modified_at > now - self._grace:
                    yield 1
                else:
                    orphans.append(info)

    async def _compare_each(
        self,
        after: bytes,
        last: bytes,
        page: Sequence[BlobInfo],
        orphans: list[BlobInfo],
        repair: bool,
    ) -> AsyncGenerator[Looked, None]:
        infos = {info.digest.raw: info for info in page}
        sizes = {(raw, info.size_bytes) for raw, info in infos.items()}
        others: dict[bytes, BlobRow] = {}
        start: bytes | None = after
        while start is not None:
            found, now = await self._index.read(partial(_places_with_time, after=start, last=last))
            differing = found.own - sizes
            agreeing = [row for row in found.others if row.state == rows.DAMAGED]
            yield len(found.own) - len(differing) + len(agreeing)
            for raw, _ in sorted(differing):
                row = await self._index.look(partial(rows.find_blob, digest=Digest(raw.hex())))
                yield 1 if row is None else await self._check_row(row, repair) or 1
            for row in found.others:
                if row.state != rows.DAMAGED:
                    yield await self._check_row(row, repair) or 1
            others.update((row.digest.raw, row) for row in found.others)
            for raw, _ in found.own:
                infos.pop(raw, None)
            start = found.last
        yield len(page) - len(infos)
        for raw, info in infos.items():
            beside = others.get(raw)
            if info.modified_at > now - self._grace:
                yield 1
            elif beside is None:
                orphans.append(info)
            else:
                yield await self._check_leftover(beside, repair) or 1

    async def _check_row(self, row: BlobRow, repair: bool) -> Finding | None:
        if row.state == rows.MOVING:
            return Finding(str(row.digest), "unsettled: a move was interrupted", "settled at start")
        if not row.is_present or await self._has_size(row):
            return None
        now = await self._index.look(partial(rows.find_blob, digest=row.digest))
        if now != row:
            return None
        action = "marked damaged"
        if repair and not row.is_cold and await self._is_stored(row.digest):
            # Left in place, it would outlive its row.
            await self._quarantine.convict(row.digest, row.generation)
            action = "set aside"
        elif repair:
            await self._index.run(partial(lose, row=row))
        if repair and await self._archive.heal(row.digest):
            action = f"{action}, healed from the archive"
            await self._archive.remove_healed(row.digest)
        return Finding(str(row.digest), "missing: no whole file", _action(repair, action))

    async def _check_leftover(self, row: BlobRow, repair: bool) -> Finding | None:
        """A file beside the archive's, of a promotion that was not needed in the end, say."""
        if not row.is_cold or not row.is_present:
            return None
        if repair and not await self._archive.remove_leftover(row):
            return None
        return Finding(str(row.digest), "leftover: the archive has it", _action(repair, "removed"))

    async def _check_uploads(self, repair: bool) -> AsyncGenerator[Looked, None]:
        staged = set()
        async for info in self._blobs.list_staged():
            staged.add(info.session)
            is_young = partial(_is_recent, at=info.modified_at, grace=self._grace)
            if await self._index.look(is_young) or not await is_stray(
                self._blobs, self._index, info.session, remove=repair
            ):
                yield 1
                continue
            yield Finding(
                info.session, f"stray upload of {info.size_bytes} bytes", _action(repair, "removed")
            )
        after = ""
        while page := await self._index.read(partial(uploads_after, after=after, limit=PAGE)):
            for upload in page:
                if upload.state == FINISHED or upload.id in staged:
                    continue
                is_young = partial(_is_recent, at=upload.created_at, grace=self._grace)
                if not await self._index.look(is_young) and await is_lost(
                    self._blobs, self._index, upload.id, forget=repair
                ):
                    yield Finding(upload.id, "lost upload", _action(repair, "forgotten"))
            after = page[-1].id

    async def _check_quarantine(self, repair: bool) -> AsyncGenerator[Looked, None]:
        files = set()
        async for info in self._blobs.list_aside():
            files.add((info.digest, info.generation))
            row = await self._index.look(
                partial(find_aside, digest=info.digest, generation=info.generation)
            )
            if row is not None:
                yield 1
                continue
            if repair:
                await self._index.run(
                    partial(
                        insert_aside,
                        digest=info.digest,
                        generation=info.generation,
                        size_bytes=info.size_bytes,
                        reason=DAMAGED,
                    )
                )
            yield Finding(str(info.digest), "stray quarantine", _action(repair, "listed"))
        after = b""
        while page := await self._index.read(partial(asides_after, after=after, limit=PAGE)):
            for aside in page:
                if (aside.digest, aside.generation) not in files and await self._is_lost(aside):
                    if repair:
                        await self._index.run(partial(_forget_aside, aside=aside))
                    yield Finding(
                        str(aside.digest), "lost quarantine", _action(repair, "forgotten")
                    )
            after = page[-1].digest.raw

    async def _check_archive(self, repair: bool) -> AsyncGenerator[Looked, None]:
        if repair:
            await self._archive.recognise()
        problem = (await self._archive.status()).problem
        if problem is not None:
            yield Finding("", f"unreachable: {problem}", "none")
            return
        async for info in self._archive.spares.strays():
            if info is None:
                yield 1
                continue
            if await self._index.look(partial(_is_recent, at=info.modified_at, grace=self._grace)):
                yield 1
                continue
            row = await self._index.look(partial(rows.find_blob, digest=info.digest))
            if row is None or row.state == rows.DAMAGED:
                yield await self._check_orphan_in_archive(info, row, repair) or 1
                continue
            if repair:
                await self._archive.spares.remove(info)
            yield Finding(str(info.digest), "stray in archive", _action(repair, "removed"))

    async def _check_orphan_in_archive(
        self, info: ColdInfo, row: BlobRow | None, repair: bool
    ) -> Finding | None:
        """Bytes that the archive alone has; a damaged blob gets them, an absent one is adopted."""
        if not repair:
            return Finding(str(info.digest), "stray in archive", "none")
        is_good = (
            await self._archive.heal(info.digest)
            if row is not None
            else await self._archive.adopt(info, partial(_keep_recovered, digest=info.digest))
        )
        if is_good:
            return Finding(str(info.digest), "stray in archive", "adopted")
        if await self._index.look(partial(rows.find_blob, digest=info.digest)) != row:
            return None
        await self._archive.spares.remove(info)
        return Finding(str(info.digest), "stray in archive: the bytes do not match", "removed")

    async def _is_lost(self, aside: AsideRow) -> bool:
        """Whether a quarantine row without a file is no move under way."""
        if aside.archived is not None:
            return await self._cold.has_lost(aside.digest, aside.archived, aside.size_bytes)
        row = await self._index.look(partial(rows.find_blob, digest=aside.digest))
        if row is not None and row.state == rows.MOVING:
            return False
        files = {(i.digest, i.generation) async for i in self._blobs.list_aside()}
        return (aside.digest, aside.generation) not in files

    async def _is_stored(self, digest: Digest) -> bool:
        try:
            await self._blobs.stat(digest)
        except BlobNotFound:
            return False
        return True

    async def _has_size(self, row: BlobRow) -> bool:
        if row.archived is not None:
            return not await self._cold.has_lost(row.digest, row.archived, row.size_bytes)
        try:
            return (await self._blobs.stat(row.digest)).size_bytes == row.size_bytes
        except BlobNotFound:
            return False


def _action(repair: bool, done: str) -> str:
    return done if repair else "none"


async def _places_with_time(tx: Tx, after: bytes, last: bytes) -> tuple[places.PlacesBetween, int]:
    return await places.places_between(tx, after, last, ROWS_AT_ONCE), tx.now


async def _expected_with_time(
    tx: Tx, after: bytes, last: bytes, limit: int
) -> tuple[places.FilesExpected, int]:
    return await places.files_expected(tx, after, last, limit), tx.now


async def _is_recent(tx: Tx, at: int, grace: int) -> bool:
    return at > tx.now - grace


async def _forget_aside(tx: Tx, aside: AsideRow) -> None:
    await delete_aside(tx, aside.digest, aside.generation)
    if aside.archived is not None:
        await spare_archived(tx, aside.digest, aside.archived, 0)


async def _keep_recovered(tx: Tx, digest: Digest) -> None:
    await claims.keep_ref(tx, digest, RECOVERED, claims.PIN)
