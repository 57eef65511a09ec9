"""A gateway's question: which bindings fit, best first, and why."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from registry.api.errors import ADAPTER
from registry.api.wire_resolve import ResolutionAnswer, ResolveQuery, resolution_answer
from registry.domain.references import parse_model
from registry.http.answers import json_answer
from registry.http.queries import read_query
from registry.http.routing import Route
from registry.keys import PRINCIPAL, ROUTER


async def get_resolve(request: web.Request) -> web.StreamResponse:
    """Bindings that fit, best first, each with its score, the parts of it and why they are so.

    Only what is in service is offered: active models, versions in production or validated, and
    bindings that are active or degraded. `excluded` says how many were left out for which reason,
    so that an empty answer explains itself. The answer is as of now: a change or a report that was
    acknowledged before is in it.
    """
    query = read_query(request, ResolveQuery)
    found = await request.app[ROUTER].resolve(
        request[PRINCIPAL],
        query.routing(),
        model=None if query.model is None else parse_model(query.model),
        limit=query.limit,
    )
    return json_answer(resolution_answer(found))


ROUTES: Final = [
    Route(
        method="GET",
        path="/api/v1/resolve",
        handler=get_resolve,
        permission="model.read",
        adapter=ADAPTER,
        summary="Which bindings fit, best first",
        tag="bindings",
        query=ResolveQuery,
        answers={200: ResolutionAnswer},
        problems=(404,),
    ),
]
