"""Take versions and drafts away, bring versions back, and let go of them for good.

Deleting is soft: the files stay referenced, so that the version can be restored whole. Purging ends
that; then only the row is left, which burns number and label. The very same files may still be
registered under the label again, and the version is back with its number.

`delete_in` and `purge_in` are for who has a transaction already: retention goes through them, so
that every guard holds there too.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from registry.catalog.aliases import aliases_of_revision
from registry.catalog.audit import Entry, record
from registry.catalog.bindings import purge_bindings_of_version
from registry.catalog.claims import release_folder, release_tree
from registry.catalog.folders import delete_draft, draft_totals, find_draft, running_uploads
from registry.catalog.retention import forget_return
from registry.catalog.versions import (
    find_version_by_id,
    find_version_by_label,
    find_version_by_number,
    set_deleted,
    set_purged,
)
from registry.domain.expectations import ANYTHING, Expected
from registry.domain.models import Alias, Draft, Model, Version
from registry.domain.names import RESERVED_ALIASES, fold
from registry.domain.principals import Principal
from registry.domain.references import (
    ById,
    ByName,
    ByNumber,
    ModelReference,
    VersionReference,
)
from registry.errors import Conflict, Invalid, NotFound
from registry.services.change import change
from registry.services.deployment_purges import (
    forget_deployments,
    refuse_running_version,
    settle_running_version,
)
from registry.services.following import let_aliases_follow
from registry.services.guarding import check_return
from registry.services.models import refuse_held
from registry.services.moves import move_alias
from registry.services.publish import record_version
from registry.services.resolve import DraftFiles, follow, require_model
from registry.services.retirement import bring_back
from registry.services.run_purges import forget_training
from registry.services.scoring import forget_judgement
from registry.services.versions import FullVersion, full_version
from store.index.state import first_state, put_state
from store.index.transactions import MakesRoom, Tx
from store.opening import Store

_FORGETTING: Final = "forgetting."
"""Begins the keys that name versions whose purge is not finished; the value is the model."""


async def delete_version(
    store: Store,
    principal: Principal,
    model: ModelReference,
    reference: VersionReference,
    *,
    reason: str = "",
    expected: Expected = ANYTHING,
) -> Version | Draft:
    """Delete a version softly, or discard a draft; raises `NotFound` or `Conflict`.

    The files stay referenced until the version is purged, so that it can be restored whole.
    Aliases other than `latest` and `main` must be moved away first, and deployments of it be
    terminated or get another version: what serves must not vanish.
    """

    async def unit(tx: Tx) -> Version | Draft:
        found = await require_model(tx, principal, model)
        target = await follow(tx, found, reference)
        if isinstance(target, DraftFiles):
            expected.require(target.draft.id, 0)
            await discard_draft(tx, principal, found, target.draft, reason=reason)
            return target.draft
        if target.version is None or target.is_movable:
            raise Conflict(
                "version",
                f"{target.name} of {found.name}",
                "is named by an alias or a revision; name the version itself",
                code="label_required",
            )
        expected.require(target.version.id, target.version.changes, under=found.name)
        return await delete_in(tx, principal, found, target.version, reason)

    return await change(store, principal, MakesRoom(unit))


async def delete_in(
    tx: Tx, principal: Principal, model: Model, version: Version, reason: str
) -> Version:
    """Delete a living version softly; raises `Conflict` while aliases point at it, or it runs."""
    pointing = await aliases_of_revision(tx, model.id, version.revision)
    others = [alias.name for alias in pointing if fold(alias.name) not in RESERVED_ALIASES]
    if others:
        raise Conflict(
            "version",
            f"{version.name} of {model.name}",
            f"aliases point at it: {', '.join(others[:10])}",
            code="version_aliased",
            details={"aliases": others},
        )
    await settle_running_version(tx, principal, model, version)
    gone = await set_deleted(tx, version, by=principal.id)
    await record_version(tx, principal, model, version, "delete", reason=reason)
    await _let_go(tx, model, principal, pointing)
    await let_aliases_follow(tx, model, principal, "deleted")
    return gone


async def _let_go(tx: Tx, model: Model, principal: Principal, pointing: list[Alias]) -> None:
    """An alias held at what is gone is held no more: it follows again."""
    for alias in pointing:
        if alias.is_held:
            await move_alias(
                tx,
                principal,
                model,
                alias.name,
                alias.revision,
                reason="deleted",
                is_held=False,
            )


async def restore_version(
    store: Store, principal: Principal, model: ModelReference, reference: VersionReference
) -> FullVersion:
    """Bring back a version that is deleted or retired or both; another is returned as it is."""

    async def unit(tx: Tx) -> FullVersion:
        found = await require_model(tx, principal, model)
        version = await _find_any(tx, found, reference)
        if version.deleted_at is not None:
            version = await _restore(tx, principal, found, version)
        elif version.retired_at is not None:
            version = await bring_back(tx, principal, found, version)
            await let_aliases_follow(tx, found, principal, "restored")
        return await full_version(tx, found, version)

    return await change(store, principal, unit)


async def _find_any(tx: Tx, model: Model, reference: VersionReference) -> Version:
    """A version, deleted or not, by what stays its own: number, label or id."""
    match reference:
        case ByNumber(number=number):
            version = await find_version_by_number(tx, model.id, number)
            name = str(number)
        case ByName(name=name, folded=folded):
            version = await find_version_by_label(tx, model.id, folded)
        case ById(id=name):
            version = await find_version_by_id(tx, model.id, name)
        case _:
            raise Invalid("version", "is named by its number, label or id once it is deleted")
    if version is None:
        raise NotFound("version", f"{name} of {model.name}", code="version_not_found")
    return version


async def _restore(tx: Tx, principal: Principal, model: Model, version: Version) -> Version:
    if version.label and await find_draft(tx, model.id, fold(version.label)) is not None:
        raise Conflict(
            "version",
            f"{version.name} of {model.name}",
            "cannot come back while there is a draft under its label",
            code="label_taken",
        )
    if version.purged_at is not None:
        raise Conflict(
            "version",
            f"{version.name} of {model.name}",
            "was purged; only registering the very same files brings it back",
            code="version_purged",
            details={"tree": str(version.tree)},
        )
    await check_return(tx, principal, model, version)
    version = await set_deleted(tx, version, by=None)
    await record_version(tx, principal, model, version, "restore")
    version = await bring_back(tx, principal, model, version)
    await let_aliases_follow(tx, model, principal, "restored")
    return version


async def purge_version(
    store: Store,
    principal: Principal,
    model: ModelReference,
    reference: VersionReference,
    *,
    reason: str = "",
) -> FullVersion:
    """Let go of a deleted version for good; repeating it changes nothing.

    Raises `Conflict` for one that lives or runs, and while its model is under a legal hold.
    """

    async def unit(tx: Tx) -> FullVersion:
        found = await require_model(tx, principal, model)
        version = await _find_any(tx, found, reference)
        if version.deleted_at is None:
            raise Conflict(
                "version",
                f"{version.name} of {found.name}",
                "is not deleted; delete it first",
                code="version_live",
            )
        version = await purge_in(tx, principal, found, version, reason)
        return await full_version(tx, found, version)

    purged = await change(store, principal, MakesRoom(unit))
    await forget_version(store, purged.version.id)
    return purged


async def purge_in(
    tx: Tx, principal: Principal, model: Model, version: Version, reason: str
) -> Version:
    """Let go of a deleted version; the caller calls `forget_version` once that is committed."""
    if version.purged_at is not None:
        return version
    refuse_held(model)
    await refuse_running_version(tx, model, version)
    await release_tree(tx, version.tree.raw, model.id)
    await purge_bindings_of_version(tx, version.id)
    await forget_return(tx, version.id)
    await record_version(tx, principal, model, version, "purge", reason=reason)
    await put_state(tx, f"{_FORGETTING}{version.id}", model.id)
    return await set_purged(tx, version, at=tx.now)


async def forget_version(store: Store, version_id: str) -> None:
    """Let go, in steps, of what a version that was purged had gathered; repeating does no harm."""
    await forget_training(store, version_id)
    await forget_deployments(store, version_id)
    await forget_judgement(store, version_id)
    await store.index.run(partial(put_state, key=f"{_FORGETTING}{version_id}", value=None))


async def finish_forgetting(store: Store) -> int:
    """Go on with versions whose purge a crash stopped; returns how many there were."""
    done = 0
    while (left := await store.index.read(partial(first_state, prefix=_FORGETTING))) is not None:
        id, model_id = left
        version = await store.index.read(partial(find_version_by_id, model_id=model_id, id=id))
        if version is None or version.purged_at is not None:
            await forget_version(store, id)
        else:  # the very same files brought it back, and what it gathers now is its own
            await store.index.run(partial(put_state, key=f"{_FORGETTING}{id}", value=None))
        done += 1
    return done


async def discard_draft(
    tx: Tx, principal: Principal, model: Model, draft: Draft, *, reason: str = ""
) -> None:
    """Remove a draft and its claims; refuses while uploads into it run."""
    running = await running_uploads(tx, model.folded, fold(draft.label))
    if running:
        raise Conflict(
            "draft",
            f"{draft.label} of {model.name}",
            f"{len(running)} uploads into it are still running",
            code="uploads_running",
            details={"uploads": [upload.path for upload in running]},
        )
    files, size_bytes = await draft_totals(tx, draft.id)
    await release_folder(tx, draft.id, model.id)
    await delete_draft(tx, draft.id)
    await record(
        tx,
        principal,
        Entry(
            action="delete",
            kind="draft",
            id=draft.id,
            name=draft.label,
            model=model.id,
            before={"label": draft.label, "files": files, "size": size_bytes},
            reason=reason,
        ),
    )
