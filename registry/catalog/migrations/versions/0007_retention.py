"""Retention: policies, plans, what became of versions; `latest` is chosen without retired ones."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "retention_days",
        sa.Column("day", sa.BigInteger(), nullable=False),
        sa.Column("retired", sa.BigInteger(), nullable=False),
        sa.Column("retired_bytes", sa.BigInteger(), nullable=False),
        sa.Column("returned", sa.BigInteger(), nullable=False),
        sa.Column("purged", sa.BigInteger(), nullable=False),
        sa.Column("purged_bytes", sa.BigInteger(), nullable=False),
        sa.Column("freed_bytes", sa.BigInteger(), nullable=False),
        sa.Column("skipped", sa.BigInteger(), nullable=False),
        sa.Column("refused", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("day"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "retention_plans",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=True),
        sa.Column("target_name", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("is_scheduled", sa.Integer(), nullable=False),
        sa.Column("is_complete", sa.Integer(), nullable=False),
        sa.Column("models", sa.BigInteger(), nullable=False),
        sa.Column("models_failed", sa.BigInteger(), nullable=False),
        sa.Column("keep", sa.BigInteger(), nullable=False),
        sa.Column("retire", sa.BigInteger(), nullable=False),
        sa.Column("purge", sa.BigInteger(), nullable=False),
        sa.Column("frees", sa.BigInteger(), nullable=False),
        sa.Column("frees_exactly", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("applied_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("(scope = 'registry') = (target IS NULL)", name="retention_plan_target"),
        sa.CheckConstraint(
            "scope IN ('registry', 'namespace', 'model')", name="retention_plan_scope"
        ),
        sa.CheckConstraint(
            "state IN ('making', 'ready', 'applying', 'applied')", name="retention_plan_state"
        ),
        sa.CheckConstraint("frees_exactly IN (0, 1)", name="retention_plan_frees_exactly"),
        sa.CheckConstraint("is_complete IN (0, 1)", name="retention_plan_complete"),
        sa.CheckConstraint("is_scheduled IN (0, 1)", name="retention_plan_scheduled"),
        sa.CheckConstraint(
            "length(target_name) BETWEEN 0 AND 200", name="retention_plan_target_name"
        ),
        sa.PrimaryKeyConstraint("id"),
        sqlite_with_rowid=False,
    )
    op.create_index("retention_plans_by_state", "retention_plans", ["state", "id"], unique=False)
    op.create_table(
        "retention_lines",
        sa.Column("plan", sa.Text(), nullable=False),
        sa.Column("line", sa.BigInteger(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("model_name", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("label", sa.Text(), nullable=True),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("rules", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("frees", sa.BigInteger(), nullable=False),
        sa.Column("frees_exactly", sa.Integer(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("action IN ('keep', 'retire', 'purge')", name="retention_line_action"),
        sa.CheckConstraint(
            "outcome IN ('retired', 'purged', 'skipped', 'refused', 'failed')",
            name="retention_line_outcome",
        ),
        sa.CheckConstraint("outcome IS NULL OR action <> 'keep'", name="retention_line_kept"),
        sa.CheckConstraint("(outcome IS NULL) = (ended_at IS NULL)", name="retention_line_ended"),
        sa.CheckConstraint("frees_exactly IN (0, 1)", name="retention_line_frees_exactly"),
        sa.CheckConstraint("length(reason) BETWEEN 0 AND 4096", name="retention_line_reason"),
        sa.ForeignKeyConstraint(
            ["plan"],
            ["retention_plans.id"],
        ),
        sa.PrimaryKeyConstraint("plan", "line"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "retention_lines_by_action", "retention_lines", ["plan", "action", "line"], unique=False
    )
    op.create_index(
        "retention_lines_by_outcome", "retention_lines", ["plan", "outcome", "line"], unique=False
    )
    op.create_index(
        "retention_lines_waiting",
        "retention_lines",
        ["plan", "line"],
        unique=False,
        sqlite_where=sa.text("action != 'keep' AND outcome IS NULL"),
        postgresql_where=sa.text("action != 'keep' AND outcome IS NULL"),
    )
    op.create_table(
        "retention_policies",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("namespace", sa.Text(), nullable=True),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("active", sa.Integer(), nullable=False),
        sa.Column("keep_last", sa.Integer(), nullable=False),
        sa.Column("retire_after_days", sa.Integer(), nullable=False),
        sa.Column("purge_after_days", sa.Integer(), nullable=True),
        sa.Column("protect_descendants", sa.Integer(), nullable=False),
        sa.Column("protect_releases", sa.Integer(), nullable=False),
        sa.Column("protect_statuses", sa.Text(), nullable=False),
        sa.Column("protect_tags", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("changes", sa.BigInteger(), server_default="1", nullable=False),
        sa.CheckConstraint(
            "(scope = 'model') = (model IS NOT NULL)", name="retention_policy_model"
        ),
        sa.CheckConstraint(
            "(scope = 'namespace') = (namespace IS NOT NULL)", name="retention_policy_namespace"
        ),
        sa.CheckConstraint(
            "scope IN ('registry', 'namespace', 'model')", name="retention_policy_scope"
        ),
        sa.CheckConstraint("active IN (0, 1)", name="retention_policy_active"),
        sa.CheckConstraint("keep_last BETWEEN 1 AND 10", name="retention_policy_keep_last"),
        sa.CheckConstraint(
            "length(description) BETWEEN 0 AND 4096", name="retention_policy_description"
        ),
        sa.CheckConstraint(
            "length(protect_statuses) BETWEEN 2 AND 1024", name="retention_policy_statuses"
        ),
        sa.CheckConstraint(
            "length(protect_tags) BETWEEN 2 AND 65536", name="retention_policy_tags"
        ),
        sa.CheckConstraint("protect_descendants IN (0, 1)", name="retention_policy_descendants"),
        sa.CheckConstraint("protect_releases IN (0, 1)", name="retention_policy_releases"),
        sa.CheckConstraint("purge_after_days BETWEEN 1 AND 36500", name="retention_policy_purge"),
        sa.CheckConstraint("retire_after_days BETWEEN 0 AND 36500", name="retention_policy_retire"),
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
    op.create_index("retention_policies_by_model", "retention_policies", ["model"], unique=True)
    op.create_index(
        "retention_policies_by_namespace", "retention_policies", ["namespace"], unique=True
    )
    op.create_index(
        "retention_policies_of_registry",
        "retention_policies",
        ["scope"],
        unique=True,
        sqlite_where=sa.text("scope = 'registry'"),
        postgresql_where=sa.text("scope = 'registry'"),
    )
    op.create_table(
        "retention_returns",
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("returned_at", sa.BigInteger(), nullable=False),
        sa.Column("returned_by", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["version"],
            ["versions.id"],
        ),
        sa.PrimaryKeyConstraint("version"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "versions_by_newness",
        "versions",
        ["model", "standing", "number"],
        unique=False,
        sqlite_where=sa.text("deleted_at IS NULL AND retired_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL AND retired_at IS NULL"),
    )
