"""Which models are listed: filters, order and place, and one statement for each combination.

**One filter leads, the others look.** SQLite knows nothing of how many rows a value has, so it is
told: the most selective filter of those asked for runs over its own index, in the order of names;
the others are kept from choosing another index and look at the rows that it yields. In order of
making, filters with few values (risk, kind, activity, visibility) do not lead, because sorting half
of all models costs more than passing over the other half.
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

from registry.catalog.grams import GRAM, IS_HIT, having
from registry.catalog.models import COLUMNS
from registry.catalog.schema import model_grams, model_tags, models, search_documents
from registry.catalog.substrings import TEXT_COLUMNS
from registry.catalog.visible import sees_model
from registry.domain.lists import LAST_CHARACTER
from registry.domain.models import Model
from store.index.transactions import Statement

Order: TypeAlias = Literal["name", "created", "deleted"]
Restriction: TypeAlias = Literal["none", "few", "many"]
"""Whether all models may be seen, only few of them, whose ids are bound, or any number."""
Substring: TypeAlias = Literal["none", "prefix", "known", "few", "many", "unindexed"]
"""How the models with a substring are found: ``known`` by their documents, which were asked for."""
Wanted: TypeAlias = Literal["models", "texts", "count"]
"""What a statement yields: whole rows, what is looked at for a substring, or how many there are."""

EQUAL: Final = {
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


class Shape(msgspec.Struct, frozen=True):
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


def place_of(order: Order, model: Model) -> tuple[Any, ...]:
    """The place of a model in a list of this order."""
    if order == "name":
        return (model.folded,)
    return (model.deleted_at if order == "deleted" else model.created_at, model.id)


def shape_of(
    filters: ModelFilters, substring: Substring, order: Order, *, has_place: bool, wanted: Wanted
) -> Shape:
    return Shape(
        tuple(name for name in EQUAL if getattr(filters, name) is not None),
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


def substring_of(filters: ModelFilters) -> Substring:
    """How the substring asked for is found if few models have it."""
    if not filters.text:
        return "none"
    if filters.is_deleted:
        return "unindexed"  # deleted models have no documents
    return "prefix" if len(filters.text) < GRAM else "few"


def values_of(
    filters: ModelFilters, shape: Shape, place: tuple[Any, ...] | None = None
) -> dict[str, Any]:
    """What a statement of this shape is given, but for ``limit`` and ``documents``."""
    bound: dict[str, Any] = {name: getattr(filters, name) for name in shape.equal}
    for number, tag in enumerate(filters.tags):
        bound[f"key{number}" if tag.tag is None else f"tag{number}"] = tag.tag or tag.key
        if tag.tag is not None:
            bound[f"key{number}"] = tag.key
    if shape.substring in ("few", "many"):
        bound["match"] = having(filters.text)
    elif shape.substring in ("prefix", "unindexed"):
        bound["text"] = filters.text
        if shape.substring == "prefix":
            bound["behind"] = filters.text + LAST_CHARACTER
    if shape.restriction == "few":
        bound["few"] = filters.few
    elif shape.restriction == "many":
        bound["seen"] = filters.seen
    if place is not None:
        bound["after"] = place[0]
        if shape.order != "name":
            bound["id"] = place[1]
    return bound


_COLUMNS_OF: Final[dict[Wanted, tuple[ColumnElement[Any], ...]]] = {
    "models": COLUMNS,
    "texts": TEXT_COLUMNS,
    "count": (literal("1"),),
}
_known = func.json_each(bindparam("documents", type_=SqlText)).table_valued("value", name="known")


@lru_cache(maxsize=512)
def statement_of(shape: Shape) -> Statement:
    """Takes ``limit``, what `values_of` says, and ``documents`` where these are ``known``."""
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
            else select(model_grams.c.rowid).where(IS_HIT)
        )
        of_hits = select(search_documents.c.model).where(search_documents.c.document.in_(hits))
        question = question.where((_Aside(models.c.id) if is_led else models.c.id).in_(of_hits))
        is_led = True
    for filter in shape.equal:
        can_lead = shape.order != "created" or filter not in _COARSE
        column: ColumnElement[Any] = EQUAL[filter]
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


def _text(shape: Shape, name: ColumnElement[Any]) -> list[ColumnElement[bool]]:
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
                        select(model_grams.c.rowid).where(IS_HIT)
                    ),
                )
                .exists()
            ]
    return []


def _seen(shape: Shape) -> list[ColumnElement[bool]]:
    if shape.restriction == "many":
        return [sees_model()]
    return []


def _few() -> Select[Any]:
    ids = func.json_each(bindparam("few", type_=SqlText)).table_valued("value", name="seen")
    return select(ids.c.value)


def _in_order(question: Select[Any], shape: Shape, name: ColumnElement[Any]) -> Select[Any]:
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
