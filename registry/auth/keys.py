"""The root key of a data directory, and the keys that are made of it for one purpose each.

::

    <data>/keys         0700
    <data>/keys/root    0600, 32 random bytes

The key is made once, durably, and never changed by itself; it is in no index, no backup of the
index and no log. Whoever loses it can no longer verify what was sealed with it nor read what was
encrypted under it, and everything signed with it is void. Keep it with the backups of the index,
but not in the same place: with both, the audit log can be rewritten unnoticed.

Purposes never share a key: each has a sub-key by HKDF (RFC 5869) with a label of its own. HKDF is a
dozen lines over `hmac` here, tested with the vectors of the RFC; importing it from `cryptography`
would take 11 ms of every worker's start, and bring nothing else that is used.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from store.durable import Disk
from store.errors import StoreRefused

DIRECTORY: Final = "keys"
ROOT_FILE: Final = "keys/root"
ROOT_BYTES: Final = 32

_HASH_BYTES: Final = 32
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


class RootKey:
    """The key that all others are made of; shown nowhere."""

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        if len(secret) != ROOT_BYTES:
            raise ValueError(f"a root key has {ROOT_BYTES} bytes")
        self._secret = secret

    @classmethod
    def fresh(cls) -> RootKey:
        return cls(os.urandom(ROOT_BYTES))

    def __repr__(self) -> str:
        return "RootKey(…)"

    def sub_key(self, label: str, size: int = 32) -> bytes:
        """A key of `size` bytes for one purpose; another label gives an unrelated one."""
        return hkdf(self._secret, info=f"digestry {label}".encode(), size=size)

    @property
    def id(self) -> str:
        """What tells two root keys apart and says nothing about either."""
        return self.sub_key("key id", 8).hex()


def hkdf(secret: bytes, *, salt: bytes = b"", info: bytes, size: int) -> bytes:
    """`size` bytes by HKDF of RFC 5869 with SHA-256; raises `ValueError` beyond 8160."""
    if size > 255 * _HASH_BYTES:
        raise ValueError("more than HKDF can give")
    pseudorandom = hmac.digest(salt or bytes(_HASH_BYTES), secret, hashlib.sha256)
    block, made = b"", b""
    for count in range(1, -(-size // _HASH_BYTES) + 1):
        block = hmac.digest(pseudorandom, block + info + bytes((count,)), hashlib.sha256)
        made += block
    return made[:size]


def load_root_key(data: Path) -> RootKey | None:
    """The key of a data directory, None if it has none. Blocking.

    Raises `StoreRefused` for one that others may read, or that is not whole.
    """
    path = data / ROOT_FILE
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(ROOT_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreRefused(f"{path} cannot be read: {error.strerror}") from error
    if mode & _OTHERS:
        raise StoreRefused(
            f"{path} may be read by others (mode {stat.S_IMODE(mode):04o}); "
            "make sure that nobody did, then: chmod 600"
        )
    if len(content) != ROOT_BYTES:
        raise StoreRefused(f"{path} is damaged: it must have {ROOT_BYTES} bytes")
    return RootKey(content)


def make_root_key(data: Path, disk: Disk | None = None) -> RootKey:
    """The key of a data directory, made durably if there is none; of two makers one wins. Blocking.

    For whoever knows that nothing was sealed with a key that is lost.
    """
    found = load_root_key(data)
    if found is not None:
        return found
    disk = disk or Disk()
    directory, path = data / DIRECTORY, data / ROOT_FILE
    disk.make_directory(str(directory), below=str(data))
    directory.chmod(0o700)
    fresh = f"{path}.new.{secrets.token_hex(4)}"
    disk.write_file(fresh, os.urandom(ROOT_BYTES), mode=0o600)
    with suppress(FileExistsError):  # the other maker's is the key
        disk.link(fresh, str(path))
    disk.remove(fresh)  # syncs the directory, and with it the link
    made = load_root_key(data)
    assert made is not None, "it was linked just now"
    return made


def set_root_key_aside(data: Path, disk: Disk | None = None) -> None:
    """Keep the present key under its id, so that what was sealed with it can be looked into."""
    found = load_root_key(data)
    if found is not None:
        path = data / ROOT_FILE
        (disk or Disk()).move(str(path), f"{path}.{found.id}")
