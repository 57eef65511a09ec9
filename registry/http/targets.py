"""Read names out of a request's path, strictly: what does not decode is refused, never guessed.

A router hands out decoded text in which an escaped slash and a real one look alike, and leaves
alone what it cannot decode. Both would let a typing error become a name, so these functions start
from the path as it was sent.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote, unquote_to_bytes

from aiohttp import web

from registry.errors import Invalid

_PLAIN: Final = re.compile(r"[A-Za-z0-9_.~@+:/-]*\Z")
_STRAY_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")


def raw_segments(request: web.Request, most: int) -> list[str]:
    """The path split at its real slashes, without the leading one; the rest stays in the last."""
    return request.rel_url.raw_path.split("/", most)[1:]


def decoded(raw: str, *, field: str) -> str:
    """The text of a part of the path; raises `Invalid`, code ``path_encoding_invalid``."""
    if "%" not in raw and raw.isascii():
        return raw
    if _STRAY_PERCENT.search(raw) is not None:
        raise Invalid(field, "has a % that escapes nothing", code="path_encoding_invalid")
    try:
        return unquote_to_bytes(raw).decode()
    except UnicodeDecodeError as error:
        raise Invalid(field, "is not UTF-8", code="path_encoding_invalid") from error


def encoded(text: str, *, keep: str = "") -> str:
    """Text as a part of a path; `keep` names characters to leave as they are."""
    if _PLAIN.match(text) is not None and (keep == "/" or "/" not in text):
        return text
    return quote(text, safe=keep + "~@+:")
