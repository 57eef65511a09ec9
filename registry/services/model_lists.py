"""List models by what is said of them, a page at a time."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from registry.catalog.model_filters import ModelFilters, Order, TagFilter, place_of
from registry.catalog.model_lists import count_models, models_after
from registry.catalog.tags import find_tag
from registry.domain.names import fold
from registry.domain.principals import Principal
from registry.domain.tags import folded_tag
from registry.services.full_models import FullModel, full_models
from registry.services.namespaces import require_namespace
from registry.services.teams import require_team
from store.index.transactions import Tx
from store.opening import Store


class ModelsAsked(msgspec.Struct, frozen=True, kw_only=True):
    """Which models are asked for; a tag is a key and a value, or None for any value of the key."""

    namespace: str | None = None
    team: str | None = None
    kind: str | None = None
    task_type: str | None = None
    subject_domain: str | None = None
    risk_level: str | None = None
    visibility: str | None = None
    active: bool | None = None
    tags: tuple[tuple[str, str | None], ...] = ()
    text: str = ""
    is_deleted: bool = False
    order: Literal["name", "created"] = "name"


class ModelsFound(msgspec.Struct, frozen=True):
    """A page of models. `place` leads on, None at the end; `total` is one too many if inexact."""

    items: list[FullModel]
    place: tuple[Any, ...] | None
    total: int | None


async def list_models(
    store: Store,
    principal: Principal,
    asked: ModelsAsked,
    *,
    place: tuple[Any, ...] | None = None,
    limit: int = 100,
    is_counted: bool = False,
) -> ModelsFound:
    """A page of the models asked for; raises `NotFound` for an unknown namespace or team."""
    order: Order = "deleted" if asked.is_deleted else asked.order

    async def unit(tx: Tx) -> ModelsFound:
        filters = await _filters(tx, principal, asked)
        if filters is None:
            return ModelsFound([], None, 0 if is_counted else None)
        found = await models_after(tx, filters, order, place, limit + 1)
        page = await full_models(tx, found[:limit])
        total = await count_models(tx, filters) if is_counted else None
        following = place_of(order, found[limit - 1]) if len(found) > limit else None
        return ModelsFound(page, following, total)

    return await store.index.read(unit)


async def _filters(tx: Tx, principal: Principal, asked: ModelsAsked) -> ModelFilters | None:
    """What is asked for in terms of rows; None if no model can be meant."""
    tags = []
    for key, value in asked.tags:
        tag = None if value is None else await find_tag(tx, folded_tag(key, value))
        if value is not None and tag is None:
            return None
        tags.append(TagFilter(fold(key), None if tag is None else tag.id))
    tags.sort(key=lambda tag: tag.tag is None)  # one value of a key is rarer than any
    namespace, team = asked.namespace, asked.team
    return ModelFilters(
        namespace_id=(
            None if namespace is None else (await require_namespace(tx, principal, namespace)).id
        ),
        team_id=None if team is None else (await require_team(tx, team)).id,
        kind=asked.kind,
        task_type=asked.task_type,
        subject_domain=asked.subject_domain,
        risk_level=asked.risk_level,
        visibility=asked.visibility,
        is_active=asked.active,
        tags=tuple(tags),
        text=fold(asked.text),
        is_deleted=asked.is_deleted,
        seen=principal.visibility.seen,
    )
