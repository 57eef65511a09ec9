"""Rows of metric series: what runs log, point by point.

**Writing.** All points of a transaction travel as one JSON text, so that SQLite works through them
without the interpreter; doubles survive that exactly. A point that is there is replaced. How many
points a series has is kept with it: those behind its last one are new without a question, and only
points that come late are looked for.

**Charts.** What lies between the first and the last point is cut into intervals of equal width, and
of each the least and the greatest value stay, with the first point that is not finite; so every
peak shows. Each interval is searched by the primary key, so a chart reads its points twice and
sorts nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from itertools import pairwise
from typing import Any, Final, Literal, TypeAlias

import msgspec
from sqlalchemy import (
    BigInteger,
    Float,
    Select,
    Text,
    bindparam,
    delete,
    func,
    insert,
    select,
    tuple_,
    union_all,
    update,
)
from sqlalchemy import literal_column as literal
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.util import ClauseAdapter

from registry.catalog.schema import run_points, run_series
from registry.domain.lists import LAST_CHARACTER
from registry.domain.numbers import Number, number_of
from store.index.transactions import Row, Statement, Tx

Axis: TypeAlias = Literal["step", "time"]

NewPoint: TypeAlias = tuple[int, int, float | None, str | None]
"""Step, time, value, and the word for one that is not finite."""


class Point(msgspec.Struct, frozen=True):
    """A value of a metric, at a step and a time."""

    step: int
    time: int
    value: Number


class Series(msgspec.Struct, frozen=True):
    """All points of one key of a run; `last` is None where it has none yet."""

    id: int
    key: str
    points: int
    last: Point | None


class Span(msgspec.Struct, frozen=True):
    """Steps, both ends included; None where there is no end."""

    first: int | None = None
    last: int | None = None


EVERYTHING: Final = Span()

_POINT: Final = (run_points.c.step, run_points.c.time, run_points.c.value, run_points.c.special)


def _point(row: Row) -> Point:
    return Point(int(row[0]), int(row[1]), number_of(row[2], row[3]))


# Writing.

_SERIES: Final = (run_series.c.id, run_series.c.key, run_series.c.points)
_other = run_points.alias("other")
_LAST = (
    select(_other.c.step, _other.c.time)
    .where(_other.c.series == run_series.c.id)
    .order_by(_other.c.step.desc(), _other.c.time.desc())
    .limit(literal("1"))
    .scalar_subquery()
)
_WITH_LAST: Final = select(*_SERIES, *_POINT).select_from(
    run_series.outerjoin(
        run_points,
        (run_points.c.series == run_series.c.id)
        & (tuple_(run_points.c.step, run_points.c.time) == _LAST),
    )
)


def _listed(name: str) -> Select[Any]:
    values = func.json_each(bindparam(name, type_=Text)).table_valued("value", name=f"{name}_")
    return select(values.c.value)


_OF_KEYS = Statement(
    lambda: _WITH_LAST.where(
        run_series.c.run == bindparam("run"), run_series.c.key.in_(_listed("keys"))
    ).order_by(run_series.c.key)
)
_COUNT = Statement(
    lambda: select(func.count()).select_from(run_series).where(run_series.c.run == bindparam("run"))
)
_INSERT_SERIES = Statement(
    lambda: (
        insert(run_series)
        .values(run=bindparam("run"), key=bindparam("key"), points=0)
        .returning(run_series.c.id)
    )
)
_given = func.json_each(bindparam("points", type_=Text)).table_valued("value", name="given")


def _part(place: int, type: Any) -> ColumnElement[Any]:
    return _given.c.value.op("->>", return_type=type())(literal(str(place)))


_ADD = Statement(
    lambda: (
        update(run_series)
        .where(run_series.c.id == _part(0, BigInteger))
        .values(points=run_series.c.points + _part(1, BigInteger))
    )
)
"""Given as pairs of a series and how many points came."""

_put = upsert(run_points).from_select(
    ["series", "step", "time", "value", "special"],
    select(
        _part(0, BigInteger),
        _part(1, BigInteger),
        _part(2, BigInteger),
        _part(3, Float),
        _part(4, Text),
    ).where(literal("true")),  # else SQLite takes ON CONFLICT for the ON of a join
)
_PUT = Statement(
    lambda: _put.on_conflict_do_update(
        index_elements=["series", "step", "time"],
        set_={"value": _put.excluded.value, "special": _put.excluded.special},
    )
)
_KNOWN = Statement(
    lambda: (
        select(run_points.c.series, func.count())
        .select_from(
            _given.outerjoin(
                run_points,
                (run_points.c.series == _part(0, BigInteger))
                & (run_points.c.step == _part(1, BigInteger))
                & (run_points.c.time == _part(2, BigInteger)),
            )
        )
        .group_by(run_points.c.series)
    )
)


async def find_series(tx: Tx, run_id: str, keys: Iterable[str]) -> dict[str, Series]:
    """Those of the keys that a run has, in order of key."""
    rows = await tx.all(_OF_KEYS, run=run_id, keys=msgspec.json.encode(list(keys)).decode())
    return {row[1]: _series(row) for row in rows}


def _series(row: Row) -> Series:
    return Series(row[0], row[1], row[2], None if row[3] is None else _point(row[3:]))


async def count_series(tx: Tx, run_id: str) -> int:
    row = await tx.one(_COUNT, run=run_id)
    assert row is not None, "a count"
    return int(row[0])


async def insert_series(tx: Tx, run_id: str, key: str) -> Series:
    row = await tx.one(_INSERT_SERIES, run=run_id, key=key)
    assert row is not None, "what was inserted"
    return Series(int(row[0]), key, 0, None)


async def put_points(tx: Tx, points: Sequence[tuple[Series, Sequence[NewPoint]]]) -> int:
    """Write the points of each series; returns how many were not there before.

    No step and time comes twice in one series.
    """
    late = [(series, members) for series, members in points if not _is_behind(series, members)]
    known: dict[int, int] = {}
    if late:
        rows = await tx.all(_KNOWN, points=_encoded(late))
        known = {row[0]: int(row[1]) for row in rows if row[0] is not None}
    await tx.run(_PUT, points=_encoded(points))
    grown = [(series.id, len(members) - known.get(series.id, 0)) for series, members in points]
    added = sum(new for _, new in grown)
    if added:
        pairs = [pair for pair in grown if pair[1]]
        await tx.run(_ADD, points=msgspec.json.encode(pairs).decode())
    return added


def _is_behind(series: Series, points: Sequence[NewPoint]) -> bool:
    """Whether all points come after the last one there is."""
    return series.last is None or min(points)[:2] > (series.last.step, series.last.time)


def _encoded(points: Sequence[tuple[Series, Sequence[NewPoint]]]) -> str:
    return msgspec.json.encode(
        [(series.id, *point) for series, members in points for point in members]
    ).decode()


# Reading.


@cache
def _series_page(*, has_prefix: bool) -> Statement:
    found = _WITH_LAST.where(
        run_series.c.run == bindparam("run"), run_series.c.key > bindparam("after")
    )
    if has_prefix:
        found = found.where(
            run_series.c.key >= bindparam("prefix"), run_series.c.key < bindparam("behind")
        )
    return Statement(found.order_by(run_series.c.key).limit(bindparam("limit")))


async def series_after(
    tx: Tx, run_id: str, after: str, limit: int, *, prefix: str = ""
) -> list[Series]:
    """A page of a run's series in order of key; start with ``""``."""
    if not prefix:
        rows = await tx.all(_series_page(has_prefix=False), run=run_id, after=after, limit=limit)
    else:
        rows = await tx.all(
            _series_page(has_prefix=True),
            run=run_id,
            after=after,
            prefix=prefix,
            behind=prefix + LAST_CHARACTER,
            limit=limit,
        )
    return [_series(row) for row in rows]


def _within(span: Span) -> dict[str, int]:
    return {
        "low": -(2**63) if span.first is None else span.first,
        "high": 2**63 - 1 if span.last is None else span.last,
    }


_OF_SERIES: Final = run_points.c.series == bindparam("series")
_IN_SPAN: Final = (
    _OF_SERIES,
    run_points.c.step >= bindparam("low"),
    run_points.c.step <= bindparam("high"),
)
_place = tuple_(run_points.c.step, run_points.c.time)
_FROM_START = Statement(
    lambda: (
        select(*_POINT)
        .where(*_IN_SPAN)
        .order_by(run_points.c.step, run_points.c.time)
        .limit(bindparam("limit"))
    )
)
_BEHIND = Statement(
    lambda: (
        select(*_POINT)
        .where(
            _OF_SERIES,
            _place > tuple_(bindparam("step"), bindparam("time")),
            run_points.c.step <= bindparam("high"),
        )
        .order_by(run_points.c.step, run_points.c.time)
        .limit(bindparam("limit"))
    )
)
_TO_END = Statement(
    lambda: (
        select(*_POINT)
        .where(*_IN_SPAN)
        .order_by(run_points.c.step.desc(), run_points.c.time.desc())
        .limit(1)
    )
)


async def points_after(
    tx: Tx, series_id: int, place: tuple[int, int] | None, limit: int, span: Span = EVERYTHING
) -> list[Point]:
    """A page of a series in order of step and time, behind a place."""
    within = _within(span)
    if place is None:
        rows = await tx.all(_FROM_START, series=series_id, limit=limit, **within)
    else:
        step, time = place
        rows = await tx.all(
            _BEHIND, series=series_id, step=step, time=time, high=within["high"], limit=limit
        )
    return [_point(row) for row in rows]


async def last_point(tx: Tx, series_id: int, span: Span = EVERYTHING) -> Point | None:
    row = await tx.one(_TO_END, series=series_id, **_within(span))
    return None if row is None else _point(row)


@cache
def _extremes(axis: Axis) -> Statement:
    buckets = func.json_each(bindparam("buckets", type_=Text)).table_valued("value", name="given")
    cut = select(
        buckets.c.value.op("->>")(literal("0")).label("low"),
        buckets.c.value.op("->>")(literal("1")).label("high"),
    ).cte("cut")

    def one_each(is_wanted: ColumnElement[bool], *order: ColumnElement[Any]) -> Select[Any]:
        inner = run_points.alias("inner_points")
        column = inner.c[axis]
        chosen = (
            select(inner.c.step, inner.c.time)
            .where(inner.c.series == bindparam("series"), column >= cut.c.low, column < cut.c.high)
            .where(*([] if axis == "step" else [inner.c.step == bindparam("step")]))
            .where(_of(is_wanted, inner))
            .order_by(*(_of(key, inner) for key in order))
            .limit(literal("1"))
            .correlate(cut)
            .scalar_subquery()
        )
        # An outer join, because it fixes the order: for each interval a point, by its whole key.
        return select(*_POINT).select_from(
            cut.outerjoin(
                run_points,
                (run_points.c.series == bindparam("series"))
                & (tuple_(run_points.c.step, run_points.c.time) == chosen),
            )
        )

    value, special = run_points.c.value, run_points.c.special
    return Statement(
        union_all(
            one_each(value.is_not(None), value),
            one_each(value.is_not(None), value.desc()),
            one_each(special.is_not(None), run_points.c.step, run_points.c.time),
        )
    )


def _of(expression: ColumnElement[Any], table: Any) -> ColumnElement[Any]:
    """The same expression about an alias of the points."""
    adapted: ColumnElement[Any] = ClauseAdapter(table).traverse(expression)
    return adapted


async def sampled_points(
    tx: Tx, series_id: int, first: Point, last: Point, intervals: int
) -> list[Point]:
    """The points of a chart between two of them, in order: the extremes of each interval.

    Where all points have one step, time is what the chart runs along.
    """
    axis: Axis = "time" if first.step == last.step else "step"
    low, high = getattr(first, axis), getattr(last, axis) + 1
    bounds = [low + (high - low) * place // intervals for place in range(intervals + 1)]
    cut = [pair for pair in pairwise(bounds) if pair[0] < pair[1]]
    given: dict[str, Any] = {} if axis == "step" else {"step": first.step}
    rows = await tx.all(
        _extremes(axis),
        series=series_id,
        buckets=msgspec.json.encode(cut).decode(),
        **given,
    )
    found = {(row[0], row[1]): _point(row) for row in rows if row[0] is not None}
    found[first.step, first.time] = first
    found[last.step, last.time] = last
    return [found[place] for place in sorted(found)]


# Removing, in steps of bounded length.

_SOME_SERIES = Statement(
    lambda: (
        select(run_series.c.id)
        .where(run_series.c.run == bindparam("run"))
        .limit(bindparam("limit"))
    )
)
_DELETE_SERIES = Statement(lambda: delete(run_series).where(run_series.c.id == bindparam("id_")))
_some = (
    select(_other.c.step, _other.c.time)
    .where(_other.c.series == bindparam("series"))
    .order_by(_other.c.step, _other.c.time)
    .limit(bindparam("limit"))
)
_DELETE_POINTS = Statement(
    lambda: delete(run_points).where(run_points.c.series == bindparam("series"), _place.in_(_some))
)


async def delete_some_points(tx: Tx, run_id: str, most: int) -> tuple[int, bool]:
    """Remove at most `most` points of a run, and its series with their last point.

    Returns how many went, and whether any of its series is left.
    """
    left = most
    for (series_id,) in await tx.all(_SOME_SERIES, run=run_id, limit=most):
        left -= await tx.run(_DELETE_POINTS, series=series_id, limit=left)
        if left <= 0:
            return most, True
        await tx.run(_DELETE_SERIES, id_=series_id)
    return most - left, await tx.one(_SOME_SERIES, run=run_id, limit=1) is not None
