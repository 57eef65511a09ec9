"""Rows of scores: written together, the latest of each metric, histories.

**The latest** are found by going straight to the end of each metric's part of the index, so that
what it costs depends on how many metrics there are, not on how often they were computed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, Final

import msgspec
from sqlalchemy import Text, bindparam, delete, func, insert, select
from sqlalchemy import literal_column as constant

from registry.catalog.schema import scores
from store.index.transactions import Row, Statement, Tx


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """One metric of one version at one time; `evidence` is a JSON object."""

    id: int = 0
    """What a database gives; 0 while it has not."""
    rating: str
    version_id: str
    metric: str
    value: float | None
    reason: str
    evidence: str
    seconds: float
    created_at: int
    created_by: str


_s = scores.c
_COLUMNS: Final = (
    _s.id,
    _s.rating,
    _s.version,
    _s.metric,
    _s.value,
    _s.reason,
    _s.evidence,
    _s.seconds,
    _s.created_at,
    _s.created_by,
)
_INSERT = Statement(
    lambda: insert(scores).values({c.name: bindparam(c.name) for c in _COLUMNS if c.name != "id"})
)
_wanted = func.json_each(bindparam("metrics", type_=Text)).table_valued("value", name="wanted")
_asked = func.json_each(bindparam("versions", type_=Text)).table_valued("value", name="asked")
_others = scores.alias("others")
_newest = (
    select(func.max(_others.c.id))
    .where(_others.c.version == _asked.c.value, _others.c.metric == _wanted.c.value)
    .correlate(_asked, _wanted)
    .scalar_subquery()
)
_ends = (
    select(_newest.label("id")).select_from(_asked.join(_wanted, constant("true"))).subquery("ends")
)
_LATEST = Statement(lambda: select(*_COLUMNS).select_from(_ends.join(scores, _s.id == _ends.c.id)))
_VALUES = Statement(
    lambda: select(_s.version, _s.metric, _s.value).select_from(
        _ends.join(scores, _s.id == _ends.c.id)
    )
)
_some = scores.alias("some")
_DELETE_SOME = Statement(
    lambda: delete(scores).where(
        _s.id.in_(
            select(_some.c.id)
            .where(_some.c.version == bindparam("version_"))
            .limit(bindparam("limit"))
        )
    )
)


def _score(row: Row) -> Score:
    return Score(**dict(zip(Score.__struct_fields__, row, strict=True)))


def _json(texts: Iterable[str]) -> str:
    return msgspec.json.encode(list(texts)).decode()


async def insert_scores(tx: Tx, found: Sequence[Score]) -> None:
    rows = []
    for score in found:
        row = msgspec.structs.asdict(score)
        row["version"] = row.pop("version_id")
        del row["id"]
        rows.append(row)
    await tx.run_many(_INSERT, rows)


async def latest_scores(tx: Tx, version_id: str, metrics: Iterable[str]) -> list[Score]:
    """The latest of each metric that was ever computed: one statement. In no order."""
    rows = await tx.all(_LATEST, versions=_json([version_id]), metrics=_json(metrics))
    return [_score(row) for row in rows]


async def latest_values(
    tx: Tx, version_ids: Iterable[str], metrics: Iterable[str]
) -> dict[str, dict[str, float | None]]:
    """The latest value of each metric of each version, without the evidence: one statement."""
    found: dict[str, dict[str, float | None]] = {}
    rows = await tx.all(_VALUES, versions=_json(version_ids), metrics=_json(metrics))
    for version, metric, value in rows:
        found.setdefault(version, {})[metric] = value
    return found


@cache
def _page(*, has_metric: bool, has_place: bool) -> Statement:
    found = select(*_COLUMNS).where(_s.version == bindparam("version"))
    if has_metric:
        found = found.where(_s.metric == bindparam("metric"))
    if has_place:
        found = found.where(_s.id < bindparam("after"))
    return Statement(found.order_by(_s.id.desc()).limit(bindparam("limit")))


async def scores_before(
    tx: Tx, version_id: str, place: int | None, limit: int, *, metric: str | None
) -> list[Score]:
    """A page of a version's history, the latest first, behind a place."""
    given: dict[str, Any] = {}
    if metric is not None:
        given["metric"] = metric
    if place is not None:
        given["after"] = place
    statement = _page(has_metric=metric is not None, has_place=place is not None)
    rows = await tx.all(statement, version=version_id, limit=limit, **given)
    return [_score(row) for row in rows]


async def delete_some_scores(tx: Tx, version_id: str, limit: int) -> int:
    """Remove some of a version's scores; how many."""
    return await tx.run(_DELETE_SOME, version_=version_id, limit=limit)
