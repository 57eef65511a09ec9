"""What holds a secret shows nothing of it where it is printed."""

from __future__ import annotations

import pytest

from registry.api.wire_accounts import PasswordBody, UserCreate
from registry.api.wire_logins import LoginBody, PasswordChange, RefreshBody, Registration
from registry.auth.keys import RootKey
from registry.auth.passwords import Judged
from registry.auth.tickets import Tickets
from registry.cli.credentials import Credential
from registry.domain.accounts import Session, Token, User
from registry.services.logins import SignedIn
from registry.services.oidc import Departure, Returned
from registry.services.tokens import MadeToken, OwnedToken
from registry.services.users import UserWish

SECRET = "sesame-open-now"
USER = User(
    id="usr_x",
    kind="user",
    username="ada",
    folded="ada",
    password_hash=SECRET,
    created_at=0,
    created_by="usr_x",
    updated_at=0,
)
TOKEN = Token(
    id="tok_x",
    user="usr_x",
    name="x",
    prefix="dgt_12345678",
    secret_hash=SECRET.encode(),
    created_at=0,
    created_by="usr_x",
)
SESSION = Session(
    id="ses_x",
    user="usr_x",
    method="password",
    address="",
    user_agent="",
    created_at=0,
    expires_at=1,
)


async def root() -> RootKey:
    return RootKey(SECRET.ljust(32).encode())


@pytest.mark.parametrize(
    "holder",
    [
        USER,
        TOKEN,
        MadeToken(OwnedToken(TOKEN, "ada"), SECRET),
        SignedIn(user=USER, session=SESSION, access=SECRET, access_seconds=1, refresh=SECRET),
        UserWish(username="ada", password=SECRET),
        UserCreate(username="ada", password=SECRET),
        PasswordBody(password=SECRET),
        PasswordChange(old=SECRET, new=SECRET),
        LoginBody(username="ada", password=SECRET),
        RefreshBody(refresh_token=SECRET),
        Registration(username="ada", password=SECRET),
        Credential(SECRET, "ada"),
        Judged(True, SECRET),
        Departure(SECRET, SECRET),
        Returned(ticket=SECRET, code=SECRET, state=SECRET),
        Tickets(root, lambda: 0),
    ],
    ids=lambda holder: type(holder).__name__,
)
def test_nothing_shows_the_secret_that_it_holds(holder: object) -> None:
    for shown in (repr(holder), str(holder), f"{holder}", repr([holder])):
        assert SECRET not in shown
