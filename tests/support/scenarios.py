"""What stores do, one after the other, with notes of what was acknowledged at the moment it was.

A scenario runs on a `Stage`: an open store on a recording disk. `Expected` says, from the notes
before a crash, what must be found after it.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec

from store.backends.local import LocalBlobStore
from store.digest import Digest
from store.index import blobs as rows
from store.index import claims
from store.index.transactions import Tx
from store.opening import Store
from store.recording import StoredBlob
from store.segments import SEGMENT_BYTES
from store.uploads import Checksum
from tests.support.recording import Model, Recording

OWNER = "usr_local"
SMALL = b"a small blob\n" * 9
OTHER = b"another blob\n" * 7
MORE = b"and a third\n" * 8
LARGE = random.Random(1).randbytes(SEGMENT_BYTES + 300)
"""More than a segment, so that it has a segments file."""


# What scenarios note.


class Kept(msgspec.Struct, frozen=True):
    """A reference to these bytes was acknowledged."""

    content: bytes


class Released(msgspec.Struct, frozen=True):
    """From here on the reference may be gone."""

    content: bytes


class Opened(msgspec.Struct, frozen=True):
    """A session of these bytes was acknowledged up to an offset."""

    session: str
    content: bytes
    offset: int


class Closed(msgspec.Struct, frozen=True):
    """From here on the session may be gone, or finished."""

    session: str


class Aside(msgspec.Struct, frozen=True):
    """A collection took these bytes and can be undone."""

    collection: str
    content: bytes


class Returning(msgspec.Struct, frozen=True):
    """From here on the collection may be undone, or purged."""

    collection: str


class Rotten(msgspec.Struct, frozen=True):
    """The disk has damaged these bytes, or lost them."""

    content: bytes


class Present(msgspec.Struct, frozen=True):
    """These bytes are stored, by whomever they are needed."""

    content: bytes


Notes = tuple[Any, ...]


class Expected(msgspec.Struct):
    """What must be found after a crash, from what had been noted before it."""

    kept: set[bytes]
    present: set[bytes]
    rotten: set[bytes]
    sessions: dict[str, Opened]
    asides: dict[str, set[bytes]]

    @classmethod
    def of(cls, notes: Notes) -> Expected:
        expected = cls(set(), set(), set(), {}, {})
        for note in notes:
            match note:
                case Kept(content):
                    expected.kept.add(content)
                case Released(content):
                    expected.kept.discard(content)
                case Opened(session, _, _):
                    expected.sessions[session] = note
                case Closed(session):
                    expected.sessions.pop(session, None)
                case Aside(collection, content):
                    expected.asides.setdefault(collection, set()).add(content)
                case Returning(collection):
                    expected.asides.pop(collection, None)
                case Present(content):
                    expected.present.add(content)
                case Rotten(content):
                    expected.kept.discard(content)
                    expected.rotten.add(content)
        return expected


# Scenarios.


class Stage:
    """An open store on a recording disk."""

    def __init__(self, store: Store, disk: Recording, root: Path) -> None:
        self.store = store
        self.disk = disk
        self.root = root
        self.first = self.start = len(disk.events)

    def note(self, note: Any) -> None:
        self.disk.note(note)

    def begin(self) -> None:
        """Only crashes from here on are looked at; before it things are only set up."""
        self.start = len(self.disk.events)

    def path_of(self, digest: Digest) -> str:
        assert isinstance(self.store.blobs, LocalBlobStore)
        return str(self.store.blobs.path_of(digest))

    async def put(
        self, content: bytes, owner: str = OWNER, *, is_announced: bool = True
    ) -> StoredBlob:
        """Store bytes as a client sends them: with their length, or without."""
        size_bytes = len(content) if is_announced else None
        stored, _ = await self.store.ingest.receive(
            pieces(content), pin(owner), size_bytes=size_bytes
        )
        self.note(Kept(content))
        return stored

    async def release(self, content: bytes, owner: str = OWNER) -> None:
        self.note(Released(content))
        await self.store.index.run(
            lambda tx: claims.drop_ref(tx, Digest.of(content), owner, claims.PIN)
        )

    async def collect(self, *contents: bytes) -> str:
        plan = await self.store.collector.plan()
        report = await self.store.collector.apply(plan)
        assert report.collected == len(contents)
        for content in contents:
            self.note(Aside(plan.id, content))
        return plan.id

    async def damage(self, content: bytes) -> StoredBlob:
        """Store bytes that rot on the disk; their reference stays."""
        stored = await self.put(content)
        self.note(Rotten(content))
        self.disk.rot(self.path_of(stored.digest), b"x" * len(content))
        return stored


Scenario = Callable[[Stage], Awaitable[None]]


async def pieces(content: bytes, size: int = 1 << 19) -> AsyncIterator[bytes]:
    for at in range(0, len(content), size):
        yield content[at : at + size]


def pin(owner: str = OWNER, kind: str = claims.PIN) -> Callable[[Tx, StoredBlob], Awaitable[bool]]:
    async def record(tx: Tx, stored: StoredBlob) -> bool:
        return await claims.keep_ref(tx, stored.digest, owner, kind)

    return record


async def put_one(stage: Stage) -> None:
    await stage.put(SMALL)


async def put_unannounced(stage: Stage) -> None:
    await stage.put(SMALL, is_announced=False)


async def put_large(stage: Stage) -> None:
    await stage.put(LARGE)


async def put_stored_again(stage: Stage) -> None:
    await stage.put(SMALL)
    stage.begin()
    await stage.put(SMALL, "usr_other")


async def put_same_at_once(stage: Stage) -> None:
    await asyncio.gather(stage.put(SMALL), stage.put(SMALL, "usr_other"))


async def put_large_at_once(stage: Stage) -> None:
    await asyncio.gather(stage.put(LARGE), stage.put(LARGE, "usr_other"))


async def _put_together(stage: Stage, owner: str = OWNER) -> None:
    """As the files of an archive are stored: one sync for all of them."""
    contents = (SMALL, OTHER)

    async def record(tx: Tx, stored: Sequence[StoredBlob]) -> None:
        for one in stored:
            await claims.keep_ref(tx, one.digest, owner, claims.PIN)

    staged = await stage.store.ingest.hold_all([(content, None) for content in contents])
    await stage.store.ingest.commit(staged, record)
    for content in contents:
        stage.note(Kept(content))


_two_are_many = mock.patch("store.ingest.TOGETHER", 2)


@_two_are_many
async def put_at_once(stage: Stage) -> None:
    """As small files that come at once into a draft are stored: looked up before they are named."""
    contents = (SMALL, OTHER)

    async def record(tx: Tx, stored: Sequence[StoredBlob]) -> None:
        for one in stored:
            await claims.keep_ref(tx, one.digest, OWNER, claims.PIN)

    async def admit(tx: Tx) -> None:
        pass

    await stage.store.ingest.store([(content, None) for content in contents], record, admit=admit)
    for content in contents:
        stage.note(Kept(content))


@_two_are_many
async def put_together(stage: Stage) -> None:
    await _put_together(stage)


@_two_are_many
async def put_together_what_is_there(stage: Stage) -> None:
    await stage.put(SMALL)
    stage.begin()
    await _put_together(stage, "usr_other")


@_two_are_many
async def put_together_at_once(stage: Stage) -> None:
    """Whoever is later replaces what the other may have recorded."""
    with mock.patch.object(stage.store.ingest, "_look", _late(stage.store.ingest._look)):
        await asyncio.gather(_put_together(stage), _put_together(stage, "usr_other"))


def _late(look: Callable[[Any], Awaitable[Any]]) -> Callable[[Any], Awaitable[Any]]:
    """Both look before either promotes."""
    both, looked = asyncio.Event(), itertools.count(1)

    async def looking(digests: Any) -> Any:
        seen = await look(digests)
        if next(looked) >= 2:
            both.set()
        await both.wait()
        return seen

    return looking


async def put_after_collection(stage: Stage) -> None:
    await stage.put(OTHER)
    await stage.put(SMALL)
    await stage.release(SMALL)
    await stage.collect(SMALL)
    stage.begin()
    await stage.put(SMALL)


async def publish(stage: Stage) -> None:
    """A file of a version: the pin of its upload becomes a reference of the tree's."""
    stored = await stage.put(SMALL)
    stage.begin()

    async def commit(tx: Tx, found: StoredBlob) -> None:
        await claims.add_ref(tx, found.digest, "mdl_one", "tree")
        await claims.drop_ref(tx, found.digest, OWNER, claims.PIN)

    assert await stage.store.ingest.claim(stored.digest, commit) is not None


async def _begin_upload(stage: Stage, content: bytes, **facts: Any) -> str:
    facts = {"length": len(content), "expected": None, **facts}
    session = await stage.store.uploads.create(OWNER, **facts)
    stage.note(Opened(session.id, content, 0))
    return session.id


async def _append(
    stage: Stage, session: str, content: bytes, start: int, stop: int, **facts: Any
) -> None:
    if stop == len(content):
        stage.note(Closed(session))
    after = await stage.store.uploads.append(session, start, pieces(content[start:stop]), **facts)
    if after.is_finished:
        stage.note(Kept(content))
    else:
        stage.note(Opened(session, content, after.offset))


async def upload_in_parts(stage: Stage) -> None:
    session = await _begin_upload(stage, SMALL)
    await _append(stage, session, SMALL, 0, 40)
    await _append(stage, session, SMALL, 40, 80)
    await _append(stage, session, SMALL, 80, len(SMALL))


async def upload_large(stage: Stage) -> None:
    session = await _begin_upload(stage, LARGE, expected=Digest.of(LARGE))
    await _append(stage, session, LARGE, 0, SEGMENT_BYTES)
    await _append(stage, session, LARGE, SEGMENT_BYTES, len(LARGE))


async def upload_of_stored(stage: Stage) -> None:
    await stage.put(SMALL)
    stage.begin()
    session = await _begin_upload(stage, SMALL)
    await _append(stage, session, SMALL, 0, len(SMALL))


async def upload_with_checksums(stage: Stage) -> None:
    session = await _begin_upload(stage, SMALL)
    for start, stop in itertools.pairwise((0, 40, 80, len(SMALL))):
        expected = bytes.fromhex(Digest.of(SMALL[start:stop]).hex)
        checksum = Checksum("sha256", expected)
        await _append(stage, session, SMALL, start, stop, checksum=checksum)


async def upload_after_kill(stage: Stage) -> None:
    """Bytes that a killed worker left unsynced become part of what is acknowledged later."""
    session = await _begin_upload(stage, SMALL, length=None)
    await _append(stage, session, SMALL, 0, 30)
    writer = await stage.store.blobs.reopen(session)
    writer.append_blocking(30, [SMALL[30:60]])
    await writer.close()
    stage.begin()
    checksum = Checksum("sha256", bytes.fromhex(Digest.of(SMALL[60:70]).hex))
    await _append(stage, session, SMALL, 60, 70, checksum=checksum)
    await _append(stage, session, SMALL, 70, len(SMALL), length=len(SMALL))


async def upload_cancelled(stage: Stage) -> None:
    session = await _begin_upload(stage, SMALL)
    await _append(stage, session, SMALL, 0, 40)
    stage.note(Closed(session))
    await stage.store.uploads.cancel(session)


async def collect(stage: Stage) -> None:
    await stage.put(OTHER)
    await stage.put(SMALL)
    await stage.put(LARGE)
    await stage.release(SMALL)
    await stage.release(LARGE)
    stage.begin()
    await stage.collect(SMALL, LARGE)


async def undo(stage: Stage) -> None:
    await collect(stage)
    collection = next(n.collection for n in Model(stage.disk.events).notes if isinstance(n, Aside))
    stage.begin()
    stage.note(Returning(collection))
    report = await stage.store.collector.undo(collection)
    assert report.returned == 2
    stage.note(Present(SMALL))
    stage.note(Present(LARGE))


async def undo_over_damage(stage: Stage) -> None:
    """Undoing a collection heals a blob that was stored anew and rotted since."""
    await stage.put(OTHER)
    await stage.put(SMALL)
    await stage.release(SMALL)
    collection = await stage.collect(SMALL)
    stored = await stage.damage(SMALL)
    assert not await stage.store.scrub.check(stored.digest)
    stage.begin()
    stage.note(Returning(collection))
    await stage.store.collector.undo(collection)
    stage.note(Kept(SMALL))


async def purge(stage: Stage) -> None:
    await stage.put(OTHER)
    await stage.put(SMALL)
    await stage.release(SMALL)
    collection = await stage.collect(SMALL)
    stage.begin()
    stage.note(Returning(collection))
    await stage.store.collector.purge(everything=True)


async def convict(stage: Stage) -> None:
    stored = await stage.damage(SMALL)
    stage.begin()
    assert not await stage.store.scrub.check(stored.digest)


async def heal(stage: Stage) -> None:
    stored = await stage.damage(SMALL)
    assert not await stage.store.scrub.check(stored.digest)
    stage.begin()
    await stage.put(SMALL, "usr_other")


async def heal_unnoticed(stage: Stage) -> None:
    """The file is gone, and it is an upload that finds out."""
    stored = await stage.put(SMALL)
    stage.note(Rotten(SMALL))
    stage.disk.remove(stage.path_of(stored.digest))
    stage.begin()
    await stage.put(SMALL, "usr_other")


async def may_go(tx: Tx, row: rows.BlobRow) -> bool:
    return True


async def cool(stage: Stage) -> None:
    await stage.put(OTHER)
    stored = await stage.put(SMALL)
    stage.begin()
    assert await stage.store.archive.cool(stored.digest, may_go) == "moved"


async def cool_large(stage: Stage) -> None:
    stored = await stage.put(LARGE)
    assert await stage.store.archive.cool((await stage.put(OTHER)).digest, may_go) == "moved"
    stage.begin()
    assert await stage.store.archive.cool(stored.digest, may_go) == "moved"


async def _put_cold(stage: Stage, content: bytes) -> StoredBlob:
    stored = await stage.put(content)
    assert await stage.store.archive.cool(stored.digest, may_go) == "moved"
    return stored


async def thaw(stage: Stage) -> None:
    stored = await _put_cold(stage, LARGE)
    stage.begin()
    assert await stage.store.archive.thaw(stored.digest)


async def put_cold_again(stage: Stage) -> None:
    await _put_cold(stage, SMALL)
    stage.begin()
    await stage.put(SMALL, "usr_other")


async def collect_cold(stage: Stage) -> None:
    await stage.put(OTHER)
    await _put_cold(stage, SMALL)
    await stage.release(SMALL)
    stage.begin()
    await stage.collect(SMALL)


async def undo_of_cold(stage: Stage) -> None:
    await collect_cold(stage)
    collection = next(n.collection for n in Model(stage.disk.events).notes if isinstance(n, Aside))
    stage.begin()
    stage.note(Returning(collection))
    assert (await stage.store.collector.undo(collection)).returned == 1
    stage.note(Present(SMALL))


async def sweep_archive(stage: Stage) -> None:
    """What a thaw left goes for good, and what was collected cold."""
    await collect_cold(stage)
    collection = next(n.collection for n in Model(stage.disk.events).notes if isinstance(n, Aside))
    stored = await _put_cold(stage, MORE)
    await stage.store.archive.thaw(stored.digest)
    stage.begin()
    stage.note(Returning(collection))
    await stage.store.collector.purge(everything=True)
    assert await stage.store.archive.spares.sweep(everything=True) == 2


async def heal_from_archive(stage: Stage) -> None:
    """The file that a thaw left spare has what the fresh copy lost."""
    stored = await _put_cold(stage, SMALL)
    await stage.store.archive.thaw(stored.digest)
    stage.note(Rotten(SMALL))
    stage.disk.rot(stage.path_of(stored.digest), b"x" * len(SMALL))
    stage.begin()
    await stage.store.scrub.run()
    stage.note(Kept(SMALL))


async def adopt(stage: Stage) -> None:
    """`fsck` finds a file without a row whose name was not synced by whoever made it."""
    stored = await stage.put(SMALL)
    await stage.release(SMALL)

    async def forget(tx: Tx) -> None:
        await rows.delete_blob(tx, stored.digest, stored.generation, rows.PRESENT)

    await stage.store.index.run(forget)
    path, spare = stage.path_of(stored.digest), f"{stage.root}/uploads/put_again"
    stage.disk.link(path, spare)
    stage.disk.remove(path)
    stage.disk.link(spare, path)
    stage.begin()
    report = await stage.store.fsck.run(repair=True)
    assert "orphan" in [finding.problem for finding in report.findings]
    stage.note(Kept(SMALL))


SCENARIOS: list[Scenario] = [
    put_one,
    put_unannounced,
    put_large,
    put_stored_again,
    put_same_at_once,
    put_large_at_once,
    put_at_once,
    put_together,
    put_together_what_is_there,
    put_together_at_once,
    put_after_collection,
    publish,
    upload_in_parts,
    upload_large,
    upload_of_stored,
    upload_with_checksums,
    upload_after_kill,
    upload_cancelled,
    collect,
    undo,
    undo_over_damage,
    purge,
    convict,
    heal,
    heal_unnoticed,
    adopt,
    cool,
    cool_large,
    thaw,
    put_cold_again,
    collect_cold,
    undo_of_cold,
    sweep_archive,
    heal_from_archive,
]
