"""Search over names, tags, descriptions and cards of models."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from aiohttp import web
from msgspec import Meta

from registry.api.errors import ADAPTER
from registry.api.wire import Urls
from registry.api.wire_models import ModelAnswer, model_answer
from registry.http.cursors import CountedQuery, Page, Total, cursor, page_answer, place_after
from registry.http.queries import read_query
from registry.http.routing import Route
from registry.keys import PRINCIPAL, STORE
from registry.services.search import search_models


class SearchQuery(CountedQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is looked for."""

    q: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=400,
            description='Words that must all be there; `"a phrase"`, `-unwanted`, `prefix*`.',
            examples=["english -uncased bert*"],
        ),
    ]


class FoundModel(msgspec.Struct, frozen=True):
    """A model that was found; the smaller its ``rank``, the better it fits."""

    model: ModelAnswer
    rank: float


async def search(request: web.Request) -> web.StreamResponse:
    """Models whose name, tags, description or card have all the words, the best match first.

    ``"a phrase"`` is found as it stands, ``-word`` must not be there, ``pre*`` is how a word
    begins; case and accents do not matter. Nothing that is typed is an error. Up to a thousand
    matches are ranked; more than that are told by where the words are, in the name first, then in
    tags, description and card, and each time the last described first.
    """
    query = read_query(request, SearchQuery)
    hits = await search_models(
        request.app[STORE],
        request[PRINCIPAL],
        query.q,
        after=place_after(query, tuple[float, int]),
        limit=query.limit,
    )
    urls = Urls(request)
    items = [FoundModel(model_answer(urls, hit.full), hit.place[0]) for hit in hits.items]
    following = None
    if hits.has_more:
        following = cursor(query, *hits.items[-1].place)
    total = Total(hits.count, hits.count_is_exact) if query.total else None
    return page_answer(request, items, following, total)


ROUTES: Final = [
    Route(
        method="GET",
        path="/api/v1/search",
        handler=search,
        permission="model.read",
        adapter=ADAPTER,
        summary="Search models by words",
        tag="models",
        query=SearchQuery,
        answers={200: Page[FoundModel]},
    ),
]
