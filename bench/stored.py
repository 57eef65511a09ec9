"""A data directory with many blobs, written past the server: files, and rows without references.

The blobs are old, so that whoever collects or checks them need not wait for their grace.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from blake3 import blake3

from store.digest import Digest
from store.index.driver import sqlite
from store.index.schema import blobs
from store.layout import INDEX_FILE, blob_key

GIB: Final = 1 << 30
BLOBS: Final = 100_000
"""How many stand for a ``--size`` of one gibibyte."""

AGE: Final = 1_700_000_000
"""Seconds since the epoch: when all was stored and claimed last."""

_PIECE: Final = 10_000


def blobs_for(size_bytes: int) -> int:
    return max(100, size_bytes * BLOBS // GIB)


def fill(data: Path, count: int, size_bytes: int) -> None:
    """Store so many blobs of that size in a directory that a server has made."""
    shared = os.urandom(size_bytes - 8)
    made: set[str] = set()
    for start in range(0, count, _PIECE):
        rows = list(_stored(data, shared, range(start, min(count, start + _PIECE)), made))
        _insert(data / INDEX_FILE, rows)


def fill_with_names(data: Path, count: int) -> None:
    """Make so many blobs be there by name and size alone, as links of few files.

    For questions that read none of them: their digests are not of their bytes.
    """
    source, made = data / "linked", set[str]()
    for start in range(0, count, _PIECE):
        source.unlink(missing_ok=True)
        source.write_bytes(b"nothing\n")
        rows = []
        for number in range(start, min(count, start + _PIECE)):
            digest = hashlib.sha256(number.to_bytes(8, "big"))
            path = f"{data}/{blob_key(Digest(digest.hexdigest()))}"
            folder = os.path.dirname(path)
            if folder not in made:
                os.makedirs(folder, exist_ok=True)
                made.add(folder)
            os.link(source, path)
            rows.append(_row(digest.digest(), 8, digest.digest()))
        _insert(data / INDEX_FILE, rows)
    source.unlink()


def forget(data: Path) -> None:
    """Let the index be empty again, as if it had been made anew."""
    connection = sqlite.connect(str(data / INDEX_FILE), isolation_level=None)
    for table in ("refs", "blobs"):
        connection.execute(f"DELETE FROM {table}")
    connection.close()


def stored_again(source: Path, target: Path) -> None:
    """The same store once more, for a measurement that changes it; its files are linked."""
    shutil.copytree(source, target, copy_function=_copied)


def _copied(source: str, target: str) -> None:
    """Blobs never change, so one inode serves all; everything else is a file of its own."""
    if "/blobs/" in source:
        os.link(source, target)
    else:
        shutil.copy2(source, target)


def _stored(data: Path, shared: bytes, numbers: range, made: set[str]) -> Iterator[dict[str, Any]]:
    for number in numbers:
        content = number.to_bytes(8, "big") + shared
        digest = hashlib.sha256(content)
        path = data / blob_key(Digest(digest.hexdigest()))
        if str(path.parent) not in made:
            path.parent.mkdir(parents=True, exist_ok=True)
            made.add(str(path.parent))
        path.write_bytes(content)
        os.utime(path, (AGE, AGE))
        yield _row(digest.digest(), len(content), blake3(content).digest())


def _row(digest: bytes, size_bytes: int, segments: bytes) -> dict[str, Any]:
    return {
        "digest": digest,
        "size": size_bytes,
        "state": "present",
        "generation": 1,
        "segments": segments,
        "created_at": AGE * 1_000_000,
        "last_claimed": AGE * 1_000_000,
    }


def _insert(database: Path, rows: list[dict[str, Any]]) -> None:
    names = [column.name for column in blobs.columns if column.name in rows[0]]
    places = ", ".join(f":{name}" for name in names)
    connection = sqlite.connect(str(database), isolation_level=None)
    connection.execute("BEGIN")
    connection.executemany(f"INSERT INTO blobs ({', '.join(names)}) VALUES ({places})", rows)
    connection.execute("COMMIT")
    connection.close()
