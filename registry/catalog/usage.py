"""What a namespace takes and what it may take; the row itself is kept by triggers.

`registry.catalog.schema.usage` says what counts. `miscounted` compares with the references and the
versions themselves, for ``fsck`` and for tests.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec
from sqlalchemy import ColumnElement, Text, bindparam, func, select, update
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
    lambda: (
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
)
_held = (
    select(refs.c.realm, refs.c.digest).where(refs.c.realm.is_not(None)).distinct().subquery("held")
)
_TRUE_BYTES = Statement(
    lambda: (
        select(_held.c.realm, func.sum(blobs.c.size))
        .join(blobs, blobs.c.digest == _held.c.digest)
        .group_by(_held.c.realm)
    )
)
_TRUE_VERSIONS = Statement(
    lambda: (
        select(models.c.namespace, func.count())
        .select_from(models.join(versions, versions.c.model == models.c.id))
        .where(versions.c.purged_at.is_(None))
        .group_by(models.c.namespace)
    )
)
_ADD = Statement(
    lambda: (
        update(namespace_usage)
        .where(namespace_usage.c.namespace == bindparam("namespace_"))
        .values(
            bytes=func.max(0, namespace_usage.c.bytes + bindparam("bytes")),
            versions=func.max(0, namespace_usage.c.versions + bindparam("versions")),
        )
    )
)
_ADD_VERSION = Statement(
    lambda: (
        update(namespace_usage)
        .where(
            namespace_usage.c.namespace
            == select(models.c.namespace).where(models.c.id == bindparam("model")).scalar_subquery()
        )
        .values(versions=namespace_usage.c.versions + literal("1"))
    )
)
_ALL = Statement(
    lambda: select(namespace_usage.c.namespace, namespace_usage.c.bytes, namespace_usage.c.versions)
)
_HOLDS = Statement(
    lambda: (
        select(refs.c.digest)
        .where(
            refs.c.digest == bindparam("digest"),
            refs.c.level.in_(IN_ALL_LEVELS),
            refs.c.realm == bindparam("namespace"),
        )
        .limit(1)
    )
)
_PIN_QUOTA = Statement(
    lambda: (
        select(namespaces.c.quota_pins, namespaces.c.slug)
        .join(users, users.c.folded == namespaces.c.folded)
        .where(users.c.id == bindparam("user"), namespaces.c.quota_pins.is_not(None))
    )
)
_SOME_PINS = (
    select(refs.c.digest)
    .where(refs.c.owner == bindparam("owner"), refs.c.kind.in_(_words((KEPT, PIN))))
    .distinct()
    .limit(bindparam("most"))
    .subquery("pins")
)
_PINS = Statement(lambda: select(func.count()).select_from(_SOME_PINS))
_USER_OF = Statement(
    lambda: (
        select(users.c.id)
        .join(namespaces, namespaces.c.folded == users.c.folded)
        .where(namespaces.c.id == bindparam("namespace"), users.c.kind == literal("'user'"))
    )
)

COUNTED_PINS: Final = 1_000_000
"""Pins are counted up to here; limits count to themselves alone."""


async def find_standing(tx: Tx, namespace_id: str) -> Standing:
    """One look-up by key; the namespace is there."""
    row = await tx.one(_STANDING, namespace=namespace_id)
    assert row is not None, "every namespace has a row of usage"
    return Standing(row[0], Usage(row[1], row[2]), row[3], row[4])


async def count_version(tx: Tx, model_id: str) -> None:
    """Count a version that was just made."""
    await tx.run(_ADD_VERSION, model=model_id)


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


async def miscounted(tx: Tx) -> dict[str, tuple[Usage, Usage]]:
    """Namespaces whose kept row is not what their references and versions say: both.

    Reads all references once, in one transaction, so that what changes meanwhile differs in
    neither or in both. For a reader's thread.
    """
    sizes = {row[0]: int(row[1]) for row in await tx.all(_TRUE_BYTES)}
    counts = {row[0]: int(row[1]) for row in await tx.all(_TRUE_VERSIONS)}
    wrong = {}
    for id, size, count in await tx.all(_ALL):
        kept, true = Usage(size, count), Usage(sizes.get(id, 0), counts.get(id, 0))
        if kept != true:
            wrong[id] = kept, true
    return wrong


async def set_right(tx: Tx, wrong: dict[str, tuple[Usage, Usage]]) -> None:
    """Add what was missing to the rows of namespaces, whatever was counted in since."""
    for id, (kept, true) in wrong.items():
        more = {"bytes": true.bytes - kept.bytes, "versions": true.versions - kept.versions}
        await tx.run(_ADD, namespace_=id, **more)
