"""The form of a file in the archive: independent zstd frames, so that a part is read by itself.

It is the seekable format of zstd's authors, so ``zstd -dc FILE`` gives the bytes back with nothing
of ours installed::

    skippable frame 0x184D2A50    "digestry-cold-1\\n", SHA-256 of the bytes, their number (8, big)
    zstd frame                    for each piece of 1 MiB, in order
    skippable frame 0x184D2A5E    the table: compressed and plain size of each frame (4 + 4, little)
                                  and a footer: number of frames (4), 0 (1), 0x8F92EAB1 (4)

A piece that compression does not make at least 2 % smaller is a frame of raw blocks: reading it
back then costs a copy instead of a decompression. Trained weights shrink by 7 to 25 %, tokenizers
and JSON by more, archives and images not at all.

Frames are as long as the segments that `store.segments` has a BLAKE3 of, so a reader decompresses
exactly what it verifies. The table is found from the end of the file, is as untrusted as the rest,
and a file whose table does not add up is not read at all.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from store.digest import Digest
from store.segments import SEGMENT_BYTES

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

FRAME_BYTES: Final = SEGMENT_BYTES
LEVEL: Final = 3
"""Higher levels made weights no smaller and took longer; JSON gains little above it."""

WORTH: Final = 0.98
"""What a compressed piece may have of its plain size."""

_TITLE: Final = b"digestry-cold-1\n"
_HEAD: Final = 0x184D2A50
_TABLE: Final = 0x184D2A5E
_FOOTER: Final = 0x8F92EAB1
_FOOTER_BYTES: Final = 9
_ZSTD: Final = 0xFD2FB528
_BLOCK_BYTES: Final = 128 << 10
"""The most that a block of zstd holds."""

HEAD_BYTES: Final = 8 + len(_TITLE) + 32 + 8

Read = Callable[[int, int], bytes]
"""Bytes of the file at an offset, fewer only at its end; blocking."""


class Unreadable(Exception):
    """The file is not what was written: cut, torn or rotten. What it says of itself is its text."""


def head(digest: Digest, size_bytes: int) -> bytes:
    """How a file begins: whose bytes it holds."""
    content = _TITLE + digest.raw + size_bytes.to_bytes(8, "big")
    return _skippable(_HEAD, content)


def frame(piece: bytes | memoryview) -> bytes:
    """One piece of at most `FRAME_BYTES`, compressed where that pays."""
    packed = zstd.compress(piece, LEVEL)
    return packed if len(packed) <= WORTH * len(piece) else _raw(piece)


def table(sizes: Sequence[tuple[int, int]]) -> bytes:
    """How a file ends: compressed and plain sizes of its frames, in order."""
    entries = b"".join(
        packed.to_bytes(4, "little") + plain.to_bytes(4, "little") for packed, plain in sizes
    )
    footer = len(sizes).to_bytes(4, "little") + b"\0" + _FOOTER.to_bytes(4, "little")
    return _skippable(_TABLE, entries + footer)


class Frames(msgspec.Struct, frozen=True):
    """What a file holds, and where each of its frames begins; the last offset is the table's."""

    digest: Digest
    size_bytes: int
    offsets: list[int]

    @classmethod
    def of(cls, read: Read, stored_bytes: int) -> Frames:
        """Read head and table of a file of so many bytes; raises `Unreadable`."""
        digest, size_bytes = _parse_head(read(0, HEAD_BYTES))
        sizes = _parse_table(read, stored_bytes)
        offsets = [HEAD_BYTES]
        left = size_bytes
        for packed, plain in sizes:
            if plain != min(FRAME_BYTES, left):
                raise Unreadable("a frame has another size than its place")
            left -= plain
            offsets.append(offsets[-1] + packed)
        if left or offsets[-1] + _table_bytes(len(sizes)) != stored_bytes:
            raise Unreadable("the table does not add up")
        return cls(digest, size_bytes, offsets)

    @property
    def count(self) -> int:
        return len(self.offsets) - 1

    def piece(self, read: Read, number: int) -> bytes:
        """The plain bytes of one frame; raises `Unreadable`."""
        start, stop = self.offsets[number], self.offsets[number + 1]
        plain = min(FRAME_BYTES, self.size_bytes - number * FRAME_BYTES)
        packed = read(start, stop - start)
        try:
            # No more is made than there should be, whatever the frame says of itself.
            piece = zstd.ZstdDecompressor().decompress(packed, plain + 1)
        except zstd.ZstdError as error:
            raise Unreadable(f"frame {number}: {error}") from error
        if len(piece) != plain:
            raise Unreadable(f"frame {number} holds {len(piece)} bytes instead of {plain}")
        return piece

    def read_into(self, read: Read, view: memoryview, offset: int) -> int:
        """Fill `view` from an offset of the plain bytes; return how many there were."""
        stop = min(self.size_bytes, offset + len(view))
        filled = 0
        while offset + filled < stop:
            number, skipped = divmod(offset + filled, FRAME_BYTES)
            piece = self.piece(read, number)[skipped : skipped + stop - offset - filled]
            view[filled : filled + len(piece)] = piece
            filled += len(piece)
        return filled


def _skippable(magic: int, content: bytes) -> bytes:
    return magic.to_bytes(4, "little") + len(content).to_bytes(4, "little") + content


def _raw(piece: bytes | memoryview) -> bytes:
    """A frame whose blocks are the bytes themselves; RFC 8878, sections 3.1.1.1 and 3.1.1.2."""
    # A single segment whose content size takes four bytes.
    parts: list[bytes | memoryview] = [
        _ZSTD.to_bytes(4, "little") + b"\xa0" + len(piece).to_bytes(4, "little")
    ]
    last = max(0, len(piece) - 1) // _BLOCK_BYTES * _BLOCK_BYTES
    for start in range(0, last + 1, _BLOCK_BYTES):
        block = piece[start : start + _BLOCK_BYTES]
        parts += [(len(block) << 3 | (start == last)).to_bytes(3, "little"), block]
    return b"".join(parts)


def _parse_head(content: bytes) -> tuple[Digest, int]:
    body = content[8:]
    if len(content) < HEAD_BYTES or not body.startswith(_TITLE):
        raise Unreadable("it does not begin as a file of the archive does")
    raw, size = body[len(_TITLE) : -8], body[-8:]
    digest, size_bytes = Digest(raw.hex()), int.from_bytes(size, "big")
    if content != head(digest, size_bytes):
        raise Unreadable("its head is damaged")
    return digest, size_bytes


def _table_bytes(count: int) -> int:
    return 8 + 8 * count + _FOOTER_BYTES


def _parse_table(read: Read, stored_bytes: int) -> list[tuple[int, int]]:
    footer = read(max(0, stored_bytes - _FOOTER_BYTES), _FOOTER_BYTES)
    count = int.from_bytes(footer[:4], "little")
    start = stored_bytes - _table_bytes(count)
    if len(footer) < _FOOTER_BYTES or start < HEAD_BYTES:
        raise Unreadable("it does not end as a file of the archive does")
    content = read(start, stored_bytes - start)
    entries = [
        (
            int.from_bytes(content[at : at + 4], "little"),
            int.from_bytes(content[at + 4 : at + 8], "little"),
        )
        for at in range(8, 8 + 8 * count, 8)
    ]
    if content != table(entries):
        raise Unreadable("its table is damaged")
    return entries
