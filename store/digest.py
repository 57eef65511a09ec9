"""A digest is a parsed value, never a bare string, so an invalid one cannot reach a path."""

from __future__ import annotations

import hashlib
import re

import msgspec

_HEX = re.compile(r"[0-9a-f]{64}\Z")
_PREFIX = "sha256:"


class InvalidDigest(ValueError):
    """The text is not ``sha256:`` and 64 lower-case hexadecimal digits."""

    def __init__(self, text: str) -> None:
        self.text = text
        super().__init__(f"not a sha256 digest: {text[:96]!r}")


class Digest(msgspec.Struct, frozen=True, order=True, gc=False):
    """The SHA-256 of some bytes; build it with `parse`, `from_hex`, `from_raw` or `of`."""

    hex: str

    def __str__(self) -> str:
        return _PREFIX + self.hex

    @property
    def raw(self) -> bytes:
        """The 32 bytes of the digest, as the index stores them."""
        return bytes.fromhex(self.hex)

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Read ``sha256:<64 hex>``; raises `InvalidDigest`."""
        if not text.startswith(_PREFIX):
            raise InvalidDigest(text)
        return cls.from_hex(text[len(_PREFIX) :])

    @classmethod
    def from_hex(cls, text: str) -> Digest:
        """Read 64 lower-case hexadecimal digits; raises `InvalidDigest`."""
        if _HEX.match(text) is None:
            raise InvalidDigest(text)
        return cls(text)

    @classmethod
    def from_raw(cls, raw: bytes) -> Digest:
        """Read the 32 bytes that the index stores; raises `InvalidDigest`."""
        if len(raw) != 32:
            raise InvalidDigest(raw.hex())
        return cls(raw.hex())

    @classmethod
    def of(cls, content: bytes) -> Digest:
        """Hash a small piece of bytes that is already in memory."""
        return cls(hashlib.sha256(content).hexdigest())


EMPTY = Digest.of(b"")
"""The digest of no bytes at all."""
