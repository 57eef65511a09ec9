"""Tell the audit log of who was refused, and from where tokens are used, off the request path.

**Refusals** are noted in memory and written within seconds. The first of its kind is written at
once; those that follow are counted, and written once a minute as one entry with their count and
their span. A kind is who (an account, else the network of an address), what they showed, what they
asked of which route, and why not. At most `MOST_KINDS` are told apart; what comes on top is counted
together, so that whoever tries much fills neither the memory nor the log.

**Failed logins** are refusals of their own kind for each account. A name that is nobody's is not
written, because people type passwords there: a keyed hash of it with the network takes its place.

**The use of a token** is written when it is the first of a day (UTC) from its address, whichever
worker saw it.

A kill loses what was noted in the last seconds, and a crowd's count of the last minute. No secrets,
bodies or queries are noted: routes are told by their pattern.
"""

from __future__ import annotations

from copy import copy
from functools import partial
from typing import Any, Final

import msgspec
import structlog

from registry.catalog.audit import Entry, is_recorded, record
from registry.catalog.tokens import find_token_by_id
from registry.domain.principals import HOUSEKEEPING, Principal
from registry.domain.times import rfc3339
from registry.services.later import Later
from registry.services.throttling import network_of
from store.clock import SECOND
from store.errors import StoreError
from store.index.transactions import Tx
from store.opening import Store

TICK_SECONDS: Final = 2.0
REPEAT: Final = 60 * SECOND
"""How often what repeats is written."""

DAY: Final = 86_400 * SECOND

MOST_KINDS: Final = 500
CROWD: Final = ()
"""The kind of all refusals on top."""

MOST_USES: Final = 10_000
"""So many uses of tokens are remembered; then all are forgotten, and the index is asked again."""

logger = structlog.get_logger()


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """A request that was refused; `account` and `name` are whom a login was for."""

    principal: Principal
    address: str
    shown: str
    """How the caller said who they are, such as ``bearer``; never what they showed."""
    code: str
    status: int
    route: str
    word: str = ""
    account: str = ""
    name: str = ""
    is_login: bool = False

    @property
    def kind(self) -> tuple[str, ...]:
        """What counts as the same again."""
        who = network_of(self.address) if self.principal.is_anonymous else self.principal.id
        return who, self.account, self.shown, self.code, self.route


class Repeated(msgspec.Struct):
    """Refusals of one kind that are not written yet, and when they may be."""

    due_at: int
    is_crowd: bool = False
    """Whether these are of many kinds."""
    count: int = 0
    sample: Refusal | None = None
    """The first of them, but of a crowd."""
    first_at: int = 0
    last_at: int = 0

    def add(self, refusal: Refusal, now: int) -> None:
        if not self.count:
            self.first_at = now
            self.sample = None if self.is_crowd else refusal
        self.count += 1
        self.last_at = now

    def entry(self) -> tuple[Principal, Entry]:
        """Who did it, and what the log says of it."""
        span = {
            "count": self.count,
            "first": rfc3339(self.first_at),
            "last": rfc3339(self.last_at),
        }
        found = self.sample
        if found is None:
            return HOUSEKEEPING, Entry(action="denied", kind="access", id="crowd", after=span)
        told: dict[str, Any] = {
            "address": found.address,
            "shown": found.shown,
            "status": found.status,
            "code": found.code,
            "permission": found.word,
            "route": found.route,
        }
        return found.principal, Entry(
            action="login_failed" if found.is_login else "denied",
            kind="access",
            id=found.account or found.principal.id,
            name=found.name or found.route,
            after=told | span,
        )


class Accesses:
    """What one worker noted; for the event loop's thread."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kinds: dict[tuple[str, ...], Repeated] = {}
        self._day = 0
        self._seen: set[tuple[str, str]] = set()
        """Tokens and addresses that were noted today."""
        self._uses: list[tuple[Principal, str]] = []
        self._later = Later(self._flush_and_go_on)

    @property
    def kinds(self) -> int:
        """How many kinds of refusals are told apart at the moment."""
        return len(self._kinds)

    def refused(self, refusal: Refusal) -> None:
        """Note a request that was refused."""
        now = self._store.clock()
        kind = refusal.kind
        found = self._kinds.get(kind)
        if found is None:
            is_crowd = len(self._kinds) >= MOST_KINDS
            kind = CROWD if is_crowd else kind
            found = self._kinds.setdefault(kind, Repeated(now, is_crowd))
        found.add(refusal, now)
        self._later.want(TICK_SECONDS)

    def used(self, principal: Principal, address: str, request_id: str) -> None:
        """Note that a token was used; of a token and address only the first of a day costs."""
        key = (principal.session, address)
        day = self._store.clock() // DAY
        if key in self._seen and day == self._day:
            return
        if day != self._day or len(self._seen) >= MOST_USES:
            self._seen.clear()
            self._day = day
        self._seen.add(key)
        if len(self._uses) < MOST_USES:
            who = msgspec.structs.replace(principal, request_id=request_id)
            self._uses.append((who, address))
        self._later.want(TICK_SECONDS)

    async def flush(self, *, is_last: bool = False) -> None:
        """Write what is due, at the end everything; what cannot be written waits."""
        now = self._store.clock()
        self._forget(now)
        due = [one for one in self._kinds.values() if one.count and (is_last or one.due_at <= now)]
        told = [one.entry() for one in due]
        before = list(map(copy, due))
        uses, self._uses = self._uses, []
        for one in due:
            one.count, one.due_at = 0, now + REPEAT
        if not told and not uses:
            return
        try:
            await self._store.index.run(partial(_write, told=told, uses=uses))
        except StoreError as error:
            logger.warning("accesses not audited yet", waiting=len(told), error=str(error))
            for one, was in zip(due, before, strict=True):
                one.count += was.count
                one.sample, one.first_at = was.sample, was.first_at
                one.last_at = max(one.last_at, was.last_at)
            self._uses = uses + self._uses

    def _forget(self, now: int) -> None:
        """What has not come again for a while begins anew."""
        old = [kind for kind, one in self._kinds.items() if not one.count and one.due_at <= now]
        for kind in old:
            del self._kinds[kind]

    async def close(self) -> None:
        """Write everything; called after the last request, while the store is still open."""
        await self._later.end()
        await self.flush(is_last=True)

    async def _flush_and_go_on(self) -> None:
        try:
            await self.flush()
        finally:
            if self._kinds or self._uses:
                self._later.want(TICK_SECONDS)


async def _write(
    tx: Tx, told: list[tuple[Principal, Entry]], uses: list[tuple[Principal, str]]
) -> None:
    for principal, entry in told:
        await record(tx, principal, entry)
    for principal, address in uses:
        await _write_use(tx, principal, address)


async def _write_use(tx: Tx, principal: Principal, address: str) -> None:
    """Another worker may have seen the same, or this one before it was started again."""
    token = await find_token_by_id(tx, principal.session)
    entry = Entry(
        action="use",
        kind="token",
        id=principal.session,
        name="" if token is None else token.name,
        after={"address": address},
    )
    if not await is_recorded(tx, entry, since=tx.now - tx.now % DAY):
        await record(tx, principal, entry)
