"""Models with what their representation names, read together."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from registry.catalog.namespaces import find_namespace_by_id
from registry.catalog.tags import all_tags_of_model, tags_of_models
from registry.domain.models import Model, Namespace, Tagging, Team
from registry.services.teams import team_of
from store.index.transactions import Tx


class FullModel(msgspec.Struct, frozen=True):
    """A model with what its representation names: all but the team counts in `model.changes`."""

    model: Model
    namespace: Namespace
    team: Team | None
    tags: list[Tagging]

    @property
    def under(self) -> str:
        """What is shown of the team, which may change without its models, however many."""
        return shown_of(self.team)


def shown_of(team: Team | None) -> str:
    """What a model's representation shows of its team beside the id, in one word."""
    return "" if team is None else f"{team.name} {'lives' if team.deleted_at is None else 'gone'}"


async def full_model(tx: Tx, model: Model) -> FullModel:
    """A model that was read in this transaction, with what belongs to it."""
    namespace = await find_namespace_by_id(tx, model.namespace_id)
    assert namespace is not None, "a namespace with models in it stays"
    return FullModel(
        model,
        namespace,
        await team_of(tx, model.team_id),
        await all_tags_of_model(tx, model.id),
    )


async def full_models(tx: Tx, models: Sequence[Model]) -> list[FullModel]:
    """Models that were read in this transaction: namespaces and teams once each, tags at once."""
    namespaces = dict[str, Namespace]()
    teams = dict[str | None, Team | None]()
    for model in models:
        if model.namespace_id not in namespaces:
            namespace = await find_namespace_by_id(tx, model.namespace_id)
            assert namespace is not None, "a namespace with models in it stays"
            namespaces[model.namespace_id] = namespace
        if model.team_id not in teams:
            teams[model.team_id] = await team_of(tx, model.team_id)
    tags = await tags_of_models(tx, [model.id for model in models])
    return [
        FullModel(model, namespaces[model.namespace_id], teams[model.team_id], tags[model.id])
        for model in models
    ]
