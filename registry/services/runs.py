"""Training runs: told of, changed, finished, found, deleted and brought back.

A run may name an experiment, a model and a version, in any combination; a version brings its
model. What they are called may change, so a run keeps ids. It can also be told of when it is over.

**Secrets.** What stands in the environment under a name that promises a secret is replaced before
it is written. A name that promises one and holds none is listed in ``environment_unmasked``; the
list is kept with the run, so that it holds for later changes too. What was replaced is gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from registry.catalog.audit import Entry, record
from registry.catalog.runs import (
    ListedRun,
    RunFilters,
    count_runs,
    find_run,
    find_run_details,
    insert_run,
    runs_before,
    update_run,
)
from registry.catalog.versions import find_version_anywhere
from registry.domain.expectations import ANYTHING, Expected
from registry.domain.facts import merged
from registry.domain.ids import RUN, new_id
from registry.domain.lists import MOST_COUNTED
from registry.domain.models import Version
from registry.domain.principals import Principal
from registry.domain.references import ModelReference, VersionReference
from registry.domain.runs import (
    RUNNING,
    ExperimentReference,
    Run,
    RunDetails,
    RunStatus,
    without_secrets,
)
from registry.errors import Invalid, NotFound
from registry.services.change import change
from registry.services.resolve import require_owner
from registry.services.run_moves import move_run, require_order
from registry.services.run_places import STAYS, PlaceWish, moved, placed
from store.index.transactions import Tx
from store.opening import Store

MOST_UNMASKED: Final = 100
HYPERPARAMETER_BYTES: Final = 256 << 10
ENVIRONMENT_BYTES: Final = 64 << 10
"""Every name in it is looked at, under the writer's lock where it is changed."""

_encode: Final = msgspec.json.Encoder(order="deterministic").encode


class RunWish(msgspec.Struct, frozen=True, kw_only=True):
    """A run to tell of. Without times it starts, or ends, now."""

    name: str = ""
    experiment: ExperimentReference | None = None
    model: ModelReference | None = None
    version: VersionReference | None = None
    status: RunStatus = RUNNING
    started_at: int | None = None
    ended_at: int | None = None
    gpu_hours: float | None = None
    cost_usd: float | None = None
    dataset: str = ""
    dataset_version: str = ""
    description: str = ""
    hyperparameters: Mapping[str, Any] = {}
    environment: Mapping[str, Any] = {}
    unmasked: tuple[str, ...] = ()


class RunPatch(msgspec.Struct, frozen=True, kw_only=True):
    """What shall be different: UNSET stays, None is taken back, objects are merged."""

    name: str | UnsetType = UNSET
    experiment: ExperimentReference | UnsetType | None = UNSET
    model: ModelReference | UnsetType | None = UNSET
    version: VersionReference | UnsetType | None = UNSET
    status: RunStatus | UnsetType = UNSET
    started_at: int | UnsetType = UNSET
    ended_at: int | UnsetType = UNSET
    gpu_hours: float | UnsetType | None = UNSET
    cost_usd: float | UnsetType | None = UNSET
    dataset: str | UnsetType = UNSET
    dataset_version: str | UnsetType = UNSET
    description: str | UnsetType = UNSET
    hyperparameters: Mapping[str, Any] | UnsetType | None = UNSET
    environment: Mapping[str, Any] | UnsetType | None = UNSET
    unmasked: tuple[str, ...] | UnsetType = UNSET
    reason: str = ""


class RunQuestion(msgspec.Struct, frozen=True, kw_only=True):
    """Which runs to list; None where it does not matter. `until` is not included."""

    experiment: ExperimentReference | None = None
    model: ModelReference | None = None
    version: VersionReference | None = None
    status: str | None = None
    since: int | None = None
    until: int | None = None
    is_deleted: bool = False


class FullRun(msgspec.Struct, frozen=True):
    """A run with all that is said of it; of its version what never changes is used."""

    run: Run
    details: RunDetails
    version: Version | None


class RunPage(msgspec.Struct, frozen=True):
    """A page of a list; `count` is one above `MOST_COUNTED` where there are more."""

    items: list[ListedRun]
    next: tuple[int, str] | None
    count: int | None


async def create_run(store: Store, principal: Principal, wish: RunWish) -> FullRun:
    """Tell of a run; raises `NotFound` for what it names, `Invalid`, `Conflict`."""
    if wish.status == RUNNING and wish.ended_at is not None:
        raise _not_ended()
    id = new_id(RUN, store.clock())
    details = RunDetails(
        description=wish.description,
        hyperparameters=_hyperparameters(wish.hyperparameters),
        environment=_environment(wish.environment, wish.unmasked),
        unmasked=_names(wish.unmasked),
    )

    async def unit(tx: Tx) -> FullRun:
        place = await placed(
            tx, principal, wish.experiment, wish.model, wish.version, maker=principal.id
        )
        started_at = wish.started_at
        if started_at is None:
            started_at = tx.now if wish.ended_at is None else min(tx.now, wish.ended_at)
        run = Run(
            id=id,
            name=wish.name,
            owner=place.owner,
            experiment_id=place.experiment,
            model_id=place.model,
            version_id=place.version,
            dataset=wish.dataset,
            dataset_version=wish.dataset_version,
            started_at=started_at,
            gpu_hours=wish.gpu_hours,
            cost_usd=wish.cost_usd,
            created_at=tx.now,
            created_by=principal.id,
            updated_at=tx.now,
        )
        await insert_run(tx, run, details)
        await record(tx, principal, _entry("create", run, after=_said(run, details)))
        run = await move_run(tx, principal, run, wish.status, ended_at=wish.ended_at)
        return await _full(tx, run, details)

    return await change(store, principal, unit)


async def require_run(tx: Tx, principal: Principal, id: str, *, is_deleted: bool = False) -> Run:
    """The run, if the principal may see it, deleted if asked; raises `NotFound`."""
    run = await find_run(tx, id)
    missing = NotFound("run", id, code="run_not_found")
    await require_owner(tx, principal, None if run is None else run.owner, missing)
    assert run is not None, "what is not there was refused"
    if run.deleted_at is not None and not is_deleted:
        raise missing
    return run


async def get_run(store: Store, principal: Principal, id: str) -> FullRun:
    """A run, a deleted one too; raises `NotFound`."""

    async def unit(tx: Tx) -> FullRun:
        run = await require_run(tx, principal, id, is_deleted=True)
        return await _full(tx, run, await find_run_details(tx, run.id))

    return await store.index.look(unit)


async def list_runs(
    store: Store,
    principal: Principal,
    question: RunQuestion,
    *,
    after: tuple[int, str] | None,
    limit: int,
    is_counted: bool = False,
) -> RunPage:
    """A page, the last started first; of deleted ones the last deleted. Raises `NotFound`."""

    async def unit(tx: Tx) -> RunPage:
        place = await placed(
            tx, principal, question.experiment, question.model, question.version, maker=""
        )
        filters = RunFilters(
            version=place.version,
            experiment=place.experiment,
            model=place.model,
            status=question.status,
            since=question.since,
            until=question.until,
            is_deleted=question.is_deleted,
            seen=principal.visibility.seen,
        )
        items = await runs_before(tx, filters, after, limit + 1)
        count = await count_runs(tx, filters, MOST_COUNTED + 1) if is_counted else None
        following = _following(items[limit - 1].run) if len(items) > limit else None
        return RunPage(items[:limit], following, count)

    return await store.index.read(unit)


def _following(run: Run) -> tuple[int, str]:
    return run.started_at if run.deleted_at is None else run.deleted_at, run.id


async def change_run(
    store: Store,
    principal: Principal,
    id: str,
    patch: RunPatch,
    expected: Expected = ANYTHING,
) -> FullRun:
    """Say something else of a run, its status too; what is so already leaves no trace.

    Raises `NotFound`, `PreconditionFailed`, `Invalid`, and `Conflict` for a forbidden status.
    """

    async def unit(tx: Tx) -> FullRun:
        before = await require_run(tx, principal, id)
        expected.require(before.id, before.changes)
        earlier = await find_run_details(tx, before.id)
        run = await _patched(tx, principal, before, patch)
        details = _patched_details(earlier, patch)
        if (run, details) != (before, earlier):
            require_order(run.started_at, run.ended_at)
            run = msgspec.structs.replace(run, updated_at=tx.now, changes=before.changes + 1)
            await update_run(tx, run, None if details == earlier else details)
            was, said = _said(before, earlier), _said(run, details)
            differ = [name for name in said if said[name] != was[name]]
            await record(
                tx,
                principal,
                _entry(
                    "update",
                    run,
                    before={name: was[name] for name in differ},
                    after={name: said[name] for name in differ},
                    reason=patch.reason,
                ),
            )
        if isinstance(patch.status, str):
            ended_at = patch.ended_at if isinstance(patch.ended_at, int) else None
            run = await move_run(
                tx, principal, run, patch.status, ended_at=ended_at, reason=patch.reason
            )
        return await _full(tx, run, details)

    return await change(store, principal, unit)


async def delete_run(
    store: Store, principal: Principal, id: str, expected: Expected = ANYTHING
) -> None:
    """Delete a run softly; everything it logged stays until it is purged."""

    async def unit(tx: Tx) -> None:
        before = await require_run(tx, principal, id)
        expected.require(before.id, before.changes)
        details = await find_run_details(tx, before.id)
        after = msgspec.structs.replace(before, deleted_at=tx.now, deleted_by=principal.id)
        await _write(tx, before, after)
        await record(tx, principal, _entry("delete", before, before=_said(before, details)))

    await change(store, principal, unit)


async def restore_run(store: Store, principal: Principal, id: str) -> FullRun:
    """Bring a deleted run back; one that lives is as it is."""

    async def unit(tx: Tx) -> FullRun:
        before = await require_run(tx, principal, id, is_deleted=True)
        details = await find_run_details(tx, before.id)
        if before.deleted_at is None:
            return await _full(tx, before, details)
        after = msgspec.structs.replace(before, deleted_at=None, deleted_by=None)
        after = await _write(tx, before, after)
        await record(tx, principal, _entry("restore", after, after=_said(after, details)))
        return await _full(tx, after, details)

    return await change(store, principal, unit)


async def _write(tx: Tx, before: Run, after: Run) -> Run:
    after = msgspec.structs.replace(after, updated_at=tx.now, changes=before.changes + 1)
    await update_run(tx, after, None)
    return after


async def _full(tx: Tx, run: Run, details: RunDetails) -> FullRun:
    version = None if run.version_id is None else await find_version_anywhere(tx, run.version_id)
    return FullRun(run, details, version)


async def _patched(tx: Tx, principal: Principal, run: Run, patch: RunPatch) -> Run:
    """The run with what is given said of it, all but its status."""
    given = {
        name: value
        for name in ("name", "started_at", "gpu_hours", "cost_usd", "dataset", "dataset_version")
        if (value := getattr(patch, name)) is not UNSET
    }
    if isinstance(patch.ended_at, int):
        if run.ended_at is not None:
            given["ended_at"] = patch.ended_at
        elif patch.status is UNSET or patch.status == RUNNING:
            raise _not_ended()
    run = msgspec.structs.replace(run, **given)
    wish = PlaceWish(patch.experiment, patch.model, patch.version)
    return run if wish == STAYS else await moved(tx, principal, run, wish)


def _patched_details(before: RunDetails, patch: RunPatch) -> RunDetails:
    said: dict[str, str] = {}
    if isinstance(patch.description, str):
        said["description"] = patch.description
    if patch.hyperparameters is not UNSET:
        said["hyperparameters"] = _hyperparameters(
            _merged(before.hyperparameters, patch.hyperparameters)
        )
    unmasked = msgspec.json.decode(before.unmasked, type=tuple[str, ...])
    if isinstance(patch.unmasked, tuple):
        unmasked = patch.unmasked
        said["unmasked"] = _names(unmasked)
    if patch.environment is not UNSET or patch.unmasked is not UNSET:
        environment = {} if patch.environment is UNSET else patch.environment
        said["environment"] = _environment(_merged(before.environment, environment), unmasked)
    return msgspec.structs.replace(before, **said)


def _merged(before: str, patch: Mapping[str, Any] | None) -> Mapping[str, Any]:
    if patch is None:
        return {}
    found: Mapping[str, Any] = merged(msgspec.json.decode(before), patch)
    return found


def _environment(value: Mapping[str, Any], unmasked: tuple[str, ...]) -> str:
    _text("environment", value, ENVIRONMENT_BYTES)
    return _encode(without_secrets(dict(value), frozenset(unmasked))).decode()


def _hyperparameters(value: Mapping[str, Any]) -> str:
    return _text("hyperparameters", value, HYPERPARAMETER_BYTES)


def _names(unmasked: tuple[str, ...]) -> str:
    if len(unmasked) > MOST_UNMASKED:
        raise Invalid("environment_unmasked", f"at most {MOST_UNMASKED} names are kept")
    return _encode(sorted(set(unmasked))).decode()


def _text(field: str, value: Mapping[str, Any], most: int) -> str:
    encoded = _encode(value)
    if len(encoded) > most:
        raise Invalid(field, f"is {len(encoded)} bytes of JSON; at most {most} are kept")
    return encoded.decode()


def _not_ended() -> Invalid:
    return Invalid("ended_at", "is said of a run that has ended; say how, as its status")


def _said(run: Run, details: RunDetails) -> dict[str, Any]:
    """What the audit log keeps of a run; its status has entries of its own."""
    return {
        "name": run.name,
        "experiment": run.experiment_id,
        "model": run.model_id,
        "version": run.version_id,
        "started_at": run.started_at,
        "ended_at": run.ended_at,
        "gpu_hours": run.gpu_hours,
        "cost_usd": run.cost_usd,
        "dataset": run.dataset,
        "dataset_version": run.dataset_version,
        "description": details.description,
        "hyperparameters": msgspec.json.decode(details.hyperparameters),
        "environment": msgspec.json.decode(details.environment),
        "environment_unmasked": msgspec.json.decode(details.unmasked),
    }


def _entry(
    action: str, run: Run, *, before: Any = None, after: Any = None, reason: str = ""
) -> Entry:
    return Entry(
        action=action,
        kind="run",
        id=run.id,
        name=run.name,
        model=run.model_id,
        before=before,
        after=after,
        reason=reason,
    )
