"""Makes a data directory of a backup.

The directory must be empty or missing, or one that a restore of the same generation was filling;
whoever calls holds its lock. **Order**, and what a crash leaves after each step:

1. ``restoring/plan.json`` says what is under way. From here on `registry.cli.directory` and
   `store.opening` refuse the directory until ``store.json`` is there.
2. Blobs are copied, each verified and synced before it has its name; what is there already is not
   copied again. Names are made durable.
3. The index is copied aside and *tidied*: made to speak of this directory, not of the one it was
   copied from. Then it gets its name. Asked again, this is done anew.
4. ``store.json`` is written: the directory is whole, of a new epoch, with collection off.
5. ``restoring`` is removed. Asked again after step 4, nothing else is done any more.

**Tidying** forgets what has no files here: quarantine, the archive, unfinished uploads, leases,
holds. Cold blobs are hot. A blob
whose bytes came along is present; a damaged one that an earlier generation had whole is healed by
that. One that did not come along is ``damaged`` if anybody refers to it, so that readers hear so
and the next upload heals it; else its row goes. Nothing is taken for verified since this boot.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Final, TypeAlias

import msgspec

from store import layout
from store.backends.directory import prepare
from store.backups.copying import Copier, has_size, hash_file, in_threads
from store.backups.directory import (
    PRIVATE,
    Generation,
    Kind,
    Marker,
    blob_path,
    finished,
    index_path,
    require_apart,
    segments_path,
)
from store.backups.named import IndexCopy, NamedBlob, sha256_of
from store.backups.pulse import Pulse, Report
from store.backups.sources import plain_file
from store.cold import ARCHIVE_ID
from store.durable import Disk, translated
from store.errors import StorageFull, StoreError, StoreRefused
from store.gc import COLLECTION_OFF
from store.holds import KEY as HOLDS
from store.index import driver
from store.index.blobs import DAMAGED, PRESENT
from store.index.copies import copy_whole
from store.index.driver import sqlite
from store.index.uploads import FINISHED
from store.opening import StoreFacts, read_facts

WORK: Final = layout.RESTORING
PLAN: Final = "plan.json"
AT_ONCE: Final = 4
OFF: Final = "the store was restored from a backup; run fsck, look at its report, then confirm"

FIRST_WITH_ARCHIVE: Final = 2000
"""Schemas below have no archive."""

_Function: TypeAlias = Callable[[NamedBlob], str | None]

_NEXT_GENERATION: Final = (
    "UPDATE counters SET value = value + 1 WHERE name = 'generation' RETURNING value"
)
_HARMLESS: Final = frozenset((layout.PROCESS_LOCK, "lost+found"))


class Plan(msgspec.Struct, frozen=True):
    """Which generation of which store a directory is being made of, and its epoch then."""

    store_id: str
    number: int
    index_sha256: str
    epoch: int


class RestoreReport(msgspec.Struct, frozen=True):
    """What was restored; `missing` are digests that something refers to and that are not here."""

    kind: Kind
    number: int
    store_id: str
    epoch: int
    schema: int
    blobs: int
    bytes: int
    missing: list[str]
    private: list[str]
    """Files besides that came along, keys say."""


def restore_backup(
    source: Path,
    root: Path,
    *,
    newest: int,
    number: int | None = None,
    read_back: bool = False,
    is_partial_enough: bool = False,
    disk: Disk | None = None,
    at_once: int = AT_ONCE,
    report: Report | None = None,
    stop: threading.Event | None = None,
) -> RestoreReport:
    """Make `root`, an existing directory that nobody else uses, a store as it was. Blocking.

    `newest` is the schema this program knows. Bytes are verified while they are copied;
    `read_back` reads them once more from the disk before the directory is declared whole.
    Where blobs of the backup are missing or damaged it ends with `StoreRefused` or `StoreError`,
    unless `is_partial_enough`.
    """
    marker, one = finished(source, number)
    require_apart(root, source)
    plan = Plan(marker.store_id, one.number, one.index_sha256, one.epoch + 1)
    disk = disk or Disk()
    work = _Restore(source, root, marker, one, plan, disk, Pulse(report=report, stop=stop))
    if _is_begun(root, plan) and read_facts(root) is not None:
        work.clean_up()
        return work.report()
    work.require_index(newest)
    if not is_partial_enough:
        work.require_blobs()
    work.begin()
    work.copy_blobs(at_once, is_partial_enough=is_partial_enough)
    if read_back:
        work.read_back(at_once, is_partial_enough=is_partial_enough)
    work.copy_private()
    work.place_index()
    work.declare_whole()
    work.clean_up()
    return work.report()


class _Restore:
    def __init__(
        self,
        source: Path,
        root: Path,
        marker: Marker,
        one: Generation,
        plan: Plan,
        disk: Disk,
        pulse: Pulse,
    ) -> None:
        self._source = source
        self._root = root
        self._marker = marker
        self._one = one
        self._plan = plan
        self._disk = disk
        self._pulse = pulse
        self._work = root / WORK
        self._index = index_path(source, one.number)
        self._known = {blob.digest for blob in one.missing}
        self._copier = Copier(root, str(self._work), disk, pulse.tick)

    # Looking, before anything is written.

    def require_index(self, newest: int) -> None:
        self._pulse.begin("index")
        if any(
            ours < theirs
            for ours, theirs in zip(
                divmod(newest, 1000), divmod(self._one.schema, 1000), strict=True
            )
        ):
            raise StoreRefused(
                f"the backup has schema {self._one.schema} and this program knows up to {newest}: "
                "restore it with the program that wrote it"
            )
        try:
            actual = sha256_of(self._index)
        except FileNotFoundError:
            actual = "missing"
        if actual != self._one.index_sha256:
            raise StoreRefused(
                f"{self._index} is not what was written; choose another generation of the backup"
            )

    def require_blobs(self) -> None:
        """Raise `StoreRefused` if the backup lacks files, or the disk the room for them."""
        lacking = [row.digest for row in self._expected() if not self._has(row)]
        if lacking:
            raise StoreRefused(
                f"{len(lacking)} blobs are missing in the backup, {lacking[0]} for one"
            )
        room = os.statvfs(self._root)
        if room.f_bavail * room.f_frsize < self._one.bytes and not self._work.exists():
            raise StorageFull(self._one.bytes)

    def _expected(self) -> Iterator[NamedBlob]:
        with IndexCopy.open(self._index) as index:
            for page in index.pages():
                yield from filter(self._is_expected, page)

    def _is_expected(self, row: NamedBlob) -> bool:
        return row.state == PRESENT and str(row.digest) not in self._known

    def _has(self, row: NamedBlob) -> bool:
        return has_size(blob_path(self._source, row.digest), row.size_bytes)

    # Writing.

    def begin(self) -> None:
        with translated("restoring"):
            self._disk.make_directory(str(self._work), below=str(self._root))
            content = msgspec.json.format(msgspec.json.encode(self._plan)) + b"\n"
            self._disk.write_file(f"{self._work}/{PLAN}", content)
            self._sweep()
        prepare(self._root, self._disk)

    def _sweep(self) -> None:
        """Remove what was being copied when an earlier run ended, or this one."""
        for stale in self._work.iterdir():
            if stale.name != PLAN:
                self._disk.unlink_if_there(str(stale))

    def copy_blobs(self, at_once: int, *, is_partial_enough: bool) -> None:
        self._pulse.begin("blobs", self._one.bytes)
        self._for_all(self._copy_one, at_once, is_partial_enough=is_partial_enough)
        self._copier.sync_names()

    def read_back(self, at_once: int, *, is_partial_enough: bool) -> None:
        """Read what was written from the disk; what is wrong goes, so that it is copied again."""
        self._pulse.begin("reading back", self._one.bytes)
        self._for_all(self._read_one, at_once, is_partial_enough=is_partial_enough)

    def _for_all(self, function: _Function, at_once: int, *, is_partial_enough: bool) -> None:
        problems = []
        with (
            IndexCopy.open(self._index) as index,
            self._pulse.crew(at_once, "restore") as threads,
        ):
            for page in index.pages():
                for row, problem in in_threads(threads, function, page):
                    if problem is not None:
                        problems.append(f"{row.digest}: {problem}")
        if problems and not is_partial_enough:
            raise StoreError(f"{len(problems)} blobs of the backup are damaged, {problems[0]}")

    def _copy_one(self, row: NamedBlob) -> str | None:
        if not self._has(row):
            return None  # what is lacking was looked for before
        target = blob_path(self._root, row.digest)
        if has_size(target, row.size_bytes):
            self._copier.named(target)
            self._pulse.tick(row.size_bytes)
        else:
            source = plain_file(blob_path(self._source, row.digest))
            problem = self._copier.blob(source, row.digest, row.size_bytes, target)
            if problem is not None:
                return problem if self._is_expected(row) else None
        source_segments = segments_path(self._source, row.digest)
        self._copier.segments(source_segments, row.segments, segments_path(self._root, row.digest))
        return None

    def _read_one(self, row: NamedBlob) -> str | None:
        target = blob_path(self._root, row.digest)
        if (
            not has_size(target, row.size_bytes)
            or hash_file(target, self._pulse.tick) == row.digest
        ):
            return None
        with translated("restoring"):
            self._disk.remove(target)
        return "the disk does not hold what was written"

    def copy_private(self) -> None:
        for name in self._one.private:
            with translated("restoring"):
                content = (self._source / PRIVATE / str(self._one.number) / name).read_bytes()
                folder = self._root / os.path.dirname(name)
                self._disk.make_directory(str(folder), below=str(self._root))
                folder.chmod(0o700)
            self._copier.small(content, f"{self._root}/{name}", mode=0o600)

    def place_index(self) -> None:
        self._pulse.begin("index")
        fresh = self._work / layout.INDEX_FILE
        for stale in self._work.glob(f"{layout.INDEX_FILE}*"):
            stale.unlink()
        copy_whole(self._index, fresh)
        self._tidy(fresh)
        with translated("restoring the index"):
            self._disk.sync_file(str(fresh))
            self._disk.move(str(fresh), f"{self._root}/{layout.INDEX_FILE}")

    def _tidy(self, path: Path) -> None:
        try:
            with closing(driver.connect(path, busy_seconds=10)) as connection:
                connection.execute("BEGIN IMMEDIATE")
                self._forget_what_has_no_files(connection)
                self._settle_blobs(connection)
                self._begin_epoch(connection)
                connection.execute("COMMIT")
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite.Error as error:
            raise driver.translated(error, "tidying the index", path) from error

    def _forget_what_has_no_files(self, connection: sqlite.Connection) -> None:
        connection.execute("DELETE FROM quarantine")
        connection.execute("DELETE FROM leases")
        connection.execute("DELETE FROM uploads WHERE state <> ?", (FINISHED,))
        connection.execute("DELETE FROM store_state WHERE key = ?", (HOLDS,))
        connection.execute("UPDATE blobs SET verified_at = NULL, verified_boot = NULL")
        self._forget_archive(connection)

    def _forget_archive(self, connection: sqlite.Connection) -> None:
        """Bytes of cold blobs came along like all others; another archive comes with time."""
        connection.execute("DELETE FROM store_state WHERE key = ?", (ARCHIVE_ID,))
        if self._one.schema >= FIRST_WITH_ARCHIVE:
            connection.execute("UPDATE blobs SET archived = NULL WHERE archived IS NOT NULL")
            connection.execute("DELETE FROM archived")

    def _settle_blobs(self, connection: sqlite.Connection) -> None:
        with IndexCopy.open(self._index) as index:
            for page in index.pages():
                for row in page:
                    self._settle_blob(connection, row, index)

    def _settle_blob(self, connection: sqlite.Connection, row: NamedBlob, index: IndexCopy) -> None:
        key = row.digest.raw
        if has_size(blob_path(self._root, row.digest), row.size_bytes):
            if row.state != PRESENT:
                [(generation,)] = connection.execute(_NEXT_GENERATION).fetchall()
                connection.execute(
                    "UPDATE blobs SET state = ?, generation = ? WHERE digest = ?",
                    (PRESENT, generation, key),
                )
        elif index.owners(row.digest):
            connection.execute("UPDATE blobs SET state = ? WHERE digest = ?", (DAMAGED, key))
        else:
            connection.execute("DELETE FROM blobs WHERE digest = ?", (key,))

    def _begin_epoch(self, connection: sqlite.Connection) -> None:
        for name, value in (("epoch", str(self._plan.epoch)), (COLLECTION_OFF, OFF)):
            connection.execute(
                "INSERT INTO store_state (key, value) VALUES (?, ?) "
                "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                (name, value),
            )

    def declare_whole(self) -> None:
        facts = StoreFacts(self._plan.store_id, layout.LAYOUT_VERSION, self._plan.epoch)
        content = msgspec.json.format(msgspec.json.encode(facts)) + b"\n"
        with translated("restoring"):
            self._disk.write_file(
                f"{self._root}/{layout.STORE_FILE}",
                content,
                fresh=f"{self._work}/{layout.STORE_FILE}",
            )

    def clean_up(self) -> None:
        with translated("restoring"):
            self._sweep()
            self._disk.unlink_if_there(f"{self._work}/{PLAN}")
            self._work.rmdir()
            self._disk.sync_directory(str(self._root))

    def report(self) -> RestoreReport:
        with IndexCopy.open(self._index) as index:
            blobs = size_bytes = 0
            missing = []
            for page in index.pages():
                for row in page:
                    if has_size(blob_path(self._root, row.digest), row.size_bytes):
                        blobs, size_bytes = blobs + 1, size_bytes + row.size_bytes
                    elif index.owners(row.digest):
                        missing.append(str(row.digest))
        return RestoreReport(
            kind=self._marker.kind,
            number=self._one.number,
            store_id=self._plan.store_id,
            epoch=self._plan.epoch,
            schema=self._one.schema,
            blobs=blobs,
            bytes=size_bytes,
            missing=missing,
            private=self._one.private,
        )


def _is_begun(root: Path, plan: Plan) -> bool:
    """Whether a restore of the same was begun here; raises `StoreRefused` for anything else."""
    try:
        content = (root / WORK / PLAN).read_bytes()
        found = msgspec.json.decode(content, type=Plan)
    except FileNotFoundError:
        _require_empty(root)
        return False
    except msgspec.DecodeError as error:
        raise StoreRefused(f"{root / WORK / PLAN} cannot be read: {error}") from error
    if found != plan:
        raise StoreRefused(
            f"{root} holds an unfinished restore of generation {found.number} of store "
            f"{found.store_id}; finish that, or remove it"
        )
    return True


def _require_empty(root: Path) -> None:
    """Of a restore that was cut short before it had a plan nothing counts."""
    if read_facts(root) is not None:
        raise StoreRefused(f"{root} is a data directory already; restore to an empty one")
    foreign = set(os.listdir(root)) - _HARMLESS
    if WORK in foreign and all(name.startswith(PLAN) for name in os.listdir(root / WORK)):
        foreign.discard(WORK)
    if foreign:
        raise StoreRefused(f"{root} is not empty (it holds {min(foreign)!r})")
