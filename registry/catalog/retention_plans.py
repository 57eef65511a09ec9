"""Rows of plans of retention and of their lines."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Final

import msgspec
from sqlalchemy import bindparam, delete, func, insert, select, update
from sqlalchemy import literal_column as literal

from registry.catalog.models import COLUMNS as MODEL_COLUMNS
from registry.catalog.models import model_of
from registry.catalog.schema import (
    models,
    retention_lines,
    retention_plans,
    tree_files,
    versions,
)
from registry.catalog.visible import few_seen, of_few, sees_model
from registry.domain.models import Model
from registry.domain.retention import Action, Outcome, PlanState, Rule, Scope
from store.index.schema import refs
from store.index.transactions import Row, Statement, Tx

MOST_FILES_COUNTED: Final = 200_000
"""Of a plan that purges more files than these only what it would free at most is told."""

AT_ONCE: Final = 1_000
"""How many lines go in one transaction."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What would happen to the versions of a model, of a namespace, or of all."""

    id: str
    scope: Scope
    target: str | None = None
    target_name: str = ""
    state: PlanState = "making"
    is_scheduled: bool = False
    is_complete: bool = True
    models: int = 0
    models_failed: int = 0
    keep: int = 0
    retire: int = 0
    purge: int = 0
    frees: int = 0
    frees_exactly: bool = True
    created_at: int
    created_by: str
    applied_at: int | None = None


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """What would happen to one version, and what became of that."""

    plan_id: str
    line: int
    model_id: str
    model: str
    version_id: str
    number: int
    label: str | None
    action: Action
    rules: tuple[Rule, ...]
    size_bytes: int
    frees: int = 0
    frees_exactly: bool = True
    outcome: Outcome | None = None
    reason: str = ""
    ended_at: int | None = None

    @property
    def version(self) -> str:
        """How people call the version."""
        return self.label or str(self.number)


_PLAN: Final = {
    "id": retention_plans.c.id,
    "scope": retention_plans.c.scope,
    "target": retention_plans.c.target,
    "target_name": retention_plans.c.target_name,
    "state": retention_plans.c.state,
    "is_scheduled": retention_plans.c.is_scheduled,
    "is_complete": retention_plans.c.is_complete,
    "models": retention_plans.c.models,
    "models_failed": retention_plans.c.models_failed,
    "keep": retention_plans.c.keep,
    "retire": retention_plans.c.retire,
    "purge": retention_plans.c.purge,
    "frees": retention_plans.c.frees,
    "frees_exactly": retention_plans.c.frees_exactly,
    "created_at": retention_plans.c.created_at,
    "created_by": retention_plans.c.created_by,
    "applied_at": retention_plans.c.applied_at,
}
_LINE: Final = {
    "plan_id": retention_lines.c.plan,
    "line": retention_lines.c.line,
    "model_id": retention_lines.c.model,
    "model": retention_lines.c.model_name,
    "version_id": retention_lines.c.version,
    "number": retention_lines.c.number,
    "label": retention_lines.c.label,
    "action": retention_lines.c.action,
    "rules": retention_lines.c.rules,
    "size_bytes": retention_lines.c.size,
    "frees": retention_lines.c.frees,
    "frees_exactly": retention_lines.c.frees_exactly,
    "outcome": retention_lines.c.outcome,
    "reason": retention_lines.c.reason,
    "ended_at": retention_lines.c.ended_at,
}
_PLAN_WRITTEN: Final[dict[str, Any]] = {
    column.name: bindparam(name) for name, column in _PLAN.items()
}
_LINE_WRITTEN: Final[dict[str, Any]] = {
    column.name: bindparam(name) for name, column in _LINE.items()
}
_FIND = Statement(lambda: select(*_PLAN.values()).where(retention_plans.c.id == bindparam("id")))
_INSERT = Statement(lambda: insert(retention_plans).values(_PLAN_WRITTEN))
_UPDATE = Statement(
    lambda: (
        update(retention_plans)
        .where(retention_plans.c.id == bindparam("id_"))
        .values({name: value for name, value in _PLAN_WRITTEN.items() if name != "id"})
    )
)
_DELETE = Statement(lambda: delete(retention_plans).where(retention_plans.c.id == bindparam("id_")))
_IN_STATE = Statement(
    lambda: (
        select(*_PLAN.values())
        .where(retention_plans.c.state == bindparam("state"))
        .order_by(retention_plans.c.id)
        .limit(bindparam("limit"))
    )
)
_OLDEST = Statement(
    lambda: (
        select(*_PLAN.values())
        .where(retention_plans.c.id < bindparam("before"))
        .order_by(retention_plans.c.id)
        .limit(1)
    )
)
_INSERT_LINE = Statement(lambda: insert(retention_lines).values(_LINE_WRITTEN))
_OF_PLAN: Final = retention_lines.c.plan == bindparam("plan")
_FIND_LINE = Statement(
    lambda: select(*_LINE.values()).where(_OF_PLAN, retention_lines.c.line == bindparam("line"))
)
_WAITS: Final = (
    retention_lines.c.action != literal("'keep'"),
    retention_lines.c.outcome.is_(None),
)
_WAITING = Statement(
    lambda: (
        select(*_LINE.values())
        .where(_OF_PLAN, *_WAITS, retention_lines.c.line > bindparam("after"))
        .order_by(retention_lines.c.line)
        .limit(bindparam("limit"))
    )
)
_END = Statement(
    lambda: (
        update(retention_lines)
        .where(
            retention_lines.c.plan == bindparam("plan_"), retention_lines.c.line == bindparam("at")
        )
        .values(
            outcome=bindparam("outcome"), reason=bindparam("reason"), ended_at=bindparam("ended_at")
        )
    )
)
_OUTCOMES = Statement(
    lambda: (
        select(retention_lines.c.outcome, func.count())
        .where(_OF_PLAN, retention_lines.c.outcome.is_not(None))
        .group_by(retention_lines.c.outcome)
    )
)
_some = retention_lines.alias("some")
_DELETE_LINES = Statement(
    lambda: delete(retention_lines).where(
        retention_lines.c.plan == bindparam("plan_"),
        retention_lines.c.line.in_(
            select(_some.c.line)
            .where(_some.c.plan == bindparam("plan_"))
            .order_by(_some.c.line)
            .limit(bindparam("limit"))
        ),
    )
)
_goes = (
    select(
        tree_files.c.digest,
        func.count().label("times"),
        func.max(tree_files.c.size).label("size"),
    )
    .select_from(
        retention_lines.join(versions, versions.c.id == retention_lines.c.version).join(
            tree_files, tree_files.c.tree == versions.c.tree
        )
    )
    .where(_OF_PLAN, retention_lines.c.action == literal("'purge'"))
    .group_by(tree_files.c.digest)
    .subquery("goes")
)
_claims = select(func.sum(refs.c.count)).where(refs.c.digest == _goes.c.digest).scalar_subquery()
_FREES = Statement(
    lambda: select(func.coalesce(func.sum(_goes.c.size), literal("0"))).where(
        _claims <= _goes.c.times
    )
)


def _plan(row: Row) -> Plan:
    values = dict(zip(_PLAN, row, strict=True))
    for name in ("is_scheduled", "is_complete", "frees_exactly"):
        values[name] = bool(values[name])
    return Plan(**values)


def _plan_values(plan: Plan) -> dict[str, Any]:
    values = {name: getattr(plan, name) for name in _PLAN}
    for name in ("is_scheduled", "is_complete", "frees_exactly"):
        values[name] = int(values[name])
    return values


def _line(row: Row) -> Line:
    values = dict(zip(_LINE, row, strict=True))
    values["rules"] = msgspec.json.decode(values["rules"], type=tuple[Rule, ...])
    values["frees_exactly"] = bool(values["frees_exactly"])
    return Line(**values)


def _line_values(line: Line) -> dict[str, Any]:
    values = {name: getattr(line, name) for name in _LINE}
    values["rules"] = msgspec.json.encode(values["rules"]).decode()
    values["frees_exactly"] = int(values["frees_exactly"])
    return values


async def find_plan(tx: Tx, id: str) -> Plan | None:
    row = await tx.one(_FIND, id=id)
    return None if row is None else _plan(row)


async def insert_plan(tx: Tx, plan: Plan) -> None:
    await tx.run(_INSERT, **_plan_values(plan))


async def update_plan(tx: Tx, plan: Plan) -> None:
    values = _plan_values(plan)
    await tx.run(_UPDATE, id_=values.pop("id"), **values)


async def plans_in_state(tx: Tx, state: PlanState, limit: int) -> list[Plan]:
    """The first made first."""
    return [_plan(row) for row in await tx.all(_IN_STATE, state=state, limit=limit)]


async def oldest_plan(tx: Tx, before: str) -> Plan | None:
    """The first plan, if its id is below another."""
    row = await tx.one(_OLDEST, before=before)
    return None if row is None else _plan(row)


async def remove_some(tx: Tx, plan_id: str) -> bool:
    """Remove some lines of a plan, at last itself; whether there is more to remove."""
    if await tx.run(_DELETE_LINES, plan_=plan_id, limit=AT_ONCE) == AT_ONCE:
        return True
    await tx.run(_DELETE, id_=plan_id)
    return False


async def plans_before(tx: Tx, *, maker: str | None, before: str | None, limit: int) -> list[Plan]:
    """A page, the latest made first; with a `maker` only theirs."""
    given = {"maker": maker, "before": before}
    values = {name: value for name, value in given.items() if value is not None}
    return [_plan(row) for row in await tx.all(_plans(tuple(values)), limit=limit, **values)]


@cache
def _plans(given: tuple[str, ...]) -> Statement:
    question = select(*_PLAN.values())
    if "maker" in given:
        question = question.where(retention_plans.c.created_by == bindparam("maker"))
    if "before" in given:
        question = question.where(retention_plans.c.id < bindparam("before"))
    return Statement(question.order_by(retention_plans.c.id.desc()).limit(bindparam("limit")))


async def insert_lines(tx: Tx, lines: Sequence[Line]) -> None:
    await tx.run_many(_INSERT_LINE, (_line_values(line) for line in lines))


async def find_line(tx: Tx, plan_id: str, line: int) -> Line | None:
    row = await tx.one(_FIND_LINE, plan=plan_id, line=line)
    return None if row is None else _line(row)


async def lines_after(
    tx: Tx, plan_id: str, *, action: str | None, outcome: str | None, after: int, limit: int
) -> list[Line]:
    """A page in order; start with 0. An action and an outcome are one filter too many."""
    given = {"action": action, "outcome": outcome}
    values = {name: value for name, value in given.items() if value is not None}
    statement = _lines(tuple(values))
    rows = await tx.all(statement, plan=plan_id, after=after, limit=limit, **values)
    return [_line(row) for row in rows]


@cache
def _lines(given: tuple[str, ...]) -> Statement:
    question = select(*_LINE.values()).where(_OF_PLAN, retention_lines.c.line > bindparam("after"))
    for name in given:
        question = question.where(retention_lines.c[name] == bindparam(name))
    return Statement(question.order_by(retention_lines.c.line).limit(bindparam("limit")))


async def waiting_after(tx: Tx, plan_id: str, after: int, limit: int) -> list[Line]:
    """Lines of which something is still to be done."""
    rows = await tx.all(_WAITING, plan=plan_id, after=after, limit=limit)
    return [_line(row) for row in rows]


async def end_line(tx: Tx, line: Line, outcome: Outcome, reason: str = "") -> None:
    """Write what became of a line."""
    await tx.run(
        _END,
        plan_=line.plan_id,
        at=line.line,
        outcome=outcome,
        reason=reason[:4096],
        ended_at=tx.now,
    )


async def count_outcomes(tx: Tx, plan_id: str) -> dict[str, int]:
    return dict(await tx.all(_OUTCOMES, plan=plan_id))


async def freed_by_plan(tx: Tx, plan_id: str) -> int:
    """Bytes that nobody would refer to any more once all that a plan purges is gone."""
    row = await tx.one(_FREES, plan=plan_id)
    assert row is not None, "a sum is one row"
    return int(row[0])


async def models_after(
    tx: Tx, *, namespace_id: str | None, seen: str | None, after: str, limit: int
) -> list[Model]:
    """A page of living models in order of folded name; start with ``""``."""
    given = {"namespace": namespace_id, "seen": seen}
    values = {name: value for name, value in given.items() if value is not None}
    if seen is not None and namespace_id is None:
        few = await few_seen(tx, seen)
        if few is not None:
            del values["seen"]
            values["few"] = few
    rows = await tx.all(_models(tuple(values)), after=after, limit=limit, **values)
    return [model_of(row) for row in rows]


@cache
def _models(given: tuple[str, ...]) -> Statement:
    question = select(*MODEL_COLUMNS).where(
        models.c.folded > bindparam("after"), models.c.deleted_at.is_(None)
    )
    if "namespace" in given:
        question = question.where(models.c.namespace == bindparam("namespace"))
    if "seen" in given:
        question = question.where(sees_model())
    if "few" in given:
        question = question.where(of_few(models.c.id))
    return Statement(question.order_by(models.c.folded).limit(bindparam("limit")))
