"""Signatures of what webhooks are told, by the Standard Webhooks specification 1.0.

https://www.standardwebhooks.com: a secret is ``whsec_`` and 24 to 64 bytes in base64; the signature
is HMAC-SHA256 over ``id.timestamp.body``, written ``v1,`` and base64. Receivers have ready-made
verifiers for it.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from base64 import b64decode, b64encode
from binascii import Error as BadBase64
from typing import Final

from registry.errors import Invalid

PREFIX: Final = "whsec_"
LEAST_BYTES: Final = 24
MOST_BYTES: Final = 64
FRESH_BYTES: Final = 32


class SigningSecret:
    """A secret that a webhook's receiver shares with us; shown nowhere by itself."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        self._key = key

    @classmethod
    def fresh(cls) -> SigningSecret:
        return cls(secrets.token_bytes(FRESH_BYTES))

    @classmethod
    def parse(cls, text: str, *, field: str = "secret") -> SigningSecret:
        """Read ``whsec_…``; raises `Invalid`, code ``webhook_secret_invalid``."""
        key = b""
        if text.startswith(PREFIX):
            try:
                key = b64decode(text.removeprefix(PREFIX).encode(), validate=True)
            except (BadBase64, UnicodeEncodeError):
                key = b""
        if not LEAST_BYTES <= len(key) <= MOST_BYTES:
            raise Invalid(
                field,
                f"is not {PREFIX} and {LEAST_BYTES} to {MOST_BYTES} bytes in base64",
                code="webhook_secret_invalid",
            )
        return cls(key)

    def __repr__(self) -> str:
        return "SigningSecret(…)"

    @property
    def key(self) -> bytes:
        """The bytes, to be encrypted."""
        return self._key

    @property
    def text(self) -> str:
        """As the receiver is told it."""
        return PREFIX + b64encode(self._key).decode()

    def sign(self, id: str, timestamp: int, body: bytes) -> str:
        """The value of ``webhook-signature``; `timestamp` is in seconds."""
        signed = f"{id}.{timestamp}.".encode() + body
        digest = hmac.digest(self._key, signed, hashlib.sha256)
        return f"v1,{b64encode(digest).decode()}"
