"""Metrics of versions: recorded per split, listed, the latest of each, versions side by side."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from registry.api.errors import ADAPTER
from registry.api.wire_metrics import (
    CompareQuery,
    ComparisonAnswer,
    LatestQuery,
    MetricAnswer,
    MetricsAnswer,
    MetricsBody,
    MetricsQuery,
    comparison_answer,
    metric_answer,
)
from registry.api.wire_runs import moment
from registry.catalog.metrics import Metric
from registry.domain.ids import VERSION, is_id
from registry.domain.references import (
    ModelReference,
    VersionReference,
    parse_model,
    parse_reference,
)
from registry.domain.runs import parse_metric
from registry.errors import Invalid
from registry.http.answers import json_answer
from registry.http.bodies import read_json
from registry.http.cursors import Page, cursor, page_answer, place_after
from registry.http.once import answer_once
from registry.http.queries import read_query
from registry.http.routing import Route
from registry.http.targets import decoded, raw_segments
from registry.keys import PRINCIPAL, STORE
from registry.services.metrics import (
    MetricWish,
    NamedVersion,
    compare_versions,
    list_latest,
    list_metrics,
    record_metrics,
)


async def post_metrics(request: web.Request) -> web.StreamResponse:
    """Record what was measured of a version, all or none.

    The split is `train`, `validation`, `test` or `production`. Every value has a time, now if none
    is given, so that a name on a split has a history; another value for the same time replaces the
    one that was there. Values that are not finite are `"NaN"`, `"Infinity"` and `"-Infinity"`.
    """
    body = await read_json(request, MetricsBody)
    wishes = [
        MetricWish(
            parse_metric(one.name, field=f"metrics[{place}].name"),
            one.split,
            one.value,
            None if one.time is None else moment(one.time, f"metrics[{place}].time"),
        )
        for place, one in enumerate(body.metrics)
    ]
    store, principal = request.app[STORE], request[PRINCIPAL]
    model, version = _target(request)

    def render(metrics: list[Metric]) -> web.Response:
        return json_answer(MetricsAnswer([metric_answer(one) for one in metrics]), status=201)

    return await answer_once(
        request, lambda: record_metrics(store, principal, model, version, wishes), render
    )


async def get_metrics(request: web.Request) -> web.StreamResponse:
    """Everything measured of a version, in order of name, split and time."""
    query = read_query(request, MetricsQuery)
    model, version = _target(request)
    scope = f"{model} {version}"
    page = await list_metrics(
        request.app[STORE],
        request[PRINCIPAL],
        model,
        version,
        name=query.name,
        split=query.split,
        after=place_after(query, tuple[str, str, int], scope=scope),
        limit=query.limit,
    )
    next = None if page.next is None else cursor(query, *page.next, scope=scope)
    return page_answer(request, [metric_answer(one) for one in page.items], next)


async def get_latest(request: web.Request) -> web.StreamResponse:
    """The latest value of each name, or of each name on each split, of one version."""
    query = read_query(request, LatestQuery)
    model, version = _target(request)
    found = await list_latest(request.app[STORE], request[PRINCIPAL], model, version, per=query.per)
    return json_answer(MetricsAnswer([metric_answer(one) for one in found]))


async def get_comparison(request: web.Request) -> web.StreamResponse:
    """The latest metrics of versions of any models, side by side."""
    query = read_query(request, CompareQuery)
    asked = [_named(text, f"version[{place}]") for place, text in enumerate(query.version)]
    return json_answer(
        comparison_answer(await compare_versions(request.app[STORE], request[PRINCIPAL], asked))
    )


def _named(text: str, field: str) -> NamedVersion:
    """``model:version``, ``model@alias`` or ``ver_…``; names of models hold neither : nor @."""
    if is_id(text, VERSION):
        return NamedVersion(None, parse_reference(text, field=field))
    colon, at = text.find(":"), text.find("@")
    if colon > 0 and (at < 0 or colon < at):
        model, version = text[:colon], text[colon + 1 :]
    elif at > 0:
        model, version = text[:at], text[at:]
    else:
        raise Invalid(field, "is not model:version, model@alias or a ver_ id")
    return NamedVersion(parse_model(model, field=field), parse_reference(version, field=field))


def _target(request: web.Request) -> tuple[ModelReference, VersionReference]:
    _, _, _, model, _, version, *_ = raw_segments(request, 7)
    return (
        parse_model(decoded(model, field="model")),
        parse_reference(decoded(version, field="version")),
    )


_METRICS: Final = "/api/v1/models/{model:[^/]+}/versions/{version:[^/]+}/metrics"

ROUTES: Final = [
    Route(
        method="POST",
        path=_METRICS,
        handler=post_metrics,
        permission="model.write",
        adapter=ADAPTER,
        body="json",
        summary="Record metrics of a version",
        tag="metrics",
        accepts=MetricsBody,
        answers={201: MetricsAnswer},
    ),
    Route(
        method="GET",
        path=_METRICS,
        handler=get_metrics,
        permission="model.read",
        adapter=ADAPTER,
        summary="List the metrics of a version",
        tag="metrics",
        query=MetricsQuery,
        answers={200: Page[MetricAnswer]},
        problems=(409,),
    ),
    Route(
        method="GET",
        path=_METRICS + "/latest",
        handler=get_latest,
        permission="model.read",
        adapter=ADAPTER,
        summary="The latest metrics of a version",
        tag="metrics",
        query=LatestQuery,
        answers={200: MetricsAnswer},
        problems=(409,),
    ),
    Route(
        method="GET",
        path="/api/v1/metrics/compare",
        handler=get_comparison,
        permission="model.read",
        adapter=ADAPTER,
        summary="Compare versions by their metrics",
        tag="metrics",
        query=CompareQuery,
        answers={200: ComparisonAnswer},
        problems=(404, 409),
    ),
]
