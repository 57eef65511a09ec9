"""Rows of many blobs at once: as many statements for a thousand blobs as for two.

Every function runs inside a caller's unit of work.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from sqlalchemy import BigInteger, LargeBinary, Text, bindparam, delete, select
from sqlalchemy import literal_column as literal
from sqlalchemy.dialects.sqlite import insert

from store.digest import Digest
from store.index.blobs import DAMAGED, PRESENT, BlobRow, blob_row, find_blob
from store.index.packed import DIGESTS, MANY, for_each, packed, piece_of
from store.index.schema import blobs
from store.index.state import next_counter
from store.index.transactions import Statement, Tx

_FIND = Statement(
    lambda: select(blobs).select_from(MANY.join(blobs, blobs.c.digest == piece_of(DIGESTS)))
)
_DELETE_DAMAGED = Statement(
    lambda: delete(blobs).where(
        # The first condition makes the partial index apply, and the plus keeps the index of digests
        # from applying: there are few damaged ones, and none to compare with in most stores.
        blobs.c.state != PRESENT,
        blobs.c.state == DAMAGED,
        literal("+blobs.digest", LargeBinary).in_(select(piece_of(DIGESTS)).select_from(MANY)),
    )
)
_renewing = insert(blobs).from_select(
    [
        "digest",
        "size",
        "state",
        "generation",
        "last_claimed",
        "segments",
        "verified_at",
        "verified_boot",
        "created_at",
    ],
    for_each(
        piece_of(DIGESTS),
        MANY.c.value,
        literal("'present'"),
        bindparam("first", type_=BigInteger) + MANY.c.key,
        bindparam("now", type_=BigInteger),
        piece_of(bindparam("segments", type_=LargeBinary)),
        bindparam("now", type_=BigInteger),
        bindparam("boot", type_=Text),
        bindparam("now", type_=BigInteger),
    ),
)
_INSERT = Statement(_renewing)
_INSERT_OR_RENEW = Statement(
    lambda: _renewing.on_conflict_do_update(
        index_elements=["digest"], set_={"last_claimed": _renewing.excluded.last_claimed}
    )
)


async def find_blobs(tx: Tx, digests: Sequence[Digest]) -> dict[Digest, BlobRow | None]:
    """`find_blob` for each of different digests, with one statement."""
    if len(digests) == 1:
        return {digests[0]: await find_blob(tx, digests[0])}
    found: dict[Digest, BlobRow | None] = dict.fromkeys(digests)
    for row in map(blob_row, await tx.all(_FIND, **packed(digests))):
        found[row.digest] = row
    return found


class Content(msgspec.Struct, frozen=True):
    """What a row says of verified bytes."""

    digest: Digest
    size_bytes: int
    segments: bytes


async def insert_adopted(tx: Tx, found: Sequence[Content], boot: str) -> None:
    """Make blobs visible with one statement; raises `IndexConflict` if any of them has a row."""
    first = await next_counter(tx, "generation", len(found)) - len(found) + 1
    await tx.run(
        _INSERT,
        first=first,
        now=tx.now,
        boot=boot,
        segments=b"".join(one.segments for one in found),
        **packed([one.digest for one in found], [one.size_bytes for one in found]),
    )


async def insert_or_renew(tx: Tx, contents: Sequence[Content], boot: str) -> int:
    """`insert_present` for those that have no row or a damaged one, `renew_present` for the others.

    The same three statements whichever they are. The caller checked that none is on the move. The
    first has the returned generation if it is new, and so on upwards.
    """
    first = await next_counter(tx, "generation", len(contents)) - len(contents) + 1
    values = packed([one.digest for one in contents], [one.size_bytes for one in contents])
    await tx.run(_DELETE_DAMAGED, **values)
    segments = b"".join(one.segments for one in contents)
    await tx.run(_INSERT_OR_RENEW, first=first, now=tx.now, segments=segments, boot=boot, **values)
    return first
