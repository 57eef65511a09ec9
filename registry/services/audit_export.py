"""The audit log to take elsewhere: every sealed entry with its seal, in the order they were made.

What is not sealed yet is left for the next export, so that exports that each begin behind the last
entry of the one before hold every entry once, under a seal that is final.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from functools import partial
from typing import Final

from registry.catalog.audit import AuditEntry, entries_between
from registry.catalog.seals import Seal, last_seal, seals_after, seals_beyond
from store.opening import Store

PAGE_SEALS: Final = 200
PAGE_ENTRIES: Final = 200


async def sealed_entries(
    store: Store, since: int
) -> AsyncGenerator[tuple[Seal, list[AuditEntry]], None]:
    """Seals with their entries behind the entry `since`, in pages; an empty page ends a seal.

    Ends with the seal that is the newest when it begins. Nothing is held open between pages.
    """
    newest = await store.index.read(last_seal)
    seals = await store.index.read(partial(seals_beyond, entry=since, limit=PAGE_SEALS))
    while newest is not None and seals:
        for seal in seals:
            if seal.number > newest.number:
                return
            after = max(since, seal.first - 1)
            while page := await store.index.read(
                partial(entries_between, after=after, last=seal.last, limit=PAGE_ENTRIES)
            ):
                yield seal, page
                after = page[-1].id
            yield seal, []
        number = seals[-1].number
        seals = await store.index.read(partial(seals_after, number=number, limit=PAGE_SEALS))
