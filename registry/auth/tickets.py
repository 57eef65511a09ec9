"""Tickets: short-lived signed statements about a session, as JWTs.

One algorithm, HS256, whatever the header says, and for each purpose an audience and a key of its
own, derived from the root key: a ticket for one use is no ticket for another, twice over.
A ticket says whom and which session it is about and when it ends; whether the session still holds
is asked of the index each time, so that signing out ends its tickets at once.

=========  =======================================================  =========
purpose    what it opens                                            lives for
=========  =======================================================  =========
access     the API, as ``Authorization: Bearer``                    minutes
refresh    another access ticket of the same session, nothing else  as long as the session
cookie     the API, for the pages of a browser                      as long as the session
oidc       the way back from the provider of identities             minutes
=========  =======================================================  =========

PyJWT and what it needs take about 60 ms to import, so the first use does it, in a thread. Nothing
of a ticket is ever logged.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Literal, TypeAlias

from registry.auth.keys import RootKey
from store.clock import SECOND, Clock

Purpose: TypeAlias = Literal["access", "refresh", "cookie", "oidc"]

ALGORITHM: Final = "HS256"
MOST_CHARACTERS: Final = 4096

_DEMANDED: Final = ("iss", "aud", "iat", "exp", "sub")


def is_ticket(text: str) -> bool:
    """Whether this has the form of a ticket: no API token has a dot."""
    return text.count(".") == 2


class TicketRefused(Exception):
    """Not a ticket of ours, not for this purpose, changed, or over."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)


class Tickets:
    """Signs and reads; the root key is asked for when it is needed."""

    def __init__(self, root: Callable[[], Awaitable[RootKey]], clock: Clock) -> None:
        self._root = root
        self._clock = clock
        self._keys: dict[Purpose, bytes] = {}
        self._issuer = ""

    def __repr__(self) -> str:
        return "Tickets(…)"

    async def issue(self, purpose: Purpose, subject: str, *, expires_at: int, **claims: str) -> str:
        """A ticket about `subject` until a time in microseconds, with further claims."""
        key = await self._key(purpose)
        import jwt

        said = {
            **claims,
            "iss": self._issuer,
            "aud": _audience(purpose),
            "iat": self._clock() // SECOND,
            "exp": expires_at // SECOND,
            "sub": subject,
        }
        return jwt.encode(said, key, algorithm=ALGORITHM)

    async def read(self, purpose: Purpose, text: str) -> Mapping[str, Any]:
        """What a ticket says; raises `TicketRefused`."""
        if len(text) > MOST_CHARACTERS or not is_ticket(text):
            raise TicketRefused("it is none")
        key = await self._key(purpose)
        import jwt

        try:
            claims: dict[str, Any] = jwt.decode(
                text,
                key,
                algorithms=[ALGORITHM],
                audience=_audience(purpose),
                issuer=self._issuer,
                # The time is compared below, with the clock of the store.
                options={
                    "require": list(_DEMANDED),
                    "verify_exp": False,
                    "verify_iat": False,
                },
            )
        except (jwt.InvalidTokenError, ValueError) as error:
            raise TicketRefused(type(error).__name__) from None
        ends = claims["exp"]
        if not isinstance(ends, int) or ends * SECOND <= self._clock():
            raise TicketRefused("it is over")
        return claims

    async def _key(self, purpose: Purpose) -> bytes:
        if purpose not in self._keys:
            root = await self._root()
            if "jwt" not in sys.modules:
                await asyncio.to_thread(_import)
            self._issuer = f"digestry:{root.id}"
            self._keys[purpose] = root.sub_key(f"ticket {purpose}")
        return self._keys[purpose]


def _import() -> None:
    import jwt  # noqa: F401  # so that the loop need not wait for it


def _audience(purpose: Purpose) -> str:
    return f"digestry {purpose}"
