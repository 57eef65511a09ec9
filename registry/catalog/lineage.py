"""Rows of lineage: edges, whether one would close a circle, and the edges around given versions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import (
    ColumnElement,
    Select,
    bindparam,
    delete,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
)

from registry.catalog.schema import aliases, lineage, models, versions
from registry.domain.lineage import Edge, Member
from store.index.transactions import Row, Statement, Tx

_EDGE: Final = {
    "id": lineage.c.id,
    "child": lineage.c.child,
    "relation": lineage.c.relation,
    "parent": lineage.c.parent,
    "uri": lineage.c.parent_uri,
    "kind": lineage.c.parent_kind,
    "description": lineage.c.description,
    "created_at": lineage.c.created_at,
    "created_by": lineage.c.created_by,
}
_SAID: Final = {
    "id": versions.c.id,
    "model_id": versions.c.model,
    "namespace_id": models.c.namespace,
    "level": models.c.visibility,
    "model": models.c.name,
    "kind": models.c.kind,
    "number": versions.c.number,
    "label": versions.c.label,
    "revision": versions.c.revision,
    "status": versions.c.status,
}
_MEMBER: Final = (
    *_SAID.values(),
    or_(versions.c.deleted_at.is_not(None), models.c.deleted_at.is_not(None)),
)


def _listed(name: str) -> Select[Any]:
    """The texts of a JSON array given as a value: one statement for any number of them."""
    return select(func.json_each(bindparam(name)).table_valued("value").c.value)


def _around(asked: ColumnElement[Any], other: ColumnElement[Any]) -> Statement:
    """Edges whose end `asked` is among the given versions, with who is at the `other` end."""
    return Statement(
        select(*_EDGE.values(), *_MEMBER)
        .select_from(
            lineage.outerjoin(versions, versions.c.id == other).outerjoin(
                models, models.c.id == versions.c.model
            )
        )
        .where(asked.in_(_listed("versions")))
        .limit(bindparam("limit"))
    )


_UP = _around(lineage.c.child, lineage.c.parent)
_DOWN = _around(lineage.c.parent, lineage.c.child)
_DOWN_FROM_URI = Statement(
    lambda: (
        select(*_EDGE.values(), *_MEMBER)
        .select_from(
            lineage.join(versions, versions.c.id == lineage.c.child).join(
                models, models.c.id == versions.c.model
            )
        )
        .where(lineage.c.parent_uri == bindparam("uri"))
        .limit(bindparam("limit"))
    )
)
_MEMBERS = Statement(
    lambda: (
        select(*_MEMBER)
        .select_from(versions.join(models, models.c.id == versions.c.model))
        .where(versions.c.id.in_(_listed("versions")))
    )
)
_ALIASES = Statement(
    lambda: (
        select(aliases.c.revision, aliases.c.name)
        .where(aliases.c.revision.in_(_listed("revisions")))
        .order_by(aliases.c.folded)
    )
)
_FIND = Statement(lambda: select(*_EDGE.values()).where(lineage.c.id == bindparam("id")))
_FIND_SAME = Statement(
    lambda: select(*_EDGE.values()).where(
        lineage.c.parent == bindparam("parent"),
        lineage.c.child == bindparam("child"),
        lineage.c.relation == bindparam("relation"),
    )
)
_FIND_SAME_URI = Statement(
    lambda: select(*_EDGE.values()).where(
        lineage.c.parent_uri == bindparam("uri"),
        lineage.c.child == bindparam("child"),
        lineage.c.relation == bindparam("relation"),
    )
)
_INSERT = Statement(
    lambda: insert(lineage).values(**{c.name: bindparam(name) for name, c in _EDGE.items()})
)
_DELETE = Statement(lambda: delete(lineage).where(lineage.c.id == bindparam("id_")))
_HAS_CHILDREN = Statement(
    lambda: select(literal(1)).where(exists().where(lineage.c.parent == bindparam("version")))
)


def _upwards(*, with_path: bool) -> Statement:
    """Every edge above a version, once, nearest first; or only whether it meets another version."""
    start = select(lineage.c.parent.label("parent"), lineage.c.child.label("child")).where(
        lineage.c.child == bindparam("start"), lineage.c.parent.is_not(None)
    )
    above = start.cte("above", recursive=True)
    above = above.union(
        select(lineage.c.parent, lineage.c.child).where(
            lineage.c.child == above.c.parent, lineage.c.parent.is_not(None)
        )
    )
    if with_path:
        return Statement(select(above.c.child, above.c.parent))
    return Statement(select(literal(1)).where(above.c.parent == bindparam("meets")).limit(1))


_MEETS = _upwards(with_path=False)
_EDGES_ABOVE = _upwards(with_path=True)


class Around(msgspec.Struct, frozen=True):
    """An edge and the version at its far end; None where that is a URI."""

    edge: Edge
    member: Member | None


def _edge(row: Sequence[Any]) -> Edge:
    return Edge(**dict(zip(_EDGE, row, strict=True)))


def _member(row: Sequence[Any]) -> Member:
    *said, is_deleted = row
    return Member(**dict(zip(_SAID, said, strict=True)), is_deleted=bool(is_deleted))


def _of_row(row: Row) -> Around:
    edge, member = row[: len(_EDGE)], row[len(_EDGE) :]
    return Around(_edge(edge), None if member[0] is None else _member(member))


def _json(texts: Iterable[str]) -> str:
    return msgspec.json.encode(list(texts)).decode()


async def edges_above(tx: Tx, version_ids: Iterable[str], limit: int) -> list[Around]:
    """What the given versions came from, one step up."""
    rows = await tx.all(_UP, versions=_json(version_ids), limit=limit)
    return [_of_row(row) for row in rows]


async def edges_below(tx: Tx, version_ids: Iterable[str], limit: int) -> list[Around]:
    """What came from the given versions, one step down."""
    rows = await tx.all(_DOWN, versions=_json(version_ids), limit=limit)
    return [_of_row(row) for row in rows]


async def edges_below_uri(tx: Tx, uri: str, limit: int) -> list[Around]:
    """What came from what a URI names, one step down."""
    return [_of_row(row) for row in await tx.all(_DOWN_FROM_URI, uri=uri, limit=limit)]


async def find_members(tx: Tx, version_ids: Iterable[str]) -> dict[str, Member]:
    rows = await tx.all(_MEMBERS, versions=_json(version_ids))
    return {row[0]: _member(row) for row in rows}


async def alias_names(tx: Tx, revisions: Iterable[str]) -> dict[str, list[str]]:
    """The names of the aliases at each revision that has some."""
    found: dict[str, list[str]] = {}
    for revision, name in await tx.all(_ALIASES, revisions=_json(revisions)):
        found.setdefault(revision, []).append(name)
    return found


async def find_edge(tx: Tx, id: str) -> Edge | None:
    row = await tx.one(_FIND, id=id)
    return None if row is None else _edge(row)


async def find_same_edge(tx: Tx, edge: Edge) -> Edge | None:
    """The edge that says the same as `edge`, whatever it is described as."""
    same = {"child": edge.child, "relation": edge.relation}
    if edge.parent is not None:
        row = await tx.one(_FIND_SAME, parent=edge.parent, **same)
    else:
        row = await tx.one(_FIND_SAME_URI, uri=edge.uri, **same)
    return None if row is None else _edge(row)


async def insert_edge(tx: Tx, edge: Edge) -> None:
    await tx.run(_INSERT, **msgspec.structs.asdict(edge))


async def delete_edge(tx: Tx, id: str) -> None:
    await tx.run(_DELETE, id_=id)


async def is_ancestor(tx: Tx, version_id: str, *, of: str) -> bool:
    """Whether one version is above another, to any depth.

    Most edges are told of a version that nothing came from yet, which costs one look.
    """
    if await tx.one(_HAS_CHILDREN, version=version_id) is None:
        return False
    return await tx.one(_MEETS, start=of, meets=version_id) is not None


async def path_up(tx: Tx, start: str, end: str) -> list[str]:
    """The versions on a shortest way up, both ends included; there is such a way."""
    came_from: dict[str, str] = {}
    for child, parent in await tx.all(_EDGES_ABOVE, start=start):
        came_from.setdefault(parent, child)
        if parent == end:
            break
    path = [end]
    while path[-1] != start:
        path.append(came_from[path[-1]])
    return path[::-1]
