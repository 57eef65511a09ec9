"""Send a version as an archive: one body out of headers and many blobs, resumable like a file.

Small files are read beside each other and leave in one write with their headers; larger ones leave
as `registry.http.blobs` sends any blob.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Final

from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter

from registry.http.blobs import Cache, cache_control, disposition, send_part
from registry.http.conditional import ETAG, range_applies
from registry.http.lists import is_unmodified, watched
from registry.http.ranges import UNSATISFIABLE, content_range, parse_range
from registry.http.receiving import Progress
from registry.keys import BYTES_OUT
from registry.services.archives import Content, Outgoing, Piece
from store.blobs import ByteRange
from store.errors import RangeNotSatisfiable
from store.opening import Store
from store.reading import SMALL_BYTES

MEDIA_TYPE: Final = "application/x-tar"
WINDOW_PIECES: Final = 48
"""How many pieces are gathered for one write: three for each small file."""


def etag_of_archive(archive: Outgoing) -> str:
    return f'"{archive.content}.tar"'


async def send_archive(
    request: web.Request, store: Store, archive: Outgoing, *, filename: str, cache: Cache
) -> web.StreamResponse:
    """Answer GET or HEAD; raises `PreconditionFailed` and `RangeNotSatisfiable`."""
    etag = etag_of_archive(archive)
    headers = {
        hdrs.CONTENT_TYPE: MEDIA_TYPE,
        ETAG: etag,
        hdrs.ACCEPT_RANGES: "bytes",
        hdrs.CACHE_CONTROL: cache_control(cache),
        hdrs.CONTENT_DISPOSITION: disposition(MEDIA_TYPE, filename),
        hdrs.VARY: "Authorization, Cookie",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "Cross-Origin-Resource-Policy": "same-origin",
    }
    if is_unmodified(request, etag):
        return web.Response(status=304, headers=headers)
    within = None
    if request.method != hdrs.METH_HEAD:
        within = _range(request, archive, etag)
    part = within or ByteRange(0, archive.size_bytes)
    headers[hdrs.CONTENT_LENGTH] = str(part.size_bytes)
    if request.method == hdrs.METH_HEAD:
        return web.Response(headers=headers)
    if within is not None:
        headers[hdrs.CONTENT_RANGE] = content_range(within, archive.size_bytes)
    response = web.StreamResponse(status=200 if within is None else 206, headers=headers)
    writer = await response.prepare(request)
    if writer is not None:
        await _Sending(request, writer, store).run(archive, part)
        await response.write_eof()
    return response


def _range(request: web.Request, archive: Outgoing, etag: str) -> ByteRange | None:
    header = request.headers.get(hdrs.RANGE)
    if header is None or not range_applies(request.headers.get(hdrs.IF_RANGE), etag):
        return None
    within = parse_range(header, archive.size_bytes)
    if within is UNSATISFIABLE:
        raise RangeNotSatisfiable(archive.content, archive.size_bytes)
    return within if isinstance(within, ByteRange) else None


class _Sending:
    """One archive on its way out."""

    def __init__(self, request: web.Request, writer: AbstractStreamWriter, store: Store) -> None:
        self._request = request
        self._writer = writer
        self._store = store
        self._window: list[Piece] = []
        self._sent = 0

    async def run(self, archive: Outgoing, part: ByteRange) -> None:
        try:
            async with aclosing(archive.pieces(part)) as found:
                async for piece in found:
                    if isinstance(piece, Content) and piece.row.size_bytes > SMALL_BYTES:
                        await self._flush()
                        await self._send_large(piece)
                        continue
                    self._window.append(piece)
                    if len(self._window) >= WINDOW_PIECES:
                        await self._flush()
            await self._flush()
        finally:
            self._request[BYTES_OUT] = self._sent

    async def _send_large(self, content: Content) -> None:
        async with await self._store.reading.open(content.row) as blob:
            self._sent += await send_part(self._request, self._writer, blob, content.part)

    async def _flush(self) -> None:
        """Write what was gathered, small files included, in one piece."""
        window, self._window = self._window, []
        if not window:
            return
        buffer = b"".join(await asyncio.gather(*(self._bytes_of(piece) for piece in window)))
        if not buffer:
            return
        async with watched(self._request) as progress:
            await self._write(buffer, progress)
        self._sent += len(buffer)

    async def _bytes_of(self, piece: Piece) -> bytes:
        if isinstance(piece, bytes):
            return piece
        async with await self._store.reading.open(piece.row) as blob:
            return await blob.read(piece.part.start, piece.part.stop)

    async def _write(self, buffer: bytes, progress: Progress) -> None:
        time = asyncio.get_running_loop().time
        progress.waits(time())
        await self._writer.write(buffer)
        await self._writer.drain()
        progress.moved(len(buffer), time())
