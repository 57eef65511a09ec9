"""References say what opens them to others than their owner; the catalog fills that in for its own.

No row that is there changes here: whose owner is a principal opens to nobody else.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("refs", sa.Column("realm", sa.Text(), nullable=True))
    op.add_column("refs", sa.Column("level", sa.Text(), nullable=True))
    op.create_index(
        "refs_by_access",
        "refs",
        ["digest", "level", "realm"],
        unique=False,
        sqlite_where=sa.text("level IS NOT NULL"),
        postgresql_where=sa.text("level IS NOT NULL"),
    )
