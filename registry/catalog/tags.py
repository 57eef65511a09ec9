"""Rows of tags, and of which models and versions have them.

A tag stays while something has it or somebody described it; one without either goes with its last
use (`sweep_tag`).

**Seeing.** Who may not see every model sees the tags that somebody described, and those of what
they see. Where that is little, its tags are listed and counted, however many others there are.

**Counting.** A tag's row says how many living models and how many living versions of living models
have it, so that a list of tags reads no more than its own rows. Whoever puts a tag somewhere, takes
it away, or ends or begins a life calls a function here, or for a model in
`registry.catalog.tag_lives`, that keeps those numbers. Purging does not: what is purged was dead
before. Only for callers who may not see
every model are uses counted one by one, up to a limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal, TypeAlias

import msgspec
from sqlalchemy import (
    BigInteger,
    Table,
    Text,
    bindparam,
    delete,
    func,
    insert,
    or_,
    select,
    union,
    update,
)
from sqlalchemy import literal_column as literal
from sqlalchemy.sql.elements import BindParameter, ColumnElement
from sqlalchemy.sql.selectable import ScalarSelect, Select, Subquery

from registry.catalog.schema import model_tags, models, tags, version_tags, versions
from registry.catalog.visible import few_seen, of_few, own_little, sees_model, sees_model_of
from registry.domain.models import Tag, Tagging
from registry.domain.names import fold
from store.index.schema import store_state
from store.index.transactions import Row, Statement, Tx

MOST_COUNTED: Final = 10_000
"""Models that have one tag are counted one by one up to here, for those who may not see all."""

MOST_VERSIONS_COUNTED: Final = 1_000
"""Versions cost more to look at, so fewer of them."""

NAMELESS: Final = ""
"""The name under which a deleted model is in lists by tag: before all others, and not counted."""

LAST_CHARACTER: Final = "\U0010ffff"
"""Behind every text that begins with a prefix is the prefix with this."""

_FIELDS = {name: tags.c[name] for name in Tag.__struct_fields__}
_BOUND: dict[str, Any] = {name: bindparam(name) for name in _FIELDS}
_SELECT = select(*_FIELDS.values())
_BY_FOLDED = Statement(_SELECT.where(tags.c.folded == bindparam("folded")))
_BY_ID = Statement(_SELECT.where(tags.c.id == bindparam("id")))
_INSERT = Statement(insert(tags).values(_BOUND))
_UPDATE = Statement(
    update(tags)
    .where(tags.c.id == bindparam("id_"))
    .values(
        description=bindparam("description"),
        updated_at=bindparam("now"),
        changes=tags.c.changes + 1,
    )
)
_SWEEP = Statement(
    delete(tags).where(
        tags.c.id == bindparam("id_"),
        tags.c.description == literal("''"),
        ~select(model_tags.c.tag).where(model_tags.c.tag == tags.c.id).exists(),
        ~select(version_tags.c.tag).where(version_tags.c.tag == tags.c.id).exists(),
    )
)
_USED = Statement(
    select(
        or_(
            select(model_tags.c.tag).where(model_tags.c.tag == bindparam("id")).exists(),
            select(version_tags.c.tag).where(version_tags.c.tag == bindparam("id")).exists(),
        )
    )
)
_DELETE = Statement(delete(tags).where(tags.c.id == bindparam("id_")))

_MORE: Final[BindParameter[int]] = bindparam("more", type_=BigInteger())


def _count_use(column: ColumnElement[int]) -> Statement:
    """One use more, or less, of one tag."""
    counted = update(tags).where(tags.c.id == bindparam("id_"))
    return Statement(counted.values({column.name: column + _MORE}))


_COUNT_MODEL = _count_use(tags.c.models)
BEHIND: Final = "recounting_tags:"
"""Begins the keys that say which versions of a restored model are not counted again yet: a JSON
list of the number above which and that up to which, in the store's state."""


def _is_behind() -> ColumnElement[bool]:
    """Whether a version's uses are still to be counted (`registry.catalog.tag_lives`)."""
    bounds = (func.json_extract(store_state.c.value, literal(f"'$[{at}]'")) for at in (0, 1))
    above, upto = bounds
    return (
        select(literal("1"))
        .select_from(
            versions.join(
                store_state, store_state.c.key == literal(f"'{BEHIND}'").concat(versions.c.model)
            )
        )
        .where(
            versions.c.id == bindparam("version_"),
            versions.c.number > above,
            versions.c.number <= upto,
        )
        .exists()
    )


_COUNT_VERSION = Statement(
    update(tags)
    .where(tags.c.id == bindparam("id_"), ~_is_behind())
    .values(versions=tags.c.versions + _MORE)
)
_COUNT_ALL_OF_VERSION = Statement(
    update(tags)
    .where(
        tags.c.id.in_(
            select(version_tags.c.tag).where(version_tags.c.version == bindparam("version_"))
        ),
        ~_is_behind(),
    )
    .values(versions=tags.c.versions + _MORE)
)


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
        *_FIELDS.values(), of_models.label("of_models"), of_versions.label("of_versions")
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
        select(*_FIELDS.values(), *_counts(restricted=restricted)).where(
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
        select(*_FIELDS.values(), *counts)
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
    return Statement(select(*_FIELDS.values(), *counts).where(tags.c.id == bindparam("id")))


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


class _On:
    """The statements about tags on one kind of thing."""

    def __init__(self, table: Table, thing: str) -> None:
        of = table.c[thing] == bindparam(f"{thing}_")
        taggings = (
            select(*_FIELDS.values(), table.c.created_at.label("at"), table.c.created_by)
            .select_from(table.join(tags, tags.c.id == table.c.tag))
            .where(of)
        )
        self.page = Statement(
            taggings.where(table.c.key > bindparam("after"))
            .order_by(table.c.key)
            .limit(bindparam("limit"))
        )
        self.all = Statement(taggings.order_by(table.c.key))
        self.find = Statement(taggings.where(table.c.key == bindparam("key_")))
        self.count = Statement(select(func.count()).select_from(table).where(of))
        self.delete = Statement(delete(table).where(of, table.c.key == bindparam("key_")))
        self.insert = Statement(insert(table).values({c.name: bindparam(c.name) for c in table.c}))


_ON_MODEL = _On(model_tags, "model")
_ON_VERSION = _On(version_tags, "version")
_models = func.json_each(bindparam("models", type_=Text)).table_valued("value", name="wanted")
_OF_MODELS = Statement(
    select(model_tags.c.model, *_FIELDS.values(), model_tags.c.created_at, model_tags.c.created_by)
    .select_from(model_tags.join(tags, tags.c.id == model_tags.c.tag))
    .where(model_tags.c.model.in_(select(_models.c.value)))
    .order_by(model_tags.c.model, model_tags.c.key)
)
_RENAME = Statement(
    update(model_tags)
    .where(model_tags.c.model == bindparam("model_"))
    .values(name=bindparam("name"))
)
_TAGS_OF_VERSION = Statement(
    select(version_tags.c.tag).where(version_tags.c.version == bindparam("version_"))
)
_DELETE_OF_VERSION = Statement(
    delete(version_tags).where(version_tags.c.version == bindparam("version_"))
)
_BUMP_VERSION = Statement(
    update(versions)
    .where(versions.c.id == bindparam("version_"))
    .values(updated_at=bindparam("now"), changes=versions.c.changes + 1)
)


class CountedTag(msgspec.Struct, frozen=True):
    """A tag and how many living models and versions have it, at least if not exactly."""

    tag: Tag
    models: int
    versions: int
    is_exact: bool = True


def _tag(row: Row) -> Tag:
    return Tag(**dict(zip(_FIELDS, row, strict=True)))


def _tagging(row: Row) -> Tagging:
    *tag, at, by = row
    return Tagging(_tag(tuple(tag)), at, by)


def _counted(row: Row, *, is_restricted: bool) -> CountedTag:
    *tag, of_models, of_versions = row
    if not is_restricted:
        return CountedTag(_tag(tuple(tag)), of_models, of_versions)
    return CountedTag(
        _tag(tuple(tag)),
        min(of_models, MOST_COUNTED),
        min(of_versions, MOST_VERSIONS_COUNTED),
        of_models <= MOST_COUNTED and of_versions <= MOST_VERSIONS_COUNTED,
    )


async def find_tag(tx: Tx, folded: str) -> Tag | None:
    row = await tx.one(_BY_FOLDED, folded=folded)
    return None if row is None else _tag(row)


async def find_tag_by_id(tx: Tx, id: str) -> Tag | None:
    row = await tx.one(_BY_ID, id=id)
    return None if row is None else _tag(row)


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


async def insert_tag(tx: Tx, tag: Tag) -> None:
    await tx.run(_INSERT, **msgspec.structs.asdict(tag))


async def describe_tag(tx: Tx, id: str, description: str) -> None:
    await tx.run(_UPDATE, id_=id, description=description, now=tx.now)


async def sweep_tag(tx: Tx, id: str) -> bool:
    """Remove a tag that nothing has and nobody described; says whether it went."""
    return await tx.run(_SWEEP, id_=id) > 0


async def delete_tag(tx: Tx, id: str) -> None:
    """The caller made sure that nothing has it."""
    await tx.run(_DELETE, id_=id)


async def is_tag_used(tx: Tx, id: str) -> bool:
    """Whether anything has a tag, deleted things included."""
    row = await tx.one(_USED, id=id)
    return row is not None and bool(row[0])


async def tags_of_model(tx: Tx, model_id: str, *, after: str, limit: int) -> list[Tagging]:
    """A page of a model's tags in order of folded key."""
    rows = await tx.all(_ON_MODEL.page, model_=model_id, after=after, limit=limit)
    return [_tagging(row) for row in rows]


async def tags_of_models(tx: Tx, ids: Sequence[str]) -> dict[str, list[Tagging]]:
    """All tags of some models, each model's in order of folded key."""
    found: dict[str, list[Tagging]] = {id: [] for id in ids}
    for id, *row in await tx.all(_OF_MODELS, models=msgspec.json.encode(ids).decode()):
        found[id].append(_tagging(tuple(row)))
    return found


async def all_tags_of_model(tx: Tx, model_id: str) -> list[Tagging]:
    """In order of folded key; there are at most `registry.domain.tags.MOST_TAGS`."""
    return [_tagging(row) for row in await tx.all(_ON_MODEL.all, model_=model_id)]


async def find_model_tagging(tx: Tx, model_id: str, key: str) -> Tagging | None:
    row = await tx.one(_ON_MODEL.find, model_=model_id, key_=key)
    return None if row is None else _tagging(row)


async def count_model_tags(tx: Tx, model_id: str) -> int:
    row = await tx.one(_ON_MODEL.count, model_=model_id)
    assert row is not None, "a count"
    return int(row[0])


async def tag_model(tx: Tx, model_id: str, name: str, tag: Tag, actor: str) -> None:
    """Put a tag on a model of this folded name that has none with its key."""
    await tx.run(
        _ON_MODEL.insert,
        model=model_id,
        name=name,
        key=fold(tag.key),
        tag=tag.id,
        created_at=tx.now,
        created_by=actor,
    )
    await tx.run(_COUNT_MODEL, id_=tag.id, more=1)


async def untag_model(tx: Tx, model_id: str, tag: Tag) -> None:
    """Take a tag away from a living model that has it."""
    await tx.run(_ON_MODEL.delete, model_=model_id, key_=fold(tag.key))
    await tx.run(_COUNT_MODEL, id_=tag.id, more=-1)


async def rename_in_tags(tx: Tx, model_id: str, name: str) -> None:
    """Let a model be listed by its tags under its new folded name."""
    await tx.run(_RENAME, model_=model_id, name=name)


async def tags_of_version(tx: Tx, version_id: str, *, after: str, limit: int) -> list[Tagging]:
    """A page of a version's tags in order of folded key."""
    rows = await tx.all(_ON_VERSION.page, version_=version_id, after=after, limit=limit)
    return [_tagging(row) for row in rows]


async def all_tags_of_version(tx: Tx, version_id: str) -> list[Tagging]:
    """In order of folded key; there are at most `registry.domain.tags.MOST_TAGS`."""
    return [_tagging(row) for row in await tx.all(_ON_VERSION.all, version_=version_id)]


async def find_version_tagging(tx: Tx, version_id: str, key: str) -> Tagging | None:
    row = await tx.one(_ON_VERSION.find, version_=version_id, key_=key)
    return None if row is None else _tagging(row)


async def count_version_tags(tx: Tx, version_id: str) -> int:
    row = await tx.one(_ON_VERSION.count, version_=version_id)
    assert row is not None, "a count"
    return int(row[0])


async def tag_version(tx: Tx, version_id: str, tag: Tag, actor: str) -> None:
    """Put a tag on a version that has none with its key."""
    await tx.run(
        _ON_VERSION.insert,
        version=version_id,
        key=fold(tag.key),
        tag=tag.id,
        created_at=tx.now,
        created_by=actor,
    )
    await tx.run(_COUNT_VERSION, id_=tag.id, version_=version_id, more=1)


async def untag_version(tx: Tx, version_id: str, tag: Tag) -> None:
    """Take a tag away from a living version that has it."""
    await tx.run(_ON_VERSION.delete, version_=version_id, key_=fold(tag.key))
    await tx.run(_COUNT_VERSION, id_=tag.id, version_=version_id, more=-1)


async def count_version_in_tags(tx: Tx, version_id: str, more: int) -> None:
    """Count a version of a living model that is being deleted no more, or a restored one again."""
    await tx.run(_COUNT_ALL_OF_VERSION, version_=version_id, more=more)


async def forget_version_tags(tx: Tx, version_id: str) -> None:
    """Take all tags away from a version that was deleted, and sweep them."""
    held = await tx.all(_TAGS_OF_VERSION, version_=version_id)
    await tx.run(_DELETE_OF_VERSION, version_=version_id)
    for (tag,) in held:
        await sweep_tag(tx, tag)


async def bump_version(tx: Tx, version_id: str) -> None:
    """Say that a version's representation changed, where its own row did not."""
    await tx.run(_BUMP_VERSION, version_=version_id, now=tx.now)
