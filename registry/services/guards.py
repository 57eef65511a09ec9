"""Promotion guards: made, found, changed, removed. What they refuse: `registry.services.guarding`.

Whoever administers a namespace (``namespace.admin``) guards it and its models; whoever reads a
model reads its guards, because they say what a version still lacks.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from registry.catalog.audit import Entry, record
from registry.catalog.guards import (
    ListedGuard,
    count_guards,
    covered_name,
    delete_guard_row,
    find_guard,
    guards_before,
    insert_guard,
    update_guard,
)
from registry.domain.expectations import ANYTHING, Expected
from registry.domain.guards import MOST_GUARDS, Guard, Rules
from registry.domain.ids import GUARD, is_id, new_id
from registry.domain.principals import Principal
from registry.domain.references import ModelReference
from registry.errors import Conflict, Invalid, NotFound
from registry.services.change import change
from registry.services.namespaces import require_namespace
from registry.services.resolve import require_model, require_owner
from registry.services.teams import require_team
from registry.services.users import require_user
from store.index.transactions import Tx
from store.opening import Store


class GuardTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What a guard says; UNSET is the default where one is made, and stays where one changes.

    `movers` may be ``user:`` and ``team:`` with a name here; a guard keeps ids.
    """

    aliases: tuple[str, ...] | UnsetType = UNSET
    statuses: tuple[str, ...] | UnsetType = UNSET
    rules: Rules | UnsetType = UNSET
    description: str | UnsetType = UNSET
    is_active: bool | UnsetType = UNSET

    def given(self) -> dict[str, Any]:
        return {
            name: value
            for name in self.__struct_fields__
            if (value := getattr(self, name)) is not UNSET
        }


class GuardPage(msgspec.Struct, frozen=True):
    items: list[ListedGuard]
    next: str | None


async def create_guard(
    store: Store,
    principal: Principal,
    terms: GuardTerms,
    *,
    model: ModelReference | None = None,
    namespace: str | None = None,
) -> ListedGuard:
    """Make a guard of a model, or of a namespace; raises `NotFound`, `Invalid`, `Conflict`."""
    if (model is None) == (namespace is None):
        raise Invalid("model", "or namespace, one of them, says what is guarded")
    id = new_id(GUARD, store.clock())
    said = {
        "aliases": (),
        "statuses": (),
        "rules": Rules(),
        "description": "",
        "is_active": True,
        **terms.given(),
    }

    async def unit(tx: Tx) -> ListedGuard:
        model_id = namespace_id = None
        if model is not None:
            of_model = await require_model(tx, principal, model)
            model_id, covers = of_model.id, of_model.name
        else:
            of_namespace = await require_namespace(tx, principal, namespace or "")
            namespace_id, covers = of_namespace.id, of_namespace.slug
        if await count_guards(tx, model_id=model_id, namespace_id=namespace_id) >= MOST_GUARDS:
            raise Conflict(
                "guards", f"of {covers}", f"are {MOST_GUARDS} already", code="too_many_guards"
            )
        guard = await _with_ids(
            tx,
            Guard(
                id=id,
                model_id=model_id,
                namespace_id=namespace_id,
                created_at=tx.now,
                created_by=principal.id,
                updated_at=tx.now,
                **said,
            ),
        )
        _require_purpose(guard)
        await insert_guard(tx, guard)
        await record(tx, principal, _entry("create", guard, covers, after=_said(guard)))
        return ListedGuard(guard, covers)

    return await change(store, principal, unit)


async def get_guard(store: Store, principal: Principal, id: str) -> ListedGuard:
    """One guard; raises `NotFound`."""

    async def unit(tx: Tx) -> ListedGuard:
        guard = await _require(tx, principal, id)
        return ListedGuard(guard, await covered_name(tx, guard))

    return await store.index.look(unit)


async def list_guards(
    store: Store,
    principal: Principal,
    *,
    model: ModelReference | None,
    namespace: str | None,
    before: str | None,
    limit: int,
) -> GuardPage:
    """Guards that the caller may see, of one model or namespace if asked, the latest first."""
    seen = principal.visibility.seen

    async def unit(tx: Tx) -> list[ListedGuard]:
        of_model = None if model is None else await require_model(tx, principal, model)
        of_namespace = (
            None if namespace is None else await require_namespace(tx, principal, namespace)
        )
        return await guards_before(
            tx,
            model_id=None if of_model is None else of_model.id,
            namespace_id=None if of_namespace is None else of_namespace.id,
            seen=seen,
            before=before,
            limit=limit + 1,
        )

    items = await store.index.read(unit)
    is_more = len(items) > limit
    items = items[:limit]
    return GuardPage(items, items[-1].guard.id if is_more else None)


async def change_guard(
    store: Store,
    principal: Principal,
    id: str,
    terms: GuardTerms,
    expected: Expected = ANYTHING,
) -> ListedGuard:
    """Change a guard; what changes nothing leaves no trace."""

    async def unit(tx: Tx) -> ListedGuard:
        before = await _require(tx, principal, id)
        covers = await covered_name(tx, before)
        expected.require(before.id, before.changes, under=covers)
        after = await _with_ids(tx, msgspec.structs.replace(before, **terms.given()))
        if after == before:
            return ListedGuard(before, covers)
        _require_purpose(after)
        after = msgspec.structs.replace(after, updated_at=tx.now, changes=before.changes + 1)
        await update_guard(tx, after)
        entry = _entry("update", after, covers, before=_said(before), after=_said(after))
        await record(tx, principal, entry)
        return ListedGuard(after, covers)

    return await change(store, principal, unit)


async def remove_guard(
    store: Store, principal: Principal, id: str, expected: Expected = ANYTHING
) -> None:
    """Remove a guard; what moved stays where it is."""

    async def unit(tx: Tx) -> None:
        before = await _require(tx, principal, id)
        covers = await covered_name(tx, before)
        expected.require(before.id, before.changes, under=covers)
        await delete_guard_row(tx, before.id)
        await record(tx, principal, _entry("delete", before, covers, before=_said(before)))

    await change(store, principal, unit)


async def _require(tx: Tx, principal: Principal, id: str) -> Guard:
    """The guard, if the principal may deal with what it covers; raises `NotFound`, `Denied`."""
    found = await find_guard(tx, id) if is_id(id, GUARD) else None
    covered = None if found is None else found.model_id or found.namespace_id
    missing = NotFound("guard", id[:80], code="guard_not_found")
    await require_owner(tx, principal, covered, missing)
    assert found is not None, "what is not there was refused"
    return found


async def _with_ids(tx: Tx, guard: Guard) -> Guard:
    """The guard with ids for who was named; raises `NotFound` for names that nobody has."""
    movers = [await _mover(tx, said) for said in guard.rules.movers]
    rules = msgspec.structs.replace(guard.rules, movers=tuple(dict.fromkeys(movers)))
    return msgspec.structs.replace(guard, rules=rules)


async def _mover(tx: Tx, said: str) -> str:
    kind, _, name = said.partition(":")
    if not name:
        return said
    return (await (require_user if kind == "user" else require_team)(tx, name)).id


def _require_purpose(guard: Guard) -> None:
    """Raise `Invalid` for a guard that could never refuse anything."""
    if not guard.aliases and not guard.statuses:
        raise Invalid("aliases", "or statuses must name something to guard")
    if guard.rules == Rules():
        raise Invalid("rules", "ask for nothing")


def _said(guard: Guard) -> dict[str, Any]:
    kept = ("id", "created_at", "created_by", "updated_at", "changes")
    said = msgspec.structs.asdict(guard)
    return {name: value for name, value in said.items() if name not in kept}


def _entry(
    action: str, guard: Guard, covers: str, *, before: Any = None, after: Any = None
) -> Entry:
    return Entry(
        action=action,
        kind="guard",
        id=guard.id,
        name=covers,
        model=guard.model_id,
        before=before,
        after=after,
    )
