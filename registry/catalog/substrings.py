"""Looking at models one by one for a substring that many have.

What is looked at is what `registry.catalog.search.reindex` writes into the index of trigrams: the
folded name, each tag and the folded description. So both ways find the same models.

The look gives up when the pace tells that the page would take more rows than `MOST_ROWS`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
from sqlalchemy import Text, bindparam, func, select

from registry.catalog.schema import model_tags, tags
from registry.domain.models import Model
from registry.domain.names import fold
from store.index.transactions import Statement, Tx

MOST_ROWS: Final = 2_000
"""More rows than that are not looked at for one page."""

FIRST_ROWS: Final = 64
"""So many at first, or as many as the page shall have; then what the pace makes likely."""

ROWS_FOR_A_PACE: Final = 192
"""Fewer rows say too little of the others to give up."""

_ids = func.json_each(bindparam("models", type_=Text)).table_valued("value", name="looked_at")
_TAGS = Statement(
    select(model_tags.c.model, tags.c.folded)
    .join(tags, tags.c.id == model_tags.c.tag)
    .where(model_tags.c.model.in_(select(_ids.c.value)))
    .order_by(model_tags.c.model, model_tags.c.key)
)


class Look:
    """A page in the making. `found` has no more models than the page may have."""

    def __init__(self, text: str, limit: int) -> None:
        self.found: list[Model] = []
        self._text = text
        self._limit = limit
        self._rows = 0

    @property
    def is_full(self) -> bool:
        return len(self.found) >= self._limit

    @property
    def next_size(self) -> int:
        """How many rows to look at next; 0 if that leads nowhere."""
        room = MOST_ROWS - self._rows
        is_slow = len(self.found) * MOST_ROWS < self._limit * self._rows
        if self._rows >= ROWS_FOR_A_PACE and is_slow:
            return 0
        if not self.found:
            return min(room, max(FIRST_ROWS, self._limit, self._rows))
        likely = (self._limit - len(self.found)) * self._rows // len(self.found)
        return min(room, likely + FIRST_ROWS // 2, 4 * self._rows)

    async def at(self, tx: Tx, models: Sequence[Model]) -> None:
        """Look at the next models of the list."""
        self._rows += len(models)
        hits = {model.id for model in models if self._says(model)}
        hits |= await self._tagged(tx, [model.id for model in models if model.id not in hits])
        found = [model for model in models if model.id in hits]
        self.found += found[: self._limit - len(self.found)]

    def _says(self, model: Model) -> bool:
        return self._text in model.folded or self._text in fold(model.description)

    async def _tagged(self, tx: Tx, ids: Sequence[str]) -> set[str]:
        of_model: dict[str, list[str]] = {}
        rows = await tx.all(_TAGS, models=msgspec.json.encode(ids).decode())
        for model, tag in rows:
            of_model.setdefault(model, []).append(tag)
        return {model for model, found in of_model.items() if self._text in "\n".join(found)}
