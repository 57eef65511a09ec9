"""Checks a store from the outside: plain SQL, plain files, `hashlib`, none of the store's modules.

`assert_store_is_sound` reads a data directory, `assert_memory_is_sound` an open memory store; both
collect the same `Picture` and judge it by the same rules. What a crash may leave for a while is
named in `Tolerance`; after `settle` and a repairing `fsck` nothing is tolerated.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import pysqlite3.dbapi2 as sqlite
from backports import zstd
from sqlalchemy import text

from store.index.transactions import Statement, Tx

if TYPE_CHECKING:
    from store.opening import Store

_HEX = re.compile(r"[0-9a-f]{64}\Z")
_ASIDE = re.compile(r"([0-9a-f]{64})\.([0-9]+)\Z")
_SESSION = re.compile(r"[a-z0-9_]{8,64}\Z")
_FOLDERS = ("blobs", "segments", "quarantine", "uploads", "archive")
_QUERIES = {
    "blobs": "SELECT lower(hex(digest)), size, state, generation FROM blobs",
    "refs": "SELECT lower(hex(digest)), owner, kind, count FROM refs",
    "uploads": 'SELECT id, state, "offset", length, boot FROM uploads',
    "quarantine": "SELECT lower(hex(digest)), generation, size, reason FROM quarantine "
    "WHERE archived IS NULL",
    "cold": "SELECT lower(hex(digest)), archived FROM blobs WHERE archived IS NOT NULL",
    "cold_asides": "SELECT lower(hex(digest)), archived FROM quarantine WHERE archived IS NOT NULL",
    "archived": "SELECT lower(hex(digest)), number, size, stored, spare_since FROM archived",
    "counters": "SELECT name, value FROM counters",
    "state": "SELECT key, value FROM store_state",
}
STATEMENTS = {name: Statement(text(sql)) for name, sql in _QUERIES.items()}


class Tolerance(msgspec.Struct, frozen=True):
    """What a crash or a failed call leaves, until housekeeping has been there."""

    moving: bool = False
    """Rows on the move; their files may be at either end."""
    strays: bool = False
    """Staging files that no session explains."""
    lost_asides: bool = False
    """Quarantine rows without their file or files without their row."""
    rotten: frozenset[str] = frozenset()
    """Digests whose file the disk has damaged or lost, and nobody has noticed yet."""


NOTHING = Tolerance()
AFTER_CRASH = Tolerance(moving=True, strays=True, lost_asides=True)


class Picture(msgspec.Struct):
    """Everything a store consists of, as found."""

    rows: dict[str, list[tuple[Any, ...]]]
    files: dict[str, tuple[int, str]]
    """Blob digest to size and what the bytes hash to."""
    asides: dict[tuple[str, int], int]
    staged: dict[str, int]
    unknown: list[str]
    store_ids: set[str]
    cold: dict[tuple[str, int], tuple[int, str]] = {}
    """Digest and number of a file in the archive to plain size and what the bytes hash to."""
    partial: set[tuple[str, int]] = set()
    """Files of the archive being written."""


def assert_store_is_sound(root: Path, tolerate: Tolerance = NOTHING) -> Picture:
    """Raise `AssertionError` with everything that is wrong with a data directory."""
    return judge(picture_of(root), tolerate, f"store in {root}")


async def assert_memory_is_sound(store: Store, tolerate: Tolerance = NOTHING) -> Picture:
    """The same for an open store in memory."""

    async def read(tx: Tx) -> dict[str, list[tuple[Any, ...]]]:
        return {name: list(await tx.all(query)) for name, query in STATEMENTS.items()}

    rows = await store.index.read(read)
    picture = picture_in_memory(store.blobs, rows, store.cold.files)
    return judge(picture, tolerate, "store in memory")


class Content(Protocol):
    """What a file holds."""

    def size(self) -> int: ...

    def sha256(self) -> str: ...

    def plain(self) -> tuple[int, str]:
        """Size and hash of what it holds compressed, as any program for zstd reads it."""
        ...

    def read(self) -> bytes: ...


class _OnDisk:
    def __init__(self, path: Path) -> None:
        self._path = path

    def size(self) -> int:
        return self._path.stat().st_size

    def sha256(self) -> str:
        with self._path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def plain(self) -> tuple[int, str]:
        return _plain(self.read())

    def read(self) -> bytes:
        return self._path.read_bytes()


class Written(msgspec.Struct, frozen=True):
    """Bytes that a file would hold. What they come to is worked out once for equal bytes."""

    content: bytes

    def size(self) -> int:
        return len(self.content)

    def sha256(self) -> str:
        return _hash_again(self.content)

    def plain(self) -> tuple[int, str]:
        return _plain_again(self.content)

    def read(self) -> bytes:
        return self.content


def picture_of(root: Path) -> Picture:
    """The picture of a data directory."""
    paths = [path for folder in _FOLDERS for path in _files_below(root / folder)]
    files = {str(path.relative_to(root)): _OnDisk(path) for path in (*paths, root / "store.json")}
    return picture_of_files(files, rows_in(root / "index.sqlite3"))


def picture_of_files(
    files: Mapping[str, Content], rows: dict[str, list[tuple[Any, ...]]]
) -> Picture:
    """The picture of a directory with these files beside an index with these rows."""
    ids = {json.loads(files["store.json"].read())["store_id"]}
    ids |= {value for key, value in rows["state"] if key == "store_id"}
    if "archive/archive.json" in files:
        ids.add(json.loads(files["archive/archive.json"].read())["store_id"])
    picture = Picture(rows, {}, {}, {}, [], ids)
    for path, content in files.items():
        parts = path.split("/")
        if parts[0] in _FOLDERS and not _add(picture, parts, content):
            picture.unknown.append(path)
    return picture


def _add(picture: Picture, parts: list[str], content: Content) -> bool:
    """Add a file to a picture; whether such a file belongs there."""
    name = parts[-1]
    match parts:
        case ["blobs", "sha256", first, second, _]:
            if not _HEX.match(name) or (first, second) != (name[:2], name[2:4]):
                return False
            picture.files[name] = content.size(), content.sha256()
            return True
        case ["segments", *_]:
            return bool(_HEX.match(name))
        case ["uploads", *_]:
            if not _SESSION.match(name):
                return False
            picture.staged[name] = content.size()
            return True
        case ["archive", *_] if name.startswith("archive.json"):
            return True
    aside = _ASIDE.match(name)
    if aside is None:
        return False
    key = aside[1], int(aside[2])
    match parts:
        case ["quarantine", *_]:
            picture.asides[key] = content.size()
        case ["archive", "zstd", first, second, _] if (first, second) == (name[:2], name[2:4]):
            picture.cold[key] = content.plain()
        case ["archive", "partial", _]:
            picture.partial.add(key)
        case _:
            return False
    return True


def _plain(compressed: bytes) -> tuple[int, str]:
    try:
        content = zstd.decompress(compressed)
    except zstd.ZstdError as error:
        return -1, str(error)
    return len(content), hashlib.sha256(content).hexdigest()


_plain_again = lru_cache(64)(_plain)


@lru_cache(64)
def _hash_again(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def rows_in(index: Path) -> dict[str, list[tuple[Any, ...]]]:
    """The store's tables, read by a connection of our own."""
    connection = sqlite.connect(str(index), timeout=10)
    try:
        return {name: connection.execute(sql).fetchall() for name, sql in _QUERIES.items()}
    finally:
        connection.close()


def picture_in_memory(
    blobs: Any, rows: dict[str, list[tuple[Any, ...]]], archive: Any = None
) -> Picture:
    """The picture of a `MemoryBlobStore` and its archive beside rows that were read already."""
    return Picture(
        rows,
        {
            digest.hex: (len(content), hashlib.sha256(content).hexdigest())
            for digest, (content, _) in blobs.blobs.items()
        },
        {(digest.hex, generation): len(c) for (digest, generation), c in blobs.aside.items()},
        {session: len(staging.content) for session, staging in blobs.staged.items()},
        [],
        {"one"},
        {
            (digest.hex, number): (len(content), hashlib.sha256(content).hexdigest())
            for (digest, number), content in ({} if archive is None else archive.files).items()
        },
    )


def problems_of(picture: Picture, tolerate: Tolerance = NOTHING) -> list[str]:
    """Every rule that a picture breaks, as sentences."""
    return [
        *_problems_of_blobs(picture, tolerate),
        *_problems_of_archive(picture, tolerate),
        *_problems_of_refs(picture, tolerate),
        *_problems_of_quarantine(picture, tolerate),
        *_problems_of_generations(picture),
        *_problems_of_uploads(picture, tolerate),
        *[f"unknown file {name}" for name in picture.unknown],
        *([f"two stores in one: {picture.store_ids}"] if len(picture.store_ids) != 1 else []),
    ]


def judge(picture: Picture, tolerate: Tolerance, what: str) -> Picture:
    """Raise `AssertionError` with every rule that a picture breaks."""
    problems = problems_of(picture, tolerate)
    assert not problems, f"{what} is not sound:\n  " + "\n  ".join(problems)
    return picture


def _problems_of_blobs(picture: Picture, tolerate: Tolerance) -> list[str]:
    problems = []
    states = {}
    cold = dict(picture.rows["cold"])
    for digest, size, state, _ in picture.rows["blobs"]:
        states[digest] = state
        found = picture.files.get(digest)
        if state == "moving" and not tolerate.moving:
            problems.append(f"blob {digest} is still moving")
        if digest in cold:
            problems += _problems_of_cold(picture, tolerate, digest, cold[digest], (size, state))
            continue
        if state != "present" or digest in tolerate.rotten:
            continue
        if found is None:
            problems.append(f"blob {digest} is present and has no file")
        elif found != (size, digest):
            problems.append(f"blob {digest} of {size} bytes has a file with {found}")
    for digest, (size, actual) in picture.files.items():
        if digest not in states and actual != digest and digest not in tolerate.rotten:
            problems.append(f"orphan {digest} of {size} bytes is not whole")
    return problems


def _problems_of_cold(
    picture: Picture, tolerate: Tolerance, digest: str, number: int, facts: tuple[int, str]
) -> list[str]:
    """A blob whose row names a file of the archive is readable there, also while it moves."""
    size, state = facts
    found = picture.cold.get((digest, number))
    if state == "damaged":
        return [f"blob {digest} is damaged and has file {number} of the archive"]
    if digest in tolerate.rotten or found == (size, digest):
        return []
    if found is None:
        return [f"blob {digest} is cold and has no file {number} in the archive"]
    return [f"blob {digest} of {size} bytes has a file in the archive with {found}"]


def _problems_of_archive(picture: Picture, tolerate: Tolerance) -> list[str]:
    rows = {(row[0], row[1]): row for row in picture.rows["archived"]}
    named = Counter([*picture.rows["cold"], *picture.rows["cold_asides"]])
    problems = [f"archived file {key} is named twice" for key, n in named.items() if n > 1]
    for key in {*named, *rows, *picture.cold, *picture.partial}:
        row = rows.get(key)
        if row is None:
            problems.append(f"archived file {key} has no row")
        elif (row[4] is None) != (key in named):
            problems.append(f"archived file {key} is spare since {row[4]} and named {key in named}")
        elif row[3] is None and key in named:
            problems.append(f"archived file {key} is used and was never finished")
        elif key in picture.partial and row[3] is not None:
            problems.append(f"archived file {key} is partial and said to be finished")
    for key in picture.rows["cold_asides"]:
        if key not in picture.cold and not tolerate.lost_asides and key[0] not in tolerate.rotten:
            problems.append(f"quarantine names {key} in the archive, which is not there")
    return problems


def _problems_of_refs(picture: Picture, tolerate: Tolerance) -> list[str]:
    states = {row[0]: row[2] for row in picture.rows["blobs"]}
    fine = {"present", "damaged"} | ({"moving"} if tolerate.moving else set())
    problems = [
        f"{owner} refers ({kind}) to {digest}, which is {states.get(digest, 'absent')}"
        for digest, owner, kind, _ in picture.rows["refs"]
        if states.get(digest) not in fine
    ]
    problems += [f"{row[1]} refers {row[3]} times" for row in picture.rows["refs"] if row[3] < 1]
    return problems


def _problems_of_quarantine(picture: Picture, tolerate: Tolerance) -> list[str]:
    if tolerate.lost_asides:
        return []
    rows = {(row[0], row[1]): row[2] for row in picture.rows["quarantine"]}
    moving = {(row[0], row[3]) for row in picture.rows["blobs"] if row[2] == "moving"}
    names = {name for name in rows.keys() ^ picture.asides.keys() if name not in moving}
    return [
        f"quarantine of {digest}.{generation} has "
        + ("a row and no file" if (digest, generation) in rows else "a file and no row")
        for digest, generation in sorted(names)
    ]


def _problems_of_generations(picture: Picture) -> list[str]:
    problems = []
    seen: dict[int, str] = {}
    for digest, _, state, generation in picture.rows["blobs"]:
        if generation in seen:
            problems.append(f"generation {generation} of {digest} and {seen[generation]}")
        seen[generation] = digest
        if state == "present" and (digest, generation) in picture.asides:
            problems.append(f"generation {generation} of {digest} is present and in quarantine")
    for digest, generation in picture.asides:
        if seen.setdefault(generation, digest) != digest:
            problems.append(f"generation {generation} of {digest} and {seen[generation]}")
    last = dict(picture.rows["counters"]).get("generation", 0)
    if seen and max(seen) > last:
        problems.append(f"generation {max(seen)} is above the counter, {last}")
    return problems


def _problems_of_uploads(picture: Picture, tolerate: Tolerance) -> list[str]:
    problems = []
    receiving = {row[0]: row for row in picture.rows["uploads"] if row[1] == "receiving"}
    for session, (_, _, offset, length, _) in receiving.items():
        size = picture.staged.get(session)
        if size is None:
            problems.append(f"upload {session} has lost its staging file")
        elif size < offset:
            problems.append(f"upload {session} says {offset} and has {size} bytes")
        if length is not None and offset > length:
            problems.append(f"upload {session} of {length} bytes is at {offset}")
    if not tolerate.strays:
        strays = picture.staged.keys() - receiving.keys()
        problems += [f"staging file {name} belongs to no upload" for name in sorted(strays)]
    digests = {row[0] for row in picture.rows["uploads"]}
    assert len(digests) == len(picture.rows["uploads"])
    return problems


def _files_below(folder: Path) -> list[Path]:
    return [Path(parent, name) for parent, _, names in os.walk(folder) for name in sorted(names)]
