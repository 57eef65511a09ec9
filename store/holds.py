"""Holds keep quarantine from being emptied for a while; a backup takes one.

Whoever copies the index and then the files it names needs every one of those files to stay
somewhere. Collection may go on meanwhile: it only moves files into quarantine, where they are still
found. What must wait is `store.gc.Collector.purge`, the only remover of blobs' bytes, and it does
while any hold is live.

A hold is a fact of the whole store, kept in the index, with an expiry by the index's clock: whoever
dies with one stops nobody for longer than that. Whoever works for longer *must* renew it, and
*must* take a hold that had lapsed for lost, with whatever it was to protect.

Holding goes by whole batches: a purge that has chosen a batch just before a hold was taken may
still remove those files. That is harmless to whoever copies the index after taking the hold: a
quarantined file carries its generation in its name, no row that is ``present`` then has a
generation that lies in quarantine already, and a file that is moved there later has a name no batch
has chosen.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from functools import partial
from typing import Final, Protocol

import msgspec

from store.clock import SECOND
from store.errors import StoreError, StoreRefused, Unavailable
from store.index import state
from store.index.transactions import Index, Tx

log = logging.getLogger(__name__)

HOLD_SECONDS: Final = 900
"""How long a hold lasts unless it is renewed."""

MOST_SECONDS: Final = 86400
MOST_HOLDS: Final = 1000

LAPSED: Final = "going on with a backup whose hold on quarantine has expired"

KEY: Final = "purge_holds"
"""Where the store's state keeps them."""


class PurgeHold(msgspec.Struct, frozen=True):
    """Nothing leaves quarantine before `expires_at` (microseconds, UTC); `reason` is for people."""

    id: str
    reason: str
    expires_at: int


async def live_holds(tx: Tx) -> list[PurgeHold]:
    """The holds that have not expired."""
    text = await state.get_state(tx, KEY)
    found = [] if text is None else msgspec.json.decode(text, type=list[PurgeHold])
    return [hold for hold in found if hold.expires_at > tx.now]


async def take_hold(tx: Tx, id: str, reason: str, seconds: int) -> PurgeHold | None:
    """Begin one under a fresh id; None if there are `MOST_HOLDS` already."""
    others = await live_holds(tx)
    if len(others) >= MOST_HOLDS:
        return None
    hold = PurgeHold(id, reason, tx.now + seconds * SECOND)
    await _keep(tx, [*others, hold])
    return hold


async def renew_hold(tx: Tx, id: str, seconds: int) -> PurgeHold | None:
    """Make it last from now on; None if it has lapsed, and stays so."""
    live = await live_holds(tx)
    renewed = None
    for at, hold in enumerate(live):
        if hold.id == id:
            renewed = live[at] = PurgeHold(id, hold.reason, tx.now + seconds * SECOND)
    await _keep(tx, live)
    return renewed


async def release_hold(tx: Tx, id: str) -> bool:
    """End one; say whether it was still live."""
    live = await live_holds(tx)
    others = [hold for hold in live if hold.id != id]
    await _keep(tx, others)
    return len(others) < len(live)


async def _keep(tx: Tx, holds: list[PurgeHold]) -> None:
    text = msgspec.json.encode(holds).decode() if holds else None
    await state.put_state(tx, KEY, text)


def new_hold_id() -> str:
    return f"hold_{secrets.token_hex(12)}"


class Hold(Protocol):
    """A hold that somebody has taken, as those see it who work under it; blocking."""

    def renew(self) -> None:
        """Make it last; raises `Unavailable` if it did not last until now."""
        ...


class IndexHold:
    """A hold of this process on an open index. Its `renew` is for threads other than the loop's."""

    def __init__(self, index: Index, reason: str, *, seconds: int = HOLD_SECONDS) -> None:
        self._index = index
        self._reason = reason
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self.id = new_hold_id()

    async def __aenter__(self) -> IndexHold:
        unit = partial(take_hold, id=self.id, reason=self._reason, seconds=self._seconds)
        if await self._index.run(unit) is None:
            raise StoreRefused(f"there are {MOST_HOLDS} holds on quarantine already")
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self._index.run(partial(release_hold, id=self.id))
        except StoreError as error:  # it expires by itself; what was done under it stands
            log.warning("hold %s could not be released: %s", self.id, error)

    def renew(self) -> None:
        unit = partial(renew_hold, id=self.id, seconds=self._seconds)
        renewing = asyncio.run_coroutine_threadsafe(self._index.run(unit), self._loop)
        if renewing.result() is None:
            raise Unavailable(LAPSED)
