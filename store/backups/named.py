"""What a copy of an index names, read from a file that nobody writes any more."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from store.cold import ARCHIVE_ID
from store.digest import Digest
from store.durable import translated
from store.errors import StoreRefused
from store.index import driver
from store.index.driver import sqlite

PAGE: Final = 500
SHOWN_OWNERS: Final = 10

_READ_BYTES: Final = 1 << 20


class NamedBlob(msgspec.Struct, frozen=True):
    """A row of `blobs`, as far as a copy of the store needs it."""

    digest: Digest
    size_bytes: int
    state: str
    generation: int
    segments: bytes | None


class IndexCopy:
    """A finished copy; nothing is written to it, not even beside it."""

    def __init__(self, connection: sqlite.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[IndexCopy]:
        """Raises `StoreRefused` where there is none, or for what turns out not to be an index."""
        address = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
        try:
            connection = sqlite.connect(
                address, uri=True, isolation_level=None, check_same_thread=False
            )
        except sqlite.Error as error:
            raise StoreRefused(f"{path} cannot be opened: {error}") from error
        try:
            yield cls(connection, path)
        except sqlite.Error as error:
            raise driver.translated(error, "reading a copy of the index", path) from error
        finally:
            connection.close()

    def pages(self) -> Iterator[list[NamedBlob]]:
        """All blobs in order of digest, some at a time."""
        after = b""
        while found := self._connection.execute(
            "SELECT digest, size, state, generation, segments FROM blobs "
            "WHERE digest > ? ORDER BY digest LIMIT ?",
            (after, PAGE),
        ).fetchall():
            yield [NamedBlob(Digest(row[0].hex()), *row[1:]) for row in found]
            after = found[-1][0]

    def totals(self) -> tuple[int, int]:
        """How many blobs that are not damaged, and their bytes."""
        row = self._connection.execute(
            "SELECT count(*), coalesce(sum(size), 0) FROM blobs WHERE state <> 'damaged'"
        ).fetchone()
        return int(row[0]), int(row[1])

    def archive_id(self) -> str | None:
        """Which archive has bytes of its blobs; None if they all have files of their own."""
        if not self._knows_archive():
            return None
        found = self._connection.execute(
            "SELECT value FROM store_state WHERE key = ? AND EXISTS "
            "(SELECT 1 FROM blobs WHERE archived IS NOT NULL)",
            (ARCHIVE_ID,),
        ).fetchone()
        return None if found is None else str(found[0])

    def _knows_archive(self) -> bool:
        """Whether the copy is of a schema that has archives at all."""
        found = self._connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'archived'")
        return found.fetchone() is not None

    def names(self, digest: Digest) -> bool:
        found = self._connection.execute("SELECT 1 FROM blobs WHERE digest = ?", (digest.raw,))
        return found.fetchone() is not None

    def owners(self, digest: Digest) -> list[str]:
        """Some of those who refer to a blob; none if nobody does."""
        found = self._connection.execute(
            "SELECT DISTINCT owner FROM refs WHERE digest = ? ORDER BY owner LIMIT ?",
            (digest.raw, SHOWN_OWNERS),
        )
        return [row[0] for row in found.fetchall()]

    def verdict(self) -> str:
        """``ok``, or the first thing that is wrong with the database. Reads all of it."""
        row = self._connection.execute("PRAGMA integrity_check(1)").fetchone()
        return str(row[0])


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file. Raises `FileNotFoundError`."""
    running = hashlib.sha256()
    with translated("reading"), path.open("rb", buffering=0) as file:
        while piece := file.read(_READ_BYTES):
            running.update(piece)
    return running.hexdigest()
