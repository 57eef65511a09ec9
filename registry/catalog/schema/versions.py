"""Tables of versions: the versions, what points at them, and what they came from."""

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
    LargeBinary,
    Table,
    Text,
)

from registry.catalog.schema.base import (
    compared,
    fact,
    live_index,
    made,
    metadata,
    one_of,
    within,
)
from store.index.partial import only

KINDS: Final = ("model", "dataset", "generic")
STATUSES: Final = ("registered", "validated", "production", "archived", "deprecated")
RELATIONS: Final = (
    "fine-tuned",
    "quantised",
    "distilled",
    "merged",
    "adapter-of",
    "trained-on",
    "derived",
)

versions = Table(
    "versions",
    metadata,
    Column("id", Text, primary_key=True),
    Column("model", Text, ForeignKey("models.id"), nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("label", Text),
    Column("folded", Text),
    # How the label takes part in choosing `latest`, and where a SemVer label stands in that order.
    Column("standing", Text, nullable=False),
    Column("precedence", Text),
    Column("revision", Text, ForeignKey("revisions.id"), nullable=False),
    Column("tree", LargeBinary(32), nullable=False),
    Column("files", BigInteger, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("created_by", Text, nullable=False),
    # A deleted version keeps its row, purged or not: it is what burns the number and the label.
    Column("deleted_at", BigInteger),
    Column("deleted_by", Text),
    # Since then nothing of it is kept but the row; its files are referenced no more.
    Column("purged_at", BigInteger),
    # Whoever looks at many versions reads this row; what is long is in `version_details`.
    Column("status", Text, nullable=False, server_default="registered"),
    # Its model's, which stays once it has had a version: what lists over all models go by.
    Column("kind", Text, nullable=False, server_default="model"),
    # External bytes, which the server never opens: where they are, and what they claim to be.
    Column("source", Text),
    Column("source_digest", LargeBinary(32)),
    Column("source_size", BigInteger),
    Column("framework", Text, nullable=False, server_default=""),
    Column("framework_version", Text, nullable=False, server_default=""),
    Column("python_version", Text, nullable=False, server_default=""),
    Column("region", Text, nullable=False, server_default=""),
    Column("eval_score", Float),
    Column("cost_per_1k", Float),
    Column("slo_target", Text, nullable=False, server_default=""),
    # NULL: nobody looked.
    Column("slo_met", Integer),
    Column("tier", Text, nullable=False, server_default="hot"),
    Column("retired_at", BigInteger),
    Column("updated_at", BigInteger, nullable=False, server_default="0"),
    Column("changes", BigInteger, nullable=False, server_default="1"),
    CheckConstraint("number > 0", name="version_number"),
    CheckConstraint("length(label) BETWEEN 1 AND 128", name="version_label"),
    CheckConstraint("(label IS NULL) = (folded IS NULL)", name="version_folded"),
    compared("standing", ("plain", "release", "prerelease"), "version_standing"),
    CheckConstraint(
        "(standing = 'plain') = (precedence IS NULL)",
        name="version_precedence",
    ),
    CheckConstraint("length(tree) = 32", name="version_tree"),
    CheckConstraint("files >= 0", name="version_files"),
    CheckConstraint("size >= 0", name="version_size"),
    CheckConstraint("(deleted_at IS NULL) = (deleted_by IS NULL)", name="version_deleted"),
    CheckConstraint("purged_at IS NULL OR deleted_at IS NOT NULL", name="version_purged"),
    compared("status", STATUSES, "version_status"),
    compared("kind", KINDS, "version_kind"),
    within("source", 4096, "version_source", least=1),
    CheckConstraint("length(source_digest) = 32", name="version_source_digest"),
    CheckConstraint("source_size >= 0", name="version_source_size"),
    within("framework", 96, "version_framework"),
    within("framework_version", 96, "version_framework_version"),
    within("python_version", 96, "version_python_version"),
    within("region", 96, "version_region"),
    CheckConstraint("eval_score BETWEEN 0 AND 1", name="version_eval_score"),
    CheckConstraint("cost_per_1k >= 0", name="version_cost_per_1k"),
    within("slo_target", 200, "version_slo_target"),
    fact("slo_met", "version_slo_met"),
    one_of("tier", ("hot", "cold"), "version_tier"),
    CheckConstraint("changes > 0", name="version_changes"),
    sqlite_with_rowid=False,
)
Index("versions_by_number", versions.c.model, versions.c.number, unique=True)
# What most versions say nothing of is indexed where something is said: each entry of each index
# makes registering dearer.
Index(
    "versions_by_label",
    versions.c.model,
    versions.c.folded,
    unique=True,
    **only(versions.c.folded.is_not(None)),
)
Index("versions_by_tree", versions.c.model, versions.c.tree, versions.c.number)
# Versions whose bytes live elsewhere all have the empty tree; a repeat is found by the source.
Index(
    "versions_by_source",
    versions.c.model,
    versions.c.source,
    versions.c.number,
    **only(versions.c.source.is_not(None)),
)
Index("versions_by_revision", versions.c.revision)
live_index(
    "versions_by_standing",
    versions.c.model,
    versions.c.standing,
    versions.c.precedence,
    versions.c.number,
    told=versions.c.precedence,
)
# What `latest` is chosen from: neither deleted ones nor retired ones, however many there are.
_eligible = versions.c.deleted_at.is_(None) & versions.c.retired_at.is_(None)
Index(
    "versions_by_newness",
    versions.c.model,
    versions.c.standing,
    versions.c.number,
    **only(_eligible),
)
# Lists over all models, newest first; each filter has an index in that order, a range its own. The
# model is in them so that those of deleted models can be left out while counting.
live_index("versions_by_creation", versions.c.created_at, versions.c.id, versions.c.model)
live_index(
    "versions_by_status", versions.c.status, versions.c.created_at, versions.c.id, versions.c.model
)
live_index(
    "versions_by_kind", versions.c.kind, versions.c.created_at, versions.c.id, versions.c.model
)
live_index(
    "versions_by_region", versions.c.region, versions.c.created_at, versions.c.id, versions.c.model
)
live_index(
    "versions_by_slo",
    versions.c.slo_met,
    versions.c.created_at,
    versions.c.id,
    versions.c.model,
    told=versions.c.slo_met,
)
live_index(
    "versions_by_framework",
    versions.c.framework,
    versions.c.created_at,
    versions.c.id,
    versions.c.model,
)
live_index(
    "versions_by_tier", versions.c.tier, versions.c.created_at, versions.c.id, versions.c.model
)
_is_retired = versions.c.deleted_at.is_(None) & versions.c.retired_at.is_not(None)
Index(
    "versions_by_retirement",
    versions.c.created_at,
    versions.c.id,
    versions.c.model,
    versions.c.deleted_at,
    versions.c.retired_at,
    **only(_is_retired),
)
live_index(
    "versions_by_score",
    versions.c.eval_score,
    versions.c.id,
    versions.c.model,
    told=versions.c.eval_score,
)
live_index(
    "versions_by_cost",
    versions.c.cost_per_1k,
    versions.c.id,
    versions.c.model,
    told=versions.c.cost_per_1k,
)
# Within one model: the latest of a status, the latest by creation.
live_index("versions_of_model_by_status", versions.c.model, versions.c.status, versions.c.number)
live_index(
    "versions_of_model_by_creation", versions.c.model, versions.c.created_at, versions.c.number
)

version_details = Table(
    "version_details",
    metadata,
    Column("version", Text, ForeignKey("versions.id"), primary_key=True),
    Column("description", Text, nullable=False),
    # JSON objects.
    Column("parameters", Text, nullable=False),
    Column("standardisation", Text, nullable=False),
    Column("performance", Text, nullable=False),
    Column("metadata", Text, nullable=False),
    within("description", 16384, "version_detail_description"),
    sqlite_with_rowid=False,
)

version_tags = Table(
    "version_tags",
    metadata,
    # A version has each key once; `key` repeats the folded key of the tag.
    Column("version", Text, ForeignKey("versions.id"), primary_key=True),
    Column("key", Text, primary_key=True),
    Column("tag", Text, ForeignKey("tags.id"), nullable=False),
    *made(),
    sqlite_with_rowid=False,
)
Index("version_tags_by_tag", version_tags.c.tag, version_tags.c.version)

aliases = Table(
    "aliases",
    metadata,
    Column("model", Text, ForeignKey("models.id"), primary_key=True),
    Column("folded", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("revision", Text, ForeignKey("revisions.id"), nullable=False),
    # 1: moved by hand, so only an eligible publish or the end of its target moves it again.
    Column("held", Integer, nullable=False),
    Column("moved_at", BigInteger, nullable=False),
    Column("moved_by", Text, nullable=False),
    CheckConstraint("length(name) BETWEEN 1 AND 128", name="alias_name"),
    CheckConstraint("held IN (0, 1)", name="alias_held"),
    sqlite_with_rowid=False,
)
Index("aliases_by_revision", aliases.c.revision)

alias_events = Table(
    "alias_events",
    metadata,
    # An integer primary key: SQLite hands the next one out, and the order is the history's.
    Column("id", Integer().with_variant(BigInteger(), "postgresql"), primary_key=True),
    Column("model", Text, ForeignKey("models.id"), nullable=False),
    Column("folded", Text, nullable=False),
    Column("name", Text, nullable=False),
    # NULL: the alias did not exist before, or does not exist after.
    Column("from_revision", Text),
    Column("to_revision", Text),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    # Never before the event ahead of it, so that order of time is order of history.
    Column("created_at", BigInteger, nullable=False),
    # Of a rollback: the event whose target came back.
    Column("restored", BigInteger),
    CheckConstraint("length(name) BETWEEN 1 AND 128", name="alias_event_name"),
    CheckConstraint("length(reason) <= 1024", name="alias_event_reason"),
)
Index("alias_events_by_alias", alias_events.c.model, alias_events.c.folded, alias_events.c.id)
Index(
    "alias_events_by_time",
    alias_events.c.model,
    alias_events.c.folded,
    alias_events.c.created_at,
    alias_events.c.id,
)

lineage = Table(
    "lineage",
    metadata,
    Column("id", Text, primary_key=True),
    Column("child", Text, ForeignKey("versions.id"), nullable=False),
    Column("relation", Text, nullable=False),
    # A version (of a dataset too), or what is not here by its URI; never both.
    Column("parent", Text, ForeignKey("versions.id")),
    Column("parent_uri", Text),
    # Whether what the URI names is data; a version's model says so itself.
    Column("parent_kind", Text, nullable=False),
    Column("description", Text, nullable=False),
    *made(),
    one_of("relation", RELATIONS, "lineage_relation"),
    one_of("parent_kind", ("version", "dataset", "external"), "lineage_parent_kind"),
    CheckConstraint("(parent IS NULL) <> (parent_uri IS NULL)", name="lineage_parent"),
    CheckConstraint("parent <> child", name="lineage_no_loop"),
    within("parent_uri", 4096, "lineage_parent_uri", least=1),
    within("description", 4096, "lineage_description"),
    sqlite_with_rowid=False,
)
# Upwards and downwards a walk reads the index alone; the two unique ones say that nothing is told
# twice.
Index("lineage_by_child", lineage.c.child, lineage.c.parent)
Index(
    "lineage_by_parent",
    lineage.c.parent,
    lineage.c.child,
    lineage.c.relation,
    unique=True,
    **only(lineage.c.parent.is_not(None)),
)
Index(
    "lineage_by_uri",
    lineage.c.parent_uri,
    lineage.c.child,
    lineage.c.relation,
    unique=True,
    **only(lineage.c.parent_uri.is_not(None)),
)
