"""What most versions say nothing of is indexed only where something is said."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"

INDEXES: Final = {
    "versions_by_label": (["model", "folded"], "folded IS NOT NULL"),
    "versions_by_standing": (
        ["model", "standing", "precedence", "number", "deleted_at"],
        "deleted_at IS NULL AND precedence IS NOT NULL",
    ),
    "versions_by_slo": (
        ["slo_met", "created_at", "id", "model", "deleted_at"],
        "deleted_at IS NULL AND slo_met IS NOT NULL",
    ),
    "versions_by_score": (
        ["eval_score", "id", "model", "deleted_at"],
        "deleted_at IS NULL AND eval_score IS NOT NULL",
    ),
    "versions_by_cost": (
        ["cost_per_1k", "id", "model", "deleted_at"],
        "deleted_at IS NULL AND cost_per_1k IS NOT NULL",
    ),
}


def upgrade() -> None:
    for name, (columns, condition) in INDEXES.items():
        op.drop_index(name, table_name="versions")
        op.create_index(
            name,
            "versions",
            columns,
            unique=name == "versions_by_label",
            sqlite_where=sa.text(condition),
            postgresql_where=sa.text(condition),
        )
