"""What is left of logins and tokens that ended: shown for a while, then forgotten.

A token that was revoked or expired is listed for a year, a session is kept for thirty days after
its end, failed logins for a day. The audit log tells of them for as long as it is kept.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, TypeAlias

from registry.catalog.sessions import forget_failures, forget_sessions
from registry.catalog.tokens import forget_tokens
from registry.services.throttling import FORGOTTEN_SECONDS
from store.clock import SECOND
from store.index.transactions import Tx
from store.opening import Store

AT_ONCE: Final = 500
TOKEN_SECONDS: Final = 365 * 86_400
SESSION_SECONDS: Final = 30 * 86_400

Forget: TypeAlias = Callable[[Tx, int, int], Awaitable[int]]


async def forget_ended(store: Store) -> int:
    """Forget what ended long enough ago, some at a time; returns how much. For housekeeping."""
    kinds = (
        (forget_tokens, TOKEN_SECONDS),
        (forget_sessions, SESSION_SECONDS),
        (forget_failures, FORGOTTEN_SECONDS),
    )
    return sum([await _forget(store, forget, seconds) for forget, seconds in kinds])


async def _forget(store: Store, forget: Forget, seconds: int) -> int:
    before = store.clock() - seconds * SECOND
    gone = 0
    while True:
        count = await store.index.run(partial(_some, forget=forget, before=before))
        gone += count
        if count < AT_ONCE:
            return gone


async def _some(tx: Tx, *, forget: Forget, before: int) -> int:
    return await forget(tx, before, AT_ONCE)
