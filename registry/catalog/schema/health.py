"""The table of how the parts of the registry were at a moment."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Table, Text

from registry.catalog.schema.base import metadata, one_of

health_samples = Table(
    "health_samples",
    metadata,
    Column("time", BigInteger, primary_key=True),
    Column("component", Text, primary_key=True),
    Column("status", Text, nullable=False),
    Column("detail", Text, nullable=False),
    # Numbers of that moment, a JSON object.
    Column("numbers", Text, nullable=False),
    one_of("status", ("ok", "degraded", "failed"), "health_sample_status"),
    sqlite_with_rowid=False,
)
Index("health_samples_by_component", health_samples.c.component, health_samples.c.time)
