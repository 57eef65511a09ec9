"""What happens, as it happens: the audit log from a place on, for whoever may read it.

The audit log is the stream: an entry is written in the transaction of what it tells of, so nothing
is told that did not happen and nothing that did is missing. As for webhooks only **sealed** entries
are told (`registry.services.outbox` says why): a second at most behind, in one order for everybody,
whichever worker did what and whichever is asked.

Who may read the log everywhere hears of everything; others hear of models where they may read it.
"""

from __future__ import annotations

from functools import partial
from typing import Final

import msgspec

from registry.catalog.audit import AuditEntry, entries_between
from registry.catalog.models import find_model_by_id
from registry.catalog.seals import last_seal
from registry.domain.principals import Principal, place_of
from store.index.transactions import Tx
from store.opening import Store

PAGE: Final = 100
WORD: Final = "audit.read"


class WantedEvents(msgspec.Struct, frozen=True):
    """What to hear of; empty and None where it does not matter."""

    kinds: frozenset[str] = frozenset()
    actions: frozenset[str] = frozenset()
    model: str | None = None

    def wants(self, entry: AuditEntry) -> bool:
        return (
            (not self.kinds or entry.kind in self.kinds)
            and (not self.actions or entry.action in self.actions)
            and (self.model is None or entry.model == self.model or entry.entity == self.model)
        )


class Told(msgspec.Struct, frozen=True):
    """Entries to tell, and up to which one all were looked at."""

    entries: list[AuditEntry]
    through: int


class Feed:
    """Where the log is, for all streams of a process: it is looked at when it may have moved."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._counter = -1
        self._sealed = 0
        self.streams = 0
        """How many are open."""

    async def sealed(self) -> int:
        """The newest sealed entry, 0 if there is none."""
        # Read before what it stands for: at worst it is looked at once more.
        counter = self._store.index.change_counter()
        if counter != self._counter:
            self._sealed = await self._store.index.look(_sealed)
            self._counter = counter
        return self._sealed

    async def after(self, principal: Principal, wanted: WantedEvents, place: int) -> Told:
        """The next entries behind `place` that are wanted and may be told; of a page at most."""
        unit = partial(_after, principal=principal, wanted=wanted, place=place)
        return await self._store.index.read(unit)


async def _sealed(tx: Tx) -> int:
    seal = await last_seal(tx)
    return 0 if seal is None else seal.last


async def _after(tx: Tx, principal: Principal, wanted: WantedEvents, place: int) -> Told:
    last = await _sealed(tx)
    entries = await entries_between(tx, place, last, PAGE)
    through = entries[-1].id if len(entries) == PAGE else max(place, last)
    told = [
        entry for entry in entries if wanted.wants(entry) and await _may_hear(tx, principal, entry)
    ]
    return Told(told, through)


async def _may_hear(tx: Tx, principal: Principal, entry: AuditEntry) -> bool:
    if principal.may_everywhere(WORD):
        return True
    if entry.model is None:
        return False
    model = await find_model_by_id(tx, entry.model)
    return model is not None and principal.may(WORD, place_of(model))
