"""The shapes of signing in, and of who the caller is."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from registry.api.wire_accounts import Email, MyTeam, Password, SessionAnswer, session_answer
from registry.api.wire_words import Name
from registry.domain.principals import Kind
from registry.services.logins import SignedIn

Ticket: TypeAlias = Annotated[str, Meta(min_length=1, max_length=4096)]


class LoginBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who signs in, and what shows that it is them."""

    username: Annotated[str, Meta(min_length=1, max_length=400, pattern=r"^[^\x00]*$")]
    password: Password

    def __repr__(self) -> str:
        return f"LoginBody({self.username!r})"


class RefreshBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What renews a login."""

    refresh_token: Ticket

    def __repr__(self) -> str:
        return "RefreshBody(…)"


class Registration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The user that somebody makes themselves."""

    username: Name
    password: Password
    email: Email | None = None

    def __repr__(self) -> str:
        return f"Registration({self.username!r})"


class PasswordChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One's password as it is, and as it shall be."""

    old: Password
    new: Password

    def __repr__(self) -> str:
        return "PasswordChange(…)"


class LoginAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A session, and what opens the API with it for ``expires_in`` seconds.

    ``refresh_token`` gets another ``access_token`` until the session ends. Both are secret.
    """

    access_token: str
    token_type: Literal["Bearer"]
    expires_in: int
    refresh_token: str
    username: str
    session: SessionAnswer

    def __repr__(self) -> str:
        return f"LoginAnswer({self.session.id})"


class RightsAt(msgspec.Struct, frozen=True, kw_only=True):
    """What the caller may do in a namespace, or on a model."""

    name: str
    permissions: list[str]


class MyRights(msgspec.Struct, frozen=True, kw_only=True):
    """What the caller may do: everywhere, and besides that in some places.

    ``everything_visible`` are the visibilities whose models it reads without a grant.
    ``is_complete`` is false where there are more places than are listed.
    """

    everywhere: list[str]
    everything_visible: list[str]
    namespaces: list[RightsAt]
    models: list[RightsAt]
    is_complete: bool


class Me(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks, by what, and what they may do. ``scopes`` are a token's, null where it has none."""

    id: str
    username: str
    kind: Kind
    is_admin: bool
    came_by: Literal["token", "session", "local", "nothing", "other"]
    credential: str | None
    scopes: list[str] | None
    teams: list[MyTeam]
    rights: MyRights


def login_answer(signed_in: SignedIn) -> LoginAnswer:
    session = signed_in.session
    return LoginAnswer(
        access_token=signed_in.access,
        token_type="Bearer",  # noqa: S106 - a word, no secret
        expires_in=signed_in.access_seconds,
        refresh_token=signed_in.refresh,
        username=signed_in.user.username,
        session=session_answer(session, session.id),
    )
