"""Retired versions go to the cold tier, and come back when they are wanted again.

**Going.** A pass looks at all versions, a page at a time, and takes those that are retired. Blobs
that nobody needs hot move one by one (`store.archive`), at a rate; a version is ``cold`` once the
last of its bytes is. What is left of a pass that was cut short the next one finds. A version that
shares bytes with one that lives keeps those, and stays ``hot`` with the rest of it moved.

**Coming back.** Whatever lets a version be retired no more (`registry.services.retirement`) leaves
a note in its transaction, which the leader acts on within seconds: the bytes are decompressed,
verified and given their own files again, and then the version is ``hot``. It is readable all the
time where the archive is. A new version that takes over bytes which are cold leaves the same note,
so it is read from the archive for seconds only; a pin, a draft or a run that names such bytes does
not: they come back when they are published, or sent again. Retired versions that shared them go
once more when nobody needs them hot.

**After a restore from a backup** all bytes are hot, whatever the versions say; they are told so
once (`_forget_tiers`), and the next pass begins anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, Final

import msgspec
import structlog

from registry.catalog.archive import (
    THAWING,
    Judgement,
    Tiered,
    blobs_in_tier,
    count_cold,
    find_tiered,
    is_all_cold,
    is_all_hot,
    judge,
    set_tier,
    still_holds,
    versions_by_id,
    wanted_no_more,
)
from registry.catalog.audit import Entry, record
from registry.catalog.models import find_model_by_id
from registry.catalog.retention import add_to_day
from registry.catalog.versions import find_version_by_id
from registry.domain.principals import HOUSEKEEPING, Principal
from registry.errors import Conflict
from registry.services.change import change
from store.archive import ArchiveStatus
from store.cold import ColdMarker
from store.digest import Digest
from store.errors import ArchiveUnavailable, BlobNotFound, Corrupt, StorageFull, Unavailable
from store.index.blobs import BlobRow, find_blob
from store.index.state import first_state, get_state, put_state
from store.index.transactions import Tx
from store.opening import Store
from store.pace import SteadyPace

VERSIONS_AT_ONCE: Final = 1000
PAUSE_SECONDS: Final = 0.01

_EPOCH: Final = "archive.epoch"
"""Of which epoch of the store what versions say of their tier is."""

logger = structlog.get_logger()

Report = Callable[[int, int], None]


class Pass(msgspec.Struct, kw_only=True):
    """What one pass did. `failed` blobs are tried again by the next."""

    looked_at: int = 0
    versions: int = 0
    """Versions that are cold now and were not."""
    blobs: int = 0
    bytes: int = 0
    kept: int = 0
    """Blobs of retired versions that somebody else needs hot."""
    failed: int = 0


class Standing(msgspec.Struct, frozen=True):
    """The archive as people are told of it; the sizes of versions count shared bytes each time."""

    archive: ArchiveStatus
    versions: int
    version_bytes: int
    wanted_back: bool


async def show_archive(store: Store) -> Standing:
    """What is in the archive, whether it can be read, and whether anything is on its way back."""

    async def unit(tx: Tx) -> tuple[int, int, bool]:
        return *await count_cold(tx), await first_state(tx, THAWING) is not None

    return Standing(await store.archive.status(), *await store.index.read(unit))


async def adopt_archive(store: Store, principal: Principal) -> ColdMarker:
    """Take the archive that is at its place for this store's; raises `ArchiveUnavailable`.

    Raises `Conflict`, code ``archive_absent``, where there is none and no blob is in one.
    """
    if not await store.cold.is_there():
        totals = (await store.archive.status()).totals
        if not totals.blobs and not totals.spares:
            raise Conflict(
                "archive",
                "of this store",
                "is not there, and nothing needs one",
                code="archive_absent",
            )
    marker = await store.cold.adopt()

    async def unit(tx: Tx) -> None:
        entry = Entry(
            action="adopt",
            kind="archive",
            id=marker.archive_id,
            after={"at": store.cold.files.where},
        )
        await record(tx, principal, entry)

    await change(store, principal, unit)
    return marker


# Going


async def archive_retired(
    store: Store,
    principal: Principal,
    *,
    report: Report | None = None,
    bytes_per_second: int = 0,
) -> Pass:
    """Move what retired versions alone have to the cold tier.

    Raises `ArchiveUnavailable` and `StorageFull`: nothing else would fare better then.
    """
    done = Pass()
    pace = SteadyPace(bytes_per_second)
    await _forget_tiers(store)
    async for version in _all_versions(store):
        done.looked_at += 1
        if version.may_cool and await _is_to_go(store, version):
            await _archive_one(store, principal, version, done, pace)
            if report is not None:
                report(done.blobs, 0)
    return done


async def _is_to_go(store: Store, version: Tiered) -> bool:
    """Whether bytes of a retired version are hot; if some are again, it is told so."""
    if version.tier == "hot":
        return True
    if await store.index.read(partial(is_all_cold, tree=version.tree)):
        return False
    await store.index.run(partial(_correct, version_id=version.id))
    return True


async def keep_archive(store: Store, *, bytes_per_second: int) -> int:
    """The leader's part; returns how many versions are cold that were not."""
    done = await archive_retired(store, HOUSEKEEPING, bytes_per_second=bytes_per_second)
    if done.blobs or done.failed:
        logger.info("archived", **msgspec.structs.asdict(done))
    return done.versions


async def _all_versions(store: Store) -> AsyncIterator[Tiered]:
    after = ""
    while page := await store.index.read(
        partial(versions_by_id, after=after, limit=VERSIONS_AT_ONCE)
    ):
        for version in page:
            yield version
        after = page[-1].id
        await asyncio.sleep(PAUSE_SECONDS)


async def _archive_one(
    store: Store, principal: Principal, version: Tiered, done: Pass, pace: SteadyPace
) -> None:
    judgement = await store.index.read(partial(judge, version=version))
    after = b""
    find = partial(blobs_in_tier, tree=version.tree, is_cold=False)
    while page := await store.index.read(partial(find, after=after)):
        for digest in page:
            if digest not in judgement.claims:
                done.kept += 1
                continue
            try:
                outcome = await store.archive.cool(digest, _may_go(judgement), pace.wait)
            except (ArchiveUnavailable, StorageFull):
                raise
            except Unavailable as error:
                logger.warning("a blob stays hot for now", digest=str(digest), reason=str(error))
                done.failed += 1
                continue
            done.blobs += outcome == "moved"
            done.kept += outcome == "kept"
            done.failed += outcome == "lost"
            if outcome == "moved":
                row = await store.index.look(partial(_size_of, digest=digest))
                done.bytes += row
            await asyncio.sleep(PAUSE_SECONDS)
        after = page[-1].raw
    done.versions += await store.index.run(
        partial(_say_cold, principal=principal, version_id=version.id)
    )


def _may_go(judgement: Judgement) -> Callable[[Tx, BlobRow], Any]:
    async def ask(tx: Tx, row: BlobRow) -> bool:
        return await still_holds(tx, judgement, row.digest)

    return ask


async def _say_cold(tx: Tx, principal: Principal, version_id: str) -> bool:
    """Say that a version is cold, if it is retired still and all its bytes are."""
    version = await find_tiered(tx, version_id)
    if version is None or not version.may_cool or not await is_all_cold(tx, version.tree):
        return False
    return await _move_tier(tx, principal, version, "cold")


async def _move_tier(tx: Tx, principal: Principal, version: Tiered, tier: str) -> bool:
    if not await set_tier(tx, version.id, tier):
        return False
    model = await find_model_by_id(tx, version.model_id)
    row = None if model is None else await find_version_by_id(tx, model.id, version.id)
    entry = Entry(
        action="archive" if tier == "cold" else "thaw",
        kind="version",
        id=version.id,
        name="" if row is None else row.name,
        model=version.model_id,
        before={"tier": version.tier},
        after={"tier": tier},
        reason="retention",
    )
    await record(tx, principal, entry)
    if tier == "cold":
        size_bytes = 0 if row is None else row.size_bytes
        await add_to_day(tx, archived=1, archived_bytes=size_bytes)
    else:
        await add_to_day(tx, thawed=1)
    return True


# Coming back


async def thaw_wanted(store: Store) -> int:
    """Bring back the bytes of versions that are retired no more; return how many versions.

    Raises `ArchiveUnavailable` and `StorageFull`; the rest is brought back once that is over.
    """
    done = 0
    while (found := await store.index.look(partial(first_state, prefix=THAWING))) is not None:
        version = await store.index.look(partial(find_tiered, version_id=found[0]))
        if version is not None and version.retired_at is None and version.purged_at is None:
            await _thaw_one(store, version)
        await store.index.run(partial(_say_hot, version_id=found[0]))
        done += 1
    return done


async def _thaw_one(store: Store, version: Tiered) -> None:
    after = b""
    find = partial(blobs_in_tier, tree=version.tree, is_cold=True)
    while page := await store.index.read(partial(find, after=after)):
        for digest in page:
            try:
                await store.archive.thaw(digest)
            except (ArchiveUnavailable, StorageFull):
                raise
            except (BlobNotFound, Corrupt) as error:
                # Readers are told the same; the next upload of those bytes heals them.
                logger.error("a blob cannot be brought back", digest=str(digest), reason=str(error))
        after = page[-1].raw


async def _say_hot(tx: Tx, version_id: str) -> None:
    """End the wish; the version is hot if it is wanted still and all that is left of it is."""
    await wanted_no_more(tx, version_id)
    version = await find_tiered(tx, version_id)
    if version is None or version.retired_at is not None or version.tier == "hot":
        return
    if await is_all_hot(tx, version.tree):
        await _move_tier(tx, HOUSEKEEPING, version, "hot")


# After a restore


async def _forget_tiers(store: Store) -> None:
    epoch, known = await store.index.read(_epochs)
    if epoch == known:
        return
    if known is not None:
        async for version in _all_versions(store):
            if version.tier == "cold":
                await store.index.run(partial(_correct, version_id=version.id))
    await store.index.run(partial(put_state, key=_EPOCH, value=epoch))


async def _epochs(tx: Tx) -> tuple[str | None, str | None]:
    return await get_state(tx, "epoch"), await get_state(tx, _EPOCH)


async def _correct(tx: Tx, version_id: str) -> None:
    version = await find_tiered(tx, version_id)
    if version is not None and not await is_all_cold(tx, version.tree):
        await set_tier(tx, version_id, "hot")


async def _size_of(tx: Tx, digest: Digest) -> int:
    row = await find_blob(tx, digest)
    return 0 if row is None else row.size_bytes
