"""Lists of tags with how much has each.

Who may see every model is shown the numbers that tags keep (`registry.catalog.tags`); for others
uses are counted one by one, up to a limit. They see the tags that somebody described, and those of
what they see. Where that is little, its tags are listed and counted, however many others there are.
"""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias

import msgspec
from sqlalchemy import bindparam, func, or_, select, union
from sqlalchemy import literal_column as literal
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.selectable import ScalarSelect, Select, Subquery

from registry.catalog.schema import model_tags, models, tags, version_tags, versions
from registry.catalog.tags import COLUMNS, tag_of
from registry.catalog.visible import few_seen, of_few, own_little, sees_model, sees_model_of
from registry.domain.lists import LAST_CHARACTER
from registry.domain.models import Tag
from store.index.transactions import Row, Statement, Tx

MOST_COUNTED: Final = 10_000
"""Models that have one tag are counted one by one up to here, for those who may not see all."""

MOST_VERSIONS_COUNTED: Final = 1_000
"""Versions cost more to look at, so fewer of them."""


def _count(counted: Select[Any], name: str, most: int) -> ScalarSelect[int]:
    bounded = counted.limit(literal(str(most + 1))).correlate(tags).subquery(name)
    return select(func.count()).select_from(bounded).scalar_subquery()


def _counts(*, restricted: bool) -> tuple[ColumnElement[int], ColumnElement[int]]:
    """How many living models and versions have a tag, of those that may be seen."""
    if not restricted:
        return tags.c.models, tags.c.versions
    of_models: Select[Any] = select(literal("1")).where(
        model_tags.c.tag == tags.c.id,
        model_tags.c.name > literal("''"),
        sees_model_of(model_tags.c.model),
    )
    of_versions: Select[Any] = (
        select(literal("1"))
        .select_from(
            version_tags.join(versions, versions.c.id == version_tags.c.version).join(
                models, models.c.id == versions.c.model
            )
        )
        .where(
            version_tags.c.tag == tags.c.id,
            versions.c.deleted_at.is_(None),
            models.c.deleted_at.is_(None),
            sees_model(),
        )
    )
    return (
        _count(of_models, "tagged_models", MOST_COUNTED),
        _count(of_versions, "tagged_versions", MOST_VERSIONS_COUNTED),
    )


Sight: TypeAlias = Literal["", "few", "seen"]
"""What restricts a statement: nothing, the few models that are seen, or what opens many."""


def _in_range(folded: ColumnElement[Any]) -> tuple[ColumnElement[bool], ...]:
    return (
        folded > bindparam("after"),
        folded >= bindparam("first"),
        folded < bindparam("behind"),
    )


def _page(*, restricted: bool) -> Statement:
    of_models, of_versions = _counts(restricted=restricted)
    found = select(
        *COLUMNS.values(), of_models.label("of_models"), of_versions.label("of_versions")
    ).where(*_in_range(tags.c.folded))
    if restricted:
        # One that is only on what is hidden is hidden too, unless it is said what it means.
        counted = found.subquery("counted")
        found = select(counted).where(
            or_(
                counted.c.description != literal("''"),
                counted.c.of_models > literal("0"),
                counted.c.of_versions > literal("0"),
            )
        )
        return Statement(found.order_by(counted.c.folded).limit(bindparam("limit")))
    return Statement(found.order_by(tags.c.folded).limit(bindparam("limit")))


def _one(*, restricted: bool) -> Statement:
    return Statement(
        select(*COLUMNS.values(), *_counts(restricted=restricted)).where(
            tags.c.id == bindparam("id")
        )
    )


def _of_few() -> tuple[Subquery, Subquery]:
    """How many models, and how many versions, of the few have each tag."""
    of_models = (
        select(model_tags.c.tag, func.count().label("count"))
        .where(of_few(model_tags.c.model))
        .group_by(model_tags.c.tag)
        .subquery("of_models")
    )
    of_versions = (
        select(version_tags.c.tag, func.count().label("count"))
        .select_from(versions.join(version_tags, version_tags.c.version == versions.c.id))
        .where(
            of_few(versions.c.model),
            func.coalesce(versions.c.deleted_at, literal("NULL")).is_(None),
        )
        .group_by(version_tags.c.tag)
        .subquery("of_versions")
    )
    return of_models, of_versions


def _page_of_few() -> Statement:
    of_models, of_versions = _of_few()
    described = (
        select(tags.c.id)
        .where(tags.c.description != literal("''"), *_in_range(tags.c.folded))
        .order_by(tags.c.folded)
        .limit(bindparam("limit"))
        .subquery("described")
    )
    shown = union(select(described.c.id), select(of_models.c.tag), select(of_versions.c.tag))
    counts = (func.coalesce(one.c.count, literal("0")) for one in (of_models, of_versions))
    return Statement(
        select(*COLUMNS.values(), *counts)
        .select_from(
            tags.outerjoin(of_models, of_models.c.tag == tags.c.id).outerjoin(
                of_versions, of_versions.c.tag == tags.c.id
            )
        )
        .where(tags.c.id.in_(shown), *_in_range(func.coalesce(tags.c.folded, literal("NULL"))))
        .order_by(tags.c.folded)
        .limit(bindparam("limit"))
    )


def _one_of_few() -> Statement:
    """One tag with how often the few and their versions have it."""
    of_models: Select[Any] = select(func.count()).where(
        of_few(model_tags.c.model), func.coalesce(model_tags.c.tag, literal("NULL")) == tags.c.id
    )
    of_versions: Select[Any] = (
        select(func.count())
        .select_from(versions.join(version_tags, version_tags.c.version == versions.c.id))
        .where(
            of_few(versions.c.model),
            func.coalesce(versions.c.deleted_at, literal("NULL")).is_(None),
            func.coalesce(version_tags.c.tag, literal("NULL")) == tags.c.id,
        )
    )
    counts = (one.correlate(tags).scalar_subquery() for one in (of_models, of_versions))
    return Statement(select(*COLUMNS.values(), *counts).where(tags.c.id == bindparam("id")))


_PAGE: Final[dict[Sight, Statement]] = {
    "": _page(restricted=False),
    "few": _page_of_few(),
    "seen": _page(restricted=True),
}
_ONE: Final[dict[Sight, Statement]] = {
    "": _one(restricted=False),
    "few": _one_of_few(),
    "seen": _one(restricted=True),
}


class CountedTag(msgspec.Struct, frozen=True):
    """A tag and how many living models and versions have it, at least if not exactly."""

    tag: Tag
    models: int
    versions: int
    is_exact: bool = True


def _counted(row: Row, *, is_restricted: bool) -> CountedTag:
    *tag, of_models, of_versions = row
    if not is_restricted:
        return CountedTag(tag_of(tuple(tag)), of_models, of_versions)
    return CountedTag(
        tag_of(tuple(tag)),
        min(of_models, MOST_COUNTED),
        min(of_versions, MOST_VERSIONS_COUNTED),
        of_models <= MOST_COUNTED and of_versions <= MOST_VERSIONS_COUNTED,
    )


async def count_tag(tx: Tx, id: str, *, seen: str | None) -> CountedTag:
    """A tag that is there with its uses, counting what is `seen`."""
    sight, bound = await _sight(tx, seen)
    row = await tx.one(_ONE[sight], id=id, **bound)
    assert row is not None, "the tag was read in this transaction"
    return _counted(row, is_restricted=seen is not None)


async def tags_after(
    tx: Tx, prefix: str, after: str, limit: int, *, seen: str | None
) -> list[CountedTag]:
    """A page of the tags that begin with a folded prefix, in order of folded key and value."""
    sight, bound = await _sight(tx, seen)
    rows = await tx.all(
        _PAGE[sight],
        first=prefix,
        behind=prefix + LAST_CHARACTER,
        after=after,
        limit=limit,
        **bound,
    )
    return [_counted(row, is_restricted=seen is not None) for row in rows]


async def _sight(tx: Tx, seen: str | None) -> tuple[Sight, dict[str, str]]:
    if seen is None:
        return "", {}
    few = await few_seen(tx, seen)
    if few is None or not await own_little(tx, few, versions.c.model):
        return "seen", {"seen": seen}
    return "few", {"few": few}
