"""Shapes of webhooks and their deliveries as JSON. A secret is in no `repr`."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from registry.catalog.deliveries import ListedDelivery
from registry.domain.addresses import MOST_URL
from registry.domain.names import DEFAULT_NAMESPACE
from registry.domain.times import rfc3339
from registry.domain.webhooks import (
    MOST_DESCRIPTION,
    MOST_EVENTS,
    MOST_OVERLAP_SECONDS,
    DeliveryState,
    message_id,
)
from registry.http.cursors import PageQuery
from registry.services.webhooks import ToldWebhook, WebhookPatch, WebhookWish

Namespace = Annotated[
    str, Meta(min_length=1, max_length=96, description="A namespace, by its slug or `nsp_` id.")
]
Url = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=MOST_URL,
        description="Where to deliver: `http` or `https`, without credentials or fragment.",
        examples=["https://ci.example/hooks/registry"],
    ),
]
Events = Annotated[
    list[Annotated[str, Meta(max_length=100)]],
    Meta(
        min_length=1,
        max_length=MOST_EVENTS,
        description="What to tell of: `kind.action`, `kind.*`, or `*`.",
        examples=[["version.publish", "alias.*"]],
    ),
]
Description = Annotated[str, Meta(max_length=MOST_DESCRIPTION)]
Secret = Annotated[
    str,
    Meta(
        max_length=200,
        description="`whsec_` and 24 to 64 bytes in base64. It is never shown again.",
    ),
]


Overlap = Annotated[
    int,
    Meta(
        ge=0,
        le=MOST_OVERLAP_SECONDS,
        description="How long the secret before signs too; a day if nothing is said.",
    ),
]


class WebhookBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A webhook to make. Without a secret one is drawn and told in the answer, once."""

    url: Url
    events: Events
    namespace: Namespace = DEFAULT_NAMESPACE
    description: Description = ""
    active: bool = True
    secret: Secret | None = None

    def __repr__(self) -> str:
        return "WebhookBody(…)"

    def wish(self) -> WebhookWish:
        return WebhookWish(
            namespace=self.namespace,
            url=self.url,
            events=tuple(self.events),
            description=self.description,
            is_active=self.active,
            secret=self.secret,
        )


class WebhookPatchBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A merge-patch: what is absent stays; a secret of null is drawn anew and told, once."""

    url: Url | UnsetType = UNSET
    events: Events | UnsetType = UNSET
    description: Description | UnsetType | None = UNSET
    active: bool | UnsetType = UNSET
    secret: Secret | UnsetType | None = UNSET
    secret_overlap_seconds: Overlap | UnsetType = UNSET

    def __repr__(self) -> str:
        return "WebhookPatchBody(…)"

    def patch(self) -> WebhookPatch:
        return WebhookPatch(
            url=self.url,
            events=UNSET if self.events is UNSET else tuple(self.events),
            description="" if self.description is None else self.description,
            is_active=self.active,
            secret=self.secret,
            overlap_seconds=self.secret_overlap_seconds,
        )


class WebhooksQuery(PageQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which webhooks to list."""

    namespace: Namespace | None = None


class DeliveriesQuery(PageQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which deliveries to list."""

    state: Annotated[DeliveryState, Meta(description="How it went so far.")] | None = None


class WebhookAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """An address that is told of events. `secret` is there only when it was drawn just now."""

    id: str
    namespace: str
    url: str
    events: list[str]
    description: str
    active: bool
    secret_set_at: str
    former_secret_until: str | None
    created_at: str
    created_by: str
    updated_at: str
    secret: str | UnsetType = UNSET

    def __repr__(self) -> str:
        return f"WebhookAnswer({self.id})"


class DeliveryAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of the audit log told to a webhook, and how the last attempt went.

    `response` is what the receiver answered, for administrators of the registry alone.
    """

    webhook: str
    entry: int
    event: str
    message_id: str
    state: DeliveryState
    attempts: int
    due_at: str | None
    created_at: str
    attempted_at: str | None
    ended_at: str | None
    status: int | None
    milliseconds: float | None
    error: str
    response: str | UnsetType = UNSET


def webhook_answer(told: ToldWebhook) -> WebhookAnswer:
    one = told.listed.webhook
    return WebhookAnswer(
        id=one.id,
        namespace=told.listed.namespace,
        url=one.url,
        events=list(one.events),
        description=one.description,
        active=one.is_active,
        secret_set_at=rfc3339(one.secret_set_at),
        former_secret_until=None if one.former_until is None else rfc3339(one.former_until),
        created_at=rfc3339(one.created_at),
        created_by=one.created_by,
        updated_at=rfc3339(one.updated_at),
        secret=UNSET if told.secret is None else told.secret.text,
    )


def delivery_answer(listed: ListedDelivery, *, shows_response: bool) -> DeliveryAnswer:
    one = listed.delivery
    return DeliveryAnswer(
        webhook=one.webhook_id,
        entry=one.entry,
        event=f"{listed.kind}.{listed.action}",
        message_id=message_id(one.webhook_id, one.entry, listed.happened_at),
        state=one.state,  # type: ignore[arg-type]  # the table allows these words alone
        attempts=one.attempts,
        due_at=_time(one.due_at),
        created_at=rfc3339(one.created_at),
        attempted_at=_time(one.attempted_at),
        ended_at=_time(one.ended_at),
        status=one.status,
        milliseconds=one.milliseconds,
        error=one.error,
        response=one.response if shows_response else UNSET,
    )


def _time(value: int | None) -> str | None:
    return None if value is None else rfc3339(value)
