"""The first tables: models, trees, versions, aliases and drafts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "folder_uploads",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("model_folded", sa.Text(), nullable=False),
        sa.Column("label_folded", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("principal", sa.Text(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("length(path) BETWEEN 1 AND 1024", name="folder_upload_path"),
        sa.PrimaryKeyConstraint("id"),
        sqlite_with_rowid=False,
    )
    op.create_index("folder_uploads_by_expiry", "folder_uploads", ["expires_at"], unique=False)
    op.create_index(
        "folder_uploads_by_target",
        "folder_uploads",
        ["model_folded", "label_folded", "path"],
        unique=False,
    )
    op.create_table(
        "models",
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
        sa.CheckConstraint("kind IN ('model', 'dataset', 'generic')", name="model_kind"),
        sa.CheckConstraint(
            "visibility IN ('public', 'internal', 'private')", name="model_visibility"
        ),
        sa.CheckConstraint("(deleted_at IS NULL) = (deleted_by IS NULL)", name="model_deleted"),
        sa.CheckConstraint("last_number >= 0", name="model_last_number"),
        sa.CheckConstraint("length(name) BETWEEN 1 AND 200", name="model_name"),
        sa.PrimaryKeyConstraint("id"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "models_by_name",
        "models",
        ["folded"],
        unique=True,
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_table(
        "trees",
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("files", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("files >= 0", name="tree_files_count"),
        sa.CheckConstraint("length(digest) = 32", name="tree_digest"),
        sa.CheckConstraint("size >= 0", name="tree_size"),
        sa.PrimaryKeyConstraint("digest"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "alias_events",
        sa.Column("id", sa.Integer().with_variant(sa.BigInteger(), "postgresql"), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("folded", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("from_revision", sa.Text(), nullable=True),
        sa.Column("to_revision", sa.Text(), nullable=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("length(name) BETWEEN 1 AND 128", name="alias_event_name"),
        sa.CheckConstraint("length(reason) <= 1024", name="alias_event_reason"),
        sa.ForeignKeyConstraint(
            ["model"],
            ["models.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "alias_events_by_alias", "alias_events", ["model", "folded", "id"], unique=False
    )
    op.create_table(
        "folders",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("folded", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("touched_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("kind IN ('draft')", name="folder_kind"),
        sa.CheckConstraint("length(label) BETWEEN 1 AND 128", name="folder_label"),
        sa.ForeignKeyConstraint(
            ["model"],
            ["models.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sqlite_with_rowid=False,
    )
    op.create_index("folders_by_idleness", "folders", ["touched_at"], unique=False)
    op.create_index("folders_by_label", "folders", ["model", "folded"], unique=True)
    op.create_table(
        "revisions",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("tree", sa.LargeBinary(length=32), nullable=False),
        sa.Column("parents", sa.Text(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("length(id) = 40", name="revision_id"),
        sa.CheckConstraint("length(message) <= 65536", name="revision_message"),
        sa.ForeignKeyConstraint(
            ["model"],
            ["models.id"],
        ),
        sa.ForeignKeyConstraint(
            ["tree"],
            ["trees.digest"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sqlite_with_rowid=False,
    )
    op.create_index("revisions_by_model", "revisions", ["model", "created_at"], unique=False)
    op.create_table(
        "tree_files",
        sa.Column("tree", sa.LargeBinary(length=32), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("length(digest) = 32", name="tree_file_digest"),
        sa.CheckConstraint("length(path) BETWEEN 1 AND 1024", name="tree_file_path"),
        sa.CheckConstraint("size >= 0", name="tree_file_size"),
        sa.ForeignKeyConstraint(
            ["tree"],
            ["trees.digest"],
        ),
        sa.PrimaryKeyConstraint("tree", "path"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "aliases",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("folded", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("revision", sa.Text(), nullable=False),
        sa.Column("held", sa.Integer(), nullable=False),
        sa.Column("moved_at", sa.BigInteger(), nullable=False),
        sa.Column("moved_by", sa.Text(), nullable=False),
        sa.CheckConstraint("length(name) BETWEEN 1 AND 128", name="alias_name"),
        sa.CheckConstraint("held IN (0, 1)", name="alias_held"),
        sa.ForeignKeyConstraint(
            ["model"],
            ["models.id"],
        ),
        sa.ForeignKeyConstraint(
            ["revision"],
            ["revisions.id"],
        ),
        sa.PrimaryKeyConstraint("model", "folded"),
        sqlite_with_rowid=False,
    )
    op.create_index("aliases_by_revision", "aliases", ["revision"], unique=False)
    op.create_table(
        "folder_files",
        sa.Column("folder", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("put_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("length(digest) = 32", name="folder_file_digest"),
        sa.CheckConstraint("length(path) BETWEEN 1 AND 1024", name="folder_file_path"),
        sa.CheckConstraint("size >= 0", name="folder_file_size"),
        sa.ForeignKeyConstraint(
            ["folder"],
            ["folders.id"],
        ),
        sa.PrimaryKeyConstraint("folder", "path"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "versions",
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
        sa.CheckConstraint(
            "(standing = 'plain') = (precedence IS NULL)", name="version_precedence"
        ),
        sa.CheckConstraint(
            "standing IN ('plain', 'release', 'prerelease')", name="version_standing"
        ),
        sa.CheckConstraint("(deleted_at IS NULL) = (deleted_by IS NULL)", name="version_deleted"),
        sa.CheckConstraint("(label IS NULL) = (folded IS NULL)", name="version_folded"),
        sa.CheckConstraint("files >= 0", name="version_files"),
        sa.CheckConstraint("length(label) BETWEEN 1 AND 128", name="version_label"),
        sa.CheckConstraint("length(tree) = 32", name="version_tree"),
        sa.CheckConstraint("number > 0", name="version_number"),
        sa.CheckConstraint("size >= 0", name="version_size"),
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
    op.create_index("versions_by_label", "versions", ["model", "folded"], unique=True)
    op.create_index("versions_by_number", "versions", ["model", "number"], unique=True)
    op.create_index("versions_by_revision", "versions", ["revision"], unique=False)
    op.create_index(
        "versions_by_standing",
        "versions",
        ["model", "standing", "precedence", "number"],
        unique=False,
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_index("versions_by_tree", "versions", ["model", "tree", "number"], unique=False)
