"""The first tables: blobs, references, leases, uploads and quarantine."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "blobs",
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("last_claimed", sa.BigInteger(), nullable=False),
        sa.Column("segments", sa.LargeBinary(length=32), nullable=True),
        sa.Column("verified_at", sa.BigInteger(), nullable=True),
        sa.Column("verified_boot", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("state IN ('present', 'moving', 'damaged')", name="blob_state"),
        sa.CheckConstraint("length(digest) = 32", name="blob_digest"),
        sa.CheckConstraint("size >= 0", name="blob_size"),
        sa.PrimaryKeyConstraint("digest"),
        sqlite_with_rowid=False,
    )
    op.create_index("blobs_by_claim", "blobs", ["last_claimed"], unique=False)
    op.create_index(
        "blobs_unsettled",
        "blobs",
        ["state"],
        unique=False,
        sqlite_where=sa.text("state != 'present'"),
    )
    op.create_table(
        "counters",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "leases",
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("digest", "holder"),
        sqlite_with_rowid=False,
    )
    op.create_index("leases_by_expiry", "leases", ["expires_at"], unique=False)
    op.create_index("leases_by_holder", "leases", ["holder"], unique=False)
    op.create_table(
        "quarantine",
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("collection", sa.Text(), nullable=True),
        sa.Column("segments", sa.LargeBinary(length=32), nullable=True),
        sa.Column("moved_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("reason IN ('collected', 'damaged')", name="quarantine_reason"),
        sa.PrimaryKeyConstraint("digest", "generation"),
        sqlite_with_rowid=False,
    )
    op.create_index("quarantine_by_collection", "quarantine", ["collection"], unique=False)
    op.create_table(
        "refs",
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("count > 0", name="ref_count"),
        sa.PrimaryKeyConstraint("digest", "owner", "kind"),
        sqlite_with_rowid=False,
    )
    op.create_index("refs_by_owner", "refs", ["owner", "kind", "digest"], unique=False)
    op.create_table(
        "store_state",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "uploads",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("length", sa.BigInteger(), nullable=True),
        sa.Column("offset", sa.BigInteger(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("strict", sa.Integer(), nullable=False),
        sa.Column("boot", sa.Text(), nullable=False),
        sa.Column("expected", sa.LargeBinary(length=32), nullable=True),
        sa.Column("digest", sa.LargeBinary(length=32), nullable=True),
        sa.Column("metadata", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("state IN ('receiving', 'finished')", name="upload_state"),
        sa.PrimaryKeyConstraint("id"),
        sqlite_with_rowid=False,
    )
    op.create_index("uploads_by_expiry", "uploads", ["expires_at"], unique=False)
    op.create_index("uploads_by_owner", "uploads", ["owner"], unique=False)
