"""``server.json``: how a command finds the server that is running on a data directory.

The file tells the process id, the URL and a random secret which the server accepts, from this
machine only, as an administrator's. It *must* be readable by the owner alone. It is written once
the server listens and removed when it ends; one that is left behind by a kill means nothing,
because only the lock says that a server is running.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

FILE: Final = "server.json"


class Presence(msgspec.Struct, frozen=True):
    """What a running server says of itself."""

    pid: int
    url: str
    secret: str
    certificate: str = ""
    """The file with the server's certificate, if it speaks HTTPS."""

    def __repr__(self) -> str:
        return f"Presence(pid={self.pid}, url={self.url!r})"


def new_secret() -> str:
    """256 random bits."""
    return os.urandom(32).hex()


def announce(data: Path, presence: Presence) -> None:
    """Write the file as a whole, for the owner's eyes only."""
    path = data / FILE
    fresh = data / f"{FILE}.new"
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.encode(presence))
    fresh.rename(path)


def find(data: Path) -> Presence | None:
    """What the file says; None if it is not there or not readable as ours."""
    try:
        return msgspec.json.decode((data / FILE).read_bytes(), type=Presence)
    except (OSError, msgspec.DecodeError):
        return None


def withdraw(data: Path) -> None:
    """Remove the file; a directory that can no longer be written keeps a stale one."""
    with suppress(OSError):
        (data / FILE).unlink(missing_ok=True)
