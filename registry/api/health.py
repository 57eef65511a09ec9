"""What probes, Prometheus and dashboards ask: alive, ready, metrics, counts."""

from __future__ import annotations

from typing import Final

import msgspec
from aiohttp import hdrs, web

from registry import __version__
from registry.api.errors import ADAPTER
from registry.domain.permissions import Permission
from registry.http.answers import json_answer
from registry.http.routing import Content, Handler, Media, Route
from registry.keys import CONDITION, DRAIN, MEASURES, METRICS
from registry.metrics import CONTENT_TYPE
from registry.services.condition import Condition, Space, Totals


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
    *_routes("/api/v1/stats", get_stats, "ops", "What is stored", {200: Stats}),
]
