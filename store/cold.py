"""The cold tier: what it must do, and the one way in which the rest of the store reads from it.

A `ColdStore` moves bytes, as a `store.blobs.BlobStore` does, and decides nothing. Its files are
named by a digest and a **number** that never repeats, so a file is written once, by one writer, and
nobody else's file ever takes its name. Which of them has a blob's bytes says the blob's row.

**Not there, or not readable.** The archive may be a disk that is not mounted today. So a file that
is not found is missing only if the archive's marker is found, with the id that the index knows;
anything else is `ArchiveUnavailable`, which convicts nothing. `Cold` is where this is told apart.

**Closing.** Whoever gets a `ColdFile` or a `ColdWriter` closes it; writers close by `discard`,
too.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Final, Protocol, TypeAlias

import msgspec

from store.digest import Digest
from store.errors import ArchiveUnavailable, BlobNotFound, Unavailable
from store.frames import FRAME_BYTES
from store.index import state
from store.index.archived import is_archive_used
from store.index.transactions import Index, Tx
from store.threads import Threads, hop

ARCHIVE_ID: Final = "archive_id"
"""Key of the store's state that says which archive is this store's."""

FORMAT: Final = "digestry-archive-1"


Pace: TypeAlias = Callable[[int], Awaitable[None]]
"""Told of each piece that was read; waits to keep a rate."""


async def at_once(_: int) -> None:
    """A pace that keeps no rate."""


class ColdMarker(msgspec.Struct, frozen=True):
    """What ``archive.json`` says: whose archive this is, and which of theirs."""

    format: str
    store_id: str
    archive_id: str


class ColdInfo(msgspec.Struct, frozen=True):
    """A file of the archive as a listing finds it."""

    digest: Digest
    number: int
    stored_bytes: int
    modified_at: int


class ColdFile(Protocol):
    """An open file of the archive. Every call is blocking."""

    digest: Digest
    size_bytes: int
    stored_bytes: int

    def read_into(self, view: memoryview, offset: int) -> int:
        """Fill `view` with plain bytes from an offset; return how many there were.

        Fewer than there should be are damage: so ends what cannot be decompressed.
        """
        ...

    def forget_pages(self) -> None:
        """Let what is read next come from the disk, where that is something else."""
        ...

    def close(self) -> None: ...


class ColdWriter(Protocol):
    """A file of the archive on its way; nobody finds it before `promote`. Calls are blocking."""

    def append(self, piece: bytes) -> None:
        """The next piece, of `store.frames.FRAME_BYTES` unless it is the last."""
        ...

    def finish(self) -> int:
        """End the file and make it durable; return how many bytes it takes."""
        ...

    def reread(self) -> ColdFile:
        """What was written, from the disk. The caller closes it."""
        ...

    def promote(self) -> None:
        """Give the finished file its name, durably."""
        ...

    def discard(self) -> None:
        """Remove what has no name yet, and release what is held. Repeating it does nothing."""
        ...


class ColdStore(Protocol):
    """Compressed bytes by digest and number. Every call is blocking and may be repeated."""

    is_own_place: bool
    """Whether nobody but this store could have put files here: inside its own directory."""

    where: str
    """What people call the place."""

    def marker(self) -> ColdMarker | None:
        """Whose archive it is; None if there is none, or it cannot be reached."""
        ...

    def prepare(self, marker: ColdMarker) -> None:
        """Make an archive where there is none. Raises `ArchiveUnavailable` if that cannot be."""
        ...

    def open(self, digest: Digest, number: int) -> ColdFile:
        """Open a file; raises `BlobNotFound` if it is not found, for whatever reason.

        One that is not a file of the archive as `store.frames` reads it has size -1.
        """
        ...

    def begin(self, digest: Digest, number: int, size_bytes: int) -> ColdWriter:
        """Begin a file, replacing what an earlier try to write this one left."""
        ...

    def remove(self, digest: Digest, number: int) -> None:
        """Remove a file, finished or not; nothing to remove is no error."""
        ...

    def files_of(self, digest: Digest) -> list[ColdInfo]:
        """Every file there is of a digest's bytes."""
        ...

    def all_files(self) -> Iterator[ColdInfo]:
        """Every file that has its name, in order."""
        ...

    def free_bytes(self) -> tuple[int, int]:
        """Free and total bytes of the medium."""
        ...


class Cold:
    """The archive of one store: knows which one it is, and tells missing from unreachable."""

    def __init__(self, files: ColdStore, index: Index, threads: Threads, store_id: str) -> None:
        self.files = files
        self._index = index
        self._threads = threads
        self._store_id = store_id

    async def open(self, digest: Digest, number: int) -> ColdFile:
        """Open a file. Raises `BlobNotFound` if the archive has lost it, `ArchiveUnavailable`."""
        try:
            return await hop(self._threads.files, self.files.open, digest, number)
        except BlobNotFound:
            await self.require()
            raise

    async def has(self, digest: Digest, number: int, size_bytes: int) -> bool:
        """Whether a file is there and says that it holds so many bytes.

        Raises `ArchiveUnavailable`.
        """
        try:
            file = await self.open(digest, number)
        except BlobNotFound:
            return False
        await hop(self._threads.files, file.close)
        return file.size_bytes == size_bytes

    async def has_lost(self, digest: Digest, number: int, size_bytes: int) -> bool:
        """Whether the archive can be read and has no such file of that size."""
        try:
            return not await self.has(digest, number, size_bytes)
        except Unavailable:
            return False

    async def is_there(self) -> bool:
        """Whether there is an archive at all, anybody's."""
        return await hop(self._threads.files, self.files.marker) is not None

    async def require(self) -> None:
        """Raise `ArchiveUnavailable`, with the way out, unless the archive is there and ours."""
        problem = await self.problem()
        if problem is not None:
            raise ArchiveUnavailable(problem)

    async def problem(self) -> str | None:
        """Why the archive cannot be read, in words that say what to do; None if it can.

        Readers are told too, so no path is named.
        """
        expected = await self._index.look(partial(state.get_state, key=ARCHIVE_ID))
        marker = await hop(self._threads.files, self.files.marker)
        if marker is None:
            return (
                "it is not where it should be; mount the disk that has it, or set store.archive to "
                "the directory where it is"
            )
        if marker.store_id != self._store_id:
            return "the one at its place is of another store; set store.archive to where ours is"
        if expected is None:
            return (
                f"the one at its place, {marker.archive_id}, is of this store, but the index does "
                "not know of it; say so with digestry archive adopt, or set store.archive to an "
                "empty directory"
            )
        if marker.archive_id != expected:
            return (
                f"the one at its place is {marker.archive_id}, and this store's is {expected}; set "
                "store.archive to where that is"
            )
        return None

    async def prepare(self) -> None:
        """Make sure of an archive to write to; makes one where the store has none.

        Raises `ArchiveUnavailable`: a store whose blobs lie in an archive gets no second one.
        """
        marker = await hop(self._threads.files, self.files.marker)
        expected, is_used = await self._index.read(_standing)
        if marker is not None and expected is None and self.files.is_own_place:
            await self.adopt()
        elif marker is None and not is_used:
            # Known before it is made, so that what a crash leaves is not taken for a foreign one.
            agreed = await self._index.run(partial(_agree, fresh=f"arc_{secrets.token_hex(12)}"))
            made = ColdMarker(FORMAT, self._store_id, agreed)
            await hop(self._threads.sync, self.files.prepare, made)
        await self.require()

    async def adopt(self) -> ColdMarker:
        """Take the archive that is there for this store's; raises `ArchiveUnavailable`.

        For an index that was lost or restored and knows of none, or of another one. Nobody else
        may use that archive from then on.
        """
        marker = await hop(self._threads.files, self.files.marker)
        if marker is None or marker.store_id != self._store_id:
            await self.require()
        assert marker is not None
        await self._index.run(partial(state.put_state, key=ARCHIVE_ID, value=marker.archive_id))
        return marker


async def hash_cold(threads: Threads, file: ColdFile, pace: Pace = at_once) -> Digest:
    """What the plain bytes of an open file hash to."""
    running = hashlib.sha256()
    done = 0
    while done < file.size_bytes:
        piece = await hop(threads.reading, _hash_piece, file, done, running)
        if not piece:
            break
        done += piece
        await pace(piece)
    return Digest(running.hexdigest())


def read_piece(file: ColdFile, at: int) -> bytes:
    """The plain bytes of one frame, short if they cannot be had; blocking."""
    buffer = bytearray(min(FRAME_BYTES, file.size_bytes - at))
    return bytes(buffer[: file.read_into(memoryview(buffer), at)])


def _hash_piece(file: ColdFile, at: int, running: hashlib._Hash) -> int:
    piece = read_piece(file, at)
    running.update(piece)
    return len(piece)


async def _agree(tx: Tx, fresh: str) -> str:
    """The id of the store's archive; two who make it at once make the same."""
    known = await state.get_state(tx, ARCHIVE_ID)
    if known is None:
        await state.put_state(tx, ARCHIVE_ID, fresh)
    return known or fresh


async def _standing(tx: Tx) -> tuple[str | None, bool]:
    return await state.get_state(tx, ARCHIVE_ID), await is_archive_used(tx)
