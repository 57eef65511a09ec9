"""Rows that go when a model is purged, a bounded number at a time.

The model was marked first, so nobody sees it any more; what is left between two steps is found by
its mark and goes on. Each statement takes what it can reach by an index and says how much that was.

A tree is shared by all that equal it: it goes with the last revision that has it, whole and in one
transaction, which is no larger than the one that wrote it.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote

from sqlalchemy import bindparam, delete, null, select, tuple_, update
from sqlalchemy.sql.elements import BindParameter, ColumnElement

from registry.catalog.bindings import purge_some_bindings
from registry.catalog.cards import keep_place
from registry.catalog.deployment_purges import purge_some_deployments
from registry.catalog.run_purges import purge_some_training
from registry.catalog.schema import (
    alias_events,
    aliases,
    downloads,
    folder_files,
    folders,
    grants,
    guards,
    lineage,
    model_cards,
    model_tags,
    models,
    redirects,
    retention_policies,
    retention_returns,
    reviews,
    revisions,
    scores,
    tree_files,
    trees,
    version_details,
    version_tags,
    versions,
)
from registry.catalog.search import forget
from registry.catalog.tag_lives import uncount_some
from registry.catalog.tags import sweep_tag
from registry.domain.models import Model
from store.index.schema import blobs, leases, refs
from store.index.transactions import Statement, Tx

AT_ONCE: Final = 1_000
"""How many rows of a kind go in one transaction."""

_MODEL: Final[BindParameter[str]] = bindparam("model_")
_LIMIT: Final[BindParameter[int]] = bindparam("limit")

_MARK = Statement(
    lambda: update(models).where(models.c.id == _MODEL).values(purged_at=bindparam("now"))
)
_MARKED = Statement(
    lambda: (
        select(models.c.id)
        .where(models.c.purged_at.is_not(None))
        .order_by(models.c.purged_at)
        .limit(1)
    )
)

_some_refs = (
    select(refs.c.digest, refs.c.kind)
    .where(refs.c.owner == _MODEL)
    .order_by(refs.c.kind, refs.c.digest)
    .limit(_LIMIT)
)
_TOUCH = Statement(
    lambda: (
        update(blobs)
        .where(blobs.c.digest.in_(select(_some_refs.subquery("claimed").c.digest)))
        .values(last_claimed=bindparam("now"))
    )
)
_DROP_REFS = Statement(
    lambda: delete(refs).where(
        refs.c.owner == _MODEL, tuple_(refs.c.digest, refs.c.kind).in_(_some_refs)
    )
)

_of_versions = select(versions.c.id).where(versions.c.model == _MODEL)


def _some(table: Any, condition: ColumnElement[bool]) -> Statement:
    """Delete some of the rows of a table that fulfil a condition."""
    key = tuple(table.primary_key.columns)
    found = select(*key).where(condition).limit(_LIMIT)
    chosen = key[0].in_(found) if len(key) == 1 else tuple_(*key).in_(found)
    return Statement(delete(table).where(chosen))


_FOLDER_FILES = _some(
    folder_files,
    folder_files.c.folder.in_(select(folders.c.id).where(folders.c.model == _MODEL)),
)
_FOLDERS = _some(folders, folders.c.model == _MODEL)
_DOWNLOADS = _some(downloads, downloads.c.version.in_(_of_versions))
_DETAILS = _some(version_details, version_details.c.version.in_(_of_versions))
_EDGES = _some(lineage, lineage.c.child.in_(_of_versions))
_SCORES = _some(scores, scores.c.version.in_(_of_versions))
_REVIEWS = _some(reviews, reviews.c.version.in_(_of_versions))
_RETURNS = _some(retention_returns, retention_returns.c.version.in_(_of_versions))
_POLICIES = _some(retention_policies, retention_policies.c.model == _MODEL)
_GRANTS = _some(grants, (grants.c.resource_kind == "model") & (grants.c.resource == _MODEL))
_GUARDS = _some(guards, guards.c.model == _MODEL)
_ALIASES = _some(aliases, aliases.c.model == _MODEL)
_EVENTS = _some(alias_events, alias_events.c.model == _MODEL)
_REDIRECTS = _some(redirects, redirects.c.model == _MODEL)
_CARDS = _some(model_cards, model_cards.c.model == _MODEL)

_HEIRS = Statement(
    lambda: (
        select(lineage.c.id, versions.c.id, versions.c.number, versions.c.label)
        .join(versions, versions.c.id == lineage.c.parent)
        .where(versions.c.model == _MODEL)
        .limit(_LIMIT)
    )
)
_MAKE_EXTERNAL = Statement(
    lambda: (
        update(lineage)
        .where(lineage.c.id == bindparam("id_"))
        .values(parent=null(), parent_uri=bindparam("uri"), parent_kind=bindparam("kind"))
    )
)
_TAGS_OF_MODEL = Statement(
    lambda: (
        select(model_tags.c.model, model_tags.c.key, model_tags.c.tag)
        .where(model_tags.c.model == _MODEL)
        .limit(_LIMIT)
    )
)
_TAGS_OF_VERSIONS = Statement(
    lambda: (
        select(version_tags.c.version, version_tags.c.key, version_tags.c.tag)
        .where(version_tags.c.version.in_(_of_versions))
        .limit(_LIMIT)
    )
)
_UNTAG_MODEL = Statement(
    lambda: delete(model_tags).where(
        model_tags.c.model == bindparam("of"), model_tags.c.key == bindparam("key_")
    )
)
_UNTAG_VERSION = Statement(
    lambda: delete(version_tags).where(
        version_tags.c.version == bindparam("of"), version_tags.c.key == bindparam("key_")
    )
)
_REVISIONS = Statement(
    lambda: (
        select(revisions.c.id, revisions.c.tree, trees.c.files)
        .join(trees, trees.c.digest == revisions.c.tree)
        .where(revisions.c.model == _MODEL)
        .limit(_LIMIT)
    )
)
_VERSIONS_OF_REVISION = Statement(
    lambda: delete(versions).where(versions.c.revision == bindparam("revision_"))
)
_REVISION = Statement(lambda: delete(revisions).where(revisions.c.id == bindparam("revision_")))
_TREE_IN_USE = Statement(
    lambda: select(revisions.c.id).where(revisions.c.tree == bindparam("tree")).limit(1)
)
_TREE_LEASED = Statement(
    lambda: (
        select(leases.c.holder)
        .where(leases.c.digest == bindparam("tree"), leases.c.expires_at > bindparam("now"))
        .limit(1)
    )
)
_TREE_FILES = Statement(lambda: delete(tree_files).where(tree_files.c.tree == bindparam("tree_")))
_TREE = Statement(lambda: delete(trees).where(trees.c.digest == bindparam("tree_")))
_ROW = Statement(lambda: delete(models).where(models.c.id == _MODEL))


async def mark_purged(tx: Tx, model_id: str) -> None:
    """The point of no return: from here on the model is gone for everybody."""
    await tx.run(_MARK, model_=model_id, now=tx.now)


async def first_marked(tx: Tx) -> str | None:
    """A model whose purge has begun and not ended, the first marked one."""
    row = await tx.one(_MARKED)
    return None if row is None else str(row[0])


async def purge_some(tx: Tx, model: Model) -> bool:
    """Remove some of what a marked model held; says whether anything was left to remove."""
    if await _release(tx, model.id) or await purge_some_training(tx, model.id):
        return True
    if await purge_some_deployments(tx, model.id):
        return True
    if await purge_some_bindings(tx, model.id, AT_ONCE):
        return True
    for statement in (
        _FOLDER_FILES,
        _FOLDERS,
        _DOWNLOADS,
        _DETAILS,
        _EDGES,
        _SCORES,
        _REVIEWS,
        _RETURNS,
        _GRANTS,
    ):
        if await tx.run(statement, model_=model.id, limit=AT_ONCE):
            return True
    if await _disinherit(tx, model) or await uncount_some(tx, model.id):
        return True
    if await _untag(tx, model.id):
        return True
    if await tx.run(_ALIASES, model_=model.id, limit=AT_ONCE):
        return True
    if await tx.run(_EVENTS, model_=model.id, limit=AT_ONCE):
        await keep_place(tx)
        return True
    if await _forget_revisions(tx, model.id):
        return True
    for statement in (_REDIRECTS, _CARDS, _POLICIES, _GUARDS):
        await tx.run(statement, model_=model.id, limit=AT_ONCE)
    await forget(tx, model.id)
    await tx.run(_ROW, model_=model.id)
    return False


async def _release(tx: Tx, model_id: str) -> bool:
    """Give up claims, and start the grace age of their blobs anew."""
    await tx.run(_TOUCH, model_=model_id, now=tx.now, limit=AT_ONCE)
    return await tx.run(_DROP_REFS, model_=model_id, limit=AT_ONCE) > 0


async def _disinherit(tx: Tx, model: Model) -> bool:
    """What came from the model keeps to know from what: by name, as if it were elsewhere."""
    rows = await tx.all(_HEIRS, model_=model.id, limit=AT_ONCE)
    kind = "dataset" if model.kind == "dataset" else "external"
    for edge, version, number, label in rows:
        uri = purged_uri(model.name, label or str(number), version)
        await tx.run(_MAKE_EXTERNAL, id_=edge, uri=uri, kind=kind)
    return bool(rows)


def purged_uri(model: str, version: str, id: str) -> str:
    """How lineage names a version that was purged with its model."""
    return f"urn:digestry:purged:{quote(model, safe='/')}:{quote(version)}:{id}"


async def _untag(tx: Tx, model_id: str) -> bool:
    found = False
    for listing, removal in (
        (_TAGS_OF_MODEL, _UNTAG_MODEL),
        (_TAGS_OF_VERSIONS, _UNTAG_VERSION),
    ):
        for of, key, tag in await tx.all(listing, model_=model_id, limit=AT_ONCE):
            found = True
            await tx.run(removal, of=of, key_=key)
            await sweep_tag(tx, tag)
    return found


async def _forget_revisions(tx: Tx, model_id: str) -> bool:
    """Remove revisions with their versions, and trees that nothing has any more."""
    rows = await tx.all(_REVISIONS, model_=model_id, limit=AT_ONCE)
    files = 0
    for revision, tree, size in rows:
        await tx.run(_VERSIONS_OF_REVISION, revision_=revision)
        await tx.run(_REVISION, revision_=revision)
        if await forget_tree(tx, tree):
            files += size
        if files >= AT_ONCE:
            break
    return bool(rows)


async def forget_tree(tx: Tx, tree: bytes) -> bool:
    """Remove a tree that no revision has and nobody leased to make one; says whether it was one."""
    if await tx.one(_TREE_IN_USE, tree=tree) is not None:
        return False
    if await tx.one(_TREE_LEASED, tree=tree, now=tx.now) is not None:
        return False
    await tx.run(_TREE_FILES, tree_=tree)
    await tx.run(_TREE, tree_=tree)
    return True
