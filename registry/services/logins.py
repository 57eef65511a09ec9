"""Signing in with a password, and what comes of it: a session and the tickets that open the API.

A login begins a **session**, a row of the index, and gives two tickets (`registry.auth.tickets`):
one that opens the API for minutes, and one that renews it for as long as the session lasts. The
session is looked up at every use of either, so ending it works at once, in every process.

Who fails to sign in hears one sentence, after one length of time: whether there is no such user,
whether they have no password, may not act or have another password. Tries are throttled by account
and address together, see `registry.services.throttling`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from registry.auth.keys import RootKey
from registry.auth.passwords import Judged, Passwords, parse_password
from registry.auth.tickets import TicketRefused, Tickets
from registry.catalog import identity
from registry.catalog.audit import Entry, record
from registry.catalog.sessions import (
    find_session_by_id,
    insert_session,
    revoke_session,
    sessions_before,
)
from registry.catalog.tokens import find_token_by_id, revoke_token
from registry.catalog.users import find_user, find_user_by_id, update_user
from registry.domain.accounts import Session, SessionMethod, User
from registry.domain.ids import SESSION, TOKEN, USER, is_id, new_id
from registry.domain.names import fold, parse_username
from registry.domain.principals import Principal
from registry.errors import LoginFailed, NotFound, RouteNotFound, Throttled, Unauthenticated
from registry.services.authority import require_account, require_everything_of_itself
from registry.services.change import change
from registry.services.throttling import Throttle, count_try, forgive
from registry.services.tokens import NEWEST, whose
from registry.services.users import add_user, put_password, refuse_taken
from store.clock import SECOND
from store.index.transactions import Tx
from store.opening import Store

MOST_ADDRESS: Final = 64
MOST_USER_AGENT: Final = 300

_SHOWN_DIGITS: Final = 16
"""Of the hash that the audit log has instead of a name that is nobody's."""


class Origin(msgspec.Struct, frozen=True):
    """Where somebody signs in from, as far as they say."""

    address: str
    user_agent: str


class LoginSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What configuration says of logins."""

    access_seconds: int
    session_seconds: int
    lets_register: bool


class SignedIn(msgspec.Struct, frozen=True, kw_only=True):
    """A session with its tickets, which are secrets."""

    user: User
    session: Session
    access: str
    access_seconds: int
    refresh: str

    def __repr__(self) -> str:
        return f"SignedIn({self.user!r}, {self.session.id})"


class Logins:
    """Begins, renews and ends sessions; one per application."""

    def __init__(
        self,
        store: Store,
        passwords: Passwords,
        tickets: Tickets,
        root: Callable[[], Awaitable[RootKey]],
        settings: LoginSettings,
    ) -> None:
        self._store = store
        self._index = store.index
        self._passwords = passwords
        self._tickets = tickets
        self._throttle = Throttle(root)
        self._settings = settings

    async def sign_in(
        self, principal: Principal, username: str, password: str, origin: Origin
    ) -> SignedIn:
        """Begin a session; raises `LoginFailed`, or `Throttled` before looking at anything."""
        folded = fold(username)
        key = await self._throttle.key(folded, origin.address)
        user, judged = await self._judge(folded, password, key)
        if user is None:
            raise LoginFailed(account=key.hex()[:_SHOWN_DIGITS])
        if not judged.is_right:
            raise LoginFailed(account=user.id, name=user.username)
        return await self.begin(principal, user, "password", origin, key=key, judged=judged)

    async def _judge(
        self, folded: str, password: str, key: bytes, *, account: str = ""
    ) -> tuple[User | None, Judged]:
        """Look at a password; every step is taken whoever is meant, so that all take as long."""
        try:
            await self._index.run(lambda tx: count_try(tx, key))
        except Throttled as error:
            # Whose name it is was not looked at, so that all names take as long.
            whom = account or key.hex()[:_SHOWN_DIGITS]
            raise Throttled(error.retry_after_seconds, account=whom) from error
        user = await self._index.look(lambda tx: find_user(tx, folded))
        kept = None if user is None else user.password_hash
        return user, await self._passwords.judge(password, kept)

    async def begin(
        self,
        principal: Principal,
        user: User,
        method: SessionMethod,
        origin: Origin,
        *,
        key: bytes | None = None,
        judged: Judged | None = None,
    ) -> SignedIn:
        """Begin a session of somebody who proved who they are; raises `LoginFailed`."""
        id = new_id(SESSION, self._store.clock())
        hashed = None if judged is None else user.password_hash
        fresh = None if judged is None else judged.fresh_hash

        async def unit(tx: Tx) -> tuple[User, Session]:
            now = await find_user_by_id(tx, user.id)
            if now is None or not now.acts or (hashed is not None and now.password_hash != hashed):
                raise LoginFailed  # meanwhile disabled, or with another password
            if fresh is not None:
                now = msgspec.structs.replace(now, password_hash=fresh)
                await update_user(tx, now)
            if key is not None:
                await forgive(tx, key)
            session = self._session(id, now, method, origin, tx.now)
            await insert_session(tx, session)
            who = Principal(now.id, now.username, request_id=principal.request_id, session=id)
            await record(tx, who, _entry("create", session, now.username))
            return now, session

        return await self._signed_in(*await self._index.run(unit))

    def _session(
        self, id: str, user: User, method: SessionMethod, origin: Origin, now: int
    ) -> Session:
        return Session(
            id=id,
            user=user.id,
            method=method,
            address=origin.address[:MOST_ADDRESS],
            user_agent=origin.user_agent[:MOST_USER_AGENT],
            created_at=now,
            expires_at=now + self._settings.session_seconds * SECOND,
        )

    async def _signed_in(self, user: User, session: Session) -> SignedIn:
        ends = self._store.clock() + self._settings.access_seconds * SECOND
        ends = min(ends, session.expires_at)
        return SignedIn(
            user=user,
            session=session,
            access=await self._tickets.issue("access", user.id, expires_at=ends, sid=session.id),
            access_seconds=(ends - self._store.clock()) // SECOND,
            refresh=await self._tickets.issue(
                "refresh", user.id, expires_at=session.expires_at, sid=session.id
            ),
        )

    async def renew(self, refresh: str) -> SignedIn:
        """Another ticket for the same session; raises `Unauthenticated` for one that has ended."""
        try:
            claims = await self._tickets.read("refresh", refresh)
        except TicketRefused as refused:
            raise Unauthenticated from refused
        id = str(claims.get("sid", ""))

        async def unit(tx: Tx) -> tuple[User, Session]:
            session = await find_session_by_id(tx, id)
            user = None if session is None else await find_user_by_id(tx, session.user)
            if session is None or user is None or not user.acts or not session.holds(tx.now):
                raise Unauthenticated
            return user, session

        return await self._signed_in(*await self._index.look(unit))

    async def session_of(self, ticket: str) -> str:
        """The id of the session that an access ticket is about; raises `Unauthenticated`."""
        try:
            claims = await self._tickets.read("access", ticket)
        except TicketRefused as refused:
            raise Unauthenticated from refused
        return str(claims.get("sid", ""))

    async def sign_out(self, principal: Principal) -> None:
        """End what the caller came by: a session, or a token."""
        require_account(principal)
        id = principal.session

        async def unit(tx: Tx) -> None:
            if is_id(id, SESSION):
                await _end_session(tx, principal, id)
            elif is_id(id, TOKEN) and await revoke_token(tx, id, principal.id):
                token = await find_token_by_id(tx, id)
                assert token is not None, "it was revoked just now"
                await identity.touch(tx)
                entry = Entry(action="revoke", kind="token", id=id, name=token.name)
                await record(tx, principal, entry)

        await change(self._store, principal, unit)

    async def list_sessions(
        self,
        principal: Principal,
        *,
        user: str | None = None,
        before: str = NEWEST,
        limit: int = 100,
    ) -> list[Session]:
        """A page of sessions of one user that hold; another's are for administrators."""

        async def unit(tx: Tx) -> list[Session]:
            found = await whose(tx, principal, user)
            return await sessions_before(tx, found.id, before, limit)

        return await self._index.read(unit)

    async def end_session(self, principal: Principal, id: str) -> None:
        """End a session of the caller's, or for administrators anybody's; raises `NotFound`."""
        if not principal.may_everywhere("admin"):
            require_account(principal)

        async def unit(tx: Tx) -> None:
            found = await find_session_by_id(tx, id) if is_id(id, SESSION) else None
            if found is None or (
                found.user != principal.id and not principal.may_everywhere("admin")
            ):
                raise NotFound("session", id, code="session_not_found")
            await _end_session(tx, principal, id)

        await change(self._store, principal, unit)

    async def change_password(
        self, principal: Principal, old: str, new: str, origin: Origin
    ) -> User:
        """Give oneself another password; every other session of one's own ends.

        The old one is asked for and throttled as at a login, so that whoever finds a session open
        cannot take the account over.
        """
        require_account(principal)
        require_everything_of_itself(principal, "the password")
        user = await self._index.look(lambda tx: _require_by_id(tx, principal.id))
        parsed = parse_password(new, names=(user.username, user.email or ""), field="new")
        key = await self._throttle.key(user.folded, origin.address)
        _, judged = await self._judge(user.folded, old, key, account=user.id)
        if not judged.is_right:
            raise LoginFailed(account=user.id, name=user.username)
        hashed = await self._passwords.hash(parsed)

        async def unit(tx: Tx) -> User:
            before = await _require_by_id(tx, principal.id)
            if before.password_hash != user.password_hash:
                raise LoginFailed
            await forgive(tx, key)
            return await put_password(tx, principal, before, hashed, but=principal.session)

        return await change(self._store, principal, unit)

    async def register(
        self, principal: Principal, username: str, email: str | None, password: str, path: str
    ) -> User:
        """Make oneself a user, where that is allowed; raises `RouteNotFound` where it is not."""
        if not self._settings.lets_register:
            raise RouteNotFound(path)
        name = parse_username(username)
        parsed = parse_password(password, names=(name, email or ""))
        await self._index.look(lambda tx: refuse_taken(tx, name))  # before the hash is paid for
        hashed = await self._passwords.hash(parsed)
        id = new_id(USER, self._store.clock())
        who = Principal(id, name, request_id=principal.request_id)

        async def unit(tx: Tx) -> User:
            await refuse_taken(tx, name)
            user = User(
                id=id,
                kind="user",
                username=name,
                folded=fold(name),
                email=email,
                password_hash=hashed,
                password_set_at=tx.now,
                created_at=tx.now,
                created_by=id,
                updated_at=tx.now,
            )
            return await add_user(tx, who, user)

        return await self._index.run(unit)


async def _require_by_id(tx: Tx, id: str) -> User:
    user = await find_user_by_id(tx, id)
    if user is None or not user.acts:
        raise Unauthenticated
    return user


async def _end_session(tx: Tx, principal: Principal, id: str) -> None:
    if await revoke_session(tx, id):
        session = await find_session_by_id(tx, id)
        assert session is not None, "it was revoked just now"
        await identity.touch(tx)
        await record(tx, principal, _entry("revoke", session, ""))


def _entry(action: str, session: Session, username: str) -> Entry:
    return Entry(
        action=action,
        kind="session",
        id=session.id,
        name=username,
        after={"user": session.user, "method": session.method, "address": session.address}
        if action == "create"
        else None,
    )
