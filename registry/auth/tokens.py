"""API tokens: what they look like, what is kept of them, how one is recognised.

A token is ``dgt_``, then 256 random bits in 43 characters of base 62, then 6 characters of their
checksum::

    dgt_0NcRl2vTqZ…  53 characters, matching dgt_[0-9A-Za-z]{49}

The beginning lets scanners of leaked secrets find it, and the checksum lets them be sure; it lets
us refuse a mistyped one without asking the index. Kept are the SHA-256 of the whole, by which it is
looked up, and its first 12 characters, by which people tell their tokens apart. 256 random bits
cannot be guessed, so a fast hash does, and there is nothing to compare in constant time: finding a
row by its hash tells by its time nothing about any token.

No token is ever logged.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import zlib
from typing import Final

BEGINNING: Final = "dgt_"
PREFIX_CHARACTERS: Final = 12
"""Shown of a token; what is left of it is still 208 random bits."""

_BITS: Final = 256
_DIGITS: Final = 43
_CHECK_DIGITS: Final = 6
_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_TOKEN: Final = re.compile(r"dgt_([0-9A-Za-z]{43})([0-9A-Za-z]{6})\Z")
_LONG: Final = re.compile(r"(dgt_[0-9A-Za-z]{8})[0-9A-Za-z]+")


def new_token() -> str:
    """A fresh token."""
    random = _base62(secrets.randbits(_BITS), _DIGITS)
    return f"{BEGINNING}{random}{_checksum(random)}"


def is_token(text: str) -> bool:
    """Whether this is a token as `new_token` makes them, not mistyped or cut short."""
    match = _TOKEN.match(text)
    return match is not None and _checksum(match[1]) == match[2]


def hash_of(token: str) -> bytes:
    """What is kept of a token, and by which it is found."""
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()


def prefix_of(token: str) -> str:
    """What of a token may be shown."""
    return token[:PREFIX_CHARACTERS]


def without_tokens(text: str) -> str:
    """A text for a log, where somebody may have put a token into a path by mistake."""
    return _LONG.sub(r"\1...", text) if BEGINNING in text else text


def _checksum(random: str) -> str:
    return _base62(zlib.crc32(f"{BEGINNING}{random}".encode()), _CHECK_DIGITS)


def _base62(value: int, width: int) -> str:
    found = []
    for _ in range(width):
        value, digit = divmod(value, 62)
        found.append(_ALPHABET[digit])
    return "".join(reversed(found))
