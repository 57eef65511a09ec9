"""Put files under a label: the draft they gather in, and what happens where a version is already.

An upload registers before its first byte, so that nobody publishes around it; a small file that is
all there when it is taken up has nothing to wait for (`registry.services.draft_batches`).

Model and draft are made by the transaction that makes the file visible: an upload that fails leaves
neither.

A path of a published version never changes: equal bytes are welcome again, others are refused.

A condition on the file that is there is asked before the first byte, so that the others need not
travel, and again in the transaction that makes the file visible.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal, TypeAlias

import msgspec

from registry.catalog.audit import Entry, record
from registry.catalog.claims import FOLDER, access_of
from registry.catalog.folders import (
    delete_draft_file,
    file_in_the_way,
    find_draft_file,
    insert_draft,
    put_draft_file,
    register_upload,
    unregister_upload,
)
from registry.catalog.namespaces import find_namespace
from registry.catalog.trees import find_tree_file
from registry.domain.ids import FOLDER as FOLDER_ID
from registry.domain.ids import FOLDER_UPLOAD, MODEL, new_id
from registry.domain.models import Draft, Model, Version
from registry.domain.names import ModelName, fold
from registry.domain.principals import Principal
from registry.domain.references import ModelId, ModelReference
from registry.domain.trees import TreeFile
from registry.errors import BodyTooLarge, Conflict, NotFound
from registry.services.blobs import known, may_skip
from registry.services.change import change
from registry.services.publish import (
    UNPROVEN,
    Completeness,
    Ids,
    publish_in,
    require_same,
    why_not_publish,
)
from registry.services.quotas import admit_bytes, within_quota
from registry.services.registrations import LAPSE_SECONDS, registered
from registry.services.resolve import require_model
from registry.services.writable import (
    label_holder,
    make_model,
    model_to_write,
    refuse_reserved,
    would_change,
)
from store.batches import Source
from store.clock import SECOND
from store.digest import Digest
from store.errors import SizeMismatch, StoreError
from store.index.claims import add_ref, drop_ref
from store.index.transactions import Tx
from store.opening import Store
from store.recording import StoredBlob

Outcome: TypeAlias = Literal["created", "replaced", "unchanged"]


Condition: TypeAlias = Callable[[Digest | None], None]
"""Gets the digest of the file that is there, None for none; raises `PreconditionFailed`."""


class Target(msgspec.Struct, frozen=True):
    """Where a file goes: a model by name or id, a label, and a path in normal form."""

    model: ModelReference
    label: str
    path: str
    condition: Condition | None = None


class Body(msgspec.Struct, frozen=True):
    """The bytes of one file, and what was declared of them."""

    source: Source
    expected: Digest | None = None
    size_bytes: int | None = None
    limit_bytes: int | None = None


class FilePut(msgspec.Struct, frozen=True):
    """What became of a file; `version` is there if it is published now."""

    model: Model
    label: str
    file: TreeFile
    outcome: Outcome
    version: Version | None


class _Frozen(msgspec.Struct, frozen=True):
    """The path is published: these bytes or none."""

    model: Model
    version: Version
    file: TreeFile


class _Recorded(msgspec.Struct, frozen=True):
    """A file is in; `refused` says why it could not be published along with it."""

    put: FilePut
    refused: Conflict | None


class _Making(msgspec.Struct, frozen=True):
    """Everything a put may need to write, chosen before the transaction."""

    principal: Principal
    target: Target
    upload: str
    model: str
    folder: str
    publish: Completeness | None
    ids: Ids


async def put_file(
    store: Store,
    principal: Principal,
    target: Target,
    body: Body,
    *,
    publish: Completeness | None = None,
) -> FilePut:
    """Receive a file into a draft, and publish the draft if asked.

    Raises `Conflict` for a label that cannot take the file, `BodyTooLarge`, and whatever
    `store.ingest` and the source raise; nothing stays then. If only the publishing is refused, the
    file stays in the draft and the `Conflict` is raised afterwards.
    """
    if body.limit_bytes is not None and (body.size_bytes or 0) > body.limit_bytes:
        raise BodyTooLarge(body.limit_bytes)
    making = _making(store, principal, target, publish)
    try:
        frozen = await _admit(store, making, body)
    except StoreError:
        # The registration may be there all the same, and would keep the draft from being published.
        store.ingest.later(store.index.run(partial(unregister_upload, id=making.upload)))
        raise
    if frozen is not None:
        return await _compare(store, making, frozen, body)
    async with registered(store, making.upload):
        recorded = await _receive(store, making, body)
    return _settled(recorded)


async def claim_file(
    store: Store,
    principal: Principal,
    target: Target,
    digest: Digest,
    *,
    size_bytes: int | None = None,
    publish: Completeness | None = None,
) -> FilePut | None:
    """Put a blob that the principal may read already, without its bytes; None if it may not.

    None too if another number of bytes was announced: whoever sends those should be told.
    """
    making = _making(store, principal, target, publish)

    async def record(tx: Tx, stored: StoredBlob) -> _Recorded | None:
        if await known(tx, digest, principal.visibility) is None:
            return None
        if size_bytes not in (None, stored.size_bytes):
            return None
        return await _record(tx, stored, making=making)

    if not await may_skip(store.index, digest, principal.visibility):
        return None
    claimed = await store.ingest.claim(digest, record)
    if claimed is None or claimed[1] is None:
        return None
    return _settled(claimed[1])


def _making(
    store: Store, principal: Principal, target: Target, publish: Completeness | None
) -> _Making:
    now = store.clock()
    return _Making(
        principal,
        target,
        new_id(FOLDER_UPLOAD, now),
        new_id(MODEL, now),
        new_id(FOLDER_ID, now),
        publish,
        Ids.fresh(now),
    )


def _settled(recorded: _Recorded) -> FilePut:
    if recorded.refused is not None:
        raise recorded.refused
    return recorded.put


async def _admit(store: Store, making: _Making, body: Body) -> _Frozen | None:
    """Register the upload, unless the path is published already; refuse what cannot work."""

    async def unit(tx: Tx) -> _Frozen | None:
        target = making.target
        model = await model_to_write(tx, making.principal, target.model)
        if model is None:
            await _require(tx, target, None, None)
            await _require_room_for_new(tx, target.model, body)
        else:
            version, draft = await label_holder(tx, model, target.label)
            await _require(tx, target, version, draft)
            if version is not None:
                return await _frozen_file(tx, model, version, target.path)
            if draft is not None:
                await _refuse_in_the_way(tx, draft, target.path)
            await _require_room(tx, model, draft, target.path, body)
        refuse_reserved(target.label)
        await register_upload(
            tx,
            making.upload,
            _folded(target.model) if model is None else model.folded,
            fold(target.label),
            target.path,
            making.principal.id,
            expires_at=tx.now + LAPSE_SECONDS * SECOND,
        )
        return None

    return await store.index.run(unit)


async def _require_room_for_new(tx: Tx, reference: ModelReference, body: Body) -> None:
    """Refuse likewise what is for a model that is not there, in a namespace that may be."""
    if not body.size_bytes or isinstance(reference, ModelId):
        return
    found = await find_namespace(tx, fold(reference.namespace))
    if found is not None:
        await admit_bytes(tx, found.id, body.size_bytes, digest=body.expected, replaced=None)


async def _require_room(tx: Tx, model: Model, draft: Draft | None, path: str, body: Body) -> None:
    """Refuse what is announced to be larger than what is left of a quota."""
    if not body.size_bytes:
        return
    await admit_bytes(
        tx,
        model.namespace_id,
        body.size_bytes,
        digest=body.expected,
        replaced=None if draft is None else partial(find_draft_file, tx, draft.id, path),
    )


async def _require(tx: Tx, target: Target, version: Version | None, draft: Draft | None) -> None:
    """Ask the condition of what is under the path now."""
    if target.condition is None:
        return
    file = None
    if version is not None:
        file = await find_tree_file(tx, version.tree, target.path)
    elif draft is not None:
        file = await find_draft_file(tx, draft.id, target.path)
    target.condition(None if file is None else file.digest)


def _folded(reference: ModelReference) -> str:
    return reference.id if isinstance(reference, ModelId) else reference.folded


async def _frozen_file(tx: Tx, model: Model, version: Version, path: str) -> _Frozen:
    file = await find_tree_file(tx, version.tree, path)
    if file is None:
        raise would_change(model, version, f"it has no file {path}")
    return _Frozen(model, version, file)


async def _refuse_in_the_way(tx: Tx, draft: Draft, path: str) -> None:
    clash = await file_in_the_way(tx, draft.id, path)
    if clash is not None:
        raise Conflict(
            "file",
            path,
            f"cannot be beside {clash}: one would be a file and a directory at once",
            code="path_is_a_directory",
            details={"existing": clash},
        )


async def _compare(store: Store, making: _Making, frozen: _Frozen, body: Body) -> FilePut:
    """Read the bytes only to see that they are the published ones; nothing of them stays."""
    require_same(frozen.model, frozen.version, making.publish or UNPROVEN)
    if body.expected is not None and body.expected != frozen.file.digest:
        raise _other_bytes(frozen)
    staged = await store.ingest.stage(
        body.source,
        expected=body.expected,
        size_bytes=body.size_bytes,
        limit_bytes=body.limit_bytes,
    )
    await store.ingest.discard([staged])
    if staged.digest != frozen.file.digest:
        raise _other_bytes(frozen)
    return FilePut(frozen.model, making.target.label, frozen.file, "unchanged", frozen.version)


def _other_bytes(frozen: _Frozen) -> Conflict:
    return would_change(
        frozen.model, frozen.version, f"{frozen.file.path} is {frozen.file.digest} there"
    )


async def _receive(store: Store, making: _Making, body: Body) -> _Recorded:
    try:
        _, recorded = await store.ingest.receive(
            body.source,
            partial(_record, making=making),
            expected=body.expected,
            size_bytes=body.size_bytes,
            limit_bytes=body.limit_bytes,
            stranger=making.principal.stranger,
        )
    except SizeMismatch as error:
        if body.size_bytes is None and body.limit_bytes is not None:
            raise BodyTooLarge(body.limit_bytes) from error
        raise
    return recorded


async def _record(tx: Tx, stored: StoredBlob, *, making: _Making) -> _Recorded:
    """Inside the transaction that makes the blob visible: the world may have changed since."""
    target, principal = making.target, making.principal
    await unregister_upload(tx, making.upload)
    model = await model_to_write(tx, principal, target.model)
    if model is None:
        assert isinstance(target.model, ModelName), "an id that names no model was refused"
        refuse_reserved(target.label)
        model = await make_model(tx, principal, making.model, target.model)
    version, draft = await label_holder(tx, model, target.label)
    await _require(tx, target, version, draft)
    file = TreeFile(target.path, stored.digest, stored.size_bytes)
    if version is not None:
        frozen = await _frozen_file(tx, model, version, target.path)
        if frozen.file.digest != stored.digest:
            raise _other_bytes(frozen)
        require_same(model, version, making.publish or UNPROVEN)
        return _Recorded(FilePut(model, target.label, file, "unchanged", version), None)
    refuse_reserved(target.label)
    is_new = draft is None
    if draft is None:
        draft = await insert_draft(
            tx, making.folder, model.id, target.label, fold(target.label), principal.id
        )
    outcome = await _put_into(tx, principal, model, draft, file, is_new=is_new)
    put = FilePut(model, target.label, file, outcome, None)
    if making.publish is None:
        return _Recorded(put, None)
    return await _publish_along(tx, making, put, draft, making.publish)


async def _put_into(
    tx: Tx, principal: Principal, model: Model, draft: Draft, file: TreeFile, *, is_new: bool
) -> Outcome:
    before = await find_draft_file(tx, draft.id, file.path)
    if before is None:
        await _refuse_in_the_way(tx, draft, file.path)
    if before is None or before.digest != file.digest:
        async with within_quota(tx, model.namespace_id):
            await add_ref(tx, file.digest, model.id, FOLDER, access=access_of(model))
            if before is not None:
                await drop_ref(tx, before.digest, model.id, FOLDER)
    await put_draft_file(tx, draft.id, file)
    if before is not None and before.digest == file.digest:
        return "unchanged"
    action = "create" if is_new else "update"
    await record(tx, principal, file_entry(model, draft, action, before, file))
    return "created" if before is None else "replaced"


def file_entry(
    model: Model, draft: Draft, action: str, before: TreeFile | None, after: TreeFile | None
) -> Entry:
    """What the audit log says of what a request did to one path of a draft."""
    return Entry(
        action=action,
        kind="draft",
        id=draft.id,
        name=draft.label,
        model=model.id,
        before=None if before is None else _told(before),
        after=None if after is None else _told(after),
    )


def _told(file: TreeFile) -> dict[str, str | int]:
    return {"path": file.path, "digest": str(file.digest), "size": file.size_bytes}


async def _publish_along(
    tx: Tx, making: _Making, put: FilePut, draft: Draft, complete: Completeness
) -> _Recorded:
    """Publish with the file; a refusal is returned, so that the file itself is kept."""
    refused = await why_not_publish(tx, put.model, put.label, draft, complete)
    if refused is not None:
        return _Recorded(put, refused)
    publication = await publish_in(tx, making.principal, put.model, put.label, making.ids, UNPROVEN)
    return _Recorded(msgspec.structs.replace(put, version=publication.version), None)


async def remove_draft_file(store: Store, principal: Principal, target: Target) -> None:
    """Take a file out of a draft; one that is not there is no error."""

    async def unit(tx: Tx) -> None:
        model = await require_model(tx, principal, target.model)
        version, draft = await label_holder(tx, model, target.label)
        if version is not None:
            raise would_change(model, version, "its files cannot be removed one by one")
        if draft is None:
            raise NotFound("draft", f"{target.label} of {model.name}", code="draft_not_found")
        await _require(tx, target, None, draft)
        file = await find_draft_file(tx, draft.id, target.path)
        if file is not None:
            await drop_ref(tx, file.digest, model.id, FOLDER)
            await delete_draft_file(tx, draft.id, target.path)
            await record(tx, principal, file_entry(model, draft, "update", file, None))

    await change(store, principal, unit)
