"""What a webhook is told: an audit entry as JSON, in the form that Standard Webhooks advises."""

from __future__ import annotations

from typing import Final

import msgspec

from registry.catalog.audit import AuditEntry
from registry.domain.times import rfc3339
from registry.domain.webhooks import message_id

_NULL: Final = msgspec.Raw(b"null")


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """Who did what to which entity; `before` and `after` as the audit log has them, masked."""

    entry: int
    actor: str
    actor_name: str
    kind: str
    action: str
    entity: str
    name: str
    model: str | None
    model_name: str | None
    before: msgspec.Raw
    after: msgspec.Raw
    reason: str
    request_id: str


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a delivery."""

    type: str
    timestamp: str
    id: str
    data: Told


def message(webhook_id: str, entry: AuditEntry, model_name: str | None) -> bytes:
    """The body that tells a webhook of an entry: the same bytes at every attempt."""
    told = Told(
        entry=entry.id,
        actor=entry.actor,
        actor_name=entry.actor_name,
        kind=entry.kind,
        action=entry.action,
        entity=entry.entity,
        name=entry.name,
        model=entry.model,
        model_name=model_name,
        before=_raw(entry.before),
        after=_raw(entry.after),
        reason=entry.reason,
        request_id=entry.request,
    )
    return msgspec.json.encode(
        Message(
            type=f"{entry.kind}.{entry.action}",
            timestamp=rfc3339(entry.created_at),
            id=message_id(webhook_id, entry.id, entry.created_at),
            data=told,
        )
    )


def _raw(text: str | None) -> msgspec.Raw:
    return _NULL if text is None else msgspec.Raw(text.encode())
