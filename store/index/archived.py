"""Rows of the archive's files; every function runs inside a caller's unit of work.

A row is there before its file is begun and goes after its file went, so nothing lies in the archive
that the index cannot find. A file is *spare* while neither a blob nor the quarantine names it: it
is being written, or the blob it was made of has its own file again. A spare one heals that blob
while it is there; `spare_since` says for how long nobody has needed it.

Before a spare file is removed its row is *condemned*, in a transaction that finds it spare still:
nobody uses it from then on, so no blob can come to depend on a file that is about to go.
"""

from __future__ import annotations

import msgspec
from sqlalchemy import bindparam, delete, func, insert, null, select, update

from store.digest import Digest
from store.index.blobs import DAMAGED, PRESENT, BlobRow, change_state, set_place
from store.index.schema import archived
from store.index.state import next_counter
from store.index.transactions import Row, Statement, Tx


class ArchivedRow(msgspec.Struct, frozen=True):
    """A file of the archive; `stored_bytes` is None while it is being written."""

    digest: Digest
    number: int
    size_bytes: int
    stored_bytes: int | None
    spare_since: int | None
    made_at: int


class ArchiveTotals(msgspec.Struct, frozen=True):
    """What blobs have in the archive, and what lies there beside them."""

    blobs: int
    bytes: int
    stored_bytes: int
    spares: int
    spare_bytes: int


def _row(row: Row) -> ArchivedRow:
    return ArchivedRow(Digest(row[0].hex()), *row[1:])


_ONE = (archived.c.digest == bindparam("digest_"), archived.c.number == bindparam("number_"))
_FIND = Statement(
    lambda: select(archived).where(
        archived.c.digest == bindparam("digest"), archived.c.number == bindparam("number")
    )
)
_INSERT = Statement(
    lambda: insert(archived).values(
        digest=bindparam("digest"),
        number=bindparam("number"),
        size=bindparam("size"),
        stored=bindparam("stored"),
        spare_since=bindparam("now"),
        made_at=bindparam("now"),
    )
)
_SET_STORED = Statement(
    lambda: (
        update(archived).where(*_ONE, archived.c.spare_since > 0).values(stored=bindparam("stored"))
    )
)
_CONDEMN = Statement(
    lambda: (
        update(archived)
        .where(*_ONE, archived.c.spare_since.is_not(None))
        .values(stored=null(), spare_since=0)
    )
)
_USE = Statement(
    lambda: update(archived).where(*_ONE).values(spare_since=null(), size=bindparam("size"))
)
_SPARE = Statement(lambda: update(archived).where(*_ONE).values(spare_since=bindparam("since")))
_DELETE = Statement(
    lambda: delete(archived).where(*_ONE, archived.c.spare_since == 0, archived.c.stored.is_(None))
)
_SPARES = Statement(
    lambda: (
        select(archived)
        .where(archived.c.spare_since.is_not(None), archived.c.spare_since <= bindparam("before"))
        .order_by(archived.c.spare_since)
        .limit(bindparam("limit"))
    )
)
_TOTALS = Statement(
    lambda: select(
        func.count(),
        func.coalesce(func.sum(archived.c.size), 0),
        func.coalesce(func.sum(archived.c.stored), 0),
    ).where(archived.c.spare_since.is_(None))
)
_SPARE_TOTALS = Statement(
    lambda: select(func.count(), func.coalesce(func.sum(archived.c.stored), 0)).where(
        archived.c.spare_since.is_not(None)
    )
)
_ANY = Statement(lambda: select(archived.c.number).where(archived.c.spare_since.is_(None)).limit(1))


async def begin_archived(tx: Tx, digest: Digest, size_bytes: int) -> int:
    """Announce a file that is about to be written; return its number, which never repeats."""
    number = await next_counter(tx, "generation")
    await insert_archived(tx, digest, number, size_bytes, None)
    return number


async def insert_archived(
    tx: Tx, digest: Digest, number: int, size_bytes: int, stored_bytes: int | None
) -> None:
    """A file that there is, or will be; spare until somebody uses it."""
    await tx.run(
        _INSERT,
        digest=digest.raw,
        number=number,
        size=size_bytes,
        stored=stored_bytes,
        now=tx.now,
    )


async def find_archived(tx: Tx, digest: Digest, number: int) -> ArchivedRow | None:
    row = await tx.one(_FIND, digest=digest.raw, number=number)
    return None if row is None else _row(row)


async def finish_archived(tx: Tx, digest: Digest, number: int, stored_bytes: int) -> bool:
    """The file is whole, verified and durable; False if it was condemned meanwhile."""
    changed = await tx.run(_SET_STORED, digest_=digest.raw, number_=number, stored=stored_bytes)
    return changed == 1


async def use_archived(tx: Tx, digest: Digest, number: int, size_bytes: int) -> None:
    """From here on a blob names the file, which holds so many of its bytes."""
    await tx.run(_USE, digest_=digest.raw, number_=number, size=size_bytes)


async def spare_archived(tx: Tx, digest: Digest, number: int, since: int) -> None:
    """From here on nobody does. `since` is now, or 0 for what nobody can want any more."""
    await tx.run(_SPARE, digest_=digest.raw, number_=number, since=since)


async def condemn_archived(tx: Tx, digest: Digest, number: int) -> bool:
    """Nobody may use the file from here on, so that it can be removed; False if somebody does."""
    return await tx.run(_CONDEMN, digest_=digest.raw, number_=number) == 1


async def delete_archived(tx: Tx, digest: Digest, number: int) -> None:
    """Forget a condemned file, which is gone."""
    await tx.run(_DELETE, digest_=digest.raw, number_=number)


async def lose(tx: Tx, row: BlobRow) -> bool:
    """A present blob has no whole file where its row says: it is damaged. False if it changed."""
    if row.archived is None:
        return await change_state(tx, row.digest, row.generation, PRESENT, DAMAGED)
    lost = await set_place(tx, row, state=DAMAGED, archived=None)
    if lost is not None:
        await spare_archived(tx, row.digest, row.archived, 0)
    return lost is not None


async def spares_before(tx: Tx, before: int, limit: int) -> list[ArchivedRow]:
    """Files that nobody has needed since a time."""
    return [_row(row) for row in await tx.all(_SPARES, before=before, limit=limit)]


async def is_archive_used(tx: Tx) -> bool:
    """Whether any blob's bytes are in the archive."""
    return await tx.one(_ANY) is not None


async def archive_totals(tx: Tx) -> ArchiveTotals:
    used = await tx.one(_TOTALS)
    spare = await tx.one(_SPARE_TOTALS)
    assert used is not None
    assert spare is not None
    return ArchiveTotals(*used, *spare)
