"""Grants: a role for a user, a team or everyone, on a model, a pattern of namespaces, the registry.

Administrators of the registry grant anything anywhere; who administers a namespace (holds
``namespace.admin`` there) grants on it and on its models, who administers a model on that model.
Nobody grants more than they hold there. A pattern with ``*`` reaches namespaces that others will
make, so it takes the registry's ``namespace.admin``; one without is the name of one namespace,
which need not be there yet.

There is one role for a subject on a resource: granting another one changes it. Everyone is whoever
is signed in, and is never made admin of the registry.
"""

from __future__ import annotations

import unicodedata
from typing import Any, Final

import msgspec

from registry.catalog import identity
from registry.catalog.audit import Entry, record
from registry.catalog.grants import (
    Administered,
    NamedGrant,
    change_grant,
    delete_grant,
    find_grant,
    find_same_grant,
    grants_after,
    insert_grant,
)
from registry.catalog.models import find_model_by_id
from registry.catalog.namespaces import find_namespace
from registry.domain.accounts import Grant
from registry.domain.ids import GRANT, is_id, new_id
from registry.domain.names import DEFAULT_NAMESPACE, fold, parse_namespace
from registry.domain.principals import Principal, place_of
from registry.domain.references import parse_model
from registry.domain.roles import Place, Words
from registry.errors import Denied, Invalid, NotFound
from registry.services.authority import require_everywhere, require_held
from registry.services.change import change
from registry.services.namespaces import read_as_much
from registry.services.resolve import require_model
from registry.services.teams import require_team
from registry.services.users import require_user
from store.index.transactions import Tx
from store.opening import Store

WORD: Final = "namespace.admin"
"""What it takes to grant somewhere."""

ANYTHING: Final = "*"


class GrantWish(msgspec.Struct, frozen=True, kw_only=True):
    """A grant to make; names or ids, empty for everyone and for the registry."""

    subject_kind: str
    subject: str = ""
    resource_kind: str
    resource: str = ""
    role: str


class GrantsAsked(msgspec.Struct, frozen=True, kw_only=True):
    """Which grants are listed: those to one subject, those on one resource."""

    user: str | None = None
    team: str | None = None
    model: str | None = None
    namespace: str | None = None


class Given(msgspec.Struct, frozen=True):
    """A grant as it is now, and whether there was none before."""

    named: NamedGrant
    is_new: bool


async def give(store: Store, principal: Principal, wish: GrantWish) -> Given:
    """Give a role, or another one than before."""
    _check(wish)
    id = new_id(GRANT, store.clock())

    async def unit(tx: Tx) -> Given:
        resource, held = await _resource(tx, principal, wish.resource_kind, wish.resource)
        grant = Grant(
            id=id,
            subject_kind=wish.subject_kind,
            subject=await _subject(tx, wish.subject_kind, wish.subject),
            resource_kind=wish.resource_kind,
            resource=resource,
            role=wish.role,
            created_at=tx.now,
            created_by=principal.id,
        )
        before = await find_same_grant(tx, grant)
        require_held(principal, grant.words, held, wish.resource or "the registry")
        if before is not None:
            require_held(principal, before.words, held, wish.resource or "the registry")
        return await _put(tx, principal, before, grant)

    return await change(store, principal, unit)


def _check(wish: GrantWish) -> None:
    everyone, registry = wish.subject_kind == "everyone", wish.resource_kind == "registry"
    if everyone != (wish.subject == ""):
        said = "is not named" if everyone else f"is missing: which {wish.subject_kind}"
        raise Invalid("subject.name", said)
    if registry != (wish.resource == ""):
        said = "is not named" if registry else f"is missing: which {wish.resource_kind}"
        raise Invalid("resource.name", said)
    if everyone and registry and wish.role == "admin":
        raise Invalid("role", "admin of the registry cannot be everyone")


async def _subject(tx: Tx, kind: str, name: str) -> str:
    match kind:
        case "user":
            return (await require_user(tx, name)).id
        case "team":
            return (await require_team(tx, name)).id
    return ""


async def _resource(tx: Tx, principal: Principal, kind: str, name: str) -> tuple[str, Words]:
    """What a grant is kept under, and what the caller holds there, who must administer it."""
    match kind:
        case "model":
            model = await require_model(tx, principal, parse_model(name), word=WORD)
            return model.id, principal.rights.at(place_of(model))
        case "namespace":
            return await _pattern(tx, principal, name)
    require_everywhere(principal, "admin", "the registry")
    return "", principal.rights.everywhere


async def _pattern(tx: Tx, principal: Principal, text: str) -> tuple[str, Words]:
    folded = fold(parse_pattern(text))
    if ANYTHING in folded:
        held = principal.rights.everywhere
    else:
        found = await find_namespace(tx, folded)
        held = (
            principal.rights.beginning(folded)
            if found is None
            else principal.rights.at(Place(found.id))
        )
        if WORD not in held:
            await read_as_much(tx, found)
    if WORD not in held:
        raise Denied(WORD, text)
    return folded, held


def parse_pattern(text: str, *, field: str = "resource.name") -> str:
    """Check a namespace's slug in which ``*`` may stand for anything; raises `Invalid`."""
    pattern = unicodedata.normalize("NFC", text)
    if fold(pattern) == DEFAULT_NAMESPACE:
        return pattern
    if ANYTHING in pattern:
        parse_namespace(pattern.replace(ANYTHING, "x"), field=field)
        return pattern
    return parse_namespace(pattern, field=field)


async def _put(tx: Tx, principal: Principal, before: Grant | None, grant: Grant) -> Given:
    if before is None:
        await insert_grant(tx, grant)
        after = grant
    else:
        after = msgspec.structs.replace(before, role=grant.role)
        if after != before:
            await change_grant(tx, before.id, grant.role)
    named = await find_grant(tx, after.id)
    assert named is not None, "it was written just now"
    if after != before:
        await identity.touch(tx)
        action = "create" if before is None else "update"
        await record(tx, principal, _entry(action, named, before, after))
    return Given(named, before is None)


async def get_grant(store: Store, principal: Principal, id: str) -> NamedGrant:
    """A grant on what the caller administers; raises `NotFound`."""
    return await store.index.look(lambda tx: _require(tx, principal, id))


async def list_grants(
    store: Store, principal: Principal, asked: GrantsAsked, *, after: str = "", limit: int = 100
) -> list[NamedGrant]:
    """A page of the grants on what the caller administers, in order of their making."""

    async def unit(tx: Tx) -> list[NamedGrant]:
        filters = await _filters(tx, principal, asked)
        return await grants_after(tx, after, limit, within=administered(principal), **filters)

    return await store.index.read(unit)


async def _filters(tx: Tx, principal: Principal, asked: GrantsAsked) -> dict[str, str | None]:
    filters: dict[str, str | None] = {}
    if asked.user is not None:
        filters["subject"] = await _subject(tx, "user", asked.user)
    if asked.team is not None:
        filters["subject"] = await _subject(tx, "team", asked.team)
    if asked.model is not None:
        model = await require_model(tx, principal, parse_model(asked.model), word=WORD)
        filters |= {"resource_kind": "model", "resource": model.id}
    if asked.namespace is not None:
        folded, _ = await _pattern(tx, principal, asked.namespace)
        filters |= {"resource_kind": "namespace", "resource": folded}
    return filters


def administered(principal: Principal) -> Administered | None:
    """Where the caller sees all grants; None for everywhere."""
    rights = principal.rights
    if principal.may_everywhere("admin"):
        return None
    return Administered(
        tuple(at for at in rights.namespaces if WORD in rights.at(Place(at))),
        tuple(at for at in rights.models if WORD in rights.at(Place("", at))),
    )


async def take_back(store: Store, principal: Principal, id: str) -> None:
    """Remove a grant on what the caller administers, and with scopes could have given."""
    limit = principal.rights.limit

    async def unit(tx: Tx) -> None:
        named = await _require(tx, principal, id)
        if limit is not None:
            require_held(principal, named.grant.words, limit, named.resource_name)
        await delete_grant(tx, id)
        await identity.touch(tx)
        await record(tx, principal, _entry("delete", named, named.grant, None))

    await change(store, principal, unit)


async def _require(tx: Tx, principal: Principal, id: str) -> NamedGrant:
    named = await find_grant(tx, id) if is_id(id, GRANT) else None
    if named is None:
        await find_namespace(tx, "")  # what is hidden takes as long
    if named is None or not await _administers(tx, principal, named.grant):
        raise NotFound("grant", id, code="grant_not_found")
    return named


async def _administers(tx: Tx, principal: Principal, grant: Grant) -> bool:
    if principal.may_everywhere("admin"):
        return True
    if grant.resource_kind == "model":
        model = await find_model_by_id(tx, grant.resource)
        return model is not None and principal.may(WORD, place_of(model))
    if grant.resource_kind == "namespace" and ANYTHING not in grant.resource:
        found = await find_namespace(tx, grant.resource)
        return found is not None and principal.may(WORD, Place(found.id))
    return False


def _entry(action: str, named: NamedGrant, before: Grant | None, after: Grant | None) -> Entry:
    def said(one: Grant | None) -> dict[str, Any] | None:
        if one is None:
            return None
        return {
            "subject": {"kind": one.subject_kind, "id": one.subject, "name": named.subject_name},
            "resource": {
                "kind": one.resource_kind,
                "id": one.resource,
                "name": named.resource_name,
            },
            "role": one.role,
        }

    one = named.grant
    return Entry(
        action=action,
        kind="grant",
        id=one.id,
        name=f"{named.subject_name or one.subject_kind} on {named.resource_name or 'registry'}",
        model=one.resource if one.resource_kind == "model" else None,
        before=said(before),
        after=said(after),
    )
