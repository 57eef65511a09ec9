"""Small files on their way into a draft that share what they need: a look, a hop, a transaction.

A file whose bytes are all there waits for nobody. Those that come while others are being stored are
stored together as soon as one of two ways is free: whoever sends thousands, one request each, pays
for whose model it is, who may write, which draft and how much room there is once for all of a
batch, and a batch is written, synced and committed at once. Nothing is given up for it: each is
answered after its bytes and its row are durable, what was looked at before the bytes are written is
looked at again in the transaction, and each has its own entry in the audit log.

A batch is files of one principal for one draft, each path once, into a draft that is there. In
whatever way it cannot be stored (a label that was published, a path that is a directory, a quota, a
wrong digest, a full disk) each of its files takes the way of a single one (`put_file`) instead,
which refuses or stores it for itself.

Such a file is not registered as one that is arriving: there is nothing to wait for. Whoever
publishes the draft before it is in has published without it, as if it had come afterwards.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextvars import Context
from functools import partial
from typing import Final, TypeAlias

import msgspec

from registry.catalog.audit import record_all
from registry.catalog.claims import FOLDER, access_of
from registry.catalog.folders import any_draft_file_below, find_draft_files, set_draft_files
from registry.domain.models import Draft, Model
from registry.domain.paths import parents
from registry.domain.principals import Principal
from registry.domain.references import ModelReference
from registry.domain.trees import TreeFile
from registry.errors import RegistryError
from registry.services.drafts import Body, FilePut, Outcome, Target, file_entry, put_file
from registry.services.quotas import admit_bytes, within_quota
from registry.services.writable import label_holder, model_to_write, refuse_reserved
from store.digest import Digest
from store.errors import StoreError
from store.index.claims import add_refs, drop_ref
from store.index.transactions import Tx
from store.ingest import HELD_BYTES, StoredBlob
from store.opening import Store

MOST_TOGETHER: Final = 64
"""Files of a batch; more would make the first of them wait too long."""

WAYS: Final = 2
"""Batches that are stored at a time: one is written while another is committed."""

MOST_BYTES: Final = HELD_BYTES
"""Of a file that may be in a batch."""

_Key: TypeAlias = tuple[str, str, int, ModelReference, str]


class _Alone(Exception):
    """These files cannot be stored together; each may say why when it is stored alone."""


class _Waiting:
    """A file that is all there, and who waits for it to be stored."""

    __slots__ = ("content", "expected", "principal", "stored", "target")

    def __init__(
        self,
        principal: Principal,
        target: Target,
        content: bytes,
        expected: Digest | None,
        stored: asyncio.Future[FilePut],
    ) -> None:
        self.principal = principal
        self.target = target
        self.content = content
        self.expected = expected
        self.stored = stored


class _Place(msgspec.Struct, frozen=True):
    """Where a batch goes, and what is under its paths now."""

    model: Model
    draft: Draft
    before: dict[str, TreeFile]


class DraftBatches:
    """The batches of one application."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: dict[_Key, dict[str, _Waiting]] = {}
        self._ways: set[asyncio.Task[None]] = set()
        self.files = 0
        """How many were stored together with others, or could have been."""

    async def put(
        self, principal: Principal, target: Target, content: bytes, expected: Digest | None = None
    ) -> FilePut:
        """`put_file` of bytes that are all there, at most `MOST_BYTES`, and publish nothing.

        The target has no condition: that is for a file which is looked at alone.
        """
        loop = asyncio.get_running_loop()
        waiting = _Waiting(principal, target, content, expected, loop.create_future())
        key = (principal.id, principal.session, id(principal.rights), target.model, target.label)
        batch = self._waiting.setdefault(key, {})
        if target.path in batch:
            # One of two that come at once is the last; they must not be one.
            return await _alone(self._store, waiting)
        batch[target.path] = waiting
        if len(self._ways) < WAYS:
            # Of no request's context: it stores the files of many.
            way = loop.create_task(self._store_batches(), context=Context())
            self._ways.add(way)
            way.add_done_callback(self._ways.discard)
        return await waiting.stored

    async def close(self) -> None:
        """Wait until all are stored."""
        await asyncio.gather(*self._ways, return_exceptions=True)

    async def _store_batches(self) -> None:
        while self._waiting:
            batch = self._next()
            try:
                stored = await _together(self._store, batch)
            except (_Alone, RegistryError, StoreError):
                await asyncio.gather(*(_settle_alone(self._store, one) for one in batch))
            except BaseException as error:
                for one in batch:
                    _fail(one, error)
                if not isinstance(error, Exception):
                    raise
            else:
                self.files += len(batch)
                for one, put in zip(batch, stored, strict=True):
                    if not one.stored.done():
                        one.stored.set_result(put)

    def _next(self) -> list[_Waiting]:
        """The files of the batch that waits longest."""
        key, batch = next(iter(self._waiting.items()))
        paths = list(batch)[:MOST_TOGETHER]
        found = [batch.pop(path) for path in paths]
        del self._waiting[key]
        if batch:
            self._waiting[key] = batch  # behind those that wait for other drafts
        return found


async def _settle_alone(store: Store, one: _Waiting) -> None:
    try:
        put = await _alone(store, one)
    except BaseException as error:
        _fail(one, error)
        if not isinstance(error, Exception):
            raise
    else:
        if not one.stored.done():
            one.stored.set_result(put)


def _fail(one: _Waiting, error: BaseException) -> None:
    if not one.stored.done():
        one.stored.set_exception(error)


async def _alone(store: Store, one: _Waiting) -> FilePut:
    async def pieces() -> AsyncIterator[bytes]:
        yield one.content

    body = Body(pieces(), one.expected, len(one.content))
    return await put_file(store, one.principal, one.target, body)


async def _together(store: Store, batch: Sequence[_Waiting]) -> list[FilePut]:
    """Store a batch.

    Raises `_Alone`, or what a single file would be refused with as well.
    """
    return await store.ingest.store(
        [(one.content, one.expected) for one in batch],
        partial(_record, batch=batch),
        admit=partial(_admit, batch=batch),
        stranger=batch[0].principal.stranger,
    )


async def _admit(tx: Tx, *, batch: Sequence[_Waiting]) -> None:
    """Refuse what cannot work before it is written."""
    place = await _place(tx, batch)
    size_bytes = sum(len(one.content) for one in batch)
    if size_bytes:
        namespace = place.model.namespace_id
        await admit_bytes(tx, namespace, size_bytes, digest=None, replaced=None)


async def _place(tx: Tx, batch: Sequence[_Waiting]) -> _Place:
    """Where the batch goes, if its principal may write there and no path is in the way."""
    principal, target = batch[0].principal, batch[0].target
    model = await model_to_write(tx, principal, target.model)
    if model is None:
        raise _Alone
    version, draft = await label_holder(tx, model, target.label)
    if version is not None or draft is None:
        raise _Alone
    refuse_reserved(target.label)
    paths = {one.target.path for one in batch}
    above = {parent for path in paths for parent in parents(path)}
    before = await find_draft_files(tx, draft.id, paths | above)
    if not above.isdisjoint(before) or not above.isdisjoint(paths):
        raise _Alone
    if await any_draft_file_below(tx, draft.id, paths):
        raise _Alone
    return _Place(model, draft, before)


async def _record(
    tx: Tx, stored: Sequence[StoredBlob], *, batch: Sequence[_Waiting]
) -> list[FilePut]:
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


def _put(model: Model, one: _Waiting, file: TreeFile, place: _Place) -> FilePut:
    before = place.before.get(file.path)
    outcome: Outcome = "replaced"
    if before is None:
        outcome = "created"
    elif before.digest == file.digest:
        outcome = "unchanged"
    return FilePut(model, one.target.label, file, outcome, None)
