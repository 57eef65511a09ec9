"""What was measured of versions, per name and split: recorded, listed, the latest, side by side.

Every value has a time, so that a metric has a history; without one it was measured now. Recording
another value for the same name, split and time replaces the one that was there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from registry.catalog.audit import Entry, record
from registry.catalog.metrics import (
    Metric,
    Per,
    count_names,
    latest_metrics,
    metrics_after,
    put_metrics,
)
from registry.domain.models import Model, Version
from registry.domain.numbers import Number
from registry.domain.principals import Principal
from registry.domain.references import ModelReference, VersionReference
from registry.domain.runs import SPLITS
from registry.errors import Conflict
from registry.services.change import change
from registry.services.resolve import require_model
from registry.services.run_places import require_version
from store.index.transactions import Tx
from store.opening import Store

MOST_NAMES: Final = 1_000
"""Of one version: what is the latest of each is answered in one piece."""

MOST_COMPARED: Final = 50


class MetricWish(msgspec.Struct, frozen=True):
    """A metric to record; without a time it was measured now."""

    name: str
    split: str
    value: Number
    time: int | None = None


class NamedVersion(msgspec.Struct, frozen=True):
    """A version as a caller names it; without a model by its id."""

    model: ModelReference | None
    version: VersionReference


class MetricPage(msgspec.Struct, frozen=True):
    items: list[Metric]
    next: tuple[str, str, int] | None


class ComparedVersion(msgspec.Struct, frozen=True):
    model: Model
    version: Version


class ComparedMetric(msgspec.Struct, frozen=True):
    """One name on one split: the latest of each version, None where it was not measured."""

    name: str
    split: str
    metrics: list[Metric | None]


class Comparison(msgspec.Struct, frozen=True):
    """Versions in the order in which they were asked for, and what was measured of any of them."""

    versions: list[ComparedVersion]
    rows: list[ComparedMetric]


async def record_metrics(
    store: Store,
    principal: Principal,
    model: ModelReference,
    version: VersionReference,
    wishes: Sequence[MetricWish],
) -> list[Metric]:
    """Record all of them; raises `NotFound`, and `Conflict`, code ``too_many_metrics``."""

    async def unit(tx: Tx) -> list[Metric]:
        found, of = await _require(tx, principal, model, version)
        metrics = [_metric(tx, principal, of, wish) for wish in wishes]
        await put_metrics(tx, metrics)
        names = await count_names(tx, of.id)
        if names > MOST_NAMES:
            raise Conflict(
                "version",
                f"{of.name} of {found.name}",
                f"would have {names} names of metrics; at most {MOST_NAMES} are kept",
                code="too_many_metrics",
                details={"names": names, "allowed": MOST_NAMES},
            )
        await record(tx, principal, _entry(found, of, metrics))
        return metrics

    return await change(store, principal, unit)


def _metric(tx: Tx, principal: Principal, version: Version, wish: MetricWish) -> Metric:
    return Metric(
        version_id=version.id,
        name=wish.name,
        split=wish.split,
        time=tx.now if wish.time is None else wish.time,
        value=wish.value,
        created_at=tx.now,
        created_by=principal.id,
    )


def _entry(model: Model, version: Version, metrics: Sequence[Metric]) -> Entry:
    said: list[dict[str, Any]] = [
        {"name": one.name, "split": one.split, "value": one.value, "time": one.time}
        for one in metrics
    ]
    return Entry(
        action="measure",
        kind="version",
        id=version.id,
        name=version.name,
        model=model.id,
        after={"metrics": said},
    )


async def _require(
    tx: Tx, principal: Principal, model: ModelReference | None, version: VersionReference
) -> tuple[Model, Version]:
    found = None if model is None else await require_model(tx, principal, model)
    return await require_version(tx, principal, found, version)


async def list_metrics(
    store: Store,
    principal: Principal,
    model: ModelReference,
    version: VersionReference,
    *,
    name: str | None,
    split: str | None,
    after: tuple[str, str, int] | None,
    limit: int,
) -> MetricPage:
    """A page of everything measured of a version, in order of name, split and time."""

    async def unit(tx: Tx) -> MetricPage:
        _, of = await _require(tx, principal, model, version)
        items = await metrics_after(tx, of.id, after, limit + 1, name=name, split=split)
        last = items[limit - 1] if len(items) > limit else None
        following = None if last is None else (last.name, last.split, last.time)
        return MetricPage(items[:limit], following)

    return await store.index.read(unit)


async def list_latest(
    store: Store,
    principal: Principal,
    model: ModelReference,
    version: VersionReference,
    *,
    per: Per,
) -> list[Metric]:
    """The latest of each name, or of each name and split, in that order."""

    async def unit(tx: Tx) -> list[Metric]:
        _, of = await _require(tx, principal, model, version)
        return await latest_metrics(tx, [of.id], per=per)

    return sorted(await store.index.read(unit), key=lambda one: _order(one.name, one.split))


async def compare_versions(
    store: Store, principal: Principal, asked: Sequence[NamedVersion]
) -> Comparison:
    """The latest metrics of versions side by side; raises `NotFound` for any that is not there."""

    async def unit(tx: Tx) -> Comparison:
        found = [
            ComparedVersion(*await _require(tx, principal, one.model, one.version)) for one in asked
        ]
        ids = [one.version.id for one in found]
        cells = {
            (one.name, one.split, one.version_id): one
            for one in await latest_metrics(tx, list(dict.fromkeys(ids)), per="split")
        }
        names = sorted({(name, split) for name, split, _ in cells}, key=lambda key: _order(*key))
        rows = [
            ComparedMetric(name, split, [cells.get((name, split, id)) for id in ids])
            for name, split in names
        ]
        return Comparison(found, rows)

    return await store.index.read(unit)


def _order(name: str, split: str) -> tuple[str, int]:
    return name, SPLITS.index(split)
