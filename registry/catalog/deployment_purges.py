"""Deployments that go when a model or a version is purged, a bounded number at a time.

Nothing of what is purged runs any more: whoever begins a purge is refused while it does.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import bindparam, delete, select, update
from sqlalchemy.sql.elements import ColumnElement

from registry.catalog.deployments import find_deployment, previous_version_of
from registry.catalog.schema import deployment_events, deployments
from registry.catalog.versions import find_version_anywhere
from store.index.transactions import Statement, Tx

AT_ONCE: Final = 1_000
"""How many rows go or change in one transaction."""


def _ids(column: ColumnElement[Any]) -> Statement:
    return Statement(
        select(deployments.c.id).where(column == bindparam("id")).limit(bindparam("limit"))
    )


_OF_MODEL = _ids(deployments.c.model)
_OF_VERSION = _ids(deployments.c.version)
_AFTER_VERSION = _ids(deployments.c.previous_version)
_events = deployment_events.alias("some")
_DELETE_EVENTS = Statement(
    lambda: delete(deployment_events).where(
        deployment_events.c.id.in_(
            select(_events.c.id)
            .where(_events.c.deployment == bindparam("deployment_"))
            .limit(bindparam("limit"))
        )
    )
)
_DELETE = Statement(lambda: delete(deployments).where(deployments.c.id == bindparam("id_")))
_SET_PREVIOUS = Statement(
    lambda: (
        update(deployments)
        .where(deployments.c.id == bindparam("id_"))
        .values(
            previous_version=bindparam("previous"),
            updated_at=bindparam("now"),
            changes=deployments.c.changes + 1,
        )
    )
)


async def purge_some_deployments(tx: Tx, model_id: str) -> bool:
    """Remove some of a model's deployments with their events; whether any were there."""
    return await _remove_some(tx, _OF_MODEL, model_id)


async def forget_some_deployments(tx: Tx, version_id: str) -> bool:
    """Remove some deployments that ended with a purged version, or let some roll back past it.

    Says whether any were there. Nothing is done for a version that came back meanwhile.
    """
    version = await find_version_anywhere(tx, version_id)
    if version is None or version.purged_at is None:
        return False
    if await _remove_some(tx, _OF_VERSION, version_id):
        return True
    rows = await tx.all(_AFTER_VERSION, id=version_id, limit=AT_ONCE)
    for (id,) in rows:
        deployment = await find_deployment(tx, id)
        assert deployment is not None, "read in this transaction"
        previous = await previous_version_of(tx, deployment)
        await tx.run(_SET_PREVIOUS, id_=id, previous=previous, now=tx.now)
    return bool(rows)


async def _remove_some(tx: Tx, statement: Statement, id: str) -> bool:
    rows, left = await tx.all(statement, id=id, limit=AT_ONCE), AT_ONCE
    for (deployment,) in rows:
        removed = await tx.run(_DELETE_EVENTS, deployment_=deployment, limit=left)
        left -= removed
        if left <= 0:
            break
        await tx.run(_DELETE, id_=deployment)
    return bool(rows)
