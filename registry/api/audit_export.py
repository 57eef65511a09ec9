"""The audit log as JSON lines, to keep or search elsewhere, and to check without a server.

A line is an entry with the number of its seal, or, behind the last entry of a seal, the seal
itself, which is the line that has a ``head``. Together they hold all that a seal was computed over
(`registry.catalog.seals.canonical` and `canonical_entry`), so whoever has the root key can compute
it anew: ``before`` and ``after`` stand byte for byte as they were sealed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Annotated, Final

import msgspec
from aiohttp import hdrs, web
from msgspec import Meta

from registry.api.audit import AuditEntryAnswer, show_entry
from registry.api.errors import ADAPTER
from registry.catalog.seals import Seal
from registry.http.lists import watched
from registry.http.queries import read_query
from registry.http.routing import Media, Route
from registry.http.times import rfc3339
from registry.keys import PRINCIPAL, STORE
from registry.services.audit import LOG, WORD
from registry.services.audit_export import sealed_entries
from registry.services.authority import require_everywhere
from store.opening import Store

MEDIA_TYPE: Final = "application/jsonl"


class ExportQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    since: Annotated[
        Annotated[int, Meta(ge=0, le=2**53)],
        Meta(description="Behind this entry: the last one of the export before."),
    ] = 0


class EntryLine(AuditEntryAnswer, frozen=True, kw_only=True):
    """An entry, and the seal that covers it."""

    seal: int


class SealLine(msgspec.Struct, frozen=True, kw_only=True):
    """A seal, behind the last of its entries; `previous` is the value of the seal before."""

    seal: int
    head: str
    previous: str
    first: int
    last: int
    entries: int
    time: str


async def export_audit_log(request: web.Request) -> web.StreamResponse:
    """The whole log as JSON lines, the oldest entry first.

    Each line is an entry with the number of its `seal`; the last entry of a seal is followed by a
    line with its `head`. Entries of the last second are not sealed yet, and left for the next
    export, which begins behind the last entry of this one with `since`. For those who may read the
    whole log.
    """
    require_everywhere(request[PRINCIPAL], WORD, LOG)
    asked = read_query(request, ExportQuery)
    response = web.StreamResponse(
        headers={hdrs.CONTENT_TYPE: MEDIA_TYPE, hdrs.CACHE_CONTROL: "no-store"}
    )
    await response.prepare(request)
    loop = asyncio.get_running_loop()
    async with watched(request) as progress:
        async for piece in export_lines(request.app[STORE], asked.since):
            progress.waits(loop.time())
            await response.write(piece)
            progress.moved(len(piece), loop.time())
    await response.write_eof()
    return response


async def export_lines(store: Store, since: int) -> AsyncGenerator[bytes, None]:
    """The lines, many at a time."""
    async for seal, page in sealed_entries(store, since):
        if page:
            lines = [
                EntryLine(**msgspec.structs.asdict(show_entry(entry)), seal=seal.number)
                for entry in page
            ]
            yield b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
        else:
            yield msgspec.json.encode(_seal_line(seal)) + b"\n"


def _seal_line(seal: Seal) -> SealLine:
    return SealLine(
        seal=seal.number,
        head=seal.head,
        previous=seal.previous.hex(),
        first=seal.first,
        last=seal.last,
        entries=seal.entries,
        time=rfc3339(seal.created_at),
    )


ROUTES: Final = [
    Route(
        method="GET",
        path="/api/v1/audit/export",
        handler=export_audit_log,
        permission=WORD,
        adapter=ADAPTER,
        summary="Export the audit log",
        tag="audit",
        query=ExportQuery,
        answers={200: Media(MEDIA_TYPE, "A JSON object on each line.")},
    )
]
