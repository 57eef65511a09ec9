"""Reads a whole backup and says what in it is not as it should be."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import msgspec

from store.backups.copying import has_size, hash_file, in_threads, is_segments
from store.backups.directory import (
    PRIVATE,
    Generation,
    blob_path,
    finished,
    index_path,
    segments_path,
)
from store.backups.named import IndexCopy, NamedBlob, sha256_of
from store.backups.pulse import Pulse, Report
from store.digest import Digest
from store.errors import StoreError
from store.index.blobs import PRESENT

AT_ONCE: Final = 2
SHOWN_PROBLEMS: Final = 1000


class BackupProblem(msgspec.Struct, frozen=True):
    """Something that one generation cannot be restored with, or not whole."""

    generation: int
    what: str
    problem: str


class BackupVerdict(msgspec.Struct, frozen=True):
    """What was read and found; `problems` are the first of `found`."""

    generations: list[int]
    blobs: int
    bytes: int
    found: int
    problems: list[BackupProblem]


def verify_backup(
    source: Path,
    *,
    number: int | None = None,
    report: Report | None = None,
    stop: threading.Event | None = None,
    at_once: int = AT_ONCE,
) -> BackupVerdict:
    """Verify one generation, or all that are finished. Blocking; reads every byte from the disk.

    What the store itself had lost when a generation was made is no problem of the backup.
    Raises `StoreRefused` where there is no finished generation.
    """
    marker, newest = finished(source, number)
    chosen = marker.generations if number is None else [newest]
    pulse = Pulse(report=report, stop=stop)
    with pulse.crew(at_once, "verify") as threads, ExitStack() as indexes:
        work = _Verification(source, pulse, threads, indexes)
        for one in reversed(chosen):
            work.check(one)
    return BackupVerdict(
        [one.number for one in chosen], work.blobs, work.bytes, work.found, work.problems
    )


class _Verification:
    """Reads generation after generation; a blob that several name is read for the first."""

    def __init__(
        self, source: Path, pulse: Pulse, threads: ThreadPoolExecutor, indexes: ExitStack
    ) -> None:
        self._source = source
        self._pulse = pulse
        self._threads = threads
        self._indexes = indexes
        self._read: list[IndexCopy] = []
        self._bad: dict[Digest, str] = {}
        self.blobs = self.bytes = self.found = 0
        self.problems: list[BackupProblem] = []

    def check(self, one: Generation) -> None:
        for what, problem in self._problems(one):
            self.found += 1
            if len(self.problems) < SHOWN_PROBLEMS:
                self.problems.append(BackupProblem(one.number, what, problem))

    def _problems(self, one: Generation) -> Iterator[tuple[str, str]]:
        self._pulse.begin(f"index {one.number}")
        path = index_path(self._source, one.number)
        name = str(path.relative_to(self._source))
        try:
            if sha256_of(path) != one.index_sha256:
                yield name, "it is not what was written"
                return
            index = self._indexes.enter_context(IndexCopy.open(path))
            verdict = index.verdict()
            if verdict != "ok":
                yield name, f"it is damaged: {verdict}"
            yield from self._problems_of_blobs(one, index)
            self._read.append(index)
        except FileNotFoundError:
            yield name, "it is missing"
        except StoreError as error:
            yield name, str(error)
        for file in one.private:
            if not (self._source / PRIVATE / str(one.number) / file).is_file():
                yield f"{PRIVATE}/{one.number}/{file}", "it is missing"

    def _problems_of_blobs(self, one: Generation, index: IndexCopy) -> Iterator[tuple[str, str]]:
        self._pulse.begin(f"blobs {one.number}", one.bytes)
        known = {blob.digest for blob in one.missing}
        for page in index.pages():
            fresh = [row for row in page if not any(o.names(row.digest) for o in self._read)]
            for row, problem in in_threads(self._threads, self._problem, fresh):
                if problem is not None:
                    self._bad[row.digest] = problem
                else:
                    self.blobs += 1
                    self.bytes += row.size_bytes
            for row in page:
                problem = self._bad.get(row.digest)
                is_expected = row.state == PRESENT and str(row.digest) not in known
                if problem is not None and (is_expected or problem != _MISSING):
                    yield str(row.digest), problem

    def _problem(self, row: NamedBlob) -> str | None:
        path = blob_path(self._source, row.digest)
        if not has_size(path, row.size_bytes):
            return "it has another size" if Path(path).exists() else _MISSING
        if hash_file(path, self._pulse.tick) != row.digest:
            return "the bytes do not match"
        segments = segments_path(self._source, row.digest)
        if row.segments is not None and Path(segments).exists():
            return None if is_segments(segments, row.segments) else "its segments do not match"
        return None


_MISSING: Final = "it is missing"
