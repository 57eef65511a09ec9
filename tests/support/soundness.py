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
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    return _judge(picture_of(root), tolerate, f"store in {root}")


async def assert_memory_is_sound(store: Store, tolerate: Tolerance = NOTHING) -> Picture:
    """The same for an open store in memory."""

    async def read(tx: Tx) -> dict[str, list[tuple[Any, ...]]]:
        return {name: list(await tx.all(query)) for name, query in STATEMENTS.items()}

    rows = await store.index.read(read)
    picture = picture_in_memory(store.blobs, rows, store.cold.files)
    return _judge(picture, tolerate, "store in memory")


def picture_of(root: Path) -> Picture:
    unknown: list[str] = []
    files = {}
    for path in _files_below(root / "blobs"):
        parts = path.relative_to(root).parts
        name = path.name
        if parts != ("blobs", "sha256", name[:2], name[2:4], name) or not _HEX.match(name):
            unknown.append(str(path.relative_to(root)))
            continue
        files[name] = (path.stat().st_size, _sha256(path))
    for path in _files_below(root / "segments"):
        if not _HEX.match(path.name):
            unknown.append(str(path.relative_to(root)))
    asides = {}
    for path in _files_below(root / "quarantine"):
        match = _ASIDE.match(path.name)
        if match is None:
            unknown.append(str(path.relative_to(root)))
        else:
            asides[match[1], int(match[2])] = path.stat().st_size
    staged = {}
    for path in _files_below(root / "uploads"):
        if _SESSION.match(path.name):
            staged[path.name] = path.stat().st_size
        else:
            unknown.append(str(path.relative_to(root)))
    cold, partial = _archive_in(root / "archive", unknown)
    rows = rows_of(root)
    ids = {json.loads((root / "store.json").read_text())["store_id"]}
    ids |= {value for key, value in rows["state"] if key == "store_id"}
    if (root / "archive" / "archive.json").exists():
        ids.add(json.loads((root / "archive" / "archive.json").read_text())["store_id"])
    return Picture(rows, files, asides, staged, unknown, ids, cold, partial)


def _archive_in(
    root: Path, unknown: list[str]
) -> tuple[dict[tuple[str, int], tuple[int, str]], set[tuple[str, int]]]:
    """Finished and unfinished files; finished ones are read as any program for zstd reads them."""
    cold, partial = {}, set()
    for path in _files_below(root):
        parts, match = path.relative_to(root).parts, _ASIDE.match(path.name)
        name = path.name
        if match is not None and parts == ("zstd", name[:2], name[2:4], name):
            cold[match[1], int(match[2])] = _plain(path)
        elif match is not None and parts == ("partial", name):
            partial.add((match[1], int(match[2])))
        elif not name.startswith("archive.json"):
            unknown.append(str(path))
    return cold, partial


def _plain(path: Path) -> tuple[int, str]:
    try:
        content = zstd.decompress(path.read_bytes())
    except zstd.ZstdError as error:
        return -1, str(error)
    return len(content), hashlib.sha256(content).hexdigest()


def rows_of(root: Path) -> dict[str, list[tuple[Any, ...]]]:
    """The store's tables, read by a connection of our own."""
    connection = sqlite.connect(str(root / "index.sqlite3"), timeout=10)
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


def _judge(picture: Picture, tolerate: Tolerance, what: str) -> Picture:
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


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
