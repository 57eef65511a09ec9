"""What every way into the store looks like to its user, and the few words in which it refuses.

A door is used by `tests.contracts.doors`; `direct_store` opens one in process, `http_store` one
over a real socket. Neither knows the other, and each turns what it meets into the errors below.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol, cast

import msgspec

from store.batches import Source
from store.digest import Digest
from store.index.database import Database
from store.opening import Store
from store.uploads import Checksum
from tests.contracts.index import Twice


class Refused(Exception):
    """Root of what a door says instead of doing what it was asked."""


class NotFound(Refused):
    """No such blob, no such session, or one that the caller may not know of."""


class Mismatch(Refused):
    """The bytes have another digest than declared."""

    def __init__(self, actual: Digest) -> None:
        self.actual = actual
        super().__init__(str(actual))


class WrongSize(Refused):
    """More or fewer bytes than declared."""


class TooLarge(Refused):
    """More bytes than the limit, or than the session declared."""


class OutsideRange(Refused):
    """The part asked for has no byte of the blob."""


class Damaged(Refused):
    """The stored bytes are not what they were."""


class Interrupted(Refused):
    """One of both sides stopped in the middle; nothing was acknowledged."""


class Unavailable(Refused):
    """Not now; worth repeating as it is."""


class OffsetConflict(Refused):
    """The session stands elsewhere."""

    def __init__(self, actual: int) -> None:
        self.actual = actual
        super().__init__(str(actual))


class Taken(Refused):
    """A newer request writes to the session."""


class Finished(Refused):
    """The session has its blob already."""


class Expired(Refused):
    """The session's time is over."""


class WrongChecksum(Refused):
    """The bytes of this append do not match their checksum."""


class Part(msgspec.Struct, frozen=True):
    """Bytes from `first` to `last`, both included; without `first` the last `last` bytes."""

    first: int | None = None
    last: int | None = None


class Pin(msgspec.Struct, frozen=True):
    """What the caller keeps: ``pin`` made by an upload, ``kept`` by name."""

    kind: str
    digest: Digest
    size: int | None


class Session(msgspec.Struct, frozen=True):
    """An upload session; `digest` is there once it is finished."""

    id: str
    offset: int
    digest: Digest | None


class Door(Protocol):
    """One way into one store, for one caller. Everything raises `Refused` of some kind."""

    store: Store

    async def put(
        self, source: Source, *, expected: Digest | None = None, size: int | None = None
    ) -> Digest:
        """Store what `source` gives; it may raise, and the call may be cancelled."""
        ...

    async def offer(self, content: bytes) -> bool:
        """Store bytes whose digest is told first; say whether they had to travel."""
        ...

    async def read(self, digest: Digest, part: Part | None = None) -> bytes: ...

    def open(self, digest: Digest) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """The pieces of a blob, taken at the reader's pace."""
        ...

    async def size(self, digest: Digest) -> int: ...

    async def missing(self, digests: Sequence[Digest]) -> list[Digest]:
        """Which of many must be sent; the others are leased to the caller for a while."""
        ...

    async def keep(self, digest: Digest) -> None:
        """Pin by name."""
        ...

    async def release(self, digest: Digest) -> None:
        """Give up all pins of the caller."""
        ...

    def pages(self, limit: int) -> AsyncIterator[list[Pin]]:
        """The caller's pins, page by page; the next page is asked for when it is wanted."""
        ...

    async def begin(self, length: int | None, *, expected: Digest | None = None) -> str: ...

    async def append(
        self,
        session: str,
        offset: int,
        source: Source,
        *,
        checksum: Checksum | None = None,
        length: int | None = None,
    ) -> Session: ...

    async def session(self, session: str) -> Session: ...

    async def cancel(self, session: str) -> None: ...

    async def settle(self) -> None:
        """Return once nothing is under way any more behind this door."""
        ...


def beside(store: Store, index: Database | None = None) -> Store:
    """Another worker on the same store: it shares the bytes and the index, and remembers nothing.

    Close it with `close_beside`, before the store whose parts it borrows.
    """
    return Store(
        store.settings,
        store.blobs,
        index or store.index,
        store.threads,
        clock=store.clock,
        store_id=store.store_id,
    )


async def close_beside(store: Store) -> None:
    await store.ingest.close()
    await store.reading.close()


def doubled(store: Store) -> Store:
    """The same store with every unit of work run twice, the first time rolled back."""
    return beside(store, cast(Database, Twice(store.index)))
