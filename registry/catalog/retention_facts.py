"""What is true of the versions of a model as far as retention goes, and what purging would free.

A page of versions takes a fixed number of statements, each of which finds its rows by an index: the
ids, or revisions, of the page are given as one JSON list.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from sqlalchemy import Select, bindparam, func, select, union
from sqlalchemy import literal_column as literal
from sqlalchemy.sql.elements import ColumnElement

from registry.catalog.schema import (
    alias_events,
    aliases,
    bindings,
    deployments,
    folder_uploads,
    folders,
    lineage,
    retention_returns,
    tags,
    tree_files,
    version_tags,
    versions,
)
from registry.catalog.versions import COLUMNS, version_of
from registry.domain.models import Model, Version
from registry.domain.retention import MOST_KEPT, NONE, ModelFacts, Named, Policy, VersionFacts
from registry.domain.versions import precedence
from store.digest import Digest
from store.index.schema import refs
from store.index.transactions import Statement, Tx

MOST_FILES_COUNTED: Final = 10_000
"""Of a version with more files only what it would free at most is told."""

MOST_DRAFTS: Final = 10_000

_LIVES: Final = versions.c.deleted_at.is_(None)
_PAGE = Statement(
    lambda: (
        select(*COLUMNS)
        .where(
            versions.c.model == bindparam("model"), _LIVES, versions.c.number > bindparam("after")
        )
        .order_by(versions.c.number)
        .limit(bindparam("limit"))
    )
)
_NEWEST = Statement(
    lambda: (
        select(versions.c.number)
        .where(versions.c.model == bindparam("model"), _LIVES)
        .order_by(versions.c.number.desc())
        .limit(bindparam("limit"))
    )
)
_UPLOADING = Statement(
    lambda: (
        select(folder_uploads.c.id)
        .where(
            folder_uploads.c.model_folded == bindparam("folded"),
            folder_uploads.c.expires_at > bindparam("now"),
        )
        .limit(1)
    )
)


def _listed(name: str) -> Select[Any]:
    """The texts of a JSON array given as a value: one statement for any number of them."""
    return select(func.json_each(bindparam(name)).table_valued("value").c.value)


def _named(
    key: ColumnElement[Any], name: ColumnElement[Any], *conditions: ColumnElement[bool]
) -> Statement:
    """How many rows there are of each of the given keys, and the first name among them."""
    return Statement(
        select(key, func.count(), func.min(name))
        .where(key.in_(_listed("keys")), *conditions)
        .group_by(key)
    )


_ALIASES = _named(aliases.c.revision, aliases.c.name, aliases.c.model == bindparam("model"))
_runs = deployments.c.terminated_at.is_(None)
_DEPLOYMENTS = _named(deployments.c.version, deployments.c.name, _runs)
_ROLLBACKS = _named(deployments.c.previous_version, deployments.c.name, _runs)
_BINDINGS = _named(
    bindings.c.version, bindings.c.provider, bindings.c.status != literal("'inactive'")
)
_child = versions.alias("child")
# A child that was deleted can be restored; it counts until it is purged.
_DESCENDANTS = Statement(
    lambda: (
        select(lineage.c.parent, func.count(), func.min(_child.c.id))
        .join(_child, _child.c.id == lineage.c.child)
        .where(lineage.c.parent.in_(_listed("keys")), _child.c.purged_at.is_(None))
        .group_by(lineage.c.parent)
    )
)
_TAGS = Statement(
    lambda: (
        select(version_tags.c.version, tags.c.folded)
        .join(tags, tags.c.id == version_tags.c.tag)
        .where(version_tags.c.version.in_(_listed("keys")))
    )
)
_RETURNS = Statement(
    lambda: select(retention_returns.c.version, retention_returns.c.returned_at).where(
        retention_returns.c.version.in_(_listed("keys"))
    )
)


def _main_at(moment: ColumnElement[Any]) -> Any:
    """What `main` pointed at then."""
    return (
        select(alias_events.c.to_revision)
        .where(
            alias_events.c.model == bindparam("model"),
            alias_events.c.folded == literal("'main'"),
            alias_events.c.created_at <= moment,
        )
        .order_by(alias_events.c.created_at.desc(), alias_events.c.id.desc())
        .limit(1)
        .scalar_subquery()
    )


_drafts = (
    select(folders.c.created_at.label("began"))
    .where(folders.c.model == bindparam("model"))
    .limit(MOST_DRAFTS)
    .subquery("drafts")
)
_uploads = (
    select(folder_uploads.c.started_at.label("began"))
    .where(
        folder_uploads.c.model_folded == bindparam("folded"),
        folder_uploads.c.expires_at > bindparam("now"),
    )
    .limit(MOST_DRAFTS)
    .subquery("uploads")
)
_BASES = Statement(
    lambda: union(
        select(_main_at(_drafts.c.began).label("revision")).select_from(_drafts),
        select(_main_at(_uploads.c.began).label("revision")).select_from(_uploads),
    )
)

_files = (
    select(
        tree_files.c.digest,
        func.count().label("times"),
        func.max(tree_files.c.size).label("size"),
    )
    .where(tree_files.c.tree == bindparam("tree"))
    .group_by(tree_files.c.digest)
    .subquery("files")
)
_claims = select(func.sum(refs.c.count)).where(refs.c.digest == _files.c.digest).scalar_subquery()
_FREES = Statement(
    lambda: select(func.coalesce(func.sum(_files.c.size), literal("0"))).where(
        _claims <= _files.c.times
    )
)


class Facts(msgspec.Struct, frozen=True):
    """A page of versions with what is known of each, and of their model."""

    model: ModelFacts
    versions: list[Version]
    facts: list[VersionFacts]


async def facts_after(tx: Tx, model: Model, policy: Policy | None, after: int, limit: int) -> Facts:
    """A page of living versions in order of number; start with 0."""
    rows = await tx.all(_PAGE, model=model.id, after=after, limit=limit)
    return await facts_of(tx, model, policy, [version_of(row) for row in rows])


async def facts_of(tx: Tx, model: Model, policy: Policy | None, page: list[Version]) -> Facts:
    """What is known of these versions, all of this model; what no rule asks for is not read."""
    newest = await tx.all(_NEWEST, model=model.id, limit=MOST_KEPT)
    uploading = await tx.one(_UPLOADING, folded=model.folded, now=tx.now)
    of_model = ModelFacts(
        has_legal_hold=model.has_legal_hold,
        has_running_uploads=uploading is not None,
        newest=tuple(row[0] for row in newest),
    )
    if not page:
        return Facts(of_model, [], [])
    ids = _json([version.id for version in page])
    revisions = _json([version.revision for version in page])
    pointing = await _counted(tx, _ALIASES, revisions, model=model.id)
    running = await _counted(tx, _DEPLOYMENTS, ids)
    targets = await _counted(tx, _ROLLBACKS, ids)
    bound = await _counted(tx, _BINDINGS, ids)
    returned: dict[str, int] = dict(await tx.all(_RETURNS, keys=ids))
    rows = await tx.all(_BASES, model=model.id, folded=model.folded, now=tx.now)
    bases = {row[0] for row in rows}
    children: dict[str, Named] = {}
    if policy is not None and policy.protect_descendants:
        children = await _counted(tx, _DESCENDANTS, ids)
    tagged: dict[str, set[str]] = {}
    if policy is not None and policy.protect_tags:
        for version, folded in await tx.all(_TAGS, keys=ids):
            tagged.setdefault(version, set()).add(folded)
    found = [
        VersionFacts(
            id=version.id,
            number=version.number,
            label=version.label,
            status=version.status,
            is_release=precedence(version.label).standing == "release",
            created_at=version.created_at,
            returned_at=returned.get(version.id),
            retired_at=version.retired_at,
            aliases=pointing.get(version.revision, NONE),
            deployments=running.get(version.id, NONE),
            rollbacks=targets.get(version.id, NONE),
            bindings=bound.get(version.id, NONE),
            descendants=children.get(version.id, NONE),
            is_base_of_draft=version.revision in bases,
            tags=frozenset(tagged.get(version.id, ())),
        )
        for version in page
    ]
    return Facts(of_model, page, found)


async def freed_by(tx: Tx, version: Version) -> tuple[int, bool]:
    """Bytes that nobody else refers to, and whether that is exact or at most so much.

    What somebody pinned, what another version, draft or model holds, does not count.
    """
    if version.files > MOST_FILES_COUNTED:
        return version.size_bytes, False
    return await freed_by_tree(tx, version.tree), True


async def freed_by_tree(tx: Tx, tree: Digest) -> int:
    row = await tx.one(_FREES, tree=tree.raw)
    assert row is not None, "a sum is one row"
    return int(row[0])


async def _counted(tx: Tx, statement: Statement, keys: str, **more: str) -> dict[str, Named]:
    rows = await tx.all(statement, keys=keys, **more)
    return {key: Named(count, example) for key, count, example in rows}


def _json(texts: list[str]) -> str:
    return msgspec.json.encode(texts).decode()
