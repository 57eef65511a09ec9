"""Make versions of drafts and of finished trees, and take versions away again.

Publishing is one transaction: the tree's files, their references, the revision, the version with
its number and the aliases `latest` and `main` become true together, or not at all. Repeating a
publish whose answer was lost finds the version and returns it.

**A label is burnt** by its first version, deleted or not: the same files may return under it, which
restores that version with its number, and nothing else may.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from registry.catalog.aliases import aliases_of_revision, find_alias
from registry.catalog.audit import Entry, record
from registry.catalog.claims import claim_tree, release_folder, release_pins
from registry.catalog.folders import (
    delete_draft,
    draft_totals,
    find_draft,
    hash_draft,
    running_uploads,
    unreadable_in_draft,
)
from registry.catalog.models import next_number
from registry.catalog.trees import insert_tree_of_folder
from registry.catalog.versions import (
    find_version_by_label,
    find_version_by_number,
    insert_revision,
    insert_version,
    latest_candidates,
    set_deleted,
)
from registry.domain.ids import VERSION, new_id, new_revision_id
from registry.domain.models import Alias, Draft, Model, Version
from registry.domain.names import RESERVED_ALIASES, fold
from registry.domain.principals import Principal
from registry.domain.references import ModelReference, VersionReference
from registry.domain.trees import TreeHasher
from registry.domain.versions import choose_latest
from registry.errors import Conflict, ContentMissing, NotFound
from registry.services.change import change
from registry.services.moves import move_alias
from registry.services.resolve import DraftFiles, follow, require_model
from store.digest import Digest
from store.index.transactions import Tx
from store.opening import Store

VersionAction: TypeAlias = Literal["publish", "delete", "restore"]

ALIASES_THAT_FOLLOW = ("latest", "main")
"""Aliases that publishing moves; `RESERVED_ALIASES` holds the same names."""
assert frozenset(ALIASES_THAT_FOLLOW) == RESERVED_ALIASES


class Completeness(msgspec.Struct, frozen=True):
    """What the publisher believes the draft holds; None where they do not say."""

    tree: Digest | None = None
    files: int | None = None

    def is_met_by(self, tree: Digest, files: int) -> bool:
        return self.tree in (None, tree) and self.files in (None, files)


UNPROVEN = Completeness()


class Ids(msgspec.Struct, frozen=True):
    """Names for what a transaction may make, chosen before it: a unit may run more than once."""

    version: str
    revision: str

    @classmethod
    def fresh(cls, now: int) -> Ids:
        return cls(new_id(VERSION, now), new_revision_id())


class Publication(msgspec.Struct, frozen=True):
    """A published version, and whether this very call made or restored it."""

    model: Model
    version: Version
    is_new: bool


async def publish_draft(
    store: Store,
    principal: Principal,
    model: ModelReference,
    label: str,
    complete: Completeness = UNPROVEN,
) -> Publication:
    """Freeze a draft into the next version; raises `NotFound` or `Conflict` with what is wrong."""
    ids = Ids.fresh(store.clock())

    async def unit(tx: Tx) -> Publication:
        found = await require_model(tx, principal, model)
        return await publish_in(tx, principal, found, label, ids, complete)

    return await change(store, principal, unit)


async def publish_in(
    tx: Tx, principal: Principal, model: Model, label: str, ids: Ids, complete: Completeness
) -> Publication:
    """Publish inside the caller's transaction; raises before it has changed anything."""
    folded = fold(label)
    draft = await find_draft(tx, model.id, folded)
    version = await find_version_by_label(tx, model.id, folded)
    if version is not None and version.deleted_at is None:
        require_same(model, version, complete)
        return Publication(model, version, False)
    reason = await why_not_publish(tx, model, label, draft, complete)
    if reason is not None:
        raise reason
    if draft is None:
        raise NotFound("draft", f"{label} of {model.name}", code="draft_not_found")
    return await _freeze_draft(tx, principal, model, draft, ids)


def require_same(model: Model, version: Version, complete: Completeness) -> None:
    """Refuse to call a version complete that holds other files than the publisher believes."""
    if not complete.is_met_by(version.tree, version.files):
        raise Conflict(
            "version",
            f"{version.name} of {model.name}",
            "is published with other files than expected",
            code="version_published",
            details={"tree": str(version.tree), "files": version.files},
        )


async def why_not_publish(
    tx: Tx,
    model: Model,
    label: str,
    draft: Draft | None,
    complete: Completeness,
) -> Conflict | None:
    """What keeps a draft from being published; changes nothing."""
    name = f"{label} of {model.name}"
    running = await running_uploads(tx, model.folded, fold(label))
    if running:
        return Conflict(
            "draft",
            name,
            f"{len(running)} uploads into it are still running",
            code="uploads_running",
            details={"uploads": [upload.path for upload in running]},
        )
    if draft is None:
        return None
    files, _ = await draft_totals(tx, draft.id)
    if not files:
        return Conflict("draft", name, "holds no files", code="draft_empty")
    unreadable = await unreadable_in_draft(tx, draft.id)
    if unreadable:
        return ContentMissing("draft", name, unreadable)
    burnt = await find_version_by_label(tx, model.id, fold(label))
    if burnt is None and complete == UNPROVEN:
        return None
    hashed = await hash_draft(tx, draft.id)
    return _why_not_this_tree(name, hashed.finish(), hashed, complete, burnt)


def _why_not_this_tree(
    name: str, tree: Digest, hashed: TreeHasher, complete: Completeness, burnt: Version | None
) -> Conflict | None:
    if not complete.is_met_by(tree, hashed.files):
        return Conflict(
            "draft",
            name,
            "does not hold what was expected",
            code="draft_incomplete",
            details={"tree": str(tree), "files": hashed.files},
        )
    return None if burnt is None else why_not_return(name, burnt, tree)


def why_not_return(name: str, burnt: Version, tree: Digest) -> Conflict | None:
    """Whether a tree may come back under a label that a deleted version burnt."""
    if burnt.tree == tree:
        return None
    return Conflict(
        "version",
        name,
        "was deleted; only the very same files may return under its label",
        code="label_burnt",
        details={"tree": str(burnt.tree), "number": burnt.number},
    )


async def _freeze_draft(
    tx: Tx, principal: Principal, model: Model, draft: Draft, ids: Ids
) -> Publication:
    hashed = await hash_draft(tx, draft.id)
    tree = hashed.finish()
    await insert_tree_of_folder(
        tx, tree, draft.id, files=hashed.files, size_bytes=hashed.size_bytes
    )
    publication = await make_version(
        tx, principal, model, draft.label, tree, (hashed.files, hashed.size_bytes), ids
    )
    await release_folder(tx, draft.id, model.id)
    await delete_draft(tx, draft.id)
    return publication


async def make_version(
    tx: Tx,
    principal: Principal,
    model: Model,
    label: str | None,
    tree: Digest,
    totals: tuple[int, int],
    ids: Ids,
) -> Publication:
    """Publish a tree that is written; a deleted version with this label and tree comes back.

    The caller made sure that the label is free, or burnt by exactly this tree. References of the
    version are counted here; pins that uploads made for the principal are released.
    """
    folded = None if label is None else fold(label)
    burnt = None if folded is None else await find_version_by_label(tx, model.id, folded)
    await release_pins(tx, tree.raw, principal.id)
    if burnt is not None:
        # The deleted version kept its references, so there is nothing to claim.
        version = await set_deleted(tx, burnt, by=None)
        await let_aliases_follow(tx, model, principal, "restored", published=burnt.number)
        await record_version(tx, principal, model, version, "restore")
        return Publication(model, version, True)
    await claim_tree(tx, tree.raw, model.id)
    main = await find_alias(tx, model.id, "main")
    await insert_revision(
        tx,
        ids.revision,
        model.id,
        tree,
        parents="" if main is None else main.revision,
        author=principal.id,
        message="",
    )
    version = Version(
        id=ids.version,
        model_id=model.id,
        number=await next_number(tx, model.id),
        label=label,
        revision=ids.revision,
        tree=tree,
        files=totals[0],
        size_bytes=totals[1],
        created_at=tx.now,
        created_by=principal.id,
        updated_at=tx.now,
    )
    await insert_version(tx, version, folded)
    await record_version(tx, principal, model, version, "publish")
    await let_aliases_follow(tx, model, principal, "published", published=version.number)
    return Publication(model, version, True)


async def record_version(
    tx: Tx, principal: Principal, model: Model, version: Version, action: VersionAction
) -> None:
    """Put into the audit log that a version came, went or came back."""
    facts = {
        "number": version.number,
        "label": version.label,
        "tree": str(version.tree),
        "revision": version.revision,
        "files": version.files,
        "size": version.size_bytes,
    }
    await record(
        tx,
        principal,
        Entry(
            action=action,
            kind="version",
            id=version.id,
            name=version.name,
            model=model.id,
            before=facts if action == "delete" else None,
            after=None if action == "delete" else facts,
        ),
    )


async def let_aliases_follow(
    tx: Tx, model: Model, principal: Principal, reason: str, *, published: int | None = None
) -> None:
    """Point `latest` and `main` at what `choose_latest` says.

    An alias that was moved by hand stays, unless the version just published is the choice itself
    or what the alias points at is no longer a live version.
    """
    number = choose_latest(await latest_candidates(tx, model.id))
    chosen = None if number is None else await find_version_by_number(tx, model.id, number)
    for name in ALIASES_THAT_FOLLOW:
        alias = await find_alias(tx, model.id, name)
        if alias is not None and alias.is_held and published != number:
            continue
        if alias is None and chosen is None:
            continue
        await move_alias(
            tx,
            principal,
            model,
            name,
            None if chosen is None else chosen.revision,
            reason=reason,
            is_held=False,
        )


async def delete_version(
    store: Store, principal: Principal, model: ModelReference, reference: VersionReference
) -> Version | Draft:
    """Delete a version softly, or discard a draft; raises `NotFound` or `Conflict`.

    The files stay referenced until the version is purged, so that it can be restored whole.
    Aliases other than `latest` and `main` must be moved away first: what serves must not vanish.
    """

    async def unit(tx: Tx) -> Version | Draft:
        found = await require_model(tx, principal, model)
        target = await follow(tx, found, reference)
        if isinstance(target, DraftFiles):
            await discard_draft(tx, principal, found, target.draft)
            return target.draft
        if target.version is None or target.is_movable:
            raise Conflict(
                "version",
                f"{target.name} of {found.name}",
                "is named by an alias or a revision; name the version itself",
                code="label_required",
            )
        return await _delete(tx, principal, found, target.version)

    return await change(store, principal, unit)


async def _delete(tx: Tx, principal: Principal, model: Model, version: Version) -> Version:
    pointing = await aliases_of_revision(tx, model.id, version.revision)
    others = [alias.name for alias in pointing if alias.name not in RESERVED_ALIASES]
    if others:
        raise Conflict(
            "version",
            f"{version.name} of {model.name}",
            f"aliases point at it: {', '.join(others[:10])}",
            code="version_aliased",
            details={"aliases": others},
        )
    gone = await set_deleted(tx, version, by=principal.id)
    await record_version(tx, principal, model, version, "delete")
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
    store: Store, principal: Principal, model: ModelReference, number: int
) -> Version:
    """Bring a deleted version back as it was; one that lives is returned as it is."""

    async def unit(tx: Tx) -> Version:
        found = await require_model(tx, principal, model)
        version = await find_version_by_number(tx, found.id, number)
        if version is None:
            raise NotFound("version", f"{number} of {found.name}", code="version_not_found")
        if version.deleted_at is None:
            return version
        if version.label and await find_draft(tx, found.id, fold(version.label)) is not None:
            raise Conflict(
                "version",
                f"{version.name} of {found.name}",
                "cannot come back while there is a draft under its label",
                code="label_taken",
            )
        version = await set_deleted(tx, version, by=None)
        await record_version(tx, principal, found, version, "restore")
        await let_aliases_follow(tx, found, principal, "restored")
        return version

    return await change(store, principal, unit)


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
