"""Webhooks with their deliveries, and samples of the registry's health."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "health_samples",
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("component", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("numbers", sa.Text(), nullable=False),
        sa.CheckConstraint("status IN ('ok', 'degraded', 'failed')", name="health_sample_status"),
        sa.PrimaryKeyConstraint("time", "component"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "health_samples_by_component", "health_samples", ["component", "time"], unique=False
    )
    op.create_table(
        "webhooks",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("namespace", sa.Text(), nullable=True),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("events", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column("secret_set_at", sa.BigInteger(), nullable=False),
        sa.Column("active", sa.Integer(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("changes", sa.BigInteger(), server_default="1", nullable=False),
        sa.CheckConstraint("active IN (0, 1)", name="webhook_active"),
        sa.CheckConstraint("length(description) BETWEEN 0 AND 4096", name="webhook_description"),
        sa.CheckConstraint("length(events) BETWEEN 2 AND 16384", name="webhook_events"),
        sa.CheckConstraint("length(url) BETWEEN 1 AND 2048", name="webhook_url"),
        sa.CheckConstraint("namespace IS NOT NULL OR active = 0", name="webhook_deleted"),
        sa.ForeignKeyConstraint(
            ["namespace"],
            ["namespaces.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sqlite_with_rowid=False,
    )
    op.create_index("webhooks_by_namespace", "webhooks", ["namespace", "id"], unique=False)
    op.create_table(
        "deliveries",
        sa.Column("webhook", sa.Text(), nullable=False),
        sa.Column("entry", sa.BigInteger(), nullable=False),
        sa.Column("model_name", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=True),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("attempted_at", sa.BigInteger(), nullable=True),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("milliseconds", sa.Float(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("response", sa.Text(), nullable=False),
        sa.CheckConstraint("(state = 'waiting') = (due_at IS NOT NULL)", name="delivery_due"),
        sa.CheckConstraint("(state = 'waiting') = (ended_at IS NULL)", name="delivery_ended"),
        sa.CheckConstraint("state IN ('waiting', 'delivered', 'failed')", name="delivery_state"),
        sa.CheckConstraint("attempts >= 0", name="delivery_attempts"),
        sa.CheckConstraint("length(error) BETWEEN 0 AND 1024", name="delivery_error"),
        sa.CheckConstraint("length(response) BETWEEN 0 AND 65536", name="delivery_response"),
        sa.ForeignKeyConstraint(
            ["webhook"],
            ["webhooks.id"],
        ),
        sa.PrimaryKeyConstraint("webhook", "entry"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "deliveries_by_state", "deliveries", ["webhook", "state", "entry"], unique=False
    )
    op.create_index(
        "deliveries_due",
        "deliveries",
        ["webhook", "due_at", "entry"],
        unique=False,
        sqlite_where=sa.text("due_at IS NOT NULL"),
        postgresql_where=sa.text("due_at IS NOT NULL"),
    )
    op.create_index(
        "deliveries_ended",
        "deliveries",
        ["ended_at"],
        unique=False,
        sqlite_where=sa.text("ended_at IS NOT NULL"),
        postgresql_where=sa.text("ended_at IS NOT NULL"),
    )
