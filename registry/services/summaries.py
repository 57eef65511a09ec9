"""What there is of models and teams at a glance, and which models were trained long ago.

Each summary is one statement on one snapshot. A model that the principal may not see is 404 like a
missing one, before anything of it is summed up, and counts nowhere.
"""

from __future__ import annotations

from typing import Final

import msgspec

from registry.catalog.retraining import Aged, aged_models
from registry.catalog.summaries import (
    ModelSummary,
    TeamSummary,
    summarize_model,
    summarize_team,
    summarize_teams,
)
from registry.domain.ids import TEAM, is_id
from registry.domain.names import fold
from registry.domain.principals import Principal
from registry.domain.references import ModelId, ModelReference
from registry.errors import NotFound
from registry.services.resolve import require_model
from store.clock import SECOND
from store.index.transactions import Tx
from store.opening import Store

DAY: Final = 86400 * SECOND


class AgedModels(msgspec.Struct, frozen=True):
    """A page of models that were trained long ago, as of `now`."""

    items: list[Aged]
    next: tuple[int, str] | None
    now: int


async def model_summary(
    store: Store, principal: Principal, reference: ModelReference, *, downloads_days: int
) -> ModelSummary:
    """What there is of a living model; of downloads only those of the last days."""

    async def unit(tx: Tx) -> ModelSummary:
        meant = reference
        if not principal.visibility.everything:  # what is hidden is not even summed up: that takes
            meant = ModelId((await require_model(tx, principal, reference)).id)
        found = await summarize_model(tx, meant, tx.now - downloads_days * DAY)
        if found is None:
            name = reference.id if isinstance(reference, ModelId) else reference.text
            raise NotFound("model", name, code="model_not_found")
        return found

    return await store.index.read(unit)


async def team_summary(store: Store, principal: Principal, reference: str) -> TeamSummary:
    """What there is of the models of a living team, by its name or id; raises `NotFound`."""
    seen = principal.visibility.seen

    async def unit(tx: Tx) -> TeamSummary:
        if is_id(reference, TEAM):
            found = await summarize_team(tx, id=reference, seen=seen)
        else:
            found = await summarize_team(tx, folded=fold(reference), seen=seen)
        if found is None:
            raise NotFound("team", reference, code="team_not_found")
        return found

    return await store.index.read(unit)


async def team_summaries(
    store: Store, principal: Principal, *, after: str, limit: int
) -> list[TeamSummary]:
    """A page of living teams in order of folded name."""
    seen = principal.visibility.seen

    async def unit(tx: Tx) -> list[TeamSummary]:
        return await summarize_teams(tx, after, limit, seen=seen)

    return await store.index.read(unit)


async def models_to_retrain(
    store: Store, principal: Principal, *, days: int, after: tuple[int, str] | None, limit: int
) -> AgedModels:
    """Active models that were trained last more than so many days ago, the oldest first."""
    seen = principal.visibility.seen

    async def unit(tx: Tx) -> AgedModels:
        found = await aged_models(tx, tx.now - days * DAY, after, limit + 1, seen=seen)
        items = found[:limit]
        more = len(found) > limit
        return AgedModels(items, (items[-1].trained_at, items[-1].model) if more else None, tx.now)

    return await store.index.read(unit)
