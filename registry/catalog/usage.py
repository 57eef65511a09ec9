"""What a namespace takes and what it may take; the row itself is kept by triggers.

`registry.catalog.schema.usage` says what counts. `recounted` is the same from the references
themselves: a test and `recount` hold the two together.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec
from sqlalchemy import ColumnElement, Text, bindparam, exists, func, select, update
from sqlalchemy import literal_column as literal

from registry.catalog.schema import models, namespace_usage, namespaces, users, versions
from registry.domain.roles import LEVELS
from store.digest import Digest
from store.index.claims import KEPT, PIN
from store.index.schema import blobs, refs
from store.index.transactions import Statement, Tx


class Usage(msgspec.Struct, frozen=True):
    """What models of a namespace take: bytes, each blob once, and versions that are not purged."""

    bytes: int
    versions: int


class Standing(msgspec.Struct, frozen=True):
    """A namespace's usage beside its quotas; None for no quota."""

    slug: str
    usage: Usage
    most_bytes: int | None
    most_versions: int | None

    @property
    def is_limited(self) -> bool:
        return self.most_bytes is not None or self.most_versions is not None


def _words(words: Iterable[str]) -> list[ColumnElement[str]]:
    return [literal(f"'{word}'", Text) for word in words]


IN_ALL_LEVELS: Final = _words(LEVELS)
"""All of them, so that a seek for each finds what a realm has, however many others have a blob."""

_STANDING = Statement(
    select(
        namespaces.c.slug,
        namespace_usage.c.bytes,
        namespace_usage.c.versions,
        namespaces.c.quota_bytes,
        namespaces.c.quota_versions,
    )
    .join(namespace_usage, namespace_usage.c.namespace == namespaces.c.id)
    .where(namespaces.c.id == bindparam("namespace"))
)
_in_realm = exists().where(
    refs.c.digest == blobs.c.digest,
    refs.c.level.in_(IN_ALL_LEVELS),
    refs.c.realm == bindparam("namespace"),
)
_TRUE_BYTES = Statement(select(func.coalesce(func.sum(blobs.c.size), 0)).where(_in_realm))
_TRUE_VERSIONS = Statement(
    select(func.count())
    .select_from(models.join(versions, versions.c.model == models.c.id))
    .where(models.c.namespace == bindparam("namespace"), versions.c.purged_at.is_(None))
)
_SET = Statement(
    update(namespace_usage)
    .where(namespace_usage.c.namespace == bindparam("namespace_"))
    .values(bytes=bindparam("bytes"), versions=bindparam("versions"))
)
_ALL = Statement(
    select(namespace_usage.c.namespace, namespace_usage.c.bytes, namespace_usage.c.versions)
)
_HOLDS = Statement(
    select(refs.c.digest)
    .where(
        refs.c.digest == bindparam("digest"),
        refs.c.level.in_(IN_ALL_LEVELS),
        refs.c.realm == bindparam("namespace"),
    )
    .limit(1)
)
_PIN_QUOTA = Statement(
    select(namespaces.c.quota_pins, namespaces.c.slug)
    .join(users, users.c.folded == namespaces.c.folded)
    .where(users.c.id == bindparam("user"), namespaces.c.quota_pins.is_not(None))
)
_SOME_PINS = (
    select(refs.c.digest)
    .where(refs.c.owner == bindparam("owner"), refs.c.kind.in_(_words((KEPT, PIN))))
    .distinct()
    .limit(bindparam("most"))
    .subquery("pins")
)
_PINS = Statement(select(func.count()).select_from(_SOME_PINS))
_USER_OF = Statement(
    select(users.c.id)
    .join(namespaces, namespaces.c.folded == users.c.folded)
    .where(namespaces.c.id == bindparam("namespace"), users.c.kind == literal("'user'"))
)

COUNTED_PINS: Final = 1_000_000
"""Pins are counted up to here; limits count to themselves alone."""


async def find_standing(tx: Tx, namespace_id: str) -> Standing:
    """One look-up by key; the namespace is there."""
    row = await tx.one(_STANDING, namespace=namespace_id)
    assert row is not None, "every namespace has a row of usage"
    return Standing(row[0], Usage(row[1], row[2]), row[3], row[4])


async def namespace_holds(tx: Tx, namespace_id: str, digest: Digest) -> bool:
    """Whether a blob counts in a namespace already."""
    return await tx.one(_HOLDS, digest=digest.raw, namespace=namespace_id) is not None


async def pin_quota(tx: Tx, user_id: str) -> tuple[int, str] | None:
    """How many pins a user may have, and the namespace that says so; None: as many as they like."""
    row = await tx.one(_PIN_QUOTA, user=user_id)
    return None if row is None else (int(row[0]), str(row[1]))


async def user_of(tx: Tx, namespace_id: str) -> str | None:
    """Whose pins count in a namespace: the user that has its name."""
    row = await tx.one(_USER_OF, namespace=namespace_id)
    return None if row is None else str(row[0])


async def count_pins(tx: Tx, owner: str, most: int = COUNTED_PINS) -> int:
    """How many blobs somebody pins, counted up to `most`."""
    row = await tx.one(_PINS, owner=owner, most=most)
    assert row is not None, "a count"
    return int(row[0])


async def recounted(tx: Tx, namespace_id: str) -> Usage:
    """What the references and versions themselves say; reads every blob of the store once."""
    size = await tx.one(_TRUE_BYTES, namespace=namespace_id)
    count = await tx.one(_TRUE_VERSIONS, namespace=namespace_id)
    assert size is not None, "a sum"
    assert count is not None, "a count"
    return Usage(int(size[0]), int(count[0]))


async def recount(tx: Tx, *, repair: bool) -> dict[str, tuple[Usage, Usage]]:
    """Namespaces whose kept row is not the truth: both; with `repair` they are set right."""
    wrong: dict[str, tuple[Usage, Usage]] = {}
    for id, size, count in await tx.all(_ALL):
        kept, true = Usage(size, count), await recounted(tx, id)
        if kept == true:
            continue
        wrong[id] = kept, true
        if repair:
            await tx.run(_SET, namespace_=id, bytes=true.bytes, versions=true.versions)
    return wrong
