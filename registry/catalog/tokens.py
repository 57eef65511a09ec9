"""Rows of API tokens. A revoked one keeps its row, so that its user sees what became of it."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from sqlalchemy import bindparam, delete, func, insert, or_, select, update
from sqlalchemy import literal_column as literal

from registry.catalog.schema import tokens
from registry.domain.accounts import MOST_TOKENS, Token
from store.index.transactions import Row, Statement, Tx

_FIELDS: Final = {
    "id": tokens.c.id,
    "user": tokens.c.user,
    "name": tokens.c.name,
    "prefix": tokens.c.prefix,
    "secret_hash": tokens.c.secret_hash,
    "scopes": tokens.c.scopes,
    "expires_at": tokens.c.expires_at,
    "last_used_at": tokens.c.last_used_at,
    "revoked_at": tokens.c.revoked_at,
    "revoked_by": tokens.c.revoked_by,
    "created_at": tokens.c.created_at,
    "created_by": tokens.c.created_by,
}
_SELECT: Final = select(*_FIELDS.values())
_HOLDS: Final = (
    tokens.c.revoked_at.is_(None),
    or_(tokens.c.expires_at.is_(None), tokens.c.expires_at > bindparam("now")),
)
_BY_ID = Statement(lambda: _SELECT.where(tokens.c.id == bindparam("id")))
_BEFORE: Final = (
    _SELECT.where(tokens.c.user == bindparam("user"), tokens.c.id < bindparam("before"))
    .order_by(tokens.c.id.desc())
    .limit(bindparam("limit"))
)
_PAGE = Statement(_BEFORE)
_PAGE_HOLDING = Statement(lambda: _BEFORE.where(*_HOLDS))
_HELD = Statement(
    lambda: select(func.count()).select_from(
        select(tokens.c.id)
        .where(tokens.c.user == bindparam("user"), *_HOLDS)
        .limit(literal(str(MOST_TOKENS)))
        .subquery("held")
    )
)
_INSERT = Statement(
    lambda: insert(tokens).values(
        {column.name: bindparam(name) for name, column in _FIELDS.items()}
    )
)
_REVOKE = Statement(
    lambda: (
        update(tokens)
        .where(tokens.c.id == bindparam("id_"), tokens.c.revoked_at.is_(None))
        .values(revoked_at=bindparam("now"), revoked_by=bindparam("by"))
    )
)
_REVOKE_ALL = Statement(
    lambda: (
        update(tokens)
        .where(tokens.c.user == bindparam("user_"), tokens.c.revoked_at.is_(None))
        .values(revoked_at=bindparam("now"), revoked_by=bindparam("by"))
    )
)
_USED = Statement(
    lambda: (
        update(tokens)
        .where(
            tokens.c.id == bindparam("id_"),
            or_(tokens.c.last_used_at.is_(None), tokens.c.last_used_at < bindparam("at")),
        )
        .values(last_used_at=bindparam("at"))
    )
)
_FORGET = Statement(
    lambda: delete(tokens).where(
        tokens.c.id.in_(
            select(tokens.c.id)
            .where(
                or_(
                    tokens.c.revoked_at < bindparam("before"),
                    tokens.c.expires_at < bindparam("before"),
                )
            )
            .limit(bindparam("most"))
        )
    )
)


def _token(row: Row) -> Token:
    values = dict(zip(_FIELDS, row, strict=True))
    if values["scopes"] is not None:
        values["scopes"] = msgspec.json.decode(values["scopes"], type=tuple[str, ...])
    return Token(**values)


async def find_token_by_id(tx: Tx, id: str) -> Token | None:
    """The token, whether it holds or not."""
    row = await tx.one(_BY_ID, id=id)
    return None if row is None else _token(row)


async def tokens_before(
    tx: Tx, user: str, before: str, limit: int, *, only_holding: bool
) -> list[Token]:
    """A page of a user's tokens, the latest made first; start with ``"~"``."""
    if only_holding:
        rows = await tx.all(_PAGE_HOLDING, user=user, before=before, limit=limit, now=tx.now)
    else:
        rows = await tx.all(_PAGE, user=user, before=before, limit=limit)
    return [_token(row) for row in rows]


async def tokens_held(tx: Tx, user: str) -> int:
    """How many tokens of a user hold now, up to `MOST_TOKENS`."""
    row = await tx.one(_HELD, user=user, now=tx.now)
    assert row is not None, "a count"
    return int(row[0])


async def insert_token(tx: Tx, token: Token) -> None:
    values: dict[str, Any] = {name: getattr(token, name) for name in _FIELDS}
    if token.scopes is not None:
        values["scopes"] = msgspec.json.encode(token.scopes).decode()
    await tx.run(_INSERT, **values)


async def revoke_token(tx: Tx, id: str, by: str) -> bool:
    """Whether it was this that ended the token."""
    return bool(await tx.run(_REVOKE, id_=id, now=tx.now, by=by))


async def revoke_tokens_of(tx: Tx, user: str, by: str) -> int:
    """End every token of a user; returns how many were ended by it."""
    return await tx.run(_REVOKE_ALL, user_=user, now=tx.now, by=by)


async def note_use(tx: Tx, id: str, at: int) -> None:
    """Remember that a token was used at that time; later times stay."""
    await tx.run(_USED, id_=id, at=at)


async def forget_tokens(tx: Tx, before: int, most: int) -> int:
    """Delete rows of tokens that ended before a time; returns how many went."""
    return await tx.run(_FORGET, before=before, most=most)
