"""Models: made, described, deleted and brought back; their names: `registry.services.renames`.

Each change is one transaction with its audit entry, and with the model's search documents where a
name, a description or a tag is part of it. A change that changes nothing leaves no trace.

**Deleting** is soft and frees the name; everything the model holds stays referenced until it is
purged (`registry.services.purges`), so that restoring brings back all of it. A legal hold forbids
both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from registry.catalog.audit import Entry, record
from registry.catalog.claims import access_of
from registry.catalog.models import find_deleted_model, insert_model, update_model
from registry.catalog.search import reindex
from registry.catalog.tag_lives import begin_in_tags, end_in_tags
from registry.catalog.tags import rename_in_tags
from registry.domain.expectations import ANYTHING, Expected
from registry.domain.ids import MODEL, NAMESPACE, new_id
from registry.domain.models import Model
from registry.domain.names import ModelName
from registry.domain.principals import Principal
from registry.domain.references import ModelId, ModelReference
from registry.errors import Conflict, NotFound, RegistryError
from registry.services.batches import BatchProblem, batch_problem, refuse_batch
from registry.services.change import change
from registry.services.deployment_purges import settle_running_model
from registry.services.full_models import FullModel, full_model, shown_of
from registry.services.guarding import check_place
from registry.services.namespaces import namespace_for, namespace_id_of
from registry.services.quotas import within_quota
from registry.services.renames import claim_name, renamed
from registry.services.resolve import require_model, require_word
from registry.services.tags import Holder, TagWish, assign
from registry.services.teams import require_team, team_of
from store.index.claims import open_refs
from store.index.transactions import MakesRoom, Tx
from store.opening import Store


class ModelWish(msgspec.Struct, frozen=True, kw_only=True):
    """A model to make; `team` is a name or an id, `id` is what the model will have."""

    id: str
    name: ModelName
    kind: str = "model"
    visibility: str | None = None
    """None: what its namespace gives."""
    description: str = ""
    use_case: str = ""
    task_type: str = ""
    subject_domain: str = ""
    team: str | None = None
    risk_level: str = "medium"
    compliance_required: bool = False
    active: bool = True
    legal_hold: bool = False
    tags: tuple[TagWish, ...] = ()

    @classmethod
    def fresh(cls, now: int, name: ModelName, **said: Any) -> ModelWish:
        return cls(id=new_id(MODEL, now), name=name, **said)


class ModelPatch(msgspec.Struct, frozen=True, kw_only=True):
    """What shall be different of a model; UNSET stays as it is."""

    name: ModelName | UnsetType = UNSET
    kind: str | UnsetType = UNSET
    visibility: str | UnsetType = UNSET
    description: str | UnsetType = UNSET
    use_case: str | UnsetType = UNSET
    task_type: str | UnsetType = UNSET
    subject_domain: str | UnsetType = UNSET
    team: str | UnsetType | None = UNSET
    risk_level: str | UnsetType = UNSET
    compliance_required: bool | UnsetType = UNSET
    active: bool | UnsetType = UNSET
    legal_hold: bool | UnsetType = UNSET

    def given(self) -> dict[str, Any]:
        """What was said, by the names of `Model`; the name and the team are the caller's to see."""
        return {
            _RENAMED.get(name, name): value
            for name in self.__struct_fields__
            if name not in ("name", "team") and (value := getattr(self, name)) is not UNSET
        }


_RENAMED: Mapping[str, str] = {
    "compliance_required": "is_compliance_required",
    "active": "is_active",
    "legal_hold": "has_legal_hold",
}


async def create_model(store: Store, principal: Principal, wish: ModelWish) -> FullModel:
    """Make a model; raises `Conflict` for a name that is taken, `NotFound` for an unknown team."""

    async def unit(tx: Tx) -> FullModel:
        return await full_model(tx, await make_model(tx, principal, wish))

    return await change(store, principal, unit)


async def create_models(
    store: Store, principal: Principal, wishes: Sequence[ModelWish]
) -> list[FullModel]:
    """Make all of them or none; raises `Conflict`, code ``batch_refused``, with every bad one."""

    async def unit(tx: Tx) -> list[FullModel]:
        made = list[FullModel]()
        problems = list[BatchProblem]()
        for index, wish in enumerate(wishes):
            try:
                model = await make_model(tx, principal, wish)
                made.append(await full_model(tx, model))
            except RegistryError as error:
                problems.append(batch_problem(f"models[{index}]", error))
        refuse_batch("models", problems)
        return made

    return await change(store, principal, unit)


async def make_model(tx: Tx, principal: Principal, wish: ModelWish) -> Model:
    """Make a model inside the caller's transaction; raises before it has changed anything."""
    await claim_name(tx, principal, wish.name)
    team = None if wish.team is None else await require_team(tx, wish.team)
    namespace = await namespace_for(tx, principal, namespace_id_of(wish.id), wish.name)
    model = Model(
        id=wish.id,
        name=wish.name.text,
        folded=wish.name.folded,
        namespace_id=namespace.id,
        kind=wish.kind,
        visibility=wish.visibility or namespace.visibility,
        description=wish.description,
        use_case=wish.use_case,
        task_type=wish.task_type,
        subject_domain=wish.subject_domain,
        team_id=None if team is None else team.id,
        risk_level=wish.risk_level,
        is_compliance_required=wish.compliance_required,
        is_active=wish.active,
        has_legal_hold=wish.legal_hold,
        created_at=tx.now,
        created_by=principal.id,
        updated_at=tx.now,
    )
    await insert_model(tx, model)
    await record(tx, principal, entry("create", model, after=said(model)))
    for tag in wish.tags:
        await assign(tx, principal, Holder(model), tag)
    await reindex(tx, model.id)
    return model


async def get_model(store: Store, principal: Principal, reference: ModelReference) -> FullModel:
    """The living model; raises `NotFound`."""

    async def unit(tx: Tx) -> FullModel:
        return await full_model(tx, await require_model(tx, principal, reference))

    return await store.index.look(unit)


async def get_deleted_model(store: Store, principal: Principal, id: str) -> FullModel:
    """A model that was deleted, by its id, since its name is anybody's; raises `NotFound`."""

    async def unit(tx: Tx) -> FullModel:
        return await full_model(tx, await require_deleted(tx, principal, id))

    return await store.index.look(unit)


async def require_deleted(tx: Tx, principal: Principal, id: str) -> Model:
    """The deleted model with this id, if the principal may see it; raises `NotFound`."""
    model = await find_deleted_model(tx, id)
    if model is None or not principal.visibility.shows(model):
        raise NotFound("deleted model", id, code="model_not_found")
    require_word(principal, model)
    return model


async def change_model(
    store: Store,
    principal: Principal,
    reference: ModelReference,
    patch: ModelPatch,
    expected: Expected = ANYTHING,
) -> FullModel:
    """Change what is said of a model, its name too."""
    namespace_id = new_id(NAMESPACE, store.clock())

    async def unit(tx: Tx) -> FullModel:
        before = await require_model(tx, principal, reference)
        await _require_expected(tx, before, expected)
        after = msgspec.structs.replace(before, **patch.given())
        if patch.team is not UNSET:
            team = None if patch.team is None else await require_team(tx, patch.team)
            after = msgspec.structs.replace(after, team_id=None if team is None else team.id)
        if after.kind != before.kind and before.last_number:
            raise _kind_is_fixed(before)
        if isinstance(patch.name, ModelName):
            after = await renamed(tx, principal, after, patch.name, namespace_id)
        return await full_model(tx, await _write_change(tx, principal, before, after))

    return await change(store, principal, unit)


async def _require_expected(tx: Tx, model: Model, expected: Expected) -> None:
    if expected is not ANYTHING:
        under = shown_of(await team_of(tx, model.team_id))
        expected.require(model.id, model.changes, under=under)


async def _write_change(tx: Tx, principal: Principal, before: Model, after: Model) -> Model:
    """Write what differs between two states of a model, with everything that follows from it."""
    if after == before:
        return before
    after = msgspec.structs.replace(after, updated_at=tx.now, changes=before.changes + 1)
    if after.namespace_id == before.namespace_id:
        await update_model(tx, after)
        await _open_claims(tx, before, after)
    else:
        async with within_quota(tx, after.namespace_id):
            await update_model(tx, after)
            await _open_claims(tx, before, after)
    if after.folded != before.folded:
        await rename_in_tags(tx, after.id, after.folded)
    action = "update" if after.name == before.name else "rename"
    earlier, later = _differing(said(before), said(after))
    await record(tx, principal, entry(action, after, before=earlier, after=later))
    if (after.folded, after.description) != (before.folded, before.description):
        await reindex(tx, after.id)
    return after


async def _open_claims(tx: Tx, before: Model, after: Model) -> None:
    """Let what a model claims be read by its readers, where those are others now."""
    if access_of(after) != access_of(before):
        await open_refs(tx, after.id, access_of(after))


async def delete_model(
    store: Store,
    principal: Principal,
    reference: ModelReference,
    expected: Expected = ANYTHING,
) -> Model:
    """Delete a model softly; raises `Conflict` under a legal hold, and while it runs anywhere."""

    async def unit(tx: Tx) -> Model:
        before = await require_model(tx, principal, reference)
        await _require_expected(tx, before, expected)
        refuse_held(before)
        await settle_running_model(tx, principal, before)
        after = msgspec.structs.replace(
            before,
            deleted_at=tx.now,
            deleted_by=principal.id,
            updated_at=tx.now,
            changes=before.changes + 1,
        )
        await update_model(tx, after)
        await end_in_tags(tx, after.id)
        await record(tx, principal, entry("delete", before, before=said(before)))
        await reindex(tx, after.id)
        return after

    return await change(store, principal, MakesRoom(unit))


async def restore_model(
    store: Store, principal: Principal, reference: ModelReference, name: ModelName | None = None
) -> FullModel:
    """Bring a deleted model back, under another name if asked; one that lives is as it is.

    Raises `Conflict` if the name is taken meanwhile.
    """
    namespace_id = new_id(NAMESPACE, store.clock())

    async def unit(tx: Tx) -> FullModel:
        living = await _living(tx, principal, reference)
        if living is not None:
            return await full_model(tx, living)
        assert isinstance(reference, ModelId), "a name that nobody has was refused"
        before = await require_deleted(tx, principal, reference.id)
        wanted = name or ModelName(before.name, before.folded)
        await claim_name(tx, principal, wanted)
        namespace = await namespace_for(tx, principal, namespace_id, wanted)
        await check_place(tx, principal, before, namespace.id, is_new=False)
        after = msgspec.structs.replace(
            before,
            name=wanted.text,
            folded=wanted.folded,
            namespace_id=namespace.id,
            deleted_at=None,
            deleted_by=None,
            updated_at=tx.now,
            changes=before.changes + 1,
        )
        await update_model(tx, after)
        await _open_claims(tx, before, after)
        await begin_in_tags(tx, after.id, after.folded)
        await record(tx, principal, entry("restore", after, after=said(after)))
        await reindex(tx, after.id)
        return await full_model(tx, after)

    return await change(store, principal, unit)


async def _living(tx: Tx, principal: Principal, reference: ModelReference) -> Model | None:
    """The model if it lives already; a name that nobody has is refused, an id is not."""
    try:
        return await require_model(tx, principal, reference)
    except NotFound:
        if not isinstance(reference, ModelId):
            raise
        return None


def refuse_held(model: Model) -> None:
    """Raise `Conflict` for a model that must not go."""
    if model.has_legal_hold:
        raise Conflict(
            "model", model.name, "is under a legal hold; nothing of it goes", code="legal_hold"
        )


def _kind_is_fixed(model: Model) -> Conflict:
    return Conflict(
        "model",
        model.name,
        f"has had versions, so it stays a {model.kind}",
        code="kind_fixed",
        details={"kind": model.kind},
    )


def said(model: Model) -> dict[str, Any]:
    """What the audit log keeps of a model."""
    return {
        "name": model.name,
        "kind": model.kind,
        "visibility": model.visibility,
        "description": model.description,
        "use_case": model.use_case,
        "task_type": model.task_type,
        "subject_domain": model.subject_domain,
        "team": model.team_id,
        "risk_level": model.risk_level,
        "compliance_required": model.is_compliance_required,
        "active": model.is_active,
        "legal_hold": model.has_legal_hold,
    }


def _differing(
    before: Mapping[str, Any], after: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Of two descriptions only what differs."""
    names = [name for name in before if before[name] != after[name]]
    return {name: before[name] for name in names}, {name: after[name] for name in names}


def entry(action: str, model: Model, *, before: Any = None, after: Any = None) -> Entry:
    """An entry of the audit log about a model."""
    return Entry(
        action=action,
        kind="model",
        id=model.id,
        name=model.name,
        model=model.id,
        before=before,
        after=after,
    )
