"""Rows of provider bindings, and lists of them.

A binding is there as long as its row is; it shows only while its version and its model live, which
every statement that finds one for somebody asks. Lists are newest first, along the index of the
filter that leaves the fewest; for a reader who sees few models they are merged from the lists of
those (`registry.catalog.visible`).
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import msgspec
from sqlalchemy import Select, Text, bindparam, delete, func, insert, select, update
from sqlalchemy import literal_column as literal
from sqlalchemy.sql.elements import ColumnElement

from registry.catalog.observations import COLUMNS as STATISTICS
from registry.catalog.observations import statistics_of
from registry.catalog.schema import binding_statistics, bindings, models, versions
from registry.catalog.visible import (
    counted,
    few_lead,
    few_seen,
    of_few,
    page_of_few,
    sees_model_of,
)
from registry.domain.bindings import Binding
from registry.domain.observations import Statistics
from store.index.transactions import Row, Statement, Tx

_FIELDS: Final = {
    "id": bindings.c.id,
    "model_id": bindings.c.model,
    "version_id": bindings.c.version,
    "provider": bindings.c.provider,
    "provider_model_id": bindings.c.provider_model_id,
    "region": bindings.c.region,
    "endpoint": bindings.c.endpoint,
    "config": bindings.c.config,
    "status": bindings.c.status,
    "cost_per_1k": bindings.c.cost_per_1k,
    "created_at": bindings.c.created_at,
    "created_by": bindings.c.created_by,
    "updated_at": bindings.c.updated_at,
    "changes": bindings.c.changes,
}
_WRITTEN: Final[dict[str, Any]] = {column.name: bindparam(name) for name, column in _FIELDS.items()}
_FIXED: Final = frozenset(("id", "model", "version", "created_at", "created_by"))

_NAMES: Final = (models.c.name, versions.c.number, versions.c.label)
_lives = (versions.c.deleted_at.is_(None), models.c.deleted_at.is_(None))
_joined = (
    bindings.join(versions, versions.c.id == bindings.c.version)
    .join(models, models.c.id == bindings.c.model)
    .outerjoin(binding_statistics, binding_statistics.c.binding == bindings.c.id)
)
_FULL = select(*_FIELDS.values(), *_NAMES, *STATISTICS).select_from(_joined)
_BY_ID = Statement(lambda: _FULL.where(bindings.c.id == bindparam("id"), *_lives))
_TAKEN = Statement(
    lambda: select(bindings.c.id).where(
        bindings.c.version == bindparam("version"),
        bindings.c.provider == bindparam("provider"),
        bindings.c.provider_model_id == bindparam("provider_model_id"),
        bindings.c.region == bindparam("region"),
    )
)
_COUNT_OF_VERSION = Statement(
    lambda: (
        select(func.count()).select_from(bindings).where(bindings.c.version == bindparam("version"))
    )
)
_INSERT = Statement(lambda: insert(bindings).values(_WRITTEN))
_UPDATE = Statement(
    lambda: (
        update(bindings)
        .where(bindings.c.id == bindparam("id_"))
        .values({name: value for name, value in _WRITTEN.items() if name not in _FIXED})
    )
)
_ids = func.json_each(bindparam("ids", type_=Text)).table_valued("value", name="gone")
_DELETE_STATISTICS = Statement(
    lambda: delete(binding_statistics).where(binding_statistics.c.binding.in_(select(_ids.c.value)))
)
_DELETE = Statement(lambda: delete(bindings).where(bindings.c.id.in_(select(_ids.c.value))))
_OF_MODEL = Statement(
    lambda: (
        select(bindings.c.id)
        .where(bindings.c.model == bindparam("model"))
        .limit(bindparam("limit"))
    )
)
_OF_VERSION = Statement(
    lambda: select(bindings.c.id).where(bindings.c.version == bindparam("version"))
)


class FullBinding(msgspec.Struct, frozen=True, kw_only=True):
    """A binding, what its model and version are called now, and what was observed of it."""

    binding: Binding
    model: str
    number: int
    label: str | None
    statistics: Statistics | None

    @property
    def version(self) -> str:
        """How people call the version."""
        return self.label or str(self.number)


def _full(row: Row) -> FullBinding:
    first, second = len(_FIELDS), len(_FIELDS) + len(_NAMES)
    model, number, label = row[first:second]
    return FullBinding(
        binding=Binding(**dict(zip(_FIELDS, row[:first], strict=True))),
        model=model,
        number=number,
        label=label,
        statistics=statistics_of(row[second:]),
    )


async def find_binding(tx: Tx, id: str) -> FullBinding | None:
    """The binding, while its version and its model live."""
    row = await tx.one(_BY_ID, id=id)
    return None if row is None else _full(row)


async def find_taken(tx: Tx, binding: Binding) -> str | None:
    """The id of the binding of the same version to the same provider, model id and region."""
    row = await tx.one(
        _TAKEN,
        version=binding.version_id,
        provider=binding.provider,
        provider_model_id=binding.provider_model_id,
        region=binding.region,
    )
    return None if row is None else str(row[0])


async def count_of_version(tx: Tx, version_id: str) -> int:
    row = await tx.one(_COUNT_OF_VERSION, version=version_id)
    assert row is not None, "a count"
    return int(row[0])


async def insert_binding(tx: Tx, binding: Binding) -> None:
    await tx.run(_INSERT, **{name: getattr(binding, name) for name in _FIELDS})


async def update_binding(tx: Tx, binding: Binding) -> None:
    """Write everything of a binding that may change."""
    values = {
        name: getattr(binding, name)
        for name, column in _FIELDS.items()
        if column.name not in _FIXED
    }
    await tx.run(_UPDATE, id_=binding.id, **values)


async def delete_binding_rows(tx: Tx, ids: list[str]) -> None:
    """Remove bindings with what was observed of them."""
    encoded = msgspec.json.encode(ids).decode()
    await tx.run(_DELETE_STATISTICS, ids=encoded)
    await tx.run(_DELETE, ids=encoded)


async def forget_observed(tx: Tx, id: str) -> None:
    """Remove what was observed of a binding that now calls something else."""
    await tx.run(_DELETE_STATISTICS, ids=msgspec.json.encode([id]).decode())


# Purging.


async def purge_some_bindings(tx: Tx, model_id: str, limit: int) -> bool:
    """Remove some of a model's bindings; whether any were there."""
    found = [row[0] for row in await tx.all(_OF_MODEL, model=model_id, limit=limit)]
    if found:
        await delete_binding_rows(tx, found)
    return bool(found)


async def purge_bindings_of_version(tx: Tx, version_id: str) -> None:
    """Remove all of a version's bindings; there are at most so many as a version may have."""
    found = [row[0] for row in await tx.all(_OF_VERSION, version=version_id)]
    if found:
        await delete_binding_rows(tx, found)


# Lists.

_EQUAL: Final = {
    "version": bindings.c.version,
    "model": bindings.c.model,
    "provider": bindings.c.provider,
    "region": bindings.c.region,
    "status": bindings.c.status,
}
"""Filters by one column, the most selective first: the index of the first one asked is used."""


class BindingFilters(msgspec.Struct, frozen=True, kw_only=True):
    """Which bindings are listed, by ids; None where it does not matter."""

    version: str | None = None
    model: str | None = None
    provider: str | None = None
    region: str | None = None
    status: str | None = None
    min_success_rate: float | None = None
    seen: str | None = None
    """Of which models the bindings are seen (`registry.catalog.visible`); None for all."""

    def bound(self) -> dict[str, Any]:
        """The values of what is asked, by name."""
        return {
            name: value
            for name in self.__struct_fields__
            if (value := getattr(self, name)) is not None
        }


async def bindings_before(
    tx: Tx, filters: BindingFilters, place: str | None, limit: int
) -> list[FullBinding]:
    """A page, the newest first, behind the binding with this id."""
    given = await _narrowed(tx, filters)
    statement = _page(tuple(given), has_place=place is not None)
    if place is not None:
        given["after"] = place
    return [_full(row) for row in await tx.all(statement, limit=limit, **given)]


async def count_bindings(tx: Tx, filters: BindingFilters, most: int) -> int:
    """How many there are, up to `most`."""
    given = await _narrowed(tx, filters)
    row = await tx.one(_count(tuple(given)), limit=most, **given)
    assert row is not None, "a count"
    return int(row[0])


async def _narrowed(tx: Tx, filters: BindingFilters) -> dict[str, Any]:
    """What a statement binds: the few models that are seen, if those are to lead."""
    given = filters.bound()
    if filters.seen is None or filters.version is not None or filters.model is not None:
        return given  # nothing of a model is hidden from who sees it
    few = await few_seen(tx, filters.seen)
    others = _others(next((name for name in _EQUAL if name in given), None))
    if few is not None and await few_lead(tx, few, bindings.c.model, others, **given):
        del given["seen"]
        given["few"] = few
    return given


@cache
def _others(filter: str | None) -> Statement | None:
    """How many entries the index has that would lead."""
    return None if filter is None else counted(_EQUAL[filter] == bindparam(filter))


@cache
def _page(given: tuple[str, ...], *, has_place: bool) -> Statement:
    tests = [*_lives, *_tests(given)]
    if has_place:
        tests.append(bindings.c.id < bindparam("after"))
    if "few" in given:
        tests = [page_of_few(bindings.c.model, (bindings.c.id,), tests, source=_joined)]
    found = _FULL.where(*tests)
    return Statement(found.order_by(bindings.c.id.desc()).limit(bindparam("limit")))


@cache
def _count(given: tuple[str, ...]) -> Statement:
    tests = [*_lives, *_tests(given)]
    if "few" in given:
        tests.append(of_few(bindings.c.model))
    some: Select[Any] = select(literal("1")).select_from(_joined).where(*tests)
    counted = some.limit(bindparam("limit")).subquery("counted")
    return Statement(select(func.count()).select_from(counted))


def _tests(given: tuple[str, ...]) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    is_led = "few" in given
    for name, column in _EQUAL.items():
        if name in given:
            found.append((_tested(column) if is_led else column) == bindparam(name))
            is_led = True
    if "min_success_rate" in given:
        found.append(binding_statistics.c.success_rate >= bindparam("min_success_rate"))
    if "seen" in given:
        found.append(sees_model_of(bindings.c.model))
    return found


def _tested(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """The same value, in words for which no index can be taken."""
    return func.coalesce(column, literal("NULL"))
