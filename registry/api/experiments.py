"""Experiments: made, found, described, deleted and brought back.

One is named by its ``exp_`` id, by ``namespace~name``, or by a name alone, which is one in
``default``; a slash in a name is ``%2F`` in a path. A deleted one is found by its id only.
"""

from __future__ import annotations

from typing import Final

from aiohttp import hdrs, web

from registry.api.errors import ADAPTER
from registry.api.wire_runs import (
    ExperimentAnswer,
    ExperimentBody,
    ExperimentPatchBody,
    ExperimentsQuery,
    experiment_answer,
)
from registry.domain.runs import ExperimentReference, parse_experiment
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
from registry.services.experiments import (
    ExperimentPatch,
    ExperimentQuestion,
    ExperimentWish,
    FullExperiment,
    change_experiment,
    create_experiment,
    delete_experiment,
    get_experiment,
    list_experiments,
    purge_experiment,
    restore_experiment,
)


async def post_experiment(request: web.Request) -> web.StreamResponse:
    """Make an experiment in a namespace that is there.

    Its name may hold anything printable, slashes too, and is unique in the namespace whatever the
    case.
    """
    body = await read_json(request, ExperimentBody)
    store, principal = request.app[STORE], request[PRINCIPAL]
    wish = ExperimentWish(
        name=body.name, namespace=body.namespace, description=body.description, tags=body.tags
    )

    def render(full: FullExperiment) -> web.Response:
        answer = _present(full, status=201)
        answer.headers[hdrs.LOCATION] = f"{_EXPERIMENTS}/{full.experiment.id}"
        return answer

    return await answer_once(request, lambda: create_experiment(store, principal, wish), render)


async def get_experiments(request: web.Request) -> web.StreamResponse:
    """The experiments of all namespaces or of one, the latest made first."""
    query = read_query(request, ExperimentsQuery)
    page = await list_experiments(
        request.app[STORE],
        request[PRINCIPAL],
        ExperimentQuestion(
            namespace=query.namespace, name=query.name, tag=query.tag, is_deleted=query.deleted
        ),
        after=place_after(query, tuple[int, str]),
        limit=query.limit,
        is_counted=query.total,
    )
    next = None if page.next is None else cursor(query, *page.next)
    return page_answer(
        request, [experiment_answer(one) for one in page.items], next, total_of(page.count)
    )


async def get_one_experiment(request: web.Request) -> web.StreamResponse:
    """One experiment; a deleted one by its id."""
    full = await get_experiment(request.app[STORE], request[PRINCIPAL], _target(request))
    if is_unmodified(request, _tag(full)):
        return web.Response(status=304, headers=revalidated(_tag(full)))
    return _present(full)


async def patch_experiment(request: web.Request) -> web.StreamResponse:
    """Rename or describe an experiment, or change its tags."""
    body = await read_json(request, ExperimentPatchBody)
    patch = ExperimentPatch(
        name=body.name,
        description="" if body.description is None else body.description,
        tags=body.tags,
    )
    return _present(
        await change_experiment(
            request.app[STORE], request[PRINCIPAL], _target(request), patch, expected_rows(request)
        )
    )


async def delete_one_experiment(request: web.Request) -> web.StreamResponse:
    """Delete an experiment; its runs stay, and it can be restored."""
    await delete_experiment(
        request.app[STORE], request[PRINCIPAL], _target(request), expected_rows(request)
    )
    return web.Response(status=204)


async def post_restore(request: web.Request) -> web.StreamResponse:
    """Bring a deleted experiment back, by its id; one that lives is as it is."""
    store, principal, id = request.app[STORE], request[PRINCIPAL], _name(request)
    return await answer_once(request, lambda: restore_experiment(store, principal, id), _present)


async def post_purge(request: web.Request) -> web.StreamResponse:
    """Let go of a deleted experiment without runs for good, by its id."""
    store, principal, id = request.app[STORE], request[PRINCIPAL], _name(request)
    return await answer_once(
        request,
        lambda: purge_experiment(store, principal, id),
        lambda _: web.Response(status=204),
    )


def _name(request: web.Request) -> str:
    return decoded(raw_segments(request, 5)[3], field="experiment")


def _target(request: web.Request) -> ExperimentReference:
    return parse_experiment(_name(request))


def _tag(full: FullExperiment) -> str:
    return etag_of_row(full.experiment.id, full.experiment.changes)


def _present(full: FullExperiment, *, status: int = 200) -> web.Response:
    return json_answer(experiment_answer(full), status=status, headers=revalidated(_tag(full)))


_EXPERIMENTS: Final = "/api/v1/experiments"
_EXPERIMENT: Final = _EXPERIMENTS + "/{experiment:[^/]+}"

ROUTES: Final = [
    Route(
        method="POST",
        path=_EXPERIMENTS,
        handler=post_experiment,
        permission="run.write",
        adapter=ADAPTER,
        body="json",
        summary="Make an experiment",
        tag="experiments",
        accepts=ExperimentBody,
        answers={201: ExperimentAnswer},
        problems=(404, 409),
    ),
    Route(
        method="GET",
        path=_EXPERIMENTS,
        handler=get_experiments,
        permission="model.read",
        adapter=ADAPTER,
        summary="List experiments",
        tag="experiments",
        query=ExperimentsQuery,
        answers={200: Page[ExperimentAnswer]},
        problems=(404,),
    ),
    Route(
        method="GET",
        path=_EXPERIMENT,
        handler=get_one_experiment,
        permission="model.read",
        adapter=ADAPTER,
        summary="One experiment",
        tag="experiments",
        answers={200: ExperimentAnswer, 304: None},
        problems=(412,),
    ),
    Route(
        method="PATCH",
        path=_EXPERIMENT,
        handler=patch_experiment,
        permission="run.write",
        adapter=ADAPTER,
        body="json",
        summary="Change an experiment",
        tag="experiments",
        accepts=ExperimentPatchBody,
        answers={200: ExperimentAnswer},
        problems=(409,),
        takes_if_match=True,
    ),
    Route(
        method="DELETE",
        path=_EXPERIMENT,
        handler=delete_one_experiment,
        permission="run.write",
        adapter=ADAPTER,
        summary="Delete an experiment",
        tag="experiments",
        answers={204: None},
        takes_if_match=True,
    ),
    Route(
        method="POST",
        path=_EXPERIMENT + "/restore",
        handler=post_restore,
        permission="run.write",
        adapter=ADAPTER,
        summary="Bring a deleted experiment back",
        tag="experiments",
        answers={200: ExperimentAnswer},
    ),
    Route(
        method="POST",
        path=_EXPERIMENT + "/purge",
        handler=post_purge,
        permission="namespace.admin",
        adapter=ADAPTER,
        summary="Let go of a deleted experiment for good",
        tag="experiments",
        answers={204: None},
    ),
]
