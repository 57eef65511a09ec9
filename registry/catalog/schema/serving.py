"""Tables of serving: environments, deployments with their events, and provider bindings."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
)

from registry.catalog.schema.base import (
    COUNTER,
    changed,
    deleted,
    fact,
    live_index,
    made,
    metadata,
    one_of,
    within,
)

ENVIRONMENT_TYPES: Final = ("development", "staging", "production", "sandbox")
DEPLOYMENT_STATUSES: Final = ("deploying", "healthy", "degraded", "failed", "terminated")
BINDING_STATUSES: Final = ("active", "inactive", "degraded")

environments = Table(
    "environments",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("folded", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("region", Text, nullable=False),
    Column("kubernetes_namespace", Text, nullable=False),
    Column("description", Text, nullable=False),
    # A JSON object; no secrets, only references to them.
    Column("config", Text, nullable=False),
    Column("active", Integer, nullable=False),
    *made(),
    *changed(),
    *deleted(),
    within("name", 96, "environment_name", least=1),
    one_of("type", ENVIRONMENT_TYPES, "environment_type"),
    within("region", 96, "environment_region"),
    within("kubernetes_namespace", 253, "environment_kubernetes_namespace"),
    within("description", 4096, "environment_description"),
    fact("active", "environment_active"),
    CheckConstraint("(deleted_at IS NULL) = (deleted_by IS NULL)", name="environment_deleted"),
    sqlite_with_rowid=False,
)
live_index("environments_by_name", environments.c.folded, unique=True)
live_index("environments_by_type", environments.c.type, environments.c.folded)

deployments = Table(
    "deployments",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("folded", Text, nullable=False),
    Column("environment", Text, ForeignKey("environments.id"), nullable=False),
    Column("model", Text, ForeignKey("models.id"), nullable=False),
    Column("version", Text, ForeignKey("versions.id"), nullable=False),
    # What it ran before: where a rollback goes. Indexed, because purging a version asks.
    Column("previous_version", Text, ForeignKey("versions.id")),
    Column("status", Text, nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("replicas", Integer, nullable=False),
    # Cores, bytes and whole devices of one replica; NULL: not said.
    Column("cpu", Float),
    Column("memory", BigInteger),
    Column("gpus", Integer),
    *made(),
    *changed(),
    Column("terminated_at", BigInteger),
    Column("terminated_by", Text),
    within("name", 200, "deployment_name", least=1),
    one_of("status", DEPLOYMENT_STATUSES, "deployment_status"),
    within("endpoint", 4096, "deployment_endpoint"),
    CheckConstraint("replicas BETWEEN 0 AND 100000", name="deployment_replicas"),
    CheckConstraint("cpu >= 0", name="deployment_cpu"),
    CheckConstraint("memory >= 0", name="deployment_memory"),
    CheckConstraint("gpus >= 0", name="deployment_gpus"),
    CheckConstraint(
        "(status = 'terminated') = (terminated_at IS NOT NULL)", name="deployment_terminated"
    ),
    sqlite_with_rowid=False,
)
_runs = deployments.c.terminated_at.is_(None)
Index(
    "deployments_by_name",
    deployments.c.environment,
    deployments.c.folded,
    unique=True,
    sqlite_where=_runs,
    postgresql_where=_runs,
)
Index("deployments_by_creation", deployments.c.created_at, deployments.c.id)
Index(
    "deployments_by_environment",
    deployments.c.environment,
    deployments.c.created_at,
    deployments.c.id,
)
Index("deployments_by_model", deployments.c.model, deployments.c.created_at, deployments.c.id)
Index("deployments_by_version", deployments.c.version, deployments.c.created_at, deployments.c.id)
Index("deployments_by_previous_version", deployments.c.previous_version)
Index("deployments_by_status", deployments.c.status, deployments.c.created_at, deployments.c.id)

deployment_events = Table(
    "deployment_events",
    metadata,
    Column("id", COUNTER, primary_key=True),
    Column("deployment", Text, ForeignKey("deployments.id"), nullable=False),
    # deploy, status, scale, update, rollback, terminate
    Column("action", Text, nullable=False),
    Column("from_status", Text),
    Column("to_status", Text, nullable=False),
    Column("from_version", Text),
    Column("to_version", Text, nullable=False),
    # A JSON object of what else changed.
    Column("changes", Text, nullable=False),
    Column("reason", Text, nullable=False),
    *made(),
    within("reason", 1024, "deployment_event_reason"),
    sqlite_autoincrement=True,
)
Index("deployment_events_by_deployment", deployment_events.c.deployment, deployment_events.c.id)

bindings = Table(
    "bindings",
    metadata,
    Column("id", Text, primary_key=True),
    Column("model", Text, ForeignKey("models.id"), nullable=False),
    Column("version", Text, ForeignKey("versions.id"), nullable=False),
    # As written in small letters: openai, vertex-ai, bedrock, anthropic, azure, self-hosted …
    Column("provider", Text, nullable=False),
    Column("provider_model_id", Text, nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("region", Text, nullable=False),
    Column("config", Text, nullable=False),
    Column("status", Text, nullable=False),
    # What is agreed, and what was observed, in USD for a thousand tokens.
    Column("cost_per_1k", Float),
    Column("observed_cost_per_1k", Float),
    # What was observed, in total and decayed; NULL while nothing was.
    Column("observations", BigInteger, nullable=False),
    Column("success_rate", Float),
    Column("latency_p50_ms", Float),
    Column("latency_p95_ms", Float),
    Column("latency_p99_ms", Float),
    Column("observed_at", BigInteger),
    # A histogram of latencies from which the percentiles come: a JSON array of counts.
    Column("latencies", Text, nullable=False),
    *made(),
    *changed(),
    within("provider", 96, "binding_provider", least=1),
    within("provider_model_id", 400, "binding_provider_model_id"),
    within("endpoint", 4096, "binding_endpoint"),
    within("region", 96, "binding_region"),
    one_of("status", BINDING_STATUSES, "binding_status"),
    CheckConstraint("cost_per_1k >= 0", name="binding_cost_per_1k"),
    CheckConstraint("observed_cost_per_1k >= 0", name="binding_observed_cost_per_1k"),
    CheckConstraint("observations >= 0", name="binding_observations"),
    CheckConstraint("success_rate BETWEEN 0 AND 1", name="binding_success_rate"),
    sqlite_with_rowid=False,
)
Index(
    "bindings_by_version",
    bindings.c.version,
    bindings.c.provider,
    bindings.c.provider_model_id,
    bindings.c.region,
    unique=True,
)
Index("bindings_by_model", bindings.c.model, bindings.c.id)
Index("bindings_by_provider", bindings.c.provider, bindings.c.id)
Index("bindings_by_status", bindings.c.status, bindings.c.id)
Index("bindings_by_observation", bindings.c.observed_at, bindings.c.id)
Index("bindings_by_success", bindings.c.success_rate, bindings.c.id)
