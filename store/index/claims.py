"""Rows of references and leases: who keeps a blob, and which blobs nobody keeps.

Every function runs inside a caller's unit of work.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec
from sqlalchemy import BigInteger, Text, bindparam, delete, exists, func, or_, select, update
from sqlalchemy import literal_column as literal
from sqlalchemy.dialects.sqlite import insert

from store.digest import Digest
from store.index.blobs import DAMAGED, MOVING, BlobRow, blob_row, find_blob, touch
from store.index.packed import DIGESTS, MANY, for_each, packed, piece_of
from store.index.schema import blobs, leases, refs
from store.index.transactions import Statement, Tx

PIN: Final = "pin"
"""Kind of a reference that an upload made; a commit that names the blob releases it."""
KEPT: Final = "kept"
"""Kind of a reference that somebody asked for by name; only they release it."""


class Access(msgspec.Struct, frozen=True):
    """What opens a claim to readers who are not its owner: the realm it lies in, and its level.

    Both are words of whoever claims, and opaque here (`store.index.readable`).
    """

    realm: str | None
    level: str | None


OWN: Final = Access(None, None)
"""Nothing does: a claim for its owner alone."""


class RefRow(msgspec.Struct, frozen=True):
    """A durable claim, with the size of what it keeps (None while that is absent)."""

    digest: Digest
    owner: str
    kind: str
    count: int
    created_at: int
    size_bytes: int | None


# References.

_ADD_REF = Statement(
    lambda: (
        insert(refs)
        .values(
            digest=bindparam("digest"),
            owner=bindparam("owner"),
            kind=bindparam("kind"),
            count=bindparam("count"),
            created_at=bindparam("now"),
            realm=bindparam("realm"),
            level=bindparam("level"),
        )
        .on_conflict_do_update(
            index_elements=["digest", "owner", "kind"],
            set_={"count": refs.c.count + bindparam("count")},
        )
        .returning(refs.c.count)
    )
)
_ADD_REFS = Statement(
    lambda: (
        insert(refs)
        .from_select(
            ["digest", "owner", "kind", "count", "created_at", "realm", "level"],
            for_each(
                piece_of(DIGESTS),
                bindparam("owner", type_=Text),
                bindparam("kind", type_=Text),
                literal("1"),
                bindparam("now", type_=BigInteger),
                bindparam("realm", type_=Text),
                bindparam("level", type_=Text),
            ),
        )
        .on_conflict_do_update(
            index_elements=["digest", "owner", "kind"], set_={"count": refs.c.count + 1}
        )
    )
)
_KEEP_REF = Statement(
    lambda: (
        insert(refs)
        .values(
            digest=bindparam("digest"),
            owner=bindparam("owner"),
            kind=bindparam("kind"),
            count=1,
            created_at=bindparam("now"),
        )
        .on_conflict_do_nothing()
    )
)
_KEEP_REFS = Statement(
    lambda: (
        insert(refs)
        .from_select(
            ["digest", "owner", "kind", "count", "created_at"],
            for_each(
                piece_of(DIGESTS),
                bindparam("owner", type_=Text),
                bindparam("kind", type_=Text),
                literal("1"),
                bindparam("now", type_=BigInteger),
            ),
        )
        .on_conflict_do_nothing()
    )
)
_OPEN_REFS = Statement(
    lambda: (
        update(refs)
        .where(refs.c.owner == bindparam("owner_"))
        .values(realm=bindparam("realm"), level=bindparam("level"))
    )
)
_FIND_REF = Statement(
    lambda: select(refs.c.count).where(
        refs.c.digest == bindparam("digest"),
        refs.c.owner == bindparam("owner"),
        refs.c.kind == bindparam("kind"),
    )
)
_LESS_REF = Statement(
    lambda: (
        update(refs)
        .where(
            refs.c.digest == bindparam("digest_"),
            refs.c.owner == bindparam("owner_"),
            refs.c.kind == bindparam("kind_"),
        )
        .values(count=refs.c.count - bindparam("less"))
    )
)
_DROP_REF = Statement(
    lambda: delete(refs).where(
        refs.c.digest == bindparam("digest_"),
        refs.c.owner == bindparam("owner_"),
        refs.c.kind == bindparam("kind_"),
    )
)
_ANY_REF = Statement(
    lambda: select(refs.c.owner).where(refs.c.digest == bindparam("digest")).limit(1)
)
_OWNERS = Statement(
    lambda: (
        select(refs.c.owner).where(refs.c.digest == bindparam("digest")).limit(bindparam("limit"))
    )
)
_OWNER_REF = Statement(
    lambda: (
        select(refs.c.kind)
        .where(refs.c.digest == bindparam("digest"), refs.c.owner == bindparam("owner"))
        .limit(1)
    )
)
_OWNER_REFS = Statement(
    # A join would go through all that the owner has, and through the digests for each.
    lambda: select(MANY.c.key).where(
        exists().where(refs.c.digest == piece_of(DIGESTS), refs.c.owner == bindparam("owner"))
    )
)
_REF_COLUMNS: Final = (
    refs.c.digest,
    refs.c.owner,
    refs.c.kind,
    refs.c.count,
    refs.c.created_at,
    blobs.c.size,
)
_REFS_OF = Statement(
    lambda: (
        select(*_REF_COLUMNS)
        .join(blobs, blobs.c.digest == refs.c.digest, isouter=True)
        .where(
            refs.c.owner == bindparam("owner"),
            refs.c.kind == bindparam("kind"),
            refs.c.digest > bindparam("after"),
        )
        .order_by(refs.c.digest)
        .limit(bindparam("limit"))
    )
)
_REF = Statement(
    lambda: (
        select(*_REF_COLUMNS)
        .join(blobs, blobs.c.digest == refs.c.digest, isouter=True)
        .where(
            refs.c.digest == bindparam("digest"),
            refs.c.owner == bindparam("owner"),
            refs.c.kind == bindparam("kind"),
        )
    )
)
_DANGLING = Statement(
    lambda: (
        select(refs.c.digest, refs.c.owner, refs.c.kind)
        .join(blobs, blobs.c.digest == refs.c.digest, isouter=True)
        .where(or_(blobs.c.digest.is_(None), blobs.c.state == DAMAGED))
        .limit(bindparam("limit"))
    )
)


async def add_ref(
    tx: Tx, digest: Digest, owner: str, kind: str, count: int = 1, *, access: Access = OWN
) -> bool:
    """Add counted claims; say whether the owner had none of that kind.

    All claims of an owner have the same `access`; `open_refs` changes it.
    """
    row = await tx.one(
        _ADD_REF,
        digest=digest.raw,
        owner=owner,
        kind=kind,
        count=count,
        now=tx.now,
        realm=access.realm,
        level=access.level,
    )
    assert row is not None
    return int(row[0]) == count


async def add_refs(
    tx: Tx, digests: Sequence[Digest], owner: str, kind: str, *, access: Access = OWN
) -> None:
    """`add_ref` of one claim for each digest, as often as it comes, with one statement."""
    await tx.run(
        _ADD_REFS,
        owner=owner,
        kind=kind,
        now=tx.now,
        realm=access.realm,
        level=access.level,
        **packed(digests),
    )


async def keep_ref(tx: Tx, digest: Digest, owner: str, kind: str) -> bool:
    """Make sure of one claim that is not counted, a pin say; say whether it is new."""
    made = await tx.run(_KEEP_REF, digest=digest.raw, owner=owner, kind=kind, now=tx.now)
    return made == 1


async def keep_refs(tx: Tx, digests: Sequence[Digest], owner: str, kind: str) -> None:
    """`keep_ref` for many, with one statement."""
    await tx.run(_KEEP_REFS, owner=owner, kind=kind, now=tx.now, **packed(digests))


async def open_refs(tx: Tx, owner: str, access: Access) -> int:
    """Give all claims of an owner another access; returns how many they are.

    Each costs 5 to 9 microseconds where whoever claims counts along, so a million hold up other
    writers for about seven seconds.
    """
    return await tx.run(_OPEN_REFS, owner_=owner, realm=access.realm, level=access.level)


async def drop_ref(tx: Tx, digest: Digest, owner: str, kind: str, count: int | None = 1) -> bool:
    """Give up `count` claims, or with None all of them; say whether there were any."""
    key = {"digest_": digest.raw, "owner_": owner, "kind_": kind}
    row = await tx.one(_FIND_REF, digest=digest.raw, owner=owner, kind=kind)
    if row is None:
        return False
    if count is None or row[0] <= count:
        await tx.run(_DROP_REF, **key)
    else:
        await tx.run(_LESS_REF, less=count, **key)
    await touch(tx, digest)
    return True


async def find_ref(tx: Tx, digest: Digest, owner: str, kind: str) -> RefRow | None:
    row = await tx.one(_REF, digest=digest.raw, owner=owner, kind=kind)
    return None if row is None else RefRow(Digest(row[0].hex()), *row[1:])


async def any_ref(tx: Tx, digest: Digest) -> bool:
    return await tx.one(_ANY_REF, digest=digest.raw) is not None


_ANY_REFS = Statement(lambda: select(refs.c.owner).limit(1))


async def any_refs(tx: Tx) -> bool:
    """Whether anything at all is claimed."""
    return await tx.one(_ANY_REFS) is not None


async def owners_of(tx: Tx, digest: Digest, limit: int = 1000) -> list[str]:
    return [row[0] for row in await tx.all(_OWNERS, digest=digest.raw, limit=limit)]


async def owner_holds(tx: Tx, digest: Digest, owner: str) -> bool:
    """Whether `owner` has any claim on the blob."""
    return await tx.one(_OWNER_REF, digest=digest.raw, owner=owner) is not None


async def owner_holds_of(tx: Tx, digests: Sequence[Digest], owner: str) -> set[Digest]:
    """Those of different digests that `owner` has any claim on, with one statement."""
    found = await tx.all(_OWNER_REFS, owner=owner, **packed(digests))
    return {digests[row[0]] for row in found}


async def refs_of_owner(
    tx: Tx, owner: str, kind: str, after: bytes = b"", limit: int = 100
) -> list[RefRow]:
    """A page of an owner's claims of one kind, in order of digest."""
    rows = await tx.all(_REFS_OF, owner=owner, kind=kind, after=after, limit=limit)
    return [RefRow(Digest(row[0].hex()), *row[1:]) for row in rows]


async def dangling_refs(tx: Tx, limit: int = 1000) -> list[tuple[Digest, str, str]]:
    """Claims on blobs that are absent or damaged."""
    return [(Digest(row[0].hex()), row[1], row[2]) for row in await tx.all(_DANGLING, limit=limit)]


# Leases.

_ADD_LEASE = Statement(
    lambda: (
        insert(leases)
        .values(
            digest=bindparam("digest"),
            holder=bindparam("holder"),
            expires_at=bindparam("expires_at"),
        )
        .on_conflict_do_update(
            index_elements=["digest", "holder"],
            set_={"expires_at": func.max(leases.c.expires_at, bindparam("expires_at"))},
        )
    )
)
_adding_leases = insert(leases).from_select(
    ["digest", "holder", "expires_at"],
    for_each(
        piece_of(DIGESTS),
        bindparam("holder", type_=Text),
        bindparam("expires_at", type_=BigInteger),
    ),
)
_ADD_LEASES = Statement(
    lambda: _adding_leases.on_conflict_do_update(
        index_elements=["digest", "holder"],
        set_={"expires_at": func.max(leases.c.expires_at, _adding_leases.excluded.expires_at)},
    )
)
_DROP_LEASES = Statement(lambda: delete(leases).where(leases.c.holder == bindparam("holder_")))
_EXPIRE_LEASES = Statement(lambda: delete(leases).where(leases.c.expires_at <= bindparam("now")))
_HAD_LEASE = Statement(
    lambda: select(leases.c.expires_at).where(
        leases.c.digest == bindparam("digest"), leases.c.holder == bindparam("holder")
    )
)
_ANY_LEASE = Statement(
    lambda: (
        select(leases.c.holder)
        .where(leases.c.digest == bindparam("digest"), leases.c.expires_at > bindparam("now"))
        .limit(1)
    )
)


async def add_lease(tx: Tx, digest: Digest, holder: str, expires_at: int) -> None:
    """Keep a blob, present or on its way, until `expires_at`; a later expiry wins."""
    await tx.run(_ADD_LEASE, digest=digest.raw, holder=holder, expires_at=expires_at)


async def add_leases(tx: Tx, digests: Iterable[Digest], holder: str, expires_at: int) -> None:
    """`add_lease` for many, with one statement."""
    await tx.run(_ADD_LEASES, holder=holder, expires_at=expires_at, **packed(list(digests)))


async def had_lease(tx: Tx, digest: Digest, holder: str) -> bool:
    """Whether `holder` has a lease, even one that has ended and was not swept yet."""
    return await tx.one(_HAD_LEASE, digest=digest.raw, holder=holder) is not None


async def drop_leases(tx: Tx, holder: str) -> int:
    return await tx.run(_DROP_LEASES, holder_=holder)


async def expire_leases(tx: Tx) -> int:
    return await tx.run(_EXPIRE_LEASES, now=tx.now)


async def is_leased(tx: Tx, digest: Digest) -> bool:
    return await tx.one(_ANY_LEASE, digest=digest.raw, now=tx.now) is not None


# What may be collected.

_claimed = exists().where(refs.c.digest == blobs.c.digest)
_leased = exists().where(leases.c.digest == blobs.c.digest, leases.c.expires_at > bindparam("now"))
_COLLECTABLE = Statement(
    lambda: (
        select(blobs)
        .where(
            blobs.c.state != MOVING,
            blobs.c.last_claimed <= bindparam("before"),
            ~_claimed,
            ~_leased,
            blobs.c.digest > bindparam("after"),
        )
        .order_by(blobs.c.digest)
        .limit(bindparam("limit"))
    )
)


async def collectable(tx: Tx, before: int, after: bytes, limit: int) -> list[BlobRow]:
    """Blobs that nobody references or leases and nobody claimed since `before`, after a digest."""
    rows = await tx.all(_COLLECTABLE, before=before, after=after, limit=limit, now=tx.now)
    return [blob_row(row) for row in rows]


async def is_collectable(tx: Tx, row: BlobRow, before: int) -> bool:
    """Whether a blob is still as a plan saw it and still unclaimed."""
    found = await find_blob(tx, row.digest)
    return (
        found is not None
        and found.generation == row.generation
        and found.state == row.state
        and found.last_claimed <= before
        and not await any_ref(tx, row.digest)
        and not await is_leased(tx, row.digest)
    )
