"""Serving: environments, deployments with their events, and provider bindings."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "environments",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("folded", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("region", sa.Text(), nullable=False),
        sa.Column("kubernetes_namespace", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("config", sa.Text(), nullable=False),
        sa.Column("active", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("changes", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("deleted_at", sa.BigInteger(), nullable=True),
        sa.Column("deleted_by", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "type IN ('development', 'staging', 'production', 'sandbox')", name="environment_type"
        ),
        sa.CheckConstraint(
            "(deleted_at IS NULL) = (deleted_by IS NULL)", name="environment_deleted"
        ),
        sa.CheckConstraint("active IN (0, 1)", name="environment_active"),
        sa.CheckConstraint("length(config) BETWEEN 0 AND 65536", name="environment_config"),
        sa.CheckConstraint(
            "length(description) BETWEEN 0 AND 4096", name="environment_description"
        ),
        sa.CheckConstraint(
            "length(kubernetes_namespace) BETWEEN 0 AND 63", name="environment_kubernetes_namespace"
        ),
        sa.CheckConstraint("length(name) BETWEEN 1 AND 96", name="environment_name"),
        sa.CheckConstraint("length(region) BETWEEN 0 AND 96", name="environment_region"),
        sa.PrimaryKeyConstraint("id"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "environments_by_name",
        "environments",
        ["folded"],
        unique=True,
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_index(
        "environments_by_type",
        "environments",
        ["type", "folded", "deleted_at"],
        unique=False,
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_index(
        "environments_deleted",
        "environments",
        ["deleted_at", "id"],
        unique=False,
        sqlite_where=sa.text("deleted_at IS NOT NULL"),
        postgresql_where=sa.text("deleted_at IS NOT NULL"),
    )
    op.create_table(
        "observation_marks",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("last", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("name = 'bindings'", name="observation_mark_name"),
        sa.CheckConstraint("last > 0", name="observation_mark_last"),
        sa.PrimaryKeyConstraint("name"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "bindings",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("provider_model_id", sa.Text(), nullable=False),
        sa.Column("region", sa.Text(), nullable=False),
        sa.Column("endpoint", sa.Text(), nullable=False),
        sa.Column("config", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("cost_per_1k", sa.Float(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("changes", sa.BigInteger(), server_default="1", nullable=False),
        sa.CheckConstraint("status IN ('active', 'inactive', 'degraded')", name="binding_status"),
        sa.CheckConstraint("changes > 0", name="binding_changes"),
        sa.CheckConstraint("cost_per_1k >= 0", name="binding_cost_per_1k"),
        sa.CheckConstraint("length(endpoint) BETWEEN 0 AND 4096", name="binding_endpoint"),
        sa.CheckConstraint("length(provider) BETWEEN 1 AND 96", name="binding_provider"),
        sa.CheckConstraint(
            "length(provider_model_id) BETWEEN 0 AND 400", name="binding_provider_model_id"
        ),
        sa.CheckConstraint("length(region) BETWEEN 0 AND 96", name="binding_region"),
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
    op.create_index("bindings_by_model", "bindings", ["model", "id"], unique=False)
    op.create_index("bindings_by_provider", "bindings", ["provider", "id"], unique=False)
    op.create_index("bindings_by_region", "bindings", ["region", "id"], unique=False)
    op.create_index("bindings_by_status", "bindings", ["status", "id"], unique=False)
    op.create_index(
        "bindings_by_version",
        "bindings",
        ["version", "provider", "provider_model_id", "region"],
        unique=True,
    )
    op.create_table(
        "deployments",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("folded", sa.Text(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("previous_version", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("endpoint", sa.Text(), nullable=False),
        sa.Column("replicas", sa.Integer(), nullable=False),
        sa.Column("cpu", sa.Float(), nullable=True),
        sa.Column("memory", sa.BigInteger(), nullable=True),
        sa.Column("gpus", sa.Integer(), nullable=True),
        sa.Column("deployed_at", sa.BigInteger(), nullable=False),
        sa.Column("deployed_by", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("changes", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("terminated_at", sa.BigInteger(), nullable=True),
        sa.Column("terminated_by", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "(status = 'terminated') = (terminated_at IS NOT NULL)", name="deployment_terminated"
        ),
        sa.CheckConstraint(
            "status IN ('deploying', 'healthy', 'degraded', 'failed', 'terminated')",
            name="deployment_status",
        ),
        sa.CheckConstraint(
            "(terminated_at IS NULL) = (terminated_by IS NULL)", name="deployment_terminator"
        ),
        sa.CheckConstraint("cpu BETWEEN 0 AND 100000", name="deployment_cpu"),
        sa.CheckConstraint("gpus BETWEEN 0 AND 10000", name="deployment_gpus"),
        sa.CheckConstraint("length(endpoint) BETWEEN 0 AND 4096", name="deployment_endpoint"),
        sa.CheckConstraint("length(name) BETWEEN 1 AND 200", name="deployment_name"),
        sa.CheckConstraint("memory BETWEEN 0 AND 1125899906842624", name="deployment_memory"),
        sa.CheckConstraint("replicas BETWEEN 0 AND 100000", name="deployment_replicas"),
        sa.ForeignKeyConstraint(
            ["environment"],
            ["environments.id"],
        ),
        sa.ForeignKeyConstraint(
            ["model"],
            ["models.id"],
        ),
        sa.ForeignKeyConstraint(
            ["previous_version"],
            ["versions.id"],
        ),
        sa.ForeignKeyConstraint(
            ["version"],
            ["versions.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "deployments_by_creation", "deployments", ["created_at", "id", "model"], unique=False
    )
    op.create_index(
        "deployments_by_environment",
        "deployments",
        ["environment", "created_at", "id", "status", "model"],
        unique=False,
    )
    op.create_index(
        "deployments_by_model", "deployments", ["model", "created_at", "id"], unique=False
    )
    op.create_index(
        "deployments_by_name",
        "deployments",
        ["environment", "folded"],
        unique=True,
        sqlite_where=sa.text("terminated_at IS NULL"),
        postgresql_where=sa.text("terminated_at IS NULL"),
    )
    op.create_index(
        "deployments_by_previous_version", "deployments", ["previous_version"], unique=False
    )
    op.create_index(
        "deployments_by_status",
        "deployments",
        ["status", "created_at", "id", "model"],
        unique=False,
    )
    op.create_index(
        "deployments_by_version", "deployments", ["version", "created_at", "id"], unique=False
    )
    op.create_index(
        "deployments_named", "deployments", ["folded", "created_at", "id", "model"], unique=False
    )
    op.create_index(
        "deployments_running",
        "deployments",
        ["terminated_at", "created_at", "id", "model"],
        unique=False,
    )
    op.create_index(
        "deployments_running_by_environment",
        "deployments",
        ["environment", "terminated_at", "created_at", "id"],
        unique=False,
    )
    op.create_index(
        "deployments_running_by_model",
        "deployments",
        ["model", "terminated_at", "created_at", "id"],
        unique=False,
    )
    op.create_index(
        "deployments_running_by_version",
        "deployments",
        ["version", "terminated_at", "created_at", "id"],
        unique=False,
    )
    op.create_index(
        "deployments_standing", "deployments", ["environment", "status", "model"], unique=False
    )
    op.create_table(
        "binding_statistics",
        sa.Column("binding", sa.Text(), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("failures", sa.BigInteger(), nullable=False),
        sa.Column("weight", sa.Float(), nullable=False),
        sa.Column("successes", sa.Float(), nullable=False),
        sa.Column("tokens", sa.Float(), nullable=False),
        sa.Column("cost_usd", sa.Float(), nullable=False),
        sa.Column("latencies", sa.Text(), nullable=False),
        sa.Column("success_rate", sa.Float(), nullable=False),
        sa.Column("latency_p50_ms", sa.Float(), nullable=True),
        sa.Column("latency_p95_ms", sa.Float(), nullable=True),
        sa.Column("latency_p99_ms", sa.Float(), nullable=True),
        sa.Column("cost_per_1k", sa.Float(), nullable=True),
        sa.Column("observed_at", sa.BigInteger(), nullable=False),
        sa.Column("mark", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("cost_per_1k >= 0", name="binding_statistic_cost_per_1k"),
        sa.CheckConstraint("cost_usd >= 0", name="binding_statistic_cost_usd"),
        sa.CheckConstraint("failures BETWEEN 0 AND requests", name="binding_statistic_failures"),
        sa.CheckConstraint("latency_p50_ms >= 0", name="binding_statistic_latency_p50_ms"),
        sa.CheckConstraint(
            "latency_p95_ms >= latency_p50_ms", name="binding_statistic_latency_p95_ms"
        ),
        sa.CheckConstraint(
            "latency_p99_ms >= latency_p95_ms", name="binding_statistic_latency_p99_ms"
        ),
        sa.CheckConstraint("requests > 0", name="binding_statistic_requests"),
        sa.CheckConstraint("success_rate BETWEEN 0 AND 1", name="binding_statistic_success_rate"),
        sa.CheckConstraint("successes >= 0", name="binding_statistic_successes"),
        sa.CheckConstraint("tokens >= 0", name="binding_statistic_tokens"),
        sa.CheckConstraint("weight > 0", name="binding_statistic_weight"),
        sa.ForeignKeyConstraint(
            ["binding"],
            ["bindings.id"],
        ),
        sa.PrimaryKeyConstraint("binding"),
        sqlite_with_rowid=False,
    )
    op.create_index("binding_statistics_by_mark", "binding_statistics", ["mark"], unique=False)
    op.create_table(
        "deployment_events",
        sa.Column("id", sa.Integer().with_variant(sa.BigInteger(), "postgresql"), nullable=False),
        sa.Column("deployment", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("from_status", sa.Text(), nullable=True),
        sa.Column("to_status", sa.Text(), nullable=False),
        sa.Column("from_version", sa.Text(), nullable=True),
        sa.Column("to_version", sa.Text(), nullable=False),
        sa.Column("restored", sa.BigInteger(), nullable=True),
        sa.Column("changes", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "(restored IS NOT NULL) = (action = 'rollback')", name="deployment_event_restored"
        ),
        sa.CheckConstraint(
            "action IN ('deploy', 'status', 'scale', 'update', 'rollback', 'terminate')",
            name="deployment_event_action",
        ),
        sa.CheckConstraint(
            "from_status IN ('deploying', 'healthy', 'degraded', 'failed', 'terminated')",
            name="deployment_event_from_status",
        ),
        sa.CheckConstraint(
            "to_status IN ('deploying', 'healthy', 'degraded', 'failed', 'terminated')",
            name="deployment_event_to_status",
        ),
        sa.CheckConstraint(
            "(from_status IS NULL) = (from_version IS NULL)", name="deployment_event_first"
        ),
        sa.CheckConstraint("length(reason) BETWEEN 0 AND 1024", name="deployment_event_reason"),
        sa.ForeignKeyConstraint(
            ["deployment"],
            ["deployments.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "deployment_events_by_deployment", "deployment_events", ["deployment", "id"], unique=False
    )
    op.create_index(
        "deployment_events_of_versions",
        "deployment_events",
        ["deployment", "id"],
        unique=False,
        sqlite_where=sa.text("action IN ('deploy', 'rollback')"),
        postgresql_where=sa.text("action IN ('deploy', 'rollback')"),
    )
