"""Lists of versions: of one model, and over all models.

Every list runs along one index that is in its order already, from the place where the page before
ended. What else is asked of the rows is tested as they come; those tests are worded so that the
planner cannot take an index for them and sort what it found there (`_tested`).

Which index a list over all models runs along follows from the question: a range of scores or costs
is its own order, best or cheapest first; else it is newest first, along the filter that leaves the
fewest versions, as far as that can be told without looking. For a reader who sees few models it is
merged from the lists of those (`registry.catalog.visible`).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

import msgspec
from sqlalchemy import Select, and_, bindparam, func, select, tuple_
from sqlalchemy import literal_column as literal
from sqlalchemy.sql.elements import ColumnElement

from registry.catalog.schema import models, versions
from registry.catalog.versions import COLUMNS, version_of
from registry.catalog.visible import (
    counted,
    few_lead,
    few_seen,
    of_few,
    page_of_few,
    sees_model_of,
)
from registry.domain.models import Version
from registry.domain.principals import Visibility
from registry.domain.ranges import Span
from store.index.transactions import Row, Statement, Tx

COUNTED: Final = 10_000
"""Totals are exact up to here."""

Order: TypeAlias = Literal["created", "score", "cost"]
Latest: TypeAlias = Literal["created", "number", "semver"]

_EQUAL: Final = {
    "kind": versions.c.kind,
    "tier": versions.c.tier,
    "status": versions.c.status,
    "region": versions.c.region,
    "framework": versions.c.framework,
    "slo_met": versions.c.slo_met,
}
_LEADING: Final[Mapping[Order, tuple[str, ...]]] = {
    "created": (),
    "score": ("min_eval_score",),
    "cost": ("max_cost_per_1k",),
}
"""What an order is a range of."""

Sight: TypeAlias = Literal["all", "few", "many"]
"""Whether all models may be seen, only few of them, or any number."""

_LIVE: Final = versions.c.deleted_at.is_(None)


class VersionFilter(msgspec.Struct, frozen=True, kw_only=True):
    """What versions must be like; None where anything will do."""

    kind: str | None = None
    status: str | None = None
    region: str | None = None
    framework: str | None = None
    tier: str | None = None
    slo_met: bool | None = None
    retired: bool | None = None
    min_eval_score: float | None = None
    max_cost_per_1k: float | None = None

    def bound(self) -> dict[str, Any]:
        """The values of what is asked for, by name."""
        given = {
            name: value for name, value in msgspec.structs.asdict(self).items() if value is not None
        }
        return {
            name: int(value) if isinstance(value, bool) else value for name, value in given.items()
        }

    @property
    def order(self) -> Order:
        if self.min_eval_score is not None:
            return "score"
        return "created" if self.max_cost_per_1k is None else "cost"

    @property
    def along(self) -> str | None:
        """What is asked whose index a list in order of creation runs along."""
        if self.retired:
            return "retired"
        common = {"kind": "model", "status": "registered", "tier": "hot", "slo_met": True}
        given = [name for name in _EQUAL if getattr(self, name) is not None]
        given.sort(key=lambda name: getattr(self, name) == common.get(name))
        return given[0] if given else None


ANY: Final = VersionFilter()


class NamedModel(msgspec.Struct, frozen=True):
    """The model of a listed version, as far as a list tells of it."""

    id: str
    name: str


class ListedVersion(msgspec.Struct, frozen=True):
    """A version and the model that it is one of."""

    model: NamedModel
    version: Version


def _tested(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """The same value, in words for which no index can be taken."""
    return func.coalesce(column, literal("NULL"))


def _tests(names: Sequence[str]) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    for name in names:
        if name == "min_eval_score":
            found.append(_tested(versions.c.eval_score) >= bindparam(name))
        elif name == "max_cost_per_1k":
            found.append(_tested(versions.c.cost_per_1k) <= bindparam(name))
        elif name == "retired":
            found.append(_tested(versions.c.retired_at).is_not(None) == bindparam(name))
        else:
            found.append(_tested(_EQUAL[name]) == bindparam(name))
    return found


# Over all models.

_OF_DELETED_MODELS: Final = select(models.c.id).where(models.c.deleted_at.is_not(None))


@functools.cache
def _everywhere(
    order: Order,
    along: str | None,
    tested: tuple[str, ...],
    *,
    is_first: bool,
    sight: Sight,
    is_counted: bool = False,
) -> Statement:
    key: ColumnElement[Any]
    match order:
        case "score":
            key, leads = (
                versions.c.eval_score,
                [versions.c.eval_score >= bindparam("min_eval_score")],
            )
        case "cost":
            key, leads = (
                versions.c.cost_per_1k,
                [versions.c.cost_per_1k <= bindparam("max_cost_per_1k")],
            )
        case "created":
            key = versions.c.created_at
            leads = [] if along is None else [_lead(along)]
    if sight == "few":
        # Their own index leads, and what else is asked is looked at.
        tested = tuple(sorted({*tested, *_LEADING[order], *([] if along is None else [along])}))
        leads = [] if not is_counted else [of_few(versions.c.model)]
    tests = [_LIVE, *leads, *_tests(tested)]
    if not is_first:
        place = tuple_(key, versions.c.id)
        after = tuple_(bindparam("after_key"), bindparam("after_id"))
        tests.append(place > after if order == "cost" else place < after)
    if sight == "many":
        tests.append(sees_model_of(versions.c.model))
    if is_counted:
        # Without a join: the few deleted models are left out by what the index itself holds.
        if sight != "few":
            tests.append(versions.c.model.not_in(_OF_DELETED_MODELS))
        return Statement(select(versions.c.id).where(*tests).limit(bindparam("limit")))
    is_rising = order == "cost"
    if sight == "few":
        # None of the few is deleted.
        tests = [page_of_few(versions.c.model, (key, versions.c.id), tests, is_rising=is_rising)]
    statement = (
        select(models.c.id, models.c.name, *COLUMNS)
        .select_from(versions.join(models, models.c.id == versions.c.model))
        .where(_tested(models.c.deleted_at).is_(None), *tests)
    )
    if is_rising:
        statement = statement.order_by(key, versions.c.id)
    else:
        statement = statement.order_by(key.desc(), versions.c.id.desc())
    return Statement(statement.limit(bindparam("limit")))


async def _sight(
    tx: Tx, visibility: Visibility, wanted: VersionFilter
) -> tuple[Sight, dict[str, str]]:
    """How much may be seen, and what a statement binds for that."""
    if visibility.seen is None:
        return "all", {}
    few = await few_seen(tx, visibility.seen)
    others = _others(wanted.order, wanted.along)
    if few is None or not await few_lead(tx, few, versions.c.model, others, **wanted.bound()):
        return "many", {"seen": visibility.seen}
    return "few", {"few": few}


@functools.cache
def _others(order: Order, along: str | None) -> Statement | None:
    """How many entries the index has that would lead."""
    match order:
        case "score":
            return counted(versions.c.eval_score >= bindparam("min_eval_score"), _LIVE)
        case "cost":
            return counted(versions.c.cost_per_1k <= bindparam("max_cost_per_1k"), _LIVE)
    return None if along is None else counted(_lead(along), _LIVE)


def _lead(along: str) -> ColumnElement[bool]:
    if along == "retired":
        return versions.c.retired_at.is_not(None)
    return _EQUAL[along] == bindparam(along)


def _question(
    wanted: VersionFilter, sight: Sight, *, is_first: bool, is_counted: bool = False
) -> tuple[Statement, dict[str, Any]]:
    order = wanted.order
    values = wanted.bound()
    along = wanted.along if order == "created" else None
    tested = tuple(sorted(values.keys() - {along, *_LEADING[order]}))
    statement = _everywhere(
        order, along, tested, is_first=is_first, sight=sight, is_counted=is_counted
    )
    return statement, values


async def versions_everywhere(
    tx: Tx,
    visibility: Visibility,
    wanted: VersionFilter,
    after: tuple[float, str] | None,
    limit: int,
) -> list[ListedVersion]:
    """A page of the living versions of all living models; `after` is a key of the order, an id."""
    sight, seen = await _sight(tx, visibility, wanted)
    statement, values = _question(wanted, sight, is_first=after is None)
    if after is not None:
        values["after_key"], values["after_id"] = after
    return [_listed(row) for row in await tx.all(statement, limit=limit, **seen, **values)]


async def count_everywhere(tx: Tx, visibility: Visibility, wanted: VersionFilter) -> int:
    """How many there are; one more than `COUNTED` stands for more."""
    sight, seen = await _sight(tx, visibility, wanted)
    statement, values = _question(wanted, sight, is_first=True, is_counted=True)
    row = await tx.one(_counting(statement), limit=COUNTED + 1, **seen, **values)
    return 0 if row is None else int(row[0])


def place_of(wanted: VersionFilter, version: Version) -> tuple[float, str]:
    """The place of a version in the order of the list."""
    key = {
        "created": version.created_at,
        "score": version.eval_score,
        "cost": version.cost_per_1k,
    }[wanted.order]
    assert key is not None, "a version without the number is not in a list in its order"
    return key, version.id


@functools.cache
def _counting(statement: Statement) -> Statement:
    construct = statement.construct
    assert isinstance(construct, Select)
    inner = construct.with_only_columns(versions.c.id).order_by(None).subquery("found")
    return Statement(select(func.count()).select_from(inner))


def _listed(row: Row) -> ListedVersion:
    return ListedVersion(NamedModel(row[0], row[1]), version_of(row[2:]))


# Of one model.

_OF_MODEL: Final = versions.c.model == bindparam("model")


@functools.cache
def _in_model(along: str | None, tested: tuple[str, ...], *, is_deleted: bool) -> Statement:
    state = _LIVE
    if is_deleted:
        state = _tested(versions.c.deleted_at).is_not(None)
    elif along is None:
        state = _tested(versions.c.deleted_at).is_(None)
    leads = [] if along is None else [_EQUAL[along] == bindparam(along)]
    return Statement(
        select(*COLUMNS)
        .where(
            _OF_MODEL,
            versions.c.number < bindparam("before"),
            state,
            *leads,
            *_tests(tested),
        )
        .order_by(versions.c.number.desc())
        .limit(bindparam("limit"))
    )


def _model_question(wanted: VersionFilter, *, is_deleted: bool) -> tuple[Statement, dict[str, Any]]:
    bound = wanted.bound()
    along = "status" if wanted.status is not None and not is_deleted else None
    tested = tuple(sorted(bound.keys() - {along}))
    return _in_model(along, tested, is_deleted=is_deleted), bound


async def versions_of_model(
    tx: Tx, model_id: str, wanted: VersionFilter, before: int, limit: int, *, is_deleted: bool
) -> list[Version]:
    """A page of a model's versions, newest number first: those that live, or those deleted."""
    statement, values = _model_question(wanted, is_deleted=is_deleted)
    rows = await tx.all(statement, model=model_id, before=before, limit=limit, **values)
    return [version_of(row) for row in rows]


async def count_of_model(tx: Tx, model_id: str, wanted: VersionFilter, *, is_deleted: bool) -> int:
    """How many there are; one more than `COUNTED` stands for more."""
    statement, values = _model_question(wanted, is_deleted=is_deleted)
    row = await tx.one(
        _counting(statement), model=model_id, before=2**62, limit=COUNTED + 1, **values
    )
    return 0 if row is None else int(row[0])


@functools.cache
def _in_span(tested: tuple[str, ...], *, is_first: bool) -> Statement:
    place = tuple_(versions.c.precedence, versions.c.number)
    found = select(versions.c.precedence, *COLUMNS).where(
        _OF_MODEL,
        versions.c.standing == bindparam("standing"),
        _LIVE,
        versions.c.precedence >= bindparam("start"),
        *_tests(tested),
    )
    if is_first:
        found = found.where(versions.c.precedence < bindparam("stop"))
    else:
        # One bound from above: SQLite would use only the first of two for the search.
        found = found.where(place < tuple_(bindparam("stop"), bindparam("before")))
    return Statement(
        found.order_by(versions.c.precedence.desc(), versions.c.number.desc()).limit(
            bindparam("limit")
        )
    )


async def versions_in_span(
    tx: Tx,
    model_id: str,
    standing: Literal["release", "prerelease"],
    span: Span,
    wanted: VersionFilter,
    after: tuple[str, int] | None,
    limit: int,
) -> list[tuple[str, Version]]:
    """Living versions whose labels lie in a span, highest first, each with its key."""
    bound = wanted.bound()
    values = {**bound, "start": span.start, "stop": span.stop}
    is_within = after is not None and after[0] < span.stop
    if after is not None and is_within:
        values["stop"], values["before"] = after
    statement = _in_span(tuple(sorted(bound)), is_first=not is_within)
    rows = await tx.all(statement, model=model_id, standing=standing, limit=limit, **values)
    return [(row[0], version_of(row[1:])) for row in rows]


async def count_in_span(
    tx: Tx,
    model_id: str,
    standing: Literal["release", "prerelease"],
    span: Span,
    wanted: VersionFilter,
) -> int:
    """How many there are in a span; one more than `COUNTED` stands for more."""
    bound = wanted.bound()
    statement = _counting(_in_span(tuple(sorted(bound)), is_first=True))
    row = await tx.one(
        statement,
        model=model_id,
        standing=standing,
        start=span.start,
        stop=span.stop,
        limit=COUNTED + 1,
        **bound,
    )
    return 0 if row is None else int(row[0])


@functools.cache
def _latest_created(tested: tuple[str, ...]) -> Statement:
    return Statement(
        select(*COLUMNS)
        .where(and_(_OF_MODEL, _LIVE, *_tests(tested)))
        .order_by(versions.c.created_at.desc(), versions.c.number.desc())
        .limit(1)
    )


async def latest_created(tx: Tx, model_id: str, wanted: VersionFilter) -> Version | None:
    """The living version that was made last, whatever its number."""
    bound = wanted.bound()
    row = await tx.one(_latest_created(tuple(sorted(bound))), model=model_id, **bound)
    return None if row is None else version_of(row)
