"""Fetches files of a version into a directory: list, compare, fetch what is missing, verify."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from contextlib import closing
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Final

import aiohttp
import msgspec

from registry.client.connection import Again, Connection, masked, part
from registry.client.errors import Damaged, NotARegistry, Refused, TargetRefused
from registry.client.targets import Found, Part, Target, part_path
from registry.client.transfer import PIECE_BYTES, Halt, Meter, Watch, each, in_thread
from registry.domain.paths import differing_in_case, parse_path
from registry.domain.trees import TreeFile, tree_digest
from registry.errors import Invalid
from store.digest import Digest, InvalidDigest

FETCHED_AT_ONCE: Final = 4
COMPARED_AT_ONCE: Final = 2


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What is wanted: a version as it is asked for, and which of its files; none means all."""

    model: str
    reference: str
    paths: tuple[str, ...] = ()


class Pulled(msgspec.Struct, frozen=True, kw_only=True):
    """What was fetched; sizes are in bytes."""

    model: str
    number: int | None
    label: str | None
    tree: str
    target: str
    files: int
    size: int
    fetched: int
    fetched_size: int
    already_there: int


class _Version(msgspec.Struct):
    number: int
    label: str | None


class _File(msgspec.Struct):
    path: str
    digest: str
    size: int


class _Page(msgspec.Struct):
    model: str
    files: list[_File]
    version: _Version | None = None
    tree: str | None = None
    next: str | None = None


class _Listing(msgspec.Struct, frozen=True):
    """A version as listed and checked; `address` is where its files are, whatever moves."""

    model: str
    version: _Version | None
    tree: Digest
    address: str
    files: list[TreeFile]


async def pull(
    connection: Connection,
    wish: Wish,
    root: Path,
    *,
    watch: Watch,
    replace: bool = False,
    sync: bool = True,
) -> Pulled:
    """Fetch what is wished into `root`; files that are there already and differ are refused.

    With `replace` they are replaced, each by a whole and verified one.
    """
    listing = await _list(connection, wish)
    files = _chosen(listing.files, wish.paths)
    with closing(await in_thread(Target, root, undo=Target.close)) as target:
        found = await _compare(target, files, watch)
        _refuse_to_replace(root, found, replace=replace)
        wanted = [file for file in files if found[file.path] != "same"]
        await in_thread(_check_room, target, wanted)
        meter = Meter("fetching", sum(file.size_bytes for file in wanted), watch)

        async def work(file: TreeFile) -> None:
            await _fetch(connection, f"{listing.address}/", file, target, meter, sync=sync)

        await each(wanted, work, at_once=FETCHED_AT_ONCE)
    version = listing.version
    return Pulled(
        model=listing.model,
        number=None if version is None else version.number,
        label=None if version is None else version.label,
        tree=str(listing.tree),
        target=str(root),
        files=len(files),
        size=sum(file.size_bytes for file in files),
        fetched=len(wanted),
        fetched_size=sum(file.size_bytes for file in wanted),
        already_there=len(files) - len(wanted),
    )


# The list


async def _list(connection: Connection, wish: Wish) -> _Listing:
    """Every file of the version; raises `NotARegistry` for a list that is not its tree's."""
    model = part(wish.model.replace("/", "~"))
    address = f"/models/{model}/{part(wish.reference)}"
    page = await connection.get(f"{address}/", _Page)
    if page.tree is None:
        raise Refused(
            409, "draft", f"{wish.reference} of {page.model} is a draft; publish it first", {}
        )
    tree, version = page.tree, page.version
    # From here on by what does not move: an alias may point elsewhere while we fetch.
    address = f"/models/{model}/{part(tree) if version is None else version.number}"
    files = list(page.files)
    while page.next is not None:
        page = await connection.get(f"{address}/", _Page, {"after": page.next})
        files += page.files
        if page.tree != tree or (page.next is not None and not page.files):
            raise NotARegistry(
                masked(connection.url), "the list of files changed while it was read"
            )
    server = masked(connection.url)
    return _Listing(
        page.model, version, _tree(server, tree), address, _checked(server, tree, files)
    )


def _tree(server: str, text: str) -> Digest:
    try:
        return Digest.parse(text)
    except InvalidDigest as error:
        raise NotARegistry(server, str(error)) from error


def _checked(server: str, tree: str, listed: Sequence[_File]) -> list[TreeFile]:
    """The files, with paths that cannot lead astray; raises `NotARegistry` if they make no tree."""
    try:
        files = [
            TreeFile(parse_path(file.path), Digest.parse(file.digest), file.size) for file in listed
        ]
        actual = tree_digest(files)
    except (Invalid, InvalidDigest) as error:
        raise NotARegistry(server, str(error)) from error
    if str(actual) != tree:
        raise NotARegistry(server, f"it lists files of {actual} as those of {tree}")
    return files


def _chosen(files: Sequence[TreeFile], wanted: Sequence[str]) -> list[TreeFile]:
    """The files that are one of `wanted`, lie below one, or match one with ``*``."""
    if not wanted:
        return list(files)
    chosen: dict[str, TreeFile] = {}
    for text in wanted:
        path = unicodedata.normalize("NFC", text).removesuffix("/")
        matching = [
            file
            for file in files
            if file.path == path or file.path.startswith(f"{path}/") or fnmatchcase(file.path, path)
        ]
        if not matching:
            raise Refused(404, "file_not_found", f"the version has no file {text}", {})
        chosen.update((file.path, file) for file in matching)
    return [chosen[path] for path in sorted(chosen)]


# The directory


async def _compare(target: Target, files: Sequence[TreeFile], watch: Watch) -> dict[str, Found]:
    """What of it is there already, told by its bytes."""
    _refuse_mixed_names(target, files)
    found: dict[str, Found] = {}
    meter = Meter("comparing", sum(file.size_bytes for file in files), watch)

    async def work(file: TreeFile) -> None:
        halt = Halt()
        found[file.path] = await in_thread(target.find, file, halt, halt=halt)
        meter.add(file.size_bytes)

    await each(files, work, at_once=COMPARED_AT_ONCE)
    return found


def _refuse_mixed_names(target: Target, files: Sequence[TreeFile]) -> None:
    """Names that this file system, or our own way of naming parts, would mix up."""
    paths = {file.path for file in files}
    parts = {part_path(file) for file in files}
    if paths & parts or len(parts) < len(files):
        raise TargetRefused(min(paths & parts, default="a file"), "is named like a part of another")
    mixed = differing_in_case(paths)
    if mixed and target.ignores_case():
        raise TargetRefused(
            str(target.root), f"cannot hold both {mixed[0][0]} and {mixed[0][1]}: it ignores case"
        )


def _refuse_to_replace(root: Path, found: dict[str, Found], *, replace: bool) -> None:
    differing = sorted(path for path, state in found.items() if state == "differs")
    if differing and not replace:
        more = f" and {len(differing) - 1} more" if len(differing) > 1 else ""
        raise TargetRefused(str(root / differing[0]), f"is there and differs{more}")


def _check_room(target: Target, files: Sequence[TreeFile]) -> None:
    needed = sum(file.size_bytes - target.grown_bytes(file) for file in files)
    free = target.free_bytes()
    if needed > free:
        raise TargetRefused(
            str(target.root), f"has {free} bytes free and {needed} are to be fetched"
        )


# One file


async def _fetch(
    connection: Connection,
    address: str,
    file: TreeFile,
    target: Target,
    meter: Meter,
    *,
    sync: bool,
) -> None:
    """Fetch one file, going on where an earlier run stopped; give it its name when it is right."""
    with closing(await in_thread(target.open_part, file, undo=Part.close)) as grown:
        halt = Halt()
        meter.add(await in_thread(grown.catch_up, halt, halt=halt))
        for is_last in (False, True):
            await connection.repeated(
                lambda: _fetch_rest(connection, address, file, grown, meter),
                lambda: grown.length,
            )
            if grown.is_right:
                break
            meter.add(-grown.length)
            await in_thread(grown.restart)
            if is_last:
                raise Damaged(file.path, f"what arrives is not {file.digest}")
        await in_thread(partial(grown.finish, sync=sync))


async def _fetch_rest(
    connection: Connection, address: str, file: TreeFile, grown: Part, meter: Meter
) -> None:
    if grown.length == file.size_bytes:
        return
    headers = {}
    if grown.length:
        headers = {"Range": f"bytes={grown.length}-", "If-Range": f'"{file.digest}"'}
    url = address + part(file.path, keep="/")
    async with connection.answered("GET", url, headers=headers) as answer:
        if not _continues(answer, grown.length, file):
            meter.add(-grown.length)
            await in_thread(grown.restart)
        await _receive(answer, file, grown, meter)


def _continues(answer: aiohttp.ClientResponse, offset: int, file: TreeFile) -> bool:
    """Whether the answer begins where we stand; False if it begins at the start."""
    if answer.status != 206:
        return offset == 0
    expected = f"bytes {offset}-{file.size_bytes - 1}/{file.size_bytes}"
    if answer.headers.get("Content-Range") != expected:
        raise Damaged(
            file.path, f"asked from byte {offset} on, got {answer.headers.get('Content-Range')}"
        )
    return True


async def _receive(
    answer: aiohttp.ClientResponse, file: TreeFile, grown: Part, meter: Meter
) -> None:
    """Write what arrives in pieces of about a megabyte, also what came before a failure."""
    pieces: list[bytes] = []
    waiting = 0
    try:
        async for piece in answer.content.iter_any():
            pieces.append(piece)
            waiting += len(piece)
            if grown.length + waiting > file.size_bytes:
                raise Damaged(file.path, f"is longer than its {file.size_bytes} bytes")
            if waiting >= PIECE_BYTES:
                batch, pieces, waiting = pieces, [], 0  # a write that fails is not repeated
                await _write(grown, batch, meter)
    finally:
        if grown.length + waiting <= file.size_bytes:
            await _write(grown, pieces, meter)
    if grown.length < file.size_bytes:
        raise Again(f"{file.path} ended after {grown.length} of {file.size_bytes} bytes")


async def _write(grown: Part, pieces: Sequence[bytes], meter: Meter) -> None:
    before = grown.length
    await in_thread(grown.append, pieces)
    meter.add(grown.length - before)
