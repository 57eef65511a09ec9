"""The directory through which workers add their numbers up for Prometheus.

It lies in memory where there is a memory file system: the files are mapped, and a full disk would
kill whoever touches a new page of one. A server that is killed leaves it behind, so the next one of
the same user removes every directory that nobody holds: the lock in it belongs to the server and
its workers and ends with the last of them.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from registry.cli.exits import CommandError

VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
_LOCK: Final = "lock"


@contextmanager
def shared_counters() -> Iterator[Path]:
    """A fresh directory, named in the environment for the libraries that workers will import."""
    parent = _parent()
    prefix = f"digestry-{os.geteuid()}-"
    for left in parent.glob(f"{prefix}*"):
        _remove_abandoned(left)
    path = parent / f"{prefix}{os.getpid()}-{os.urandom(4).hex()}"
    unlocked = path.with_name(f".{path.name}")
    try:
        unlocked.mkdir(mode=0o700)
        held = _open_lock(unlocked)
        fcntl.flock(held, fcntl.LOCK_EX)
        unlocked.rename(path)  # from here on it can be found, and is held already
    except OSError as error:
        raise CommandError(f"cannot make {path}: {error.strerror}") from error
    os.environ[VARIABLE] = str(path)
    try:
        yield path
    finally:
        del os.environ[VARIABLE]
        _remove(path)
        os.close(held)


def _parent() -> Path:
    shared = Path("/dev/shm")  # noqa: S108  # what is made in it is ours alone
    if os.access(shared, os.W_OK):
        return shared
    return Path(os.environ.get("TMPDIR", "/tmp"))  # noqa: S108  # as above


def _open_lock(path: Path) -> int:
    return os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _remove_abandoned(path: Path) -> None:
    """Remove a directory of a dead server; anything in doubt stays."""
    with suppress(OSError):
        if path.lstat().st_uid != os.geteuid() or not (path / _LOCK).exists():
            return
        held = _open_lock(path)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(path)
        finally:
            os.close(held)


def _remove(path: Path) -> None:
    """Remove a flat directory of ours."""
    with suppress(OSError):
        for file in path.iterdir():
            file.unlink(missing_ok=True)
        path.rmdir()
