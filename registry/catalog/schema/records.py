"""Tables of what happened: the audit log with its seals, downloads, requests already answered."""

from __future__ import annotations

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

from registry.catalog.schema.base import COUNTER, metadata, within

audit = Table(
    "audit",
    metadata,
    # Given out by SQLite in the order of commits, and never twice: a removed tail leaves a gap.
    Column("id", COUNTER, primary_key=True),
    Column("created_at", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("actor_name", Text, nullable=False),
    Column("request", Text, nullable=False),
    Column("action", Text, nullable=False),
    # What was changed: its kind, id, and what it was called then.
    Column("kind", Text, nullable=False),
    Column("entity", Text, nullable=False),
    Column("name", Text, nullable=False),
    # The model it belongs to; no foreign key, because the log outlives what it speaks of.
    Column("model", Text),
    # JSON of what changed; NULL where there was or will be nothing.
    Column("before", Text),
    Column("after", Text),
    Column("reason", Text, nullable=False),
    within("action", 40, "audit_action", least=1),
    within("kind", 40, "audit_kind", least=1),
    within("reason", 1024, "audit_reason"),
    sqlite_autoincrement=True,
)
Index("audit_by_kind", audit.c.kind, audit.c.id)
Index("audit_by_entity", audit.c.entity, audit.c.id)
Index("audit_by_actor", audit.c.actor, audit.c.id)
Index("audit_by_model", audit.c.model, audit.c.id)
Index("audit_by_action", audit.c.action, audit.c.id)

audit_seals = Table(
    "audit_seals",
    metadata,
    Column("number", BigInteger, primary_key=True),
    # The entries it covers, both included.
    Column("first", BigInteger, nullable=False),
    Column("last", BigInteger, nullable=False),
    Column("entries", BigInteger, nullable=False),
    # The seal before, 32 zero bytes for the first.
    Column("previous", LargeBinary(32), nullable=False),
    Column("seal", LargeBinary(32), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    CheckConstraint("number > 0", name="audit_seal_number"),
    CheckConstraint("first <= last", name="audit_seal_range"),
    CheckConstraint("length(previous) = 32", name="audit_seal_previous"),
    CheckConstraint("length(seal) = 32", name="audit_seal_seal"),
    sqlite_with_rowid=False,
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("principal", Text, primary_key=True),
    # Method and path of the route's pattern, with the values of its parameters.
    Column("route", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    # SHA-256 of the query and the body.
    Column("fingerprint", LargeBinary(32), nullable=False),
    # The answer: status, the headers that matter as a JSON object, the body.
    Column("status", Integer, nullable=False),
    Column("headers", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    within("key", 255, "idempotency_key", least=1),
    CheckConstraint("length(fingerprint) = 32", name="idempotency_fingerprint"),
    sqlite_with_rowid=False,
)
Index("idempotency_keys_by_expiry", idempotency_keys.c.expires_at)

downloads = Table(
    "downloads",
    metadata,
    Column("version", Text, ForeignKey("versions.id"), primary_key=True),
    # The start of the minute; microseconds like every time.
    Column("minute", BigInteger, primary_key=True),
    # Empty: the archive of all files.
    Column("path", Text, primary_key=True),
    Column("principal", Text, primary_key=True),
    # What the client calls itself, shortened to its first product.
    Column("client", Text, primary_key=True),
    Column("requests", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    within("client", 96, "download_client"),
    CheckConstraint("requests >= 0", name="download_requests"),
    CheckConstraint("bytes >= 0", name="download_bytes"),
    sqlite_with_rowid=False,
)
Index("downloads_by_principal", downloads.c.principal, downloads.c.minute)
Index("downloads_by_minute", downloads.c.minute)
