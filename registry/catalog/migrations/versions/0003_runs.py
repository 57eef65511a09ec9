"""Training: experiments, runs with their series of metrics, and metrics of versions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "experiments",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("namespace", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("folded", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("tags", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("changes", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("deleted_at", sa.BigInteger(), nullable=True),
        sa.Column("deleted_by", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "(deleted_at IS NULL) = (deleted_by IS NULL)", name="experiment_deleted"
        ),
        sa.CheckConstraint(
            "length(description) BETWEEN 0 AND 16384", name="experiment_description"
        ),
        sa.CheckConstraint("length(name) BETWEEN 1 AND 200", name="experiment_name"),
        sa.CheckConstraint("length(tags) BETWEEN 0 AND 65536", name="experiment_tags"),
        sa.ForeignKeyConstraint(
            ["namespace"],
            ["namespaces.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "experiments_by_creation",
        "experiments",
        ["created_at", "id", "deleted_at"],
        unique=False,
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_index(
        "experiments_by_name",
        "experiments",
        ["namespace", "folded"],
        unique=True,
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_index(
        "experiments_by_namespace",
        "experiments",
        ["namespace", "deleted_at", "created_at", "id"],
        unique=False,
    )
    op.create_index(
        "experiments_deleted",
        "experiments",
        ["deleted_at", "id"],
        unique=False,
        sqlite_where=sa.text("deleted_at IS NOT NULL"),
        postgresql_where=sa.text("deleted_at IS NOT NULL"),
    )
    op.create_table(
        "runs",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("experiment", sa.Text(), nullable=True),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("version", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("dataset", sa.Text(), nullable=False),
        sa.Column("dataset_version", sa.Text(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("gpu_hours", sa.Float(), nullable=True),
        sa.Column("cost_usd", sa.Float(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("changes", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("deleted_at", sa.BigInteger(), nullable=True),
        sa.Column("deleted_by", sa.Text(), nullable=True),
        sa.CheckConstraint("(status = 'running') = (ended_at IS NULL)", name="run_ended"),
        sa.CheckConstraint(
            "status IN ('running', 'succeeded', 'failed', 'cancelled', 'timeout')",
            name="run_status",
        ),
        sa.CheckConstraint("(deleted_at IS NULL) = (deleted_by IS NULL)", name="run_deleted"),
        sa.CheckConstraint("cost_usd >= 0", name="run_cost"),
        sa.CheckConstraint("ended_at >= started_at", name="run_order"),
        sa.CheckConstraint("gpu_hours >= 0", name="run_gpu_hours"),
        sa.CheckConstraint("length(dataset) BETWEEN 0 AND 400", name="run_dataset"),
        sa.CheckConstraint("length(dataset_version) BETWEEN 0 AND 200", name="run_dataset_version"),
        sa.CheckConstraint("length(name) BETWEEN 0 AND 200", name="run_name"),
        sa.CheckConstraint("version IS NULL OR model IS NOT NULL", name="run_version"),
        sa.ForeignKeyConstraint(
            ["experiment"],
            ["experiments.id"],
        ),
        sa.ForeignKeyConstraint(
            ["model"],
            ["models.id"],
        ),
        sa.ForeignKeyConstraint(
            ["version"],
            ["versions.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sqlite_with_rowid=False,
    )
    op.create_index("runs_by_experiment", "runs", ["experiment", "started_at", "id"], unique=False)
    op.create_index(
        "runs_by_model",
        "runs",
        ["model", "started_at", "id", "cost_usd", "gpu_hours", "deleted_at"],
        unique=False,
    )
    op.create_index(
        "runs_by_start",
        "runs",
        ["started_at", "id", "cost_usd", "gpu_hours", "model", "deleted_at"],
        unique=False,
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_index(
        "runs_by_status",
        "runs",
        ["status", "started_at", "id", "deleted_at"],
        unique=False,
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_index("runs_by_version", "runs", ["version", "started_at", "id"], unique=False)
    op.create_index(
        "runs_deleted",
        "runs",
        ["deleted_at", "id"],
        unique=False,
        sqlite_where=sa.text("deleted_at IS NOT NULL"),
        postgresql_where=sa.text("deleted_at IS NOT NULL"),
    )
    op.create_table(
        "run_details",
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("hyperparameters", sa.Text(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("unmasked", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "length(description) BETWEEN 0 AND 16384", name="run_detail_description"
        ),
        sa.ForeignKeyConstraint(
            ["run"],
            ["runs.id"],
        ),
        sa.PrimaryKeyConstraint("run"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "run_series",
        sa.Column("id", sa.Integer().with_variant(sa.BigInteger(), "postgresql"), nullable=False),
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("points", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("length(key) BETWEEN 1 AND 250", name="run_series_key"),
        sa.CheckConstraint("points >= 0", name="run_series_points"),
        sa.ForeignKeyConstraint(
            ["run"],
            ["runs.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("run_series_by_run", "run_series", ["run", "key"], unique=True)
    op.create_table(
        "run_points",
        sa.Column("series", sa.BigInteger(), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("value", sa.Float(), nullable=True),
        sa.Column("special", sa.Text(), nullable=True),
        sa.CheckConstraint("special IN ('NaN', 'Infinity', '-Infinity')", name="run_point_special"),
        sa.CheckConstraint("(value IS NULL) <> (special IS NULL)", name="run_point_value"),
        sa.ForeignKeyConstraint(
            ["series"],
            ["run_series.id"],
        ),
        sa.PrimaryKeyConstraint("series", "step", "time"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "run_points_special",
        "run_points",
        ["series", "step", "time"],
        unique=False,
        sqlite_where=sa.text("special IS NOT NULL"),
        postgresql_where=sa.text("special IS NOT NULL"),
    )
    op.create_table(
        "version_metrics",
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("split", sa.Text(), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("value", sa.Float(), nullable=True),
        sa.Column("special", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "special IN ('NaN', 'Infinity', '-Infinity')", name="version_metric_special"
        ),
        sa.CheckConstraint(
            "split IN ('train', 'validation', 'test', 'production')", name="version_metric_split"
        ),
        sa.CheckConstraint("(value IS NULL) <> (special IS NULL)", name="version_metric_value"),
        sa.CheckConstraint("length(name) BETWEEN 1 AND 250", name="version_metric_name"),
        sa.ForeignKeyConstraint(
            ["version"],
            ["versions.id"],
        ),
        sa.PrimaryKeyConstraint("version", "name", "split", "time"),
        sqlite_with_rowid=False,
    )
