"""Read an archive entry by entry as it arrives, and refuse by name what is not wanted.

Nothing is remembered but the directories an archive names: how many entries there may be, how long
their names and how large the headers before them are is limited, so memory stays flat.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Final

import msgspec

from registry.domain import tars
from registry.domain.paths import parse_path
from registry.errors import Invalid, UnsupportedMedia
from store.batches import Source

PADDING_BYTES: Final = 1 << 20
"""How many zeros may follow the end of an archive; writers fill up their last record."""


class TarLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How much an archive may ask for."""

    entries: int = 100_000
    path_bytes: int = 4096
    header_bytes: int = 65536
    blob_bytes: int | None = None


WHOLE_BYTES: Final = 64 << 10
"""A file up to this size that has arrived already is handed out in one piece."""

_NOTHING: Final = tars.Extension()


class Entry(msgspec.Struct, frozen=True):
    """A regular file of an archive: where it goes, and its bytes, to be read before the next."""

    path: str
    size_bytes: int
    whole: bytes | None = None
    """All its bytes, where they are here."""
    stream: AsyncGenerator[bytes, None] | None = None

    @property
    def content(self) -> AsyncGenerator[bytes, None]:
        """Its bytes as they come."""
        if self.whole is not None:
            return _given(self.whole)
        assert self.stream is not None, "an entry has its bytes in one way"
        return self.stream


async def _given(content: bytes) -> AsyncGenerator[bytes, None]:
    yield content


class _Bytes:
    """A body as a stream to take exact amounts from."""

    def __init__(self, source: Source) -> None:
        self._source = aiter(source)
        self._piece: bytes = b""
        self._position = 0

    async def some(self, most: int) -> bytes:
        """At most so many bytes, as they come; none at the end."""
        while self._position >= len(self._piece):
            try:
                self._piece = await anext(self._source)
            except StopAsyncIteration:
                return b""
            self._position = 0
        start = self._position
        self._position = min(len(self._piece), start + most)
        return self._piece[start : self._position]

    def at_hand(self, start: int, size: int) -> bytes:
        """So many bytes from a distance on, not taken yet; fewer if they have not come."""
        begin = self._position + start
        return self._piece[begin : begin + size]

    def has(self, size: int) -> bool:
        """Whether so many bytes are at hand."""
        return len(self._piece) - self._position >= size

    def skip(self, size: int) -> None:
        """Take bytes that are at hand."""
        self._position += size

    async def exactly(self, size: int) -> bytes:
        """So many bytes; fewer only at the end."""
        found = await self.some(size)
        if len(found) == size:
            return found
        collected = bytearray(found)
        while len(collected) < size:
            piece = await self.some(size - len(collected))
            if not piece:
                break
            collected += piece
        return bytes(collected)


class TarReader:
    """Reads an archive entry by entry and refuses what is not wanted, naming it."""

    def __init__(self, source: Source, limits: TarLimits) -> None:
        self._bytes = _Bytes(source)
        self._limits = limits
        self._entries = 0
        self._left = 0
        self.directories: set[str] = set()

    async def entries(self) -> AsyncGenerator[Entry, None]:
        """Every regular file in order; each one's content *must* be read before the next."""
        while True:
            ready = self._ready()
            if ready is not None:
                yield ready
                continue
            header, name = await self._next()
            if header is None:
                await self._finish()
                return
            if header.kind == tars.DIRECTORY:
                self._add_directory(header, name)
                continue
            path = self._path_of(header, name)
            self._left = header.size_bytes
            yield Entry(path, header.size_bytes, stream=self._content(path))
            assert self._left == 0, "the caller reads each file to its end"
            await self._skip_padding(header.size_bytes)

    def _ready(self) -> Entry | None:
        """The next entry, if it is a small file that is all here and has no header of its own."""
        if not self._entries or not self._bytes.has(tars.BLOCK):
            return None
        block = self._bytes.at_hand(0, tars.BLOCK)
        if not block[0]:
            return None
        header = tars.parse_header(block)
        size = header.size_bytes
        if header.kind != tars.FILE or size > WHOLE_BYTES:
            return None
        taken = tars.BLOCK + tars.padded(size)
        if not self._bytes.has(taken):
            return None
        self._count()
        path = self._path_of(*self._extended(header, _NOTHING, None))
        content = self._bytes.at_hand(tars.BLOCK, size)
        self._bytes.skip(taken)
        return Entry(path, size, content)

    def _path_of(self, header: tars.Header, name: bytes) -> str:
        path = parse_path(tars.path_of(name), field="archive")
        limit = self._limits.blob_bytes
        if limit is not None and header.size_bytes > limit:
            raise tars.refused(
                tars.shown(name), f"is larger than {limit} bytes", code="tar_file_too_large"
            )
        return path

    async def _next(self) -> tuple[tars.Header | None, bytes]:
        """The next file or directory with its full name; None at the end of the archive."""
        said = tars.Extension()
        long_name: bytes | None = None
        budget = self._limits.header_bytes
        is_extended = False
        while True:
            block = await self._block(is_first=self._entries == 0 and not is_extended)
            if not any(block):
                if is_extended:
                    raise tars.malformed("the archive ends after a header that extends another")
                return None, b""
            header = tars.parse_header(block)
            self._count()
            if header.kind not in tars.EXTENSIONS:
                return self._extended(header, said, long_name)
            is_extended = True
            budget -= tars.BLOCK + header.size_bytes
            if budget < 0:
                raise tars.refused(
                    tars.shown(header.name),
                    f"has headers above {self._limits.header_bytes} bytes",
                    code="tar_header_too_large",
                )
            content = await self._exactly(header.size_bytes)
            await self._skip_padding(header.size_bytes)
            if header.kind == tars.LONG_NAME:
                long_name = tars.long_name(content)
            elif header.kind == tars.PAX_GLOBAL:
                tars.parse_pax(content, is_global=True)
            elif header.kind == tars.PAX:
                said = tars.parse_pax(content, is_global=False)

    def _extended(
        self, header: tars.Header, said: tars.Extension, long_name: bytes | None
    ) -> tuple[tars.Header, bytes]:
        name = said.path or long_name or header.name
        if len(name) > self._limits.path_bytes:
            raise tars.refused(
                tars.shown(name),
                f"is longer than {self._limits.path_bytes} bytes",
                code="path_invalid",
            )
        if said.size_bytes is not None:
            header = msgspec.structs.replace(header, size_bytes=said.size_bytes)
        return header, name

    def _count(self) -> None:
        self._entries += 1
        if self._entries > self._limits.entries:
            raise Invalid(
                "archive",
                f"has more than {self._limits.entries} entries",
                code="tar_too_many_entries",
                details={"limit": "limits.tar_entries", "allowed": self._limits.entries},
            )

    def _add_directory(self, header: tars.Header, name: bytes) -> None:
        if header.size_bytes:
            raise tars.refused(
                tars.shown(name), "is a directory with content", code="tar_malformed"
            )
        path = tars.path_of(name).rstrip("/")
        if path not in ("", "."):
            self.directories.add(parse_path(path, field="archive"))

    async def _content(self, path: str) -> AsyncGenerator[bytes, None]:
        while self._left:
            piece = await self._bytes.some(self._left)
            if not piece:
                raise tars.malformed(f"the archive ends in the middle of {path!r}")
            self._left -= len(piece)
            yield piece

    async def _block(self, *, is_first: bool) -> bytes:
        block = await self._bytes.exactly(tars.BLOCK)
        if is_first:
            media = tars.compression_of(block)
            if media is not None:
                raise UnsupportedMedia("application/x-tar, not compressed", media)
        if len(block) < tars.BLOCK:
            raise tars.malformed("the archive is cut off: it has no end mark")
        return block

    async def _exactly(self, size: int) -> bytes:
        content = await self._bytes.exactly(size)
        if len(content) < size:
            raise tars.malformed("the archive ends in the middle of a header")
        return content

    async def _skip_padding(self, size: int) -> None:
        await self._exactly(tars.padded(size) - size)

    async def _finish(self) -> None:
        """Two empty blocks end an archive, zeros may follow; anything else would be lost."""
        if any(await self._block(is_first=False)):
            raise tars.malformed("a single empty block stands between entries")
        zeros = 0
        while piece := await self._bytes.some(1 << 16):
            zeros += len(piece)
            if any(piece):
                raise tars.malformed("bytes follow the end of the archive")
            if zeros > PADDING_BYTES:
                raise tars.malformed(
                    "more zeros follow the end of the archive than any writer adds"
                )
