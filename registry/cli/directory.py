"""The data directory as a process finds it: ours or not, in use or free, on a disk that will do.

`claim` answers before anything is opened or written in it, so a refusal leaves a foreign directory
as it was. The claim is a lock on ``<data>/lock``. It belongs to the open file, which forked workers
share: as long as one of them lives, nobody else can take the directory.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from registry.cli import presence
from registry.cli.exits import CommandError
from store import layout
from store.processes import is_alive

_MODE: Final = 0o700

_HARMLESS: Final = frozenset(
    {layout.PROCESS_LOCK, layout.WRITER_LOCK, layout.LEADER_LOCK, presence.FILE, "lost+found"}
)
"""What may lie in a directory that is not a store yet: left by a start that was cut short."""

_MADE_FIRST: Final = frozenset(("blobs", "segments", "uploads", "quarantine", "keys"))

_ON_ONE_DISK: Final = ("uploads", "blobs", "quarantine", "segments")

_OVER_THE_NETWORK: Final = frozenset(
    (
        *("9p", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "glusterfs", "lustre", "ncpfs"),
        *("nfs", "nfs4", "orangefs", "smb3", "smbfs"),
        *("fuse.glusterfs", "fuse.rclone", "fuse.s3fs", "fuse.sshfs"),
    )
)

ORPHAN_SECONDS: Final = 5.0
"""How long workers of a killed supervisor may take to notice, and a new server waits for them."""


class StoreFacts(msgspec.Struct, frozen=True):
    """The part of ``store.json`` that decides whether we may touch the directory."""

    layout_version: int


class Claim:
    """A data directory that this process, and what it forks, may use alone."""

    def __init__(self, root: Path, descriptor: int) -> None:
        self.root = root
        self._descriptor = descriptor

    def release(self) -> None:
        """Give it up. A copy of the descriptor in a living worker still holds it."""
        os.close(self._descriptor)


class DirectoryInUse(CommandError):
    """Somebody else holds the lock; `owner` is the server that says so of itself."""

    def __init__(self, root: Path, owner: presence.Presence | None) -> None:
        self.owner = owner
        who = "another process"
        if owner is not None:
            who = f"the server with process id {owner.pid} at {owner.url}"
        super().__init__(f"{root} is in use by {who}")


def claim(root: Path, *, create: bool, sleep: Callable[[float], None] = time.sleep) -> Claim:
    """Check and lock the directory; raises `CommandError` with the reason if it cannot be used."""
    _make(root, create=create)
    check(root)
    claimed = Claim(root, _lock(root, sleep))
    try:
        check(root)
    except CommandError:
        claimed.release()
        raise
    return claimed


def claim_for_restore(root: Path, *, sleep: Callable[[float], None] = time.sleep) -> Claim:
    """Make and lock a directory that is to become a store; what it may hold others decide."""
    _make(root, create=True)
    return Claim(root, _lock(root, sleep))


def is_held(root: Path) -> bool:
    """Whether a process holds the lock at this moment."""
    try:
        descriptor = os.open(root / layout.PROCESS_LOCK, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def check(root: Path) -> None:
    """Raise `CommandError` if the directory is not ours, newer than us, or on the wrong disk."""
    _check_ours(root)
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return  # Not Linux: the operator knows what they mounted.
    kind = mount_of(root, mounts)[1]
    if kind in _OVER_THE_NETWORK:
        raise CommandError(
            f"{root} lies on a network file system ({kind}), where the index would be damaged; "
            "choose a directory on a local disk"
        )
    _check_one_disk(root, mounts)


def mount_of(path: Path, mounts: str) -> tuple[str, str]:
    """Mount point and type of the file system that `path` (absolute, resolved) lies on.

    `mounts` is the text of ``/proc/self/mountinfo``; of mounts on one point the last counts.
    """
    best, kind = "", ""
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split()
        if len(fields) < 5 or not after:
            continue
        point = _unescape(fields[4])
        if (path == Path(point) or Path(point) in path.parents) and len(point) >= len(best):
            best, kind = point, after.split()[0]
    return best, kind


def _unescape(text: str) -> str:
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, char)
    return text


def _make(root: Path, *, create: bool) -> None:
    try:
        if create:
            root.mkdir(mode=_MODE, parents=True, exist_ok=True)
        elif not root.exists():
            raise CommandError(f"there is no data directory {root}")
    except FileExistsError as error:
        raise CommandError(f"{root} is not a directory") from error
    except OSError as error:
        raise CommandError(f"cannot make the data directory {root}: {error.strerror}") from error
    if not root.is_dir():
        raise CommandError(f"{root} is not a directory")


def _check_ours(root: Path) -> None:
    path = root / layout.STORE_FILE
    try:
        facts = msgspec.json.decode(path.read_bytes(), type=StoreFacts)
    except FileNotFoundError:
        _check_empty(root)
        return
    except msgspec.DecodeError as error:
        raise CommandError(f"{path} is not readable as ours: {error}") from error
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror}") from error
    if facts.layout_version > layout.LAYOUT_VERSION:
        raise CommandError(
            f"{root} was written by a newer digestry (layout {facts.layout_version}; this one "
            f"knows up to {layout.LAYOUT_VERSION}); upgrade to open it"
        )


def _check_empty(root: Path) -> None:
    try:
        names = set(os.listdir(root))
    except OSError as error:
        raise CommandError(f"cannot read the data directory {root}: {error.strerror}") from error
    foreign = sorted(name for name in names - _HARMLESS if not _is_half_written(name))
    if not foreign or _was_begun(root, names):
        return
    if layout.RESTORING in names:
        raise CommandError(
            f"{root} holds a restore that was not finished; run digestry restore once more"
        )
    if layout.INDEX_FILE in names or (root / layout.BLOBS).is_dir():
        raise CommandError(
            f"{root} holds data of digestry but no {layout.STORE_FILE}; restore that file, it "
            "tells which store this is"
        )
    raise CommandError(
        f"{root} is not empty and not a data directory of digestry (it holds {foreign[0]!r}); "
        "choose another with --data"
    )


def _was_begun(root: Path, names: set[str]) -> bool:
    """Whether a first start was cut short before ``store.json``: our folders, and no blob in any.

    Should the index have belonged to a store all the same, the next start notices and keeps
    collection off.
    """
    ours = {name for name in names if name.startswith(layout.INDEX_FILE)} | _MADE_FIRST
    kept = (root / layout.BLOBS, root / layout.QUARANTINE)
    return (
        not names - _HARMLESS - ours
        and (root / layout.BLOBS).is_dir()
        and not any(folder.is_dir() and any(folder.iterdir()) for folder in kept)
    )


def _is_half_written(name: str) -> bool:
    return name.startswith((f"{layout.STORE_FILE}.new", f"{presence.FILE}.new"))


def _check_one_disk(root: Path, mounts: str) -> None:
    """Blobs are renamed between these directories, which only works within one mount."""
    here = mount_of(root, mounts)[0]
    for name in _ON_ONE_DISK:
        path = (root / name).resolve()
        if path.exists() and mount_of(path, mounts)[0] != here:
            raise CommandError(
                f"{root / name} is on another file system than {root}; uploads, blobs and "
                "quarantine must lie on one"
            )


def _lock(root: Path, sleep: Callable[[float], None]) -> int:
    path = root / layout.PROCESS_LOCK
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CommandError(f"cannot write in {root}: {error.strerror}") from error
    deadline = time.monotonic() + ORPHAN_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = presence.find(root)
            orphaned = owner is not None and not is_alive(owner.pid)
            if not orphaned or time.monotonic() > deadline:
                os.close(descriptor)
                raise DirectoryInUse(root, owner) from error
            sleep(0.02)
        except OSError as error:
            os.close(descriptor)
            raise CommandError(f"cannot lock {path}: {error.strerror}") from error
        else:
            return descriptor
