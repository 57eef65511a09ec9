"""What is downloaded of a version is counted when its answer ends, whole or not.

A download is an answer that began to send the bytes of a file or archive of a published version:
one request, whatever range it asked for, with the bytes that left. HEAD, 304 and refusals are none.
Counting adds nothing to a request but a look at what it sent; only a sensitive model's download,
of a draft too, is written down before it begins, see `registry.services.downloads`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import hdrs, web

from registry.domain.downloads import product
from registry.http.conditional import Verdict, check_preconditions
from registry.keys import AGAIN, BYTES_OUT, DOWNLOADS, PRINCIPAL, STORE
from registry.services.downloads import announce_download
from registry.services.resolve import DraftFiles, Tree


async def counted(
    request: web.Request,
    place: Tree | DraftFiles,
    path: str,
    etag: str,
    send: Callable[[], Awaitable[web.StreamResponse]],
) -> web.StreamResponse:
    """The answer of `send`, whose bytes are those of `path` in `place` and have this `etag`."""
    if request.method == hdrs.METH_HEAD:
        return await send()
    if place.model.is_sensitive and sends(request, etag):
        facts = facts_of_download(request, path, etag)
        await announce_download(request.app[STORE], request[PRINCIPAL], place, facts)
    version = place.version if isinstance(place, Tree) else None
    if version is None:
        return await send()
    sent: int | None = None
    try:
        response = await send()
        sent = _sent(request, response)
        return response
    finally:
        if sent is None:
            sent = request.get(BYTES_OUT)  # it broke off
        if sent is not None:
            client = product(request.headers.get(hdrs.USER_AGENT, ""))
            again = request.app[DOWNLOADS].add(version, path, request[PRINCIPAL], client, sent)
            if not place.model.is_sensitive:
                request[AGAIN] = again


def _sent(request: web.Request, response: web.StreamResponse) -> int | None:
    """Bytes of content, None for an answer without any of the file."""
    if response.status not in (200, 206):
        return None
    counted: int | None = request.get(BYTES_OUT)
    if counted is None and isinstance(response, web.Response):
        return int(response.content_length or 0)  # it leaves with the headers
    return counted


def sends(request: web.Request, etag: str) -> bool:
    """Whether the preconditions let any bytes leave."""
    verdict = check_preconditions(
        etag,
        if_match=request.headers.get(hdrs.IF_MATCH),
        if_none_match=request.headers.get(hdrs.IF_NONE_MATCH),
        is_read=True,
    )
    return verdict is Verdict.PROCEED


def facts_of_download(request: web.Request, path: str, etag: str) -> dict[str, Any]:
    return {
        "path": path,
        "content": etag.strip('"'),
        "range": request.headers.get(hdrs.RANGE),
        "client": product(request.headers.get(hdrs.USER_AGENT, "")),
    }
