"""Read a multipart body part by part as it arrives, with flat memory.

RFC 2046 and RFC 7578, as strict as real clients allow: lines end with CRLF, the end mark must come,
a part's headers are bounded, and its content is handed out as it comes in. What stands before the
first mark and after the last is ignored, as the standards say, within bounds.

aiohttp's own reader is not used: it reads from its parser's stream, past the limits on slow clients
and the ``100 Continue`` of `registry.http.receiving`, and it gathers a line of any length.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Mapping
from typing import Final

import msgspec
from aiohttp import hdrs, web

from registry.errors import BodyMalformed, UnsupportedMedia

HEADER_BYTES: Final = 16 << 10
"""How long the headers of one part may be together."""

OUTSIDE_BYTES: Final = 64 << 10
"""How much may stand before the first mark, and behind the last."""

_WORD: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER: Final = re.compile(rf';[ \t]*({_WORD})[ \t]*=[ \t]*("(?:[^"\\]|\\.)*"|{_WORD})[ \t]*')
_BOUNDARY: Final = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]\Z")
_ESCAPED: Final = re.compile(r'\\(["\\])')
_BLANKS: Final = b" \t"


class Part(msgspec.Struct, frozen=True):
    """One part: what its headers say, and its bytes, to be read before the next part."""

    headers: Mapping[str, str]
    """By name in lower case."""
    name: str | None
    filename: str | None
    content: AsyncGenerator[bytes, None]

    @property
    def media_type(self) -> str:
        """The type alone, in lower case; empty if the part does not say."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


def is_multipart(request: web.Request) -> bool:
    """Whether the body claims to be in parts."""
    return request.headers.get(hdrs.CONTENT_TYPE, "").lstrip().lower().startswith("multipart/")


def boundary_of(request: web.Request) -> bytes:
    """What separates the parts; raises `UnsupportedMedia` if the header does not say."""
    header = request.headers.get(hdrs.CONTENT_TYPE, "")
    boundary = parameters_of(header).get("boundary", "")
    if _BOUNDARY.match(boundary) is None:
        raise UnsupportedMedia("multipart/form-data; boundary=…", header)
    return boundary.encode()


def parameters_of(header: str) -> dict[str, str]:
    """The parameters behind the first word of a header, by name in lower case."""
    _, semicolon, rest = header.partition(";")
    found: dict[str, str] = {}
    position, text = 0, semicolon + rest
    while match := _PARAMETER.match(text, position):
        value = match[2]
        if value.startswith('"'):
            value = _ESCAPED.sub(r"\1", value[1:-1])
        found.setdefault(match[1].lower(), value)
        position = match.end()
    return found


async def parts_of(source: AsyncIterable[bytes], boundary: bytes) -> AsyncGenerator[Part, None]:
    """The parts of a body in order; raises `BodyMalformed` for what is none or is cut off.

    Content that is left unread is passed over when the next part is asked for.
    """
    reader = _Reader(source, boundary)
    await reader.skip_preamble()
    while await reader.has_part():
        headers = await reader.headers()
        said = parameters_of(headers.get("content-disposition", ""))
        content = reader.content()
        yield Part(headers, said.get("name"), said.get("filename"), content)
        async for _ in reader.rest():
            pass
    await reader.skip_epilogue()


class _Reader:
    """The body as a stream that stops at marks."""

    def __init__(self, source: AsyncIterable[bytes], boundary: bytes) -> None:
        self._source: AsyncIterator[bytes] = aiter(source)
        self._mark = b"\r\n--" + boundary
        # As if the body began with the end of a line: then the first mark is like the others.
        self._held = b"\r\n"
        self._is_in_part = False

    async def _more(self) -> None:
        try:
            self._held += await anext(self._source)
        except StopAsyncIteration:
            raise BodyMalformed("the multipart body ends before its last boundary") from None

    async def _at_least(self, size: int) -> None:
        while len(self._held) < size:
            await self._more()

    async def skip_preamble(self) -> None:
        skipped = 0
        while (found := self._held.find(self._mark)) < 0:
            spare = max(0, len(self._held) - len(self._mark) + 1)
            skipped += spare
            if skipped > OUTSIDE_BYTES:
                raise BodyMalformed("the first boundary of the multipart body does not come")
            self._held = self._held[spare:]
            await self._more()
        self._held = self._held[found + len(self._mark) :]

    async def has_part(self) -> bool:
        """Behind a mark: whether a part follows, or the end."""
        await self._at_least(2)
        if self._held.startswith(b"--"):
            return False
        padding = 0
        while True:
            await self._at_least(padding + 2)
            if self._held[padding] not in _BLANKS:
                break
            padding += 1
            if padding > HEADER_BYTES:
                raise BodyMalformed("a boundary of the multipart body has no end")
        if self._held[padding : padding + 2] != b"\r\n":
            raise BodyMalformed("a boundary of the multipart body is not followed by a line end")
        self._held = self._held[padding:]  # the line end may begin the blank line after headers
        return True

    async def headers(self) -> dict[str, str]:
        while (end := self._held.find(b"\r\n\r\n")) < 0:
            if len(self._held) > HEADER_BYTES:
                raise BodyMalformed(f"the headers of a part are longer than {HEADER_BYTES} bytes")
            await self._more()
        if end > HEADER_BYTES:
            raise BodyMalformed(f"the headers of a part are longer than {HEADER_BYTES} bytes")
        block, self._held = self._held[:end], self._held[end + 4 :]
        # Of a part without content the mark may begin with the line end that ended the headers.
        bare = self._mark[2:]
        while len(self._held) < len(bare) and bare.startswith(self._held):
            await self._more()
        if self._held.startswith(bare):
            self._held = b"\r\n" + self._held
        self._is_in_part = True
        return _headers(block)

    async def content(self) -> AsyncGenerator[bytes, None]:
        while self._is_in_part:
            found = self._held.find(self._mark)
            if found >= 0:
                piece, self._held = self._held[:found], self._held[found + len(self._mark) :]
                self._is_in_part = False
                if piece:
                    yield piece
                return
            spare = len(self._held) - len(self._mark) + 1
            if spare > 0:
                piece, self._held = self._held[:spare], self._held[spare:]
                yield piece
            if self._is_in_part:
                await self._more()

    rest = content

    async def skip_epilogue(self) -> None:
        skipped = len(self._held)
        async for piece in self._source:
            skipped += len(piece)
            if skipped > OUTSIDE_BYTES:
                raise BodyMalformed("more bytes follow the last boundary than any client adds")


def _headers(block: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    try:
        lines = block.decode().split("\r\n")
    except UnicodeDecodeError as error:
        raise BodyMalformed("the headers of a part are not UTF-8") from error
    for line in lines:
        if not line:
            continue
        name, colon, value = line.partition(":")
        if not colon or re.fullmatch(_WORD, name) is None or "\n" in value or "\r" in value:
            raise BodyMalformed(f"a part has the line {line[:80]!r} among its headers")
        if name.lower() in found:
            raise BodyMalformed(f"a part has the header {name[:80]} twice")
        found[name.lower()] = value.strip()
    return found
