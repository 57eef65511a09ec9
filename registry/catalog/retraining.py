"""Active models that were trained long ago, the oldest first.

**When a model was trained last** is the later of two moments: the start of its newest successful
run, because that is how new its data can be, and the publication of its newest living version. A
model with neither was never trained and is not listed, nor are data sets, generic things, and
models that are not active.

That moment is kept with the model (`registry.catalog.schema.training`) and has an index, so a page
costs what it holds: of 95,000 active models it took 0.7 s while it was looked up for each.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec
from sqlalchemy import bindparam, func, select, tuple_
from sqlalchemy import literal_column as literal
from sqlalchemy.sql.elements import ColumnElement

from registry.catalog.schema import models, runs, teams, versions
from registry.catalog.summaries import RUN_LIVES
from registry.catalog.visible import few_seen, of_few, sees_model
from store.index.transactions import Statement, Tx


class Aged(msgspec.Struct, frozen=True):
    """A model, when it was trained last, and by which run or with which version."""

    model: str
    name: str
    team: str | None
    team_name: str | None
    trained_at: int
    run: str | None
    version: str | None
    number: int | None
    label: str | None


async def aged_models(
    tx: Tx, before: int, place: tuple[int, str] | None, limit: int, *, seen: str | None
) -> list[Aged]:
    """A page of models trained last before a moment, behind a place: that moment and the id."""
    bound: dict[str, Any] = {"before": before, "limit": limit}
    if place is not None:
        bound["after"], bound["id"] = place
    restriction = ""
    if seen is not None:
        few = await few_seen(tx, seen)
        restriction = "seen" if few is None else "few"
        bound[restriction] = seen if few is None else few
    rows = await tx.all(_page(place is not None, restriction), **bound)
    return [Aged(*row) for row in rows]


@cache
def _page(has_place: bool, restriction: str) -> Statement:
    at: ColumnElement[Any] = models.c.trained_at
    active: ColumnElement[Any] = models.c.active
    kind: ColumnElement[Any] = models.c.kind
    restricted: list[ColumnElement[bool]] = [sees_model()] if restriction == "seen" else []
    if restriction == "few":
        # In words for which no index can be taken: the few lead.
        at, active, kind = (func.coalesce(one, literal("NULL")) for one in (at, active, kind))
        restricted = [of_few(models.c.id)]
    aged = select(models.c.id, models.c.trained_at.label("at")).where(
        active == literal("1"),
        kind == literal("'model'"),
        models.c.deleted_at.is_(None),
        at < bindparam("before"),
        *restricted,
    )
    if has_place:
        aged = aged.where(tuple_(at, models.c.id) > tuple_(bindparam("after"), bindparam("id")))
    page = aged.order_by(at, models.c.id).limit(bindparam("limit")).subquery("page")
    run = (
        select(runs.c.id)
        .where(
            runs.c.model == page.c.id,
            runs.c.started_at == page.c.at,
            runs.c.status == literal("'succeeded'"),
            RUN_LIVES,
        )
        .order_by(runs.c.id.desc())
        .limit(literal("1"))
        .scalar_subquery()
    )
    trained = select(page.c.id, page.c.at, run.label("run")).subquery("trained")
    newest = versions.alias("newest")
    version = (
        select(newest.c.id)
        .where(
            newest.c.model == trained.c.id,
            newest.c.created_at == trained.c.at,
            newest.c.deleted_at.is_(None),
            trained.c.run.is_(None),
        )
        .order_by(newest.c.number.desc())
        .limit(literal("1"))
        .scalar_subquery()
    )
    return Statement(
        select(
            trained.c.id,
            models.c.name,
            models.c.team,
            teams.c.name,
            trained.c.at,
            trained.c.run,
            versions.c.id,
            versions.c.number,
            versions.c.label,
        )
        .select_from(
            trained.join(models, models.c.id == trained.c.id)
            .outerjoin(teams, teams.c.id == models.c.team)
            .outerjoin(versions, versions.c.id == version)
        )
        .order_by(trained.c.at, trained.c.id)
    )
