"""Tables of retention: policies, plans with their lines, and what became of versions by the day.

A plan and its lines name models and versions without foreign keys: they tell what was to be done,
and outlive what they speak of.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
    literal_column,
)

from registry.catalog.schema.base import changed, fact, made, metadata, one_of, within
from store.index.partial import only

RETENTION_SCOPES: Final = ("registry", "namespace", "model")
RETENTION_ACTIONS: Final = ("keep", "retire", "purge")
RETENTION_PLAN_STATES: Final = ("making", "ready", "applying", "applied")
RETENTION_OUTCOMES: Final = ("retired", "purged", "skipped", "refused", "failed")

retention_policies = Table(
    "retention_policies",
    metadata,
    Column("id", Text, primary_key=True),
    Column("scope", Text, nullable=False),
    Column("namespace", Text, ForeignKey("namespaces.id")),
    Column("model", Text, ForeignKey("models.id")),
    Column("active", Integer, nullable=False),
    Column("keep_last", Integer, nullable=False),
    Column("retire_after_days", Integer, nullable=False),
    # NULL: never.
    Column("purge_after_days", Integer),
    Column("protect_descendants", Integer, nullable=False),
    Column("protect_releases", Integer, nullable=False),
    # JSON arrays: statuses, and tags as `key` or `key=value`.
    Column("protect_statuses", Text, nullable=False),
    Column("protect_tags", Text, nullable=False),
    Column("description", Text, nullable=False),
    *made(),
    *changed(),
    one_of("scope", RETENTION_SCOPES, "retention_policy_scope"),
    CheckConstraint(
        "(scope = 'namespace') = (namespace IS NOT NULL)", name="retention_policy_namespace"
    ),
    CheckConstraint("(scope = 'model') = (model IS NOT NULL)", name="retention_policy_model"),
    fact("active", "retention_policy_active"),
    CheckConstraint("keep_last BETWEEN 1 AND 10", name="retention_policy_keep_last"),
    CheckConstraint("retire_after_days BETWEEN 0 AND 36500", name="retention_policy_retire"),
    CheckConstraint("purge_after_days BETWEEN 1 AND 36500", name="retention_policy_purge"),
    fact("protect_descendants", "retention_policy_descendants"),
    fact("protect_releases", "retention_policy_releases"),
    within("protect_statuses", 1024, "retention_policy_statuses", least=2),
    within("protect_tags", 65536, "retention_policy_tags", least=2),
    within("description", 4096, "retention_policy_description"),
    sqlite_with_rowid=False,
)
# NULLs do not equal each other, so each of these allows one policy a place.
Index("retention_policies_by_model", retention_policies.c.model, unique=True)
Index("retention_policies_by_namespace", retention_policies.c.namespace, unique=True)
_of_registry = retention_policies.c.scope == literal_column("'registry'")
Index(
    "retention_policies_of_registry",
    retention_policies.c.scope,
    unique=True,
    **only(_of_registry),
)

retention_plans = Table(
    "retention_plans",
    metadata,
    Column("id", Text, primary_key=True),
    Column("scope", Text, nullable=False),
    # The namespace or the model by its id; NULL for all.
    Column("target", Text),
    # What that was called then; empty for all.
    Column("target_name", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("is_scheduled", Integer, nullable=False),
    # 0: there was more than one plan holds.
    Column("is_complete", Integer, nullable=False),
    Column("models", BigInteger, nullable=False),
    Column("models_failed", BigInteger, nullable=False),
    # Versions that were looked at, and what was found of them.
    Column("keep", BigInteger, nullable=False),
    Column("retire", BigInteger, nullable=False),
    Column("purge", BigInteger, nullable=False),
    # What would become free in all, and whether that is exact or at most so much.
    Column("frees", BigInteger, nullable=False),
    Column("frees_exactly", Integer, nullable=False),
    *made(),
    Column("applied_at", BigInteger),
    one_of("scope", RETENTION_SCOPES, "retention_plan_scope"),
    CheckConstraint("(scope = 'registry') = (target IS NULL)", name="retention_plan_target"),
    within("target_name", 200, "retention_plan_target_name"),
    one_of("state", RETENTION_PLAN_STATES, "retention_plan_state"),
    fact("is_scheduled", "retention_plan_scheduled"),
    fact("is_complete", "retention_plan_complete"),
    fact("frees_exactly", "retention_plan_frees_exactly"),
    sqlite_with_rowid=False,
)
Index("retention_plans_by_state", retention_plans.c.state, retention_plans.c.id)

retention_lines = Table(
    "retention_lines",
    metadata,
    Column("plan", Text, ForeignKey("retention_plans.id"), primary_key=True),
    Column("line", BigInteger, primary_key=True),
    Column("model", Text, nullable=False),
    Column("model_name", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("label", Text),
    Column("action", Text, nullable=False),
    # The rules that say so, a JSON array; the first one decides.
    Column("rules", Text, nullable=False),
    # What the files are, and what would become free if this version alone went.
    Column("size", BigInteger, nullable=False),
    Column("frees", BigInteger, nullable=False),
    Column("frees_exactly", Integer, nullable=False),
    # NULL: nothing was tried yet, or nothing is to be done.
    Column("outcome", Text),
    # Why not: rules as above, or the words of a guard.
    Column("reason", Text, nullable=False),
    Column("ended_at", BigInteger),
    one_of("action", RETENTION_ACTIONS, "retention_line_action"),
    one_of("outcome", RETENTION_OUTCOMES, "retention_line_outcome"),
    fact("frees_exactly", "retention_line_frees_exactly"),
    CheckConstraint("outcome IS NULL OR action <> 'keep'", name="retention_line_kept"),
    CheckConstraint("(outcome IS NULL) = (ended_at IS NULL)", name="retention_line_ended"),
    within("reason", 4096, "retention_line_reason"),
    sqlite_with_rowid=False,
)
Index(
    "retention_lines_by_action",
    retention_lines.c.plan,
    retention_lines.c.action,
    retention_lines.c.line,
)
Index(
    "retention_lines_by_outcome",
    retention_lines.c.plan,
    retention_lines.c.outcome,
    retention_lines.c.line,
)
# What is to be done, and what a crash left half swept.
_waits = (retention_lines.c.action != literal_column("'keep'")) & retention_lines.c.outcome.is_(
    None
)
Index(
    "retention_lines_waiting",
    retention_lines.c.plan,
    retention_lines.c.line,
    **only(_waits),
)

retention_days = Table(
    "retention_days",
    metadata,
    # Days since the epoch in UTC.
    Column("day", BigInteger, primary_key=True),
    Column("retired", BigInteger, nullable=False),
    Column("retired_bytes", BigInteger, nullable=False),
    Column("returned", BigInteger, nullable=False),
    Column("purged", BigInteger, nullable=False),
    Column("purged_bytes", BigInteger, nullable=False),
    # Of what was purged: bytes that nobody else referred to.
    Column("freed_bytes", BigInteger, nullable=False),
    Column("skipped", BigInteger, nullable=False),
    Column("refused", BigInteger, nullable=False),
    # Versions whose last bytes went to the cold tier, and those that came back from it.
    Column("archived", BigInteger, nullable=False, server_default="0"),
    Column("archived_bytes", BigInteger, nullable=False, server_default="0"),
    Column("thawed", BigInteger, nullable=False, server_default="0"),
    sqlite_with_rowid=False,
)

retention_returns = Table(
    "retention_returns",
    metadata,
    # When a retired version was brought back: its age counts from then.
    Column("version", Text, ForeignKey("versions.id"), primary_key=True),
    Column("returned_at", BigInteger, nullable=False),
    Column("returned_by", Text, nullable=False),
    sqlite_with_rowid=False,
)
