"""Let go of runs for good: points first, in steps, so that nobody waits behind a million of them.

A purge that is interrupted leaves a deleted run with a part of its points; asked again it goes on.
"""

from __future__ import annotations

from functools import partial

from registry.catalog.audit import Entry, record
from registry.catalog.run_purges import forget_some_training
from registry.catalog.runs import delete_run_row
from registry.catalog.series import delete_some_points
from registry.domain.principals import Principal
from registry.domain.runs import Run
from registry.errors import Conflict
from registry.services.change import change
from registry.services.runs import require_run
from registry.services.series import POINTS_AT_ONCE, Turnstile
from store.index.transactions import Tx
from store.opening import Store


async def purge_run(store: Store, principal: Principal, turnstile: Turnstile, id: str) -> None:
    """Remove a deleted run and everything it logged; raises `Conflict` for one that lives."""

    async def step(tx: Tx) -> bool:
        await _require_deleted(tx, principal, id)
        _, is_left = await delete_some_points(tx, id, POINTS_AT_ONCE)
        return is_left

    async def unit(tx: Tx) -> None:
        run = await _require_deleted(tx, principal, id)
        is_left = True
        while is_left:  # only what was logged since the last step
            _, is_left = await delete_some_points(tx, id, POINTS_AT_ONCE)
        await delete_run_row(tx, id)
        await record(
            tx,
            principal,
            Entry(action="purge", kind="run", id=id, name=run.name, model=run.model_id),
        )

    is_left = True
    while is_left:
        async with turnstile:
            is_left = await store.index.run(step)
    await change(store, principal, unit)


async def _require_deleted(tx: Tx, principal: Principal, id: str) -> Run:
    run = await require_run(tx, principal, id, is_deleted=True)
    if run.deleted_at is None:
        raise Conflict(
            "run", run.name or run.id, "is not deleted; delete it first", code="run_live"
        )
    return run


async def forget_training(store: Store, version_id: str) -> None:
    """Let go of what was measured of a version that is purged; its runs stay with its model."""
    while await store.index.run(partial(forget_some_training, version_id=version_id)):
        pass
