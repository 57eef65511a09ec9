"""How much there is in all: counts of everything, bytes as they are stored and as they are named.

Bytes come from the store's own tables, a page of blobs at a time: what lies there, what of it
versions name, and what versions would take if nothing were shared. A version counts until it is
purged, because it holds its bytes until then.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from sqlalchemy import Select, and_, bindparam, case, func, select, union_all
from sqlalchemy import literal_column as literal
from sqlalchemy.sql.elements import ColumnElement

from registry.catalog.schema import (
    aliases,
    bindings,
    deployments,
    environments,
    experiments,
    lineage,
    models,
    namespaces,
    reviews,
    runs,
    tags,
    teams,
)
from store.index.schema import blobs, refs
from store.index.transactions import Statement, Tx


class Held(msgspec.Struct, frozen=True):
    """Bytes of blobs that are present."""

    blobs: int = 0
    stored: int = 0
    """What they take on the medium: each once."""
    named: int = 0
    """What those take that versions name: each once."""
    referenced: int = 0
    """What versions would take if each kept files of its own."""

    @property
    def saved(self) -> int:
        return self.referenced - self.named

    def plus(self, other: Held) -> Held:
        return Held(
            self.blobs + other.blobs,
            self.stored + other.stored,
            self.named + other.named,
            self.referenced + other.referenced,
        )


_NOTHING: Final[ColumnElement[Any]] = literal("''")
_ZERO: Final[ColumnElement[Any]] = literal("0")


def _counted(
    what: str, table: Any, *conditions: ColumnElement[bool], by: Any = None
) -> Select[Any]:
    key = _NOTHING if by is None else by
    question = (
        select(literal(f"'{what}'").label("what"), key.label("key"), func.count().label("count"))
        .select_from(table)
        .where(*conditions)
    )
    return question if by is None else question.group_by(by)


_ALL = Statement(
    lambda: union_all(
        _counted("models", models, models.c.deleted_at.is_(None), by=models.c.kind),
        select(
            literal("'versions'").label("what"),
            _NOTHING.label("key"),
            func.coalesce(func.sum(models.c.version_count), _ZERO).label("count"),
        ).where(models.c.deleted_at.is_(None)),
        _counted("runs", runs, runs.c.deleted_at.is_(None), by=runs.c.status),
        _counted("experiments", experiments, experiments.c.deleted_at.is_(None)),
        _counted("aliases", aliases),
        _counted("lineage", lineage),
        _counted("tags", tags),
        _counted("teams", teams, teams.c.deleted_at.is_(None)),
        _counted("namespaces", namespaces),
        _counted("environments", environments, environments.c.deleted_at.is_(None)),
        _counted("deployments", deployments, by=deployments.c.status),
        _counted("bindings", bindings),
        _counted("reviews", reviews),
    )
)


def _summed(condition: ColumnElement[bool], value: ColumnElement[Any]) -> ColumnElement[Any]:
    return func.coalesce(func.sum(case((condition, value), else_=_ZERO)), _ZERO)


_naming = (
    select(func.coalesce(func.sum(refs.c.count), _ZERO))
    .where(refs.c.digest == blobs.c.digest, refs.c.kind == literal("'tree'"))
    .scalar_subquery()
)
_page = (
    select(blobs.c.digest, blobs.c.size, blobs.c.state, _naming.label("times"))
    .where(blobs.c.digest > bindparam("after"))
    .order_by(blobs.c.digest)
    .limit(bindparam("limit"))
    .subquery("page")
)
_present = _page.c.state == literal("'present'")
_HELD = Statement(
    lambda: select(
        func.max(_page.c.digest),
        _summed(_present, literal("1")),
        _summed(_present, _page.c.size),
        _summed(and_(_present, _page.c.times > _ZERO), _page.c.size),
        _summed(_present, _page.c.size * _page.c.times),
    )
)


async def count_everything(tx: Tx) -> dict[str, dict[str, int]]:
    """How many of everything live, by kind or status where it has one; under ``""`` else."""
    found: dict[str, dict[str, int]] = {}
    for what, key, count in await tx.all(_ALL):
        found.setdefault(what, {})[key] = count
    return found


async def held_after(tx: Tx, after: bytes, limit: int) -> tuple[bytes | None, Held]:
    """What a page of blobs holds, and the last of them; start with ``b""``, None is the end."""
    row = await tx.one(_HELD, after=after, limit=limit)
    assert row is not None, "sums are one row"
    return row[0], Held(*row[1:])
