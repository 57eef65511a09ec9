"""A worker that does as much as it can at once, and writes down what was acknowledged.

Run as a module by `tests.store.test_kill`, which kills it. Bytes have names, and everybody can make
them from the name; a few are wanted by both workers, so that identical uploads, collection and
release meet on them. Each owner belongs to one task of one process, so its facts have an order.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from store.digest import Digest
from store.errors import CollectionRefused, Unavailable
from store.index import claims
from store.index.transactions import Tx
from store.ingest import StoredBlob
from store.opening import Store, StoreSettings, open_store
from store.segments import SEGMENT_BYTES

TASKS = 6
SHARED = 5


class Fact(msgspec.Struct, frozen=True):
    """Something that is so from now on."""

    kind: str
    name: str
    owner: str = ""
    session: str = ""
    offset: int = 0


def content_of(name: str) -> bytes:
    """The bytes that a name stands for; a few are larger than a segment."""
    chance = random.Random(name)
    size = SEGMENT_BYTES + 99 if chance.random() < 0.1 else chance.randrange(5000)
    return chance.randbytes(size)


def owner_of(task: str) -> str:
    return f"usr_{task.replace('-', '_')}"


def settings(root: Path) -> StoreSettings:
    return StoreSettings(root=root, grace_seconds=0, max_share=1, reserve_bytes=0, reserve_share=0)


def read(log: Path) -> list[Fact]:
    """The facts in a file whose last line may be cut off."""
    lines = log.read_bytes().split(b"\n")[:-1]
    return [msgspec.json.decode(line, type=Fact) for line in lines]


async def body(content: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(content), 65536):
        yield content[at : at + 65536]


class Task:
    """One owner's work, one thing after the other."""

    def __init__(self, store: Store, log: int, name: str) -> None:
        self._store = store
        self._log = log
        self._name = name
        self._chance = random.Random()
        self._count = 0

    def note(self, kind: str, name: str, session: str = "", offset: int = 0) -> None:
        fact = Fact(kind, name, self._name, session, offset)
        os.write(self._log, msgspec.json.encode(fact) + b"\n")

    async def run(self) -> None:
        while True:
            name = self._next_name()
            work = self._chance.choice([self._put, self._put, self._upload, self._claim])
            await work(name)
            if self._chance.random() < 0.6:
                await self._release(name)

    def _next_name(self) -> str:
        if self._chance.random() < 0.6:
            return f"shared-{self._chance.randrange(SHARED)}"
        self._count += 1
        return f"{self._name}-{self._count}"

    async def _pin(self, tx: Tx, stored: StoredBlob) -> bool:
        return await claims.keep_ref(tx, stored.digest, owner_of(self._name), claims.PIN)

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
        await self._store.index.run(
            lambda tx: claims.drop_ref(tx, digest, owner_of(self._name), claims.PIN)
        )


async def collect(store: Store) -> None:
    """Take what nobody refers to, bring some of it back, and purge now and then."""
    chance = random.Random()
    while True:
        plan = await store.collector.plan()
        try:
            await store.collector.apply(plan)
            if chance.random() < 0.3:
                await store.collector.undo(plan.id)
        except (CollectionRefused, Unavailable):
            pass  # nothing to collect from yet, or a blob that is being moved
        if chance.random() < 0.2:
            await store.collector.purge(everything=True)
        await store.quarantine.settle()


async def main(root: Path, log: Path, name: str, *, collects: bool) -> None:
    store = await open_store(settings(root))
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    works = [Task(store, descriptor, f"{name}-{number}").run() for number in range(TASKS)]
    if collects:
        works.append(collect(store))
    await asyncio.gather(*works)


if __name__ == "__main__":
    asyncio.run(
        main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], collects=sys.argv[4] == "1")
    )
