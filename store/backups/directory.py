"""The directory of a backup: what lies where, and the marker that says what is finished.

::

    backup.json                       the marker
    lock                              held by whoever writes there
    indexes/<number>.sqlite3          the index of one generation
    blobs/sha256/ab/cd/<64 hex>       blobs, shared by all generations
    segments/sha256/ab/cd/<64 hex>    their segments files
    private/<number>/…                keys, if they were asked for
    partial/<64 hex>.<random>         bytes being copied
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

import msgspec

from store import layout
from store.digest import Digest
from store.durable import Disk, translated
from store.errors import StoreRefused

FORMAT: Final = "digestry-backup-1"
MARKER: Final = "backup.json"
LOCK: Final = "lock"
INDEXES: Final = "indexes"
PARTIAL: Final = "partial"
PRIVATE: Final = "private"

Kind = Literal["backup", "snapshot"]
"""A snapshot shares its blobs' bytes with the store, by hard links: one damaged disk takes both."""

_HARMLESS: Final = frozenset((LOCK, "lost+found"))


class MissingBlob(msgspec.Struct, frozen=True):
    """A blob that the index names and the store had no good bytes of; `owners` are some of them."""

    digest: str
    size_bytes: int
    problem: str
    owners: list[str]


class Generation(msgspec.Struct, frozen=True):
    """One finished backup. Times are microseconds since the epoch, UTC."""

    number: int
    started_at: int
    finished_at: int
    epoch: int
    schema: int
    index_sha256: str
    index_bytes: int
    blobs: int
    bytes: int
    copied_blobs: int
    copied_bytes: int
    missing: list[MissingBlob]
    private: list[str]
    """Files besides, keys say, by their path below the data directory."""


class Begun(msgspec.Struct, frozen=True):
    """A backup that was begun and has not been finished."""

    number: int
    started_at: int


class Marker(msgspec.Struct, frozen=True):
    """What ``backup.json`` says; generations are in order, the newest last."""

    format: str
    kind: Kind
    store_id: str
    generations: list[Generation]
    unfinished: Begun | None = None


def read_marker(root: Path) -> Marker | None:
    """The marker of a directory, None if it has none. Raises `StoreRefused` if it is not ours."""
    path = root / MARKER
    try:
        with translated("reading the marker"):
            content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        known = msgspec.json.decode(content, type=_Format)
        if known.format != FORMAT:
            raise StoreRefused(f"{path} has format {known.format!r}; this program knows {FORMAT!r}")
        return msgspec.json.decode(content, type=Marker)
    except msgspec.DecodeError as error:
        raise StoreRefused(f"{path} cannot be read: {error}") from error


class _Format(msgspec.Struct):
    format: str


def finished(root: Path, number: int | None = None) -> tuple[Marker, Generation]:
    """The generation of that number, or the newest. Raises `StoreRefused` if it is not finished."""
    marker = read_marker(root)
    if marker is None:
        raise StoreRefused(f"{root} is not a backup: it has no {MARKER}")
    for one in reversed(marker.generations):
        if number in (None, one.number):
            return marker, one
    begun = marker.unfinished
    if number is None or (begun is not None and number == begun.number):
        raise StoreRefused(f"the backup in {root} was not finished; make it again")
    raise StoreRefused(f"there is no generation {number} in {root}")


def write_marker(root: Path, marker: Marker, disk: Disk) -> None:
    """Replace the marker as a whole, durably."""
    content = msgspec.json.format(msgspec.json.encode(marker)) + b"\n"
    with translated("writing the marker"):
        disk.write_file(f"{root}/{MARKER}", content, fresh=f"{root}/{MARKER}.new")


@contextmanager
def writing(root: Path) -> Iterator[None]:
    """Hold the directory against another writer; raises `StoreRefused` if there is one."""
    with translated("locking the backup"):
        descriptor = os.open(root / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreRefused(f"another backup is being written to {root}") from None
        except OSError as error:
            # A remote file system may keep no locks, and is a fine place for backups all the same.
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
        yield
    finally:
        os.close(descriptor)


def require_apart(root: Path, backup: Path) -> None:
    """Raise `StoreRefused` if a data directory and a backup lie in each other."""
    here, there = root.resolve(), backup.resolve()
    if here == there or here in there.parents or there in here.parents:
        raise StoreRefused(f"{backup} and the data directory {root} lie in each other")


def require_empty(root: Path) -> None:
    """Raise `StoreRefused` if a directory without a marker holds anything."""
    foreign = sorted(
        name
        for name in os.listdir(root)
        if name not in _HARMLESS and not name.startswith(f"{MARKER}.new")
    )
    if foreign:
        raise StoreRefused(
            f"{root} is not empty and not a backup (it holds {foreign[0]!r}); choose another"
        )


def index_path(root: Path, number: int) -> Path:
    return root / INDEXES / f"{number}.sqlite3"


def blob_path(root: Path, digest: Digest) -> str:
    return f"{root}/{layout.blob_key(digest)}"


def segments_path(root: Path, digest: Digest) -> str:
    return f"{root}/{layout.segments_key(digest)}"
