"""The directory that files are fetched into: nothing is written outside of it.

Every directory on the way to a file is opened by its name alone, from the one above, and a link is
not followed: neither ``..`` in a path, which the grammar refuses, nor a link that somebody laid in
the directory leads out. The directory itself may be reached through links; that is who called.

A file grows as ``<name>.<16 digits of its digest>.part`` and gets its name once it was verified and
synced. The digest in the name says what may be continued. One process at a time writes it; the lock
is a courtesy, since two that fetch the same digest would write the same bytes.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal

from registry.client.errors import TargetRefused, WriteFailed
from registry.client.transfer import PIECE_BYTES, Halt
from registry.domain.paths import SEGMENT_BYTES
from registry.domain.trees import TreeFile
from store.digest import Digest

Found = Literal["absent", "same", "differs"]

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PART: Final = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def part_path(file: TreeFile) -> str:
    """Where a file grows, beside where it will be."""
    folder, slash, name = file.path.rpartition("/")
    grown = f"{name}.{file.digest.hex[:16]}.part"
    if len(grown.encode()) > SEGMENT_BYTES:
        grown = f"{hashlib.sha256(file.path.encode()).hexdigest()[:32]}.part"
    return f"{folder}{slash}{grown}"


class Target:
    """An open directory; every method blocks. Close it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        try:
            root.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise TargetRefused(str(root), f"cannot be written to: {error.strerror}") from error

    def close(self) -> None:
        os.close(self._descriptor)

    def find(self, file: TreeFile, halt: Halt) -> Found:
        """What is there already; raises `TargetRefused` for what can never be replaced."""
        folder, name = self._split(file.path)
        try:
            parent = self._open_folder(folder, make=False)
        except FileNotFoundError:
            return "absent"
        try:
            facts = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if stat.S_ISDIR(facts.st_mode):
                raise TargetRefused(str(self.root / file.path), "is a directory")
            if not stat.S_ISREG(facts.st_mode) or facts.st_size != file.size_bytes:
                return "differs"
            return "same" if _digest(name, parent, halt) == file.digest else "differs"
        except FileNotFoundError:
            return "absent"
        finally:
            os.close(parent)

    def grown_bytes(self, file: TreeFile) -> int:
        """How much of a file an earlier run has left."""
        folder, name = self._split(part_path(file))
        try:
            parent = self._open_folder(folder, make=False)
        except FileNotFoundError:
            return 0
        try:
            return min(os.stat(name, dir_fd=parent, follow_symlinks=False).st_size, file.size_bytes)
        except FileNotFoundError:
            return 0
        finally:
            os.close(parent)

    def free_bytes(self) -> int:
        facts = os.fstatvfs(self._descriptor)
        return facts.f_bavail * facts.f_frsize

    def ignores_case(self) -> bool:
        """Whether two names that differ in case are one file here."""
        name = f".digestry-Case-{os.getpid()}"
        os.close(
            os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600, dir_fd=self._descriptor)
        )
        try:
            os.stat(name.lower(), dir_fd=self._descriptor)
        except FileNotFoundError:
            return False
        finally:
            os.unlink(name, dir_fd=self._descriptor)
        return True

    def open_part(self, file: TreeFile) -> Part:
        """The growing file, made or found again with what it holds."""
        folder, name = self._split(file.path)
        parent = self._open_folder(folder, make=True)
        try:
            return Part(file, parent, part_path(file).rpartition("/")[2], name, self.root)
        except BaseException:
            os.close(parent)
            raise

    def _open_folder(self, segments: Sequence[str], *, make: bool) -> int:
        descriptor = os.dup(self._descriptor)
        for depth, segment in enumerate(segments):
            try:
                if make:
                    with suppress(FileExistsError):
                        os.mkdir(segment, dir_fd=descriptor)
                inner = os.open(segment, _DIRECTORY, dir_fd=descriptor)
            except FileNotFoundError:
                raise
            except OSError as error:
                place = str(self.root.joinpath(*segments[: depth + 1]))
                if error.errno in (errno.ENOTDIR, errno.ELOOP):
                    raise TargetRefused(place, "is not a directory, or a link to one") from error
                raise TargetRefused(place, f"cannot be used: {error.strerror}") from error
            finally:
                os.close(descriptor)
            descriptor = inner
        return descriptor

    @staticmethod
    def _split(path: str) -> tuple[list[str], str]:
        *folder, name = path.split("/")
        return folder, name


class Part:
    """A growing file and the digest of what it holds; every method blocks. Close it."""

    def __init__(self, file: TreeFile, parent: int, grown: str, name: str, root: Path) -> None:
        self._file = file
        self._parent = parent
        self._grown = grown
        self._name = name
        self._root = root
        self._place = str(root / file.path)
        self.length = 0
        self._hash = hashlib.sha256()
        try:
            self._descriptor = os.open(grown, _PART, 0o666, dir_fd=parent)
        except OSError as error:
            raise TargetRefused(self._place, f"cannot be written: {error.strerror}") from error
        try:
            if not stat.S_ISREG(os.fstat(self._descriptor).st_mode):
                raise TargetRefused(f"{self._place}: {grown}", "is in the way")
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._descriptor)
            raise TargetRefused(self._place, "is being fetched by another process") from error
        except BaseException:
            os.close(self._descriptor)
            raise

    def catch_up(self, halt: Halt) -> int:
        """Hash what an earlier run has left; how much that is."""
        if os.fstat(self._descriptor).st_size > self._file.size_bytes:
            self.restart()
        while piece := os.pread(self._descriptor, PIECE_BYTES, self.length):
            self._hash.update(piece)
            self.length += len(piece)
            halt.check()
        return self.length

    def append(self, pieces: Sequence[bytes]) -> None:
        for piece in pieces:
            self._hash.update(piece)
            rest = memoryview(piece)
            while rest:
                try:
                    written = os.pwrite(self._descriptor, rest, self.length)
                except OSError as error:
                    raise WriteFailed(self._place, str(error.strerror)) from error
                self.length += written
                rest = rest[written:]

    @property
    def is_right(self) -> bool:
        return (
            self.length == self._file.size_bytes
            and Digest(self._hash.hexdigest()) == self._file.digest
        )

    def restart(self) -> None:
        """Forget every byte."""
        os.ftruncate(self._descriptor, 0)
        self.length = 0
        self._hash = hashlib.sha256()

    def finish(self, *, sync: bool) -> None:
        """Give the file its name; only for one that `is_right`."""
        assert self.is_right
        try:
            if sync:
                # A rename may reach the disk before the bytes: after a power cut the name would
                # lead to something else.
                os.fsync(self._descriptor)
            os.rename(self._grown, self._name, src_dir_fd=self._parent, dst_dir_fd=self._parent)
        except OSError as error:
            raise WriteFailed(self._place, str(error.strerror)) from error

    def close(self) -> None:
        os.close(self._descriptor)
        os.close(self._parent)


def _digest(name: str, parent: int, halt: Halt) -> Digest:
    running = hashlib.sha256()
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        while piece := file.read(PIECE_BYTES):
            running.update(piece)
            halt.check()
    return Digest(running.hexdigest())
