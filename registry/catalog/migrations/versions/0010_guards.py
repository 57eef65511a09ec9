"""Promotion guards."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.create_table(
        "guards",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("namespace", sa.Text(), nullable=True),
        sa.Column("aliases", sa.Text(), nullable=False),
        sa.Column("statuses", sa.Text(), nullable=False),
        sa.Column("rules", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("active", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("changes", sa.BigInteger(), server_default="1", nullable=False),
        sa.CheckConstraint("(model IS NULL) <> (namespace IS NULL)", name="guard_covers"),
        sa.CheckConstraint("active IN (0, 1)", name="guard_active"),
        sa.CheckConstraint("length(aliases) BETWEEN 2 AND 16384", name="guard_aliases"),
        sa.CheckConstraint("length(description) BETWEEN 0 AND 4096", name="guard_description"),
        sa.CheckConstraint("length(rules) BETWEEN 2 AND 65536", name="guard_rules"),
        sa.CheckConstraint("length(statuses) BETWEEN 2 AND 1024", name="guard_statuses"),
        sa.ForeignKeyConstraint(
            ["model"],
            ["models.id"],
        ),
        sa.ForeignKeyConstraint(
            ["namespace"],
            ["namespaces.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sqlite_with_rowid=False,
    )
    op.create_index("guards_by_model", "guards", ["model", "id"], unique=False)
    op.create_index("guards_by_namespace", "guards", ["namespace", "id"], unique=False)
