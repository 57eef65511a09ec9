"""A data directory as an earlier version of the program left it.

Its tables are made by the migrations of that time and filled with statements written down then, so
that what today's code believes about yesterday's rows is not asked of today's code.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import msgspec

from registry.catalog.migrations import CATALOG
from store.digest import Digest
from store.index.driver import sqlite
from store.index.upgrade import STORE, Chain
from store.layout import blob_key
from store.opening import initialize

FIRST_CHAINS: tuple[Chain, ...] = (
    msgspec.structs.replace(STORE, number=1),
    msgspec.structs.replace(CATALOG, number=1),
)

CONTENT = b"weights of an earlier time" * 1000
LABEL = "1.0.0"
PATH = "model.safetensors"

_REVISION = "0123456789abcdef0123456789abcdef01234567"
_MODEL = "mdl_01j8zq0000000000000000000a"
_MADE = 1_700_000_000_000_000


def directory_of_schema_1001(root: Path, model: str = "bert") -> Digest:
    """Make a directory in which `model` has the published version ``1.0.0`` with one file."""
    root.mkdir(parents=True)
    initialize(root, FIRST_CHAINS)
    digest = _store(root)
    with closing(sqlite.connect(str(root / "index.sqlite3"), isolation_level=None)) as connection:
        _publish(connection, model, digest)
    return digest


def _store(root: Path) -> Digest:
    """A stored blob as it was laid down then."""
    digest = Digest.of(CONTENT)
    path = root / blob_key(digest)
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    path.chmod(0o444)
    row = (digest.raw, len(CONTENT), "present", 1, _MADE, None, None, None, _MADE)
    with closing(sqlite.connect(str(root / "index.sqlite3"), isolation_level=None)) as connection:
        connection.execute("INSERT INTO blobs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        connection.execute("UPDATE counters SET value = 1 WHERE name = 'generation'")
    return digest


def _publish(connection: sqlite.Connection, model: str, digest: Digest) -> None:
    size = len(CONTENT)
    tree = Digest.of(f"digestry-tree-1\n{size} {digest.hex} {PATH}\n".encode()).raw
    by = "usr_local"
    rows: list[tuple[str, tuple[object, ...]]] = [
        ("trees", (tree, 1, size, _MADE)),
        ("tree_files", (tree, PATH, digest.raw, size)),
        (
            "models",
            (_MODEL, model, model, "model", "private", 1, _MADE, by, _MADE, None, None),
        ),
        ("revisions", (_REVISION, _MODEL, tree, "[]", by, "", _MADE)),
        (
            "versions",
            (
                *("ver_01j8zq0000000000000000000b", _MODEL, 1, LABEL, LABEL, "release"),
                *("001100100100~", _REVISION, tree, 1, size, _MADE, by, None, None),
            ),
        ),
        ("aliases", (_MODEL, "latest", "latest", _REVISION, 0, _MADE, by)),
        ("aliases", (_MODEL, "main", "main", _REVISION, 0, _MADE, by)),
        ("alias_events", (1, _MODEL, "latest", "latest", None, _REVISION, by, "", _MADE)),
        ("alias_events", (2, _MODEL, "main", "main", None, _REVISION, by, "", _MADE)),
        ("refs", (digest.raw, _MODEL, "tree", 1, _MADE)),
    ]
    connection.execute("BEGIN IMMEDIATE")
    for table, values in rows:
        marks = ", ".join("?" * len(values))
        connection.execute(f"INSERT INTO {table} VALUES ({marks})", values)
    connection.execute("COMMIT")
