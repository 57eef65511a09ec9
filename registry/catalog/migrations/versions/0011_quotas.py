"""Quotas: what each namespace takes, kept by triggers, and limits on versions and pins."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    for column in ("quota_versions", "quota_pins"):
        op.execute(f"ALTER TABLE namespaces ADD COLUMN {column} BIGINT CHECK ({column} >= 0)")
    op.create_table(
        "namespace_usage",
        sa.Column("namespace", sa.Text(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("versions", sa.BigInteger(), server_default="0", nullable=False),
        sa.CheckConstraint("bytes >= 0", name="usage_bytes"),
        sa.CheckConstraint("versions >= 0", name="usage_versions"),
        sa.ForeignKeyConstraint(
            ["namespace"],
            ["namespaces.id"],
        ),
        sa.PrimaryKeyConstraint("namespace"),
        sqlite_with_rowid=False,
    )
    op.execute(
        "INSERT INTO namespace_usage (namespace, bytes, versions) SELECT n.id, (SELECT "
        "coalesce(sum(b.size), 0) FROM blobs AS b WHERE EXISTS (SELECT 1 FROM refs AS r "
        "WHERE r.digest = b.digest AND r.realm = n.id)), (SELECT count(*) FROM versions "
        "AS v JOIN models AS m ON m.id = v.model WHERE m.namespace = n.id AND v.purged_at"
        " IS NULL) FROM namespaces AS n"
    )
    op.execute(
        "CREATE TRIGGER usage_begins AFTER INSERT ON namespaces BEGIN INSERT INTO "
        "namespace_usage (namespace) VALUES (NEW.id); END"
    )
    op.execute(
        "CREATE TRIGGER usage_ends BEFORE DELETE ON namespaces BEGIN DELETE FROM "
        "namespace_usage WHERE namespace = OLD.id; END"
    )
    op.execute(
        "CREATE TRIGGER usage_claims AFTER INSERT ON refs WHEN NEW.realm IS NOT NULL "
        "BEGIN UPDATE namespace_usage SET bytes = max(0, bytes + coalesce((SELECT size "
        "FROM blobs WHERE digest = NEW.digest), 0)) WHERE namespace = NEW.realm AND NOT "
        "EXISTS (SELECT 1 FROM refs AS r WHERE r.digest = NEW.digest AND r.level IN "
        "('private', 'internal', 'public') AND r.realm = NEW.realm AND NOT (r.owner = "
        "NEW.owner AND r.kind = NEW.kind)); END"
    )
    op.execute(
        "CREATE TRIGGER usage_releases AFTER DELETE ON refs WHEN OLD.realm IS NOT NULL "
        "BEGIN UPDATE namespace_usage SET bytes = max(0, bytes - coalesce((SELECT size "
        "FROM blobs WHERE digest = OLD.digest), 0)) WHERE namespace = OLD.realm AND NOT "
        "EXISTS (SELECT 1 FROM refs AS r WHERE r.digest = OLD.digest AND r.level IN "
        "('private', 'internal', 'public') AND r.realm = OLD.realm AND NOT (r.owner = "
        "OLD.owner AND r.kind = OLD.kind)); END"
    )
    op.execute(
        "CREATE TRIGGER usage_moves AFTER UPDATE OF realm ON refs WHEN OLD.realm IS NOT "
        "NEW.realm BEGIN UPDATE namespace_usage SET bytes = max(0, bytes - "
        "coalesce((SELECT size FROM blobs WHERE digest = OLD.digest), 0)) WHERE namespace"
        " = OLD.realm AND NOT EXISTS (SELECT 1 FROM refs AS r WHERE r.digest = OLD.digest"
        " AND r.level IN ('private', 'internal', 'public') AND r.realm = OLD.realm AND "
        "NOT (r.owner = OLD.owner AND r.kind = OLD.kind)); UPDATE namespace_usage SET "
        "bytes = max(0, bytes + coalesce((SELECT size FROM blobs WHERE digest = "
        "NEW.digest), 0)) WHERE namespace = NEW.realm AND NOT EXISTS (SELECT 1 FROM refs "
        "AS r WHERE r.digest = NEW.digest AND r.level IN ('private', 'internal', "
        "'public') AND r.realm = NEW.realm AND NOT (r.owner = NEW.owner AND r.kind = "
        "NEW.kind)); END"
    )
    op.execute(
        "CREATE TRIGGER usage_publishes AFTER INSERT ON versions WHEN NEW.purged_at IS "
        "NULL BEGIN UPDATE namespace_usage SET versions = max(0, versions + 1) WHERE "
        "namespace = (SELECT namespace FROM models WHERE id = NEW.model); END"
    )
    op.execute(
        "CREATE TRIGGER usage_forgets AFTER DELETE ON versions WHEN OLD.purged_at IS NULL"
        " BEGIN UPDATE namespace_usage SET versions = max(0, versions - 1) WHERE "
        "namespace = (SELECT namespace FROM models WHERE id = OLD.model); END"
    )
    op.execute(
        "CREATE TRIGGER usage_purges AFTER UPDATE OF purged_at ON versions WHEN "
        "(OLD.purged_at IS NULL) <> (NEW.purged_at IS NULL) BEGIN UPDATE namespace_usage "
        "SET versions = max(0, versions + iif(NEW.purged_at IS NULL, 1, -1)) WHERE "
        "namespace = (SELECT namespace FROM models WHERE id = NEW.model); END"
    )
    op.execute(
        "CREATE TRIGGER usage_renames AFTER UPDATE OF namespace ON models WHEN "
        "OLD.namespace <> NEW.namespace BEGIN UPDATE namespace_usage SET versions = "
        "max(0, versions - (SELECT count(*) FROM versions WHERE model = NEW.id AND "
        "purged_at IS NULL)) WHERE namespace = OLD.namespace; UPDATE namespace_usage SET "
        "versions = max(0, versions + (SELECT count(*) FROM versions WHERE model = NEW.id"
        " AND purged_at IS NULL)) WHERE namespace = NEW.namespace; END"
    )
