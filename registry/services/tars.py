"""Publish a whole directory that arrives as one archive, with flat memory.

Entries are read as they arrive; each file is staged and hashed like any upload. Staged files are
committed in batches that hold leases, renewed while the archive arrives, so that neither open files
nor transactions grow with it. Nothing has a name until the end: then one transaction makes the
tree, the version and its references, and drops the leases. An import that fails leaves blobs
without an owner, which collection takes once they are old enough.

What grows with the number of entries is the list of their names, which is limited.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import Final

from registry.catalog.claims import renew_leases
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
from registry.services.drafts import label_holder, make_model, model_to_write, refuse_reserved
from registry.services.publish import Ids, Publication, make_version, why_not_return
from registry.services.unpack import Entry, TarLimits, TarReader
from store.batches import Source
from store.clock import SECOND
from store.digest import Digest
from store.index.blobs import add_leases, drop_leases
from store.index.transactions import Tx
from store.ingest import Staged, StoredBlob
from store.opening import Store

LEASE_SECONDS: Final = 3600
BATCH_FILES: Final = 128
BATCH_BYTES: Final = 256 << 20
SMALL_BYTES: Final = 64 << 10
"""Files up to this size are taken into memory and staged beside each other."""
SMALL_AT_ONCE: Final = 16


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
    published = await _admit(store, principal, model, label)
    reader = TarReader(source, limits)
    if published is not None:
        return await _compare(store, *published, reader)
    holder = f"tar_{secrets.token_hex(12)}"
    async with _leasing(store, holder):
        gathering = _Gathering(store, holder)
        try:
            files = await gathering.gather(reader)
        except BaseException:
            await gathering.abandon()
            raise
        tree = await asyncio.to_thread(_put_in_order, files, reader.directories)
        return await _publish(store, principal, model, label, tree, files, holder)


async def _admit(
    store: Store, principal: Principal, reference: ModelReference, label: str
) -> tuple[Model, Version] | None:
    """Refuse what cannot work before the archive travels; the version if there is one already."""

    async def unit(tx: Tx) -> tuple[Model, Version] | None:
        refuse_reserved(label)
        model = await model_to_write(tx, principal, reference)
        if model is None:
            return None
        version, draft = await label_holder(tx, model, label)
        if version is not None:
            return model, version
        await _refuse_draft(tx, model, label, draft)
        return None

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


class _Gathering:
    """Stages the files of an archive and commits them in batches under leases."""

    def __init__(self, store: Store, holder: str) -> None:
        self._store = store
        self._holder = holder
        self._staged: list[Staged] = []
        self._staged_bytes = 0
        self._small: set[asyncio.Task[None]] = set()
        self._commit: asyncio.Task[None] | None = None
        self._files: list[TreeFile] = []

    async def gather(self, reader: TarReader) -> list[TreeFile]:
        """Take every file; all of them are stored and leased when this returns."""
        seen: set[str] = set()
        async with aclosing(reader.entries()) as entries:
            async for entry in entries:
                if entry.path in seen:
                    raise tars.refused(
                        repr(entry.path), "is in the archive twice", code="path_twice"
                    )
                if entry.path in reader.directories:
                    raise _is_both(entry.path)
                seen.add(entry.path)
                await self._take(entry)
        await self._flush()
        await self._committed()
        return self._files

    async def _take(self, entry: Entry) -> None:
        if entry.size_bytes > SMALL_BYTES:
            await self._stage(entry.path, entry.content, entry.size_bytes)
        else:
            content = b"".join([piece async for piece in entry.content])
            task = asyncio.create_task(self._stage(entry.path, _one(content), entry.size_bytes))
            self._small.add(task)
            if len(self._small) >= SMALL_AT_ONCE:
                await self._wait(asyncio.FIRST_COMPLETED)
        if len(self._staged) >= BATCH_FILES or self._staged_bytes >= BATCH_BYTES:
            await self._flush()

    async def _stage(self, path: str, content: Source, size_bytes: int) -> None:
        staged = await self._store.ingest.stage(content, size_bytes=size_bytes)
        self._staged.append(staged)
        self._staged_bytes += size_bytes
        self._files.append(TreeFile(path, staged.digest, size_bytes))

    async def _wait(self, until: str) -> None:
        if self._small:
            done, self._small = await asyncio.wait(self._small, return_when=until)
            for task in done:
                task.result()

    async def _flush(self) -> None:
        """Commit what is staged while the next batch arrives; one commit at a time."""
        await self._wait(asyncio.ALL_COMPLETED)
        await self._committed()
        if self._staged:
            batch, self._staged, self._staged_bytes = self._staged, [], 0
            self._commit = asyncio.create_task(self._commit_batch(batch))

    async def _committed(self) -> None:
        if self._commit is not None:
            commit, self._commit = self._commit, None
            await commit

    async def _commit_batch(self, batch: list[Staged]) -> None:
        async def record(tx: Tx, stored: object) -> None:
            assert isinstance(stored, list | tuple)
            blobs: list[StoredBlob] = list(stored)
            expires_at = tx.now + LEASE_SECONDS * SECOND
            await add_leases(tx, {one.digest for one in blobs}, self._holder, expires_at)

        await self._store.ingest.commit(batch, record)

    async def abandon(self) -> None:
        """Wait for what runs, and remove what was staged."""
        running = [*self._small, *([] if self._commit is None else [self._commit])]
        await asyncio.gather(*running, return_exceptions=True)
        await self._store.ingest.discard(self._staged)


def _is_both(path: str) -> Invalid:
    return Invalid(
        "archive", f"{path!r} is a file and a directory at once", code="path_is_a_directory"
    )


async def _one(content: bytes) -> AsyncIterator[bytes]:
    yield content


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


@asynccontextmanager
async def _leasing(store: Store, holder: str) -> AsyncIterator[None]:
    """Keep the leases of an import alive while it runs, and drop those of one that failed."""

    async def renew() -> None:
        while True:
            await asyncio.sleep(LEASE_SECONDS / 4)
            until = store.clock() + LEASE_SECONDS * SECOND
            await store.index.run(partial(renew_leases, holder=holder, expires_at=until))

    renewal = asyncio.create_task(renew())
    try:
        yield
    except BaseException:
        store.ingest.later(_dropped(store, holder))
        raise
    finally:
        renewal.cancel()


async def _dropped(store: Store, holder: str) -> None:
    await store.index.run(partial(drop_leases, holder=holder))


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
                raise _differs(model, version, "its files are others")
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
                raise _differs(model, version, f"{entry.path} is another file there, or none")
            seen.add(entry.path)
            staged = await store.ingest.stage(entry.content, size_bytes=entry.size_bytes)
            await store.ingest.discard([staged])
            if staged.digest != found.digest:
                raise _differs(model, version, f"{entry.path} is {found.digest} there")
    if len(seen) != version.files:
        raise _differs(model, version, f"it has {version.files} files")
    return Publication(model, version, False)


def _differs(model: Model, version: Version, reason: str) -> Conflict:
    return Conflict(
        "version",
        f"{version.name} of {model.name}",
        f"is published and does not change: {reason}",
        code="version_published",
        details={"number": version.number, "tree": str(version.tree)},
    )
