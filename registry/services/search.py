"""Find models by words, the best match first.

A name counts more than a tag, a tag more than a description, and that more than a card; how much,
and what becomes of words that very many have, says `registry.catalog.matches`.
"""

from __future__ import annotations

import msgspec

from registry.catalog.matches import MOST_RANKED, Place, matches
from registry.catalog.models import find_model_by_id
from registry.domain.principals import Principal
from registry.domain.questions import parse_question
from registry.services.full_models import FullModel, full_models
from store.index.transactions import Tx
from store.opening import Store


class Hit(msgspec.Struct, frozen=True):
    """A model that was found, and its place among all that were."""

    full: FullModel
    place: Place


class Hits(msgspec.Struct, frozen=True):
    """A page of what was found; `count` is all of it, or at least that."""

    items: list[Hit]
    has_more: bool
    count: int

    @property
    def count_is_exact(self) -> bool:
        return self.count < MOST_RANKED


async def search_models(
    store: Store,
    principal: Principal,
    text: str,
    *,
    after: Place | None = None,
    limit: int = 100,
) -> Hits:
    """Living models with all the words of `text`; whatever is typed, it finds or it does not."""
    question = parse_question(text)
    seen = principal.visibility.seen

    async def unit(tx: Tx) -> Hits:
        if question is None:
            return Hits([], False, 0)
        found = await matches(tx, question, seen, after, limit + 1)
        models = []
        for id, _ in found.models[:limit]:
            model = await find_model_by_id(tx, id)
            assert model is not None, "documents are those of living models"
            models.append(model)
        full = await full_models(tx, models)
        items = [Hit(one, place) for one, (_, place) in zip(full, found.models, strict=False)]
        return Hits(items, len(found.models) > limit, found.count)

    return await store.index.read(unit)
