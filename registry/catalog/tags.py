"""Rows of tags, and of which models and versions have them.

A tag stays while something has it or somebody described it; one without either goes with its last
use (`sweep_tag`).

**Counting.** A tag's row says how many living models and how many living versions of living models
have it, so that a list of tags reads no more than its own rows. Whoever puts a tag somewhere, takes
it away, or ends or begins a life calls a function here, or for a model in
`registry.catalog.tag_lives`, that keeps those numbers. Purging does not: what is purged was dead
before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

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
    update,
)
from sqlalchemy import literal_column as literal
from sqlalchemy.sql.elements import BindParameter, ColumnElement

from registry.catalog.schema import model_tags, tags, version_tags, versions
from registry.domain.models import Tag, Tagging
from registry.domain.names import fold
from store.index.schema import store_state
from store.index.transactions import Row, Statement, Tx

NAMELESS: Final = ""
"""The name under which a deleted model is in lists by tag: before all others, and not counted."""

COLUMNS = {name: tags.c[name] for name in Tag.__struct_fields__}
_BOUND: dict[str, Any] = {name: bindparam(name) for name in COLUMNS}
_SELECT = select(*COLUMNS.values())
_BY_FOLDED = Statement(lambda: _SELECT.where(tags.c.folded == bindparam("folded")))
_BY_ID = Statement(lambda: _SELECT.where(tags.c.id == bindparam("id")))
_INSERT = Statement(lambda: insert(tags).values(_BOUND))
_UPDATE = Statement(
    lambda: (
        update(tags)
        .where(tags.c.id == bindparam("id_"))
        .values(
            description=bindparam("description"),
            updated_at=bindparam("now"),
            changes=tags.c.changes + 1,
        )
    )
)
_SWEEP = Statement(
    lambda: delete(tags).where(
        tags.c.id == bindparam("id_"),
        tags.c.description == literal("''"),
        ~select(model_tags.c.tag).where(model_tags.c.tag == tags.c.id).exists(),
        ~select(version_tags.c.tag).where(version_tags.c.tag == tags.c.id).exists(),
    )
)
_USED = Statement(
    lambda: select(
        or_(
            select(model_tags.c.tag).where(model_tags.c.tag == bindparam("id")).exists(),
            select(version_tags.c.tag).where(version_tags.c.tag == bindparam("id")).exists(),
        )
    )
)
_DELETE = Statement(lambda: delete(tags).where(tags.c.id == bindparam("id_")))

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
    lambda: (
        update(tags)
        .where(tags.c.id == bindparam("id_"), ~_is_behind())
        .values(versions=tags.c.versions + _MORE)
    )
)
_COUNT_ALL_OF_VERSION = Statement(
    lambda: (
        update(tags)
        .where(
            tags.c.id.in_(
                select(version_tags.c.tag).where(version_tags.c.version == bindparam("version_"))
            ),
            ~_is_behind(),
        )
        .values(versions=tags.c.versions + _MORE)
    )
)


class _On:
    """The statements about tags on one kind of thing."""

    def __init__(self, table: Table, thing: str) -> None:
        of = table.c[thing] == bindparam(f"{thing}_")
        taggings = (
            select(*COLUMNS.values(), table.c.created_at.label("at"), table.c.created_by)
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
    lambda: (
        select(
            model_tags.c.model, *COLUMNS.values(), model_tags.c.created_at, model_tags.c.created_by
        )
        .select_from(model_tags.join(tags, tags.c.id == model_tags.c.tag))
        .where(model_tags.c.model.in_(select(_models.c.value)))
        .order_by(model_tags.c.model, model_tags.c.key)
    )
)
_RENAME = Statement(
    lambda: (
        update(model_tags)
        .where(model_tags.c.model == bindparam("model_"))
        .values(name=bindparam("name"))
    )
)
_TAGS_OF_VERSION = Statement(
    lambda: select(version_tags.c.tag).where(version_tags.c.version == bindparam("version_"))
)
_DELETE_OF_VERSION = Statement(
    lambda: delete(version_tags).where(version_tags.c.version == bindparam("version_"))
)
_BUMP_VERSION = Statement(
    lambda: (
        update(versions)
        .where(versions.c.id == bindparam("version_"))
        .values(updated_at=bindparam("now"), changes=versions.c.changes + 1)
    )
)


def tag_of(row: Row) -> Tag:
    """A tag from its `COLUMNS`."""
    return Tag(**dict(zip(COLUMNS, row, strict=True)))


def _tagging(row: Row) -> Tagging:
    *tag, at, by = row
    return Tagging(tag_of(tuple(tag)), at, by)


async def find_tag(tx: Tx, folded: str) -> Tag | None:
    row = await tx.one(_BY_FOLDED, folded=folded)
    return None if row is None else tag_of(row)


async def find_tag_by_id(tx: Tx, id: str) -> Tag | None:
    row = await tx.one(_BY_ID, id=id)
    return None if row is None else tag_of(row)


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
