"""Rows of samples: how the parts of the registry were at a moment, and how much there was on a day.

Both are kept in one table. A sample of growth belongs to its day: its time is the day's beginning,
and it is replaced until the day is over. Samples of health are never changed, only thinned.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, Final, Literal, TypeAlias

import msgspec
from sqlalchemy import bindparam, delete, func, select, tuple_
from sqlalchemy import literal_column as literal
from sqlalchemy.dialects.sqlite import insert

from registry.catalog.schema import health_samples
from store.index.schema import blobs
from store.index.transactions import Row, Statement, Tx

Status: TypeAlias = Literal["ok", "degraded", "failed"]

GROWTH: Final = "growth"
"""The component under which the samples of growth stand; it is no part that can be ill."""


class Sample(msgspec.Struct, frozen=True):
    """How one part was at a moment."""

    time: int
    component: str
    status: Status
    detail: str
    numbers: Mapping[str, float]


_table = health_samples.c
_ALL: Final = (_table.time, _table.component, _table.status, _table.detail, _table.numbers)
_PUT = Statement(
    lambda: (
        insert(health_samples)
        .values({column.name: bindparam(column.name) for column in _ALL})
        .on_conflict_do_update(
            index_elements=["time", "component"],
            set_={name: bindparam(name) for name in ("status", "detail", "numbers")},
        )
    )
)
_is_health: Final = _table.component != literal(f"'{GROWTH}'")
_SPANS = Statement(
    lambda: (
        select(_table.time, _table.component, _table.status)
        .where(
            tuple_(_table.time, _table.component)
            > tuple_(bindparam("time"), bindparam("component")),
            _table.time < bindparam("before"),
        )
        .order_by(_table.time, _table.component)
        .limit(bindparam("limit"))
    )
)
_DELETE = Statement(
    lambda: delete(health_samples).where(
        _table.time == bindparam("time_"), _table.component == bindparam("component_")
    )
)
_OLD = (
    select(_table.time, _table.component)
    .where(_table.time < bindparam("before"), _is_health)
    .order_by(_table.time, _table.component)
    .limit(bindparam("limit"))
)
_EXPIRE = Statement(
    lambda: delete(health_samples).where(tuple_(_table.time, _table.component).in_(_OLD))
)

_LATEST = Statement(
    lambda: (
        select(*_ALL)
        .where(
            _table.time == select(func.max(_table.time)).where(_is_health).scalar_subquery(),
            _is_health,
        )
        .order_by(_table.component)
    )
)
_LAST_OTHER = Statement(
    lambda: select(func.max(_table.time)).where(
        _table.component == bindparam("component"),
        _table.time >= bindparam("since"),
        _table.status != bindparam("status"),
    )
)
_FIRST_AFTER = Statement(
    lambda: select(func.min(_table.time)).where(
        _table.component == bindparam("component"), _table.time > bindparam("after")
    )
)

_UNSETTLED = Statement(
    lambda: (
        select(blobs.c.state, func.count())
        .where(blobs.c.state != literal("'present'"))
        .group_by(blobs.c.state)
    )
)


async def put_samples(tx: Tx, samples: Iterable[Sample]) -> None:
    """Keep samples, each in the place of one of the same time and component."""
    await tx.run_many(
        _PUT,
        [
            {
                "time": sample.time,
                "component": sample.component,
                "status": sample.status,
                "detail": sample.detail,
                "numbers": msgspec.json.encode(sample.numbers).decode(),
            }
            for sample in samples
        ],
    )


async def samples_before(
    tx: Tx, *, before: int, since: int, component: str | None, limit: int
) -> list[Sample]:
    """Samples of health from `since` on and before a moment, the newest first."""
    bound: dict[str, Any] = {"before": before, "since": since, "limit": limit}
    if component is not None:
        bound["component"] = component
    return [_sample(row) for row in await tx.all(_newest(component is not None), **bound)]


async def growth_before(tx: Tx, *, before: int, since: int, limit: int) -> list[Sample]:
    """Samples of growth, the newest day first."""
    rows = await tx.all(_newest(True), before=before, since=since, component=GROWTH, limit=limit)
    return [_sample(row) for row in rows]


async def latest_samples(tx: Tx) -> list[Sample]:
    """The newest sample of each component, all of one time."""
    return [_sample(row) for row in await tx.all(_LATEST)]


async def unbroken_since(tx: Tx, sample: Sample, *, earliest: int) -> int:
    """When a component got the status that `sample` has, as far back as `earliest`."""
    other = await tx.one(
        _LAST_OTHER, component=sample.component, since=earliest, status=sample.status
    )
    after = earliest - 1 if other is None or other[0] is None else int(other[0])
    first = await tx.one(_FIRST_AFTER, component=sample.component, after=after)
    return sample.time if first is None or first[0] is None else int(first[0])


def _sample(row: Row) -> Sample:
    time, component, status, detail, numbers = row
    told = msgspec.json.decode(numbers, type=dict[str, int | float])
    return Sample(time, component, status, detail, told)


@cache
def _newest(of_one: bool) -> Statement:
    question = select(*_ALL).where(
        _table.time < bindparam("before"), _table.time >= bindparam("since")
    )
    if of_one:
        question = question.where(_table.component == bindparam("component"))
    else:
        question = question.where(_is_health)
    return Statement(
        question.order_by(_table.time.desc(), _table.component.desc()).limit(bindparam("limit"))
    )


async def spans_after(
    tx: Tx, place: tuple[int, str], before: int, limit: int
) -> list[tuple[int, str, str]]:
    """Time, component and status of samples behind a place, the oldest first; growth too."""
    rows = await tx.all(_SPANS, time=place[0], component=place[1], before=before, limit=limit)
    return [(row[0], row[1], row[2]) for row in rows]


async def delete_samples(tx: Tx, places: Sequence[tuple[int, str]]) -> None:
    await tx.run_many(
        _DELETE, [{"time_": time, "component_": component} for time, component in places]
    )


async def delete_samples_before(tx: Tx, before: int, limit: int) -> int:
    """Delete the oldest samples of health from before a moment; says how many."""
    return await tx.run(_EXPIRE, before=before, limit=limit)


async def unsettled_blobs(tx: Tx) -> dict[str, int]:
    """How many blobs are in each state but present: few, and an index of their own has them."""
    return {row[0]: row[1] for row in await tx.all(_UNSETTLED)}
