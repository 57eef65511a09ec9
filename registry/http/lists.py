"""Answer with lines of text that are made while they are sent, where a client prefers them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager

import msgspec
from aiohttp import hdrs, web

from registry.errors import PreconditionFailed
from registry.http.conditional import ETAG, Verdict, check_preconditions
from registry.http.receiving import Pace, Progress, Watch
from registry.keys import CONFIG


class Listed(msgspec.Struct, frozen=True):
    """Text in pieces. With a size and a tag it can be asked for by HEAD and revalidated."""

    pieces: AsyncIterable[bytes]
    cache: str
    size_bytes: int | None = None
    etag: str | None = None


async def send_list(request: web.Request, listed: Listed) -> web.StreamResponse:
    """Stream plain text. Without a size the end is the end of the chunks, and never early."""
    headers = {
        hdrs.CONTENT_TYPE: "text/plain; charset=utf-8",
        hdrs.CACHE_CONTROL: listed.cache,
        hdrs.VARY: "Accept, Authorization, Cookie",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "Cross-Origin-Resource-Policy": "same-origin",
    }
    if listed.etag is not None:
        headers[ETAG] = listed.etag
        if is_unmodified(request, listed.etag):
            return web.Response(status=304, headers=headers)
    if listed.size_bytes is not None:
        headers[hdrs.CONTENT_LENGTH] = str(listed.size_bytes)
    if request.method == hdrs.METH_HEAD:
        return web.Response(headers=headers)
    response = web.StreamResponse(headers=headers)
    await response.prepare(request)
    async with watched(request) as progress:
        async for piece in listed.pieces:
            progress.waits(asyncio.get_running_loop().time())
            await response.write(piece)
            progress.moved(len(piece), asyncio.get_running_loop().time())
    await response.write_eof()
    return response


@asynccontextmanager
async def watched(request: web.Request) -> AsyncIterator[Progress]:
    """End the connection of a client that takes what is written too slowly."""

    def give_up(_: str) -> None:
        # aiohttp waits for its transport; ending that is the only way to end the wait.
        if request.transport is not None:
            request.transport.abort()

    watch = Watch(Pace.of(request.app[CONFIG].server), give_up)
    try:
        yield watch.progress
    finally:
        watch.close()


def is_unmodified(request: web.Request, etag: str) -> bool:
    """Whether 304 is the answer; raises `PreconditionFailed`."""
    verdict = check_preconditions(
        etag,
        if_match=request.headers.get(hdrs.IF_MATCH),
        if_none_match=request.headers.get(hdrs.IF_NONE_MATCH),
        is_read=True,
    )
    if verdict is Verdict.FAILED:
        raise PreconditionFailed(hdrs.IF_MATCH)
    return verdict is Verdict.NOT_MODIFIED


def prefers_plain(request: web.Request) -> bool:
    """Whether ``Accept`` names plain text (or a page, as browsers do) before JSON."""
    return _prefers(request, "text/plain", "text/html")


def prefers_page(request: web.Request) -> bool:
    """Whether ``Accept`` names a page before JSON, as browsers do."""
    return _prefers(request, "text/html")


def _prefers(request: web.Request, *medias: str) -> bool:
    wishes = {
        media.partition(";")[0].strip().lower(): _quality(media)
        for media in request.headers.get(hdrs.ACCEPT, "").split(",")
    }
    wished = max(wishes.get(media, 0.0) for media in medias)
    return wished > wishes.get("application/json", 0.0)


def _quality(media: str) -> float:
    for parameter in media.split(";")[1:]:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            try:
                return float(value.strip())
            except ValueError:
                return 0.0
    return 1.0
