"""The table of promotion guards: what must hold before an alias or a status moves."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, ForeignKey, Index, Integer, Table, Text

from registry.catalog.schema.base import changed, fact, made, metadata, within

guards = Table(
    "guards",
    metadata,
    Column("id", Text, primary_key=True),
    # One of the two.
    Column("model", Text, ForeignKey("models.id")),
    Column("namespace", Text, ForeignKey("namespaces.id")),
    # JSON arrays: folded patterns of aliases, and statuses.
    Column("aliases", Text, nullable=False),
    Column("statuses", Text, nullable=False),
    # JSON of `registry.domain.guards.Rules`.
    Column("rules", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("active", Integer, nullable=False),
    *made(),
    *changed(),
    CheckConstraint("(model IS NULL) <> (namespace IS NULL)", name="guard_covers"),
    within("aliases", 16384, "guard_aliases", least=2),
    within("statuses", 1024, "guard_statuses", least=2),
    within("rules", 65536, "guard_rules", least=2),
    within("description", 4096, "guard_description"),
    fact("active", "guard_active"),
    sqlite_with_rowid=False,
)
Index("guards_by_model", guards.c.model, guards.c.id)
Index("guards_by_namespace", guards.c.namespace, guards.c.id)
