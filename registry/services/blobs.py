"""Store, find, keep and release blobs on behalf of a principal.

**Hidden and missing are one.** A blob is known to a principal if its row is there and somebody owns
it whose content the principal may read; everything else is `BlobNotFound`, whatever the directory
or the index hold. Knowing a digest opens nothing: bytes of a blob that the caller may not read are
received and hashed as if they were new, and the answer is the same.

**Audit.** Pins made and released by name are in the audit log. Bytes are not: that they came says
nothing until something names them, and that is recorded.

**Pins.** Bytes put here become a pin of who put them (kind ``pin``), until a commit that names them
takes over. A pin asked for by name (kind ``kept``) stays until its owner releases it. Releasing is
all a caller can do: bytes go only by collection.

**Releasing twice.** When nobody owns a blob after its release, it is hidden even from whoever just
released it. A retry must get the same answer all the same, so a release leaves a lease that has
already ended: it keeps nothing and only remembers, until the leader sweeps it.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Final, TypeVar

import msgspec

from registry.catalog import audit
from registry.catalog.sensitive import sensitive_models
from registry.domain.principals import Principal, Visibility
from registry.errors import BodyTooLarge, Invalid
from registry.services.change import change_index, fingerprint, once_record
from registry.services.quotas import require_pin_room
from store.batches import Source
from store.blobs import BlobStore
from store.clock import SECOND
from store.digest import Digest
from store.errors import BlobNotFound, Corrupt, SizeMismatch, Unavailable
from store.index import blobs as rows
from store.index import claims
from store.index.blobs import BlobRow
from store.index.claims import KEPT, PIN, RefRow
from store.index.database import Database
from store.index.readable import is_readable
from store.index.transactions import Index, MakesRoom, Tx
from store.ingest import Ingest
from store.recording import StoredBlob

T = TypeVar("T")

ASK_AT_ONCE: Final = 256
"""How many digests of a long list are looked up, and leased, in one transaction."""

REMEMBERED: Final = 4096
"""How many rows are remembered between two commits."""

_KINDS: Final = (KEPT, PIN)

LARGE_BYTES: Final = 1 << 20
"""Bodies above this are asked for room among the pins before they travel, too."""


class BlobLimits(msgspec.Struct, frozen=True, kw_only=True):
    """0 means without limit, as in the configuration."""

    blob_bytes: int = 0
    missing_digests: int = 10_000
    lease_seconds: int = 3600


class Put(msgspec.Struct, frozen=True):
    """A stored blob, and whether the caller did not hold it before."""

    digest: Digest
    size_bytes: int
    is_new: bool


class Answer(msgspec.Struct, frozen=True):
    """Which of the asked digests the caller must send, and which are leased to it until when."""

    missing: list[Digest]
    present: list[Digest]
    lease: str | None
    expires_at: int | None


class Found(msgspec.Struct, frozen=True):
    """A blob that can be read, and ids and names of the sensitive models it may be had from."""

    row: BlobRow
    sensitive: list[tuple[str, str]]


class Position(msgspec.Struct, frozen=True):
    """Where a page of pins ends: after this digest of this kind."""

    kind: str
    digest: Digest


class Pins(msgspec.Struct, frozen=True):
    """A page of a principal's pins, by kind and digest."""

    items: list[RefRow]
    next: Position | None


class Blobs:
    """The use cases of blobs without a name; one per application."""

    def __init__(
        self, blobs: BlobStore, index: Database, ingest: Ingest, limits: BlobLimits
    ) -> None:
        self._blobs = blobs
        self._index = index
        self._found: dict[tuple[Digest, Visibility], Found] = {}
        self._found_at = -1
        self._ingest = ingest
        self.limits = limits

    async def find(self, digest: Digest, visibility: Visibility) -> Found:
        """A blob that can be read.

        Raises `BlobNotFound` for hidden and missing, `Corrupt` for damaged, `Unavailable` for one
        that is being moved just now.

        What was found is remembered until anything is committed, by whichever process: a change of
        state, owner or generation is effective at the next request, and asking for the counter
        costs a fifth of the look-up.
        """
        counter = self._index.change_counter()
        if counter != self._found_at or len(self._found) >= REMEMBERED:
            self._found.clear()
            self._found_at = counter
        remembered = self._found.get((digest, visibility))
        if remembered is not None:
            return remembered

        async def unit(tx: Tx) -> Found | None:
            row = await known(tx, digest, visibility)
            if row is None:
                return None
            return Found(row, await sensitive_models(tx, digest, visibility))

        found = await self._index.look(unit)
        if found is None:
            raise BlobNotFound(digest)
        row = found.row
        if not row.is_readable:
            raise Corrupt(digest) if row.state == rows.DAMAGED else Unavailable("reading a blob")
        if counter == self._found_at:
            # Found after the counter was read: at worst newer than the counter, never older.
            self._found[digest, visibility] = found
        return found

    async def announce(self, principal: Principal, found: Found, facts: dict[str, Any]) -> None:
        """Write down, durably, that somebody is about to get bytes that sensitive models have."""
        await self._index.run(
            partial(_record_download, principal=principal, models=found.sensitive, facts=facts)
        )

    async def put(
        self,
        principal: Principal,
        source: Source,
        *,
        expected: Digest | None = None,
        size_bytes: int | None = None,
    ) -> Put:
        """Receive bytes and pin what they make; raises what `Ingest.receive` and `source` raise."""
        limit = self.limits.blob_bytes or None
        if limit is not None and size_bytes is not None and size_bytes > limit:
            raise BodyTooLarge(limit)

        async def record(tx: Tx, stored: Sequence[StoredBlob]) -> Put:
            is_new = await pin_upload(tx, stored[0].digest, principal)
            return Put(stored[0].digest, stored[0].size_bytes, is_new)

        if size_bytes is None or size_bytes > LARGE_BYTES:
            await self._index.look(partial(admit_pin, digest=expected, principal=principal))
        try:
            staged = await self._ingest.stage(
                source, expected=expected, size_bytes=size_bytes, limit_bytes=limit, hold=True
            )
        except SizeMismatch as error:
            if size_bytes is None and limit is not None:
                raise BodyTooLarge(limit) from error
            raise
        fingerprint(staged.digest.raw, is_whole=True)
        return await self._ingest.commit([staged], once_record(record), stranger=principal.stranger)

    async def claim(
        self, principal: Principal, digest: Digest, *, size_bytes: int | None = None
    ) -> Put | None:
        """Pin a blob that the principal may read already, without its bytes; None if it may not.

        None too when the caller is about to send another number of bytes: those cannot be this
        blob, and whoever sends them should be told.
        """
        visibility = principal.visibility

        async def record(tx: Tx, stored: StoredBlob) -> Put:
            if await known(tx, digest, visibility) is None:
                raise BlobNotFound(digest)
            if size_bytes is not None and size_bytes != stored.size_bytes:
                raise SizeMismatch(stored.size_bytes, size_bytes)
            is_new = await pin_upload(tx, digest, principal)
            return Put(stored.digest, stored.size_bytes, is_new)

        if not await may_skip(self._index, digest, visibility):
            return None
        fingerprint(digest.raw, is_whole=True)
        try:
            found = await self._ingest.claim(digest, once_record(record))
        except (BlobNotFound, SizeMismatch):
            return None
        return None if found is None else found[1]

    async def pin(self, principal: Principal, digest: Digest) -> tuple[RefRow, bool]:
        """Keep a blob by name; says whether that is new. Raises `BlobNotFound` if it is hidden."""
        visibility = principal.visibility

        async def unit(tx: Tx) -> tuple[RefRow, bool]:
            row = await known(tx, digest, visibility)
            if row is None:
                raise BlobNotFound(digest)
            is_new = await claims.keep_ref(tx, digest, principal.id, KEPT)
            await rows.touch(tx, digest)
            if is_new:
                await require_pin_room(tx, principal)
                await _record_pin(tx, principal, "create", digest)
            found = await claims.find_ref(tx, digest, principal.id, KEPT)
            assert found is not None
            return found, is_new

        return await change_index(self._index, principal, unit)

    async def release(self, principal: Principal, digest: Digest) -> None:
        """Give up the principal's pins, as often as asked; raises `BlobNotFound` if hidden."""
        visibility = principal.visibility
        memory = f"released_{principal.id}"

        async def unit(tx: Tx) -> None:
            row = await known(tx, digest, visibility)
            if row is None:
                if not await claims.had_lease(tx, digest, memory):
                    raise BlobNotFound(digest)
                return
            for kind in _KINDS:
                if await claims.drop_ref(tx, digest, principal.id, kind, None) and kind == KEPT:
                    await _record_pin(tx, principal, "delete", digest)
            await claims.add_lease(tx, digest, memory, tx.now)

        await change_index(self._index, principal, MakesRoom(unit))

    async def pins(
        self, principal: Principal, *, after: Position | None = None, limit: int = 100
    ) -> Pins:
        """A page of what the principal keeps: first what it asked for by name, then its uploads."""

        async def unit(tx: Tx) -> list[RefRow]:
            found: list[RefRow] = []
            for kind in _KINDS:
                if after is not None and _KINDS.index(kind) < _KINDS.index(after.kind):
                    continue
                start = after.digest.raw if after is not None and after.kind == kind else b""
                wanted = limit + 1 - len(found)
                if wanted:
                    found += await claims.refs_of_owner(tx, principal.id, kind, start, wanted)
            return found

        found = await self._index.read(unit)
        items = found[:limit]
        last = items[-1] if len(found) > limit else None
        return Pins(items, None if last is None else Position(last.kind, last.digest))

    async def missing(self, principal: Principal, digests: Sequence[Digest]) -> Answer:
        """Say which blobs must be sent, and lease the others, so that none goes meanwhile."""
        if len(digests) > self.limits.missing_digests:
            most = self.limits.missing_digests
            raise Invalid("digests", f"more than {most} at once", code="too_many_digests")
        wanted = list(dict.fromkeys(digests))
        lease = f"lse_{secrets.token_hex(12)}"
        leased: set[Digest] = set()
        expires_at: int | None = None
        for start in range(0, len(wanted), ASK_AT_ONCE):
            part = wanted[start : start + ASK_AT_ONCE]
            found, until = await self._lease(part, principal.visibility, lease)
            leased.update(found)
            if found:
                expires_at = until if expires_at is None else min(expires_at, until)
        return Answer(
            [digest for digest in wanted if digest not in leased],
            [digest for digest in wanted if digest in leased],
            lease if leased else None,
            expires_at,
        )

    async def _lease(
        self, digests: list[Digest], visibility: Visibility, lease: str
    ) -> tuple[list[Digest], int]:
        """Lease those that are known, present, and whose files are there with their sizes."""

        async def look(tx: Tx) -> list[BlobRow]:
            return await _known_of(tx, digests, visibility)

        found = await self._index.read(look)
        whole = await asyncio.gather(*(self._ingest.has_file(row) for row in found))
        seen = {row.digest: row for row, is_whole in zip(found, whole, strict=True) if is_whole}
        if not seen:
            return [], 0

        async def unit(tx: Tx) -> tuple[list[Digest], int]:
            until = tx.now + self.limits.lease_seconds * SECOND
            # The same generation, still present: the file that was looked at was not moved.
            good = [
                row.digest
                for row in await _known_of(tx, seen, visibility)
                if row.generation == seen[row.digest].generation
            ]
            await claims.add_leases(tx, good, lease, until)
            return good, until

        return await self._index.run(unit)


async def known(tx: Tx, digest: Digest, visibility: Visibility) -> BlobRow | None:
    """The row of a blob in any state that somebody owns whom the reader may read; else None."""
    # The blob last: what is hidden must cost exactly what a missing one does.
    return await rows.find_blob(tx, digest) if await _is_seen(tx, digest, visibility) else None


async def may_skip(index: Index, digest: Digest, visibility: Visibility) -> bool:
    """Whether it is worth looking if a blob can be had without its bytes.

    Looking means asking the disk and the writer, and how long that takes must not tell a reader of
    a blob that is hidden. Whoever sees everything is spared the question.
    """

    async def unit(tx: Tx) -> bool:
        return await _is_seen(tx, digest, visibility)

    return visibility.everything or await index.look(unit)


async def _is_seen(tx: Tx, digest: Digest, visibility: Visibility) -> bool:
    if visibility.reader is None:
        return await claims.any_ref(tx, digest)
    return await is_readable(tx, digest, visibility.reader)


async def pin_upload(tx: Tx, digest: Digest, principal: Principal) -> bool:
    """Pin what somebody sent; say whether they held no claim on it before."""
    held = await claims.owner_holds(tx, digest, principal.id)
    await claims.keep_ref(tx, digest, principal.id, PIN)
    if not held:
        await require_pin_room(tx, principal)
    return not held


async def pin_uploads(tx: Tx, digests: Iterable[Digest], principal: Principal) -> set[Digest]:
    """`pin_upload` for many, with as many statements as for one; those not held before."""
    wanted = sorted(set(digests), key=lambda digest: digest.hex)
    new = set(wanted) - await claims.owner_holds_of(tx, wanted, principal.id)
    await claims.keep_refs(tx, wanted, principal.id, PIN)
    if new:
        await require_pin_room(tx, principal)
    return new


async def admit_pin(tx: Tx, *, digest: Digest | None, principal: Principal) -> None:
    """Refuse bytes before they travel where what they make could not be pinned."""
    if digest is None or not await claims.owner_holds(tx, digest, principal.id):
        await require_pin_room(tx, principal, more=1)


async def _record_download(
    tx: Tx, *, principal: Principal, models: list[tuple[str, str]], facts: dict[str, Any]
) -> None:
    for id, name in models:
        entry = audit.Entry(
            action="download", kind="model", id=id, name=name, model=id, after=facts
        )
        await audit.record(tx, principal, entry)


async def _record_pin(tx: Tx, principal: Principal, action: str, digest: Digest) -> None:
    """Put into the audit log that a pin was made or released by hand."""
    name, facts = str(digest), {"digest": str(digest)}
    await audit.record(
        tx,
        principal,
        audit.Entry(
            action=action,
            kind="pin",
            id=name,
            name=name,
            before=facts if action == "delete" else None,
            after=facts if action == "create" else None,
        ),
    )


async def _known_of(tx: Tx, digests: Iterable[Digest], visibility: Visibility) -> list[BlobRow]:
    found = [await known(tx, digest, visibility) for digest in digests]
    return [row for row in found if row is not None and row.is_present]
