"""Copies of the index that lie beside it, and what can be told of one without opening the store.

An upgrade keeps the index as it was, a restore and a reset keep the one they replace. Their names
begin with the index's own, so that they stay together:

``index.sqlite3.before-upgrade-from-<schema number>``
``index.sqlite3.before-restore-<time>``, ``…-before-reset-<time>``, ``…-before-rebuild-<time>``
(and a number, for a second one within the same second)

A copy *must* be whole and synced before it has its name. Nothing here removes one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from store import durable
from store.errors import StoreRefused
from store.index import driver
from store.index.driver import sqlite

MARK: Final = ".before-"
LOGS: Final = ("-wal", "-shm")
"""What SQLite keeps beside a database; it belongs to the file whose name it carries."""

_MAGIC: Final = b"SQLite format 3\x00"
_NUMBER_AT: Final = 60


class IndexFacts(msgspec.Struct, frozen=True):
    """What a database says of itself: schema number, the store's id and epoch if it has them."""

    schema: int
    store_id: str | None
    epoch: int | None


class Kept(msgspec.Struct, frozen=True):
    """One copy beside the index; `schema` is None where its header cannot be read."""

    name: str
    schema: int | None
    size_bytes: int
    made_at: float


def header_number(path: Path) -> int | None:
    """The schema number in the header of a database file; None if there is no such file of SQLite.

    Read without opening the database. It may be older than a log beside it, never newer.
    """
    try:
        with path.open("rb", buffering=0) as file:
            header = file.read(_NUMBER_AT + 4)
    except OSError:
        return None
    if not header.startswith(_MAGIC) or len(header) < _NUMBER_AT + 4:
        return None
    return int.from_bytes(header[_NUMBER_AT:], "big")


def kept_copies(index: Path) -> list[Kept]:
    """The copies beside an index, the newest first."""
    found = []
    for path in index.parent.glob(f"{index.name}{MARK}*"):
        if path.name.endswith((*LOGS, ".part")) or not path.is_file():
            continue
        facts = path.stat()
        found.append(Kept(path.name, header_number(path), facts.st_size, facts.st_mtime))
    return sorted(found, key=lambda copy: (-copy.made_at, copy.name))


def copy_whole(source: Path, target: Path) -> None:
    """Copy a database with what its log holds; `target` appears whole and synced, or not at all."""
    part = target.with_name(f"{target.name}.part")
    part.unlink(missing_ok=True)
    reader = _open_to_read(source)
    try:
        # SQLite syncs the copy itself; only the new name is left to us.
        writer = sqlite.connect(str(part), isolation_level=None)
        try:
            reader.backup(writer)
        finally:
            writer.close()
    except sqlite.Error as error:  # the driver gives this one no code to translate
        part.unlink(missing_ok=True)
        raise StoreRefused(f"{source.name} cannot be copied: {error}") from error
    finally:
        reader.close()
    with durable.translated("copying the index"):
        durable.Disk().move(str(part), str(target))


def inspect(path: Path, name: str) -> IndexFacts:
    """Check a database that nobody writes and read whose it is; raises `StoreRefused` if damaged.

    Every page is read: seconds for an index of gigabytes. `name` is what a refusal calls it.
    """
    connection = _open_to_read(path)
    try:
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise StoreRefused(f"{name} is damaged: {verdict}")
        (number,) = connection.execute("PRAGMA user_version").fetchone()
        if not number:
            raise StoreRefused(f"{name} is not an index of digestry")
        state = dict(connection.execute("SELECT key, value FROM store_state").fetchall())
    except sqlite.Error as error:
        raise StoreRefused(f"{name} cannot be read as an index: {error}") from error
    finally:
        connection.close()
    epoch = state.get("epoch")
    return IndexFacts(int(number), state.get("store_id"), None if epoch is None else int(epoch))


def _open_to_read(path: Path) -> sqlite.Connection:
    """Open without changing a byte; where there is no log, without making one."""
    # Python's URI of a path escapes what SQLite would take for a parameter.
    address = f"{path.absolute().as_uri()}?mode=ro"
    if not path.with_name(f"{path.name}-wal").exists():
        address += "&immutable=1"
    try:
        return sqlite.connect(address, uri=True, timeout=10, isolation_level=None)
    except sqlite.Error as error:
        raise driver.translated(error, "opening a copy of the index", path) from error
