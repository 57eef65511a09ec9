"""Rows of retention policies, of what was brought back, and of what happened by the day."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import msgspec
from sqlalchemy import bindparam, delete, func, insert, select, union_all, update
from sqlalchemy import literal_column as literal
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.sql.elements import ColumnElement

from registry.catalog.schema import (
    models,
    namespaces,
    retention_days,
    retention_policies,
    retention_returns,
)
from registry.catalog.visible import few_owners, newest_of_few, sees_model_of, sees_namespace
from registry.domain.models import Model
from registry.domain.retention import DAY, Policy
from registry.domain.statuses import Status
from store.index.transactions import Row, Statement, Tx

_FIELDS: Final = {
    "id": retention_policies.c.id,
    "scope": retention_policies.c.scope,
    "namespace_id": retention_policies.c.namespace,
    "model_id": retention_policies.c.model,
    "is_active": retention_policies.c.active,
    "keep_last": retention_policies.c.keep_last,
    "retire_after_days": retention_policies.c.retire_after_days,
    "purge_after_days": retention_policies.c.purge_after_days,
    "protect_descendants": retention_policies.c.protect_descendants,
    "protect_releases": retention_policies.c.protect_releases,
    "protect_statuses": retention_policies.c.protect_statuses,
    "protect_tags": retention_policies.c.protect_tags,
    "description": retention_policies.c.description,
    "created_at": retention_policies.c.created_at,
    "created_by": retention_policies.c.created_by,
    "updated_at": retention_policies.c.updated_at,
    "changes": retention_policies.c.changes,
}
_FACTS: Final = ("is_active", "protect_descendants", "protect_releases")
_WRITTEN: Final[dict[str, Any]] = {column.name: bindparam(name) for name, column in _FIELDS.items()}
_SELECT: Final = select(*_FIELDS.values())
_FIND = Statement(lambda: _SELECT.where(retention_policies.c.id == bindparam("id")))
_INSERT = Statement(lambda: insert(retention_policies).values(_WRITTEN))
_UPDATE = Statement(
    lambda: (
        update(retention_policies)
        .where(retention_policies.c.id == bindparam("id_"))
        .values({name: value for name, value in _WRITTEN.items() if name != "id"})
    )
)
_DELETE = Statement(
    lambda: delete(retention_policies).where(retention_policies.c.id == bindparam("id_"))
)
_OF_MODEL = _SELECT.where(retention_policies.c.model == bindparam("model"))
_OF_NAMESPACE = _SELECT.where(retention_policies.c.namespace == bindparam("namespace"))
_OF_REGISTRY = _SELECT.where(retention_policies.c.scope == literal("'registry'"))
# Three look-ups of a key; at most three rows, the nearest chosen by who asked.
_COVERING = Statement(lambda: union_all(_OF_MODEL, _OF_NAMESPACE, _OF_REGISTRY))
_AT = {
    "model": Statement(_OF_MODEL),
    "namespace": Statement(_OF_NAMESPACE),
    "registry": Statement(_OF_REGISTRY),
}
_ANY_ACTIVE = Statement(
    lambda: (
        select(retention_policies.c.id).where(retention_policies.c.active == literal("1")).limit(1)
    )
)
_COUNT = Statement(lambda: select(func.count()).select_from(retention_policies))

_RETURN = upsert(retention_returns).values(
    version=bindparam("version"), returned_at=bindparam("now"), returned_by=bindparam("actor")
)
_WRITE_RETURN = Statement(
    lambda: _RETURN.on_conflict_do_update(
        index_elements=["version"],
        set_={
            "returned_at": _RETURN.excluded.returned_at,
            "returned_by": _RETURN.excluded.returned_by,
        },
    )
)
_FORGET_RETURN = Statement(
    lambda: delete(retention_returns).where(retention_returns.c.version == bindparam("version_"))
)

_COUNTED: Final = tuple(column.name for column in retention_days.c if column.name != "day")
_DAY = upsert(retention_days).values(
    day=bindparam("day"), **{name: bindparam(name) for name in _COUNTED}
)
_ADD = Statement(
    lambda: _DAY.on_conflict_do_update(
        index_elements=["day"],
        set_={name: retention_days.c[name] + _DAY.excluded[name] for name in _COUNTED},
    )
)
_DAYS = Statement(
    lambda: (
        select(retention_days.c.day, *(retention_days.c[name] for name in _COUNTED))
        .where(retention_days.c.day >= bindparam("first"))
        .order_by(retention_days.c.day.desc())
        .limit(bindparam("limit"))
    )
)
_TOTALS = Statement(
    lambda: select(
        *(func.coalesce(func.sum(retention_days.c[name]), literal("0")) for name in _COUNTED)
    )
)

_RANKS: Final = {"model": 0, "namespace": 1, "registry": 2}


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """What retention did, counted; bytes are those of versions, shared ones each time."""

    retired: int = 0
    retired_bytes: int = 0
    returned: int = 0
    purged: int = 0
    purged_bytes: int = 0
    freed_bytes: int = 0
    """Of what was purged: bytes that nobody else referred to at that moment."""
    skipped: int = 0
    refused: int = 0
    archived: int = 0
    """Versions whose last bytes went to the cold tier."""
    archived_bytes: int = 0
    thawed: int = 0


class ListedPolicy(msgspec.Struct, frozen=True):
    """A policy and what it covers is called: a namespace's slug or a model's name."""

    policy: Policy
    covers: str


def _policy(row: Row) -> Policy:
    values = dict(zip(_FIELDS, row, strict=True))
    for name in _FACTS:
        values[name] = bool(values[name])
    values["protect_statuses"] = msgspec.json.decode(
        values["protect_statuses"], type=tuple[Status, ...]
    )
    values["protect_tags"] = msgspec.json.decode(values["protect_tags"], type=tuple[str, ...])
    return Policy(**values)


def _values(policy: Policy) -> dict[str, Any]:
    values = {name: getattr(policy, name) for name in _FIELDS}
    for name in _FACTS:
        values[name] = int(values[name])
    for name in ("protect_statuses", "protect_tags"):
        values[name] = msgspec.json.encode(values[name]).decode()
    return values


async def find_policy(tx: Tx, id: str) -> Policy | None:
    row = await tx.one(_FIND, id=id)
    return None if row is None else _policy(row)


async def find_policy_at(
    tx: Tx, *, model_id: str | None = None, namespace_id: str | None = None
) -> Policy | None:
    """The policy of exactly this model, this namespace, or of the registry."""
    if model_id is not None:
        row = await tx.one(_AT["model"], model=model_id)
    elif namespace_id is not None:
        row = await tx.one(_AT["namespace"], namespace=namespace_id)
    else:
        row = await tx.one(_AT["registry"])
    return None if row is None else _policy(row)


async def policy_for(tx: Tx, model: Model) -> Policy | None:
    """The nearest policy: the model's, else its namespace's, else the registry's."""
    rows = await tx.all(_COVERING, model=model.id, namespace=model.namespace_id)
    found = [_policy(row) for row in rows]
    return min(found, key=lambda policy: _RANKS[policy.scope], default=None)


async def has_active_policy(tx: Tx) -> bool:
    """Whether there is any policy by which something can happen."""
    return await tx.one(_ANY_ACTIVE) is not None


async def count_policies(tx: Tx) -> int:
    row = await tx.one(_COUNT)
    assert row is not None, "a count"
    return int(row[0])


async def insert_policy(tx: Tx, policy: Policy) -> None:
    await tx.run(_INSERT, **_values(policy))


async def update_policy(tx: Tx, policy: Policy) -> None:
    values = _values(policy)
    await tx.run(_UPDATE, id_=values.pop("id"), **values)


async def delete_policy(tx: Tx, id: str) -> None:
    await tx.run(_DELETE, id_=id)


async def covered_name(tx: Tx, policy: Policy) -> str:
    """What a policy covers, by name; empty for the registry."""
    if policy.scope == "registry":
        return ""
    rows = await tx.all(_page(("id",)), id=policy.id, limit=1)
    return str(rows[0][-1] or "") if rows else ""


async def policies_before(
    tx: Tx, *, scope: str | None, seen: str | None, before: str | None, limit: int
) -> list[ListedPolicy]:
    """A page, the latest made first, behind the id `before`; `seen`: `catalog.visible`."""
    given = {"scope": scope, "seen": seen, "before": before}
    values = {name: value for name, value in given.items() if value is not None}
    if seen is not None:
        few = await few_owners(tx, seen)
        if few is not None:
            del values["seen"]
            values["few"] = few
    rows = await tx.all(_page(tuple(values)), limit=limit, **values)
    return [ListedPolicy(_policy(row[:-1]), row[-1] or "") for row in rows]


@cache
def _page(given: tuple[str, ...]) -> Statement:
    """Ids sort by time of making, so they are the order."""
    table = retention_policies
    question = select(
        *_FIELDS.values(), func.coalesce(models.c.name, namespaces.c.slug)
    ).select_from(
        table.outerjoin(models, models.c.id == table.c.model).outerjoin(
            namespaces, namespaces.c.id == table.c.namespace
        )
    )
    tests: list[ColumnElement[bool]] = []
    if "id" in given:
        tests.append(table.c.id == bindparam("id"))
    if "scope" in given:
        tests.append(table.c.scope == bindparam("scope"))
    if "seen" in given:
        tests.append(sees_namespace(table.c.namespace) | sees_model_of(table.c.model))
    if "before" in given:
        tests.append(table.c.id < bindparam("before"))
    if "few" in given:
        tests = [newest_of_few(dict.fromkeys((table.c.model, table.c.namespace), tests))]
    question = question.where(*tests)
    return Statement(question.order_by(table.c.id.desc()).limit(bindparam("limit")))


async def write_return(tx: Tx, version_id: str, *, by: str) -> None:
    """Let a version's age count from now."""
    await tx.run(_WRITE_RETURN, version=version_id, now=tx.now, actor=by)


async def forget_return(tx: Tx, version_id: str) -> None:
    await tx.run(_FORGET_RETURN, version_=version_id)


async def add_to_day(tx: Tx, **counts: int) -> None:
    """Count what this transaction does; names are those of `Tally`."""
    await tx.run(_ADD, day=tx.now // DAY, **{name: counts.get(name, 0) for name in _COUNTED})


async def tally(tx: Tx) -> Tally:
    """Everything that retention ever did here."""
    row = await tx.one(_TOTALS)
    assert row is not None, "sums are one row"
    return Tally(**dict(zip(_COUNTED, row, strict=True)))


async def tallies_since(tx: Tx, first_day: int, limit: int) -> list[tuple[int, Tally]]:
    """Days since the epoch on which something happened, the last first."""
    rows = await tx.all(_DAYS, first=first_day, limit=limit)
    return [(row[0], Tally(**dict(zip(_COUNTED, row[1:], strict=True)))) for row in rows]
