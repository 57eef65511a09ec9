"""Who is asking, and what they hold: answered for every request, so it is remembered.

**Revoking works at once, in every worker.** What was worked out for a token or session is believed
only while the index says that nobody's rights changed since (`registry.catalog.identity.state`).
That costs a request the look at the counter of commits (3 µs), and the look at the state where
anything was committed since.

**Last use** is remembered to the minute and written in the background: using a token writes nothing
on its request's way, and a kill loses what was used in the last second.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Final

import msgspec
import structlog

from registry.auth.tokens import hash_of, is_token
from registry.catalog import identity
from registry.catalog.identity import Account, Given, Named, Owned, Shown
from registry.catalog.sessions import note_session_use
from registry.catalog.tokens import note_use
from registry.domain.ids import TOKEN
from registry.domain.principals import Kind, Principal, visibility_of
from registry.domain.roles import ALL_WORDS, NO_WORDS, WORDS, Rights, Words, matches, registry_words
from registry.errors import Unauthenticated
from registry.services.later import Later
from store.clock import SECOND
from store.errors import StoreError
from store.index.transactions import Tx, Unit
from store.opening import Store

MINUTE: Final = 60 * SECOND
NOTE_SECONDS: Final = 1.0

MOST_REMEMBERED: Final = 10_000
"""So many tokens and sessions are remembered; then all are forgotten."""

SIGNED_IN_LEVELS: Final = frozenset(("public", "internal"))
ANONYMOUS_LEVELS: Final = frozenset(("public",))

logger = structlog.get_logger()


class Known(msgspec.Struct, frozen=True):
    """A principal that was worked out, and until when what it showed holds."""

    principal: Principal
    expires_at: int | None


class Identities:
    """The principals as this process knows them; one per application."""

    def __init__(self, store: Store, *, anonymous_read: bool) -> None:
        self._store = store
        self._index = store.index
        self._known: dict[str | bytes, Known] = {}
        self._state = -1
        self._counter = -1
        self._noted: dict[str, int] = {}
        """When the last use of a token or session was noted; as many as are remembered."""
        self._used: dict[str, int] = {}
        self._later = Later(self._write)
        self.nobody = anonymous(anonymous_read=anonymous_read)

    async def of_token(self, text: str) -> Principal:
        """Who shows this API token; raises `Unauthenticated` for one that does not hold."""
        key = hash_of(text)
        if key not in self._known and not is_token(text):
            raise Unauthenticated  # mistyped or made up: the index need not be asked
        return await self._find(key, partial(_by_token, key=key))

    async def of_session(self, id: str) -> Principal:
        """Who signed in with this session; raises `Unauthenticated` for one that has ended."""
        return await self._find(id, partial(_by_session, id=id))

    async def of_signer(self, id: str, limit: Words) -> Principal:
        """Whoever signed a URL, with no more than it opens; raises `Unauthenticated`."""
        key = f"{id} {' '.join(sorted(limit))}"
        return await self._find(key, partial(_by_id, id=id, limit=limit))

    async def close(self) -> None:
        """Write what is noted; called after the last request, while the store is still open."""
        await self._later.end()
        await self._write()

    async def _find(self, key: str | bytes, load: Unit[Known | None]) -> Principal:
        await self._freshen()
        known = self._known.get(key)
        if known is None:
            state = self._state
            # In a reader thread: grants and namespaces may be many, and this is asked seldom.
            known = await self._index.read(load)
            if known is None:
                raise Unauthenticated
            if len(self._known) >= MOST_REMEMBERED:
                self._known.clear()
                self._noted.clear()
            if state == self._state:
                self._known[key] = known
        if known.expires_at is not None and known.expires_at <= self._store.clock():
            raise Unauthenticated
        if known.principal.session:
            self.note_use(known.principal.session)
        return known.principal

    def known_token(self, text: str) -> Known | None:
        """What is remembered of an API token; None for nothing."""
        return self._known.get(hash_of(text.strip()))

    @property
    def state(self) -> int:
        """The state of everybody's rights in which what is remembered was worked out."""
        return self._state

    def state_now(self) -> int | None:
        """The state of everybody's rights; None where the index would have to be asked."""
        return self._state if self._index.change_counter() == self._counter else None

    def note_use(self, id: str) -> None:
        """Remember that a token or session was used, if that is news of more than a minute."""
        now = self._store.clock()
        if now - self._noted.get(id, 0) < MINUTE:
            return
        self._noted[id] = now
        self._used[id] = now
        self._later.want(NOTE_SECONDS)

    async def _write(self) -> None:
        used, self._used = self._used, {}
        if not used:
            return

        async def unit(tx: Tx) -> None:
            for id, at in used.items():
                await (note_use if id.startswith(TOKEN) else note_session_use)(tx, id, at)

        try:
            await self._index.run(unit)
        except StoreError as error:
            logger.warning("last use of tokens not written", tokens=len(used), error=str(error))

    async def _freshen(self) -> None:
        """Forget everybody if anybody's rights changed."""
        # Read before what it stands for: at worst something is forgotten that need not be.
        counter = self._index.change_counter()
        if counter == self._counter:
            return
        state = await self._index.look(identity.state)
        if state != self._state:
            self._known.clear()
            self._state = state
        self._counter = counter


def anonymous(*, anonymous_read: bool) -> Principal:
    """Whoever shows nothing: reads what is public where that is allowed, else nothing at all."""
    rights = Rights(levels=ANONYMOUS_LEVELS if anonymous_read else frozenset())
    seen = visibility_of("", rights)
    seen = msgspec.structs.replace(seen, owners=frozenset())
    return Principal("usr_anonymous", "anonymous", kind="anonymous", rights=rights, sight=seen)


async def principal_for(tx: Tx, account: Account, limit: Words | None = None) -> Principal:
    """Somebody who may act, with what they hold now, and no more of it than `limit`."""
    given = await identity.given_to(tx, account.id)
    owned = await identity.owned_by(tx, account.id)
    has_patterns = any(one.resource_kind == "namespace" for one in given)
    named = await identity.all_namespaces(tx) if has_patterns else []
    rights = rights_of(account, given, owned, named, limit)
    kind: Kind = "service" if account.kind == "service" else "user"
    seen = visibility_of(account.id, rights)
    return Principal(account.id, account.username, kind=kind, rights=rights, sight=seen)


def rights_of(
    account: Account,
    given: Iterable[Given],
    owned: Iterable[Owned],
    named: Iterable[Named],
    limit: Words | None = None,
) -> Rights:
    """What an account holds. Pure; `named` are the namespaces to hold against patterns."""
    registry: Words = ALL_WORDS if account.is_admin else NO_WORDS
    namespaces = dict[str, Words]()
    models = dict[str, Words]()
    patterns = list[tuple[str, Words]]()
    for own in owned:
        _add(namespaces, own.namespace, WORDS[own.role])
    for one in given:
        match one.resource_kind:
            case "registry":
                registry |= registry_words(one.role)
            case "model":
                _add(models, one.resource, WORDS[one.role])
            case "namespace":
                patterns.append((one.resource, WORDS[one.role]))
    if patterns:
        for namespace in named:
            for pattern, words in patterns:
                if matches(pattern, namespace.folded):
                    _add(namespaces, namespace.id, words)
    return Rights(
        registry=registry,
        levels=SIGNED_IN_LEVELS,
        namespaces=namespaces,
        models=models,
        patterns=tuple(patterns),
        own=frozenset((account.folded,)) if account.kind == "user" else frozenset(),
        limit=limit,
    )


def _add(held: dict[str, Words], at: str, words: Words) -> None:
    held[at] = held.get(at, NO_WORDS) | words


async def _by_token(tx: Tx, *, key: bytes) -> Known | None:
    return await _known(tx, await identity.find_token(tx, key))


async def _by_session(tx: Tx, *, id: str) -> Known | None:
    return await _known(tx, await identity.find_session(tx, id))


async def _by_id(tx: Tx, *, id: str, limit: Words) -> Known | None:
    account = await identity.find_account(tx, id)
    return None if account is None else Known(await principal_for(tx, account, limit), None)


async def _known(tx: Tx, shown: Shown | None) -> Known | None:
    if shown is None:
        return None
    principal = await principal_for(tx, shown.account, shown.scopes)
    return Known(msgspec.structs.replace(principal, session=shown.id), shown.expires_at)
