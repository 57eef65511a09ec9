"""Experiments: made, described, deleted and brought back. Each belongs to a namespace.

A name is unique in its namespace under case folding while its experiment lives. Deleting is soft:
the runs stay, and say whose they were; only an experiment without any run can be purged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from registry.catalog.audit import Entry, record
from registry.catalog.experiments import (
    ExperimentFilters,
    count_experiments,
    delete_experiment_row,
    experiment_has_runs,
    experiments_before,
    find_experiment,
    find_experiment_by_name,
    insert_experiment,
    update_experiment,
)
from registry.catalog.namespaces import find_namespace_by_id
from registry.domain.expectations import ANYTHING, Expected
from registry.domain.ids import EXPERIMENT, new_id
from registry.domain.lists import MOST_COUNTED
from registry.domain.models import Namespace
from registry.domain.names import fold
from registry.domain.principals import Principal
from registry.domain.runs import (
    Experiment,
    ExperimentId,
    ExperimentReference,
    parse_experiment_name,
)
from registry.errors import Conflict, Invalid, NotFound
from registry.services.change import change
from registry.services.namespaces import require_namespace
from registry.services.resolve import require_owner
from store.index.transactions import Tx
from store.opening import Store

MOST_TAGS: Final = 100
TAG_KEY: Final = 96
TAG_VALUE: Final = 500
TAGS_BYTES: Final = 65_536


class ExperimentWish(msgspec.Struct, frozen=True, kw_only=True):
    """An experiment to make; `namespace` is a slug or an id."""

    name: str
    namespace: str
    description: str = ""
    tags: Mapping[str, str] = {}


class ExperimentPatch(msgspec.Struct, frozen=True, kw_only=True):
    """What shall be different; UNSET stays, a tag of None goes."""

    name: str | UnsetType = UNSET
    description: str | UnsetType = UNSET
    tags: Mapping[str, str | None] | UnsetType | None = UNSET


class ExperimentQuestion(msgspec.Struct, frozen=True, kw_only=True):
    """Which experiments to list; `tag` is a key, or a key, ``=`` and a value."""

    namespace: str | None = None
    name: str | None = None
    tag: str | None = None
    is_deleted: bool = False


class FullExperiment(msgspec.Struct, frozen=True):
    """An experiment and the namespace it belongs to, whose slug never changes."""

    experiment: Experiment
    namespace: Namespace


class ExperimentPage(msgspec.Struct, frozen=True):
    """A page of a list; `count` is one above `MOST_COUNTED` where there are more."""

    items: list[FullExperiment]
    next: tuple[int, str] | None
    count: int | None


async def create_experiment(
    store: Store, principal: Principal, wish: ExperimentWish
) -> FullExperiment:
    """Make an experiment; raises `Conflict`, code ``experiment_exists``, and `NotFound`."""
    name = parse_experiment_name(wish.name)
    tags = _checked(wish.tags)
    id = new_id(EXPERIMENT, store.clock())

    async def unit(tx: Tx) -> FullExperiment:
        namespace = await require_namespace(tx, principal, wish.namespace)
        await _refuse_taken(tx, namespace, name)
        experiment = Experiment(
            id=id,
            namespace_id=namespace.id,
            name=name,
            folded=fold(name),
            description=wish.description,
            tags=tags,
            created_at=tx.now,
            created_by=principal.id,
            updated_at=tx.now,
        )
        await insert_experiment(tx, experiment)
        await record(tx, principal, _entry("create", experiment, after=_said(experiment)))
        return FullExperiment(experiment, namespace)

    return await change(store, principal, unit)


async def require_experiment(
    tx: Tx, principal: Principal, reference: ExperimentReference
) -> Experiment:
    """The living experiment, if the principal may see its namespace; raises `NotFound`."""
    found, name = await _find(tx, principal, reference)
    if found is None or found.deleted_at is not None:
        raise NotFound("experiment", name, code="experiment_not_found")
    return found


async def _find(
    tx: Tx, principal: Principal, reference: ExperimentReference
) -> tuple[Experiment | None, str]:
    """What a reference leads to, deleted ones only by id; and how to call it."""
    if isinstance(reference, ExperimentId):
        found, name = await find_experiment(tx, reference.id), reference.id
    else:
        namespace = await require_namespace(tx, principal, reference.namespace, word="model.read")
        found = await find_experiment_by_name(tx, namespace.id, fold(reference.name))
        name = f"{namespace.slug}~{reference.name}"
    missing = NotFound("experiment", name, code="experiment_not_found")
    await require_owner(tx, principal, None if found is None else found.namespace_id, missing)
    return found, name


async def get_experiment(
    store: Store, principal: Principal, reference: ExperimentReference
) -> FullExperiment:
    """A living experiment, or by its id a deleted one; raises `NotFound`."""

    async def unit(tx: Tx) -> FullExperiment:
        found, name = await _find(tx, principal, reference)
        if found is None:
            raise NotFound("experiment", name, code="experiment_not_found")
        return await _full(tx, found)

    return await store.index.look(unit)


async def list_experiments(
    store: Store,
    principal: Principal,
    question: ExperimentQuestion,
    *,
    after: tuple[int, str] | None,
    limit: int,
    is_counted: bool = False,
) -> ExperimentPage:
    """A page, the latest made first; of deleted ones the latest deleted."""

    async def unit(tx: Tx) -> ExperimentPage:
        filters = await _filters(tx, principal, question)
        found = await experiments_before(tx, filters, after, limit + 1)
        count = await count_experiments(tx, filters, MOST_COUNTED + 1) if is_counted else None
        items = [await _full(tx, one) for one in found[:limit]]
        return ExperimentPage(items, _place(found[:limit]) if len(found) > limit else None, count)

    return await store.index.read(unit)


async def _filters(tx: Tx, principal: Principal, question: ExperimentQuestion) -> ExperimentFilters:
    namespace = None
    if question.namespace is not None:
        namespace = (await require_namespace(tx, principal, question.namespace)).id
    key, equals, value = (question.tag or "").partition("=")
    return ExperimentFilters(
        namespace_id=namespace,
        folded=None if question.name is None else fold(question.name),
        tag=None if question.tag is None else key,
        tag_value=value if equals else None,
        is_deleted=question.is_deleted,
        seen=principal.visibility.seen,
    )


def _place(items: list[Experiment]) -> tuple[int, str]:
    last = items[-1]
    return last.created_at if last.deleted_at is None else last.deleted_at, last.id


async def change_experiment(
    store: Store,
    principal: Principal,
    reference: ExperimentReference,
    patch: ExperimentPatch,
    expected: Expected = ANYTHING,
) -> FullExperiment:
    """Change what is said of an experiment; what changes nothing leaves no trace."""
    name = UNSET if patch.name is UNSET else parse_experiment_name(patch.name)

    async def unit(tx: Tx) -> FullExperiment:
        before = await require_experiment(tx, principal, reference)
        expected.require(before.id, before.changes)
        after = before
        if isinstance(name, str):
            after = msgspec.structs.replace(after, name=name, folded=fold(name))
        if isinstance(patch.description, str):
            after = msgspec.structs.replace(after, description=patch.description)
        if patch.tags is not UNSET:
            after = msgspec.structs.replace(after, tags=_merged(before.tags, patch.tags))
        full = await _full(tx, before)
        if after == before:
            return full
        if after.folded != before.folded:
            await _refuse_taken(tx, full.namespace, after.name)
        action = "update" if after.name == before.name else "rename"
        written = await _write(tx, principal, action, before, after)
        return msgspec.structs.replace(full, experiment=written)

    return await change(store, principal, unit)


async def delete_experiment(
    store: Store,
    principal: Principal,
    reference: ExperimentReference,
    expected: Expected = ANYTHING,
) -> None:
    """Delete an experiment softly; its runs stay."""

    async def unit(tx: Tx) -> None:
        before = await require_experiment(tx, principal, reference)
        expected.require(before.id, before.changes)
        after = msgspec.structs.replace(before, deleted_at=tx.now, deleted_by=principal.id)
        await _write(tx, principal, "delete", before, after)

    await change(store, principal, unit)


async def restore_experiment(store: Store, principal: Principal, id: str) -> FullExperiment:
    """Bring a deleted experiment back; raises `Conflict` if its name is taken meanwhile."""

    async def unit(tx: Tx) -> FullExperiment:
        before, _ = await _find(tx, principal, ExperimentId(id))
        if before is None:
            raise NotFound("experiment", id, code="experiment_not_found")
        full = await _full(tx, before)
        if before.deleted_at is None:
            return full
        await _refuse_taken(tx, full.namespace, before.name)
        after = msgspec.structs.replace(before, deleted_at=None, deleted_by=None)
        written = await _write(tx, principal, "restore", before, after)
        return msgspec.structs.replace(full, experiment=written)

    return await change(store, principal, unit)


async def purge_experiment(store: Store, principal: Principal, id: str) -> None:
    """Let go of a deleted experiment for good; raises `Conflict` while runs name it."""

    async def unit(tx: Tx) -> None:
        found, _ = await _find(tx, principal, ExperimentId(id))
        if found is None:
            raise NotFound("experiment", id, code="experiment_not_found")
        if found.deleted_at is None:
            raise Conflict(
                "experiment", found.name, "is not deleted; delete it first", code="experiment_live"
            )
        if await experiment_has_runs(tx, found.id):
            raise Conflict(
                "experiment",
                found.name,
                "has runs; purge those or give them to another",
                code="experiment_has_runs",
            )
        await delete_experiment_row(tx, found.id)
        await record(tx, principal, _entry("purge", found, before=_said(found)))

    await change(store, principal, unit)


async def _full(tx: Tx, experiment: Experiment) -> FullExperiment:
    namespace = await find_namespace_by_id(tx, experiment.namespace_id)
    assert namespace is not None, "a foreign key says that it is there"
    return FullExperiment(experiment, namespace)


async def _refuse_taken(tx: Tx, namespace: Namespace, name: str) -> None:
    existing = await find_experiment_by_name(tx, namespace.id, fold(name))
    if existing is not None:
        raise Conflict(
            "experiment",
            name,
            f"is there already in {namespace.slug}",
            code="experiment_exists",
            details={"existing": existing.name, "id": existing.id},
        )


async def _write(
    tx: Tx, principal: Principal, action: str, before: Experiment, after: Experiment
) -> Experiment:
    after = msgspec.structs.replace(after, updated_at=tx.now, changes=before.changes + 1)
    await update_experiment(tx, after)
    said = None if action == "delete" else _said(after)
    was = None if action == "restore" else _said(before)
    await record(tx, principal, _entry(action, after, before=was, after=said))
    return after


def _merged(before: Mapping[str, str], patch: Mapping[str, str | None] | None) -> Mapping[str, str]:
    if patch is None:
        return {}
    after = dict(before)
    for key, value in patch.items():
        if value is None:
            after.pop(key, None)
        else:
            after[key] = value
    return _checked(after)


def _checked(tags: Mapping[str, str]) -> Mapping[str, str]:
    """Tags within their limits, in order of key; raises `Invalid`."""
    if len(tags) > MOST_TAGS:
        raise Invalid("tags", f"has {len(tags)} entries; at most {MOST_TAGS} are kept")
    for key, value in tags.items():
        if not key or len(key) > TAG_KEY or not key.isprintable() or "=" in key:
            raise Invalid(f"tags.{key[:80]}", f"the key is not 1 to {TAG_KEY} letters without =")
        if len(value) > TAG_VALUE:
            raise Invalid(f"tags.{key}", f"is longer than {TAG_VALUE} characters")
    if len(msgspec.json.encode(tags)) > TAGS_BYTES:
        raise Invalid("tags", f"are more than {TAGS_BYTES} bytes of JSON")
    return dict(sorted(tags.items()))


def _said(experiment: Experiment) -> dict[str, Any]:
    return {
        "name": experiment.name,
        "namespace": experiment.namespace_id,
        "description": experiment.description,
        "tags": dict(experiment.tags),
    }


def _entry(action: str, experiment: Experiment, *, before: Any = None, after: Any = None) -> Entry:
    return Entry(
        action=action,
        kind="experiment",
        id=experiment.id,
        name=experiment.name,
        before=before,
        after=after,
    )
