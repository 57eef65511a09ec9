"""What there is of a model, or of the models of teams: counted in one statement each.

A statement is a list of parts: each row says of what it speaks, under which key, and how many. So
one snapshot answers everything, and parts that have nothing to say have no row. Versions, runs and
deployments are found by the indexes of their model, so a summary costs what the model has, however
many others there are.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any, Final

import msgspec
from sqlalchemy import CTE, Select, Text, bindparam, func, select, union_all
from sqlalchemy import literal_column as literal
from sqlalchemy.sql.elements import ColumnElement

from registry.catalog.schema import (
    aliases,
    deployments,
    downloads,
    models,
    redirects,
    runs,
    teams,
    tree_files,
    versions,
)
from registry.catalog.visible import few_seen, of_few, sees_model
from registry.domain.names import ModelName, fold
from registry.domain.references import ModelReference
from store.index.transactions import Row, Statement, Tx

MOST_PRODUCTION: Final = 100
"""Versions in production that a summary names, the newest first; it counts all of them."""


class VersionName(msgspec.Struct, frozen=True):
    """What a summary says of one version."""

    id: str
    number: int
    label: str | None


class ModelSummary(msgspec.Struct, kw_only=True):
    """What there is of one model. By status: only those that something has."""

    id: str
    name: str
    versions: dict[str, int]
    runs: dict[str, int]
    deployments: dict[str, int]
    latest: VersionName | None
    production: list[VersionName]
    gpu_hours: float
    cost_usd: float
    download_requests: int
    download_bytes: int
    size_bytes: int
    """Of the files of living versions; what several of them hold counts once."""


class TeamSummary(msgspec.Struct, kw_only=True):
    """What there is of the models of one team; deleted models do not count."""

    id: str
    name: str
    folded: str
    models: int = 0
    active_models: int = 0
    versions: int = 0
    production_versions: int = 0
    runs: int = 0
    gpu_hours: float = 0.0
    cost_usd: float = 0.0
    active_deployments: int = 0


_TEXT: Final[ColumnElement[Any]] = literal("''")
_NONE: Final[ColumnElement[Any]] = literal("0")
_ZERO: Final[ColumnElement[Any]] = literal("0.0")
RUN_LIVES: Final = func.coalesce(runs.c.deleted_at, _NONE) == _NONE
"""Said so that it fits no partial index: SQLite would rather read all living runs, or all that
succeeded, than search those of one model."""

_COST: Final = func.coalesce(func.sum(runs.c.cost_usd), _ZERO)
_HOURS: Final = func.coalesce(func.sum(runs.c.gpu_hours), _ZERO)
_COUNT: Final = func.count()


def _part(
    part: str,
    key: Any = _TEXT,
    label: Any = _TEXT,
    count: Any = _NONE,
    more: Any = _NONE,
    cost: Any = _ZERO,
    hours: Any = _ZERO,
) -> Select[Any]:
    """One part, with the columns that all parts have."""
    return select(
        literal(f"'{part}'").label("part"),
        key.label("key"),
        label.label("label"),
        count.label("count"),
        more.label("more"),
        cost.label("cost"),
        hours.label("hours"),
    )


# One model.


async def summarize_model(tx: Tx, reference: ModelReference, since: int) -> ModelSummary | None:
    """The summary of a living model; of downloads only those from `since` on."""
    if isinstance(reference, ModelName):
        rows = await tx.all(_model(is_named=True), folded=reference.folded, since=since)
    else:
        rows = await tx.all(_model(is_named=False), id=reference.id, since=since)
    return _model_summary(rows)


def _model_summary(rows: Iterable[Row]) -> ModelSummary | None:
    by_part: dict[str, list[Row]] = {}
    for part, *row in rows:
        by_part.setdefault(part, []).append(tuple(row))
    if "model" not in by_part:
        return None
    of_runs = by_part.get("run", [])
    latest = [VersionName(key, count, label) for key, label, count, *_ in by_part.get("latest", ())]
    production = [
        VersionName(key, count, label) for key, label, count, *_ in by_part.get("production", ())
    ]
    return ModelSummary(
        id=by_part["model"][0][0],
        name=by_part["model"][0][1],
        versions=_counts(by_part.get("version", ())),
        runs=_counts(of_runs),
        deployments=_counts(by_part.get("deployment", ())),
        latest=latest[0] if latest else None,
        production=sorted(production, key=lambda version: -version.number),
        cost_usd=sum((row[4] for row in of_runs), 0.0),
        gpu_hours=sum((row[5] for row in of_runs), 0.0),
        download_requests=by_part["download"][0][2],
        download_bytes=by_part["download"][0][3],
        size_bytes=by_part["size"][0][2],
    )


def _counts(rows: Iterable[Row]) -> dict[str, int]:
    return {key: count for key, _, count, *_ in rows}


def _id_of(*, is_named: bool) -> ColumnElement[Any]:
    if not is_named:
        return bindparam("id", type_=Text)
    former = select(redirects.c.model).where(redirects.c.folded == bindparam("folded"))
    named = select(models.c.id).where(
        models.c.folded == bindparam("folded"), models.c.deleted_at.is_(None)
    )
    return func.coalesce(named.scalar_subquery(), former.scalar_subquery())


@cache
def _model(*, is_named: bool) -> Statement:
    chosen = (
        select(models.c.id, models.c.name)
        .where(models.c.id == _id_of(is_named=is_named), models.c.deleted_at.is_(None))
        .cte("chosen")
    )
    id = select(chosen.c.id).scalar_subquery()
    lives = versions.c.deleted_at.is_(None)
    production = (
        _part("production", versions.c.id, versions.c.label, versions.c.number)
        .where(versions.c.model == id, versions.c.status == literal("'production'"), lives)
        .order_by(versions.c.number.desc())
        .limit(MOST_PRODUCTION)
        .subquery("in_production")
    )
    parts = [
        _part("model", chosen.c.id, chosen.c.name).select_from(chosen),
        _part("version", versions.c.status, count=_COUNT)
        .where(versions.c.model == id, lives)
        .group_by(versions.c.status),
        _part("run", runs.c.status, count=_COUNT, cost=_COST, hours=_HOURS)
        .where(runs.c.model == id, RUN_LIVES)
        .group_by(runs.c.status),
        _part("deployment", deployments.c.status, count=_COUNT)
        .where(deployments.c.model == id)
        .group_by(deployments.c.status),
        _part("latest", versions.c.id, versions.c.label, versions.c.number)
        .select_from(aliases.join(versions, versions.c.revision == aliases.c.revision))
        .where(
            aliases.c.model == id,
            aliases.c.folded == literal("'latest'"),
            versions.c.model == aliases.c.model,
            lives,
        ),
        select(production),
        _part(
            "download",
            count=func.coalesce(func.sum(downloads.c.requests), _NONE),
            more=func.coalesce(func.sum(downloads.c.bytes), _NONE),
        ).where(
            downloads.c.version.in_(select(versions.c.id).where(versions.c.model == id)),
            downloads.c.minute >= bindparam("since"),
        ),
        _size(id),
    ]
    return Statement(union_all(*parts))


def _size(model: Any) -> Select[Any]:
    """Bytes of living versions: trees that several share are looked at once, files counted once."""
    trees = (
        select(versions.c.tree)
        .where(versions.c.model == model, versions.c.deleted_at.is_(None))
        .distinct()
    )
    held = (
        select(tree_files.c.digest, tree_files.c.size)
        .where(tree_files.c.tree.in_(trees))
        .distinct()
        .subquery("held")
    )
    return _part(
        "size", count=func.coalesce(func.sum(held.c.size), _NONE), more=_COUNT
    ).select_from(held)


# Teams.


async def summarize_team(
    tx: Tx, *, folded: str | None = None, id: str | None = None, seen: str | None
) -> TeamSummary | None:
    """A living team by its folded name or its id; `seen` says which models count."""
    by, value = ("folded", folded) if folded is not None else ("id", id)
    sight = await _sight(tx, seen)
    found = _team_summaries(await tx.all(_teams(by, "".join(sight)), **{by: value}, **sight))
    return found[0] if found else None


async def summarize_teams(tx: Tx, after: str, limit: int, *, seen: str | None) -> list[TeamSummary]:
    """A page of living teams in order of folded name; start with ``""``."""
    sight = await _sight(tx, seen)
    statement = _teams("page", "".join(sight))
    return _team_summaries(await tx.all(statement, after=after, limit=limit, **sight))


async def _sight(tx: Tx, seen: str | None) -> dict[str, str]:
    """What is bound to restrict models: the few that are seen, or what opens many."""
    if seen is None:
        return {}
    few = await few_seen(tx, seen)
    return {"seen": seen} if few is None else {"few": few}


def _team_summaries(rows: Iterable[Row]) -> list[TeamSummary]:
    found: dict[str, TeamSummary] = {}
    for part, key, label, count, more, cost, hours in rows:
        match part:
            case "team":
                found[key] = TeamSummary(id=key, name=label, folded=fold(label))
            case "models":
                found[key].models, found[key].active_models = count, more
            case "versions":
                found[key].versions = count
            case "production":
                found[key].production_versions = count
            case "runs":
                one = found[key]
                one.runs, one.cost_usd, one.gpu_hours = count, cost, hours
            case _:
                found[key].active_deployments = count
    return sorted(found.values(), key=lambda one: one.folded)


@cache
def _teams(by: str, restriction: str) -> Statement:
    chosen = _chosen_teams(by)
    restricted = {"": [], "few": [of_few(models.c.id)], "seen": [sees_model()]}[restriction]
    team: ColumnElement[Any] = models.c.team
    if restriction == "few":
        team = func.coalesce(team, literal("NULL"))  # so that the few lead
    mine = (
        select(models.c.id, models.c.team, models.c.active, models.c.version_count)
        .where(
            team.in_(select(chosen.c.id)),
            models.c.deleted_at.is_(None),
            *restricted,
        )
        .cte("mine")
        .prefix_with("MATERIALIZED", dialect="sqlite")
    )
    of = mine.c.team
    in_production = (
        select(func.count())
        .where(
            versions.c.model == mine.c.id,
            versions.c.status == literal("'production'"),
            versions.c.deleted_at.is_(None),
        )
        .scalar_subquery()
    )
    deployed = (
        select(func.count())
        .where(deployments.c.model == mine.c.id, deployments.c.terminated_at.is_(None))
        .scalar_subquery()
    )
    parts = [
        _part("team", chosen.c.id, chosen.c.name),
        _part("models", of, count=_COUNT, more=func.sum(mine.c.active)).group_by(of),
        _part("versions", of, count=func.sum(mine.c.version_count)).group_by(of),
        _part("production", of, count=func.sum(in_production)).group_by(of),
        _part("runs", of, count=_COUNT, cost=_COST, hours=_HOURS)
        .select_from(mine.join(runs, runs.c.model == mine.c.id))
        .where(RUN_LIVES)
        .group_by(of),
        _part("deployments", of, count=func.sum(deployed)).group_by(of),
    ]
    return Statement(union_all(*parts))


def _chosen_teams(by: str) -> CTE:
    chosen = select(teams.c.id, teams.c.name, teams.c.folded).where(teams.c.deleted_at.is_(None))
    if by == "page":
        chosen = (
            chosen.where(teams.c.folded > bindparam("after"))
            .order_by(teams.c.folded)
            .limit(bindparam("limit"))
        )
    else:
        chosen = chosen.where(teams.c[by] == bindparam(by))
    return chosen.cte("chosen")
