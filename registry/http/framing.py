"""Tell the bytes of a body from what frames them on the connection.

A body of declared length has no framing. A chunked one (RFC 9112, section 7.1) is a row of sizes,
each followed by so many bytes, ended by a size of zero and perhaps some trailing fields::

    5;name=value CRLF  hello CRLF    0 CRLF  Expires: never CRLF  CRLF

`Chunked` accepts nothing that aiohttp's own parser refuses, and less where that is laxer than
anybody needs: who disagrees with the server in front about where a body ends can smuggle a request
past it. Sizes have at most 15 digits, a size with its extensions is a line of at most 256 bytes,
and trailing fields are few, small, dropped, and none of those that may not trail.
"""

from __future__ import annotations

import re
from typing import Final, Protocol

LINE_BYTES: Final = 256
"""A longer line with a size and its extensions is refused."""

TRAILER_BYTES: Final = 4096
TRAILER_FIELDS: Final = 32
"""More trailing fields are refused."""

JOINED_BYTES: Final = 4096
"""Smaller pieces are moved up to the one before them: few pieces cost less than many."""

LEAST_END: Final = len(b"\r\n0\r\n\r\n")
"""What follows the last chunk at least."""

_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED: Final = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e]|\\[\t \x21-\x7e])*"'
_SIZE: Final = re.compile(
    rb"([0-9A-Fa-f]{1,15})(?:;%b(?:=(?:%b|%b))?)*\r\n" % (_TOKEN, _TOKEN, _QUOTED)
)
_FIELD: Final = re.compile(rb"(%b):[\t \x21-\x7e]*\r\n" % _TOKEN)

_NEVER_TRAILING: Final = frozenset(
    b"content-encoding content-length content-location content-range content-type etag host "
    b"max-forwards server trailer transfer-encoding user-agent".split()
)


class _Malformed(Exception):
    """The framing makes no sense."""


class Framing(Protocol):
    """Follows one body on its connection, whatever the cuts between the bytes that are taken."""

    left: int
    """So many bytes of the body are still to come, at least."""
    broken: str
    """Why nobody can know how the body goes on, once that is so."""

    @property
    def is_done(self) -> bool:
        """Whether the body has ended."""
        ...

    @property
    def least_bytes(self) -> int:
        """So many bytes are still to come, framing included, at least; 0 only at the end."""
        ...

    def room(self, size_bytes: int) -> int:
        """How many bytes may be taken next if there is room for so many."""
        ...

    def spans(self, data: memoryview) -> list[tuple[int, int]]:
        """Take what came next; where in it bytes of the body lie, in order.

        Those before a mistake are told, and `broken` says what is wrong with the rest.
        """
        ...


class Plain:
    """A body of declared length."""

    broken = ""

    def __init__(self, size_bytes: int) -> None:
        self.left = size_bytes

    @property
    def is_done(self) -> bool:
        return not self.left

    @property
    def least_bytes(self) -> int:
        return self.left

    def room(self, size_bytes: int) -> int:
        return min(size_bytes, self.left)

    def spans(self, data: memoryview) -> list[tuple[int, int]]:
        self.left -= len(data)
        return [(0, len(data))]


class Chunked:
    """A chunked body; it begins inside a chunk of which `left` bytes are still to come."""

    def __init__(self, left: int = 0, *, is_fresh: bool = True) -> None:
        self.left = left
        self.is_done = False
        self.broken = ""
        self.body_bytes = 0
        self._read = self._size if is_fresh and not left else self._end_of_chunk
        self._line = b""
        self._fields = 0
        self._trailer_bytes = 0

    @property
    def least_bytes(self) -> int:
        if self.left:
            return self.left + LEAST_END
        return 0 if self.is_done else 1

    def room(self, size_bytes: int) -> int:
        return size_bytes

    def spans(self, data: memoryview) -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = []
        at, end = 0, len(data)
        try:
            while at < end and not self.is_done and not self.broken:
                if self.left:
                    stop = min(end, at + self.left)
                    found.append((at, stop))
                    self.left -= stop - at
                    self.body_bytes += stop - at
                    at = stop
                else:
                    at = self._read(data, at)
        except _Malformed as error:
            self.broken = str(error)
        return found

    def _end_of_chunk(self, data: memoryview, at: int) -> int:
        line, at = self._take_line(data, at, 2)
        if line:
            if line != b"\r\n":
                raise _Malformed("a chunk is longer than its size")
            self._read = self._size
        return at

    def _size(self, data: memoryview, at: int) -> int:
        line, at = self._take_line(data, at, LINE_BYTES)
        if line:
            match = _SIZE.fullmatch(line)
            if match is None:
                raise _Malformed("the size of a chunk cannot be read")
            self.left = int(match[1], 16)
            self._read = self._end_of_chunk if self.left else self._trailing
        return at

    def _trailing(self, data: memoryview, at: int) -> int:
        line, at = self._take_line(data, at, TRAILER_BYTES - self._trailer_bytes)
        if line == b"\r\n":
            self.is_done = True
        elif line:
            match = _FIELD.fullmatch(line)
            self._fields += 1
            self._trailer_bytes += len(line)
            if match is None or match[1].lower() in _NEVER_TRAILING:
                raise _Malformed("a field behind the last chunk may not be there")
            if self._fields > TRAILER_FIELDS:
                raise _Malformed("too many fields behind the last chunk")
        return at

    def _take_line(self, data: memoryview, at: int, limit: int) -> tuple[bytes, int]:
        """The next line with its end, or nothing if it goes on in what is still to come."""
        begun = len(self._line)
        self._line += bytes(data[at : at + limit - begun])
        end = self._line.find(b"\n") + 1
        if not end:
            if len(self._line) >= limit:
                raise _Malformed("a line of the framing is too long")
            return b"", at + len(self._line) - begun
        line, self._line = self._line[:end], b""
        return line, at + end - begun


def joined(data: memoryview, spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same bytes in fewer spans: small ones are moved within `data` up to those before them."""
    found: list[tuple[int, int]] = []
    for start, stop in spans:
        if found and (found[-1][1] == start or stop - start < JOINED_BYTES):
            first, last = found[-1]
            if last != start:
                data[last : last + stop - start] = data[start:stop]
            found[-1] = (first, last + stop - start)
        else:
            found.append((start, stop))
    return found
