"""What runs cost, added up in one statement each: overall, by model, by team.

Sums by model and overall read an index that has all they add and no row of a table. Groups come the
most expensive first; what all of them took together is in every row, so that a list that was cut
still says what it is a part of.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final, Literal, TypeAlias

import msgspec
from sqlalchemy import Select, bindparam, func, select
from sqlalchemy import literal_column as literal
from sqlalchemy.sql.elements import ColumnElement

from registry.catalog.schema import models, runs, teams
from registry.catalog.visible import few_owners, of_few, sees_owner
from store.index.transactions import Row, Statement, Tx

Group: TypeAlias = Literal["model", "team"]


class Spent(msgspec.Struct, frozen=True):
    """What so many runs took; of how many nobody said it."""

    runs: int = 0
    cost_usd: float = 0.0
    gpu_hours: float = 0.0
    without_cost: int = 0
    without_gpu_hours: int = 0


class GroupSpent(msgspec.Struct, frozen=True):
    """What the runs of one model or team took; without an id: those that belong to none."""

    id: str | None
    name: str | None
    spent: Spent


class Spending(msgspec.Struct, frozen=True):
    """The most expensive groups, how many there are, and what all of them took."""

    groups: list[GroupSpent]
    count: int
    total: Spent


class CostFilters(msgspec.Struct, frozen=True, kw_only=True):
    """Which runs count: by when they started, `until` not included."""

    since: int | None = None
    until: int | None = None
    seen: str | None = None

    async def bound(self, tx: Tx) -> dict[str, Any]:
        """The values of what is asked; of few owners of runs, their ids."""
        found = {
            name: value
            for name in ("since", "until", "seen")
            if (value := getattr(self, name)) is not None
        }
        if self.seen is not None and (few := await few_owners(tx, self.seen)) is not None:
            del found["seen"]
            found["few"] = few
        return found


async def spent_in_all(tx: Tx, filters: CostFilters) -> Spent:
    """What all runs took."""
    given = await filters.bound(tx)
    row = await tx.one(_in_all(tuple(given)), **given)
    assert row is not None, "sums without groups are one row"
    return _spent(row)


async def spent_by(tx: Tx, group: Group, filters: CostFilters, limit: int) -> Spending:
    """What the runs of each model or team took, at most `limit` of them."""
    given = await filters.bound(tx)
    rows = await tx.all(_by(group, tuple(given)), limit=limit, **given)
    found = [GroupSpent(row[0], row[1], _spent(row[2:7])) for row in rows]
    if not rows:
        return Spending([], 0, Spent())
    return Spending(found, int(rows[0][7]), _spent(rows[0][8:]))


def _spent(row: Row) -> Spent:
    count, cost, hours, costed, timed = row
    return Spent(int(count), float(cost), float(hours), int(count - costed), int(count - timed))


def _tests(given: tuple[str, ...]) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = [runs.c.deleted_at.is_(None)]
    if "since" in given:
        found.append(runs.c.started_at >= bindparam("since"))
    if "until" in given:
        found.append(runs.c.started_at < bindparam("until"))
    if "seen" in given:
        found.append(sees_owner(runs.c.owner))
    if "few" in given:
        found.append(of_few(runs.c.owner))
    return found


_ZERO: Final[ColumnElement[Any]] = literal("0.0")
_EMPTY: Final[ColumnElement[Any]] = literal("''")
_SUMS: Final = (
    func.count().label("runs"),
    func.coalesce(func.sum(runs.c.cost_usd), _ZERO).label("cost"),
    func.coalesce(func.sum(runs.c.gpu_hours), _ZERO).label("hours"),
    func.count(runs.c.cost_usd).label("costed"),
    func.count(runs.c.gpu_hours).label("timed"),
)


@cache
def _in_all(given: tuple[str, ...]) -> Statement:
    return Statement(select(*_SUMS).select_from(runs).where(*_tests(given)))


@cache
def _by(group: Group, given: tuple[str, ...]) -> Statement:
    each = (
        select(runs.c.model.label("model"), *_SUMS)
        .select_from(runs)
        .where(*_tests(given))
        .group_by(runs.c.model)
        .subquery("each")
    )
    if group == "model":
        named: Select[Any] = select(
            each.c.model.label("id"),
            models.c.name.label("name"),
            *(each.c[column.name] for column in _SUMS),
        ).select_from(each.outerjoin(models, models.c.id == each.c.model))
    else:
        named = (
            select(
                models.c.team.label("id"),
                teams.c.name.label("name"),
                *(func.sum(each.c[column.name]).label(column.name) for column in _SUMS),
            )
            .select_from(
                each.outerjoin(models, models.c.id == each.c.model).outerjoin(
                    teams, teams.c.id == models.c.team
                )
            )
            .group_by(models.c.team, teams.c.name)
        )
    all = named.subquery("named")
    sums = [all.c[column.name] for column in _SUMS]
    return Statement(
        select(
            all.c.id,
            all.c.name,
            *sums,
            func.count().over(),
            *(func.sum(column).over() for column in sums),
        )
        .order_by(all.c.cost.desc(), all.c.hours.desc(), func.coalesce(all.c.id, _EMPTY))
        .limit(bindparam("limit"))
    )
