"""Which stored blobs somebody may name in a version: present, and owned by whom they may read.

The rule is that of `registry.services.blobs.known`, for thousands of digests in one statement. What
`holder` has leased counts as its own: bytes that arrived a moment ago and that nobody owns yet.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

import msgspec
from sqlalchemy import Table, Text, TextClause, bindparam, exists, func, or_, select
from sqlalchemy import literal_column as literal
from sqlalchemy.sql.elements import ColumnElement

from registry.catalog.schema import folder_files, tree_files
from registry.domain.principals import Visibility
from store.digest import Digest
from store.index.readable import readable
from store.index.schema import blobs, leases, refs
from store.index.transactions import Statement, Tx


def _may_use(digest: ColumnElement[bytes], *, everything: bool) -> ColumnElement[bool]:
    of_them: ColumnElement[bool] | TextClause = exists().where(refs.c.digest == digest)
    if not everything:
        of_them = readable(str(digest))
    leased = exists().where(leases.c.digest == digest, leases.c.holder == bindparam("holder"))
    return or_(of_them, leased)


_wanted = func.json_each(bindparam("digests", type_=Text)).table_valued("value", name="wanted")
_digest = func.unhex(_wanted.c.value)


def _sizes(*, everything: bool) -> Statement:
    """Claims are looked at before the blob: what is hidden costs what a missing one does."""
    wanted = (
        select(_digest.label("digest"))
        .where(_may_use(_digest, everything=everything))
        .cte("allowed")
        .prefix_with("MATERIALIZED")
    )
    return Statement(
        select(blobs.c.digest, blobs.c.size)
        .join(wanted, blobs.c.digest == wanted.c.digest)
        .where(blobs.c.state == literal("'present'"))
    )


def _unusable(files: Table, holder: ColumnElement[Any], *, everything: bool) -> Statement:
    may_not = ~_may_use(files.c.digest, everything=everything)
    return Statement(
        select(files.c.digest)
        .distinct()
        .join(blobs, blobs.c.digest == files.c.digest, isouter=True)
        .where(
            holder == bindparam("holder_of_files"),
            or_(may_not, blobs.c.state.is_distinct_from(literal("'present'"))),
        )
    )


_SIZES: Final = {seen: _sizes(everything=seen) for seen in (True, False)}
_UNUSABLE_IN_TREE: Final = {
    seen: _unusable(tree_files, tree_files.c.tree, everything=seen) for seen in (True, False)
}
_UNUSABLE_IN_FOLDER: Final = {
    seen: _unusable(folder_files, folder_files.c.folder, everything=seen) for seen in (True, False)
}
"""Whether everything may be seen, and the question then."""


class Claimant(msgspec.Struct, frozen=True):
    """Who names blobs: what they may read, and the holder of leases on what they just sent."""

    visibility: Visibility
    holder: str = ""

    @property
    def everything(self) -> bool:
        return self.visibility.everything

    def bound(self) -> dict[str, str]:
        reader = self.visibility.reader
        return {"holder": self.holder, **({} if reader is None else reader.bound())}


async def usable_sizes(
    tx: Tx, claimant: Claimant, digests: Collection[Digest]
) -> dict[Digest, int]:
    """Sizes of those blobs that may be named; what is missing or hidden is left out."""
    if not digests:
        return {}
    wanted = msgspec.json.encode([digest.hex for digest in digests]).decode()
    rows = await tx.all(_SIZES[claimant.everything], digests=wanted, **claimant.bound())
    return {Digest.from_raw(row[0]): row[1] for row in rows}


async def unusable_in_tree(tx: Tx, claimant: Claimant, tree: Digest) -> list[Digest]:
    """Blobs that a tree names and the claimant may not."""
    rows = await tx.all(
        _UNUSABLE_IN_TREE[claimant.everything], holder_of_files=tree.raw, **claimant.bound()
    )
    return [Digest.from_raw(row[0]) for row in rows]


async def unusable_in_folder(tx: Tx, claimant: Claimant, folder: str) -> list[Digest]:
    """Blobs that a draft names and the claimant may not."""
    rows = await tx.all(
        _UNUSABLE_IN_FOLDER[claimant.everything], holder_of_files=folder, **claimant.bound()
    )
    return [Digest.from_raw(row[0]) for row in rows]
