"""Rows of what was observed of bindings, and the mark that says how far somebody has read them.

Every transaction that changes statistics takes the next mark and writes it into each row. A mark
is taken under the writer's lock, so whoever sees one sees all that have lower ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec
from sqlalchemy import Text, bindparam, func, select
from sqlalchemy.dialects.sqlite import insert as upsert

from registry.catalog.schema import (
    binding_statistics,
    bindings,
    models,
    observation_marks,
    versions,
)
from registry.domain.observations import Statistics
from store.index.transactions import Row, Statement, Tx

MARKS: Final = "bindings"
"""The one row of `observation_marks`."""

_FIELDS: Final = Statistics.__struct_fields__
COLUMNS: Final = tuple(binding_statistics.c[name] for name in _FIELDS)
"""What `statistics_of` reads, in its order."""

_mark = upsert(observation_marks).values(name=bindparam("name"), last=1)
_NEXT_MARK = Statement(
    lambda: _mark.on_conflict_do_update(
        index_elements=["name"], set_={"last": observation_marks.c.last + 1}
    ).returning(observation_marks.c.last)
)
_put = upsert(binding_statistics).values(
    binding=bindparam("binding"), **{name: bindparam(name) for name in _FIELDS}
)
_PUT = Statement(
    lambda: _put.on_conflict_do_update(
        index_elements=["binding"], set_={name: _put.excluded[name] for name in _FIELDS}
    )
)
_ids = func.json_each(bindparam("ids", type_=Text)).table_valued("value", name="wanted")
_OBSERVED = Statement(
    lambda: (
        select(bindings.c.id, bindings.c.model, *COLUMNS)
        .select_from(
            bindings.join(versions, versions.c.id == bindings.c.version)
            .join(models, models.c.id == bindings.c.model)
            .outerjoin(binding_statistics, binding_statistics.c.binding == bindings.c.id)
        )
        .where(
            bindings.c.id.in_(select(_ids.c.value)),
            versions.c.deleted_at.is_(None),
            models.c.deleted_at.is_(None),
        )
    )
)


class Observed(msgspec.Struct, frozen=True):
    """A binding of a living version, whose model decides who sees it, and its statistics."""

    id: str
    model_id: str
    statistics: Statistics | None


def statistics_of(row: Row) -> Statistics | None:
    """The struct of a row of `COLUMNS`; None where nothing was observed."""
    if row[0] is None:
        return None
    values = dict(zip(_FIELDS, row, strict=True))
    values["latencies"] = dict(
        msgspec.json.decode(values["latencies"], type=list[tuple[int, float]])
    )
    return Statistics(**values)


async def find_observed(tx: Tx, ids: Iterable[str]) -> dict[str, Observed]:
    """Those of the bindings that are there, with what was observed of them: one statement."""
    encoded = msgspec.json.encode(list(ids)).decode()
    rows = await tx.all(_OBSERVED, ids=encoded)
    return {row[0]: Observed(row[0], row[1], statistics_of(row[2:])) for row in rows}


async def write_observed(tx: Tx, observed: Mapping[str, Statistics]) -> int:
    """Write statistics by binding under the next mark, which is returned."""
    row = await tx.one(_NEXT_MARK, name=MARKS)
    assert row is not None, "an upsert returns its row"
    mark = int(row[0])
    await tx.run_many(_PUT, [_values(id, one, mark) for id, one in observed.items()])
    return mark


def _values(id: str, statistics: Statistics, mark: int) -> dict[str, object]:
    values = msgspec.structs.asdict(statistics)
    latencies = sorted(statistics.latencies.items())
    return values | {
        "binding": id,
        "mark": mark,
        "latencies": msgspec.json.encode(latencies).decode(),
    }
