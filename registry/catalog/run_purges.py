"""Rows of training that go when a model or a version is purged, a bounded number at a time."""

from __future__ import annotations

from typing import Final

from sqlalchemy import bindparam, delete, null, select, tuple_, update

from registry.catalog.runs import delete_run_row
from registry.catalog.schema import runs, version_metrics, versions
from registry.catalog.series import delete_some_points
from store.index.transactions import Statement, Tx

AT_ONCE: Final = 1_000
"""How many rows of a kind go in one transaction."""

_RUNS_OF_MODEL = Statement(
    lambda: select(runs.c.id).where(runs.c.model == bindparam("model")).limit(bindparam("limit"))
)
_metrics = version_metrics.alias("some")
_KEY: Final = tuple_(
    version_metrics.c.version,
    version_metrics.c.name,
    version_metrics.c.split,
    version_metrics.c.time,
)
_some = select(_metrics.c.version, _metrics.c.name, _metrics.c.split, _metrics.c.time)
_METRICS_OF_MODEL = Statement(
    lambda: delete(version_metrics).where(
        _KEY.in_(
            _some.join(versions, versions.c.id == _metrics.c.version)
            .where(versions.c.model == bindparam("model_"))
            .limit(bindparam("limit"))
        )
    )
)
_METRICS_OF_VERSION = Statement(
    lambda: delete(version_metrics).where(
        _KEY.in_(_some.where(_metrics.c.version == bindparam("version_")).limit(bindparam("limit")))
    )
)
_runs = runs.alias("of_version")
_LEAVE_VERSION = Statement(
    lambda: (
        update(runs)
        .where(
            runs.c.id.in_(
                select(_runs.c.id)
                .where(_runs.c.version == bindparam("version_"))
                .limit(bindparam("limit"))
            )
        )
        .values(version=null(), updated_at=bindparam("now"), changes=runs.c.changes + 1)
    )
)


async def purge_some_training(tx: Tx, model_id: str) -> bool:
    """Remove some of a model's runs and of its versions' metrics; whether any were there."""
    left = AT_ONCE
    for (id,) in await tx.all(_RUNS_OF_MODEL, model=model_id, limit=AT_ONCE):
        removed, is_left = await delete_some_points(tx, id, left)
        left -= max(removed, 1)
        if is_left or left <= 0:
            return True
        await delete_run_row(tx, id)
    if left < AT_ONCE:
        return True
    return await tx.run(_METRICS_OF_MODEL, model_=model_id, limit=AT_ONCE) > 0


async def forget_some_training(tx: Tx, version_id: str) -> bool:
    """Remove some of a version's metrics, and let some of its runs be its model's alone."""
    if await tx.run(_METRICS_OF_VERSION, version_=version_id, limit=AT_ONCE):
        return True
    return await tx.run(_LEAVE_VERSION, version_=version_id, limit=AT_ONCE, now=tx.now) > 0
