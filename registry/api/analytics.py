"""Analytics: models, teams and the registry at a glance, what is old, how it was over time."""

from __future__ import annotations

from typing import Any, Final

from aiohttp import web

from registry.api.errors import ADAPTER
from registry.api.wire_analytics import (
    GrowthAnswer,
    GrowthQuery,
    HealthQuery,
    HealthSampleAnswer,
    ModelSummaryAnswer,
    RegistryAnswer,
    RetrainingAnswer,
    RetrainingQuery,
    SummaryQuery,
    TeamMetricsAnswer,
    growth_answer,
    health_answer,
    model_summary_answer,
    registry_answer,
    retraining_answer,
    team_metrics_answer,
)
from registry.api.wire_runs import moment
from registry.domain.references import parse_model
from registry.http.answers import json_answer
from registry.http.cursors import Page, PageQuery, cursor, page_answer, place_after
from registry.http.queries import read_query
from registry.http.routing import Route
from registry.http.targets import decoded, raw_segments
from registry.keys import GROWTH, PRINCIPAL, STORE
from registry.services.health_history import read_health
from registry.services.summaries import (
    model_summary,
    models_to_retrain,
    team_summaries,
    team_summary,
)
from store.clock import SECOND

_EVER: Final = 2**62


async def get_model_summary(request: web.Request) -> web.StreamResponse:
    """A model at a glance: versions, runs, deployments, downloads, bytes.

    Deleted versions and runs do not count. `latest` is what the alias `latest` points at, null
    without one. GPU hours and dollars are those that runs of the model said they took.
    """
    query = read_query(request, SummaryQuery)
    found = await model_summary(
        request.app[STORE],
        request[PRINCIPAL],
        parse_model(decoded(_last(request), field="model")),
        downloads_days=query.downloads_days,
    )
    return json_answer(model_summary_answer(found, query.downloads_days), headers=_PRIVATE)


async def get_teams(request: web.Request) -> web.StreamResponse:
    """All living teams in order of their names, with what there is of their models."""
    query = read_query(request, PageQuery)
    place = place_after(query, tuple[str], scope="team metrics")
    found = await team_summaries(
        request.app[STORE],
        request[PRINCIPAL],
        after="" if place is None else place[0],
        limit=query.limit + 1,
    )
    page, next = found[: query.limit], None
    if len(found) > query.limit:
        next = cursor(query, page[-1].folded, scope="team metrics")
    return page_answer(request, [team_metrics_answer(one) for one in page], next)


async def get_team(request: web.Request) -> web.StreamResponse:
    """What there is of the living models of a team, named by its name or id."""
    reference = decoded(_last(request), field="team")
    found = await team_summary(request.app[STORE], request[PRINCIPAL], reference)
    return json_answer(team_metrics_answer(found), headers=_PRIVATE)


async def get_retraining(request: web.Request) -> web.StreamResponse:
    """Active models that were trained last more than `days` days ago, the oldest first.

    A model was trained last when its newest successful run started, or when its newest living
    version was published, whichever is later; `measured_from` says which it was. Models without
    either were never trained and are not listed, nor are data sets and generic things.
    """
    query = read_query(request, RetrainingQuery)
    found = await models_to_retrain(
        request.app[STORE],
        request[PRINCIPAL],
        days=query.days,
        after=place_after(query, tuple[int, str]),
        limit=query.limit,
    )
    items = [retraining_answer(one, found.now) for one in found.items]
    next = None if found.next is None else cursor(query, *found.next)
    return page_answer(request, items, next)


async def get_registry(request: web.Request) -> web.StreamResponse:
    """Counts of everything, and bytes: stored, named by versions, and saved by storing once.

    Counted at most every hundredth part of the time it takes, so `at` may lie back a little where
    there are many millions of blobs. A deleted version keeps its bytes until it is purged.
    """
    return json_answer(registry_answer(await request.app[GROWTH].standing()), headers=_PRIVATE)


async def get_growth(request: web.Request) -> web.StreamResponse:
    """What there was at the end of each day, and what there is today; the newest first.

    Counted each hour by the leader, which keeps the last count of each day for good. A day on which
    no server ran has none.
    """
    query = read_query(request, GrowthQuery)
    place = place_after(query, tuple[int])
    found = await request.app[GROWTH].days(
        since=0 if query.since is None else moment(query.since, "since"),
        until=_EVER if query.until is None else moment(query.until, "until"),
        before=None if place is None else place[0],
        limit=query.limit + 1,
    )
    page = found[: query.limit]
    next = cursor(query, page[-1].day) if len(found) > query.limit else None
    return page_answer(request, [growth_answer(one) for one in page], next)


async def get_health(request: web.Request) -> web.StreamResponse:
    """How the parts of the registry were, the newest first.

    Sampled each `health.sample_seconds` by the leading worker. With `every` there is one summary a
    component for each span of so many seconds since 1970: the worst status, means and highest
    numbers. All samples are kept for seven days, then the first of each hour, component and status.
    """
    query = read_query(request, HealthQuery)
    found = await read_health(
        request.app[STORE],
        component=query.component,
        since=0 if query.since is None else moment(query.since, "since"),
        until=_EVER if query.until is None else moment(query.until, "until"),
        every=None if query.every is None else query.every * SECOND,
        after=place_after(query, tuple[int, str]),
        limit=query.limit,
    )
    next = None if found.next is None else cursor(query, *found.next)
    return page_answer(request, [health_answer(one) for one in found.items], next)


def _last(request: web.Request) -> str:
    return raw_segments(request, 5)[4]


_PRIVATE: Final = {"Cache-Control": "private, no-cache"}
_ANALYTICS: Final = "/api/v1/analytics"


def _route(path: str, handler: Any, summary: str, answer: Any, **options: Any) -> Route:
    return Route(
        method="GET",
        path=_ANALYTICS + path,
        handler=handler,
        permission=options.pop("permission", "model.read"),
        adapter=ADAPTER,
        summary=summary,
        tag="analytics",
        answers={200: answer},
        **options,
    )


ROUTES: Final = [
    _route(
        "/models/{model:[^/]+}",
        get_model_summary,
        "A model at a glance",
        ModelSummaryAnswer,
        query=SummaryQuery,
        problems=(404,),
    ),
    _route("/teams", get_teams, "What teams have", Page[TeamMetricsAnswer], query=PageQuery),
    _route("/teams/{team:[^/]+}", get_team, "What a team has", TeamMetricsAnswer, problems=(404,)),
    _route(
        "/retraining",
        get_retraining,
        "Models that were trained long ago",
        Page[RetrainingAnswer],
        query=RetrainingQuery,
    ),
    _route("/registry", get_registry, "Everything there is", RegistryAnswer, permission="ops"),
    _route(
        "/growth",
        get_growth,
        "What there was from day to day",
        Page[GrowthAnswer],
        query=GrowthQuery,
        permission="ops",
    ),
    _route(
        "/health",
        get_health,
        "How the parts of the registry were",
        Page[HealthSampleAnswer],
        query=HealthQuery,
        permission="ops",
    ),
]
