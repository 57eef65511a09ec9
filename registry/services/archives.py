"""A version as one archive: how large it is, what lies where in it, and its bytes in order.

Sizes and offsets follow from paths and sizes alone, so an archive has a length, an entity tag and
ranges before a byte of it is read, and a broken download resumes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from functools import partial
from typing import TypeAlias

import msgspec

from registry.catalog.trees import first_unreadable
from registry.domain import tars
from registry.domain.trees import TreeFile, TreeHasher
from registry.services.files import PAGE_FILES, all_files, readable_row
from registry.services.resolve import DraftFiles, Tree
from store.blobs import ByteRange
from store.digest import Digest
from store.errors import Corrupt
from store.index.blobs import BlobRow
from store.index.transactions import Tx
from store.opening import Store


class Archive(msgspec.Struct, frozen=True):
    """What an archive of a version will be: its size and what stands for its bytes."""

    place: Tree | DraftFiles
    tree: Digest
    size_bytes: int
    snapshot: list[TreeFile] | None
    """The files of a draft, taken at once; those of a tree are read while they are sent."""


class Content(msgspec.Struct, frozen=True):
    """A part of a file's bytes, which come from its blob."""

    row: BlobRow
    part: ByteRange


Piece: TypeAlias = bytes | Content


class Outgoing(msgspec.Struct, frozen=True):
    """An archive as it is sent: what stands for its bytes, how many there are, and any of them."""

    content: Digest
    size_bytes: int
    pieces: Callable[[ByteRange], AsyncGenerator[Piece, None]]


def outgoing(store: Store, archive: Archive) -> Outgoing:
    return Outgoing(archive.tree, archive.size_bytes, partial(pieces, store, archive))


async def plan_archive(store: Store, place: Tree | DraftFiles) -> Archive:
    """Everything about an archive but its bytes.

    Raises `Corrupt` if a file of it cannot be read now, while that can still be answered.
    """
    if isinstance(place, DraftFiles):
        snapshot = [file async for page in all_files(store, place) for file in page]
        return await asyncio.to_thread(_plan_snapshot, place, snapshot)

    async def unit(tx: Tx) -> None:
        unreadable = await first_unreadable(tx, place.digest)
        if unreadable is not None:
            raise Corrupt(unreadable)

    await store.index.read(unit)
    size = len(tars.END)
    async for page in all_files(store, place):
        size += sum(tars.entry_size(file.path, file.size_bytes) for file in page)
    return Archive(place, place.digest, size, None)


def _plan_snapshot(place: DraftFiles, snapshot: list[TreeFile]) -> Archive:
    hasher, size = TreeHasher(), len(tars.END)
    for file in snapshot:
        hasher.update(file.path, file.digest.hex, file.size_bytes)
        size += tars.entry_size(file.path, file.size_bytes)
    return Archive(place, hasher.finish(), size, snapshot)


async def archive_pages(store: Store, archive: Archive) -> AsyncIterator[list[TreeFile]]:
    """The files of an archive in the order in which they are in it."""
    if archive.snapshot is None:
        async for page in all_files(store, archive.place):
            yield page
        return
    for start in range(0, len(archive.snapshot), PAGE_FILES):
        yield archive.snapshot[start : start + PAGE_FILES]


async def rows_of(store: Store, files: list[TreeFile]) -> list[BlobRow]:
    """The blobs of some files, ready to be read; raises `Corrupt` or `Unavailable`."""

    async def unit(tx: Tx) -> list[BlobRow]:
        return [await readable_row(tx, file) for file in files]

    return await store.index.read(unit)


async def pieces(store: Store, archive: Archive, within: ByteRange) -> AsyncGenerator[Piece, None]:
    """The bytes of a range of an archive, those of files as parts of their blobs."""
    position = 0
    async for page in archive_pages(store, archive):
        wanted: list[tuple[int, TreeFile]] = []
        for file in page:
            following = position + tars.entry_size(file.path, file.size_bytes)
            if following > within.start and position < within.stop:
                wanted.append((position, file))
            position = following
        if wanted:
            rows = await rows_of(store, [file for _, file in wanted])
            for (start, file), row in zip(wanted, rows, strict=True):
                for piece in entry_of_blob(file, row, start, within):
                    yield piece
        if position >= within.stop:
            return
    yield clipped(tars.END, position, within)


def entry_of_blob(file: TreeFile, row: BlobRow, start: int, within: ByteRange) -> list[Piece]:
    """What of an entry that begins at `start` lies within a range; its content is a blob."""
    header = tars.header_of(file.path, file.size_bytes)
    content = start + len(header)
    end = content + file.size_bytes
    found: list[Piece] = [clipped(header, start, within)]
    part = ByteRange(max(0, within.start - content), min(file.size_bytes, within.stop - content))
    if part.start < part.stop:
        found.append(Content(row, part))
    padding = bytes(tars.padded(file.size_bytes) - file.size_bytes)
    found.append(clipped(padding, end, within))
    return found


def clipped(piece: bytes, start: int, within: ByteRange) -> bytes:
    """What of a piece that stands at `start` lies within a range."""
    return piece[max(0, within.start - start) : max(0, within.stop - start)]
