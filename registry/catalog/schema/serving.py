"""Tables of serving: environments, and deployments with their events."""

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
    literal_column,
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
from store.index.partial import only

ENVIRONMENT_TYPES: Final = ("development", "staging", "production", "sandbox")
DEPLOYMENT_STATUSES: Final = ("deploying", "healthy", "degraded", "failed", "terminated")
DEPLOYMENT_ACTIONS: Final = ("deploy", "status", "scale", "update", "rollback", "terminate")

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
    within("kubernetes_namespace", 63, "environment_kubernetes_namespace"),
    within("description", 4096, "environment_description"),
    within("config", 65536, "environment_config"),
    fact("active", "environment_active"),
    CheckConstraint("(deleted_at IS NULL) = (deleted_by IS NULL)", name="environment_deleted"),
    sqlite_with_rowid=False,
)
live_index("environments_by_name", environments.c.folded, unique=True)
live_index("environments_by_type", environments.c.type, environments.c.folded)
Index(
    "environments_deleted",
    environments.c.deleted_at,
    environments.c.id,
    **only(environments.c.deleted_at.is_not(None)),
)

deployments = Table(
    "deployments",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("folded", Text, nullable=False),
    Column("environment", Text, ForeignKey("environments.id"), nullable=False),
    Column("model", Text, ForeignKey("models.id"), nullable=False),
    Column("version", Text, ForeignKey("versions.id"), nullable=False),
    # Where a rollback goes, as the events say; indexed, because purging a version asks.
    Column("previous_version", Text, ForeignKey("versions.id")),
    Column("status", Text, nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("replicas", Integer, nullable=False),
    # Cores, bytes and whole devices of one replica; NULL: not said.
    Column("cpu", Float),
    Column("memory", BigInteger),
    Column("gpus", Integer),
    # When its version came, and by whom.
    Column("deployed_at", BigInteger, nullable=False),
    Column("deployed_by", Text, nullable=False),
    *made(),
    *changed(),
    Column("terminated_at", BigInteger),
    Column("terminated_by", Text),
    within("name", 200, "deployment_name", least=1),
    one_of("status", DEPLOYMENT_STATUSES, "deployment_status"),
    within("endpoint", 4096, "deployment_endpoint"),
    CheckConstraint("replicas BETWEEN 0 AND 100000", name="deployment_replicas"),
    CheckConstraint("cpu BETWEEN 0 AND 100000", name="deployment_cpu"),
    CheckConstraint("memory BETWEEN 0 AND 1125899906842624", name="deployment_memory"),
    CheckConstraint("gpus BETWEEN 0 AND 10000", name="deployment_gpus"),
    CheckConstraint(
        "(status = 'terminated') = (terminated_at IS NOT NULL)", name="deployment_terminated"
    ),
    CheckConstraint(
        "(terminated_at IS NULL) = (terminated_by IS NULL)", name="deployment_terminator"
    ),
    sqlite_with_rowid=False,
)
_runs = deployments.c.terminated_at.is_(None)
Index(
    "deployments_by_name",
    deployments.c.environment,
    deployments.c.folded,
    unique=True,
    **only(_runs),
)
# Every list is newest first, along the filter that leaves the fewest. What runs is listed without
# passing by what is terminated, of which there may be many more: NULL is a value to search for.
# Partial indexes would do as well, but SQLite takes them or the whole ones as it pleases. The model
# says who may see a deployment.
Index(
    "deployments_running",
    deployments.c.terminated_at,
    deployments.c.created_at,
    deployments.c.id,
    deployments.c.model,
)
for _column in (deployments.c.environment, deployments.c.model, deployments.c.version):
    Index(
        f"deployments_running_by_{_column.name}",
        _column,
        deployments.c.terminated_at,
        deployments.c.created_at,
        deployments.c.id,
    )
Index(
    "deployments_by_creation",
    deployments.c.created_at,
    deployments.c.id,
    deployments.c.model,
)
Index(
    "deployments_named",
    deployments.c.folded,
    deployments.c.created_at,
    deployments.c.id,
    deployments.c.model,
)
Index(
    "deployments_by_environment",
    deployments.c.environment,
    deployments.c.created_at,
    deployments.c.id,
    deployments.c.status,
    deployments.c.model,
)
# How many stand where, counted in the order of their groups.
Index(
    "deployments_standing",
    deployments.c.environment,
    deployments.c.status,
    deployments.c.model,
)
Index("deployments_by_model", deployments.c.model, deployments.c.created_at, deployments.c.id)
Index("deployments_by_version", deployments.c.version, deployments.c.created_at, deployments.c.id)
Index("deployments_by_previous_version", deployments.c.previous_version)
Index(
    "deployments_by_status",
    deployments.c.status,
    deployments.c.created_at,
    deployments.c.id,
    deployments.c.model,
)

deployment_events = Table(
    "deployment_events",
    metadata,
    Column("id", COUNTER, primary_key=True),
    Column("deployment", Text, ForeignKey("deployments.id"), nullable=False),
    Column("action", Text, nullable=False),
    # As it stood before and after; NULL before its first event. Versions are no foreign keys: they
    # are of the deployment's model, and go with it.
    Column("from_status", Text),
    Column("to_status", Text, nullable=False),
    Column("from_version", Text),
    Column("to_version", Text, nullable=False),
    # Of a rollback: the event whose version came back.
    Column("restored", BigInteger),
    # A JSON object of what else changed.
    Column("changes", Text, nullable=False),
    Column("reason", Text, nullable=False),
    *made(),
    one_of("action", DEPLOYMENT_ACTIONS, "deployment_event_action"),
    one_of("from_status", DEPLOYMENT_STATUSES, "deployment_event_from_status"),
    one_of("to_status", DEPLOYMENT_STATUSES, "deployment_event_to_status"),
    CheckConstraint(
        "(from_status IS NULL) = (from_version IS NULL)", name="deployment_event_first"
    ),
    CheckConstraint(
        "(restored IS NOT NULL) = (action = 'rollback')", name="deployment_event_restored"
    ),
    within("reason", 1024, "deployment_event_reason"),
    sqlite_autoincrement=True,
)
_brings_version = deployment_events.c.action.in_(
    (literal_column("'deploy'"), literal_column("'rollback'"))
)
Index("deployment_events_by_deployment", deployment_events.c.deployment, deployment_events.c.id)
# What it ran, in order: statuses that flap are many more.
Index(
    "deployment_events_of_versions",
    deployment_events.c.deployment,
    deployment_events.c.id,
    **only(_brings_version),
)
