"""Rows of blobs, one at a time; many: `store.index.many_blobs`, sums: `store.index.totals`.

Every function runs inside a caller's unit of work.
"""

from __future__ import annotations

from typing import Final

import msgspec
from sqlalchemy import (
    bindparam,
    delete,
    null,
    select,
    update,
)
from sqlalchemy.dialects.sqlite import insert

from store.digest import Digest
from store.index.schema import blobs
from store.index.state import next_counter
from store.index.transactions import Row, Statement, Tx

PRESENT: Final = "present"
MOVING: Final = "moving"
DAMAGED: Final = "damaged"


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
    archived: int | None = None
    """Which file of the archive has the bytes; None: the file under the blob's own name has."""

    @property
    def is_present(self) -> bool:
        return self.state == PRESENT

    @property
    def is_cold(self) -> bool:
        return self.archived is not None

    @property
    def is_readable(self) -> bool:
        """Whether the bytes can be had: also while its file goes because the archive has them."""
        return self.is_present or (self.state == MOVING and self.is_cold)


def blob_row(row: Row) -> BlobRow:
    """The struct of a row of all columns of `blobs`, in their order."""
    return BlobRow(Digest(row[0].hex()), *row[1:])


_FIND = Statement(lambda: select(blobs).where(blobs.c.digest == bindparam("digest")))
_PAGE = Statement(
    lambda: (
        select(blobs)
        .where(blobs.c.digest > bindparam("after"))
        .order_by(blobs.c.digest)
        .limit(bindparam("limit"))
    )
)
_UNSETTLED = Statement(
    # The first condition makes the partial index apply.
    lambda: select(blobs).where(blobs.c.state != PRESENT, blobs.c.state == MOVING)
)
_DAMAGED = Statement(
    lambda: (
        select(blobs)
        .where(blobs.c.state != PRESENT, blobs.c.state == DAMAGED)
        .limit(bindparam("limit"))
    )
)
_INSERT = Statement(
    lambda: insert(blobs).values(
        digest=bindparam("digest"),
        size=bindparam("size"),
        state=bindparam("state"),
        generation=bindparam("generation"),
        last_claimed=bindparam("now"),
        segments=bindparam("segments"),
        verified_at=bindparam("verified_at"),
        verified_boot=bindparam("verified_boot"),
        created_at=bindparam("now"),
        archived=bindparam("archived"),
    )
)
_TOUCH = Statement(
    lambda: (
        update(blobs)
        .where(blobs.c.digest == bindparam("digest_"))
        .values(last_claimed=bindparam("now"))
    )
)
_SET_STATE = Statement(
    lambda: (
        update(blobs)
        .where(
            blobs.c.digest == bindparam("digest_"),
            blobs.c.generation == bindparam("generation_"),
            blobs.c.state == bindparam("state_"),
        )
        .values(state=bindparam("state"))
    )
)
_SET_VERIFIED = Statement(
    lambda: (
        update(blobs)
        .where(
            blobs.c.digest == bindparam("digest_"),
            blobs.c.generation == bindparam("generation_"),
            blobs.c.state == PRESENT,
        )
        .values(
            verified_at=bindparam("verified_at"),
            verified_boot=bindparam("verified_boot"),
            segments=bindparam("segments"),
        )
    )
)
_DELETE = Statement(
    lambda: delete(blobs).where(
        blobs.c.digest == bindparam("digest_"),
        blobs.c.generation == bindparam("generation_"),
        blobs.c.state == bindparam("state_"),
    )
)
_DELETE_ANY = Statement(lambda: delete(blobs).where(blobs.c.digest == bindparam("digest_")))
_DELETE_DAMAGED = Statement(
    lambda: delete(blobs).where(blobs.c.digest == bindparam("digest_"), blobs.c.state == DAMAGED)
)


async def find_blob(tx: Tx, digest: Digest) -> BlobRow | None:
    row = await tx.one(_FIND, digest=digest.raw)
    return None if row is None else blob_row(row)


async def blobs_after(tx: Tx, after: bytes, limit: int) -> list[BlobRow]:
    """A page of all rows in order of digest; start with ``b""``."""
    return [blob_row(row) for row in await tx.all(_PAGE, after=after, limit=limit)]


async def moving_blobs(tx: Tx) -> list[BlobRow]:
    return [blob_row(row) for row in await tx.all(_UNSETTLED)]


async def damaged_blobs(tx: Tx, limit: int = 1000) -> list[BlobRow]:
    return [blob_row(row) for row in await tx.all(_DAMAGED, limit=limit)]


async def insert_present(
    tx: Tx, digest: Digest, size_bytes: int, segments: bytes | None, boot: str
) -> BlobRow:
    """Make a blob visible, replacing a damaged row if there is one; the caller checked."""
    generation = await next_counter(tx, "generation")
    row = BlobRow(digest, size_bytes, PRESENT, generation, tx.now, segments, tx.now, boot, tx.now)
    await _replace(tx, row)
    return row


async def insert_cold(
    tx: Tx, digest: Digest, size_bytes: int, segments: bytes | None, archived: int
) -> int:
    """Make a blob visible whose bytes are in the archive; return its generation.

    Replaces a damaged row if there is one; the caller checked.
    """
    generation = await next_counter(tx, "generation")
    now = tx.now
    await _replace(
        tx,
        BlobRow(digest, size_bytes, PRESENT, generation, now, segments, None, None, now, archived),
    )
    return generation


async def insert_moving(
    tx: Tx, digest: Digest, size_bytes: int, generation: int, segments: bytes | None
) -> None:
    """Announce that a file comes back from quarantine, replacing a damaged row if there is one."""
    now = tx.now
    await _replace(
        tx, BlobRow(digest, size_bytes, MOVING, generation, now, segments, None, None, now)
    )


async def _replace(tx: Tx, row: BlobRow) -> None:
    """Write a row that is made now, in place of any other of its digest."""
    await tx.run(_DELETE_ANY, digest_=row.digest.raw)
    await tx.run(
        _INSERT,
        digest=row.digest.raw,
        size=row.size_bytes,
        state=row.state,
        generation=row.generation,
        now=tx.now,
        segments=row.segments,
        verified_at=row.verified_at,
        verified_boot=row.verified_boot,
        archived=row.archived,
    )


async def renew_present(tx: Tx, digest: Digest) -> None:
    """Start the grace age of a present blob anew, by as many statements as `insert_present`.

    Whoever sends bytes that are there must not learn it by how long the transaction takes.
    """
    await next_counter(tx, "generation")
    await tx.run(_DELETE_DAMAGED, digest_=digest.raw)
    await touch(tx, digest)


_RETURN = Statement(
    lambda: (
        update(blobs)
        .where(
            blobs.c.digest == bindparam("digest_"),
            blobs.c.generation == bindparam("generation_"),
            blobs.c.state == MOVING,
        )
        .values(state=PRESENT, generation=bindparam("generation"), last_claimed=bindparam("now"))
    )
)


async def return_present(tx: Tx, digest: Digest, generation: int) -> bool:
    """A moving blob is present again, as a new generation; False if it does not move.

    The old generation's name in quarantine may come back after a crash, and must not be wanted.
    """
    changed = await tx.run(
        _RETURN,
        digest_=digest.raw,
        generation_=generation,
        generation=await next_counter(tx, "generation"),
        now=tx.now,
    )
    return changed == 1


_SET_ARCHIVED = Statement(
    lambda: (
        update(blobs)
        .where(
            blobs.c.digest == bindparam("digest_"),
            blobs.c.generation == bindparam("generation_"),
            blobs.c.state == bindparam("state_"),
        )
        .values(
            state=bindparam("state"),
            generation=bindparam("generation"),
            archived=bindparam("archived"),
        )
    )
)


async def set_place(tx: Tx, row: BlobRow, *, state: str, archived: int | None) -> BlobRow | None:
    """Say in which state a blob is from here on and where its bytes are; None if it has changed.

    It gets a new generation: whoever holds another file open, or remembers it, is not misled.
    """
    if MOVING in (state, row.state):
        await next_counter(tx, "moves")
    generation = await next_counter(tx, "generation")
    changed = await tx.run(
        _SET_ARCHIVED,
        digest_=row.digest.raw,
        generation_=row.generation,
        state_=row.state,
        state=state,
        generation=generation,
        archived=archived,
    )
    if changed != 1:
        return None
    return msgspec.structs.replace(row, state=state, generation=generation, archived=archived)


_SET_HOT = Statement(
    lambda: (
        update(blobs)
        .where(
            blobs.c.digest == bindparam("digest_"), blobs.c.generation == bindparam("generation_")
        )
        .values(
            generation=bindparam("generation"),
            archived=null(),
            last_claimed=bindparam("now"),
            segments=bindparam("segments"),
            verified_at=bindparam("now"),
            verified_boot=bindparam("verified_boot"),
        )
    )
)


async def set_hot(tx: Tx, row: BlobRow, segments: bytes | None, boot: str) -> BlobRow:
    """A present blob in the archive has its own verified file, as a new generation.

    With the archive's row these are as many statements as `insert_present` takes.
    """
    generation = await next_counter(tx, "generation")
    changed = await tx.run(
        _SET_HOT,
        digest_=row.digest.raw,
        generation_=row.generation,
        generation=generation,
        now=tx.now,
        segments=segments,
        verified_boot=boot,
    )
    assert changed == 1, "the row was read in this transaction"
    return msgspec.structs.replace(row, generation=generation, archived=None)


async def touch(tx: Tx, digest: Digest) -> None:
    """Start the grace age anew."""
    await tx.run(_TOUCH, digest_=digest.raw, now=tx.now)


async def change_state(tx: Tx, digest: Digest, generation: int, old: str, new: str) -> bool:
    """Move one generation of a blob from a state to another; False if it is not in that state."""
    if new == MOVING:
        await next_counter(tx, "moves")
    changed = await tx.run(
        _SET_STATE, digest_=digest.raw, generation_=generation, state_=old, state=new
    )
    return changed == 1


async def set_verified(
    tx: Tx, digest: Digest, generation: int, segments: bytes | None, boot: str
) -> None:
    await tx.run(
        _SET_VERIFIED,
        digest_=digest.raw,
        generation_=generation,
        verified_at=tx.now,
        verified_boot=boot,
        segments=segments,
    )


async def delete_blob(tx: Tx, digest: Digest, generation: int, state: str) -> bool:
    """Forget one generation of a blob; False if it is not in that state."""
    changed = await tx.run(_DELETE, digest_=digest.raw, generation_=generation, state_=state)
    return changed == 1
