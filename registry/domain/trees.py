"""A tree is an immutable list of files; its digest is the SHA-256 of one canonical text.

The text is the line ``digestry-tree-1``, then one line ``<size> <64 hex> <path>`` for each file,
sorted by the bytes of the path, every line ended by a single newline. The size is decimal without
leading zeros. It says nothing of media types, modes or times: equal files are equal trees, through
whichever door they came.

`VECTORS` are what every implementation must agree on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final

import msgspec

from registry.domain.paths import file_that_is_a_directory, order, parse_path
from registry.errors import Invalid
from store.digest import Digest, InvalidDigest

FIRST_LINE: Final = b"digestry-tree-1\n"


class TreeFile(msgspec.Struct, frozen=True, gc=False):
    """One file of a tree, or of a draft that is to become one."""

    path: str
    digest: Digest
    size_bytes: int


class TreeHasher:
    """The digest of a tree whose files arrive in order, without holding them."""

    __slots__ = ("_hash", "files", "size_bytes")

    def __init__(self) -> None:
        self._hash = hashlib.sha256(FIRST_LINE)
        self.files = 0
        self.size_bytes = 0

    def update(self, path: str, hex_digest: str, size_bytes: int) -> None:
        """Add the next file; the caller keeps the order."""
        self._hash.update(b"%d %s %s\n" % (size_bytes, hex_digest.encode(), path.encode()))
        self.files += 1
        self.size_bytes += size_bytes

    def finish(self) -> Digest:
        return Digest(self._hash.hexdigest())


def sorted_files(files: Iterable[TreeFile]) -> list[TreeFile]:
    """Files in order; raises `Invalid` for a path twice or one that is also a directory."""
    found = sorted(files, key=lambda file: order(file.path))
    for one, other in pairwise(found):
        if one.path == other.path:
            raise Invalid("files", f"{one.path!r} appears twice", code="path_twice")
    clash = file_that_is_a_directory(file.path for file in found)
    if clash is not None:
        raise Invalid(
            "files", f"{clash!r} is a file and a directory at once", code="path_is_a_directory"
        )
    return found


def encode_tree(files: Sequence[TreeFile]) -> bytes:
    """The canonical text of files that are already in order."""
    lines = [f"{file.size_bytes} {file.digest.hex} {file.path}\n".encode() for file in files]
    return FIRST_LINE + b"".join(lines)


def tree_digest(files: Iterable[TreeFile]) -> Digest:
    """The digest of a set of files, in whatever order they come."""
    hasher = TreeHasher()
    for file in sorted_files(files):
        hasher.update(file.path, file.digest.hex, file.size_bytes)
    return hasher.finish()


def decode_tree(text: bytes) -> list[TreeFile]:
    """Read a canonical text; raises `Invalid` for anything that `encode_tree` would not write."""
    if not text.startswith(FIRST_LINE) or not text.endswith(b"\n"):
        raise Invalid("tree", "does not begin with the line digestry-tree-1", code="tree_invalid")
    try:
        files = [_decode_line(line) for line in text[len(FIRST_LINE) :].decode().split("\n")[:-1]]
    except (ValueError, InvalidDigest) as error:
        raise Invalid("tree", str(error), code="tree_invalid") from error
    if encode_tree(sorted_files(files)) != text:
        raise Invalid("tree", "is not in canonical form", code="tree_invalid")
    return files


def _decode_line(line: str) -> TreeFile:
    size, hex_digest, path = line.split(" ", 2)
    if not (size.isascii() and size.isdecimal()):
        raise ValueError(f"not a size: {size[:40]!r}")
    if parse_path(path) != path:
        raise ValueError(f"not in normal form: {path[:120]!r}")
    return TreeFile(path, Digest.from_hex(hex_digest), int(size))


EMPTY_TREE: Final = Digest.of(FIRST_LINE)
"""The digest of no files at all; versions whose bytes live elsewhere have it."""

_EMPTY_FILE: Final = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
_ABC: Final = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

VECTORS: Final[tuple[tuple[tuple[tuple[int, str, str], ...], str], ...]] = (
    ((), "b7000d768007b6840a52cc59fefce765758caa6becebd742be06fafd634406f3"),
    (
        ((0, _EMPTY_FILE, "empty"),),
        "228a497da86f0b7540a584eadbae1599be21254e640aad0f112e7e503c67ee95",
    ),
    (
        # Upper case sorts before lower, '-' before '.' before '/'.
        (
            (3, _ABC, "config.json"),
            (3, _ABC, "a/b"),
            (0, _EMPTY_FILE, "a-b"),
            (0, _EMPTY_FILE, "a.b"),
            (3, _ABC, "Zebra"),
        ),
        "93d6f122f7a8479a4c225257f95fe0b98801e4bbca980e7d21302988376dc036",
    ),
    (
        # Bytes of UTF-8, so U+FB01 before U+1F600, which UTF-16 would sort the other way.
        (
            (3, _ABC, "gr\u00fcn.txt"),
            (3, _ABC, "\U0001f600"),
            (0, _EMPTY_FILE, "\ufb01n"),
            (1 << 40, _ABC, "two words.bin"),
        ),
        "7a221ff4c94ce2cbaedb8b850da7c793e32fd79249c9a0dce0eb51d85b0e3f7c",
    ),
)
"""Files as (size, hex digest, path), in any order, and the digest of their tree."""
