"""Tables of identity: who there is, what they prove it with, and what they were given.

A secret is never here: passwords as Argon2id hashes, tokens as SHA-256 of 256 random bits. Whoever
is deleted stays as a row, because authorship does; everything that opened a door is revoked.

`identity_state` is one row that every change of what somebody may do raises, so that a worker knows
with one look whether what it remembers still holds.
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
    Table,
    Text,
)

from registry.catalog.schema.base import (
    after_making,
    changed,
    deleted,
    fact,
    live_index,
    made,
    metadata,
    one_of,
    within,
)
from registry.domain.roles import ROLES
from store.index.partial import only

USER_KINDS: Final = ("user", "service")
SUBJECT_KINDS: Final = ("user", "team", "everyone")
RESOURCE_KINDS: Final = ("model", "namespace", "registry")

users = Table(
    "users",
    metadata,
    Column("id", Text, primary_key=True),
    # A person, or a service account, which has no password and acts by tokens alone.
    Column("kind", Text, nullable=False),
    # As written by whoever made it; `folded` is unique while the user lives.
    Column("username", Text, nullable=False),
    Column("folded", Text, nullable=False),
    Column("email", Text),
    Column("description", Text, nullable=False),
    # Argon2id in its usual text form; NULL: cannot sign in with a password.
    Column("password_hash", Text),
    Column("password_set_at", BigInteger),
    # An administrator: every word on the registry, whatever the grants say.
    Column("is_admin", Integer, nullable=False),
    Column("active", Integer, nullable=False),
    # Who is responsible for a service account.
    Column("owner", Text, ForeignKey("users.id")),
    # Who says who this is, and by which name there (OpenID Connect's `iss` and `sub`).
    Column("issuer", Text),
    Column("subject", Text),
    *made(),
    *changed(),
    *deleted(),
    one_of("kind", USER_KINDS, "user_kind"),
    within("username", 96, "user_username", least=1),
    within("email", 320, "user_email", least=3),
    within("description", 4096, "user_description"),
    within("issuer", 2048, "user_issuer", least=1),
    within("subject", 255, "user_subject", least=1),
    fact("is_admin", "user_is_admin"),
    fact("active", "user_active"),
    CheckConstraint("kind = 'user' OR password_hash IS NULL", name="user_service_has_no_password"),
    CheckConstraint("kind = 'service' OR owner IS NULL", name="user_owner"),
    CheckConstraint("(issuer IS NULL) = (subject IS NULL)", name="user_from_elsewhere"),
    CheckConstraint("(deleted_at IS NULL) = (deleted_by IS NULL)", name="user_deleted"),
    sqlite_with_rowid=False,
)
live_index("users_by_name", users.c.folded, unique=True)
Index(
    "users_by_issuer",
    users.c.issuer,
    users.c.subject,
    unique=True,
    **only(users.c.issuer.is_not(None)),
)
Index("users_by_owner", users.c.owner)

memberships = Table(
    "memberships",
    metadata,
    Column("team", Text, ForeignKey("teams.id"), primary_key=True),
    Column("user", Text, ForeignKey("users.id"), primary_key=True),
    # What the member may do in namespaces that the team owns.
    Column("role", Text, nullable=False),
    *made(),
    one_of("role", ROLES, "membership_role"),
    sqlite_with_rowid=False,
)
Index("memberships_by_user", memberships.c.user, memberships.c.team)

grants = Table(
    "grants",
    metadata,
    Column("id", Text, primary_key=True),
    Column("subject_kind", Text, nullable=False),
    # Id of a user or team; '' for everyone.
    Column("subject", Text, nullable=False),
    Column("resource_kind", Text, nullable=False),
    # Id of a model, folded pattern of namespaces; '' for the registry.
    Column("resource", Text, nullable=False),
    Column("role", Text, nullable=False),
    *made(),
    one_of("subject_kind", SUBJECT_KINDS, "grant_subject_kind"),
    one_of("resource_kind", RESOURCE_KINDS, "grant_resource_kind"),
    one_of("role", ROLES, "grant_role"),
    within("resource", 96, "grant_resource"),
    CheckConstraint("(subject_kind = 'everyone') = (subject = '')", name="grant_subject"),
    CheckConstraint("(resource_kind = 'registry') = (resource = '')", name="grant_place"),
    sqlite_with_rowid=False,
)
# One role for a subject on a resource: giving another one changes it.
Index(
    "grants_by_subject",
    grants.c.subject_kind,
    grants.c.subject,
    grants.c.resource_kind,
    grants.c.resource,
    unique=True,
)
Index("grants_by_resource", grants.c.resource_kind, grants.c.resource, grants.c.id)

tokens = Table(
    "tokens",
    metadata,
    Column("id", Text, primary_key=True),
    Column("user", Text, ForeignKey("users.id"), nullable=False),
    Column("name", Text, nullable=False),
    # Its first characters, by which people recognise it.
    Column("prefix", Text, nullable=False),
    # SHA-256 of the whole token.
    Column("secret_hash", LargeBinary, nullable=False, unique=True),
    # Permission words, a JSON array; NULL: whatever its user may do.
    Column("scopes", Text),
    Column("expires_at", BigInteger),
    # To the minute, so that use costs no write each time.
    Column("last_used_at", BigInteger),
    Column("revoked_at", BigInteger),
    Column("revoked_by", Text),
    *made(),
    within("name", 200, "token_name", least=1),
    within("prefix", 32, "token_prefix", least=4),
    within("scopes", 4096, "token_scopes", least=2),
    CheckConstraint("length(secret_hash) = 32", name="token_secret_hash"),
    CheckConstraint("(revoked_at IS NULL) = (revoked_by IS NULL)", name="token_revoked"),
    sqlite_with_rowid=False,
)
Index("tokens_by_user", tokens.c.user, tokens.c.id)

sessions = Table(
    "sessions",
    metadata,
    Column("id", Text, primary_key=True),
    Column("user", Text, ForeignKey("users.id"), nullable=False),
    # How somebody signed in.
    Column("method", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("user_agent", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("last_used_at", BigInteger),
    Column("revoked_at", BigInteger),
    one_of("method", ("password", "oidc"), "session_method"),
    within("address", 64, "session_address"),
    within("user_agent", 300, "session_user_agent"),
    sqlite_with_rowid=False,
)
Index("sessions_by_user", sessions.c.user, sessions.c.id)
Index("sessions_by_expiry", sessions.c.expires_at)

login_failures = Table(
    "login_failures",
    metadata,
    # A keyed hash of the account and the address together, or of one of them: neither is readable.
    Column("key", LargeBinary, primary_key=True),
    Column("failures", Integer, nullable=False),
    Column("last_at", BigInteger, nullable=False),
    # Nobody with this key is let in before.
    Column("until", BigInteger, nullable=False),
    CheckConstraint("failures > 0", name="login_failures_counted"),
    sqlite_with_rowid=False,
)
Index("login_failures_by_time", login_failures.c.last_at)

identity_state = Table(
    "identity_state",
    metadata,
    Column("one", Integer, primary_key=True),
    Column("changes", BigInteger, nullable=False),
    CheckConstraint("one = 1", name="identity_state_one"),
    sqlite_with_rowid=False,
)

FIRST_STATE: Final = "INSERT INTO identity_state (one, changes) VALUES (1, 1)"

after_making(identity_state, FIRST_STATE)
