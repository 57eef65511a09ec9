"""Upload sessions as the product sees them: whose they are, and how much of them somebody may have.

A session belongs to the principal that made it; for everybody else it *must* look as if it did not
exist.

Limits are asked before a session is made and while its bytes arrive. Bytes in this process that no
offset counts yet are known exactly; those that other workers are receiving at the same moment are
not, so all of them together may pass the limit by what is in flight there between two looks.

**Where to continue.** Asking for the offset is how a client begins to continue, so what
`find_upload` answers *must* stay true until somebody appends. The connection that broke may still
be held by a worker that has not seen its end, with a batch on its way to the disk: whoever holds
the session, or was let in here and is about to, gets a moment to come to an end by himself, so that
what arrived counts, and is then ended. That ends a living transfer too, if a client asks beside it:
tus clients do not, the specification gives no way to tell the two apart, and tusd and the IETF's
draft of resumable uploads end it as well. A request that was let in before the offset was asked for
and has not begun to write is ended too, in whichever worker it is (`Upload.asked`). What remains is
one that was sent before and reaches us only after it: nothing tells it from the one that continues,
and the later one has the session.

**All bytes here, not finished.** A process may die between the last byte and the blob. Clients read
an offset equal to the length as success and send nothing more, so `find_upload` *must* not report
that of a session that is not finished: it waits for whoever may be finishing it, and then finishes
it itself.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from functools import partial
from typing import Final

import msgspec

from registry.domain.principals import Principal
from registry.errors import BodyTooLarge, Invalid, LimitReached
from registry.services.blobs import admit_pin, pin_upload
from store.batches import Source
from store.digest import Digest
from store.errors import (
    OffsetConflict,
    UploadFinished,
    UploadNotFound,
    UploadTaken,
    UploadTooLarge,
)
from store.index.transactions import Index, Tx
from store.recording import Record, StoredBlob
from store.uploads import Checksum, Upload, Uploads

LOOK_AGAIN_BYTES: Final = 64 << 20
"""How many bytes may arrive in one upload before the owner's staged bytes are counted again."""


FINISH_WAIT_SECONDS: Final = 5.0
"""How long somebody else may take to finish a session that has all its bytes."""

END_WAIT_SECONDS: Final = 0.5
"""How long somebody else may go on writing once the offset is asked for."""

POLL_SECONDS: Final = 0.02


class UploadLimits(msgspec.Struct, frozen=True, kw_only=True):
    """0 means without limit, as in the configuration."""

    blob_bytes: int = 0
    sessions: int = 0
    staged_bytes: int = 0

    @property
    def largest_upload(self) -> int | None:
        """The longest upload that could ever be finished here; None without limit."""
        return min((limit for limit in (self.blob_bytes, self.staged_bytes) if limit), default=None)


class Arrival(msgspec.Struct, frozen=True):
    """The bytes of one request: what was declared of them, and where they come from."""

    source: Source
    size_bytes: int | None = None
    checksum: Checksum | None = None


class UploadSessions:
    """The use cases of resumable uploads; one per application, because it counts what arrives."""

    def __init__(self, uploads: Uploads, index: Index, limits: UploadLimits) -> None:
        self._uploads = uploads
        self._index = index
        self._arriving: Counter[str] = Counter()
        self._let_in: Counter[str] = Counter()
        self.limits = limits
        self.finish_wait_seconds = FINISH_WAIT_SECONDS
        self.end_wait_seconds = END_WAIT_SECONDS

    async def create_upload(
        self,
        principal: Principal,
        *,
        length: int | None,
        expected: Digest | None = None,
        metadata: str = "",
        first: Arrival | None = None,
    ) -> Upload:
        """Begin a session, with its first bytes if they come along; no bytes to come finish it.

        When the first bytes fail, the session goes: whoever sent them was never told its name.
        """
        await self._admit(principal, length)
        await self._index.look(partial(admit_pin, digest=expected, principal=principal))
        upload = await self._uploads.create(
            principal.id, length=length, expected=expected, metadata=metadata
        )
        if first is None and length != 0:
            return upload
        try:
            return await self._receive(principal, upload, 0, first or Arrival(_nothing(), 0), None)
        except Exception:
            await self._discard(upload.id)
            raise

    async def find_upload(self, principal: Principal, session: str) -> Upload:
        """A session of this principal, and where to continue it; nobody holds it any more.

        A session that has all its bytes is finished first, with what that may raise. Raises
        `UploadNotFound` for everybody else's.
        """
        upload = await self._own(principal, session)
        clock = asyncio.get_running_loop().time
        begun = clock()
        while upload.is_held or self._let_in[session]:
            if clock() - begun >= self._patience(upload):
                break
            await asyncio.sleep(POLL_SECONDS)
            upload = await self._own(principal, session)
        if upload.is_held or not _awaits_its_end(upload):
            # Whoever is about to finish it moves no offset.
            upload = await self._uploads.halt(session)
        if not _awaits_its_end(upload):
            return upload
        try:
            return await self._uploads.append(
                session, upload.offset, _nothing(), record=_pinning(principal)
            )
        except (UploadTaken, UploadFinished):  # somebody else has asked too, and finishes it
            return await self.find_upload(principal, session)

    def _patience(self, upload: Upload) -> float:
        return self.finish_wait_seconds if _awaits_its_end(upload) else self.end_wait_seconds

    async def append_to_upload(
        self,
        principal: Principal,
        session: str,
        offset: int,
        arrival: Arrival,
        *,
        length: int | None = None,
    ) -> Upload:
        """Take bytes in at `offset`; `length` ends the deferring of a length, once."""
        with _counting(self._let_in, session, 1):
            upload = await self._own(principal, session)
            if length is not None:
                self._settle_length(upload, length)
            if upload.is_finished:
                return await _repeat_the_end(upload, offset, arrival.source)
            return await self._receive(principal, upload, offset, arrival, length)

    async def cancel_upload(self, principal: Principal, session: str) -> None:
        """Forget a session and its staged bytes; a blob it made stays with its pin."""
        await self._own(principal, session)
        await self._uploads.cancel(session)

    async def _own(self, principal: Principal, session: str) -> Upload:
        upload = await self._uploads.get(session)
        if upload.owner != principal.id:
            raise UploadNotFound(session)
        return upload

    async def _admit(self, principal: Principal, length: int | None) -> None:
        self._check_length(length or 0)
        sessions, staged = await self._uploads.count(principal.id)
        if 0 < self.limits.sessions <= sessions:
            raise LimitReached("limits.uploads_per_principal", self.limits.sessions)
        if 0 < self.limits.staged_bytes < staged + (length or 0):
            raise self._staged_limit_reached()

    def _settle_length(self, upload: Upload, length: int) -> None:
        if upload.length is not None and upload.length != length:
            raise Invalid("length", f"was {upload.length} before and cannot change")
        if length < upload.offset:
            raise Invalid("length", f"is below the {upload.offset} bytes already here")
        self._check_length(length)

    def _check_length(self, length: int) -> None:
        largest = self.limits.largest_upload
        if largest is not None and length > largest:
            raise BodyTooLarge(largest)

    async def _receive(
        self,
        principal: Principal,
        upload: Upload,
        offset: int,
        arrival: Arrival,
        length: int | None,
    ) -> Upload:
        end = upload.length if length is None else length
        declared = offset + (arrival.size_bytes or 0)
        if offset == upload.offset:  # else the answer is about the offset, which is worth more
            if end is not None and declared > end:
                raise UploadTooLarge(upload.id, end)
            self._check_length(declared)
        append = partial(
            self._uploads.append,
            upload.id,
            offset,
            checksum=arrival.checksum,
            length=length,
            record=_pinning(principal),
            stranger=principal.stranger,
            asked=upload.asked,
        )
        size_bytes = arrival.size_bytes
        if size_bytes is not None and await self._fits(upload.owner, size_bytes):
            with _counting(self._arriving, upload.owner, size_bytes):
                return await append(source=arrival.source)
        async with aclosing(self._limited(upload.owner, offset, arrival.source)) as source:
            return await append(source=source)

    async def _fits(self, owner: str, size_bytes: int) -> bool:
        """Whether all that is declared fits, so that nobody needs to count while it arrives."""
        return not self.limits.staged_bytes or size_bytes <= await self._room(owner)

    async def _limited(
        self, owner: str, offset: int, source: Source
    ) -> AsyncGenerator[bytes, None]:
        """Pass pieces on while they fit the limits; counts them as arriving until it is closed."""
        received = unlooked = 0
        try:
            async for piece in source:
                received += len(piece)
                self._arriving[owner] += len(piece)
                self._check_length(offset + received)
                unlooked -= len(piece)
                if self.limits.staged_bytes and unlooked < 0:
                    unlooked = min(LOOK_AGAIN_BYTES, await self._room(owner))
                    if unlooked < 0:
                        raise self._staged_limit_reached()
                yield piece
        finally:
            _uncount(self._arriving, owner, received)

    async def _room(self, owner: str) -> int:
        _, staged = await self._uploads.count(owner)
        return self.limits.staged_bytes - staged - self._arriving[owner]

    def _staged_limit_reached(self) -> LimitReached:
        return LimitReached("limits.staged_bytes_per_principal", self.limits.staged_bytes)

    async def _discard(self, session: str) -> None:
        try:
            await self._uploads.cancel(session)
        except UploadNotFound:
            return  # a wrong digest has already taken it away


@contextmanager
def _counting(counter: Counter[str], key: str, count: int) -> Iterator[None]:
    """Count something for as long as the block lasts; nothing is left of what is not counted."""
    counter[key] += count
    try:
        yield
    finally:
        _uncount(counter, key, count)


def _uncount(counter: Counter[str], key: str, count: int) -> None:
    counter[key] -= count
    if not counter[key]:
        del counter[key]


def _pinning(principal: Principal) -> Record[bool]:
    """The blob of a finished session becomes a pin of whoever sent it, where another one fits."""

    async def pin(tx: Tx, stored: StoredBlob) -> bool:
        return await pin_upload(tx, stored.digest, principal)

    return pin


def _awaits_its_end(upload: Upload) -> bool:
    return not upload.is_finished and upload.offset == upload.length


async def _repeat_the_end(upload: Upload, offset: int, source: Source) -> Upload:
    """Answer a retry after a lost answer: nothing more to send, at the end, is fine."""
    if offset != upload.offset:
        raise OffsetConflict(upload.id, expected=offset, actual=upload.offset)
    async for piece in source:
        if piece:
            raise UploadTooLarge(upload.id, upload.offset)
    return upload


async def _nothing() -> AsyncGenerator[bytes, None]:
    no_pieces: tuple[bytes, ...] = ()
    for piece in no_pieces:
        yield piece
