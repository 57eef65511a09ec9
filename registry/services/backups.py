"""What a backup lacks, in the words of the catalog: which files of which versions need a blob."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec

from store.index import driver
from store.index.driver import sqlite

MOST_NAMES: Final = 1000

_NAMES: Final = """
SELECT lower(hex(f.digest)), m.name, v.number, v.label, f.path
FROM tree_files f JOIN versions v ON v.tree = f.tree JOIN models m ON m.id = v.model
WHERE v.purged_at IS NULL AND lower(hex(f.digest)) IN (SELECT value FROM json_each(?))
ORDER BY m.name, v.number, f.path LIMIT ?
"""


class NamedFile(msgspec.Struct, frozen=True):
    """A file of a version."""

    digest: str
    model: str
    number: int
    label: str | None
    path: str


def files_of_versions(index: Path, digests: Sequence[str]) -> list[NamedFile]:
    """Which files of versions these digests are, by a copy of the index that nobody writes.

    At most `MOST_NAMES`. Blocking; it reads all files of all trees, so it is for bad news only.
    """
    if not digests:
        return []
    wanted = msgspec.json.encode([digest.removeprefix("sha256:") for digest in digests]).decode()
    address = f"{index.absolute().as_uri()}?mode=ro&immutable=1"
    try:
        with closing(sqlite.connect(address, uri=True, isolation_level=None)) as connection:
            found = connection.execute(_NAMES, (wanted, MOST_NAMES)).fetchall()
    except sqlite.Error as error:
        raise driver.translated(error, "reading a copy of the index", index) from error
    return [NamedFile(f"sha256:{row[0]}", *row[1:]) for row in found]
