"""Entity tags, digests in headers, and the preconditions of RFC 9110 section 13.

Every blob, tree and version has a strong tag made of its digest, so only strong tags are made here.
A row that may change has one made of its id and of how often it changed, and where what is said of
it holds the name of what it belongs to, of a mark of that name.
The functions are pure; who calls them knows the resource's tag, or None where nothing exists yet.

**Changes** are compared where they are made: a handler hands `expected_rows` down, and the
service compares inside its transaction. What was read before could be stale by then.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from binascii import Error as BadBase64
from collections.abc import Callable
from enum import Enum
from typing import Final

from aiohttp import hdrs, web

from registry.domain.expectations import ANYTHING, Expected, mark_of
from registry.errors import PreconditionFailed
from store.digest import Digest

ETAG: Final = "ETag"
"""Spelled as everybody spells it; aiohttp's constant is ``Etag``."""

_TAG: Final = re.compile(r'[ \t]*(W/)?"([\x21\x23-\x7e\x80-\xff]*)"[ \t]*(?:,|\Z)')
_OF_ROW: Final = re.compile(
    r'"([a-z]{3}_[0-9a-z]{26})\.([1-9][0-9]{0,17})(?:\.[0-9]{1,18})?(?:-([0-9a-f]{8}))?"\Z'
)
_SHA256: Final = re.compile(r"(?:^|,)[ \t]*sha-256[ \t]*=[ \t]*:([A-Za-z0-9+/=]*):", re.IGNORECASE)


class Verdict(Enum):
    """What the preconditions of a request say about it."""

    PROCEED = "proceed"
    NOT_MODIFIED = "not modified"
    FAILED = "precondition failed"


class InvalidDigestField(ValueError):
    """A ``Repr-Digest`` or ``Content-Digest`` names sha-256 but carries no SHA-256."""


def etag_of(digest: Digest) -> str:
    """The strong entity tag of the bytes that hash to `digest`."""
    return f'"{digest}"'


def etag_of_row(id: str, changes: int, seen: int = 0, *, under: str = "") -> str:
    """The strong entity tag of a row that changed so often.

    `seen` moves with what is shown beside the row and no change of it, such as observations;
    ``If-Match`` does not ask for it. `under` is the name of what the row belongs to, where that
    name is shown.
    """
    mark = mark_of(under)
    return f'"{id}.{changes}{f".{seen}" if seen else ""}{f"-{mark}" if mark else ""}"'


def revalidated(etag: str) -> dict[str, str]:
    """Headers of what readers may keep for themselves if they ask each time whether it is true."""
    return {ETAG: etag, hdrs.CACHE_CONTROL: "private, no-cache"}


def expected_rows(request: web.Request) -> Expected:
    """What ``If-Match`` says of the row to change, whichever it is.

    A tag that is no row's matches nothing, so that it is refused (412) and not ignored.
    """
    header = ", ".join(request.headers.getall(hdrs.IF_MATCH, []))
    if not header or header.strip() == "*":
        return ANYTHING
    return Expected(
        frozenset(
            (match[1], int(match[2]), match[3] or "")
            for tag, is_weak in tags_in(header)
            if not is_weak and (match := _OF_ROW.match(tag)) is not None
        )
    )


def condition_on_bytes(request: web.Request) -> Callable[[Digest | None], None] | None:
    """What a change demands of the bytes that are there, to be asked where they are changed.

    It gets their digest, or None where nothing is, and raises `PreconditionFailed`.
    """
    if_match = ", ".join(request.headers.getall(hdrs.IF_MATCH, [])) or None
    if_none_match = ", ".join(request.headers.getall(hdrs.IF_NONE_MATCH, [])) or None
    if if_match is None and if_none_match is None:
        return None

    def check(digest: Digest | None) -> None:
        etag = None if digest is None else etag_of(digest)
        verdict = check_preconditions(
            etag, if_match=if_match, if_none_match=if_none_match, is_read=False
        )
        if verdict is Verdict.FAILED:
            raise PreconditionFailed(hdrs.IF_NONE_MATCH if if_match is None else hdrs.IF_MATCH)

    return check


def repr_digest_of(digest: Digest) -> str:
    """The ``Repr-Digest`` of RFC 9530 for `digest`."""
    return f"sha-256=:{b64encode(digest.raw).decode('ascii')}:"


def parse_digest_field(header: str) -> Digest | None:
    """The SHA-256 that a ``Repr-Digest`` or ``Content-Digest`` names; None if it names others only.

    Raises `InvalidDigestField` when the sha-256 member is not 32 bytes of base64.
    """
    match = _SHA256.search(header)
    if match is None:
        if re.search(r"(?:^|,)[ \t]*sha-256[ \t]*=", header, re.IGNORECASE):
            raise InvalidDigestField(header)
        return None
    try:
        raw = b64decode(match[1], validate=True)
    except BadBase64 as error:
        raise InvalidDigestField(header) from error
    if len(raw) != 32:
        raise InvalidDigestField(header)
    return Digest.from_raw(raw)


def tags_in(header: str) -> list[tuple[str, bool]]:
    """The quoted tags of a list, each with whether it is weak; what is malformed ends the list."""
    found: list[tuple[str, bool]] = []
    position = 0
    while position < len(header):
        match = _TAG.match(header, position)
        if match is None:
            break
        found.append((f'"{match[2]}"', match[1] is not None))
        position = match.end()
    return found


def matches_strongly(header: str, etag: str | None) -> bool:
    """Whether ``If-Match`` holds: ``*`` for anything that exists, else one equal strong tag."""
    if etag is None:
        return False
    if header.strip() == "*":
        return True
    return any(tag == etag and not is_weak for tag, is_weak in tags_in(header))


def matches_weakly(header: str, etag: str | None) -> bool:
    """Whether a tag of ``If-None-Match`` is the resource's, weak or strong; ``*`` if it exists."""
    if etag is None:
        return False
    if header.strip() == "*":
        return True
    return any(tag == etag for tag, _ in tags_in(header))


def check_preconditions(
    etag: str | None, *, if_match: str | None, if_none_match: str | None, is_read: bool
) -> Verdict:
    """Decide by the order of RFC 9110 section 13.2.2; we send no dates, so dates decide nothing."""
    if if_match is not None and not matches_strongly(if_match, etag):
        return Verdict.FAILED
    if if_none_match is not None and matches_weakly(if_none_match, etag):
        return Verdict.NOT_MODIFIED if is_read else Verdict.FAILED
    return Verdict.PROCEED


def range_applies(if_range: str | None, etag: str) -> bool:
    """Whether a ``Range`` counts: always, unless ``If-Range`` has other than our strong tag."""
    if if_range is None:
        return True
    return if_range.strip() == etag
