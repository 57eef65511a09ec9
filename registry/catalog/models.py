"""Rows of models."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import bindparam, func, insert, select, update
from sqlalchemy import literal_column as literal

from registry.catalog.schema import models
from registry.domain.models import Model
from store.index.transactions import Row, Statement, Tx

_FIELDS = {
    "id": models.c.id,
    "name": models.c.name,
    "folded": models.c.folded,
    "namespace_id": models.c.namespace,
    "kind": models.c.kind,
    "visibility": models.c.visibility,
    "description": models.c.description,
    "use_case": models.c.use_case,
    "task_type": models.c.task_type,
    "subject_domain": models.c.subject_domain,
    "team_id": models.c.team,
    "risk_level": models.c.risk_level,
    "is_compliance_required": models.c.compliance_required,
    "is_active": models.c.active,
    "has_legal_hold": models.c.legal_hold,
    "last_number": models.c.last_number,
    "version_count": models.c.version_count,
    "created_at": models.c.created_at,
    "created_by": models.c.created_by,
    "updated_at": models.c.updated_at,
    "deleted_at": models.c.deleted_at,
    "deleted_by": models.c.deleted_by,
    "changes": models.c.changes,
}
_FACTS = ("is_compliance_required", "is_active", "has_legal_hold")
COLUMNS: Final = tuple(_FIELDS.values())
_BY_NAME = Statement(
    lambda: select(*COLUMNS).where(
        models.c.folded == bindparam("folded"), models.c.deleted_at.is_(None)
    )
)
_BY_ID = Statement(
    lambda: select(*COLUMNS).where(models.c.id == bindparam("id"), models.c.deleted_at.is_(None))
)
_SOME = Statement(lambda: select(*COLUMNS).order_by(models.c.id).limit(1))
_ANY_BY_ID = Statement(lambda: select(*COLUMNS).where(models.c.id == bindparam("id")))
_DELETED_BY_ID = Statement(
    lambda: select(*COLUMNS).where(
        models.c.id == bindparam("id"),
        models.c.deleted_at.is_not(None),
        models.c.purged_at.is_(None),
    )
)
_MARKED_BY_ID = Statement(
    lambda: select(*COLUMNS).where(models.c.id == bindparam("id"), models.c.purged_at.is_not(None))
)
_WRITTEN: dict[str, Any] = {
    column.name: bindparam(name)
    for name, column in _FIELDS.items()
    if name not in ("last_number", "version_count")
}
_INSERT = Statement(lambda: insert(models).values(**_WRITTEN, last_number=0, version_count=0))
_UPDATE = Statement(
    lambda: (
        update(models)
        .where(models.c.id == bindparam("id_"))
        .values({name: value for name, value in _WRITTEN.items() if name != "id"})
    )
)
_BUMP = Statement(
    lambda: (
        update(models)
        .where(models.c.id == bindparam("id_"))
        .values(updated_at=bindparam("now"), changes=models.c.changes + 1)
    )
)
_TAKE_NUMBER = Statement(
    lambda: (
        update(models)
        .where(models.c.id == bindparam("id_"), models.c.last_number == bindparam("number") - 1)
        .values(
            last_number=bindparam("number"),
            version_count=models.c.version_count + 1,
            updated_at=bindparam("now"),
            changes=models.c.changes + 1,
            trained_at=func.max(
                func.coalesce(models.c.trained_at, literal("-1")), bindparam("now")
            ),
        )
    )
)
_LAST_NUMBER = Statement(lambda: select(models.c.last_number).where(models.c.id == bindparam("id")))


def model_of(row: Row) -> Model:
    """The model in a row of `COLUMNS`."""
    values = dict(zip(_FIELDS, row, strict=True))
    for name in _FACTS:
        values[name] = bool(values[name])
    return Model(**values)


async def find_model(tx: Tx, folded: str) -> Model | None:
    """The living model of that folded name."""
    row = await tx.one(_BY_NAME, folded=folded)
    return None if row is None else model_of(row)


async def find_model_by_id(tx: Tx, id: str) -> Model | None:
    row = await tx.one(_BY_ID, id=id)
    return None if row is None else model_of(row)


async def find_some_model(tx: Tx) -> Model | None:
    """Any model in any state, for whoever only wants it to take as long; None if there is none."""
    row = await tx.one(_SOME)
    return None if row is None else model_of(row)


async def find_any_model(tx: Tx, id: str) -> Model | None:
    """A model in any state, deleted and being purged too."""
    row = await tx.one(_ANY_BY_ID, id=id)
    return None if row is None else model_of(row)


async def find_deleted_model(tx: Tx, id: str) -> Model | None:
    """A model that was deleted and not purged since."""
    row = await tx.one(_DELETED_BY_ID, id=id)
    return None if row is None else model_of(row)


async def find_marked_model(tx: Tx, id: str) -> Model | None:
    """A model whose purge has begun."""
    row = await tx.one(_MARKED_BY_ID, id=id)
    return None if row is None else model_of(row)


async def insert_model(tx: Tx, model: Model) -> None:
    """Write a model that is new and so has no versions."""
    await tx.run(_INSERT, **_values(model))


async def update_model(tx: Tx, model: Model) -> None:
    """Write everything of a model but its counts of versions."""
    values = _values(model)
    await tx.run(_UPDATE, id_=values.pop("id"), **values)


async def bump_model(tx: Tx, id: str) -> None:
    """Say that a model's representation changed, where its own row did not."""
    await tx.run(_BUMP, id_=id, now=tx.now)


def _values(model: Model) -> dict[str, Any]:
    return {
        name: getattr(model, name)
        for name in _FIELDS
        if name not in ("last_number", "version_count")
    }


async def next_number(tx: Tx, model: Model) -> int:
    """Take the number of a version that is made now; a number never comes twice."""
    number = model.last_number + 1
    while not await tx.run(_TAKE_NUMBER, id_=model.id, number=number, now=tx.now):
        row = await tx.one(_LAST_NUMBER, id=model.id)  # another one was made since it was read
        assert row is not None, "the model was read in this transaction"
        number = int(row[0]) + 1
    return number
