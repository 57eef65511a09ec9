"""How services change the catalog: one transaction, which also keeps the answer of its request.

Every service that changes the catalog calls `change` where it would call ``store.index.run``; one
whose transaction is `store.ingest`'s wraps its record in `once_record` instead. Then, for a request
with an ``Idempotency-Key``, the answer is kept in the very transaction of the change: there is no
moment at which one is there without the other, and whoever repeats the request is given the answer.

**Why a context variable.** The key belongs to the request and concerns nothing between it and the
transaction. It is set around one call of one handler and read before the transaction begins, never
inside a unit.

**One change a request.** What `change` returns is what the answer is rendered from, so a service
that needs several transactions keeps ``store.index.run`` for all but the one that counts. Where a
unit returns more than its service does, ``shown`` makes the service's result of the unit's; it is
pure, and if it raises a `RegistryError` nothing is kept, because errors are not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from functools import partial
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from registry.catalog import once
from registry.catalog.once import Kept, KeptAnswer, Scope
from registry.domain.principals import Principal
from registry.errors import KeyReused, RegistryError
from store.index.transactions import Index, MakesRoom, Tx, Unit
from store.opening import Store

T = TypeVar("T")
P = ParamSpec("P")

EXPIRED_AT_ONCE: Final = 500
"""How many kept answers go in one transaction."""


class Answered(Exception):
    """This request was carried out before; here is what it was answered. Not an error."""

    def __init__(self, kept: Kept) -> None:
        self.kept = kept
        super().__init__("answered before")


class Pending:
    """A key whose request is in hand. `render` is pure: it runs in the database thread, too."""

    __slots__ = ("_hash", "_query", "is_kept", "is_over", "is_recorded", "render", "scope")

    def __init__(self, scope: Scope, query: bytes, render: Callable[[Any], Kept]) -> None:
        self.scope = scope
        self.render = render
        self.is_kept = False
        self.is_recorded = False
        """Whether a transaction of `store.ingest` keeps the answer, if it comes to one."""
        self.is_over = False
        """Tasks that the handler started inherit its context and may outlive it."""
        self._query = query
        self.forget()

    def forget(self) -> None:
        """Know nothing but the query again."""
        self._hash = hashlib.sha256()
        self.add(self._query)

    def add(self, part: bytes) -> None:
        """Take a part of the content into the fingerprint, with its length."""
        self._hash.update(len(part).to_bytes(8, "big"))
        self._hash.update(part)

    @property
    def fingerprint(self) -> bytes:
        """What the key is used for: query and content."""
        return self._hash.digest()

    def match(self, found: KeptAnswer | None) -> None:
        """Raise `Answered` or `KeyReused` if the key was used before."""
        if found is None:
            return
        if found.fingerprint != self.fingerprint:
            raise KeyReused(self.scope.key)
        raise Answered(found.answer)

    async def keep(self, tx: Tx, result: Any) -> None:
        """Keep what `result` is answered with."""
        await once.keep_answer(tx, self.scope, self.fingerprint, self.render(result))


PENDING: Final[ContextVar[Pending | None]] = ContextVar("pending", default=None)


async def change(
    store: Store,
    principal: Principal,
    unit: Unit[T],
    *,
    shown: Callable[[T], object] | None = None,
) -> T:
    """Run `unit` as ``store.index.run`` does, keeping the answer of the request it is part of."""
    return await change_index(store.index, principal, unit, shown=shown)


async def change_index(
    index: Index,
    principal: Principal,
    unit: Unit[T],
    *,
    shown: Callable[[T], object] | None = None,
) -> T:
    """`change` for whoever has no more of the store than its index."""
    pending = _pending()
    if pending is None or pending.scope.principal != principal.id:
        return await index.run(unit)
    if pending.is_kept:
        raise RuntimeError("a second change in one request: its answer is kept already")
    keeping = _keeping(pending, unit, shown)
    result = await index.run(MakesRoom(keeping) if isinstance(unit, MakesRoom) else keeping)
    pending.is_kept = True
    return result


def once_record(
    record: Callable[Concatenate[Tx, P], Awaitable[T]],
    *,
    shown: Callable[[T], object] | None = None,
) -> Callable[Concatenate[Tx, P], Awaitable[T]]:
    """`record` for a transaction of ``store.ingest``, keeping the answer of its request in it."""
    pending = _pending()
    if pending is None:
        return record
    pending.is_recorded = True
    return _keeping(pending, record, shown)


def fingerprint(*parts: bytes, is_whole: bool = False) -> None:
    """Say what a body held that was not read in one piece, before the change that it asks for.

    Parts add up, in their order; `is_whole` says that these are all, whatever was said before.
    """
    pending = _pending()
    if pending is None:
        return
    if is_whole:
        pending.forget()
    for part in parts:
        pending.add(part)


async def recall(index: Index) -> None:
    """Raise `Answered` if this request, all of whose content was told, was carried out before.

    For work that would be refused, or take long, before it comes to its change.
    """
    pending = _pending()
    if pending is not None:
        pending.match(await index.look(partial(once.find_answer, scope=pending.scope)))


async def expire_answers(store: Store) -> int:
    """Forget answers that were kept long enough; for housekeeping."""
    removed = 0
    while True:
        count = await store.index.run(partial(once.expire_answers, most=EXPIRED_AT_ONCE))
        removed += count
        if count < EXPIRED_AT_ONCE:
            return removed


def _pending() -> Pending | None:
    pending = PENDING.get()
    return None if pending is None or pending.is_over else pending


def _keeping(
    pending: Pending,
    unit: Callable[Concatenate[Tx, P], Awaitable[T]],
    shown: Callable[[T], object] | None,
) -> Callable[Concatenate[Tx, P], Awaitable[T]]:
    async def keeping(tx: Tx, /, *args: P.args, **named: P.kwargs) -> T:
        # Here, not before: another worker may have carried the same request out meanwhile.
        pending.match(await once.find_answer(tx, pending.scope))
        result = await unit(tx, *args, **named)
        try:
            answered = result if shown is None else shown(result)
        except RegistryError:
            return result  # the change stays, its service raises the very same
        await pending.keep(tx, answered)
        return result

    return keeping
