"""Rows of experiments. A deleted one keeps its row and frees its name."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import msgspec
from sqlalchemy import Select, bindparam, delete, func, insert, select, tuple_, update
from sqlalchemy import literal_column as literal
from sqlalchemy.sql.elements import ColumnElement

from registry.catalog.namespaces import count_held, held
from registry.catalog.schema import experiments, runs
from registry.catalog.visible import (
    counted,
    few_lead,
    few_namespaces,
    of_few,
    page_of_few,
    sees_namespace,
)
from registry.domain.runs import Experiment
from store.index.transactions import Row, Statement, Tx

_FIELDS: Final = {
    "id": experiments.c.id,
    "namespace_id": experiments.c.namespace,
    "name": experiments.c.name,
    "folded": experiments.c.folded,
    "description": experiments.c.description,
    "tags": experiments.c.tags,
    "created_at": experiments.c.created_at,
    "created_by": experiments.c.created_by,
    "updated_at": experiments.c.updated_at,
    "changes": experiments.c.changes,
    "deleted_at": experiments.c.deleted_at,
    "deleted_by": experiments.c.deleted_by,
}
_WRITTEN: Final[dict[str, Any]] = {column.name: bindparam(name) for name, column in _FIELDS.items()}
_SELECT: Final = select(*_FIELDS.values())
_BY_ID = Statement(lambda: _SELECT.where(experiments.c.id == bindparam("id")))
_BY_NAME = Statement(
    lambda: _SELECT.where(
        experiments.c.namespace == bindparam("namespace"),
        experiments.c.folded == bindparam("folded"),
        experiments.c.deleted_at.is_(None),
    )
)
_INSERT = Statement(lambda: insert(experiments).values(_WRITTEN))
_UPDATE = Statement(
    lambda: (
        update(experiments)
        .where(experiments.c.id == bindparam("id_"))
        .values({name: value for name, value in _WRITTEN.items() if name != "id"})
    )
)
_DELETE = Statement(lambda: delete(experiments).where(experiments.c.id == bindparam("id_")))
_HELD = held(experiments)
_HAS_RUNS = Statement(
    lambda: select(runs.c.id).where(runs.c.experiment == bindparam("experiment")).limit(1)
)


class ExperimentFilters(msgspec.Struct, frozen=True, kw_only=True):
    """Which experiments are listed; None where it does not matter."""

    namespace_id: str | None = None
    folded: str | None = None
    tag: str | None = None
    tag_value: str | None = None
    is_deleted: bool = False
    seen: str | None = None
    """Which namespaces are open (`registry.catalog.visible`); None for all."""


def _experiment(row: Row) -> Experiment:
    values = dict(zip(_FIELDS, row, strict=True))
    values["tags"] = msgspec.json.decode(values["tags"])
    return Experiment(**values)


def _values(experiment: Experiment) -> dict[str, Any]:
    values = {name: getattr(experiment, name) for name in _FIELDS}
    values["tags"] = msgspec.json.encode(experiment.tags, order="deterministic").decode()
    return values


async def find_experiment(tx: Tx, id: str) -> Experiment | None:
    """The experiment, deleted or not."""
    row = await tx.one(_BY_ID, id=id)
    return None if row is None else _experiment(row)


async def find_experiment_by_name(tx: Tx, namespace_id: str, folded: str) -> Experiment | None:
    """The living experiment of that folded name."""
    row = await tx.one(_BY_NAME, namespace=namespace_id, folded=folded)
    return None if row is None else _experiment(row)


async def insert_experiment(tx: Tx, experiment: Experiment) -> None:
    await tx.run(_INSERT, **_values(experiment))


async def update_experiment(tx: Tx, experiment: Experiment) -> None:
    values = _values(experiment)
    await tx.run(_UPDATE, id_=values.pop("id"), **values)


async def delete_experiment_row(tx: Tx, id: str) -> None:
    """The caller made sure that no run names it."""
    await tx.run(_DELETE, id_=id)


async def experiment_has_runs(tx: Tx, id: str) -> bool:
    """Whether any run names it, deleted ones included."""
    return await tx.one(_HAS_RUNS, experiment=id) is not None


async def experiments_held(tx: Tx, namespace_id: str) -> tuple[int, int]:
    """How many experiments a namespace holds: living ones, deleted ones, each up to a limit."""
    return await count_held(tx, _HELD, namespace_id)


async def experiments_before(
    tx: Tx, filters: ExperimentFilters, place: tuple[int, str] | None, limit: int
) -> list[Experiment]:
    """A page, the latest made (or deleted) first, behind a place: its time and its id."""
    statement, values = await _question(tx, filters, has_place=place is not None, is_count=False)
    if place is not None:
        values["after"], values["id"] = place
    return [_experiment(row) for row in await tx.all(statement, limit=limit, **values)]


async def count_experiments(tx: Tx, filters: ExperimentFilters, most: int) -> int:
    """How many there are, up to `most`."""
    statement, values = await _question(tx, filters, has_place=False, is_count=True)
    row = await tx.one(statement, limit=most, **values)
    assert row is not None, "a count"
    return int(row[0])


async def _question(
    tx: Tx, filters: ExperimentFilters, *, has_place: bool, is_count: bool
) -> tuple[Statement, dict[str, Any]]:
    given = {
        name: value
        for name in ("namespace_id", "folded", "tag", "tag_value", "seen")
        if (value := getattr(filters, name)) is not None
    }
    if filters.seen is not None and filters.namespace_id is None:
        few = await few_namespaces(tx, filters.seen)
        others = _DELETED if filters.is_deleted else None
        if few is not None and await few_lead(tx, few, experiments.c.namespace, others):
            del given["seen"]
            given["few"] = few
    statement = _page(
        tuple(given), is_deleted=filters.is_deleted, has_place=has_place, is_count=is_count
    )
    return statement, given


_DELETED = counted(experiments.c.deleted_at.is_not(None))


@cache
def _page(
    given: tuple[str, ...], *, is_deleted: bool, has_place: bool, is_count: bool
) -> Statement:
    at = experiments.c.deleted_at if is_deleted else experiments.c.created_at
    state = (
        experiments.c.deleted_at.is_not(None) if is_deleted else experiments.c.deleted_at.is_(None)
    )
    tests = [state, *(_test(name) for name in given if name != "few")]
    if is_count:
        if "few" in given:
            tests.append(of_few(experiments.c.namespace))
        some: Select[Any] = select(literal("1")).select_from(experiments).where(*tests)
        counted = some.limit(bindparam("limit")).subquery("counted")
        return Statement(select(func.count()).select_from(counted))
    order = (at, experiments.c.id)
    if has_place:
        tests.append(tuple_(*order) < tuple_(bindparam("after"), bindparam("id")))
    if "few" in given:
        tests = [page_of_few(experiments.c.namespace, order, tests)]
    question = _SELECT.where(*tests).order_by(*(column.desc() for column in order))
    return Statement(question.limit(bindparam("limit")))


def _test(name: str) -> ColumnElement[bool]:
    tags = func.json_each(experiments.c.tags).table_valued("key", "value", name="tag")
    match name:
        case "namespace_id":
            return experiments.c.namespace == bindparam(name)
        case "folded":
            return experiments.c.folded == bindparam(name)
        case "tag":
            return select(literal("1")).where(tags.c.key == bindparam("tag")).exists()
        case "tag_value":
            return (
                select(literal("1"))
                .where(tags.c.key == bindparam("tag"), tags.c.value == bindparam("tag_value"))
                .exists()
            )
        case _:
            return sees_namespace(experiments.c.namespace)
