"""Rows of requests that were answered under an ``Idempotency-Key``.

A row is written in the transaction of the change that its request made, and holds the answer. An
expired row counts as none, whether or not housekeeping has removed it yet.
"""

from __future__ import annotations

from typing import Final

import msgspec
from sqlalchemy import bindparam, delete, select, tuple_
from sqlalchemy.dialects.sqlite import insert

from registry.catalog.schema import idempotency_keys as keys
from store.clock import SECOND
from store.index.transactions import Statement, Tx

KEPT_SECONDS: Final = 86_400

NOT_KEPT: Final = 0
"""Status of an answer that holds a secret: that it was given is known, what it said is not."""

_OF_SCOPE = (
    keys.c.principal == bindparam("principal"),
    keys.c.route == bindparam("route"),
    keys.c.key == bindparam("key"),
)
_FIND = Statement(
    lambda: select(keys.c.fingerprint, keys.c.status, keys.c.headers, keys.c.body).where(
        *_OF_SCOPE, keys.c.expires_at > bindparam("now")
    )
)
_DELETE = Statement(lambda: delete(keys).where(*_OF_SCOPE))
_INSERT = Statement(
    lambda: insert(keys).values(
        principal=bindparam("principal"),
        route=bindparam("route"),
        key=bindparam("key"),
        fingerprint=bindparam("fingerprint"),
        status=bindparam("status"),
        headers=bindparam("headers"),
        body=bindparam("body"),
        created_at=bindparam("now"),
        expires_at=bindparam("expires_at"),
    )
)
_EXPIRE = Statement(
    lambda: delete(keys).where(
        tuple_(keys.c.principal, keys.c.route, keys.c.key).in_(
            select(keys.c.principal, keys.c.route, keys.c.key)
            .where(keys.c.expires_at <= bindparam("now"))
            .order_by(keys.c.expires_at)
            .limit(bindparam("most"))
        )
    )
)


class Scope(msgspec.Struct, frozen=True):
    """Whose key it is and for what: the same word elsewhere is another key."""

    principal: str
    route: str
    key: str


class Kept(msgspec.Struct, frozen=True):
    """An answer as it is kept; `headers` is a JSON object."""

    status: int
    headers: str
    body: bytes


class KeptAnswer(msgspec.Struct, frozen=True):
    """What is known of an earlier request under a key."""

    fingerprint: bytes
    answer: Kept


async def find_answer(tx: Tx, scope: Scope) -> KeptAnswer | None:
    """The answer kept under a key that has not expired."""
    row = await tx.one(
        _FIND, principal=scope.principal, route=scope.route, key=scope.key, now=tx.now
    )
    return None if row is None else KeptAnswer(row[0], Kept(row[1], row[2], row[3]))


async def keep_answer(tx: Tx, scope: Scope, fingerprint: bytes, answer: Kept) -> None:
    """Keep an answer under a key that `find_answer` found free in this transaction."""
    named = {"principal": scope.principal, "route": scope.route, "key": scope.key}
    await tx.run(_DELETE, **named)  # an expired one
    await tx.run(
        _INSERT,
        **named,
        fingerprint=fingerprint,
        status=answer.status,
        headers=answer.headers,
        body=answer.body,
        now=tx.now,
        expires_at=tx.now + KEPT_SECONDS * SECOND,
    )


async def expire_answers(tx: Tx, most: int) -> int:
    """Remove up to `most` expired rows, the oldest first."""
    return await tx.run(_EXPIRE, now=tx.now, most=most)
