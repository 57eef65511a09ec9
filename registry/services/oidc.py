"""Signing in through a provider of identities: sent there, sent back, found or made, let in.

The authorization-code flow with PKCE, ``state`` and ``nonce``. Everything that has to be the same
when somebody comes back is derived from one random number, which a ticket in a cookie of theirs
brings back: so any process can take them in, nothing is stored, and whoever lures somebody to the
way back without having sent them is refused.

Who somebody is, is ``(issuer, subject)`` and nothing else: names and e-mail addresses can be given
to others. On the first sign-in a user is made, if that is configured, with the name that the
provider uses, if it is free here; one whose name is taken is *not* let in as its owner.

With ``admin_claim`` the provider decides at each sign-in who is an administrator, with
``team_claim`` in which teams somebody is: those of these names, as far as they are there.
Memberships that people gave stay as they are.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec

from registry.auth.keys import RootKey
from registry.auth.tickets import TicketRefused, Tickets
from registry.catalog.memberships import find_membership, teams_of_user
from registry.catalog.teams import find_team, find_team_by_id
from registry.catalog.users import find_user, find_user_by_subject, has_other_admin
from registry.domain.accounts import User
from registry.domain.ids import USER, new_id
from registry.domain.models import Team
from registry.domain.names import fold, parse_username
from registry.domain.principals import Principal
from registry.errors import Invalid
from registry.services.logins import Logins, Origin, SignedIn
from registry.services.memberships import drop_member, keep_member
from registry.services.provider import Provider, refusal
from registry.services.users import add_user, write_user
from store.clock import SECOND
from store.index.transactions import Tx
from store.opening import Store

AWAY_SECONDS: Final = 600
"""How long somebody may be at the provider."""

LABEL: Final = "oidc"
MOST_TEAMS: Final = 200

OIDC: Final = Principal("usr_oidc", "oidc", kind="system")
"""Who makes users and memberships because the provider says so."""

_NOT_IN_NAMES: Final = r"[\s/:@~\\%#?]+|[^\x20-\x7e\u00a0-\U0010ffff]+"


class OidcSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What configuration says of those whom the provider sends."""

    makes_users: bool
    username_claim: str
    admin_claim: str
    admin_value: str
    team_claim: str
    team_role: str


class Departure(msgspec.Struct, frozen=True):
    """Where to send somebody, and the ticket with which they come back."""

    url: str
    ticket: str

    def __repr__(self) -> str:
        return "Departure(…)"


class Returned(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody comes back with."""

    ticket: str
    code: str = ""
    state: str = ""
    error: str = ""
    issuer: str | None = None

    def __repr__(self) -> str:
        return "Returned(…)"


class Arrived(msgspec.Struct, frozen=True):
    """Somebody who is let in, and where here they began."""

    signed_in: SignedIn
    began_at: str


class OidcLogins:
    """Sends people to the provider and takes them in; one per application."""

    def __init__(
        self,
        store: Store,
        provider: Provider,
        tickets: Tickets,
        root: Callable[[], Awaitable[RootKey]],
        logins: Logins,
        settings: OidcSettings,
    ) -> None:
        self._store = store
        self._provider = provider
        self._tickets = tickets
        self._root = root
        self._logins = logins
        self._settings = settings

    async def depart(self, redirect_uri: str, *, began_at: str) -> Departure:
        """Send somebody away; raises `Unavailable` where the provider cannot be asked.

        `began_at` is a path of this server, and whoever calls has made sure of that.
        """
        id = secrets.token_hex(32)
        verifier = await self._derived("verifier", id)
        digest = hashlib.sha256(verifier.encode()).digest()
        url = await self._provider.address(
            redirect_uri=redirect_uri,
            state=await self._derived("state", id),
            nonce=await self._derived("nonce", id),
            challenge=_base64(digest),
        )
        ends = self._store.clock() + AWAY_SECONDS * SECOND
        ticket = await self._tickets.issue("oidc", id, expires_at=ends, began_at=began_at)
        return Departure(url, ticket)

    async def arrive(
        self, principal: Principal, returned: Returned, redirect_uri: str, origin: Origin
    ) -> Arrived:
        """Take somebody in; raises `LoginFailed`, code ``oidc_refused``."""
        try:
            ticket = await self._tickets.read("oidc", returned.ticket)
        except TicketRefused as refused:
            raise refusal("you were away for too long, or never sent; begin again") from refused
        id = str(ticket["sub"])
        expected = await self._derived("state", id)
        if not hmac.compare_digest(expected.encode(), returned.state.encode()):
            raise refusal("you come back from another journey; begin again")
        if returned.issuer not in (None, self._provider.settings.issuer):
            raise refusal("another provider answered")
        if returned.error or not returned.code:
            said = returned.error if re.fullmatch(r"[a-z_]{1,64}", returned.error) else "no"
            raise refusal(f"it said {said}")
        claims = await self._provider.claims(
            returned.code,
            redirect_uri=redirect_uri,
            verifier=await self._derived("verifier", id),
            nonce=await self._derived("nonce", id),
        )
        user = await self._known(principal, claims)
        signed_in = await self._logins.begin(principal, user, "oidc", origin)
        return Arrived(signed_in, str(ticket.get("began_at", "/")))

    async def _derived(self, what: str, id: str) -> str:
        key = (await self._root()).sub_key(LABEL)
        return _base64(hmac.digest(key, f"{what} {id}".encode(), hashlib.sha256))

    async def _known(self, principal: Principal, claims: Mapping[str, Any]) -> User:
        """The user that the provider means, made if need be, with what it decides of them."""
        id = new_id(USER, self._store.clock())
        who = msgspec.structs.replace(OIDC, request_id=principal.request_id)
        issuer = self._provider.settings.issuer

        async def unit(tx: Tx) -> User:
            user = await find_user_by_subject(tx, issuer, claims["sub"])
            if user is None:
                user = await self._make(tx, who, id, claims)
            if not user.acts or user.kind != "user":
                raise refusal("you have no access here")
            user = await self._decide_admin(tx, who, user, claims)
            await self._decide_teams(tx, who, user, claims)
            return user

        return await self._store.index.run(unit)

    async def _make(self, tx: Tx, who: Principal, id: str, claims: Mapping[str, Any]) -> User:
        if not self._settings.makes_users:
            raise refusal("nobody made you a user here yet")
        name = username_of(claims.get(self._settings.username_claim))
        if await find_user(tx, fold(name)) is not None:
            raise refusal(f"the name {name} is somebody else's here; ask an administrator")
        email = claims.get("email")
        is_email = isinstance(email, str) and 3 <= len(email) <= 320
        return await add_user(
            tx,
            who,
            User(
                id=id,
                kind="user",
                username=name,
                folded=fold(name),
                email=email if is_email and claims.get("email_verified") is not False else None,
                issuer=self._provider.settings.issuer,
                subject=claims["sub"],
                created_at=tx.now,
                created_by=who.id,
                updated_at=tx.now,
            ),
        )

    async def _decide_admin(
        self, tx: Tx, who: Principal, user: User, claims: Mapping[str, Any]
    ) -> User:
        if not self._settings.admin_claim:
            return user
        is_admin = self._settings.admin_value in words_in(claims.get(self._settings.admin_claim))
        if is_admin == user.is_admin:
            return user
        if user.is_admin and not await has_other_admin(tx, user.id):
            return user  # somebody must be able to undo things
        after = msgspec.structs.replace(user, is_admin=is_admin)
        return await write_user(tx, who, "update", user, after)

    async def _decide_teams(
        self, tx: Tx, who: Principal, user: User, claims: Mapping[str, Any]
    ) -> None:
        if not self._settings.team_claim:
            return
        wanted = dict[str, Team]()
        for name in words_in(claims.get(self._settings.team_claim))[:MOST_TEAMS]:
            team = await find_team(tx, fold(name))
            if team is not None:
                wanted[team.id] = team
        for found in await teams_of_user(tx, user.id, "", MOST_TEAMS):
            given = found.membership
            if given.created_by == OIDC.id and given.team not in wanted:
                team = await find_team_by_id(tx, given.team)
                assert team is not None, "its membership was found with it"
                await drop_member(tx, who, team, user, given)
        for team in wanted.values():
            before = await find_membership(tx, team.id, user.id)
            if before is None or (
                before.created_by == OIDC.id and before.role != self._settings.team_role
            ):
                await keep_member(tx, who, team, user, before, self._settings.team_role)


def username_of(claim: Any) -> str:
    """The name that somebody gets here; raises `LoginFailed` for what can be none.

    Of an e-mail address it is what stands before the ``@``.
    """
    text = claim if isinstance(claim, str) else ""
    name = re.sub(_NOT_IN_NAMES, "-", text.partition("@")[0].strip())
    try:
        return parse_username(name)
    except Invalid as error:
        raise refusal("it gives you no name that could be used here") from error


def words_in(claim: Any) -> list[str]:
    """The texts in a claim: a list of them, or one with spaces between."""
    if isinstance(claim, str):
        return claim.split()
    if isinstance(claim, list):
        return [one for one in claim if isinstance(one, str)]
    return []


def _base64(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()
