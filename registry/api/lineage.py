"""Lineage: say what versions came from, walk it up and down, and see what a withdrawal affects.

A node is a version, or something that is not here and has a URI. An answer shows every node once,
with the fewest steps that lead to it, and every edge between the nodes it shows. ``limit`` bounds
the nodes, ``depth`` the steps; ``truncated`` says that ``limit`` left something out. Versions of
models that the caller may not see are nodes of the kind ``restricted``, and the walk ends there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, Literal

from aiohttp import hdrs, web

from registry.api.errors import ADAPTER
from registry.api.wire_lineage import (
    AffectedVersion,
    DepthCount,
    EdgeAnswer,
    EdgeBatchAnswer,
    EdgeBody,
    GraphAnswer,
    ImpactAnswer,
    LineageBatch,
    NodeAnswer,
    ParentBody,
    UriQuestion,
    WalkQuestion,
    parent_of,
)
from registry.domain.lineage import Direction, Edge, Node, parse_uri
from registry.domain.references import parse_model, parse_reference
from registry.http.answers import json_answer
from registry.http.bodies import read_json
from registry.http.once import answer_once
from registry.http.queries import read_query
from registry.http.routing import Route
from registry.http.targets import decoded, encoded, raw_segments
from registry.http.times import rfc3339
from registry.keys import PRINCIPAL, STORE
from registry.services.lineage import (
    EdgeWish,
    Impact,
    NamedUri,
    NamedVersion,
    ToldEdge,
    add_lineage,
    measure_impact,
    remove_edge,
    walk_lineage,
)

MOST_ON_THE_LOOP: Final = 500
"""Nodes; what makes a longer answer is done in a thread."""


async def post_edge(request: web.Request) -> web.StreamResponse:
    """Say what a version came from: another version, or a data set or anything else by its URI.

    Saying the same again answers 200 with the edge that is there. An edge that would make something
    its own ancestor is 409 `lineage_cycle`; its `path` names the versions in between.
    """
    wish = await read_json(request, EdgeBody)
    child = _version(request)
    edge = _wish(request, wish.relation, wish.parent, wish.description, "parent")
    store, principal = request.app[STORE], request[PRINCIPAL]

    def render(told: list[ToldEdge]) -> web.Response:
        status = 201 if told[0].is_new else 200
        address = f"{_address(request)}/{told[0].edge.id}"
        return json_answer(_edge(told[0].edge), status=status, headers={hdrs.LOCATION: address})

    return await answer_once(
        request, lambda: add_lineage(store, principal, [child], [edge]), render
    )


async def post_batch(request: web.Request) -> web.StreamResponse:
    """Say what many versions came from: all of it, or none if one edge cannot be.

    A refusal names the place in the list as `index`. Answers 201 if anything is new, else 200.
    """
    batch = await read_json(request, LineageBatch)
    children, wishes = [], []
    for index, told in enumerate(batch.edges):
        field = f"edges[{index}]"
        model = parse_model(told.child.model, field=f"{field}.child.model")
        version = parse_reference(told.child.version, field=f"{field}.child.version")
        children.append(NamedVersion(model, version))
        wishes.append(
            _wish(request, told.relation, told.parent, told.description, f"{field}.parent")
        )
    store, principal = request.app[STORE], request[PRINCIPAL]

    def render(told: list[ToldEdge]) -> web.Response:
        status = 201 if any(one.is_new for one in told) else 200
        return json_answer(EdgeBatchAnswer([_edge(one.edge) for one in told]), status=status)

    return await answer_once(
        request, lambda: add_lineage(store, principal, children, wishes), render
    )


async def delete_one_edge(request: web.Request) -> web.StreamResponse:
    """Take back what was said of a version."""
    edge = decoded(request.rel_url.raw_path.rpartition("/")[2], field="edge")
    await remove_edge(request.app[STORE], request[PRINCIPAL], _version(request), edge)
    return web.Response(status=204)


async def get_lineage(request: web.Request) -> web.StreamResponse:
    """What a version came from and what came from it, one step each way unless `depth` says."""
    question = read_query(request, WalkQuestion)
    depth = question.depth or 1
    return await _walk(request, _version(request), ("up", "down"), depth, question.limit)


async def get_ancestors(request: web.Request) -> web.StreamResponse:
    """Everything that a version came from."""
    question = read_query(request, WalkQuestion)
    return await _walk(request, _version(request), ("up",), question.depth, question.limit)


async def get_descendants(request: web.Request) -> web.StreamResponse:
    """Everything that came from a version."""
    question = read_query(request, WalkQuestion)
    return await _walk(request, _version(request), ("down",), question.depth, question.limit)


async def get_impact(request: web.Request) -> web.StreamResponse:
    """What is affected if a version is withdrawn: all that came from it, and where that is used."""
    question = read_query(request, WalkQuestion)
    return await _measure(request, _version(request), question.depth, question.limit)


async def get_uri_descendants(request: web.Request) -> web.StreamResponse:
    """Everything that came from what a URI names, such as a data set."""
    question = read_query(request, UriQuestion)
    start = NamedUri(parse_uri(question.uri))
    return await _walk(request, start, ("down",), question.depth, question.limit)


async def get_uri_impact(request: web.Request) -> web.StreamResponse:
    """What is affected if what a URI names is withdrawn."""
    question = read_query(request, UriQuestion)
    start = NamedUri(parse_uri(question.uri))
    return await _measure(request, start, question.depth, question.limit)


def _version(request: web.Request) -> NamedVersion:
    _, _, _, model, _, version, *_ = raw_segments(request, 7)
    return NamedVersion(
        parse_model(decoded(model, field="model")),
        parse_reference(decoded(version, field="version")),
    )


def _address(request: web.Request) -> str:
    _, _, _, model, _, version, *_ = raw_segments(request, 7)
    names = (encoded(decoded(model, field="model")), encoded(decoded(version, field="version")))
    return "/api/v1/models/{}/versions/{}/lineage".format(*names)


def _wish(
    request: web.Request, relation: str, parent: ParentBody, description: str, field: str
) -> EdgeWish:
    named = parent_of(parent, field)
    return EdgeWish.fresh(request.app[STORE].clock(), relation, named, description)


async def _walk(
    request: web.Request,
    start: NamedVersion | NamedUri,
    directions: Sequence[Direction],
    depth: int | None,
    limit: int,
) -> web.Response:
    graph = await walk_lineage(
        request.app[STORE], request[PRINCIPAL], start, directions, depth=depth, limit=limit
    )
    return await _rendered(
        len(graph.nodes),
        lambda: GraphAnswer(
            root=graph.nodes[0].key,
            nodes=[_node(node) for node in graph.nodes],
            edges=[_edge(edge) for edge in graph.edges],
            truncated=graph.is_cut,
        ),
    )


async def _measure(
    request: web.Request, start: NamedVersion | NamedUri, depth: int | None, limit: int
) -> web.Response:
    impact = await measure_impact(
        request.app[STORE], request[PRINCIPAL], start, depth=depth, limit=limit
    )
    return await _rendered(
        len(impact.graph.nodes),
        lambda: ImpactAnswer(
            root=impact.graph.nodes[0].key,
            versions=impact.versions,
            models=impact.models,
            in_production=impact.in_production,
            with_aliases=impact.aliased,
            restricted=impact.restricted,
            by_depth=[DepthCount(*one) for one in impact.by_depth.items()],
            items=_affected(impact),
            truncated=impact.graph.is_cut,
            counts_are_exact=not impact.is_cut,
        ),
    )


async def _rendered(nodes: int, make: Callable[[], object]) -> web.Response:
    """The answer that `make` makes; a long one in a thread, to keep the loop free."""
    if nodes <= MOST_ON_THE_LOOP:
        return json_answer(make())
    return await asyncio.to_thread(lambda: json_answer(make()))


def _affected(impact: Impact) -> list[AffectedVersion]:
    return [
        AffectedVersion(
            id=member.id,
            depth=node.depth,
            model_id=member.model_id,
            model=member.model,
            number=member.number,
            label=member.label,
            status=member.status,
            aliases=impact.aliases.get(member.revision, []),
            deleted=member.is_deleted,
        )
        for node, member in impact.graph.members()
        if node.depth
    ]


def _node(node: Node) -> NodeAnswer:
    if node.uri is not None:
        kind: Literal["dataset", "external"] = "dataset" if node.kind == "dataset" else "external"
        return NodeAnswer(id=node.key, kind=kind, depth=node.depth)
    if node.member is None:
        return NodeAnswer(id=node.key, kind="restricted", depth=node.depth)
    member = node.member
    return NodeAnswer(
        id=node.key,
        kind="version",
        depth=node.depth,
        model_id=member.model_id,
        model=member.model,
        model_kind=member.kind,
        number=member.number,
        label=member.label,
        status=member.status,
        deleted=member.is_deleted,
    )


def _edge(edge: Edge) -> EdgeAnswer:
    return EdgeAnswer(
        id=edge.id,
        relation=edge.relation,  # type: ignore[arg-type]  # the table holds nothing else
        child=edge.child,
        parent=edge.parent or edge.uri or "",
        parent_kind=edge.kind,  # type: ignore[arg-type]  # the table holds nothing else
        description=edge.description,
        created_at=rfc3339(edge.created_at),
        created_by=edge.created_by,
    )


_LINEAGE: Final = "/api/v1/models/{model:[^/]+}/versions/{version:[^/]+}/lineage"

ROUTES: Final = [
    Route(
        method="POST",
        path="/api/v1/lineage/batch",
        handler=post_batch,
        permission="model.write",
        adapter=ADAPTER,
        body="json",
        summary="Say what many versions came from",
        tag="lineage",
        accepts=LineageBatch,
        answers={200: EdgeBatchAnswer, 201: EdgeBatchAnswer},
        problems=(404, 409),
    ),
    *(
        Route(
            method="GET",
            path=f"/api/v1/lineage/{word}",
            handler=handler,
            permission="model.read",
            adapter=ADAPTER,
            summary=summary,
            tag="lineage",
            query=UriQuestion,
            answers={200: answer},
        )
        for word, handler, summary, answer in (
            ("descendants", get_uri_descendants, "What came from a URI", GraphAnswer),
            ("impact", get_uri_impact, "What withdrawing a URI affects", ImpactAnswer),
        )
    ),
    Route(
        method="POST",
        path=_LINEAGE,
        handler=post_edge,
        permission="model.write",
        adapter=ADAPTER,
        body="json",
        summary="Say what a version came from",
        tag="lineage",
        accepts=EdgeBody,
        answers={200: EdgeAnswer, 201: EdgeAnswer},
        problems=(404, 409),
    ),
    *(
        Route(
            method="GET",
            path=_LINEAGE + word,
            handler=handler,
            permission="model.read",
            adapter=ADAPTER,
            summary=summary,
            tag="lineage",
            query=WalkQuestion,
            answers={200: answer},
            problems=(409,),
        )
        for word, handler, summary, answer in (
            ("", get_lineage, "What a version came from and what came from it", GraphAnswer),
            ("/ancestors", get_ancestors, "Everything a version came from", GraphAnswer),
            ("/descendants", get_descendants, "Everything that came from a version", GraphAnswer),
            ("/impact", get_impact, "What withdrawing a version affects", ImpactAnswer),
        )
    ),
    Route(
        method="DELETE",
        path=_LINEAGE + "/{edge:[^/]+}",
        handler=delete_one_edge,
        permission="model.write",
        adapter=ADAPTER,
        summary="Take back what a version came from",
        tag="lineage",
        answers={204: None},
        problems=(409,),
    ),
]
