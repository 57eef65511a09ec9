"""Encrypt what the index must keep secret from whoever reads the index alone.

AES-256-GCM under a sub-key of the root key, one sub-key for each purpose. What is encrypted is
bound to what it belongs to, so that one row's secret cannot be put into another's place. The form
is a byte for the form itself, a nonce of 12 random bytes, and the encrypted bytes with their tag.

`cryptography` takes about 45 ms to import, so it is imported by the first use, in a thread.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Final

from registry.auth.keys import RootKey

_FORM: Final = b"\x01"
_NONCE_BYTES: Final = 12


class Unreadable(Exception):
    """What was encrypted cannot be read: it was changed, moved, or the root key is another."""


class Vault:
    """Encrypts for one purpose, named by `label`; the root key is asked for when it is needed."""

    def __init__(self, root: Callable[[], Awaitable[RootKey]], label: str) -> None:
        self._root = root
        self._label = label

    def __repr__(self) -> str:
        return f"Vault({self._label})"

    async def encrypt(self, plain: bytes, *, of: str) -> bytes:
        """`plain` as it may be kept with what has the id `of`."""
        return await asyncio.to_thread(_encrypt, await self._key(), plain, of.encode())

    async def decrypt(self, kept: bytes, *, of: str) -> bytes:
        """What `encrypt` was given; raises `Unreadable`."""
        return await asyncio.to_thread(_decrypt, await self._key(), kept, of.encode())

    async def _key(self) -> bytes:
        return (await self._root()).sub_key(self._label)


def _encrypt(key: bytes, plain: bytes, bound: bytes) -> bytes:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = os.urandom(_NONCE_BYTES)
    return _FORM + nonce + AESGCM(key).encrypt(nonce, plain, bound)


def _decrypt(key: bytes, kept: bytes, bound: bytes) -> bytes:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    form, nonce, rest = kept[:1], kept[1 : 1 + _NONCE_BYTES], kept[1 + _NONCE_BYTES :]
    if form != _FORM or len(nonce) != _NONCE_BYTES:
        raise Unreadable
    try:
        return AESGCM(key).decrypt(nonce, rest, bound)
    except InvalidTag as error:
        raise Unreadable from error
