"""What few own: indexes that lead readers who see little; secrets of webhooks that still sign."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.create_index(
        "runs_by_owner",
        "runs",
        ["owner", "started_at", "id", "cost_usd", "gpu_hours", "model", "deleted_at"],
        unique=False,
    )
    op.drop_index("models_by_visibility", table_name="models")
    op.create_index(
        "models_by_visibility", "models", ["visibility", "deleted_at", "folded"], unique=False
    )
    op.create_index(
        "namespaces_by_visibility", "namespaces", ["visibility", "folded"], unique=False
    )
    op.create_index(
        "tags_described",
        "tags",
        ["folded"],
        unique=False,
        sqlite_where=sa.text("description != ''"),
        postgresql_where=sa.text("description != ''"),
    )
    op.execute("ALTER TABLE webhooks ADD COLUMN former_secret BLOB")
    op.execute("ALTER TABLE webhooks ADD COLUMN former_until BIGINT")
    op.create_index(
        "versions_by_retirement",
        "versions",
        ["created_at", "id", "model", "deleted_at", "retired_at"],
        unique=False,
        sqlite_where=sa.text("deleted_at IS NULL AND retired_at IS NOT NULL"),
        postgresql_where=sa.text("deleted_at IS NULL AND retired_at IS NOT NULL"),
    )
    for column in ("archived", "archived_bytes", "thawed"):
        op.execute(f"ALTER TABLE retention_days ADD COLUMN {column} BIGINT DEFAULT '0' NOT NULL")
    op.execute("ALTER TABLE models ADD COLUMN trained_at BIGINT")
    op.execute(
        "UPDATE models SET trained_at = nullif(max(coalesce((SELECT r.started_at FROM "
        "runs AS r WHERE r.model = models.id AND r.status = 'succeeded' AND "
        "coalesce(r.deleted_at, 0) = 0 ORDER BY r.started_at DESC LIMIT 1), -1), "
        "coalesce((SELECT v.created_at FROM versions AS v WHERE v.model = models.id AND "
        "v.deleted_at IS NULL ORDER BY v.created_at DESC LIMIT 1), -1)), -1)"
    )
    op.create_index(
        "models_by_training",
        "models",
        ["kind", "active", "deleted_at", "trained_at", "id"],
        unique=False,
    )
    op.execute(
        "CREATE TRIGGER trained_by_run AFTER INSERT ON runs WHEN NEW.model IS NOT NULL "
        "AND NEW.status = 'succeeded' AND NEW.deleted_at IS NULL BEGIN UPDATE models SET "
        "trained_at = NEW.started_at WHERE id = NEW.model AND coalesce(trained_at, -1) < "
        "NEW.started_at; END"
    )
    op.execute(
        "CREATE TRIGGER trained_by_run_no_more AFTER UPDATE OF model, status, started_at, "
        "deleted_at ON runs WHEN (OLD.model IS NOT NEW.model OR OLD.status <> NEW.status "
        "OR OLD.started_at <> NEW.started_at OR OLD.deleted_at IS NOT NEW.deleted_at) AND "
        "OLD.model IS NOT NULL AND OLD.status = 'succeeded' AND OLD.deleted_at IS NULL "
        "BEGIN UPDATE models SET trained_at = nullif(max(coalesce((SELECT r.started_at "
        "FROM runs AS r WHERE r.model = OLD.model AND r.status = 'succeeded' AND "
        "coalesce(r.deleted_at, 0) = 0 ORDER BY r.started_at DESC LIMIT 1), -1), "
        "coalesce((SELECT v.created_at FROM versions AS v WHERE v.model = OLD.model AND "
        "v.deleted_at IS NULL ORDER BY v.created_at DESC LIMIT 1), -1)), -1) WHERE id = "
        "OLD.model AND trained_at = OLD.started_at; END"
    )
    op.execute(
        "CREATE TRIGGER trained_by_run_now AFTER UPDATE OF model, status, started_at, "
        "deleted_at ON runs WHEN (OLD.model IS NOT NEW.model OR OLD.status <> NEW.status "
        "OR OLD.started_at <> NEW.started_at OR OLD.deleted_at IS NOT NEW.deleted_at) AND "
        "NEW.model IS NOT NULL AND NEW.status = 'succeeded' AND NEW.deleted_at IS NULL "
        "BEGIN UPDATE models SET trained_at = NEW.started_at WHERE id = NEW.model AND "
        "coalesce(trained_at, -1) < NEW.started_at; END"
    )
    op.execute(
        "CREATE TRIGGER trained_by_run_gone AFTER DELETE ON runs WHEN OLD.model IS NOT "
        "NULL AND OLD.status = 'succeeded' AND OLD.deleted_at IS NULL BEGIN UPDATE models "
        "SET trained_at = nullif(max(coalesce((SELECT r.started_at FROM runs AS r WHERE "
        "r.model = OLD.model AND r.status = 'succeeded' AND coalesce(r.deleted_at, 0) = 0 "
        "ORDER BY r.started_at DESC LIMIT 1), -1), coalesce((SELECT v.created_at FROM "
        "versions AS v WHERE v.model = OLD.model AND v.deleted_at IS NULL ORDER BY "
        "v.created_at DESC LIMIT 1), -1)), -1) WHERE id = OLD.model AND trained_at = "
        "OLD.started_at; END"
    )
    op.execute(
        "CREATE TRIGGER trained_by_version AFTER INSERT ON versions WHEN NEW.deleted_at "
        "IS NULL BEGIN UPDATE models SET trained_at = NEW.created_at WHERE id = NEW.model "
        "AND coalesce(trained_at, -1) < NEW.created_at; END"
    )
    op.execute(
        "CREATE TRIGGER trained_by_version_no_more AFTER UPDATE OF deleted_at ON versions "
        "WHEN OLD.deleted_at IS NULL AND NEW.deleted_at IS NOT NULL BEGIN UPDATE models "
        "SET trained_at = nullif(max(coalesce((SELECT r.started_at FROM runs AS r WHERE "
        "r.model = OLD.model AND r.status = 'succeeded' AND coalesce(r.deleted_at, 0) = 0 "
        "ORDER BY r.started_at DESC LIMIT 1), -1), coalesce((SELECT v.created_at FROM "
        "versions AS v WHERE v.model = OLD.model AND v.deleted_at IS NULL ORDER BY "
        "v.created_at DESC LIMIT 1), -1)), -1) WHERE id = OLD.model AND trained_at = "
        "OLD.created_at; END"
    )
    op.execute(
        "CREATE TRIGGER trained_by_version_again AFTER UPDATE OF deleted_at ON versions "
        "WHEN OLD.deleted_at IS NOT NULL AND NEW.deleted_at IS NULL BEGIN UPDATE models "
        "SET trained_at = NEW.created_at WHERE id = NEW.model AND coalesce(trained_at, "
        "-1) < NEW.created_at; END"
    )
    op.execute(
        "CREATE TRIGGER trained_by_version_gone AFTER DELETE ON versions WHEN "
        "OLD.deleted_at IS NULL BEGIN UPDATE models SET trained_at = "
        "nullif(max(coalesce((SELECT r.started_at FROM runs AS r WHERE r.model = "
        "OLD.model AND r.status = 'succeeded' AND coalesce(r.deleted_at, 0) = 0 ORDER BY "
        "r.started_at DESC LIMIT 1), -1), coalesce((SELECT v.created_at FROM versions AS "
        "v WHERE v.model = OLD.model AND v.deleted_at IS NULL ORDER BY v.created_at DESC "
        "LIMIT 1), -1)), -1) WHERE id = OLD.model AND trained_at = OLD.created_at; END"
    )
