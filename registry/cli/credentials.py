"""Tokens that ``digestry login`` keeps, one for each server, in a file of the user's alone.

``$XDG_CONFIG_HOME/digestry/credentials.json``, by default under ``~/.config``, mode 0600. A file
that others may read is not used, and the command says so: a token that was readable is a token to
be revoked. ``DIGESTRY_TOKEN`` goes before it, for whichever server a command talks to.

What is kept for one address is sent to no other: scheme, host and port must be the same.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from registry.cli.exits import FAILED, CommandError

TOKEN_VARIABLE: Final = "DIGESTRY_TOKEN"  # noqa: S105 - the name of a variable
FILE: Final = "credentials.json"

_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class Credential(msgspec.Struct, frozen=True):
    """A token, and whose it is."""

    token: str
    username: str

    def __repr__(self) -> str:
        return f"Credential({self.username!r})"


class _Kept(msgspec.Struct):
    servers: dict[str, Credential] = msgspec.field(default_factory=dict)


def place(environ: Mapping[str, str] = os.environ) -> Path:
    """Where the file is."""
    base = environ.get("XDG_CONFIG_HOME", "")
    root = Path(base) if os.path.isabs(base) else Path.home() / ".config"
    return root / "digestry" / FILE


def token_for(url: str) -> str | None:
    """What to show the server at this address; None where nothing is known."""
    given = os.environ.get(TOKEN_VARIABLE, "").strip()
    if given:
        return given
    found = credential_for(url)
    return None if found is None else found.token


def credential_for(url: str) -> Credential | None:
    """What is kept for the server at this address."""
    return _load(place()).servers.get(origin(url))


def keep(url: str, credential: Credential) -> Path:
    """Keep a token for a server in the place of what was kept before; returns the file."""
    path = place()
    kept = _load(path)
    kept.servers[origin(url)] = credential
    _write(path, kept)
    return path


def forget(url: str) -> bool:
    """Forget what is kept for a server; whether there was anything."""
    path = place()
    kept = _load(path)
    if kept.servers.pop(origin(url), None) is None:
        return False
    _write(path, kept)
    return True


def origin(url: str) -> str:
    """Scheme, host and port of an address, as one spelling."""
    parts = urlsplit(url)
    port = parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)
    host = parts.hostname or ""
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def _load(path: Path) -> _Kept:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read()
    except FileNotFoundError:
        return _Kept()
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}", FAILED) from error
    if mode & _OTHERS:
        raise CommandError(
            f"{path} may be read by others (mode {stat.S_IMODE(mode):04o}): make sure that nobody "
            "did, or revoke its tokens; then chmod 600"
        )
    try:
        return msgspec.json.decode(content, type=_Kept)
    except msgspec.DecodeError as error:
        raise CommandError(f"{path} is damaged; remove it and log in again") from error


def _write(path: Path, kept: _Kept) -> None:
    fresh = path.with_name(f"{FILE}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(kept))
        fresh.rename(path)
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}", FAILED) from error
