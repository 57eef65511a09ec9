"""Model cards: the README at `main`, or what was put where there is none."""

from __future__ import annotations

from typing import Final

from aiohttp import hdrs, web

from registry.api.errors import ADAPTER
from registry.api.models import model_in_path
from registry.catalog.cards import README
from registry.errors import PreconditionFailed
from registry.http.blobs import disposition
from registry.http.bodies import read_all
from registry.http.conditional import ETAG, Verdict, check_preconditions, etag_of, repr_digest_of
from registry.http.lists import is_unmodified
from registry.http.routing import Media, Route
from registry.keys import PRINCIPAL, STORE
from registry.services.cards import (
    MOST_BYTES,
    Condition,
    FoundCard,
    get_card,
    put_model_card,
    remove_card,
)
from store.digest import Digest

_MARKDOWN: Final = "text/markdown; charset=utf-8"
_PLAIN: Final = "text/plain; charset=utf-8"


async def get_model_card(request: web.Request) -> web.StreamResponse:
    """The card as Markdown, or as plain text where ``Accept`` prefers that.

    It is ``README.md`` (in any case, at the root) of the version at ``main``, or what was put. A
    README beyond 1 MiB or not in UTF-8 is 404 ``card_too_large`` or ``card_not_text``.
    """
    found = await get_card(request.app[STORE], request[PRINCIPAL], model_in_path(request))
    headers = _headers(request, found)
    if is_unmodified(request, headers[ETAG]):
        return web.Response(status=304, headers=headers)
    return web.Response(body=found.card.text.encode(), headers=headers)


async def put_card(request: web.Request) -> web.StreamResponse:
    """Put a card, UTF-8 of at most 1 MiB, where no README is one."""
    content = await read_all(request, limit_bytes=MOST_BYTES)
    found, is_new = await put_model_card(
        request.app[STORE],
        request[PRINCIPAL],
        model_in_path(request),
        content,
        _condition(request),
    )
    headers = {ETAG: etag_of(found.card.digest), hdrs.CACHE_CONTROL: "private, no-cache"}
    if is_new:
        return web.Response(status=201, headers=headers | {hdrs.LOCATION: request.path})
    return web.Response(status=204, headers=headers)


async def delete_card(request: web.Request) -> web.StreamResponse:
    """Remove a card that was put."""
    store, principal = request.app[STORE], request[PRINCIPAL]
    await remove_card(store, principal, model_in_path(request), _condition(request))
    return web.Response(status=204)


def _condition(request: web.Request) -> Condition:
    if_match = request.headers.get(hdrs.IF_MATCH)
    if_none_match = request.headers.get(hdrs.IF_NONE_MATCH)

    def check(digest: Digest | None) -> None:
        verdict = check_preconditions(
            None if digest is None else etag_of(digest),
            if_match=if_match,
            if_none_match=if_none_match,
            is_read=False,
        )
        if verdict is Verdict.FAILED:
            raise PreconditionFailed(hdrs.IF_NONE_MATCH if if_match is None else hdrs.IF_MATCH)

    return check


def _headers(request: web.Request, found: FoundCard) -> dict[str, str]:
    media = _PLAIN if _wants_plain(request) else _MARKDOWN
    filename = README if found.readme is None else found.readme.path
    return {
        hdrs.CONTENT_TYPE: media,
        ETAG: etag_of(found.card.digest),
        "Repr-Digest": repr_digest_of(found.card.digest),
        hdrs.CACHE_CONTROL: "private, no-cache",
        hdrs.VARY: "Accept, Authorization, Cookie",
        hdrs.CONTENT_DISPOSITION: disposition(media, filename),
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "Cross-Origin-Resource-Policy": "same-origin",
    }


def _wants_plain(request: web.Request) -> bool:
    accept = request.headers.get(hdrs.ACCEPT, "").lower()
    return ("text/plain" in accept or "text/html" in accept) and "text/markdown" not in accept


_CARD: Final = "/api/v1/models/{model:[^/]+}/card"
_TEXT: Final = Media("text/markdown", "The card, in UTF-8.")

ROUTES: Final = [
    Route(
        method="GET",
        path=_CARD,
        handler=get_model_card,
        permission="content.read",
        adapter=ADAPTER,
        summary="Get the card of a model",
        tag="models",
        answers={200: _TEXT, 304: None},
        problems=(404, 412),
        headers={"Accept": "`text/plain` for plain text."},
    ),
    Route(
        method="PUT",
        path=_CARD,
        handler=put_card,
        permission="model.write",
        adapter=ADAPTER,
        body="bytes",
        summary="Put a card on a model without a README",
        tag="models",
        accepts=_TEXT,
        answers={201: None, 204: None},
        problems=(404, 409, 413),
        takes_if_match=True,
    ),
    Route(
        method="DELETE",
        path=_CARD,
        handler=delete_card,
        permission="model.write",
        adapter=ADAPTER,
        summary="Remove a card that was put",
        tag="models",
        answers={204: None},
        problems=(404, 409),
        takes_if_match=True,
    ),
]
