"""What a blob store must do, in few verbs, and what it may additionally offer.

A blob store moves bytes and decides nothing.
Hashing, verification, references and limits are the business of the modules above it.

**Visibility.** A file in a blob store is not yet a blob: visible means a committed ``present`` row
in the index. A store *must* therefore tolerate files that no row names, and callers *must not* show
a blob because `BlobStore.stat` found it.

**Durability.** Every call that changes something has reached the disk when it returns, except
`StagedWriter.append`, whose bytes are durable only after `StagedWriter.sync`.

**Repetition.** Every call may be repeated after a crash or a lost answer: `StagedWriter.promote`,
`set_aside`, `put_back`, `discard_aside` and `StagedWriter.discard` succeed again.

**Equal digests.** Two writers may promote the same digest at once; the later one replaces the
earlier one's file with equal bytes, and a reader that already opened either keeps what it opened.

**Closing.** Whoever gets a `StagedWriter` closes it; an iterator from `BlobStore.open` closes its
source when it is exhausted or closed.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import msgspec

from store.digest import Digest

CHUNK_BYTES = 1 << 20
"""How many bytes `BlobStore.open` yields at a time, the last piece excepted."""


class ByteRange(msgspec.Struct, frozen=True):
    """Bytes ``start`` up to but excluding ``stop`` of a blob; both lie inside it."""

    start: int
    stop: int

    @property
    def size_bytes(self) -> int:
        return self.stop - self.start


class BlobInfo(msgspec.Struct, frozen=True):
    """What a store knows of one stored file: its digest, its size, when it was last written."""

    digest: Digest
    size_bytes: int
    modified_at: int
    """Microseconds since the epoch, by the store's clock."""


class AsideInfo(msgspec.Struct, frozen=True):
    """A file in quarantine."""

    digest: Digest
    generation: int
    size_bytes: int


class StagedInfo(msgspec.Struct, frozen=True):
    """A staging file, whoever writes it."""

    session: str
    size_bytes: int
    modified_at: int


class Traits(msgspec.Struct, frozen=True):
    """Facts in which backends differ, stated instead of asked."""

    name: str
    survives_restart: bool
    shared_between_processes: bool


class StagedWriter(Protocol):
    """Bytes on their way to a blob; invisible until promoted and recorded in the index."""

    session: str

    @property
    def size_bytes(self) -> int:
        """How many bytes are staged, durable or not."""
        ...

    def append_blocking(
        self,
        offset: int,
        pieces: Sequence[bytes | memoryview],
        fence: Callable[[], None] | None = None,
    ) -> int:
        """Append `pieces` at `offset`, which must be the present end; return the new end.

        Runs in a worker thread, so that a batch is hashed and written in one hop. `fence` runs once
        the file is locked and before anything is written, and may refuse by raising.
        Raises `OffsetConflict` if the end is elsewhere, `UploadLocked` if another writer does not
        let go within two seconds, `StorageFull` if there is no room; a short write is cut back, so
        the file holds whole batches only.
        """
        ...

    def hold(self, pieces: Sequence[bytes]) -> None:
        """Keep the whole of a small body in memory until `sync` or `promote` writes it as well.

        So one hop to a thread does for it what else takes three. Until then nothing is staged.
        """
        ...

    async def truncate(self, size_bytes: int, fence: Callable[[], None] | None = None) -> None:
        """Cut back to `size_bytes` if there are more, durably; `fence` as in `append_blocking`."""
        ...

    async def sync_name(self) -> None:
        """Make the staging name durable, for a session that must outlive a crash of the host."""
        ...

    async def sync(self) -> int:
        """Make what was appended durable; return the durable size."""
        ...

    async def sync_locked(self, fence: Callable[[], None]) -> int:
        """`sync` with a reopened file locked, once `fence` has not refused as in `append_blocking`.

        If the sync fails the file stays locked until `unlock`: whoever takes it over must not see
        bytes that look as if they were there before they are cut off. Raises `UploadLocked`.
        """
        ...

    async def unlock(self) -> None:
        """Let go of what a `sync_locked` that failed has kept locked; nothing to do is no error."""
        ...

    async def promote(self, digest: Digest, stranger: str | None = None) -> bool:
        """Give the bytes, which `sync` made durable or `hold` keeps, their blob name, durably.

        Says whether a file was replaced.

        The staged bytes stay until `discard`, so this can be repeated. May be slow. How long it
        takes tells a `stranger` nothing of what was stored for others.
        """
        ...

    async def imitate(self, digest: Digest, size_bytes: int, stranger: str) -> bool:
        """Where the blob's file is there with that size: do what `promote` would if it were not.

        The same calls, to a name that goes with the staging name; the file is not touched. False
        if it is not there, or not whole; then it is to be promoted.
        """
        ...

    def read_blocking(self, offset: int, size_bytes: int) -> bytes:
        """Read staged bytes back; used to continue a hash that another worker began."""
        ...

    async def discard(self) -> None:
        """Remove the staging name. The blob, if promoted, is not touched. Closes too."""
        ...

    def discard_blocking(self) -> None:
        """`discard`, for whoever has several to remove in one hop to a thread."""
        ...

    async def close(self) -> None:
        """Release the descriptor and the lock; what is staged stays."""
        ...


class Promotion(msgspec.Struct, frozen=True):
    """A staged blob that is to have its name, unless a file of that size has it already."""

    writer: StagedWriter
    digest: Digest
    known_bytes: int | None = None


class BlobStore(Protocol):
    """Stored bytes by digest. See the module docstring for the rules that all calls share."""

    traits: Traits

    async def stat(self, digest: Digest) -> BlobInfo:
        """Size and time of a stored file; raises `BlobNotFound`."""
        ...

    def open(self, digest: Digest, within: ByteRange | None = None) -> AsyncGenerator[bytes, None]:
        """Stream a file or a part of it; raises `BlobNotFound` before the first piece.

        A file shorter than the range promises raises `Corrupt`.
        """
        ...

    def list(self) -> AsyncIterator[Sequence[BlobInfo]]:
        """Every stored file once, in order of digest, as many at a time as are found together.

        Never a staging or quarantine name.
        """
        ...

    async def stage(self, session: str) -> StagedWriter:
        """Begin a staging file that must not exist yet, and lock it."""
        ...

    async def promote_all(
        self, wanted: Sequence[Promotion], stranger: str | None = None
    ) -> Sequence[bool]:
        """`promote` each, or `imitate` it where a size is known, and sync once for all of them.

        For many small blobs that `hold` keeps. Says of each whether its blob's file is there now;
        where it is not, an expected file was missing or not whole, and nothing was done.
        """
        ...

    async def reopen(self, session: str) -> StagedWriter:
        """Open a staging file that any process began; raises `UploadNotFound`.

        The lock is not taken: appends take it batch by batch where writers may compete.
        """
        ...

    async def seize(self, session: str) -> StagedWriter | None:
        """Open a staging file that nobody writes and keep writers out until it is closed.

        None if it is gone, or if somebody writes: who began it and has not closed it yet, who
        appends a batch, or who promotes it. So what nobody names and can be seized, nobody needs.
        """
        ...

    def list_staged(self) -> AsyncIterator[StagedInfo]:
        """Every staging file."""
        ...

    async def set_aside(self, digest: Digest, generation: int) -> bool:
        """Move a stored file to quarantine; say whether there was one to move."""
        ...

    async def put_back(self, digest: Digest, generation: int) -> None:
        """Move a quarantined file back to its name; raises `BlobNotFound` if neither exists."""
        ...

    async def secure(self, digest: Digest) -> None:
        """Make a stored file and its name durable, whoever put it there; raises `BlobNotFound`.

        For files whose maker may have died before its syncs.
        """
        ...

    async def secure_all(self) -> None:
        """`secure` for every file that is there now; for those who have many."""
        ...

    async def remove(self, digest: Digest) -> None:
        """Remove a stored file whose bytes the archive has; nothing to remove is no error.

        Only `store.archive` may, whose row keeps everybody else from putting one there meanwhile.
        """
        ...

    async def discard_aside(self, digest: Digest, generation: int) -> None:
        """Remove a quarantined file for good; nothing to remove is no error."""
        ...

    def list_aside(self) -> AsyncIterator[AsideInfo]:
        """Every quarantined file."""
        ...

    def read_blocking(self, digest: Digest, offset: int, size_bytes: int) -> bytes:
        """Read a part in a worker thread; raises `BlobNotFound`; short at the end of the file."""
        ...

    def read_into_blocking(self, digest: Digest, into: memoryview, offset: int) -> int:
        """As `read_blocking`, into memory that is there already; how many bytes there were."""
        ...

    async def read_segments(self, digest: Digest) -> bytes | None:
        """The derived segments file of a blob as written, or None; its content is not trusted."""
        ...

    async def write_segments(self, digest: Digest, content: bytes) -> None:
        """Replace the derived segments file; atomic, but not synced: it can be rebuilt."""
        ...

    async def discard_segments(self, digest: Digest) -> None:
        """Forget the derived segments file."""
        ...

    async def free_bytes(self) -> tuple[int, int]:
        """Free and total bytes of the medium; ``(2**63, 2**63)`` where there is no bound."""
        ...

    async def close(self) -> None:
        """Release what the store holds open."""
        ...


@runtime_checkable
class SupportsLocalPath(Protocol):
    """A store whose blobs are plain files, so that the kernel can send them by itself."""

    def path_of(self, digest: Digest) -> Path:
        """Where the file of a blob is; no promise that it exists."""
        ...
