"""What probes, Prometheus and dashboards ask: alive, ready, metrics, counts."""

from __future__ import annotations

from typing import Final

import msgspec
from aiohttp import hdrs, web

from registry import __version__
from registry.api.errors import ADAPTER
from registry.domain.permissions import Permission
from registry.http.answers import json_answer
from registry.http.routing import Handler, Route
from registry.keys import CONDITION, DRAIN, METRICS
from registry.metrics import CONTENT_TYPE
from registry.services.condition import Space, Totals


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
    return web.Response(
        body=request.app[METRICS].render(), headers={hdrs.CONTENT_TYPE: CONTENT_TYPE}
    )


async def get_stats(request: web.Request) -> web.Response:
    """Counts and bytes of the store."""
    condition = request.app[CONDITION]
    return json_answer(
        Stats(__version__, condition.store_id, await condition.totals(), await condition.space())
    )


_TABLE: Final[tuple[tuple[str, Handler, Permission], ...]] = (
    ("/healthz", get_healthz, "public"),
    ("/readyz", get_readyz, "public"),
    ("/metrics", get_metrics, "ops"),
    ("/api/v1/stats", get_stats, "ops"),
)

ROUTES: Final = [
    Route(method=method, path=path, handler=handler, permission=permission, adapter=ADAPTER)
    for path, handler, permission in _TABLE
    for method in ("GET", "HEAD")
]
