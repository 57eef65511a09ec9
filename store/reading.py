"""Give out stored bytes, verified segment by segment before they leave.

**When a segment is verified.** In mode ``boot`` every segment is compared with its BLAKE3 before
it leaves, unless it was since the machine booted and within the last ``again_seconds``: by this
process (a bitmap per blob), or as a whole by whoever wrote the row. Verifying cached pages proves
what leaves, not what the disk holds: that is the business of `store.scrub`.
In ``strict`` the very buffer that is handed out is verified, each time, so no descriptor is given
to the kernel. In ``scrub`` nothing is verified here.

**Damage.** A segment that does not match, a file that is missing or has another size: the blob is
*suspect*, the reader gets `Corrupt` at once, and `Reading.on_suspect` is told in the background.
Only SHA-256 convicts, and only `store.scrub` computes it for that purpose.

**Cold blobs** have no descriptor: they are decompressed segment by segment, in threads, and each
segment is verified in the very buffer that is handed out, as in ``strict``, since it must not be
decompressed twice. An archive that cannot be reached is `ArchiveUnavailable`, not damage.

**Closing.** Whoever gets an `OpenBlob` closes it, best with ``async with``.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from functools import partial
from types import TracebackType
from typing import Final, Literal, ParamSpec, TypeAlias, TypeVar

from store.blobs import BlobStore, SupportsLocalPath
from store.clock import SECOND, Clock, boot_id, system_clock
from store.cold import Cold, ColdFile
from store.descriptors import Descriptor, Descriptors, Key, WrongSize
from store.digest import Digest
from store.durable import translated
from store.errors import BlobNotFound, Corrupt, StoreError, Unavailable
from store.index.blobs import BlobRow, find_blob, set_verified
from store.index.transactions import Index, Tx
from store.remembered import Known, KnownBlobs, Rounds, SmallBlobs
from store.segments import (
    SEGMENT_BYTES,
    SegmentHasher,
    Segments,
    decode,
    from_row,
    segment_count,
)
from store.threads import Threads, hop

P = ParamSpec("P")
T = TypeVar("T")

Mode: TypeAlias = Literal["boot", "strict", "scrub"]
Suspect: TypeAlias = Callable[[Digest], Awaitable[object]]

SMALL_BYTES: Final = 64 << 10
"""Blobs up to this size are read at once and kept in memory while they are in demand."""

OPEN_TRIES: Final = 3
"""A blob that changes places between two looks is looked for again, so many times."""

_SCRATCH: Final = threading.local()

_log = logging.getLogger(__name__)


class _Elsewhere(Exception):
    """The file is not where the row said, because another row says otherwise by now."""

    def __init__(self, row: BlobRow) -> None:
        self.row = row


class OpenBlob:
    """A readable blob, ready to be read. Offsets are of the whole blob, ``stop`` is exclusive."""

    __slots__ = ("_cold", "_descriptor", "_known", "_reading", "content", "row")

    def __init__(
        self,
        reading: Reading,
        row: BlobRow,
        known: Known,
        *,
        content: bytes | None = None,
        descriptor: Descriptor | None = None,
        cold: ColdFile | None = None,
    ) -> None:
        self._reading = reading
        self._known = known
        self._descriptor = descriptor
        self._cold = cold
        self.row = row
        self.content = content
        """All bytes of a small blob, verified as the mode says; None for a larger one."""

    @property
    def size_bytes(self) -> int:
        return self.row.size_bytes

    @property
    def fileno(self) -> int | None:
        """A descriptor for the kernel to send from, after `verify`; None: use `read`."""
        if self._descriptor is None or self._reading.mode == "strict":
            return None
        return self._descriptor.fileno

    def is_verified(self, start: int, stop: int) -> bool:
        """Whether `verify` would have nothing to do, so that a caller can spare the wait."""
        if self._known.is_whole or self._reading.mode == "scrub":
            return True
        good = self._known.good
        last = (max(stop, start + 1) - 1) // SEGMENT_BYTES
        return all(good[index] for index in range(start // SEGMENT_BYTES, last + 1))

    def verified_until(self, start: int, stop: int) -> int:
        """How far from `start`, at most to `stop`, `verify` would have nothing to do."""
        if self._known.is_whole or self._reading.mode == "scrub":
            return stop
        first = start // SEGMENT_BYTES
        unknown = self._known.good.find(0, first, segment_count(stop))
        return stop if unknown < 0 else max(start, unknown * SEGMENT_BYTES)

    async def verify(self, start: int, stop: int) -> None:
        """Return once every segment that the range touches is known to be good, or `Corrupt`."""
        if not self.is_verified(start, stop):
            await self._reading._verify(self, start, stop)

    async def read(self, start: int, stop: int) -> bytes:
        """The bytes of a range of at most a few segments, verified; raises `Corrupt`."""
        if self.content is not None:
            return self.content[start:stop]
        return await self._reading._read(self, start, stop)

    def at_hand(self, start: int, stop: int) -> bytes | bytearray | None:
        """What `read` would give, if no wait is needed for it; else None."""
        if self.content is not None:
            return self.content[start:stop]
        fileno = self.fileno
        if fileno is None or not self.is_verified(start, stop):
            return None
        if not self._reading.can_probe:
            content = os.pread(fileno, stop - start, start)
            return content if len(content) == stop - start else None
        buffer = bytearray(stop - start)
        try:
            count = os.preadv(fileno, [buffer], start, os.RWF_NOWAIT)
        except BlockingIOError:
            return None
        except OSError:
            self._reading.can_probe = False  # as in `_is_cached`
            return None
        return buffer if count == stop - start else None

    async def stream(self, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """The bytes of a range in pieces that end where segments end; raises `Corrupt`."""
        while start < stop:
            end = min(stop, (start // SEGMENT_BYTES + 1) * SEGMENT_BYTES)
            yield await self.read(start, end)
            start = end

    def is_ready(self, start: int, stop: int) -> bool:
        """Whether `make_ready` would have nothing to do, so that a caller can spare the wait."""
        return self.is_verified(start, stop) and self._is_cached(start, stop)

    async def make_ready(self, start: int, stop: int) -> None:
        """Verify a part and bring it into the page cache, so that sending it reads no disk.

        Sending what is not there would hold the event loop until the disk has answered.
        """
        await self.verify(start, stop)
        if not self._is_cached(start, stop):
            await hop(self._reading.threads.reading, self._warm_blocking, start, stop)

    def damaged(self) -> Corrupt:
        """The error for a reader who found the file shorter than it was; has the blob checked."""
        return self._reading._suspect(self.row)

    def _is_cached(self, start: int, stop: int) -> bool:
        """Whether the ends of a part are in the page cache, as far as the kernel tells."""
        if self._descriptor is None or not self._reading.can_probe:
            return True
        try:
            for offset in (start, stop - 1):
                os.preadv(self._descriptor.fileno, [bytearray(1)], offset, os.RWF_NOWAIT)
        except BlockingIOError:
            return False
        except OSError:
            # The file system does not answer the question; memory file systems do not need to.
            self._reading.can_probe = False
        return True

    def _warm_blocking(self, start: int, stop: int) -> None:
        view = memoryview(_scratch())
        while start < stop:
            end = min(stop, start + SEGMENT_BYTES)
            if not self._pread_blocking(view[: end - start], start):
                return
            start = end

    def close(self) -> None:
        """Give the descriptor back. Repeating it does nothing."""
        if self._descriptor is not None:
            self._reading.descriptors.give_back(self._descriptor)
            self._descriptor = None
        if self._cold is not None:
            self._reading._close_later(self._cold)
            self._cold = None

    async def __aenter__(self) -> OpenBlob:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _pread_blocking(self, into: memoryview, offset: int) -> int:
        """Fill `into` from `offset`; return how many bytes there were."""
        if self._cold is not None:
            return self._cold.read_into(into, offset)
        if self._descriptor is None:
            return self._reading.blobs.read_into_blocking(self.row.digest, into, offset)
        filled = 0
        while filled < len(into):
            with translated("reading a blob"):
                count = os.preadv(self._descriptor.fileno, [into[filled:]], offset + filled)
            if not count:
                break
            filled += count
        return filled


class Reading:
    """Opens blobs for readers. One for each process; close it before the store it reads from."""

    def __init__(
        self,
        blobs: BlobStore,
        cold: Cold,
        index: Index,
        threads: Threads,
        *,
        clock: Clock = system_clock,
        mode: Mode = "boot",
        again_seconds: int = 7 * 86400,
        on_suspect: Suspect | None = None,
    ) -> None:
        self.blobs = blobs
        self._local = blobs if isinstance(blobs, SupportsLocalPath) else None
        self.cold = cold
        self.index = index
        self.threads = threads
        self.mode: Mode = mode
        self.can_probe = hasattr(os, "RWF_NOWAIT")
        self.on_suspect = on_suspect
        """Told of a blob whose bytes look wrong or are missing; assigned by who assembles."""
        self._clock = clock
        self._again = again_seconds * SECOND
        self._boot = boot_id()
        self._small = SmallBlobs()
        self._known = KnownBlobs()
        self._rounds = Rounds(self._small, self._known)
        self.descriptors = Descriptors(threads)
        self._background: set[asyncio.Future[object]] = set()
        self._checking: set[Digest] = set()

    def small(self, row: BlobRow) -> bytes | None:
        """The bytes of a small blob if they are in memory, without waiting."""
        return self._small.get((row.digest, row.generation))

    async def open(self, row: BlobRow) -> OpenBlob:
        """Open the blob of a readable row, or of the row that took its place meanwhile.

        Raises `BlobNotFound` if the blob went away since the row was read, `Corrupt` if the row
        still promises it but the file is missing, has another size or (a small blob) other bytes,
        `ArchiveUnavailable` if it is cold and the archive is not to be had.
        """
        for _ in range(OPEN_TRIES):
            try:
                return await self._open(row)
            except _Elsewhere as elsewhere:
                row = elsewhere.row
        raise Unavailable("reading a blob that was replaced meanwhile")

    async def _open(self, row: BlobRow) -> OpenBlob:
        if row.size_bytes <= SMALL_BYTES:
            known = Known(0, is_whole=True, since=0)
            return OpenBlob(
                self, row, known, content=self.small(row) or await self._load_small(row)
            )
        known = self._know(row)
        if row.archived is not None:
            return OpenBlob(self, row, known, cold=await self._open_cold(row, row.archived))
        if self._local is not None:
            descriptor = await self._open_descriptor(self._local, row)
            return OpenBlob(self, row, known, descriptor=descriptor)
        await self._check_size(row)
        return OpenBlob(self, row, known)

    def forget(self, digest: Digest) -> None:
        """Drop what is remembered of a blob: it was found damaged, or moved away."""
        self._small.forget(digest)
        self._known.forget(digest)
        self.descriptors.forget(digest)

    async def settle(self) -> None:
        """Wait for what runs in the background: checks of suspects, descriptors being closed."""
        while self._background:
            await asyncio.wait(list(self._background))
        await self.descriptors.settle()

    async def close(self) -> None:
        """Close every idle descriptor and wait for the background."""
        await self.settle()
        await self.descriptors.close()

    # Small blobs.

    async def _load_small(self, row: BlobRow) -> bytes:
        size = row.size_bytes
        if row.archived is not None:
            content = await self._load_small_cold(row, row.archived)
            return self._keep_small(row, content)
        try:
            # One byte more than there should be, so that a file that grew is found too.
            content = await hop(
                self.threads.reading, self.blobs.read_blocking, row.digest, 0, size + 1
            )
        except BlobNotFound:
            raise await self._missing(row) from None
        return self._keep_small(row, content)

    async def _load_small_cold(self, row: BlobRow, number: int) -> bytes:
        file = await self._open_cold(row, number)
        buffer = bytearray(row.size_bytes)
        try:
            got = await hop(self.threads.reading, file.read_into, memoryview(buffer), 0)
        finally:
            self._close_later(file)
        return bytes(buffer[:got])

    def _keep_small(self, row: BlobRow, content: bytes) -> bytes:
        if self.mode != "scrub" and not _is_small_intact(row, content):
            raise self._suspect(row)
        if len(content) != row.size_bytes:
            raise self._suspect(row)
        self._small.keep((row.digest, row.generation), content)
        self._go_round()
        return content

    # What is remembered of blobs that are gone.

    def _go_round(self) -> None:
        asked = self._rounds.came()
        if asked:
            self._in_background(self._drop_gone(asked))

    async def _drop_gone(self, asked: Sequence[Key]) -> None:
        try:
            self._rounds.drop(await self.index.read(partial(_gone, asked=asked)))
        except StoreError as error:
            # Nothing depends on it; the round comes by again.
            _log.warning("could not ask which blobs are gone: %s", error)

    # Large blobs.

    async def _open_descriptor(self, blobs: SupportsLocalPath, row: BlobRow) -> Descriptor:
        key = (row.digest, row.generation)
        try:
            return await self.descriptors.take(key, blobs.path_of, row.size_bytes)
        except FileNotFoundError:
            raise await self._missing(row) from None
        except WrongSize:
            raise self._suspect(row) from None

    async def _open_cold(self, row: BlobRow, number: int) -> ColdFile:
        try:
            file = await self.cold.open(row.digest, number)
        except BlobNotFound:
            raise await self._missing(row) from None
        if file.size_bytes != row.size_bytes:
            self._close_later(file)
            raise self._suspect(row)
        return file

    def _close_later(self, file: ColdFile) -> None:
        self._in_background(hop(self.threads.files, file.close))

    async def _check_size(self, row: BlobRow) -> None:
        """What opening a descriptor finds out, for stores that have none to open."""
        try:
            info = await self.blobs.stat(row.digest)
        except BlobNotFound:
            raise await self._missing(row) from None
        if info.size_bytes != row.size_bytes:
            raise self._suspect(row)

    def _in_background(self, work: Awaitable[object]) -> None:
        future = asyncio.ensure_future(work)
        self._background.add(future)
        future.add_done_callback(self._background.discard)

    # Verification.

    def _know(self, row: BlobRow) -> Known:
        key = (row.digest, row.generation)
        now = self._clock()
        remembered = self._known.get(key, after=now - self._again)
        if remembered is not None:
            return remembered
        is_whole = (
            row.verified_at is not None
            and row.verified_boot == self._boot
            and now - row.verified_at < self._again
        )
        since = row.verified_at if is_whole and row.verified_at is not None else now
        known = Known(row.size_bytes, is_whole=is_whole, since=since)
        self._known.keep(key, known)
        self._go_round()
        return known

    async def _verify(self, blob: OpenBlob, start: int, stop: int) -> None:
        known = blob._known
        segments = await self._segments(blob)
        if known.is_whole:
            return
        first, last = start // SEGMENT_BYTES, (stop - 1) // SEGMENT_BYTES
        unknown = [index for index in range(first, last + 1) if not known.good[index]]
        is_good = await self._hop(blob, _check_blocking, blob, segments, unknown)
        if not is_good:
            raise self._suspect(blob.row)
        for index in unknown:
            known.mark(index)
        if known.is_whole:
            self._known.resized(known)
            self._in_background(self._remember(blob.row, segments))

    async def _read(self, blob: OpenBlob, start: int, stop: int) -> bytes:
        if self.mode == "scrub" or (self.mode == "boot" and not blob.row.is_cold):
            await blob.verify(start, stop)
            content = await self._hop(blob, _read_blocking, blob, start, stop)
            if len(content) != stop - start:
                raise self._suspect(blob.row)
            return content
        segments = await self._segments(blob)
        buffer = await self._hop(blob, _read_checked_blocking, blob, segments, start, stop)
        if buffer is None:
            raise self._suspect(blob.row)
        return buffer

    async def _segments(self, blob: OpenBlob) -> Segments:
        """The digests to verify with: from the row, from the segments file, or made anew."""
        known = blob._known
        if known.segments is not None:
            return known.segments
        async with known.lock:
            if known.segments is None:
                known.segments = await self._load_segments(blob)
                self._known.resized(known)
            return known.segments

    async def _load_segments(self, blob: OpenBlob) -> Segments:
        row = blob.row
        if row.segments is not None:
            segments = from_row(row.segments, row.size_bytes)
            if segments is not None:
                return segments
            content = await self.blobs.read_segments(row.digest)
            if content is not None:
                segments = decode(content, row.segments, row.size_bytes)
                if segments is not None:
                    return segments
        return await self._rebuild_segments(blob)

    async def _rebuild_segments(self, blob: OpenBlob) -> Segments:
        """Hash the whole file; what it hashes to says whether its segments may be believed."""
        row = blob.row
        digest, segments = await self._hop(blob, _hash_blocking, blob)
        if digest != row.digest:
            raise self._suspect(row)
        if segments.needs_file:
            await self.blobs.write_segments(row.digest, segments.encode())
        for index in range(segments.count):
            blob._known.mark(index)
        await self._remember(row, segments)
        return segments

    async def _remember(self, row: BlobRow, segments: Segments) -> None:
        """Write to the row that the whole blob was found good, for the other workers."""
        own = segments.own

        async def unit(tx: Tx) -> None:
            await set_verified(tx, row.digest, row.generation, own, self._boot)

        try:
            await self.index.run(unit)
        except StoreError as error:
            # A hint that could not be written costs a verification, nothing else.
            _log.warning("could not note that %s was verified: %s", row.digest, error)

    async def _hop(
        self, blob: OpenBlob, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Read in a thread; a store without descriptors may find the file gone only now."""
        try:
            return await hop(self.threads.reading, function, *args, **kwargs)
        except BlobNotFound:
            why = await self._missing(blob.row)
            if isinstance(why, _Elsewhere):
                why = Unavailable("reading a blob that was replaced meanwhile")
            raise why from None

    # Damage.

    async def _missing(self, row: BlobRow) -> Exception:
        """Why a file is not where its row promised: gone since, or lost."""

        async def unit(tx: Tx) -> BlobRow | None:
            return await find_blob(tx, row.digest)

        now = await self.index.look(unit)
        if now is None or not now.is_readable:
            return BlobNotFound(row.digest)
        if now.generation != row.generation:
            return _Elsewhere(now)
        return self._suspect(row)

    def _suspect(self, row: BlobRow) -> Corrupt:
        """Have the blob checked in the background; the error is for the caller to raise."""
        self.forget(row.digest)
        if self.on_suspect is not None and row.digest not in self._checking:
            self._checking.add(row.digest)
            self._in_background(self._check(self.on_suspect, row.digest))
        return Corrupt(row.digest)

    async def _check(self, check: Suspect, digest: Digest) -> None:
        try:
            await check(digest)
        finally:
            self._checking.discard(digest)


async def _gone(tx: Tx, asked: Sequence[Key]) -> list[Key]:
    """Which of the blobs have no row of that generation any more."""
    found = [await find_blob(tx, digest) for digest, _ in asked]
    return [
        key
        for key, row in zip(asked, found, strict=True)
        if row is None or row.generation != key[1]
    ]


def _is_small_intact(row: BlobRow, content: bytes) -> bool:
    segments = None if row.segments is None else from_row(row.segments, row.size_bytes)
    if segments is None:
        return hashlib.sha256(content).hexdigest() == row.digest.hex
    return len(content) == row.size_bytes and segments.matches(0, content)


def _scratch() -> bytearray:
    """One buffer of a segment for each thread, so that verifying allocates nothing."""
    buffer: bytearray | None = getattr(_SCRATCH, "buffer", None)
    if buffer is None:
        buffer = _SCRATCH.buffer = bytearray(SEGMENT_BYTES)
    return buffer


def _check_blocking(blob: OpenBlob, segments: Segments, indexes: list[int]) -> bool:
    view = memoryview(_scratch())
    for index in indexes:
        start = index * SEGMENT_BYTES
        length = min(SEGMENT_BYTES, blob.size_bytes - start)
        if blob._pread_blocking(view[:length], start) != length:
            return False
        if not segments.matches(index, view[:length]):
            return False
    return True


def _read_blocking(blob: OpenBlob, start: int, stop: int) -> bytes:
    buffer = bytearray(stop - start)
    filled = blob._pread_blocking(memoryview(buffer), start)
    return bytes(memoryview(buffer)[:filled])


def _read_checked_blocking(
    blob: OpenBlob, segments: Segments, start: int, stop: int
) -> bytes | None:
    first = start // SEGMENT_BYTES
    lower = first * SEGMENT_BYTES
    upper = min(blob.size_bytes, ((stop - 1) // SEGMENT_BYTES + 1) * SEGMENT_BYTES)
    buffer = bytearray(upper - lower)
    view = memoryview(buffer)
    if blob._pread_blocking(view, lower) != len(view):
        return None
    for index in range(first, first + segment_count(len(view))):
        piece = view[(index - first) * SEGMENT_BYTES : (index - first + 1) * SEGMENT_BYTES]
        if not segments.matches(index, piece):
            return None
    return bytes(view[start - lower : stop - lower])


def _hash_blocking(blob: OpenBlob) -> tuple[Digest, Segments]:
    view = memoryview(_scratch())
    sha256, hasher = hashlib.sha256(), SegmentHasher()
    offset = 0
    while offset < blob.size_bytes:
        count = blob._pread_blocking(view[: min(SEGMENT_BYTES, blob.size_bytes - offset)], offset)
        if not count:
            break
        sha256.update(view[:count])
        hasher.update(view[:count])
        offset += count
    return Digest(sha256.hexdigest()), hasher.finish()
