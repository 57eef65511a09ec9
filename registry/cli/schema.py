"""Whether the index needs a migration, told from sixteen bytes of its header.

The supervisor must neither import the database nor open it: a handle that crosses a fork, or a
descriptor closed beside one, breaks SQLite's locks. The header of the file may be older than the
log beside it, never newer; so a number that is current there is current, and workers, who open the
database for real, refuse an index that is newer than they are.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from store import layout

if TYPE_CHECKING:
    from store.index.upgrade import Upgraded

SCHEMA_NUMBER: Final = 3014
"""What ``PRAGMA user_version`` of a current index is; a test compares it with the migrations."""

_MAGIC: Final = b"SQLite format 3\x00"
_AT: Final = 60


def is_current(data: Path) -> bool:
    """Whether the directory has an identity, and an index as this program writes it."""
    if not (data / layout.STORE_FILE).exists():
        return False
    try:
        with (data / layout.INDEX_FILE).open("rb", buffering=0) as file:
            header = file.read(_AT + 4)
    except OSError:
        return False
    return header.startswith(_MAGIC) and int.from_bytes(header[_AT:], "big") == SCHEMA_NUMBER


def prepare(data: Path) -> Upgraded:
    """Make the directory ready for workers: folders, ``store.json``, an index with current tables.

    An index that had other tables is copied beside itself first. A new index gets a root key if the
    directory has none; where seals were made, `Seals.root_key` decides. Loads the database, so a
    server does this in a process of its own.
    """
    from registry.auth.keys import make_root_key
    from registry.catalog.migrations import CHAINS
    from store.opening import initialize

    done = initialize(data, CHAINS)
    if not done.before:
        make_root_key(data)
    return done
