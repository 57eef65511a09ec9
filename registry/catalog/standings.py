"""Candidates for gateways as they stand in the index, and what changed since somebody looked.

**What counts as a change.** Whatever changes a model, a version or a binding writes an audit entry
that names the model in the same transaction, so the log is the list of changed models; entries of
`KINDS_WITHOUT_EFFECT` speak of things that no candidate shows. Reports of observations leave no
entry but a mark. Both numbers only grow, in the order of commits: on SQLite there is one writer at
a time. (On PostgreSQL numbers are given out before the commit, and somebody who waits for none must
not skip those still under way; that is for whoever brings it.)

Rows that go without an entry are those of a purge; the entry that it begins with is there before,
and what is purged was deleted, so it was no candidate any more.
"""

from __future__ import annotations

from sys import intern
from typing import Final

import msgspec
from sqlalchemy import Text, bindparam, func, select
from sqlalchemy import literal_column as literal

from registry.catalog.observations import MARKS
from registry.catalog.schema import (
    audit,
    binding_statistics,
    bindings,
    models,
    observation_marks,
    versions,
)
from registry.domain.ranking import Candidate
from store.index.transactions import Row, Statement, Tx

KINDS_WITHOUT_EFFECT: Final = (
    "access",
    "alias",
    "card",
    "draft",
    "lineage",
    "pin",
    "redirect",
    "run",
    "token",
)

_OBSERVED: Final = {
    "weight": binding_statistics.c.weight,
    "successes": binding_statistics.c.successes,
    "success_rate": binding_statistics.c.success_rate,
    "latency_p50_ms": binding_statistics.c.latency_p50_ms,
    "latency_p95_ms": binding_statistics.c.latency_p95_ms,
    "latency_p99_ms": binding_statistics.c.latency_p99_ms,
    "observed_cost": binding_statistics.c.cost_per_1k,
    "observed_at": binding_statistics.c.observed_at,
}
_FIELDS: Final = {
    "id": bindings.c.id,
    "model_id": models.c.id,
    "namespace_id": models.c.namespace,
    "level": models.c.visibility,
    "model": models.c.name,
    "folded": models.c.folded,
    "kind": models.c.kind,
    "task": models.c.task_type,
    "subject": models.c.subject_domain,
    "is_model_active": models.c.active,
    "version_id": versions.c.id,
    "number": versions.c.number,
    "label": versions.c.label,
    "version_status": versions.c.status,
    "eval_score": versions.c.eval_score,
    "slo_target": versions.c.slo_target,
    "slo_met": versions.c.slo_met,
    "version_cost": versions.c.cost_per_1k,
    "provider": bindings.c.provider,
    "provider_model_id": bindings.c.provider_model_id,
    "region": bindings.c.region,
    "endpoint": bindings.c.endpoint,
    "config": bindings.c.config,
    "status": bindings.c.status,
    "agreed_cost": bindings.c.cost_per_1k,
    **_OBSERVED,
}
_candidates = (
    select(*_FIELDS.values())
    .select_from(
        bindings.join(versions, versions.c.id == bindings.c.version)
        .join(models, models.c.id == bindings.c.model)
        .outerjoin(binding_statistics, binding_statistics.c.binding == bindings.c.id)
    )
    .where(versions.c.deleted_at.is_(None), models.c.deleted_at.is_(None))
)
_ALL = Statement(_candidates)
_models = func.json_each(bindparam("models", type_=Text)).table_valued("value", name="changed")
_OF_MODELS = Statement(
    lambda: _candidates.where(bindings.c.model.in_(select(_models.c.value))).limit(
        bindparam("limit")
    )
)
_HEADS = Statement(
    lambda: select(
        select(func.max(audit.c.id)).scalar_subquery(),
        select(observation_marks.c.last)
        .where(observation_marks.c.name == bindparam("name"))
        .scalar_subquery(),
        select(func.min(audit.c.id)).scalar_subquery(),
    )
)
_kinds = func.json_each(bindparam("kinds", type_=Text)).table_valued("value", name="without")
_CHANGED = Statement(
    lambda: (
        select(audit.c.model)
        .distinct()
        .where(
            audit.c.id > bindparam("after"),
            audit.c.id <= bindparam("last"),
            # An expression keeps SQLite from any other index than that of the ids.
            func.coalesce(audit.c.model, literal("NULL")).is_not(None),
            func.coalesce(audit.c.kind, literal("NULL")).not_in(select(_kinds.c.value)),
        )
    )
)
_REPORTED = Statement(
    lambda: (
        select(binding_statistics.c.binding, *_OBSERVED.values())
        .where(binding_statistics.c.mark > bindparam("after"))
        .limit(bindparam("limit"))
    )
)


class Heads(msgspec.Struct, frozen=True):
    """How far somebody has read: the last audit entry and mark; and where the log begins."""

    entry: int
    mark: int
    oldest: int = 0
    """The oldest audit entry that is left."""


class Reported(msgspec.Struct, frozen=True, kw_only=True):
    """What a candidate shows of its statistics."""

    weight: float
    successes: float
    success_rate: float
    latency_p50_ms: float | None
    latency_p95_ms: float | None
    latency_p99_ms: float | None
    observed_cost: float | None
    observed_at: int


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """What is different now: all candidates of some models, and what was reported of others."""

    heads: Heads
    models: list[str]
    candidates: list[Candidate]
    reported: dict[str, Reported]


async def all_candidates(tx: Tx) -> tuple[Heads, list[Candidate]]:
    """Everything there is, and how far that is."""
    return await _heads(tx), [_candidate(row) for row in await tx.all(_ALL)]


async def changes_since(tx: Tx, seen: Heads, *, most: int) -> Changes | None:
    """What changed since `seen`; None for more than `most` entries, bindings or reports.

    None too where retention removed entries that were not seen.
    """
    heads = await _heads(tx)
    if heads.entry - seen.entry > most or heads.oldest > seen.entry + 1:
        return None
    changed: list[str] = []
    candidates: list[Candidate] = []
    if heads.entry != seen.entry:
        rows = await tx.all(_CHANGED, after=seen.entry, last=heads.entry, kinds=_KINDS)
        changed = [row[0] for row in rows]
    if changed:
        asked = msgspec.json.encode(changed).decode()
        rows = await tx.all(_OF_MODELS, models=asked, limit=most + 1)
        if len(rows) > most:
            return None
        candidates = [_candidate(row) for row in rows]
    reported: dict[str, Reported] = {}
    if heads.mark != seen.mark:
        rows = await tx.all(_REPORTED, after=seen.mark, limit=most + 1)
        if len(rows) > most:
            return None
        reported = {row[0]: Reported(**dict(zip(_OBSERVED, row[1:], strict=True))) for row in rows}
    return Changes(heads=heads, models=changed, candidates=candidates, reported=reported)


_KINDS: Final = msgspec.json.encode(KINDS_WITHOUT_EFFECT).decode()


async def _heads(tx: Tx) -> Heads:
    row = await tx.one(_HEADS, name=MARKS)
    assert row is not None, "one row of three numbers"
    return Heads(row[0] or 0, row[1] or 0, row[2] or 0)


def _candidate(row: Row) -> Candidate:
    values = dict(zip(_FIELDS, row, strict=True))
    for name in ("namespace_id", "level"):
        values[name] = intern(values[name])  # many candidates say the same
    values["is_model_active"] = bool(values["is_model_active"])
    if values["slo_met"] is not None:
        values["slo_met"] = bool(values["slo_met"])
    if values["weight"] is None:
        values["weight"] = values["successes"] = 0.0
    return Candidate(**values)
