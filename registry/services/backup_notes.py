"""The last finished backup, as whoever made it told the registry.

Backups are made by a command that copies the data directory; the registry itself cannot know where
they are or whether they still exist. What it remembers is when one was last finished, so that
health, metrics and alerts can say how long ago that was.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from registry.catalog.audit import Entry, record
from registry.domain.principals import Principal
from registry.services.change import change
from store.index.state import get_state, put_state
from store.index.transactions import Tx
from store.opening import Store

_KEY: Final = "backup.last"


class BackupNote(msgspec.Struct, frozen=True, kw_only=True):
    """A finished backup; `missing` blobs of the store could not be read whole."""

    kind: Literal["backup", "snapshot"]
    number: int
    blobs: int
    bytes: int
    missing: int = 0
    finished_at: int = 0
    """By the clock of whoever writes the index."""


async def note_backup(store: Store, principal: Principal, note: BackupNote) -> BackupNote:
    """Remember that a backup was finished just now; a snapshot is no backup and only audited."""

    async def unit(tx: Tx) -> BackupNote:
        noted = msgspec.structs.replace(note, finished_at=tx.now)
        if noted.kind == "backup":
            await put_state(tx, _KEY, msgspec.json.encode(noted).decode())
        entry = Entry(action="finish", kind="backup", id=f"{noted.kind}-{noted.number}")
        await record(tx, principal, msgspec.structs.replace(entry, after=noted))
        return noted

    return await change(store, principal, unit)


async def last_backup(tx: Tx) -> BackupNote | None:
    """The backup that was finished last, if the registry was told of any."""
    text = await get_state(tx, _KEY)
    return None if text is None else msgspec.json.decode(text, type=BackupNote)
