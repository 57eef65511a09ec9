"""A login kept by a browser: a cookie that scripts cannot read, and a word against forgery.

The cookie holds a ticket with a purpose of its own, so that it opens nothing where a token is
asked for, nor the other way round; the session that it is about is looked up at every use. A
browser sends cookies whoever made the page that asks, so a request that changes something must show
besides what only a page of this server can read: the **CSRF word**, a keyed hash of the session
(the signed double-submit cookie of the OWASP cheat sheet on cross-site request forgery).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Awaitable, Callable

import msgspec

from registry.auth.keys import RootKey
from registry.auth.tickets import TicketRefused, Tickets
from registry.catalog.sessions import find_session_by_id
from registry.domain.accounts import Session
from registry.domain.ids import SESSION
from registry.domain.principals import Principal
from registry.errors import Denied, Unauthenticated
from store.index.transactions import Index, Tx


class BrowserSession(msgspec.Struct, frozen=True):
    """What a browser keeps of a session; both texts are secrets, the second for its own pages."""

    ticket: str
    csrf: str
    seconds: int

    def __repr__(self) -> str:
        return f"BrowserSession({self.seconds} s)"


class BrowserSessions:
    """Makes and reads the cookies of sessions; one per application."""

    def __init__(
        self, index: Index, tickets: Tickets, root: Callable[[], Awaitable[RootKey]]
    ) -> None:
        self._index = index
        self._tickets = tickets
        self._root = root

    async def keep(self, principal: Principal, now: int) -> BrowserSession:
        """Let a browser keep the session that the caller came by; raises `Denied` for a token."""
        session = await self._session(principal)
        ticket = await self._tickets.issue(
            "cookie", principal.id, expires_at=session.expires_at, sid=session.id
        )
        seconds = max(0, (session.expires_at - now) // 1_000_000)
        return BrowserSession(ticket, await self._csrf(session.id), seconds)

    async def _session(self, principal: Principal) -> Session:
        async def unit(tx: Tx) -> Session | None:
            return await find_session_by_id(tx, principal.session)

        found = None
        if principal.session.startswith(SESSION):
            found = await self._index.look(unit)
        if found is None:
            raise Denied(
                "keep",
                "session",
                sentence="only a session can be kept by a browser; sign in with a password",
                code="no_session",
            )
        return found

    async def session_of(self, ticket: str) -> str:
        """The id of the session that a cookie is about; raises `Unauthenticated`."""
        try:
            claims = await self._tickets.read("cookie", ticket)
        except TicketRefused as refused:
            raise Unauthenticated from refused
        return str(claims.get("sid", ""))

    async def is_from_our_page(self, session: str, word: str | None) -> bool:
        """Whether a request shows the CSRF word of its session."""
        expected = await self._csrf(session)
        return word is not None and hmac.compare_digest(
            expected.encode(), word.encode("utf-8", "replace")
        )

    async def _csrf(self, session: str) -> str:
        key = (await self._root()).sub_key("csrf")
        mac = hmac.digest(key, session.encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(mac).rstrip(b"=").decode()
