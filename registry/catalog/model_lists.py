"""Lists of models: what is asked for, a page at a time.

**Substrings.** From three characters on the trigram index knows who has them. It is asked once, as
that costs more than what follows: few are looked up and sorted. Where there are more, a page soon
fills: the list runs in its order, and the text of each row is looked at
(`registry.catalog.substrings`). Where it does not, because the matches lie far behind or are too
thin for the page, the index finds them all after all.

**What may be seen** is part of every statement, or all may. A reader who sees few models gets them
looked up, and sorted, like the matches of a rare substring: whoever sees three among 100,000 would
else wait until a list has passed over all of them. Totals count no more than is seen, and no
further than `MOST_COUNTED`.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from sqlalchemy import Text as SqlText
from sqlalchemy import bindparam, func, select

from registry.catalog.grams import GRAM, documents_with
from registry.catalog.model_filters import (
    ModelFilters,
    Order,
    Substring,
    shape_of,
    statement_of,
    substring_of,
    values_of,
)
from registry.catalog.models import COLUMNS, model_of
from registry.catalog.schema import models
from registry.catalog.substrings import Look, Text
from registry.catalog.visible import FEW as FEW_SEEN
from registry.catalog.visible import few_ever, few_seen
from registry.domain.lists import MOST_COUNTED
from registry.domain.models import Model
from store.index.transactions import Statement, Tx

RARE: Final = 2_000
"""No more matches of a substring than this are looked up and sorted without trying the list first.

Finding out took up to 0.8 ms; looking up and sorting 2.5 us each, looking at a row 4 us.
"""

FEW: Final = 20_000
"""So many are looked up and sorted; beyond, the list runs in its order and skips the others.

Running through a list whose matches all lie at its end took 500 ms at 100,000 models, which so many
matches make unlikely.
"""

_ids = func.json_each(bindparam("ids", type_=SqlText)).table_valued("value", name="ids")
_BY_IDS = Statement(lambda: select(*COLUMNS).where(models.c.id.in_(select(_ids.c.value))))


async def models_after(
    tx: Tx, filters: ModelFilters, order: Order, place: tuple[Any, ...] | None, limit: int
) -> list[Model]:
    """A page of models behind a place: folded name, or time and id, the latest first."""
    filters = await _narrowed(tx, filters)
    if filters.few is not None and len(filters.text) >= GRAM:
        return await _looked_through(tx, filters, order, place, limit)
    substring = substring_of(filters)
    if substring != "few":
        return await _page(tx, filters, substring, order, place, limit)
    documents = await documents_with(tx, filters.text, RARE)
    if documents is not None:
        return await _page(tx, filters, "known", order, place, limit, documents=documents)
    tried = await _looked_at(tx, filters, order, place, limit)
    if tried.is_whole:
        return tried.models
    found, place = tried.models, tried.place
    documents = await documents_with(tx, filters.text, FEW)
    substring = "many" if documents is None else "known"
    return found + await _page(
        tx, filters, substring, order, place, limit - len(found), documents=documents
    )


async def _narrowed(tx: Tx, filters: ModelFilters) -> ModelFilters:
    if filters.seen is None:
        return filters
    few = await (few_ever if filters.is_deleted else few_seen)(tx, filters.seen)
    return msgspec.structs.replace(filters, few=few)


async def _looked_through(
    tx: Tx, filters: ModelFilters, order: Order, place: tuple[Any, ...] | None, limit: int
) -> list[Model]:
    """Of the few models that are seen those with the substring, however many others have it."""
    everything = msgspec.structs.replace(filters, text="")
    look = Look(filters.text, limit)
    await look.at(tx, await _texts(tx, everything, order, place, FEW_SEEN))
    return await _whole(tx, look)


class _Tried(msgspec.Struct, frozen=True):
    """What looking at rows found, and if it is not the whole page, behind which place to go on."""

    models: list[Model]
    place: tuple[Any, ...] | None
    is_whole: bool


async def _looked_at(
    tx: Tx, filters: ModelFilters, order: Order, place: tuple[Any, ...] | None, limit: int
) -> _Tried:
    everything = msgspec.structs.replace(filters, text="")
    look = Look(filters.text, limit)
    while size := look.next_size:
        rows = await _texts(tx, everything, order, place, size)
        await look.at(tx, rows)
        if look.is_full or len(rows) < size:
            return _Tried(await _whole(tx, look), None, True)
        last = rows[-1]
        place = (last.folded,) if order == "name" else (last.created_at, last.id)
    return _Tried(await _whole(tx, look), place, False)


async def _whole(tx: Tx, look: Look) -> list[Model]:
    """The models that were found, in the order in which they were."""
    rows = await tx.all(_BY_IDS, ids=msgspec.json.encode(look.found).decode())
    of_id = {model.id: model for model in map(model_of, rows)}
    return [of_id[id] for id in look.found]


async def _texts(
    tx: Tx, filters: ModelFilters, order: Order, place: tuple[Any, ...] | None, limit: int
) -> list[Text]:
    shape = shape_of(filters, "none", order, has_place=place is not None, wanted="texts")
    bound = values_of(filters, shape, place)
    return [Text(*row) for row in await tx.all(statement_of(shape), limit=limit, **bound)]


async def _page(
    tx: Tx,
    filters: ModelFilters,
    substring: Substring,
    order: Order,
    place: tuple[Any, ...] | None,
    limit: int,
    *,
    documents: str | None = None,
) -> list[Model]:
    shape = shape_of(filters, substring, order, has_place=place is not None, wanted="models")
    bound = values_of(filters, shape, place)
    if documents is not None:
        bound["documents"] = documents
    return [model_of(row) for row in await tx.all(statement_of(shape), limit=limit, **bound)]


async def count_models(tx: Tx, filters: ModelFilters) -> int:
    """How many models there are, up to one more than `MOST_COUNTED`."""
    order: Order = "deleted" if filters.is_deleted else "name"
    filters = await _narrowed(tx, filters)
    if filters.few is not None and len(filters.text) >= GRAM:
        return len(await _looked_through(tx, filters, order, None, FEW_SEEN))
    # Counting ends at its limit and sorts nothing, however many have a substring.
    shape = shape_of(filters, substring_of(filters), order, has_place=False, wanted="count")
    row = await tx.one(statement_of(shape), limit=MOST_COUNTED + 1, **values_of(filters, shape))
    assert row is not None, "a count"
    return int(row[0])
