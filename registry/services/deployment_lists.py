"""Deployments listed, with what happened to them and how many stand where."""

from __future__ import annotations

import msgspec

from registry.catalog.deployment_lists import (
    DeploymentFilters,
    ListedDeployment,
    ListedEvent,
    Standing,
    count_deployments,
    deployments_before,
    deployments_standing,
    events_before,
)
from registry.domain.environments import EnvironmentReference
from registry.domain.lists import MOST_COUNTED
from registry.domain.names import fold
from registry.domain.principals import Principal
from registry.domain.references import ModelReference, VersionReference
from registry.services.deployable import require_version_to_deploy
from registry.services.deployments import require_deployment
from registry.services.environments import require_any_environment
from registry.services.resolve import require_model
from store.index.transactions import Tx
from store.opening import Store


class DeploymentQuestion(msgspec.Struct, frozen=True, kw_only=True):
    """Which deployments to list; None where it does not matter."""

    environment: EnvironmentReference | None = None
    model: ModelReference | None = None
    version: VersionReference | None = None
    name: str | None = None
    status: str | None = None
    active: bool | None = None


class DeploymentPage(msgspec.Struct, frozen=True):
    """A page of a list; `count` is one above `MOST_COUNTED` where there are more."""

    items: list[ListedDeployment]
    next: tuple[int, str] | None
    count: int | None


async def list_deployments(
    store: Store,
    principal: Principal,
    question: DeploymentQuestion,
    *,
    after: tuple[int, str] | None,
    limit: int,
    is_counted: bool = False,
) -> DeploymentPage:
    """A page, the last made first; raises `NotFound` for what is asked by."""

    async def unit(tx: Tx) -> DeploymentPage:
        filters = await _filters(tx, principal, question)
        items = await deployments_before(tx, filters, after, limit + 1)
        count = await count_deployments(tx, filters, MOST_COUNTED + 1) if is_counted else None
        following = None
        if len(items) > limit:
            last = items[limit - 1].deployment
            following = last.created_at, last.id
        return DeploymentPage(items[:limit], following, count)

    return await store.index.read(unit)


async def _filters(tx: Tx, principal: Principal, question: DeploymentQuestion) -> DeploymentFilters:
    environment = model = version = None
    if question.environment is not None:
        environment = (await require_any_environment(tx, question.environment)).id
    if question.model is not None:
        model = (await require_model(tx, principal, question.model)).id
    if question.version is not None:
        # A deleted one too: where it still runs is what one wants to know.
        _, found = await require_version_to_deploy(tx, principal, question.model, question.version)
        model, version = None, found.id
    return DeploymentFilters(
        name=None if question.name is None else fold(question.name),
        version=version,
        model=model,
        environment=environment,
        status=question.status,
        active=question.active,
        seen=principal.visibility.seen,
    )


async def list_events(
    store: Store, principal: Principal, id: str, *, before: int, limit: int
) -> list[ListedEvent]:
    """A page of what happened to a deployment, the newest first."""

    async def unit(tx: Tx) -> list[ListedEvent]:
        found = await require_deployment(tx, principal, id)
        return await events_before(tx, found.id, before, limit)

    return await store.index.read(unit)


async def summarise_deployments(store: Store, principal: Principal) -> list[Standing]:
    """How many deployments stand where in each environment; one statement."""
    seen = principal.visibility.seen

    async def unit(tx: Tx) -> list[Standing]:
        return await deployments_standing(tx, seen)

    return await store.index.read(unit)
