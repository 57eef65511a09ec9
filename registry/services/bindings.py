"""Provider bindings: made, found, changed and deleted. Each belongs to a version of a model.

A binding names a published version that lives; a draft is refused. Deleting the version or its
model hides it, restoring brings it back, purging takes it along. Deleting a binding itself is for
good: nothing but what was observed is lost, and making it again is one request.

Of one version, provider, model id there and region there is one binding. If it comes to call
something else, what was observed begins anew: that was of what it called before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from registry.catalog.audit import Entry, record
from registry.catalog.bindings import (
    BindingFilters,
    FullBinding,
    bindings_before,
    count_bindings,
    count_of_version,
    delete_binding_rows,
    find_binding,
    find_taken,
    forget_observed,
    insert_binding,
    update_binding,
)
from registry.domain.bindings import Binding, BindingStatus, parse_endpoint, plain_text
from registry.domain.expectations import ANYTHING, Expected
from registry.domain.facts import merged
from registry.domain.ids import BINDING, new_id
from registry.domain.lists import MOST_COUNTED
from registry.domain.principals import Principal
from registry.domain.references import ModelReference, VersionReference
from registry.domain.secrets_in_config import config_text
from registry.errors import Conflict, NotFound
from registry.services.change import change
from registry.services.resolve import require_model, require_owner
from registry.services.run_places import require_version
from store.index.transactions import Tx
from store.opening import Store

MOST_OF_VERSION: Final = 1_000
"""So many bindings one version may have; purging it removes them in one transaction."""


class BindingWish(msgspec.Struct, frozen=True, kw_only=True):
    """A binding to make; without a model the version is a ``ver_`` id."""

    model: ModelReference | None
    version: VersionReference
    provider: str
    provider_model_id: str = ""
    region: str = ""
    endpoint: str = ""
    config: Mapping[str, Any] = {}
    status: BindingStatus = "active"
    cost_per_1k: float | None = None


class BindingPatch(msgspec.Struct, frozen=True, kw_only=True):
    """What shall be different: UNSET stays, None is taken back, the configuration is merged."""

    provider: str | UnsetType = UNSET
    provider_model_id: str | UnsetType = UNSET
    region: str | UnsetType = UNSET
    endpoint: str | UnsetType = UNSET
    config: Mapping[str, Any] | UnsetType | None = UNSET
    status: BindingStatus | UnsetType = UNSET
    cost_per_1k: float | UnsetType | None = UNSET
    reason: str = ""


class BindingQuestion(msgspec.Struct, frozen=True, kw_only=True):
    """Which bindings to list; None where it does not matter."""

    model: ModelReference | None = None
    version: VersionReference | None = None
    provider: str | None = None
    region: str | None = None
    status: str | None = None
    min_success_rate: float | None = None


class BindingPage(msgspec.Struct, frozen=True):
    """A page of a list; `count` is one above `MOST_COUNTED` where there are more."""

    items: list[FullBinding]
    next: str | None
    count: int | None


async def create_binding(store: Store, principal: Principal, wish: BindingWish) -> FullBinding:
    """Make a binding; raises `NotFound`, `Invalid`, `SecretInConfig`.

    Raises `Conflict`: ``binding_exists`` with the one there is, ``too_many_bindings``, and
    ``version_is_draft``.
    """
    id = new_id(BINDING, store.clock())
    config = config_text(wish.config)
    endpoint = parse_endpoint(wish.endpoint)
    provider_model_id = plain_text(wish.provider_model_id, field="provider_model_id")
    region = plain_text(wish.region, field="region")

    async def unit(tx: Tx) -> FullBinding:
        found = None if wish.model is None else await require_model(tx, principal, wish.model)
        model, version = await require_version(tx, principal, found, wish.version)
        binding = Binding(
            id=id,
            model_id=model.id,
            version_id=version.id,
            provider=wish.provider,
            provider_model_id=provider_model_id,
            region=region,
            endpoint=endpoint,
            config=config,
            status=wish.status,
            cost_per_1k=wish.cost_per_1k,
            created_at=tx.now,
            created_by=principal.id,
            updated_at=tx.now,
        )
        await _refuse_taken(tx, binding)
        if (count := await count_of_version(tx, version.id)) >= MOST_OF_VERSION:
            raise Conflict(
                "version",
                f"{version.name} of {model.name}",
                f"has {count} bindings; at most {MOST_OF_VERSION} are kept",
                code="too_many_bindings",
                details={"bindings": count, "allowed": MOST_OF_VERSION},
            )
        await insert_binding(tx, binding)
        await record(tx, principal, _entry("create", binding, after=_said(binding)))
        return FullBinding(
            binding=binding,
            model=model.name,
            number=version.number,
            label=version.label,
            statistics=None,
        )

    return await change(store, principal, unit)


async def require_binding(tx: Tx, principal: Principal, id: str) -> FullBinding:
    """The binding, if the principal may see its model; raises `NotFound`."""
    found = await find_binding(tx, id)
    missing = NotFound("binding", id, code="binding_not_found")
    owner = None if found is None else found.binding.model_id
    await require_owner(tx, principal, owner, missing)
    assert found is not None, "what is not there was refused"
    return found


async def get_binding(store: Store, principal: Principal, id: str) -> FullBinding:
    """A binding with what was observed of it; raises `NotFound`."""

    async def unit(tx: Tx) -> FullBinding:
        return await require_binding(tx, principal, id)

    return await store.index.look(unit)


async def list_bindings(
    store: Store,
    principal: Principal,
    question: BindingQuestion,
    *,
    after: str | None,
    limit: int,
    is_counted: bool = False,
) -> BindingPage:
    """A page, the newest first; raises `NotFound` for a model or version that is not there."""

    async def unit(tx: Tx) -> BindingPage:
        filters = await _filters(tx, principal, question)
        items = await bindings_before(tx, filters, after, limit + 1)
        count = await count_bindings(tx, filters, MOST_COUNTED + 1) if is_counted else None
        following = items[limit - 1].binding.id if len(items) > limit else None
        return BindingPage(items[:limit], following, count)

    return await store.index.read(unit)


async def _filters(tx: Tx, principal: Principal, question: BindingQuestion) -> BindingFilters:
    model = version = None
    if question.model is not None:
        model = await require_model(tx, principal, question.model)
    if question.version is not None:
        model, version = await require_version(tx, principal, model, question.version)
    return BindingFilters(
        model=None if model is None else model.id,
        version=None if version is None else version.id,
        provider=question.provider,
        region=question.region,
        status=question.status,
        min_success_rate=question.min_success_rate,
        seen=principal.visibility.seen,
    )


async def change_binding(
    store: Store,
    principal: Principal,
    id: str,
    patch: BindingPatch,
    expected: Expected = ANYTHING,
) -> FullBinding:
    """Change a binding; what is so already leaves no trace.

    Raises `NotFound`, `PreconditionFailed`, `Invalid`, `SecretInConfig`, and `Conflict`, code
    ``binding_exists``.
    """
    given = _given(patch)

    async def unit(tx: Tx) -> FullBinding:
        found = await require_binding(tx, principal, id)
        before = found.binding
        expected.require(before.id, before.changes)
        after = msgspec.structs.replace(before, **given)
        if patch.config is not UNSET:
            after = msgspec.structs.replace(after, config=_patched(before.config, patch.config))
        if after == before:
            return found
        statistics = found.statistics
        if after.place != before.place:
            await _refuse_taken(tx, after)
            await forget_observed(tx, id)
            statistics = None
        after = msgspec.structs.replace(after, updated_at=tx.now, changes=before.changes + 1)
        await update_binding(tx, after)
        was, said = _said(before), _said(after)
        differ = [name for name in said if said[name] != was[name]]
        entry = _entry(
            "update",
            after,
            before={name: was[name] for name in differ},
            after={name: said[name] for name in differ},
            reason=patch.reason,
        )
        await record(tx, principal, entry)
        return msgspec.structs.replace(found, binding=after, statistics=statistics)

    return await change(store, principal, unit)


def _given(patch: BindingPatch) -> dict[str, Any]:
    """What a patch says of single fields, checked."""
    said: dict[str, Any] = {
        name: value
        for name in ("provider", "status", "cost_per_1k")
        if (value := getattr(patch, name)) is not UNSET
    }
    for name in ("provider_model_id", "region"):
        if isinstance(value := getattr(patch, name), str):
            said[name] = plain_text(value, field=name)
    if isinstance(patch.endpoint, str):
        said["endpoint"] = parse_endpoint(patch.endpoint)
    return said


def _patched(before: str, patch: Mapping[str, Any] | None) -> str:
    return config_text({} if patch is None else merged(msgspec.json.decode(before), patch))


async def delete_binding(
    store: Store,
    principal: Principal,
    id: str,
    *,
    reason: str = "",
    expected: Expected = ANYTHING,
) -> None:
    """Delete a binding for good, with what was observed of it."""

    async def unit(tx: Tx) -> None:
        binding = (await require_binding(tx, principal, id)).binding
        expected.require(binding.id, binding.changes)
        await delete_binding_rows(tx, [id])
        await record(tx, principal, _entry("delete", binding, before=_said(binding), reason=reason))

    await change(store, principal, unit)


async def _refuse_taken(tx: Tx, binding: Binding) -> None:
    existing = await find_taken(tx, binding)
    if existing is not None:
        raise Conflict(
            "binding",
            binding.name,
            "is there already for this version",
            code="binding_exists",
            details={"existing": existing},
        )


def _said(binding: Binding) -> dict[str, Any]:
    """What the audit log keeps of a binding."""
    return {
        "version": binding.version_id,
        "provider": binding.provider,
        "provider_model_id": binding.provider_model_id,
        "region": binding.region,
        "endpoint": binding.endpoint,
        "config": msgspec.json.decode(binding.config),
        "status": binding.status,
        "cost_per_1k": binding.cost_per_1k,
    }


def _entry(
    action: str, binding: Binding, *, before: Any = None, after: Any = None, reason: str = ""
) -> Entry:
    return Entry(
        action=action,
        kind="binding",
        id=binding.id,
        name=binding.name,
        model=binding.model_id,
        before=before,
        after=after,
        reason=reason,
    )
