"""What one process does with blobs, several tasks at once, and all housekeeping there is.

Bytes have names, and everybody can make them from the name; a few are wanted by everybody, so that
identical uploads, collection, publishing and release meet on them.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from registry.catalog.migrations import CHAINS
from registry.domain.principals import LOCAL
from registry.services.purges import finish_purges
from registry.services.removal import finish_forgetting
from registry.services.retention_plans import EVERYTHING, make_plan
from registry.services.retention_runs import apply_plan
from store.clock import SECOND, Clock, system_clock
from store.digest import Digest
from store.errors import BlobNotFound, CollectionRefused, Unavailable
from store.fsck import Fsck
from store.index import blobs as rows
from store.index import claims
from store.index.transactions import Tx
from store.opening import Store, StoreSettings, open_store
from store.recording import Record, StoredBlob
from tests.support.torture.dying import DyingDisk, Fuse
from tests.support.torture.facts import Fact, Log, body, content_of, owner_of

SHARED = 5
ROUND_HOURS = 14
"""Each round is so much later by its clock, so that what was retired can be purged."""

LONG_SECONDS = 1 << 31
"""Longer than any life, by its clock too."""

Work = Callable[[], Awaitable[None]]


def settings(root: Path) -> StoreSettings:
    """Nothing but references and leases protects a blob here."""
    return StoreSettings(
        root=root,
        grace_seconds=0,
        undo_seconds=0,
        max_share=1,
        reserve_bytes=0,
        reserve_share=0,
        upload_seconds=LONG_SECONDS,
        chains=CHAINS,
    )


def clock_of(number: int) -> Clock:
    """The time in a round."""
    return lambda: system_clock() + number * ROUND_HOURS * 3600 * SECOND


async def opened(root: Path, number: int, fuse: Fuse) -> Store:
    """The store as a process of that round has it."""
    return await open_store(
        settings(root), clock=clock_of(number), disk=DyingDisk(fuse), observer=fuse.committed
    )


def pinned(task: str) -> Record[bool]:
    async def pin(tx: Tx, stored: StoredBlob) -> bool:
        return await claims.keep_ref(tx, stored.digest, owner_of(task), claims.PIN)

    return pin


class Names:
    """Names of bytes for one task: some of its own, some that everybody uses."""

    def __init__(self, task: str, chance: random.Random) -> None:
        self._task = task
        self._chance = chance
        self._count = 0

    def next(self) -> str:
        if self._chance.random() < 0.6:
            return f"shared-{self._chance.randrange(SHARED)}"
        self._count += 1
        return f"{self._task}-{self._count}"


class Task:
    """One owner's work, one thing after the other."""

    def __init__(self, store: Store, log: Log, name: str, chance: random.Random) -> None:
        self._store = store
        self._log = log
        self._name = name
        self._chance = chance
        self._names = Names(name, chance)
        self._pin = pinned(name)

    def note(self, kind: str, name: str, session: str = "", offset: int = 0) -> None:
        self._log.note(Fact(kind, name, self._name, session, offset))

    async def run(self) -> None:
        while True:
            name = self._names.next()
            work = self._chance.choice([self._put, self._put, self._upload, self._claim])
            await work(name)
            if self._chance.random() < 0.6:
                await self._release(name)

    async def _put(self, name: str) -> None:
        await self._store.ingest.receive(body(content_of(name)), self._pin)
        self.note("kept", name)

    async def _claim(self, name: str) -> None:
        if await self._store.ingest.claim(Digest.of(content_of(name)), self._pin) is not None:
            self.note("kept", name)

    async def _upload(self, name: str) -> None:
        content = content_of(name)
        uploads = self._store.uploads
        session = await uploads.create(owner_of(self._name), length=len(content), expected=None)
        self.note("session", name, session.id)
        offset = 0
        while offset < len(content):
            stop = min(len(content), offset + self._chance.randrange(1, len(content) + 1))
            if stop == len(content):
                break
            upload = await uploads.append(session.id, offset, body(content[offset:stop]))
            offset = upload.offset
            self.note("session", name, session.id, offset)
        self.note("finishing", name, session.id)
        await uploads.append(session.id, offset, body(content[offset:]), record=self._pin)
        self.note("kept", name)

    async def _release(self, name: str) -> None:
        self.note("releasing", name)
        digest = Digest.of(content_of(name))
        owner = owner_of(self._name)
        await self._store.index.run(lambda tx: claims.drop_ref(tx, digest, owner, claims.PIN))


class Housekeeper:
    """One thing after the other, as the operations of a server would be."""

    def __init__(self, store: Store, chance: random.Random) -> None:
        self._store = store
        self._chance = chance
        self.works: list[Work] = [
            self.collect,
            self.collect,
            self.purge,
            self.scrub,
            self.retain,
            self.repair,
            self.tidy,
            self.cool,
            self.cool,
            self.thaw,
            self.sweep,
        ]

    async def run(self) -> None:
        while True:
            await self._chance.choice(self.works)()
            await self._store.quarantine.settle()

    async def collect(self) -> None:
        """Take what nobody refers to, and bring some of it back."""
        plan = await self._store.collector.plan()
        try:
            await self._store.collector.apply(plan)
            if self._chance.random() < 0.3:
                await self._store.collector.undo(plan.id)
        except (CollectionRefused, Unavailable):
            pass  # nothing to collect from yet, or a blob that is being moved

    async def purge(self) -> None:
        await self._store.collector.purge(everything=True)

    async def scrub(self) -> None:
        report = await self._store.scrub.run()
        assert report.findings == [], report.findings

    async def retain(self) -> None:
        plan = await make_plan(self._store, LOCAL, EVERYTHING, report=_untold, pause_seconds=0.0005)
        done = await apply_plan(self._store, LOCAL, plan.id, report=_untold, pause_seconds=0.0005)
        assert not done.failed, done

    async def repair(self) -> None:
        """With a grace, which is all that tells work in progress from what a crash left."""
        store = self._store
        fsck = Fsck(
            store.blobs,
            store.index,
            store.threads,
            store.scrub,
            store.quarantine,
            store.archive,
            grace_seconds=LONG_SECONDS,
        )
        await fsck.run(repair=True)

    async def cool(self) -> None:
        """Let the archive have a few blobs, whatever they are needed for."""
        for row in await self._some_blobs():
            with suppress(Unavailable):  # somebody is moving it
                await self._store.archive.cool(row.digest, _anybody)

    async def thaw(self) -> None:
        for row in await self._some_blobs():
            with suppress(BlobNotFound, Unavailable):
                await self._store.archive.thaw(row.digest)

    async def sweep(self) -> None:
        await self._store.archive.spares.sweep(everything=True)

    async def _some_blobs(self) -> list[rows.BlobRow]:
        after = self._chance.randbytes(32)
        return await self._store.index.read(partial(rows.blobs_after, after=after, limit=4))

    async def tidy(self) -> None:
        await finish_forgetting(self._store)
        await finish_purges(self._store)
        await self._store.index.checkpoint()


async def _anybody(tx: Tx, row: rows.BlobRow) -> bool:
    return True


def _untold(done: int, total: int) -> None:
    """Nobody waits for progress."""


async def work(store: Store, works: Sequence[Awaitable[None]]) -> None:
    """Everything at once, until the kill; the first failure ends the process."""
    try:
        await asyncio.gather(*works)
    finally:
        await store.close()
