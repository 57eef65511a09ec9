"""What the catalog knows of tiers: which versions may go cold, which have to come back.

A blob may be cold when every claim on it is a file of a retired version. Claims are counted by the
store for each model and kind, so that is so where the counts of its claims equal the number of
files that retired versions of those models have of it. What else claims it (a pin, a draft, a run,
a revision on a branch, a version that lives or could be restored to life) makes the counts differ,
without being asked for by name.

Counting walks all files of a model's retired versions, which is too long for the transaction that
moves a blob. So it is done before, and the transaction looks whether it still holds: the blob's
claims are the same rows, and nothing was retired, brought back or purged in those models
(`stamp_of`).
"""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec
from sqlalchemy import bindparam, func, select, update

from registry.catalog.claims import TREE
from registry.catalog.schema import tree_files, versions
from store.digest import Digest
from store.index.archived import is_archive_used
from store.index.schema import blobs, refs
from store.index.state import put_state
from store.index.transactions import Statement, Tx

Claim: TypeAlias = tuple[str, str, int]
"""Owner, kind and count."""

Stamp: TypeAlias = tuple[int, int, int]

THAWING: Final = "archive.thaw."
"""Before the ids of versions that are wanted again, in the store's state."""

MOST_CLAIMS: Final = 100
"""A blob with claims of more owners stays hot; counting for all of them would take too long."""


class Tiered(msgspec.Struct, frozen=True):
    """A version, as far as its tier goes."""

    id: str
    model_id: str
    tree: Digest
    files: int
    tier: str
    retired_at: int | None
    deleted_at: int | None
    purged_at: int | None

    @property
    def may_cool(self) -> bool:
        return self.retired_at is not None and self.deleted_at is None and bool(self.files)


class Judgement(msgspec.Struct, frozen=True):
    """Which blobs of a version may be cold, with the claims and stamps by which that is so."""

    claims: dict[Digest, list[Claim]]
    stamps: dict[str, Stamp]


_retired = (versions.c.retired_at.is_not(None), versions.c.purged_at.is_(None))
_COLUMNS = (
    versions.c.id,
    versions.c.model,
    versions.c.tree,
    versions.c.files,
    versions.c.tier,
    versions.c.retired_at,
    versions.c.deleted_at,
    versions.c.purged_at,
)
_PAGE = Statement(
    lambda: (
        select(*_COLUMNS)
        .where(versions.c.id > bindparam("after"))
        .order_by(versions.c.id)
        .limit(bindparam("limit"))
    )
)
_ONE = Statement(lambda: select(*_COLUMNS).where(versions.c.id == bindparam("id")))
_CLAIMS = Statement(
    lambda: (
        select(refs.c.digest, refs.c.owner, refs.c.kind, refs.c.count)
        .where(
            refs.c.digest.in_(
                select(tree_files.c.digest).where(tree_files.c.tree == bindparam("tree"))
            )
        )
        .order_by(refs.c.digest, refs.c.owner, refs.c.kind)
    )
)
_CLAIMS_OF_BLOB = Statement(
    lambda: (
        select(refs.c.owner, refs.c.kind, refs.c.count)
        .where(refs.c.digest == bindparam("digest"))
        .order_by(refs.c.owner, refs.c.kind)
        .limit(bindparam("limit"))
    )
)
_IN_RETIRED = Statement(
    lambda: (
        select(tree_files.c.digest, func.count())
        .join(versions, versions.c.tree == tree_files.c.tree)
        .where(
            versions.c.model == bindparam("model"),
            *_retired,
            tree_files.c.digest.in_(
                select(tree_files.c.digest)
                .where(tree_files.c.tree == bindparam("tree"))
                .correlate(None)
            ),
        )
        .group_by(tree_files.c.digest)
    )
)
_STAMP = Statement(
    lambda: select(
        func.count(),
        func.coalesce(func.sum(versions.c.changes), 0),
        func.coalesce(func.max(versions.c.updated_at), 0),
    ).where(versions.c.model == bindparam("model"), *_retired)
)
_places = select(tree_files.c.digest).join(blobs, blobs.c.digest == tree_files.c.digest)
_of_tree = tree_files.c.tree == bindparam("tree")
_HOT = Statement(lambda: _places.where(_of_tree, blobs.c.archived.is_(None)).limit(1))
_COLD = Statement(lambda: _places.where(_of_tree, blobs.c.archived.is_not(None)).limit(1))
_PLACED = Statement(
    lambda: (
        select(tree_files.c.digest)
        .distinct()
        .join(blobs, blobs.c.digest == tree_files.c.digest)
        .where(
            _of_tree,
            tree_files.c.digest > bindparam("after"),
            (blobs.c.archived.is_not(None)) == bindparam("is_cold"),
        )
        .order_by(tree_files.c.digest)
        .limit(bindparam("limit"))
    )
)
_SET_TIER = Statement(
    lambda: (
        update(versions)
        .where(versions.c.id == bindparam("id_"), versions.c.tier != bindparam("tier"))
        .values(tier=bindparam("tier"), updated_at=bindparam("now"), changes=versions.c.changes + 1)
    )
)
_COUNT_TIERS = Statement(
    lambda: select(func.count(), func.coalesce(func.sum(versions.c.size), 0)).where(
        versions.c.tier == "cold", versions.c.deleted_at.is_(None)
    )
)


async def versions_by_id(tx: Tx, after: str, limit: int) -> list[Tiered]:
    """A page of all versions, deleted ones too, in order of id."""
    rows = await tx.all(_PAGE, after=after, limit=limit)
    return [_tiered(row) for row in rows]


async def find_tiered(tx: Tx, version_id: str) -> Tiered | None:
    row = await tx.one(_ONE, id=version_id)
    return None if row is None else _tiered(row)


async def judge(tx: Tx, version: Tiered) -> Judgement:
    """Which blobs of a version nobody needs hot. Takes long for models of many retired files."""
    found: dict[Digest, list[Claim]] = {}
    for digest, owner, kind, count in await tx.all(_CLAIMS, tree=version.tree.raw):
        found.setdefault(Digest(digest.hex()), []).append((owner, kind, count))
    candidates = {
        digest: held
        for digest, held in found.items()
        if len(held) <= MOST_CLAIMS and all(kind == TREE for _, kind, _ in held)
    }
    owners = {owner for held in candidates.values() for owner, _, _ in held}
    retired: dict[str, dict[Digest, int]] = {}
    for owner in owners:
        rows = await tx.all(_IN_RETIRED, model=owner, tree=version.tree.raw)
        retired[owner] = {Digest(row[0].hex()): row[1] for row in rows}
    allowed = {
        digest: held
        for digest, held in candidates.items()
        if all(retired[owner].get(digest) == count for owner, _, count in held)
    }
    return Judgement(allowed, {owner: await stamp_of(tx, owner) for owner in owners})


async def still_holds(tx: Tx, judgement: Judgement, digest: Digest) -> bool:
    """Whether nobody has come to need a blob hot since it was judged."""
    held = judgement.claims.get(digest)
    if held is None:
        return False
    rows = await tx.all(_CLAIMS_OF_BLOB, digest=digest.raw, limit=MOST_CLAIMS + 1)
    if [(row[0], row[1], row[2]) for row in rows] != held:
        return False
    for owner, _, _ in held:
        if await stamp_of(tx, owner) != judgement.stamps[owner]:
            return False
    return True


async def stamp_of(tx: Tx, model_id: str) -> Stamp:
    """Changes whenever a version of the model is retired, brought back, changed or purged."""
    row = await tx.one(_STAMP, model=model_id)
    assert row is not None
    return (row[0], row[1], row[2])


async def blobs_in_tier(tx: Tx, tree: Digest, *, is_cold: bool, after: bytes) -> list[Digest]:
    """A page of the blobs of a tree that are in one tier, in order of digest."""
    rows = await tx.all(_PLACED, tree=tree.raw, is_cold=int(is_cold), after=after, limit=500)
    return [Digest(row[0].hex()) for row in rows]


async def is_all_cold(tx: Tx, tree: Digest) -> bool:
    return await tx.one(_HOT, tree=tree.raw) is None


async def is_all_hot(tx: Tx, tree: Digest) -> bool:
    return await tx.one(_COLD, tree=tree.raw) is None


async def set_tier(tx: Tx, version_id: str, tier: str) -> bool:
    """Say in which tier a version is; False if it was there already."""
    return await tx.run(_SET_TIER, id_=version_id, tier=tier, now=tx.now) == 1


async def want_back(tx: Tx, version_id: str) -> None:
    """Have the bytes of a version brought back from the archive as soon as may be."""
    await put_state(tx, f"{THAWING}{version_id}", "1")


async def want_warm(tx: Tx, version_id: str) -> None:
    """`want_back` for a new version, some of whose files may be bytes that the archive has.

    Which, if any, is found out by who brings them back: asking here takes as long as it has files.
    """
    if await is_archive_used(tx):
        await want_back(tx, version_id)


async def wanted_no_more(tx: Tx, version_id: str) -> None:
    await put_state(tx, f"{THAWING}{version_id}", None)


async def count_cold(tx: Tx) -> tuple[int, int]:
    """How many versions are cold, and their bytes, shared ones each time."""
    row = await tx.one(_COUNT_TIERS)
    assert row is not None
    return row[0], row[1]


def _tiered(row: tuple[object, ...]) -> Tiered:
    id, model, tree, *rest = row
    assert isinstance(tree, bytes)
    return Tiered(id, model, Digest(tree.hex()), *rest)  # type: ignore[arg-type] # by the columns
