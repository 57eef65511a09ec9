"""Reviews of versions: written by whoever is not the author, changed only by whoever wrote them."""

from __future__ import annotations

from typing import Final

from aiohttp import hdrs, web

from registry.api.errors import ADAPTER
from registry.api.scores import target
from registry.api.wire_trust import (
    ReviewAnswer,
    ReviewBody,
    ReviewPatchBody,
    ReviewsQuery,
    review_answer,
)
from registry.domain.reviews import Review
from registry.http.answers import json_answer
from registry.http.bodies import read_json
from registry.http.conditional import etag_of_row, expected_rows, revalidated
from registry.http.cursors import Page, cursor, page_answer, place_after
from registry.http.lists import is_unmodified
from registry.http.once import answer_once
from registry.http.queries import read_query
from registry.http.routing import Route
from registry.http.targets import decoded, raw_segments
from registry.keys import PRINCIPAL, STORE
from registry.services.reviews import (
    change_review,
    create_review,
    delete_review,
    get_review,
    list_reviews,
)


async def post_review(request: web.Request) -> web.StreamResponse:
    """Write a review of somebody else's version.

    Of a reviewer's verdicts the newest counts towards `reviewedness`; a comment is no verdict. In
    open mode nobody can be told apart: the review is kept and `counts` is false.
    """
    body = await read_json(request, ReviewBody)
    store, principal = request.app[STORE], request[PRINCIPAL]
    model, version = target(request)

    def render(review: Review) -> web.Response:
        answer = _present(review, status=201)
        answer.headers[hdrs.LOCATION] = f"{request.path}/{review.id}"
        return answer

    return await answer_once(
        request, lambda: create_review(store, principal, model, version, body.wish()), render
    )


async def get_reviews(request: web.Request) -> web.StreamResponse:
    """The reviews of a version, the latest made first."""
    query = read_query(request, ReviewsQuery)
    model, version = target(request)
    scope = f"{model} {version}"
    page = await list_reviews(
        request.app[STORE],
        request[PRINCIPAL],
        model,
        version,
        verdict=query.verdict,
        after=place_after(query, tuple[int, str], scope=scope),
        limit=query.limit,
    )
    next = None if page.next is None else cursor(query, *page.next, scope=scope)
    return page_answer(request, [review_answer(review) for review in page.items], next)


async def get_one_review(request: web.Request) -> web.StreamResponse:
    """One review of that version."""
    model, version = target(request)
    review = await get_review(
        request.app[STORE], request[PRINCIPAL], model, version, _name(request)
    )
    if is_unmodified(request, _tag(review)):
        return web.Response(status=304, headers=revalidated(_tag(review)))
    return _present(review)


async def patch_review(request: web.Request) -> web.StreamResponse:
    """Say something else, as whoever wrote the review."""
    body = await read_json(request, ReviewPatchBody)
    model, version = target(request)
    return _present(
        await change_review(
            request.app[STORE],
            request[PRINCIPAL],
            model,
            version,
            _name(request),
            body.patch(),
            expected_rows(request),
        )
    )


async def delete_one_review(request: web.Request) -> web.StreamResponse:
    """Take a review back, as whoever wrote it."""
    model, version = target(request)
    await delete_review(
        request.app[STORE],
        request[PRINCIPAL],
        model,
        version,
        _name(request),
        expected_rows(request),
    )
    return web.Response(status=204)


def _name(request: web.Request) -> str:
    return decoded(raw_segments(request, 8)[7], field="review")


def _tag(review: Review) -> str:
    return etag_of_row(review.id, review.changes)


def _present(review: Review, *, status: int = 200) -> web.Response:
    return json_answer(review_answer(review), status=status, headers=revalidated(_tag(review)))


_REVIEWS: Final = "/api/v1/models/{model:[^/]+}/versions/{version:[^/]+}/reviews"
_REVIEW: Final = _REVIEWS + "/{review:[^/]+}"

ROUTES: Final = [
    Route(
        method="POST",
        path=_REVIEWS,
        handler=post_review,
        permission="model.write",
        adapter=ADAPTER,
        body="json",
        summary="Review a version",
        tag="reviews",
        accepts=ReviewBody,
        answers={201: ReviewAnswer},
        problems=(404, 409),
    ),
    Route(
        method="GET",
        path=_REVIEWS,
        handler=get_reviews,
        permission="model.read",
        adapter=ADAPTER,
        summary="List the reviews of a version",
        tag="reviews",
        query=ReviewsQuery,
        answers={200: Page[ReviewAnswer]},
        problems=(404, 409),
    ),
    Route(
        method="GET",
        path=_REVIEW,
        handler=get_one_review,
        permission="model.read",
        adapter=ADAPTER,
        summary="One review",
        tag="reviews",
        answers={200: ReviewAnswer, 304: None},
        problems=(404, 409, 412),
    ),
    Route(
        method="PATCH",
        path=_REVIEW,
        handler=patch_review,
        permission="model.write",
        adapter=ADAPTER,
        body="json",
        summary="Change one's review",
        tag="reviews",
        accepts=ReviewPatchBody,
        answers={200: ReviewAnswer},
        problems=(404, 409),
        takes_if_match=True,
    ),
    Route(
        method="DELETE",
        path=_REVIEW,
        handler=delete_one_review,
        permission="model.write",
        adapter=ADAPTER,
        summary="Take one's review back",
        tag="reviews",
        answers={204: None},
        problems=(404, 409),
        takes_if_match=True,
    ),
]
