"""Tables of provider bindings: who serves a version where, and what was observed of that.

What is observed changes with every report and has a table of its own: a report rewrites a few
hundred bytes, never a configuration, and does not count as a change of the binding.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, CheckConstraint, Column, Float, ForeignKey, Index, Table, Text

from registry.catalog.schema.base import changed, made, metadata, one_of, within

BINDING_STATUSES: Final = ("active", "inactive", "degraded")

bindings = Table(
    "bindings",
    metadata,
    Column("id", Text, primary_key=True),
    Column("model", Text, ForeignKey("models.id"), nullable=False),
    Column("version", Text, ForeignKey("versions.id"), nullable=False),
    # In small letters: openai, vertex-ai, bedrock, anthropic, azure, self-hosted …
    Column("provider", Text, nullable=False),
    Column("provider_model_id", Text, nullable=False),
    Column("region", Text, nullable=False),
    # Empty: the provider's own.
    Column("endpoint", Text, nullable=False),
    # A JSON object; no secrets, only references to them.
    Column("config", Text, nullable=False),
    Column("status", Text, nullable=False),
    # What is agreed, in USD for a thousand tokens.
    Column("cost_per_1k", Float),
    *made(),
    *changed(),
    within("provider", 96, "binding_provider", least=1),
    within("provider_model_id", 400, "binding_provider_model_id"),
    within("region", 96, "binding_region"),
    within("endpoint", 4096, "binding_endpoint"),
    one_of("status", BINDING_STATUSES, "binding_status"),
    CheckConstraint("cost_per_1k >= 0", name="binding_cost_per_1k"),
    CheckConstraint("changes > 0", name="binding_changes"),
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
# Lists are newest first, which is the order of ids backwards.
Index("bindings_by_model", bindings.c.model, bindings.c.id)
Index("bindings_by_provider", bindings.c.provider, bindings.c.id)
Index("bindings_by_region", bindings.c.region, bindings.c.id)
Index("bindings_by_status", bindings.c.status, bindings.c.id)

binding_statistics = Table(
    "binding_statistics",
    metadata,
    Column("binding", Text, ForeignKey("bindings.id"), primary_key=True),
    # In total, since the first report.
    Column("requests", BigInteger, nullable=False),
    Column("failures", BigInteger, nullable=False),
    # Decayed to `observed_at`: requests, those that succeeded, and tokens with what they cost.
    Column("weight", Float, nullable=False),
    Column("successes", Float, nullable=False),
    Column("tokens", Float, nullable=False),
    Column("cost_usd", Float, nullable=False),
    # A decayed histogram of latencies: a JSON list of buckets, each its number and its count.
    Column("latencies", Text, nullable=False),
    # What follows from these; NULL where nothing was said of it.
    Column("success_rate", Float, nullable=False),
    Column("latency_p50_ms", Float),
    Column("latency_p95_ms", Float),
    Column("latency_p99_ms", Float),
    Column("cost_per_1k", Float),
    Column("observed_at", BigInteger, nullable=False),
    # Of the last report, see `observation_marks`: whoever saw that mark has seen this row.
    Column("mark", BigInteger, nullable=False),
    CheckConstraint("requests > 0", name="binding_statistic_requests"),
    CheckConstraint("failures BETWEEN 0 AND requests", name="binding_statistic_failures"),
    CheckConstraint("weight > 0", name="binding_statistic_weight"),
    CheckConstraint("successes >= 0", name="binding_statistic_successes"),
    CheckConstraint("tokens >= 0", name="binding_statistic_tokens"),
    CheckConstraint("cost_usd >= 0", name="binding_statistic_cost_usd"),
    CheckConstraint("success_rate BETWEEN 0 AND 1", name="binding_statistic_success_rate"),
    CheckConstraint("latency_p50_ms >= 0", name="binding_statistic_latency_p50_ms"),
    CheckConstraint("latency_p95_ms >= latency_p50_ms", name="binding_statistic_latency_p95_ms"),
    CheckConstraint("latency_p99_ms >= latency_p95_ms", name="binding_statistic_latency_p99_ms"),
    CheckConstraint("cost_per_1k >= 0", name="binding_statistic_cost_per_1k"),
    sqlite_with_rowid=False,
)
Index("binding_statistics_by_mark", binding_statistics.c.mark)

observation_marks = Table(
    "observation_marks",
    metadata,
    # One row: how many reports there were. It never falls, so a mark never comes twice, even if
    # the binding that had the highest one is deleted.
    Column("name", Text, primary_key=True),
    Column("last", BigInteger, nullable=False),
    CheckConstraint("name = 'bindings'", name="observation_mark_name"),
    CheckConstraint("last > 0", name="observation_mark_last"),
    sqlite_with_rowid=False,
)
