"""Goes through the files of a blob directory: lists them, and hashes small ones.

Blocking, and without the rest of the store: `store.hands` runs this module by its path, as a
process beside it that imports nothing else. There a thread of this process would compete for the
interpreter with whoever compares what it finds: small files are mostly calls, not hashing.

**What the process is asked, and answers.** A line, and the answer's length in eight bytes before
it::

    list <first>                   pages, as `packed` writes them
    hash <count>, then so many     `RESULT_BYTES` for each file
    lines "<64 hex> <size>"
    anything else, or an error     the length -1; who asks does it himself, and sees the error
"""

from __future__ import annotations

import hashlib
import os
import re
import signal
import struct
import sys
from array import array
from collections.abc import Iterable, Sequence
from contextlib import suppress
from stat import S_ISREG
from typing import BinaryIO

from blake3 import blake3

PAGE_FILES = 2000
RESULT_BYTES = 33
HEADER = struct.Struct(">II")
LENGTH = struct.Struct(">q")
NICENESS = 10

_NAME = re.compile(r"[0-9a-f]{64}\Z")
_NOT_WHOLE = bytes(RESULT_BYTES)


class Listing:
    """Files in order of digest: how large they are, and when they were changed."""

    __slots__ = ("lines", "modified")

    def __init__(self) -> None:
        self.lines: list[str] = []
        """``<64 hex> <size>`` each."""
        self.modified = array("q")
        """Microseconds since the epoch."""


def directories(path: str) -> list[str]:
    """The shards in a directory, in order."""
    try:
        with os.scandir(path) as entries:
            found = [
                e.name for e in entries if len(e.name) == 2 and e.is_dir(follow_symlinks=False)
            ]
    except FileNotFoundError:
        return []
    return sorted(found)


def listed(folder: str, first: str) -> Listing:
    """All blobs whose digest begins so: a 256th, as most shards of two levels hold very few."""
    listing = Listing()
    lines, modified = listing.lines, listing.modified
    for second in directories(f"{folder}/{first}"):
        prefix = first + second
        try:
            with os.scandir(f"{folder}/{first}/{second}") as entries:
                found = [e for e in entries if e.name.startswith(prefix) and _NAME.match(e.name)]
        except FileNotFoundError:
            continue
        if len(found) > 1:
            found.sort(key=_name)
        for entry in found:
            try:
                facts = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            if S_ISREG(facts.st_mode):
                lines.append(f"{entry.name} {facts.st_size}")
                modified.append(facts.st_mtime_ns // 1000)
    return listing


def hashed(folder: str, files: Iterable[tuple[str, int]]) -> bytes:
    """For each file a one and its BLAKE3 if it is whole and called by its digest, else zeros.

    What the medium has is read, not what the page cache has: pages of a write that failed stay in
    there, and whoever reads them takes for stored what is gone with the next start. Dirty pages
    are not dropped, so whoever asks has synced everything before.
    """
    result = bytearray()
    for name, size_bytes in files:
        content = _read(f"{folder}/{name[:2]}/{name[2:4]}/{name}", size_bytes)
        if content is not None and hashlib.sha256(content).hexdigest() == name:
            result += b"\1"
            result += blake3(content).digest()
        else:
            result += _NOT_WHOLE
    return bytes(result)


def _read(path: str, size_bytes: int) -> bytes | None:
    """A file's bytes, and one more if it is longer; None if it cannot be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        forget_pages(descriptor)
        return os.read(descriptor, size_bytes + 1)
    except OSError:
        return None
    finally:
        os.close(descriptor)


def forget_pages(descriptor: int) -> None:
    """Drop a file from the page cache, so that what is read next comes from the medium."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def packed(listing: Listing) -> bytes:
    """A listing as one value: pages of a count, the length of their lines, these, the times."""
    pieces = []
    for start in range(0, len(listing.lines), PAGE_FILES):
        lines = listing.lines[start : start + PAGE_FILES]
        text = "\n".join(lines).encode()
        pieces += [HEADER.pack(len(lines), len(text)), text]
        pieces.append(listing.modified[start : start + PAGE_FILES].tobytes())
    return b"".join(pieces)


def unpacked(content: bytes) -> list[tuple[str, array[int]]]:
    """What `packed` made: text and times of each page."""
    pages, at = [], 0
    while at < len(content):
        count, size_bytes = HEADER.unpack_from(content, at)
        at += HEADER.size
        text = content[at : at + size_bytes].decode()
        at += size_bytes
        modified = array("q", content[at : at + 8 * count])
        at += 8 * count
        pages.append((text, modified))
    return pages


def parsed(lines: Iterable[str]) -> list[tuple[str, int]]:
    """Names and sizes of ``<64 hex> <size>``."""
    return [(line[:64], int(line[65:])) for line in lines]


def serve(folder: str, asked: BinaryIO, answers: BinaryIO) -> None:
    """Do what is asked until nobody asks any more."""
    while line := asked.readline():
        verb, _, value = line.decode().rstrip("\n").partition(" ")
        try:
            if verb == "list":
                answer: bytes | None = packed(listed(folder, value))
            elif verb == "hash":
                files = [asked.readline().decode() for _ in range(int(value))]
                answer = hashed(folder, parsed(files))
            else:
                answer = None
        except (OSError, ValueError):
            answer = None
        answers.write(LENGTH.pack(-1 if answer is None else len(answer)) + (answer or b""))
        answers.flush()


def main(arguments: Sequence[str]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever asks ends it by asking no more
    with suppress(OSError):
        os.nice(NICENESS)  # as the threads that do bulk work
    serve(arguments[0], sys.stdin.buffer, sys.stdout.buffer)


def _name(entry: os.DirEntry[str]) -> str:
    return entry.name


if __name__ == "__main__":
    main(sys.argv[1:])
