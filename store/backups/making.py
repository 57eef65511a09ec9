"""Makes a backup of a data directory that may be in use; see `store.backups` for why it is whole.

**Order**, and what a crash leaves after each step:

1. The marker says that a generation was begun: what was finished before stays as it is.
2. The index is copied, checked and synced: a file that no generation names; the next run removes
   it.
3. What it names is copied, four files at a time, each verified and synced before it has its name:
   files that the next run finds there.
4. All new names are made durable. After a run that was not finished these are all names, since
   whoever gave them may not have come this far.
5. The hold is looked at for the last time, then the marker is replaced: the backup is finished.
6. What no listed generation names is removed: if not now, then by the next run that removes one.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import msgspec

from store import layout
from store.backends.archive import ColdDirectory
from store.backups.copying import Copier, has_size, hash_file, in_threads
from store.backups.directory import (
    FORMAT,
    INDEXES,
    PARTIAL,
    PRIVATE,
    Begun,
    Generation,
    Kind,
    Marker,
    MissingBlob,
    blob_path,
    index_path,
    read_marker,
    require_apart,
    require_empty,
    segments_path,
    write_marker,
    writing,
)
from store.backups.named import IndexCopy, NamedBlob, sha256_of
from store.backups.pulse import Pulse, Report
from store.backups.sources import stored_files
from store.clock import Clock, system_clock
from store.digest import Digest
from store.durable import Disk, translated
from store.errors import StoreError, StoreRefused
from store.holds import Hold
from store.index.blobs import DAMAGED, PRESENT
from store.index.copies import IndexFacts, copy_whole, inspect
from store.opening import read_facts

KEEP: Final = 3
"""How many finished generations stay unless it is said otherwise."""

AT_ONCE: Final = 4
"""Files copied at a time: while one waits for its sync another is read."""


class BackupReport(msgspec.Struct, frozen=True):
    """What a backup made; `missing` says what of the store is damaged and so not in it."""

    kind: Kind
    number: int
    blobs: int
    bytes: int
    copied_blobs: int
    copied_bytes: int
    removed_blobs: int
    missing: list[MissingBlob]
    private: list[str]
    same_file_system: bool
    not_removed: str | None = None
    """Why what no generation names any more could not be removed."""


def make_backup(
    root: Path,
    target: Path,
    *,
    hold: Hold,
    archive: Path | None = None,
    kind: Kind = "backup",
    keep: int = KEEP,
    check: bool = False,
    private: Sequence[str] = (),
    disk: Disk | None = None,
    clock: Clock = system_clock,
    at_once: int = AT_ONCE,
    report: Report | None = None,
    stop: threading.Event | None = None,
    monotonic: Callable[[], float] = time.monotonic,
) -> BackupReport:
    """Copy the store in `root` to `target`. Blocking.

    The caller has taken `hold` before and releases it afterwards. `check` reads what is already
    there and replaces what is damaged. `archive` is where cold blobs are, if not below `root`; they
    are in the backup as they were before. `private` are small files below `root` to be taken along,
    for the owner's eyes only. Raises `StoreRefused` before anything is written, `StorageFull`,
    `Unavailable`; what was finished before stays valid.
    """
    facts = read_facts(root)
    if facts is None:
        raise StoreRefused(f"{root} is not a data directory of digestry")
    require_apart(root, target)
    cold = ColdDirectory(archive or root / layout.ARCHIVE, root)
    require_apart(Path(cold.root), target)
    disk = disk or Disk()
    _make(target, disk)
    pulse = Pulse(hold=hold, report=report, stop=stop, monotonic=monotonic)
    with writing(target):
        before = _prepared(target, facts.store_id, kind, disk)
        work = _Backup(root, cold, target, before, disk=disk, pulse=pulse, check=check)
        return work.run(clock=clock, keep=keep, private=private, at_once=at_once)


class _Backup:
    """One run, which makes one generation."""

    def __init__(
        self,
        root: Path,
        cold: ColdDirectory,
        target: Path,
        before: Marker,
        *,
        disk: Disk,
        pulse: Pulse,
        check: bool,
    ) -> None:
        self._root = root
        self._cold = cold
        self._target = target
        self._before = before
        self._disk = disk
        self._pulse = pulse
        self._check = check
        self._copier = Copier(target, f"{target}/{PARTIAL}", disk, pulse.tick)
        self._lock = threading.Lock()
        self._missing: list[MissingBlob] = []
        self._blobs = self._bytes = self._copied_blobs = self._copied_bytes = 0

    def run(self, *, clock: Clock, keep: int, private: Sequence[str], at_once: int) -> BackupReport:
        started = clock()
        number = self._next_number()
        begun = msgspec.structs.replace(self._before, unfinished=Begun(number, started))
        write_marker(self._target, begun, self._disk)
        self._sweep()
        facts = self._copy_index(number)
        with IndexCopy.open(index_path(self._target, number)) as index:
            self._require_archive(index)
            self._copy_named(index, at_once)
        for name in private:
            self._copy_private(number, name)
        self._copier.sync_names()
        self._pulse.require_hold()
        made = self._generation(number, started, clock(), facts, private)
        listed = [*self._before.generations, made][-keep:]
        after = msgspec.structs.replace(self._before, generations=listed, unfinished=None)
        write_marker(self._target, after, self._disk)  # from here on the backup is finished
        removed, not_removed = 0, None
        try:
            removed = self._prune(listed)
        except (StoreError, OSError) as error:
            not_removed = str(error)
        return BackupReport(
            kind=self._before.kind,
            number=number,
            blobs=self._blobs,
            bytes=self._bytes,
            copied_blobs=self._copied_blobs,
            copied_bytes=self._copied_bytes,
            removed_blobs=removed,
            missing=made.missing,
            private=made.private,
            same_file_system=os.stat(self._root).st_dev == os.stat(self._target).st_dev,
            not_removed=not_removed,
        )

    def _next_number(self) -> int:
        numbers = [one.number for one in self._before.generations]
        if self._before.unfinished is not None:
            numbers.append(self._before.unfinished.number)
        return max(numbers, default=0) + 1

    def _sweep(self) -> None:
        """Remove what earlier runs were copying when they ended."""
        self._remove_below(PARTIAL, set())
        listed = {f"{one.number}.sqlite3" for one in self._before.generations}
        self._remove_below(INDEXES, listed)

    def _copy_index(self, number: int) -> IndexFacts:
        self._pulse.begin("index")
        path = index_path(self._target, number)
        copy_whole(self._root / layout.INDEX_FILE, path)
        self._pulse.tick(0)
        found = inspect(path, path.name)
        if found.store_id != self._before.store_id:
            raise StoreRefused(
                f"the index is of store {found.store_id}, the backup of {self._before.store_id}"
            )
        return found

    def _require_archive(self, index: IndexCopy) -> None:
        """Cold blobs are not missing because the disk that has them is not mounted."""
        expected = index.archive_id()
        marker = self._cold.marker()
        if expected is not None and (marker is None or marker.archive_id != expected):
            raise StoreRefused(
                f"the store has cold blobs in the archive {expected}, which is not at "
                f"{self._cold.where}; mount its disk, or set store.archive to where it is"
            )

    def _copy_named(self, index: IndexCopy, at_once: int) -> None:
        self._pulse.begin("blobs", index.totals()[1])
        with self._pulse.crew(at_once, "backup") as threads:
            for page in index.pages():
                for row, problem in in_threads(threads, self._copy_one, page):
                    if problem is not None:
                        self._miss(index, row, problem)

    def _copy_one(self, row: NamedBlob) -> str | None:
        """Make sure of one blob; say what is wrong with all its files, if so."""
        target = blob_path(self._target, row.digest)
        if self._is_there(row, target):
            self._pulse.tick(row.size_bytes)
            if self._before.unfinished is not None:
                self._copier.named(target)
        elif row.state == DAMAGED:
            return "it was damaged before"
        else:
            problem = self._take(row, target)
            if problem is not None:
                return problem
            with self._lock:
                self._copied_blobs += 1
                self._copied_bytes += row.size_bytes
        source = segments_path(self._root, row.digest)
        self._copier.segments(source, row.segments, segments_path(self._target, row.digest))
        with self._lock:
            self._blobs += 1
            self._bytes += row.size_bytes
        return None

    def _take(self, row: NamedBlob, target: str) -> str | None:
        if self._before.kind == "snapshot":
            source = blob_path(self._root, row.digest)
            if self._is_there(row, source) and self._copier.link(source, target):
                self._pulse.tick(row.size_bytes)
                return None
        return self._copier.blob(
            stored_files(self._root, self._cold, row.digest, row.generation),
            row.digest,
            row.size_bytes,
            target,
        )

    def _is_there(self, row: NamedBlob, target: str) -> bool:
        if not has_size(target, row.size_bytes):
            return False
        return not self._check or hash_file(target, _nothing) == row.digest

    def _miss(self, index: IndexCopy, row: NamedBlob, problem: str) -> None:
        """A blob that nobody refers to and that was on its way out is not missed."""
        owners = index.owners(row.digest)
        if owners or row.state == PRESENT:
            self._missing.append(MissingBlob(str(row.digest), row.size_bytes, problem, owners))

    def _copy_private(self, number: int, name: str) -> None:
        content = (self._root / name).read_bytes()
        target = f"{self._target}/{PRIVATE}/{number}/{name}"
        with translated("copying"):
            self._disk.make_directory(os.path.dirname(target), below=str(self._target))
            (self._target / PRIVATE).chmod(0o700)
        self._copier.small(content, target, mode=0o600)

    def _generation(
        self, number: int, started: int, now: int, facts: IndexFacts, private: Sequence[str]
    ) -> Generation:
        path = index_path(self._target, number)
        return Generation(
            number=number,
            started_at=started,
            finished_at=now,
            epoch=facts.epoch or 0,
            schema=facts.schema,
            index_sha256=sha256_of(path),
            index_bytes=path.stat().st_size,
            blobs=self._blobs,
            bytes=self._bytes,
            copied_blobs=self._copied_blobs,
            copied_bytes=self._copied_bytes,
            missing=self._missing,
            private=list(private),
        )

    def _prune(self, listed: Sequence[Generation]) -> int:
        """Remove what no listed generation names; return how many blobs."""
        if not any(one not in listed for one in self._before.generations):
            return 0  # every blob there is was named before, and still is
        self._pulse.begin("pruning")
        self._remove_below(INDEXES, {f"{one.number}.sqlite3" for one in listed})
        self._remove_private({str(one.number) for one in listed})
        removed = 0
        with ExitStack() as stack:
            indexes = [
                stack.enter_context(IndexCopy.open(index_path(self._target, one.number)))
                for one in listed
            ]

            def is_named(digest: Digest) -> bool:
                return any(index.names(digest) for index in indexes)

            for folder in (layout.BLOBS, layout.SEGMENTS):
                for path, digest in _digests_below(self._target / folder):
                    if not is_named(digest):
                        with translated("pruning"):
                            self._disk.unlink_if_there(path)
                        removed += folder == layout.BLOBS
                    self._pulse.tick(0)
        return removed

    def _remove_private(self, kept: set[str]) -> None:
        folder = self._target / PRIVATE
        for number in sorted(os.listdir(folder)) if folder.is_dir() else []:
            if number in kept:
                continue
            for parent, _, names in os.walk(folder / number, topdown=False):
                for name in names:
                    self._disk.unlink_if_there(f"{parent}/{name}")
                os.rmdir(parent)

    def _remove_below(self, folder: str, kept: set[str]) -> None:
        with translated("sweeping"):
            for name in sorted(os.listdir(self._target / folder)):
                if name not in kept:
                    self._disk.unlink_if_there(f"{self._target}/{folder}/{name}")


def _nothing(_: int) -> None:
    """Progress is told for what is there as a whole."""


def _make(target: Path, disk: Disk) -> None:
    """Make the directory, or make sure that what is there is a backup or nothing."""
    with translated("making the directory of the backup"):
        if not target.exists():
            there = next(parent for parent in target.parents if parent.exists())
            disk.make_directory(str(target), below=str(there))
            target.chmod(0o700)
        elif read_marker(target) is None:
            require_empty(target)


def _prepared(target: Path, store_id: str, kind: Kind, disk: Disk) -> Marker:
    """What the directory has, for a new generation of this store; written where it has nothing."""
    marker = read_marker(target)
    if marker is None:
        marker = Marker(FORMAT, kind, store_id, [])
        write_marker(target, marker, disk)
    if marker.store_id != store_id:
        raise StoreRefused(f"{target} is a backup of store {marker.store_id}, this is {store_id}")
    if marker.kind != kind:
        raise StoreRefused(
            f"{target} is a {marker.kind}, which shares {_SHARED[marker.kind]} with the store; "
            f"a {kind} needs a directory of its own"
        )
    with translated("making the directory of the backup"):
        for folder in (INDEXES, PARTIAL, layout.BLOBS, layout.SEGMENTS):
            disk.make_directory(f"{target}/{folder}", below=str(target))
    return marker


_SHARED: Final[dict[Kind, str]] = {"backup": "nothing", "snapshot": "its blobs"}


def _digests_below(folder: Path) -> Iterator[tuple[str, Digest]]:
    """Files in shards that are called like blobs."""
    for first in sorted(os.listdir(folder)):
        for second in sorted(os.listdir(folder / first)):
            for name in sorted(os.listdir(folder / first / second)):
                digest = layout.parse_blob_name(f"{first}/{second}", name)
                if digest is not None:
                    yield f"{folder}/{first}/{second}/{name}", digest
