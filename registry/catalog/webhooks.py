"""Rows of webhooks. A deleted one has no namespace, and goes when its deliveries have gone."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import msgspec
from sqlalchemy import bindparam, delete, func, insert, null, select, update
from sqlalchemy.sql.elements import ColumnElement

from registry.catalog.schema import audit, deliveries, namespaces, webhooks
from registry.catalog.visible import few_namespaces, newest_of_few, sees_namespace
from registry.domain.webhooks import Webhook
from store.index.transactions import Row, Statement, Tx

AT_ONCE: Final = 1_000
"""How many deliveries go in one transaction."""

_FIELDS: Final = {
    "id": webhooks.c.id,
    "namespace_id": webhooks.c.namespace,
    "url": webhooks.c.url,
    "events": webhooks.c.events,
    "description": webhooks.c.description,
    "secret": webhooks.c.secret,
    "secret_set_at": webhooks.c.secret_set_at,
    "is_active": webhooks.c.active,
    "since": webhooks.c.since,
    "created_at": webhooks.c.created_at,
    "created_by": webhooks.c.created_by,
    "updated_at": webhooks.c.updated_at,
    "changes": webhooks.c.changes,
    "former_secret": webhooks.c.former_secret,
    "former_until": webhooks.c.former_until,
}
_WRITTEN: Final[dict[str, Any]] = {column.name: bindparam(name) for name, column in _FIELDS.items()}
_SELECT: Final = select(*_FIELDS.values())
_FIND = Statement(
    lambda: _SELECT.where(webhooks.c.id == bindparam("id"), webhooks.c.namespace.is_not(None))
)
_INSERT = Statement(lambda: insert(webhooks).values(_WRITTEN))
_UPDATE = Statement(
    lambda: (
        update(webhooks)
        .where(webhooks.c.id == bindparam("id_"))
        .values({name: value for name, value in _WRITTEN.items() if name != "id"})
    )
)
_HAS_FORMER = Statement(
    lambda: (
        select(webhooks.c.id)
        .where(webhooks.c.former_until <= bindparam("now"), webhooks.c.former_secret.is_not(None))
        .limit(1)
    )
)
_FORGET_FORMER = Statement(
    lambda: (
        update(webhooks)
        .where(webhooks.c.former_until <= bindparam("now"), webhooks.c.former_secret.is_not(None))
        .values(former_secret=null())
    )
)
_HELD = Statement(
    lambda: (
        select(func.count())
        .select_from(webhooks)
        .where(webhooks.c.namespace == bindparam("namespace"))
    )
)
_LAST_ENTRY = Statement(
    lambda: (
        select(audit.c.id)
        .where(audit.c.entity == bindparam("id"))
        .order_by(audit.c.id.desc())
        .limit(1)
    )
)
_ACTIVE = Statement(lambda: _SELECT.where(webhooks.c.active == 1))
_FIRST_SINCE = Statement(lambda: select(func.min(webhooks.c.since)).where(webhooks.c.active == 1))
_FIRST_DELETED = Statement(
    lambda: (
        select(webhooks.c.id).where(webhooks.c.namespace.is_(None)).order_by(webhooks.c.id).limit(1)
    )
)
_DELETE_DELIVERIES = Statement(
    lambda: delete(deliveries).where(
        deliveries.c.webhook == bindparam("webhook_"),
        deliveries.c.entry.in_(
            select(deliveries.c.entry)
            .where(deliveries.c.webhook == bindparam("webhook_"))
            .order_by(deliveries.c.entry)
            .limit(bindparam("most"))
        ),
    )
)
_DELETE = Statement(
    lambda: delete(webhooks).where(
        webhooks.c.id == bindparam("id_"), webhooks.c.namespace.is_(None)
    )
)


class ListedWebhook(msgspec.Struct, frozen=True):
    """A webhook with the slug of its namespace."""

    webhook: Webhook
    namespace: str


def _webhook(row: Row) -> Webhook:
    values = dict(zip(_FIELDS, row, strict=True))
    values["events"] = msgspec.json.decode(values["events"], type=tuple[str, ...])
    values["is_active"] = bool(values["is_active"])
    return Webhook(**values)


def _values(webhook: Webhook) -> dict[str, Any]:
    values = {name: getattr(webhook, name) for name in _FIELDS}
    values["events"] = msgspec.json.encode(webhook.events).decode()
    values["is_active"] = int(webhook.is_active)
    return values


async def find_webhook(tx: Tx, id: str) -> Webhook | None:
    """The webhook, unless it is deleted."""
    row = await tx.one(_FIND, id=id)
    return None if row is None else _webhook(row)


async def insert_webhook(tx: Tx, webhook: Webhook) -> None:
    await tx.run(_INSERT, **_values(webhook))


async def update_webhook(tx: Tx, webhook: Webhook) -> None:
    values = _values(webhook)
    await tx.run(_UPDATE, id_=values.pop("id"), **values)


async def has_former_secrets(tx: Tx) -> bool:
    """Whether there are secrets that sign no more."""
    return await tx.one(_HAS_FORMER, now=tx.now) is not None


async def forget_former_secrets(tx: Tx) -> int:
    """Remove secrets that sign no more; how many. Until when they did stays: it is in answers."""
    return await tx.run(_FORGET_FORMER, now=tx.now)


async def webhooks_held(tx: Tx, namespace_id: str) -> int:
    """How many webhooks a namespace has."""
    row = await tx.one(_HELD, namespace=namespace_id)
    assert row is not None, "a count"
    return int(row[0])


async def last_entry_of(tx: Tx, webhook_id: str) -> int:
    """The newest audit entry about a webhook; there is one, since it was made."""
    row = await tx.one(_LAST_ENTRY, id=webhook_id)
    assert row is not None, "its creation was recorded"
    return int(row[0])


async def active_webhooks(tx: Tx) -> list[Webhook]:
    """All that are told of events."""
    return [_webhook(row) for row in await tx.all(_ACTIVE)]


async def heard_since(tx: Tx) -> int | None:
    """The entry behind which some active webhook listens; None if there is none."""
    row = await tx.one(_FIRST_SINCE)
    return None if row is None or row[0] is None else int(row[0])


async def webhooks_before(
    tx: Tx, *, namespace_id: str | None, seen: str | None, before: str | None, limit: int
) -> list[ListedWebhook]:
    """A page, the latest made first, behind the id `before`; `seen`: `catalog.visible`."""
    given = {"namespace": namespace_id, "seen": seen, "before": before}
    values = {name: value for name, value in given.items() if value is not None}
    if seen is not None and namespace_id is None:
        few = await few_namespaces(tx, seen)
        if few is not None:
            del values["seen"]
            values["few"] = few
    rows = await tx.all(_page(tuple(values)), limit=limit, **values)
    return [ListedWebhook(_webhook(row[:-1]), row[-1]) for row in rows]


@cache
def _page(given: tuple[str, ...]) -> Statement:
    """Ids sort by time of making, so they are the order."""
    question = select(*_FIELDS.values(), namespaces.c.slug).join(
        namespaces, namespaces.c.id == webhooks.c.namespace
    )
    tests: list[ColumnElement[bool]] = []
    if "namespace" in given:
        tests.append(webhooks.c.namespace == bindparam("namespace"))
    if "seen" in given:
        tests.append(sees_namespace(webhooks.c.namespace))
    if "before" in given:
        tests.append(webhooks.c.id < bindparam("before"))
    if "few" in given:
        tests = [newest_of_few({webhooks.c.namespace: tests})]
    return Statement(
        question.where(*tests).order_by(webhooks.c.id.desc()).limit(bindparam("limit"))
    )


async def remove_some_deleted(tx: Tx) -> bool:
    """Remove some of what a deleted webhook left, at last itself; whether there was any."""
    row = await tx.one(_FIRST_DELETED)
    if row is None:
        return False
    if await tx.run(_DELETE_DELIVERIES, webhook_=row[0], most=AT_ONCE) < AT_ONCE:
        await tx.run(_DELETE, id_=row[0])
    return True
