"""Rows that scores are computed from, where no other module reads them: runs, cards, makers.

Every question is bounded: of what there may be without end only the newest so many are asked for.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from sqlalchemy import Select, bindparam, func, select
from sqlalchemy import literal_column as constant

from registry.catalog.schema import lineage, model_cards, run_series, runs, versions
from store.index.transactions import Statement, Tx

_RUNS = Statement(
    lambda: (
        select(runs.c.id, runs.c.status, runs.c.dataset, runs.c.dataset_version)
        .where(runs.c.version == bindparam("version"), runs.c.deleted_at.is_(None))
        .order_by(runs.c.started_at.desc(), runs.c.id.desc())
        .limit(bindparam("limit"))
    )
)
_HAS_SERIES = Statement(
    lambda: select(constant("1")).where(run_series.c.run == bindparam("run")).limit(1)
)
_PUT_CARD = Statement(
    lambda: select(
        func.substr(model_cards.c.text, constant("1"), bindparam("characters")),
        func.length(model_cards.c.text),
    ).where(model_cards.c.model == bindparam("model"), model_cards.c.source == bindparam("put"))
)
_CARD_MAKER = Statement(
    lambda: select(model_cards.c.updated_by, constant("1")).where(
        model_cards.c.model == bindparam("model"), model_cards.c.source == bindparam("put")
    )
)
_living = (
    select(versions.c.id, versions.c.created_by)
    .where(versions.c.model == bindparam("model"), versions.c.deleted_at.is_(None))
    .order_by(versions.c.created_at.desc())
    .limit(bindparam("limit"))
)


def _counted(made: Select[Any]) -> Statement:
    found = made.subquery("made")
    return Statement(select(found.c.created_by, func.count()).group_by(found.c.created_by))


_COUNTS: Final = (
    _counted(_living),
    _counted(
        select(runs.c.created_by)
        .where(runs.c.model == bindparam("model"), runs.c.deleted_at.is_(None))
        .order_by(runs.c.started_at.desc())
        .limit(bindparam("limit"))
    ),
    _counted(
        select(lineage.c.created_by)
        .where(lineage.c.child.in_(select(_living.subquery("living").c.id)))
        .limit(bindparam("limit"))
    ),
)


class RunRow(msgspec.Struct, frozen=True):
    """The short part of a run."""

    id: str
    status: str
    dataset: str
    dataset_version: str


async def newest_runs(tx: Tx, version_id: str, limit: int) -> list[RunRow]:
    """The runs of a version that are not deleted, the last started first."""
    return [RunRow(*row) for row in await tx.all(_RUNS, version=version_id, limit=limit)]


async def has_series(tx: Tx, run_id: str) -> bool:
    """Whether a run logged any metric."""
    return await tx.one(_HAS_SERIES, run=run_id) is not None


async def put_card_beginning(tx: Tx, model_id: str, characters: int) -> tuple[str, bool] | None:
    """The beginning of a card that was put on a model, and whether it goes on."""
    row = await tx.one(_PUT_CARD, model=model_id, characters=characters, put="put")
    return None if row is None else (row[0], row[1] > characters)


async def count_contributions(tx: Tx, model_id: str, limit: int) -> tuple[dict[str, int], bool]:
    """Who made how many of the newest versions, runs and edges of a model, and its card.

    Says too whether there may be more than `limit` of a kind.
    """
    found: dict[str, int] = {}
    is_cut = False
    for statement in _COUNTS:
        rows = await tx.all(statement, model=model_id, limit=limit)
        is_cut = is_cut or sum(count for _, count in rows) >= limit
        for maker, count in rows:
            found[maker] = found.get(maker, 0) + count
    for maker, count in await tx.all(_CARD_MAKER, model=model_id, put="put"):
        found[maker] = found.get(maker, 0) + count
    return found, is_cut
