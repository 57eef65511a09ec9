"""Judgement: scores of versions, and reviews."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "reviews",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("reviewer", sa.Text(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("comment", sa.Text(), nullable=False),
        sa.Column("counts", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("changes", sa.BigInteger(), server_default="1", nullable=False),
        sa.CheckConstraint("verdict IN ('approve', 'reject', 'comment')", name="review_verdict"),
        sa.CheckConstraint("counts IN (0, 1)", name="review_counts"),
        sa.CheckConstraint("length(comment) BETWEEN 0 AND 16384", name="review_comment"),
        sa.ForeignKeyConstraint(
            ["version"],
            ["versions.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sqlite_with_rowid=False,
    )
    op.create_index("reviews_by_version", "reviews", ["version", "created_at", "id"], unique=False)
    op.create_table(
        "scores",
        sa.Column("id", sa.Integer().with_variant(sa.BigInteger(), "postgresql"), nullable=False),
        sa.Column("rating", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("value", sa.Float(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("evidence", sa.Text(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.CheckConstraint("(value IS NULL) = (reason <> '')", name="score_reason"),
        sa.CheckConstraint("length(evidence) BETWEEN 2 AND 65536", name="score_evidence"),
        sa.CheckConstraint("length(metric) BETWEEN 1 AND 40", name="score_metric"),
        sa.CheckConstraint("length(reason) BETWEEN 0 AND 400", name="score_reason_length"),
        sa.CheckConstraint("seconds >= 0", name="score_seconds"),
        sa.CheckConstraint("value BETWEEN 0 AND 1", name="score_value"),
        sa.ForeignKeyConstraint(
            ["version"],
            ["versions.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("scores_by_metric", "scores", ["version", "metric", "id"], unique=False)
    op.create_index("scores_by_version", "scores", ["version", "id"], unique=False)
