"""Which local files become which paths of a version, and their digests.

A file is called by its last segment, the files of a directory by their path below it. Links to
files are followed, because caches of models are made of them; links to directories are not, because
they may lead anywhere and back. ``.git`` is left out: no path of a version may have it.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from registry.client.errors import SourceChanged, SourceRefused
from registry.client.transfer import PIECE_BYTES, Halt, Meter, Watch, each, in_thread
from registry.domain.paths import file_that_is_a_directory, parse_path
from registry.errors import Invalid
from store.digest import Digest

Item = TypeVar("Item")

GROUPED: Final = 256
"""So many small files, or `PIECE_BYTES` of them, are read in one hop to a thread."""

_LEFT_OUT: Final = ".git"
_HASHED_AT_ONCE: Final = max(2, min(4, os.cpu_count() or 1))


class Source(msgspec.Struct, frozen=True):
    """A local file and its path in the version; `stamp` changes when the file does."""

    path: str
    local: Path
    size_bytes: int
    stamp: tuple[int, int, int]


class Hashed(msgspec.Struct, frozen=True):
    source: Source
    digest: Digest


def find_sources(places: Sequence[Path]) -> list[Source]:
    """The files that `places` mean, ordered by path; raises `SourceRefused`. Blocking."""
    found: dict[str, Source] = {}
    for place in places:
        for local, name in _files(place):
            source = _source(local, name)
            other = found.get(source.path)
            if other is not None:
                raise SourceRefused(str(local), f"and {other.local} would both be {source.path}")
            found[source.path] = source
    if not found:
        raise SourceRefused(", ".join(map(str, places)), "has no files")
    clash = file_that_is_a_directory(found)
    if clash is not None:
        raise SourceRefused(str(found[clash].local), "would be a file and a directory at once")
    return [found[path] for path in sorted(found)]


def _files(place: Path) -> Iterator[tuple[Path, str]]:
    if not place.is_dir():
        yield place, place.resolve().name if place.name in ("", "..") else place.name
        return
    for folder, folders, files in os.walk(place, onerror=_raise):
        folders[:] = sorted(name for name in folders if name != _LEFT_OUT)
        for name in folders:
            if os.path.islink(os.path.join(folder, name)):
                raise SourceRefused(os.path.join(folder, name), "is a link to a directory")
        for name in files:
            local = Path(folder, name)
            if name != _LEFT_OUT:  # a worktree and a submodule have a file of that name
                yield local, local.relative_to(place).as_posix()


def _raise(error: OSError) -> None:
    raise SourceRefused(str(error.filename), f"cannot be read: {error.strerror}") from error


def _source(local: Path, name: str) -> Source:
    try:
        path = parse_path(name)
    except Invalid as error:
        raise SourceRefused(str(local), f"cannot be a path of a version: {error.reason}") from error
    try:
        facts = local.stat()
    except OSError as error:
        raise SourceRefused(str(local), f"cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(facts.st_mode):
        raise SourceRefused(str(local), "is neither a file nor a directory")
    return Source(path, local, facts.st_size, _stamp(facts))


def _stamp(facts: os.stat_result) -> tuple[int, int, int]:
    return facts.st_ino, facts.st_mtime_ns, facts.st_size


def open_source(source: Source) -> int:
    """A descriptor of the file as it was found; raises `SourceChanged`. Blocking."""
    try:
        descriptor = os.open(source.local, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise SourceChanged(str(source.local)) from error
    except OSError as error:
        raise SourceRefused(str(source.local), f"cannot be read: {error.strerror}") from error
    if _stamp(os.fstat(descriptor)) != source.stamp:
        os.close(descriptor)
        raise SourceChanged(str(source.local))
    return descriptor


def read_source(source: Source) -> bytes:
    """All of a small file, as it was found; raises `SourceChanged`. Blocking."""
    descriptor = open_source(source)
    try:
        # One byte more shows a file that has grown; the stamp, one that was written meanwhile.
        content = os.read(descriptor, source.size_bytes + 1)
        if len(content) != source.size_bytes or _stamp(os.fstat(descriptor)) != source.stamp:
            raise SourceChanged(str(source.local))
    except OSError as error:
        raise SourceRefused(str(source.local), f"cannot be read: {error.strerror}") from error
    finally:
        os.close(descriptor)
    return content


def in_groups(
    items: Iterable[Item], size_of: Callable[[Item], int], *, most_bytes: int, most: int
) -> Iterator[list[Item]]:
    """So many in a row as stay within both bounds, or one that is larger by itself."""
    group: list[Item] = []
    size = 0
    for item in items:
        more = size_of(item)
        if group and (size + more > most_bytes or len(group) >= most):
            yield group
            group, size = [], 0
        group.append(item)
        size += more
    if group:
        yield group


async def hash_sources(sources: Sequence[Source], watch: Watch) -> list[Hashed]:
    """The digest of every file, in the order given."""
    meter = Meter("hashing", sum(source.size_bytes for source in sources), watch)
    digests: dict[str, Digest] = {}
    loop = asyncio.get_running_loop()

    def count(done: int) -> None:
        loop.call_soon_threadsafe(meter.add, done)

    async def work(group: Sequence[Source]) -> None:
        halt = Halt()
        found = await in_thread(_hash_all, group, count, halt, halt=halt)
        digests.update((source.path, digest) for source, digest in zip(group, found, strict=True))

    groups = in_groups(
        sources, lambda source: source.size_bytes, most_bytes=PIECE_BYTES, most=GROUPED
    )
    await each(groups, work, at_once=_HASHED_AT_ONCE)
    return [Hashed(source, digests[source.path]) for source in sources]


def _hash_all(group: Sequence[Source], count: Callable[[int], None], halt: Halt) -> list[Digest]:
    if len(group) == 1:
        return [_hash(group[0], count, halt)]
    digests: list[Digest] = []
    for source in group:
        digests.append(Digest.of(read_source(source)))
        halt.check()
    count(sum(source.size_bytes for source in group))
    return digests


def _hash(source: Source, count: Callable[[int], None], halt: Halt) -> Digest:
    running = hashlib.sha256()
    buffer = memoryview(bytearray(min(PIECE_BYTES, source.size_bytes + 1)))
    descriptor = open_source(source)
    try:
        with os.fdopen(descriptor, "rb", buffering=0, closefd=False) as file:
            while size := file.readinto(buffer):
                running.update(buffer[:size])
                count(size)
                halt.check()
        if _stamp(os.fstat(descriptor)) != source.stamp:
            raise SourceChanged(str(source.local))
    except OSError as error:
        raise SourceRefused(str(source.local), f"cannot be read: {error.strerror}") from error
    finally:
        os.close(descriptor)
    return Digest(running.hexdigest())
