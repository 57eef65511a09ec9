"""Deployments: begun, changed, scaled, rolled back and terminated.

A deployment runs a version of one model in one environment under a name, which is unique there
under case folding among what runs. What it names may be renamed, so it keeps ids. Who may see its
model sees it. It is never deleted: terminated it stays as history, until its version or its model
is purged.

Where it stands and what it runs moves in `registry.services.deployment_moves` alone.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from registry.catalog.audit import record
from registry.catalog.deployment_lists import NamedVersion
from registry.catalog.deployments import (
    append_event,
    event_to_restore,
    find_deployment,
    find_running,
    update_deployment,
)
from registry.catalog.versions import find_version_anywhere
from registry.catalog.visible import seen_of
from registry.domain.deployments import (
    DEPLOYING,
    TERMINATED,
    Action,
    Deployment,
    DeploymentEvent,
    DeploymentStatus,
    Scale,
    parse_deployment_name,
    parse_endpoint,
)
from registry.domain.environments import EnvironmentReference
from registry.domain.expectations import ANYTHING, Expected
from registry.domain.ids import DEPLOYMENT, new_id
from registry.domain.names import fold
from registry.domain.principals import Principal
from registry.domain.references import ModelId, ModelReference, VersionReference
from registry.errors import Conflict, NotFound
from registry.services.change import change
from registry.services.deployable import require_version_to_deploy
from registry.services.deployment_moves import entry, move_deployment, said
from registry.services.environments import require_any_environment
from registry.services.resolve import require_model, require_owner
from store.index.transactions import Tx
from store.opening import Store

_encode: Final = msgspec.json.Encoder(order="deterministic").encode


class DeployWish(msgspec.Struct, frozen=True, kw_only=True):
    """A version to deploy; without a model `version` is an id."""

    name: str
    environment: EnvironmentReference
    model: ModelReference | None = None
    version: VersionReference
    scale: Scale = Scale()
    endpoint: str = ""
    reason: str = ""


class DeploymentPatch(msgspec.Struct, frozen=True, kw_only=True):
    """What shall be said instead, UNSET stays: a name and endpoint, or how much runs."""

    name: str | UnsetType = UNSET
    endpoint: str | UnsetType = UNSET
    replicas: int | UnsetType = UNSET
    cpu: float | UnsetType | None = UNSET
    memory: int | UnsetType | None = UNSET
    gpus: int | UnsetType | None = UNSET
    reason: str = ""

    def given(self) -> dict[str, Any]:
        """What is said, by the names of `Deployment`; raises `Invalid`."""
        given = {
            name: value
            for name in self.__struct_fields__
            if name != "reason" and (value := getattr(self, name)) is not UNSET
        }
        if "name" in given:
            given["name"] = parse_deployment_name(given["name"])
            given["folded"] = fold(given["name"])
        if "endpoint" in given:
            parse_endpoint(given["endpoint"])
        return given


class FullDeployment(msgspec.Struct, frozen=True):
    """A deployment, and of its versions what never changes."""

    deployment: Deployment
    version: NamedVersion
    previous: NamedVersion | None


async def deploy_version(store: Store, principal: Principal, wish: DeployWish) -> FullDeployment:
    """Begin a deployment; raises `NotFound` for what it names, and `Conflict`."""
    name = parse_deployment_name(wish.name)
    endpoint = parse_endpoint(wish.endpoint)
    id = new_id(DEPLOYMENT, store.clock())

    async def unit(tx: Tx) -> FullDeployment:
        environment = await require_any_environment(tx, wish.environment)
        model, version = await require_version_to_deploy(tx, principal, wish.model, wish.version)
        await _refuse_taken(tx, principal, environment.id, name)
        deployment = Deployment(
            id=id,
            name=name,
            folded=fold(name),
            environment_id=environment.id,
            model_id=model.id,
            version_id=version.id,
            endpoint=endpoint,
            **msgspec.structs.asdict(wish.scale),
            deployed_at=tx.now,
            deployed_by=principal.id,
            created_at=tx.now,
            created_by=principal.id,
            updated_at=tx.now,
        )
        begun = await move_deployment(tx, principal, None, deployment, "deploy", reason=wish.reason)
        return await _full(tx, begun)

    return await change(store, principal, unit)


async def _refuse_taken(tx: Tx, principal: Principal, environment_id: str, name: str) -> None:
    existing = await find_running(tx, environment_id, fold(name))
    if existing is None:
        return
    details: dict[str, Any] = {"existing": existing.name}
    if await seen_of(tx, principal.visibility.seen, [existing.model_id]):
        details["id"] = existing.id
    raise Conflict(
        "deployment", name, "runs there already", code="deployment_exists", details=details
    )


async def require_deployment(tx: Tx, principal: Principal, id: str) -> Deployment:
    """The deployment, terminated or not, if the principal may see its model; raises `NotFound`."""
    found = await find_deployment(tx, id)
    missing = NotFound("deployment", id[:120], code="deployment_not_found")
    await require_owner(tx, principal, None if found is None else found.model_id, missing)
    assert found is not None, "what is not there was refused"
    return found


async def _require_running(tx: Tx, principal: Principal, id: str, expected: Expected) -> Deployment:
    found = await require_deployment(tx, principal, id)
    expected.require(found.id, found.changes)
    if found.status == TERMINATED:
        raise Conflict(
            "deployment",
            found.name,
            "is terminated, which is final",
            code="deployment_terminated",
            details={"id": found.id},
        )
    return found


async def get_deployment(store: Store, principal: Principal, id: str) -> FullDeployment:
    """A deployment, a terminated one too; raises `NotFound`."""

    async def unit(tx: Tx) -> FullDeployment:
        return await _full(tx, await require_deployment(tx, principal, id))

    return await store.index.look(unit)


# Moving.


async def report_status(
    store: Store,
    principal: Principal,
    id: str,
    status: DeploymentStatus,
    *,
    reason: str = "",
    expected: Expected = ANYTHING,
) -> FullDeployment:
    """Say where a deployment stands; what is so already leaves no trace. Raises `Conflict`."""

    async def unit(tx: Tx) -> FullDeployment:
        before = await require_deployment(tx, principal, id)
        expected.require(before.id, before.changes)
        action: Action = "terminate" if status == TERMINATED else "status"
        after = msgspec.structs.replace(before, status=status)
        moved = await move_deployment(tx, principal, before, after, action, reason=reason)
        return await _full(tx, moved)

    return await change(store, principal, unit)


async def terminate_deployment(
    store: Store,
    principal: Principal,
    id: str,
    *,
    reason: str = "",
    expected: Expected = ANYTHING,
) -> FullDeployment:
    """End a deployment for good; one that is terminated is as it is."""
    return await report_status(store, principal, id, TERMINATED, reason=reason, expected=expected)


async def redeploy(
    store: Store,
    principal: Principal,
    id: str,
    version: VersionReference,
    *,
    reason: str = "",
    expected: Expected = ANYTHING,
) -> FullDeployment:
    """Let a deployment run another version of its model; the one it runs leaves no trace."""

    async def unit(tx: Tx) -> FullDeployment:
        before = await _require_running(tx, principal, id, expected)
        _, found = await require_version_to_deploy(tx, principal, ModelId(before.model_id), version)
        if found.id == before.version_id:
            return await _full(tx, before)
        after = msgspec.structs.replace(before, version_id=found.id, status=DEPLOYING)
        moved = await move_deployment(tx, principal, before, after, "deploy", reason=reason)
        return await _full(tx, moved)

    return await change(store, principal, unit)


async def roll_back_deployment(
    store: Store,
    principal: Principal,
    id: str,
    *,
    reason: str = "",
    expected: Expected = ANYTHING,
) -> FullDeployment:
    """Let a deployment run what it ran before; see `registry.domain.deployments`.

    Raises `Conflict`: ``deployment_history_ends`` where nothing ran before, ``version_deleted`` and
    ``version_archived`` where what did cannot run.
    """

    async def unit(tx: Tx) -> FullDeployment:
        before = await _require_running(tx, principal, id, expected)
        await require_model(tx, principal, ModelId(before.model_id))
        source = await event_to_restore(tx, before)
        if source is None:
            raise Conflict(
                "deployment",
                before.name,
                "ran no other version before",
                code="deployment_history_ends",
                details={"id": before.id},
            )
        after = msgspec.structs.replace(before, version_id=source.to_version_id, status=DEPLOYING)
        moved = await move_deployment(
            tx, principal, before, after, "rollback", reason=reason, restored=source.stands_at
        )
        return await _full(tx, moved)

    return await change(store, principal, unit)


# Saying something else.


async def change_deployment(
    store: Store,
    principal: Principal,
    id: str,
    patch: DeploymentPatch,
    expected: Expected = ANYTHING,
) -> FullDeployment:
    """Say something else of a deployment, or scale it; what is so already leaves no trace."""
    given = patch.given()
    action: Action = "update" if {"name", "endpoint"} & given.keys() else "scale"

    async def unit(tx: Tx) -> FullDeployment:
        before = await _require_running(tx, principal, id, expected)
        after = msgspec.structs.replace(before, **given)
        if after == before:
            return await _full(tx, before)
        if after.folded != before.folded:
            await _refuse_taken(tx, principal, before.environment_id, after.name)
        after = msgspec.structs.replace(after, updated_at=tx.now, changes=before.changes + 1)
        await update_deployment(tx, after)
        was, now = said(before), said(after)
        differ = [name for name in now if now[name] != was[name]]
        changes = {name: {"from": was[name], "to": now[name]} for name in differ}
        await append_event(
            tx,
            DeploymentEvent(
                id=0,
                deployment_id=after.id,
                action=action,
                from_status=before.status,
                to_status=after.status,
                from_version_id=before.version_id,
                to_version_id=after.version_id,
                changes=_encode(changes).decode(),
                reason=patch.reason,
                created_at=tx.now,
                created_by=principal.id,
            ),
        )
        await record(
            tx,
            principal,
            entry(
                action,
                after,
                {name: was[name] for name in differ},
                {name: now[name] for name in differ},
                patch.reason,
            ),
        )
        return await _full(tx, after)

    return await change(store, principal, unit)


async def _full(tx: Tx, deployment: Deployment) -> FullDeployment:
    version = await _named(tx, deployment.version_id)
    previous = None
    if deployment.previous_version_id is not None:
        previous = await _named(tx, deployment.previous_version_id)
    return FullDeployment(deployment, version, previous)


async def _named(tx: Tx, version_id: str) -> NamedVersion:
    version = await find_version_anywhere(tx, version_id)
    assert version is not None, "a foreign key says that it is there"
    return NamedVersion(version.id, version.number, version.label)
