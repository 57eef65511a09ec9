"""One range of bytes out of a request's ``Range`` header, by RFC 9110 section 14.

What the standard lets a server ignore is ignored here: another unit, bad syntax, several ranges.
Such requests get the whole blob. Only a well-formed single range that touches no byte is refused.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final

from store.blobs import ByteRange

_SINGLE: Final = re.compile(r"bytes[ \t]*=[ \t]*([0-9]*)-([0-9]*)[ \t]*\Z", re.IGNORECASE)
_BEYOND: Final = 10**19
"""Larger than any size; stands for every number with more digits than this one."""


class Unsatisfiable(Enum):
    """The one answer of `parse_range` that is neither a range nor the whole blob."""

    RANGE = "unsatisfiable"


UNSATISFIABLE: Final = Unsatisfiable.RANGE


def parse_range(header: str | None, size_bytes: int) -> ByteRange | Unsatisfiable | None:
    """The range asked for; None means the whole blob.

    A suffix longer than the blob is the whole blob as a range, as the standard says.
    """
    match = None if header is None else _SINGLE.match(header)
    if match is None:
        return None
    first, last = match.groups()
    if not first:
        return _suffix(last, size_bytes)
    start = _number(first)
    if last and _number(last) < start:
        return None
    if start >= size_bytes:
        return UNSATISFIABLE
    stop = size_bytes if not last else min(_number(last) + 1, size_bytes)
    return ByteRange(start, stop)


def _suffix(length: str, size_bytes: int) -> ByteRange | Unsatisfiable | None:
    if not length:
        return None
    wanted = _number(length)
    if wanted == 0 or size_bytes == 0:
        return UNSATISFIABLE
    return ByteRange(max(0, size_bytes - wanted), size_bytes)


def _number(digits: str) -> int:
    significant = digits.lstrip("0")
    return int(significant or "0") if len(significant) < 20 else _BEYOND


def content_range(within: ByteRange, size_bytes: int) -> str:
    """The ``Content-Range`` of a 206."""
    return f"bytes {within.start}-{within.stop - 1}/{size_bytes}"


def unsatisfied_range(size_bytes: int) -> str:
    """The ``Content-Range`` of a 416."""
    return f"bytes */{size_bytes}"
