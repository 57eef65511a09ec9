"""Tables of the catalog: models, what their versions hold, and which names point at them.

They live in the store's database and change inside the store's transactions, so that a version and
the references that keep its bytes become true together. Times are microseconds since the epoch in
UTC, digests are 32 raw bytes, both as in `store.index.schema`.

Only the columns that publishing needs exist so far; what DESIGN section 10 adds comes by migration,
under the names it gives. Enumerations and lengths are checked here as well as in the domain,
because a restored or hand-edited database has not passed through the domain.

`alias_events` only ever grows: no statement of `registry.catalog` changes or removes a row of it.
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
    LargeBinary,
    MetaData,
    Table,
    Text,
)

metadata = MetaData()

SCHEMA_NUMBER: Final = 1
"""The newest migration of this chain; part of ``PRAGMA user_version``."""

models = Table(
    "models",
    metadata,
    Column("id", Text, primary_key=True),
    # As written by whoever created it; `folded` is what must be unique while the model lives.
    Column("name", Text, nullable=False),
    Column("folded", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("visibility", Text, nullable=False),
    # The number given to the newest version; it never falls, so numbers are never reused.
    Column("last_number", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("deleted_at", BigInteger),
    Column("deleted_by", Text),
    CheckConstraint("length(name) BETWEEN 1 AND 200", name="model_name"),
    CheckConstraint("kind IN ('model', 'dataset', 'generic')", name="model_kind"),
    CheckConstraint("visibility IN ('public', 'internal', 'private')", name="model_visibility"),
    CheckConstraint("last_number >= 0", name="model_last_number"),
    CheckConstraint("(deleted_at IS NULL) = (deleted_by IS NULL)", name="model_deleted"),
    sqlite_with_rowid=False,
)
Index(
    "models_by_name",
    models.c.folded,
    unique=True,
    sqlite_where=models.c.deleted_at.is_(None),
    postgresql_where=models.c.deleted_at.is_(None),
)

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
    # A deleted version keeps its row: it is what burns the number and the label.
    Column("deleted_at", BigInteger),
    Column("deleted_by", Text),
    CheckConstraint("number > 0", name="version_number"),
    CheckConstraint("length(label) BETWEEN 1 AND 128", name="version_label"),
    CheckConstraint("(label IS NULL) = (folded IS NULL)", name="version_folded"),
    CheckConstraint("standing IN ('plain', 'release', 'prerelease')", name="version_standing"),
    CheckConstraint(
        "(standing = 'plain') = (precedence IS NULL)",
        name="version_precedence",
    ),
    CheckConstraint("length(tree) = 32", name="version_tree"),
    CheckConstraint("files >= 0", name="version_files"),
    CheckConstraint("size >= 0", name="version_size"),
    CheckConstraint("(deleted_at IS NULL) = (deleted_by IS NULL)", name="version_deleted"),
    sqlite_with_rowid=False,
)
Index("versions_by_number", versions.c.model, versions.c.number, unique=True)
Index("versions_by_label", versions.c.model, versions.c.folded, unique=True)
Index("versions_by_tree", versions.c.model, versions.c.tree, versions.c.number)
Index("versions_by_revision", versions.c.revision)
Index(
    "versions_by_standing",
    versions.c.model,
    versions.c.standing,
    versions.c.precedence,
    versions.c.number,
    sqlite_where=versions.c.deleted_at.is_(None),
    postgresql_where=versions.c.deleted_at.is_(None),
)

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
    Column("created_at", BigInteger, nullable=False),
    CheckConstraint("length(name) BETWEEN 1 AND 128", name="alias_event_name"),
    CheckConstraint("length(reason) <= 1024", name="alias_event_reason"),
)
Index("alias_events_by_alias", alias_events.c.model, alias_events.c.folded, alias_events.c.id)

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
