"""Lists of deployments and of their events, and how many stand where.

Every list is newest first, along one index that is in that order already: that of the filter that
leaves the fewest, of what runs alone where only that is asked for. What else is asked is tested row
by row, in words for which no index can be taken (`_tested`). For a reader who sees few models it is
merged from the lists of those (`registry.catalog.visible`).
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import msgspec
from sqlalchemy import Select, bindparam, func, select, tuple_
from sqlalchemy import literal_column as literal
from sqlalchemy.sql.elements import ColumnElement

from registry.catalog.deployments import EVENT_FIELDS, FIELDS, deployment_of, event_of
from registry.catalog.schema import deployment_events, deployments, environments, models, versions
from registry.catalog.visible import (
    counted,
    few_ever,
    few_lead,
    of_few,
    page_of_few,
    sees_model_of,
)
from registry.domain.deployments import TERMINATED, Deployment, DeploymentEvent
from store.index.transactions import Statement, Tx

FIRST_PAGE: Final = 2**62
"""Above the id of every event."""

_EQUAL: Final = {
    "name": deployments.c.folded,
    "version": deployments.c.version,
    "model": deployments.c.model,
    "environment": deployments.c.environment,
    "status": deployments.c.status,
}
"""Filters by one column, the most selective first."""


class DeploymentFilters(msgspec.Struct, frozen=True, kw_only=True):
    """Which deployments are listed, by ids; None where it does not matter."""

    name: str | None = None
    """Folded."""
    version: str | None = None
    model: str | None = None
    environment: str | None = None
    status: str | None = None
    active: bool | None = None
    """Whether it is not terminated."""
    seen: str | None = None
    """Which models are seen (`registry.catalog.visible`); None for all."""

    @property
    def is_contradiction(self) -> bool:
        """Whether nothing can be so."""
        return None not in (self.active, self.status) and self.active is (self.status == TERMINATED)

    def bound(self) -> dict[str, Any]:
        """The values of what is asked, by name; what is over is found by its status."""
        found = {
            name: value for name in (*_EQUAL, "seen") if (value := getattr(self, name)) is not None
        }
        if self.active is False:
            found.setdefault("status", TERMINATED)
        return found

    @property
    def runs(self) -> bool:
        """Whether it is known that all that is asked for runs."""
        return self.active is True or self.status not in (None, TERMINATED)


class NamedVersion(msgspec.Struct, frozen=True):
    """What never changes of a version."""

    id: str
    number: int
    label: str | None


class ListedDeployment(msgspec.Struct, frozen=True):
    """A deployment, and what the things that it names are called now."""

    deployment: Deployment
    version: NamedVersion
    previous: NamedVersion | None
    environment: str
    model: str


_previous = versions.alias("previous")
_LISTED: Final = select(
    *FIELDS.values(),
    versions.c.number,
    versions.c.label,
    _previous.c.number,
    _previous.c.label,
    environments.c.name,
    models.c.name,
).select_from(
    deployments.join(versions, versions.c.id == deployments.c.version)
    .outerjoin(_previous, _previous.c.id == deployments.c.previous_version)
    .join(environments, environments.c.id == deployments.c.environment)
    .join(models, models.c.id == deployments.c.model)
)


def _tested(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """The same value, in words for which no index can be taken."""
    return func.coalesce(column, literal("NULL"))


async def deployments_before(
    tx: Tx, filters: DeploymentFilters, place: tuple[int, str] | None, limit: int
) -> list[ListedDeployment]:
    """A page, the last made first, behind a place: its time and its id."""
    if filters.is_contradiction:
        return []
    given = await _narrowed(tx, filters)
    statement = _page(tuple(given), runs=filters.runs, has_place=place is not None)
    if place is not None:
        given["after"], given["id"] = place
    found = []
    for row in await tx.all(statement, limit=limit, **given):
        deployment = deployment_of(row[: len(FIELDS)])
        number, label, before, before_label, environment, model = row[len(FIELDS) :]
        previous = None
        if deployment.previous_version_id is not None:
            previous = NamedVersion(deployment.previous_version_id, before, before_label)
        version = NamedVersion(deployment.version_id, number, label)
        found.append(ListedDeployment(deployment, version, previous, environment, model))
    return found


async def count_deployments(tx: Tx, filters: DeploymentFilters, most: int) -> int:
    """How many there are, up to `most`."""
    if filters.is_contradiction:
        return 0
    given = await _narrowed(tx, filters)
    row = await tx.one(_count(tuple(given), runs=filters.runs), limit=most, **given)
    assert row is not None, "a count"
    return int(row[0])


async def _narrowed(tx: Tx, filters: DeploymentFilters) -> dict[str, Any]:
    """What a statement binds: the few models that are seen, if those are to lead."""
    given = filters.bound()
    if filters.seen is None or filters.version is not None or filters.model is not None:
        return given  # nothing of a model is hidden from who sees it
    few = await few_ever(tx, filters.seen)
    others = _others(next((name for name in _EQUAL if name in given), None), runs=filters.runs)
    if few is not None and await few_lead(tx, few, deployments.c.model, others, **given):
        del given["seen"]
        given["few"] = few
    return given


@cache
def _others(filter: str | None, *, runs: bool) -> Statement | None:
    """How many entries the index has that would lead."""
    asked = [] if filter is None else [_EQUAL[filter] == bindparam(filter)]
    if runs and filter != "status":
        asked.append(deployments.c.terminated_at.is_(None))
    return counted(*asked) if asked else None


@cache
def _page(given: tuple[str, ...], *, runs: bool, has_place: bool) -> Statement:
    order = (deployments.c.created_at, deployments.c.id)
    tests = _tests(given, runs=runs)
    if has_place:
        tests.append(tuple_(*order) < tuple_(bindparam("after"), bindparam("id")))
    if "few" in given:
        tests = [page_of_few(deployments.c.model, order, tests)]
    question = _LISTED.where(*tests).order_by(*(column.desc() for column in order))
    return Statement(question.limit(bindparam("limit")))


@cache
def _count(given: tuple[str, ...], *, runs: bool) -> Statement:
    tests = _tests(given, runs=runs)
    if "few" in given:
        tests.append(of_few(deployments.c.model))
    some: Select[Any] = select(literal("1")).select_from(deployments).where(*tests)
    counted = some.limit(bindparam("limit")).subquery("counted")
    return Statement(select(func.count()).select_from(counted))


def _tests(given: tuple[str, ...], *, runs: bool) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    is_led = "few" in given
    for name, column in _EQUAL.items():
        if name in given:
            found.append((_tested(column) if is_led else column) == bindparam(name))
            is_led = True
    # A status says whether it runs; where another filter comes first, this one takes the index of
    # what runs.
    if runs and next(iter(given), None) != "status":
        found.append(deployments.c.terminated_at.is_(None))
    if "seen" in given:
        found.append(sees_model_of(deployments.c.model))
    return found


# Events.


class ListedEvent(msgspec.Struct, frozen=True):
    """An event with the versions it speaks of; None before the first."""

    event: DeploymentEvent
    before: NamedVersion | None
    after: NamedVersion


_from = versions.alias("from_version")
_to = versions.alias("to_version")
_EVENTS = Statement(
    lambda: (
        select(
            *EVENT_FIELDS.values(),
            _from.c.number,
            _from.c.label,
            _to.c.number,
            _to.c.label,
        )
        .select_from(
            deployment_events.outerjoin(_from, _from.c.id == deployment_events.c.from_version).join(
                _to, _to.c.id == deployment_events.c.to_version
            )
        )
        .where(
            deployment_events.c.deployment == bindparam("deployment"),
            deployment_events.c.id < bindparam("before"),
        )
        .order_by(deployment_events.c.id.desc())
        .limit(bindparam("limit"))
    )
)


async def events_before(tx: Tx, deployment_id: str, before: int, limit: int) -> list[ListedEvent]:
    """A page of a deployment's history, the newest first; start with `FIRST_PAGE`."""
    found = []
    for row in await tx.all(_EVENTS, deployment=deployment_id, before=before, limit=limit):
        event = event_of(row[: len(EVENT_FIELDS)])
        from_number, from_label, number, label = row[len(EVENT_FIELDS) :]
        was = None
        if event.from_version_id is not None:
            was = NamedVersion(event.from_version_id, from_number, from_label)
        found.append(ListedEvent(event, was, NamedVersion(event.to_version_id, number, label)))
    return found


# How many stand where.


class Standing(msgspec.Struct, frozen=True):
    """How many deployments of an environment have a status; None and 0 where there are none."""

    environment_id: str
    environment: str
    type: str
    status: str | None
    count: int


async def deployments_standing(tx: Tx, seen: str | None) -> list[Standing]:
    """How many deployments stand where, in each environment that lives or has any: one statement.

    `seen` says of which models, None of all.
    """
    given = {} if seen is None else {"seen": seen}
    if seen is not None and (few := await few_ever(tx, seen)) is not None:
        given = {"few": few}
    return [Standing(*row) for row in await tx.all(_standing("".join(given)), **given)]


@cache
def _standing(restriction: str) -> Statement:
    each = select(
        deployments.c.environment, deployments.c.status, func.count().label("count")
    ).group_by(deployments.c.environment, deployments.c.status)
    if restriction:
        is_few = restriction == "few"
        each = each.where((of_few if is_few else sees_model_of)(deployments.c.model))
    counted = each.subquery("counted")
    return Statement(
        select(
            environments.c.id,
            environments.c.name,
            environments.c.type,
            counted.c.status,
            func.coalesce(counted.c.count, literal("0")),
        )
        .select_from(environments.outerjoin(counted, counted.c.environment == environments.c.id))
        .where(environments.c.deleted_at.is_(None) | counted.c.status.is_not(None))
        .order_by(environments.c.folded, environments.c.id)
    )
