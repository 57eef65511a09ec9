"""Puts routes of a test into an assembled application, before the one that takes what is left."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from aiohttp import web
from aiohttp.web_urldispatcher import UrlDispatcher

from registry.api.routes import UNMATCHED
from registry.http.routing import Route, register


def add_routes(app: web.Application, routes: Iterable[Route]) -> None:
    """Register `routes` as the application registers its own."""
    router = own_table(app)
    last = list(router.resources())[-1]
    assert last.canonical == "/{unmatched}"
    router._resources.remove(last)
    for resources in router._resource_index.values():
        if last in resources:
            resources.remove(last)
    register(app, [*routes, *UNMATCHED])


def own_table(app: web.Application) -> UrlDispatcher:
    """Its own table of routes instead of the one that `tests.support.fresh` shares."""
    own: Any = UrlDispatcher()
    for resource in app.router.resources():
        own.register_resource(resource)
    changed: Any = app
    changed._router = own
    return app.router
