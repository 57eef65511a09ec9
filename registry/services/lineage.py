"""Say what versions came from, and walk it: ancestors, descendants, and what a withdrawal affects.

**No circles.** Whether the child is already above the parent is asked in the transaction that would
add the edge, by one recursive query; transactions that write come one after the other, so two edges
cannot close a circle together.

**Walking** goes level by level, one query each, so that every node is met once and at its least
depth, and a model that the caller may not see ends the walk there: it shows as a node that says
nothing, under a name that means nothing outside the answer. What came from a URI, of which anybody
may ask, is not even shown so: there must be a version that the caller sees.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

import msgspec

from registry.catalog.audit import Entry, record
from registry.catalog.lineage import (
    Around,
    alias_names,
    delete_edge,
    edges_above,
    edges_below,
    edges_below_uri,
    find_edge,
    find_members,
    find_same_edge,
    insert_edge,
    is_ancestor,
    path_up,
)
from registry.domain.ids import LINEAGE, new_id
from registry.domain.lineage import Direction, Edge, Graph, Node
from registry.domain.models import Model, Version
from registry.domain.principals import Principal
from registry.domain.references import ModelReference, VersionReference
from registry.errors import Conflict, NotFound
from registry.services.change import change
from registry.services.resolve import DraftFiles, follow, require_model
from store.index.transactions import Tx
from store.opening import Store

MOST_NODES: Final = 100_000
"""How far a walk goes to count; what an answer lists is less."""

MOST_EDGES: Final = 400_000

_READ: Final = "model.read"
"""What a parent must be open to; only the child is written."""


class NamedVersion(msgspec.Struct, frozen=True):
    """A version as a caller names it."""

    model: ModelReference
    version: VersionReference


class NamedUri(msgspec.Struct, frozen=True):
    """What is not here, by its checked URI."""

    uri: str
    kind: Literal["dataset", "external"] = "external"


Parent: TypeAlias = NamedVersion | NamedUri


class EdgeSaid(msgspec.Struct, frozen=True):
    """What is said of where a version came from, when the version is made."""

    relation: str
    parent: Parent
    description: str = ""


class EdgeWish(msgspec.Struct, frozen=True):
    """An edge to add to a child that is named elsewhere. The id is for the edge, if it is new."""

    id: str
    relation: str
    parent: Parent
    description: str = ""

    @classmethod
    def fresh(cls, now: int, relation: str, parent: Parent, description: str = "") -> EdgeWish:
        return cls(new_id(LINEAGE, now), relation, parent, description)

    @classmethod
    def of(cls, now: int, said: EdgeSaid) -> EdgeWish:
        return cls.fresh(now, said.relation, said.parent, said.description)


class ToldEdge(msgspec.Struct, frozen=True):
    """An edge that is there now, and whether this call added it."""

    edge: Edge
    is_new: bool


class Impact(msgspec.Struct, frozen=True):
    """What came from something, and where it is in use. `graph` holds no more nodes than asked for;
    the counts are of all, unless `is_cut` says that even counting came to an end."""

    graph: Graph
    aliases: dict[str, list[str]]
    """Names of aliases by revision."""
    by_depth: dict[int, int]
    versions: int
    models: int
    in_production: int
    aliased: int
    restricted: int
    is_cut: bool


async def add_lineage(
    store: Store,
    principal: Principal,
    children: Sequence[NamedVersion],
    wishes: Sequence[EdgeWish],
) -> list[ToldEdge]:
    """Add each edge to the child at its place, all or none."""

    async def unit(tx: Tx) -> list[ToldEdge]:
        told = []
        for index, (child, wish) in enumerate(zip(children, wishes, strict=True)):
            model, version = await _require_version(tx, principal, child)
            told.append(await _add(tx, principal, model, version, wish, index))
        return told

    return await change(store, principal, unit)


async def add_edges(
    tx: Tx, principal: Principal, model: Model, version: Version, wishes: Sequence[EdgeWish]
) -> list[ToldEdge]:
    """Add edges to a version in the caller's transaction, which fails as a whole with any of them.

    Raises `NotFound` for an unknown parent, `Conflict` ``lineage_cycle`` or ``lineage_exists``.
    """
    return [
        await _add(tx, principal, model, version, wish, index) for index, wish in enumerate(wishes)
    ]


async def require_parents(tx: Tx, principal: Principal, said: Sequence[EdgeSaid]) -> None:
    """Refuse what names a version that is not there; raises `NotFound` or `Conflict`."""
    for one in said:
        if isinstance(one.parent, NamedVersion):
            await _require_version(tx, principal, one.parent, word=_READ)


async def are_told(
    tx: Tx, principal: Principal, child: Version, wishes: Sequence[EdgeWish]
) -> bool:
    """Whether each edge is there already and described just so."""
    for wish in wishes:
        edge = await _edge(tx, principal, child, wish)
        same = await find_same_edge(tx, edge)
        if same is None or (same.kind, same.description) != (edge.kind, edge.description):
            return False
    return True


async def _edge(tx: Tx, principal: Principal, child: Version, wish: EdgeWish) -> Edge:
    """The edge that is wished for; raises `NotFound` for an unknown parent."""
    parent, uri, kind = None, None, "version"
    if isinstance(wish.parent, NamedVersion):
        _, found = await _require_version(tx, principal, wish.parent, word=_READ)
        parent = found.id
    else:
        uri, kind = wish.parent.uri, wish.parent.kind
    return Edge(
        id=wish.id,
        child=child.id,
        relation=wish.relation,
        parent=parent,
        uri=uri,
        kind=kind,
        description=wish.description,
        created_at=tx.now,
        created_by=principal.id,
    )


async def _add(
    tx: Tx, principal: Principal, model: Model, child: Version, wish: EdgeWish, index: int
) -> ToldEdge:
    edge = await _edge(tx, principal, child, wish)
    if edge.parent is not None:
        await _refuse_circle(tx, principal, child.id, edge.parent, index)
    same = await find_same_edge(tx, edge)
    if same is None:
        await insert_edge(tx, edge)
        await record(tx, principal, _entry("create", model, child, edge))
        return ToldEdge(edge, True)
    if (same.kind, same.description) != (edge.kind, edge.description):
        raise Conflict(
            "lineage",
            f"of {child.name} of {model.name}",
            "is told already, but described otherwise",
            code="lineage_exists",
            details={"existing": same.id, "index": index},
        )
    return ToldEdge(same, False)


async def _refuse_circle(tx: Tx, principal: Principal, child: str, parent: str, index: int) -> None:
    if child == parent:
        path = [child]
    elif await is_ancestor(tx, child, of=parent):
        path = await path_up(tx, parent, child)
    else:
        return
    members = await find_members(tx, path)
    names = [
        member.name if principal.visibility.opens(member.place) else "restricted"
        for member in (members[one] for one in [child, *path])
    ]
    shown = names if len(names) <= 12 else [*names[:6], "…", *names[-5:]]
    raise Conflict(
        "lineage",
        "of versions",
        f"would be a circle: {' came from '.join(shown)}",
        code="lineage_cycle",
        details={"path": names, "index": index},
    )


def _entry(action: str, model: Model, child: Version, edge: Edge) -> Entry:
    said = msgspec.structs.asdict(edge)
    return Entry(
        action=action,
        kind="lineage",
        id=edge.id,
        name=f"{child.name} {edge.relation}",
        model=model.id,
        before=said if action == "delete" else None,
        after=said if action == "create" else None,
    )


async def remove_edge(
    store: Store, principal: Principal, child: NamedVersion, edge_id: str
) -> None:
    """Take back what was said of a version; raises `NotFound`."""

    async def unit(tx: Tx) -> None:
        model, version = await _require_version(tx, principal, child)
        edge = await find_edge(tx, edge_id)
        if edge is None or edge.child != version.id:
            raise NotFound(
                "edge", f"{edge_id} of {version.name} of {model.name}", code="lineage_not_found"
            )
        await delete_edge(tx, edge.id)
        await record(tx, principal, _entry("delete", model, version, edge))

    await change(store, principal, unit)


async def walk_lineage(
    store: Store,
    principal: Principal,
    start: NamedVersion | NamedUri,
    directions: Sequence[Direction],
    *,
    depth: int | None = None,
    limit: int = 1000,
) -> Graph:
    """What `start` came from, what came from it, or both, to a depth or to the end."""

    async def unit(tx: Tx) -> Graph:
        root = await _root(tx, principal, start)
        graphs = [
            await _walk(tx, principal, root, direction, depth=depth, limit=limit)
            for direction in directions
        ]
        return graphs[0] if len(graphs) == 1 else _joined(graphs, limit)

    return await store.index.read(unit)


async def measure_impact(
    store: Store,
    principal: Principal,
    start: NamedVersion | NamedUri,
    *,
    depth: int | None = None,
    limit: int = 1000,
) -> Impact:
    """What is affected if `start` is withdrawn: everything that came from it."""

    async def unit(tx: Tx) -> Impact:
        root = await _root(tx, principal, start)
        whole = await _walk(tx, principal, root, "down", depth=depth, limit=MOST_NODES)
        affected = [(node, member) for node, member in whole.members() if node.depth]
        aliases = await alias_names(tx, {member.revision for _, member in affected})
        return Impact(
            graph=_shortened(whole, limit),
            aliases=aliases,
            by_depth=dict(
                sorted(Counter(node.depth for node in whole.nodes if node.depth).items())
            ),
            versions=len(affected),
            models=len({member.model_id for _, member in affected}),
            in_production=sum(
                member.status == "production" and not member.is_deleted for _, member in affected
            ),
            aliased=sum(member.revision in aliases for _, member in affected),
            restricted=len(whole.nodes) - 1 - len(affected),
            is_cut=whole.is_cut,
        )

    return await store.index.read(unit)


async def _require_version(
    tx: Tx, principal: Principal, named: NamedVersion, *, word: str | None = None
) -> tuple[Model, Version]:
    model = await require_model(tx, principal, named.model, word=word)
    found = await follow(tx, model, named.version)
    if isinstance(found, DraftFiles):
        raise Conflict(
            "version",
            f"{found.name} of {model.name}",
            "is a draft, which has no lineage; publish it",
            code="lineage_of_draft",
        )
    if found.version is None:
        raise NotFound("version", f"{found.name} of {model.name}", code="version_not_found")
    return model, found.version


async def _root(tx: Tx, principal: Principal, start: NamedVersion | NamedUri) -> Node:
    if isinstance(start, NamedUri):
        return Node(start.uri, 0, uri=start.uri, kind=start.kind)
    _, version = await _require_version(tx, principal, start)
    members = await find_members(tx, [version.id])
    return Node(version.id, 0, members[version.id])


async def _walk(
    tx: Tx,
    principal: Principal,
    root: Node,
    direction: Direction,
    *,
    depth: int | None,
    limit: int,
) -> Graph:
    walk = _Walk(principal, root, direction, limit)
    level = 0
    while walk.frontier and not walk.is_cut and level != depth:
        level += 1
        room = MOST_EDGES - len(walk.edges)
        steps = await _steps(tx, walk.frontier, direction, room + 1)
        walk.take(steps[:room], level)
        walk.is_cut = walk.is_cut or len(steps) > room
    return Graph(list(walk.nodes.values()), walk.edges, walk.is_cut)


async def _steps(tx: Tx, nodes: Sequence[Node], direction: Direction, limit: int) -> list[Around]:
    uri = nodes[0].uri
    if uri is not None:  # only ever the root
        return [] if direction == "up" else await edges_below_uri(tx, uri, limit)
    ids = [node.key for node in nodes]
    ask = edges_above if direction == "up" else edges_below
    return await ask(tx, ids, limit)


class _Walk:
    """What a walk has met so far."""

    def __init__(self, principal: Principal, root: Node, direction: Direction, limit: int) -> None:
        self.nodes = {root.key: root}
        self.edges: list[Edge] = []
        self.is_cut = False
        self.frontier: list[Node] = [root]
        """The nodes whose edges come next."""
        self._visibility = principal.visibility
        self._is_of_nobody = root.uri is not None
        """Whether anybody may ask what came from it: then nothing tells of what is hidden."""
        self._hidden: dict[str, str] = {}
        self._direction = direction
        self._limit = limit

    def take(self, steps: Sequence[Around], depth: int) -> None:
        """Go one level further."""
        following = []
        for step in sorted(steps, key=lambda step: step.edge.id):
            node, edge = self._node(step, depth)
            if depth == 1 and self._is_of_nobody and node.member is None:
                continue
            if node.key not in self.nodes:
                if len(self.nodes) > self._limit:
                    self.is_cut = True
                    continue
                self.nodes[node.key] = node
                if node.member is not None:
                    following.append(node)
            self.edges.append(edge)
        self.frontier = following

    def _node(self, step: Around, depth: int) -> tuple[Node, Edge]:
        """What is at the far end, and the edge as the caller may see it."""
        edge, member = step.edge, step.member
        if member is None:
            assert edge.uri is not None, "what is no version has a URI"
            return Node(edge.uri, depth, uri=edge.uri, kind=edge.kind), edge
        if self._visibility.opens(member.place):
            return Node(member.id, depth, member), edge
        key = self._hidden.setdefault(
            member.id, f"restricted-{self._direction}-{len(self._hidden) + 1}"
        )
        end = {"parent": key} if self._direction == "up" else {"child": key}
        return Node(key, depth), msgspec.structs.replace(edge, description="", **end)


def _joined(graphs: Sequence[Graph], limit: int) -> Graph:
    """One graph of walks in both directions from the same root."""
    nodes = {node.key: node for graph in graphs for node in graph.nodes}
    nearest = sorted(nodes.values(), key=lambda node: node.depth)
    edges = [edge for graph in graphs for edge in graph.edges]
    return _shortened(Graph(nearest, edges, any(graph.is_cut for graph in graphs)), limit)


def _shortened(graph: Graph, limit: int) -> Graph:
    """The root and `limit` nodes nearest to it."""
    if len(graph.nodes) <= limit + 1:
        return graph
    nodes = graph.nodes[: limit + 1]
    known = {node.key for node in nodes}
    edges = [
        edge
        for edge in graph.edges
        if edge.child in known and (edge.uri if edge.parent is None else edge.parent) in known
    ]
    return Graph(nodes, edges, True)
