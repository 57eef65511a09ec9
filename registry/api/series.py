"""What runs log: points in thousands, read back whole, or as a chart that keeps every peak.

A batch is decoded a few hundred points at a time, one batch after the other, with a pause between.
A turn of the event loop is not enough of one: the loop's thread takes the interpreter back before a
thread that waits for it wakes up, so readers and the writer stood still for as long as a batch was
being decoded (reads at p99: 57 ms; with pauses of a millisecond 4.4).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Final, NoReturn

import msgspec
from aiohttp import web
from msgspec import Meta

from registry.api.errors import ADAPTER
from registry.api.runs import run_id
from registry.api.wire_metrics import (
    ChartAnswer,
    ChartQuery,
    ChartSeries,
    LogAnswer,
    LogBody,
    PointAnswer,
    PointBody,
    PointsQuery,
    SeriesAnswer,
    SeriesQuery,
    chart_series,
    point_answer,
    series_answer,
)
from registry.api.wire_runs import moment
from registry.catalog.series import NewPoint, Span
from registry.domain.numbers import columns_of
from registry.domain.runs import parse_metric
from registry.errors import BodyMalformed
from registry.http.answers import json_answer
from registry.http.bodies import parse_json, read_all
from registry.http.cursors import Page, cursor, page_answer, place_after
from registry.http.once import answer_once
from registry.http.queries import read_query
from registry.http.routing import Route
from registry.keys import CONFIG, PRINCIPAL, STORE, TURNSTILE
from registry.services.series import (
    MOST_POINTS,
    Logged,
    Points,
    list_points,
    list_series,
    log_points,
)
from registry.services.series import chart_series as charts_of

DECODED_AT_ONCE: Final = 200
"""Points: less than half a millisecond."""

PAUSE_SECONDS: Final = 0.001


class _Parts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`LogBody` with its points not yet decoded."""

    points: Annotated[list[msgspec.Raw], Meta(min_length=1, max_length=MOST_POINTS)]


_PARTS: Final = msgspec.json.Decoder(_Parts)
_POINTS: Final = msgspec.json.Decoder(list[PointBody])


async def post_points(request: web.Request) -> web.StreamResponse:
    """Log up to 10,000 points of one run, of any number of series, while it runs or afterwards.

    A point is its key, step and time: logged again, the value is replaced, so that repeating a call
    that had no answer is safe. Without `time` every point is measured now, and a repeat makes new
    ones; an `Idempotency-Key` helps. Values that are not finite are written `"NaN"`, `"Infinity"`
    and `"-Infinity"`. Points are not audited.
    """
    content = await read_all(request, limit_bytes=request.app[CONFIG].limits.json_bytes)
    store, principal, id = request.app[STORE], request[PRINCIPAL], run_id(request)
    turnstile, now = request.app[TURNSTILE], store.clock()
    async with turnstile.decoding:
        points = await _decoded(content, now)

    def render(logged: Logged) -> web.Response:
        return json_answer(LogAnswer(logged.points, logged.new))

    return await answer_once(
        request, lambda: log_points(store, principal, turnstile, id, points), render
    )


async def _decoded(content: bytes, now: int) -> Points:
    """The points of a body by key, in order of step and time, the later of two equal ones."""
    found: dict[str, dict[tuple[int, int], NewPoint]] = {}
    for place, part in enumerate(_parts(content)):
        try:
            bodies = _POINTS.decode(b"[" + b",".join(part) + b"]")
        except (msgspec.DecodeError, RecursionError):
            _refuse(content)
        _collect(found, bodies, place * DECODED_AT_ONCE, now)
        await _pause(len(bodies))
    ordered: dict[str, list[NewPoint]] = {}
    sorted_since = 0
    for key in sorted(found):
        ordered[key] = sorted(found[key].values())
        sorted_since += len(ordered[key])
        if sorted_since >= 5 * DECODED_AT_ONCE:
            await _pause(sorted_since)
            sorted_since = 0
    return ordered


async def _pause(points: int) -> None:
    """Let threads have the interpreter for a while; after a few points nobody has waited."""
    if points >= DECODED_AT_ONCE:
        await asyncio.sleep(PAUSE_SECONDS)


def _parts(content: bytes) -> list[list[msgspec.Raw]]:
    try:
        if not content.isascii():
            content.decode()  # msgspec looks at no text that it does not decode
        raw = _PARTS.decode(content).points
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        _refuse(content)
    return [raw[at : at + DECODED_AT_ONCE] for at in range(0, len(raw), DECODED_AT_ONCE)]


def _refuse(content: bytes) -> NoReturn:
    """Say everything that is wrong with a body that was refused."""
    parse_json(content, LogBody)
    raise BodyMalformed("not a list of points")


def _collect(
    found: dict[str, dict[tuple[int, int], NewPoint]],
    bodies: Sequence[PointBody],
    first: int,
    now: int,
) -> None:
    for place, body in enumerate(bodies, first):
        members = found.get(body.key)
        if members is None:
            key = parse_metric(body.key, field=f"points[{place}].key")
            members = found.setdefault(key, {})
        time = now if body.time is None else moment(body.time, f"points[{place}].time")
        members[body.step, time] = (body.step, time, *columns_of(body.value))


async def get_series(request: web.Request) -> web.StreamResponse:
    """The series of a run in order of key, each with its last point."""
    query, id = read_query(request, SeriesQuery), run_id(request)
    (after,) = place_after(query, tuple[str], scope=id) or ("",)
    found = await list_series(
        request.app[STORE],
        request[PRINCIPAL],
        id,
        after=after,
        limit=query.limit + 1,
        prefix=query.prefix,
    )
    shown = found[: query.limit]
    next = cursor(query, shown[-1].key, scope=id) if len(found) > query.limit else None
    return page_answer(request, [series_answer(one) for one in shown], next)


async def get_points(request: web.Request) -> web.StreamResponse:
    """Every point of some series, or of all, in order of key, step and time."""
    query, id = read_query(request, PointsQuery), run_id(request)
    page = await list_points(
        request.app[STORE],
        request[PRINCIPAL],
        id,
        query.key,
        Span(query.from_step, query.to_step),
        after=place_after(query, tuple[str, int, int], scope=id),
        limit=query.limit,
    )
    next = None if page.next is None else cursor(query, *page.next, scope=id)
    return page_answer(request, [point_answer(one.key, one.point) for one in page.items], next)


async def get_chart(request: web.Request) -> web.StreamResponse:
    """Series to draw, of at most so many points each, in which every peak shows.

    A longer series is cut into (points - 2) / 3 intervals of equal width along its steps, or along
    its times where all steps are one. Of each interval its least value, its greatest, and its first
    that is not finite stay, and the first and the last point of all. A key that the run does not
    have is a series without points.
    """
    query = read_query(request, ChartQuery)
    charts = await charts_of(
        request.app[STORE],
        request[PRINCIPAL],
        run_id(request),
        query.key,
        Span(query.from_step, query.to_step),
        points=query.points,
    )
    series: list[ChartSeries] = []
    for chart in charts:
        series.append(chart_series(chart))
        await _pause(len(chart.points))
    return json_answer(ChartAnswer(series))


_METRICS: Final = "/api/v1/runs/{run:[^/]+}/metrics"

ROUTES: Final = [
    Route(
        method="POST",
        path=_METRICS,
        handler=post_points,
        permission="run.write",
        adapter=ADAPTER,
        body="json",
        summary="Log points of metrics",
        tag="runs",
        accepts=LogBody,
        answers={200: LogAnswer},
    ),
    Route(
        method="GET",
        path=_METRICS,
        handler=get_series,
        permission="model.read",
        adapter=ADAPTER,
        summary="List the series of a run",
        tag="runs",
        query=SeriesQuery,
        answers={200: Page[SeriesAnswer]},
    ),
    Route(
        method="GET",
        path=_METRICS + "/points",
        handler=get_points,
        permission="model.read",
        adapter=ADAPTER,
        summary="Read points back",
        tag="runs",
        query=PointsQuery,
        answers={200: Page[PointAnswer]},
    ),
    Route(
        method="GET",
        path=_METRICS + "/chart",
        handler=get_chart,
        permission="model.read",
        adapter=ADAPTER,
        summary="Series for a chart",
        tag="runs",
        query=ChartQuery,
        answers={200: ChartAnswer},
    ),
]
