"""Training runs: told of, found, changed, finished, deleted and brought back; what they cost."""

from __future__ import annotations

from typing import Final

from aiohttp import hdrs, web

from registry.api.errors import ADAPTER
from registry.api.wire_runs import (
    CostsAnswer,
    CostsQuery,
    FinishBody,
    ListedRunAnswer,
    RunAnswer,
    RunBody,
    RunPatchBody,
    RunsQuery,
    group_answer,
    listed_run_answer,
    moment,
    run_answer,
    spent_answer,
)
from registry.http.answers import json_answer
from registry.http.bodies import read_json
from registry.http.conditional import etag_of_row, expected_rows, revalidated
from registry.http.cursors import Page, cursor, page_answer, place_after, total_of
from registry.http.lists import is_unmodified
from registry.http.once import answer_once
from registry.http.queries import read_query
from registry.http.routing import Route
from registry.http.targets import decoded, raw_segments
from registry.keys import PRINCIPAL, STORE, TURNSTILE
from registry.services.costs import sum_costs
from registry.services.run_purges import purge_run
from registry.services.runs import (
    FullRun,
    change_run,
    create_run,
    delete_run,
    get_run,
    list_runs,
    restore_run,
)


async def post_run(request: web.Request) -> web.StreamResponse:
    """Tell of a run, while it runs or when it is over.

    Experiment, model and version are all optional; what is named must be there, else 404 says which
    is not. A version brings its model. Secrets in the environment are replaced before it is kept.
    """
    wish = (await read_json(request, RunBody)).wish()
    store, principal = request.app[STORE], request[PRINCIPAL]

    def render(full: FullRun) -> web.Response:
        answer = _present(full, status=201)
        answer.headers[hdrs.LOCATION] = f"{_RUNS}/{full.run.id}"
        return answer

    return await answer_once(request, lambda: create_run(store, principal, wish), render)


async def get_runs(request: web.Request) -> web.StreamResponse:
    """Runs by experiment, model, version, status and start, the last started first."""
    query = read_query(request, RunsQuery)
    page = await list_runs(
        request.app[STORE],
        request[PRINCIPAL],
        query.question(),
        after=place_after(query, tuple[int, str]),
        limit=query.limit,
        is_counted=query.total,
    )
    next = None if page.next is None else cursor(query, *page.next)
    return page_answer(
        request, [listed_run_answer(one) for one in page.items], next, total_of(page.count)
    )


async def get_one_run(request: web.Request) -> web.StreamResponse:
    """One run with its hyperparameters and its environment; a deleted one too."""
    full = await get_run(request.app[STORE], request[PRINCIPAL], run_id(request))
    if is_unmodified(request, _tag(full)):
        return web.Response(status=304, headers=revalidated(_tag(full)))
    return _present(full)


async def patch_run(request: web.Request) -> web.StreamResponse:
    """Say something else of a run, or how it ended.

    A run that is running may become any other status, once: 409 `transition_forbidden` says what is
    allowed. Going to another model leaves the version behind.
    """
    patch = (await read_json(request, RunPatchBody)).patch()
    return _present(
        await change_run(
            request.app[STORE], request[PRINCIPAL], run_id(request), patch, expected_rows(request)
        )
    )


async def post_finish(request: web.Request) -> web.StreamResponse:
    """End a run: how, when, and what it took. Saying the same again changes nothing."""
    patch = (await read_json(request, FinishBody, is_optional=True)).patch()
    store, principal, id = request.app[STORE], request[PRINCIPAL], run_id(request)
    expected = expected_rows(request)
    return await answer_once(
        request, lambda: change_run(store, principal, id, patch, expected), _present
    )


async def delete_one_run(request: web.Request) -> web.StreamResponse:
    """Delete a run; it can be restored with everything it logged."""
    await delete_run(
        request.app[STORE], request[PRINCIPAL], run_id(request), expected_rows(request)
    )
    return web.Response(status=204)


async def post_restore(request: web.Request) -> web.StreamResponse:
    """Bring a deleted run back; one that lives is as it is."""
    store, principal, id = request.app[STORE], request[PRINCIPAL], run_id(request)
    return await answer_once(request, lambda: restore_run(store, principal, id), _present)


async def post_purge(request: web.Request) -> web.StreamResponse:
    """Let go of a deleted run for good, with everything it logged."""
    store, principal, id = request.app[STORE], request[PRINCIPAL], run_id(request)
    turnstile = request.app[TURNSTILE]
    return await answer_once(
        request,
        lambda: purge_run(store, principal, turnstile, id),
        lambda _: web.Response(status=204),
    )


async def get_costs(request: web.Request) -> web.StreamResponse:
    """What runs cost in dollars and GPU hours: in all, and for each model or team.

    Deleted runs do not count. A run belongs to the team that its model has now. `total` is of all,
    however few `limit` lists.
    """
    query = read_query(request, CostsQuery)
    spending = await sum_costs(
        request.app[STORE],
        request[PRINCIPAL],
        by=query.by,
        since=None if query.since is None else moment(query.since, "since"),
        until=None if query.until is None else moment(query.until, "until"),
        limit=query.limit,
    )
    return json_answer(
        CostsAnswer(
            total=spent_answer(spending.total),
            groups=None if query.by is None else spending.count,
            items=[group_answer(group) for group in spending.groups],
        )
    )


def run_id(request: web.Request) -> str:
    """The run that a path names."""
    return decoded(raw_segments(request, 5)[3], field="run")


def _tag(full: FullRun) -> str:
    return etag_of_row(full.run.id, full.run.changes)


def _present(full: FullRun, *, status: int = 200) -> web.Response:
    return json_answer(run_answer(full), status=status, headers=revalidated(_tag(full)))


_RUNS: Final = "/api/v1/runs"
_RUN: Final = _RUNS + "/{run:[^/]+}"

ROUTES: Final = [
    Route(
        method="POST",
        path=_RUNS,
        handler=post_run,
        permission="run.write",
        adapter=ADAPTER,
        body="json",
        summary="Tell of a run",
        tag="runs",
        accepts=RunBody,
        answers={201: RunAnswer},
        problems=(404, 409),
    ),
    Route(
        method="GET",
        path=_RUNS,
        handler=get_runs,
        permission="model.read",
        adapter=ADAPTER,
        summary="List runs",
        tag="runs",
        query=RunsQuery,
        answers={200: Page[ListedRunAnswer]},
        problems=(404, 409),
    ),
    Route(
        method="GET",
        path=_RUNS + "/costs",
        handler=get_costs,
        permission="model.read",
        adapter=ADAPTER,
        summary="What runs cost, by model or team",
        tag="runs",
        query=CostsQuery,
        answers={200: CostsAnswer},
    ),
    Route(
        method="GET",
        path=_RUN,
        handler=get_one_run,
        permission="model.read",
        adapter=ADAPTER,
        summary="One run",
        tag="runs",
        answers={200: RunAnswer, 304: None},
        problems=(412,),
    ),
    Route(
        method="PATCH",
        path=_RUN,
        handler=patch_run,
        permission="run.write",
        adapter=ADAPTER,
        body="json",
        summary="Change a run",
        tag="runs",
        accepts=RunPatchBody,
        answers={200: RunAnswer},
        problems=(409,),
        takes_if_match=True,
    ),
    Route(
        method="DELETE",
        path=_RUN,
        handler=delete_one_run,
        permission="run.write",
        adapter=ADAPTER,
        summary="Delete a run",
        tag="runs",
        answers={204: None},
        takes_if_match=True,
    ),
    Route(
        method="POST",
        path=_RUN + "/finish",
        handler=post_finish,
        permission="run.write",
        adapter=ADAPTER,
        body="json",
        summary="End a run",
        tag="runs",
        accepts=FinishBody,
        is_body_optional=True,
        answers={200: RunAnswer},
        problems=(409,),
        takes_if_match=True,
    ),
    Route(
        method="POST",
        path=_RUN + "/restore",
        handler=post_restore,
        permission="run.write",
        adapter=ADAPTER,
        summary="Bring a deleted run back",
        tag="runs",
        answers={200: RunAnswer},
    ),
    Route(
        method="POST",
        path=_RUN + "/purge",
        handler=post_purge,
        permission="namespace.admin",
        adapter=ADAPTER,
        summary="Let go of a deleted run for good",
        tag="runs",
        answers={204: None},
    ),
]
