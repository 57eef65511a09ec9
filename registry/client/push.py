"""Makes a version out of local files: hash, ask, send what is missing, register."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from registry.client.bundles import BUNDLED_BYTES, BUNDLES_AT_ONCE, Bundles, bundles_of
from registry.client.connection import Connection, part
from registry.client.errors import Refused
from registry.client.missing import missing_of
from registry.client.sources import Hashed, find_sources, hash_sources
from registry.client.transfer import Meter, Watch, each, together
from registry.client.unfinished import Unfinished
from registry.client.uploading import LARGE_BYTES, send_blob
from registry.domain.names import ModelName
from store.digest import Digest

ALONE_AT_ONCE: Final = 8
LARGE_AT_ONCE: Final = 2

ROUNDS: Final = 3
"""How often blobs that were there, and are gone when the version is made, are sent again."""


class Publication(msgspec.Struct, frozen=True, kw_only=True):
    """What the version is to be, besides its files."""

    model: ModelName
    label: str | None = None
    base: str | None = None
    said: Mapping[str, Any] = {}
    is_draft: bool = False


class Pushed(msgspec.Struct, frozen=True, kw_only=True):
    """What became of it; sizes are in bytes, and of content that is sent once if it comes twice."""

    model: str
    state: str
    number: int | None
    label: str | None
    tree: str | None
    files: int
    size: int
    sent: int
    sent_size: int
    already_there: int
    is_new: bool


class _Version(msgspec.Struct):
    number: int
    label: str | None
    tree: str


class _Registered(msgspec.Struct):
    state: str
    version: _Version | None = None


async def push(
    connection: Connection,
    places: Sequence[Path],
    publication: Publication,
    *,
    unfinished: Unfinished,
    watch: Watch,
) -> Pushed:
    """Send the files of `places` and make them a version."""
    files = await hash_sources(find_sources(places), watch)
    blobs = {file.digest: file for file in files}
    sent: dict[Digest, int] = {}
    key = secrets.token_hex(16)
    for rest in reversed(range(ROUNDS)):
        missing = await missing_of(connection, list(blobs))
        await _send(connection, [blobs[digest] for digest in missing], unfinished, watch)
        sent.update((digest, blobs[digest].source.size_bytes) for digest in missing)
        try:
            registered, is_new = await _register(connection, files, publication, key)
            break
        except Refused as error:
            # Collected or released between the question and now.
            if error.code != "content_missing" or not rest:
                raise
    version = registered.version
    return Pushed(
        model=publication.model.text,
        state=registered.state,
        number=None if version is None else version.number,
        label=publication.label if version is None else version.label,
        tree=None if version is None else version.tree,
        files=len(files),
        size=sum(file.source.size_bytes for file in files),
        sent=len(sent),
        sent_size=sum(sent.values()),
        already_there=len(blobs) - len(sent),
        is_new=is_new,
    )


async def _send(
    connection: Connection, blobs: Sequence[Hashed], unfinished: Unfinished, watch: Watch
) -> None:
    """Bring blobs to the server: small ones together, beside some alone and few large ones."""
    meter = Meter("sending", sum(blob.source.size_bytes for blob in blobs), watch)
    small = [blob for blob in blobs if blob.source.size_bytes <= BUNDLED_BYTES]
    alone = [blob for blob in blobs if BUNDLED_BYTES < blob.source.size_bytes < LARGE_BYTES]
    large = [blob for blob in blobs if blob.source.size_bytes >= LARGE_BYTES]

    async def work(blob: Hashed) -> None:
        await send_blob(connection, blob, meter, unfinished)

    await together(
        each(
            bundles_of(small), Bundles(connection, meter, unfinished).send, at_once=BUNDLES_AT_ONCE
        ),
        each(alone, work, at_once=ALONE_AT_ONCE),
        each(large, work, at_once=LARGE_AT_ONCE),
    )


async def _register(
    connection: Connection, files: Sequence[Hashed], publication: Publication, key: str
) -> tuple[_Registered, bool]:
    """Make the version, all or nothing; says whether it was not there before."""
    content = {
        **publication.said,
        "files": [{"path": file.source.path, "digest": str(file.digest)} for file in files],
        "publish": not publication.is_draft,
    }
    if publication.label is not None:
        content["label"] = publication.label
    if publication.base is not None:
        content["base"] = publication.base
    status, registered = await connection.exchange(
        "POST",
        f"/api/v1/models/{part(publication.model.segment)}/versions",
        _Registered,
        content=content,
        headers={"Idempotency-Key": key},
    )
    return registered, status == 201
