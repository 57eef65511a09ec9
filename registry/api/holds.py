"""Holds: what keeps collected blobs from being removed for good while somebody copies the store.

Clients name no paths of the server here: ``digestry backup`` reads the data directory itself, as
whoever runs it, and only asks the server to hold still.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from aiohttp import hdrs, web

from registry.api.errors import ADAPTER
from registry.http.answers import json_answer
from registry.http.bodies import read_json
from registry.http.once import answer_once
from registry.http.routing import Route
from registry.http.times import rfc3339
from registry.keys import PRINCIPAL, STORE
from registry.services.holds import list_holds, release_hold, renew_hold, take_hold
from store.holds import HOLD_SECONDS, MOST_SECONDS, PurgeHold

_Seconds = Annotated[int, msgspec.Meta(ge=1, le=MOST_SECONDS, description="How long it lasts.")]


class HoldBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why nothing may be removed for good, and how long."""

    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    seconds: _Seconds = HOLD_SECONDS


class RenewalBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long the hold lasts from now on."""

    seconds: _Seconds = HOLD_SECONDS


class HoldAnswer(msgspec.Struct, frozen=True):
    """A hold; it must be renewed before it expires, else what it protects may be gone."""

    id: str
    reason: str
    expires_at: str


class HoldsAnswer(msgspec.Struct, frozen=True):
    """All holds that have not expired."""

    items: list[HoldAnswer]


async def get_holds(request: web.Request) -> web.Response:
    """Holds that have not expired, the oldest first."""
    found = await list_holds(request.app[STORE])
    return json_answer(HoldsAnswer([_answer(hold) for hold in found]))


async def post_hold(request: web.Request) -> web.Response:
    """Keep quarantine from being emptied; collection goes on, purging waits.

    It ends when it is released, or by itself when it was not renewed in time.
    """
    asked = await read_json(request, HoldBody)
    store, principal = request.app[STORE], request[PRINCIPAL]

    def render(hold: PurgeHold) -> web.Response:
        place = f"/api/v1/holds/{hold.id}"
        return json_answer(_answer(hold), status=201, headers={hdrs.LOCATION: place})

    return await answer_once(
        request, lambda: take_hold(store, principal, asked.reason, asked.seconds), render
    )


async def post_renew(request: web.Request) -> web.Response:
    """Make a hold last from now on; 404 says that it had lapsed, so start over."""
    asked = await read_json(request, RenewalBody, is_optional=True)
    store, principal, id = request.app[STORE], request[PRINCIPAL], request.match_info["hold"]
    return await answer_once(
        request,
        lambda: renew_hold(store, principal, id, asked.seconds),
        lambda hold: json_answer(_answer(hold)),
    )


async def delete_hold(request: web.Request) -> web.Response:
    """End a hold; one that is not there any more is fine."""
    await release_hold(request.app[STORE], request[PRINCIPAL], request.match_info["hold"])
    return web.Response(status=204)


def _answer(hold: PurgeHold) -> HoldAnswer:
    return HoldAnswer(hold.id, hold.reason, rfc3339(hold.expires_at))


ROUTES: Final = [
    Route(
        method="GET",
        path="/api/v1/holds",
        handler=get_holds,
        permission="ops",
        adapter=ADAPTER,
        summary="List holds",
        tag="operations",
        answers={200: HoldsAnswer},
    ),
    Route(
        method="POST",
        path="/api/v1/holds",
        handler=post_hold,
        permission="ops",
        adapter=ADAPTER,
        body="json",
        summary="Keep quarantine from being emptied",
        tag="operations",
        accepts=HoldBody,
        answers={201: HoldAnswer},
        problems=(409,),
    ),
    Route(
        method="POST",
        path="/api/v1/holds/{hold}/renew",
        handler=post_renew,
        permission="ops",
        adapter=ADAPTER,
        body="json",
        summary="Renew a hold",
        tag="operations",
        accepts=RenewalBody,
        is_body_optional=True,
        answers={200: HoldAnswer},
        problems=(404,),
    ),
    Route(
        method="DELETE",
        path="/api/v1/holds/{hold}",
        handler=delete_hold,
        permission="ops",
        adapter=ADAPTER,
        summary="End a hold",
        tag="operations",
        answers={204: None},
    ),
]
