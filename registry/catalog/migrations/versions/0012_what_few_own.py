"""What few own: indexes that lead readers who see little; secrets of webhooks that still sign."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.create_index(
        "runs_by_owner",
        "runs",
        ["owner", "started_at", "id", "cost_usd", "gpu_hours", "model", "deleted_at"],
        unique=False,
    )
    op.drop_index("models_by_visibility", table_name="models")
    op.create_index(
        "models_by_visibility", "models", ["visibility", "deleted_at", "folded"], unique=False
    )
    op.create_index(
        "namespaces_by_visibility", "namespaces", ["visibility", "folded"], unique=False
    )
    op.create_index(
        "tags_described",
        "tags",
        ["folded"],
        unique=False,
        sqlite_where=sa.text("description != ''"),
        postgresql_where=sa.text("description != ''"),
    )
    op.execute("ALTER TABLE webhooks ADD COLUMN former_secret BLOB")
    op.execute("ALTER TABLE webhooks ADD COLUMN former_until BIGINT")
    op.create_index(
        "versions_by_retirement",
        "versions",
        ["created_at", "id", "model", "deleted_at", "retired_at"],
        unique=False,
        sqlite_where=sa.text("deleted_at IS NULL AND retired_at IS NOT NULL"),
        postgresql_where=sa.text("deleted_at IS NULL AND retired_at IS NOT NULL"),
    )
