"""What happens, as a stream of Server-Sent Events.

Each event is an entry of the audit log: its number is the event's id, kind and action are its
name, the entry is its data. A client that comes back with ``Last-Event-ID``, as browsers do by
themselves, misses nothing and hears nothing twice, whichever worker answers.

A stream ends when the server drains, when whoever opened it may read the log no more, and after
``events.stream_seconds``; clients open it again. What is said while nothing happens is a comment,
so that proxies keep the connection and a client that left is noticed.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Final

import msgspec
from aiohttp import hdrs, web
from msgspec import Meta

from registry.api.audit import show_entry
from registry.api.errors import ADAPTER
from registry.auth.policy import allows
from registry.catalog.audit import AuditEntry
from registry.domain.principals import Principal
from registry.domain.references import ModelId, parse_model
from registry.errors import Invalid, LimitReached, Unauthenticated
from registry.http.lists import watched
from registry.http.queries import read_query
from registry.http.routing import Media, Route
from registry.keys import CONFIG, DRAIN, FEED, PRINCIPAL, STORE
from registry.middlewares.authenticate import shown
from registry.services.events import WORD, WantedEvents
from registry.services.resolve import require_model
from store.index.transactions import Tx

LAST_EVENT_ID: Final = "Last-Event-ID"
LOOK_SECONDS: Final = 0.5
BEAT_SECONDS: Final = 15.0
RETRY_MILLISECONDS: Final = 2000

_MOST_DIGITS: Final = 18
_Words = Annotated[list[Annotated[str, Meta(min_length=1, max_length=64)]], Meta(max_length=50)]


class EventsQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to hear of, and from where on."""

    kind: Annotated[_Words, Meta(description="Only of these kinds: model, version, alias, …")] = []
    action: Annotated[_Words, Meta(description="Only these: create, publish, move, …")] = []
    model: Annotated[
        Annotated[str, Meta(min_length=1, max_length=300)] | None,
        Meta(description="Only what belongs to this model, by its id or its name now."),
    ] = None
    after: Annotated[
        Annotated[int, Meta(ge=0, le=2**53)] | None,
        Meta(description="Behind this entry; 0 is from the beginning, nothing is from now on."),
    ] = None


async def get_events(request: web.Request) -> web.StreamResponse:
    """Tell what happens, as it happens.

    Each event is an entry of the audit log, sealed and so at most a second old: `id` is its number,
    `event` is `kind.action`, `data` the entry as `/api/v1/audit` shows it. A stream begins behind
    the entry in `Last-Event-ID` or `after`, else with what comes. `reset` says that the log is
    shorter than that, because the registry was restored from a backup.
    """
    asked = read_query(request, EventsQuery)
    feed, settings = request.app[FEED], request.app[CONFIG].events
    wanted = WantedEvents(
        frozenset(asked.kind), frozenset(asked.action), await _model_id(request, asked.model)
    )
    place, sealed = _place(request, asked), await feed.sealed()
    if feed.streams >= settings.streams:
        raise LimitReached("events.streams", settings.streams)
    feed.streams += 1
    try:
        return await _stream(request, wanted, place, sealed)
    finally:
        feed.streams -= 1


async def _stream(
    request: web.Request, wanted: WantedEvents, place: int | None, sealed: int
) -> web.StreamResponse:
    feed, loop = request.app[FEED], asyncio.get_running_loop()
    response = web.StreamResponse(
        headers={
            hdrs.CONTENT_TYPE: "text/event-stream",
            hdrs.CACHE_CONTROL: "no-store",
            "X-Accel-Buffering": "no",
        }
    )
    await response.prepare(request)
    end = loop.time() + request.app[CONFIG].events.stream_seconds
    async with watched(request) as progress:

        async def say(text: str) -> None:
            progress.waits(loop.time())
            await response.write(text.encode())
            progress.moved(len(text), loop.time())

        await say(f"retry: {RETRY_MILLISECONDS}\n\n")
        if place is None:
            place = sealed
        elif place > sealed:
            await say(f'id: {sealed}\nevent: reset\ndata: {{"id":{sealed}}}\n\n')
            place = sealed
        beat = loop.time() + BEAT_SECONDS
        while (principal := await _still(request)) is not None:
            if await feed.sealed() > place:
                told = await feed.after(principal, wanted, place)
                place = told.through
                if told.entries:
                    await say("".join(map(_event, told.entries)))
                    beat = loop.time() + BEAT_SECONDS
                continue
            now = loop.time()
            if now >= end or request.app[DRAIN].is_draining:
                break
            if now >= beat:
                await say(f": {place}\n\n")
                beat = now + BEAT_SECONDS
            await asyncio.sleep(min(LOOK_SECONDS, end - now))
    await response.write_eof()
    return response


async def _still(request: web.Request) -> Principal | None:
    """Whoever opened the stream, with the rights they have now; None if they may not any more."""
    principal, offered = request[PRINCIPAL], request.headers.get(hdrs.AUTHORIZATION)
    if request.transport is None or request.transport.is_closing():
        raise ConnectionResetError("the client left")
    if not principal.session or offered is None:
        return principal
    try:
        found = await shown(request, offered)
    except Unauthenticated:
        return None
    return found if allows(found, WORD) else None


async def _model_id(request: web.Request, text: str | None) -> str | None:
    if text is None:
        return None
    reference, principal = parse_model(text), request[PRINCIPAL]
    if isinstance(reference, ModelId):
        return reference.id

    async def find(tx: Tx) -> str:
        return (await require_model(tx, principal, reference)).id

    return await request.app[STORE].index.look(find)


def _place(request: web.Request, asked: EventsQuery) -> int | None:
    """Behind which entry to begin; what a client heard last goes before where it began."""
    header = request.headers.get(LAST_EVENT_ID, "").strip()
    if not header:
        return asked.after
    if not (header.isascii() and header.isdigit() and len(header) <= _MOST_DIGITS):
        raise Invalid(LAST_EVENT_ID, "is not the number of an entry")
    return int(header)


def _event(entry: AuditEntry) -> str:
    # JSON has no line breaks of its own, which would end the data.
    data = msgspec.json.encode(show_entry(entry)).decode()
    return f"id: {entry.id}\nevent: {entry.kind}.{entry.action}\ndata: {data}\n\n"


ROUTES: Final = [
    Route(
        method="GET",
        path="/api/v1/events",
        handler=get_events,
        permission=WORD,
        adapter=ADAPTER,
        summary="Hear what happens",
        tag="events",
        query=EventsQuery,
        answers={200: Media("text/event-stream", "Server-Sent Events.")},
        problems=(404, 429),
        headers={LAST_EVENT_ID: "The `id` of the event that was heard last."},
    )
]
