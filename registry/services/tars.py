"""Publish a whole directory that arrives as one archive, with flat memory.

Entries are read as they arrive and gathered (`registry.services.gathering`). Nothing has a name
until the end: then one transaction makes the tree, the version and its references, and drops the
leases of the files.

What grows with the number of entries is the list of their names, which is limited.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from functools import partial

from registry.catalog.folders import running_uploads
from registry.catalog.trees import find_tree_file, first_unreadable, insert_tree
from registry.catalog.versions import find_version_by_label
from registry.domain import tars
from registry.domain.ids import MODEL, new_id
from registry.domain.models import Draft, Model, Version
from registry.domain.names import ModelName, fold
from registry.domain.paths import file_that_is_a_directory, order
from registry.domain.principals import Principal
from registry.domain.references import ModelReference
from registry.domain.trees import TreeFile, TreeHasher
from registry.errors import Conflict, ContentMissing, Invalid
from registry.services.change import change
from registry.services.gathering import Gathering, gathering
from registry.services.publish import Ids, Publication, make_version, why_not_return
from registry.services.quota_watch import QuotaWatch, watch_quota
from registry.services.unpack import TarLimits, TarReader
from registry.services.writable import (
    label_holder,
    make_model,
    model_to_write,
    refuse_reserved,
    would_change,
)
from store.batches import Source
from store.digest import Digest
from store.index.claims import drop_leases
from store.index.transactions import Tx
from store.opening import Store


async def import_archive(
    store: Store,
    principal: Principal,
    model: ModelReference,
    label: str,
    source: Source,
    limits: TarLimits,
) -> Publication:
    """Publish an archive under a label, or find that it is published already.

    Raises `Invalid` with the entry that is not taken, `Conflict`, `UnsupportedMedia` for a
    compressed one, and what storing raises; nothing is visible then.
    """
    published, watch = await _admit(store, principal, model, label)
    reader = TarReader(source, limits)
    if published is not None:
        return await _compare(store, *published, reader)
    async with gathering(store, "tar", stranger=principal.stranger) as taking:
        files = await _gather(taking, reader, watch)
        tree = await asyncio.to_thread(_put_in_order, files, reader.directories)
        return await _publish(store, principal, model, label, tree, files, taking.holder)


async def _admit(
    store: Store, principal: Principal, reference: ModelReference, label: str
) -> tuple[tuple[Model, Version] | None, QuotaWatch | None]:
    """Refuse what cannot work before the archive travels; the version if there is one already."""

    async def unit(tx: Tx) -> tuple[tuple[Model, Version] | None, QuotaWatch | None]:
        refuse_reserved(label)
        model = await model_to_write(tx, principal, reference)
        if model is not None:
            version, draft = await label_holder(tx, model, label)
            if version is not None:
                return (model, version), None
            await _refuse_draft(tx, model, label, draft)
        return None, await watch_quota(tx, store.index, model, reference, versions=1)

    return await store.index.look(unit)


async def _refuse_draft(tx: Tx, model: Model, label: str, draft: Draft | None) -> None:
    running = await running_uploads(tx, model.folded, fold(label))
    if draft is not None or running:
        raise Conflict(
            "draft",
            f"{label} of {model.name}",
            "is being put together file by file; publish or delete it before sending an archive",
            code="draft_exists",
            details={"uploads": [upload.path for upload in running]},
        )


async def _gather(taking: Gathering, reader: TarReader, watch: QuotaWatch | None) -> list[TreeFile]:
    """Take every file; all of them are stored and leased when this returns."""
    seen: set[str] = set()
    async with aclosing(reader.entries()) as entries:
        async for entry in entries:
            if entry.path in seen:
                raise tars.refused(repr(entry.path), "is in the archive twice", code="path_twice")
            if entry.path in reader.directories:
                raise _is_both(entry.path)
            seen.add(entry.path)
            if watch is not None:
                content = watch.watched(entry.content, entry.size_bytes)
                await taking.take(entry.path, content, size_bytes=entry.size_bytes)
            elif entry.whole is not None:
                await taking.hold(entry.path, entry.whole)
            else:
                await taking.take(entry.path, entry.content, size_bytes=entry.size_bytes)
            if watch is not None and watch.is_due(taking.taken_files, taking.taken_bytes):
                await watch.count(await taking.hashed())
    return await taking.finish()


def _is_both(path: str) -> Invalid:
    return Invalid(
        "archive", f"{path!r} is a file and a directory at once", code="path_is_a_directory"
    )


def _put_in_order(files: list[TreeFile], directories: set[str]) -> Digest:
    """Put the files of an archive in order, and hash them; blocking, as there may be many."""
    if not files:
        raise Invalid("archive", "holds no files", code="tar_empty")
    clash = file_that_is_a_directory((file.path for file in files), directories)
    if clash is not None:
        raise _is_both(clash)
    files.sort(key=lambda file: order(file.path))
    hasher = TreeHasher()
    for file in files:
        hasher.update(file.path, file.digest.hex, file.size_bytes)
    return hasher.finish()


async def _publish(
    store: Store,
    principal: Principal,
    reference: ModelReference,
    label: str,
    tree: Digest,
    files: list[TreeFile],
    holder: str,
) -> Publication:
    now = store.clock()
    ids, model_id = Ids.fresh(now), new_id(MODEL, now)
    totals = len(files), sum(file.size_bytes for file in files)

    async def unit(tx: Tx) -> Publication:
        model = await model_to_write(tx, principal, reference)
        if model is None:
            assert isinstance(reference, ModelName), "an id that names no model was refused"
            model = await make_model(tx, principal, model_id, reference)
        version, draft = await label_holder(tx, model, label)
        name = f"{label} of {model.name}"
        if version is not None:
            if version.tree != tree:
                raise would_change(model, version, "its files are others")
            await drop_leases(tx, holder)
            return Publication(model, version, False)
        await _refuse_draft(tx, model, label, draft)
        burnt = await find_version_by_label(tx, model.id, fold(label))
        refusal = None if burnt is None else why_not_return(name, burnt, tree)
        if refusal is not None:
            raise refusal
        await insert_tree(tx, tree, files, files=totals[0], size_bytes=totals[1])
        unreadable = await first_unreadable(tx, tree)
        if unreadable is not None:
            raise ContentMissing("version", name, [unreadable])
        publication = await make_version(tx, principal, model, label, tree, totals, ids)
        await drop_leases(tx, holder)
        return publication

    return await change(store, principal, unit)


async def _compare(store: Store, model: Model, version: Version, reader: TarReader) -> Publication:
    """See that an archive is what is published already; nothing of it stays."""
    seen: set[str] = set()
    async with aclosing(reader.entries()) as entries:
        async for entry in entries:
            found = await store.index.look(
                partial(find_tree_file, tree=version.tree, path=entry.path)
            )
            if found is None or found.size_bytes != entry.size_bytes or entry.path in seen:
                raise would_change(model, version, f"{entry.path} is another file there, or none")
            seen.add(entry.path)
            staged = await store.ingest.stage(entry.content, size_bytes=entry.size_bytes)
            await store.ingest.discard([staged])
            if staged.digest != found.digest:
                raise would_change(model, version, f"{entry.path} is {found.digest} there")
    if len(seen) != version.files:
        raise would_change(model, version, f"it has {version.files} files")
    return Publication(model, version, False)
