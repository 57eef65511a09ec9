"""Rows of models."""

from __future__ import annotations

from sqlalchemy import bindparam, insert, select, update

from registry.catalog.schema import models
from registry.domain.models import Model
from registry.domain.names import ModelName
from registry.domain.principals import Principal
from store.index.transactions import Row, Statement, Tx

_COLUMNS = (
    models.c.id,
    models.c.name,
    models.c.folded,
    models.c.kind,
    models.c.visibility,
    models.c.created_at,
    models.c.created_by,
)
_BY_NAME = Statement(
    select(*_COLUMNS).where(models.c.folded == bindparam("folded"), models.c.deleted_at.is_(None))
)
_BY_ID = Statement(
    select(*_COLUMNS).where(models.c.id == bindparam("id"), models.c.deleted_at.is_(None))
)
_INSERT = Statement(
    insert(models).values(
        id=bindparam("id"),
        name=bindparam("name"),
        folded=bindparam("folded"),
        kind=bindparam("kind"),
        visibility=bindparam("visibility"),
        last_number=0,
        created_at=bindparam("now"),
        created_by=bindparam("actor"),
        updated_at=bindparam("now"),
    )
)
_NEXT_NUMBER = Statement(
    update(models)
    .where(models.c.id == bindparam("id_"))
    .values(last_number=models.c.last_number + 1, updated_at=bindparam("now"))
    .returning(models.c.last_number)
)


def _model(row: Row) -> Model:
    return Model(*row)


async def find_model(tx: Tx, folded: str) -> Model | None:
    """The living model of that folded name."""
    row = await tx.one(_BY_NAME, folded=folded)
    return None if row is None else _model(row)


async def find_model_by_id(tx: Tx, id: str) -> Model | None:
    row = await tx.one(_BY_ID, id=id)
    return None if row is None else _model(row)


async def insert_model(tx: Tx, id: str, name: ModelName, actor: Principal) -> Model:
    """Make a model with the defaults of a name that was simply used."""
    model = Model(id, name.text, name.folded, "model", "private", tx.now, actor.id)
    await tx.run(
        _INSERT,
        id=id,
        name=name.text,
        folded=name.folded,
        kind=model.kind,
        visibility=model.visibility,
        now=tx.now,
        actor=actor.id,
    )
    return model


async def next_number(tx: Tx, model_id: str) -> int:
    """Take the next version number of a model; a number never comes twice."""
    row = await tx.one(_NEXT_NUMBER, id_=model_id, now=tx.now)
    assert row is not None, "the model was read in this transaction"
    return int(row[0])
