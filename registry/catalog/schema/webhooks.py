"""Tables of webhooks, and of what was and is to be delivered to them.

The audit log is the outbox: an entry is written in the transaction of the change it tells of, so
deliveries are made from the entries after the last one that was looked at.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
)

from registry.catalog.schema.base import COUNTER, changed, fact, made, metadata, one_of, within

webhooks = Table(
    "webhooks",
    metadata,
    Column("id", Text, primary_key=True),
    Column("namespace", Text, ForeignKey("namespaces.id"), nullable=False),
    Column("url", Text, nullable=False),
    # Kinds of event, a JSON array; empty: all.
    Column("events", Text, nullable=False),
    Column("description", Text, nullable=False),
    # Encrypted under a sub-key of the root key; never leaves the server again.
    Column("secret", LargeBinary, nullable=False),
    Column("active", Integer, nullable=False),
    *made(),
    *changed(),
    within("url", 2048, "webhook_url", least=1),
    within("description", 4096, "webhook_description"),
    fact("active", "webhook_active"),
    sqlite_with_rowid=False,
)
Index("webhooks_by_namespace", webhooks.c.namespace, webhooks.c.id)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", COUNTER, primary_key=True),
    Column("webhook", Text, ForeignKey("webhooks.id"), nullable=False),
    # The audit entry that it tells of.
    Column("entry", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    # When to try next; NULL once it is delivered or given up.
    Column("due_at", BigInteger),
    Column("status", Integer),
    Column("error", Text, nullable=False),
    Column("response", Text, nullable=False),
    Column("milliseconds", Float),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    one_of("state", ("waiting", "delivered", "failed"), "delivery_state"),
    CheckConstraint("attempts >= 0", name="delivery_attempts"),
    CheckConstraint("(state = 'waiting') = (due_at IS NOT NULL)", name="delivery_due"),
    sqlite_autoincrement=True,
)
Index("deliveries_by_due", deliveries.c.due_at)
Index("deliveries_by_webhook", deliveries.c.webhook, deliveries.c.id)
Index("deliveries_once", deliveries.c.webhook, deliveries.c.entry, unique=True)
