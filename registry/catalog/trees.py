"""Rows of trees and their files. A tree is written once and shared by all versions that equal it.

Paths are compared byte by byte by the database, which is the order of a tree's canonical text, so a
page of files starts after the last path of the page before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final

from sqlalchemy import BigInteger, LargeBinary, bindparam, cast, func, insert, select

from registry.catalog.schema import folder_files, tree_files, trees
from registry.domain.trees import TreeFile
from store.digest import Digest
from store.index.packed import DIGESTS, MANY, for_each, packed, piece_of
from store.index.schema import blobs
from store.index.transactions import Statement, Tx

_FILES_AT_ONCE: Final = 1000
"""Written by one step of a statement, which takes a sixth of a step for each."""

_FIND = Statement(
    lambda: select(trees.c.files, trees.c.size).where(trees.c.digest == bindparam("digest"))
)
_INSERT = Statement(
    lambda: insert(trees).values(
        digest=bindparam("digest"),
        files=bindparam("files"),
        size=bindparam("size"),
        created_at=bindparam("now"),
    )
)
_SIZE_DIGITS: Final = 19
_INSERT_FILES = Statement(
    lambda: insert(tree_files).from_select(
        ["tree", "path", "digest", "size"],
        for_each(
            bindparam("tree", type_=LargeBinary),
            MANY.c.value,
            piece_of(DIGESTS),
            cast(piece_of(bindparam("sizes", type_=LargeBinary), _SIZE_DIGITS), BigInteger),
        ),
    )
)
_COPY_FOLDER = Statement(
    lambda: insert(tree_files).from_select(
        ["tree", "path", "digest", "size"],
        select(
            bindparam("tree", type_=LargeBinary),
            folder_files.c.path,
            folder_files.c.digest,
            folder_files.c.size,
        ).where(folder_files.c.folder == bindparam("folder")),
    )
)
_FILE = Statement(
    lambda: select(tree_files.c.path, tree_files.c.digest, tree_files.c.size).where(
        tree_files.c.tree == bindparam("tree"), tree_files.c.path == bindparam("path")
    )
)
_PAGE = Statement(
    lambda: (
        select(tree_files.c.path, tree_files.c.digest, tree_files.c.size)
        .where(tree_files.c.tree == bindparam("tree"), tree_files.c.path > bindparam("after"))
        .order_by(tree_files.c.path)
        .limit(bindparam("limit"))
    )
)
_SUMS_BYTES = Statement(
    # Two spaces, a newline and 64 digits beside the bytes of each path.
    lambda: select(func.sum(func.length(cast(tree_files.c.path, LargeBinary)) + 67)).where(
        tree_files.c.tree == bindparam("tree")
    )
)
_NOT_PRESENT = Statement(
    lambda: (
        select(tree_files.c.digest)
        .join(blobs, blobs.c.digest == tree_files.c.digest, isouter=True)
        .where(
            tree_files.c.tree == bindparam("tree"),
            func.coalesce(blobs.c.state, "absent") != "present",
        )
        .limit(1)
    )
)


async def find_tree(tx: Tx, digest: Digest) -> tuple[int, int] | None:
    """How many files and bytes a tree has; None if it was never written."""
    row = await tx.one(_FIND, digest=digest.raw)
    return None if row is None else (row[0], row[1])


async def insert_tree_of_folder(
    tx: Tx, digest: Digest, folder: str, *, files: int, size_bytes: int
) -> None:
    """Write the tree that a folder's files make, unless it is there."""
    if await find_tree(tx, digest) is None:
        await tx.run(_INSERT, digest=digest.raw, files=files, size=size_bytes, now=tx.now)
        await tx.run(_COPY_FOLDER, tree=digest.raw, folder=folder)


async def insert_tree(
    tx: Tx, digest: Digest, rows: Iterable[TreeFile], *, files: int, size_bytes: int
) -> None:
    """Write a tree from its files, unless it is there."""
    if await find_tree(tx, digest) is None:
        await tx.run(_INSERT, digest=digest.raw, files=files, size=size_bytes, now=tx.now)
        await tx.run_many(_INSERT_FILES, _packed(digest, rows))


def _packed(tree: Digest, rows: Iterable[TreeFile]) -> Iterator[dict[str, Any]]:
    """The values of `_INSERT_FILES`, for many files each."""
    left = iter(rows)
    while some := list(islice(left, _FILES_AT_ONCE)):
        yield {
            **packed([file.digest for file in some], [file.path for file in some]),
            "tree": tree.raw,
            "sizes": b"".join([b"%0*d" % (_SIZE_DIGITS, file.size_bytes) for file in some]),
        }


async def find_tree_file(tx: Tx, tree: Digest, path: str) -> TreeFile | None:
    row = await tx.one(_FILE, tree=tree.raw, path=path)
    return None if row is None else TreeFile(row[0], Digest(row[1].hex()), row[2])


async def tree_files_after(tx: Tx, tree: Digest, after: str, limit: int) -> list[TreeFile]:
    """A page of files in order of path; start with ``""``."""
    rows = await tx.all(_PAGE, tree=tree.raw, after=after, limit=limit)
    return [TreeFile(row[0], Digest(row[1].hex()), row[2]) for row in rows]


async def checksum_bytes(tx: Tx, tree: Digest) -> int:
    """How long the tree's list for ``sha256sum -c`` is."""
    row = await tx.one(_SUMS_BYTES, tree=tree.raw)
    return 0 if row is None or row[0] is None else int(row[0])


async def first_unreadable(tx: Tx, tree: Digest) -> Digest | None:
    """A blob of the tree that is not present right now, if there is one."""
    row = await tx.one(_NOT_PRESENT, tree=tree.raw)
    return None if row is None else Digest(row[0].hex())
