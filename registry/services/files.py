"""The files of a version or a draft: one of them, a page of them, all of them for ``sha256sum``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

import msgspec

from registry.catalog.folders import draft_files_after, draft_totals, find_draft_file
from registry.catalog.trees import checksum_bytes, find_tree_file, tree_files_after
from registry.domain.principals import Principal
from registry.domain.references import ModelReference, VersionReference
from registry.domain.trees import TreeFile
from registry.errors import NotFound
from registry.services.resolve import DraftFiles, Tree, follow, require_model
from store.errors import Corrupt, Unavailable
from store.index.blobs import DAMAGED, BlobRow, find_blob
from store.index.transactions import Tx
from store.opening import Store

PAGE_FILES: Final = 1000
"""How many files are read from the index at a time, wherever all of them are needed."""

SUMS_NAME: Final = "SHA256SUMS"
"""The list for ``sha256sum -c``; a file of that name in the version wins."""


class FoundFile(msgspec.Struct, frozen=True):
    """A file, where it was found, and the row of its blob."""

    place: Tree | DraftFiles
    file: TreeFile
    row: BlobRow


class Listing(msgspec.Struct, frozen=True):
    """A page of files; `next` is the path to continue after, None at the end."""

    place: Tree | DraftFiles
    files: int
    size_bytes: int
    items: list[TreeFile]
    next: str | None


async def find_file(
    store: Store,
    principal: Principal,
    model: ModelReference,
    reference: VersionReference,
    path: str,
) -> FoundFile:
    """A file ready to be read; raises `NotFound`, `Corrupt` or `Unavailable`."""

    async def unit(tx: Tx) -> FoundFile:
        found = await require_model(tx, principal, model)
        place = await follow(tx, found, reference)
        file = await _file_at(tx, place, path)
        if file is None:
            raise NotFound("file", f"{path} in {place.name} of {found.name}", code="file_not_found")
        return FoundFile(place, file, await readable_row(tx, file))

    return await store.index.look(unit)


async def find_only_file(store: Store, place: Tree | DraftFiles) -> FoundFile | None:
    """The file of a version that has just one; None if it has more, or none."""

    async def unit(tx: Tx) -> FoundFile | None:
        files = await _page(tx, place, "", 2)
        if len(files) != 1:
            return None
        return FoundFile(place, files[0], await readable_row(tx, files[0]))

    return await store.index.look(unit)


async def list_files(
    store: Store, place: Tree | DraftFiles, *, after: str = "", limit: int = PAGE_FILES
) -> Listing:
    """A page of files in order of the bytes of their paths."""

    async def unit(tx: Tx) -> Listing:
        items = await _page(tx, place, after, limit + 1)
        files, size = await _totals(tx, place)
        following = items[limit - 1].path if len(items) > limit else None
        return Listing(place, files, size, items[:limit], following)

    return await store.index.read(unit)


async def all_files(
    store: Store, place: Tree | DraftFiles, *, after: str = ""
) -> AsyncIterator[list[TreeFile]]:
    """Every file, page by page. Of a draft it is what each page finds when it is read."""
    while True:
        start = after

        async def unit(tx: Tx, start: str = start) -> list[TreeFile]:
            return await _page(tx, place, start, PAGE_FILES)

        page = await store.index.read(unit)
        if page:
            yield page
        if len(page) < PAGE_FILES:
            return
        after = page[-1].path


async def checksums(store: Store, place: Tree | DraftFiles) -> AsyncIterator[bytes]:
    """Lines for ``sha256sum -c``; paths hold nothing that would need its escapes."""
    async for page in all_files(store, place):
        yield "".join(f"{file.digest.hex}  {file.path}\n" for file in page).encode()


async def checksums_size(store: Store, place: Tree) -> int:
    """How many bytes `checksums` makes of a tree."""

    async def unit(tx: Tx) -> int:
        return await checksum_bytes(tx, place.digest)

    return await store.index.read(unit)


async def readable_row(tx: Tx, file: TreeFile) -> BlobRow:
    """The row of a file's blob; the file is referenced, so anything but present is damage."""
    row = await find_blob(tx, file.digest)
    if row is None or row.state == DAMAGED:
        raise Corrupt(file.digest)
    if not row.is_readable:
        raise Unavailable("reading a blob")
    return row


async def _file_at(tx: Tx, place: Tree | DraftFiles, path: str) -> TreeFile | None:
    if isinstance(place, Tree):
        return await find_tree_file(tx, place.digest, path)
    return await find_draft_file(tx, place.draft.id, path)


async def _page(tx: Tx, place: Tree | DraftFiles, after: str, limit: int) -> list[TreeFile]:
    if isinstance(place, Tree):
        return await tree_files_after(tx, place.digest, after, limit)
    return await draft_files_after(tx, place.draft.id, after, limit)


async def _totals(tx: Tx, place: Tree | DraftFiles) -> tuple[int, int]:
    if isinstance(place, Tree):
        return place.files, place.size_bytes
    return await draft_totals(tx, place.draft.id)
