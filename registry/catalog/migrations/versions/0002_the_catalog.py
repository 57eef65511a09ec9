"""The catalog proper: namespaces, teams, tags, lineage, audit, downloads, and what models say.

Tables that get new rules are made anew beside the old ones and filled from them, because SQLite
adds no rule to a table that exists; foreign keys are off meanwhile and checked at the end.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

MODEL_COLUMNS = (
    "id, name, folded, kind, visibility, last_number, created_at, created_by, updated_at, "
    "deleted_at, deleted_by"
)
VERSION_COLUMNS = (
    "id, model, number, label, folded, standing, precedence, revision, tree, files, size, "
    "created_at, created_by, deleted_at, deleted_by"
)
DEFAULT_NAMESPACE = "nsp_00000000000000000000000000"


def upgrade() -> None:
    _names()
    _models()
    _versions()
    _about_models()
    _about_versions()
    _records()
    _search()
    _fill()


def _take_place(table: str, *, carried: str) -> None:
    """Put ``<table>_new`` in the place of `table`, with what the old one held."""
    op.execute(f"INSERT INTO {table}_new ({carried}) SELECT {carried} FROM {table}")
    op.drop_table(table)
    op.rename_table(f"{table}_new", table)


def _fill() -> None:
    """Say of older rows what was true of them all along."""
    op.execute(
        "INSERT INTO namespaces (id, slug, folded, owner_kind, owner, visibility, description, "
        "created_at, created_by, updated_at) "
        "SELECT 'nsp_' || lower(hex(randomblob(13))), substr(name, 1, instr(name, '/') - 1), "
        "substr(folded, 1, instr(folded, '/') - 1), 'user', 'usr_local', 'private', '', "
        "min(created_at), 'usr_local', min(created_at) "
        "FROM models WHERE instr(folded, '/') > 0 "
        "GROUP BY substr(folded, 1, instr(folded, '/') - 1)"
    )
    op.execute(
        "UPDATE models SET namespace = (SELECT n.id FROM namespaces AS n WHERE n.folded = "
        "substr(models.folded, 1, instr(models.folded, '/') - 1)) WHERE instr(folded, '/') > 0"
    )
    op.execute(
        "UPDATE models SET version_count = (SELECT count(*) FROM versions AS v "
        "WHERE v.model = models.id AND v.deleted_at IS NULL)"
    )
    op.execute(
        "UPDATE versions SET updated_at = created_at, "
        "kind = (SELECT m.kind FROM models AS m WHERE m.id = versions.model)"
    )
    op.execute(
        "INSERT INTO version_details "
        "(version, description, parameters, standardisation, performance, metadata) "
        "SELECT id, '', '{}', '{}', '{}', '{}' FROM versions"
    )
    op.execute("INSERT INTO search_documents (model) SELECT id FROM models")
    for table, columns in (
        ("model_words", "name, tags, description, card"),
        ("model_grams", "name, tags, description"),
    ):
        empty = ", ''" * columns.count(",")
        op.execute(
            f"INSERT INTO {table} (rowid, {columns}) SELECT d.document, m.name{empty} "
            "FROM search_documents AS d JOIN models AS m ON m.id = d.model"
        )


def _names() -> None:
    op.create_table(
        "namespaces",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("slug", sa.Text(), nullable=False),
        sa.Column("folded", sa.Text(), nullable=False),
        sa.Column("owner_kind", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("visibility", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("quota_bytes", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("changes", sa.BigInteger(), server_default="1", nullable=False),
        sa.CheckConstraint("owner_kind IN ('user', 'team')", name="namespace_owner_kind"),
        sa.CheckConstraint(
            "visibility IN ('public', 'internal', 'private')", name="namespace_visibility"
        ),
        sa.CheckConstraint("length(description) BETWEEN 0 AND 4096", name="namespace_description"),
        sa.CheckConstraint("length(slug) BETWEEN 1 AND 96", name="namespace_slug"),
        sa.CheckConstraint("quota_bytes >= 0", name="namespace_quota"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("folded"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "teams",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("folded", sa.Text(), nullable=False),
        sa.Column("department", sa.Text(), nullable=False),
        sa.Column("cost_center", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("active", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("changes", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("deleted_at", sa.BigInteger(), nullable=True),
        sa.Column("deleted_by", sa.Text(), nullable=True),
        sa.CheckConstraint("(deleted_at IS NULL) = (deleted_by IS NULL)", name="team_deleted"),
        sa.CheckConstraint("active IN (0, 1)", name="team_active"),
        sa.CheckConstraint("length(cost_center) BETWEEN 0 AND 200", name="team_cost_center"),
        sa.CheckConstraint("length(department) BETWEEN 0 AND 200", name="team_department"),
        sa.CheckConstraint("length(description) BETWEEN 0 AND 4096", name="team_description"),
        sa.CheckConstraint("length(name) BETWEEN 1 AND 96", name="team_name"),
        sa.PrimaryKeyConstraint("id"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "teams_by_name",
        "teams",
        ["folded"],
        unique=True,
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.execute(
        "INSERT INTO namespaces (id, slug, folded, owner_kind, owner, visibility, description, "
        f"created_at, created_by, updated_at) VALUES ('{DEFAULT_NAMESPACE}', 'default', "
        "'default', 'user', 'usr_local', 'private', '', 0, 'usr_local', 0)"
    )


def _models() -> None:
    op.create_table(
        "models_new",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("folded", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("visibility", sa.Text(), nullable=False),
        sa.Column("last_number", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("deleted_at", sa.BigInteger(), nullable=True),
        sa.Column("deleted_by", sa.Text(), nullable=True),
        sa.Column("purged_at", sa.BigInteger(), nullable=True),
        sa.Column(
            "namespace", sa.Text(), server_default="nsp_00000000000000000000000000", nullable=False
        ),
        sa.Column("description", sa.Text(), server_default="", nullable=False),
        sa.Column("use_case", sa.Text(), server_default="", nullable=False),
        sa.Column("task_type", sa.Text(), server_default="", nullable=False),
        sa.Column("subject_domain", sa.Text(), server_default="", nullable=False),
        sa.Column("team", sa.Text(), nullable=True),
        sa.Column("risk_level", sa.Text(), server_default="medium", nullable=False),
        sa.Column("compliance_required", sa.Integer(), server_default="0", nullable=False),
        sa.Column("active", sa.Integer(), server_default="1", nullable=False),
        sa.Column("legal_hold", sa.Integer(), server_default="0", nullable=False),
        sa.Column("version_count", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("changes", sa.BigInteger(), server_default="1", nullable=False),
        sa.CheckConstraint("kind IN ('model', 'dataset', 'generic')", name="model_kind"),
        sa.CheckConstraint(
            "risk_level IN ('low', 'medium', 'high', 'critical')", name="model_risk_level"
        ),
        sa.CheckConstraint(
            "visibility IN ('public', 'internal', 'private')", name="model_visibility"
        ),
        sa.CheckConstraint("(deleted_at IS NULL) = (deleted_by IS NULL)", name="model_deleted"),
        sa.CheckConstraint("active IN (0, 1)", name="model_active"),
        sa.CheckConstraint("purged_at IS NULL OR deleted_at IS NOT NULL", name="model_purged"),
        sa.CheckConstraint("changes > 0", name="model_changes"),
        sa.CheckConstraint("compliance_required IN (0, 1)", name="model_compliance_required"),
        sa.CheckConstraint("last_number >= 0", name="model_last_number"),
        sa.CheckConstraint("legal_hold IN (0, 1)", name="model_legal_hold"),
        sa.CheckConstraint("length(description) BETWEEN 0 AND 16384", name="model_description"),
        sa.CheckConstraint("length(name) BETWEEN 1 AND 200", name="model_name"),
        sa.CheckConstraint("length(subject_domain) BETWEEN 0 AND 96", name="model_subject_domain"),
        sa.CheckConstraint("length(task_type) BETWEEN 0 AND 96", name="model_task_type"),
        sa.CheckConstraint("length(use_case) BETWEEN 0 AND 4096", name="model_use_case"),
        sa.CheckConstraint("version_count >= 0", name="model_version_count"),
        sa.ForeignKeyConstraint(
            ["namespace"],
            ["namespaces.id"],
        ),
        sa.ForeignKeyConstraint(
            ["team"],
            ["teams.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sqlite_with_rowid=False,
    )
    _take_place("models", carried=MODEL_COLUMNS)
    op.create_index(
        "models_by_activity",
        "models",
        ["active", "folded", "deleted_at"],
        unique=False,
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_index(
        "models_by_creation",
        "models",
        ["created_at", "id", "deleted_at"],
        unique=False,
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_index(
        "models_by_kind",
        "models",
        ["kind", "folded", "deleted_at"],
        unique=False,
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_index(
        "models_by_name",
        "models",
        ["folded"],
        unique=True,
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_index(
        "models_by_namespace",
        "models",
        ["namespace", "deleted_at", "folded"],
        unique=False,
    )
    op.create_index(
        "models_by_risk",
        "models",
        ["risk_level", "folded", "deleted_at"],
        unique=False,
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_index(
        "models_by_subject",
        "models",
        ["subject_domain", "folded", "deleted_at"],
        unique=False,
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_index(
        "models_by_task",
        "models",
        ["task_type", "folded", "deleted_at"],
        unique=False,
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_index(
        "models_by_team",
        "models",
        ["team", "folded", "deleted_at"],
        unique=False,
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_index(
        "models_by_visibility",
        "models",
        ["visibility", "folded", "deleted_at"],
        unique=False,
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_index(
        "models_deleted",
        "models",
        ["deleted_at", "id"],
        unique=False,
        sqlite_where=sa.text("deleted_at IS NOT NULL"),
        postgresql_where=sa.text("deleted_at IS NOT NULL"),
    )
    op.create_index(
        "models_purged",
        "models",
        ["purged_at"],
        unique=False,
        sqlite_where=sa.text("purged_at IS NOT NULL"),
        postgresql_where=sa.text("purged_at IS NOT NULL"),
    )
    op.create_index("revisions_by_tree", "revisions", ["tree"], unique=False)


def _versions() -> None:
    op.create_table(
        "versions_new",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("label", sa.Text(), nullable=True),
        sa.Column("folded", sa.Text(), nullable=True),
        sa.Column("standing", sa.Text(), nullable=False),
        sa.Column("precedence", sa.Text(), nullable=True),
        sa.Column("revision", sa.Text(), nullable=False),
        sa.Column("tree", sa.LargeBinary(length=32), nullable=False),
        sa.Column("files", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("deleted_at", sa.BigInteger(), nullable=True),
        sa.Column("deleted_by", sa.Text(), nullable=True),
        sa.Column("purged_at", sa.BigInteger(), nullable=True),
        sa.Column("status", sa.Text(), server_default="registered", nullable=False),
        sa.Column("kind", sa.Text(), server_default="model", nullable=False),
        sa.Column("source", sa.Text(), nullable=True),
        sa.Column("source_digest", sa.LargeBinary(length=32), nullable=True),
        sa.Column("source_size", sa.BigInteger(), nullable=True),
        sa.Column("framework", sa.Text(), server_default="", nullable=False),
        sa.Column("framework_version", sa.Text(), server_default="", nullable=False),
        sa.Column("python_version", sa.Text(), server_default="", nullable=False),
        sa.Column("region", sa.Text(), server_default="", nullable=False),
        sa.Column("eval_score", sa.Float(), nullable=True),
        sa.Column("cost_per_1k", sa.Float(), nullable=True),
        sa.Column("slo_target", sa.Text(), server_default="", nullable=False),
        sa.Column("slo_met", sa.Integer(), nullable=True),
        sa.Column("tier", sa.Text(), server_default="hot", nullable=False),
        sa.Column("retired_at", sa.BigInteger(), nullable=True),
        sa.Column("updated_at", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("changes", sa.BigInteger(), server_default="1", nullable=False),
        sa.CheckConstraint("purged_at IS NULL OR deleted_at IS NOT NULL", name="version_purged"),
        sa.CheckConstraint(
            "(standing = 'plain') = (precedence IS NULL)", name="version_precedence"
        ),
        sa.CheckConstraint(
            "standing IN ('plain', 'release', 'prerelease')", name="version_standing"
        ),
        sa.CheckConstraint("kind IN ('model', 'dataset', 'generic')", name="version_kind"),
        sa.CheckConstraint(
            "status IN ('registered', 'validated', 'production', 'archived', 'deprecated')",
            name="version_status",
        ),
        sa.CheckConstraint("tier IN ('hot', 'cold')", name="version_tier"),
        sa.CheckConstraint("(deleted_at IS NULL) = (deleted_by IS NULL)", name="version_deleted"),
        sa.CheckConstraint("(label IS NULL) = (folded IS NULL)", name="version_folded"),
        sa.CheckConstraint("changes > 0", name="version_changes"),
        sa.CheckConstraint("cost_per_1k >= 0", name="version_cost_per_1k"),
        sa.CheckConstraint("eval_score BETWEEN 0 AND 1", name="version_eval_score"),
        sa.CheckConstraint("files >= 0", name="version_files"),
        sa.CheckConstraint("length(framework) BETWEEN 0 AND 96", name="version_framework"),
        sa.CheckConstraint(
            "length(framework_version) BETWEEN 0 AND 96", name="version_framework_version"
        ),
        sa.CheckConstraint("length(label) BETWEEN 1 AND 128", name="version_label"),
        sa.CheckConstraint(
            "length(python_version) BETWEEN 0 AND 96", name="version_python_version"
        ),
        sa.CheckConstraint("length(region) BETWEEN 0 AND 96", name="version_region"),
        sa.CheckConstraint("length(slo_target) BETWEEN 0 AND 200", name="version_slo_target"),
        sa.CheckConstraint("length(source) BETWEEN 1 AND 4096", name="version_source"),
        sa.CheckConstraint("length(source_digest) = 32", name="version_source_digest"),
        sa.CheckConstraint("length(tree) = 32", name="version_tree"),
        sa.CheckConstraint("number > 0", name="version_number"),
        sa.CheckConstraint("size >= 0", name="version_size"),
        sa.CheckConstraint("slo_met IN (0, 1)", name="version_slo_met"),
        sa.CheckConstraint("source_size >= 0", name="version_source_size"),
        sa.ForeignKeyConstraint(
            ["model"],
            ["models.id"],
        ),
        sa.ForeignKeyConstraint(
            ["revision"],
            ["revisions.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sqlite_with_rowid=False,
    )
    _take_place("versions", carried=VERSION_COLUMNS)
    op.create_index(
        "versions_by_cost",
        "versions",
        ["cost_per_1k", "id", "model", "deleted_at"],
        unique=False,
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_index(
        "versions_by_creation",
        "versions",
        ["created_at", "id", "model", "deleted_at"],
        unique=False,
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    for name in ("framework", "tier"):
        op.create_index(
            f"versions_by_{name}",
            "versions",
            [name, "created_at", "id", "model", "deleted_at"],
            unique=False,
            sqlite_where=sa.text("deleted_at IS NULL"),
            postgresql_where=sa.text("deleted_at IS NULL"),
        )
    op.create_index("versions_by_label", "versions", ["model", "folded"], unique=True)
    op.create_index("versions_by_number", "versions", ["model", "number"], unique=True)
    op.create_index(
        "versions_by_region",
        "versions",
        ["region", "created_at", "id", "model", "deleted_at"],
        unique=False,
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_index("versions_by_revision", "versions", ["revision"], unique=False)
    op.create_index(
        "versions_by_score",
        "versions",
        ["eval_score", "id", "model", "deleted_at"],
        unique=False,
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_index(
        "versions_by_slo",
        "versions",
        ["slo_met", "created_at", "id", "model", "deleted_at"],
        unique=False,
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_index(
        "versions_by_kind",
        "versions",
        ["kind", "created_at", "id", "model", "deleted_at"],
        unique=False,
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_index(
        "versions_by_source",
        "versions",
        ["model", "source", "number"],
        unique=False,
        sqlite_where=sa.text("source IS NOT NULL"),
        postgresql_where=sa.text("source IS NOT NULL"),
    )
    op.create_index(
        "versions_by_standing",
        "versions",
        ["model", "standing", "precedence", "number"],
        unique=False,
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_index(
        "versions_by_status",
        "versions",
        ["status", "created_at", "id", "model", "deleted_at"],
        unique=False,
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_index("versions_by_tree", "versions", ["model", "tree", "number"], unique=False)
    op.create_index(
        "versions_of_model_by_creation",
        "versions",
        ["model", "created_at", "number", "deleted_at"],
        unique=False,
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_index(
        "versions_of_model_by_status",
        "versions",
        ["model", "status", "number", "deleted_at"],
        unique=False,
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )


def _about_models() -> None:
    op.create_table(
        "redirects",
        sa.Column("folded", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.CheckConstraint("length(name) BETWEEN 1 AND 200", name="redirect_name"),
        sa.ForeignKeyConstraint(
            ["model"],
            ["models.id"],
        ),
        sa.PrimaryKeyConstraint("folded"),
        sqlite_with_rowid=False,
    )
    op.create_index("redirects_by_model", "redirects", ["model"], unique=False)
    op.create_table(
        "model_cards",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_by", sa.Text(), nullable=False),
        sa.CheckConstraint("source IN ('readme', 'put')", name="model_card_source"),
        sa.CheckConstraint("length(digest) = 32", name="model_card_digest"),
        sa.CheckConstraint("length(text) BETWEEN 0 AND 1048576", name="model_card_text"),
        sa.ForeignKeyConstraint(
            ["model"],
            ["models.id"],
        ),
        sa.PrimaryKeyConstraint("model"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "tags",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("folded", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("models", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("versions", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("changes", sa.BigInteger(), server_default="1", nullable=False),
        sa.CheckConstraint("length(description) BETWEEN 0 AND 4096", name="tag_description"),
        sa.CheckConstraint("length(key) BETWEEN 1 AND 96", name="tag_key"),
        sa.CheckConstraint("length(value) BETWEEN 0 AND 200", name="tag_value"),
        sa.CheckConstraint("models >= 0", name="tag_models"),
        sa.CheckConstraint("versions >= 0", name="tag_versions"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("folded"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "model_tags",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("tag", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["model"],
            ["models.id"],
        ),
        sa.ForeignKeyConstraint(
            ["tag"],
            ["tags.id"],
        ),
        sa.PrimaryKeyConstraint("model", "key"),
        sqlite_with_rowid=False,
    )
    op.create_index("model_tags_by_key", "model_tags", ["key", "name", "model"], unique=False)
    op.create_index("model_tags_by_tag", "model_tags", ["tag", "name", "model"], unique=False)


def _about_versions() -> None:
    op.create_table(
        "version_details",
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("parameters", sa.Text(), nullable=False),
        sa.Column("standardisation", sa.Text(), nullable=False),
        sa.Column("performance", sa.Text(), nullable=False),
        sa.Column("metadata", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "length(description) BETWEEN 0 AND 16384", name="version_detail_description"
        ),
        sa.ForeignKeyConstraint(
            ["version"],
            ["versions.id"],
        ),
        sa.PrimaryKeyConstraint("version"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "version_tags",
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("tag", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tag"],
            ["tags.id"],
        ),
        sa.ForeignKeyConstraint(
            ["version"],
            ["versions.id"],
        ),
        sa.PrimaryKeyConstraint("version", "key"),
        sqlite_with_rowid=False,
    )
    op.create_index("version_tags_by_tag", "version_tags", ["tag", "version"], unique=False)
    op.create_table(
        "lineage",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("child", sa.Text(), nullable=False),
        sa.Column("relation", sa.Text(), nullable=False),
        sa.Column("parent", sa.Text(), nullable=True),
        sa.Column("parent_uri", sa.Text(), nullable=True),
        sa.Column("parent_kind", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "parent_kind IN ('version', 'dataset', 'external')", name="lineage_parent_kind"
        ),
        sa.CheckConstraint(
            "relation IN ('fine-tuned', 'quantised', 'distilled', 'merged', 'adapter-of', "
            "'trained-on', 'derived')",
            name="lineage_relation",
        ),
        sa.CheckConstraint("(parent IS NULL) <> (parent_uri IS NULL)", name="lineage_parent"),
        sa.CheckConstraint("length(description) BETWEEN 0 AND 4096", name="lineage_description"),
        sa.CheckConstraint("length(parent_uri) BETWEEN 1 AND 4096", name="lineage_parent_uri"),
        sa.CheckConstraint("parent <> child", name="lineage_no_loop"),
        sa.ForeignKeyConstraint(
            ["child"],
            ["versions.id"],
        ),
        sa.ForeignKeyConstraint(
            ["parent"],
            ["versions.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sqlite_with_rowid=False,
    )
    op.create_index("lineage_by_child", "lineage", ["child", "parent"], unique=False)
    for name, column in (("lineage_by_parent", "parent"), ("lineage_by_uri", "parent_uri")):
        op.create_index(
            name,
            "lineage",
            [column, "child", "relation"],
            unique=True,
            sqlite_where=sa.text(f"{column} IS NOT NULL"),
            postgresql_where=sa.text(f"{column} IS NOT NULL"),
        )
    op.add_column("alias_events", sa.Column("restored", sa.BigInteger()))
    op.create_index(
        "alias_events_by_time",
        "alias_events",
        ["model", "folded", "created_at", "id"],
        unique=False,
    )


def _records() -> None:
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer().with_variant(sa.BigInteger(), "postgresql"), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("actor_name", sa.Text(), nullable=False),
        sa.Column("request", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("entity", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("before", sa.Text(), nullable=True),
        sa.Column("after", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.CheckConstraint("length(action) BETWEEN 1 AND 40", name="audit_action"),
        sa.CheckConstraint("length(kind) BETWEEN 1 AND 40", name="audit_kind"),
        sa.CheckConstraint("length(reason) BETWEEN 0 AND 1024", name="audit_reason"),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("audit_by_action", "audit", ["action", "id"], unique=False)
    op.create_index("audit_by_actor", "audit", ["actor", "id"], unique=False)
    op.create_index("audit_by_entity", "audit", ["entity", "id"], unique=False)
    op.create_index("audit_by_kind", "audit", ["kind", "id"], unique=False)
    op.create_index("audit_by_model", "audit", ["model", "id"], unique=False)
    op.create_table(
        "audit_seals",
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("first", sa.BigInteger(), nullable=False),
        sa.Column("last", sa.BigInteger(), nullable=False),
        sa.Column("entries", sa.BigInteger(), nullable=False),
        sa.Column("previous", sa.LargeBinary(length=32), nullable=False),
        sa.Column("seal", sa.LargeBinary(length=32), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("first <= last", name="audit_seal_range"),
        sa.CheckConstraint("length(previous) = 32", name="audit_seal_previous"),
        sa.CheckConstraint("length(seal) = 32", name="audit_seal_seal"),
        sa.CheckConstraint("number > 0", name="audit_seal_number"),
        sa.PrimaryKeyConstraint("number"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("principal", sa.Text(), nullable=False),
        sa.Column("route", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(length=32), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("headers", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("length(fingerprint) = 32", name="idempotency_fingerprint"),
        sa.CheckConstraint("length(key) BETWEEN 1 AND 255", name="idempotency_key"),
        sa.PrimaryKeyConstraint("principal", "route", "key"),
        sqlite_with_rowid=False,
    )
    op.create_index("idempotency_keys_by_expiry", "idempotency_keys", ["expires_at"], unique=False)
    op.create_table(
        "downloads",
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("minute", sa.BigInteger(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("principal", sa.Text(), nullable=False),
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("bytes >= 0", name="download_bytes"),
        sa.CheckConstraint("length(client) BETWEEN 0 AND 96", name="download_client"),
        sa.CheckConstraint("requests >= 0", name="download_requests"),
        sa.ForeignKeyConstraint(
            ["version"],
            ["versions.id"],
        ),
        sa.PrimaryKeyConstraint("version", "minute", "path", "principal", "client"),
        sqlite_with_rowid=False,
    )
    op.create_index("downloads_by_minute", "downloads", ["minute"], unique=False)
    op.create_index("downloads_by_principal", "downloads", ["principal", "minute"], unique=False)


def _search() -> None:
    op.create_table(
        "search_documents",
        sa.Column("document", sa.Integer(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["model"],
            ["models.id"],
        ),
        sa.PrimaryKeyConstraint("document"),
        sa.UniqueConstraint("model"),
    )
    op.execute(
        "CREATE VIRTUAL TABLE model_words USING fts5(name, tags, description, card, "
        "tokenize='unicode61 remove_diacritics 2', content='', contentless_delete=1)"
    )
    op.execute(
        "CREATE VIRTUAL TABLE model_grams USING fts5(name, tags, description, "
        "tokenize='trigram', content='', contentless_delete=1, detail='full')"
    )
