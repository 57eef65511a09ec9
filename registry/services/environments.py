"""Environments: made, described, deleted and brought back.

Whoever may see any model sees all environments: they are global, and who changes one must hold the
word for that on the whole registry. Deleting is soft, frees the name,
and is refused while anything runs there; terminated deployments keep saying where they were. An
environment that is not active takes no version, neither by deploying nor by rolling back; what runs
there goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from registry.catalog.audit import Entry, record
from registry.catalog.deployments import running_in
from registry.catalog.environments import (
    EnvironmentFilters,
    count_environments,
    environments_after,
    find_environment,
    find_environment_by_name,
    insert_environment,
    update_environment,
)
from registry.catalog.visible import seen_of
from registry.domain.deployments import named
from registry.domain.environments import (
    Environment,
    EnvironmentId,
    EnvironmentReference,
    parse_environment_name,
    parse_kubernetes_namespace,
)
from registry.domain.expectations import ANYTHING, Expected
from registry.domain.facts import merged
from registry.domain.ids import ENVIRONMENT, new_id
from registry.domain.lists import MOST_COUNTED
from registry.domain.names import fold
from registry.domain.principals import Principal
from registry.domain.secrets_in_config import config_text
from registry.errors import Conflict, NotFound
from registry.services.authority import require_everywhere
from registry.services.change import change
from store.index.transactions import Tx
from store.opening import Store

MOST_ASKED: Final = 100
MOST_NAMED: Final = 10
"""How many of the deployments are named that are in the way."""


class EnvironmentWish(msgspec.Struct, frozen=True, kw_only=True):
    """An environment to make."""

    name: str
    type: str
    region: str = ""
    kubernetes_namespace: str = ""
    description: str = ""
    config: Mapping[str, Any] = {}
    active: bool = True


class EnvironmentPatch(msgspec.Struct, frozen=True, kw_only=True):
    """What shall be different; UNSET stays, `config` is merged and None empties it."""

    name: str | UnsetType = UNSET
    type: str | UnsetType = UNSET
    region: str | UnsetType = UNSET
    kubernetes_namespace: str | UnsetType = UNSET
    description: str | UnsetType = UNSET
    config: Mapping[str, Any] | UnsetType | None = UNSET
    active: bool | UnsetType = UNSET


class EnvironmentPage(msgspec.Struct, frozen=True):
    """A page of a list; `count` is one above `MOST_COUNTED` where there are more."""

    items: list[Environment]
    has_more: bool
    count: int | None


async def create_environment(
    store: Store, principal: Principal, wish: EnvironmentWish
) -> Environment:
    """Make an environment; raises `Conflict`, `Invalid` and `SecretInConfig`."""
    name = parse_environment_name(wish.name)
    namespace = parse_kubernetes_namespace(wish.kubernetes_namespace)
    config = config_text(wish.config)
    id = new_id(ENVIRONMENT, store.clock())

    async def unit(tx: Tx) -> Environment:
        require_everywhere(principal, principal.word, name)
        await _refuse_taken(tx, name)
        environment = Environment(
            id=id,
            name=name,
            folded=fold(name),
            type=wish.type,
            region=wish.region,
            kubernetes_namespace=namespace,
            description=wish.description,
            config=config,
            is_active=wish.active,
            created_at=tx.now,
            created_by=principal.id,
            updated_at=tx.now,
        )
        await insert_environment(tx, environment)
        await record(tx, principal, _entry("create", environment, after=_said(environment)))
        return environment

    return await change(store, principal, unit)


async def require_environment(tx: Tx, reference: EnvironmentReference) -> Environment:
    """The living environment; raises `NotFound`."""
    found = await _find(tx, reference)
    if found is None or found.deleted_at is not None:
        raise _missing(reference)
    return found


async def require_any_environment(tx: Tx, reference: EnvironmentReference) -> Environment:
    """The living environment, or by its id a deleted one; raises `NotFound`."""
    found = await _find(tx, reference)
    if found is None:
        raise _missing(reference)
    return found


async def _find(tx: Tx, reference: EnvironmentReference) -> Environment | None:
    if isinstance(reference, EnvironmentId):
        return await find_environment(tx, reference.text)
    return await find_environment_by_name(tx, reference.folded)


def _missing(reference: EnvironmentReference) -> NotFound:
    return NotFound("environment", reference.text[:120], code="environment_not_found")


async def get_environment(store: Store, reference: EnvironmentReference) -> Environment:
    """A living environment, or by its id a deleted one; raises `NotFound`."""

    async def unit(tx: Tx) -> Environment:
        return await require_any_environment(tx, reference)

    return await store.index.look(unit)


async def list_environments(
    store: Store,
    filters: EnvironmentFilters,
    *,
    after: str | tuple[int, str] | None,
    limit: int,
    is_counted: bool = False,
) -> EnvironmentPage:
    """A page in order of folded name; of deleted ones the latest deleted first."""

    async def unit(tx: Tx) -> EnvironmentPage:
        found = await environments_after(tx, filters, after, limit + 1)
        count = await count_environments(tx, filters, MOST_COUNTED + 1) if is_counted else None
        return EnvironmentPage(found[:limit], len(found) > limit, count)

    return await store.index.read(unit)


async def change_environment(
    store: Store,
    principal: Principal,
    reference: EnvironmentReference,
    patch: EnvironmentPatch,
    expected: Expected = ANYTHING,
) -> Environment:
    """Change what is said of an environment; what changes nothing leaves no trace."""
    given = _given(patch)

    async def unit(tx: Tx) -> Environment:
        require_everywhere(principal, principal.word, reference.text)
        before = await require_environment(tx, reference)
        expected.require(before.id, before.changes)
        after = msgspec.structs.replace(before, **given)
        if patch.config is not UNSET:
            config = {}
            if patch.config is not None:
                config = merged(msgspec.json.decode(before.config), patch.config)
            after = msgspec.structs.replace(after, config=config_text(config))
        if after == before:
            return before
        if after.folded != before.folded:
            await _refuse_taken(tx, after.name)
        action = "update" if after.name == before.name else "rename"
        return await _write(tx, principal, action, before, after)

    return await change(store, principal, unit)


def _given(patch: EnvironmentPatch) -> dict[str, Any]:
    """What is said instead, but for the configuration, by the names of `Environment`."""
    given: dict[str, Any] = {
        name: value
        for name in ("type", "region", "description")
        if (value := getattr(patch, name)) is not UNSET
    }
    if isinstance(patch.name, str):
        name = parse_environment_name(patch.name)
        given |= {"name": name, "folded": fold(name)}
    if isinstance(patch.kubernetes_namespace, str):
        given["kubernetes_namespace"] = parse_kubernetes_namespace(patch.kubernetes_namespace)
    if isinstance(patch.active, bool):
        given["is_active"] = patch.active
    return given


async def delete_environment(
    store: Store,
    principal: Principal,
    reference: EnvironmentReference,
    expected: Expected = ANYTHING,
) -> None:
    """Delete an environment softly; raises `Conflict` while something runs there."""

    async def unit(tx: Tx) -> None:
        require_everywhere(principal, principal.word, reference.text)
        before = await require_environment(tx, reference)
        expected.require(before.id, before.changes)
        await _refuse_in_use(tx, principal, before)
        after = msgspec.structs.replace(before, deleted_at=tx.now, deleted_by=principal.id)
        await _write(tx, principal, "delete", before, after)

    await change(store, principal, unit)


async def _refuse_in_use(tx: Tx, principal: Principal, environment: Environment) -> None:
    running = await running_in(tx, environment.id, MOST_ASKED)
    if not running:
        return
    models = await seen_of(tx, principal.visibility.seen, {one.model_id for one in running})
    seen = [one for one in running if one.model_id in models][:MOST_NAMED]
    raise Conflict(
        "environment",
        environment.name,
        "is in use; terminate what runs there first: "
        + (", ".join(one.name for one in seen) or "deployments of models that you do not see"),
        code="environment_in_use",
        details={"deployments": [named(one) for one in seen]},
    )


async def restore_environment(store: Store, principal: Principal, id: str) -> Environment:
    """Bring a deleted environment back, by its id; raises `Conflict` if its name is taken."""

    async def unit(tx: Tx) -> Environment:
        require_everywhere(principal, principal.word, id)
        before = await find_environment(tx, id)
        if before is None:
            raise _missing(EnvironmentId(id))
        if before.deleted_at is None:
            return before
        await _refuse_taken(tx, before.name)
        after = msgspec.structs.replace(before, deleted_at=None, deleted_by=None)
        return await _write(tx, principal, "restore", before, after)

    return await change(store, principal, unit)


async def _refuse_taken(tx: Tx, name: str) -> None:
    existing = await find_environment_by_name(tx, fold(name))
    if existing is not None:
        raise Conflict(
            "environment",
            name,
            "is there already",
            code="environment_exists",
            details={"existing": existing.name, "id": existing.id},
        )


async def _write(
    tx: Tx, principal: Principal, action: str, before: Environment, after: Environment
) -> Environment:
    after = msgspec.structs.replace(after, updated_at=tx.now, changes=before.changes + 1)
    await update_environment(tx, after)
    said = None if action == "delete" else _said(after)
    was = None if action == "restore" else _said(before)
    await record(tx, principal, _entry(action, after, before=was, after=said))
    return after


def _said(environment: Environment) -> dict[str, Any]:
    return {
        "name": environment.name,
        "type": environment.type,
        "region": environment.region,
        "kubernetes_namespace": environment.kubernetes_namespace,
        "description": environment.description,
        "config": msgspec.json.decode(environment.config),
        "active": environment.is_active,
    }


def _entry(
    action: str, environment: Environment, *, before: Any = None, after: Any = None
) -> Entry:
    return Entry(
        action=action,
        kind="environment",
        id=environment.id,
        name=environment.name,
        before=before,
        after=after,
    )
