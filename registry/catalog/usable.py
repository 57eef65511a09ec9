"""Which stored blobs somebody may name in a version: present, and owned by whom they may read.

The rule is that of `registry.services.blobs.known`, for thousands of digests in one statement. What
`holder` has leased counts as its own: bytes that arrived a moment ago and that nobody owns yet.
"""

from __future__ import annotations

from collections.abc import Collection

import msgspec
from sqlalchemy import Text, bindparam, exists, func, or_, select
from sqlalchemy import literal_column as literal
from sqlalchemy.sql.elements import ColumnElement

from registry.catalog.schema import folder_files, tree_files
from registry.domain.principals import Visibility
from store.digest import Digest
from store.index.schema import blobs, leases, refs
from store.index.transactions import Statement, Tx


def _may_use(digest: ColumnElement[bytes]) -> ColumnElement[bool]:
    owners = func.json_each(bindparam("owners", type_=Text)).table_valued("value", name="readable")
    may_read = or_(
        bindparam("everything") == literal("1"), refs.c.owner.in_(select(owners.c.value))
    )
    return or_(
        exists().where(refs.c.digest == digest, may_read),
        exists().where(leases.c.digest == digest, leases.c.holder == bindparam("holder")),
    )


_wanted = func.json_each(bindparam("digests", type_=Text)).table_valued("value", name="wanted")
_SIZES = Statement(
    select(blobs.c.digest, blobs.c.size)
    .select_from(_wanted.join(blobs, blobs.c.digest == func.unhex(_wanted.c.value)))
    .where(blobs.c.state == literal("'present'"), _may_use(blobs.c.digest))
)
_UNUSABLE_IN_TREE = Statement(
    select(tree_files.c.digest)
    .distinct()
    .join(blobs, blobs.c.digest == tree_files.c.digest, isouter=True)
    .where(
        tree_files.c.tree == bindparam("tree"),
        or_(blobs.c.state.is_distinct_from(literal("'present'")), ~_may_use(tree_files.c.digest)),
    )
)
_UNUSABLE_IN_FOLDER = Statement(
    select(folder_files.c.digest)
    .distinct()
    .join(blobs, blobs.c.digest == folder_files.c.digest, isouter=True)
    .where(
        folder_files.c.folder == bindparam("folder"),
        or_(blobs.c.state.is_distinct_from(literal("'present'")), ~_may_use(folder_files.c.digest)),
    )
)


class Claimant(msgspec.Struct, frozen=True):
    """Who names blobs: what they may read, and the holder of leases on what they just sent."""

    visibility: Visibility
    holder: str = ""

    def bound(self) -> dict[str, str | int]:
        return {
            "everything": int(self.visibility.everything),
            "owners": msgspec.json.encode(sorted(self.visibility.owners)).decode(),
            "holder": self.holder,
        }


async def usable_sizes(
    tx: Tx, claimant: Claimant, digests: Collection[Digest]
) -> dict[Digest, int]:
    """Sizes of those blobs that may be named; what is missing or hidden is left out."""
    if not digests:
        return {}
    wanted = msgspec.json.encode([digest.hex for digest in digests]).decode()
    rows = await tx.all(_SIZES, digests=wanted, **claimant.bound())
    return {Digest.from_raw(row[0]): row[1] for row in rows}


async def unusable_in_tree(tx: Tx, claimant: Claimant, tree: Digest) -> list[Digest]:
    """Blobs that a tree names and the claimant may not."""
    rows = await tx.all(_UNUSABLE_IN_TREE, tree=tree.raw, **claimant.bound())
    return [Digest.from_raw(row[0]) for row in rows]


async def unusable_in_folder(tx: Tx, claimant: Claimant, folder: str) -> list[Digest]:
    """Blobs that a draft names and the claimant may not."""
    rows = await tx.all(_UNUSABLE_IN_FOLDER, folder=folder, **claimant.bound())
    return [Digest.from_raw(row[0]) for row in rows]
