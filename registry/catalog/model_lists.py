"""Lists of models: filters, order and place become one statement for each combination of them.

**One filter leads, the others look.** SQLite knows nothing of how many rows a value has, so it is
told: the most selective filter of those asked for runs over its own index, in the order of names;
the others are kept from choosing another index and look at the rows that it yields. In order of
making, filters with few values (risk, kind, activity, visibility) do not lead, because sorting half
of all models costs more than passing over the other half.

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

from functools import lru_cache
from typing import Any, Final, Literal, TypeAlias

import msgspec
from sqlalchemy import Text as SqlText
from sqlalchemy import bindparam, func, select, tuple_
from sqlalchemy import literal_column as literal
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.selectable import Select

from registry.catalog.models import COLUMNS, model_of
from registry.catalog.schema import model_grams, model_tags, models, search_documents
from registry.catalog.substrings import TEXT_COLUMNS, Look, Text
from registry.catalog.visible import FEW as FEW_SEEN
from registry.catalog.visible import few_ever, few_seen, sees_model
from registry.domain.lists import LAST_CHARACTER, MOST_COUNTED
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

GRAM: Final = 3
"""Characters from which on a substring is found anywhere; a shorter one begins the name."""

PIECE: Final = 6
"""Characters of a substring whose trigrams are asked for together."""


Order: TypeAlias = Literal["name", "created", "deleted"]
Restriction: TypeAlias = Literal["none", "few", "many"]
"""Whether all models may be seen, only few of them, whose ids are bound, or any number."""
Substring: TypeAlias = Literal["none", "prefix", "known", "few", "many", "unindexed"]
"""How the models with a substring are found: ``known`` by their documents, which were asked for."""
Wanted: TypeAlias = Literal["models", "texts", "count"]
"""What a statement yields: whole rows, what is looked at for a substring, or how many there are."""

_EQUAL: Final = {
    "team_id": models.c.team,
    "namespace_id": models.c.namespace,
    "task_type": models.c.task_type,
    "subject_domain": models.c.subject_domain,
    "risk_level": models.c.risk_level,
    "kind": models.c.kind,
    "visibility": models.c.visibility,
    "is_active": models.c.active,
}
"""Filters by one column, the most selective first."""

_COARSE: Final = frozenset(("risk_level", "kind", "visibility", "is_active"))


class TagFilter(msgspec.Struct, frozen=True):
    """A folded key with the id of a tag, or with None: any value of the key."""

    key: str
    tag: str | None


class ModelFilters(msgspec.Struct, frozen=True, kw_only=True):
    """Which models are listed; None where it does not matter. `text` is folded."""

    namespace_id: str | None = None
    team_id: str | None = None
    kind: str | None = None
    task_type: str | None = None
    subject_domain: str | None = None
    risk_level: str | None = None
    visibility: str | None = None
    is_active: bool | None = None
    tags: tuple[TagFilter, ...] = ()
    text: str = ""
    is_deleted: bool = False
    seen: str | None = None
    """Which models are seen (`registry.catalog.visible`); None for all."""
    few: str | None = None
    """JSON of the ids of all models that are seen, where they are few."""


class _Shape(msgspec.Struct, frozen=True):
    """All that a statement depends on, values left out."""

    equal: tuple[str, ...]
    tags: tuple[bool, ...]
    """Of each tag whether its value matters."""
    substring: Substring
    order: Order
    restriction: Restriction
    has_place: bool
    wanted: Wanted


class _Aside(ColumnElement[Any]):
    """A column that is compared but must not choose the index."""

    inherit_cache = True

    def __init__(self, column: ColumnElement[Any]) -> None:
        self.column = column
        self.type = column.type


@compiles(_Aside)
def _aside(element: _Aside, compiler: SQLCompiler, **options: Any) -> str:
    return compiler.process(element.column, **options)


@compiles(_Aside, "sqlite")
def _aside_on_sqlite(element: _Aside, compiler: SQLCompiler, **options: Any) -> str:
    return "+" + compiler.process(element.column, **options)


async def models_after(
    tx: Tx, filters: ModelFilters, order: Order, place: tuple[Any, ...] | None, limit: int
) -> list[Model]:
    """A page of models behind a place: folded name, or time and id, the latest first."""
    filters = await _narrowed(tx, filters)
    if filters.few is not None and len(filters.text) >= GRAM:
        return await _looked_through(tx, filters, order, place, limit)
    substring = _substring(filters)
    if substring != "few":
        return await _page(tx, filters, substring, order, place, limit)
    documents = await _documents(tx, filters.text, RARE)
    if documents is not None:
        return await _page(tx, filters, "known", order, place, limit, documents=documents)
    tried = await _looked_at(tx, filters, order, place, limit)
    if tried.is_whole:
        return tried.models
    found, place = tried.models, tried.place
    documents = await _documents(tx, filters.text, FEW)
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
    shape = _shape(filters, "none", order, has_place=place is not None, wanted="texts")
    bound = _bound(filters, shape) | _bound_place(order, place)
    return [Text(*row) for row in await tx.all(_statement(shape), limit=limit, **bound)]


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
    shape = _shape(filters, substring, order, has_place=place is not None, wanted="models")
    bound = _bound(filters, shape) | _bound_place(order, place)
    if documents is not None:
        bound["documents"] = documents
    return [model_of(row) for row in await tx.all(_statement(shape), limit=limit, **bound)]


def _bound_place(order: Order, place: tuple[Any, ...] | None) -> dict[str, Any]:
    if place is None:
        return {}
    return {"after": place[0]} if order == "name" else {"after": place[0], "id": place[1]}


def place_of(order: Order, model: Model) -> tuple[Any, ...]:
    """The place of a model in a list of this order."""
    if order == "name":
        return (model.folded,)
    return (model.deleted_at if order == "deleted" else model.created_at, model.id)


async def count_models(tx: Tx, filters: ModelFilters) -> int:
    """How many models there are, up to one more than `MOST_COUNTED`."""
    order: Order = "deleted" if filters.is_deleted else "name"
    filters = await _narrowed(tx, filters)
    if filters.few is not None and len(filters.text) >= GRAM:
        return len(await _looked_through(tx, filters, order, None, FEW_SEEN))
    # Counting ends at its limit and sorts nothing, however many have a substring.
    shape = _shape(filters, _substring(filters), order, has_place=False, wanted="count")
    row = await tx.one(_statement(shape), limit=MOST_COUNTED + 1, **_bound(filters, shape))
    assert row is not None, "a count"
    return int(row[0])


def _shape(
    filters: ModelFilters, substring: Substring, order: Order, *, has_place: bool, wanted: Wanted
) -> _Shape:
    return _Shape(
        tuple(name for name in _EQUAL if getattr(filters, name) is not None),
        tuple(tag.tag is not None for tag in filters.tags),
        substring,
        order,
        _restriction(filters),
        has_place,
        wanted,
    )


def _restriction(filters: ModelFilters) -> Restriction:
    if filters.seen is None:
        return "none"
    return "many" if filters.few is None else "few"


def _substring(filters: ModelFilters) -> Substring:
    """How the substring asked for is found if few models have it."""
    if not filters.text:
        return "none"
    if filters.is_deleted:
        return "unindexed"  # deleted models have no documents
    return "prefix" if len(filters.text) < GRAM else "few"


async def _documents(tx: Tx, text: str, most: int) -> str | None:
    """JSON of the documents with a substring; None if they are more than `most`."""
    row = await tx.one(_DOCUMENTS, match=_having(text), limit=most + 1)
    assert row is not None, "an aggregate"
    return row[1] if row[0] <= most else None


def _having(text: str) -> str:
    """A question to FTS5: who has `text`, and before that its pieces.

    A phrase drags its common trigrams along through all that the rarer ones pass; a rare piece
    leads alone, and the whole is looked at where all pieces are (0.5 ms instead of 1.5).
    """
    ends = range(PIECE, len(text), PIECE)
    pieces = [text[end - PIECE : end] for end in ends]
    if pieces:
        pieces.append(text[-PIECE:])
    return " AND ".join('"' + piece.replace('"', '""') + '"' for piece in (*pieces, text))


def _bound(filters: ModelFilters, shape: _Shape) -> dict[str, Any]:
    bound: dict[str, Any] = {name: getattr(filters, name) for name in shape.equal}
    for place, tag in enumerate(filters.tags):
        bound[f"key{place}" if tag.tag is None else f"tag{place}"] = tag.tag or tag.key
        if tag.tag is not None:
            bound[f"key{place}"] = tag.key
    if shape.substring in ("few", "many"):
        bound["match"] = _having(filters.text)
    elif shape.substring in ("prefix", "unindexed"):
        bound["text"] = filters.text
        if shape.substring == "prefix":
            bound["behind"] = filters.text + LAST_CHARACTER
    if shape.restriction == "few":
        bound["few"] = filters.few
    elif shape.restriction == "many":
        bound["seen"] = filters.seen
    return bound


_hits = literal("model_grams").op("MATCH")(bindparam("match"))
_hit = select(model_grams.c.rowid).where(_hits).limit(bindparam("limit")).subquery("hits")
_DOCUMENTS = Statement(select(func.count(), func.json_group_array(_hit.c.rowid)))
_ids = func.json_each(bindparam("ids", type_=SqlText)).table_valued("value", name="ids")
_BY_IDS = Statement(select(*COLUMNS).where(models.c.id.in_(select(_ids.c.value))))
_COLUMNS_OF: Final[dict[Wanted, tuple[ColumnElement[Any], ...]]] = {
    "models": COLUMNS,
    "texts": TEXT_COLUMNS,
    "count": (literal("1"),),
}
_known = func.json_each(bindparam("documents", type_=SqlText)).table_valued("value", name="known")


@lru_cache(maxsize=512)
def _statement(shape: _Shape) -> Statement:
    name: ColumnElement[Any] = models.c.folded
    question = select(*_COLUMNS_OF[shape.wanted])
    is_led = shape.restriction == "few"
    if is_led:
        question = question.where(models.c.id.in_(_few()))
    elif shape.tags:
        question = question.select_from(
            model_tags.join(models, models.c.id == model_tags.c.model)
        ).where(_leading_tag(has_value=shape.tags[0]))
        name, is_led = model_tags.c.name, True
    question = question.where(*_tagged(shape.tags, first=0 if shape.restriction == "few" else 1))
    if shape.substring in ("known", "few"):
        hits = (
            select(_known.c.value)
            if shape.substring == "known"
            else select(model_grams.c.rowid).where(_hits)
        )
        of_hits = select(search_documents.c.model).where(search_documents.c.document.in_(hits))
        question = question.where((_Aside(models.c.id) if is_led else models.c.id).in_(of_hits))
        is_led = True
    for filter in shape.equal:
        can_lead = shape.order != "created" or filter not in _COARSE
        column: ColumnElement[Any] = _EQUAL[filter]
        if is_led or not can_lead or shape.order == "deleted":
            column = _Aside(column)
        else:
            is_led = True
        question = question.where(column == bindparam(filter))
    question = question.where(*_text(shape, name), *_seen(shape))
    return Statement(_in_order(question, shape, name))


def _leading_tag(*, has_value: bool) -> ColumnElement[bool]:
    if has_value:
        return model_tags.c.tag == bindparam("tag0")
    return model_tags.c.key == bindparam("key0")


def _tagged(tags: tuple[bool, ...], *, first: int) -> list[ColumnElement[bool]]:
    """Whether a model has the tags from the `first` on."""
    found = list[ColumnElement[bool]]()
    for place, has_value in enumerate(tags[first:], first):
        other = model_tags.alias(f"tagging{place}")
        conditions = [other.c.model == models.c.id, other.c.key == bindparam(f"key{place}")]
        if has_value:
            conditions.append(_Aside(other.c.tag) == bindparam(f"tag{place}"))
        found.append(select(literal("1")).select_from(other).where(*conditions).exists())
    return found


def _text(shape: _Shape, name: ColumnElement[Any]) -> list[ColumnElement[bool]]:
    match shape.substring:
        case "prefix":
            return [name >= bindparam("text"), name < bindparam("behind")]
        case "unindexed":
            return [func.instr(models.c.folded, bindparam("text")) > literal("0")]
        case "many":
            return [
                select(literal("1"))
                .select_from(search_documents)
                .where(
                    search_documents.c.model == models.c.id,
                    # All matches once: asking FTS5 for each row of the list took 5 ms a row.
                    _Aside(search_documents.c.document).in_(
                        select(model_grams.c.rowid).where(_hits)
                    ),
                )
                .exists()
            ]
    return []


def _seen(shape: _Shape) -> list[ColumnElement[bool]]:
    if shape.restriction == "many":
        return [sees_model()]
    return []


def _few() -> Select[Any]:
    ids = func.json_each(bindparam("few", type_=SqlText)).table_valued("value", name="seen")
    return select(ids.c.value)


def _in_order(question: Select[Any], shape: _Shape, name: ColumnElement[Any]) -> Select[Any]:
    if shape.order == "deleted":
        at = models.c.deleted_at
        is_deleted = (_Aside(at) if shape.restriction == "few" else at).is_not(None)
        question = question.where(is_deleted, models.c.purged_at.is_(None))
    else:
        at = models.c.created_at
        question = question.where(models.c.deleted_at.is_(None))
    if shape.wanted == "count":
        counted = question.limit(bindparam("limit")).subquery("counted")
        return select(func.count()).select_from(counted)
    if shape.order == "name":
        question = question.order_by(name)
        place: ColumnElement[bool] = name > bindparam("after")
    else:
        question = question.order_by(at.desc(), models.c.id.desc())
        place = tuple_(at, models.c.id) < tuple_(bindparam("after"), bindparam("id"))
    if shape.has_place:
        question = question.where(place)
    return question.limit(bindparam("limit"))
