"""What the catalog claims of the store: references owned by models, moved in sets.

A draft's file holds a reference of kind ``folder``, a published version's file one of kind
``tree``, counted, so that every version and draft of a model can go without asking for the others.
A version of ten thousand files is claimed by a handful of statements, not by ten thousand.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Text, bindparam, delete, func, select, update
from sqlalchemy import literal_column as literal
from sqlalchemy.dialects.sqlite import insert

from registry.catalog.schema import folder_files, tree_files
from store.index.blobs import PIN
from store.index.schema import blobs, leases, refs
from store.index.transactions import Statement, Tx

FOLDER: Final = "folder"
"""Kind of the reference that a file in a draft holds."""
TREE: Final = "tree"
"""Kind of the reference that a file in a published version holds."""

_in_folder = (
    select(folder_files.c.digest, func.count().label("n"))
    .where(folder_files.c.folder == bindparam("folder"))
    .group_by(folder_files.c.digest)
    .subquery("in_folder")
)
_of_tree = select(
    tree_files.c.digest,
    bindparam("owner", type_=Text),
    literal("'tree'", Text),
    func.count(),
    bindparam("now", type_=BigInteger),
).where(tree_files.c.tree == bindparam("tree"))
_claim_tree = insert(refs).from_select(
    ["digest", "owner", "kind", "count", "created_at"], _of_tree.group_by(tree_files.c.digest)
)
_CLAIM_TREE = Statement(
    _claim_tree.on_conflict_do_update(
        index_elements=["digest", "owner", "kind"],
        set_={"count": refs.c.count + _claim_tree.excluded.count},
    )
)
_of_folder = select(
    folder_files.c.digest,
    bindparam("owner", type_=Text),
    literal("'folder'", Text),
    func.count(),
    bindparam("now", type_=BigInteger),
).where(folder_files.c.folder == bindparam("folder"))
_claim_folder = insert(refs).from_select(
    ["digest", "owner", "kind", "count", "created_at"],
    _of_folder.group_by(folder_files.c.digest),
)
_CLAIM_FOLDER = Statement(
    _claim_folder.on_conflict_do_update(
        index_elements=["digest", "owner", "kind"],
        set_={"count": refs.c.count + _claim_folder.excluded.count},
    )
)
_in_tree = (
    select(tree_files.c.digest, func.count().label("n"))
    .where(tree_files.c.tree == bindparam("tree"))
    .group_by(tree_files.c.digest)
    .subquery("in_tree")
)
_of_owner = (refs.c.owner == bindparam("owner"), refs.c.kind == literal("'tree'"))
_TREE_USED_UP = Statement(
    delete(refs).where(
        *_of_owner,
        refs.c.digest.in_(
            select(_in_tree.c.digest)
            .join(refs, refs.c.digest == _in_tree.c.digest)
            .where(*_of_owner, refs.c.count <= _in_tree.c.n)
            .scalar_subquery()
        ),
    )
)
_TREE_LESS = Statement(
    update(refs)
    .where(*_of_owner, refs.c.digest == _in_tree.c.digest)
    .values(count=refs.c.count - _in_tree.c.n)
)
_TOUCH_TREE = Statement(
    update(blobs)
    .where(
        blobs.c.digest.in_(
            select(tree_files.c.digest).where(tree_files.c.tree == bindparam("tree"))
        )
    )
    .values(last_claimed=bindparam("now"))
)
_RELEASE_FOLDER_PINS = Statement(
    delete(refs).where(
        refs.c.owner == bindparam("owner"),
        refs.c.kind == literal(f"'{PIN}'"),
        refs.c.digest.in_(
            select(folder_files.c.digest).where(folder_files.c.folder == bindparam("folder"))
        ),
    )
)
_mine = (refs.c.owner == bindparam("owner"), refs.c.kind == literal("'folder'"))
_USED_UP = Statement(
    delete(refs).where(
        *_mine,
        refs.c.digest.in_(
            select(_in_folder.c.digest)
            .join(refs, refs.c.digest == _in_folder.c.digest)
            .where(*_mine, refs.c.count <= _in_folder.c.n)
            .scalar_subquery()
        ),
    )
)
_LESS = Statement(
    update(refs)
    .where(*_mine, refs.c.digest == _in_folder.c.digest)
    .values(count=refs.c.count - _in_folder.c.n)
)
_TOUCH_FOLDER = Statement(
    update(blobs)
    .where(
        blobs.c.digest.in_(
            select(folder_files.c.digest).where(folder_files.c.folder == bindparam("folder"))
        )
    )
    .values(last_claimed=bindparam("now"))
)
_RELEASE_PINS = Statement(
    delete(refs).where(
        refs.c.owner == bindparam("owner"),
        refs.c.kind == literal(f"'{PIN}'"),
        refs.c.digest.in_(
            select(tree_files.c.digest).where(tree_files.c.tree == bindparam("tree"))
        ),
    )
)


_RENEW_LEASES = Statement(
    update(leases)
    .where(leases.c.holder == bindparam("holder_"))
    .values(expires_at=bindparam("expires_at"))
)


async def renew_leases(tx: Tx, holder: str, expires_at: int) -> None:
    """Let everything a holder leased stay until later."""
    await tx.run(_RENEW_LEASES, holder_=holder, expires_at=expires_at)


async def claim_tree(tx: Tx, tree: bytes, owner: str) -> None:
    """Count one claim of `owner` for every file of a tree."""
    await tx.run(_CLAIM_TREE, tree=tree, owner=owner, now=tx.now)


async def release_tree(tx: Tx, tree: bytes, owner: str) -> None:
    """Give up one claim for every file of a tree, and start the grace age of their blobs anew."""
    await tx.run(_TREE_USED_UP, tree=tree, owner=owner)
    await tx.run(_TREE_LESS, tree=tree, owner=owner)
    await tx.run(_TOUCH_TREE, tree=tree, now=tx.now)


async def claim_folder(tx: Tx, folder: str, owner: str) -> None:
    """Count one claim of `owner` for every file of a draft."""
    await tx.run(_CLAIM_FOLDER, folder=folder, owner=owner, now=tx.now)


async def release_folder_pins(tx: Tx, folder: str, principal: str) -> None:
    """Give up the pins that uploads made for a principal on what a draft now names."""
    await tx.run(_RELEASE_FOLDER_PINS, folder=folder, owner=principal)


async def release_folder(tx: Tx, folder: str, owner: str) -> None:
    """Give up the claims of every file of a draft, and start the grace age of their blobs anew."""
    await tx.run(_USED_UP, folder=folder, owner=owner)
    await tx.run(_LESS, folder=folder, owner=owner)
    await tx.run(_TOUCH_FOLDER, folder=folder, now=tx.now)


async def release_pins(tx: Tx, tree: bytes, principal: str) -> None:
    """Give up the pins that uploads made for a principal on what a tree now names."""
    await tx.run(_RELEASE_PINS, tree=tree, owner=principal)
