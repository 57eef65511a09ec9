"""The transaction that makes staged blobs visible, and what must still be true in it.

What the index said of a digest (`Seen`) decides what is done with its file before the transaction:
it is promoted, or found whole. In the transaction that must still be so. A row carries its
generation. For a digest without a row the store's counter of moves is compared: if any blob was
marked moving meanwhile, this digest may have been inserted, collected and removed, file and all.
The transaction then records nothing but leases on the digests, which no collection passes, and
whoever asked begins anew.

Nothing here touches a file; `store.ingest` does, before.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeAlias, TypeVar

import msgspec

from store.blobs import StagedWriter
from store.clock import SECOND, boot_id
from store.digest import Digest
from store.index import blobs as rows
from store.index import claims, state
from store.index.archived import spare_archived
from store.index.many_blobs import Content, find_blobs, insert_or_renew
from store.index.transactions import Tx
from store.segments import Segments

T = TypeVar("T")

LEASE_SECONDS: Final = 600


class StoredBlob(msgspec.Struct, frozen=True):
    """A visible blob."""

    digest: Digest
    size_bytes: int
    generation: int


Record: TypeAlias = Callable[[Tx, StoredBlob], Awaitable[T]]
"""Runs inside the transaction that makes the blob visible; adds a reference or a lease.

It keeps the rules of a unit of work: it may run more than once.
"""

RecordAll: TypeAlias = Callable[[Tx, Sequence[StoredBlob]], Awaitable[T]]


class Staged(msgspec.Struct, frozen=True):
    """Bytes that are whole and verified, durable or not, and not yet visible."""

    digest: Digest
    size_bytes: int
    segments: Segments
    writer: StagedWriter
    is_held: bool = False
    """Whether the bytes are in memory yet: writing, syncing and promoting are one step then."""


class Seen(msgspec.Struct, frozen=True):
    """What the index said of some digests before their files were touched."""

    found: dict[Digest, rows.BlobRow | None]
    moves: int


class Retry(msgspec.Struct, frozen=True):
    """The transaction found another state than `Seen`; it recorded nothing but leases."""

    is_moving: bool


class Done(msgspec.Struct, Generic[T], frozen=True):
    result: T


async def see(tx: Tx, digests: Sequence[Digest]) -> Seen:
    return Seen(await find_blobs(tx, digests), await state.counter(tx, "moves"))


Outcome: TypeAlias = Done[T] | Retry


async def record_staged(
    tx: Tx,
    staged: Sequence[Staged],
    seen: Seen,
    record: RecordAll[T],
    holder: str,
    drop_leases: bool,
    renew: Callable[[Tx, Digest], Awaitable[None]],
) -> Outcome[T]:
    """All rows and the caller's record, or leases alone."""
    digests = {one.digest: one for one in staged}
    found = await find_blobs(tx, list(digests))
    moves = await state.counter(tx, "moves")
    surprises = [row for digest, row in found.items() if not _still_true(row, seen, digest, moves)]
    if surprises:
        expires_at = tx.now + LEASE_SECONDS * SECOND
        await claims.add_leases(tx, digests, holder, expires_at)
        return Retry(any(is_moving(row) for row in surprises))
    generations: dict[Digest, int] = {}
    plain: list[Staged] = []
    for digest, row in found.items():
        if row is not None and row.archived is not None and _is_seen(row, seen):
            hot = await _make_hot(tx, row, row.archived, digests[digest].segments)
            generations[digest] = hot.generation
        else:
            plain.append(digests[digest])
    if len(plain) > 1:
        generations |= await _record_many(tx, plain, found)
    else:
        for one in plain:
            generations[one.digest] = await _record_one(tx, one, found[one.digest], renew)
    stored = {
        digest: StoredBlob(digest, one.size_bytes, generations[digest])
        for digest, one in digests.items()
    }
    result = await record(tx, [stored[one.digest] for one in staged])
    if drop_leases:
        await claims.drop_leases(tx, holder)
    return Done(result)


async def _record_one(
    tx: Tx,
    one: Staged,
    row: rows.BlobRow | None,
    renew: Callable[[Tx, Digest], Awaitable[None]],
) -> int:
    """Make one blob visible, or its grace age begin anew; returns its generation."""
    if row is not None and row.is_present:
        await renew(tx, one.digest)
    else:
        own = one.segments.own
        row = await rows.insert_present(tx, one.digest, one.size_bytes, own, boot_id())
    return row.generation


async def _record_many(
    tx: Tx, staged: Sequence[Staged], found: dict[Digest, rows.BlobRow | None]
) -> dict[Digest, int]:
    """`_record_one` for each of different blobs, with as many statements as for two."""
    # In order, so that neighbours in the index are neighbours in time.
    staged = sorted(staged, key=lambda one: one.digest.hex)
    contents = [Content(one.digest, one.size_bytes, one.segments.own) for one in staged]
    first = await insert_or_renew(tx, contents, boot_id())
    generations: dict[Digest, int] = {}
    for generation, one in enumerate(staged, start=first):
        row = found[one.digest]
        is_there = row is not None and row.is_present
        generations[one.digest] = row.generation if row is not None and is_there else generation
    return generations


async def _make_hot(tx: Tx, row: rows.BlobRow, number: int, segments: Segments) -> rows.BlobRow:
    """A cold blob has its own file again; the archive's becomes spare."""
    hot = await rows.set_hot(tx, row, segments.own, boot_id())
    await spare_archived(tx, row.digest, number, tx.now)
    return hot


def _still_true(row: rows.BlobRow | None, seen: Seen, digest: Digest, moves: int) -> bool:
    """Whether the file that was promoted, or found whole, is there for certain."""
    before = seen.found[digest]
    if row is None:
        return before is None and moves == seen.moves
    if row.is_present:
        return before is None or not before.is_present or before.generation == row.generation
    return row.state == rows.DAMAGED and before == row


def _is_seen(row: rows.BlobRow, seen: Seen) -> bool:
    """Whether a row has not changed since the file was promoted."""
    before = seen.found[row.digest]
    return before is not None and before.generation == row.generation


def is_moving(row: rows.BlobRow | None) -> bool:
    return row is not None and row.state == rows.MOVING
