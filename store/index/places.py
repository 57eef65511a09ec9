"""Where the index says that the bytes of blobs are, to be compared with the files there are."""

from __future__ import annotations

import msgspec
from sqlalchemy import and_, bindparam, func, select
from sqlalchemy import literal_column as literal

from store.index.blobs import PRESENT, BlobRow, blob_row
from store.index.schema import blobs
from store.index.transactions import Statement, Tx

_BETWEEN = Statement(
    lambda: (
        select(blobs)
        .where(blobs.c.digest > bindparam("after"), blobs.c.digest <= bindparam("last"))
        .order_by(blobs.c.digest)
        .limit(bindparam("limit"))
    )
)


class PlacesBetween(msgspec.Struct, frozen=True):
    """Where the index says that the bytes of blobs are, for a page of rows in order of digest."""

    own: set[tuple[bytes, int]]
    """Raw digest and size of present blobs with a file of their own: nearly all, so no structs."""
    others: list[BlobRow]
    last: bytes | None
    """The last digest of the page; None if nothing is left behind it."""

    @property
    def count(self) -> int:
        return len(self.own) + len(self.others)


async def places_between(tx: Tx, after: bytes, last: bytes, limit: int) -> PlacesBetween:
    """A page of what is behind one digest up to and with another."""
    found = await tx.all(_BETWEEN, after=after, last=last, limit=limit)
    own = {(row[0], row[1]) for row in found if row[2] == PRESENT and row[9] is None}
    others = [blob_row(row) for row in found if row[2] != PRESENT or row[9] is not None]
    return PlacesBetween(own, others, found[-1][0] if len(found) == limit else None)


class FilesExpected(msgspec.Struct, frozen=True):
    """Which files there should be for a page of rows, as one text that is made in one step."""

    rows: int
    own: int
    """How many of the rows are of present blobs with a file of their own."""
    text: str
    """``<64 hex> <size>`` of each of these, in order of digest, a line each."""

    @property
    def is_all_own(self) -> bool:
        return self.rows == self.own


_own_between = (
    select(
        blobs.c.digest,
        blobs.c.size,
        # No parameters: what is counted and what is listed must be the same.
        (blobs.c.state == literal("'present'")).label("is_present"),
        blobs.c.archived,
    )
    .where(blobs.c.digest > bindparam("after"), blobs.c.digest <= bindparam("last"))
    .order_by(blobs.c.digest)
    .limit(bindparam("limit"))
    .subquery()
)
_is_own = and_(_own_between.c.is_present, _own_between.c.archived.is_(None))
_FILES_EXPECTED = Statement(
    lambda: select(
        func.count(),
        func.count().filter(_is_own),
        func.group_concat(
            func.lower(func.hex(_own_between.c.digest))
            .op("||")(literal("' '"))
            .op("||")(_own_between.c.size),
            func.char(literal("10")),
        ).filter(_is_own),
    ).select_from(_own_between)
)


async def files_expected(tx: Tx, after: bytes, last: bytes, limit: int) -> FilesExpected:
    """What so many rows expect behind one digest up to and with another.

    A page that all agree on is compared at once, for a fifth of what its rows take one by one.
    """
    found = await tx.one(_FILES_EXPECTED, after=after, last=last, limit=limit)
    assert found is not None
    return FilesExpected(found[0], found[1], found[2] or "")
