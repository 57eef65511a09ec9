"""Quotas of namespaces: asked before bytes travel, and once more by the transaction that counts.

Whatever lets a namespace grow happens inside `within_quota`. Transactions come one after the other,
so however many writers there are, none leaves more behind than the quota allows; and what lets it
not grow is never refused, also where the quota was lowered below what is there.

413 `quota_exceeded` is what could not fit were the namespace empty; 429 `quota_reached` is what
does not fit now. Neither says how much is there: not everybody who writes sees all of it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from registry.catalog.usage import (
    Standing,
    count_pins,
    find_standing,
    namespace_holds,
    pin_quota,
)
from registry.domain.principals import Principal
from registry.domain.trees import TreeFile
from registry.errors import QuotaExceeded, QuotaReached
from store.digest import Digest
from store.index.transactions import Tx


@asynccontextmanager
async def within_quota(tx: Tx, namespace_id: str) -> AsyncIterator[None]:
    """Refuse what is done inside if the namespace grows by it beyond a quota.

    What it raises must end the transaction. Without a quota it costs one look-up by key.
    """
    before = await find_standing(tx, namespace_id)
    yield
    if before.is_limited:
        _require_room(before, await find_standing(tx, namespace_id))


def _require_room(before: Standing, after: Standing) -> None:
    _require("bytes", after.slug, after.most_bytes, before.usage.bytes, after.usage.bytes)
    _require(
        "versions", after.slug, after.most_versions, before.usage.versions, after.usage.versions
    )


def require_room(standing: Standing, *, more_bytes: int = 0, versions: int = 0) -> None:
    """Refuse what is certain to come in if it does not fit beside what was there."""
    usage = standing.usage
    _require("bytes", standing.slug, standing.most_bytes, usage.bytes, usage.bytes + more_bytes)
    most, before = standing.most_versions, usage.versions
    _require("versions", standing.slug, most, before, before + versions)


def _require(quota: str, slug: str, most: int | None, before: int, after: int) -> None:
    if most is None or after <= max(most, before):
        return
    if after - before > most:
        raise QuotaExceeded(quota, slug, most)
    raise QuotaReached(quota, slug, most)


async def admit_bytes(
    tx: Tx,
    namespace_id: str,
    size_bytes: int,
    *,
    digest: Digest | None,
    replaced: Callable[[], Awaitable[TreeFile | None]] | None,
) -> None:
    """Refuse a file by its announced length, before it travels, if it cannot be counted in.

    `replaced` finds the file that it takes the place of, where there may be one. Where the digest
    is declared and the namespace holds it, nothing grows. Where none is declared the bytes are
    taken for new: whoever sends again what is there into a full namespace declares what it is.
    """
    standing = await find_standing(tx, namespace_id)
    most = standing.most_bytes
    used = standing.usage.bytes
    if most is None or used + size_bytes <= most:
        return
    going = None if replaced is None else await replaced()
    if going is not None and used - going.size_bytes + size_bytes <= most:
        return
    if digest is not None and await namespace_holds(tx, namespace_id, digest):
        return
    _require("bytes", standing.slug, most, 0, size_bytes)
    raise QuotaReached("bytes", standing.slug, most)


async def require_pin_room(tx: Tx, principal: Principal, *, more: int = 0) -> None:
    """Refuse a pin too many; asked behind the new one, or before it with `more`.

    A user's pins count in the namespace of their own name; nobody else has such a namespace.
    """
    if principal.kind != "user":
        return
    found = await pin_quota(tx, principal.id)
    if found is None:
        return
    most, slug = found
    if await count_pins(tx, principal.id, most + 1) + more > most:
        raise (QuotaReached if most else QuotaExceeded)("pins", slug, most)
