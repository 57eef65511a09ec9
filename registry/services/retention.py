"""Policies of retention: made, found, changed, removed; and what retention has done so far.

A model, a namespace and the registry have at most one policy each. Nothing runs until one is set;
the nearest one is the whole policy (`registry.domain.retention`). A policy goes with its model when
that is purged, and with its namespace.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from registry.catalog.audit import record
from registry.catalog.retention import (
    ListedPolicy,
    Tally,
    count_policies,
    covered_name,
    delete_policy,
    find_policy,
    find_policy_at,
    has_active_policy,
    insert_policy,
    policies_before,
    policy_for,
    tallies_since,
    tally,
    update_policy,
)
from registry.domain.expectations import ANYTHING, Expected
from registry.domain.ids import POLICY, is_id, new_id
from registry.domain.principals import Principal
from registry.domain.references import ModelReference
from registry.domain.retention import MOST_PROTECTED_TAGS, Policy, Scope
from registry.domain.statuses import STATUSES, Status
from registry.domain.tags import parse_tag
from registry.errors import Conflict, Invalid, NotFound
from registry.services.authority import require_everywhere
from registry.services.change import change
from registry.services.namespaces import require_namespace
from registry.services.resolve import require_model, require_owner
from registry.services.retention_entries import entry_of, said_of
from store.index.transactions import Tx
from store.opening import Store

_WORD: Final = "namespace.admin"
"""What it takes to say what is kept, where it is said or all over."""

MOST_DAYS: Final = 3660
"""Of statistics, in one answer."""


class PolicyTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What a policy says; UNSET is the default where one is made, and stays where one changes."""

    is_active: bool | UnsetType = UNSET
    keep_last: int | UnsetType = UNSET
    retire_after_days: int | UnsetType = UNSET
    purge_after_days: int | UnsetType | None = UNSET
    protect_descendants: bool | UnsetType = UNSET
    protect_releases: bool | UnsetType = UNSET
    protect_statuses: tuple[Status, ...] | UnsetType = UNSET
    protect_tags: tuple[str, ...] | UnsetType = UNSET
    description: str | UnsetType = UNSET

    def given(self) -> dict[str, Any]:
        """What was said, checked and in one order; raises `Invalid`."""
        said = {
            name: value
            for name in self.__struct_fields__
            if (value := getattr(self, name)) is not UNSET
        }
        if self.protect_statuses is not UNSET:
            wanted = set(self.protect_statuses)
            said["protect_statuses"] = tuple(one for one in STATUSES if one in wanted)
        if self.protect_tags is not UNSET:
            said["protect_tags"] = _checked_tags(self.protect_tags)
        return said


class PolicyPage(msgspec.Struct, frozen=True):
    items: list[ListedPolicy]
    next: str | None


class DayTally(msgspec.Struct, frozen=True):
    """What happened on a day, in days since the epoch."""

    day: int
    tally: Tally


class Statistics(msgspec.Struct, frozen=True):
    """What retention did in all, and by the day, the last day first."""

    total: Tally
    days: list[DayTally]


def _checked_tags(given: tuple[str, ...]) -> tuple[str, ...]:
    if len(given) > MOST_PROTECTED_TAGS:
        raise Invalid("protect_tags", f"are more than {MOST_PROTECTED_TAGS}")
    found = []
    for place, text in enumerate(given):
        key, value = parse_tag(text, field=f"protect_tags[{place}]")
        found.append(key if value is None else f"{key}={value}")
    return tuple(dict.fromkeys(found))


async def create_policy(
    store: Store,
    principal: Principal,
    terms: PolicyTerms,
    *,
    model: ModelReference | None = None,
    namespace: str | None = None,
) -> ListedPolicy:
    """Make the policy of a model, of a namespace, or of the registry.

    Raises `NotFound`, and `Conflict`, code ``policy_exists``, where there is one.
    """
    if model is not None and namespace is not None:
        raise Invalid("namespace", "cannot be given beside a model")
    said = terms.given()
    id = new_id(POLICY, store.clock())

    async def unit(tx: Tx) -> ListedPolicy:
        scope: Scope = "registry"
        model_id = namespace_id = None
        covers = ""
        if model is not None:
            of_model = await require_model(tx, principal, model)
            scope, model_id, covers = "model", of_model.id, of_model.name
        elif namespace is not None:
            of_namespace = await require_namespace(tx, principal, namespace)
            scope, namespace_id, covers = "namespace", of_namespace.id, of_namespace.slug
        else:
            require_everywhere(principal, principal.word or _WORD, "registry")
        existing = await find_policy_at(tx, model_id=model_id, namespace_id=namespace_id)
        if existing is not None:
            raise Conflict(
                "policy",
                f"of {scope} {covers}".rstrip(),
                "is there already",
                code="policy_exists",
                details={"existing": existing.id},
            )
        policy = Policy(
            id=id,
            scope=scope,
            model_id=model_id,
            namespace_id=namespace_id,
            created_at=tx.now,
            created_by=principal.id,
            updated_at=tx.now,
            **said,
        )
        await insert_policy(tx, policy)
        await record(tx, principal, entry_of("create", policy, covers, after=said_of(policy)))
        return ListedPolicy(policy, covers)

    return await change(store, principal, unit)


async def get_policy(store: Store, principal: Principal, id: str) -> ListedPolicy:
    """One policy; raises `NotFound`."""

    async def unit(tx: Tx) -> ListedPolicy:
        policy = await _require(tx, principal, id)
        return ListedPolicy(policy, await covered_name(tx, policy))

    return await store.index.look(unit)


async def list_policies(
    store: Store, principal: Principal, *, scope: Scope | None, before: str | None, limit: int
) -> PolicyPage:
    """All policies or those of a scope, the latest made first."""
    seen = principal.places(principal.word or _WORD)

    async def unit(tx: Tx) -> list[ListedPolicy]:
        return await policies_before(tx, scope=scope, seen=seen, before=before, limit=limit + 1)

    items = await store.index.read(unit)
    is_more = len(items) > limit
    items = items[:limit]
    return PolicyPage(items, items[-1].policy.id if is_more else None)


async def effective_policy(
    store: Store, principal: Principal, model: ModelReference
) -> ListedPolicy:
    """The policy that a model is judged by; raises `NotFound` where there is none."""

    async def unit(tx: Tx) -> ListedPolicy:
        found = await require_model(tx, principal, model)
        policy = await policy_for(tx, found)
        if policy is None:
            raise NotFound("policy", f"of {found.name}", code="policy_not_found")
        return ListedPolicy(policy, await covered_name(tx, policy))

    return await store.index.look(unit)


async def change_policy(
    store: Store,
    principal: Principal,
    id: str,
    terms: PolicyTerms,
    expected: Expected = ANYTHING,
) -> ListedPolicy:
    """Change a policy; what changes nothing leaves no trace."""
    said = terms.given()

    async def unit(tx: Tx) -> ListedPolicy:
        before = await _require(tx, principal, id)
        covers = await covered_name(tx, before)
        expected.require(before.id, before.changes, under=covers)
        after = msgspec.structs.replace(before, **said)
        if after == before:
            return ListedPolicy(before, covers)
        after = msgspec.structs.replace(after, updated_at=tx.now, changes=before.changes + 1)
        await update_policy(tx, after)
        entry = entry_of("update", after, covers, before=said_of(before), after=said_of(after))
        await record(tx, principal, entry)
        return ListedPolicy(after, covers)

    return await change(store, principal, unit)


async def remove_policy(
    store: Store, principal: Principal, id: str, expected: Expected = ANYTHING
) -> None:
    """Remove a policy; what it retired stays retired."""

    async def unit(tx: Tx) -> None:
        before = await _require(tx, principal, id)
        covers = await covered_name(tx, before)
        expected.require(before.id, before.changes, under=covers)
        await delete_policy(tx, before.id)
        await record(tx, principal, entry_of("delete", before, covers, before=said_of(before)))

    await change(store, principal, unit)


async def get_statistics(
    store: Store, principal: Principal, *, first_day: int, limit: int = MOST_DAYS
) -> Statistics:
    """What retention did: in all, and on each day from one on, on which it did something."""

    async def unit(tx: Tx) -> Statistics:
        days = await tallies_since(tx, first_day, limit)
        return Statistics(await tally(tx), [DayTally(day, one) for day, one in days])

    return await store.index.read(unit)


async def policies_in_force(store: Store) -> tuple[int, bool]:
    """How many policies there are, and whether any of them is active."""

    async def unit(tx: Tx) -> tuple[int, bool]:
        return await count_policies(tx), await has_active_policy(tx)

    return await store.index.read(unit)


async def _require(tx: Tx, principal: Principal, id: str) -> Policy:
    """The policy, if the principal may see what it covers; raises `NotFound`."""
    found = await find_policy(tx, id) if is_id(id, POLICY) else None
    missing = NotFound("policy", id[:80], code="policy_not_found")
    if found is not None and found.scope == "registry":
        if not principal.may_everywhere(principal.word or _WORD):
            raise missing
        return found
    covered = None if found is None else found.model_id or found.namespace_id
    await require_owner(tx, principal, covered, missing)
    assert found is not None, "what is not there was refused"
    return found
