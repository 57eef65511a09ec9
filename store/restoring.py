"""Puts another index in the place of the present one, and starts an empty one.

Whoever calls holds the lock of the data directory. The present index is kept beside it under a new
name; nothing is deleted.

**Order of a restore**, and what a crash leaves after each step:

1. The copy is checked, copied whole beside the index and synced: one file too many.
2. The epoch in ``store.json`` is raised: the present index is then of another epoch, so the next
   start keeps collection off until somebody confirmed. Blobs may have been collected since the copy
   was made, and others stored that it does not know.
3. The present index is checkpointed and gets a second name: two names of one file.
4. The copy is renamed over it: done. There is no moment without an index, because a start would
   then make an empty one.

A log (``-wal``) that cannot be checkpointed, because its index is damaged, is renamed with the
index it belongs to before step 4: SQLite would otherwise play it into the restored one.
"""

from __future__ import annotations

from contextlib import closing, suppress
from pathlib import Path

import msgspec

from store import durable, layout
from store.errors import StoreError, StoreRefused
from store.index import driver
from store.index.copies import LOGS, MARK, IndexFacts, copy_whole, header_number, inspect
from store.opening import StoreFacts, read_facts


class Restored(msgspec.Struct, frozen=True):
    """What a restore did: the schema before and after, and where the replaced index is kept."""

    before: int | None
    after: int
    epoch: int
    kept: str | None


def restore_index(root: Path, copy: Path, *, newest: int, stamp: str) -> Restored:
    """Make `copy` the index of the directory. Blocking.

    `newest` is the schema this program knows; raises `StoreRefused`, with everything as it was, for
    a copy that is newer, damaged, or of another store.
    """
    facts = read_facts(root)
    if facts is None:
        raise StoreRefused(f"{root} has no {layout.STORE_FILE}")
    index = root / layout.INDEX_FILE
    fresh = root / f"{layout.INDEX_FILE}.restoring"
    copy_whole(copy, fresh)
    try:
        found = inspect(fresh, copy.name)
        _check(copy, found, facts, newest)
    except StoreError:
        fresh.unlink()
        raise
    epoch = max(facts.epoch, found.epoch or 0) + 1
    disk = durable.Disk()
    with durable.translated("restoring the index"):
        raised = msgspec.structs.replace(facts, epoch=epoch)
        content = msgspec.json.format(msgspec.json.encode(raised)) + b"\n"
        disk.write_file(str(root / layout.STORE_FILE), content)
        before = header_number(index)
        kept = keep_present(root, f"restore-{stamp}")
        disk.rename(str(fresh), str(index))  # from here on the copy is the index
        disk.sync_directory(str(root))
    return Restored(before, found.schema, epoch, kept)


def keep_present(root: Path, why: str) -> str | None:
    """Give the present index a second name, and its log to that name alone; None if there is none.

    The index stays in place, whole, unless it is so damaged that its log cannot be written back.
    """
    index = root / layout.INDEX_FILE
    if not index.exists():
        return None
    name = _free_name(root, f"{layout.INDEX_FILE}{MARK}{why}")
    if header_number(index) is not None:
        with suppress(StoreError):  # damaged: its log is kept beside it instead
            _write_log_back(index)
    disk = durable.Disk()
    with durable.translated("keeping the index"):
        disk.link(str(index), str(root / name))
        for log in LOGS:
            with suppress(FileNotFoundError):
                disk.rename(str(root / f"{layout.INDEX_FILE}{log}"), str(root / f"{name}{log}"))
        disk.sync_directory(str(root))
    return name


def _free_name(root: Path, wished: str) -> str:
    """A name that nothing has; times in names count seconds, and two copies fit into one."""
    names = (wished, *(f"{wished}-{number}" for number in range(2, 100)))
    return next(name for name in names if not (root / name).exists())


def set_aside(root: Path, why: str) -> str | None:
    """Take the present index away, keeping it under another name; the next start makes a new one.

    That one is of a new epoch, with collection off until confirmed.
    """
    name = keep_present(root, why)
    durable.Disk().remove(str(root / layout.INDEX_FILE))
    return name


def _check(copy: Path, found: IndexFacts, facts: StoreFacts, newest: int) -> None:
    if _is_newer(found.schema, newest):
        raise StoreRefused(
            f"{copy.name} has schema {found.schema} and this program knows up to {newest}: restore "
            "it with the program that wrote it"
        )
    if found.store_id != facts.store_id:
        raise StoreRefused(
            f"{copy.name} is of store {found.store_id}, the directory of {facts.store_id}"
        )


def _is_newer(schema: int, newest: int) -> bool:
    """Whether one of the two numbers in `schema` is above the one that is known."""
    return any(
        ours < theirs
        for ours, theirs in zip(divmod(newest, 1000), divmod(schema, 1000), strict=True)
    )


def _write_log_back(index: Path) -> None:
    """Bring the log into the database; closing the only connection then removes it."""
    try:
        with closing(driver.connect(index, busy_seconds=10)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    except driver.sqlite.Error as error:
        raise driver.translated(error, "writing the log back", index) from error
