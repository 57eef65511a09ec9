"""Remembers unfinished uploads between runs, so that a new process goes on where one was killed.

One small file for each, under ``$XDG_STATE_HOME/digestry/uploads`` (``~/.local/state`` by default),
named by server and digest and holding the address of the upload session. It does not lie beside
the file that is sent: that directory may be read-only or be what is sent, and the digest, not the
place, says what is being continued. It is removed when its upload ends.

Losing such a file costs the bytes sent so far and nothing else; so does finding it locked by
another process, which is then sending the very same bytes.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec

from store.digest import Digest

_LARGEST: Final = 65536


class Session(msgspec.Struct, frozen=True):
    """An upload that a server knows; `path` is where, below the server's address."""

    server: str
    digest: str
    path: str


class Slot:
    """The memory of one upload; without a descriptor it forgets at the end of the process."""

    def __init__(self, path: Path | None, descriptor: int, session: Session | None) -> None:
        self._path = path
        self._descriptor = descriptor
        self.session = session

    def save(self, session: Session) -> None:
        self.session = session
        if self._path is not None:
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, msgspec.json.encode(session), 0)

    def forget(self) -> None:
        self.session = None
        if self._path is not None:
            self._path.unlink(missing_ok=True)


class Unfinished:
    """The folder of such files; None keeps nothing."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Unfinished:
        """Where the environment says state belongs; raises `OSError` if it cannot be written."""
        home = environ.get("HOME") or os.path.expanduser("~")
        state = environ.get("XDG_STATE_HOME") or os.path.join(home, ".local", "state")
        folder = Path(state, "digestry", "uploads")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return cls(folder)

    @contextmanager
    def slot(self, server: str, digest: Digest) -> Iterator[Slot]:
        """The memory of one upload, held alone; an empty one if another process holds it."""
        if self._folder is None:
            yield Slot(None, -1, None)
            return
        name = hashlib.sha256(f"{server}\n{digest}".encode()).hexdigest()[:32]
        path = self._folder / f"{name}.json"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                yield Slot(None, -1, None)
                return
            slot = Slot(path, descriptor, _read(descriptor, server, digest))
            try:
                yield slot
            finally:
                if slot.session is None:
                    slot.forget()
        finally:
            os.close(descriptor)


def _read(descriptor: int, server: str, digest: Digest) -> Session | None:
    with suppress(msgspec.DecodeError):
        found = msgspec.json.decode(os.pread(descriptor, _LARGEST, 0), type=Session)
        if (found.server, found.digest) == (server, str(digest)) and found.path.startswith("/"):
            return found
    return None
