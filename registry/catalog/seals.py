"""Rows of the seals over the audit log, the keys that made them, and what is hashed of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec
from sqlalchemy import bindparam, insert, select

from registry.catalog.audit import AuditEntry
from registry.catalog.schema import audit_seals
from store.index.state import get_state, put_state
from store.index.transactions import Row, Statement, Tx

NO_SEAL: Final = bytes(32)
"""What the first seal is chained to."""

_CHECKPOINT_DOMAIN: Final = b"digestry-audit-checkpoint-1\n"
_DOMAIN: Final = b"digestry-audit-seal-1\n"
_KEYS: Final = "audit.keys"
_CHECKPOINT: Final = "audit.checkpoint"

_COLUMNS = (
    audit_seals.c.number,
    audit_seals.c.first,
    audit_seals.c.last,
    audit_seals.c.entries,
    audit_seals.c.previous,
    audit_seals.c.seal,
    audit_seals.c.created_at,
)
_LAST = Statement(lambda: select(*_COLUMNS).order_by(audit_seals.c.number.desc()).limit(1))
_FIND = Statement(lambda: select(*_COLUMNS).where(audit_seals.c.number == bindparam("number")))
_AFTER = Statement(
    lambda: (
        select(*_COLUMNS)
        .where(audit_seals.c.number > bindparam("number"))
        .order_by(audit_seals.c.number)
        .limit(bindparam("most"))
    )
)
_BEYOND = Statement(
    lambda: (
        select(*_COLUMNS)
        .where(audit_seals.c.last > bindparam("entry"))
        .order_by(audit_seals.c.number)
        .limit(bindparam("most"))
    )
)
_INSERT = Statement(
    lambda: insert(audit_seals).values({column.name: bindparam(column.name) for column in _COLUMNS})
)


class Seal(msgspec.Struct, frozen=True):
    """A seal over the entries from `first` to `last`, chained to the one before."""

    number: int
    first: int
    last: int
    entries: int
    previous: bytes
    seal: bytes
    created_at: int

    @property
    def head(self) -> str:
        """What to keep elsewhere: from here on the log can be cut off no more unnoticed."""
        return f"{self.number}.{self.seal.hex()}"


class SealKey(msgspec.Struct, frozen=True):
    """From the seal `since` on, seals are made with the root key of this id."""

    id: str
    since: int


class Checkpoint(msgspec.Struct, frozen=True):
    """Entries up to `last`, those of the seals up to `number`, were removed by retention.

    `seal` is the value of that seal, `key_id` the root key under which `value` was made of it all.
    """

    number: int
    last: int
    seal: str
    created_at: int
    key_id: str
    value: str = ""


async def checkpoint(tx: Tx) -> Checkpoint | None:
    """How far retention got; None if it never removed anything."""
    text = await get_state(tx, _CHECKPOINT)
    return None if text is None else msgspec.json.decode(text, type=Checkpoint)


async def put_checkpoint(tx: Tx, made: Checkpoint) -> None:
    await put_state(tx, _CHECKPOINT, msgspec.json.encode(made).decode())


async def last_seal(tx: Tx) -> Seal | None:
    row = await tx.one(_LAST)
    return None if row is None else _seal(row)


async def find_seal(tx: Tx, number: int) -> Seal | None:
    row = await tx.one(_FIND, number=number)
    return None if row is None else _seal(row)


async def seals_after(tx: Tx, number: int, limit: int) -> list[Seal]:
    return [_seal(row) for row in await tx.all(_AFTER, number=number, most=limit)]


async def seals_beyond(tx: Tx, entry: int, limit: int) -> list[Seal]:
    """The first seals that cover anything behind an entry."""
    return [_seal(row) for row in await tx.all(_BEYOND, entry=entry, most=limit)]


async def insert_seal(tx: Tx, seal: Seal) -> None:
    await tx.run(_INSERT, **msgspec.structs.asdict(seal))


async def seal_keys(tx: Tx) -> list[SealKey]:
    """Which key made which seals, the oldest first; empty before the first seal."""
    text = await get_state(tx, _KEYS)
    return [] if text is None else msgspec.json.decode(text, type=list[SealKey])


async def put_seal_keys(tx: Tx, keys: list[SealKey]) -> None:
    await put_state(tx, _KEYS, msgspec.json.encode(keys).decode())


def _seal(row: Row) -> Seal:
    return Seal(*row)


def canonical(seal: Seal) -> bytes:
    """What a seal says of itself, in the bytes that are hashed before its entries."""
    numbers = (seal.number, seal.first, seal.last, seal.entries, seal.created_at)
    return _DOMAIN + b"".join(map(_field, numbers)) + seal.previous


def canonical_entry(entry: AuditEntry) -> bytes:
    """An entry in the bytes that are hashed: every field with its kind and its length."""
    fields: Iterable[int | str | None] = msgspec.structs.astuple(entry)
    return b"".join(map(_field, fields))


def canonical_checkpoint(made: Checkpoint) -> bytes:
    """What a checkpoint says, in the bytes that are hashed."""
    fields: Iterable[int | str] = (made.number, made.last, made.seal, made.created_at)
    return _CHECKPOINT_DOMAIN + b"".join(map(_field, fields))


def _field(value: int | str | None) -> bytes:
    if value is None:
        return b"\x00"
    if isinstance(value, int):
        return b"\x01" + value.to_bytes(8, "big", signed=True)
    text = value.encode()
    return b"\x02" + len(text).to_bytes(8, "big") + text
