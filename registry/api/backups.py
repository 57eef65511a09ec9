"""Backups that were finished: told by whoever made them, so that their age can be watched.

``digestry backup`` tells the running server; so may a script that copies the data directory in
another way under a hold (`registry.api.holds`).
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from aiohttp import web

from registry.api.errors import ADAPTER
from registry.http.answers import json_answer
from registry.http.bodies import read_json
from registry.http.once import answer_once
from registry.http.routing import Route
from registry.http.times import rfc3339
from registry.keys import PRINCIPAL, STORE
from registry.services.backup_notes import BackupNote, last_backup, note_backup

_Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class BackupBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A finished backup; a snapshot shares the disk of the store and counts for none."""

    number: Annotated[_Count, msgspec.Meta(description="Its generation.")]
    blobs: _Count
    bytes: _Count
    kind: Literal["backup", "snapshot"] = "backup"
    missing: Annotated[
        _Count, msgspec.Meta(description="Blobs of the store that could not be read whole.")
    ] = 0


class BackupAnswer(msgspec.Struct, frozen=True):
    """A finished backup."""

    kind: str
    number: int
    blobs: int
    bytes: int
    missing: int
    finished_at: str


class BackupsAnswer(msgspec.Struct, frozen=True):
    """The last backup; null where none was told of."""

    last: BackupAnswer | None


async def get_backups(request: web.Request) -> web.Response:
    """When a backup was finished last, as far as the server was told."""
    found = await request.app[STORE].index.look(last_backup)
    return json_answer(BackupsAnswer(None if found is None else _answer(found)))


async def post_backup(request: web.Request) -> web.Response:
    """Say that a backup was finished just now."""
    asked = await read_json(request, BackupBody)
    note = BackupNote(
        kind=asked.kind,
        number=asked.number,
        blobs=asked.blobs,
        bytes=asked.bytes,
        missing=asked.missing,
    )
    store, principal = request.app[STORE], request[PRINCIPAL]
    return await answer_once(
        request,
        lambda: note_backup(store, principal, note),
        lambda noted: json_answer(_answer(noted), status=201),
    )


def _answer(note: BackupNote) -> BackupAnswer:
    return BackupAnswer(
        note.kind, note.number, note.blobs, note.bytes, note.missing, rfc3339(note.finished_at)
    )


ROUTES: Final = [
    Route(
        method="GET",
        path="/api/v1/backups",
        handler=get_backups,
        permission="ops",
        adapter=ADAPTER,
        summary="The last backup",
        tag="operations",
        answers={200: BackupsAnswer},
    ),
    Route(
        method="POST",
        path="/api/v1/backups",
        handler=post_backup,
        permission="ops",
        adapter=ADAPTER,
        body="json",
        summary="Tell of a finished backup",
        tag="operations",
        accepts=BackupBody,
        answers={201: BackupAnswer},
    ),
]
