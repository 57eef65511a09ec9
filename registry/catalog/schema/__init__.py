"""Tables of the catalog: models, what their versions hold, which names point at them, who did what.

They live in the store's database and change inside the store's transactions, so that a version and
the references that keep its bytes become true together.

Enumerations and lengths are checked here as well as in the domain, because a restored or
hand-edited database has not passed through the domain.

`alias_events` and `audit` only ever grow: no statement of `registry.catalog` changes a row of them,
only purging a model removes its alias events, and only retention removes entries of the log.
"""

from __future__ import annotations

from registry.catalog.schema.base import SCHEMA_NUMBER, metadata
from registry.catalog.schema.bindings import binding_statistics, bindings, observation_marks
from registry.catalog.schema.content import (
    folder_files,
    folder_uploads,
    folders,
    revisions,
    tree_files,
    trees,
)
from registry.catalog.schema.guards import guards
from registry.catalog.schema.health import health_samples
from registry.catalog.schema.identity import (
    grants,
    identity_state,
    login_failures,
    memberships,
    sessions,
    tokens,
    users,
)
from registry.catalog.schema.models import (
    model_cards,
    model_tags,
    models,
    namespaces,
    redirects,
    tags,
    teams,
)
from registry.catalog.schema.records import audit, audit_seals, downloads, idempotency_keys
from registry.catalog.schema.retention import (
    retention_days,
    retention_lines,
    retention_plans,
    retention_policies,
    retention_returns,
)
from registry.catalog.schema.runs import (
    experiments,
    run_details,
    run_points,
    run_series,
    runs,
    version_metrics,
)
from registry.catalog.schema.search import model_grams, model_words, search_documents
from registry.catalog.schema.serving import deployment_events, deployments, environments
from registry.catalog.schema.training import TRIGGERS as TRAINING_TRIGGERS
from registry.catalog.schema.trust import reviews, scores
from registry.catalog.schema.usage import namespace_usage
from registry.catalog.schema.versions import (
    alias_events,
    aliases,
    lineage,
    version_details,
    version_tags,
    versions,
)
from registry.catalog.schema.webhooks import deliveries, webhooks

__all__ = [
    "SCHEMA_NUMBER",
    "TRAINING_TRIGGERS",
    "alias_events",
    "aliases",
    "audit",
    "audit_seals",
    "binding_statistics",
    "bindings",
    "deliveries",
    "deployment_events",
    "deployments",
    "downloads",
    "environments",
    "experiments",
    "folder_files",
    "folder_uploads",
    "folders",
    "grants",
    "guards",
    "health_samples",
    "idempotency_keys",
    "identity_state",
    "lineage",
    "login_failures",
    "memberships",
    "metadata",
    "model_cards",
    "model_grams",
    "model_tags",
    "model_words",
    "models",
    "namespace_usage",
    "namespaces",
    "observation_marks",
    "redirects",
    "retention_days",
    "retention_lines",
    "retention_plans",
    "retention_policies",
    "retention_returns",
    "reviews",
    "revisions",
    "run_details",
    "run_points",
    "run_series",
    "runs",
    "scores",
    "search_documents",
    "sessions",
    "tags",
    "teams",
    "tokens",
    "tree_files",
    "trees",
    "users",
    "version_details",
    "version_metrics",
    "version_tags",
    "versions",
    "webhooks",
]
