"""Rows of training runs, lists of them, and what they cost.

Every list is newest first, along one index that is in that order already: that of the filter that
leaves the fewest runs. What else is asked is tested row by row, in words for which no index can be
taken (`_tested`). For a reader to whom few owners of runs are open it is merged from the lists of
those (`registry.catalog.visible`). The status has a statement of its own, and only
`registry.services.run_moves` may run it.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import msgspec
from sqlalchemy import Select, bindparam, delete, func, insert, select, tuple_, update
from sqlalchemy import literal_column as literal
from sqlalchemy.sql.elements import ColumnElement

from registry.catalog.schema import experiments, models, run_details, runs, versions
from registry.catalog.visible import (
    counted,
    few_lead,
    few_owners,
    of_few,
    page_of_few,
    sees_owner,
)
from registry.domain.runs import Run, RunDetails
from store.index.transactions import Row, Statement, Tx

_FIELDS: Final = {
    "id": runs.c.id,
    "name": runs.c.name,
    "owner": runs.c.owner,
    "experiment_id": runs.c.experiment,
    "model_id": runs.c.model,
    "version_id": runs.c.version,
    "status": runs.c.status,
    "dataset": runs.c.dataset,
    "dataset_version": runs.c.dataset_version,
    "started_at": runs.c.started_at,
    "ended_at": runs.c.ended_at,
    "gpu_hours": runs.c.gpu_hours,
    "cost_usd": runs.c.cost_usd,
    "created_at": runs.c.created_at,
    "created_by": runs.c.created_by,
    "updated_at": runs.c.updated_at,
    "changes": runs.c.changes,
    "deleted_at": runs.c.deleted_at,
    "deleted_by": runs.c.deleted_by,
}
_WRITTEN: Final[dict[str, Any]] = {column.name: bindparam(name) for name, column in _FIELDS.items()}
_FIXED: Final = frozenset(("id", "status", "created_at", "created_by"))
"""What an update leaves alone: the status has its own statement, the rest never changes."""

_COLUMNS: Final = tuple(_FIELDS.values())
_BY_ID = Statement(lambda: select(*_COLUMNS).where(runs.c.id == bindparam("id")))
_INSERT = Statement(lambda: insert(runs).values(_WRITTEN))
_UPDATE = Statement(
    lambda: (
        update(runs)
        .where(runs.c.id == bindparam("id_"))
        .values({name: value for name, value in _WRITTEN.items() if name not in _FIXED})
    )
)
_SET_STATUS = Statement(
    lambda: (
        update(runs)
        .where(runs.c.id == bindparam("id_"))
        .values(
            status=bindparam("status"),
            ended_at=bindparam("ended_at"),
            updated_at=bindparam("now"),
            changes=runs.c.changes + 1,
        )
    )
)
_DETAILS = Statement(
    lambda: select(
        run_details.c.description,
        run_details.c.hyperparameters,
        run_details.c.environment,
        run_details.c.unmasked,
    ).where(run_details.c.run == bindparam("run"))
)
_INSERT_DETAILS = Statement(
    lambda: insert(run_details).values(
        {name: bindparam(name) for name in ("run", *RunDetails.__struct_fields__)}
    )
)
_UPDATE_DETAILS = Statement(
    lambda: (
        update(run_details)
        .where(run_details.c.run == bindparam("run_"))
        .values({name: bindparam(name) for name in RunDetails.__struct_fields__})
    )
)
_DELETE_DETAILS = Statement(
    lambda: delete(run_details).where(run_details.c.run == bindparam("run_"))
)
_DELETE = Statement(lambda: delete(runs).where(runs.c.id == bindparam("id_")))


def _run(row: Row) -> Run:
    return Run(**dict(zip(_FIELDS, row, strict=True)))


def _values(run: Run) -> dict[str, Any]:
    return {name: getattr(run, name) for name in _FIELDS}


async def find_run(tx: Tx, id: str) -> Run | None:
    """The run, deleted or not."""
    row = await tx.one(_BY_ID, id=id)
    return None if row is None else _run(row)


async def find_run_details(tx: Tx, id: str) -> RunDetails:
    row = await tx.one(_DETAILS, run=id)
    return RunDetails() if row is None else RunDetails(*row)


async def insert_run(tx: Tx, run: Run, details: RunDetails) -> None:
    await tx.run(_INSERT, **_values(run))
    await tx.run(_INSERT_DETAILS, run=run.id, **msgspec.structs.asdict(details))


async def update_run(tx: Tx, run: Run, details: RunDetails | None) -> None:
    """Write everything of a run but its status; None leaves the details as they are."""
    values = {name: value for name, value in _values(run).items() if name not in _FIXED}
    await tx.run(_UPDATE, id_=run.id, **values)
    if details is not None:
        await tx.run(_UPDATE_DETAILS, run_=run.id, **msgspec.structs.asdict(details))


async def write_run_status(tx: Tx, id: str, status: str, ended_at: int | None) -> None:
    """For `registry.services.run_moves` alone."""
    await tx.run(_SET_STATUS, id_=id, status=status, ended_at=ended_at, now=tx.now)


async def delete_run_row(tx: Tx, id: str) -> None:
    """The caller removed the series before."""
    await tx.run(_DELETE_DETAILS, run_=id)
    await tx.run(_DELETE, id_=id)


# Lists.

_EQUAL: Final = {
    "version": runs.c.version,
    "experiment": runs.c.experiment,
    "model": runs.c.model,
    "status": runs.c.status,
}
"""Filters by one column, the most selective first."""


class RunFilters(msgspec.Struct, frozen=True, kw_only=True):
    """Which runs are listed, by ids; None where it does not matter. `until` is not included."""

    version: str | None = None
    experiment: str | None = None
    model: str | None = None
    status: str | None = None
    since: int | None = None
    until: int | None = None
    is_deleted: bool = False
    seen: str | None = None
    """Whose runs are seen (`registry.catalog.visible`); None for all."""

    def bound(self) -> dict[str, Any]:
        """The values of what is asked, by name."""
        return {
            name: value
            for name in (*_EQUAL, "since", "until", "seen")
            if (value := getattr(self, name)) is not None
        }


class ListedRun(msgspec.Struct, frozen=True):
    """A run, and what the things that it names are called now."""

    run: Run
    experiment: str | None
    model: str | None
    number: int | None
    label: str | None


def _tested(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """The same value, in words for which no index can be taken."""
    return func.coalesce(column, literal("NULL"))


async def runs_before(
    tx: Tx, filters: RunFilters, place: tuple[int, str] | None, limit: int
) -> list[ListedRun]:
    """A page, the last started (or deleted) first, behind a place: its time and its id."""
    given = await _narrowed(tx, filters)
    statement = _page(tuple(given), is_deleted=filters.is_deleted, has_place=place is not None)
    if place is not None:
        given["after"], given["id"] = place
    rows = await tx.all(statement, limit=limit, **given)
    return [ListedRun(_run(row[: len(_FIELDS)]), *row[len(_FIELDS) :]) for row in rows]


async def count_runs(tx: Tx, filters: RunFilters, most: int) -> int:
    """How many there are, up to `most`."""
    given = await _narrowed(tx, filters)
    row = await tx.one(_count(tuple(given), is_deleted=filters.is_deleted), limit=most, **given)
    assert row is not None, "a count"
    return int(row[0])


async def _narrowed(tx: Tx, filters: RunFilters) -> dict[str, Any]:
    """What a statement binds: the few owners that are open, if those are to lead."""
    given = filters.bound()
    if filters.seen is None or filters.version is not None or filters.model is not None:
        return given  # nothing of a model is hidden from who sees it
    few = await few_owners(tx, filters.seen)
    others = _others(next((name for name in _EQUAL if name in given), None), filters.is_deleted)
    if few is not None and await few_lead(tx, few, runs.c.owner, others, **given):
        del given["seen"]
        given["few"] = few
    return given


@cache
def _others(filter: str | None, is_deleted: bool) -> Statement | None:
    """How many entries the index has that would lead."""
    if is_deleted:
        return counted(runs.c.deleted_at.is_not(None))
    if filter is None:
        return None
    return counted(_EQUAL[filter] == bindparam(filter), runs.c.deleted_at.is_(None))


@cache
def _page(given: tuple[str, ...], *, is_deleted: bool, has_place: bool) -> Statement:
    at = runs.c.deleted_at if is_deleted else runs.c.started_at
    question = select(
        *_COLUMNS, experiments.c.name, models.c.name, versions.c.number, versions.c.label
    ).select_from(
        runs.outerjoin(experiments, experiments.c.id == runs.c.experiment)
        .outerjoin(models, models.c.id == runs.c.model)
        .outerjoin(versions, versions.c.id == runs.c.version)
    )
    tests = _tests(given, is_deleted=is_deleted)
    if has_place:
        tests.append(tuple_(at, runs.c.id) < tuple_(bindparam("after"), bindparam("id")))
    if "few" in given:
        tests = [page_of_few(runs.c.owner, (at, runs.c.id), tests)]
    question = question.where(*tests).order_by(at.desc(), runs.c.id.desc())
    return Statement(question.limit(bindparam("limit")))


@cache
def _count(given: tuple[str, ...], *, is_deleted: bool) -> Statement:
    tests = _tests(given, is_deleted=is_deleted)
    if "few" in given:
        tests.append(of_few(runs.c.owner))
    some: Select[Any] = (
        select(literal("1")).select_from(runs).where(*tests).limit(bindparam("limit"))
    )
    return Statement(select(func.count()).select_from(some.subquery("counted")))


def _tests(given: tuple[str, ...], *, is_deleted: bool) -> list[ColumnElement[bool]]:
    is_led = is_deleted or "few" in given
    deleted_at: ColumnElement[Any] = runs.c.deleted_at
    if "few" in given:
        deleted_at = _tested(deleted_at)
    found: list[ColumnElement[bool]] = [
        deleted_at.is_not(None) if is_deleted else deleted_at.is_(None)
    ]
    for name, column in _EQUAL.items():
        if name in given:
            found.append((_tested(column) if is_led else column) == bindparam(name))
            is_led = True
    started: ColumnElement[Any] = _tested(runs.c.started_at) if is_deleted else runs.c.started_at
    if "since" in given:
        found.append(started >= bindparam("since"))
    if "until" in given:
        found.append(started < bindparam("until"))
    if "seen" in given:
        found.append(sees_owner(runs.c.owner))
    return found
