"""Rows of models."""

from __future__ import annotations

from sqlalchemy import bindparam, insert, select, update

from registry.catalog.schema import models
from registry.catalog.schema.models import DEFAULT_NAMESPACE_ID
from registry.domain.models import Model
from registry.domain.names import ModelName
from registry.domain.principals import Principal
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
_COLUMNS = tuple(_FIELDS.values())
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
        namespace=bindparam("namespace"),
        last_number=0,
        created_at=bindparam("now"),
        created_by=bindparam("actor"),
        updated_at=bindparam("now"),
    )
)
_NEXT_NUMBER = Statement(
    update(models)
    .where(models.c.id == bindparam("id_"))
    .values(
        last_number=models.c.last_number + 1,
        version_count=models.c.version_count + 1,
        updated_at=bindparam("now"),
        changes=models.c.changes + 1,
    )
    .returning(models.c.last_number)
)


def _model(row: Row) -> Model:
    values = dict(zip(_FIELDS, row, strict=True))
    for name in _FACTS:
        values[name] = bool(values[name])
    return Model(**values)


async def find_model(tx: Tx, folded: str) -> Model | None:
    """The living model of that folded name."""
    row = await tx.one(_BY_NAME, folded=folded)
    return None if row is None else _model(row)


async def find_model_by_id(tx: Tx, id: str) -> Model | None:
    row = await tx.one(_BY_ID, id=id)
    return None if row is None else _model(row)


async def insert_model(
    tx: Tx, id: str, name: ModelName, actor: Principal, *, namespace_id: str = DEFAULT_NAMESPACE_ID
) -> Model:
    """Make a model with the defaults of a name that was simply used."""
    model = Model(
        id=id,
        name=name.text,
        folded=name.folded,
        namespace_id=namespace_id,
        kind="model",
        visibility="private",
        created_at=tx.now,
        created_by=actor.id,
        updated_at=tx.now,
    )
    await tx.run(
        _INSERT,
        id=id,
        name=name.text,
        folded=name.folded,
        kind=model.kind,
        visibility=model.visibility,
        namespace=namespace_id,
        now=tx.now,
        actor=actor.id,
    )
    return model


async def next_number(tx: Tx, model_id: str) -> int:
    """Take the next version number of a model; a number never comes twice."""
    row = await tx.one(_NEXT_NUMBER, id_=model_id, now=tx.now)
    assert row is not None, "the model was read in this transaction"
    return int(row[0])
