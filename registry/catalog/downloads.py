"""Rows of downloads: so many requests and bytes a minute of one file, by one principal and client.

The archive of all files has the empty path. Minutes are microseconds since the epoch, as all times.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec
from sqlalchemy import (
    ColumnElement,
    bindparam,
    func,
    select,
    text,
    tuple_,
)

from registry.catalog.schema import downloads, versions
from registry.domain.downloads import MINUTE, Group
from store.index.transactions import Statement, Tx

_DAY: Final = 24 * 60 * MINUTE

# What was downloaded may have been purged meanwhile; nothing is kept of that.
_ADD = Statement(
    lambda: text(
        "INSERT INTO downloads (version, minute, path, principal, client, requests, bytes) "
        "SELECT :version, :minute, :path, :principal, :client, :requests, :bytes "
        "WHERE EXISTS (SELECT 1 FROM versions WHERE id = :version) "
        "ON CONFLICT (version, minute, path, principal, client) DO UPDATE SET "
        "requests = downloads.requests + excluded.requests, "
        "bytes = downloads.bytes + excluded.bytes"
    )
)
_KEYS: Final[dict[Group, ColumnElement[Any]]] = {
    "day": downloads.c.minute - downloads.c.minute % text(str(_DAY)),
    "minute": downloads.c.minute,
    "version": downloads.c.version,
    "user": downloads.c.principal,
    "path": downloads.c.path,
    "client": downloads.c.client,
}


class Counted(msgspec.Struct, frozen=True):
    """Requests and bytes of everything with these `keys`, in the order asked for."""

    keys: tuple[Any, ...]
    requests: int
    bytes: int
    first: int
    last: int
    """The minutes of the first and the last of them."""


class Span(msgspec.Struct, frozen=True):
    """Which downloads count: of a model or of one version, from a time up to another."""

    model_id: str
    version_id: str | None
    since: int
    until: int


async def add_downloads(tx: Tx, rows: Iterable[dict[str, Any]]) -> None:
    """Add counts to what there is: version, minute, path, principal, client, requests, bytes."""
    await tx.run_many(_ADD, rows)


async def sum_downloads(
    tx: Tx, span: Span, groups: Sequence[Group], after: Sequence[Any] | None, limit: int
) -> list[Counted]:
    """A page of sums in the order of `groups`, behind the keys `after`; without groups one sum."""
    statement = _summing(tuple(groups), span.version_id is not None, after is not None)
    values: dict[str, Any] = {
        "since": span.since,
        "until": span.until,
        "limit": limit,
        "owner": span.version_id or span.model_id,
    }
    for place, key in enumerate(after or ()):
        values[f"after{place}"] = key
    rows = await tx.all(statement, **values)
    width = len(groups)
    return [Counted(row[:width], *row[width:]) for row in rows if row[width]]


@lru_cache(maxsize=256)
def _summing(groups: tuple[Group, ...], is_of_version: bool, is_further: bool) -> Statement:
    keys = [_KEYS[group] for group in groups]
    sums = (
        func.coalesce(func.sum(downloads.c.requests), text("0")),
        func.coalesce(func.sum(downloads.c.bytes), text("0")),
        func.min(downloads.c.minute),
        func.max(downloads.c.minute),
    )
    asked = select(*keys, *sums).where(
        downloads.c.minute >= bindparam("since"), downloads.c.minute < bindparam("until")
    )
    if is_of_version:
        asked = asked.where(downloads.c.version == bindparam("owner"))
    else:
        asked = asked.where(
            downloads.c.version.in_(
                select(versions.c.id).where(versions.c.model == bindparam("owner"))
            )
        )
    if is_further:
        places: list[ColumnElement[Any]] = [
            bindparam(f"after{place}") for place in range(len(keys))
        ]
        asked = asked.where(tuple_(*keys) > tuple_(*places))
    return Statement(asked.group_by(*keys).order_by(*keys).limit(bindparam("limit")))
