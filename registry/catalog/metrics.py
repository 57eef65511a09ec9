"""Rows of versions' metrics: by name, split and time; the latest of each.

**The latest** are found by walking the primary key: from each name to the next one, and of each
name and split straight to its last time. What that costs depends on how many names there are, not
on how often they were measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, Final, Literal, TypeAlias

import msgspec
from sqlalchemy import ColumnElement, Select, Text, bindparam, func, select, tuple_
from sqlalchemy import literal_column as constant
from sqlalchemy.dialects.sqlite import insert as upsert

from registry.catalog.schema import version_metrics
from registry.domain.numbers import Number, columns_of, number_of
from registry.domain.runs import SPLITS
from store.index.transactions import Row, Statement, Tx

Per: TypeAlias = Literal["name", "split"]


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured of a version on one split, when, and who recorded it."""

    version_id: str
    name: str
    split: str
    time: int
    value: Number
    created_at: int
    created_by: str


_m = version_metrics.c
_COLUMNS: Final = (
    _m.version,
    _m.name,
    _m.split,
    _m.time,
    _m.value,
    _m.special,
    _m.created_at,
    _m.created_by,
)
_put = upsert(version_metrics).values(
    {column.name: bindparam(column.name) for column in version_metrics.c}
)
_PUT = Statement(
    lambda: _put.on_conflict_do_update(
        index_elements=["version", "name", "split", "time"],
        set_={
            name: _put.excluded[name] for name in ("value", "special", "created_at", "created_by")
        },
    )
)


def _metric(row: Row) -> Metric:
    return Metric(
        version_id=row[0],
        name=row[1],
        split=row[2],
        time=int(row[3]),
        value=number_of(row[4], row[5]),
        created_at=int(row[6]),
        created_by=row[7],
    )


async def put_metrics(tx: Tx, metrics: Iterable[Metric]) -> None:
    """Write metrics; one of the same version, name, split and time is replaced."""
    rows = []
    for metric in metrics:
        value, special = columns_of(metric.value)
        row = msgspec.structs.asdict(metric)
        row["version"] = row.pop("version_id")
        rows.append({**row, "value": value, "special": special})
    await tx.run_many(_PUT, rows)


@cache
def _page(*, has_name: bool, has_split: bool, has_place: bool) -> Statement:
    found = select(*_COLUMNS).where(_m.version == bindparam("version"))
    if has_name:
        found = found.where(_m.name == bindparam("name"))
    if has_split:
        found = found.where(_m.split == bindparam("split"))
    if has_place:
        place = tuple_(bindparam("after_name"), bindparam("after_split"), bindparam("after_time"))
        found = found.where(tuple_(_m.name, _m.split, _m.time) > place)
    return Statement(found.order_by(_m.name, _m.split, _m.time).limit(bindparam("limit")))


async def metrics_after(
    tx: Tx,
    version_id: str,
    place: tuple[str, str, int] | None,
    limit: int,
    *,
    name: str | None,
    split: str | None,
) -> list[Metric]:
    """A page of everything measured of a version, in order of name, split and time."""
    given: dict[str, Any] = {}
    if name is not None:
        given["name"] = name
    if split is not None:
        given["split"] = split
    statement = _page(
        has_name=name is not None, has_split=split is not None, has_place=place is not None
    )
    if place is not None:
        given |= dict(zip(("after_name", "after_split", "after_time"), place, strict=True))
    rows = await tx.all(statement, version=version_id, limit=limit, **given)
    return [_metric(row) for row in rows]


_asked = func.json_each(bindparam("versions", type_=Text)).table_valued("value", name="asked")


def _names() -> Any:
    """Every name of each version asked for: the first one, then from each to the next."""
    first = version_metrics.alias("first")
    walk = select(
        _asked.c.value.label("version"),
        select(func.min(first.c.name))
        .where(first.c.version == _asked.c.value)
        .correlate(_asked)
        .scalar_subquery()
        .label("name"),
    ).cte("walk", recursive=True)
    following = version_metrics.alias("following")
    return walk.union_all(
        select(
            walk.c.version,
            select(func.min(following.c.name))
            .where(following.c.version == walk.c.version, following.c.name > walk.c.name)
            .correlate(walk)
            .scalar_subquery(),
        ).where(walk.c.name.is_not(None))
    )


def _latest_per_split() -> Select[Any]:
    walk = _names()
    splits = func.json_each(bindparam("splits", type_=Text)).table_valued("value", name="splits")
    other = version_metrics.alias("other")
    latest = (
        select(func.max(other.c.time))
        .where(
            other.c.version == walk.c.version,
            other.c.name == walk.c.name,
            other.c.split == splits.c.value,
        )
        .correlate(walk, splits)
        .scalar_subquery()
    )
    # The order of outer joins is fixed: names, their splits, and of each the one row of that time.
    every: ColumnElement[bool] = constant("true")
    return select(*_COLUMNS).select_from(
        walk.outerjoin(splits, every).outerjoin(
            version_metrics,
            (_m.version == walk.c.version)
            & (_m.name == walk.c.name)
            & (_m.split == splits.c.value)
            & (_m.time == latest),
        )
    )


_LATEST_PER_SPLIT = Statement(lambda: _latest_per_split())
_each = _latest_per_split().subquery("each")
_ranked = (
    select(
        _each,
        func.row_number()
        .over(
            partition_by=(_each.c.version, _each.c.name),
            order_by=(_each.c.time.desc(), _each.c.created_at.desc(), _each.c.split),
        )
        .label("rank"),
    )
    .where(_each.c.name.is_not(None))
    .subquery("ranked")
)
_LATEST_PER_NAME = Statement(
    lambda: select(*(_ranked.c[column.name] for column in _COLUMNS)).where(
        _ranked.c.rank == constant("1")
    )
)


async def latest_metrics(tx: Tx, version_ids: Sequence[str], *, per: Per) -> list[Metric]:
    """The latest metric of each name, or of each name and split, of each version: one statement.

    In no order. Of splits measured at the same time the one recorded last counts for the name.
    """
    rows = await tx.all(
        _LATEST_PER_SPLIT if per == "split" else _LATEST_PER_NAME,
        versions=msgspec.json.encode(list(version_ids)).decode(),
        splits=msgspec.json.encode(SPLITS).decode(),
    )
    return [_metric(row) for row in rows if row[0] is not None]


_walk = _names()
_COUNT_NAMES = Statement(lambda: select(func.count(_walk.c.name)).select_from(_walk))


async def count_names(tx: Tx, version_id: str) -> int:
    """How many names of metrics a version has."""
    row = await tx.one(_COUNT_NAMES, versions=msgspec.json.encode([version_id]).decode())
    assert row is not None, "a count"
    return int(row[0])
