"""What opens a blob to others: filled in where models refer to blobs already."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.execute(
        "UPDATE refs SET realm = m.namespace, level = m.visibility "
        "FROM models AS m WHERE m.id = refs.owner"
    )
    op.create_index(
        "models_by_access",
        "models",
        ["namespace", "visibility", "deleted_at"],
        unique=False,
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
