"""Webhooks: made, described, turned on and off, tried out and deleted. Each has a namespace.

**The secret** is told once, in the answer that made it, and only if we drew it. What the index
holds is encrypted; the audit log says when a secret was set and nothing of what it is. Of the URL
it says no more than the origin, because paths and queries of webhooks often are secrets too.

**Another secret** signs at once, and the one before beside it for a while: a receiver that knows
either believes what it is told. A third ends the first.

**What a webhook hears.** Entries of the audit log behind its own creation, and behind the last time
that it was turned on. What is due while it is turned off is given up.

**Deleting** takes effect at once; deliveries go in steps afterwards (`remove_deleted`), and do not
keep the namespace from being deleted.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from registry.auth.encryption import Vault
from registry.catalog.audit import Entry, record
from registry.catalog.deliveries import ListedDelivery, find_delivery, insert_deliveries
from registry.catalog.namespaces import find_namespace_by_id
from registry.catalog.webhooks import (
    ListedWebhook,
    find_webhook,
    forget_former_secrets,
    has_former_secrets,
    insert_webhook,
    last_entry_of,
    remove_some_deleted,
    update_webhook,
    webhooks_before,
)
from registry.domain.addresses import Reach, parse_url
from registry.domain.expectations import ANYTHING, Expected
from registry.domain.ids import WEBHOOK, is_id, new_id
from registry.domain.masking import MASK
from registry.domain.principals import Principal
from registry.domain.signatures import SigningSecret
from registry.domain.webhooks import OVERLAP_SECONDS, Webhook, parse_events
from registry.errors import Conflict, Invalid, NotFound
from registry.services.change import change
from registry.services.namespaces import require_namespace
from registry.services.resolve import require_owner
from store.clock import SECOND
from store.index.transactions import Tx
from store.opening import Store

VAULT_LABEL: Final = "webhook secrets"
PAUSE_SECONDS: Final = 0.005
"""Between steps of removing, for other writers."""


class WebhookWish(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook to make; `namespace` is a slug or an id, without a `secret` one is drawn."""

    namespace: str
    url: str
    events: tuple[str, ...]
    description: str = ""
    is_active: bool = True
    secret: str | None = None

    def __repr__(self) -> str:
        return "WebhookWish(…)"


class WebhookPatch(msgspec.Struct, frozen=True, kw_only=True):
    """What shall be different; UNSET stays, a secret of None is one that is drawn.

    `overlap_seconds` says how long the secret before goes on signing.
    """

    url: str | UnsetType = UNSET
    events: tuple[str, ...] | UnsetType = UNSET
    description: str | UnsetType = UNSET
    is_active: bool | UnsetType = UNSET
    secret: str | UnsetType | None = UNSET
    overlap_seconds: int | UnsetType = UNSET

    def __repr__(self) -> str:
        return "WebhookPatch(…)"


class ToldWebhook(msgspec.Struct, frozen=True):
    """A webhook with the secret that was drawn for it just now, if one was."""

    listed: ListedWebhook
    secret: SigningSecret | None = None


class WebhookPage(msgspec.Struct, frozen=True):
    items: list[ListedWebhook]
    next: str | None


class Webhooks:
    """The webhooks of one store; `reach` is where the server may call."""

    def __init__(self, store: Store, vault: Vault, reach: Reach) -> None:
        self._store = store
        self._vault = vault
        self._reach = reach

    async def create(self, principal: Principal, wish: WebhookWish) -> ToldWebhook:
        """Make a webhook; raises `Invalid` and `NotFound`."""
        self._check_url(wish.url)
        events = parse_events(wish.events)
        id = new_id(WEBHOOK, self._store.clock())
        secret, drawn = _secret(wish.secret)
        kept = await self._vault.encrypt(secret.key, of=id)

        async def unit(tx: Tx) -> ToldWebhook:
            namespace = await require_namespace(tx, principal, wish.namespace)
            webhook = Webhook(
                id=id,
                namespace_id=namespace.id,
                url=wish.url,
                events=events,
                description=wish.description,
                secret=kept,
                secret_set_at=tx.now,
                is_active=wish.is_active,
                created_at=tx.now,
                created_by=principal.id,
                updated_at=tx.now,
            )
            await record(tx, principal, _entry("create", webhook, after=said(webhook)))
            webhook = msgspec.structs.replace(webhook, since=await last_entry_of(tx, id))
            await insert_webhook(tx, webhook)
            return ToldWebhook(ListedWebhook(webhook, namespace.slug), drawn)

        return await change(self._store, principal, unit)

    async def get(self, principal: Principal, id: str) -> ListedWebhook:
        """One webhook; raises `NotFound`."""

        async def unit(tx: Tx) -> ListedWebhook:
            return await _listed(tx, await require_webhook(tx, principal, id))

        return await self._store.index.look(unit)

    async def list(
        self, principal: Principal, *, namespace: str | None, before: str | None, limit: int
    ) -> WebhookPage:
        """The webhooks of all namespaces or of one, the latest made first."""

        async def unit(tx: Tx) -> list[ListedWebhook]:
            found = None
            if namespace is not None:
                found = (await require_namespace(tx, principal, namespace)).id
            seen = principal.places(principal.word or "namespace.admin")
            return await webhooks_before(
                tx, namespace_id=found, seen=seen, before=before, limit=limit + 1
            )

        items = await self._store.index.read(unit)
        is_more = len(items) > limit
        items = items[:limit]
        return WebhookPage(items, items[-1].webhook.id if is_more else None)

    async def change(
        self,
        principal: Principal,
        id: str,
        patch: WebhookPatch,
        expected: Expected = ANYTHING,
    ) -> ToldWebhook:
        """Change a webhook; what changes nothing leaves no trace."""
        if not is_id(id, WEBHOOK):
            raise NotFound("webhook", id[:80], code="webhook_not_found")
        given: dict[str, Any] = {}
        if isinstance(patch.url, str):
            self._check_url(patch.url)
            given["url"] = patch.url
        if patch.events is not UNSET:
            given["events"] = parse_events(patch.events)
        if isinstance(patch.description, str):
            given["description"] = patch.description
        if isinstance(patch.is_active, bool):
            given["is_active"] = patch.is_active
        drawn: SigningSecret | None = None
        if patch.secret is not UNSET:
            secret, drawn = _secret(patch.secret)
            given["secret"] = await self._vault.encrypt(secret.key, of=id)
        elif patch.overlap_seconds is not UNSET:
            raise Invalid("secret_overlap_seconds", "is about a secret, and there is no new one")
        overlap = OVERLAP_SECONDS if patch.overlap_seconds is UNSET else patch.overlap_seconds

        async def unit(tx: Tx) -> ToldWebhook:
            before = await require_webhook(tx, principal, id)
            expected.require(before.id, before.changes)
            after = msgspec.structs.replace(before, **given)
            if after == before:
                return ToldWebhook(await _listed(tx, before))
            if "secret" in given:
                after = msgspec.structs.replace(
                    after,
                    secret_set_at=tx.now,
                    former_secret=before.secret if overlap else None,
                    former_until=tx.now + overlap * SECOND if overlap else None,
                )
            after = await change_webhook(tx, principal, before, after)
            return ToldWebhook(await _listed(tx, after), drawn)

        return await change(self._store, principal, unit)

    async def delete(self, principal: Principal, id: str, expected: Expected = ANYTHING) -> None:
        """Delete a webhook; what is due is not delivered any more."""

        async def unit(tx: Tx) -> None:
            before = await require_webhook(tx, principal, id)
            expected.require(before.id, before.changes)
            gone = msgspec.structs.replace(
                before,
                namespace_id=None,
                is_active=False,
                secret=b"",
                former_secret=None,
                former_until=None,
                updated_at=tx.now,
            )
            await update_webhook(tx, gone)
            await record(tx, principal, _entry("delete", before, before=said(before)))

        await change(self._store, principal, unit)

    async def ping(self, principal: Principal, id: str) -> ListedDelivery:
        """Tell a webhook that it is one; raises `Conflict` for one that is turned off."""

        async def unit(tx: Tx) -> ListedDelivery:
            webhook = await require_active(tx, principal, id)
            await record(tx, principal, _entry("ping", webhook))
            entry = await last_entry_of(tx, id)
            await insert_deliveries(tx, [(id, entry, None)])
            made = await find_delivery(tx, id, entry)
            assert made is not None, "it was made just now"
            return made

        return await change(self._store, principal, unit)

    async def remove_deleted(self) -> int:
        """Go on with what deleted webhooks left, and with secrets that ended; for housekeeping."""
        steps = 0
        if await self._store.index.read(has_former_secrets):
            await self._store.index.run(forget_former_secrets)
        while await self._store.index.run(remove_some_deleted):
            steps += 1
            await asyncio.sleep(PAUSE_SECONDS)
        return steps

    def _check_url(self, url: str) -> None:
        """Refuse what can never be called; where a name leads is found out when it is."""
        target = parse_url(url)
        if target.address is not None and not self._reach.covers(target.address):
            raise Invalid(
                "url",
                f"{target.address} is no public address, and outbound.allow_private does not "
                "name its network",
                code="url_not_public",
            )


async def require_webhook(tx: Tx, principal: Principal, id: str) -> Webhook:
    """The webhook, if the principal may see its namespace; raises `NotFound`."""
    found = await find_webhook(tx, id) if is_id(id, WEBHOOK) else None
    missing = NotFound("webhook", id[:80], code="webhook_not_found")
    await require_owner(tx, principal, None if found is None else found.namespace_id, missing)
    assert found is not None, "what is not there was refused"
    return found


async def require_active(tx: Tx, principal: Principal, id: str) -> Webhook:
    """The webhook, if it is turned on; raises `Conflict`, code ``webhook_inactive``."""
    webhook = await require_webhook(tx, principal, id)
    if not webhook.is_active:
        raise Conflict("webhook", id, "is turned off", code="webhook_inactive")
    return webhook


async def change_webhook(
    tx: Tx, principal: Principal, before: Webhook, after: Webhook, *, reason: str = ""
) -> Webhook:
    """Write a changed webhook with its audit entry."""
    entry = _entry("update", after, before=said(before), after=said(after), reason=reason)
    await record(tx, principal, entry)
    since = before.since
    if after.is_active and not before.is_active:
        since = await last_entry_of(tx, before.id)
    after = msgspec.structs.replace(
        after, since=since, updated_at=tx.now, changes=before.changes + 1
    )
    await update_webhook(tx, after)
    return after


def said(webhook: Webhook) -> dict[str, Any]:
    """What the audit log says of a webhook."""
    return {
        "namespace": webhook.namespace_id,
        "url": f"{parse_url(webhook.url).origin}/{MASK}",
        "events": list(webhook.events),
        "description": webhook.description,
        "active": webhook.is_active,
        "secret": MASK,
        "signed_since": webhook.secret_set_at,
        "former_until": webhook.former_until,
    }


def _secret(given: str | None) -> tuple[SigningSecret, SigningSecret | None]:
    """The secret, and once more if it was drawn here and has to be told."""
    if given is not None:
        return SigningSecret.parse(given), None
    drawn = SigningSecret.fresh()
    return drawn, drawn


async def _listed(tx: Tx, webhook: Webhook) -> ListedWebhook:
    namespace = await find_namespace_by_id(tx, webhook.namespace_id or "")
    assert namespace is not None, "a foreign key says that it is there"
    return ListedWebhook(webhook, namespace.slug)


def _entry(
    action: str, webhook: Webhook, *, before: Any = None, after: Any = None, reason: str = ""
) -> Entry:
    return Entry(
        action=action,
        kind="webhook",
        id=webhook.id,
        name=parse_url(webhook.url).host,
        before=before,
        after=after,
        reason=reason,
    )
