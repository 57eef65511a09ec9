"""What models and versions take of the store, what letting go of them frees, and who keeps a blob.

Everything here reads: a model's references, a version's files, the owners of one blob.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from sqlalchemy import (
    ColumnElement,
    Subquery,
    and_,
    bindparam,
    case,
    exists,
    func,
    or_,
    select,
)
from sqlalchemy import literal_column as literal

from registry.catalog.claims import FOLDER, TREE
from registry.catalog.schema import folder_files, folders, models, tree_files, versions
from registry.catalog.usage import IN_ALL_LEVELS
from registry.catalog.visible import few_ever, of_few, sees_model
from store.digest import Digest
from store.index.schema import blobs, leases, refs, uploads
from store.index.transactions import Statement, Tx

MOST_OWNERS: Final = 100
"""Of each kind of owner of a blob so many are told."""

MOST_PATHS: Final = 20
"""In each model so many files that are a blob are told."""

_VERSIONS_LOOKED_AT: Final = 100


class Storage(msgspec.Struct, frozen=True):
    """Blobs and their bytes, each once, and how much of it goes with whoever names them."""

    blobs: int
    bytes: int
    frees_of_model: int
    """What no other version or draft of the model has."""
    frees_of_namespace: int
    """What nothing else in the namespace has."""
    frees_of_store: int
    """What nobody else has and no lease keeps: the next collection may take it."""


class ModelOwning(msgspec.Struct, frozen=True):
    """A model that refers to a blob, deleted or not."""

    id: str
    name: str
    is_deleted: bool


class FileOwning(msgspec.Struct, frozen=True):
    """A file that is a blob: in a version, with its number, or in a draft, with its label."""

    number: int | None
    label: str | None
    path: str
    is_deleted: bool


def _storage(named: Subquery, stays_in_model: ColumnElement[bool]) -> Statement:
    """Sums over blobs that `named` lists; `stays_in_model`: the model itself has it elsewhere."""
    other = and_(refs.c.digest == named.c.digest, refs.c.owner != bindparam("model"))
    in_realm = exists().where(
        other, refs.c.level.in_(IN_ALL_LEVELS), refs.c.realm == bindparam("namespace")
    )
    anywhere = exists().where(other)
    leased = exists().where(
        leases.c.digest == named.c.digest, leases.c.expires_at > bindparam("now")
    )

    def freed(*keeping: ColumnElement[bool]) -> Any:
        size = case((or_(*keeping), literal("0")), else_=blobs.c.size)
        return func.coalesce(func.sum(size), 0)

    return Statement(
        select(
            func.count(),
            func.coalesce(func.sum(blobs.c.size), 0),
            freed(stays_in_model),
            freed(stays_in_model, in_realm),
            freed(stays_in_model, anywhere, leased),
        ).select_from(named.join(blobs, blobs.c.digest == named.c.digest))
    )


def _of_files(table: Any, holder: ColumnElement[Any], kind: str) -> Statement:
    named = (
        select(table.c.digest, func.count().label("n"))
        .where(holder == bindparam("holder"))
        .group_by(table.c.digest)
        .subquery("named")
    )
    elsewhere = exists().where(
        refs.c.digest == named.c.digest,
        refs.c.owner == bindparam("model"),
        or_(refs.c.kind != literal(f"'{kind}'"), refs.c.count > named.c.n),
    )
    return _storage(named, elsewhere)


_of_model = select(refs.c.digest).where(refs.c.owner == bindparam("model")).distinct()
_MODEL = _storage(_of_model.subquery("named"), literal("0") == literal("1"))
_VERSION = _of_files(tree_files, tree_files.c.tree, TREE)
_DRAFT = _of_files(folder_files, folder_files.c.folder, FOLDER)

_owning = (
    select(models.c.id, models.c.name, models.c.deleted_at)
    .join(refs, refs.c.owner == models.c.id)
    .where(refs.c.digest == bindparam("digest"), models.c.purged_at.is_(None))
    .distinct()
    .order_by(models.c.id)
    .limit(bindparam("limit"))
)
_OWNING = Statement(_owning)
_OWNING_SEEN = Statement(lambda: _owning.where(sees_model()))
_OWNING_OF_FEW = Statement(lambda: _owning.where(of_few(refs.c.owner)))

_newest = (
    select(versions.c.tree, versions.c.number, versions.c.label, versions.c.deleted_at)
    .where(versions.c.model == bindparam("model"), versions.c.purged_at.is_(None))
    .order_by(versions.c.number.desc())
    .limit(literal(str(_VERSIONS_LOOKED_AT)))
    .subquery("newest")
)
_IN_VERSIONS = Statement(
    lambda: (
        select(_newest.c.number, _newest.c.label, tree_files.c.path, _newest.c.deleted_at)
        .join(tree_files, tree_files.c.tree == _newest.c.tree)
        .where(tree_files.c.digest == bindparam("digest"))
        .limit(bindparam("limit"))
    )
)
_IN_DRAFTS = Statement(
    lambda: (
        select(literal("NULL"), folders.c.label, folder_files.c.path, literal("NULL"))
        .join(folder_files, folder_files.c.folder == folders.c.id)
        .where(folders.c.model == bindparam("model"), folder_files.c.digest == bindparam("digest"))
        .limit(bindparam("limit"))
    )
)
_PINS = Statement(
    lambda: (
        select(refs.c.owner, refs.c.kind, refs.c.created_at)
        .where(refs.c.digest == bindparam("digest"), refs.c.realm.is_(None))
        .order_by(refs.c.owner, refs.c.kind)
        .limit(bindparam("limit"))
    )
)
_OWN_PINS = Statement(
    lambda: (
        select(refs.c.owner, refs.c.kind, refs.c.created_at)
        .where(refs.c.digest == bindparam("digest"), refs.c.owner == bindparam("owner"))
        .order_by(refs.c.kind)
    )
)
_LEASES = Statement(
    lambda: (
        select(leases.c.holder, leases.c.expires_at)
        .where(leases.c.digest == bindparam("digest"), leases.c.expires_at > bindparam("now"))
        .limit(bindparam("limit"))
    )
)
_OWN_UPLOADS = Statement(
    lambda: (
        select(uploads.c.id)
        .where(uploads.c.owner == bindparam("owner"), uploads.c.digest == bindparam("digest"))
        .limit(bindparam("limit"))
    )
)


async def storage_of_model(tx: Tx, model_id: str, namespace_id: str) -> Storage:
    row = await tx.one(_MODEL, model=model_id, namespace=namespace_id, now=tx.now)
    assert row is not None, "sums"
    return Storage(*row)


async def storage_of_tree(tx: Tx, tree: Digest, model_id: str, namespace_id: str) -> Storage:
    """What a version of these files takes, which is not purged."""
    return await _sums(tx, _VERSION, tree.raw, model_id, namespace_id)


async def storage_of_draft(tx: Tx, folder: str, model_id: str, namespace_id: str) -> Storage:
    return await _sums(tx, _DRAFT, folder, model_id, namespace_id)


async def _sums(
    tx: Tx, statement: Statement, holder: bytes | str, model_id: str, namespace_id: str
) -> Storage:
    row = await tx.one(statement, holder=holder, model=model_id, namespace=namespace_id, now=tx.now)
    assert row is not None, "sums"
    return Storage(*row)


async def models_owning(
    tx: Tx, digest: Digest, limit: int, *, seen: str | None
) -> list[ModelOwning]:
    """Models that refer to a blob, by id; `seen`: `registry.catalog.visible`."""
    if seen is None:
        rows = await tx.all(_OWNING, digest=digest.raw, limit=limit)
    elif (few := await few_ever(tx, seen)) is not None:
        rows = await tx.all(_OWNING_OF_FEW, digest=digest.raw, limit=limit, few=few)
    else:
        rows = await tx.all(_OWNING_SEEN, digest=digest.raw, limit=limit, seen=seen)
    return [ModelOwning(id, name, deleted is not None) for id, name, deleted in rows]


async def files_owning(tx: Tx, digest: Digest, model_id: str) -> list[FileOwning]:
    """Some files of a model that are a blob: of its newest versions, deleted too, and of drafts."""
    found: list[FileOwning] = []
    for statement in (_IN_VERSIONS, _IN_DRAFTS):
        left = MOST_PATHS - len(found)
        rows = await tx.all(statement, digest=digest.raw, model=model_id, limit=left)
        found += [FileOwning(row[0], row[1], row[2], row[3] is not None) for row in rows]
    return found


async def pins_on(
    tx: Tx, digest: Digest, *, owner: str | None, limit: int
) -> list[tuple[str, str, int]]:
    """Owner, kind and time of pins: of one owner, or with None of all."""
    if owner is None:
        rows = await tx.all(_PINS, digest=digest.raw, limit=limit)
    else:
        rows = await tx.all(_OWN_PINS, digest=digest.raw, owner=owner)
    return [(row[0], row[1], row[2]) for row in rows]


async def leases_on(tx: Tx, digest: Digest, limit: int) -> list[tuple[str, int]]:
    """Holder and end of leases that have not ended."""
    rows = await tx.all(_LEASES, digest=digest.raw, now=tx.now, limit=limit)
    return [(row[0], row[1]) for row in rows]


async def uploads_of(tx: Tx, digest: Digest, owner: str, limit: int) -> list[str]:
    """Sessions of somebody that made a blob."""
    rows = await tx.all(_OWN_UPLOADS, digest=digest.raw, owner=owner, limit=limit)
    return [row[0] for row in rows]
