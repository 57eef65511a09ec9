"""Point aliases at versions by hand, and read where they point and pointed."""

from __future__ import annotations

import msgspec

from registry.catalog.aliases import alias_events_before, aliases_after, find_alias
from registry.catalog.folders import find_draft
from registry.catalog.versions import find_version_by_label, find_version_by_revision
from registry.domain.models import Alias, AliasEvent, Model, Version
from registry.domain.names import fold
from registry.domain.principals import Principal
from registry.domain.references import ModelReference, VersionReference
from registry.errors import Conflict, NotFound, PreconditionFailed
from registry.services.moves import move_alias
from registry.services.resolve import DraftFiles, follow, require_model
from store.index.transactions import Tx
from store.opening import Store


class PlacedAlias(msgspec.Struct, frozen=True):
    """An alias and the version it points at, if its revision was published."""

    model: Model
    alias: Alias
    version: Version | None


class Move(msgspec.Struct, frozen=True):
    """A wish to move an alias; `expected` is the revision it must point at now, if that matters."""

    to: VersionReference
    reason: str = ""
    expected: str | None = None


async def point_alias(
    store: Store, principal: Principal, model: ModelReference, name: str, move: Move
) -> tuple[PlacedAlias, bool]:
    """Move an alias, or make it; says whether it is new. It then stays where it was put."""

    async def unit(tx: Tx) -> tuple[PlacedAlias, bool]:
        found = await require_model(tx, principal, model)
        before = await find_alias(tx, found.id, fold(name))
        if move.expected is not None and (before is None or before.revision != move.expected):
            raise PreconditionFailed("expected")
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

    return await store.index.run(unit)


async def remove_alias(
    store: Store, principal: Principal, model: ModelReference, name: str, reason: str = ""
) -> None:
    """Remove an alias; its history stays. Raises `NotFound`."""

    async def unit(tx: Tx) -> None:
        found = await require_model(tx, principal, model)
        placed = await _placed(tx, found, name)
        await move_alias(
            tx, principal, found, placed.alias.name, None, reason=reason, is_held=False
        )

    await store.index.run(unit)


async def get_alias(
    store: Store, principal: Principal, model: ModelReference, name: str
) -> PlacedAlias:
    async def unit(tx: Tx) -> PlacedAlias:
        return await _placed(tx, await require_model(tx, principal, model), name)

    return await store.index.look(unit)


async def list_aliases(
    store: Store, principal: Principal, model: ModelReference, *, after: str = "", limit: int = 100
) -> list[PlacedAlias]:
    """A page of a model's aliases in order of folded name."""

    async def unit(tx: Tx) -> list[PlacedAlias]:
        found = await require_model(tx, principal, model)
        aliases = await aliases_after(tx, found.id, fold(after), limit)
        return [PlacedAlias(found, alias, await _version(tx, alias)) for alias in aliases]

    return await store.index.read(unit)


async def alias_history(
    store: Store,
    principal: Principal,
    model: ModelReference,
    name: str,
    *,
    before: int = 2**62,
    limit: int = 100,
) -> list[AliasEvent]:
    """Every move of an alias, newest first, also of one that is gone."""

    async def unit(tx: Tx) -> list[AliasEvent]:
        found = await require_model(tx, principal, model)
        return await alias_events_before(tx, found.id, fold(name), before, limit)

    return await store.index.read(unit)


async def _placed(tx: Tx, model: Model, name: str) -> PlacedAlias:
    alias = await find_alias(tx, model.id, fold(name))
    if alias is None:
        raise NotFound("alias", f"{name} of {model.name}", code="alias_not_found")
    return PlacedAlias(model, alias, await _version(tx, alias))


async def _version(tx: Tx, alias: Alias) -> Version | None:
    version = await find_version_by_revision(tx, alias.revision)
    return None if version is None or version.deleted_at is not None else version


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
