"""Register a version from what is stored already: named files, a base to change, or a source.

All or nothing, in one transaction: model, tree, references, revision, version, aliases. Everything
that grows with the number of files is prepared before it (`registry.services.composing`), so that
the transaction is a fixed number of statements.
It asks once more, for all files in one statement, whether the caller may use every blob: what was
true before may have changed.

**Repeating.** A request that finds its version there is answered with that version and changes
nothing, so that a retry is safe; only a retired one is brought back, since somebody wants it:

- with a label: the live version of that label holds the same tree, or the same source with the same
  declared digest and size. What people say of it may have changed since and plays no part;
- without a label: the newest live version that has none holds the same content, and nothing is said
  of it that is not true of it now, lineage included. Other facts make the next number: nothing
  names the first one;
- a draft: it holds the same files.

The same label with other content is a `Conflict`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Sequence
from contextvars import Context
from functools import partial
from typing import Final

import msgspec

from registry.catalog.audit import Entry, record
from registry.catalog.claims import claim_folder, release_folder_pins
from registry.catalog.folders import (
    find_draft,
    hash_draft,
    insert_draft,
    put_draft_files,
    running_uploads,
)
from registry.catalog.trees import insert_tree
from registry.catalog.usable import (
    unusable_in_folder,
    unusable_in_tree,
)
from registry.catalog.versions import (
    find_repeated_version,
    find_version_by_label,
)
from registry.domain.facts import facts_of, says_the_same
from registry.domain.models import Draft, Model, Version
from registry.domain.names import ModelName, fold
from registry.domain.principals import Principal
from registry.domain.references import ModelReference
from registry.domain.trees import EMPTY_TREE
from registry.errors import Conflict, ContentMissing, RegistryError
from registry.services.batches import batch_problem, refuse_batch
from registry.services.change import change, fingerprint
from registry.services.composing import (
    NOTHING_ARRIVED,
    Arrived,
    Prepared,
    Registration,
    prepare,
    prepare_alone,
    require_once,
    too_many,
)
from registry.services.gathering import gathering
from registry.services.lineage import EdgeWish, add_edges, are_told, require_parents
from registry.services.publish import (
    UNPROVEN,
    UNSTATED,
    Completeness,
    Ids,
    Publication,
    Stated,
    make_version,
    publish_in,
    wanted_again,
    why_not_return,
)
from registry.services.quota_watch import QuotaWatch, watch_quota
from registry.services.quotas import within_quota
from registry.services.resolve import require_model
from registry.services.tags import Holder, TagWish, assign, assign_first
from registry.services.versions import FullVersion, full_version
from registry.services.writable import label_holder, make_model, model_to_write, refuse_reserved
from store.digest import Digest
from store.index.claims import drop_leases
from store.index.transactions import Tx
from store.opening import Store

TURN: Final = 32
"""After so many versions of a batch the event loop gets a turn."""


class ArrivingFile(msgspec.Struct, frozen=True):
    """A file on its way: where it goes, its bytes, and the digest that was declared of them."""

    path: str
    content: AsyncGenerator[bytes, None]
    expected: Digest | None = None


class Registered(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a registration, and whether this very call made or restored it."""

    model: Model
    version: FullVersion | None = None
    draft: Draft | None = None
    is_new: bool = True


async def register_version(
    store: Store,
    principal: Principal,
    model: ModelReference,
    wish: Registration,
    *,
    most_files: int,
    arrived: Arrived = NOTHING_ARRIVED,
) -> Registered:
    """Make a version or a draft of stored blobs, making the model as needed.

    Raises `Invalid` for a wish that contradicts itself, `ContentMissing` with every blob that is
    not there for the caller, `NotFound` for the base, and `Conflict`; nothing is written then.
    """
    prepared = await prepare(store, principal, model, wish, most_files=most_files, arrived=arrived)
    return await change(store, principal, partial(register_in, principal=principal, on=prepared))


def begin_registering(
    store: Store,
    principal: Principal,
    model: ModelReference,
    wish: Registration,
    *,
    most_files: int,
) -> asyncio.Future[Registered]:
    """`register_version` for whoever is told later, of a request whose answer need not be kept."""
    if wish.files or wish.base is not None:
        registering = register_version(store, principal, model, wish, most_files=most_files)
        return asyncio.get_running_loop().create_task(registering, context=Context())
    prepared = prepare_alone(store, principal, model, wish)
    return store.index.begin(partial(register_in, principal=principal, on=prepared))


async def register_versions(
    store: Store,
    principal: Principal,
    wishes: Sequence[tuple[ModelReference, Registration]],
    *,
    most_files: int,
) -> list[Registered]:
    """Register all of them or none; `most_files` is how many they may have together.

    A base must be there before the batch. Raises `Conflict`, code ``batch_refused``, with every one
    that cannot be.
    """
    prepared: dict[int, Prepared] = {}
    problems: dict[int, RegistryError] = {}
    left = most_files
    for position, (model, wish) in enumerate(wishes):
        try:
            one = await prepare(store, principal, model, wish, most_files=left)
        except RegistryError as error:
            if error.code == "too_many_files":
                raise too_many(most_files) from error
            problems[position] = error
            continue
        prepared[position] = one
        left -= len(one.content.files)
        if position % TURN == 0:
            await asyncio.sleep(0)  # look-ups run on the event loop, where others wait

    async def unit(tx: Tx) -> list[Registered]:
        done: list[Registered] = []
        refused = dict(problems)
        for position, one in prepared.items():
            try:
                done.append(await register_in(tx, principal, one))
            except RegistryError as error:
                refused[position] = error
        refuse_batch(
            "versions",
            [batch_problem(f"versions[{n}]", error) for n, error in sorted(refused.items())],
        )
        return done

    return await change(store, principal, unit)


async def register_arriving(
    store: Store,
    principal: Principal,
    model: ModelReference,
    files: AsyncIterable[ArrivingFile],
    wish: Callable[[], Registration],
    *,
    most_files: int,
    limit_bytes: int | None,
) -> Registered:
    """Take files in as they arrive, then register them; `wish` is asked for behind the last one.

    Raises what `register_version` raises, `DigestMismatch`, `BodyTooLarge`, and what the files and
    storing raise. Nothing has a name then, and what was stored is nobody's.
    """
    watch = await _watch(store, principal, model)
    stranger = principal.stranger
    async with gathering(store, "mul", stranger=stranger, limit_bytes=limit_bytes) as taking:
        seen: set[str] = set()
        async for file in files:
            require_once(file.path, seen)
            if len(seen) > most_files:
                raise too_many(most_files)
            content = file.content if watch is None else watch.watched(file.content, None)
            await taking.take(file.path, content, expected=file.expected)
            if watch is not None and watch.is_due(taking.taken_files, taking.taken_bytes):
                await watch.count(await taking.hashed())
        found = await taking.finish()
        for one in sorted(found, key=lambda file: file.path):
            fingerprint(one.path.encode(), one.digest.raw)
        arrived = Arrived(found, taking.holder)
        return await register_version(
            store, principal, model, wish(), most_files=most_files, arrived=arrived
        )


async def admit(
    store: Store, principal: Principal, model: ModelReference, wish: Registration
) -> None:
    """Refuse what cannot work whatever files arrive, before they travel."""
    label = wish.label

    async def unit(tx: Tx) -> None:
        found = await model_to_write(tx, principal, model)
        await require_parents(tx, principal, wish.stated.lineage)
        if label is not None:
            refuse_reserved(label)
        if found is None or label is None:
            return
        _, draft = await label_holder(tx, found, label)
        if draft is not None and not wish.is_draft:
            raise _draft_exists(found, label, [])

    await store.index.look(unit)


async def _watch(store: Store, principal: Principal, model: ModelReference) -> QuotaWatch | None:
    async def unit(tx: Tx) -> QuotaWatch | None:
        found = await model_to_write(tx, principal, model)
        # What repeats a version makes none, and only its files tell.
        return await watch_quota(tx, store.index, found, model, versions=0)

    return await store.index.look(unit)


async def publish_labelled(
    store: Store,
    principal: Principal,
    model: ModelReference,
    label: str,
    complete: Completeness = UNPROVEN,
    stated: Stated = UNSTATED,
) -> Registered:
    """Freeze a draft into the next version; raises `NotFound` or `Conflict` with what is wrong."""
    now = store.clock()
    ids = Ids.fresh(now)
    tags = [TagWish.fresh(now, key, value) for key, value in stated.tags]
    edges = [EdgeWish.of(now, said) for said in stated.lineage]

    async def unit(tx: Tx) -> Registered:
        found = await require_model(tx, principal, model)
        done = await publish_in(tx, principal, found, label, ids, complete, stated)
        if not done.is_new:
            full = await full_version(tx, found, done.version)
            return Registered(model=found, version=full, is_new=False)
        return await _say(tx, principal, done, tags, edges, ids)

    return await change(store, principal, unit)


async def register_in(tx: Tx, principal: Principal, on: Prepared) -> Registered:
    """Register inside the caller's transaction; what it raises must end that transaction."""
    model = await model_to_write(tx, principal, on.reference)
    if model is None:
        assert isinstance(on.reference, ModelName), "an id that names no model was refused"
        model = await make_model(tx, principal, on.model_id, on.reference)
    done = await _find_repeated(tx, principal, model, on)
    if done is None:
        done = await (_make_draft if on.wish.is_draft else _make_version)(tx, principal, model, on)
    if on.claimant.holder:
        await drop_leases(tx, on.claimant.holder)
    return done


async def _find_repeated(
    tx: Tx, principal: Principal, model: Model, on: Prepared
) -> Registered | None:
    """What the same request has made before; raises `Conflict` if another one was first."""
    label = on.wish.label
    if label is None:
        return await _find_unlabelled(tx, principal, model, on)
    refuse_reserved(label)
    version, draft = await label_holder(tx, model, label)
    if version is not None:
        if version.tree != on.content.tree or version.source != on.wish.stated.source:
            raise _differs(model, version)
        version = await wanted_again(tx, principal, model, version)
        full = await full_version(tx, model, version)
        return Registered(model=model, version=full, is_new=False)
    running = await running_uploads(tx, model.folded, fold(label))
    if draft is None and not running:
        return None
    if draft is not None and on.wish.is_draft and not running:
        hashed = await hash_draft(tx, draft.id)
        if hashed.finish() == on.content.tree:
            return Registered(model=model, draft=draft, is_new=False)
    raise _draft_exists(model, label, [upload.path for upload in running])


def _draft_exists(model: Model, label: str, uploads: list[str]) -> Conflict:
    return Conflict(
        "draft",
        f"{label} of {model.name}",
        "is being put together file by file; publish or delete it first",
        code="draft_exists",
        details={"uploads": uploads},
    )


async def _find_unlabelled(
    tx: Tx, principal: Principal, model: Model, on: Prepared
) -> Registered | None:
    stated = on.wish.stated
    version = await find_repeated_version(tx, model.id, on.content.tree, stated.source)
    if version is None or stated.status not in (None, version.status):
        return None
    full = await full_version(tx, model, version)
    tags = {(tagging.tag.key, tagging.tag.value) for tagging in full.tags}
    if not tags.issuperset(stated.tags):
        return None
    if not says_the_same(facts_of(version, full.details), stated.facts):
        return None
    if not await are_told(tx, principal, version, on.lineage):
        return None
    if version.retired_at is not None:
        version = await wanted_again(tx, principal, model, version)
        full = await full_version(tx, model, version)
    return Registered(model=model, version=full, is_new=False)


def _differs(model: Model, version: Version) -> Conflict:
    source = version.source
    return Conflict(
        "version",
        f"{version.name} of {model.name}",
        "is published with other content",
        code="version_published",
        details={
            "number": version.number,
            "tree": str(version.tree),
            "source": None if source is None else source.uri,
        },
    )


async def _make_version(tx: Tx, principal: Principal, model: Model, on: Prepared) -> Registered:
    content, wish = on.content, on.wish
    name = f"{wish.label or 'without a label'} of {model.name}"
    burnt = None
    if wish.label is not None:
        burnt = await find_version_by_label(tx, model.id, fold(wish.label))
        if burnt is not None:
            refusal = why_not_return(name, burnt, content.tree, wish.stated.source)
            if refusal is not None:
                raise refusal
    totals = len(content.files), content.size_bytes
    await insert_tree(tx, content.tree, content.files, files=totals[0], size_bytes=totals[1])
    if content.tree != EMPTY_TREE:
        unusable = await unusable_in_tree(tx, on.claimant, content.tree)
        if unusable:
            raise ContentMissing("version", name, sorted(unusable))
    publication = await make_version(
        tx, principal, model, wish.label, content.tree, totals, on.ids, wish.stated, burnt=burnt
    )
    return await _say(tx, principal, publication, on.tags, on.lineage, on.ids)


async def _say(
    tx: Tx,
    principal: Principal,
    done: Publication,
    tags: Iterable[TagWish],
    lineage: Sequence[EdgeWish],
    ids: Ids,
) -> Registered:
    """Say what comes with a version that was made, or came back, in this transaction."""
    model, version = done.model, done.version
    holder = Holder(model, version)
    if version.id == ids.version:
        tagged = await assign_first(tx, principal, holder, tags)
        full = FullVersion(model, version, done.details, tagged)  # as it was just written
    else:
        for wish in tags:
            await assign(tx, principal, holder, wish)
        full = await full_version(tx, model, version)
    await add_edges(tx, principal, model, version, lineage)
    return Registered(model=model, version=full, is_new=True)


async def _make_draft(tx: Tx, principal: Principal, model: Model, on: Prepared) -> Registered:
    content, label = on.content, on.wish.label
    assert label is not None, "a draft without a label was refused"
    draft = await insert_draft(tx, on.folder_id, model.id, label, fold(label), principal.id)
    await put_draft_files(tx, draft.id, content.files)
    unusable = await unusable_in_folder(tx, on.claimant, draft.id)
    if unusable:
        raise ContentMissing("draft", f"{label} of {model.name}", sorted(unusable))
    async with within_quota(tx, model.namespace_id):
        await claim_folder(tx, draft.id, model)
    await release_folder_pins(tx, draft.id, principal.id)
    await record(
        tx,
        principal,
        Entry(
            action="create",
            kind="draft",
            id=draft.id,
            name=label,
            model=model.id,
            after={"label": label, "files": len(content.files), "size": content.size_bytes},
        ),
    )
    found = await find_draft(tx, model.id, fold(label))
    return Registered(model=model, draft=found, is_new=True)
