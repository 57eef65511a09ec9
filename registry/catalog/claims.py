"""What the catalog claims of the store: references owned by models, moved in sets.

A draft's file holds a reference of kind ``folder``, a published version's file one of kind
``tree``, counted, so that every version and draft of a model can go without asking for the others.
A version of ten thousand files is claimed by a handful of statements, not by ten thousand.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Table,
    Text,
    bindparam,
    delete,
    func,
    select,
    update,
)
from sqlalchemy import literal_column as literal
from sqlalchemy.dialects.sqlite import insert

from registry.catalog.schema import folder_files, tree_files
from registry.domain.models import Model
from registry.domain.trees import EMPTY_TREE
from store.index.claims import PIN, Access
from store.index.schema import blobs, leases, refs
from store.index.transactions import Statement, Tx

FOLDER: Final = "folder"
"""Kind of the reference that a file in a draft holds."""
TREE: Final = "tree"
"""Kind of the reference that a file in a published version holds."""


def access_of(model: Model) -> Access:
    """Who else than itself may have what a model claims: the readers of its namespace or level.

    Every claim of a model says so; whoever changes either calls `store.index.claims.open_refs`.
    """
    return Access(realm=model.namespace_id, level=model.visibility)


class _Claims:
    """The statements that move references of one kind for all that one table of files names.

    `files` has a row with a digest for each file; `holder` is its column of trees or folders.
    """

    def __init__(self, files: Table, holder: ColumnElement[Any], kind: str) -> None:
        named = holder == bindparam("holder")
        word = literal(f"'{kind}'", Text)
        mine = (refs.c.owner == bindparam("owner"), refs.c.kind == word)
        digests = select(files.c.digest).where(named)
        counted = (
            select(files.c.digest, func.count().label("n"))
            .where(named)
            .group_by(files.c.digest)
            .subquery("counted")
        )
        claimed = insert(refs).from_select(
            ["digest", "owner", "kind", "count", "created_at", "realm", "level"],
            select(
                files.c.digest,
                bindparam("owner", type_=Text),
                word,
                func.count(),
                bindparam("now", type_=BigInteger),
                bindparam("realm", type_=Text),
                bindparam("level", type_=Text),
            )
            .where(named)
            .group_by(files.c.digest),
        )
        self._claim = Statement(
            claimed.on_conflict_do_update(
                index_elements=["digest", "owner", "kind"],
                set_={"count": refs.c.count + claimed.excluded.count},
            )
        )
        used_up = (
            select(counted.c.digest)
            .join(refs, refs.c.digest == counted.c.digest)
            .where(*mine, refs.c.count <= counted.c.n)
        )
        self._drop_used_up = Statement(
            delete(refs).where(*mine, refs.c.digest.in_(used_up.scalar_subquery()))
        )
        self._count_less = Statement(
            update(refs)
            .where(*mine, refs.c.digest == counted.c.digest)
            .values(count=refs.c.count - counted.c.n)
        )
        self._touch = Statement(
            update(blobs).where(blobs.c.digest.in_(digests)).values(last_claimed=bindparam("now"))
        )
        self._drop_pins = Statement(
            delete(refs).where(
                refs.c.owner == bindparam("owner"),
                refs.c.kind == literal(f"'{PIN}'"),
                refs.c.digest.in_(digests),
            )
        )

    async def claim(self, tx: Tx, holder: bytes | str, model: Model) -> None:
        access = access_of(model)
        await tx.run(
            self._claim,
            holder=holder,
            owner=model.id,
            now=tx.now,
            realm=access.realm,
            level=access.level,
        )

    async def release(self, tx: Tx, holder: bytes | str, owner: str) -> None:
        await tx.run(self._drop_used_up, holder=holder, owner=owner)
        await tx.run(self._count_less, holder=holder, owner=owner)
        await tx.run(self._touch, holder=holder, now=tx.now)

    async def release_pins(self, tx: Tx, holder: bytes | str, principal: str) -> None:
        await tx.run(self._drop_pins, holder=holder, owner=principal)


_TREES: Final = _Claims(tree_files, tree_files.c.tree, TREE)
_FOLDERS: Final = _Claims(folder_files, folder_files.c.folder, FOLDER)

_RENEW_LEASES = Statement(
    lambda: (
        update(leases)
        .where(leases.c.holder == bindparam("holder_"))
        .values(expires_at=bindparam("expires_at"))
    )
)


async def renew_leases(tx: Tx, holder: str, expires_at: int) -> None:
    """Let everything a holder leased stay until later."""
    await tx.run(_RENEW_LEASES, holder_=holder, expires_at=expires_at)


async def claim_tree(tx: Tx, tree: bytes, model: Model) -> None:
    """Count one claim of `model` for every file of a tree."""
    if tree != EMPTY_TREE.raw:
        await _TREES.claim(tx, tree, model)


async def release_tree(tx: Tx, tree: bytes, owner: str) -> None:
    """Give up one claim for every file of a tree, and start the grace age of their blobs anew."""
    if tree != EMPTY_TREE.raw:
        await _TREES.release(tx, tree, owner)


async def release_pins(tx: Tx, tree: bytes, principal: str) -> None:
    """Give up the pins that uploads made for a principal on what a tree now names."""
    if tree != EMPTY_TREE.raw:
        await _TREES.release_pins(tx, tree, principal)


async def claim_folder(tx: Tx, folder: str, model: Model) -> None:
    """Count one claim of `model` for every file of a draft."""
    await _FOLDERS.claim(tx, folder, model)


async def release_folder(tx: Tx, folder: str, owner: str) -> None:
    """Give up the claims of every file of a draft, and start the grace age of their blobs anew."""
    await _FOLDERS.release(tx, folder, owner)


async def release_folder_pins(tx: Tx, folder: str, principal: str) -> None:
    """Give up the pins that uploads made for a principal on what a draft now names."""
    await _FOLDERS.release_pins(tx, folder, principal)
