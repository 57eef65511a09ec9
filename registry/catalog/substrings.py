"""Looking at models one by one for a substring that many have.

What is looked at is what `registry.catalog.search.reindex` writes into the index of trigrams: the
folded name, each tag and the folded description. So both ways find the same models.

The look gives up when the pace, from the first match on, tells that the page would take more rows
than `MOST_ROWS`. Others in front of the first match tell nothing: names sort together that were
made together, and passing over a thousand of them costs a third of asking the index once more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
from sqlalchemy import Text as SqlText
from sqlalchemy import bindparam, func, select

from registry.catalog.schema import model_tags, models, tags
from registry.domain.names import fold
from store.index.transactions import Statement, Tx

MOST_ROWS: Final = 2_000
"""More rows than that are not looked at for one page."""

FIRST_ROWS: Final = 64
"""So many at first, or as many as the page shall have; then what the pace makes likely."""

ROWS_FOR_A_PACE: Final = 192
"""Fewer rows say too little of the others to give up."""


class Text(msgspec.Struct, frozen=True):
    """What is looked at of a model besides its tags, and its place in the list."""

    id: str
    folded: str
    description: str
    created_at: int


TEXT_COLUMNS: Final = (models.c.id, models.c.folded, models.c.description, models.c.created_at)
"""The columns of `Text`, in its order."""

_ids = func.json_each(bindparam("models", type_=SqlText)).table_valued("value", name="looked_at")
_TAGGED = Statement(
    lambda: (
        select(model_tags.c.model)
        .join(tags, tags.c.id == model_tags.c.tag)
        .where(
            model_tags.c.model.in_(select(_ids.c.value)),
            func.instr(tags.c.folded, bindparam("text")) > 0,
        )
    )
)


class Look:
    """A page in the making. `found` has the ids of no more models than the page may have."""

    def __init__(self, text: str, limit: int) -> None:
        self.found: list[str] = []
        self._text = text
        self._limit = limit
        self._rows = 0
        self._rows_before = 0

    @property
    def is_full(self) -> bool:
        return len(self.found) >= self._limit

    @property
    def next_size(self) -> int:
        """How many rows to look at next; 0 if that leads nowhere."""
        room = MOST_ROWS - self._rows
        if not self.found:
            return min(room, max(FIRST_ROWS, self._limit, self._rows))
        rows = self._rows - self._rows_before
        if rows >= ROWS_FOR_A_PACE and len(self.found) * MOST_ROWS < self._limit * rows:
            return 0
        likely = (self._limit - len(self.found)) * rows // len(self.found)
        return min(room, likely + FIRST_ROWS // 2, 4 * self._rows)

    async def at(self, tx: Tx, models: Sequence[Text]) -> None:
        """Look at the next models of the list."""
        hits = {model.id for model in models if self._says(model)}
        hits |= await self._tagged(tx, [model.id for model in models if model.id not in hits])
        found = [model.id for model in models if model.id in hits]
        if not self.found:
            firsts = (place for place, model in enumerate(models) if model.id in hits)
            self._rows_before = self._rows + next(firsts, len(models))
        self._rows += len(models)
        self.found += found[: self._limit - len(self.found)]

    def _says(self, model: Text) -> bool:
        return self._text in model.folded or self._text in fold(model.description)

    async def _tagged(self, tx: Tx, ids: Sequence[str]) -> set[str]:
        listed = msgspec.json.encode(ids).decode()
        return {model for (model,) in await tx.all(_TAGGED, models=listed, text=self._text)}
