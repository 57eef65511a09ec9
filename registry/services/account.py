"""What somebody is told of themselves: who they are here, and what they may do where."""

from __future__ import annotations

from typing import Final

import msgspec

from registry.catalog.memberships import TeamOfUser, teams_of_user
from registry.catalog.models import find_model_by_id
from registry.catalog.namespaces import find_namespace_by_id
from registry.domain.principals import Principal, place_of
from registry.domain.roles import Place, Words
from store.index.transactions import Tx
from store.opening import Store

MOST_PLACES: Final = 200
"""Of each kind; whoever has more asks about one at a time."""


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """Teams, and rights by the names of places."""

    teams: list[TeamOfUser]
    namespaces: list[tuple[str, Words]]
    models: list[tuple[str, Words]]
    is_complete: bool


async def describe(store: Store, principal: Principal) -> Account:
    """What there is to say of whoever asks."""
    rights = principal.rights

    async def unit(tx: Tx) -> Account:
        namespaces, models = list[tuple[str, Words]](), list[tuple[str, Words]]()
        for id in sorted(rights.namespaces)[:MOST_PLACES]:
            namespace = await find_namespace_by_id(tx, id)
            if namespace is not None and (words := rights.at(Place(id))):
                namespaces.append((namespace.slug, words))
        for id in sorted(rights.models)[:MOST_PLACES]:
            model = await find_model_by_id(tx, id)
            if model is not None and (words := rights.at(place_of(model))):
                models.append((model.name, words))
        teams = await teams_of_user(tx, principal.id, "", MOST_PLACES + 1)
        counts = (len(rights.namespaces), len(rights.models), len(teams))
        return Account(
            teams=teams[:MOST_PLACES],
            namespaces=sorted(namespaces),
            models=sorted(models),
            is_complete=max(counts) <= MOST_PLACES,
        )

    return await store.index.read(unit)
