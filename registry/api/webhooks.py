"""Webhooks of namespaces: made, found, changed, tried out and deleted; and the log of deliveries.

How a receiver verifies what it is told, and when an attempt is repeated, is in ``API.md``.
"""

from __future__ import annotations

from typing import Final

from aiohttp import hdrs, web

from registry.api.errors import ADAPTER
from registry.api.wire_webhooks import (
    DeliveriesQuery,
    DeliveryAnswer,
    WebhookAnswer,
    WebhookBody,
    WebhookPatchBody,
    WebhooksQuery,
    delivery_answer,
    webhook_answer,
)
from registry.catalog.deliveries import ListedDelivery
from registry.errors import NotFound
from registry.http.answers import json_answer
from registry.http.bodies import read_json
from registry.http.conditional import ETAG, etag_of_row, expected_rows
from registry.http.cursors import Page, cursor, page_answer, place_after
from registry.http.lists import is_unmodified
from registry.http.once import answer_once
from registry.http.queries import read_query
from registry.http.routing import Route
from registry.keys import PRINCIPAL, STORE, WEBHOOKS
from registry.services.deliveries import (
    ask_again,
    get_delivery,
    list_deliveries,
    may_see_responses,
)
from registry.services.webhooks import ToldWebhook


async def post_webhook(request: web.Request) -> web.StreamResponse:
    """Make a webhook of a namespace that is there; it hears of what happens from now on.

    A secret that was drawn is in this answer and in none after it, not even under an
    `Idempotency-Key`: a repeat is 409 then.
    """
    body = await read_json(request, WebhookBody)
    webhooks, principal = request.app[WEBHOOKS], request[PRINCIPAL]

    def render(told: ToldWebhook) -> web.Response:
        answer = _present(told, status=201)
        answer.headers[hdrs.LOCATION] = f"{_WEBHOOKS}/{told.listed.webhook.id}"
        return answer

    return await answer_once(
        request,
        lambda: webhooks.create(principal, body.wish()),
        render,
        is_secret=body.secret is None,
    )


async def get_webhooks(request: web.Request) -> web.StreamResponse:
    """The webhooks of all namespaces or of one, the latest made first."""
    query = read_query(request, WebhooksQuery)
    place = place_after(query, tuple[str])
    page = await request.app[WEBHOOKS].list(
        request[PRINCIPAL],
        namespace=query.namespace,
        before=None if place is None else place[0],
        limit=query.limit,
    )
    items = [webhook_answer(ToldWebhook(one)) for one in page.items]
    return page_answer(request, items, None if page.next is None else cursor(query, page.next))


async def get_webhook(request: web.Request) -> web.StreamResponse:
    """One webhook, without its secret."""
    told = ToldWebhook(await request.app[WEBHOOKS].get(request[PRINCIPAL], _id(request)))
    if is_unmodified(request, _tag(told)):
        return web.Response(status=304, headers=_headers(told))
    return _present(told)


async def patch_webhook(request: web.Request) -> web.StreamResponse:
    """Change a webhook; `"secret": null` draws a new one, which this answer alone tells.

    What happened while it was turned off it is never told.
    """
    body = await read_json(request, WebhookPatchBody)
    return _present(
        await request.app[WEBHOOKS].change(
            request[PRINCIPAL], _id(request), body.patch(), expected_rows(request)
        )
    )


async def delete_webhook(request: web.Request) -> web.StreamResponse:
    """Delete a webhook with its deliveries; what waits is not delivered any more."""
    await request.app[WEBHOOKS].delete(request[PRINCIPAL], _id(request), expected_rows(request))
    return web.Response(status=204)


async def post_ping(request: web.Request) -> web.StreamResponse:
    """Deliver a `webhook.ping`, whatever the webhook listens to; the delivery tells how it went."""
    webhooks, principal, id = request.app[WEBHOOKS], request[PRINCIPAL], _id(request)
    return await answer_once(request, lambda: webhooks.ping(principal, id), _accepted)


async def get_deliveries(request: web.Request) -> web.StreamResponse:
    """What a webhook was and will be told, the newest entry first.

    A delivery is kept for 30 days after it was delivered or given up.
    """
    query, id = read_query(request, DeliveriesQuery), _id(request)
    place = place_after(query, tuple[int], scope=id)
    page = await list_deliveries(
        request.app[STORE],
        request[PRINCIPAL],
        id,
        state=query.state,
        before=None if place is None else place[0],
        limit=query.limit,
    )
    items = [delivery_answer(one, shows_response=False) for one in page.items]
    next = None if page.next is None else cursor(query, page.next, scope=id)
    return page_answer(request, items, next)


async def get_one_delivery(request: web.Request) -> web.StreamResponse:
    """One delivery; with what was answered, where an administrator of the registry asks."""
    principal = request[PRINCIPAL]
    found = await get_delivery(request.app[STORE], principal, _id(request), _entry(request))
    return json_answer(delivery_answer(found, shows_response=may_see_responses(principal)))


async def post_redeliver(request: web.Request) -> web.StreamResponse:
    """Deliver once more, under the same message id, beginning with the first attempt."""
    store, principal = request.app[STORE], request[PRINCIPAL]
    id, entry = _id(request), _entry(request)
    return await answer_once(request, lambda: ask_again(store, principal, id, entry), _accepted)


def _id(request: web.Request) -> str:
    return request.match_info["webhook"]


def _entry(request: web.Request) -> int:
    text = request.match_info["delivery"]
    if not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise NotFound("delivery", text[:80], code="delivery_not_found")
    return int(text)


def _tag(told: ToldWebhook) -> str:
    return etag_of_row(told.listed.webhook.id, told.listed.webhook.changes)


def _headers(told: ToldWebhook) -> dict[str, str]:
    cache = "private, no-cache" if told.secret is None else "no-store"
    return {ETAG: _tag(told), hdrs.CACHE_CONTROL: cache}


def _present(told: ToldWebhook, *, status: int = 200) -> web.Response:
    return json_answer(webhook_answer(told), status=status, headers=_headers(told))


def _accepted(listed: ListedDelivery) -> web.Response:
    one = listed.delivery
    return json_answer(
        delivery_answer(listed, shows_response=False),
        status=202,
        headers={hdrs.LOCATION: f"{_WEBHOOKS}/{one.webhook_id}/deliveries/{one.entry}"},
    )


_WEBHOOKS: Final = "/api/v1/webhooks"
_WEBHOOK: Final = _WEBHOOKS + "/{webhook}"
_DELIVERIES: Final = _WEBHOOK + "/deliveries"
_DELIVERY: Final = _DELIVERIES + "/{delivery}"

ROUTES: Final = [
    Route(
        method="POST",
        path=_WEBHOOKS,
        handler=post_webhook,
        permission="namespace.admin",
        adapter=ADAPTER,
        body="json",
        summary="Make a webhook",
        tag="webhooks",
        accepts=WebhookBody,
        answers={201: WebhookAnswer},
        problems=(404, 409),
    ),
    Route(
        method="GET",
        path=_WEBHOOKS,
        handler=get_webhooks,
        permission="namespace.admin",
        adapter=ADAPTER,
        summary="List webhooks",
        tag="webhooks",
        query=WebhooksQuery,
        answers={200: Page[WebhookAnswer]},
        problems=(404,),
    ),
    Route(
        method="GET",
        path=_WEBHOOK,
        handler=get_webhook,
        permission="namespace.admin",
        adapter=ADAPTER,
        summary="One webhook",
        tag="webhooks",
        answers={200: WebhookAnswer, 304: None},
        problems=(412,),
    ),
    Route(
        method="PATCH",
        path=_WEBHOOK,
        handler=patch_webhook,
        permission="namespace.admin",
        adapter=ADAPTER,
        body="json",
        summary="Change a webhook",
        tag="webhooks",
        accepts=WebhookPatchBody,
        answers={200: WebhookAnswer},
        takes_if_match=True,
    ),
    Route(
        method="DELETE",
        path=_WEBHOOK,
        handler=delete_webhook,
        permission="namespace.admin",
        adapter=ADAPTER,
        summary="Delete a webhook",
        tag="webhooks",
        answers={204: None},
        takes_if_match=True,
    ),
    Route(
        method="POST",
        path=_WEBHOOK + "/ping",
        handler=post_ping,
        permission="namespace.admin",
        adapter=ADAPTER,
        summary="Try a webhook out",
        tag="webhooks",
        answers={202: DeliveryAnswer},
        problems=(409,),
    ),
    Route(
        method="GET",
        path=_DELIVERIES,
        handler=get_deliveries,
        permission="namespace.admin",
        adapter=ADAPTER,
        summary="List deliveries",
        tag="webhooks",
        query=DeliveriesQuery,
        answers={200: Page[DeliveryAnswer]},
    ),
    Route(
        method="GET",
        path=_DELIVERY,
        handler=get_one_delivery,
        permission="namespace.admin",
        adapter=ADAPTER,
        summary="One delivery",
        tag="webhooks",
        answers={200: DeliveryAnswer},
    ),
    Route(
        method="POST",
        path=_DELIVERY + "/redeliver",
        handler=post_redeliver,
        permission="namespace.admin",
        adapter=ADAPTER,
        summary="Deliver once more",
        tag="webhooks",
        answers={202: DeliveryAnswer},
        problems=(409,),
    ),
]
