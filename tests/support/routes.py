"""Puts routes of a test into an assembled application, before the one that takes what is left."""

from __future__ import annotations

from collections.abc import Iterable

from aiohttp import web

from registry.api.routes import UNMATCHED
from registry.http.routing import Route, register


def add_routes(app: web.Application, routes: Iterable[Route]) -> None:
    """Register `routes` as the application registers its own."""
    router = app.router
    last = list(router.resources())[-1]
    assert last.canonical == "/{unmatched}"
    router._resources.remove(last)
    for resources in router._resource_index.values():
        if last in resources:
            resources.remove(last)
    register(app, [*routes, *UNMATCHED])
