"""Deliver what is due: sign it, send it, take down how it went, and try again later if need be.

For the leader. An attempt is written down once it has ended, so one that a crash interrupted is
made again: a delivery arrives **at least once**, each time under the same ``webhook-id``.

**Nobody holds up the others.** A webhook has at most `AT_ONCE_EACH` attempts under way, one while
its last attempt failed, of `AT_ONCE` in all; whoever was served longest ago comes first. An attempt
takes at most `ATTEMPT_SECONDS`, whatever the receiver does.

**What is sent** is made of the audit entry alone, so every attempt has the same body; secrets were
masked when the entry was written. Neither URL nor answer goes to the log.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Final

import msgspec
import structlog

from registry.auth.encryption import Unreadable, Vault
from registry.catalog.deliveries import (
    DueDelivery,
    Outcome,
    count_waiting,
    due_deliveries,
    finish_attempt,
    webhooks_due,
)
from registry.catalog.webhooks import find_webhook
from registry.domain.addresses import parse_url
from registry.domain.calls import Call, CallFailed, Reply, Send
from registry.domain.principals import HOUSEKEEPING
from registry.domain.signatures import SigningSecret
from registry.domain.webhooks import (
    MOST_RESPONSE_BYTES,
    delay_seconds,
    message_id,
    retry_after_seconds,
)
from registry.services.messages import message
from registry.services.webhooks import change_webhook
from store.clock import SECOND
from store.index.transactions import Tx
from store.opening import Store

AT_ONCE: Final = 32
AT_ONCE_EACH: Final = 2
ATTEMPT_SECONDS: Final = 10.0
LOOK_SECONDS: Final = 1.0
"""How soon something that falls due is seen while other attempts are under way."""

_GONE: Final = 410
_RANDOM: Final = random.SystemRandom()

logger = structlog.get_logger()


class Deliverer:
    """Makes the attempts of one process, and counts them."""

    def __init__(
        self,
        store: Store,
        vault: Vault,
        send: Send,
        *,
        user_agent: str,
        jitter: Callable[[], float] = _RANDOM.random,
    ) -> None:
        self._store = store
        self._vault = vault
        self._send = send
        self._user_agent = user_agent
        self._jitter = jitter
        self._running: dict[tuple[str, int], asyncio.Task[None]] = {}
        self._failing: set[str] = set()
        self._served: dict[str, int] = {}
        self._turn = 0
        self.waiting = 0
        """Deliveries not yet delivered or given up, when the leader looked last."""
        self.delivered = 0
        self.failed = 0
        """Attempts that failed."""
        self.given_up = 0

    async def run(self) -> int:
        """Deliver until nothing is due; returns how many attempts were made."""
        made, counted_at = 0, 0.0
        async with asyncio.TaskGroup() as group:
            while True:
                now = asyncio.get_running_loop().time()
                if now - counted_at >= LOOK_SECONDS:
                    self.waiting = await self._store.index.read(count_waiting)
                    counted_at = now
                were_running = bool(self._running)
                found = await self._next()
                for due in found:
                    self._start(group, due)
                    made += 1
                if not found and not were_running:
                    break  # those that ended while it looked held up others that are due
                if self._running:
                    await asyncio.wait(
                        self._running.values(),
                        timeout=LOOK_SECONDS,
                        return_when=asyncio.FIRST_COMPLETED,
                    )
        self._served.clear()  # nobody waits
        if made:
            self.waiting = await self._store.index.read(count_waiting)
        return made

    def _start(self, group: asyncio.TaskGroup, due: DueDelivery) -> None:
        webhook, entry = due.delivery.webhook_id, due.delivery.entry
        self._turn += 1
        self._served[webhook] = self._turn
        task = group.create_task(self._attempt(due), name=f"deliver {webhook} {entry}")
        self._running[webhook, entry] = task
        task.add_done_callback(lambda _: self._running.pop((webhook, entry), None))

    async def _next(self) -> list[DueDelivery]:
        """What may be attempted now, of the webhooks served longest ago."""
        free = AT_ONCE - len(self._running)
        if free <= 0:
            return []
        busy: dict[str, set[int]] = {}
        for webhook, entry in self._running:
            busy.setdefault(webhook, set()).add(entry)
        choose = partial(
            _choose, free=free, busy=busy, failing=set(self._failing), served=dict(self._served)
        )
        return await self._store.index.read(choose)

    async def _attempt(self, due: DueDelivery) -> None:
        webhook = due.delivery.webhook_id
        started, begun = self._store.clock(), time.perf_counter()
        reply, error = None, ""
        try:
            reply = await self._send(await self._call(due, started))
        except CallFailed as failure:
            error = str(failure)
        except Unreadable:
            error = "the secret cannot be read: another root key encrypted it; set a new one"
        except Exception:
            # One delivery that cannot be made must not end those beside it, again and again.
            logger.exception("delivery failed", webhook=webhook, entry=due.delivery.entry)
            error = "the server failed to send it"
        milliseconds = round((time.perf_counter() - begun) * 1000, 3)
        outcome = self._outcome(due, started, reply, error)
        outcome = msgspec.structs.replace(outcome, milliseconds=milliseconds)
        if await self._store.index.run(partial(_finish, due=due, outcome=outcome)):
            self._count(webhook, outcome)

    def _count(self, webhook: str, outcome: Outcome) -> None:
        if outcome.state == "delivered":
            self.delivered += 1
            self._failing.discard(webhook)
            return
        self.failed += 1
        self._failing.add(webhook)
        if outcome.status == _GONE:
            logger.warning("webhook turned off", webhook=webhook, reason=outcome.error)
        if outcome.state == "failed":
            self.given_up += 1
            logger.warning("delivery given up", webhook=webhook, reason=outcome.error)

    async def _call(self, due: DueDelivery, now: int) -> Call:
        webhook = due.delivery.webhook_id
        if not due.is_active:
            raise CallFailed("refused", "the webhook was turned off")
        secrets = [await self._vault.decrypt(due.secret, of=webhook)]
        if due.former_secret is not None and now < (due.former_until or 0):
            # A secret of another root key signs nothing, which is why there is a new one.
            with suppress(Unreadable):
                secrets.append(await self._vault.decrypt(due.former_secret, of=webhook))
        id, seconds = message_id(webhook, due.entry.id, due.entry.created_at), now // SECOND
        body = message(webhook, due.entry, due.delivery.model_name)
        return Call(
            method="POST",
            target=parse_url(due.url),
            headers={
                "Content-Type": "application/json",
                "User-Agent": self._user_agent,
                "webhook-id": id,
                "webhook-timestamp": str(seconds),
                "webhook-signature": " ".join(
                    SigningSecret(secret).sign(id, seconds, body) for secret in secrets
                ),
            },
            body=body,
            total_seconds=ATTEMPT_SECONDS,
            most_bytes=MOST_RESPONSE_BYTES,
        )

    def _outcome(self, due: DueDelivery, started: int, reply: Reply | None, error: str) -> Outcome:
        """What becomes of a delivery after an attempt."""
        ended = self._store.clock()
        status = None if reply is None else reply.status
        response = "" if reply is None else _text(reply)
        if status is not None and 200 <= status < 300:
            return Outcome(
                state="delivered",
                ended_at=ended,
                attempted_at=started,
                status=status,
                response=response,
            )
        is_over = status == _GONE or not due.is_active
        delay = None if is_over else delay_seconds(due.delivery.attempts + 1, self._jitter())
        if delay is not None and reply is not None:
            delay = max(delay, retry_after_seconds(reply.headers.get("Retry-After"), ended))
        return Outcome(
            state="failed" if delay is None else "waiting",
            due_at=None if delay is None else ended + int(delay * SECOND),
            ended_at=ended if delay is None else None,
            attempted_at=started,
            status=status,
            error=error if status is None else _reason(status),
            response=response,
        )


async def _choose(
    tx: Tx,
    free: int,
    busy: Mapping[str, set[int]],
    failing: set[str],
    served: Mapping[str, int],
) -> list[DueDelivery]:
    """One of each webhook before the second of any."""
    first: list[DueDelivery] = []
    more: list[DueDelivery] = []
    for webhook in sorted(await webhooks_due(tx), key=lambda id: served.get(id, 0)):
        mine = busy.get(webhook, set())
        slots = (1 if webhook in failing else AT_ONCE_EACH) - len(mine)
        if slots > 0:
            # Those under way are still due, and come first or not.
            found = await due_deliveries(tx, webhook, len(mine) + slots)
            fresh = [one for one in found if one.delivery.entry not in mine][:slots]
            first += fresh[:1]
            more += fresh[1:]
        if len(first) == free:
            break
    return [*first, *more][:free]


async def _finish(tx: Tx, due: DueDelivery, outcome: Outcome) -> bool:
    """Take an attempt down; a receiver that is gone for good is told nothing more."""
    is_first = await finish_attempt(tx, due.delivery, outcome)
    if is_first and outcome.status == _GONE:
        webhook = await find_webhook(tx, due.delivery.webhook_id)
        if webhook is not None and webhook.is_active:
            off = msgspec.structs.replace(webhook, is_active=False)
            await change_webhook(tx, HOUSEKEEPING, webhook, off, reason="it answered 410 Gone")
    return is_first


def _text(reply: Reply) -> str:
    """The answer as text; NUL, which PostgreSQL does not keep, is replaced too."""
    return reply.body.decode(errors="replace").replace("\0", "\ufffd")


def _reason(status: int) -> str:
    if status == _GONE:
        return "answered 410, so the webhook was turned off"
    if 300 <= status < 400:
        return f"answered {status}, and redirects are not followed"
    return f"answered {status}"
