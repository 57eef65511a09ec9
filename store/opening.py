"""Assembles a store from its parts, on a directory or in memory.

`initialize` makes or repairs what a data directory needs before anyone opens it: folders,
``store.json``, an index with current tables. It runs alone, before workers start. `open_store` then
opens the parts, in any number of processes.

**Whose is it.** ``store.json`` and the index both carry the store's id and its *epoch*. An index
without an id beside a ``store.json`` with one was made anew: the epoch is raised, the counter of
generations is set above every name in quarantine, and collection stays off until somebody has
looked and confirmed. Two different ids are refused.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final, Literal

import msgspec

from store import layout
from store.archive import Archive
from store.backends.archive import ColdDirectory
from store.backends.directory import prepare
from store.backends.local import LocalBlobStore
from store.backends.memory import MemoryBlobStore, MemoryColdStore
from store.batches import Reserve
from store.blobs import BlobStore
from store.clock import Clock, system_clock
from store.cold import Cold, ColdStore
from store.durable import Disk
from store.errors import StoreRefused
from store.fsck import Fsck
from store.gc import COLLECTION_OFF, Collector
from store.index import driver, state
from store.index.database import Database
from store.index.driver import Transaction, drive, sqlite
from store.index.transactions import Tx
from store.index.upgrade import STORE, Chain, Upgraded, require_current_blocking, upgrade
from store.index.writer import Observer
from store.ingest import Ingest
from store.locks import MoveLock
from store.quarantine import Quarantine
from store.reading import Mode, Reading
from store.scrub import Scrub
from store.spans import Around
from store.threads import Threads
from store.uploads import Uploads

REBUILT: Final = "the index was made anew; run fsck, look at its report, then confirm"
RESTORED: Final = "the index is of another epoch than the directory; run fsck, then confirm"

_BUSY_SECONDS: Final = 10.0


class StoreFacts(msgspec.Struct, frozen=True):
    """What ``store.json`` says."""

    store_id: str
    layout_version: int
    epoch: int


class StoreSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Choices of the operator, each at its default. `root` None keeps everything in memory."""

    root: Path | None = None
    archive: Path | None = None
    """Where cold blobs go; None is the folder for them below `root`."""
    durability: Literal["full", "relaxed"] = "full"
    verify_reads: Mode = "boot"
    verify_again_days: int = 7
    reserve_bytes: int = 1 << 30
    reserve_share: float = 0.01
    upload_seconds: int = 7 * 86400
    grace_seconds: int = 86400
    undo_seconds: int = 7 * 86400
    max_share: float = 0.5
    chains: tuple[Chain, ...] = (STORE,)


class Store:
    """The parts of one open store. Whoever opened it closes it."""

    def __init__(
        self,
        settings: StoreSettings,
        blobs: BlobStore,
        index: Database,
        threads: Threads,
        *,
        clock: Clock,
        store_id: str,
        cold: ColdStore | None = None,
    ) -> None:
        self.settings = settings
        self.blobs = blobs
        self.index = index
        self.threads = threads
        self.clock = clock
        self.store_id = store_id
        self.around: Around | None = None
        """For those who send bytes of blobs: told of each body."""
        reserve = Reserve(settings.reserve_bytes, settings.reserve_share)
        self.cold = Cold(cold or MemoryColdStore(), index, threads, store_id)
        self.ingest = Ingest(blobs, self.cold, index, threads, reserve=reserve)
        self.uploads = Uploads(
            blobs, index, self.ingest, threads, upload_seconds=settings.upload_seconds
        )
        root = settings.root
        lock = MoveLock(None if root is None else root / layout.MOVE_LOCK)
        self.quarantine = Quarantine(blobs, self.cold, index, lock)
        self.archive = Archive(
            blobs,
            self.cold,
            index,
            threads,
            self.ingest,
            self.quarantine,
            spare_seconds=settings.undo_seconds,
        )
        self.scrub = Scrub(blobs, self.cold, index, threads, self.quarantine, self.archive)
        self.reading = Reading(
            blobs,
            self.cold,
            index,
            threads,
            clock=clock,
            mode=settings.verify_reads,
            again_seconds=settings.verify_again_days * 86400,
            on_suspect=self.scrub.check,
        )
        self.collector = Collector(
            blobs,
            index,
            self.quarantine,
            store_id=store_id,
            identify=self._identify,
            grace_seconds=settings.grace_seconds,
            undo_seconds=settings.undo_seconds,
            max_share=settings.max_share,
        )
        self.fsck = Fsck(
            blobs,
            index,
            threads,
            self.scrub,
            self.quarantine,
            self.archive,
            grace_seconds=settings.grace_seconds,
        )

    async def close(self) -> None:
        """Wait for what is under way, then release everything."""
        await self.ingest.close()
        await self.reading.close()
        await self.index.close()
        await self.blobs.close()
        await asyncio.get_running_loop().run_in_executor(None, self.threads.close)

    async def _identify(self) -> str:
        if self.settings.root is None:
            return self.store_id
        facts = await asyncio.to_thread(read_facts, self.settings.root)
        return "nobody" if facts is None else facts.store_id


def read_facts(root: Path) -> StoreFacts | None:
    """What ``store.json`` of a data directory says; None if there is none. Blocking.

    Raises `StoreRefused` if it is unreadable or of a newer layout.
    """
    path = root / layout.STORE_FILE
    try:
        facts = msgspec.json.decode(path.read_bytes(), type=StoreFacts)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise StoreRefused(f"{path} cannot be read: {error}") from error
    if facts.layout_version > layout.LAYOUT_VERSION:
        raise StoreRefused(
            f"{path} says layout {facts.layout_version}; this version knows "
            f"{layout.LAYOUT_VERSION}: use a newer one"
        )
    return facts


def initialize(
    root: Path, chains: Sequence[Chain] = (STORE,), disk: Disk | None = None
) -> Upgraded:
    """Make `root`, an existing directory, ready for `open_store`; may be repeated. Blocking.

    Nobody else may use the directory meanwhile. Raises `StoreRefused`.
    """
    disk = disk or Disk()
    facts = read_facts(root)
    prepare(root, disk)
    upgraded = upgrade(root / layout.INDEX_FILE, chains)
    _agree(root, chains, disk, facts)
    return upgraded


def _agree(root: Path, chains: Sequence[Chain], disk: Disk, facts: StoreFacts | None) -> None:
    """Make ``store.json`` and the index name the same store and epoch.

    Nobody else is there, so one connection does: a `Database` would bring its threads and readers.
    """
    path = root / layout.INDEX_FILE
    connection = driver.connect(path, busy_seconds=_BUSY_SECONDS)
    try:
        require_current_blocking(connection, chains)
        transaction = Transaction(connection, path, is_reader=False)
        transaction.now = system_clock()
        known = drive(_identity, transaction)
        if facts is not None and known is not None and known[0] != facts.store_id:
            raise StoreRefused(
                f"the index belongs to store {known[0]}, the directory to {facts.store_id}"
            )
        agreed, off = _agreed(facts, known)
        if agreed != facts:
            content = msgspec.json.format(msgspec.json.encode(agreed)) + b"\n"
            disk.write_file(str(root / layout.STORE_FILE), content)
        if known != (agreed.store_id, agreed.epoch):
            transaction.control("BEGIN IMMEDIATE")
            drive(
                partial(_adopt, facts=agreed, off=off, generation=_last_generation(root)),
                transaction,
            )
            transaction.control("COMMIT")
        driver.checkpoint_blocking(transaction, path)
    except sqlite.Error as error:
        raise driver.translated(error, "opening the index", path) from error
    finally:
        connection.close()


def _agreed(
    facts: StoreFacts | None, known: tuple[str, int] | None
) -> tuple[StoreFacts, str | None]:
    """The store's facts from both sides, and why collection must stay off, if it must."""
    version = layout.LAYOUT_VERSION
    if facts is None:
        if known is None:
            return StoreFacts(f"sto_{secrets.token_hex(12)}", version, 1), None
        return StoreFacts(known[0], version, known[1] + 1), RESTORED
    if known is None:
        return StoreFacts(facts.store_id, version, facts.epoch + 1), REBUILT
    if known[1] != facts.epoch:
        return StoreFacts(facts.store_id, version, max(facts.epoch, known[1]) + 1), RESTORED
    return facts, None


async def _identity(tx: Tx) -> tuple[str, int] | None:
    store_id = await state.get_state(tx, "store_id")
    epoch = await state.get_state(tx, "epoch")
    return None if store_id is None or epoch is None else (store_id, int(epoch))


async def _adopt(tx: Tx, facts: StoreFacts, off: str | None, generation: int) -> None:
    await state.put_state(tx, "store_id", facts.store_id)
    await state.put_state(tx, "epoch", str(facts.epoch))
    await state.raise_counter(tx, "generation", generation)
    if off is not None:
        await state.put_state(tx, COLLECTION_OFF, off)


def _last_generation(root: Path) -> int:
    """The highest generation that a name in quarantine carries."""
    names = (layout.parse_aside_name(path.name) for path in (root / layout.QUARANTINE).iterdir())
    return max((name[1] for name in names if name is not None), default=0)


async def open_store(
    settings: StoreSettings,
    *,
    clock: Clock = system_clock,
    disk: Disk | None = None,
    observer: Observer | None = None,
) -> Store:
    """Open a store that `initialize` has prepared, or an empty one in memory.

    Raises `StoreRefused` if directory and index are not of one store.
    """
    threads = Threads()
    try:
        if settings.root is None:
            return await _open_memory(settings, threads, clock)
        return await _open_local(settings, settings.root, threads, clock, disk, observer)
    except BaseException:
        threads.close()
        raise


async def _open_memory(settings: StoreSettings, threads: Threads, clock: Clock) -> Store:
    index = await Database.open(None, clock=clock, chains=settings.chains)
    store_id = "sto_memory"
    await index.run(partial(state.put_state, key="store_id", value=store_id))
    blobs = MemoryBlobStore(clock)
    return Store(settings, blobs, index, threads, clock=clock, store_id=store_id)


async def _open_local(
    settings: StoreSettings,
    root: Path,
    threads: Threads,
    clock: Clock,
    disk: Disk | None,
    observer: Observer | None,
) -> Store:
    facts = read_facts(root)
    if facts is None:
        raise StoreRefused(f"{root} has no {layout.STORE_FILE}")
    is_relaxed = settings.durability == "relaxed"
    index = await Database.open(
        root / layout.INDEX_FILE,
        writer_lock=root / layout.WRITER_LOCK,
        clock=clock,
        chains=settings.chains,
        is_relaxed=is_relaxed,
        observer=observer,
    )
    try:
        known = await index.look(_identity)  # a read would start a thread and a reader
        if known != (facts.store_id, facts.epoch):
            raise StoreRefused(f"the index names store {known}, the directory {facts.store_id}")
        disk = disk or Disk(relaxed=is_relaxed)
        blobs = LocalBlobStore(root, threads, disk)
        cold = ColdDirectory(settings.archive or root / layout.ARCHIVE, root, disk)
        return Store(
            settings, blobs, index, threads, clock=clock, store_id=facts.store_id, cold=cold
        )
    except BaseException:
        await index.close()
        raise
