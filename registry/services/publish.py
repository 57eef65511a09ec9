"""Make versions of drafts and of finished trees.

Publishing is one transaction: the tree's files, their references, the revision, the version with
its number and the aliases `latest` and `main` become true together, or not at all. Repeating a
publish whose answer was lost finds the version and returns it.

**A label is burnt** by its first version, deleted or not: the same files may return under it, which
restores that version with its number, and nothing else may.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType

from registry.catalog.aliases import find_reserved_aliases
from registry.catalog.archive import want_warm
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
    NO_DETAILS,
    find_details,
    find_version_by_label,
    insert_revision,
    insert_version,
    set_deleted,
    set_purged,
    update_version,
)
from registry.domain.facts import NOTHING, Facts, with_facts
from registry.domain.ids import VERSION, new_id, new_revision_id
from registry.domain.models import Draft, Model, Source, Version, VersionDetails
from registry.domain.names import fold
from registry.domain.principals import Principal
from registry.domain.statuses import Status
from registry.domain.trees import TreeHasher
from registry.errors import Conflict, ContentMissing, NotFound
from registry.services.following import let_aliases_follow
from registry.services.guarding import check_return
from registry.services.lineage import EdgeSaid
from registry.services.moves import move_status
from registry.services.quotas import within_quota
from registry.services.retirement import bring_back
from store.digest import Digest
from store.index.transactions import Tx

VersionAction: TypeAlias = Literal["publish", "delete", "restore", "purge"]


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


class Stated(msgspec.Struct, frozen=True, kw_only=True):
    """What comes with a new version beside its files."""

    source: Source | None = None
    facts: Facts = NOTHING
    status: Status | None = None
    reason: str = ""
    tags: tuple[tuple[str, str], ...] = ()
    """Keys and values."""
    lineage: tuple[EdgeSaid, ...] = ()


UNSTATED = Stated()


class Publication(msgspec.Struct, frozen=True):
    """A published version, and whether this very call made or restored it."""

    model: Model
    version: Version
    is_new: bool
    details: VersionDetails = NO_DETAILS


async def publish_in(
    tx: Tx,
    principal: Principal,
    model: Model,
    label: str,
    ids: Ids,
    complete: Completeness,
    stated: Stated = UNSTATED,
) -> Publication:
    """Publish inside the caller's transaction; raises before it has changed anything."""
    folded = fold(label)
    draft = await find_draft(tx, model.id, folded)
    version = await find_version_by_label(tx, model.id, folded)
    if version is not None and version.deleted_at is None:
        require_same(model, version, complete)
        version = await wanted_again(tx, principal, model, version)
        return Publication(model, version, False, await find_details(tx, version.id))
    reason = await why_not_publish(tx, model, label, draft, complete)
    if reason is not None:
        raise reason
    if draft is None:
        raise NotFound("draft", f"{label} of {model.name}", code="draft_not_found")
    return await _freeze_draft(tx, principal, model, draft, ids, stated)


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


def why_not_return(
    name: str, burnt: Version, tree: Digest, source: Source | None = None
) -> Conflict | None:
    """Whether a tree may come back under a label that a deleted version burnt."""
    if burnt.tree == tree and burnt.source == source:
        return None
    return Conflict(
        "version",
        name,
        "was deleted; only the very same files may return under its label",
        code="label_burnt",
        details={"tree": str(burnt.tree), "number": burnt.number},
    )


async def _freeze_draft(
    tx: Tx, principal: Principal, model: Model, draft: Draft, ids: Ids, stated: Stated
) -> Publication:
    hashed = await hash_draft(tx, draft.id)
    tree = hashed.finish()
    await insert_tree_of_folder(
        tx, tree, draft.id, files=hashed.files, size_bytes=hashed.size_bytes
    )
    publication = await make_version(
        tx, principal, model, draft.label, tree, (hashed.files, hashed.size_bytes), ids, stated
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
    stated: Stated = UNSTATED,
    *,
    burnt: Version | UnsetType | None = UNSET,
) -> Publication:
    """Publish a tree that is written; a deleted version with this label and tree comes back.

    `burnt` is the version that burnt the label, as it was read in this transaction, where it was.

    The caller made sure that the label is free, or burnt by exactly this content. References of the
    version are counted here; pins that uploads made for the principal are released.
    """
    if burnt is UNSET:
        burnt = None if label is None else await find_version_by_label(tx, model.id, fold(label))
    if burnt is not None:
        await release_pins(tx, tree.raw, principal.id)
        return await _come_back(tx, principal, model, burnt, stated)
    found = await find_reserved_aliases(tx, model.id)
    parent = found["main"].revision if "main" in found else None
    made = await write_version(
        tx, principal, model, label, tree, totals, ids, stated, parent=parent
    )
    await let_aliases_follow(
        tx, model, principal, "published", published=made.version, is_newest=True, found=found
    )
    return made


async def write_version(
    tx: Tx,
    principal: Principal,
    model: Model,
    label: str | None,
    tree: Digest,
    totals: tuple[int, int],
    ids: Ids,
    stated: Stated,
    *,
    parent: str | None,
) -> Publication:
    """Publish a tree under a label that nobody ever had; the caller lets the aliases follow."""
    await release_pins(tx, tree.raw, principal.id)
    async with within_quota(tx, model.namespace_id):
        await claim_tree(tx, tree.raw, model)
        await insert_revision(
            tx,
            ids.revision,
            model.id,
            tree,
            parents=parent or "",
            author=principal.id,
            message="",
        )
        version, details = with_facts(
            Version(
                id=ids.version,
                model_id=model.id,
                number=await next_number(tx, model),
                label=label,
                revision=ids.revision,
                tree=tree,
                files=totals[0],
                size_bytes=totals[1],
                source=stated.source,
                created_at=tx.now,
                created_by=principal.id,
                updated_at=tx.now,
            ),
            NO_DETAILS,
            stated.facts.given(),
        )
        await insert_version(tx, version, None if label is None else fold(label), details)
        if totals[0]:
            await want_warm(tx, version.id)
    await record_version(tx, principal, model, version, "publish", stated.facts)
    if stated.status is not None:
        version = await move_status(
            tx, principal, model, version, stated.status, reason=stated.reason
        )
    return Publication(model, version, True, details)


async def _come_back(
    tx: Tx, principal: Principal, model: Model, burnt: Version, stated: Stated
) -> Publication:
    """Restore the version that burnt a label; what is said of it now is said of it then."""
    version = burnt
    await check_return(tx, principal, model, version)
    if version.purged_at is not None:
        async with within_quota(tx, model.namespace_id):
            await claim_tree(tx, version.tree.raw, model)
            version = await set_purged(tx, version, at=None)
    version = await set_deleted(tx, version, by=None)
    version = await bring_back(tx, principal, model, version)
    details = await find_details(tx, version.id)
    given = stated.facts.given()
    if given:
        version, details = with_facts(version, details, given)
        version = await update_version(tx, version, details)
    await record_version(tx, principal, model, version, "restore", stated.facts)
    if stated.status is not None:
        version = await move_status(
            tx, principal, model, version, stated.status, reason=stated.reason
        )
    await let_aliases_follow(tx, model, principal, "restored", published=version)
    return Publication(model, version, True, details)


async def wanted_again(tx: Tx, principal: Principal, model: Model, version: Version) -> Version:
    """A living version that somebody publishes once more, retired no longer."""
    if version.retired_at is None:
        return version
    version = await bring_back(tx, principal, model, version, reason="published again")
    await let_aliases_follow(tx, model, principal, "restored", published=version)
    return version


async def record_version(
    tx: Tx,
    principal: Principal,
    model: Model,
    version: Version,
    action: VersionAction,
    facts: Facts = NOTHING,
    *,
    reason: str = "",
) -> None:
    """Put into the audit log that a version came, went or came back, and what was said of it."""
    told = {
        "number": version.number,
        "label": version.label,
        "tree": str(version.tree),
        "revision": version.revision,
        "files": version.files,
        "size": version.size_bytes,
        **facts.given(),
    }
    if version.source is not None:
        told["source"] = version.source.uri
    is_going = action in ("delete", "purge")
    await record(
        tx,
        principal,
        Entry(
            action=action,
            kind="version",
            id=version.id,
            name=version.name,
            model=model.id,
            before=told if is_going else None,
            after=None if is_going else told,
            reason=reason,
        ),
    )
