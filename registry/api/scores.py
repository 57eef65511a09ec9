"""Scores of versions: computed when asked for, kept for good, the latest of each in one answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from aiohttp import hdrs, web

from registry.api.errors import ADAPTER
from registry.api.wire_trust import (
    HistoryQuery,
    MetricsDescribed,
    RateBody,
    ScoreAnswer,
    ScoresAnswer,
    described,
    score_answer,
    scores_answer,
)
from registry.domain.references import (
    ModelReference,
    VersionReference,
    parse_model,
    parse_reference,
)
from registry.domain.scoring.metrics import METRICS
from registry.http.answers import json_answer
from registry.http.bodies import read_json
from registry.http.cursors import Page, cursor, page_answer, place_after
from registry.http.once import answer_once
from registry.http.queries import read_query
from registry.http.routing import Route
from registry.http.targets import decoded, raw_segments
from registry.keys import PRINCIPAL, RATERS, STORE
from registry.services.scoring import Rated, get_scores, list_scores, rate_version

_PRIVATE: Final[Mapping[str, str]] = {hdrs.CACHE_CONTROL: "private, no-cache"}


async def post_rating(request: web.Request) -> web.StreamResponse:
    """Compute all metrics of a version, or those named, and keep what comes out.

    A metric without evidence has no `value` and says the `reason`. The answer is the latest of
    each metric, with those computed now. How each is defined is in `registry/SCORES.md` and at
    `/api/v1/scores/metrics`.
    """
    body = await read_json(request, RateBody, is_optional=True)
    store, principal = request.app[STORE], request[PRINCIPAL]
    raters = request.app[RATERS]
    model, version = target(request)

    def render(rated: Rated) -> web.Response:
        return json_answer(scores_answer(rated), status=201, headers=_PRIVATE)

    return await answer_once(
        request,
        lambda: rate_version(store, principal, raters, model, version, body.metrics),
        render,
    )


async def get_latest(request: web.Request) -> web.StreamResponse:
    """The latest score of each metric, and what they come to overall."""
    model, version = target(request)
    rated = await get_scores(request.app[STORE], request[PRINCIPAL], model, version)
    return json_answer(scores_answer(rated), headers=_PRIVATE)


async def get_history(request: web.Request) -> web.StreamResponse:
    """Every score that was ever computed of a version, the latest first."""
    query = read_query(request, HistoryQuery)
    model, version = target(request)
    scope = f"{model} {version}"
    place = place_after(query, tuple[int], scope=scope)
    page = await list_scores(
        request.app[STORE],
        request[PRINCIPAL],
        model,
        version,
        metric=query.metric,
        after=None if place is None else place[0],
        limit=query.limit,
    )
    next = None if page.next is None else cursor(query, page.next, scope=scope)
    return page_answer(request, [score_answer(score) for score in page.items], next)


async def get_metrics(request: web.Request) -> web.StreamResponse:
    """What each metric asks, of which evidence it is computed, and where it comes from."""
    return json_answer(MetricsDescribed([described(metric) for metric in METRICS.values()]))


def target(request: web.Request) -> tuple[ModelReference, VersionReference]:
    """The model and the version that a path names."""
    _, _, _, model, _, version, *_ = raw_segments(request, 7)
    return (
        parse_model(decoded(model, field="model")),
        parse_reference(decoded(version, field="version")),
    )


_VERSION: Final = "/api/v1/models/{model:[^/]+}/versions/{version:[^/]+}"

ROUTES: Final = [
    Route(
        method="POST",
        path=_VERSION + "/rate",
        handler=post_rating,
        permission="model.write",
        adapter=ADAPTER,
        body="json",
        summary="Rate a version",
        tag="scores",
        accepts=RateBody,
        is_body_optional=True,
        answers={201: ScoresAnswer},
        problems=(404, 409),
    ),
    Route(
        method="GET",
        path=_VERSION + "/scores",
        handler=get_latest,
        permission="model.read",
        adapter=ADAPTER,
        summary="The scores of a version",
        tag="scores",
        answers={200: ScoresAnswer},
        problems=(404, 409),
    ),
    Route(
        method="GET",
        path=_VERSION + "/scores/history",
        handler=get_history,
        permission="model.read",
        adapter=ADAPTER,
        summary="List all scores of a version",
        tag="scores",
        query=HistoryQuery,
        answers={200: Page[ScoreAnswer]},
        problems=(404, 409),
    ),
    Route(
        method="GET",
        path="/api/v1/scores/metrics",
        handler=get_metrics,
        permission="model.read",
        adapter=ADAPTER,
        summary="What the metrics mean",
        tag="scores",
        answers={200: MetricsDescribed},
    ),
]
