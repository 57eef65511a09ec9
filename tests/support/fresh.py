"""New data directories without their tenth of a second of migrations.

The tables of a new index are always the same, so each test process migrates one and every other
directory starts from its copy; what makes a store itself (its id, its epoch) is made each time.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from store import layout
from store.index.upgrade import Chain, upgrade
from store.opening import initialize


def initialize_like_new(root: Path, chains: Sequence[Chain]) -> None:
    """What `store.opening.initialize` makes of a directory. Blocking."""
    index = root / layout.INDEX_FILE
    if not index.exists():  # a directory may be opened again, with what it holds
        index.write_bytes(_migrated(tuple(chains)))
    initialize(root, chains)


@cache
def _migrated(chains: tuple[Chain, ...]) -> bytes:
    folder = Path(tempfile.mkdtemp())
    try:
        index = folder / layout.INDEX_FILE
        upgrade(index, chains)
        return index.read_bytes()
    finally:
        shutil.rmtree(folder)
