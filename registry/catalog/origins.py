"""Where requests came from: addresses and names of programs, taken out of rows that stay.

Downloads of one file, minute and principal become one row when their clients are taken out.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Text, bindparam, delete, or_, select, update
from sqlalchemy import literal_column as literal

from registry.catalog.downloads import add_downloads
from registry.catalog.schema import downloads, sessions
from store.index.state import get_state, put_state
from store.index.transactions import Statement, Tx

_PLACE: Final = "downloads.without_clients"
_NOTHING: Final = literal("''", Text)

_SESSIONS = Statement(
    lambda: (
        update(sessions)
        .where(
            sessions.c.id.in_(
                select(sessions.c.id)
                .where(
                    sessions.c.created_at < bindparam("before"),
                    or_(sessions.c.address != _NOTHING, sessions.c.user_agent != _NOTHING),
                )
                .limit(bindparam("most"))
            )
        )
        .values(address=_NOTHING, user_agent=_NOTHING)
    )
)
_KEYS: Final = ("version", "minute", "path", "principal", "client")
_NAMED = Statement(
    lambda: (
        select(*(downloads.c[name] for name in (*_KEYS, "requests", "bytes")))
        .where(
            downloads.c.minute >= bindparam("since"),
            downloads.c.minute < bindparam("before"),
            downloads.c.client != _NOTHING,
        )
        .order_by(downloads.c.minute)
        .limit(bindparam("most"))
    )
)
_DELETE = Statement(
    lambda: delete(downloads).where(*(downloads.c[name] == bindparam(f"{name}_") for name in _KEYS))
)


async def blank_sessions(tx: Tx, before: int, most: int) -> int:
    """Forget where sessions came from that began before; returns how many, `most` at a time."""
    return await tx.run(_SESSIONS, before=before, most=most)


async def blank_downloads(tx: Tx, before: int, most: int) -> int:
    """Forget what fetched files before; returns how many rows, `most` at a time.

    Where it got to is remembered, so that the same rows are not looked through again.
    """
    since = int(await get_state(tx, _PLACE) or 0)
    named = await tx.all(_NAMED, since=since, before=before, most=most)
    found = [dict(zip((*_KEYS, "requests", "bytes"), row, strict=True)) for row in named]
    if found:
        await tx.run_many(_DELETE, [_key(row) for row in found])
        await add_downloads(tx, [row | {"client": ""} for row in found])
    reached = max(since, before) if len(found) < most else int(found[-1]["minute"])
    if reached != since:
        await put_state(tx, _PLACE, str(reached))
    return len(found)


def _key(row: dict[str, Any]) -> dict[str, Any]:
    return {f"{name}_": row[name] for name in _KEYS}
