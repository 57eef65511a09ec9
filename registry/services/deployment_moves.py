"""The one way a deployment's status or version moves, whichever door asks for it.

Deploying, deploying another version in place, rolling back, reporting a status and terminating all
end here, so that nothing can walk round a check. A check is a function that gets the wish before
anything is written and raises to refuse it; it reads through the same transaction, so what it saw
still holds when the move commits. A wish that changes nothing is granted without asking.

Every move leaves an event and an audit entry in its own transaction.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

import msgspec

from registry.catalog.audit import Entry, record
from registry.catalog.deployments import (
    append_event,
    insert_deployment,
    previous_version_of,
    write_deployment_move,
)
from registry.catalog.environments import find_environment
from registry.catalog.versions import find_version_anywhere
from registry.domain.deployments import (
    TERMINATED,
    Action,
    Deployment,
    DeploymentEvent,
    allowed_after,
)
from registry.domain.principals import Principal
from registry.errors import Conflict
from store.index.transactions import Tx


class DeploymentWish(msgspec.Struct, frozen=True, kw_only=True):
    """A deployment that shall stand elsewhere or run another version; `before` None: a new one."""

    action: Action
    before: Deployment | None
    after: Deployment
    reason: str


DeploymentCheck: TypeAlias = Callable[[Tx, Principal, DeploymentWish], Awaitable[None]]

DEPLOYMENT_CHECKS: Final[list[DeploymentCheck]] = []
"""Asked in this order before a deployment moves, once the rules of this module allow it."""


async def move_deployment(
    tx: Tx,
    principal: Principal,
    before: Deployment | None,
    after: Deployment,
    action: Action,
    *,
    reason: str,
    restored: int | None = None,
) -> Deployment:
    """Let a deployment stand and run as `after` says, or with `before` None begin it.

    `before` was read in this transaction; of `after` only status and version count where there is
    one. `restored` is the event whose version a rollback brings back. Raises `Conflict`, code
    ``transition_forbidden``, and for what cannot run: see `_require_runnable`.
    """
    if before is not None:
        if (before.status, before.version_id) == (after.status, after.version_id):
            return before
        after = _moved(tx, principal, before, after)
        if before.status != after.status:
            _require_allowed(before, after.status)
    if before is None or before.version_id != after.version_id:
        await _require_runnable(tx, after)
    wish = DeploymentWish(action=action, before=before, after=after, reason=reason)
    for check in DEPLOYMENT_CHECKS:
        await check(tx, principal, wish)
    if before is None:
        await insert_deployment(tx, after)
    await append_event(tx, _event(tx, principal, wish, restored))
    if before is not None:
        if before.version_id != after.version_id:
            previous = await previous_version_of(tx, after)
            after = msgspec.structs.replace(after, previous_version_id=previous)
        await write_deployment_move(tx, after)
    await _record(tx, principal, wish)
    return after


def _moved(tx: Tx, principal: Principal, before: Deployment, after: Deployment) -> Deployment:
    """The deployment before, with another status or version, and since when and by whom."""
    moved = msgspec.structs.replace(
        before,
        status=after.status,
        version_id=after.version_id,
        updated_at=tx.now,
        changes=before.changes + 1,
    )
    if moved.version_id != before.version_id:
        moved = msgspec.structs.replace(moved, deployed_at=tx.now, deployed_by=principal.id)
    if moved.status == TERMINATED:
        moved = msgspec.structs.replace(moved, terminated_at=tx.now, terminated_by=principal.id)
    return moved


def _require_allowed(deployment: Deployment, status: str) -> None:
    allowed = allowed_after(deployment.status)
    if status not in allowed:
        raise Conflict(
            "deployment",
            deployment.name,
            f"cannot go from {deployment.status} to {status}",
            code="transition_forbidden",
            details={"from": deployment.status, "to": status, "allowed": list(allowed)},
        )


async def _require_runnable(tx: Tx, deployment: Deployment) -> None:
    """Raise `Conflict` unless the version may run and its environment takes it.

    Codes: ``version_deleted``, ``version_archived``, ``environment_deleted``,
    ``environment_inactive``.
    """
    version = await find_version_anywhere(tx, deployment.version_id)
    environment = await find_environment(tx, deployment.environment_id)
    assert version is not None, "a foreign key says that it is there"
    assert environment is not None, "a foreign key says that it is there"
    if version.deleted_at is not None:
        raise Conflict(
            "version",
            version.name,
            "was deleted and cannot be deployed",
            code="version_deleted",
            details={"id": version.id, "number": version.number, "label": version.label},
        )
    if version.status == "archived":
        raise Conflict(
            "version",
            version.name,
            "is archived and cannot be deployed",
            code="version_archived",
            details={"id": version.id, "number": version.number, "label": version.label},
        )
    if environment.deleted_at is not None:
        raise Conflict(
            "environment",
            environment.name,
            "was deleted and takes no version",
            code="environment_deleted",
            details={"id": environment.id},
        )
    if not environment.is_active:
        raise Conflict(
            "environment",
            environment.name,
            "is not active and takes no version",
            code="environment_inactive",
            details={"id": environment.id},
        )


def _event(
    tx: Tx, principal: Principal, wish: DeploymentWish, restored: int | None
) -> DeploymentEvent:
    before, after = wish.before, wish.after
    return DeploymentEvent(
        id=0,
        deployment_id=after.id,
        action=wish.action,
        from_status=None if before is None else before.status,
        to_status=after.status,
        from_version_id=None if before is None else before.version_id,
        to_version_id=after.version_id,
        restored=restored,
        reason=wish.reason,
        created_at=tx.now,
        created_by=principal.id,
    )


async def _record(tx: Tx, principal: Principal, wish: DeploymentWish) -> None:
    before, after = wish.before, said(wish.after)
    was = None if before is None else said(before)
    if was is not None:
        differ = [name for name in after if after[name] != was[name]]
        was = {name: was[name] for name in differ}
        after = {name: after[name] for name in differ}
    await record(tx, principal, entry(wish.action, wish.after, was, after, wish.reason))


def said(deployment: Deployment) -> dict[str, Any]:
    """What the audit log keeps of a deployment."""
    return {
        "name": deployment.name,
        "environment": deployment.environment_id,
        "version": deployment.version_id,
        "status": deployment.status,
        "endpoint": deployment.endpoint,
        **msgspec.structs.asdict(deployment.scale),
    }


def entry(action: str, deployment: Deployment, before: Any, after: Any, reason: str) -> Entry:
    """An entry of the audit log about a deployment."""
    return Entry(
        action=action,
        kind="deployment",
        id=deployment.id,
        name=deployment.name,
        model=deployment.model_id,
        before=before,
        after=after,
        reason=reason,
    )
