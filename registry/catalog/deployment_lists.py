"""Lists of deployments and of their events, and how many stand where.

Every list is newest first, along one index that is in that order already: that of the filter that
leaves the fewest, of what runs alone where only that is asked for. What else is asked is tested row
by row, in words for which no index can be taken (`_tested`).
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import msgspec
from sqlalchemy import bindparam, func, select, tuple_
from sqlalchemy import literal_column as literal
from sqlalchemy.sql.elements import ColumnElement

from registry.catalog.deployments import EVENT_FIELDS, FIELDS, deployment_of, event_of
from registry.catalog.schema import deployment_events, deployments, environments, models, versions
from registry.catalog.visible import sees_model_of
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
    given = filters.bound()
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
    given = filters.bound()
    row = await tx.one(_count(tuple(given), runs=filters.runs), limit=most, **given)
    assert row is not None, "a count"
    return int(row[0])


@cache
def _page(given: tuple[str, ...], *, runs: bool, has_place: bool) -> Statement:
    question = _LISTED.where(*_tests(given, runs=runs))
    if has_place:
        place = tuple_(deployments.c.created_at, deployments.c.id)
        question = question.where(place < tuple_(bindparam("after"), bindparam("id")))
    question = question.order_by(deployments.c.created_at.desc(), deployments.c.id.desc())
    return Statement(question.limit(bindparam("limit")))


@cache
def _count(given: tuple[str, ...], *, runs: bool) -> Statement:
    counted = (
        select(literal("1"))
        .select_from(deployments)
        .where(*_tests(given, runs=runs))
        .limit(bindparam("limit"))
        .subquery("counted")
    )
    return Statement(select(func.count()).select_from(counted))


def _tests(given: tuple[str, ...], *, runs: bool) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    for name, column in _EQUAL.items():
        if name in given:
            found.append((_tested(column) if found else column) == bindparam(name))
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
    return [
        Standing(*row) for row in await tx.all(_standing(is_restricted=seen is not None), **given)
    ]


@cache
def _standing(*, is_restricted: bool) -> Statement:
    each = select(
        deployments.c.environment, deployments.c.status, func.count().label("count")
    ).group_by(deployments.c.environment, deployments.c.status)
    if is_restricted:
        each = each.where(sees_model_of(deployments.c.model))
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
