"""Identity: users, memberships, grants, tokens, sessions, failed logins, and their state."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.create_table(
        "grants",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("subject_kind", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("resource_kind", sa.Text(), nullable=False),
        sa.Column("resource", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.CheckConstraint("(resource_kind = 'registry') = (resource = '')", name="grant_place"),
        sa.CheckConstraint("(subject_kind = 'everyone') = (subject = '')", name="grant_subject"),
        sa.CheckConstraint(
            "resource_kind IN ('model', 'namespace', 'registry')", name="grant_resource_kind"
        ),
        sa.CheckConstraint(
            "role IN ('reader', 'writer', 'maintainer', 'admin')", name="grant_role"
        ),
        sa.CheckConstraint(
            "subject_kind IN ('user', 'team', 'everyone')", name="grant_subject_kind"
        ),
        sa.CheckConstraint("length(resource) BETWEEN 0 AND 96", name="grant_resource"),
        sa.PrimaryKeyConstraint("id"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "grants_by_resource", "grants", ["resource_kind", "resource", "id"], unique=False
    )
    op.create_index(
        "grants_by_subject",
        "grants",
        ["subject_kind", "subject", "resource_kind", "resource"],
        unique=True,
    )
    op.create_table(
        "identity_state",
        sa.Column("one", sa.Integer(), nullable=False),
        sa.Column("changes", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("one = 1", name="identity_state_one"),
        sa.PrimaryKeyConstraint("one"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "login_failures",
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("last_at", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("failures > 0", name="login_failures_counted"),
        sa.PrimaryKeyConstraint("key"),
        sqlite_with_rowid=False,
    )
    op.create_index("login_failures_by_time", "login_failures", ["last_at"], unique=False)
    op.create_table(
        "users",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("username", sa.Text(), nullable=False),
        sa.Column("folded", sa.Text(), nullable=False),
        sa.Column("email", sa.Text(), nullable=True),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=True),
        sa.Column("password_set_at", sa.BigInteger(), nullable=True),
        sa.Column("is_admin", sa.Integer(), nullable=False),
        sa.Column("active", sa.Integer(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("issuer", sa.Text(), nullable=True),
        sa.Column("subject", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("changes", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("deleted_at", sa.BigInteger(), nullable=True),
        sa.Column("deleted_by", sa.Text(), nullable=True),
        sa.CheckConstraint("kind = 'service' OR owner IS NULL", name="user_owner"),
        sa.CheckConstraint(
            "kind = 'user' OR password_hash IS NULL", name="user_service_has_no_password"
        ),
        sa.CheckConstraint("kind IN ('user', 'service')", name="user_kind"),
        sa.CheckConstraint("(deleted_at IS NULL) = (deleted_by IS NULL)", name="user_deleted"),
        sa.CheckConstraint("(issuer IS NULL) = (subject IS NULL)", name="user_from_elsewhere"),
        sa.CheckConstraint("active IN (0, 1)", name="user_active"),
        sa.CheckConstraint("is_admin IN (0, 1)", name="user_is_admin"),
        sa.CheckConstraint("length(description) BETWEEN 0 AND 4096", name="user_description"),
        sa.CheckConstraint("length(email) BETWEEN 3 AND 320", name="user_email"),
        sa.CheckConstraint("length(issuer) BETWEEN 1 AND 2048", name="user_issuer"),
        sa.CheckConstraint("length(subject) BETWEEN 1 AND 255", name="user_subject"),
        sa.CheckConstraint("length(username) BETWEEN 1 AND 96", name="user_username"),
        sa.ForeignKeyConstraint(
            ["owner"],
            ["users.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "users_by_issuer",
        "users",
        ["issuer", "subject"],
        unique=True,
        sqlite_where=sa.text("issuer IS NOT NULL"),
        postgresql_where=sa.text("issuer IS NOT NULL"),
    )
    op.create_index(
        "users_by_name",
        "users",
        ["folded"],
        unique=True,
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_index("users_by_owner", "users", ["owner"], unique=False)
    op.create_table(
        "memberships",
        sa.Column("team", sa.Text(), nullable=False),
        sa.Column("user", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "role IN ('reader', 'writer', 'maintainer', 'admin')", name="membership_role"
        ),
        sa.ForeignKeyConstraint(
            ["team"],
            ["teams.id"],
        ),
        sa.ForeignKeyConstraint(
            ["user"],
            ["users.id"],
        ),
        sa.PrimaryKeyConstraint("team", "user"),
        sqlite_with_rowid=False,
    )
    op.create_index("memberships_by_user", "memberships", ["user", "team"], unique=False)
    op.create_table(
        "sessions",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("user", sa.Text(), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("user_agent", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("last_used_at", sa.BigInteger(), nullable=True),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("method IN ('password', 'oidc')", name="session_method"),
        sa.CheckConstraint("length(address) BETWEEN 0 AND 64", name="session_address"),
        sa.CheckConstraint("length(user_agent) BETWEEN 0 AND 300", name="session_user_agent"),
        sa.ForeignKeyConstraint(
            ["user"],
            ["users.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sqlite_with_rowid=False,
    )
    op.create_index("sessions_by_expiry", "sessions", ["expires_at"], unique=False)
    op.create_index("sessions_by_user", "sessions", ["user", "id"], unique=False)
    op.create_table(
        "tokens",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("user", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("secret_hash", sa.LargeBinary(), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=True),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("last_used_at", sa.BigInteger(), nullable=True),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.Column("revoked_by", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.CheckConstraint("(revoked_at IS NULL) = (revoked_by IS NULL)", name="token_revoked"),
        sa.CheckConstraint("length(name) BETWEEN 1 AND 200", name="token_name"),
        sa.CheckConstraint("length(prefix) BETWEEN 4 AND 32", name="token_prefix"),
        sa.CheckConstraint("length(scopes) BETWEEN 2 AND 4096", name="token_scopes"),
        sa.CheckConstraint("length(secret_hash) = 32", name="token_secret_hash"),
        sa.ForeignKeyConstraint(
            ["user"],
            ["users.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("secret_hash"),
        sqlite_with_rowid=False,
    )
    op.create_index("tokens_by_user", "tokens", ["user", "id"], unique=False)
    op.execute("INSERT INTO identity_state (one, changes) VALUES (1, 1)")
