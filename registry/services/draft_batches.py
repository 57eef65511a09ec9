"""Small files on their way into a draft that share what they need: a look, a hop, a transaction.

Whoever sends thousands, one request each, pays for whose model it is, who may write, which draft
and how much room there is once for all that are stored together (`registry.services.together`), and
a batch is written, synced and committed at once. Nothing is given up for it: each is answered after
its bytes and its row are durable, what was looked at before the bytes are written is looked at
again in the transaction, and each has its own entry in the audit log.

A batch is files of one principal for one draft, each path once, into a draft that is there. In
whatever way it cannot be stored (a label that was published, a path that is a directory, a quota, a
wrong digest, a full disk) each of its files takes the way of a single one (`put_file`) instead,
which refuses or stores it for itself.

Such a file is not registered as one that is arriving: there is nothing to wait for. Whoever
publishes the draft before it is in has published without it, as if it had come afterwards.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable, Sequence
from functools import partial
from typing import Final

import msgspec

from registry.catalog.audit import record_all
from registry.catalog.claims import FOLDER, access_of
from registry.catalog.folders import any_draft_file_below, find_draft_files, set_draft_files
from registry.domain.models import Draft, Model
from registry.domain.paths import parents
from registry.domain.principals import Principal
from registry.domain.trees import TreeFile
from registry.services.drafts import Body, FilePut, Outcome, Target, file_entry, put_file
from registry.services.quotas import admit_bytes, within_quota
from registry.services.together import NotTogether, Together
from registry.services.writable import label_holder, model_to_write, refuse_reserved
from store.digest import Digest
from store.index.claims import add_refs, drop_ref
from store.index.transactions import Tx
from store.ingest import HELD_BYTES
from store.opening import Store
from store.recording import StoredBlob

MOST_BYTES: Final = HELD_BYTES
"""Of a file that may be in a batch."""


class _File(msgspec.Struct, frozen=True):
    """A file that is all there."""

    principal: Principal
    target: Target
    content: bytes
    expected: Digest | None


class _Place(msgspec.Struct, frozen=True):
    """Where a batch goes, and what is under its paths now."""

    model: Model
    draft: Draft
    before: dict[str, TreeFile]


class DraftBatches:
    """The batches of one application."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._files = Together[_File, FilePut](self._store_batch, self._store_alone)

    async def put(
        self, principal: Principal, target: Target, content: bytes, expected: Digest | None = None
    ) -> FilePut:
        """`put_file` of bytes that are all there, at most `MOST_BYTES`, and publish nothing.

        The target has no condition: that is for a file which is looked at alone.
        """
        file = _File(principal, target, content, expected)
        return await self._files.do(_key(file), file, name=target.path)

    def begin(
        self, principal: Principal, target: Target, content: bytes
    ) -> asyncio.Future[FilePut] | None:
        """The same for whoever is told later; None if a file of that path is on its way already."""
        file = _File(principal, target, content, None)
        return self._files.begin(_key(file), file, name=target.path)

    async def close(self) -> None:
        """Wait until all are stored."""
        await self._files.close()

    async def _store_batch(self, batch: Sequence[_File]) -> list[FilePut]:
        """Raises `NotTogether`, or what a single file would be refused with as well."""
        return await self._store.ingest.store(
            [(one.content, one.expected) for one in batch],
            partial(_record, batch=batch),
            admit=partial(_admit, batch=batch),
            stranger=batch[0].principal.stranger,
        )

    async def _store_alone(self, one: _File) -> FilePut:
        async def pieces() -> AsyncIterator[bytes]:
            yield one.content

        body = Body(pieces(), one.expected, len(one.content))
        return await put_file(self._store, one.principal, one.target, body)


def _key(file: _File) -> Hashable:
    """What all files of a batch have in common."""
    by, target = file.principal, file.target
    return by.id, by.session, id(by.rights), target.model, target.label


async def _admit(tx: Tx, *, batch: Sequence[_File]) -> None:
    """Refuse what cannot work before it is written."""
    place = await _place(tx, batch)
    size_bytes = sum(len(one.content) for one in batch)
    if size_bytes:
        namespace = place.model.namespace_id
        await admit_bytes(tx, namespace, size_bytes, digest=None, replaced=None)


async def _place(tx: Tx, batch: Sequence[_File]) -> _Place:
    """Where the batch goes, if its principal may write there and no path is in the way."""
    principal, target = batch[0].principal, batch[0].target
    model = await model_to_write(tx, principal, target.model)
    if model is None:
        raise NotTogether
    version, draft = await label_holder(tx, model, target.label)
    if version is not None or draft is None:
        raise NotTogether
    refuse_reserved(target.label)
    paths = {one.target.path for one in batch}
    above = {parent for path in paths for parent in parents(path)}
    before = await find_draft_files(tx, draft.id, paths | above)
    if not above.isdisjoint(before) or not above.isdisjoint(paths):
        raise NotTogether
    if await any_draft_file_below(tx, draft.id, paths):
        raise NotTogether
    return _Place(model, draft, before)


async def _record(tx: Tx, stored: Sequence[StoredBlob], *, batch: Sequence[_File]) -> list[FilePut]:
    """Inside the transaction that makes the blobs visible: the world may have changed since."""
    place = await _place(tx, batch)
    model, draft = place.model, place.draft
    puts = [
        _put(model, one, TreeFile(one.target.path, blob.digest, blob.size_bytes), place)
        for one, blob in zip(batch, stored, strict=True)
    ]
    changed = [
        (one.principal, put)
        for one, put in zip(batch, puts, strict=True)
        if put.outcome != "unchanged"
    ]
    async with within_quota(tx, model.namespace_id):
        digests = [put.file.digest for _, put in changed]
        await add_refs(tx, digests, model.id, FOLDER, access=access_of(model))
        for _, put in changed:
            if put.outcome == "replaced":
                await drop_ref(tx, place.before[put.file.path].digest, model.id, FOLDER)
    await set_draft_files(tx, draft.id, [put.file for put in puts])
    await record_all(
        tx,
        [
            (by, file_entry(model, draft, "update", place.before.get(put.file.path), put.file))
            for by, put in changed
        ],
    )
    return puts


def _put(model: Model, one: _File, file: TreeFile, place: _Place) -> FilePut:
    before = place.before.get(file.path)
    outcome: Outcome = "replaced"
    if before is None:
        outcome = "created"
    elif before.digest == file.digest:
        outcome = "unchanged"
    return FilePut(model, one.target.label, file, outcome, None)
