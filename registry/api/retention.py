"""Retention: policies, plans that show what would happen, and doing what a plan says."""

from __future__ import annotations

from typing import Final

from aiohttp import hdrs, web

from registry.api.errors import ADAPTER
from registry.api.operations import OperationAnswer, operation_answer, start_operation
from registry.api.wire_retention import (
    LineAnswer,
    LinesQuery,
    PlanAnswer,
    PlanBody,
    PlansQuery,
    PoliciesQuery,
    PolicyAnswer,
    PolicyBody,
    PolicyPatchBody,
    RetentionAnswer,
    RetentionStatistics,
    StatisticsQuery,
    line_answer,
    model_in,
    plan_answer,
    policy_answer,
    statistics_answer,
    tally_answer,
)
from registry.catalog.retention import ListedPolicy
from registry.domain.operations import Operation
from registry.domain.principals import Principal
from registry.domain.references import parse_model
from registry.domain.retention import DAY
from registry.domain.times import rfc3339
from registry.http.answers import json_answer
from registry.http.bodies import read_json
from registry.http.conditional import ETAG, etag_of_row, expected_rows
from registry.http.cursors import Page, cursor, page_answer, place_after
from registry.http.lists import is_unmodified
from registry.http.once import answer_once
from registry.http.queries import read_query
from registry.http.routing import Route
from registry.http.targets import decoded, raw_segments
from registry.keys import CONFIG, OPERATIONS, PRINCIPAL, STORE
from registry.services.operations import Operations
from registry.services.retention import (
    change_policy,
    create_policy,
    effective_policy,
    get_policy,
    get_statistics,
    list_policies,
    policies_in_force,
    remove_policy,
)
from registry.services.retention_plans import find_target, get_plan, list_lines, list_plans
from registry.services.retention_runs import last_run
from store.opening import Store

_HOUR: Final = 3600 * 1_000_000


# Policies.


async def post_policy(request: web.Request) -> web.StreamResponse:
    """Make the policy of a model, of a namespace, or of the registry; each has at most one.

    The nearest policy is the whole policy: a model's own, else its namespace's, else the one of the
    registry. Nothing happens at once: runs on schedule begin a whole period later.
    """
    body = await read_json(request, PolicyBody)
    store, principal = request.app[STORE], request[PRINCIPAL]
    model = model_in(body.model)

    def render(listed: ListedPolicy) -> web.Response:
        answer = _present(listed, status=201)
        answer.headers[hdrs.LOCATION] = f"{_POLICIES}/{listed.policy.id}"
        return answer

    return await answer_once(
        request,
        lambda: create_policy(
            store, principal, body.terms(), model=model, namespace=body.namespace
        ),
        render,
    )


async def get_policies(request: web.Request) -> web.StreamResponse:
    """All policies, the latest made first."""
    query = read_query(request, PoliciesQuery)
    place = place_after(query, tuple[str])
    page = await list_policies(
        request.app[STORE],
        request[PRINCIPAL],
        scope=query.scope,
        before=None if place is None else place[0],
        limit=query.limit,
    )
    next = None if page.next is None else cursor(query, page.next)
    return page_answer(request, [policy_answer(one) for one in page.items], next)


async def get_one_policy(request: web.Request) -> web.StreamResponse:
    """One policy, with what it covers."""
    listed = await get_policy(request.app[STORE], request[PRINCIPAL], _policy(request))
    if is_unmodified(request, _tag(listed)):
        return web.Response(status=304, headers={ETAG: _tag(listed)})
    return _present(listed)


async def get_policy_of_model(request: web.Request) -> web.StreamResponse:
    """The policy that a model is judged by: its own, its namespace's, or the registry's."""
    _, _, _, segment, *_ = raw_segments(request, 5)
    model = parse_model(decoded(segment, field="model"))
    return _present(await effective_policy(request.app[STORE], request[PRINCIPAL], model))


async def patch_policy(request: web.Request) -> web.StreamResponse:
    """Change a policy; what it retired so far stays retired."""
    body = await read_json(request, PolicyPatchBody)
    return _present(
        await change_policy(
            request.app[STORE],
            request[PRINCIPAL],
            _policy(request),
            body.terms(),
            expected_rows(request),
        )
    )


async def delete_policy(request: web.Request) -> web.StreamResponse:
    """Remove a policy; what it retired so far stays retired."""
    store, principal = request.app[STORE], request[PRINCIPAL]
    await remove_policy(store, principal, _policy(request), expected_rows(request))
    return web.Response(status=204)


# Plans.


async def post_plan(request: web.Request) -> web.StreamResponse:
    """Find out what would become of each version and by which rule; nothing else changes.

    The report of the operation names the plan, which can be looked at and applied for 90 days.
    """
    body = await read_json(request, PlanBody, is_optional=True)
    store, principal = request.app[STORE], request[PRINCIPAL]
    model = model_in(body.model)

    async def begin() -> Operation:
        target = await find_target(store, principal, model=model, namespace=body.namespace)
        return await request.app[OPERATIONS].plan_retention(principal, target)

    return await start_operation(request, begin)


async def get_plans(request: web.Request) -> web.StreamResponse:
    """Plans, the latest first, those of runs on schedule that did something too."""
    query = read_query(request, PlansQuery)
    place = place_after(query, tuple[str])
    page = await list_plans(
        request.app[STORE],
        request[PRINCIPAL],
        before=None if place is None else place[0],
        limit=query.limit,
    )
    next = None if page.next is None else cursor(query, page.next)
    return page_answer(request, [plan_answer(one) for one in page.items], next)


async def get_one_plan(request: web.Request) -> web.StreamResponse:
    """One plan, and how many of its lines came to which end."""
    view = await get_plan(request.app[STORE], request[PRINCIPAL], _plan(request))
    return json_answer(plan_answer(view.plan, view))


async def get_lines(request: web.Request) -> web.StreamResponse:
    """What would happen to each version, by which rules, and what became of that.

    Of kept versions the first 10,000 have a line; all are counted.
    """
    query, id = read_query(request, LinesQuery), _plan(request)
    place = place_after(query, tuple[int], scope=id)
    page = await list_lines(
        request.app[STORE],
        request[PRINCIPAL],
        id,
        action=query.action,
        outcome=query.outcome,
        after=0 if place is None else place[0],
        limit=query.limit,
    )
    next = None if page.next is None else cursor(query, page.next, scope=id)
    return page_answer(request, [line_answer(one) for one in page.items], next)


async def post_apply(request: web.Request) -> web.StreamResponse:
    """Do what a plan says, as far as it is still true.

    Each version is judged again in the transaction that retires or purges it. One whose judgement
    changed is skipped, one that a guard keeps is refused; its line says why. A plan that was
    interrupted can be applied again and goes on.
    """
    id, principal = _plan(request), request[PRINCIPAL]
    operations = request.app[OPERATIONS]
    return await start_operation(request, lambda: operations.apply_retention(principal, id))


# What was done.


async def get_retention(request: web.Request) -> web.StreamResponse:
    """Whether anything happens by itself and when, what was done so far, the last operation."""
    every_hours = request.app[CONFIG].retention.every_hours
    operations, principal = request.app[OPERATIONS], request[PRINCIPAL]
    return json_answer(await show_retention(request.app[STORE], operations, principal, every_hours))


async def show_retention(
    store: Store, operations: Operations, principal: Principal, every_hours: float
) -> RetentionAnswer:
    """Where retention stands, as this route and the command tell it."""
    policies, is_active = await policies_in_force(store)
    last = await last_run(store)
    is_due = is_active and every_hours and last is not None
    done = await get_statistics(store, principal, first_day=0, limit=1)
    operation = await operations.latest(principal, "retention")
    return RetentionAnswer(
        policies=policies,
        active=is_active,
        every_hours=every_hours,
        next_run_at=rfc3339((last or 0) + int(every_hours * _HOUR)) if is_due else None,
        total=tally_answer(done.total),
        operation=None if operation is None else operation_answer(operation),
    )


async def get_retention_statistics(request: web.Request) -> web.StreamResponse:
    """What was retired, brought back and purged, in all and by the day."""
    query = read_query(request, StatisticsQuery)
    store = request.app[STORE]
    first_day = store.clock() // DAY - query.days + 1
    found = await get_statistics(store, request[PRINCIPAL], first_day=first_day)
    return json_answer(statistics_answer(found))


def _policy(request: web.Request) -> str:
    return request.match_info["policy"]


def _plan(request: web.Request) -> str:
    return request.match_info["plan"]


def _tag(listed: ListedPolicy) -> str:
    return etag_of_row(listed.policy.id, listed.policy.changes, under=listed.covers)


def _present(listed: ListedPolicy, *, status: int = 200) -> web.Response:
    headers = {ETAG: _tag(listed), hdrs.CACHE_CONTROL: "private, no-cache"}
    return json_answer(policy_answer(listed), status=status, headers=headers)


_RETENTION: Final = "/api/v1/retention"
_POLICIES: Final = _RETENTION + "/policies"
_POLICY: Final = _POLICIES + "/{policy}"
_PLANS: Final = _RETENTION + "/plans"
_PLAN: Final = _PLANS + "/{plan}"

ROUTES: Final = [
    Route(
        method="GET",
        path=_RETENTION,
        handler=get_retention,
        permission="ops",
        adapter=ADAPTER,
        summary="What retention does",
        tag="retention",
        answers={200: RetentionAnswer},
    ),
    Route(
        method="GET",
        path=_RETENTION + "/statistics",
        handler=get_retention_statistics,
        permission="ops",
        adapter=ADAPTER,
        summary="What retention did",
        tag="retention",
        query=StatisticsQuery,
        answers={200: RetentionStatistics},
    ),
    Route(
        method="POST",
        path=_POLICIES,
        handler=post_policy,
        permission="namespace.admin",
        adapter=ADAPTER,
        body="json",
        summary="Make a policy",
        tag="retention",
        accepts=PolicyBody,
        answers={201: PolicyAnswer},
        problems=(404, 409),
    ),
    Route(
        method="GET",
        path=_POLICIES,
        handler=get_policies,
        permission="namespace.admin",
        adapter=ADAPTER,
        summary="List policies",
        tag="retention",
        query=PoliciesQuery,
        answers={200: Page[PolicyAnswer]},
    ),
    Route(
        method="GET",
        path=_POLICY,
        handler=get_one_policy,
        permission="namespace.admin",
        adapter=ADAPTER,
        summary="One policy",
        tag="retention",
        answers={200: PolicyAnswer, 304: None},
        problems=(412,),
    ),
    Route(
        method="PATCH",
        path=_POLICY,
        handler=patch_policy,
        permission="namespace.admin",
        adapter=ADAPTER,
        body="json",
        summary="Change a policy",
        tag="retention",
        accepts=PolicyPatchBody,
        answers={200: PolicyAnswer},
        takes_if_match=True,
    ),
    Route(
        method="DELETE",
        path=_POLICY,
        handler=delete_policy,
        permission="namespace.admin",
        adapter=ADAPTER,
        summary="Remove a policy",
        tag="retention",
        answers={204: None},
        takes_if_match=True,
    ),
    Route(
        method="GET",
        path="/api/v1/models/{model}/retention",
        handler=get_policy_of_model,
        permission="model.read",
        adapter=ADAPTER,
        summary="The policy of a model",
        tag="retention",
        answers={200: PolicyAnswer},
    ),
    Route(
        method="POST",
        path=_PLANS,
        handler=post_plan,
        permission="ops",
        adapter=ADAPTER,
        body="json",
        summary="Plan retention",
        tag="retention",
        accepts=PlanBody,
        is_body_optional=True,
        answers={202: OperationAnswer},
        problems=(404, 409),
    ),
    Route(
        method="GET",
        path=_PLANS,
        handler=get_plans,
        permission="ops",
        adapter=ADAPTER,
        summary="List plans",
        tag="retention",
        query=PlansQuery,
        answers={200: Page[PlanAnswer]},
    ),
    Route(
        method="GET",
        path=_PLAN,
        handler=get_one_plan,
        permission="ops",
        adapter=ADAPTER,
        summary="One plan",
        tag="retention",
        answers={200: PlanAnswer},
    ),
    Route(
        method="GET",
        path=_PLAN + "/lines",
        handler=get_lines,
        permission="ops",
        adapter=ADAPTER,
        summary="What a plan says of each version",
        tag="retention",
        query=LinesQuery,
        answers={200: Page[LineAnswer]},
    ),
    Route(
        method="POST",
        path=_PLAN + "/apply",
        handler=post_apply,
        permission="ops",
        adapter=ADAPTER,
        summary="Apply a plan",
        tag="retention",
        answers={202: OperationAnswer},
        problems=(404, 409),
    ),
]
