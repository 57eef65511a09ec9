"""What the caller keeps: list, keep by name, release."""

from __future__ import annotations

import re
from typing import Annotated, Final
from urllib.parse import quote

import msgspec
from aiohttp import hdrs, web

from registry.api.blobs import parse_digest
from registry.api.errors import ADAPTER
from registry.errors import Invalid
from registry.http.answers import json_answer
from registry.http.bodies import read_json
from registry.http.once import answer_once
from registry.http.queries import read_query
from registry.http.routing import Route
from registry.http.times import rfc3339
from registry.keys import BLOBS, PRINCIPAL
from registry.services.blobs import Position
from store.digest import Digest, InvalidDigest
from store.index.claims import KEPT, PIN, RefRow

DEFAULT_LIMIT: Final = 100
MOST_LIMIT: Final = 1000

_CURSOR: Final = re.compile(rf"({KEPT}|{PIN})\.([0-9a-f]{{64}})\Z")


class Pin(msgspec.Struct, frozen=True):
    """A pin; ``pin`` was made by an upload, ``kept`` by name. Without a size while it is absent."""

    digest: str
    kind: str
    size: int | None
    created_at: str
    url: str


class PinPage(msgspec.Struct, frozen=True):
    """A page of pins; ``next`` is the cursor of the following one."""

    items: list[Pin]
    next: str | None


class PinRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which blob to keep."""

    digest: str


class PinsPage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    after: str | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=MOST_LIMIT)] = DEFAULT_LIMIT


async def list_pins(request: web.Request) -> web.StreamResponse:
    """A page of the caller's pins."""
    asked = read_query(request, PinsPage)
    after, limit = _position(asked.after), asked.limit
    page = await request.app[BLOBS].pins(request[PRINCIPAL], after=after, limit=limit)
    cursor = None if page.next is None else f"{page.next.kind}.{page.next.digest.hex}"
    answer = PinPage([_pin(item) for item in page.items], cursor)
    headers: dict[str, str] = {}
    if cursor is not None:
        target = f"/api/v1/pins?after={quote(cursor)}&limit={limit}"
        headers[hdrs.LINK] = f'<{target}>; rel="next"'
    return json_answer(answer, headers=headers)


async def make_pin(request: web.Request) -> web.StreamResponse:
    """Keep a blob the caller may read until the caller releases it."""
    wanted = await read_json(request, PinRequest)
    try:
        digest = parse_digest(wanted.digest)
    except InvalidDigest as error:
        raise Invalid("digest", str(error), code="invalid_digest") from error
    return await answer_once(
        request, lambda: request.app[BLOBS].pin(request[PRINCIPAL], digest), _made
    )


async def release_pin(request: web.Request) -> web.StreamResponse:
    """Release the caller's pins of a blob, of both kinds."""
    digest = parse_digest(request.match_info["digest"])
    await request.app[BLOBS].release(request[PRINCIPAL], digest)
    return web.Response(status=204)


def _made(pinned: tuple[RefRow, bool]) -> web.Response:
    pin, is_new = pinned
    return json_answer(
        _pin(pin),
        status=201 if is_new else 200,
        headers={hdrs.LOCATION: f"/api/v1/pins/{pin.digest}"},
    )


def _pin(row: RefRow) -> Pin:
    digest = str(row.digest)
    return Pin(digest, row.kind, row.size_bytes, rfc3339(row.created_at), f"/blobs/{digest}")


def _position(cursor: str | None) -> Position | None:
    if cursor is None:
        return None
    match = _CURSOR.match(cursor)
    if match is None:
        raise Invalid("after", "is not a cursor of this list", code="invalid_cursor")
    return Position(match[1], Digest.from_hex(match[2]))


ROUTES: Final = [
    Route(
        method="GET",
        path="/api/v1/pins",
        handler=list_pins,
        permission="content.read",
        adapter=ADAPTER,
        summary="List the caller's pins",
        tag="blobs",
        query=PinsPage,
        answers={200: PinPage},
    ),
    Route(
        method="POST",
        path="/api/v1/pins",
        handler=make_pin,
        permission="content.write",
        adapter=ADAPTER,
        body="json",
        summary="Keep a blob",
        tag="blobs",
        accepts=PinRequest,
        answers={200: Pin, 201: Pin},
        problems=(404,),
    ),
    Route(
        method="DELETE",
        path="/api/v1/pins/{digest}",
        handler=release_pin,
        permission="content.write",
        adapter=ADAPTER,
        summary="Release a blob",
        tag="blobs",
        answers={204: None},
        problems=(404,),
    ),
]
