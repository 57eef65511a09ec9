"""The archive: which file of the cold tier has a blob's bytes, and which files there are."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("blobs", sa.Column("archived", sa.BigInteger(), nullable=True))
    op.add_column("quarantine", sa.Column("archived", sa.BigInteger(), nullable=True))
    op.create_table(
        "archived",
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("stored", sa.BigInteger(), nullable=True),
        sa.Column("spare_since", sa.BigInteger(), nullable=True),
        sa.Column("made_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("digest", "number"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "archived_spare",
        "archived",
        ["spare_since"],
        unique=False,
        sqlite_where=sa.text("spare_since IS NOT NULL"),
    )
