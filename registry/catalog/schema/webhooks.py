"""Tables of webhooks, and of what was and is to be delivered to them.

The audit log is the outbox: an entry is written in the transaction of the change it tells of, so
deliveries are made from the entries after the last one that was looked at.
"""

from __future__ import annotations

from typing import Final

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

from registry.catalog.schema.base import changed, fact, made, metadata, one_of, within
from store.index.partial import only

DELIVERY_STATES: Final = ("waiting", "delivered", "failed")

webhooks = Table(
    "webhooks",
    metadata,
    Column("id", Text, primary_key=True),
    # NULL once it is deleted: nobody sees it any more, and its deliveries go in steps.
    Column("namespace", Text, ForeignKey("namespaces.id")),
    Column("url", Text, nullable=False),
    # Kinds of event, a JSON array.
    Column("events", Text, nullable=False),
    Column("description", Text, nullable=False),
    # Encrypted under a sub-key of the root key; never leaves the server again.
    Column("secret", LargeBinary, nullable=False),
    Column("secret_set_at", BigInteger, nullable=False),
    Column("active", Integer, nullable=False),
    # It hears of entries of the audit log behind this one.
    Column("since", BigInteger, nullable=False),
    *made(),
    *changed(),
    # The secret before, encrypted likewise: it signs too until then. NULL: none does.
    Column("former_secret", LargeBinary),
    Column("former_until", BigInteger),
    within("url", 2048, "webhook_url", least=1),
    within("events", 16384, "webhook_events", least=2),
    within("description", 4096, "webhook_description"),
    fact("active", "webhook_active"),
    CheckConstraint("namespace IS NOT NULL OR active = 0", name="webhook_deleted"),
    sqlite_with_rowid=False,
)
Index("webhooks_by_namespace", webhooks.c.namespace, webhooks.c.id)

deliveries = Table(
    "deliveries",
    metadata,
    Column("webhook", Text, ForeignKey("webhooks.id"), primary_key=True),
    # The audit entry that it tells of, which stays as long; each is told once.
    Column("entry", BigInteger, primary_key=True),
    # What its model was called then.
    Column("model_name", Text),
    Column("state", Text, nullable=False),
    # Since it was made or asked for again.
    Column("attempts", Integer, nullable=False),
    # When to try next; NULL once it is delivered or given up.
    Column("due_at", BigInteger),
    # When that was.
    Column("ended_at", BigInteger),
    # Of the last attempt: what was answered, what went wrong, how long it took.
    Column("attempted_at", BigInteger),
    Column("status", Integer),
    Column("error", Text, nullable=False),
    Column("milliseconds", Float),
    Column("created_at", BigInteger, nullable=False),
    # Last, because it can be long and is seldom read.
    Column("response", Text, nullable=False),
    one_of("state", DELIVERY_STATES, "delivery_state"),
    within("error", 1024, "delivery_error"),
    within("response", 65536, "delivery_response"),
    CheckConstraint("attempts >= 0", name="delivery_attempts"),
    CheckConstraint("(state = 'waiting') = (due_at IS NOT NULL)", name="delivery_due"),
    CheckConstraint("(state = 'waiting') = (ended_at IS NULL)", name="delivery_ended"),
    sqlite_with_rowid=False,
)
Index("deliveries_by_state", deliveries.c.webhook, deliveries.c.state, deliveries.c.entry)
Index(
    "deliveries_due",
    deliveries.c.webhook,
    deliveries.c.due_at,
    deliveries.c.entry,
    **only(deliveries.c.due_at.is_not(None)),
)
Index(
    "deliveries_ended",
    deliveries.c.ended_at,
    **only(deliveries.c.ended_at.is_not(None)),
)
