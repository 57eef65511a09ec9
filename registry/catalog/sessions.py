"""Rows of login sessions, and what is counted of failed logins."""

from __future__ import annotations

from typing import Final

import msgspec
from sqlalchemy import bindparam, delete, insert, or_, select, update

from registry.catalog.schema import login_failures, sessions
from registry.domain.accounts import Session
from store.index.transactions import Row, Statement, Tx

_FIELDS: Final = {
    "id": sessions.c.id,
    "user": sessions.c.user,
    "method": sessions.c.method,
    "address": sessions.c.address,
    "user_agent": sessions.c.user_agent,
    "created_at": sessions.c.created_at,
    "expires_at": sessions.c.expires_at,
    "last_used_at": sessions.c.last_used_at,
    "revoked_at": sessions.c.revoked_at,
}
_SELECT: Final = select(*_FIELDS.values())
_HOLDS: Final = (sessions.c.revoked_at.is_(None), sessions.c.expires_at > bindparam("now"))
_BY_ID = Statement(lambda: _SELECT.where(sessions.c.id == bindparam("id")))
_PAGE = Statement(
    lambda: (
        _SELECT.where(
            sessions.c.user == bindparam("user"), sessions.c.id < bindparam("before"), *_HOLDS
        )
        .order_by(sessions.c.id.desc())
        .limit(bindparam("limit"))
    )
)
_INSERT = Statement(
    lambda: insert(sessions).values(
        {column.name: bindparam(name) for name, column in _FIELDS.items()}
    )
)
_REVOKE = Statement(
    lambda: (
        update(sessions)
        .where(sessions.c.id == bindparam("id_"), sessions.c.revoked_at.is_(None))
        .values(revoked_at=bindparam("now"))
    )
)
_REVOKE_ALL = Statement(
    lambda: (
        update(sessions)
        .where(
            sessions.c.user == bindparam("user_"),
            sessions.c.id != bindparam("but"),
            sessions.c.revoked_at.is_(None),
            sessions.c.expires_at > bindparam("now"),
        )
        .values(revoked_at=bindparam("now"))
    )
)
_USED = Statement(
    lambda: (
        update(sessions)
        .where(
            sessions.c.id == bindparam("id_"),
            or_(sessions.c.last_used_at.is_(None), sessions.c.last_used_at < bindparam("at")),
        )
        .values(last_used_at=bindparam("at"))
    )
)
_FORGET = Statement(
    lambda: delete(sessions).where(
        sessions.c.id.in_(
            select(sessions.c.id)
            .where(sessions.c.expires_at < bindparam("before"))
            .order_by(sessions.c.expires_at)
            .limit(bindparam("most"))
        )
    )
)
_FAILURES = Statement(
    lambda: select(
        login_failures.c.key,
        login_failures.c.failures,
        login_failures.c.last_at,
        login_failures.c.until,
    ).where(login_failures.c.key == bindparam("key"))
)
_FIRST_FAILURE = Statement(
    lambda: insert(login_failures).values(
        key=bindparam("key"),
        failures=bindparam("failures"),
        last_at=bindparam("last_at"),
        until=bindparam("until"),
    )
)
_NEXT_FAILURE = Statement(
    lambda: (
        update(login_failures)
        .where(login_failures.c.key == bindparam("key_"))
        .values(
            failures=bindparam("failures"), last_at=bindparam("last_at"), until=bindparam("until")
        )
    )
)
_NO_FAILURES = Statement(
    lambda: delete(login_failures).where(login_failures.c.key == bindparam("key_"))
)
_FORGET_FAILURES = Statement(
    lambda: delete(login_failures).where(
        login_failures.c.key.in_(
            select(login_failures.c.key)
            .where(login_failures.c.last_at < bindparam("before"))
            .order_by(login_failures.c.last_at)
            .limit(bindparam("most"))
        )
    )
)


class Failures(msgspec.Struct, frozen=True):
    """Logins tried in vain under one key, and before when none is tried again."""

    key: bytes
    count: int
    last_at: int
    until: int


def _session(row: Row) -> Session:
    return Session(**dict(zip(_FIELDS, row, strict=True)))


async def find_session_by_id(tx: Tx, id: str) -> Session | None:
    """The session, whether it holds or not."""
    row = await tx.one(_BY_ID, id=id)
    return None if row is None else _session(row)


async def sessions_before(tx: Tx, user: str, before: str, limit: int) -> list[Session]:
    """A page of a user's sessions that hold, the latest first; start with ``"~"``."""
    rows = await tx.all(_PAGE, user=user, before=before, limit=limit, now=tx.now)
    return [_session(row) for row in rows]


async def insert_session(tx: Tx, session: Session) -> None:
    await tx.run(_INSERT, **{name: getattr(session, name) for name in _FIELDS})


async def revoke_session(tx: Tx, id: str) -> bool:
    """Whether it was this that ended the session."""
    return bool(await tx.run(_REVOKE, id_=id, now=tx.now))


async def revoke_sessions_of(tx: Tx, user: str, *, but: str = "") -> int:
    """End every session of a user but one; returns how many were ended by it."""
    return await tx.run(_REVOKE_ALL, user_=user, but=but, now=tx.now)


async def note_session_use(tx: Tx, id: str, at: int) -> None:
    """Remember that a session was used at that time; later times stay."""
    await tx.run(_USED, id_=id, at=at)


async def forget_sessions(tx: Tx, before: int, most: int) -> int:
    """Delete rows of sessions that ended before a time; returns how many went."""
    return await tx.run(_FORGET, before=before, most=most)


async def find_failures(tx: Tx, key: bytes) -> Failures | None:
    row = await tx.one(_FAILURES, key=key)
    return None if row is None else Failures(*row)


async def put_failures(tx: Tx, failures: Failures) -> None:
    values = {
        "failures": failures.count,
        "last_at": failures.last_at,
        "until": failures.until,
    }
    if not await tx.run(_NEXT_FAILURE, key_=failures.key, **values):
        await tx.run(_FIRST_FAILURE, key=failures.key, **values)


async def clear_failures(tx: Tx, key: bytes) -> None:
    await tx.run(_NO_FAILURES, key_=key)


async def forget_failures(tx: Tx, before: int, most: int) -> int:
    """Delete what was counted last before a time; returns how much went."""
    return await tx.run(_FORGET_FAILURES, before=before, most=most)
