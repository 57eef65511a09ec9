"""Tables of content: trees, revisions, and the folders on their way to becoming trees."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    LargeBinary,
    Table,
    Text,
)

from registry.catalog.schema.base import metadata

trees = Table(
    "trees",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("files", BigInteger, nullable=False),
    # The sum of the files' sizes, equal files counted each time.
    Column("size", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    CheckConstraint("length(digest) = 32", name="tree_digest"),
    CheckConstraint("files >= 0", name="tree_files_count"),
    CheckConstraint("size >= 0", name="tree_size"),
    sqlite_with_rowid=False,
)

tree_files = Table(
    "tree_files",
    metadata,
    Column("tree", LargeBinary(32), ForeignKey("trees.digest"), primary_key=True),
    # Compared byte by byte, which is the order of the tree's canonical text.
    Column("path", Text, primary_key=True),
    Column("digest", LargeBinary(32), nullable=False),
    Column("size", BigInteger, nullable=False),
    CheckConstraint("length(path) BETWEEN 1 AND 1024", name="tree_file_path"),
    CheckConstraint("length(digest) = 32", name="tree_file_digest"),
    CheckConstraint("size >= 0", name="tree_file_size"),
    sqlite_with_rowid=False,
)

revisions = Table(
    "revisions",
    metadata,
    # 40 hexadecimal digits, at least one of them a letter; never reused.
    Column("id", Text, primary_key=True),
    Column("model", Text, ForeignKey("models.id"), nullable=False),
    Column("tree", LargeBinary(32), ForeignKey("trees.digest"), nullable=False),
    # Revision ids, oldest line first, separated by spaces.
    Column("parents", Text, nullable=False),
    Column("author", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    CheckConstraint("length(id) = 40", name="revision_id"),
    CheckConstraint("length(message) <= 65536", name="revision_message"),
    sqlite_with_rowid=False,
)
Index("revisions_by_model", revisions.c.model, revisions.c.created_at)
Index("revisions_by_tree", revisions.c.tree)

folders = Table(
    "folders",
    metadata,
    Column("id", Text, primary_key=True),
    Column("model", Text, ForeignKey("models.id"), nullable=False),
    # What owns it: a draft here; runs and logged models join later.
    Column("kind", Text, nullable=False),
    Column("label", Text, nullable=False),
    Column("folded", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("created_by", Text, nullable=False),
    # Idle time counts from here.
    Column("touched_at", BigInteger, nullable=False),
    CheckConstraint("kind IN ('draft')", name="folder_kind"),
    CheckConstraint("length(label) BETWEEN 1 AND 128", name="folder_label"),
    sqlite_with_rowid=False,
)
Index("folders_by_label", folders.c.model, folders.c.folded, unique=True)
Index("folders_by_idleness", folders.c.touched_at)

folder_files = Table(
    "folder_files",
    metadata,
    Column("folder", Text, ForeignKey("folders.id"), primary_key=True),
    Column("path", Text, primary_key=True),
    Column("digest", LargeBinary(32), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("put_at", BigInteger, nullable=False),
    CheckConstraint("length(path) BETWEEN 1 AND 1024", name="folder_file_path"),
    CheckConstraint("length(digest) = 32", name="folder_file_digest"),
    CheckConstraint("size >= 0", name="folder_file_size"),
    sqlite_with_rowid=False,
)

folder_uploads = Table(
    "folder_uploads",
    metadata,
    # One running upload into a draft. It names its target by folded names, not by ids: the model
    # and the draft are made only when bytes have arrived whole, so a failed upload leaves neither.
    Column("id", Text, primary_key=True),
    Column("model_folded", Text, nullable=False),
    Column("label_folded", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("principal", Text, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    # Renewed while bytes arrive; the entry of a dead worker lapses.
    Column("expires_at", BigInteger, nullable=False),
    CheckConstraint("length(path) BETWEEN 1 AND 1024", name="folder_upload_path"),
    sqlite_with_rowid=False,
)
Index(
    "folder_uploads_by_target",
    folder_uploads.c.model_folded,
    folder_uploads.c.label_folded,
    folder_uploads.c.path,
)
Index("folder_uploads_by_expiry", folder_uploads.c.expires_at)
