"""Provider bindings: made, found, changed, deleted; and what gateways observe of them."""

from __future__ import annotations

from typing import Final

from aiohttp import hdrs, web

from registry.api.errors import ADAPTER
from registry.api.wire_bindings import (
    BindingAnswer,
    BindingBody,
    BindingPatchBody,
    BindingsQuery,
    BoundObservationsBody,
    ListedBindingAnswer,
    ObservationsBody,
    ReportedAnswer,
    binding_answer,
    listed_binding_answer,
    reported_answer,
)
from registry.api.wire_versions import ReasonQuery
from registry.catalog.bindings import FullBinding
from registry.http.answers import json_answer
from registry.http.bodies import read_json
from registry.http.conditional import etag_of_row, expected_rows, revalidated
from registry.http.cursors import Page, cursor, page_answer, place_after, total_of
from registry.http.lists import is_unmodified
from registry.http.once import answer_once
from registry.http.queries import read_query
from registry.http.routing import Route
from registry.http.targets import decoded, raw_segments
from registry.keys import PRINCIPAL, STORE
from registry.services.bindings import (
    change_binding,
    create_binding,
    delete_binding,
    get_binding,
    list_bindings,
)
from registry.services.observations import Reported, report_many, report_observations


async def post_binding(request: web.Request) -> web.StreamResponse:
    """Bind a published version to a provider; a draft is refused.

    Of one version, provider, model id there and region there is one binding: 409 `binding_exists`
    names it. Secrets in `config`, and credentials in `endpoint`, are refused with 422.
    """
    wish = (await read_json(request, BindingBody)).wish()
    store, principal = request.app[STORE], request[PRINCIPAL]

    def render(full: FullBinding) -> web.Response:
        answer = _present(full, status=201)
        answer.headers[hdrs.LOCATION] = f"{_BINDINGS}/{full.binding.id}"
        return answer

    return await answer_once(request, lambda: create_binding(store, principal, wish), render)


async def get_bindings(request: web.Request) -> web.StreamResponse:
    """Bindings by model, version, provider, region, status and success rate, the newest first."""
    query = read_query(request, BindingsQuery)
    place = place_after(query, tuple[str])
    page = await list_bindings(
        request.app[STORE],
        request[PRINCIPAL],
        query.question(),
        after=None if place is None else place[0],
        limit=query.limit,
        is_counted=query.total,
    )
    next = None if page.next is None else cursor(query, page.next)
    return page_answer(
        request, [listed_binding_answer(one) for one in page.items], next, total_of(page.count)
    )


async def get_one_binding(request: web.Request) -> web.StreamResponse:
    """One binding with what was observed of it.

    The `ETag` changes with every report, too; `If-Match` asks only whether the binding itself was
    changed, so that it can be edited while it is used.
    """
    full = await get_binding(request.app[STORE], request[PRINCIPAL], _id(request))
    if is_unmodified(request, _tag(full)):
        return web.Response(status=304, headers=revalidated(_tag(full)))
    return _present(full)


async def patch_binding(request: web.Request) -> web.StreamResponse:
    """Change a binding; what was observed begins anew if it comes to call something else."""
    patch = (await read_json(request, BindingPatchBody)).patch()
    return _present(
        await change_binding(
            request.app[STORE], request[PRINCIPAL], _id(request), patch, expected_rows(request)
        )
    )


async def delete_one_binding(request: web.Request) -> web.StreamResponse:
    """Delete a binding for good, with what was observed of it."""
    query = read_query(request, ReasonQuery)
    await delete_binding(
        request.app[STORE],
        request[PRINCIPAL],
        _id(request),
        reason=query.reason,
        expected=expected_rows(request),
    )
    return web.Response(status=204)


async def post_observations(request: web.Request) -> web.StreamResponse:
    """Report how requests to a binding went: each, or many that were alike by their `count`.

    Recent ones weigh more: each counts half after an hour. The answer means that they are kept; any
    number of gateways may report at once. Reports are not in the audit log.
    """
    body = await read_json(request, ObservationsBody)
    observations = [one.observation() for one in body.observations]
    store, principal, id = request.app[STORE], request[PRINCIPAL], _id(request)
    return await answer_once(
        request, lambda: report_observations(store, principal, id, observations), _reported
    )


async def post_many_observations(request: web.Request) -> web.StreamResponse:
    """Report how requests to many bindings went, at once.

    What is of bindings that are not there (any more) is left out, and they are named in `unknown`.
    """
    observations = (await read_json(request, BoundObservationsBody)).by_binding()
    store, principal = request.app[STORE], request[PRINCIPAL]
    return await answer_once(
        request, lambda: report_many(store, principal, observations), _reported
    )


def _id(request: web.Request) -> str:
    return decoded(raw_segments(request, 5)[3], field="binding")


def _tag(full: FullBinding) -> str:
    mark = 0 if full.statistics is None else full.statistics.mark
    return etag_of_row(full.binding.id, full.binding.changes, mark)


def _present(full: FullBinding, *, status: int = 200) -> web.Response:
    return json_answer(binding_answer(full), status=status, headers=revalidated(_tag(full)))


def _reported(reported: Reported) -> web.Response:
    return json_answer(reported_answer(reported))


_BINDINGS: Final = "/api/v1/bindings"
_BINDING: Final = _BINDINGS + "/{binding:[^/]+}"

ROUTES: Final = [
    Route(
        method="POST",
        path=_BINDINGS,
        handler=post_binding,
        permission="model.write",
        adapter=ADAPTER,
        body="json",
        summary="Bind a version to a provider",
        tag="bindings",
        accepts=BindingBody,
        answers={201: BindingAnswer},
        problems=(404, 409, 422),
    ),
    Route(
        method="GET",
        path=_BINDINGS,
        handler=get_bindings,
        permission="model.read",
        adapter=ADAPTER,
        summary="List bindings",
        tag="bindings",
        query=BindingsQuery,
        answers={200: Page[ListedBindingAnswer]},
        problems=(404, 409),
    ),
    Route(
        method="POST",
        path=_BINDINGS + "/observations",
        handler=post_many_observations,
        permission="observe",
        adapter=ADAPTER,
        body="json",
        summary="Report what was observed of many bindings",
        tag="bindings",
        accepts=BoundObservationsBody,
        answers={200: ReportedAnswer},
    ),
    Route(
        method="GET",
        path=_BINDING,
        handler=get_one_binding,
        permission="model.read",
        adapter=ADAPTER,
        summary="One binding",
        tag="bindings",
        answers={200: BindingAnswer, 304: None},
        problems=(412,),
    ),
    Route(
        method="PATCH",
        path=_BINDING,
        handler=patch_binding,
        permission="model.write",
        adapter=ADAPTER,
        body="json",
        summary="Change a binding",
        tag="bindings",
        accepts=BindingPatchBody,
        answers={200: BindingAnswer},
        problems=(409, 422),
        takes_if_match=True,
    ),
    Route(
        method="DELETE",
        path=_BINDING,
        handler=delete_one_binding,
        permission="model.write",
        adapter=ADAPTER,
        summary="Delete a binding",
        tag="bindings",
        query=ReasonQuery,
        answers={204: None},
        takes_if_match=True,
    ),
    Route(
        method="POST",
        path=_BINDING + "/observations",
        handler=post_observations,
        permission="observe",
        adapter=ADAPTER,
        body="json",
        summary="Report what was observed of a binding",
        tag="bindings",
        accepts=ObservationsBody,
        answers={200: ReportedAnswer},
    ),
]
