"""What probes, Prometheus and dashboards ask: alive, ready, metrics, counts."""

from __future__ import annotations

from typing import Final

import msgspec
from aiohttp import hdrs, web

from registry import __version__
from registry.api.errors import ADAPTER
from registry.catalog.health_samples import Status
from registry.domain.permissions import Permission
from registry.http.answers import json_answer
from registry.http.routing import Content, Handler, Media, Route
from registry.http.times import rfc3339
from registry.keys import CONDITION, CONFIG, DRAIN, MEASURES, METRICS, STORE
from registry.metrics import CONTENT_TYPE
from registry.services.condition import Condition, Space, Totals
from registry.services.health_history import Standing, present_health


class Health(msgspec.Struct, frozen=True):
    """``status`` is ``ok``, or ``unready`` with the reason of each check that failed."""

    status: str
    faults: dict[str, str] = {}


class Stats(msgspec.Struct, frozen=True):
    """Counts of the whole store; at most ten seconds old."""

    version: str
    store_id: str
    stored: Totals
    space: Space


class ComponentAnswer(msgspec.Struct, frozen=True):
    """A part of the registry, and since when it has been so, up to thirty days back."""

    component: str
    status: Status
    since: str
    detail: str
    numbers: dict[str, int | float]


class HealthAnswer(msgspec.Struct, frozen=True):
    """The worst status of all parts; ``sampled_at`` is null before anybody has looked."""

    status: Status
    sampled_at: str | None
    components: list[ComponentAnswer]


async def get_healthz(request: web.Request) -> web.Response:
    """The process answers; nothing about the disk, for which no restart would help."""
    return json_answer(Health("ok"))


async def get_readyz(request: web.Request) -> web.Response:
    """Whether to send work here: index readable, disk writable and not full, not draining."""
    faults = await request.app[CONDITION].faults()
    if request.app[DRAIN].is_draining:
        faults["draining"] = "the server is shutting down"
    if faults:
        return json_answer(Health("unready", faults), status=503, headers={"Retry-After": "5"})
    return json_answer(Health("ok"))


async def get_health(request: web.Request) -> web.Response:
    """How every part of the registry is, and since when.

    As the leading worker saw it when it looked last; that nobody leads is told of the part
    ``leader``. What was before is at `/api/v1/analytics/health`.
    """
    found = await present_health(
        request.app[STORE], sample_seconds=request.app[CONFIG].health.sample_seconds
    )
    sampled_at = None if found.sampled_at is None else rfc3339(found.sampled_at)
    return json_answer(
        HealthAnswer(found.status, sampled_at, [_component(one) for one in found.components])
    )


def _component(one: Standing) -> ComponentAnswer:
    return ComponentAnswer(
        one.component, one.status, rfc3339(one.since), one.detail, dict(one.numbers)
    )


async def get_metrics(request: web.Request) -> web.Response:
    """All workers' numbers in Prometheus' text format."""
    await request.app[MEASURES].look()
    return web.Response(
        body=request.app[METRICS].render(), headers={hdrs.CONTENT_TYPE: CONTENT_TYPE}
    )


async def get_stats(request: web.Request) -> web.Response:
    """Counts and bytes of the store."""
    return json_answer(await stats_of(request.app[CONDITION]))


async def stats_of(condition: Condition) -> Stats:
    return Stats(__version__, condition.store_id, await condition.totals(), await condition.space())


def _routes(
    path: str, handler: Handler, permission: Permission, summary: str, answers: dict[int, Content]
) -> list[Route]:
    return [
        Route(
            method=method,
            path=path,
            handler=handler,
            permission=permission,
            adapter=ADAPTER,
            summary=summary,
            tag="server",
            answers=answers,
        )
        for method in ("GET", "HEAD")
    ]


ROUTES: Final = [
    *_routes("/healthz", get_healthz, "public", "Is it alive", {200: Health}),
    *_routes("/readyz", get_readyz, "public", "Is it ready for work", {200: Health, 503: Health}),
    *_routes(
        "/metrics",
        get_metrics,
        "ops",
        "Metrics",
        {200: Media("text/plain", "Prometheus' text format.")},
    ),
    Route(
        method="GET",
        path="/api/v1/health",
        handler=get_health,
        permission="ops",
        adapter=ADAPTER,
        summary="How every part is",
        tag="server",
        answers={200: HealthAnswer},
    ),
    *_routes("/api/v1/stats", get_stats, "ops", "What is stored", {200: Stats}),
]
