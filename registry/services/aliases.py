"""Point aliases at versions by hand, roll them back, and read where they point and pointed.

**Rolling back walks back through history.** Each rollback goes to the target before the one it
finds, so two in a row end two targets ago: whoever rolls back twice has found the first choice bad
as well, and must not be given what they fled from. An event that a rollback made stands where the
event stands whose target it brought back; a move by hand or by publishing stands where it is.

**Where it pointed then.** An alias's events are in order of time (a clock that was set back does
not change that), so what was true at a time is the last event up to it. What it pointed at may have
been deleted or purged since: the event keeps the revision's id, and the version is None.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TypeAlias

import msgspec

from registry.catalog.aliases import (
    FIRST_PAGE,
    alias_event_at,
    alias_events_before,
    alias_target_before,
    aliases_after,
    aliases_at,
    find_alias,
    find_alias_event,
    last_alias_event,
)
from registry.catalog.folders import find_draft
from registry.catalog.versions import (
    find_revision_tree,
    find_version_by_label,
    find_version_by_revision,
)
from registry.domain.models import Alias, AliasEvent, Model, Version
from registry.domain.names import fold
from registry.domain.principals import Principal
from registry.domain.references import ModelReference, VersionReference
from registry.errors import Conflict, NotFound, PreconditionFailed
from registry.services.change import change
from registry.services.moves import move_alias
from registry.services.resolve import DraftFiles, follow, require_model
from store.index.transactions import Tx
from store.opening import Store

Condition: TypeAlias = Callable[[str | None], None]
"""Gets the tag of what is there now, None for nothing, and raises `PreconditionFailed`."""


def no_condition(_: str | None) -> None:
    """Anything may be there."""


class PlacedAlias(msgspec.Struct, frozen=True):
    """An alias and the version it points at, if its revision was published."""

    model: Model
    alias: Alias
    version: Version | None
    last: AliasEvent
    """The last event of its history."""

    @property
    def tag(self) -> str:
        """Differs whenever what is said of it does."""
        alias = self.alias
        said = (self.model.name, alias.name, self.last.id, alias.moved_at, alias.is_held)
        return hashlib.sha256(repr(said).encode()).hexdigest()[:32]


class PastAlias(msgspec.Struct, frozen=True):
    """Where an alias pointed at some time, and the version that is today, if it still lives."""

    model: Model
    event: AliasEvent
    version: Version | None


class Move(msgspec.Struct, frozen=True):
    """A wish to move an alias; `expected` is the revision it must point at now, if that matters."""

    to: VersionReference
    reason: str = ""
    expected: str | None = None


class Rollback(msgspec.Struct, frozen=True):
    """A wish to go back: to what the event `to` led to, or so many targets."""

    to: int | None = None
    steps: int = 1
    reason: str = ""
    expected: str | None = None


async def point_alias(
    store: Store,
    principal: Principal,
    model: ModelReference,
    name: str,
    move: Move,
    condition: Condition = no_condition,
) -> tuple[PlacedAlias, bool]:
    """Move an alias, or make it; says whether it is new. It then stays where it was put."""

    async def unit(tx: Tx) -> tuple[PlacedAlias, bool]:
        found = await require_model(tx, principal, model)
        before = await _find_placed(tx, found, name)
        _check(before, condition, move.expected)
        if before is None:
            await _refuse_label(tx, found, name)
        target = await follow(tx, found, move.to)
        if isinstance(target, DraftFiles):
            raise Conflict(
                "alias", name, "cannot point at a draft; publish it", code="alias_to_draft"
            )
        await move_alias(
            tx, principal, found, name, target.revision, reason=move.reason, is_held=True
        )
        return await _placed(tx, found, name), before is None

    return await change(store, principal, unit)


async def roll_back_alias(
    store: Store,
    principal: Principal,
    model: ModelReference,
    name: str,
    wish: Rollback,
    condition: Condition = no_condition,
) -> PlacedAlias:
    """Point an alias where it pointed before; it is then held there, as if moved by hand.

    Raises `Conflict`: ``alias_history_ends`` where there is nothing to go back to,
    ``version_deleted`` where what was there has been deleted.
    """

    async def unit(tx: Tx) -> PlacedAlias:
        found = await require_model(tx, principal, model)
        placed = await _placed(tx, found, name)
        _check(placed, condition, wish.expected)
        event = await _event_to_restore(tx, placed, wish)
        assert event.to_revision is not None, "chosen so"
        await _require_living(tx, placed, event)
        await move_alias(
            tx,
            principal,
            found,
            placed.alias.name,
            event.to_revision,
            reason=wish.reason,
            is_held=True,
            restored=_stands_at(event),
        )
        return await _placed(tx, found, name)

    return await change(store, principal, unit)


def _stands_at(event: AliasEvent) -> int:
    return event.id if event.restored is None else event.restored


async def _event_to_restore(tx: Tx, placed: PlacedAlias, wish: Rollback) -> AliasEvent:
    model_id, key, name = placed.model.id, fold(placed.alias.name), placed.alias.name
    if wish.to is not None:
        chosen = await find_alias_event(tx, model_id, key, wish.to)
        if chosen is None:
            raise NotFound("event", f"{wish.to} of {name}", code="alias_event_not_found")
        if chosen.to_revision is None:
            raise Conflict(
                "alias", name, f"led nowhere with event {wish.to}", code="alias_history_ends"
            )
        return chosen
    event, revision = placed.last, placed.alias.revision
    for step in range(wish.steps):
        earlier = await alias_target_before(tx, model_id, key, _stands_at(event), revision)
        if earlier is None or earlier.to_revision is None:
            raise Conflict(
                "alias",
                name,
                f"has only {step} earlier targets to go back to",
                code="alias_history_ends",
                details={"steps": step},
            )
        event, revision = earlier, earlier.to_revision
    return event


async def _require_living(tx: Tx, placed: PlacedAlias, event: AliasEvent) -> None:
    """What an alias goes back to must be there, and a version that was deleted is not."""
    assert event.to_revision is not None, "chosen so"
    version = await find_version_by_revision(tx, event.to_revision)
    tree = await find_revision_tree(tx, placed.model.id, event.to_revision)
    if tree is not None and (version is None or version.deleted_at is None):
        return
    called = f"revision {event.to_revision}" if version is None else f"version {version.name}"
    raise Conflict(
        "alias",
        placed.alias.name,
        f"cannot go back to {called} of {placed.model.name}, which was deleted",
        code="version_deleted",
        details={
            "event": event.id,
            "revision": event.to_revision,
            "number": None if version is None else version.number,
            "label": None if version is None else version.label,
        },
    )


async def remove_alias(
    store: Store,
    principal: Principal,
    model: ModelReference,
    name: str,
    reason: str = "",
    condition: Condition = no_condition,
) -> None:
    """Remove an alias; its history stays. Raises `NotFound`."""

    async def unit(tx: Tx) -> None:
        found = await require_model(tx, principal, model)
        placed = await _placed(tx, found, name)
        _check(placed, condition, None)
        await move_alias(
            tx, principal, found, placed.alias.name, None, reason=reason, is_held=False
        )

    await change(store, principal, unit)


def _check(placed: PlacedAlias | None, condition: Condition, expected: str | None) -> None:
    condition(None if placed is None else placed.tag)
    actual = None if placed is None else placed.alias.revision
    if expected is not None and actual != expected:
        raise PreconditionFailed("expected", details={"actual": actual})


async def get_alias(
    store: Store, principal: Principal, model: ModelReference, name: str
) -> PlacedAlias:
    async def unit(tx: Tx) -> PlacedAlias:
        return await _placed(tx, await require_model(tx, principal, model), name)

    return await store.index.look(unit)


async def get_alias_at(
    store: Store, principal: Principal, model: ModelReference, name: str, at: int
) -> PastAlias:
    """Where an alias pointed at a time; raises `NotFound` if it was not there then."""

    async def unit(tx: Tx) -> PastAlias:
        found = await require_model(tx, principal, model)
        event = await alias_event_at(tx, found.id, fold(name), at)
        if event is None or event.to_revision is None:
            raise NotFound("alias", f"{name} of {found.name} at that time", code="alias_not_found")
        return await _past(tx, found, event)

    return await store.index.look(unit)


async def list_aliases(
    store: Store, principal: Principal, model: ModelReference, *, after: str = "", limit: int = 100
) -> list[PlacedAlias]:
    """A page of a model's aliases in order of folded name, which `after` is, too."""

    async def unit(tx: Tx) -> list[PlacedAlias]:
        found = await require_model(tx, principal, model)
        aliases = await aliases_after(tx, found.id, after, limit)
        return [await _place(tx, found, alias) for alias in aliases]

    return await store.index.read(unit)


async def list_aliases_at(
    store: Store,
    principal: Principal,
    model: ModelReference,
    at: int,
    *,
    after: str = "",
    limit: int = 100,
) -> list[PastAlias]:
    """A page of the aliases that were there at a time, in order of folded name."""

    async def unit(tx: Tx) -> list[PastAlias]:
        found = await require_model(tx, principal, model)
        events = await aliases_at(tx, found.id, at, after, limit)
        return [await _past(tx, found, event) for event in events]

    return await store.index.read(unit)


async def alias_history(
    store: Store,
    principal: Principal,
    model: ModelReference,
    name: str,
    *,
    before: int = FIRST_PAGE,
    limit: int = 100,
) -> list[PastAlias]:
    """Every move of an alias, newest first, also of one that is gone.

    Raises `NotFound` where there never was such an alias.
    """

    async def unit(tx: Tx) -> list[PastAlias]:
        found = await require_model(tx, principal, model)
        events = await alias_events_before(tx, found.id, fold(name), before, limit)
        if not events and await last_alias_event(tx, found.id, fold(name)) is None:
            raise _missing(found, name)
        return [await _past(tx, found, event) for event in events]

    return await store.index.read(unit)


async def _find_placed(tx: Tx, model: Model, name: str) -> PlacedAlias | None:
    alias = await find_alias(tx, model.id, fold(name))
    return None if alias is None else await _place(tx, model, alias)


async def _placed(tx: Tx, model: Model, name: str) -> PlacedAlias:
    found = await _find_placed(tx, model, name)
    if found is None:
        raise _missing(model, name)
    return found


async def _place(tx: Tx, model: Model, alias: Alias) -> PlacedAlias:
    last = await last_alias_event(tx, model.id, fold(alias.name))
    assert last is not None, "an alias has a history"
    return PlacedAlias(model, alias, await _version(tx, alias.revision), last)


async def _past(tx: Tx, model: Model, event: AliasEvent) -> PastAlias:
    version = None if event.to_revision is None else await _version(tx, event.to_revision)
    return PastAlias(model, event, version)


async def _version(tx: Tx, revision: str) -> Version | None:
    version = await find_version_by_revision(tx, revision)
    return None if version is None or version.deleted_at is not None else version


def _missing(model: Model, name: str) -> NotFound:
    return NotFound("alias", f"{name} of {model.name}", code="alias_not_found")


async def _refuse_label(tx: Tx, model: Model, name: str) -> None:
    """Labels and aliases share one name space; a burnt label is taken too."""
    folded = fold(name)
    holder = await find_version_by_label(tx, model.id, folded) or await find_draft(
        tx, model.id, folded
    )
    if holder is not None:
        raise Conflict(
            "alias",
            name,
            "is the label of a version or a draft",
            code="alias_is_label",
            details={"existing": holder.label},
        )
