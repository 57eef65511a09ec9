"""Take in a model that another registry exported, see `registry.domain.exports`.

**All or nothing.** The archive is read once, with flat memory. Its documents come first and are
refused as a whole; then its trees are written, which nobody can see; then its blobs, verified, each
stored once. At the end one transaction makes the model (`registry.services.import_writing`); until
then its name is free and there is nothing to see. Of a refused archive nothing stays but blobs that
nobody owns, which collection takes.

**Repeating** costs the transfer and its hashing: blobs that the caller may use already are compared
with what arrives, and not written again. That includes those of an import that broke off, which
stay leased to it for an hour under a name that only the same archive by the same principal has.

**Trees** are leased like blobs while nothing has them, so that neither a purge nor another import
that fails takes them away; whichever lets go of one last removes it. If this process dies, trees
that it wrote stay as rows that nothing names; writing the same tree again finds them.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import Final

import msgspec

from registry.catalog.purges import forget_tree
from registry.catalog.trees import insert_tree
from registry.catalog.usable import Claimant, usable_sizes
from registry.domain import exports
from registry.domain.names import ModelName
from registry.domain.principals import Principal
from registry.domain.trees import TreeFile, decode_tree
from registry.errors import Invalid
from registry.services.change import change, fingerprint, recall
from registry.services.gathering import LEASE_SECONDS, Gathering, gathering
from registry.services.import_documents import (
    Archived,
    Entries,
    Parse,
    name_in,
    read_documents,
    tree_of,
    wrong,
)
from registry.services.import_writing import Imported, ImportWish, write_import
from registry.services.quota_watch import admit_blobs
from registry.services.renames import refuse_taken
from registry.services.stowing import SMALL_BYTES
from registry.services.unpack import Entry, TarLimits, TarReader
from store.batches import Source
from store.clock import SECOND
from store.digest import Digest
from store.errors import DigestMismatch
from store.index.claims import add_lease, drop_leases
from store.index.transactions import Tx
from store.opening import Store
from store.recording import StoredBlob

_ASKED_AT_ONCE: Final = 1000
_TREE_LEASE_SECONDS: Final = 86_400
"""They are not renewed; an import that takes longer has to hope that nobody purges its trees."""

_LINE_BYTES: Final = 1200
"""Longer than any line of a tree: a path has at most 1024 bytes."""


class ImportLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How much an archive may ask for."""

    tar: TarLimits
    document_bytes: int
    version_files: int


class _Taken(msgspec.Struct, frozen=True):
    """What of an archive is here before its blobs come."""

    archived: Archived
    target: ModelName
    tree_holder: str
    blobs: dict[Digest, int]
    """Their sizes, in the order of the archive."""

    def name_for(self, principal: Principal) -> str:
        """What only this archive has, in the hands of this principal."""
        told = f"{principal.id}\0{self.target.folded}\0".encode() + self.archived.fingerprint
        return hashlib.sha256(told).hexdigest()[:24]


async def import_model(
    store: Store,
    principal: Principal,
    source: Source,
    *,
    name: ModelName | None,
    limits: ImportLimits,
    parse: Parse,
) -> Imported:
    """Make a model of an archive, under its own name or another.

    Raises `Conflict` for a name that is taken, `Invalid` with what is wrong, `DigestMismatch`, and
    what the source and storing raise; nothing is visible then.
    """
    reader = TarReader(source, limits.tar)
    async with aclosing(reader.entries()) as found:
        entries = Entries(found)
        archived = await read_documents(entries, parse, limits.document_bytes)
        fingerprint(archived.fingerprint)
        await recall(store.index)
        target = name or name_in(archived)
        await store.index.look(partial(refuse_taken, principal=principal, name=target))
        async with _leased_trees(store, archived.trees) as holder:
            blobs = await _take_trees(store, entries, archived, limits, holder)
            count = len(archived.living)
            await admit_blobs(store.index, target, blobs, versions=count)
            taken = _Taken(archived, target, holder, blobs)
            return await _take_and_write(store, principal, entries, taken)


async def _take_and_write(
    store: Store,
    principal: Principal,
    entries: Entries,
    taken: _Taken,
) -> Imported:
    name, stranger = taken.name_for(principal), principal.stranger
    async with gathering(store, "imp", stranger=stranger, name=name) as taking:
        claimant = Claimant(principal.visibility, taking.holder)
        there = await _usable(store, claimant, list(taken.blobs))
        for digest, size in taken.blobs.items():
            entry = await entries.take(exports.blob_name(digest))
            if entry.size_bytes != size:
                raise wrong(entry.path, f"has {entry.size_bytes} bytes; {size} were told")
            is_there = size > SMALL_BYTES and digest in there
            if is_there and await _lease(store, digest, taking.holder):
                await _compare(store, digest, entry)
            else:
                await _take(taking, digest, entry)
        await entries.end()
        await taking.finish()
        wish = ImportWish.fresh(
            store.clock(), taken.archived, taken.target, claimant, taken.tree_holder
        )
        return await change(store, principal, partial(write_import, principal=principal, wish=wish))


# Trees.


@asynccontextmanager
async def _leased_trees(store: Store, trees: Sequence[Digest]) -> AsyncIterator[str]:
    """A holder of leases on trees; whatever fails in the block lets go of them."""
    holder = f"tree_{secrets.token_hex(12)}"
    try:
        yield holder
    except BaseException:
        store.ingest.later(_let_go(store, holder, trees))
        raise


async def _let_go(store: Store, holder: str, trees: Sequence[Digest]) -> None:
    await store.index.run(partial(drop_leases, holder=holder))
    for tree in trees:
        await store.index.run(partial(forget_tree, tree=tree.raw))


async def _take_trees(
    store: Store,
    entries: Entries,
    archived: Archived,
    limits: ImportLimits,
    holder: str,
) -> dict[Digest, int]:
    """Write the trees; the blobs that they name, in the order of the archive, with their sizes."""
    totals = {tree_of(version): (version.files, version.size) for version in archived.versions}
    living = {tree_of(version) for version in archived.living}
    sizes: dict[Digest, int] = {}
    for tree in archived.trees:
        entry = await entries.take(exports.tree_name(tree))
        text = await _tree_text(entry, limits.version_files)
        files = await asyncio.to_thread(_read_tree, entry.path, tree, text)
        if len(files) > limits.version_files:
            raise _too_many(entry, limits.version_files)
        if totals[tree] != (len(files), sum(file.size_bytes for file in files)):
            raise wrong(entry.path, "holds other files than its versions say")
        if tree in living:
            _note(sizes, files)
        if len(sizes) > limits.tar.entries:
            raise wrong("archive", f"names more than {limits.tar.entries} blobs")
        await store.index.run(partial(_write_tree, tree=tree, files=files, holder=holder))
    heading = archived.heading
    if (len(sizes), sum(sizes.values())) != (heading.blobs, heading.size):
        raise wrong(exports.HEADING, "counts other blobs than the trees name")
    for version in archived.versions:
        if totals[tree_of(version)] != (version.files, version.size):
            raise wrong(exports.version_name(version.number), "counts other files than its tree")
    return dict(sorted(sizes.items()))


async def _tree_text(entry: Entry, most_files: int) -> bytes:
    if entry.size_bytes > most_files * _LINE_BYTES:
        raise _too_many(entry, most_files)
    return b"".join([piece async for piece in entry.content])


def _too_many(entry: Entry, most_files: int) -> Invalid:
    return wrong(entry.path, f"names more than {most_files} files")


def _read_tree(name: str, tree: Digest, text: bytes) -> list[TreeFile]:
    """The files of a tree's text; blocking, as there may be many."""
    found = Digest.of(text)
    if found != tree:
        raise DigestMismatch(tree, found)
    try:
        return decode_tree(text)
    except Invalid as error:
        raise wrong(name, error.reason) from error


def _note(sizes: dict[Digest, int], files: list[TreeFile]) -> None:
    for file in files:
        if sizes.setdefault(file.digest, file.size_bytes) != file.size_bytes:
            raise wrong(exports.blob_name(file.digest), "is told to have two sizes")


async def _write_tree(tx: Tx, tree: Digest, files: list[TreeFile], holder: str) -> None:
    size = sum(file.size_bytes for file in files)
    await insert_tree(tx, tree, files, files=len(files), size_bytes=size)
    await add_lease(tx, tree, holder, tx.now + _TREE_LEASE_SECONDS * SECOND)


# Blobs.


async def _usable(store: Store, claimant: Claimant, digests: list[Digest]) -> set[Digest]:
    found: set[Digest] = set()
    for start in range(0, len(digests), _ASKED_AT_ONCE):
        some = digests[start : start + _ASKED_AT_ONCE]
        found.update(await store.index.read(partial(usable_sizes, claimant=claimant, digests=some)))
    return found


async def _lease(store: Store, digest: Digest, holder: str) -> bool:
    """Keep a stored blob for this import; False if it is not there whole after all."""

    async def record(tx: Tx, stored: StoredBlob) -> None:
        await add_lease(tx, digest, holder, tx.now + LEASE_SECONDS * SECOND)

    return await store.ingest.claim(digest, record) is not None


async def _compare(store: Store, digest: Digest, entry: Entry) -> None:
    """See that what arrives is what is stored; nothing of it stays."""
    found, _ = await store.ingest.hash(entry.content)
    if found != digest:
        raise DigestMismatch(digest, found)


async def _take(taking: Gathering, digest: Digest, entry: Entry) -> None:
    await taking.take(entry.path, entry.content, size_bytes=entry.size_bytes, expected=digest)
