"""Where a file lies in a version: the grammar of paths, and the rule that no file is a directory.

A path is UTF-8 text in Unicode normal form C, its segments joined by ``/``. It *must* name a file
that can be unpacked on any file system under the directory it is unpacked in: no empty, ``.``,
``..`` or ``.git`` segment, no backslash, NUL, line break or other control character, no segment
above 255 bytes, no path above 1024 bytes. Case matters; `differing_in_case` finds what a file
system that ignores case would mix up, which is kept and flagged.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Final

from registry.errors import Invalid

PATH_BYTES: Final = 1024
"""Longest path, in bytes of UTF-8."""
SEGMENT_BYTES: Final = 255
"""Longest segment, in bytes of UTF-8: what file systems take."""

_REFUSED: Final = frozenset(("Cc", "Cs", "Zl", "Zp"))
"""Unicode categories: control, surrogate, line separator, paragraph separator."""


_PLAIN: Final = re.compile(
    r"(?:[A-Za-z0-9_-][A-Za-z0-9_.-]{0,254}/){0,3}[A-Za-z0-9_-][\w.-]{0,254}\Z", re.ASCII
)
"""Most paths; `_why_not` finds nothing wrong with any of them."""


def parse_path(text: str, *, field: str = "path") -> str:
    """The normal form of a path; raises `Invalid`, code ``path_invalid``."""
    if _PLAIN.match(text):
        return text
    path = unicodedata.normalize("NFC", text)
    reason = _why_not(path)
    if reason is not None:
        raise Invalid(field, f"{_shown(text)} {reason}", code="path_invalid")
    return path


def _why_not(path: str) -> str | None:
    if not path:
        return "is empty"
    if path.startswith("/"):
        return "is absolute; a path is relative to its version"
    reason = _bad_character(path)
    if reason is not None:
        return reason
    for segment in path.split("/"):
        reason = _bad_segment(segment)
        if reason is not None:
            return reason
    if len(path.encode()) > PATH_BYTES:
        return f"is longer than {PATH_BYTES} bytes"
    return None


def _bad_character(path: str) -> str | None:
    if path.isascii() and path.isprintable():
        return "contains a backslash" if "\\" in path else None
    for character in path:
        if character == "\\":
            return "contains a backslash"
        if unicodedata.category(character) in _REFUSED:
            return f"contains the character U+{ord(character):04X}"
    return None


def _bad_segment(segment: str) -> str | None:
    if not segment:
        return "has an empty segment"
    if segment in (".", ".."):
        return f"has the segment {segment!r}"
    if segment.casefold() == ".git":
        return "has a segment named .git"
    if len(segment.encode()) > SEGMENT_BYTES:
        return f"has a segment longer than {SEGMENT_BYTES} bytes"
    return None


def _shown(text: str) -> str:
    """The text for a message: escaped, and cut where nobody would read on."""
    return repr(text if len(text) <= 120 else text[:117] + "...")


def parents(path: str) -> Iterator[str]:
    """Every directory above a file, outermost first."""
    position = path.find("/")
    while position >= 0:
        yield path[:position]
        position = path.find("/", position + 1)


def order(path: str) -> bytes:
    """What files are sorted by: the bytes of their path."""
    return path.encode()


def file_that_is_a_directory(files: Iterable[str], directories: Iterable[str] = ()) -> str | None:
    """A file that something else needs as a directory; None if there is none.

    With NUL for the slash everything below a path sorts right behind it, so neighbours tell.
    """
    entries = [(path.replace("/", "\0"), True) for path in files]
    entries += [(path.replace("/", "\0"), False) for path in directories]
    entries.sort()
    for (one, is_file), (other, _) in pairwise(entries):
        if is_file and (other == one or other.startswith(one + "\0")):
            return one.replace("\0", "/")
        if one == other and not is_file:
            return one.replace("\0", "/")
    return None


def differing_in_case(paths: Iterable[str]) -> list[Sequence[str]]:
    """Groups of paths that a file system ignoring case could not keep apart."""
    groups: dict[str, list[str]] = {}
    for path in paths:
        folded = unicodedata.normalize("NFC", unicodedata.normalize("NFD", path).casefold())
        groups.setdefault(folded, []).append(path)
    return [group for group in groups.values() if len(group) > 1]
