"""From audit entries to deliveries: each matching entry becomes each delivery exactly once.

The audit log is the outbox. The leader reads it behind the last entry that was followed, and writes
the deliveries together with the new place in one transaction: after a kill both are there or
neither. The place is read again in that transaction, so that two leaders do not tell twice; should
they still try, the key of a delivery refuses the second one whole.

**Only sealed entries** are followed. Ids are given out when an entry is written, and on a database
with several writers an entry with a lower id can be committed after one with a higher id: whoever
went by ids alone would pass it over for good. The seals have the same duty (`registry.services.
seals` seals a range once nothing in it can still appear), so here it is not done a second time; on
PostgreSQL sealing *must* wait for the oldest transaction that may still write an entry, by a lock
that `record` shares and the sealer takes alone, or by ``pg_snapshot_xmin``.

While no webhook is turned on nothing is read and nothing is written; the first one that is begins
behind its own creation.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from registry.catalog.deliveries import (
    FollowedEntry,
    entries_to_follow,
    followed_place,
    insert_deliveries,
    put_followed_place,
)
from registry.catalog.namespaces import find_namespace
from registry.catalog.seals import last_seal
from registry.catalog.webhooks import active_webhooks, heard_since
from registry.domain.names import DEFAULT_NAMESPACE, fold
from registry.domain.webhooks import Webhook
from store.index.transactions import Tx
from store.opening import Store

FOLLOWED_AT_ONCE: Final = 500
PAUSE_SECONDS: Final = 0.005


async def follow_audit_log(store: Store) -> int:
    """Make deliveries of what was sealed since the last time; returns how many."""
    made = 0
    while await store.index.read(_is_behind):
        made += await store.index.run(partial(follow_some, most=FOLLOWED_AT_ONCE))
        await asyncio.sleep(PAUSE_SECONDS)  # other writers come in between
    return made


async def _is_behind(tx: Tx) -> bool:
    """Whether there is anything to follow, and anybody to tell."""
    return await _stretch(tx) is not None


async def follow_some(tx: Tx, most: int) -> int:
    """Follow up to `most` entries; returns how many deliveries were made."""
    stretch = await _stretch(tx)
    if stretch is None:
        return 0
    after, last = stretch
    entries = await entries_to_follow(tx, after, last, most)
    by_namespace: dict[str, list[Webhook]] = defaultdict(list)
    for webhook in await active_webhooks(tx):
        by_namespace[webhook.namespace_id or ""].append(webhook)
    told = [delivery for entry in entries for delivery in await _told(tx, entry, by_namespace)]
    await insert_deliveries(tx, told)
    await put_followed_place(tx, entries[-1].id if len(entries) == most else last)
    return len(told)


async def _stretch(tx: Tx) -> tuple[int, int] | None:
    """Behind which entry to go on, and up to which; None where nothing is to be done."""
    since = await heard_since(tx)
    if since is None:
        return None
    sealed = await last_seal(tx)
    after = max(await followed_place(tx), since)
    return None if sealed is None or sealed.last <= after else (after, sealed.last)


async def _told(
    tx: Tx, entry: FollowedEntry, by_namespace: Mapping[str, Sequence[Webhook]]
) -> list[tuple[str, int, str | None]]:
    namespace = await _namespace_of(tx, entry)
    return [
        (webhook.id, entry.id, entry.model_name or _name_of_model(entry))
        for webhook in by_namespace.get(namespace or "", ())
        if entry.id > webhook.since and webhook.hears(entry.kind, entry.action)
    ]


async def _namespace_of(tx: Tx, entry: FollowedEntry) -> str | None:
    """The id of the namespace that an entry belongs to.

    A model that was purged meanwhile is known by the name it had.
    """
    if entry.kind == "namespace":
        return entry.entity
    found = entry.namespace_of_model or entry.namespace_of_experiment
    if found is None and entry.kind == "model":
        first, slash, _ = entry.name.partition("/")
        named = await find_namespace(tx, fold(first if slash else DEFAULT_NAMESPACE))
        found = None if named is None else named.id
    return found


def _name_of_model(entry: FollowedEntry) -> str | None:
    return entry.name if entry.kind == "model" else None
