"""A blob store and an index whose operations fail on demand, before they are applied or after.

Failing *after* is the harder case: the work is done and its caller does not know. Operations are
numbered as they come, so a test can fail each one of an action in turn.
"""

from __future__ import annotations

from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterator,
    Sequence,
)
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias, TypeVar
from unittest import mock

from store.blobs import (
    AsideInfo,
    BlobInfo,
    BlobStore,
    ByteRange,
    Promotion,
    StagedInfo,
    StagedWriter,
)
from store.cold import ColdFile, ColdMarker, ColdStore, ColdWriter
from store.digest import Digest
from store.errors import StoreError, Unavailable
from store.index.transactions import Index, Unit

T = TypeVar("T")

When: TypeAlias = Literal["before", "after"]


class Faults:
    """Which operation fails, and a list of those that were asked for."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self._at: int | None = None
        self._when: When = "before"
        self._error: Callable[[str], StoreError] = Unavailable

    def fail(self, at: int, when: When, error: Callable[[str], StoreError] = Unavailable) -> None:
        """Fail the operation number `at`, counted from now."""
        self._at, self._when, self._error = at, when, error
        self.seen = []

    def heal(self) -> None:
        """Let everything work again."""
        self._at = None
        self.seen = []

    def before(self, operation: str) -> bool:
        """Count an operation; raise if it fails before, and say whether it fails after."""
        number = len(self.seen)
        self.seen.append(operation)
        if number != self._at:
            return False
        if self._when == "before":
            raise self._error(operation)
        return True

    def after(self, operation: str, is_due: bool) -> None:
        if is_due:
            raise self._error(operation)

    def around_blocking(self, operation: str, work: Callable[[], T]) -> T:
        is_due = self.before(operation)
        result = work()
        self.after(operation, is_due)
        return result

    async def around(self, operation: str, work: Callable[[], Awaitable[T]]) -> T:
        is_due = self.before(operation)
        result = await work()
        self.after(operation, is_due)
        return result


class FaultyBlobStore:
    """Any blob store, failing as its `faults` say. Listing and closing never fail."""

    def __init__(self, inner: BlobStore, faults: Faults) -> None:
        self.inner = inner
        self.faults = faults
        self.traits = inner.traits

    async def stat(self, digest: Digest) -> BlobInfo:
        return await self.faults.around("stat", lambda: self.inner.stat(digest))

    def open(self, digest: Digest, within: ByteRange | None = None) -> AsyncGenerator[bytes, None]:
        return self.inner.open(digest, within)

    def list(self) -> AsyncIterator[Sequence[BlobInfo]]:
        return self.inner.list()

    async def stage(self, session: str) -> StagedWriter:
        made: list[StagedWriter] = []

        async def stage() -> StagedWriter:
            made.append(await self.inner.stage(session))
            return made[0]

        try:
            writer = await self.faults.around("stage", stage)
        except StoreError:
            for one in made:  # nobody has it, so nobody holds its file
                await one.close()
            raise
        return FaultyStagedWriter(writer, self.faults)

    async def promote_all(
        self, wanted: Sequence[Promotion], stranger: str | None = None
    ) -> Sequence[bool]:
        placed = []
        for one in wanted:
            known = one.known_bytes
            if known is None:
                await one.writer.promote(one.digest, stranger)
                placed.append(True)
            else:
                placed.append(await one.writer.imitate(one.digest, known, stranger or ""))
        return placed

    async def reopen(self, session: str) -> StagedWriter:
        writer = await self.faults.around("reopen", lambda: self.inner.reopen(session))
        return FaultyStagedWriter(writer, self.faults)

    async def seize(self, session: str) -> StagedWriter | None:
        return await self.inner.seize(session)

    def list_staged(self) -> AsyncIterator[StagedInfo]:
        return self.inner.list_staged()

    async def set_aside(self, digest: Digest, generation: int) -> bool:
        return await self.faults.around(
            "set_aside", lambda: self.inner.set_aside(digest, generation)
        )

    async def put_back(self, digest: Digest, generation: int) -> None:
        await self.faults.around("put_back", lambda: self.inner.put_back(digest, generation))

    async def secure(self, digest: Digest) -> None:
        await self.faults.around("secure", lambda: self.inner.secure(digest))

    async def secure_all(self) -> None:
        await self.faults.around("secure_all", self.inner.secure_all)

    async def discard_aside(self, digest: Digest, generation: int) -> None:
        await self.faults.around(
            "discard_aside", lambda: self.inner.discard_aside(digest, generation)
        )

    async def remove(self, digest: Digest) -> None:
        await self.faults.around("remove", lambda: self.inner.remove(digest))

    def list_aside(self) -> AsyncIterator[AsideInfo]:
        return self.inner.list_aside()

    def read_blocking(self, digest: Digest, offset: int, size_bytes: int) -> bytes:
        is_due = self.faults.before("read")
        piece = self.inner.read_blocking(digest, offset, size_bytes)
        self.faults.after("read", is_due)
        return piece

    def read_into_blocking(self, digest: Digest, into: memoryview, offset: int) -> int:
        is_due = self.faults.before("read")
        size_bytes = self.inner.read_into_blocking(digest, into, offset)
        self.faults.after("read", is_due)
        return size_bytes

    async def read_segments(self, digest: Digest) -> bytes | None:
        return await self.faults.around("read_segments", lambda: self.inner.read_segments(digest))

    async def write_segments(self, digest: Digest, content: bytes) -> None:
        await self.faults.around(
            "write_segments", lambda: self.inner.write_segments(digest, content)
        )

    async def discard_segments(self, digest: Digest) -> None:
        await self.faults.around("discard_segments", lambda: self.inner.discard_segments(digest))

    async def free_bytes(self) -> tuple[int, int]:
        return await self.faults.around("free_bytes", self.inner.free_bytes)

    async def close(self) -> None:
        await self.inner.close()


class FaultyStagedWriter:
    """A staged writer of a `FaultyBlobStore`."""

    def __init__(self, inner: StagedWriter, faults: Faults) -> None:
        self.session = inner.session
        self._inner = inner
        self._faults = faults

    @property
    def size_bytes(self) -> int:
        return self._inner.size_bytes

    def append_blocking(
        self,
        offset: int,
        pieces: Sequence[bytes | memoryview],
        fence: Callable[[], None] | None = None,
    ) -> int:
        is_due = self._faults.before("append")
        end = self._inner.append_blocking(offset, pieces, fence)
        self._faults.after("append", is_due)
        return end

    def hold(self, pieces: Sequence[bytes]) -> None:
        self._inner.hold(pieces)

    async def truncate(self, size_bytes: int, fence: Callable[[], None] | None = None) -> None:
        await self._faults.around("truncate", lambda: self._inner.truncate(size_bytes, fence))

    async def sync_name(self) -> None:
        await self._faults.around("sync_name", self._inner.sync_name)

    async def sync(self) -> int:
        return await self._faults.around("sync", self._inner.sync)

    async def sync_locked(self, fence: Callable[[], None]) -> int:
        return await self._faults.around("sync", lambda: self._inner.sync_locked(fence))

    async def unlock(self) -> None:
        await self._inner.unlock()

    async def promote(self, digest: Digest, stranger: str | None = None) -> bool:
        return await self._faults.around("promote", lambda: self._inner.promote(digest, stranger))

    async def imitate(self, digest: Digest, size_bytes: int, stranger: str) -> bool:
        return await self._faults.around(
            "imitate", lambda: self._inner.imitate(digest, size_bytes, stranger)
        )

    def read_blocking(self, offset: int, size_bytes: int) -> bytes:
        return self._inner.read_blocking(offset, size_bytes)

    async def discard(self) -> None:
        self.discard_blocking()

    def discard_blocking(self) -> None:
        try:
            self._faults.around_blocking("discard", self._inner.discard_blocking)
        except StoreError:
            # One that fails closes all the same; only what works in threads has a name for that.
            inner: Any = self._inner
            inner.close_blocking()
            raise

    async def close(self) -> None:
        await self._inner.close()


class FaultyColdStore:
    """An archive that fails as its `faults` say. Listing never fails."""

    def __init__(self, inner: ColdStore, faults: Faults) -> None:
        self.inner = inner
        self.faults = faults

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def prepare(self, marker: ColdMarker) -> None:
        self.faults.around_blocking("cold prepare", lambda: self.inner.prepare(marker))

    def open(self, digest: Digest, number: int) -> ColdFile:
        return self.faults.around_blocking("cold open", lambda: self.inner.open(digest, number))

    def begin(self, digest: Digest, number: int, size_bytes: int) -> ColdWriter:
        return FaultyColdWriter(self.inner.begin(digest, number, size_bytes), self.faults)

    def remove(self, digest: Digest, number: int) -> None:
        self.faults.around_blocking("cold remove", lambda: self.inner.remove(digest, number))


class FaultyColdWriter:
    """A writer of a `FaultyColdStore`."""

    def __init__(self, inner: ColdWriter, faults: Faults) -> None:
        self._inner = inner
        self._faults = faults

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def append(self, piece: bytes) -> None:
        self._faults.around_blocking("cold append", lambda: self._inner.append(piece))

    def finish(self) -> int:
        return self._faults.around_blocking("cold finish", self._inner.finish)

    def reread(self) -> ColdFile:
        return self._faults.around_blocking("cold reread", self._inner.reread)

    def promote(self) -> None:
        self._faults.around_blocking("cold promote", self._inner.promote)

    def discard(self) -> None:
        self._faults.around_blocking("cold discard", self._inner.discard)


class FaultyIndex:
    """An index whose writes fail, rolled back or committed with the answer lost. Reads work."""

    def __init__(self, inner: Index, faults: Faults) -> None:
        self.inner = inner
        self._faults = faults

    async def run(self, unit: Unit[T]) -> T:
        return await self._faults.around("commit", lambda: self.inner.run(unit))

    async def read(self, unit: Unit[T]) -> T:
        return await self.inner.read(unit)

    async def look(self, unit: Unit[T]) -> T:
        return await self.inner.look(unit)

    def read_blocking(self, unit: Unit[T]) -> T:
        return self.inner.read_blocking(unit)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


@contextmanager
def no_commits(index: Index) -> Iterator[None]:
    """In the block nothing is written into an index that is open."""

    async def refuse(unit: Unit[Any]) -> Any:
        raise Unavailable("a write to the index")

    def decline(unit: Unit[Any]) -> Any:
        raise Unavailable("a write to the index")

    with mock.patch.object(index, "run", refuse), mock.patch.object(index, "begin", decline):
        yield
