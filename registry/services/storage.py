"""What is taken, what letting go would free, and why a blob is kept, within what the caller sees.

**Nothing hidden is counted.** How much a namespace takes is told to who may write in it, and what a
namespace would get back by a purge to who reads all of it: both depend on models that others may
not see. What the whole store would get back, everybody's pins, and leases are for operators. Who is
not told gets None, whatever there is.
"""

from __future__ import annotations

import msgspec

from registry.catalog.storage import (
    MOST_OWNERS,
    FileOwning,
    ModelOwning,
    Storage,
    files_owning,
    leases_on,
    models_owning,
    pins_on,
    storage_of_draft,
    storage_of_model,
    storage_of_tree,
    uploads_of,
)
from registry.catalog.usage import count_pins, find_standing, user_of
from registry.domain.models import Model, Namespace
from registry.domain.principals import Principal
from registry.domain.references import ModelReference, VersionReference
from registry.domain.roles import Place
from registry.services.blobs import known
from registry.services.namespaces import require_namespace
from registry.services.resolve import DraftFiles, follow, require_model
from store.digest import Digest
from store.errors import BlobNotFound
from store.index.claims import KEPT, PIN
from store.index.transactions import Tx
from store.opening import Store


class NamespaceUsage(msgspec.Struct, frozen=True):
    """A namespace with what it takes; pins are those of the user that has its name, if one has."""

    namespace: Namespace
    bytes: int
    versions: int
    pins: int | None


class Explained(msgspec.Struct, frozen=True):
    """What something of a model takes and frees; None is what the caller is not told."""

    model: Model
    name: str | None
    blobs: int
    bytes: int
    frees_of_model: int
    frees_of_namespace: int | None
    frees_of_store: int | None


class Owning(msgspec.Struct, frozen=True):
    """A model that keeps a blob, and some of its files that are the blob."""

    model: ModelOwning
    files: list[FileOwning]


class Pinning(msgspec.Struct, frozen=True):
    """Somebody's pin."""

    owner: str
    kind: str
    created_at: int


class Kept(msgspec.Struct, frozen=True):
    """Everything the caller sees that keeps a blob."""

    digest: Digest
    size_bytes: int
    models: list[Owning]
    has_more_models: bool
    pins: list[Pinning]
    uploads: list[str]
    leases: list[tuple[str, int]] | None


async def usage_of_namespace(store: Store, principal: Principal, reference: str) -> NamespaceUsage:
    """What a namespace takes beside its quotas; raises `NotFound` and `Denied`."""

    async def unit(tx: Tx) -> NamespaceUsage:
        found = await require_namespace(tx, principal, reference)
        usage = (await find_standing(tx, found.id)).usage
        user = await user_of(tx, found.id)
        told = user is not None and (user == principal.id or principal.may_everywhere("ops"))
        pins = await count_pins(tx, user) if user is not None and told else None
        return NamespaceUsage(found, usage.bytes, usage.versions, pins)

    return await store.index.read(unit)


async def explain_model(store: Store, principal: Principal, reference: ModelReference) -> Explained:
    """What a model takes, and what purging it would free."""

    async def unit(tx: Tx) -> Explained:
        model = await require_model(tx, principal, reference)
        found = await storage_of_model(tx, model.id, model.namespace_id)
        return _told(principal, model, None, found)

    return await store.index.read(unit)


async def explain_version(
    store: Store, principal: Principal, reference: ModelReference, version: VersionReference
) -> Explained:
    """What a version or a draft takes, and what purging it would free."""

    async def unit(tx: Tx) -> Explained:
        model = await require_model(tx, principal, reference)
        place = await follow(tx, model, version)
        if isinstance(place, DraftFiles):
            found = await storage_of_draft(tx, place.draft.id, model.id, model.namespace_id)
        else:
            found = await storage_of_tree(tx, place.digest, model.id, model.namespace_id)
        return _told(principal, model, place.name, found)

    return await store.index.read(unit)


def _told(principal: Principal, model: Model, name: str | None, found: Storage) -> Explained:
    reads_all = principal.may("model.read", Place(namespace=model.namespace_id))
    operates = principal.may_everywhere("ops")
    return Explained(
        model,
        name,
        found.blobs,
        found.bytes,
        found.frees_of_model,
        found.frees_of_namespace if reads_all else None,
        found.frees_of_store if operates else None,
    )


async def explain_blob(store: Store, principal: Principal, digest: Digest) -> Kept:
    """Why a blob is kept; raises `BlobNotFound` for one that the caller may not read."""
    operates = principal.may_everywhere("ops")

    async def unit(tx: Tx) -> Kept:
        row = await known(tx, digest, principal.visibility)
        if row is None:
            raise BlobNotFound(digest)
        seen = principal.visibility.seen
        owning = await models_owning(tx, digest, MOST_OWNERS + 1, seen=seen)
        pins = await pins_on(
            tx, digest, owner=None if operates else principal.id, limit=MOST_OWNERS
        )
        return Kept(
            digest,
            row.size_bytes,
            [Owning(m, await files_owning(tx, digest, m.id)) for m in owning[:MOST_OWNERS]],
            len(owning) > MOST_OWNERS,
            [Pinning(*pin) for pin in pins if pin[1] in (PIN, KEPT)],
            await uploads_of(tx, digest, principal.id, MOST_OWNERS),
            await leases_on(tx, digest, MOST_OWNERS) if operates else None,
        )

    return await store.index.read(unit)
