"""What differs between the files of two trees, in order of path, from both tables' own order."""

from __future__ import annotations

from sqlalchemy import bindparam, func, or_, select

from registry.catalog.schema import tree_files
from registry.domain.trees import TreeFile
from store.digest import Digest
from store.index.transactions import Statement, Tx

_old = tree_files.alias("old")
_new = tree_files.alias("new")

_in_old = (_old.c.tree == bindparam("old"), _old.c.path > bindparam("after"))
_in_new = (_new.c.tree == bindparam("new"), _new.c.path > bindparam("after"))
_from_old = _old.join(
    _new, (_new.c.tree == bindparam("new")) & (_new.c.path == _old.c.path), isouter=True
)
_from_new = _new.join(
    _old, (_old.c.tree == bindparam("old")) & (_old.c.path == _new.c.path), isouter=True
)
_GONE_OR_CHANGED = Statement(
    lambda: (
        select(_old.c.path, _old.c.digest, _old.c.size, _new.c.digest, _new.c.size)
        .select_from(_from_old)
        .where(*_in_old, or_(_new.c.digest.is_(None), _new.c.digest != _old.c.digest))
        .order_by(_old.c.path)
        .limit(bindparam("limit"))
    )
)
_ADDED = Statement(
    lambda: (
        select(_new.c.path, _new.c.digest, _new.c.size)
        .select_from(_from_new)
        .where(*_in_new, _old.c.digest.is_(None))
        .order_by(_new.c.path)
        .limit(bindparam("limit"))
    )
)
_COUNT_OLD = Statement(
    lambda: (
        select(func.count(), func.count(_new.c.digest))
        .select_from(_from_old)
        .where(*_in_old, or_(_new.c.digest.is_(None), _new.c.digest != _old.c.digest))
    )
)
_COUNT_ADDED = Statement(
    lambda: select(func.count()).select_from(_from_new).where(*_in_new, _old.c.digest.is_(None))
)


async def gone_or_changed(
    tx: Tx, old: Digest, new: Digest, after: str, limit: int
) -> list[tuple[TreeFile, TreeFile | None]]:
    """Files of the old tree that the new one does not have so, each with what it has there."""
    rows = await tx.all(_GONE_OR_CHANGED, old=old.raw, new=new.raw, after=after, limit=limit)
    return [
        (
            TreeFile(path, Digest.from_raw(digest), size),
            None if other is None else TreeFile(path, Digest.from_raw(other), other_size),
        )
        for path, digest, size, other, other_size in rows
    ]


async def added(tx: Tx, old: Digest, new: Digest, after: str, limit: int) -> list[TreeFile]:
    """Files of the new tree at paths that the old one does not have."""
    rows = await tx.all(_ADDED, old=old.raw, new=new.raw, after=after, limit=limit)
    return [TreeFile(path, Digest.from_raw(digest), size) for path, digest, size in rows]


async def count_differences(tx: Tx, old: Digest, new: Digest) -> tuple[int, int, int]:
    """How many files were added, removed and changed."""
    trees = {"old": old.raw, "new": new.raw, "after": ""}
    missing = await tx.one(_COUNT_OLD, **trees)
    extra = await tx.one(_COUNT_ADDED, **trees)
    assert missing is not None, "an aggregate has one row"
    assert extra is not None, "an aggregate has one row"
    return extra[0], missing[0] - missing[1], missing[1]
