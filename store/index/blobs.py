"""Rows of blobs, references, leases and quarantine; every function runs inside a caller's unit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import Integer, bindparam, case, cast, delete, exists, func, insert, or_, select, update
from sqlalchemy import literal_column as literal
from sqlalchemy.dialects.sqlite import insert as upsert

from store.digest import Digest
from store.index.schema import blobs, leases, quarantine, refs, store_state
from store.index.transactions import Row, Statement, Tx

PRESENT: Final = "present"
MOVING: Final = "moving"
DAMAGED: Final = "damaged"

PIN: Final = "pin"
"""Kind of a reference that an upload made; a commit that names the blob releases it."""
KEPT: Final = "kept"
"""Kind of a reference that somebody asked for by name; only they release it."""


class BlobRow(msgspec.Struct, frozen=True):
    """What the index knows of a blob; no row means absent."""

    digest: Digest
    size_bytes: int
    state: str
    generation: int
    last_claimed: int
    segments: bytes | None
    verified_at: int | None
    verified_boot: str | None
    created_at: int


class AsideRow(msgspec.Struct, frozen=True):
    """A quarantined file."""

    digest: Digest
    generation: int
    size_bytes: int
    reason: str
    collection: str | None
    segments: bytes | None
    moved_at: int


class RefRow(msgspec.Struct, frozen=True):
    """A durable claim."""

    digest: Digest
    owner: str
    kind: str
    count: int
    created_at: int
    size_bytes: int
