"""Which binding a gateway should use: asked on every inference request, answered from memory.

Each worker keeps all candidates in order of rank (`registry.domain.standings`), 1 to 2 KiB and a
configuration each, from the first question on. **No answer is older than its request**: every one
asks the index first if anything was committed since (3 µs). If so it reads how far audit log and
marks of observations have come, and loads what changed in between: the bindings of models that new
entries name, and the statistics of bindings that were reported. Little is loaded on the event loop;
much in a reader thread, while other questions wait for it; and where next to everything changed all
is loaded anew, which is also how it begins.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Final

import msgspec

from registry.catalog.standings import (
    Changes,
    Heads,
    all_candidates,
    changes_since,
)
from registry.domain.principals import Principal
from registry.domain.ranking import Candidate
from registry.domain.references import ModelReference
from registry.domain.routing import Demand, Routing
from registry.domain.standings import Standings
from registry.services.resolve import require_model
from store.index.database import Database
from store.index.transactions import Tx
from store.opening import Store

ON_THE_LOOP: Final = 200
"""So many new entries, bindings or reports are read on the event loop; more in a reader thread."""

AT_ALL: Final = 10_000
"""Beyond so many everything is loaded anew."""


class Resolution(msgspec.Struct, frozen=True, kw_only=True):
    """The best candidates, and what became of all others."""

    routing: Routing
    considered: int
    matched: int
    excluded: list[tuple[Demand, int]]
    best: list[Candidate]


class Router:
    """The candidates as this process knows them; brought up to date by `current`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._index: Database = store.index
        # Held while the standings are brought up to date, so that two requests do not load the
        # same; nothing else is waited for under it but the index.
        self._lock = asyncio.Lock()
        self._standings: Standings | None = None
        self._heads = Heads(0, 0)
        self._counter = -1

    async def resolve(
        self,
        principal: Principal,
        routing: Routing,
        *,
        model: ModelReference | None = None,
        limit: int,
    ) -> Resolution:
        """The best candidates for a question; raises `NotFound` for a model that is not there."""
        if model is not None:
            found = await self._store.index.look(lambda tx: require_model(tx, principal, model))
            routing = msgspec.structs.replace(routing, model_id=found.id)
        visibility = principal.visibility
        standings = await self.current()
        answer = standings.find(
            routing.tests(), limit=limit, seen=None if visibility.everything else visibility
        )
        return Resolution(
            routing=routing,
            considered=answer.considered,
            matched=answer.matched,
            excluded=answer.excluded,
            best=answer.best,
        )

    async def current(self) -> Standings:
        """The standings with everything that was committed before this was called."""
        standings = self._standings
        if standings is not None and self._index.change_counter() == self._counter:
            return standings
        async with self._lock:
            return await self._refreshed()

    async def _refreshed(self) -> Standings:
        # Read before what it stands for: at worst something is looked at twice, never missed.
        counter = self._index.change_counter()
        standings = self._standings
        if standings is not None and counter == self._counter:
            return standings
        changes = None if standings is None else await self._changes()
        if standings is not None and changes is not None:
            _apply(standings, changes)
            self._heads = changes.heads
        else:
            loaded = await self._index.read(_load)
            self._heads, standings = loaded.heads, loaded.standings
            self._standings = standings
        self._counter = counter
        return standings

    async def _changes(self) -> Changes | None:
        look = partial(changes_since, seen=self._heads, most=ON_THE_LOOP)
        changes = await self._index.look(look)
        if changes is None:
            changes = await self._index.read(partial(changes_since, seen=self._heads, most=AT_ALL))
        return changes


class _Loaded(msgspec.Struct, frozen=True):
    heads: Heads
    standings: Standings


async def _load(tx: Tx) -> _Loaded:
    heads, candidates = await all_candidates(tx)
    return _Loaded(heads, Standings(candidates))


def _apply(standings: Standings, changes: Changes) -> None:
    standings.replace_models(changes.models, changes.candidates)
    reported = []
    for id, report in changes.reported.items():
        candidate = standings.get(id)
        if candidate is not None:
            said = {name: getattr(report, name) for name in report.__struct_fields__}
            reported.append(msgspec.structs.replace(candidate, **said))
    standings.put(reported)
