"""The archive: what lies there, whether it can be read, and moving retired versions there now."""

from __future__ import annotations

from typing import Final

import msgspec
from aiohttp import web

from registry.api.errors import ADAPTER
from registry.api.operations import OperationAnswer, operation_answer, start_operation
from registry.domain.principals import Principal
from registry.http.answers import json_answer
from registry.http.once import answer_once
from registry.http.routing import Route
from registry.keys import CONFIG, OPERATIONS, PRINCIPAL, STORE
from registry.services.archive import adopt_archive, show_archive
from registry.services.operations import Operations
from store.cold import ColdMarker
from store.opening import Store


class ArchiveAnswer(msgspec.Struct, frozen=True):
    """The cold tier. Sizes: of what it holds, plain and as stored; of versions, shared bytes each
    time; of spare files, which heal blobs until they are swept, as stored."""

    where: str
    problem: str | None
    """Why it cannot be read, and what to do; null when it can."""
    versions: int
    version_size: int
    blobs: int
    size: int
    stored_size: int
    spare_files: int
    spare_size: int
    free_size: int | None
    is_thawing: bool
    every_minutes: float
    operation: OperationAnswer | None


class AdoptedAnswer(msgspec.Struct, frozen=True):
    """The archive that is this store's from here on."""

    archive: str


async def get_archive(request: web.Request) -> web.StreamResponse:
    """What is cold, where it lies, whether it can be read, and the last pass that was asked for."""
    every_minutes = request.app[CONFIG].archive.every_minutes
    operations, principal = request.app[OPERATIONS], request[PRINCIPAL]
    return json_answer(
        await archive_answer(request.app[STORE], operations, principal, every_minutes)
    )


async def archive_answer(
    store: Store, operations: Operations, principal: Principal, every_minutes: float
) -> ArchiveAnswer:
    """Where the archive stands, as this route and the command tell it."""
    found = await show_archive(store)
    last = await operations.latest(principal, "archive")
    totals = found.archive.totals
    return ArchiveAnswer(
        where=found.archive.where,
        problem=found.archive.problem,
        versions=found.versions,
        version_size=found.version_bytes,
        blobs=totals.blobs,
        size=totals.bytes,
        stored_size=totals.stored_bytes,
        spare_files=totals.spares,
        spare_size=totals.spare_bytes,
        free_size=found.archive.free_bytes,
        is_thawing=found.wanted_back,
        every_minutes=every_minutes,
        operation=None if last is None else operation_answer(last),
    )


async def post_run(request: web.Request) -> web.StreamResponse:
    """Move what retired versions alone have to the cold tier now, at the configured rate.

    The server does the same by itself each `archive.every_minutes`. `restore` of a version brings
    its bytes back.
    """
    operations, principal = request.app[OPERATIONS], request[PRINCIPAL]
    rate = request.app[CONFIG].archive.bytes_per_second
    return await start_operation(
        request, lambda: operations.archive_retired(principal, bytes_per_second=rate)
    )


async def post_adopt(request: web.Request) -> web.StreamResponse:
    """Say that the archive at its place is this store's, whose index does not know it.

    After the index was lost, or a backup restored. Nobody else may use that archive from then on;
    `fsck` with `repair` then gives blobs their bytes there.
    """
    store, principal = request.app[STORE], request[PRINCIPAL]

    def render(marker: ColdMarker) -> web.Response:
        return json_answer(AdoptedAnswer(marker.archive_id))

    return await answer_once(request, lambda: adopt_archive(store, principal), render)


_ARCHIVE: Final = "/api/v1/archive"

ROUTES: Final = [
    Route(
        method="GET",
        path=_ARCHIVE,
        handler=get_archive,
        permission="ops",
        adapter=ADAPTER,
        summary="What is in the archive",
        tag="retention",
        answers={200: ArchiveAnswer},
    ),
    Route(
        method="POST",
        path=_ARCHIVE + "/run",
        handler=post_run,
        permission="ops",
        adapter=ADAPTER,
        summary="Move retired versions to the archive",
        tag="retention",
        answers={202: OperationAnswer},
        problems=(409,),
    ),
    Route(
        method="POST",
        path=_ARCHIVE + "/adopt",
        handler=post_adopt,
        permission="ops",
        adapter=ADAPTER,
        summary="Take an archive for this store's",
        tag="retention",
        answers={200: AdoptedAnswer},
        problems=(409, 503),
    ),
]
