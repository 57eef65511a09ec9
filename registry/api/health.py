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
from registry.keys import CONDITION, DRAIN, METRICS
from registry.metrics import CONTENT_TYPE, Metrics
from registry.services.condition import Condition, Space, Totals
from store.opening import Store


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
    await request.app[CONDITION].look()
    return web.Response(
        body=request.app[METRICS].render(), headers={hdrs.CONTENT_TYPE: CONTENT_TYPE}
    )


async def get_stats(request: web.Request) -> web.Response:
    """Counts and bytes of the store."""
    return json_answer(await stats_of(request.app[CONDITION]))


async def stats_of(condition: Condition) -> Stats:
    return Stats(__version__, condition.store_id, await condition.totals(), await condition.space())


def measure_store(metrics: Metrics, store: Store, condition: Condition) -> None:
    """Show what the store counts; it knows nothing of metrics itself."""
    index, totals, space = store.index.stats, condition.last_totals, condition.last_space
    for name, help_, read in (
        ("units", "Units of work run by the index.", lambda: index.units),
        ("commits", "Commits of the index.", lambda: index.commits),
        ("lost_transactions", "Transactions SQLite gave up.", lambda: index.lost_transactions),
        ("reads", "Reads of the index in a thread.", lambda: index.reads),
        ("looks", "Look-ups of the index on the event loop.", lambda: index.looks),
        ("looks_waited", "Look-ups that had to use a thread.", lambda: index.looks_that_waited),
        ("forced_checkpoints", "Checkpoints by writers.", lambda: index.forced_checkpoints),
    ):
        metrics.counter(f"digestry_index_{name}", help_, read)
    metrics.gauge(
        "digestry_index_wal_bytes", "Size of the WAL.", store.index.wal_bytes, across="livemax"
    )
    for name, help_, read in (
        ("stored_blobs", "Blobs stored.", lambda: totals().blobs),
        ("stored_bytes", "Bytes of blobs stored.", lambda: totals().bytes),
        (
            "damaged_blobs",
            "Blobs found damaged and not yet healed.",
            lambda: totals().damaged_blobs,
        ),
        ("free_bytes", "Free space for blobs.", lambda: space().free_bytes),
        ("reserve_bytes", "Free space kept for the index.", lambda: space().reserve_bytes),
    ):
        metrics.gauge(f"digestry_{name}", help_, read, across="livemostrecent")


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
