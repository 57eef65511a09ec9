"""Rows of upload sessions; every function runs inside a caller's unit of work."""

from __future__ import annotations

from typing import Final

import msgspec
from sqlalchemy import bindparam, delete, func, insert, select, update

from store.digest import Digest
from store.index.schema import uploads
from store.index.transactions import Row, Statement, Tx

RECEIVING: Final = "receiving"
FINISHED: Final = "finished"

ASKED: Final = 1 << 32
"""What an epoch grows by when somebody asks where to continue; takings are counted below it."""


class UploadRow(msgspec.Struct, frozen=True):
    """An upload session as the index keeps it; `store.uploads` gives the meaning of each field."""

    id: str
    owner: str
    state: str
    length: int | None
    offset: int
    epoch: int
    strict: bool
    boot: str
    expected: Digest | None
    digest: Digest | None
    metadata: str
    created_at: int
    expires_at: int

    @property
    def is_held(self) -> bool:
        """Whether somebody writes it, or died while he did."""
        return self.state == RECEIVING and self.epoch % 2 == 0

    @property
    def asked(self) -> int:
        """How often somebody asked where to continue."""
        return self.epoch // ASKED


def _upload(row: Row) -> UploadRow:
    expected = None if row[8] is None else Digest(row[8].hex())
    digest = None if row[9] is None else Digest(row[9].hex())
    return UploadRow(
        id=row[0],
        owner=row[1],
        state=row[2],
        length=row[3],
        offset=row[4],
        epoch=row[5],
        strict=bool(row[6]),
        boot=row[7],
        expected=expected,
        digest=digest,
        metadata=row[10],
        created_at=row[11],
        expires_at=row[12],
    )


_FIND = Statement(lambda: select(uploads).where(uploads.c.id == bindparam("id")))
_EPOCH = Statement(lambda: select(uploads.c.epoch).where(uploads.c.id == bindparam("id")))
_INSERT = Statement(
    lambda: insert(uploads).values(
        id=bindparam("id"),
        owner=bindparam("owner"),
        state=RECEIVING,
        length=bindparam("length"),
        offset=0,
        epoch=1,
        strict=0,
        boot=bindparam("boot"),
        expected=bindparam("expected"),
        metadata=bindparam("metadata"),
        created_at=bindparam("now"),
        expires_at=bindparam("expires_at"),
    )
)
_TAKE = Statement(
    lambda: (
        update(uploads)
        .where(
            uploads.c.id == bindparam("id_"),
            uploads.c.state == RECEIVING,
            uploads.c.epoch >= bindparam("least"),
            uploads.c.epoch < bindparam("beyond"),
        )
        .values(epoch=uploads.c.epoch - uploads.c.epoch % 2 + 2, expires_at=bindparam("expires_at"))
    )
)
_END = Statement(
    lambda: (
        update(uploads)
        .where(uploads.c.id == bindparam("id_"), uploads.c.state == RECEIVING)
        .values(epoch=uploads.c.epoch - uploads.c.epoch % 2 + ASKED + 1)
    )
)
_FREE = Statement(
    lambda: (
        update(uploads)
        .where(
            uploads.c.id == bindparam("id_"),
            uploads.c.epoch == bindparam("epoch_"),
            uploads.c.state == RECEIVING,
        )
        .values(epoch=uploads.c.epoch + 1)
    )
)
_READY = Statement(
    lambda: (
        update(uploads)
        .where(
            uploads.c.id == bindparam("id_"),
            uploads.c.epoch == bindparam("epoch_"),
            uploads.c.state == RECEIVING,
        )
        .values(
            offset=bindparam("offset"),
            length=bindparam("length"),
            strict=bindparam("strict"),
            boot=bindparam("boot"),
            expires_at=bindparam("expires_at"),
            epoch=uploads.c.epoch + bindparam("freed"),
        )
    )
)
_DISTRUST = Statement(
    lambda: (
        update(uploads)
        .where(uploads.c.id == bindparam("id_"), uploads.c.state == RECEIVING)
        .values(strict=1)
    )
)
_FINISH = Statement(
    lambda: (
        update(uploads)
        .where(
            uploads.c.id == bindparam("id_"),
            uploads.c.epoch == bindparam("epoch_"),
            uploads.c.state == RECEIVING,
        )
        .values(
            state=FINISHED,
            digest=bindparam("digest"),
            offset=bindparam("offset"),
            length=bindparam("offset"),
            expires_at=bindparam("expires_at"),
        )
    )
)
_DELETE = Statement(lambda: delete(uploads).where(uploads.c.id == bindparam("id_")))
_EXPIRED = Statement(
    lambda: (
        select(uploads)
        .where(uploads.c.expires_at <= bindparam("now"))
        .order_by(uploads.c.expires_at)
        .limit(bindparam("limit"))
    )
)
_PAGE = Statement(
    lambda: (
        select(uploads)
        .where(uploads.c.id > bindparam("after"))
        .order_by(uploads.c.id)
        .limit(bindparam("limit"))
    )
)
_OF_OWNER = Statement(
    lambda: select(func.count(), func.coalesce(func.sum(uploads.c.offset), 0)).where(
        uploads.c.owner == bindparam("owner"), uploads.c.state == RECEIVING
    )
)
_TOTAL = Statement(
    lambda: select(func.count(), func.coalesce(func.sum(uploads.c.offset), 0)).where(
        uploads.c.state == RECEIVING
    )
)


async def find_upload(tx: Tx, session: str) -> UploadRow | None:
    row = await tx.one(_FIND, id=session)
    return None if row is None else _upload(row)


async def upload_epoch(tx: Tx, session: str) -> int | None:
    """The epoch alone, for the check before every batch."""
    row = await tx.one(_EPOCH, id=session)
    return None if row is None else int(row[0])


async def insert_upload(
    tx: Tx,
    session: str,
    owner: str,
    *,
    length: int | None,
    expected: Digest | None,
    metadata: str,
    boot: str,
    expires_at: int,
) -> UploadRow:
    await tx.run(
        _INSERT,
        id=session,
        owner=owner,
        length=length,
        boot=boot,
        expected=None if expected is None else expected.raw,
        metadata=metadata,
        now=tx.now,
        expires_at=expires_at,
    )
    row = await find_upload(tx, session)
    assert row is not None
    return row


async def take_upload(tx: Tx, session: str, asked: int, lifetime: int) -> UploadRow | None:
    """Raise the epoch, so that whoever wrote before stops; the row as it is now.

    Nothing changes if somebody has asked where to continue since `asked` was read. Else its time
    begins anew: what is being written must not expire meanwhile.
    """
    await tx.run(
        _TAKE,
        id_=session,
        least=asked * ASKED,
        beyond=(asked + 1) * ASKED,
        expires_at=tx.now + lifetime,
    )
    return await find_upload(tx, session)


async def end_upload(tx: Tx, session: str) -> UploadRow | None:
    """Take a session from whoever holds it and whoever is about to; the row as it is now."""
    await tx.run(_END, id_=session)
    return await find_upload(tx, session)


async def free_upload(tx: Tx, row: UploadRow) -> bool:
    """Let go of a session; False if the epoch has moved on."""
    return row.is_held and await tx.run(_FREE, id_=row.id, epoch_=row.epoch) == 1


async def settle_upload(
    tx: Tx,
    row: UploadRow,
    *,
    offset: int,
    length: int | None,
    strict: bool,
    boot: str,
    expires_at: int,
    frees: bool,
) -> bool:
    """Record how far a session is durable, and perhaps let go of it; False if the epoch has moved
    on."""
    changed = await tx.run(
        _READY,
        id_=row.id,
        epoch_=row.epoch,
        offset=offset,
        length=length,
        strict=int(strict),
        boot=boot,
        expires_at=expires_at,
        freed=int(frees),
    )
    return changed == 1


async def distrust_upload(tx: Tx, session: str) -> None:
    """Of what is staged only the durable offset counts, whoever has taken the session since."""
    await tx.run(_DISTRUST, id_=session)


async def finish_upload(
    tx: Tx, row: UploadRow, digest: Digest, size_bytes: int, expires_at: int
) -> bool:
    """Mark a session finished; False if the epoch has moved on or somebody finished it."""
    changed = await tx.run(
        _FINISH,
        id_=row.id,
        epoch_=row.epoch,
        digest=digest.raw,
        offset=size_bytes,
        expires_at=expires_at,
    )
    return changed == 1


async def delete_upload(tx: Tx, session: str) -> bool:
    return await tx.run(_DELETE, id_=session) == 1


async def delete_if_expired(tx: Tx, session: str) -> bool:
    """Forget a session unless somebody has gone on with it since it was found expired."""
    row = await find_upload(tx, session)
    return row is not None and row.expires_at <= tx.now and await delete_upload(tx, session)


async def expired_uploads(tx: Tx, limit: int = 100) -> list[UploadRow]:
    return [_upload(row) for row in await tx.all(_EXPIRED, now=tx.now, limit=limit)]


async def uploads_after(tx: Tx, after: str, limit: int) -> list[UploadRow]:
    """A page of all sessions in order of id; start with the empty string."""
    return [_upload(row) for row in await tx.all(_PAGE, after=after, limit=limit)]


async def uploads_of(tx: Tx, owner: str) -> tuple[int, int]:
    """Running sessions of an owner, and the bytes they have staged durably."""
    row = await tx.one(_OF_OWNER, owner=owner)
    assert row is not None
    return row[0], row[1]


async def upload_totals(tx: Tx) -> tuple[int, int]:
    """Running sessions of everybody, and the bytes they have staged durably."""
    row = await tx.one(_TOTAL)
    assert row is not None
    return row[0], row[1]
