"""Tags on models and versions: who put which there and when, and which there are.

A model has each key once: putting a tag whose key is there with another value replaces it. A tag
that nothing has any more goes, unless somebody described it; the description is the tag's own, the
same on everything that has it.

Tags are part of what is said of a model or version, so they count as changes of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from typing import TypeAlias

import msgspec

from registry.catalog import tags as rows
from registry.catalog.audit import Entry, record
from registry.catalog.models import bump_model
from registry.catalog.search import reindex
from registry.catalog.tag_lists import CountedTag, count_tag, tags_after
from registry.domain.expectations import ANYTHING, Expected
from registry.domain.ids import TAG, is_id, new_id
from registry.domain.masking import MASK, names_secret
from registry.domain.models import Model, Tag, Tagging, Version
from registry.domain.names import fold
from registry.domain.principals import Principal
from registry.domain.references import ModelReference, VersionReference
from registry.domain.tags import MOST_TAGS, folded_tag, parse_tag
from registry.errors import Conflict, LimitReached, NotFound, RegistryError
from registry.services.authority import require_everywhere
from registry.services.batches import BatchProblem, batch_problem, refuse_batch
from registry.services.change import change
from registry.services.resolve import DraftFiles, follow, require_model
from store.index.transactions import Tx
from store.opening import Store


class TagWish(msgspec.Struct, frozen=True, kw_only=True):
    """A tag to put somewhere; `id` is for the tag if it is new, `description` None to leave it."""

    id: str
    key: str
    value: str = ""
    description: str | None = None

    @classmethod
    def fresh(cls, now: int, key: str, value: str = "", description: str | None = None) -> TagWish:
        return cls(id=new_id(TAG, now), key=key, value=value, description=description)


class Place(msgspec.Struct, frozen=True):
    """Where tags are: a model, or a version of it."""

    model: ModelReference
    version: VersionReference | None = None


class Holder(msgspec.Struct, frozen=True):
    """The model or version that has tags, as it was found."""

    model: Model
    version: Version | None = None

    @property
    def name(self) -> str:
        model = self.model.name
        return model if self.version is None else f"{self.version.name} of {model}"


class Placed(msgspec.Struct, frozen=True):
    """A tag as it is on something now, and whether its key was not there before."""

    tagging: Tagging
    is_new: bool
    is_change: bool


class Assignment(msgspec.Struct, frozen=True):
    """One tag to put somewhere."""

    place: Place
    wish: TagWish


class Removal(msgspec.Struct, frozen=True):
    """One key to take away from somewhere."""

    place: Place
    key: str


Step: TypeAlias = Assignment | Removal


async def list_tags_of(
    store: Store, principal: Principal, place: Place, *, after: str = "", limit: int = 100
) -> list[Tagging]:
    """A page of the tags of a model or version in order of folded key."""

    async def unit(tx: Tx) -> list[Tagging]:
        holder = await _require(tx, principal, place)
        if holder.version is None:
            return await rows.tags_of_model(tx, holder.model.id, after=after, limit=limit)
        return await rows.tags_of_version(tx, holder.version.id, after=after, limit=limit)

    return await store.index.read(unit)


async def put_tag(store: Store, principal: Principal, place: Place, wish: TagWish) -> Placed:
    """Put a tag on something; putting what is there changes nothing."""

    async def unit(tx: Tx) -> Placed:
        holder = await _require(tx, principal, place)
        placed = await assign(tx, principal, holder, wish)
        if placed.is_change:
            await _say_changed(tx, [holder])
        return placed

    return await change(store, principal, unit)


async def remove_tag(store: Store, principal: Principal, place: Place, key: str) -> None:
    """Take a tag away by its key; raises `NotFound`, code ``tag_not_found``."""

    async def unit(tx: Tx) -> None:
        holder = await _require(tx, principal, place)
        await _take(tx, principal, holder, key)
        await _say_changed(tx, [holder])

    await change(store, principal, unit)


async def change_tags(store: Store, principal: Principal, steps: Sequence[Step]) -> list[bool]:
    """Carry out each step, all or none; says of each whether it changed something.

    Raises `Conflict`, code ``batch_refused``, with every step that cannot be carried out.
    """

    async def unit(tx: Tx) -> list[bool]:
        done: list[bool] = []
        touched: dict[str, Holder] = {}
        problems = list[BatchProblem]()
        for name, step in _named(steps):
            try:
                holder = await _require(tx, principal, step.place)
                changed = await _carry_out(tx, principal, holder, step)
            except RegistryError as error:
                problems.append(batch_problem(name, error))
                continue
            done.append(changed)
            if changed:
                touched[holder.name] = holder
        refuse_batch("tags", problems)
        await _say_changed(tx, touched.values())
        return done

    return await change(store, principal, unit)


def _named(steps: Sequence[Step]) -> Iterator[tuple[str, Step]]:
    """Each step with its path in the body that asked for it."""
    places = {Assignment: count(), Removal: count()}
    for step in steps:
        name = "assign" if isinstance(step, Assignment) else "remove"
        yield f"{name}[{next(places[type(step)])}]", step


async def _carry_out(tx: Tx, principal: Principal, holder: Holder, step: Step) -> bool:
    if isinstance(step, Assignment):
        return (await assign(tx, principal, holder, step.wish)).is_change
    if await _find(tx, holder, fold(step.key)) is None:
        return False  # in bulk, taking away what is not there is no error
    await _take(tx, principal, holder, step.key)
    return True


async def assign(tx: Tx, principal: Principal, holder: Holder, wish: TagWish) -> Placed:
    """Put a tag on something; the caller says that it changed."""
    before = await _find(tx, holder, fold(wish.key))
    tag = await _tag(tx, principal, wish)
    if before is not None and before.tag.id == tag.id:
        return Placed(Tagging(tag, before.created_at, before.created_by), False, False)
    if before is None and await _count(tx, holder) >= MOST_TAGS:
        raise LimitReached("tags", MOST_TAGS)
    return await _place(tx, principal, holder, tag, before)


async def assign_first(
    tx: Tx, principal: Principal, holder: Holder, wishes: Iterable[TagWish]
) -> list[Tagging]:
    """Put tags on what was made in this transaction and has none; all that it has now, by key."""
    placed: dict[str, Tagging] = {}
    for wish in wishes:
        key = fold(wish.key)
        if key in placed:
            done = await assign(tx, principal, holder, wish)
        elif len(placed) >= MOST_TAGS:
            raise LimitReached("tags", MOST_TAGS)
        else:
            tag = await _tag(tx, principal, wish)
            done = await _place(tx, principal, holder, tag, None)
        placed[key] = done.tagging
    return [placed[key] for key in sorted(placed)]


async def _place(
    tx: Tx, principal: Principal, holder: Holder, tag: Tag, before: Tagging | None
) -> Placed:
    if before is not None:
        await _untag(tx, holder, before.tag)
        await rows.sweep_tag(tx, before.tag.id)
    if holder.version is None:
        await rows.tag_model(tx, holder.model.id, holder.model.folded, tag, principal.id)
    else:
        await rows.tag_version(tx, holder.version.id, tag, principal.id)
    await _record(
        tx, principal, "tag", holder, before=None if before is None else before.tag, after=tag
    )
    return Placed(Tagging(tag, tx.now, principal.id), before is None, True)


async def _tag(tx: Tx, principal: Principal, wish: TagWish) -> Tag:
    """The tag with this key and value, made or described anew as wished."""
    folded = folded_tag(wish.key, wish.value)
    found = await rows.find_tag(tx, folded)
    if found is None:
        found = Tag(
            id=wish.id,
            key=wish.key,
            value=wish.value,
            folded=folded,
            description=wish.description or "",
            created_at=tx.now,
            created_by=principal.id,
            updated_at=tx.now,
        )
        await rows.insert_tag(tx, found)
    elif wish.description is not None:
        found = await _describe(tx, principal, found, wish.description)
    return found


async def _take(tx: Tx, principal: Principal, holder: Holder, key: str) -> None:
    before = await _find(tx, holder, fold(key))
    if before is None:
        raise NotFound("tag", f"{key} of {holder.name}", code="tag_not_found")
    await _untag(tx, holder, before.tag)
    await rows.sweep_tag(tx, before.tag.id)
    await _record(tx, principal, "untag", holder, before=before.tag, after=None)


async def _say_changed(tx: Tx, holders: Iterable[Holder]) -> None:
    """Each model or version is another than before, and its model is found by other words."""
    for holder in holders:
        if holder.version is None:
            await bump_model(tx, holder.model.id)
            await reindex(tx, holder.model.id)
        else:
            await rows.bump_version(tx, holder.version.id)


async def _require(tx: Tx, principal: Principal, place: Place) -> Holder:
    model = await require_model(tx, principal, place.model)
    if place.version is None:
        return Holder(model)
    found = await follow(tx, model, place.version)
    if isinstance(found, DraftFiles) or found.version is None:
        raise NotFound("version", f"{found.name} of {model.name}", code="version_not_found")
    return Holder(model, found.version)


async def _find(tx: Tx, holder: Holder, key: str) -> Tagging | None:
    if holder.version is None:
        return await rows.find_model_tagging(tx, holder.model.id, key)
    return await rows.find_version_tagging(tx, holder.version.id, key)


async def _count(tx: Tx, holder: Holder) -> int:
    if holder.version is None:
        return await rows.count_model_tags(tx, holder.model.id)
    return await rows.count_version_tags(tx, holder.version.id)


async def _untag(tx: Tx, holder: Holder, tag: Tag) -> None:
    if holder.version is None:
        await rows.untag_model(tx, holder.model.id, tag)
    else:
        await rows.untag_version(tx, holder.version.id, tag)


async def _record(
    tx: Tx,
    principal: Principal,
    action: str,
    holder: Holder,
    *,
    before: Tag | None,
    after: Tag | None,
) -> None:
    version = holder.version
    await record(
        tx,
        principal,
        Entry(
            action=action,
            kind="model" if version is None else "version",
            id=holder.model.id if version is None else version.id,
            name=holder.model.name if version is None else version.name,
            model=holder.model.id,
            before=None if before is None else {"tag": told(before)},
            after=None if after is None else {"tag": told(after)},
        ),
    )


def spelled(tag: Tag) -> str:
    """``key=value``, or the key alone."""
    return f"{tag.key}={tag.value}" if tag.value else tag.key


def told(tag: Tag) -> str:
    """The same for the audit log, where a value under the name of a secret is masked."""
    if tag.value and names_secret(tag.key):
        return f"{tag.key}={MASK}"
    return spelled(tag)


async def require_tag(tx: Tx, reference: str) -> Tag:
    """The tag with this id, or written ``key=value`` or ``key``; raises `NotFound`."""
    if is_id(reference, TAG):
        found = await rows.find_tag_by_id(tx, reference)
    else:
        key, value = parse_tag(reference)
        found = await rows.find_tag(tx, folded_tag(key, value or ""))
    if found is None:
        raise _missing(reference)
    return found


def _missing(reference: str) -> NotFound:
    return NotFound("tag", reference, code="tag_not_found")


async def get_tag(store: Store, principal: Principal, reference: str) -> CountedTag:
    """A tag with its uses."""
    seen = principal.visibility.seen

    async def unit(tx: Tx) -> CountedTag:
        tag = await require_tag(tx, reference)
        counted = await count_tag(tx, tag.id, seen=seen)
        if not (seen is None or tag.description or counted.models or counted.versions):
            raise _missing(reference)
        return counted

    return await store.index.read(unit)


async def list_tags(
    store: Store, principal: Principal, *, prefix: str = "", after: str = "", limit: int = 100
) -> list[CountedTag]:
    """A page of the tags that begin with `prefix`, each with its uses."""
    seen = principal.visibility.seen

    async def unit(tx: Tx) -> list[CountedTag]:
        return await tags_after(tx, fold(prefix), after, limit, seen=seen)

    return await store.index.read(unit)


async def describe_tag(
    store: Store,
    principal: Principal,
    reference: str,
    description: str,
    expected: Expected = ANYTHING,
) -> CountedTag:
    """Say what a tag means."""
    seen = principal.visibility.seen

    async def unit(tx: Tx) -> CountedTag:
        require_everywhere(principal, principal.word, reference)
        tag = await require_tag(tx, reference)
        expected.require(tag.id, tag.changes)
        await _describe(tx, principal, tag, description)
        return await count_tag(tx, tag.id, seen=seen)

    return await change(store, principal, unit)


async def _describe(tx: Tx, principal: Principal, tag: Tag, description: str) -> Tag:
    if description == tag.description:
        return tag
    await rows.describe_tag(tx, tag.id, description)
    await record(
        tx,
        principal,
        Entry(
            action="update",
            kind="tag",
            id=tag.id,
            name=told(tag),
            before={"description": tag.description},
            after={"description": description},
        ),
    )
    return msgspec.structs.replace(
        tag, description=description, updated_at=tx.now, changes=tag.changes + 1
    )


async def delete_tag(
    store: Store, principal: Principal, reference: str, expected: Expected = ANYTHING
) -> None:
    """Remove a tag that nothing has; raises `Conflict`, code ``tag_in_use``."""

    async def unit(tx: Tx) -> None:
        require_everywhere(principal, principal.word, reference)
        tag = await require_tag(tx, reference)
        expected.require(tag.id, tag.changes)
        if await rows.is_tag_used(tx, tag.id):
            raise Conflict(
                "tag",
                spelled(tag),
                "is on models or versions, perhaps deleted ones; take it away there",
                code="tag_in_use",
            )
        await rows.delete_tag(tx, tag.id)
        entry = Entry(
            action="delete",
            kind="tag",
            id=tag.id,
            name=told(tag),
            before={"tag": told(tag), "description": tag.description},
        )
        await record(tx, principal, entry)

    await change(store, principal, unit)
