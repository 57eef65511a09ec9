"""Deployments: begun, found, changed, scaled, moved, rolled back and terminated."""

from __future__ import annotations

from typing import Final

from aiohttp import hdrs, web

from registry.api.errors import ADAPTER
from registry.api.wire_serving import (
    DeploymentAnswer,
    DeploymentBody,
    DeploymentEventAnswer,
    DeploymentEventsQuery,
    DeploymentPatchBody,
    DeploymentsQuery,
    DeploymentStatusBody,
    DeploymentSummary,
    ListedDeploymentAnswer,
    ReasonBody,
    RedeployBody,
    ScaleBody,
    SummaryQuery,
    deployment_answer,
    event_answer,
    listed_deployment_answer,
    summary_answer,
)
from registry.catalog.deployment_lists import FIRST_PAGE
from registry.domain.references import parse_reference
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
from registry.services.deployment_lists import (
    list_deployments,
    list_events,
    summarise_deployments,
)
from registry.services.deployments import (
    FullDeployment,
    change_deployment,
    deploy_version,
    get_deployment,
    redeploy,
    report_status,
    roll_back_deployment,
    terminate_deployment,
)


async def post_deployment(request: web.Request) -> web.StreamResponse:
    """Deploy a version into an environment, where it begins as `deploying`.

    The name is unique among what runs there. Drafts, archived and deleted versions, and revisions
    that were never published, are not deployed (409), nor does an environment take a version that
    is not active.
    """
    wish = (await read_json(request, DeploymentBody)).wish()
    store, principal = request.app[STORE], request[PRINCIPAL]

    def render(full: FullDeployment) -> web.Response:
        answer = _present(full, status=201)
        answer.headers[hdrs.LOCATION] = f"{_DEPLOYMENTS}/{full.deployment.id}"
        return answer

    return await answer_once(request, lambda: deploy_version(store, principal, wish), render)


async def get_deployments(request: web.Request) -> web.StreamResponse:
    """Deployments by environment, model, version, name and status, the last made first."""
    query = read_query(request, DeploymentsQuery)
    page = await list_deployments(
        request.app[STORE],
        request[PRINCIPAL],
        query.question(),
        after=place_after(query, tuple[int, str]),
        limit=query.limit,
        is_counted=query.total,
    )
    next = None if page.next is None else cursor(query, *page.next)
    return page_answer(
        request, [listed_deployment_answer(one) for one in page.items], next, total_of(page.count)
    )


async def get_summary(request: web.Request) -> web.StreamResponse:
    """How many deployments stand where, in all and in each environment.

    Every environment is there that lives or ever had a deployment; `total` is of all, however few
    `limit` lists.
    """
    query = read_query(request, SummaryQuery)
    found = await summarise_deployments(request.app[STORE], request[PRINCIPAL])
    return json_answer(summary_answer(found, query.limit))


async def get_one_deployment(request: web.Request) -> web.StreamResponse:
    """One deployment, a terminated one too."""
    full = await get_deployment(request.app[STORE], request[PRINCIPAL], _id(request))
    if is_unmodified(request, _tag(full)):
        return web.Response(status=304, headers=revalidated(_tag(full)))
    return _present(full)


async def patch_deployment(request: web.Request) -> web.StreamResponse:
    """Rename a deployment, or say where it answers."""
    patch = (await read_json(request, DeploymentPatchBody)).patch()
    return _present(
        await change_deployment(
            request.app[STORE], request[PRINCIPAL], _id(request), patch, expected_rows(request)
        )
    )


async def put_status(request: web.Request) -> web.StreamResponse:
    """Say where a deployment stands; a status that is not allowed next is 409 with those that are.

    From `deploying` to any other; between `healthy` and `degraded`, and from both to `deploying`,
    `failed` and `terminated`; from `failed` to `deploying` and `terminated`, which is final.
    """
    body = await read_json(request, DeploymentStatusBody)
    return _present(
        await report_status(
            request.app[STORE],
            request[PRINCIPAL],
            _id(request),
            body.status,
            reason=body.reason,
            expected=expected_rows(request),
        )
    )


async def post_scale(request: web.Request) -> web.StreamResponse:
    """Change how many replicas run, and what each of them gets."""
    patch = (await read_json(request, ScaleBody)).patch()
    store, principal, id = request.app[STORE], request[PRINCIPAL], _id(request)
    expected = expected_rows(request)
    return await answer_once(
        request, lambda: change_deployment(store, principal, id, patch, expected), _present
    )


async def post_redeploy(request: web.Request) -> web.StreamResponse:
    """Let another version of the same model run instead; the deployment is `deploying` then.

    The version that runs already changes nothing.
    """
    body = await read_json(request, RedeployBody)
    version = parse_reference(body.version)
    store, principal, id = request.app[STORE], request[PRINCIPAL], _id(request)
    expected = expected_rows(request)
    return await answer_once(
        request,
        lambda: redeploy(store, principal, id, version, reason=body.reason, expected=expected),
        _present,
    )


async def post_rollback(request: web.Request) -> web.StreamResponse:
    """Let `previous_version` run again; the deployment is `deploying` then.

    Repeated, it goes further back along what really ran, never to what it just fled from. Where
    nothing ran before it is 409 `deployment_history_ends`; where that version was deleted or
    archived meanwhile, 409 too.
    """
    body = await read_json(request, ReasonBody, is_optional=True)
    store, principal, id = request.app[STORE], request[PRINCIPAL], _id(request)
    expected = expected_rows(request)
    return await answer_once(
        request,
        lambda: roll_back_deployment(store, principal, id, reason=body.reason, expected=expected),
        _present,
    )


async def post_terminate(request: web.Request) -> web.StreamResponse:
    """End a deployment for good; its name is free, and its history stays."""
    body = await read_json(request, ReasonBody, is_optional=True)
    store, principal, id = request.app[STORE], request[PRINCIPAL], _id(request)
    expected = expected_rows(request)
    return await answer_once(
        request,
        lambda: terminate_deployment(store, principal, id, reason=body.reason, expected=expected),
        _present,
    )


async def get_events(request: web.Request) -> web.StreamResponse:
    """What happened to a deployment, the newest first: from where to where, by whom, why."""
    query, id = read_query(request, DeploymentEventsQuery), _id(request)
    place = place_after(query, tuple[int], scope=id)
    before = FIRST_PAGE if place is None else place[0]
    store, principal = request.app[STORE], request[PRINCIPAL]
    found = await list_events(store, principal, id, before=before, limit=query.limit + 1)
    items, next = found[: query.limit], None
    if len(found) > query.limit:
        next = cursor(query, items[-1].event.id, scope=id)
    return page_answer(request, [event_answer(one) for one in items], next)


def _id(request: web.Request) -> str:
    return decoded(raw_segments(request, 5)[3], field="deployment")


def _tag(full: FullDeployment) -> str:
    return etag_of_row(full.deployment.id, full.deployment.changes)


def _present(full: FullDeployment, *, status: int = 200) -> web.Response:
    return json_answer(deployment_answer(full), status=status, headers=revalidated(_tag(full)))


_DEPLOYMENTS: Final = "/api/v1/deployments"
_DEPLOYMENT: Final = _DEPLOYMENTS + "/{deployment:[^/]+}"

ROUTES: Final = [
    Route(
        method="POST",
        path=_DEPLOYMENTS,
        handler=post_deployment,
        permission="deploy",
        adapter=ADAPTER,
        body="json",
        summary="Deploy a version",
        tag="deployments",
        accepts=DeploymentBody,
        answers={201: DeploymentAnswer},
        problems=(404, 409),
    ),
    Route(
        method="GET",
        path=_DEPLOYMENTS,
        handler=get_deployments,
        permission="model.read",
        adapter=ADAPTER,
        summary="List deployments",
        tag="deployments",
        query=DeploymentsQuery,
        answers={200: Page[ListedDeploymentAnswer]},
        problems=(404, 409),
    ),
    Route(
        method="GET",
        path=_DEPLOYMENTS + "/summary",
        handler=get_summary,
        permission="model.read",
        adapter=ADAPTER,
        summary="How many deployments stand where",
        tag="deployments",
        query=SummaryQuery,
        answers={200: DeploymentSummary},
    ),
    Route(
        method="GET",
        path=_DEPLOYMENT,
        handler=get_one_deployment,
        permission="model.read",
        adapter=ADAPTER,
        summary="One deployment",
        tag="deployments",
        answers={200: DeploymentAnswer, 304: None},
        problems=(412,),
    ),
    Route(
        method="PATCH",
        path=_DEPLOYMENT,
        handler=patch_deployment,
        permission="deploy",
        adapter=ADAPTER,
        body="json",
        summary="Change a deployment",
        tag="deployments",
        accepts=DeploymentPatchBody,
        answers={200: DeploymentAnswer},
        problems=(409,),
        takes_if_match=True,
    ),
    Route(
        method="PUT",
        path=_DEPLOYMENT + "/status",
        handler=put_status,
        permission="deploy",
        adapter=ADAPTER,
        body="json",
        summary="Say where a deployment stands",
        tag="deployments",
        accepts=DeploymentStatusBody,
        answers={200: DeploymentAnswer},
        problems=(409,),
        takes_if_match=True,
    ),
    Route(
        method="POST",
        path=_DEPLOYMENT + "/scale",
        handler=post_scale,
        permission="deploy",
        adapter=ADAPTER,
        body="json",
        summary="Change how much runs",
        tag="deployments",
        accepts=ScaleBody,
        answers={200: DeploymentAnswer},
        problems=(409,),
        takes_if_match=True,
    ),
    Route(
        method="POST",
        path=_DEPLOYMENT + "/deploy",
        handler=post_redeploy,
        permission="deploy",
        adapter=ADAPTER,
        body="json",
        summary="Deploy another version in place",
        tag="deployments",
        accepts=RedeployBody,
        answers={200: DeploymentAnswer},
        problems=(409,),
        takes_if_match=True,
    ),
    Route(
        method="POST",
        path=_DEPLOYMENT + "/rollback",
        handler=post_rollback,
        permission="deploy",
        adapter=ADAPTER,
        body="json",
        summary="Go back to the previous version",
        tag="deployments",
        accepts=ReasonBody,
        is_body_optional=True,
        answers={200: DeploymentAnswer},
        problems=(409,),
        takes_if_match=True,
    ),
    Route(
        method="POST",
        path=_DEPLOYMENT + "/terminate",
        handler=post_terminate,
        permission="deploy",
        adapter=ADAPTER,
        body="json",
        summary="End a deployment for good",
        tag="deployments",
        accepts=ReasonBody,
        is_body_optional=True,
        answers={200: DeploymentAnswer},
        takes_if_match=True,
    ),
    Route(
        method="GET",
        path=_DEPLOYMENT + "/events",
        handler=get_events,
        permission="model.read",
        adapter=ADAPTER,
        summary="What happened to a deployment",
        tag="deployments",
        query=DeploymentEventsQuery,
        answers={200: Page[DeploymentEventAnswer]},
    ),
]
