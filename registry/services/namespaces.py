"""Namespaces: made by whoever first uses a name in them, or before that on purpose.

A namespace cannot be renamed: its slug is the beginning of its models' names. It can be deleted
once it holds no model, deleted ones included, since those could be restored; `default` never.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import UNSET, UnsetType

from registry.catalog import identity
from registry.catalog.audit import Entry, record
from registry.catalog.experiments import experiments_held
from registry.catalog.grants import delete_grants_on
from registry.catalog.guards import delete_guards_of_namespace
from registry.catalog.namespaces import (
    delete_namespace,
    find_namespace,
    find_namespace_by_id,
    insert_namespace,
    is_namespace_shown,
    models_held,
    namespaces_after,
    update_namespace,
)
from registry.catalog.webhooks import webhooks_held
from registry.domain.expectations import ANYTHING, Expected
from registry.domain.ids import MODEL, NAMESPACE, is_id, new_id
from registry.domain.models import Namespace
from registry.domain.names import DEFAULT_NAMESPACE, ModelName, fold, parse_namespace
from registry.domain.principals import Principal
from registry.domain.roles import Place
from registry.errors import Conflict, Denied, NotFound
from registry.services.authority import require_everywhere
from registry.services.change import change
from registry.services.retention_entries import remove_policy_of_namespace
from registry.services.teams import require_team
from registry.services.users import require_user
from store.index.transactions import Tx
from store.opening import Store

_CREATE: Final = "model.create"

_LOOKS: Final = frozenset(("", "public", "model.read", "content.read"))
"""Words that whoever sees a namespace needs nothing more for, with what comes without a route."""


class NamespaceWish(msgspec.Struct, frozen=True, kw_only=True):
    """A namespace to make."""

    slug: str
    visibility: str = "private"
    description: str = ""
    quota_bytes: int | None = None
    quota_versions: int | None = None
    quota_pins: int | None = None
    owner: NewOwner | None = None


class NewOwner(msgspec.Struct, frozen=True):
    """Whom a namespace shall belong to: a user or a team, by name or id."""

    kind: str
    name: str


class NamespacePatch(msgspec.Struct, frozen=True, kw_only=True):
    """What shall be different; UNSET stays as it is."""

    visibility: str | UnsetType = UNSET
    description: str | UnsetType = UNSET
    quota_bytes: int | UnsetType | None = UNSET
    quota_versions: int | UnsetType | None = UNSET
    quota_pins: int | UnsetType | None = UNSET
    owner: NewOwner | UnsetType = UNSET

    def given(self) -> dict[str, str | int | None]:
        """All but the owner, who must be found first."""
        return {
            name: value
            for name in self.__struct_fields__
            if name != "owner" and (value := getattr(self, name)) is not UNSET
        }


async def may_create(tx: Tx, principal: Principal, name: ModelName) -> bool:
    """Whether the principal may make a model of that name, the namespace being there or not."""
    if principal.may_everywhere(_CREATE):
        return True
    found = await find_namespace(tx, fold(name.namespace))
    if _may_use(principal, found, name.namespace):
        return True
    await read_as_much(tx, found)
    return False


async def read_as_much(tx: Tx, found: Namespace | None) -> None:
    """Read a namespace where none was found, else look for one that is not there.

    Reading a row takes longer than finding none: whoever is refused waits for both, so that the
    time does not tell whether there is a namespace of that name.
    """
    await find_namespace(tx, DEFAULT_NAMESPACE if found is None else "")


def _may_use(principal: Principal, found: Namespace | None, slug: str) -> bool:
    """Whether it may make models in a namespace that is there, or begin one that is not."""
    if found is None:
        return _CREATE in principal.rights.beginning(fold(slug))
    return principal.may(_CREATE, Place(namespace=found.id))


async def require_creation(tx: Tx, principal: Principal, slug: str) -> None:
    """Refuse who may not make models in a namespace, nor the namespace if it is not there.

    That comes before any name is looked at: whether one is taken is told to those alone who could
    take it. Raises `Denied` for a namespace that is seen, and `NotFound` for one that is not.
    """
    if principal.may_everywhere(_CREATE):
        return
    found = await find_namespace(tx, fold(slug))
    if not _may_use(principal, found, slug):
        await read_as_much(tx, found)
        await require_namespace(tx, principal, slug, word=_CREATE)


async def namespace_for(tx: Tx, principal: Principal, id: str, name: ModelName) -> Namespace:
    """The namespace of a model's name, made for `principal` with this id if it is not there."""
    slug = name.namespace
    found = await find_namespace(tx, fold(slug))
    if found is not None:
        return found
    return await _make(tx, principal, id, NamespaceWish(slug=slug))


def namespace_id_of(model_id: str) -> str:
    """The id of the namespace that a new model makes: derived, as a unit may run more than once."""
    return NAMESPACE + model_id.removeprefix(MODEL)


async def create_namespace(store: Store, principal: Principal, wish: NamespaceWish) -> Namespace:
    """Make a namespace; raises `Conflict`, code ``namespace_exists``.

    Whoever makes it owns it. Only administrators of the registry make one for others: whoever has
    it could otherwise be given what they never asked for.
    """
    if wish.owner is not None:
        require_everywhere(principal, "admin", "namespaces of others")
    slug = parse_namespace(wish.slug, field="slug")
    id = new_id(NAMESPACE, store.clock())

    async def unit(tx: Tx) -> Namespace:
        await require_creation(tx, principal, slug)
        existing = await find_namespace(tx, fold(slug))
        if existing is not None:
            raise Conflict(
                "namespace",
                slug,
                "is there already",
                code="namespace_exists",
                details={"existing": existing.slug},
            )
        return await _make(tx, principal, id, msgspec.structs.replace(wish, slug=slug))

    return await change(store, principal, unit)


async def _make(tx: Tx, principal: Principal, id: str, wish: NamespaceWish) -> Namespace:
    owner_kind, owner = "user", principal.id
    if wish.owner is not None:
        owner_kind, owner = await _owner(tx, wish.owner)
    namespace = Namespace(
        id=id,
        slug=wish.slug,
        folded=fold(wish.slug),
        owner_kind=owner_kind,
        owner=owner,
        visibility=wish.visibility,
        description=wish.description,
        quota_bytes=wish.quota_bytes,
        quota_versions=wish.quota_versions,
        quota_pins=wish.quota_pins,
        created_at=tx.now,
        created_by=principal.id,
        updated_at=tx.now,
    )
    await insert_namespace(tx, namespace)
    await identity.touch(tx)
    await record(tx, principal, _entry("create", namespace, after=_said(namespace)))
    return namespace


async def _owner(tx: Tx, wanted: NewOwner) -> tuple[str, str]:
    """Kind and id of an owner; raises `NotFound`."""
    if wanted.kind == "team":
        return "team", (await require_team(tx, wanted.name)).id
    return "user", (await require_user(tx, wanted.name)).id


async def require_namespace(
    tx: Tx, principal: Principal, reference: str, *, word: str | None = None
) -> Namespace:
    """The namespace with this slug or id, if the principal sees it and may do that there.

    It is seen by whoever reads all of it, and by whoever sees a model in it. Raises `NotFound`, and
    `Denied` where the word, which is that of the route unless it is said, is not held there;
    whoever sees it may look at it.
    """
    if is_id(reference, NAMESPACE):
        found = await find_namespace_by_id(tx, reference)
    else:
        found = await find_namespace(tx, fold(reference))
    seen = principal.visibility.seen
    if seen is not None:
        # Asked of what is not there too, so that it takes as long.
        is_shown = await is_namespace_shown(tx, "" if found is None else found.id, seen)
        if not is_shown:
            await read_as_much(tx, found)
            found = None
    if found is None:
        raise NotFound("namespace", reference, code="namespace_not_found")
    asked = principal.word if word is None else word
    is_look = asked in _LOOKS
    if not is_look and not principal.may(asked, Place(namespace=found.id)):
        raise Denied(asked, found.slug)
    return found


async def get_namespace(store: Store, principal: Principal, reference: str) -> Namespace:
    async def unit(tx: Tx) -> Namespace:
        return await require_namespace(tx, principal, reference)

    return await store.index.look(unit)


async def list_namespaces(
    store: Store, principal: Principal, *, after: str = "", limit: int = 100
) -> list[Namespace]:
    """A page in order of folded slug."""
    seen = principal.visibility.seen

    async def unit(tx: Tx) -> list[Namespace]:
        return await namespaces_after(tx, after, limit, seen=seen)

    return await store.index.read(unit)


async def change_namespace(
    store: Store,
    principal: Principal,
    reference: str,
    patch: NamespacePatch,
    expected: Expected = ANYTHING,
) -> Namespace:
    """Change what is said of a namespace; what changes nothing leaves no trace."""

    async def unit(tx: Tx) -> Namespace:
        before = await require_namespace(tx, principal, reference)
        expected.require(before.id, before.changes)
        after = msgspec.structs.replace(before, **patch.given())
        if patch.owner is not UNSET:
            kind, owner = await _owner(tx, patch.owner)
            after = msgspec.structs.replace(after, owner_kind=kind, owner=owner)
        if after == before:
            return before
        if after.owner != before.owner:
            await identity.touch(tx)
        after = msgspec.structs.replace(after, updated_at=tx.now, changes=before.changes + 1)
        await update_namespace(tx, after)
        entry = _entry("update", after, before=_said(before), after=_said(after))
        await record(tx, principal, entry)
        return after

    return await change(store, principal, unit)


async def remove_namespace(
    store: Store, principal: Principal, reference: str, expected: Expected = ANYTHING
) -> None:
    """Delete a namespace that holds nothing; raises `Conflict`."""

    async def unit(tx: Tx) -> None:
        found = await require_namespace(tx, principal, reference)
        expected.require(found.id, found.changes)
        if found.folded == DEFAULT_NAMESPACE:
            raise Conflict("namespace", found.slug, "is always there", code="namespace_is_default")
        live, deleted = await models_held(tx, found.id)
        experiments, deleted_experiments = await experiments_held(tx, found.id)
        webhooks = await webhooks_held(tx, found.id)
        if live or deleted or experiments or deleted_experiments or webhooks:
            raise Conflict(
                "namespace",
                found.slug,
                f"holds {live} models and {experiments} experiments, {deleted} and "
                f"{deleted_experiments} deleted ones, which could be restored, and "
                f"{webhooks} webhooks",
                code="namespace_not_empty",
                details={
                    "models": live,
                    "deleted_models": deleted,
                    "experiments": experiments,
                    "deleted_experiments": deleted_experiments,
                    "webhooks": webhooks,
                },
            )
        await remove_policy_of_namespace(tx, principal, found)
        await delete_guards_of_namespace(tx, found.id)
        await delete_namespace(tx, found.id)
        # Whoever makes it anew owes nothing to those who had it.
        await delete_grants_on(tx, "namespace", found.folded)
        await identity.touch(tx)
        await record(tx, principal, _entry("delete", found, before=_said(found)))

    await change(store, principal, unit)


def _said(namespace: Namespace) -> dict[str, object]:
    return {
        "slug": namespace.slug,
        "owner": {"kind": namespace.owner_kind, "id": namespace.owner},
        "visibility": namespace.visibility,
        "description": namespace.description,
        "quota_bytes": namespace.quota_bytes,
        "quota_versions": namespace.quota_versions,
        "quota_pins": namespace.quota_pins,
    }


def _entry(
    action: str, namespace: Namespace, *, before: object = None, after: object = None
) -> Entry:
    return Entry(
        action=action,
        kind="namespace",
        id=namespace.id,
        name=namespace.slug,
        before=before,
        after=after,
    )
