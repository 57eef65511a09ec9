"""How often a password may be tried in vain: by account and address together.

Whoever tries an account from one address waits longer each time, and nobody else does: not its
owner elsewhere, so that nobody can lock others out; and not other accounts there. What is tried
against many accounts from one address is bounded by the rate limit of logins
(`registry.http.rates`), and everything together by how many passwords are looked at at once
(`registry.auth.passwords`).

A try is counted *before* the password is looked at, in one transaction with the look at the count,
so that a hundred tries at once are a hundred tries. The right password clears the count. Kept are
keyed hashes of the pair: neither names nor addresses can be read from them. Of an IPv6 address the
first 64 bits count, which is what one customer has.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import Final

from registry.auth.keys import RootKey
from registry.catalog.sessions import Failures, clear_failures, find_failures, put_failures
from registry.errors import Throttled
from store.clock import SECOND
from store.index.transactions import Tx

FREE: Final = 5
"""So many tries in a row cost nothing but themselves."""

LONGEST_SECONDS: Final = 900
FORGOTTEN_SECONDS: Final = 86_400
"""After so long without a try the count begins anew."""

LABEL: Final = "login failures"


class Throttle:
    """Counts tries; the root key is asked for when it is needed."""

    def __init__(self, root: Callable[[], Awaitable[RootKey]]) -> None:
        self._root = root

    async def key(self, folded: str, address: str) -> bytes:
        """Under what tries of an account from an address are counted."""
        secret = (await self._root()).sub_key(LABEL)
        return hmac.digest(secret, f"{folded}\0{network_of(address)}".encode(), hashlib.sha256)


async def count_try(tx: Tx, key: bytes) -> None:
    """Count one more try; raises `Throttled` where it comes too early."""
    found = await find_failures(tx, key)
    count = 0
    if found is not None and found.last_at > tx.now - FORGOTTEN_SECONDS * SECOND:
        if found.until > tx.now:
            raise Throttled(-((tx.now - found.until) // SECOND))
        count = found.count
    until = tx.now + wait_seconds(count + 1) * SECOND
    await put_failures(tx, Failures(key, count + 1, tx.now, until))


async def forgive(tx: Tx, key: bytes) -> None:
    """Forget the tries: the password was right."""
    await clear_failures(tx, key)


def wait_seconds(count: int) -> int:
    """How long after so many tries the next one may come."""
    return 0 if count < FREE else int(min(2 ** min(count - FREE, 20), LONGEST_SECONDS))


def network_of(address: str) -> str:
    """What counts of an address; what is none counts as it is."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(IPv6Network((int(parsed) >> 64 << 64, 64)))
