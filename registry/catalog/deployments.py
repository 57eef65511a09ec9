"""Rows of deployments and of their events, which are only ever added.

Only `registry.services.deployment_moves` may call `insert_deployment` and `write_deployment_move`:
the status and the version of a deployment change nowhere else.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import bindparam, insert, select, update
from sqlalchemy import literal_column as literal
from sqlalchemy.sql.elements import ColumnElement

from registry.catalog.schema import deployment_events, deployments, versions
from registry.domain.deployments import Deployment, DeploymentEvent
from store.index.transactions import Row, Statement, Tx

FIELDS: Final = {
    "id": deployments.c.id,
    "name": deployments.c.name,
    "folded": deployments.c.folded,
    "environment_id": deployments.c.environment,
    "model_id": deployments.c.model,
    "version_id": deployments.c.version,
    "previous_version_id": deployments.c.previous_version,
    "status": deployments.c.status,
    "endpoint": deployments.c.endpoint,
    "replicas": deployments.c.replicas,
    "cpu": deployments.c.cpu,
    "memory": deployments.c.memory,
    "gpus": deployments.c.gpus,
    "deployed_at": deployments.c.deployed_at,
    "deployed_by": deployments.c.deployed_by,
    "created_at": deployments.c.created_at,
    "created_by": deployments.c.created_by,
    "updated_at": deployments.c.updated_at,
    "changes": deployments.c.changes,
    "terminated_at": deployments.c.terminated_at,
    "terminated_by": deployments.c.terminated_by,
}
"""What `deployment_of` reads, in its order."""

_WRITTEN: Final[dict[str, Any]] = {column.name: bindparam(name) for name, column in FIELDS.items()}
_MOVED: Final = (
    "version",
    "previous_version",
    "status",
    "deployed_at",
    "deployed_by",
    "terminated_at",
    "terminated_by",
)
_SAID: Final = ("name", "folded", "endpoint", "replicas", "cpu", "memory", "gpus")
_CHANGED: Final = ("updated_at", "changes")

_SELECT: Final = select(*FIELDS.values())
_RUNS: Final = deployments.c.terminated_at.is_(None)
_BY_ID = Statement(lambda: _SELECT.where(deployments.c.id == bindparam("id")))
_RUNNING_BY_NAME = Statement(
    lambda: _SELECT.where(
        deployments.c.environment == bindparam("environment"),
        deployments.c.folded == bindparam("folded"),
        _RUNS,
    )
)


def _running_with(column: ColumnElement[Any]) -> Statement:
    return Statement(
        _SELECT.where(column == bindparam("id"), _RUNS)
        .order_by(deployments.c.created_at, deployments.c.id)
        .limit(bindparam("limit"))
    )


_RUNNING_IN = _running_with(deployments.c.environment)
_RUNNING_OF_VERSION = _running_with(deployments.c.version)
_RUNNING_OF_MODEL = _running_with(deployments.c.model)
_INSERT = Statement(lambda: insert(deployments).values(_WRITTEN))
_UPDATE = Statement(
    lambda: (
        update(deployments)
        .where(deployments.c.id == bindparam("id_"))
        .values({name: _WRITTEN[name] for name in (*_SAID, *_CHANGED)})
    )
)
_MOVE = Statement(
    lambda: (
        update(deployments)
        .where(deployments.c.id == bindparam("id_"))
        .values({name: _WRITTEN[name] for name in (*_MOVED, *_CHANGED)})
    )
)

EVENT_FIELDS: Final = {
    "id": deployment_events.c.id,
    "deployment_id": deployment_events.c.deployment,
    "action": deployment_events.c.action,
    "from_status": deployment_events.c.from_status,
    "to_status": deployment_events.c.to_status,
    "from_version_id": deployment_events.c.from_version,
    "to_version_id": deployment_events.c.to_version,
    "restored": deployment_events.c.restored,
    "changes": deployment_events.c.changes,
    "reason": deployment_events.c.reason,
    "created_at": deployment_events.c.created_at,
    "created_by": deployment_events.c.created_by,
}
_APPEND = Statement(
    lambda: insert(deployment_events).values(
        {
            column.name: bindparam(name)
            for name, column in EVENT_FIELDS.items()
            if column is not deployment_events.c.id
        }
    )
)
_OF_DEPLOYMENT: Final = deployment_events.c.deployment == bindparam("deployment")
_BRINGS: Final = deployment_events.c.action.in_((literal("'deploy'"), literal("'rollback'")))
_LAST_BROUGHT = Statement(
    lambda: (
        select(*EVENT_FIELDS.values())
        .where(_OF_DEPLOYMENT, _BRINGS)
        .order_by(deployment_events.c.id.desc())
        .limit(1)
    )
)
_BROUGHT_BEFORE = Statement(
    lambda: (
        select(*EVENT_FIELDS.values())
        .join(versions, versions.c.id == deployment_events.c.to_version)
        .where(
            _OF_DEPLOYMENT,
            _BRINGS,
            deployment_events.c.id < bindparam("before"),
            deployment_events.c.to_version != bindparam("version"),
            versions.c.purged_at.is_(None),
        )
        .order_by(deployment_events.c.id.desc())
        .limit(1)
    )
)

_BROUGHT = Statement(
    lambda: (
        select(*EVENT_FIELDS.values())
        .where(
            _OF_DEPLOYMENT,
            _BRINGS,
            deployment_events.c.id < bindparam("before"),
            deployment_events.c.to_version == bindparam("version"),
        )
        .order_by(deployment_events.c.id.desc())
        .limit(1)
    )
)


def deployment_of(row: Row) -> Deployment:
    """The struct of a row of `FIELDS`."""
    return Deployment(**dict(zip(FIELDS, row, strict=True)))


def event_of(row: Row) -> DeploymentEvent:
    """The struct of a row of `EVENT_FIELDS`."""
    return DeploymentEvent(**dict(zip(EVENT_FIELDS, row, strict=True)))


async def find_deployment(tx: Tx, id: str) -> Deployment | None:
    """The deployment, terminated or not."""
    row = await tx.one(_BY_ID, id=id)
    return None if row is None else deployment_of(row)


async def find_running(tx: Tx, environment_id: str, folded: str) -> Deployment | None:
    """What runs in an environment under that folded name."""
    row = await tx.one(_RUNNING_BY_NAME, environment=environment_id, folded=folded)
    return None if row is None else deployment_of(row)


async def running_in(tx: Tx, environment_id: str, limit: int) -> list[Deployment]:
    """What runs in an environment, the first made first."""
    rows = await tx.all(_RUNNING_IN, id=environment_id, limit=limit)
    return [deployment_of(row) for row in rows]


async def running_of_version(tx: Tx, version_id: str, limit: int) -> list[Deployment]:
    """Where a version runs, the first made first."""
    rows = await tx.all(_RUNNING_OF_VERSION, id=version_id, limit=limit)
    return [deployment_of(row) for row in rows]


async def running_of_model(tx: Tx, model_id: str, limit: int) -> list[Deployment]:
    """Where any version of a model runs, the first made first."""
    rows = await tx.all(_RUNNING_OF_MODEL, id=model_id, limit=limit)
    return [deployment_of(row) for row in rows]


async def insert_deployment(tx: Tx, deployment: Deployment) -> None:
    """For `registry.services.deployment_moves` alone."""
    values = {name: getattr(deployment, name) for name in FIELDS}
    await tx.run(_INSERT, **values)


async def write_deployment_move(tx: Tx, deployment: Deployment) -> None:
    """Write where it stands and what it runs; for `registry.services.deployment_moves` alone."""
    await tx.run(_MOVE, id_=deployment.id, **_values(deployment, _MOVED))


async def update_deployment(tx: Tx, deployment: Deployment) -> None:
    """Write what else is said of a deployment."""
    await tx.run(_UPDATE, id_=deployment.id, **_values(deployment, _SAID))


def _values(deployment: Deployment, columns: tuple[str, ...]) -> dict[str, Any]:
    return {
        name: getattr(deployment, name)
        for name, column in FIELDS.items()
        if column.name in (*columns, *_CHANGED)
    }


async def append_event(tx: Tx, event: DeploymentEvent) -> None:
    """Add to the history; the index numbers it."""
    await tx.run(_APPEND, **{name: getattr(event, name) for name in EVENT_FIELDS if name != "id"})


async def previous_version_of(tx: Tx, deployment: Deployment) -> str | None:
    """What ran before what a deployment runs now, as its events say; purged versions aside."""
    last = await _last_brought(tx, deployment.id)
    if last is None:
        return None
    row = await tx.one(
        _BROUGHT_BEFORE,
        deployment=deployment.id,
        before=last.stands_at,
        version=deployment.version_id,
    )
    return None if row is None else event_of(row).to_version_id


async def event_to_restore(tx: Tx, deployment: Deployment) -> DeploymentEvent | None:
    """The event that brought the previous version, which a rollback brings back."""
    last = await _last_brought(tx, deployment.id)
    if last is None or deployment.previous_version_id is None:
        return None
    row = await tx.one(
        _BROUGHT,
        deployment=deployment.id,
        before=last.stands_at,
        version=deployment.previous_version_id,
    )
    return None if row is None else event_of(row)


async def _last_brought(tx: Tx, deployment_id: str) -> DeploymentEvent | None:
    row = await tx.one(_LAST_BROUGHT, deployment=deployment_id)
    return None if row is None else event_of(row)
